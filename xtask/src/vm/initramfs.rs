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
const FOLDERS: [&str; 9] = ["dev", "proc", "sys", "tmp", "run", "bin", "modules", "tests", "arguments"];

/// Writes the archive.
///
/// Process 1 takes `/modules/NN-name.ko` and `/tests/NN-name` in the order of their names; `/arguments/NN-name` holds a test
/// binary's arguments, one a line.
///
/// # Errors
/// A file could not be read or written.
pub(crate) fn write(to: &Path, modules: &[Module], tests: &KernelTests, arguments: &[String; 2]) -> Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(to)?));
    FOLDERS.iter().try_for_each(|name| archive.directory(name))?;
    archive.device("dev/console", 5, 1)?;
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    archive.file("init", &read(&tests.vm_init)?)?;
    archive.file("bin/netpath", &read(&tests.netpath)?)?;
    archive.file("bin/netpath-next", &read(&tests.next)?)?;
    let binaries = [("00-prog_run", &tests.prog_run), ("01-netns", &tests.netns)];
    for ((name, binary), arguments) in binaries.into_iter().zip(arguments) {
        archive.file(&format!("tests/{name}"), &read(binary)?)?;
        archive.file(&format!("arguments/{name}"), arguments.as_bytes())?;
    }
    for (position, module) in modules.iter().enumerate() {
        archive.file(&format!("modules/{position:02}-{}.ko", module.name), &module.image)?;
    }
    archive.finish().with_context(|| format!("cannot write {}", to.display()))
}
