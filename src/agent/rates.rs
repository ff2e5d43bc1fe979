//! How fast the buffer fills and empties: the difference between now and a minute ago.

use std::collections::VecDeque;
use std::time::Duration;

/// Samples that are kept; with one every [`SAMPLE_EVERY`] they reach a minute back.
const SAMPLES_MAX: usize = 13;
/// Between two samples.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub struct Rates {
    /// When, and how many messages were accepted and delivered by then.
    samples: VecDeque<(Duration, u64, u64)>,
}

impl Rates {
    /// Notes the counts of now.
    pub fn sample(&mut self, now: Duration, accepted: u64, delivered: u64) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((now, accepted, delivered));
    }

    /// Messages a second, accepted and delivered.
    pub fn per_second(&self, now: Duration, accepted: u64, delivered: u64) -> (f64, f64) {
        let Some(&(then, accepted_then, delivered_then)) = self.samples.front() else { return (0.0, 0.0) };
        let seconds = now.saturating_sub(then).as_secs_f64();
        if seconds < 1.0 {
            return (0.0, 0.0);
        }
        // Counts of messages fit, and a tenth is precise enough.
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = |now: u64, then: u64| (now.saturating_sub(then) as f64 / seconds * 10.0).round() / 10.0;
        (rate(accepted, accepted_then), rate(delivered, delivered_then))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute_counts() {
        let mut rates = Rates::default();
        let s = Duration::from_secs;
        assert_eq!(rates.per_second(s(9), 5, 5), (0.0, 0.0));
        for step in 0..100 {
            rates.sample(s(5 * step), 10 * step, 0);
        }
        assert_eq!(rates.samples.len(), SAMPLES_MAX);
        assert_eq!(rates.per_second(s(500), 1_000, 480), (2.0, 7.4));
        assert_eq!(rates.per_second(s(435), 0, 0), (0.0, 0.0), "too short a time says nothing");
    }
}
