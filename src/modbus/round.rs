//! One round: everything that a source wants of a unit, asked for and put together.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
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
    wanted: Arc<[Read]>,
    /// How far each has come.
    slots: Vec<Slot>,
    /// What was read of all of them, each at its place.
    registers: Vec<u16>,
    bits: Vec<bool>,
    /// Those that have another answer than data.
    settled: BTreeMap<usize, Answer<E>>,
    waiting: VecDeque<Ask>,
    asked: Option<Ask>,
    splits: Vec<Split>,
    limits: Limits,
}

/// What came of a wanted read so far. Ten thousand are on their way at once, of each source.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Where its data begin, in `registers` or in `bits`.
    begin: u32,
    /// Addresses of it that are still to come.
    missing: u16,
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
    pub(super) fn new(planner: &Planner, wanted: Arc<[Read]>, limits: Limits, now: Duration) -> Self {
        let (asks, resting) = plan(planner, &wanted, limits, now);
        let (mut registers, mut bits) = (0, 0);
        let place = |read: &Read| {
            let end: &mut u32 = if read.table.is_bits() { &mut bits } else { &mut registers };
            let begin = *end;
            *end = end.saturating_add(u32::from(read.count));
            Slot { begin, missing: read.count }
        };
        let slots: Vec<Slot> = wanted.iter().map(place).collect();
        let settled = resting.into_iter().map(|(index, code)| (index, Answer::Exception(code))).collect();
        let (registers, bits) = (vec![0; registers as usize], vec![false; bits as usize]);
        Self { wanted, slots, registers, bits, settled, waiting: asks.into(), asked: None, splits: Vec::new(), limits }
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
        let Self { wanted, slots, registers, bits, mut settled, .. } = self;
        let done = |(index, (read, slot)): (usize, (&Read, &Slot))| {
            let settled = if settled.is_empty() { None } else { settled.remove(&index) };
            let data = |slot: &Slot| {
                let place = slot.begin as usize..slot.begin as usize + usize::from(read.count);
                match read.table.is_bits() {
                    true => bits.get(place).map(|bits| Data::Bits(bits.to_vec())),
                    false => registers.get(place).map(|registers| Data::Registers(registers.to_vec())),
                }
            };
            let read = || Some(slot).filter(|slot| slot.missing == 0).and_then(data).map(Answer::Data);
            settled.or_else(read).unwrap_or(Answer::Exception(DEVICE_FAILURE))
        };
        wanted.iter().zip(&slots).enumerate().map(done).collect()
    }

    fn data(&mut self, planner: &mut Planner, ask: &Ask, data: &Data, now: Duration) {
        for span in &ask.spans {
            for &index in span.wanted.as_slice() {
                let index = index as usize;
                if !self.is_open(index) {
                    continue;
                }
                let (Some(wanted), Some(slot)) = (self.wanted.get(index), self.slots.get_mut(index)) else { continue };
                let common = Common::of(&ask.read, wanted, &span.read, slot.begin as usize);
                let count = match data {
                    Data::Bits(data) => common.copy(data, &mut self.bits),
                    Data::Registers(data) => common.copy(data, &mut self.registers),
                };
                slot.missing = slot.missing.saturating_sub(count);
                if slot.missing == 0 {
                    planner.answered(wanted);
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
        for &index in span.wanted.as_slice() {
            if let Some(read) = self.wanted.get(index as usize) {
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
        ask.spans.iter().flat_map(|span| span.wanted.as_slice()).any(|index| self.is_open(*index as usize))
    }

    /// Whether something of it is still to come.
    fn is_open(&self, index: usize) -> bool {
        self.slots.get(index).is_some_and(|slot| slot.missing > 0)
            && (self.settled.is_empty() || !self.settled.contains_key(&index))
    }

    fn settle(&mut self, spans: &[Span], answer: &Answer<E>) {
        for index in spans.iter().flat_map(|span| span.wanted.as_slice()) {
            let index = *index as usize;
            if self.is_open(index) {
                self.settled.insert(index, answer.clone());
            }
        }
    }
}

/// The addresses that an answer, a wanted read and a span of it have in common: where they begin, and how many.
struct Common {
    from: usize,
    to: usize,
    count: usize,
}

impl Common {
    /// `place` is where the wanted read's data begin.
    fn of(asked: &Read, wanted: &Read, span: &Read, place: usize) -> Self {
        let first = wanted.first.max(span.first);
        let end = wanted.end().min(span.end());
        Self {
            from: usize::from(first.saturating_sub(asked.first)),
            to: place + usize::from(first - wanted.first),
            count: end.saturating_sub(u32::from(first)) as usize,
        }
    }

    /// Gives how many were copied: all of them, or none.
    fn copy<T: Copy>(&self, data: &[T], into: &mut [T]) -> u16 {
        let source = data.get(self.from..self.from + self.count);
        let target = into.get_mut(self.to..self.to + self.count);
        let copied = source.zip(target).map(|(source, target)| target.copy_from_slice(source));
        copied.map_or(0, |()| u16::try_from(self.count).unwrap_or(u16::MAX))
    }
}
