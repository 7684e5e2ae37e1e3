//! `cargo xtask demo`: hypervisors and tenants in namespaces, the real netpath on `examples/*.yaml`, and a table of what
//! was expected and what was seen. The demo itself is the binary `demo` of the crate `tests`.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};

use crate::{
    built::{self, Profile},
    setup::{self, Need},
    workspace,
};

/// What to show.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave the topology up to play in, and say how to enter it
    #[arg(long)]
    keep: bool,
    /// Remove what --keep left up
    #[arg(long, conflicts_with_all = ["keep", "files"])]
    clean: bool,
    /// Definitions to build and apply; all of examples/ when none is named
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Builds netpath and the demo, and runs it; it ends with 1 when anything was not as expected.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let needs: &[Need] = if args.keep { &[Need::Build, Need::Topology] } else { &[Need::Build] };
    setup::ensure(needs)?;
    let mut demo = built::build("demo", Profile::Debug)?;
    if args.clean {
        demo.arg("--clean");
    } else {
        demo.args(args.keep.then_some("--keep"));
        demo.args(if args.files.is_empty() { examples()? } else { args.files.clone() });
    }
    built::run(&mut demo)
}

/// Every definitions file in examples/, by name.
fn examples() -> Result<Vec<PathBuf>> {
    let folder = workspace::root().join("examples");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    Ok(files)
}
