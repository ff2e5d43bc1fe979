//! A flush that is made elsewhere: what goes on meanwhile is not durable with it, and nothing is promised too early.

use super::model::read_all;
use super::sim::{Sim, SimFlush, Survival, Trouble};
use super::{at, noise, options, route};
use crate::spool::sabotage::{self, Fault};
use crate::spool::*;

fn opened(sim: Sim, options: &Options) -> Spool<Sim> {
    Spool::open(sim, options.clone(), *b"ABCD", at(0)).expect("opens").0
}

fn append(spool: &mut Spool<Sim>, count: u64, size: usize) {
    for n in 0..count {
        spool.append(at(1), &route("a"), 1, 0, &noise(n, size)).expect("fits");
    }
}

fn begun(spool: &mut Spool<Sim>, ms: u64) -> SimFlush {
    spool.begin_sync(at(ms)).expect("writes").expect("something to flush")
}

/// Numbers that are there after a power cut that leaves nothing which was not flushed.
fn left(spool: &Spool<Sim>) -> usize {
    let sim = spool.storage.after_cut(Survival::None, 1);
    read_all(&mut opened(sim, &options())).len()
}

#[test]
fn it_makes_durable_what_was_written_before_it_and_nothing_else() {
    let mut spool = opened(Sim::default(), &options());
    append(&mut spool, 3, 100);
    let flush = begun(&mut spool, 1);
    assert_eq!((spool.durable(), left(&spool)), (1, 0), "it is only begun");
    append(&mut spool, 2, 100);
    assert_eq!(read_all(&mut spool).len(), 5, "what is being flushed is read as ever");
    spool.end_sync(at(2), flush).expect("flushes");
    assert_eq!((spool.durable(), left(&spool)), (4, 3));
    assert_eq!(read_all(&mut spool).len(), 5);
    let flush = begun(&mut spool, 3);
    spool.end_sync(at(3), flush).expect("flushes");
    assert_eq!((spool.durable(), left(&spool)), (6, 5));
    assert!(spool.begin_sync(at(4)).expect("nothing fails").is_none(), "all of it is durable");
}

#[test]
fn who_waits_is_known_until_it_is_made() {
    let mut spool = opened(Sim::default(), &options());
    append(&mut spool, 1, 100);
    let flush = begun(&mut spool, 5);
    assert_eq!(spool.unsynced_since(), Some(at(1).mono), "not durable yet");
    assert!(spool.begin_sync(at(6)).expect("nothing fails").is_none(), "one at a time");
    spool.append(at(7), &route("a"), 1, 0, b"later").expect("fits");
    spool.end_sync(at(8), flush).expect("flushes");
    assert_eq!(spool.unsynced_since(), Some(at(7).mono), "what came meanwhile waits for the next one");
    let flush = begun(&mut spool, 9);
    spool.sync(at(9)).expect("flushes, and waits for it");
    assert_eq!((spool.unsynced_since(), left(&spool)), (None, 2));
    spool.end_sync(at(10), flush).expect("changes nothing any more");
    assert_eq!((spool.unsynced_since(), spool.durable()), (None, 3));
}

#[test]
fn one_that_fails_is_never_trusted() {
    let mut spool = opened(Sim::default(), &options());
    append(&mut spool, 3, 100);
    let flush = begun(&mut spool, 1);
    append(&mut spool, 2, 100);
    spool.storage.trouble = Trouble { sync_fails_in: Some(0), ..Trouble::default() };
    assert!(spool.end_sync(at(2), flush).is_err());
    assert_eq!((spool.durable(), spool.stats().state), (1, BufferState::Memory));
    assert!(spool.unsynced_since().is_some(), "somebody still waits");
    spool.sync(at(60_000)).expect("another segment takes all of it");
    assert_eq!((spool.durable(), left(&spool)), (6, 5));
}

/// The disk fails otherwise while it is under way: that it went well says nothing any more.
#[test]
fn one_whose_segment_was_set_aside_makes_nothing_durable() {
    let mut spool = opened(Sim::default(), &options());
    append(&mut spool, 3, 100);
    let flush = begun(&mut spool, 1);
    spool.storage.trouble = Trouble { write_fails_in: Some(0), ..Trouble::default() };
    append(&mut spool, 1, 100);
    assert_eq!(spool.stats().state, BufferState::Memory);
    assert!(spool.end_sync(at(2), flush).is_err(), "its outcome counts no more");
    assert_eq!(spool.durable(), 1);
    assert!(spool.unsynced_since().is_some());
}

/// A backlog of small messages, and behind them large ones: fewer of these may be sent ahead.
fn mixed() -> Spool<Sim> {
    let mut spool = opened(Sim::default(), &Options { max_size: 1 << 20, segment_size: Some(32 << 10), ..options() });
    append(&mut spool, 1500, 20);
    append(&mut spool, 57, 4000);
    spool.connected();
    spool.sync(at(2)).expect("flushes");
    spool
}

/// What may be sent now is below what a kill at this moment would know of.
fn promised_and_known(spool: &Spool<Sim>) -> (u64, u64) {
    let sim = spool.storage.after_cut(Survival::All, 1);
    let again = opened(sim, &Options { max_size: 1 << 20, segment_size: Some(32 << 10), ..options() });
    (spool.sendable().min(spool.end()), again.delivery().sent_below())
}

/// R8: a state that is written meanwhile may be the one that a crash leaves, and knows of all that may be sent.
#[test]
fn what_it_allows_to_be_sent_is_in_every_later_state() {
    let told = |fault: Option<Fault>| {
        sabotage::set(fault);
        let mut spool = mixed();
        spool.sent_all(1..1400);
        let flush = begun(&mut spool, 3);
        spool.sent_all(1400..1502);
        spool.done_all(1..1502);
        spool.flush_state(at(4)).expect("writes");
        spool.end_sync(at(5), flush).expect("flushes");
        let told = promised_and_known(&spool);
        sabotage::set(None);
        told
    };
    let (promised, known) = told(None);
    assert!(known >= promised, "{promised} promised, {known} known");
    let (promised, known) = told(Some(Fault::FlushForgotten));
    assert!(known < promised, "{promised} promised, {known} known");
}

/// R7: a session that begins meanwhile is allowed nothing by it; its own beginning is durable first.
#[test]
fn one_of_an_earlier_session_allows_nothing() {
    let sendable = |fault: Option<Fault>| {
        sabotage::set(fault);
        let mut spool = mixed();
        spool.sent_all(1..1400);
        let flush = begun(&mut spool, 3);
        spool.new_session();
        spool.end_sync(at(5), flush).expect("flushes");
        sabotage::set(None);
        let before = spool.sendable();
        spool.sync(at(6)).expect("flushes");
        (before, spool.sendable() > 1)
    };
    assert_eq!(sendable(None), (1, true));
    let (before, _) = sendable(Some(Fault::FlushOfOldSession));
    assert!(before > 1, "{before}");
}
