//! Crash replay: a seeded workload, and a power cut at every storage operation of it, with every kind of survival,
//! and then again during the recovery. Tests only.
//!
//! ```text
//!   workload ──▶ Disk ──▶ Sim
//!                 │ before and after each operation
//!                 └─▶ Sim::after_cut ─▶ open, cut again somewhere ─▶ open ─▶ Model::check
//! ```
//!
//! `SPOOL_CRASH_POINTS` sets how many, `SPOOL_CRASH_SEED` where to begin; a failure names its seed.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use super::disk::{Disk, Shared};
use super::model::{Begun, Content, Model, messages, within};
use super::sim::{SURVIVALS, Sim, SimFlush, Survival, Trouble};
use super::{at, noise, one_in, pick, route, setting};
use crate::spool::core::Rng;
use crate::spool::sabotage::{self, Fault};
use crate::spool::*;

/// Points in a plain test run.
const POINTS: u64 = 24_000;
/// Small segments: a few dozen commits fill the buffer.
const SEGMENT: u32 = 32 * 1024;
const MAX_SIZE: u64 = 10 * SEGMENT as u64;

/// The workload.
struct Driver {
    disk: Disk,
    spool: Option<Spool<Disk>>,
    rng: Rng,
    now: Now,
    options: Options,
    /// Records end where pages do: what was lost and what comes after it stand at the same places.
    aligned: bool,
    /// Records are small and far between: segments are mostly padding, and are packed.
    sparse: bool,
    /// The disk makes trouble now and then.
    troubled: bool,
    /// Some records are written together. The seeds that found something were without.
    grouped: bool,
    /// Some flushes are begun, and end later. The seeds that found something were without.
    splits: bool,
    /// One that is under way, and what it stands for.
    flight: Option<(SimFlush, Begun)>,
    counter: u64,
}

impl Driver {
    fn new(seed: u64, points: u64) -> Self {
        let mut rng = Rng(seed);
        let options = Options {
            max_size: MAX_SIZE,
            segment_size: Some(SEGMENT),
            max_age: one_in(&mut rng, 4).then_some(Duration::from_secs(300)),
            when_full: if one_in(&mut rng, 3) { WhenFull::DropNewest } else { WhenFull::DropOldest },
            memory_max: 20_000,
            seed: rng.next(),
        };
        let now = at(0);
        let model = Model { values: vec![None], ..Model::default() };
        let shared = Shared { sim: Sim::default(), model, options: options.clone(), rng: Rng(seed ^ 1), now, points };
        let (aligned, sparse) = (one_in(&mut rng, 2), one_in(&mut rng, 3));
        let disk = Disk(Rc::new(RefCell::new(shared)));
        let troubled = one_in(&mut rng, 3);
        let grouped = seed % 4 == 1;
        let splits = seed % 2 == 1 && seed % 8 != 7;
        Self {
            disk,
            spool: None,
            rng,
            now,
            options,
            aligned,
            sparse,
            troubled,
            grouped,
            splits,
            flight: None,
            counter: 0,
        }
    }

    fn model<T>(&self, change: impl FnOnce(&mut Model) -> T) -> T {
        change(&mut self.disk.0.borrow_mut().model)
    }

    fn spool(&mut self) -> &mut Spool<Disk> {
        self.spool.as_mut().expect("open")
    }

    fn open(&mut self) {
        self.now.mono = Duration::ZERO;
        if one_in(&mut self.rng, 4) {
            // 1970, or a year ahead: nothing may hang on it.
            self.now.wall_ns = pick(&mut self.rng, &[0, 2_000_000_000_000_000_000]);
            self.now.synced = false;
        } else {
            self.now.synced = true;
        }
        let options = Options { seed: self.rng.next(), ..self.options.clone() };
        let (mut spool, opened) = Spool::open(self.disk.clone(), options, *b"ABCD", self.now).expect("opens");
        assert_eq!(opened.trouble, None);
        let mut model = self.model(|model| model.clone());
        model.recovered(&mut spool);
        self.model(|place| *place = model);
        self.spool = Some(spool);
    }

    fn step(&mut self) {
        self.now.mono += Duration::from_millis(self.rng.next() % 400);
        self.now.wall_ns += 100_000_000;
        self.disk.0.borrow_mut().now = self.now;
        let stats = self.spool().stats();
        assert_eq!(stats.accepted, stats.delivered + stats.buffered + stats.dropped, "conservation: {stats:?}");
        if self.flight.is_some() && one_in(&mut self.rng, 3) {
            self.end_sync();
        }
        match self.rng.next() % 64 {
            0..24 => self.append(),
            24..30 if self.sparse => self.sync(),
            24..30 => self.append(),
            30..42 => self.sync(),
            42..54 => self.deliver(),
            54 => self.refuse(),
            55 => self.value(),
            56 => self.retain(),
            57 => self.session(),
            58..60 => self.restart(),
            60 => self.flush(),
            61..=62 if self.troubled => self.trouble(),
            61 | 62 => {
                self.now.mono += Duration::from_secs(self.rng.next() % 100);
            }
            _ => self.burst(),
        }
        let trusted = self.spool().active.is_some();
        let sendable = if trusted { self.spool().sendable() } else { 0 };
        self.model(|model| model.sendable = sendable);
    }

    fn append(&mut self) {
        self.counter += 1;
        let route = route(pick(&mut self.rng, &["a", "b", "c"]));
        let filler = self.spool().active.as_ref().map(|active| active.page_filler(&route));
        // Small ones and large ones in turn: what may be sent ahead is fewer messages all at once.
        let small = self.sparse || (self.splits && self.counter % 64 < 40);
        let size = 20 + (self.rng.next() % if small { 100 } else { 2000 }) as usize;
        let size = filler.filter(|_| self.aligned).unwrap_or(size).max(8);
        let mut payload = noise(self.counter, size);
        if !self.aligned && one_in(&mut self.rng, 4) {
            // One that compresses.
            payload.iter_mut().skip(8).for_each(|byte| *byte = 7);
        }
        let messages = if one_in(&mut self.rng, 5) { 3 } else { 1 };
        let (now, time_ns) = (self.now, self.now.wall_ns);
        let spool = self.spool();
        let first = spool.end();
        let run = (spool.store(), spool.boot(), spool.run.seq(first));
        let entry = (route.clone(), messages, time_ns, payload.clone());
        self.model(|model| model.append(first, run, entry));
        let given = if self.grouped && !self.counter.is_multiple_of(3) {
            self.spool().push(now, &route, messages, time_ns, payload)
        } else {
            self.spool().append(now, &route, messages, time_ns, &payload)
        };
        assert_eq!(given, Ok(first));
    }

    fn burst(&mut self) {
        for _ in 0..self.rng.next() % 40 {
            self.append();
        }
    }

    fn sync(&mut self) {
        let now = self.now;
        if self.splits && self.flight.is_none() && one_in(&mut self.rng, 2) {
            return self.begin_sync();
        }
        let result = self.spool().sync(now);
        if result.is_ok() {
            let (durable, delivery) = (self.spool().durable(), self.spool().delivery().clone());
            self.model(|model| model.synced(|number| number < durable || delivery.is_done(number)));
            assert!(self.spool().unsynced_since().is_none());
        } else {
            assert!(self.troubled || result == Err(Error::Full), "{result:?}");
        }
    }

    fn begin_sync(&mut self) {
        let now = self.now;
        match self.spool().begin_sync(now) {
            Ok(Some(flush)) => {
                let (below, delivery) = (self.spool().unwritten_first(), self.spool().delivery().clone());
                self.flight = Some((flush, self.model(|model| model.begun(below, delivery))));
            }
            Ok(None) => {}
            Err(error) => assert!(self.troubled || error == Error::Full, "{error:?}"),
        }
    }

    fn end_sync(&mut self) {
        let (now, Some((flush, begun))) = (self.now, self.flight.take()) else { return };
        match self.spool().end_sync(now, flush) {
            Ok(()) => self.model(|model| model.flushed(&begun)),
            Err(error) => assert!(self.troubled || error == Error::Full, "{error:?}"),
        }
    }

    fn flush(&mut self) {
        let now = self.now;
        let _ = self.spool().flush_state(now);
    }

    /// A failed write or flush, a disk that others have filled, one that refuses writes; or an end of that.
    fn trouble(&mut self) {
        let in_a_while = Some(self.rng.next() % 4);
        let choice = self.rng.next() % 6;
        let mut shared = self.disk.0.borrow_mut();
        shared.model.damaged = true;
        let trouble = &mut shared.sim.trouble;
        match choice {
            0 | 1 => trouble.sync_fails_in = in_a_while,
            2 => trouble.write_fails_in = in_a_while,
            3 => trouble.capacity = Some(0),
            4 => trouble.read_only = true,
            _ => *trouble = Trouble::default(),
        }
    }

    fn retain(&mut self) {
        let now = self.now;
        let result = self.spool().retain(now);
        assert!(self.troubled || matches!(result, Ok(()) | Err(Error::Full)), "{result:?}");
    }

    /// As the publisher does: reads on, sends what may be sent, takes acknowledgements in any order.
    fn deliver(&mut self) {
        if self.spool().active.is_none() {
            return;
        }
        self.spool().connected();
        let from = self.spool().delivery().done_below();
        let mut entries = Vec::new();
        let limit = (self.rng.next() % if self.splits { 40_000 } else { 12_000 }) as usize;
        self.spool().read(from, limit, &mut entries).expect("reads");
        if self.spool().active.is_none() {
            // The disk has refused what was to be written before.
            return;
        }
        let (sendable, durable) = (self.spool().sendable(), self.spool().durable());
        let exactly_once = one_in(&mut self.rng, 2);
        for entry in &entries {
            for (key, number, content) in messages(entry) {
                if number >= sendable || (exactly_once && number >= durable) || self.spool().delivery().is_done(number)
                {
                    continue;
                }
                self.model(|model| {
                    model.name(key, number, content.clone());
                    if let Some(known) = model.keys.get_mut(&key) {
                        known.sent = true;
                        known.synced |= number < durable;
                    }
                });
                self.spool().sent(number);
                match self.rng.next() % 8 {
                    0 => {}
                    1 if exactly_once => {
                        self.model(|model| model.released.insert(number));
                        self.spool().released(number);
                    }
                    _ => {
                        self.model(|model| {
                            model.released.remove(&number);
                            if let Some(known) = model.keys.get_mut(&key) {
                                known.done = true;
                            }
                            if let Content::Gap(gap) = content {
                                model.gaps_done.push(gap);
                            }
                        });
                        self.spool().done(number);
                    }
                }
            }
        }
        if one_in(&mut self.rng, 3) {
            self.sync();
        }
    }

    fn refuse(&mut self) {
        if self.spool().active.is_none() {
            return;
        }
        let from = self.spool().delivery().done_below();
        let mut entries = Vec::new();
        self.spool().read(from, 1, &mut entries).expect("reads");
        if self.spool().active.is_none() {
            return;
        }
        let (sendable, now) = (self.spool().sendable(), self.now);
        let Some(entry) = entries.first().filter(|entry| entry.first < sendable) else { return };
        let Body::Record { route, .. } = &entry.body else { return };
        for (key, number, content) in messages(entry) {
            if self.spool().delivery().is_done(number) {
                continue;
            }
            self.model(|model| {
                model.name(key, number, content);
                if let Some(known) = model.keys.get_mut(&key) {
                    known.refused = true;
                }
                model.released.remove(&number);
            });
            let (reason, source) = (GapReason::Rejected, Some(route.source.clone()));
            let (store, boot, seq) = key;
            let refusal = Refusal { number, reason, store, boot, seq, source, time_ns: entry.time_ns };
            self.spool().refused(now, &refusal);
            break;
        }
    }

    fn value(&mut self) {
        let value = (!one_in(&mut self.rng, 4)).then(|| self.rng.next().to_le_bytes().to_vec());
        self.model(|model| model.values.push(value.clone()));
        let now = self.now;
        self.spool().set_value(now, "owner", "key", value.as_deref()).expect("fits");
    }

    fn session(&mut self) {
        if self.splits && self.flight.is_none() && one_in(&mut self.rng, 2) {
            self.begin_sync();
        }
        self.model(|model| {
            model.session += 1;
            model.sendable = 0;
            model.released.clear();
            model.released_synced.clear();
        });
        self.spool().new_session();
        if self.flight.is_some() && one_in(&mut self.rng, 2) {
            self.flush();
        }
    }

    /// Closes, is killed, or loses power; the story goes on with what is left.
    fn restart(&mut self) {
        if one_in(&mut self.rng, 3) {
            self.sync();
        }
        (self.spool, self.flight) = (None, None);
        let survival = if one_in(&mut self.rng, 2) { Survival::All } else { pick(&mut self.rng, &SURVIVALS) };
        let seed = self.rng.next();
        let mut shared = self.disk.0.borrow_mut();
        shared.sim = shared.sim.after_cut(survival, seed);
        drop(shared);
        self.open();
    }
}

/// One workload; gives how many points were passed by then.
fn replay(seed: u64, points: u64, until: u64) -> u64 {
    let mut driver = Driver::new(seed, points);
    driver.open();
    for _ in 0..300 {
        driver.step();
        if driver.disk.0.borrow().points >= until {
            break;
        }
    }
    let shared = driver.disk.0.borrow();
    within(&shared.sim, MAX_SIZE);
    shared.points
}

/// Whether the replay finds fault within so many points; the seed and the message if it does.
fn finds(until: u64) -> Option<String> {
    let mut points = 0;
    for seed in setting("SPOOL_CRASH_SEED", 1).. {
        match catch_unwind(AssertUnwindSafe(|| replay(seed, points, until))) {
            Ok(passed) => {
                if std::env::var_os("SPOOL_CRASH_SHOW").is_some() {
                    println!("seed {seed}: {passed} points");
                }
                points = passed;
            }
            Err(fault) => {
                let text = fault.downcast_ref::<String>().cloned();
                let text = text.or_else(|| fault.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                return Some(format!("seed {seed}: {}", text.unwrap_or_default()));
            }
        }
        if points >= until {
            return None;
        }
    }
    None
}

#[test]
fn every_crash_leaves_what_was_promised() {
    let found = finds(setting("SPOOL_CRASH_POINTS", POINTS));
    assert_eq!(found, None);
}

/// A new session sent under the lease of the old one; more gaps than a small buffer can keep; what was sent from memory,
/// and found no room when the disk came back; a file that was to be used again, and called damaged by who looked at it; a
/// commit head that said more than what stood before it; a value behind a state that was to be written over; records that
/// follow what was dropped before they were written; crash after crash until no file was free.
#[test]
fn seeds_that_found_something() {
    for seed in [428, 495, 642, 1738, 2068, 5046, 21165, 31512, 40040, 70216] {
        replay(seed, 0, u64::MAX);
    }
}

/// Each fault in the spool is found by the replay; one that is not would be a hole in the replay.
#[test]
fn every_fault_put_in_is_found() {
    let faults = [
        Fault::NoSync,
        Fault::NoFolderSync,
        Fault::CrcUnsalted,
        Fault::NoFreshSalt,
        Fault::DoneAheadOfData,
        Fault::DropAheadOfGap,
        Fault::BootNotDurable,
        Fault::TailKept,
        Fault::NoLease,
        Fault::NotPinned,
        Fault::GapAfterRefusal,
        Fault::GapForgotten,
        Fault::NoOpening,
        Fault::SealNotSynced,
        Fault::OverBudget,
        Fault::ReleasedForgotten,
        Fault::ValuesOnce,
        Fault::PageWrittenTwice,
        Fault::TrustFailedSync,
        Fault::PackNotSynced,
        Fault::PackLosesGaps,
        Fault::FlushAhead,
        Fault::FlushTakesAll,
    ];
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for fault in faults {
        sabotage::set(Some(fault));
        let found = finds(8 * POINTS);
        if std::env::var_os("SPOOL_CRASH_SHOW").is_some() {
            println!("{fault:?}: {}", found.as_deref().unwrap_or("NOT FOUND").chars().take(150).collect::<String>());
        }
        if found.is_none() {
            missed.push(fault);
        }
    }
    sabotage::set(None);
    std::panic::set_hook(quiet);
    assert_eq!(missed, []);
}
