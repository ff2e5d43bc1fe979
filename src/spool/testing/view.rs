//! Looking at a spool: what is seen is what an opening would find, nothing is written, and only damage is called so.

use std::collections::BTreeMap;

use super::damage::{filled, harm, options, with_evidence};
use super::model::{Content, messages, read_all};
use super::sim::Sim;
use super::{at, noise, route};
use crate::spool::core::Rng;
use crate::spool::*;

/// A disk that may only be read.
#[derive(Debug)]
pub(super) struct Frozen(pub(super) Sim);

impl Storage for Frozen {
    fn list(&mut self) -> Result<Vec<FileInfo>, StorageError> {
        self.0.list()
    }
    fn read(&mut self, name: &str, offset: u64, into: &mut [u8]) -> Result<usize, StorageError> {
        self.0.read(name, offset, into)
    }
    fn create(&mut self, name: &str, _: u64) -> Result<(), StorageError> {
        // A copy of a damaged place is asked for, and may be refused.
        assert!(name.ends_with(".bad"), "creates {name}");
        Err(StorageError::new(StorageErrorKind::ReadOnly, "create", name, "read only"))
    }
    fn write(&mut self, name: &str, _: u64, _: &[u8]) -> Result<(), StorageError> {
        panic!("writes {name}")
    }
    fn sync(&mut self, name: &str) -> Result<(), StorageError> {
        panic!("syncs {name}")
    }
    fn sync_folder(&mut self) -> Result<(), StorageError> {
        panic!("syncs the folder")
    }
    fn rename(&mut self, from: &str, _: &str) -> Result<(), StorageError> {
        panic!("renames {from}")
    }
    fn remove(&mut self, name: &str) -> Result<(), StorageError> {
        panic!("removes {name}")
    }
}

fn look(sim: &Sim) -> View<Frozen> {
    let mut sim = sim.clone();
    sim.off_at = None;
    View::open(Frozen(sim), at(0)).expect("is looked at")
}

/// What is pending, by name.
fn seen(view: &mut View<Frozen>) -> BTreeMap<([u8; 4], u32, u64), Content> {
    let mut out = Vec::new();
    let mut next = 0;
    loop {
        let before = out.len();
        next = view.read(next, 20_000, &mut out).expect("reads");
        if out.len() == before {
            break;
        }
    }
    let all = out.iter().flat_map(messages);
    all.filter(|(_, number, _)| !view.delivery().is_done(*number)).map(|(key, _, content)| (key, content)).collect()
}

/// What a crash left is looked at, and then opened: no damage, and the same messages.
pub(super) fn like_an_opening(sim: &Sim, options: &Options, now: Now, damaged: bool) {
    let mut view = look(sim);
    let faults = view.verify(|_, _| {});
    assert!(damaged || faults.is_empty(), "a crash is no damage: {faults:?}");
    let there = seen(&mut view);
    let mut sim = sim.clone();
    sim.off_at = None;
    let (mut spool, opened) = Spool::open(sim, options.clone(), *b"ZZZZ", now).expect("opens");
    if opened.trouble.is_some() || damaged || spool.stats().dropped != view.stats().dropped {
        return;
    }
    let entries = read_all(&mut spool);
    let kept = entries.iter().flat_map(messages).filter(|(_, number, _)| !spool.delivery().is_done(*number));
    let kept: BTreeMap<_, _> = kept.map(|(key, _, content)| (key, content)).collect();
    assert_eq!(there.keys().collect::<Vec<_>>(), kept.keys().filter(|key| key.1 < spool.boot()).collect::<Vec<_>>());
}

#[test]
fn what_is_whole_is_called_so_and_seen_as_it_is() {
    for seed in 1..40 {
        let rng = &mut Rng(seed);
        let (sim, _) = filled(rng);
        like_an_opening(&sim, &options(), at(0), false);
        let mut view = look(&sim);
        let pending: u64 = view.segments().iter().map(|segment| segment.pending).sum();
        let stats = view.stats();
        assert_eq!(pending, stats.buffered, "seed {seed}");
        assert_eq!(stats.accepted, stats.delivered + stats.buffered + stats.dropped, "seed {seed}");
    }
}

#[test]
fn an_empty_folder_is_nothing() {
    let mut view = look(&Sim::default());
    assert_eq!((view.verify(|_, _| {}), view.segments(), view.name_and_boot()), (Vec::new(), Vec::new(), None));
}

/// F-13: what is said to be lost is what an opening, and reading all, then reports as gaps.
#[test]
fn what_is_damaged_is_named_with_what_is_lost() {
    let (mut damaged, mut lost_any) = (0, 0);
    for seed in 1..=300 {
        let rng = &mut Rng(seed);
        let (sim, mut model) = filled(rng);
        let mut sim = with_evidence(sim, &mut model, rng.next());
        let harmed = harm(&mut sim, rng);
        let faults = look(&sim).verify(|_, _| {});
        let told: u64 = faults.iter().flat_map(|fault| &fault.lost).map(|gap| gap.messages).sum();
        let before = look(&sim).stats().dropped;
        let (mut spool, opened) = Spool::open(sim, options(), *b"ABCD", at(0)).expect("opens");
        read_all(&mut spool);
        let lost = spool.stats().dropped - before;
        assert_eq!(told, lost, "seed {seed}: {harmed}: {faults:?} {:?} {opened:?}", spool.state.open_gaps);
        assert!(opened.damage.is_empty() || !faults.is_empty(), "seed {seed}: {harmed}");
        damaged += u64::from(!faults.is_empty());
        lost_any += u64::from(lost > 0);
    }
    assert!(damaged > 60 && lost_any > 30, "{damaged} damaged, {lost_any} with losses");
}

#[test]
fn a_newer_version_is_refused() {
    let (mut spool, _) = Spool::open(Sim::default(), options(), *b"ABCD", at(0)).expect("opens");
    spool.append(at(1), &route("a"), 1, 0, b"x").expect("fits");
    spool.sync(at(1)).expect("syncs");
    let mut sim = spool.storage;
    super::keeping::make_newer(&mut sim);
    assert!(matches!(View::open(Frozen(sim), at(0)), Err(OpenError::NewerVersion { .. })));
}

/// What a hole in a sealed segment held is told from its footer: sources for certain, times from beside it.
#[test]
fn a_hole_is_named_with_its_sources_and_times() {
    let (mut spool, _) = Spool::open(Sim::default(), options(), *b"ABCD", at(0)).expect("opens");
    for n in 0..60u64 {
        let name = if n % 3 == 0 { "a" } else { "b" };
        spool.append(at(n), &route(name), 1, n as i64, &noise(n, 1000)).expect("fits");
        spool.sync(at(n)).expect("syncs");
    }
    let first = spool.index.first().copied().expect("a sealed one");
    let mut sim = spool.storage;
    // One page has a commit, its route perhaps, and one record.
    sim.flip(&first.slot.name(), 3 * 4096 + 200, 1);
    let faults = look(&sim).verify(|_, _| {});
    let (mut spool, _) = Spool::open(sim, options(), *b"ABCD", at(0)).expect("opens");
    read_all(&mut spool);
    let gap = spool.state.open_gaps.first().cloned().expect("a gap");
    let told: Vec<Gap> = faults.into_iter().flat_map(|fault| fault.lost).collect();
    assert_eq!(told, std::slice::from_ref(&gap));
    assert_eq!((gap.reason, gap.sources.len()), (GapReason::Corrupt, 1), "{gap:?}");
    let (first, last) = (gap.first as i64 - 1, gap.last as i64 - 1);
    assert_eq!((gap.from_ns, gap.to_ns), (Some(first - 1), Some(last + 1)), "of the readings beside it");
    assert_eq!(gap.sources[0].1, gap.messages);
}
