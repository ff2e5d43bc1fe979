//! Between the generated exports and [`Plugin`]: owns the one plugin of the component.
//!
//! A component is never entered twice at a time, so that a borrow never meets another.

use std::cell::RefCell;

use crate::bindings::exports::outstation::plugin::sensor::{About, Failure, Outcome, Problem, Trigger};
use crate::config::Problems;
use crate::{Command, Commands, Plugin, Poll, Rejection, Setup};

/// The plugin, once `init` has made it, with the points that it declared.
pub struct Slot<P>(RefCell<Option<(P, Setup)>>);

/// What is wrong with the configuration.
pub fn check<P: Plugin>(document: &str) -> Vec<Problem> {
    let mut problems = Problems::default();
    P::check_document(document, &mut problems);
    problems.into_list()
}

impl<P: Plugin> Slot<P> {
    /// No plugin yet.
    #[allow(clippy::new_without_default, reason = "Default is not const")]
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    /// Makes the plugin.
    pub fn init(&self) -> Result<(), Failure> {
        let mut setup = Setup::default();
        let plugin = P::start(&mut setup)?;
        setup.forget_config();
        self.0.replace(Some((plugin, setup)));
        Ok(())
    }

    /// What there is; without `init` from a plugin that is made for this question and thrown away.
    pub fn describe(&self, name: &str, version: &str, vendor: &str) -> About {
        let points = match &*self.0.borrow() {
            Some((_, setup)) => setup.points(),
            None => {
                let mut scratch = Setup::default();
                // It may fail for want of a device. What was declared until then counts.
                let _ = P::start(&mut scratch);
                scratch.points()
            }
        };
        About {
            name: name.to_owned(),
            version: version.to_owned(),
            vendor: vendor.to_owned(),
            points,
            reasons: P::REASONS.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    /// One poll.
    pub fn run(&self, trigger: Trigger, now: i64, deadline: u64) -> Result<Outcome, Failure> {
        let mut slot = self.0.borrow_mut();
        let Some((plugin, setup)) = slot.as_mut() else {
            return Err(Failure::Internal("run before init".to_owned()));
        };
        let mut poll = Poll::new(trigger, now, deadline, setup);
        plugin.run(&mut poll)?;
        Ok(poll.into_outcome())
    }

    /// The end.
    pub fn stop(&self) {
        if let Some((plugin, _)) = self.0.borrow_mut().as_mut() {
            plugin.stop();
        }
    }
}

impl<P: Commands> Slot<P> {
    /// One command.
    pub fn execute(&self, command: &Command) -> Result<String, Rejection> {
        match self.0.borrow_mut().as_mut() {
            Some((plugin, _)) => plugin.command(command).map(|result| result.to_string()),
            None => Err(Rejection::Failed("a command before init".to_owned())),
        }
    }
}
