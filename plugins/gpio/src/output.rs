//! One line that is driven.

use std::time::Duration;

use outstation_sdk::config::Value;
use outstation_sdk::lines::{self, Level};
use outstation_sdk::{PointId, Poll, Rejection, Setup, log};

use crate::options::Line;
use crate::{bad, is_active, text};

/// See the head of this file.
pub struct Output {
    line: Line,
    options: lines::OutputOptions,
    point: PointId,
    open: Option<lines::Output>,
    /// What was said last of a line that does not open.
    said: Option<String>,
}

impl Output {
    pub fn declare(setup: &mut Setup, line: &Line, initial: Level, safe: Level) -> Self {
        let options = lines::OutputOptions { active_low: line.active_low, initial, safe };
        let point = setup.point(&line.name).state().boolean();
        Self { line: line.clone(), options, point, open: None, said: None }
    }

    /// What it is driven to.
    pub fn poll(&mut self, poll: &mut Poll) {
        let level = self.line().and_then(lines::Output::get);
        match level {
            Ok(level) => poll.good(self.point, is_active(level)),
            Err(error) => {
                let why = text(&error);
                if self.said.as_ref() != Some(&why) {
                    log::warn(&format!("{} ({}): {why}", self.line.name, self.line.line));
                }
                self.said = Some(why);
                // A chip that is gone has to be opened anew. Else it is not let go: that would drive it to its safe
                // level, and it may answer again.
                if matches!(error, lines::Error::UndefinedLabel) {
                    self.open = None;
                }
                bad(poll, self.point, &error);
            }
        }
    }

    /// Whether this is the line that a command names.
    pub fn is(&self, name: &str) -> bool {
        self.line.name == name
    }

    /// Drives it: for good, or for `width`. Gives the level before.
    pub fn drive(&mut self, active: bool, width: Option<Duration>) -> Result<Value, Rejection> {
        let level = if active { Level::Active } else { Level::Inactive };
        let driven = self.line().and_then(|line| {
            let before = line.get()?;
            match width {
                None => line.set(level)?,
                Some(width) => line.pulse(level, u64::try_from(width.as_nanos()).unwrap_or(u64::MAX))?,
            }
            Ok(before)
        });
        match driven {
            Ok(before) => Ok(Value::Table(vec![
                ("line".into(), Value::Text(self.line.name.clone())),
                ("old".into(), Value::Boolean(is_active(before))),
                ("new".into(), Value::Boolean(active)),
            ])),
            Err(lines::Error::NotAllowed) => Err(Rejection::Denied),
            Err(error) => Err(Rejection::Failed(text(&error))),
        }
    }

    /// The line, opened where it is not.
    fn line(&mut self) -> Result<&lines::Output, lines::Error> {
        match self.open {
            Some(ref open) => Ok(open),
            None => {
                let open = lines::open_output(&self.line.line, self.options)?;
                self.said = None;
                Ok(self.open.insert(open))
            }
        }
    }
}
