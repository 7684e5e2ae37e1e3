//! `netpath completions SHELL`: a script that completes netpath's command line.

use clap_complete::{Shell, generate};

use super::{Exit, Global, manual, output};
use crate::error::Error;

/// Print a script that completes this command line in a shell
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &Args, _: &Global) -> Result<Exit, Error> {
    output::print_text(&script(args.shell))?;
    Ok(Exit::Done)
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    generate(shell, &mut manual::command(), "netpath", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_completes_every_verb_and_none_that_is_hidden() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for verb in manual::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
                assert!(script.contains(verb.get_name()), "{shell} does not know {}", verb.get_name());
            }
            assert!(!script.contains("await-confirmation"), "{shell} offers what is hidden");
        }
    }
}
