//! A disk that is full, read-only or failing: the spool goes on in memory, says so, and comes back by itself.

use super::model::read_all;
use super::sim::{Sim, Survival, Trouble};
use super::{at, noise, options, route};
use crate::spool::*;

fn small() -> Options {
    Options { memory_max: 20_000, ..options() }
}

fn broken() -> Vec<Trouble> {
    vec![
        Trouble { read_only: true, ..Trouble::default() },
        Trouble { capacity: Some(0), ..Trouble::default() },
        Trouble { sync_fails_in: Some(0), ..Trouble::default() },
        Trouble { write_fails_in: Some(0), ..Trouble::default() },
    ]
}

fn conserved(spool: &Spool<Sim>) -> Stats {
    let stats = spool.stats();
    assert_eq!(stats.accepted, stats.delivered + stats.buffered + stats.dropped, "{stats:?}");
    assert!(stats.bytes <= stats.max_bytes);
    stats
}

#[test]
fn a_disk_that_refuses_the_first_page_refuses_no_start() {
    for trouble in broken() {
        let sim = Sim::with(trouble.clone());
        let (mut spool, opened) = Spool::open(sim, small(), *b"ABCD", at(0)).expect("opens");
        assert!(opened.trouble.is_some(), "{trouble:?}");
        assert_eq!((spool.store(), spool.boot(), spool.stats().state), (*b"ABCD", 1, BufferState::Memory));
        for n in 0..10u8 {
            assert_eq!(spool.append(at(10), &route("a"), 1, 0, &[n]), Ok(u64::from(n) + 1));
        }
        assert_eq!(read_all(&mut spool).len(), 10);
        spool.storage.trouble = Trouble::default();
        assert!(spool.sync(at(500)).is_err(), "it is not tried again at once");
        spool.sync(at(2000)).expect("back by itself");
        assert_eq!((conserved(&spool).state, spool.durable()), (BufferState::Ok, 11));
        let (mut spool, opened) =
            Spool::open(spool.storage.after_cut(Survival::None, 1), small(), *b"WXYZ", at(0)).expect("opens");
        assert_eq!((opened.trouble, opened.lost_messages, spool.boot()), (None, 0, 2));
        assert_eq!(read_all(&mut spool).len(), 10);
    }
}

#[test]
fn a_start_on_a_read_only_disk_takes_a_store_of_its_own_and_keeps_the_backlog() {
    let (mut spool, _) = Spool::open(Sim::default(), small(), *b"ABCD", at(0)).expect("opens");
    for n in 0..10u8 {
        spool.append(at(1), &route("a"), 1, 0, &[n]).expect("fits");
    }
    let mut sim = spool.close(at(2)).expect("closes");
    sim.trouble.read_only = true;
    let (mut spool, opened) = Spool::open(sim, small(), *b"WXYZ", at(0)).expect("opens");
    assert_eq!((opened.trouble.map(|error| error.kind), spool.store()), (Some(StorageErrorKind::ReadOnly), *b"WXYZ"));
    spool.append(at(1), &route("a"), 1, 0, b"new").expect("fits");
    let entries = read_all(&mut spool);
    let names: Vec<_> = entries.iter().map(|entry| (entry.store, entry.boot, entry.seq)).collect();
    assert_eq!(names[9..], [(*b"ABCD", 1, 10), (*b"WXYZ", 2, 1)]);
    spool.storage.trouble = Trouble::default();
    spool.sync(at(60_000)).expect("back by itself");
    let sim = spool.storage.after_cut(Survival::None, 1);
    let (mut spool, opened) = Spool::open(sim, small(), *b"QQQQ", at(0)).expect("opens");
    assert_eq!((opened.lost_messages, spool.store(), spool.boot()), (0, *b"WXYZ", 3));
    assert_eq!(read_all(&mut spool), entries);
}

#[test]
fn what_does_not_fit_into_memory_is_dropped_and_named() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let options = Options { when_full, ..small() };
        let (mut spool, _) = Spool::open(Sim::default(), options, *b"ABCD", at(0)).expect("opens");
        for _ in 0..5 {
            spool.append(at(1), &route("disk"), 1, 0, &[0; 100]).expect("fits");
        }
        spool.sync(at(2)).expect("syncs");
        spool.storage.trouble.read_only = true;
        for n in 0..100 {
            spool.append(at(10 + n), &route("memory"), 1, n as i64, &noise(n, 1000)).expect("fits");
            let stats = conserved(&spool);
            assert!(spool.pending.bytes() <= 20_000 && stats.state == BufferState::Memory);
        }
        let held = conserved(&spool);
        assert!(held.dropped > 75 && held.buffered > 15, "{held:?}");
        spool.storage.trouble.read_only = false;
        spool.sync(at(60_000)).expect("back by itself");
        spool.append(at(60_001), &route("memory"), 1, 0, b"after").expect("fits");
        spool.sync(at(60_002)).expect("syncs");
        let sim = spool.storage.after_cut(Survival::None, 1);
        let (mut spool, opened) = Spool::open(sim, small(), *b"WXYZ", at(0)).expect("opens");
        assert_eq!((opened.lost_messages, spool.store()), (0, *b"ABCD"));
        let entries = read_all(&mut spool);
        let gaps: Vec<Gap> = entries
            .iter()
            .filter_map(|entry| match &entry.body {
                Body::Gap(gap) => Some(gap.clone()),
                Body::Record { .. } => None,
            })
            .collect();
        assert_eq!(gaps.iter().map(|gap| gap.messages).sum::<u64>(), held.dropped, "{gaps:?}");
        assert!(gaps.iter().all(|gap| gap.reason == GapReason::BufferFull && gap.from_ns.is_some()));
        assert_eq!(gaps.len(), 1);
        let records = entries.len() - gaps.len();
        assert_eq!(records as u64, held.buffered + 1);
        conserved(&spool);
    }
}

#[test]
fn a_flush_that_failed_is_never_trusted() {
    let (mut spool, _) = Spool::open(Sim::default(), small(), *b"ABCD", at(0)).expect("opens");
    spool.append(at(1), &route("a"), 1, 0, b"durable").expect("fits");
    spool.sync(at(2)).expect("syncs");
    let first_file = spool.active.as_ref().map(|active| active.slot);
    spool.append(at(3), &route("a"), 1, 0, b"in doubt").expect("fits");
    spool.storage.trouble.sync_fails_in = Some(0);
    assert!(spool.sync(at(4)).is_err());
    assert_eq!((spool.durable(), spool.stats().state), (2, BufferState::Memory));
    spool.append(at(5), &route("a"), 1, 0, b"later").expect("fits");
    spool.sync(at(5000)).expect("written again");
    assert_ne!(spool.active.as_ref().map(|active| active.slot), first_file);
    let sim = spool.storage.after_cut(Survival::None, 1);
    let (mut spool, opened) = Spool::open(sim, small(), *b"WXYZ", at(0)).expect("opens");
    assert_eq!(opened.lost_messages, 0);
    let numbers: Vec<u64> = read_all(&mut spool).iter().map(|entry| entry.first).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn a_disk_filled_by_others_still_takes_acknowledgements_and_gaps() {
    let (mut spool, _) = Spool::open(Sim::default(), small(), *b"ABCD", at(0)).expect("opens");
    spool.storage.trouble.capacity = Some(0);
    for n in 0..400u64 {
        spool.append(at(n), &route("a"), 1, 0, &noise(n, 3000)).expect("fits");
        let stats = conserved(&spool);
        assert_eq!(stats.state, BufferState::Ok, "what is there already is used: {stats:?}");
    }
    spool.sync(at(500)).expect("gaps are written");
    assert!(conserved(&spool).dropped > 300);
    let entries = read_all(&mut spool);
    assert!(entries.iter().any(|entry| matches!(entry.body, Body::Gap(_))));
}

#[test]
fn what_is_sent_while_nothing_can_be_noted_may_be_doubled_and_is_counted() {
    let sim = Sim::with(Trouble { read_only: true, ..Trouble::default() });
    let (mut spool, _) = Spool::open(sim, small(), *b"ABCD", at(0)).expect("opens");
    for _ in 0..3 {
        let number = spool.append(at(1), &route("a"), 1, 0, b"x").expect("fits");
        assert!(number < spool.sendable());
        spool.sent(number);
        spool.done(number);
    }
    assert_eq!(spool.stats().maybe_duplicated, 3);
}

/// Full, with a record that was sent from memory at QoS 1 and is not acknowledged: no gap names it (R8).
fn full_with_one_handed_out() -> (Spool<Sim>, u64) {
    let options = Options { when_full: WhenFull::DropNewest, ..small() };
    let (mut spool, _) = Spool::open(Sim::default(), options, *b"ABCD", at(0)).expect("opens");
    spool.connected();
    for n in 0..1000 {
        spool.append(at(1), &route("disk"), 1, 0, &noise(n, 3000)).expect("fits");
    }
    spool.sync(at(2)).expect("syncs");
    assert!(spool.stats().dropped > 0, "it is full");
    spool.storage.trouble.sync_fails_in = Some(0);
    spool.released(1);
    assert!(spool.sync(at(3)).is_err());
    let number = spool.append(at(4), &route("memory"), 1, 0, b"handed out").expect("fits");
    spool.sent(number);
    spool.new_session();
    spool.append(at(5), &route("memory"), 1, 0, b"not handed out").expect("fits");
    spool.sync(at(60_000)).expect("the state is durable");
    let stats = conserved(&spool);
    assert_eq!((stats.state, spool.durable()), (BufferState::Memory, number), "it waits for room: {stats:?}");
    assert_eq!(spool.unsynced_since(), None, "all else is durable");
    (spool, number)
}

/// Whether a gap names this number of the first boot.
fn named(spool: &mut Spool<Sim>, number: u64) -> bool {
    let told = read_all(spool).into_iter().filter_map(|entry| match entry.body {
        Body::Gap(gap) => Some(gap),
        Body::Record { .. } => None,
    });
    let mut gaps: Vec<Gap> = told.collect();
    gaps.extend(spool.state.open_gaps.iter().cloned());
    gaps.iter().any(|gap| (gap.first..=gap.last).contains(&number))
}

#[test]
fn what_was_handed_out_and_finds_no_room_waits_for_its_acknowledgement() {
    let (mut spool, number) = full_with_one_handed_out();
    let mut entries = Vec::new();
    spool.read(number, 1, &mut entries).expect("reads");
    assert_eq!(entries.first().map(|entry| entry.first), Some(number));
    let refused = spool.append(at(60_001), &route("disk"), 1, 0, b"no room").expect("is numbered");
    assert!(spool.delivery().is_done(refused) && named(&mut spool, refused), "what is behind it is refused");
    assert!(!named(&mut spool, number));
    (1..number).for_each(|earlier| spool.sent(earlier));
    spool.sync(at(60_002)).expect("syncs");
    assert!(spool.sendable() > number, "in its turn it is sent again");
    spool.done(number);
    spool.sync(at(70_000)).expect("syncs");
    assert_eq!(conserved(&spool).state, BufferState::Ok);
    assert!(!named(&mut spool, number) && spool.pending.is_empty());
    spool.close(at(70_001)).expect("nothing waits");
}

#[test]
fn what_was_handed_out_goes_to_the_disk_when_there_is_room() {
    let (mut spool, number) = full_with_one_handed_out();
    for settled in 1..number - 100 {
        spool.done(settled);
    }
    spool.sync(at(70_000)).expect("room is made");
    spool.sync(at(80_000)).expect("and used");
    assert_eq!((conserved(&spool).state, spool.unsynced_since()), (BufferState::Ok, None));
    assert!(spool.durable() > number);
    let sim = spool.storage.after_cut(Survival::None, 1);
    let (mut spool, opened) = Spool::open(sim, small(), *b"WXYZ", at(0)).expect("opens");
    assert_eq!(opened.lost_messages, 0);
    assert!(!named(&mut spool, number));
    assert!(read_all(&mut spool).iter().any(|entry| entry.first == number), "it is there");
}

#[test]
fn a_close_says_that_something_finds_no_room() {
    let (spool, _) = full_with_one_handed_out();
    assert_eq!(spool.close(at(60_001)).err(), Some(Error::Full));
}
