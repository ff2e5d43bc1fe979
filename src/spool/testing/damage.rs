//! Flipped bits, pages that can't be read, files that are gone: opening succeeds, and what is missing is named.

use super::model::{Content, Model, messages};
use super::sim::Sim;
use super::{at, noise, one_in, route, setting};
use crate::spool::core::Rng;
use crate::spool::*;

const SEGMENT: u32 = 32 * 1024;
const CASES: u64 = 600;

pub(super) fn options() -> Options {
    Options { max_size: 64 * u64::from(SEGMENT), segment_size: Some(SEGMENT), ..Options::default() }
}

/// A spool with a few segments and boots, some of it done; the last commit alone stands behind all the others.
pub(super) fn filled(rng: &mut Rng) -> (Sim, Model) {
    let mut model = Model { values: vec![None], damaged: true, ..Model::default() };
    let mut sim = Sim::default();
    for _ in 0..1 + rng.next() % 3 {
        let options = Options { seed: rng.next(), ..options() };
        let (mut spool, _) = Spool::open(sim, options, *b"ABCD", at(0)).expect("opens");
        model.recovered(&mut spool);
        for n in 0..rng.next() % 120 {
            let (first, payload) = (spool.end(), noise(n, 10 + (rng.next() % 1500) as usize));
            let run = (spool.store(), spool.boot(), spool.run.seq(first));
            let route = route(if one_in(rng, 2) { "a" } else { "b" });
            model.append(first, run, (route.clone(), 1, 5, payload.clone()));
            spool.append(at(n), &route, 1, 5, &payload).expect("fits");
            if one_in(rng, 4) {
                spool.sync(at(n)).expect("syncs");
            }
        }
        let mut entries = Vec::new();
        spool.read(0, (rng.next() % 30_000) as usize, &mut entries).expect("reads");
        for (key, number, content) in entries.iter().flat_map(messages) {
            if number % 5 == 0 {
                continue;
            }
            spool.done(number);
            if let Content::Gap(gap) = content {
                model.gaps_done.push(gap);
            }
            if let Some(known) = model.keys.get_mut(&key) {
                known.done = true;
            }
        }
        spool.sync(at(1000)).expect("syncs");
        model.synced(|_| true);
        sim = spool.storage;
    }
    (sim, model)
}

/// Adds a commit with the whole state: evidence that all before it was durable.
pub(super) fn with_evidence(sim: Sim, model: &mut Model, seed: u64) -> Sim {
    let (mut spool, _) = Spool::open(sim, Options { seed, ..options() }, *b"ABCD", at(0)).expect("opens");
    model.recovered(&mut spool);
    for n in 0..2 {
        let first = spool.end();
        let run = (spool.store(), spool.boot(), spool.run.seq(first));
        model.append(first, run, (route("last"), 1, 0, b"evidence".to_vec()));
        spool.append(at(n), &route("last"), 1, 0, b"evidence").expect("fits");
        spool.set_connecting(n == 0);
        spool.sync(at(n)).expect("syncs");
        model.synced(|_| true);
    }
    spool.storage
}

/// The file that is written, and where its last commit begins.
fn last_commit(sim: &Sim) -> (String, usize) {
    let number = |name: &String| {
        let bytes = sim.content(name).unwrap_or_default();
        let written = bytes.get(..8) == Some(b"OUTSPOOL".as_slice());
        bytes.get(16..24).filter(|_| written).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight")))
    };
    let name = sim.names().into_iter().max_by_key(|name| number(name).map_or(0, |n| n + 1)).expect("a file");
    let bytes = sim.content(&name).expect("there");
    let used = (1..bytes.len() / 4096).rev().find(|page| bytes[page * 4096..][..4096].iter().any(|byte| *byte != 0));
    (name, used.unwrap_or(1) * 4096)
}

pub(super) fn harm(sim: &mut Sim, rng: &mut Rng) -> String {
    let (last, commit) = last_commit(sim);
    let names: Vec<String> = sim.names().into_iter().filter(|name| name.ends_with(".seg")).collect();
    let name = names[(rng.next() % names.len() as u64) as usize].clone();
    let size = sim.content(&name).map_or(0, <[u8]>::len);
    let limit = if name == last { commit } else { size };
    let offset = (rng.next() as usize) % limit;
    match rng.next() % 7 {
        0 | 1 => sim.trouble.unreadable.push((name.clone(), (offset - offset % 4096) as u64)),
        2 => (0..4096).for_each(|at| sim.zero(&name, offset - offset % 4096 + at)),
        _ => sim.flip(&name, offset, (rng.next() % 8) as u8),
    }
    format!("{name} at {offset}, last commit {last} {commit}")
}

/// F-5, F-6, F-11: bits that flipped, pages that can't be read, pages of NUL.
/// A gap that was durable, and not delivered yet, stands on a page that can't be read any more: what it named is named again.
#[test]
fn a_gap_that_cannot_be_read_is_said_again() {
    let (mut spool, _) = Spool::open(Sim::default(), options(), *b"ABCD", at(0)).expect("opens");
    for n in 0..10 {
        spool.append(at(n), &route("a"), 1, 5, b"x").expect("fits");
    }
    let refusal = Refusal {
        number: 3,
        reason: GapReason::Rejected,
        store: spool.store(),
        boot: spool.boot(),
        seq: spool.run.seq(3),
        source: Some("a".into()),
        time_ns: 5,
    };
    spool.refused(at(10), &refusal);
    spool.sync(at(11)).expect("syncs");
    let name = spool.active.as_ref().expect("a segment").slot.name();
    spool.storage.trouble.unreadable = (0..u64::from(SEGMENT) / 4096).map(|page| (name.clone(), page * 4096)).collect();
    spool.read(0, 30_000, &mut Vec::new()).expect("goes on");
    spool.storage.trouble.unreadable.clear();
    spool.sync(at(12)).expect("syncs");
    let mut entries = Vec::new();
    spool.read(0, 30_000, &mut entries).expect("reads");
    let named = |entry: &Entry| match &entry.body {
        Body::Gap(gap) => Some((gap.reason, gap.first, gap.last)),
        Body::Record { .. } => None,
    };
    let named: Vec<_> = entries.iter().filter_map(named).collect();
    assert!(named.contains(&(GapReason::Rejected, 3, 3)), "{named:?}");
    // The other nine, and the gap that was lost.
    let corrupt = named.iter().filter(|(reason, ..)| *reason == GapReason::Corrupt);
    assert_eq!(corrupt.map(|(_, first, last)| last - first + 1).sum::<u64>(), 10, "{named:?}");
}

#[test]
fn damage_is_skipped_and_named() {
    for seed in setting("SPOOL_DAMAGE_SEED", 1)..=CASES {
        let rng = &mut Rng(seed);
        let (sim, mut model) = filled(rng);
        let mut sim = with_evidence(sim, &mut model, rng.next());
        let mut harmed = Vec::new();
        for _ in 0..1 + rng.next() % 3 {
            harmed.push(harm(&mut sim, rng));
        }
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let unreadable = sim.trouble.unreadable.clone();
            let (mut spool, _) = Spool::open(sim, options(), *b"ABCD", at(0)).expect("opens");
            model.check(&mut spool);
            spool.sync(at(5)).expect("syncs");
            model.check(&mut spool);
            // What was reported once is not reported again.
            let dropped = spool.stats().dropped;
            let mut sim = spool.storage;
            sim.trouble.unreadable = unreadable;
            let (mut spool, opened) = Spool::open(sim, options(), *b"ABCD", at(0)).expect("opens again");
            model.check(&mut spool);
            assert_eq!((opened.lost_messages, spool.stats().dropped), (0, dropped));
        }));
        assert!(told.is_ok(), "seed {seed}: {harmed:?}");
    }
}

#[test]
fn files_that_are_gone_are_missed_and_counted() {
    for seed in 1..=CASES / 4 {
        let rng = &mut Rng(seed);
        let (sim, mut model) = filled(rng);
        let mut sim = with_evidence(sim, &mut model, rng.next());
        let (last, _) = last_commit(&sim);
        let names: Vec<String> =
            sim.names().into_iter().filter(|name| name.ends_with(".seg") && *name != last).collect();
        for name in names.iter().filter(|_| one_in(rng, 3)) {
            sim.forget(name);
        }
        let (mut spool, opened) = Spool::open(sim, options(), *b"ABCD", at(0)).expect("opens");
        let seen = model.look(&mut spool);
        for (key, known) in &model.keys {
            assert!(seen.present.get(key).is_none_or(|content| *content == known.content), "seed {seed}");
        }
        let gaps: u64 = spool.state.open_gaps.iter().map(|gap| gap.messages).sum();
        assert!(opened.lost_messages <= gaps, "seed {seed}");
    }
}
