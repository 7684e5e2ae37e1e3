//! What is in a package, and what is said of it.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Its name.
pub(super) const PACKAGE: &str = "netpath";
/// Who made the package.
const MAINTAINER: &str = "netpath <netpath@localhost>";
/// Scripts of `dist/` that dpkg runs.
pub(super) const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// Units of `dist/`.
const UNITS: [&str; 2] = ["netpath-agent.service", "netpath-metrics.service"];
/// Where documents go.
pub(super) const DOC: &str = "usr/share/doc/netpath";

/// Where manual pages go.
pub(super) const MANUAL_IN_SYSTEM: &str = "usr/share/man/man1";
/// Where completions are before they are packed, and in the archive.
pub(super) const COMPLETIONS: &str = "completions";
/// Where manual pages are before they are packed, and in the archive.
pub(super) const MANUAL: &str = "man";

/// A shell that is told how to complete netpath's command line.
pub(super) struct Shell {
    /// What `netpath completions` calls it.
    pub(super) name: &'static str,
    /// The script's name.
    pub(super) file: &'static str,
    /// Where the shell looks for what packages bring.
    in_system: &'static str,
}

/// Those that hypervisors have.
pub(super) const SHELLS: [Shell; 3] = [
    Shell { name: "bash", file: "netpath.bash", in_system: "usr/share/bash-completion/completions/netpath" },
    Shell { name: "zsh", file: "_netpath", in_system: "usr/share/zsh/vendor-completions/_netpath" },
    Shell { name: "fish", file: "netpath.fish", in_system: "usr/share/fish/vendor_completions.d/netpath.fish" },
];

/// One file, and where it goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Where it is now.
    pub(super) source: PathBuf,
    /// Its place below the archive's one folder.
    pub(super) in_archive: String,
    /// Its place below `/`.
    pub(super) in_system: String,
    /// Its permissions.
    pub(super) mode: u32,
}

impl File {
    fn new(source: PathBuf, in_archive: &str, in_system: &str, mode: u32) -> Self {
        Self { source, in_archive: in_archive.to_owned(), in_system: in_system.to_owned(), mode }
    }

    /// Whether the operator's changes outlive an upgrade.
    fn is_settings(&self) -> bool {
        self.in_system.starts_with("etc/")
    }
}

/// Every file: the binary, what `dist/` has, licences, what the binary has `made` of itself, documents, examples.
pub(super) fn files(binary: &Path, made: &Path, root: &Path) -> Result<Vec<File>> {
    let dist = root.join("dist");
    let mut files = vec![
        File::new(binary.to_owned(), "netpath", "usr/bin/netpath", 0o755),
        File::new(dist.join("netpath.default"), "netpath.default", "etc/default/netpath", 0o644),
        File::new(root.join("README.md"), "README.md", &format!("{DOC}/README.md"), 0o644),
        File::new(dist.join("copyright"), "copyright", &format!("{DOC}/copyright"), 0o644),
    ];
    for unit in UNITS {
        files.push(File::new(dist.join(unit), unit, &format!("usr/lib/systemd/system/{unit}"), 0o644));
    }
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        files.push(File::new(root.join(name), name, &format!("{DOC}/{name}"), 0o644));
    }
    for Shell { file, in_system, .. } in SHELLS {
        let place = format!("{COMPLETIONS}/{file}");
        files.push(File::new(made.join(&place), &place, in_system, 0o644));
    }
    for page in names_in(&made.join(MANUAL), "1")? {
        let place = format!("{MANUAL}/{page}");
        files.push(File::new(made.join(&place), &place, &format!("{MANUAL_IN_SYSTEM}/{page}"), 0o644));
    }
    for (folder, ending) in [("docs", "md"), ("docs", "json"), ("docs/adr", "md"), ("examples", "yaml")] {
        for name in names_in(&root.join(folder), ending)? {
            let place = format!("{folder}/{name}");
            files.push(File::new(root.join(&place), &place, &format!("{DOC}/{place}"), 0o644));
        }
    }
    Ok(files)
}

fn names_in(folder: &Path, ending: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == ending) {
            names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// The list of files that dpkg asks about before it replaces them.
pub(super) fn conffiles(files: &[File]) -> String {
    files.iter().filter(|file| file.is_settings()).map(|file| format!("/{}\n", file.in_system)).collect()
}

/// The package as dpkg knows it.
pub(super) struct Control<'c> {
    pub(super) version: &'c str,
    /// The oldest glibc that has all that the binary asks of it.
    pub(super) libc: &'c str,
    pub(super) installed_kib: usize,
}

impl fmt::Display for Control<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, libc, installed_kib } = self;
        writeln!(f, "Package: {PACKAGE}")?;
        writeln!(f, "Version: {version}")?;
        writeln!(f, "Architecture: amd64")?;
        writeln!(f, "Maintainer: {MAINTAINER}")?;
        writeln!(f, "Installed-Size: {installed_kib}")?;
        writeln!(f, "Depends: libc6 (>= {libc}), libgcc-s1")?;
        writeln!(f, "Section: net")?;
        writeln!(f, "Priority: optional")?;
        writeln!(f, "Description: eBPF/XDP fast path for the tenant networks of KVM hypervisors")?;
        writeln!(f, " XDP and TC programs take the place of a Linux bridge per network, and of a virtual router:")?;
        writeln!(f, " VXLAN and VLAN segments, anti-spoofing, gateways, NAT, firewall and access lists, all from one")?;
        writeln!(
            f,
            " declarative document. Nothing is started by the installation: put definitions into /etc/netpath,"
        )?;
        writeln!(f, " then `systemctl enable --now netpath-agent`.")
    }
}

/// Debian's changelog (policy §12.7), of a package whose changes are told by its sources; `date` as RFC 5322 has it.
pub(super) fn changelog(version: &str, date: &str) -> String {
    format!(
        "{PACKAGE} ({version}) stable; urgency=medium\n\n  * What has changed, the history of the sources says.\n\n -- {MAINTAINER}  {date}\n"
    )
}

/// The oldest glibc that a binary runs with: the newest version among those that its symbols have.
pub(super) fn oldest_libc(binary: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"GLIBC_2.";
    let marks = binary.windows(MARK.len()).enumerate().filter(|(_, bytes)| *bytes == MARK);
    let minors = marks.filter_map(|(at, _)| {
        let digits: String =
            binary[at + MARK.len()..].iter().take(3).map(|b| char::from(*b)).take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    });
    minors.max().map(|minor| format!("2.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    /// A folder with what a binary makes of itself, as far as names go; it goes with the test.
    struct Made(PathBuf);

    impl Made {
        fn new() -> Self {
            let folder = std::env::temp_dir().join(format!("netpath-dist-{}", std::process::id()));
            for (within, names) in
                [(COMPLETIONS, &SHELLS.map(|shell| shell.file)[..]), (MANUAL, &["netpath.1", "netpath-top.1"])]
            {
                fs::create_dir_all(folder.join(within)).unwrap();
                names.iter().for_each(|name| fs::write(folder.join(within).join(name), name).unwrap());
            }
            Self(folder)
        }
    }

    impl Drop for Made {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn every_file_of_the_package_is_there_and_lies_where_it_belongs() {
        let made = Made::new();
        let files = files(Path::new("/target/netpath"), &made.0, workspace::root()).unwrap();
        for file in files.iter().skip(1) {
            assert!(file.source.is_file(), "{}", file.source.display());
        }
        let places: Vec<&str> = files.iter().map(|file| &*file.in_system).collect();
        for place in [
            "usr/bin/netpath",
            "usr/lib/systemd/system/netpath-agent.service",
            "usr/lib/systemd/system/netpath-metrics.service",
            "usr/share/bash-completion/completions/netpath",
            "usr/share/zsh/vendor-completions/_netpath",
            "usr/share/fish/vendor_completions.d/netpath.fish",
            "usr/share/man/man1/netpath.1",
            "usr/share/man/man1/netpath-top.1",
            "usr/share/doc/netpath/copyright",
            "usr/share/doc/netpath/docs/operations.md",
            "usr/share/doc/netpath/docs/grafana-dashboard.json",
            "usr/share/doc/netpath/examples/first.yaml",
        ] {
            assert!(places.contains(&place), "{place}");
        }
        assert_eq!(conffiles(&files), "/etc/default/netpath\n");
    }

    #[test]
    fn the_control_file_has_a_field_a_line_and_a_folded_description() {
        let control = Control { version: "1.2.3", libc: "2.34", installed_kib: 5000 }.to_string();
        assert!(control.contains("\nVersion: 1.2.3\n") && control.contains("\nDepends: libc6 (>= 2.34), libgcc-s1\n"));
        for line in control.lines() {
            assert!(line.starts_with(' ') || line.contains(": "), "{line}");
        }
        assert!(control.ends_with('\n'));
    }

    #[test]
    fn the_newest_symbol_tells_the_oldest_libc() {
        assert_eq!(oldest_libc(b"..GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.17\0").as_deref(), Some("2.34"));
        assert_eq!(oldest_libc(b"GLIBC_2.\0"), None);
    }

    #[test]
    fn no_script_starts_or_enables_anything() {
        for script in SCRIPTS {
            let text = fs::read_to_string(workspace::root().join("dist").join(script)).unwrap();
            let does = |what| text.lines().any(|line| !line.starts_with('#') && line.contains(what));
            assert!(!does("systemctl start") && !does("enable"), "{script}");
        }
    }
}
