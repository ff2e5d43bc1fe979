//! One line that is driven.

use outstation_sdk::lines::{self, Level};
use outstation_sdk::{PointId, Poll, Setup, log};

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
                // Not let go: that would drive it to its safe level, and it may answer again.
                bad(poll, self.point, &error);
            }
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
