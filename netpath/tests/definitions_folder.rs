//! A folder of files that are one document together.

use std::{
    fs,
    path::{Path, PathBuf},
};

use netpath::definitions::{self, DefinitionsError, Zone};

/// A folder of documents, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn of(name: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("netpath-folder-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        for (file, text) in files {
            fs::write(path.join(file), text).unwrap();
        }
        Self(path)
    }

    fn load(&self) -> Result<Zone, DefinitionsError> {
        definitions::load(&self.0)
    }

    /// What is wrong, without the folder's own path.
    fn errors(&self) -> Vec<String> {
        let error = self.load().unwrap_err();
        assert!(!error.findings().is_empty(), "{error}");
        let prefix = format!("{}/", self.0.display());
        error.findings().iter().map(|finding| finding.to_string().replace(&prefix, "")).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const BASE: &str = "zone: z
physical_networks: [{name: guest, isolation: vlan, vlans: 100-199, traffic: [guest]}]
hosts: [{name: kvm1, uplinks: {guest: eth1}}]
";

fn network(name: &str, segment: u32) -> String {
    format!("networks:\n  - name: {name}\n    physical_network: guest\n    segment: {segment}\n")
}

#[test]
fn a_folder_says_the_same_by_whichever_path_it_is_named() {
    let text = |folder: &str, segment| {
        format!("#% file: {folder}/00.yaml\n{BASE}#% file: {folder}/10.yaml\n{}", network("a", segment))
    };
    assert!(definitions::is_same_text(&text("/etc/netpath", 100), &text(".", 100)));
    assert!(!definitions::is_same_text(&text("/etc/netpath", 100), &text("/etc/netpath", 101)));
    // As the file of a revision has it.
    let kept = format!("# netpath-revision 1 sha256 0\n# {{}}\n{}", text(".", 100));
    assert_eq!(definitions::parse("kept", &kept).unwrap().networks.len(), 1);
    assert!(definitions::is_same_text(BASE, BASE) && !definitions::is_same_text(BASE, &text(".", 100)));
}

#[test]
fn a_folder_within_it_is_left_alone_whatever_it_is_called() {
    let folder = Folder::of("within", &[("00-base.yaml", BASE), ("10-a.yaml", &network("a", 100))]);
    fs::create_dir(folder.0.join("old.yaml")).unwrap();
    fs::write(folder.0.join("old.yaml/20-b.yaml"), network("b", 100)).unwrap();
    assert_eq!(folder.load().unwrap().networks.len(), 1);
}

#[test]
fn lists_of_the_same_field_are_put_together_in_the_order_of_the_files_names() {
    let folder = Folder::of(
        "lists",
        &[
            ("20-b.yaml", &network("b", 101)),
            ("00-base.yml", BASE),
            (
                "10-a.json",
                r#"{"networks": [
            {"name": "a", "physical_network": "guest", "segment": 100}]}"#,
            ),
            ("notes.txt", "no: document"),
            (".20-b.yaml.swp", "\0"),
            ("30-empty.yaml", "# nothing yet\n"),
        ],
    );
    fs::create_dir(folder.0.join("sub.d")).unwrap();
    let zone = folder.load().unwrap();
    let names: Vec<_> = zone.networks.iter().map(|network| network.name.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!((zone.hosts.len(), zone.physical_networks.len()), (1, 1));
}

#[test]
fn a_value_may_be_given_twice_if_it_is_the_same() {
    let again = format!("zone: z\n{}", network("a", 100));
    Folder::of("same", &[("a.yaml", BASE), ("b.yaml", &again)]).load().unwrap();
    let other = format!("# another zone\nzone: y\n{}", network("a", 100));
    assert_eq!(
        Folder::of("other", &[("a.yaml", BASE), ("b.yaml", &other)]).errors(),
        ["b.yaml:2:7: `y`: `zone` is z in line 1 of a.yaml; give it once, or the same in every file"]
    );
}

#[test]
fn an_error_is_in_its_own_file_and_names_the_other_one() {
    let folder = Folder::of(
        "places",
        &[("a.yaml", BASE), ("b.yaml", &network("a", 100)), ("c.yaml", &format!("\n{}", network("c", 100)))],
    );
    let errors = folder.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("c.yaml:5:14: `100`: ") && errors[0].contains("line 4 of b.yaml"), "{errors:?}");
}

#[test]
fn what_is_no_yaml_is_all_that_is_said() {
    let folder = Folder::of("broken", &[("a.yaml", BASE), ("b.yaml", "networks:\n  - {name: a"), ("c.yaml", "- 1\n")]);
    let errors = folder.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("b.yaml:") && errors[0].contains("not YAML"), "{errors:?}");
    let list = Folder::of("list", &[("a.yaml", BASE), ("c.yaml", "- 1\n")]).errors();
    assert!(list[0].starts_with("c.yaml:1:1: ") && list[0].contains("not the fields of a zone"), "{list:?}");
}

#[test]
fn a_folder_without_documents_and_an_empty_one_of_them_are_refused() {
    let none = Folder::of("none", &[("notes.txt", "x")]).load().unwrap_err();
    assert!(matches!(&none, DefinitionsError::NoDocuments { .. }), "{none}");
    // A file that is about to be written.
    let empty = Folder::of("empty", &[("a.yaml", BASE), ("b.yaml", "")]).load().unwrap_err();
    assert!(matches!(&empty, DefinitionsError::Empty { path } if path.ends_with(Path::new("b.yaml"))), "{empty}");
}
