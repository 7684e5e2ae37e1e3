//! The netpath command line. Errors are formatted here and nowhere else.

use std::{error::Error as _, process::ExitCode};

use netpath::cli::{self, Exit};

fn main() -> ExitCode {
    match cli::run() {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(inner) = cause {
                eprintln!("  caused by: {inner}");
                cause = inner.source();
            }
            Exit::Failed.into()
        }
    }
}
