//! `netpath man [DIR]`: the manual, made of the same descriptions as `--help`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use super::{Cli, Exit, Global, output};
use crate::error::Error;

/// Print netpath's manual page, or write a page for it and for each verb into a folder
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder, as /usr/local/share/man/man1; made when it is missing
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args, _: &Global) -> Result<Exit, Error> {
    match &args.dir {
        None => output::print_text(&page(command())?)?,
        Some(dir) => {
            let written = write_pages(dir)?;
            output::print_text(&format!("{written} pages are in {}\n", dir.display()))?;
        }
    }
    Ok(Exit::Done)
}

/// The command line without what is hidden.
pub(super) fn command() -> Command {
    let whole = Cli::command();
    let shown: Vec<_> = whole.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned().collect();
    // Verbs can only be added to a command: a new one takes over the options, and the verbs that are shown.
    let command = Command::new("netpath").version(env!("CARGO_PKG_VERSION")).max_term_width(100);
    let about = whole.get_about().cloned().unwrap_or_default();
    command.about(about).args(whole.get_arguments()).subcommands(shown).subcommand_required(true)
}

/// Writes a page for the command, and for each verb and what is below it: `netpath-history-diff.1`.
fn write_pages(dir: &Path) -> Result<usize, Error> {
    let failed = |source: io::Error| Error::Manual { dir: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    let mut command = command().disable_help_subcommand(true);
    command.build();
    let mut pages = vec![command];
    let mut written = 0;
    while let Some(command) = pages.pop() {
        pages.extend(command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned());
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        fs::write(dir.join(format!("{name}.1")), page(command)?).map_err(failed)?;
        written += 1;
    }
    Ok(written)
}

fn page(command: Command) -> Result<String, Error> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page).map_err(Error::Output)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_and_what_is_below_it_has_a_page_and_none_is_hidden() {
        let dir = std::env::temp_dir().join(format!("netpath-man-{}", std::process::id()));
        let written = write_pages(&dir).unwrap();
        let names: Vec<_> =
            fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(names.len(), written);
        for page in ["netpath.1", "netpath-apply.1", "netpath-history.1", "netpath-history-diff.1", "netpath-map-get.1"]
        {
            assert!(names.iter().any(|name| name == page), "{page} is not in {names:?}");
            let text = fs::read_to_string(dir.join(page)).unwrap();
            assert!(text.contains(".TH ") && text.contains(".SH SYNOPSIS"), "{page}");
        }
        assert!(!names.iter().any(|name| name.contains("await-confirmation")));
        fs::remove_dir_all(dir).unwrap();
    }
}
