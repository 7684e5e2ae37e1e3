//! Debian kernels, fetched through the machine's own mirror with package lists of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{process, workspace};

/// A kernel series and where Debian keeps it.
pub(crate) struct Kernel {
    /// The series, as in `6.12`.
    pub(crate) version: &'static str,
    suite: &'static str,
    /// Booted when no kernel is named.
    default: bool,
}

/// Every kernel that can be named.
const KERNELS: [Kernel; 2] = [
    Kernel { version: "6.1", suite: "bookworm", default: true },
    Kernel { version: "6.12", suite: "bookworm-backports", default: true },
];
/// The package whose dependency is the suite's newest kernel.
const NEWEST: &str = "linux-image-amd64";
/// What a kernel's own packages are called: in later series image and modules come apart.
const PARTS: [&str; 3] = ["linux-image-", "linux-binary-", "linux-modules-"];
/// Debian's own keys, whatever the machine's sources say.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where Debian can be had when the machine's sources do not tell.
const MIRROR: &str = "http://deb.debian.org/debian/";
/// How long apt may take for one kernel.
const LIMIT: Duration = Duration::from_secs(600);

/// A kernel's files on this machine.
pub(crate) struct Unpacked {
    /// The bootable image.
    pub(crate) image: PathBuf,
    /// `lib/modules/<release>`.
    pub(crate) modules: PathBuf,
}

/// The kernels of these series, or the default ones.
///
/// # Errors
/// A series that is not in the table.
pub(crate) fn select(wanted: &[String]) -> Result<Vec<&'static Kernel>> {
    if wanted.is_empty() {
        return Ok(KERNELS.iter().filter(|kernel| kernel.default).collect());
    }
    let known = || KERNELS.iter().map(|kernel| kernel.version).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        let found = KERNELS.iter().find(|kernel| kernel.version == name);
        found.with_context(|| format!("no kernel {name}; there are {}", known()))
    };
    wanted.iter().map(find).collect()
}

impl Kernel {
    /// Where everything about this kernel is kept.
    pub(crate) fn folder(&self) -> PathBuf {
        workspace::target().join("vm").join(self.version)
    }

    /// Downloads and unpacks the kernel, unless that was done before.
    ///
    /// # Errors
    /// The mirror is out of reach, or its packages are not what they used to be.
    pub(crate) fn fetch(&self) -> Result<Unpacked> {
        let root = self.folder().join("root");
        if let Ok(unpacked) = Unpacked::find(&root) {
            return Ok(unpacked);
        }
        let fresh = self.folder().join("unpacking");
        for old in [&root, &fresh] {
            if old.exists() {
                fs::remove_dir_all(old)?;
            }
        }
        fs::create_dir_all(&fresh)?;
        let apt = PrivateApt::new(&self.folder().join("apt"), self.suite)?;
        for package in apt.kernel_packages(self.version)? {
            eprintln!("test: vm {}: fetching {package}", self.version);
            let archive = apt.download(&package)?;
            process::run_within(Command::new("dpkg-deb").arg("--extract").args([&archive, &fresh]), LIMIT)?;
            fs::remove_file(&archive)?;
        }
        Unpacked::find(&fresh)?;
        // A half-unpacked kernel never has the final name.
        fs::rename(&fresh, &root)?;
        Unpacked::find(&root)
    }
}

impl Unpacked {
    fn find(root: &Path) -> Result<Self> {
        let only = |dir: PathBuf, prefix: &str| -> Result<PathBuf> {
            let entries = fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
            let mut named = entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(prefix));
            let found = named.next().with_context(|| format!("no {prefix} in {}", dir.display()))?;
            Ok(found.path())
        };
        let lib = if root.join("usr/lib/modules").exists() { "usr/lib/modules" } else { "lib/modules" };
        Ok(Self { image: only(root.join("boot"), "vmlinuz-")?, modules: only(root.join(lib), "")? })
    }
}

/// apt with sources, lists and archives in a folder of ours: the machine's own are neither used nor touched.
struct PrivateApt {
    folder: PathBuf,
}

impl PrivateApt {
    /// Fetches the lists of one suite.
    fn new(folder: &Path, suite: &str) -> Result<Self> {
        for dir in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(folder.join(dir))?;
        }
        let source = format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror());
        fs::write(folder.join("sources.list"), source)?;
        let apt = Self { folder: folder.to_owned() };
        process::run_within(apt.command("apt-get").args(["--quiet", "update"]), LIMIT)?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut apt = Command::new(program);
        let folder = self.folder.display();
        for option in [
            format!("Dir::Etc::sourcelist={folder}/sources.list"),
            "Dir::Etc::sourceparts=-".into(),
            format!("Dir::State::lists={folder}/lists"),
            format!("Dir::Cache={folder}"),
            format!("Dir::Cache::archives={folder}/archives"),
            // The unprivileged download user may not see this folder.
            "APT::Sandbox::User=root".into(),
            // No translations, icons or software-centre data.
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
        ] {
            apt.args(["--option", &option]);
        }
        apt.current_dir(&self.folder);
        apt
    }

    /// The packages that make up the suite's newest kernel, which must be of this series.
    fn kernel_packages(&self, version: &str) -> Result<Vec<String>> {
        let mut packages = Vec::new();
        let mut open = vec![NEWEST.to_owned()];
        while let Some(package) = open.pop() {
            let text = process::output(self.command("apt-cache").args(["depends", "--important", &package]))?;
            for name in text.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")) {
                let part = PARTS.iter().any(|part| name.starts_with(part));
                if part && !packages.iter().any(|known| known == name) {
                    packages.push(name.to_owned());
                    open.push(name.to_owned());
                }
            }
        }
        if !packages.iter().any(|package| package.starts_with(&format!("linux-image-{version}."))) {
            bail!("{NEWEST} of this suite is no longer a {version} kernel, but {}", packages.join(", "));
        }
        Ok(packages)
    }

    /// Downloads one package and answers its file.
    fn download(&self, package: &str) -> Result<PathBuf> {
        process::run_within(self.command("apt-get").args(["--quiet", "download", package]), LIMIT)?;
        let prefix = format!("{package}_");
        let files = fs::read_dir(&self.folder)?.flatten();
        let mut archives = files.filter(|file| file.file_name().to_string_lossy().starts_with(&prefix));
        Ok(archives.next().with_context(|| format!("apt-get left no file of {package}"))?.path())
    }
}

/// The mirror that the machine's own sources name for Debian's main archive.
fn mirror() -> String {
    let format = "$(REPO_URI) $(ORIGIN) $(LABEL)";
    let targets = process::output(Command::new("apt-get").args(["indextargets", "--format", format]));
    let targets = targets.unwrap_or_default();
    let main = targets.lines().find_map(|line| line.strip_suffix(" Debian Debian"));
    main.unwrap_or(MIRROR).to_owned()
}
