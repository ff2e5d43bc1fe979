//! `outstation buffer`: what lies in the buffer, whether it is whole, and all of it as messages. Reads only, also
//! beside a running agent, whose lock it leaves alone.

use std::io::{BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::buffer_page::{fault_json, fault_line, page, page_json};
use super::{CONFIG, Color, check, result, say};
use crate::agent::export::Exporter;
use crate::config::{self, Settings};
use crate::os::files::{Folder, FolderError, Reader};
use crate::os::{clock, places};
use crate::spool::{Now, OpenError, StorageErrorKind, View};

/// Bytes of the buffer that are held at once.
const READ_BYTES_MAX: usize = 256 << 10;
/// What can't be read is looked at so often again: the agent may have moved it meanwhile.
const LOOKS_MAX: u32 = 3;
/// Progress is shown after so long, and so often.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Under `outstation buffer --help`.
pub(super) const HELP: &str = "\
Examples:
  outstation buffer inspect
  outstation buffer verify                        # exit status 1, and a list, where something is damaged
  outstation buffer export > messages.jsonl";

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// What is in it: segments with their messages and times, how far delivery is, small durable values
    #[command(after_help = "\
Examples:
  outstation buffer inspect
  outstation buffer inspect --json | jq .store")]
    Inspect {
        /// Everything, for programs
        #[arg(long)]
        json: bool,
    },
    /// Read all of it; exit status 1 and a list where something is damaged. A tail that a crash cut off is not
    #[command(after_help = "\
Examples:
  outstation buffer verify && echo whole
  outstation buffer verify --json | jq .damage")]
    Verify {
        /// The list, for programs
        #[arg(long)]
        json: bool,
    },
    /// What is still to be delivered, one message a line, as it would be published
    #[command(after_help = "\
Examples:
  outstation buffer export > messages.jsonl
  outstation buffer export --topics | jq -r .topic | sort | uniq -c")]
    Export {
        /// How each message is written
        #[arg(long, value_name = "FORMAT", default_value = "json")]
        format: Format,
        /// Put each message into an object with its topic, QoS and retain flag: {"topic":..,"qos":..,"retain":..,"message":..}
        #[arg(long)]
        topics: bool,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum Format {
    /// JSON, as on the broker
    Json,
}

/// Does the command.
pub(super) fn buffer(file: &Path, command: &Command, color: Color) -> ExitCode {
    let files = places::read(&places::absolute_file(file));
    for unreadable in &files.unreadable {
        say(&format!("outstation: {unreadable}"));
    }
    let loaded = config::load(&files.inputs, &places::environment(&files.main));
    let (Some(settings), true) = (&loaded.settings, files.unreadable.is_empty()) else {
        check::say_all(&loaded.diagnostics, color);
        return ExitCode::from(CONFIG);
    };
    let place = Place { folder: settings.agent.data_dir.join("spool") };
    let done = match command {
        Command::Inspect { json } => place.inspect(*json),
        Command::Verify { json } => place.verify(*json),
        Command::Export { format: Format::Json, topics } => place.export(settings, *topics),
    };
    done.unwrap_or_else(|why| {
        say(&format!("outstation: {why}"));
        ExitCode::FAILURE
    })
}

/// Where the buffer is.
struct Place {
    folder: PathBuf,
}

impl Place {
    fn look(&self) -> Result<View<Reader>, String> {
        let shown = self.folder.display();
        let denied =
            || format!("no rights to read {shown}: try it as the user of the service (outstation), or as root");
        let reader = Reader::open(&self.folder).map_err(|error| match error {
            FolderError::Io { error, .. } if error.kind() == ErrorKind::NotFound => {
                format!("there is no buffer at {shown}: no agent has run with this configuration yet")
            }
            FolderError::Io { error, .. } if error.kind() == ErrorKind::PermissionDenied => denied(),
            FolderError::Io { path, error } if error.kind() == ErrorKind::NotADirectory => {
                format!("{} is no folder: {error}", path.display())
            }
            other => other.to_string(),
        })?;
        let now = Now { mono: clock::now(), wall_ns: clock::wall_ns(), synced: clock::synced() };
        View::open(reader, now).map_err(|error| match error {
            OpenError::Storage(error) if error.kind == StorageErrorKind::Denied => denied(),
            other => format!("the buffer in {shown} can't be read: {other}"),
        })
    }

    fn inspect(&self, json: bool) -> Result<ExitCode, String> {
        let mut view = self.look()?;
        let holder = Folder::holder(&self.folder);
        let segments = view.segments();
        Ok(if json {
            result(&format!("{}\n", page_json(&self.folder, holder, &view, &segments)))
        } else {
            result(&page(&self.folder, holder, &view, &segments))
        })
    }

    fn verify(&self, json: bool) -> Result<ExitCode, String> {
        let mut view = self.look()?;
        let messages = view.stats().buffered;
        let mut progress = Progress::new();
        let faults = view.verify(|done, all| progress.show(done, all));
        progress.clear();
        let code = if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        if json {
            let faults: Vec<Value> = faults.iter().map(fault_json).collect();
            result(&format!("{}\n", json!({ "whole": faults.is_empty(), "messages": messages, "damage": faults })));
        } else if faults.is_empty() {
            result(&format!("the buffer is whole: {messages} messages to be delivered\n"));
        } else {
            let lines: String = faults.iter().map(fault_line).collect();
            result(&lines);
            let lost: u64 = faults.iter().flat_map(|fault| &fault.lost).map(|gap| gap.messages).sum();
            say(&format!("outstation: {} damaged places, {lost} messages lost", faults.len()));
        }
        Ok(code)
    }

    fn export(&self, settings: &Settings, topics: bool) -> Result<ExitCode, String> {
        let mut exporter = Exporter::new(settings);
        let mut out = BufWriter::new(std::io::stdout().lock());
        let mut progress = Progress::new();
        let mut view = self.look()?;
        let (from, end) = (view.delivery().done_below(), view.end());
        let (mut at, mut looks, mut unreadable) = (from, 0, 0);
        loop {
            progress.show(at.saturating_sub(from), end.saturating_sub(from));
            let (missed, mut entries) = (view.missed(), Vec::new());
            let next = view.read(at, READ_BYTES_MAX, &mut entries).map_err(|error| error.to_string())?;
            let missing = view.missed().saturating_sub(missed);
            if missing > 0 && looks < LOOKS_MAX {
                // What was delivered or packed meanwhile is somewhere else now, or gone.
                looks += 1;
                view = self.look()?;
                continue;
            }
            (looks, unreadable) = (0, unreadable + missing);
            for entry in entries.iter().take_while(|entry| entry.first < end) {
                match exporter.messages(entry) {
                    Ok(messages) => {
                        for message in messages.iter().filter(|message| !view.delivery().is_done(message.number)) {
                            if let Err(error) = line(&mut out, message, topics) {
                                return written(&error);
                            }
                        }
                    }
                    Err(why) => {
                        unreadable += u64::from(entry.messages);
                        say(&format!("outstation: record {} can't be read: {why}", entry.first));
                    }
                }
            }
            if entries.is_empty() || next >= end {
                break;
            }
            at = next;
        }
        progress.clear();
        if let Err(error) = out.flush() {
            return written(&error);
        }
        if unreadable > 0 {
            say(&format!("outstation: {unreadable} messages can't be read; `outstation buffer verify` says where"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn line(out: &mut impl Write, message: &crate::agent::export::Exported, topics: bool) -> std::io::Result<()> {
    if topics {
        let (topic, qos, retain) = (json!(message.topic), message.qos, message.retain);
        write!(out, "{{\"topic\":{topic},\"qos\":{qos},\"retain\":{retain},\"message\":")?;
        out.write_all(&message.payload)?;
        return out.write_all(b"}\n");
    }
    out.write_all(&message.payload)?;
    out.write_all(b"\n")
}

/// Who reads no further knows enough.
fn written(error: &std::io::Error) -> Result<ExitCode, String> {
    if error.kind() == ErrorKind::BrokenPipe { Ok(ExitCode::SUCCESS) } else { Err(format!("cannot write: {error}")) }
}

/// A line on a terminal, for work of more than a second.
struct Progress {
    shown_at: Duration,
    terminal: bool,
    shown: bool,
}

impl Progress {
    fn new() -> Self {
        let shown_at = (clock::now() + PROGRESS_AFTER).saturating_sub(PROGRESS_EVERY);
        Self { shown_at, terminal: std::io::stderr().is_terminal(), shown: false }
    }

    fn show(&mut self, done: u64, all: u64) {
        let now = clock::now();
        if self.terminal && now >= self.shown_at + PROGRESS_EVERY {
            (self.shown_at, self.shown) = (now, true);
            let percent = done.saturating_mul(100) / all.max(1);
            let _ = write!(std::io::stderr(), "\r{percent:3} % read");
        }
    }

    fn clear(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r            \r");
        }
    }
}
