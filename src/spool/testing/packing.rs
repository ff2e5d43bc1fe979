//! Packing: how long a small source keeps for it, and how little of it is done at once.

use super::model::read_all;
use super::sim::Sim;
use super::{at, noise, options, route};
use crate::spool::*;

const SECOND_MS: u64 = 1000;
/// An eighth of the default buffer, so that the test is short: small segments lose more to their ends, so what holds here
/// holds there.
const PART: u64 = 8;
const MAX_SIZE: u64 = (512 << 20) / PART;
const DAYS: u64 = 20;
/// Bytes of a reading.
const READING: usize = 200;

/// A record a second, each durable by itself, until something is dropped if `stops`; gives when that was, and the most
/// bytes that were read and written for one of them.
fn seconds(spool: &mut Spool<Sim>, from: u64, to: u64, stops: bool) -> (Option<u64>, u64) {
    let mut most = 0;
    for second in from..to {
        let moved = |spool: &Spool<Sim>| spool.storage.read + spool.storage.written;
        let before = moved(spool);
        let now = at(second * SECOND_MS);
        spool.append(now, &route("a"), 1, second as i64, &noise(second, READING)).expect("fits");
        spool.sync(now).expect("syncs");
        most = most.max(moved(spool) - before);
        if stops && spool.stats().dropped > 0 {
            return (Some(second), most);
        }
    }
    (None, most)
}

/// One source at 1 s with 200 B keeps at least 20 days in 512 MiB, and no flush does much more than the others: neither
/// until then nor when it is full.
#[test]
fn a_small_source_keeps_for_weeks() {
    let options = Options { max_size: MAX_SIZE, ..options() };
    let (mut spool, _) = Spool::open(Sim::default(), options, *b"ABCD", at(0)).expect("opens");
    let promised = DAYS * 24 * 3600 / PART;
    let (dropped, most) = seconds(&mut spool, 0, promised, true);
    assert_eq!(dropped, None, "dropped at {promised} s");
    let (dropped, filling) = seconds(&mut spool, promised, 2 * promised, true);
    let dropped = dropped.expect("it is full at last");
    // Packed ones fill a few times, and the oldest go.
    let (_, full) = seconds(&mut spool, dropped + 1, dropped + 10_000, false);
    let days = (dropped * PART) as f64 / (24.0 * 3600.0);
    println!("{days:.1} days in 512 MiB; bytes read and written for one record at the most: {most}, {filling}, {full}");
    // A packing reads several segments.
    assert!(most.max(filling).max(full) < MAX_SIZE / 128, "{most}, {filling}, {full} bytes at once");
    let stats = spool.stats();
    assert_eq!(stats.accepted, stats.delivered + stats.buffered + stats.dropped);
    assert!(stats.dropped > 5000, "{stats:?}");
}

/// What is acknowledged while its segment is being packed, and what is dropped, is not there again.
#[test]
fn what_goes_while_it_is_packed_stays_away() {
    for seed in 0..40 {
        let (mut spool, _) = Spool::open(Sim::default(), options(), *b"ABCD", at(0)).expect("opens");
        let (mut second, mut under_way) = (0, 0);
        // Before it is full of what is packed already: then there is only little to pack, at once.
        while under_way < 5 && spool.stats().dropped == 0 {
            seconds(&mut spool, second, second + 1, false);
            second += 1;
            if spool.packing.is_none() || (second + seed) % 3 == 0 {
                continue;
            }
            under_way += 1;
            let from = spool.delivery().done_below();
            for number in (from..from + 20 + seed).filter(|number| number % 5 != under_way) {
                spool.done(number);
            }
        }
        assert!(under_way > 0, "nothing was packed");
        let kept = spool.stats();
        let numbers: Vec<u64> = read_all(&mut spool).iter().map(|entry| entry.first).collect();
        assert_eq!(numbers.len() as u64, kept.buffered, "{kept:?}");
        assert!(numbers.iter().all(|number| !spool.delivery().is_done(*number)));
        let (mut spool, opened) = Spool::open(spool.storage, options(), *b"ABCD", at(0)).expect("opens");
        assert_eq!((opened.damage.len(), opened.lost_messages, opened.trouble), (0, 0, None));
        assert!(read_all(&mut spool).len() >= numbers.len());
    }
}
