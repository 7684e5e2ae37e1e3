//! `cargo xtask dist`: what is installed on hypervisors, as a tar archive and as a Debian package.
//!
//! ```text
//! target/dist/netpath-VERSION-x86_64-linux.tar.gz     one folder: binary, unit, completions, manual, docs, examples
//! target/dist/netpath_VERSION_amd64.deb               the same where Debian has such things
//! ```
//!
//! The same sources make the same files: times are those of the last commit, or `SOURCE_DATE_EPOCH`.

mod package;

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

use self::package::{Control, File, PACKAGE, SCRIPTS, SHELLS, Shell};
use crate::{
    process,
    setup::{self, Need},
    workspace,
};

/// Builds the binary as for a release, and packs it.
pub(crate) fn run() -> Result<ExitCode> {
    setup::ensure(&[Need::Build])?;
    process::run(workspace::cargo().args(["build", "--release", "-p", "netpath"]))?;
    let version = env!("CARGO_PKG_VERSION");
    let dist = workspace::target().join("dist");
    fs::create_dir_all(&dist)?;
    let binary = dist.join("netpath");
    // Symbols stay, for the backtrace of a defect; what a debugger wants is four fifths of the file.
    let mut strip = Command::new("strip");
    strip.arg("--strip-debug").arg("-o").arg(&binary).arg(workspace::target().join("release/netpath"));
    process::run(&mut strip)?;
    let stamp = stamp()?;
    let made = fresh(&dist.join("made"))?;
    make(&binary, &made)?;
    let files = package::files(&binary, &made, workspace::root())?;
    for made in [archive(&dist, version, &files, &stamp)?, debian(&dist, version, &binary, &files, &stamp)?] {
        println!("{}", made.display());
    }
    fs::remove_dir_all(made)?;
    Ok(ExitCode::SUCCESS)
}

/// Has the binary write what it has to say of itself: a script for each shell, and the manual.
fn make(binary: &Path, made: &Path) -> Result<()> {
    let completions = made.join(package::COMPLETIONS);
    fs::create_dir_all(&completions)?;
    for Shell { name, file, .. } in SHELLS {
        fs::write(completions.join(file), process::output(Command::new(binary).args(["completions", name]))?)?;
    }
    process::output(Command::new(binary).arg("man").arg(made.join(package::MANUAL)))?;
    Ok(())
}

/// When the files were made, in seconds of the Unix epoch.
fn stamp() -> Result<String> {
    if let Ok(stamp) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(stamp);
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(workspace::root());
    Ok(process::output(&mut git)?.trim().to_owned())
}

fn archive(dist: &Path, version: &str, files: &[File], stamp: &str) -> Result<PathBuf> {
    let name = format!("{PACKAGE}-{version}-x86_64-linux");
    let staging = fresh(&dist.join(&name))?;
    for file in files {
        put(&staging.join(&file.in_archive), &fs::read(&file.source)?, file.mode)?;
    }
    let made = dist.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"]).arg(format!("--mtime=@{stamp}"));
    tar.arg("--create").arg("--use-compress-program=gzip -n").arg("--file").arg(&made);
    process::run(tar.arg("--directory").arg(dist).arg(&name))?;
    fs::remove_dir_all(staging)?;
    Ok(made)
}

fn debian(dist: &Path, version: &str, binary: &Path, files: &[File], stamp: &str) -> Result<PathBuf> {
    if process::find("dpkg-deb").is_none() {
        bail!("there is no dpkg-deb; install the package dpkg, or use the tar archive");
    }
    let name = format!("{PACKAGE}_{version}_amd64");
    let staging = fresh(&dist.join(&name))?;
    let mut size = 0;
    for file in files {
        let bytes = fs::read(&file.source)?;
        size += bytes.len();
        put(&staging.join(&file.in_system), &bytes, file.mode)?;
    }
    let date = process::output(Command::new("date").args(["-u", "-R", "-d"]).arg(format!("@{stamp}")))?;
    let changelog = staging.join(package::DOC).join("changelog");
    put(&changelog, package::changelog(version, date.trim()).as_bytes(), 0o644)?;
    // Debian's policy, §12.1 and §12.7: manual pages and the changelog are compressed.
    let manual = staging.join(package::MANUAL_IN_SYSTEM);
    process::run(Command::new("gzip").args(["-9", "-n", "-r"]).args([manual, changelog]))?;
    // Definitions name tenants; nobody else has to read them.
    let definitions = staging.join("etc/netpath");
    folder_of_all(&definitions)?;
    fs::set_permissions(&definitions, fs::Permissions::from_mode(0o750))?;
    let libc = package::oldest_libc(&fs::read(binary)?).context("the binary names no version of glibc")?;
    let control = Control { version, libc: &libc, installed_kib: size.div_ceil(1024) };
    let meta = staging.join("DEBIAN");
    put(&meta.join("control"), control.to_string().as_bytes(), 0o644)?;
    put(&meta.join("conffiles"), package::conffiles(files).as_bytes(), 0o644)?;
    put(&meta.join("md5sums"), md5sums(&staging)?.as_bytes(), 0o644)?;
    for script in SCRIPTS {
        put(&meta.join(script), &fs::read(workspace::root().join("dist").join(script))?, 0o755)?;
    }
    let made = dist.join(format!("{name}.deb"));
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.env("SOURCE_DATE_EPOCH", stamp).args(["--root-owner-group", "-Zxz", "--build"]);
    process::run(dpkg.arg(&staging).arg(&made))?;
    fs::remove_dir_all(staging)?;
    Ok(made)
}

/// The sums that `dpkg --verify` compares files with.
fn md5sums(staging: &Path) -> Result<String> {
    let mut find = Command::new("find");
    find.args(["usr", "-type", "f", "-exec", "md5sum", "{}", "+"]).current_dir(staging);
    let sums = process::output(&mut find)?;
    let mut lines: Vec<&str> = sums.lines().collect();
    lines.sort_by_key(|line| line.split_once("  ").map(|(_, path)| path));
    Ok(lines.iter().map(|line| format!("{line}\n")).collect())
}

/// An empty folder.
fn fresh(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    folder_of_all(folder)?;
    Ok(folder.to_owned())
}

/// Makes a folder that a package may have, whatever the umask: dpkg refuses what others cannot look into.
fn folder_of_all(folder: &Path) -> Result<()> {
    if let Some(above) = folder.parent().filter(|above| !above.exists()) {
        folder_of_all(above)?;
    }
    if !folder.exists() {
        fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    folder_of_all(path.parent().context("a file lies in a folder")?)?;
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}
