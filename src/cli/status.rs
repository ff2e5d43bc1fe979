//! `outstation status`: the running agent at a glance; and what else is asked of it, `reload` and `log`.
//!
//! The page has a mark for each thing, `ok`, `wait` or `FAIL`; under what is not well stands why, and behind `>` what
//! to do about it.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::{Color, ask, page, result};
use crate::control::{Answer, Question};
use crate::os::clock;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  outstation status                     a page for people
  outstation status --json | jq .buffer.messages
  outstation status -c agent.toml       of the agent that runs on this file")]
pub(super) struct Options {
    /// Everything, for programs
    #[arg(long)]
    json: bool,
}

/// Under `outstation reload --help`.
pub(super) const RELOAD_HELP: &str = "\
It is read and checked whole before anything changes. With an error nothing changes, and the exit status is 1.
The agent also reads it by itself when a file changes, and on SIGHUP (`systemctl reload outstation`).

Examples:
  outstation check && outstation reload";

/// Under `outstation log --help`.
pub(super) const LOG_HELP: &str = "\
Examples:
  outstation log debug                  more, to find out why
  outstation log info                   back again";

/// Does the command.
pub(super) fn status(file: &Path, options: &Options, color: Color) -> ExitCode {
    let style = page::Style { colour: color.wanted(&io::stdout()) };
    ask::ask(file, &Question::Status, |answer| match answer {
        Answer::Status(status) if options.json => {
            Ok(result(&(serde_json::to_string(&status).unwrap_or_default() + "\n")))
        }
        Answer::Status(status) => Ok(result(&page::page(&status, clock::wall_ns(), style))),
        _ => Err(ask::ANOTHER_VERSION.into()),
    })
}

/// `outstation reload`.
pub(super) fn reload(file: &Path) -> ExitCode {
    ask::ask(file, &Question::Reload, done)
}

/// `outstation log LEVEL`.
pub(super) fn log(file: &Path, level: String) -> ExitCode {
    ask::ask(file, &Question::Log { level }, done)
}

fn done(answer: Answer) -> Result<ExitCode, String> {
    match answer {
        Answer::Done(what) => Ok(result(&(what + "\n"))),
        _ => Err(ask::ANOTHER_VERSION.into()),
    }
}
