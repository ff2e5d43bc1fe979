//! What can go wrong with a plugin: when its file is loaded, and when it is called.

use std::path::PathBuf;
use std::time::Duration;

use wasmtime::{Trap, WasmBacktrace};

use super::guest::Guest;
use super::ticker::Exhausted;

/// Longest text of a failure that comes from a plugin.
const TEXT_MAX: usize = 512;

/// A file that is no plugin that runs here.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not there, or not to be read.
    #[error("{}: {reason}", file.display())]
    Read {
        /// Which one.
        file: PathBuf,
        /// As the system says it.
        reason: std::io::Error,
    },
    /// The file is larger than any plugin is taken to be.
    #[error("{}: {bytes} bytes; a plugin has at most {max}", file.display())]
    TooLarge {
        /// Which one.
        file: PathBuf,
        /// What it has.
        bytes: u64,
        /// What it may have.
        max: u64,
    },
    /// The file is something else.
    #[error("{}: not a WebAssembly component: {reason}", file.display())]
    NotAComponent {
        /// Which one.
        file: PathBuf,
        /// What it is.
        reason: String,
    },
    /// `agent.plugin_signatures` wants a good signature.
    #[error("{}: not signed: {reason}", file.display())]
    Signature {
        /// Which one.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It could not be compiled: it is damaged, too large a task, or the compiler could not be started.
    #[error("{}: cannot be compiled: {reason}", file.display())]
    Compile {
        /// Which one.
        file: PathBuf,
        /// What the compiler said.
        reason: String,
    },
    /// It asks for what no configuration can give it.
    #[error("{}: imports {}, which the agent does not offer{hint}", file.display(), imports.join(", "))]
    Imports {
        /// Which one.
        file: PathBuf,
        /// Their names.
        imports: Vec<String>,
        /// What to do about it.
        hint: &'static str,
    },
    /// A component, but not a plugin.
    #[error("{}: not a plugin: {reason}", file.display())]
    NotAPlugin {
        /// Which one.
        file: PathBuf,
        /// What is missing.
        reason: String,
    },
}

/// A call into a plugin that did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The plugin says: its configuration can never work.
    #[error("{0}")]
    Config(String),
    /// The plugin says: a device or a link is missing.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The plugin says: something else is wrong.
    #[error("failed: {0}")]
    Internal(String),
    /// Its code did what it may not.
    #[error("trapped: {0}")]
    Trap(String),
    /// It computed for longer than its limit.
    #[error("took longer than {} ms", limit.as_millis())]
    Timeout {
        /// The source's `limits.time`, or less where a call has its own.
        limit: Duration,
    },
    /// It waited for the host for longer than anything there takes.
    #[error("hung for {} s, waiting for a device", limit.as_secs())]
    Hung {
        /// The longest a call may last.
        limit: Duration,
    },
    /// It wanted more memory than its limit.
    #[error("wanted more than {} KiB of memory", limit / 1024)]
    Memory {
        /// The source's `limits.memory`.
        limit: u64,
    },
    /// What it returned cannot be taken.
    #[error("returned what cannot be: {0}")]
    BadOutput(String),
    /// It could not be instantiated, or it is gone already.
    #[error("cannot be started: {0}")]
    Instantiate(String),
}

impl Failure {
    /// Whether the instance is gone. After the others it may be called again.
    pub const fn is_fatal(&self) -> bool {
        !matches!(self, Self::Config(_) | Self::Unavailable(_) | Self::Internal(_))
    }

    /// Why wasmtime ended a call.
    pub(super) fn from_wasmtime(error: &wasmtime::Error, guest: &Guest, limit: Duration) -> Self {
        if error.downcast_ref::<Exhausted>().is_some() {
            return Self::Timeout { limit };
        }
        if guest.memory_refused() {
            return Self::Memory { limit: guest.memory_limit() };
        }
        let reason = match error.downcast_ref::<Trap>() {
            Some(Trap::StackOverflow) => "its recursion is too deep".to_owned(),
            Some(trap) => {
                let text = trap.to_string();
                text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned()
            }
            None => error.root_cause().to_string(),
        };
        let function = error
            .downcast_ref::<WasmBacktrace>()
            .and_then(|backtrace| backtrace.frames().first().and_then(|frame| frame.func_name()));
        Self::Trap(shown(&match function {
            Some(name) => format!("{reason} (in {name})"),
            None => reason,
        }))
    }
}

/// A plugin's text as it is shown to people: one line, and not too long.
pub(super) fn shown(text: &str) -> String {
    one_line(text, TEXT_MAX)
}

/// Control characters become spaces, so that nothing can pretend to be another line of the log.
pub(super) fn one_line(text: &str, max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(max));
    for letter in text.chars() {
        if line.len() + letter.len_utf8() > max {
            line.push('…');
            break;
        }
        line.push(if letter.is_control() { ' ' } else { letter });
    }
    line
}
