//! `cargo xtask demo` runs this, with `NETPATH_BIN` naming the netpath under demonstration.

use std::{env, path::PathBuf, process::ExitCode};

use netpath_tests::demo::{self, Options};

const USAGE: &str = "usage: demo [--keep] FILE...
       demo --clean

Builds the hypervisors and guests of definitions in namespaces, applies them with the real netpath, and compares what
is expected with what is seen.

  --keep   leave the last one up to play in, and say how
  --clean  remove what --keep left up";

fn main() -> ExitCode {
    let (mut options, mut is_clean) = (Options { files: Vec::new(), keep: false }, false);
    for argument in env::args_os().skip(1) {
        match argument.to_str() {
            Some("--keep") => options.keep = true,
            Some("--clean") => is_clean = true,
            Some(flag) if flag.starts_with('-') => return usage(),
            _ => options.files.push(PathBuf::from(argument)),
        }
    }
    let ended = match (is_clean, options.files.is_empty()) {
        (true, true) => demo::clean().map(|found| {
            println!("demo: {}", if found { "removed" } else { "nothing is up" });
            true
        }),
        (false, false) => demo::run(&options),
        _ => return usage(),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(3)
}
