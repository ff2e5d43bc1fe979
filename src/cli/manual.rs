//! What is made from the definition of the command line: completions and manual pages.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, fail, result};

/// Under `outstation completions --help`.
pub(super) const COMPLETIONS_HELP: &str = "\
The package installs those of bash, zsh and fish.

Examples:
  outstation completions bash > ~/.local/share/bash-completion/completions/outstation
  outstation completions fish > ~/.config/fish/completions/outstation.fish
  outstation completions zsh > ~/.zfunc/_outstation       # with fpath+=~/.zfunc before compinit";

/// Under `outstation schema --help`.
pub(super) const SCHEMA_HELP: &str = "\
What it refuses is wrong; `outstation check` finds more.

Examples:
  outstation schema > agent.schema.json
  #:schema ./agent.schema.json          first line of agent.toml, for editors with Taplo";

/// Prints the completions of a shell.
pub(super) fn completions(shell: Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut shown(), "outstation", &mut text);
    result(&String::from_utf8_lossy(&text))
}

/// The command line without what only the program itself and the package use.
fn shown() -> clap::Command {
    let whole = Cli::command();
    let commands = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    clap::Command::new("outstation")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .args(whole.get_arguments().cloned())
        .subcommands(commands)
}

/// Writes a manual page for the program and for each of its commands.
pub(super) fn pages(folder: &Path) -> ExitCode {
    match clap_mangen::generate_to(Cli::command(), folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("the manual pages can't be written into {}: {error}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clap's own rules: no two options of one name, no value without a parser.
    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_that_is_shown_has_a_page_and_examples() {
        let folder = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(Cli::command(), folder.path()).unwrap();
        let command = Cli::command();
        for shown in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            let page = folder.path().join(format!("outstation-{}.1", shown.get_name()));
            let text = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
            assert!(text.contains(".TH") && text.contains("Examples:"), "{}", shown.get_name());
        }
        assert!(!folder.path().join("outstation-man.1").exists(), "hidden ones have none");
    }
}
