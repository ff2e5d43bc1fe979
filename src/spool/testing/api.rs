//! The spool as callers see it, on a simulated disk.

use super::sim::{Sim, Survival};
use super::{at, noise, options, route};
use crate::spool::*;

fn open(sim: Sim) -> (Spool<Sim>, Opened) {
    Spool::open(sim, options(), *b"ABCD", at(0)).expect("opens")
}

fn all(spool: &mut Spool<Sim>) -> Vec<Entry> {
    let mut out = Vec::new();
    let mut next = 0;
    loop {
        let before = out.len();
        next = spool.read(next, 10_000, &mut out).expect("reads");
        if out.len() == before {
            return out;
        }
    }
}

fn conserved(spool: &Spool<Sim>) {
    let stats = spool.stats();
    assert_eq!(stats.accepted, stats.delivered + stats.buffered + stats.dropped, "{stats:?}");
    assert!(stats.bytes <= stats.max_bytes, "{stats:?}");
}

#[test]
fn what_is_appended_is_read_in_order_before_and_after_a_flush() {
    let (mut spool, opened) = open(Sim::default());
    assert!(opened.fresh && opened.trouble.is_none());
    assert_eq!((spool.boot(), spool.store()), (1, *b"ABCD"));
    for n in 0..50u8 {
        let first = spool.append(at(n.into()), &route("a"), 2, n.into(), &[n; 100]).expect("fits");
        assert_eq!(first, 1 + 2 * u64::from(n));
        if n % 7 == 0 {
            spool.sync(at(n.into())).expect("syncs");
        }
    }
    let entries = all(&mut spool);
    assert_eq!(entries.len(), 50);
    for (n, entry) in entries.iter().enumerate() {
        assert_eq!((entry.first, entry.messages, entry.boot, entry.seq), (1 + 2 * n as u64, 2, 1, 1 + 2 * n as u64));
        assert_eq!(entry.body, Body::Record { route: route("a").into(), payload: vec![n as u8; 100].into() });
    }
    conserved(&spool);
}

#[test]
fn a_kill_loses_nothing_and_a_cut_only_what_was_not_flushed() {
    let (mut spool, _) = open(Sim::default());
    for n in 0..10u8 {
        spool.append(at(1), &route("a"), 1, 0, &[n]).expect("fits");
    }
    spool.sync(at(2)).expect("syncs");
    for n in 10..20u8 {
        spool.append(at(3), &route("b"), 1, 0, &[n]).expect("fits");
    }
    let killed = spool.storage.after_cut(Survival::All, 1);
    let (mut after, opened) = open(killed);
    assert_eq!(all(&mut after).len(), 20);
    assert_eq!((after.boot(), after.end(), opened.lost_messages), (2, 21, 0));
    let (mut after, opened) = open(spool.storage.after_cut(Survival::None, 1));
    assert_eq!(all(&mut after).len(), 10);
    assert_eq!((after.boot(), after.end(), opened.lost_messages), (2, 11, 0));
    let first = after.append(at(5), &route("a"), 1, 0, b"x").expect("fits");
    assert_eq!(first, 11);
    let entries = all(&mut after);
    assert_eq!(entries.last().map(|entry| (entry.boot, entry.seq)), Some((2, 1)));
}

/// F-4: more than the buffer holds goes through it, and nothing is dropped.
#[test]
fn done_is_kept_and_frees_segments() {
    let (mut spool, _) = open(Sim::default());
    let payload = noise(1, 4000);
    for n in 0..600u64 {
        let number = spool.append(at(n), &route("a"), 1, 0, &payload).expect("fits");
        spool.done(number);
        conserved(&spool);
    }
    spool.sync(at(601)).expect("syncs");
    let (spool, _) = open(spool.storage.after_cut(Survival::None, 1));
    assert_eq!(spool.stats().delivered, 600);
    assert_eq!((spool.stats().buffered, spool.stats().dropped), (0, 0));
}

/// F-11: what is acknowledged costs a page a flush, whatever is in the buffer.
#[test]
fn what_is_noted_of_delivery_is_small() {
    const FLUSHES: u64 = 100;
    let (mut spool, _) = open(Sim::default());
    let numbers: Vec<u64> =
        (0..FLUSHES).map(|n| spool.append(at(n), &route("a"), 1, 0, &noise(n, 4000)).expect("fits")).collect();
    spool.sync(at(FLUSHES)).expect("syncs");
    let (written, syncs) = (spool.storage.written, spool.storage.syncs);
    for (n, number) in (FLUSHES..).zip(numbers) {
        spool.done(number);
        spool.sync(at(n)).expect("syncs");
    }
    let (written, syncs) = (spool.storage.written - written, spool.storage.syncs - syncs);
    assert!(written <= 2 * 4096 * FLUSHES && syncs <= 2 * FLUSHES, "{written} bytes, {syncs} flushes");
}

#[test]
fn a_full_buffer_drops_the_oldest_and_says_so_exactly() {
    let (mut spool, _) = open(Sim::default());
    let payload = noise(1, 4000);
    for n in 0..1000u64 {
        let source = if n % 3 == 0 { "a" } else { "b" };
        spool.append(at(n), &route(source), 1, n as i64, &payload).expect("fits");
        conserved(&spool);
    }
    spool.sync(at(1001)).expect("syncs");
    assert!(spool.storage.bytes_max <= MAX_SIZE_MIN);
    let entries = all(&mut spool);
    let mut named = 0;
    for entry in &entries {
        if let Body::Gap(gap) = &entry.body {
            assert_eq!(gap.messages, gap.last - gap.first + 1);
            assert_eq!(gap.reason, GapReason::BufferFull);
            named += gap.messages;
        }
    }
    let stats = spool.stats();
    assert_eq!(named, stats.dropped);
    assert!(stats.dropped > 500, "{stats:?}");
    conserved(&spool);
}

#[test]
fn drop_newest_refuses_and_goes_on_when_there_is_room() {
    let options = Options { when_full: WhenFull::DropNewest, ..options() };
    let (mut spool, _) = Spool::open(Sim::default(), options, *b"ABCD", at(0)).expect("opens");
    let payload = noise(1, 4000);
    for n in 0..1000u64 {
        spool.append(at(n * 10), &route("a"), 1, 0, &payload).expect("fits");
        spool.sync(at(n * 10)).expect("state goes on");
        conserved(&spool);
    }
    let stats = spool.stats();
    assert!(stats.dropped > 500 && stats.buffered > 50, "{stats:?}");
    for number in 1..=stats.buffered {
        spool.done(number);
    }
    spool.sync(at(20_000)).expect("syncs");
    let number = spool.append(at(30_000), &route("a"), 1, 0, &payload).expect("fits");
    spool.sync(at(30_001)).expect("syncs");
    let entries = all(&mut spool);
    assert_eq!(entries.first().map(|entry| entry.first), Some(number), "{:?}", spool.stats());
    let gap = entries.iter().find_map(|entry| match &entry.body {
        Body::Gap(gap) => Some(gap.clone()),
        Body::Record { .. } => None,
    });
    assert_eq!(gap.map(|gap| gap.messages), Some(stats.dropped));
    assert!(spool.storage.bytes_max <= MAX_SIZE_MIN);
}

#[test]
fn what_is_in_flight_is_pinned() {
    let (mut spool, _) = open(Sim::default());
    let payload = noise(1, 4000);
    for n in 0..5 {
        let number = spool.append(at(n), &route("a"), 1, 0, &payload).expect("fits");
        spool.sent(number);
    }
    for n in 5..1000u64 {
        spool.append(at(n), &route("a"), 1, 0, &payload).expect("fits");
        conserved(&spool);
    }
    let entries = all(&mut spool);
    let firsts: Vec<u64> = entries.iter().take(5).map(|entry| entry.first).collect();
    assert_eq!(firsts, [1, 2, 3, 4, 5]);
}

#[test]
fn sparse_segments_are_packed_before_anything_is_dropped() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let options = Options { when_full, ..options() };
        let (mut spool, _) = Spool::open(Sim::default(), options, *b"ABCD", at(0)).expect("opens");
        for n in 0..4000u64 {
            spool.append(at(n * 1000), &route("a"), 1, n as i64, &noise(n, 200)).expect("fits");
            spool.sync(at(n * 1000)).expect("syncs");
            if spool.stats().dropped > 0 {
                break;
            }
            conserved(&spool);
        }
        // A page a record would be 150 records; densely written they are 232 bytes each.
        let kept = spool.stats().buffered;
        assert!(kept > 1400, "{when_full:?}: {kept}");
        let entries = all(&mut spool);
        assert_eq!(entries.len() as u64, kept);
        assert!(entries.windows(2).all(|pair| pair[0].first < pair[1].first));
        let (mut after, opened) = open(spool.storage.after_cut(Survival::None, 1));
        assert_eq!(opened.lost_messages, 0);
        assert!(all(&mut after).len() as u64 + 200 > kept);
    }
}

#[test]
fn what_compresses_is_compressed_and_comes_back() {
    let (mut spool, _) = open(Sim::default());
    let texts: Vec<Vec<u8>> = (0..200u32)
        .map(|n| match n % 3 {
            0 => format!("{{\"values\":{}}}", "{\"flow\":12.5,\"pump\":true},".repeat(n as usize)).into_bytes(),
            1 => (0..n * 7).map(|byte| (byte.wrapping_mul(2_654_435_761) >> 13) as u8).collect(),
            _ => vec![0; n as usize],
        })
        .collect();
    for text in &texts {
        spool.append(at(1), &route("a"), 1, 0, text).expect("fits");
    }
    spool.sync(at(2)).expect("syncs");
    let written = spool.active.as_ref().map_or(0, |active| active.header.number * 65_536 + u64::from(active.used()));
    let bytes: usize = texts.iter().map(Vec::len).sum();
    assert!(written < bytes as u64 / 2, "{written} of {bytes}");
    let (mut spool, _) = open(spool.storage.after_cut(Survival::None, 1));
    for (entry, text) in all(&mut spool).iter().zip(&texts) {
        assert!(matches!(&entry.body, Body::Record { payload, .. } if **payload == **text));
    }
    conserved(&spool);
}

/// R8: a state of the new session, written and not flushed, may be what a power cut leaves, and its lease is a smaller one.
#[test]
fn a_new_session_sends_nothing_under_the_lease_of_the_old_one() {
    let (mut spool, _) = open(Sim::default());
    for n in 0..100 {
        spool.append(at(n), &route("a"), 1, 0, b"x").expect("fits");
    }
    spool.connected();
    spool.sync(at(100)).expect("syncs");
    assert!(spool.sendable() > 1);
    spool.sent(1);
    spool.new_session();
    assert_eq!(spool.sendable(), 1);
    spool.flush_state(at(101)).expect("writes");
    assert_eq!(spool.sendable(), 1, "written is not durable");
    spool.sync(at(102)).expect("syncs");
    assert!(spool.sendable() > 1);
}

/// R8: what may have been sent is pinned. A life that ends before it has sent anything adds nothing to it.
#[test]
fn one_crash_after_another_pins_no_more() {
    let (mut spool, _) = open(Sim::default());
    for n in 0..400 {
        spool.append(at(n), &route("a"), 1, 0, &noise(n, 1500)).expect("fits");
    }
    let mut most = 0;
    for life in 0..20 {
        spool.connected();
        spool.sync(at(500)).expect("syncs");
        let mut entries = Vec::new();
        let next = spool.read(0, 3000, &mut entries).expect("reads");
        spool.pin(next);
        spool.sync(at(501)).expect("syncs");
        let sendable = spool.sendable();
        assert!((2..100).contains(&sendable), "life {life}: {sendable}");
        most = if life == 0 { sendable } else { most };
        assert_eq!(sendable, most, "life {life}");
        (spool, _) = open(spool.storage.after_cut(Survival::None, life));
    }
    // It goes on from there all the same.
    spool.connected();
    let (mut at_number, mut sent) = (0, 0);
    while sent < 200 {
        let mut entries = Vec::new();
        at_number = spool.read(at_number, 3000, &mut entries).expect("reads");
        spool.pin(at_number);
        for entry in entries {
            if entry.first >= spool.sendable() {
                spool.sync(at(600)).expect("syncs");
            }
            assert!(entry.first < spool.sendable(), "{}", entry.first);
            spool.sent(entry.first);
            spool.done(entry.first);
            sent += 1;
        }
    }
}

/// R8: sending goes on under the durable lease while a younger state is written; that state may be the one that is left.
#[test]
fn a_lease_never_falls_below_the_durable_one() {
    let small = Options { segment_size: Some(32 << 10), ..options() };
    let open = |sim| Spool::open(sim, small.clone(), *b"ABCD", at(0)).expect("opens").0;
    let mut spool = open(Sim::default());
    for n in 0..1600 {
        // The lease is bounded in bytes: it is a long one where the messages are small, and a short one behind them.
        let payload = noise(n, if n < 600 { 1 } else { 200 });
        spool.append(at(n), &route("a"), 1, 0, &payload).expect("fits");
    }
    spool.connected();
    spool.sync(at(1)).expect("syncs");
    let lease = spool.sendable();
    assert!(lease < 1600, "all of it exists: {lease}");
    spool.sent_all(1..611);
    spool.done_all(1..611);
    assert!(611 + spool.lease_ahead() < lease, "it would fall");
    spool.flush_state(at(2)).expect("writes");
    spool.sent_all(611..lease);
    let killed = open(spool.storage.after_cut(Survival::All, 1));
    assert!(killed.delivery().sent_below() >= lease, "{} of {lease}", killed.delivery().sent_below());
}

/// A flush that is asked for with half of the lease used up lets sending go on; one that brings nothing is not asked for.
#[test]
fn a_flush_is_wanted_before_the_lease_is_used_up() {
    let (mut spool, _) =
        Spool::open(Sim::default(), Options { max_size: 64 << 20, ..options() }, *b"ABCD", at(0)).expect("opens");
    for n in 0..20_000 {
        spool.append(at(n), &route("a"), 1, 0, b"x").expect("fits");
    }
    assert!(!spool.wants_sync(), "nobody is there to send to");
    spool.connected();
    spool.sync(at(1)).expect("syncs");
    let first = spool.sendable();
    let (mut flushes, mut number) = (0, 1);
    while number < 20_000 {
        assert!(number < spool.sendable(), "{number} has to wait");
        spool.sent_all(number..number + 100);
        spool.done_all(number..number + 100);
        number += 100;
        if spool.wants_sync() {
            spool.sync(at(2)).expect("syncs");
            assert!(!spool.wants_sync(), "one is enough");
            flushes += 1;
        }
    }
    assert!(first > 10_000 && flushes <= 2, "{flushes} flushes, {first}");
    // Nothing is done any more: the window of identifiers stands still (R5), and flushes are of no use.
    for n in 0..40_000 {
        spool.append(at(n), &route("a"), 1, 0, b"x").expect("fits");
    }
    spool.sync(at(3)).expect("syncs");
    while number < spool.sendable() {
        let to = spool.sendable().min(number + 1000);
        spool.sent_all(number..to);
        number = to;
        spool.sync(at(4)).expect("syncs");
    }
    assert!(number - spool.delivery().done_below() == WINDOW && !spool.wants_sync(), "{number}");
}

/// What was read shares the blocks that it stands in: a read of records with a page each is a short one.
#[test]
fn a_read_holds_little_more_than_was_asked_for() {
    let larger = Options { max_size: 64 << 20, ..options() };
    let (mut spool, _) = Spool::open(Sim::default(), larger, *b"ABCD", at(0)).expect("opens");
    for n in 0..1000u64 {
        spool.append(at(n), &route("a"), 1, 0, &n.to_le_bytes()).expect("fits");
        spool.sync(at(n)).expect("syncs");
    }
    let (mut next, mut entries) = (0, Vec::new());
    while next < spool.end() {
        let before = entries.len();
        next = spool.read(next, 256 << 10, &mut entries).expect("reads");
        let pages = entries.len() - before;
        assert!((1..=(512 + 128) / 4).contains(&pages), "{pages} pages are held by one read");
    }
    let all: Vec<u64> = (0..1000).collect();
    let of = |entry: &Entry| match &entry.body {
        Body::Record { payload, .. } => payload.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)),
        Body::Gap(_) => None,
    };
    assert_eq!(entries.iter().filter_map(of).collect::<Vec<_>>(), all);
}

/// What was taken long ago and is acknowledged makes nothing old, also in the segment that is gone on with.
#[test]
fn the_oldest_is_the_oldest_that_waits() {
    let (mut spool, _) = open(Sim::default());
    for second in 0..100 {
        spool.append(at(second), &route("a"), 1, second as i64, b"reading").expect("fits");
    }
    spool.done_all(1..91);
    spool.sync(at(100)).expect("flushes");
    assert_eq!(spool.stats().oldest_ns, Some(90));
    let (mut spool, _) = open(spool.close(at(100)).expect("closes"));
    assert_eq!(spool.stats().oldest_ns, Some(90));
    spool.append(at(1), &route("a"), 1, 200, b"reading").expect("fits");
    spool.done_all(91..101);
    assert_eq!(spool.stats().oldest_ns, Some(200));
}
