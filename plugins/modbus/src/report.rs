//! Which samples are told. Without `deadband` and `heartbeat` all of them; else what changed by more than the
//! deadband, any change of quality, and at the latest after the heartbeat again.

use crate::points::Point;
use crate::sample::{Sample, number};

/// What floating point may add to a difference.
const ROUNDING: f64 = 1.0 + 1e-9;

/// What was told of a point, and when.
#[derive(Debug, Default)]
pub struct Reporter {
    last: Option<Box<(Sample, u64)>>,
}

impl Reporter {
    /// Whether it is to be told; `now` is monotonic, in nanoseconds.
    pub fn is_news(&mut self, point: &Point, sample: &Sample, now: u64) -> bool {
        let more = point.more();
        if more.deadband.is_none() && more.heartbeat.is_none() {
            return true;
        }
        let told = self.last.as_deref().is_some_and(|(last, at)| {
            let silent = u128::from(now.saturating_sub(*at));
            let beats = more.heartbeat.is_some_and(|heartbeat| silent >= heartbeat.as_nanos());
            !beats && is_same(last, sample, more.deadband.unwrap_or(0.0))
        });
        if !told {
            self.last = Some(Box::new((sample.clone(), now)));
        }
        !told
    }
}

fn is_same(last: &Sample, sample: &Sample, band: f64) -> bool {
    let (before, after) = match (last, sample) {
        (Sample::Good(before), Sample::Good(after)) => (before, after),
        (Sample::Doubtful(before, one), Sample::Doubtful(after, other)) if one == other => (before, after),
        _ => return last == sample,
    };
    match (number(before), number(after)) {
        (Some(before), Some(after)) if band > 0.0 => {
            (after - before).abs() <= band * ROUNDING || before.to_bits() == after.to_bits()
        }
        // A device that goes on sending NaN sends nothing new.
        (Some(before), Some(after)) if before.is_nan() && after.is_nan() => true,
        _ => before == after,
    }
}

#[cfg(test)]
mod tests;
