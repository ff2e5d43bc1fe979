//! When a source is polled: at the start, then on multiples of `every` on the wall clock.
//!
//! A slot that passed while the source was busy, or while the machine slept, is skipped and counted. Setting
//! the clock neither stops the polling nor counts as missed: waiting is on monotonic time, at most one
//! `every` long, and never more slots are missed than monotonic time had room for.

use std::time::Duration;

/// The schedule of one source.
#[derive(Clone, Debug)]
pub struct Schedule {
    every_ns: i64,
    /// The slot that was served last, and when that was on the monotonic clock.
    served: Option<(i64, Duration)>,
}

impl Schedule {
    /// `every` is at least a millisecond (the configuration sees to it).
    pub fn new(every: Duration) -> Self {
        Self { every_ns: i64::try_from(every.as_nanos()).unwrap_or(i64::MAX).max(1_000_000), served: None }
    }

    /// How long until the next poll: nothing before the first, else until the next multiple.
    pub fn wait(&self, wall_ns: i64) -> Duration {
        let Some((served, _)) = self.served else { return Duration::ZERO };
        let passed = wall_ns.rem_euclid(self.every_ns);
        let mut wait = self.every_ns - passed;
        // The slot ahead was served already, by a timer that fired early.
        if served == wall_ns.div_euclid(self.every_ns) + 1 {
            wait = wait.saturating_add(self.every_ns);
        }
        Duration::from_nanos(wait.unsigned_abs())
    }

    /// A poll begins now. Gives the number of slots that were missed since the last one began.
    pub fn begin(&mut self, wall_ns: i64, mono: Duration) -> u32 {
        // A timer may fire a little before the wall clock reaches the multiple: the nearer slot is meant.
        let tolerance = (self.every_ns / 4).min(EARLY_MAX_NS);
        let slot = wall_ns.saturating_add(tolerance).div_euclid(self.every_ns);
        let missed = match self.served {
            None => 0,
            Some((last, at)) => {
                // So many slots had room since then, this one among them; timers are not exact.
                let passed = i64::try_from(mono.saturating_sub(at).as_nanos()).unwrap_or(i64::MAX);
                let room = passed.saturating_add(self.every_ns / 4) / self.every_ns;
                slot.saturating_sub(last).saturating_sub(1).clamp(0, room.saturating_sub(1).max(0))
            }
        };
        self.served = Some((slot, mono));
        u32::try_from(missed).unwrap_or(u32::MAX)
    }
}

/// How far before its slot a poll may begin and still be taken for it.
const EARLY_MAX_NS: i64 = 5_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    fn secs(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    #[test]
    fn first_at_once_then_on_multiples() {
        let mut schedule = Schedule::new(secs(10.0));
        assert_eq!(schedule.wait(103 * S), Duration::ZERO);
        assert_eq!(schedule.begin(103 * S, secs(1.0)), 0);
        assert_eq!(schedule.wait(103 * S + S / 2), secs(6.5));
        assert_eq!(schedule.begin(110 * S, secs(8.0)), 0);
        assert_eq!(schedule.wait(110 * S), secs(10.0));
    }

    #[test]
    fn a_slow_poll_skips_and_counts() {
        let mut schedule = Schedule::new(secs(1.0));
        schedule.begin(100 * S, secs(0.0));
        // The poll took 3.2 s: 101, 102 and 103 passed.
        assert_eq!(schedule.wait(103 * S + S / 5), secs(0.8));
        assert_eq!(schedule.begin(104 * S, secs(4.0)), 3);
    }

    #[test]
    fn a_timer_that_fires_early_is_the_slot_it_was_set_for() {
        let mut schedule = Schedule::new(secs(1.0));
        schedule.begin(100 * S, secs(0.0));
        assert_eq!(schedule.begin(101 * S - 2_000_000, secs(0.998)), 0);
        assert_eq!(schedule.wait(101 * S - 1_000_000), secs(1.001));
        assert_eq!(schedule.begin(102 * S + 1_000_000, secs(2.001)), 0);
    }

    /// F-46: the clock jumps.
    #[test]
    fn setting_the_clock_misses_nothing() {
        let mut schedule = Schedule::new(secs(1.0));
        schedule.begin(100 * S, secs(0.0));
        assert_eq!(schedule.begin(40_000_000 * S, secs(1.0)), 0);
        assert_eq!(schedule.begin(50 * S, secs(2.0)), 0);
        assert!(schedule.wait(50 * S) <= secs(1.0));
    }
}
