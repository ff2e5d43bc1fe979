//! Commands as they come from a broker, and the answers to them, as INTERFACE section 3 of the manual gives them.
//!
//! Pure: what came and when goes in, a command that may run or a refusal in the contract's words comes out. Whoever
//! may write to a command topic chooses every byte of it, so size, depth and lengths are bounded before anything is kept.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::reading::Timestamp;

/// Bytes of a command's payload.
pub const COMMAND_BYTES_MAX: usize = 64 << 10;
/// How deep a command, or a plugin's result, may be nested.
pub const COMMAND_DEPTH_MAX: usize = 32;
/// Bytes of an id.
pub const COMMAND_ID_MAX: usize = 128;
/// Bytes of a command's name.
const NAME_MAX: usize = 128;
/// Bytes of a plugin's result.
pub const RESULT_BYTES_MAX: usize = 64 << 10;
/// Bytes of an answer's message to people.
const MESSAGE_MAX: usize = 512;
/// A command that says no more than when it was sent lapses after this.
const LIFE_NS: i64 = 60_000_000_000;

/// Why a command is not run, or did not work, in the contract's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such source or command.
    Unknown,
    /// It is not as a command has to be.
    Invalid,
    /// The plugin does not allow it.
    Denied,
    /// It is too old.
    Expired,
    /// It was kept by the broker.
    Retained,
    /// It was begun before a crash.
    Interrupted,
    /// It did not work.
    Failed,
}

impl Refusal {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Retained => "retained",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A command that can be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Chosen by whoever sent it; runs once.
    pub id: String,
    /// What is to be done.
    pub name: String,
    /// JSON.
    pub args: String,
    /// When it was sent, nanoseconds since 1970.
    pub sent_ns: Option<i64>,
    /// When it lapses, by its own words.
    pub expires_ns: Option<i64>,
}

/// A refusal, with the id that the answer bears, where it could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// See [`Command::id`].
    pub id: Option<String>,
    /// The word.
    pub refusal: Refusal,
    /// For people.
    pub message: String,
}

impl Refused {
    /// The answer's payload.
    pub fn answer(&self) -> Vec<u8> {
        refusal(self.id.as_deref(), self.refusal, &self.message)
    }
}

/// How a command came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When, by the wall clock, nanoseconds since 1970.
    pub at_ns: i64,
    /// The seconds that the broker left it (MQTT 5 Message Expiry Interval).
    pub expiry_s: Option<u32>,
    /// It waited at the broker while the agent was away.
    pub waited: bool,
}

impl Command {
    /// Reads `{"id","name","args","sent","expires"}`. Other keys are passed over.
    pub fn read(payload: &[u8]) -> Result<Self, Refused> {
        let invalid = |id: Option<&str>, message: String| Refused {
            id: id.map(str::to_owned),
            refusal: Refusal::Invalid,
            message,
        };
        if payload.len() > COMMAND_BYTES_MAX {
            return Err(invalid(None, format!("a command has at most {COMMAND_BYTES_MAX} bytes")));
        }
        let object = bounded(payload).map_err(|why| invalid(None, why))?;
        let Value::Object(object) = object else {
            return Err(invalid(None, "a command is a JSON object with `id` and `name`".into()));
        };
        let id = match object.get("id") {
            Some(Value::String(id)) if (1..=COMMAND_ID_MAX).contains(&id.len()) => id.as_str(),
            _ => return Err(invalid(None, format!("`id` is missing: a text of 1 to {COMMAND_ID_MAX} bytes"))),
        };
        let name = match object.get("name") {
            Some(Value::String(name)) if (1..=NAME_MAX).contains(&name.len()) => name.clone(),
            _ => return Err(invalid(Some(id), format!("`name` is missing: a text of 1 to {NAME_MAX} bytes"))),
        };
        let time = |key: &str| match object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => match Timestamp::parse(text) {
                Some(time) => Ok(Some(time.0)),
                None => Err(invalid(Some(id), format!("`{key}` is no time; write it as 2026-11-22T17:00:00Z"))),
            },
            Some(_) => Err(invalid(Some(id), format!("`{key}` is no text; write it as 2026-11-22T17:00:00Z"))),
        };
        let (sent_ns, expires_ns) = (time("sent")?, time("expires")?);
        let args = object.get("args").map_or_else(|| "{}".to_owned(), Value::to_string);
        Ok(Self { id: id.to_owned(), name, args, sent_ns, expires_ns })
    }

    /// When it lapses. Refused where it has, or where nothing says how old it is and it may be.
    ///
    /// The earlier of `expires` and what the broker left it; where there is neither, 60 s after `sent`, or after it
    /// came. `sent` from a clock that is ahead makes no longer life.
    pub fn lapses_ns(&self, arrival: Arrival) -> Result<i64, Refused> {
        let left = arrival.expiry_s.map(|seconds| arrival.at_ns.saturating_add(i64::from(seconds) * 1_000_000_000));
        let said = [self.expires_ns, left].into_iter().flatten().min();
        let lapses = match (said, self.sent_ns) {
            (Some(lapses), _) => lapses,
            (None, Some(sent)) => sent.min(arrival.at_ns).saturating_add(LIFE_NS),
            (None, None) if arrival.waited => {
                return Err(self.refused(
                    Refusal::Expired,
                    "it waited at the broker, and nothing says how long: give it `sent` or `expires`",
                ));
            }
            (None, None) => arrival.at_ns.saturating_add(LIFE_NS),
        };
        if lapses <= arrival.at_ns {
            return Err(self.refused(Refusal::Expired, &format!("it lapsed at {}", Timestamp(lapses).rfc3339())));
        }
        Ok(lapses)
    }

    /// A refusal of this command.
    pub fn refused(&self, refusal: Refusal, message: &str) -> Refused {
        Refused { id: Some(self.id.clone()), refusal, message: message.to_owned() }
    }
}

/// The answer to a command that worked. `result` is JSON from the plugin; where it is none, or too much, the answer
/// says that the command ran and its result could not be taken.
pub fn success(id: &str, result: &str) -> Vec<u8> {
    let result = result.trim();
    if result.len() > RESULT_BYTES_MAX {
        let message = format!("it ran, but its result has {} bytes; {RESULT_BYTES_MAX} is the most", result.len());
        return refusal(Some(id), Refusal::Failed, &message);
    }
    match if result.is_empty() { Ok(Value::Null) } else { bounded(result.as_bytes()) } {
        Ok(result) => json!({"id": id, "ok": true, "result": result}).to_string().into_bytes(),
        Err(why) => refusal(Some(id), Refusal::Failed, &format!("it ran, but its result can't be shown: {why}")),
    }
}

/// The answer to a command that was refused, or did not work.
pub fn refusal(id: Option<&str>, refusal: Refusal, message: &str) -> Vec<u8> {
    let mut end = message.len().min(MESSAGE_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let mut answer = Map::new();
    answer.insert("id".into(), id.into());
    answer.insert("ok".into(), false.into());
    answer.insert("error".into(), refusal.word().into());
    answer.insert("message".into(), message.get(..end).unwrap_or_default().into());
    Value::from(answer).to_string().into_bytes()
}

/// JSON of bounded depth.
fn bounded(text: &[u8]) -> Result<Value, String> {
    if depth(text) > COMMAND_DEPTH_MAX {
        return Err(format!("nested deeper than {COMMAND_DEPTH_MAX}"));
    }
    serde_json::from_slice(text).map_err(|error| format!("not JSON: {error}"))
}

/// How deep brackets are nested outside texts.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests;
