//! Commands: the optional third function of a plugin.
//!
//! ```no_run
//! use outstation_sdk::{Command, Commands, Failure, Plugin, Poll, Rejection, Setup, config::Value};
//!
//! /// A valve that is open or not.
//! struct Valve(bool);
//!
//! impl Plugin for Valve {
//!     fn start(_: &mut Setup) -> Result<Self, Failure> {
//!         Ok(Self(false))
//!     }
//!     fn run(&mut self, _: &mut Poll) -> Result<(), Failure> {
//!         Ok(())
//!     }
//! }
//!
//! impl Commands for Valve {
//!     fn command(&mut self, command: &Command) -> Result<Value, Rejection> {
//!         match command.name.as_str() {
//!             "set" => {
//!                 let args = command.args()?;
//!                 let open = args.get("open").and_then(Value::as_bool);
//!                 let open = open.ok_or_else(|| Rejection::Invalid("`open` is missing: true or false".into()))?;
//!                 let before = std::mem::replace(&mut self.0, open);
//!                 Ok(Value::Table(vec![("before".into(), Value::Boolean(before))]))
//!             }
//!             _ => Err(Rejection::Unknown),
//!         }
//!     }
//! }
//!
//! outstation_sdk::export!(Valve, commands);
//! ```
//!
//! The agent sees to it that an id runs once and that nothing runs that is too old; a command never runs beside a poll.
//! Its time counts like that of a poll.

use std::fmt::{self, Display, Write as _};

pub use crate::command_bindings::exports::outstation::plugin::commands::{Command, Rejection};

use crate::Plugin;
use crate::config::{self, Value};

/// A plugin that takes commands.
pub trait Commands: Plugin {
    /// Does what the command says. What it gives goes back to whoever sent the command.
    fn command(&mut self, command: &Command) -> Result<Value, Rejection>;
}

impl Command {
    /// The arguments; an empty table where the sender gave none.
    pub fn args(&self) -> Result<Value, Rejection> {
        config::parse(&self.args).map_err(|why| Rejection::Invalid(format!("the arguments can't be read: {why}")))
    }
}

/// As JSON. What is not finite is `null`.
impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Real(value) if value.is_finite() => write!(f, "{value:?}"),
            Self::Real(_) => f.write_str("null"),
            Self::Text(text) => quoted(f, text),
            Self::Array(elements) => {
                f.write_char('[')?;
                for (index, element) in elements.iter().enumerate() {
                    write!(f, "{}{element}", if index > 0 { "," } else { "" })?;
                }
                f.write_char(']')
            }
            Self::Table(entries) => {
                f.write_char('{')?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    f.write_str(if index > 0 { "," } else { "" })?;
                    quoted(f, key)?;
                    write!(f, ":{value}")?;
                }
                f.write_char('}')
            }
        }
    }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for letter in text.chars() {
        match letter {
            '"' | '\\' => write!(f, "\\{letter}")?,
            letter if letter.is_control() => write!(f, "\\u{:04x}", u32::from(letter))?,
            letter => f.write_char(letter)?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let text = r#"{"a":[1,-2,2.5,1e300,null,true],"b\"\\":"x\u0001\u000ay","c":{}}"#;
        let value = config::parse(text).unwrap();
        assert_eq!(config::parse(&value.to_string()).unwrap(), value, "{value}");
        assert_eq!(Value::Real(f64::NAN).to_string(), "null");
        assert_eq!(Value::Array(vec![Value::Integer(1), Value::Text("ä\"".into())]).to_string(), r#"[1,"ä\""]"#);
    }
}
