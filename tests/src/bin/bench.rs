//! The benchmark; `cargo xtask bench` builds and runs it.

use std::process::ExitCode;

use netpath_tests::bench::{self, options::Options};

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| bench::run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
