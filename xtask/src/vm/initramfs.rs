//! What a VM finds in its memory: its process 1, the modules, the test binaries and the netpath program.

use std::{
    fs::{self, File},
    io::BufWriter,
    path::Path,
};

use anyhow::{Context, Result};

use super::{cpio::Archive, modules::Module};
use crate::test::kernel_tests::KernelTests;

/// Folders that process 1 mounts something on, or that programs expect.
const FOLDERS: [&str; 8] = ["dev", "proc", "sys", "tmp", "run", "bin", "modules", "tests"];

/// Writes the archive.
///
/// Process 1 takes `/modules/NN-name.ko` and `/tests/NN-name` in the order of their names; `/tests.arguments` holds
/// the arguments of every test binary, one a line.
///
/// # Errors
/// A file could not be read or written.
pub(crate) fn write(to: &Path, modules: &[Module], tests: &KernelTests, arguments: &[String]) -> Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(to)?));
    FOLDERS.iter().try_for_each(|name| archive.directory(name))?;
    archive.device("dev/console", 5, 1)?;
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    archive.file("init", &read(&tests.vm_init)?)?;
    archive.file("bin/netpath", &read(&tests.netpath)?)?;
    archive.file("bin/netpath-next", &read(&tests.next)?)?;
    archive.file("tests/00-prog_run", &read(&tests.prog_run)?)?;
    archive.file("tests/01-netns", &read(&tests.netns)?)?;
    archive.file("tests.arguments", arguments.join("\n").as_bytes())?;
    for (position, module) in modules.iter().enumerate() {
        archive.file(&format!("modules/{position:02}-{}.ko", module.name), &module.image)?;
    }
    archive.finish().with_context(|| format!("cannot write {}", to.display()))
}
