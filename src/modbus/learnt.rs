//! What a unit has shown of itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{BAD_PAUSE_MAX, BAD_PAUSE_MIN, CUT_KEPT, LEARNT_MAX, Limits, Read, Round, Table};

/// Plans the reads of one unit. See the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planner {
    bad: BTreeMap<Read, Bad>,
    /// The address behind a cut, and until when it counts.
    cuts: BTreeMap<(Table, u16), Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bad {
    exception: u8,
    again: Duration,
    pause: Duration,
}

/// What is known of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing bad.
    Nothing,
    /// It was refused with this code, and is not asked now.
    Rests(u8),
    /// It was refused, and is asked again, alone.
    Due,
}

impl Planner {
    /// Reads all that is `wanted`, in any order; `now` is monotonic.
    pub fn round<E: Clone>(&self, wanted: impl Into<Arc<[Read]>>, limits: Limits, now: Duration) -> Round<E> {
        Round::new(self, wanted.into(), limits, now)
    }

    pub(super) fn known(&self, read: &Read, now: Duration) -> Known {
        match self.bad.get(read) {
            None => Known::Nothing,
            Some(bad) if bad.again > now => Known::Rests(bad.exception),
            Some(_) => Known::Due,
        }
    }

    /// Whether reads may be joined so that the addresses from `from` up to `to` are passed over, and `to` follows.
    pub(super) fn may_pass(&self, table: Table, from: u32, to: u32, now: Duration) -> bool {
        let gap = Read::between(table, from, to);
        if self.bad.keys().any(|bad| gap.count > 0 && bad.meets(&gap)) {
            return false;
        }
        let (Ok(first), Ok(last)) = (u16::try_from(from), u16::try_from(to)) else { return false };
        !self.cuts.range((table, first)..=(table, last)).any(|(_, until)| *until > now)
    }

    /// Whether a value that begins at `address` is kept out of a read that began earlier.
    pub(super) fn is_cut(&self, table: Table, address: u16, now: Duration) -> bool {
        self.cuts.get(&(table, address)).is_some_and(|until| *until > now)
    }

    /// It stood alone and was refused.
    pub(super) fn refused(&mut self, read: Read, exception: u8, now: Duration) {
        let pause = match self.bad.get(&read) {
            Some(bad) => bad.pause.saturating_mul(2).min(BAD_PAUSE_MAX),
            None => BAD_PAUSE_MIN,
        };
        if self.bad.len() >= LEARNT_MAX && !self.bad.contains_key(&read) {
            let first = self.bad.iter().min_by_key(|(_, bad)| bad.again).map(|(read, _)| *read);
            first.map(|first| self.bad.remove(&first));
        }
        self.bad.insert(read, Bad { exception, again: now.saturating_add(pause), pause });
    }

    /// It was answered.
    pub(super) fn answered(&mut self, read: &Read) {
        self.bad.remove(read);
    }

    /// Both sides were answered, but not a read across them.
    pub(super) fn cut(&mut self, table: Table, address: u16, now: Duration) {
        self.cuts.retain(|_, until| *until > now);
        if self.cuts.len() >= LEARNT_MAX {
            let first = self.cuts.iter().min_by_key(|(_, until)| **until).map(|(place, _)| *place);
            first.map(|first| self.cuts.remove(&first));
        }
        self.cuts.insert((table, address), now.saturating_add(CUT_KEPT));
    }
}
