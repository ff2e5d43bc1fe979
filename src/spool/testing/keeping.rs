//! What goes by age and by a lowered limit, and what a folder is refused for.

use std::time::Duration;

use super::model::read_all;
use super::sim::{Sim, Survival};
use super::{at, noise, options, route};
use crate::spool::*;

const HOUR_MS: u64 = 3_600_000;
const YEAR_NS: i64 = 365 * 24 * 3_600_000_000_000;

fn aged() -> Options {
    Options { max_age: Some(Duration::from_secs(24 * 3600)), ..options() }
}

fn open(sim: Sim, now: Now) -> Spool<Sim> {
    Spool::open(sim, aged(), *b"ABCD", now).expect("opens").0
}

/// A record an hour.
fn hours(spool: &mut Spool<Sim>, from: u64, to: u64) {
    for hour in from..to {
        spool.append(at(hour * HOUR_MS), &route("a"), 1, hour as i64, b"x").expect("fits");
        spool.retain(at(hour * HOUR_MS)).expect("retains");
        spool.sync(at(hour * HOUR_MS)).expect("syncs");
    }
}

#[test]
fn what_is_too_old_goes_with_a_gap() {
    let mut spool = open(Sim::default(), at(0));
    hours(&mut spool, 0, 60);
    let stats = spool.stats();
    assert!(stats.dropped >= 30, "{stats:?}");
    assert_eq!(stats.accepted, stats.delivered + stats.buffered + stats.dropped);
    let entries = read_all(&mut spool);
    let records = entries.iter().filter(|entry| matches!(entry.body, Body::Record { .. })).count();
    assert!((24..=30).contains(&records), "{records} {stats:?}");
    let gaps: Vec<Gap> = entries
        .into_iter()
        .filter_map(|entry| match entry.body {
            Body::Gap(gap) => Some(gap),
            Body::Record { .. } => None,
        })
        .collect();
    assert!(gaps.iter().all(|gap| gap.reason == GapReason::Expired && gap.from_ns.is_some()), "{gaps:?}");
}

#[test]
fn setting_the_clock_expires_nothing() {
    let mut spool = open(Sim::default(), at(0));
    hours(&mut spool, 0, 10);
    // The clock is set while the agent runs: a year forward.
    let later = Now { wall_ns: at(0).wall_ns + YEAR_NS, ..at(11 * HOUR_MS) };
    spool.retain(later).expect("retains");
    spool.sync(later).expect("syncs");
    assert_eq!(spool.stats().dropped, 0);
    // Between boots: one side was never set, or it went back.
    for (wall_ns, synced) in [(later.wall_ns + YEAR_NS, false), (0, true), (0, false)] {
        let now = Now { mono: Duration::ZERO, wall_ns, synced };
        let sim = spool.storage.after_cut(Survival::All, 1);
        spool = open(sim, now);
        let now = Now { mono: Duration::from_secs(1), ..now };
        spool.retain(now).expect("retains");
        assert_eq!(spool.stats().dropped, 0, "{now:?}");
        spool.sync(now).expect("syncs");
    }
}

#[test]
fn time_between_boots_counts_where_both_clocks_can_be_believed() {
    let mut spool = open(Sim::default(), at(0));
    hours(&mut spool, 0, 10);
    let now = Now { mono: Duration::ZERO, ..at(50 * HOUR_MS) };
    let mut spool = open(spool.close(at(10 * HOUR_MS)).expect("closes"), now);
    spool.append(now, &route("a"), 1, 0, b"new").expect("fits");
    spool.retain(now).expect("retains");
    let now = Now { mono: Duration::from_secs(1), ..now };
    spool.retain(now).expect("retains");
    let stats = spool.stats();
    assert!(stats.dropped >= 9 && stats.buffered >= 1, "{stats:?}");
}

/// Gives one file's header a version that is not known yet; gives its name.
pub(super) fn make_newer(sim: &mut Sim) -> String {
    let name =
        sim.names().into_iter().find(|name| sim.content(name).is_some_and(|bytes| bytes[0] == b'O')).expect("one");
    let mut page = sim.content(&name).expect("there")[..4096].to_vec();
    page[8] = 2;
    let crc = crc32c::crc32c(&page[..508]).to_le_bytes();
    page[508..512].copy_from_slice(&crc);
    sim.write(&name, 0, &page).expect("writes");
    name
}

#[test]
fn a_newer_version_is_refused_and_left_untouched() {
    let (mut spool, _) = Spool::open(Sim::default(), options(), *b"ABCD", at(0)).expect("opens");
    spool.append(at(1), &route("a"), 1, 0, b"x").expect("fits");
    let mut sim = spool.close(at(2)).expect("closes");
    let name = make_newer(&mut sim);
    sim.off_at = Some(sim.operations);
    let error = Spool::open(sim, options(), *b"ABCD", at(0)).expect_err("is refused");
    assert_eq!(error, OpenError::NewerVersion { file: name, version: 2, supported: 1 });
    let small = Options { max_size: 1000, ..options() };
    assert!(matches!(Spool::open(Sim::default(), small, *b"ABCD", at(0)), Err(OpenError::TooSmall { .. })));
}

#[test]
fn a_lowered_limit_holds_at_once() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let large = Options { max_size: 32 << 20, when_full, ..options() };
        let (mut spool, _) = Spool::open(Sim::default(), large, *b"ABCD", at(0)).expect("opens");
        for n in 0..3000 {
            spool.append(at(1), &route("a"), 1, 0, &noise(n, 3000)).expect("fits");
        }
        let sim = spool.close(at(2)).expect("closes");
        let small = Options { when_full, ..options() };
        let (mut spool, opened) = Spool::open(sim, small.clone(), *b"ABCD", at(0)).expect("opens");
        let stats = spool.stats();
        assert_eq!((opened.trouble, opened.lost_messages), (None, 0));
        assert!(stats.bytes <= MAX_SIZE_MIN, "{stats:?}");
        assert_eq!(stats.accepted, stats.delivered + stats.buffered + stats.dropped);
        let number = spool.append(at(3), &route("a"), 1, 0, b"new").expect("fits");
        spool.sync(at(4)).expect("syncs");
        let (mut spool, _) = Spool::open(spool.storage, small, *b"ABCD", at(0)).expect("opens");
        assert!(read_all(&mut spool).iter().any(|entry| entry.first == number));
    }
}

#[test]
fn damage_behind_the_last_state_is_told() {
    let (mut spool, _) = Spool::open(Sim::default(), options(), *b"ABCD", at(0)).expect("opens");
    for n in 0..3 {
        let number = spool.append(at(n), &route("a"), 1, 0, b"x").expect("fits");
        spool.released(number);
        spool.sync(at(n)).expect("syncs");
    }
    // A record alone: evidence that what stands before it was durable.
    let place = spool.active.as_ref().map_or(0, |active| active.used() - 4096 + 200);
    let name = spool.active.as_ref().map(|active| active.slot.name()).expect("open");
    spool.append(at(9), &route("a"), 1, 0, b"x").expect("fits");
    spool.storage.sync(&name).expect("syncs");
    let mut sim = spool.storage;
    sim.flip(&name, place as usize, 3);
    let (spool, opened) = Spool::open(sim, options(), *b"ABCD", at(0)).expect("opens");
    assert!(opened.state_lost && spool.delivery().clean() && opened.damage.len() == 1, "{opened:?}");
}

#[test]
fn a_buffer_that_is_full_for_hundreds_of_boots_goes_on() {
    let mut sim = Sim::default();
    for boot in 0..500 {
        let options = Options { seed: boot, ..options() };
        let (mut spool, opened) = Spool::open(sim, options, *b"ABCD", at(0)).expect("opens");
        assert_eq!(opened.trouble, None, "boot {boot}");
        for n in 0..40 {
            spool.append(at(n), &route("a"), 1, 0, &noise(n, 3000)).expect("fits");
        }
        spool.sync(at(50)).expect("syncs");
        let stats = spool.stats();
        assert_eq!(stats.accepted, stats.delivered + stats.buffered + stats.dropped, "boot {boot}: {stats:?}");
        assert_eq!(stats.state, BufferState::Ok);
        let records = read_all(&mut spool).iter().filter(|entry| matches!(entry.body, Body::Record { .. })).count();
        assert!(boot < 10 || records > 100, "boot {boot}: {records} records");
        assert!(boot < 400 || stats.gaps_refused > 0, "{stats:?}");
        sim = spool.storage.after_cut(Survival::None, boot);
    }
}

#[test]
fn other_limits_hold_while_it_works() {
    let large = Options { max_size: 512 << 20, ..options() };
    let (mut spool, _) = Spool::open(Sim::default(), large, *b"ABCD", at(0)).expect("opens");
    let conserved = |spool: &Spool<Sim>| {
        let stats = spool.stats();
        assert_eq!(stats.accepted, stats.delivered + stats.buffered + stats.dropped, "{stats:?}");
        stats
    };
    let mut number = 0;
    for (max_size, kept) in [(1 << 20, 100), (8 << 20, 1500), (2 << 20, 300), (64 << 20, 2500)] {
        for n in 0..3000 {
            number = spool.append(at(1), &route("a"), 1, 0, &noise(n, 3000)).expect("fits");
        }
        let limits = Limits { max_size, max_age: None, when_full: WhenFull::DropOldest };
        spool.set_limits(at(2), limits).expect("holds");
        assert!(conserved(&spool).bytes <= max_size, "{max_size}: {:?}", spool.stats());
        for n in 0..3000 {
            number = spool.append(at(3), &route("a"), 1, 0, &noise(n, 3000)).expect("fits");
        }
        spool.sync(at(4)).expect("syncs");
        let stats = conserved(&spool);
        assert!(stats.bytes <= max_size && stats.buffered > kept, "{max_size}: {stats:?}");
        assert!(read_all(&mut spool).iter().any(|entry| entry.first == number));
    }
    let (mut spool, opened) = Spool::open(spool.storage, options(), *b"ABCD", at(0)).expect("opens");
    assert_eq!(opened.lost_messages, 0);
    assert!(read_all(&mut spool).iter().any(|entry| entry.first == number));
}
