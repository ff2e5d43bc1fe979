//! From wanted reads to requests: values that overlap are read together, neighbours are joined.

use std::time::Duration;

use super::learnt::Known;
use super::{Limits, Planner, Read};

/// What is never taken apart before it was refused: values that share a register, or one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub read: Read,
    /// Indices of the wanted reads that have part in it.
    pub wanted: Indices,
    /// A piece of something longer than a request can be.
    pub is_piece: bool,
}

/// Mostly a span is of one value, and there are thousands: none of them needs memory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Indices {
    One(u32),
    #[expect(clippy::box_collection, reason = "few are of many, and each span is as large as the largest")]
    Many(Box<Vec<u32>>),
}

impl Indices {
    fn of(index: usize) -> Self {
        Self::One(u32::try_from(index).unwrap_or(u32::MAX))
    }

    pub fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(index) => std::slice::from_ref(index),
            Self::Many(indices) => indices,
        }
    }

    fn push(&mut self, index: usize) {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        match self {
            Self::One(first) => *self = Self::Many(Box::new(vec![*first, index])),
            Self::Many(indices) => indices.push(index),
        }
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub read: Read,
    /// In order of address, at least one.
    pub spans: Vec<Span>,
    /// Which split it comes from.
    pub split: Option<usize>,
}

impl Ask {
    /// From the first of these to the end of the last.
    pub fn of(spans: Vec<Span>, split: Option<usize>) -> Option<Self> {
        let (first, last) = (spans.first()?.read, spans.last()?.read);
        Some(Self { read: Read::between(first.table, u32::from(first.first), last.end()), spans, split })
    }
}

/// The requests of a round, and what is answered without asking: index and exception.
pub(super) fn plan(planner: &Planner, wanted: &[Read], limits: Limits, now: Duration) -> (Vec<Ask>, Vec<(usize, u8)>) {
    /// What a device would say.
    const ILLEGAL_ADDRESS: u8 = 2;
    let mut resting = Vec::new();
    let (mut fresh, mut due): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    for (index, read) in wanted.iter().enumerate() {
        match planner.known(read, now) {
            _ if !read.is_possible() => resting.push((index, ILLEGAL_ADDRESS)),
            Known::Nothing => fresh.push(index),
            Known::Rests(exception) => resting.push((index, exception)),
            Known::Due => due.push(index),
        }
    }
    let mut asks = join(planner, spans(planner, wanted, fresh, limits, now), limits, now);
    let alone = spans(planner, wanted, due, limits, now);
    asks.extend(alone.into_iter().filter_map(|span| Ask::of(vec![span], None)));
    (asks, resting)
}

/// What is left to try of a span that was refused: where several values have part in it, each on its own, or as much
/// of it as lay in there; equal ones together.
pub(super) fn apart(span: &Span, wanted: &[Read], limits: Limits) -> Vec<Span> {
    let mut out: Vec<(Read, Span)> = Vec::new();
    for &index in span.wanted.as_slice() {
        let index = index as usize;
        let Some(&whole) = wanted.get(index) else { continue };
        if let Some((_, known)) = out.iter_mut().find(|(read, _)| *read == whole) {
            known.wanted.push(index);
            continue;
        }
        let is_piece = u32::from(whole.count) > limits.of(whole.table);
        let read = if is_piece { whole.within(&span.read) } else { whole };
        out.push((whole, Span { read, wanted: Indices::of(index), is_piece }));
    }
    let is_last = out.len() == 1 && out.iter().all(|(_, part)| part.is_piece == span.is_piece);
    if is_last { Vec::new() } else { out.into_iter().map(|(_, part)| part).collect() }
}

/// Reads that have a register in common become one span; what is longer than a request is cut into pieces.
fn spans(planner: &Planner, wanted: &[Read], mut indices: Vec<usize>, limits: Limits, now: Duration) -> Vec<Span> {
    indices.sort_by_key(|&index| wanted.get(index).copied());
    let mut out: Vec<Span> = Vec::new();
    let mut before: Option<Read> = None;
    for index in indices {
        let Some(&read) = wanted.get(index) else { continue };
        let kept_out = before != Some(read) && planner.is_cut(read.table, read.first, now);
        match out.last_mut().filter(|span| !kept_out && span.read.meets(&read)) {
            Some(span) => {
                let end = span.read.end().max(read.end());
                span.read = Read::between(read.table, u32::from(span.read.first), end);
                span.wanted.push(index);
            }
            None => out.push(Span { read, wanted: Indices::of(index), is_piece: false }),
        }
        before = Some(read);
    }
    out.into_iter().flat_map(|span| pieces(span, wanted, limits)).collect()
}

fn pieces(span: Span, wanted: &[Read], limits: Limits) -> Vec<Span> {
    let (table, most) = (span.read.table, limits.of(span.read.table));
    if u32::from(span.read.count) <= most {
        return vec![span];
    }
    let mut out = Vec::new();
    let mut first = u32::from(span.read.first);
    while first < span.read.end() {
        let read = Read::between(table, first, (first + most).min(span.read.end()));
        let has_part = |index: &&u32| wanted.get(**index as usize).is_some_and(|wanted| wanted.meets(&read));
        let wanted = Indices::Many(Box::new(span.wanted.as_slice().iter().filter(has_part).copied().collect()));
        out.push(Span { read, wanted, is_piece: true });
        first += most;
    }
    out
}

/// Neighbours in one request, as many as it can hold.
fn join(planner: &Planner, spans: Vec<Span>, limits: Limits, now: Duration) -> Vec<Ask> {
    let mut asks: Vec<Ask> = Vec::new();
    for span in spans {
        let fits = |ask: &&mut Ask| {
            let (table, first, end) = (ask.read.table, u32::from(ask.read.first), ask.read.end());
            let next = u32::from(span.read.first);
            // Two that were kept apart may overlap.
            table == span.read.table
                && next >= end
                && next - end <= u32::from(limits.gaps)
                && span.read.end() - first <= limits.of(table)
                && planner.may_pass(table, end, next, now)
        };
        match asks.last_mut().filter(fits) {
            Some(ask) => {
                ask.read = Read::between(ask.read.table, u32::from(ask.read.first), span.read.end());
                ask.spans.push(span);
            }
            None => asks.extend(Ask::of(vec![span], None)),
        }
    }
    asks
}
