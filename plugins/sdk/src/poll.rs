//! One run: what the host says, and the readings that the plugin gives.

use crate::bindings::exports::outstation::plugin::sensor::{Outcome, Trigger};
use crate::bindings::outstation::types::types::{Quality, Reading, Severity, Value};
use crate::{PointId, Setup};

/// The device did not answer in time.
pub const TIMEOUT: u16 = 1;
/// The way to the device is broken.
pub const LINK: u16 = 2;
/// The source's `allow` does not grant it.
pub const DENIED: u16 = 3;
/// Modbus exception n is `MODBUS + n`.
pub const MODBUS: u16 = 256;
const OWN: u16 = 512;

/// One run of a plugin.
pub struct Poll<'s> {
    /// Why it is called.
    pub trigger: Trigger,
    /// The wall clock, nanoseconds since 1970.
    pub now: i64,
    /// How long the plugin may compute, in nanoseconds.
    pub deadline: u64,
    setup: &'s mut Setup,
    outcome: Outcome,
}

impl<'s> Poll<'s> {
    pub(crate) const fn new(trigger: Trigger, now: i64, deadline: u64, setup: &'s mut Setup) -> Self {
        let outcome = Outcome { readings: Vec::new(), next: None, points_changed: false };
        Self { trigger, now, deadline, setup, outcome }
    }

    /// Slots of the schedule that were missed since the run before.
    pub const fn missed(&self) -> u32 {
        match self.trigger {
            Trigger::Schedule(missed) => missed,
            _ => 0,
        }
    }

    /// Makes room for so many readings. Without it there is room for up to twice as many as are given.
    pub fn reserve(&mut self, readings: usize) {
        self.outcome.readings.reserve_exact(readings);
    }

    /// A good value, as of now.
    pub fn good(&mut self, point: PointId, value: impl Into<Value>) {
        self.push(point, Some(value.into()), Quality { severity: Severity::Good, code: 0 }, None);
    }

    /// A good value with its own time, in nanoseconds since 1970.
    pub fn good_at(&mut self, point: PointId, value: impl Into<Value>, at: i64) {
        self.push(point, Some(value.into()), Quality { severity: Severity::Good, code: 0 }, Some(at));
    }

    /// A value that is doubtful for the plugin's own reason `reason`, an index into `Plugin::REASONS`.
    pub fn uncertain_own(&mut self, point: PointId, value: impl Into<Value>, reason: u16) {
        let quality = Quality { severity: Severity::Uncertain, code: OWN.saturating_add(reason) };
        self.push(point, Some(value.into()), quality, None);
    }

    /// No value, for the reason `code`: [`TIMEOUT`], [`LINK`], [`DENIED`], [`MODBUS`] + n.
    pub fn bad(&mut self, point: PointId, code: u16) {
        self.push(point, None, Quality { severity: Severity::Bad, code }, None);
    }

    /// No value, for the plugin's own reason `reason`, an index into `Plugin::REASONS`.
    pub fn bad_own(&mut self, point: PointId, reason: u16) {
        self.bad(point, OWN.saturating_add(reason));
    }

    /// Asks for the next run in so many nanoseconds, in place of the schedule's.
    pub const fn next_in(&mut self, nanoseconds: u64) {
        self.outcome.next = Some(nanoseconds);
    }

    /// Declares other points than before. The readings of this run must come after it: they count in the new list.
    pub fn declare_again(&mut self) -> &mut Setup {
        self.outcome.points_changed = true;
        self.outcome.readings.clear();
        self.setup.clear();
        self.setup
    }

    pub(crate) fn into_outcome(self) -> Outcome {
        self.outcome
    }

    fn push(&mut self, point: PointId, value: Option<Value>, quality: Quality, at: Option<i64>) {
        self.outcome.readings.push(Reading { point: point.0, value, quality, at });
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Unsigned(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}
