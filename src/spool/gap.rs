//! Gaps as bytes, and how they are joined.
//!
//! Owns nothing. Invariant: joining two gaps keeps the sum of their messages and of each source's.

use std::sync::Arc;

use super::bytes::{Put, Take};
use super::types::{Gap, GapReason};

fn reason_code(reason: GapReason) -> u8 {
    match reason {
        GapReason::BufferFull => 1,
        GapReason::Expired => 2,
        GapReason::Corrupt => 3,
        GapReason::Rejected => 4,
        GapReason::TooLarge => 5,
    }
}

fn reason_of(code: u8) -> Option<GapReason> {
    Some(match code {
        1 => GapReason::BufferFull,
        2 => GapReason::Expired,
        3 => GapReason::Corrupt,
        4 => GapReason::Rejected,
        5 => GapReason::TooLarge,
        _ => return None,
    })
}

/// Flags of an encoded gap: which of the times are known.
const HAS_FROM: u8 = 1;
const HAS_TO: u8 = 2;

pub(crate) fn encode(gap: &Gap, out: &mut Vec<u8>) {
    out.put_u8(reason_code(gap.reason));
    let flags = if gap.from_ns.is_some() { HAS_FROM } else { 0 } | if gap.to_ns.is_some() { HAS_TO } else { 0 };
    out.put_u8(flags);
    out.extend_from_slice(&gap.store);
    out.put_u32(gap.boot);
    out.put_u64(gap.first);
    out.put_u64(gap.last);
    out.put_i64(gap.from_ns.unwrap_or_default());
    out.put_i64(gap.to_ns.unwrap_or_default());
    out.put_varint(gap.sources.len() as u64);
    for (source, messages) in &gap.sources {
        out.put_name(source);
        out.put_varint(*messages);
    }
}

pub(crate) fn decode(take: &mut Take<'_>) -> Option<Gap> {
    let reason = reason_of(take.u8()?)?;
    let flags = take.u8()?;
    let (store, boot, first, last) = (take.array()?, take.u32()?, take.u64()?, take.u64()?);
    let (from, to) = (take.i64()?, take.i64()?);
    let mut sources = Vec::new();
    for _ in 0..take.varint()? {
        sources.push((take.name()?, take.varint()?));
    }
    Some(Gap {
        reason,
        store,
        boot,
        first,
        last,
        messages: last.checked_sub(first)?.checked_add(1)?,
        sources,
        from_ns: (flags & HAS_FROM != 0).then_some(from),
        to_ns: (flags & HAS_TO != 0).then_some(to),
    })
}

/// Puts a gap into a list; runs of one boot and reason that touch become one.
pub(crate) fn join(list: &mut Vec<Gap>, mut gap: Gap) {
    while let Some(at) = list.iter().position(|other| touches(other, &gap)) {
        let other = list.swap_remove(at);
        gap = joined(other, gap);
    }
    list.push(gap);
    list.sort_by_key(|gap| (gap.store, gap.boot, gap.first));
}

fn touches(a: &Gap, b: &Gap) -> bool {
    a.reason == b.reason
        && a.store == b.store
        && a.boot == b.boot
        && (a.last.checked_add(1) == Some(b.first) || b.last.checked_add(1) == Some(a.first))
}

fn joined(mut a: Gap, b: Gap) -> Gap {
    a.first = a.first.min(b.first);
    a.last = a.last.max(b.last);
    a.messages = a.messages.saturating_add(b.messages);
    for (source, messages) in b.sources {
        count(&mut a.sources, &source, messages);
    }
    a.from_ns = [a.from_ns, b.from_ns].into_iter().flatten().min();
    a.to_ns = [a.to_ns, b.to_ns].into_iter().flatten().max();
    a
}

/// Adds to a source's count in a sorted list.
pub(crate) fn count(sources: &mut Vec<(Arc<str>, u64)>, source: &Arc<str>, messages: u64) {
    match sources.binary_search_by(|(name, _)| name.cmp(source)) {
        Ok(at) => {
            if let Some((_, sum)) = sources.get_mut(at) {
                *sum = sum.saturating_add(messages);
            }
        }
        Err(at) => sources.insert(at, (source.clone(), messages)),
    }
}
