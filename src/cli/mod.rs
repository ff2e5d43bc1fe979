//! The command line: what can be typed, and what it does. Results go to stdout, all else to stderr.

mod ask;
mod buffer;
mod buffer_page;
mod check;
mod live;
mod manual;
mod page;
mod plugin;
mod probe;
mod progress;
mod run;
mod status;
mod tail;

use std::ffi::OsString;
use std::io::{ErrorKind::BrokenPipe, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::config::LogLevel;

/// Wrong usage (`EX_USAGE` of sysexits).
const USAGE: u8 = 64;
/// Wrong configuration (`EX_CONFIG` of sysexits).
const CONFIG: u8 = 78;
/// Where the package puts the configuration.
const DEFAULT_FILE: &str = crate::os::places::PACKAGED;

/// Reads sensors through sandboxed plugins, keeps every reading in a log on disk until an MQTT broker has
/// acknowledged it.
#[derive(Parser)]
#[command(name = "outstation", version, disable_help_subcommand = true, arg_required_else_help = true)]
#[command(after_help = "Examples:
  outstation check                      is the configuration right?
  outstation run -c agent.toml          run an agent by hand; its data lies beside the file
  outstation status                     how the running agent is, and what to do about it
  outstation tail                       what it reads, as it reads it

Results go to stdout, all else to stderr. Exit status: 0 done, 1 failed, 64 wrong usage, 78 wrong configuration.")]
struct Cli {
    /// The configuration; drop-ins are read from the folder NAME.d beside NAME.toml
    /// [default: /etc/outstation/agent.toml]
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent: read the sources, keep the readings, publish them; logs to stderr
    #[command(after_help = run::HELP)]
    Run,
    /// Read the whole configuration and let the plugins check theirs; touches no device and no network
    Check(check::Options),
    /// How the running agent is: broker, buffer, sources
    Status(status::Options),
    /// What the running agent reads, as it reads it
    Tail(tail::Options),
    /// Make the running agent read its configuration again, and look at its plugins
    #[command(after_help = status::RELOAD_HELP)]
    Reload,
    /// Change what the running agent logs, until its configuration is read again
    #[command(after_help = status::LOG_HELP)]
    Log {
        /// From here on up
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(LogLevel::WORDS))]
        level: String,
    },
    /// Plugins: what is installed, what a file is, what it would read, and a project to start from
    #[command(subcommand, after_help = plugin::HELP)]
    Plugin(plugin::Command),
    /// Look at a device before it is configured: read it once, show what its registers may mean
    #[command(after_help = probe::HELP)]
    Probe(probe::Options),
    /// What lies in the buffer; reads only, also beside a running agent
    #[command(subcommand, after_help = buffer::HELP)]
    Buffer(buffer::Command),
    /// The JSON schema of the configuration file, for editors
    #[command(after_help = manual::SCHEMA_HELP)]
    Schema,
    /// What makes a shell complete this program's words
    #[command(after_help = manual::COMPLETIONS_HELP)]
    Completions {
        /// Whose
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder (for the package)
    #[command(hide = true)]
    Man {
        /// It must be there
        folder: PathBuf,
    },
    /// Compile a component to what this machine runs (started by the agent itself)
    #[command(hide = true)]
    CompilePlugin {
        /// As the agent gives them
        arguments: Vec<OsString>,
    },
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::command().color(help_colour()).try_get_matches().and_then(|found| Cli::from_arg_matches(&found));
    let cli = match cli {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let config = cli.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
    match cli.command {
        Command::Run => run::run(config, cli.color),
        Command::Check(options) => check::check(config, &options, cli.color),
        Command::Status(options) => status::status(config, &options, cli.color),
        Command::Tail(options) => tail::tail(config, options, cli.color),
        Command::Reload => status::reload(config),
        Command::Log { level } => status::log(config, level),
        Command::Plugin(command) => plugin::plugin(&command, cli.config.as_deref(), cli.color),
        Command::Probe(options) => probe::probe(config, &options),
        Command::Buffer(command) => buffer::buffer(config, &command, cli.color),
        Command::Schema => result(&format!("{:#}\n", crate::config::json_schema())),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { folder } => manual::pages(&folder),
        Command::CompilePlugin { arguments } => compile(&arguments),
    }
}

/// What `--color` says to help and to errors of usage, which come before it is parsed.
fn help_colour() -> ColorChoice {
    let words: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let after = words.windows(2).find(|pair| pair.first().is_some_and(|word| word == "--color"));
    let joined = || words.iter().find_map(|word| word.strip_prefix("--color="));
    match after.and_then(|pair| pair.last().map(String::as_str)).or_else(joined) {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

/// Help and version are results; everything else that the parser says is wrong usage.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing can be said where stderr or stdout is gone.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(USAGE),
    }
}

fn compile(arguments: &[OsString]) -> ExitCode {
    match crate::plugin::compile_child(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}

/// A result to stdout.
fn result(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    result_or_end(written).unwrap_or(ExitCode::SUCCESS)
}

/// Whether writing a result ended the command. Who reads no further knows enough: a closed pipe is no failure.
fn result_or_end(written: std::io::Result<()>) -> Option<ExitCode> {
    match written {
        Ok(()) => None,
        Err(error) if error.kind() == BrokenPipe => Some(ExitCode::SUCCESS),
        Err(error) => Some(fail(&format!("the result can't be written: {error}"))),
    }
}

/// The command has failed, and why.
fn fail(why: &str) -> ExitCode {
    say(&format!("outstation: {why}"));
    ExitCode::FAILURE
}

/// A line to stderr; a closed stderr is no reason to fail.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

impl Color {
    /// `NO_COLOR` (no-color.org), a dumb terminal and a pipe get none, unless `--color` says otherwise.
    fn wanted(self, stream: &impl IsTerminal) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                stream.is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}
