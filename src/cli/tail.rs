//! `outstation tail`: what the running agent reads, as it reads it.
//!
//! Text is one reading a line, so that `grep` and `cut` find what they want; JSON is one poll a line. It ends with
//! the agent, with its output, and on Ctrl-C, and none of these is a failure.

use std::io::{self, ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use super::ask::{self, Agent};
use super::{Color, fail, result_or_end, say};
use crate::control::{Answer, Question};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  outstation tail                       every source
  outstation tail boiler | grep flow    one source, one point
  outstation tail --json | jq .values   for programs

Text is TIME SOURCE POINT VALUE, with `uncertain REASON` behind a doubtful value, and `bad REASON` in place of one
that could not be read. JSON is what goes to the broker, without a number. Whoever reads too slowly misses lines, and is told how many: `{\"missed\":12}` in JSON.
It ends with the agent, with a closed pipe, and on Ctrl-C.")]
pub(super) struct Options {
    /// Of this source only
    source: Option<String>,
    /// A line of JSON a poll
    #[arg(long)]
    json: bool,
}

/// Does the command.
pub(super) fn tail(file: &Path, options: Options, color: Color) -> ExitCode {
    let style = Style { json: options.json, colour: color.wanted(&io::stdout()) };
    let question = Question::Tail { source: options.source };
    ask::run(file, async |agent: Agent| {
        tokio::select! {
            status = follow(&agent, &question, style) => status,
            // A reader that was stopped may hold up a write for ever: the end does not wait for it.
            _ = tokio::signal::ctrl_c() => ExitCode::SUCCESS,
        }
    })
}

async fn follow(agent: &Agent, question: &Question, style: Style) -> ExitCode {
    let mut asking = match agent.begin(question).await {
        Ok(asking) => asking,
        Err(why) => return fail(&why),
    };
    loop {
        let text = match asking.next().await {
            Ok(Answer::Live(reading)) => style.lines(&reading),
            Ok(Answer::Missed(count)) if style.json => format!("{{\"missed\":{count}}}\n"),
            Ok(Answer::Missed(count)) => {
                say(&format!("outstation: {count} lines are left out: they are read too slowly"));
                continue;
            }
            Ok(Answer::Note(note)) => {
                say(&format!("outstation: {note}"));
                continue;
            }
            Ok(Answer::Done(end)) => {
                say(&format!("outstation: {end}"));
                return ExitCode::SUCCESS;
            }
            Ok(Answer::Error(why)) => return fail(&why),
            Ok(_) => return fail(ask::ANOTHER_VERSION),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return fail("the agent is gone"),
            Err(error) => return fail(&format!("the agent's answer can't be read: {error}")),
        };
        let written = tokio::task::spawn_blocking(move || {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        });
        if let Some(end) = result_or_end(written.await.unwrap_or_else(|error| Err(io::Error::other(error)))) {
            return end;
        }
    }
}

/// How readings are shown.
#[derive(Clone, Copy)]
struct Style {
    json: bool,
    colour: bool,
}

impl Style {
    fn lines(self, reading: &Value) -> String {
        if self.json {
            return format!("{reading}\n");
        }
        let word = |key: &str| reading.get(key).and_then(Value::as_str).unwrap_or("?");
        let (time, source) = (word("time"), word("source"));
        let entries = |key: &str| reading.get(key).and_then(Value::as_object).into_iter().flatten();
        let uncertain = reading.get("uncertain");
        let values = entries("values").map(|(point, value)| {
            let doubt = uncertain.and_then(|reasons| reasons.get(point)).and_then(Value::as_str);
            let doubt = doubt.map(|reason| format!(" {}", self.paint("33", &format!("uncertain {reason}"))));
            format!("{time} {source} {point} {}{}\n", shown(value), doubt.unwrap_or_default())
        });
        let bad = entries("bad").map(|(point, reason)| {
            let reason = format!("bad {}", reason.as_str().unwrap_or("?"));
            format!("{time} {source} {point} {}\n", self.paint("31", &reason))
        });
        values.chain(bad).collect()
    }

    fn paint(self, colour: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A value on one line. Texts come from devices: nothing in them reaches the terminal as a command to it.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    text.chars()
        .flat_map(|char| {
            if char.is_control() { char.escape_unicode().to_string() } else { char.to_string() }
                .chars()
                .collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_reading_a_line_with_its_doubts() {
        let reading = json!({
            "source": "boiler", "time": "2026-11-22T17:00:00.123456Z",
            "values": { "flow": 12.5, "pump": true, "count": u64::MAX, "label": "a \u{1b}[2J\u{9b}b" },
            "uncertain": { "flow": "old" }, "bad": { "level": "timeout" },
        });
        let plain = Style { json: false, colour: false };
        insta::assert_snapshot!(plain.lines(&reading), @r#"
        2026-11-22T17:00:00.123456Z boiler flow 12.5 uncertain old
        2026-11-22T17:00:00.123456Z boiler pump true
        2026-11-22T17:00:00.123456Z boiler count 18446744073709551615
        2026-11-22T17:00:00.123456Z boiler label "a \u001b[2J\u{9b}b"
        2026-11-22T17:00:00.123456Z boiler level bad timeout
        "#);
        let colour = Style { json: false, colour: true };
        assert!(colour.lines(&reading).contains("\u{1b}[31mbad timeout\u{1b}[0m"));
        let json = Style { json: true, colour: true }.lines(&reading);
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), reading);
        assert_eq!(json.lines().count(), 1);
    }
}
