//! One round: everything that a source wants of a unit, asked for and put together.

use std::collections::VecDeque;
use std::time::Duration;

use super::spans::{Ask, Span, apart, plan};
use super::{Answer, Data, Limits, Planner, Read, Table};

/// The device does not have this function at all: no smaller read would do.
const ILLEGAL_FUNCTION: u8 = 1;
/// Busy, or a gateway without its device: the rest would fare no better.
const NOT_NOW: [u8; 4] = [5, 6, 10, 11];

/// Reads on their way. Made by [`Planner::round`].
#[derive(Clone, Debug)]
pub struct Round<E> {
    wanted: Vec<Read>,
    slots: Vec<Slot<E>>,
    waiting: VecDeque<Ask>,
    asked: Option<Ask>,
    splits: Vec<Split>,
    limits: Limits,
}

/// What came of a wanted read so far.
#[derive(Clone, Debug)]
enum Slot<E> {
    Open { data: Data, missing: usize },
    Done(Answer<E>),
}

/// A request was refused and taken apart before `at`; whether the parts were answered tells where the fault lies.
#[derive(Clone, Debug)]
struct Split {
    table: Table,
    at: Vec<u16>,
    parts: usize,
    answered: usize,
}

impl<E: Clone> Round<E> {
    pub(super) fn new(planner: &Planner, wanted: Vec<Read>, limits: Limits, now: Duration) -> Self {
        let (asks, resting) = plan(planner, &wanted, limits, now);
        let open = |read: &Read| {
            let missing = usize::from(read.count);
            let data = match read.table.is_bits() {
                true => Data::Bits(vec![false; missing]),
                false => Data::Registers(vec![0; missing]),
            };
            Slot::Open { data, missing }
        };
        let mut slots: Vec<Slot<E>> = wanted.iter().map(open).collect();
        for (index, exception) in resting {
            if let Some(slot) = slots.get_mut(index) {
                *slot = Slot::Done(Answer::Exception(exception));
            }
        }
        Self { wanted, slots, waiting: asks.into(), asked: None, splits: Vec::new(), limits }
    }

    /// What to ask the device for now; `None` when the round is over. The same again until it is answered.
    pub fn ask(&mut self) -> Option<Read> {
        while self.asked.is_none() {
            let ask = self.waiting.pop_front()?;
            self.asked = Some(ask).filter(|ask| self.is_needed(ask));
        }
        self.asked.as_ref().map(|ask| ask.read)
    }

    /// What came of the read that [`Round::ask`] gave. Data that is not as long as it was asked for is a refusal.
    pub fn answered(&mut self, planner: &mut Planner, answer: Answer<E>, now: Duration) {
        let Some(ask) = self.asked.take() else { return };
        match answer {
            Answer::Data(data) if data.len() == usize::from(ask.read.count) => self.data(planner, &ask, &data, now),
            Answer::Data(_) => self.settle(&ask.spans, &Answer::Exception(ILLEGAL_FUNCTION)),
            Answer::Exception(ILLEGAL_FUNCTION) => self.settle(&ask.spans, &Answer::Exception(ILLEGAL_FUNCTION)),
            Answer::Exception(code) if !NOT_NOW.contains(&code) => self.refused(planner, ask, code, now),
            last => {
                self.settle(&ask.spans, &last);
                for ask in std::mem::take(&mut self.waiting) {
                    self.settle(&ask.spans, &last);
                }
            }
        }
    }

    /// An answer for each wanted read, in their order. Of a round that was not asked to its end, what was not asked is
    /// an exception 4.
    pub fn finish(self) -> Vec<Answer<E>> {
        const DEVICE_FAILURE: u8 = 4;
        let done = |slot| match slot {
            Slot::Done(answer) => answer,
            Slot::Open { data, missing: 0 } => Answer::Data(data),
            Slot::Open { .. } => Answer::Exception(DEVICE_FAILURE),
        };
        self.slots.into_iter().map(done).collect()
    }

    fn data(&mut self, planner: &mut Planner, ask: &Ask, data: &Data, now: Duration) {
        for span in &ask.spans {
            for &index in &span.wanted {
                let (Some(wanted), Some(slot)) = (self.wanted.get(index), self.slots.get_mut(index)) else { continue };
                if let Slot::Open { data: into, missing } = slot {
                    *missing = missing.saturating_sub(copy(&ask.read, data, wanted, &span.read, into));
                    if *missing == 0 {
                        planner.answered(wanted);
                    }
                }
            }
        }
        let Some(split) = ask.split.and_then(|index| self.splits.get_mut(index)) else { return };
        split.answered += 1;
        if split.answered == split.parts {
            for &at in &split.at {
                planner.cut(split.table, at, now);
            }
        }
    }

    /// Halves of what was joined; values that overlap each on their own; a single one is bad.
    fn refused(&mut self, planner: &mut Planner, ask: Ask, code: u8, now: Duration) {
        let mut spans = ask.spans;
        if spans.len() > 1 {
            let right = spans.split_off(spans.len() / 2);
            self.split(vec![spans, right]);
            return;
        }
        let Some(span) = spans.pop() else { return };
        let parts = apart(&span, &self.wanted, self.limits);
        if !parts.is_empty() {
            self.split(parts.into_iter().map(|part| vec![part]).collect());
            return;
        }
        for &index in &span.wanted {
            if let Some(read) = self.wanted.get(index) {
                planner.refused(*read, code, now);
            }
        }
        self.settle(&[span], &Answer::Exception(code));
    }

    fn split(&mut self, parts: Vec<Vec<Span>>) {
        let begin = |part: &Vec<Span>| part.first().map(|span| span.read);
        let Some(first) = parts.first().and_then(begin) else { return };
        let at = parts.iter().skip(1).filter_map(begin).map(|read| read.first).collect();
        let number = self.splits.len();
        self.splits.push(Split { table: first.table, at, parts: parts.len(), answered: 0 });
        for part in parts.into_iter().rev() {
            if let Some(ask) = Ask::of(part, Some(number)) {
                self.waiting.push_front(ask);
            }
        }
    }

    /// A value whose first piece was refused needs no second.
    fn is_needed(&self, ask: &Ask) -> bool {
        let open = |index: &usize| matches!(self.slots.get(*index), Some(Slot::Open { missing, .. }) if *missing > 0);
        ask.spans.iter().flat_map(|span| &span.wanted).any(open)
    }

    fn settle(&mut self, spans: &[Span], answer: &Answer<E>) {
        for index in spans.iter().flat_map(|span| &span.wanted) {
            if let Some(slot) = self.slots.get_mut(*index)
                && matches!(slot, Slot::Open { missing, .. } if *missing > 0)
            {
                *slot = Slot::Done(answer.clone());
            }
        }
    }
}

/// Copies what the answer to `asked` and `wanted` have in common within `span`; gives how many addresses.
fn copy(asked: &Read, data: &Data, wanted: &Read, span: &Read, into: &mut Data) -> usize {
    let first = wanted.first.max(span.first);
    let end = wanted.end().min(span.end());
    let count = end.saturating_sub(u32::from(first)) as usize;
    let from = usize::from(first.saturating_sub(asked.first));
    let to = usize::from(first - wanted.first);
    let copied = match (data, into) {
        (Data::Bits(data), Data::Bits(into)) => slice(data, from, count, into, to),
        (Data::Registers(data), Data::Registers(into)) => slice(data, from, count, into, to),
        _ => None,
    };
    copied.map_or(0, |()| count)
}

fn slice<T: Copy>(data: &[T], from: usize, count: usize, into: &mut [T], to: usize) -> Option<()> {
    let source = data.get(from..from + count)?;
    into.get_mut(to..to + count)?.copy_from_slice(source);
    Some(())
}
