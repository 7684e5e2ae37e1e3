//! The netpath command line. Errors are formatted here and nowhere else.

use std::{
    error::Error as _,
    io::{self, Write as _},
    process::ExitCode,
};

use netpath::cli::{self, Exit};

fn main() -> ExitCode {
    match cli::run() {
        Ok(exit) => exit.into(),
        Err(error) => {
            let mut said = format!("error: {error}\n");
            let mut cause = error.source();
            while let Some(inner) = cause {
                said += &format!("  caused by: {inner}\n");
                cause = inner.source();
            }
            // There may be nobody to say it to: a closed pipe, a full disk.
            let _ = io::stderr().write_all(said.as_bytes());
            Exit::Failed.into()
        }
    }
}
