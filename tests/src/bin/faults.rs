//! `cargo xtask faults` runs this, with `NETPATH_BIN` naming the netpath that faults are made to.

use std::{env, process::ExitCode};

use anyhow::{Context, Result, bail};
use netpath_tests::faults::{self, Options};

fn main() -> ExitCode {
    match options().and_then(|options| faults::run(&options)) {
        Ok(report) => {
            println!("\n{report}");
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options> {
    let mut options = Options { count: None, seed: 0, only: Vec::new() };
    let mut arguments = env::args().skip(1);
    while let Some(option) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{option} takes a value"))?;
        match option.as_str() {
            "--count" => options.count = Some(value.parse()?),
            "--seed" => options.seed = value.parse()?,
            "--only" => options.only.push(value),
            _ => bail!("there is no option {option}"),
        }
    }
    println!("seed {}", options.seed);
    Ok(options)
}
