//! What the crash replay knows of a spool, and what it demands of one that was opened again. Tests only.
//!
//! Owns what was appended, flushed, sent, acknowledged and refused. The demands are those of INTERFACE.md, "The
//! promise": what was flushed is there, or done, or named by a gap, and never two of these; (store, boot, seq) names
//! one content for ever; accepted = delivered + buffered + dropped; disk use within `max_size`.

use std::collections::{BTreeMap, BTreeSet};

use super::sim::Sim;
use crate::spool::*;

/// What names a message for ever.
pub(super) type Key = ([u8; 4], u32, u64);

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) number: u64,
    pub(super) content: Content,
    /// Flushed: it must not vanish.
    pub(super) synced: bool,
    pub(super) sent: bool,
    pub(super) done: bool,
    /// Done, and that was flushed: it must not come back.
    pub(super) done_synced: bool,
    pub(super) refused: bool,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Content {
    Record { route: Route, payload: Vec<u8>, part: u64, time_ns: i64 },
    Gap(Gap),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Record { route, payload, part, .. } => {
                write!(out, "{} bytes {:?} of {}, part {part}", payload.len(), payload.first(), route.source)
            }
            Self::Gap(gap) => write!(out, "{gap:?}"),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) keys: BTreeMap<Key, Known>,
    /// Contents of names that were seen and are lost: not to be used for anything else.
    pub(super) ever: BTreeMap<Key, Content>,
    pub(super) gaps_done: Vec<Gap>,
    /// Up to the last recovery.
    pub(super) gaps_given_up: u64,
    pub(super) values: Vec<Option<Vec<u8>>>,
    /// Older values, which can't be there any more.
    pub(super) values_gone: usize,
    pub(super) session_synced: u64,
    pub(super) session: u64,
    pub(super) released_synced: BTreeSet<u64>,
    pub(super) released: BTreeSet<u64>,
    /// Numbers below may be sent at any moment.
    pub(super) sendable: u64,
    pub(super) boot: u32,
    /// The disk itself was damaged: `corrupt` is a good answer.
    pub(super) damaged: bool,
}

/// How things stood when a flush began.
pub(super) struct Begun {
    below: u64,
    delivery: Delivery,
    done: BTreeSet<Key>,
    session: u64,
    released: BTreeSet<u64>,
    values: usize,
}

/// The messages of an entry, one by one.
pub(super) fn messages(entry: &Entry) -> Vec<(Key, u64, Content)> {
    let key = |part: u64| (entry.store, entry.boot, entry.seq + part);
    match &entry.body {
        Body::Gap(gap) => vec![(key(0), entry.first, Content::Gap(gap.clone()))],
        Body::Record { route, payload } => (0..u64::from(entry.messages))
            .map(|part| {
                let (route, payload) = (Route::clone(route), payload.to_vec());
                (key(part), entry.first + part, Content::Record { route, payload, part, time_ns: entry.time_ns })
            })
            .collect(),
    }
}

fn names(gap: &Gap, key: &Key) -> bool {
    gap.store == key.0 && gap.boot == key.1 && (gap.first..=gap.last).contains(&key.2)
}

pub(super) fn read_all<S: Storage>(spool: &mut Spool<S>) -> Vec<Entry> {
    let mut out = Vec::new();
    let mut next = 0;
    loop {
        let before = out.len();
        next = spool.read(next, 20_000, &mut out).expect("reading goes on");
        if out.len() == before {
            return out;
        }
    }
}

/// What is in a spool that was just opened.
pub(super) struct Seen {
    pub(super) present: BTreeMap<Key, Content>,
    pub(super) gaps: Vec<Gap>,
}

impl Model {
    pub(super) fn append(&mut self, first: u64, run: ([u8; 4], u32, u64), entry: (Route, u32, i64, Vec<u8>)) {
        let (route, messages, time_ns, payload) = entry;
        for part in 0..u64::from(messages) {
            let (route, payload) = (route.clone(), payload.clone());
            let content = Content::Record { route, payload, part, time_ns };
            self.name((run.0, run.1, run.2 + part), first + part, content);
        }
    }

    /// A name is used: never for another content.
    pub(super) fn name(&mut self, key: Key, number: u64, content: Content) {
        if let Some(before) = self.ever.get(&key) {
            assert_eq!(*before, content, "one name, two contents: {key:?}");
        }
        self.ever.insert(key, content.clone());
        self.keys.entry(key).or_insert(Known {
            number,
            content,
            synced: false,
            sent: false,
            done: false,
            done_synced: false,
            refused: false,
        });
    }

    /// Everything so far is flushed, but for the numbers that wait for room.
    pub(super) fn synced(&mut self, flushed: impl Fn(u64) -> bool) {
        for known in self.keys.values_mut() {
            known.synced |= flushed(known.number);
            known.done_synced |= known.done;
        }
        self.session_synced = self.session;
        self.released_synced.clone_from(&self.released);
        self.value_since(self.values_gone + self.values.len());
    }

    /// A flush begins. All numbers below are written, and these are settled.
    pub(super) fn begun(&self, below: u64, delivery: Delivery) -> Begun {
        Begun {
            below,
            delivery,
            done: self.keys.iter().filter(|(_, known)| known.done).map(|(key, _)| *key).collect(),
            session: self.session,
            released: self.released.clone(),
            values: self.values_gone + self.values.len(),
        }
    }

    /// What was so when a flush began is durable.
    pub(super) fn flushed(&mut self, begun: &Begun) {
        for (key, known) in &mut self.keys {
            known.synced |= known.number < begun.below || begun.delivery.is_done(known.number);
            known.done_synced |= begun.done.contains(key);
        }
        self.session_synced = self.session_synced.max(begun.session);
        if begun.session == self.session {
            self.released_synced.extend(&begun.released);
        }
        self.value_since(begun.values);
    }

    /// Of the first so many values only the last may be there.
    fn value_since(&mut self, count: usize) {
        let gone = count.saturating_sub(1).saturating_sub(self.values_gone);
        self.values.drain(..gone);
        self.values_gone += gone;
    }

    /// Reads all, and checks what can be checked on any spool.
    pub(super) fn look<S: Storage>(&self, spool: &mut Spool<S>) -> Seen {
        let entries = read_all(spool);
        let mut seen = Seen { present: BTreeMap::new(), gaps: self.gaps_done.clone() };
        seen.gaps.extend(spool.state.open_gaps.iter().cloned());
        let mut next = 0;
        for entry in &entries {
            assert!(entry.first >= next, "out of order: {} after {next}", entry.first);
            next = entry.first + u64::from(entry.messages);
            for (key, number, content) in messages(entry) {
                if spool.delivery().is_done(number) {
                    continue;
                }
                if let Content::Gap(gap) = &content {
                    seen.gaps.push(gap.clone());
                }
                assert!(seen.present.insert(key, content).is_none(), "twice: {key:?}");
            }
        }
        let stats = spool.stats();
        assert_eq!(stats.accepted, stats.delivered + stats.buffered + stats.dropped, "conservation: {stats:?}");
        assert_eq!(stats.buffered, seen.present.len() as u64, "buffered is what can be read: {stats:?}");
        seen
    }

    /// The demands on a spool that was opened after a crash.
    pub(super) fn check<S: Storage>(&self, spool: &mut Spool<S>) -> Seen {
        let seen = self.look(spool);
        for (key, content) in &seen.present {
            match self.keys.get(key) {
                Some(known) => assert_eq!(known.content, *content, "changed: {key:?}"),
                None => assert!(matches!(content, Content::Gap(_)), "from nowhere: {key:?} {content:?}"),
            }
        }
        let unnamed = self.keys.iter().filter(|(key, known)| self.check_one(key, known, &seen, spool.delivery()));
        let unnamed: Vec<_> = unnamed.map(|(key, known)| (*key, known.clone())).collect();
        // A small buffer gives up the oldest of many gaps that wait, and counts them: each named one range, in which some may
        // have been acknowledged before, with a cut that forgot it.
        let follows = |before: &Key, key: &Key| {
            (before.0, before.1) == (key.0, key.1) && self.keys.range(before..key).skip(1).all(|(_, known)| known.done)
        };
        let ranges = unnamed.chunk_by(|(before, _), (key, _)| follows(before, key)).count() as u64;
        let given_up = spool.delivery().gaps_refused() - self.gaps_given_up;
        assert!(ranges <= given_up, "lost, with {given_up} gaps given up: {unnamed:?}, gaps {:?}", seen.gaps);
        if !self.damaged {
            let corrupt = seen.gaps.iter().find(|gap| gap.reason == GapReason::Corrupt);
            assert!(corrupt.is_none(), "nothing was damaged: {corrupt:?}");
        }
        let value = spool.value("owner", "key").map(<[u8]>::to_vec);
        assert!(self.damaged || self.values.contains(&value), "value {value:?} is none of {:?}", self.values);
        let delivery = spool.delivery();
        assert!((self.session_synced..=self.session).contains(&delivery.session()), "session");
        if delivery.session() == self.session {
            for number in self.released_synced.intersection(&self.released) {
                let kept = delivery.released().contains(number) || delivery.is_done(*number);
                let told = || format!("{delivery:?} {:?}", self.keys.values().find(|known| known.number == *number));
                assert!(kept, "PUBREC of {number} is lost: {}", told());
            }
        }
        seen
    }

    /// `true`: it was flushed, and is neither there nor done nor named by a gap.
    fn check_one(&self, key: &Key, known: &Known, seen: &Seen, delivery: &Delivery) -> bool {
        let present = seen.present.contains_key(key);
        let gap = seen.gaps.iter().find(|gap| names(gap, key));
        let told = || {
            format!(
                "{key:?} {known:?} present {present} gap {gap:?} done_below {} gaps {:?}",
                delivery.done_below(),
                seen.gaps
            )
        };
        assert!(!(present && gap.is_some()), "there and in a gap: {}", told());
        let corrupt = gap.is_some_and(|gap| gap.reason == GapReason::Corrupt);
        if known.sent && !known.refused && !corrupt {
            assert!(gap.is_none(), "in flight and in a gap: {}", told());
        }
        if (known.sent || known.number < self.sendable) && present && !self.damaged {
            let (number, end) = (known.number, known.number + 1);
            assert!(
                delivery.pins(number, end),
                "may be at the broker, and is not known to be: {} {delivery:?} sendable {}",
                told(),
                self.sendable
            );
        }
        if known.done_synced {
            assert!(delivery.is_done(known.number), "done and back again: {}", told());
        } else if known.synced && known.done {
            assert!(present || delivery.is_done(known.number), "lost: {}", told());
        }
        known.synced && !known.done && !present && gap.is_none()
    }

    /// After a crash in the main line: what was not flushed and did not survive is forgotten, the rest is durable now.
    pub(super) fn recovered<S: Storage>(&mut self, spool: &mut Spool<S>) {
        let seen = self.check(spool);
        let delivery = spool.delivery().clone();
        self.gaps_given_up = delivery.gaps_refused();
        self.keys.retain(|key, known| {
            seen.present.contains_key(key)
                || seen.gaps.iter().any(|gap| names(gap, key))
                || (known.done && delivery.is_done(known.number))
        });
        for (key, known) in &mut self.keys {
            known.synced = true;
            known.done = known.done && delivery.is_done(known.number) && !seen.present.contains_key(key);
            known.done_synced = known.done;
        }
        for (key, content) in &seen.present {
            if let Some(known) = self.keys.get_mut(key) {
                known.synced = true;
            } else if let Content::Gap(_) = content {
                self.ever.insert(*key, content.clone());
            }
        }
        self.values = vec![spool.value("owner", "key").map(<[u8]>::to_vec)];
        self.session = delivery.session();
        self.session_synced = self.session;
        self.released = delivery.released().iter().copied().collect();
        self.released_synced.clone_from(&self.released);
        assert!(spool.boot() > self.boot || spool.store() != *b"ABCD", "boot {} after {}", spool.boot(), self.boot);
        self.boot = self.boot.max(spool.boot());
        self.sendable = 0;
    }
}

/// Disk use never went over the limit.
pub(super) fn within(sim: &Sim, max_size: u64) {
    assert!(sim.bytes_max <= max_size, "{} bytes of {max_size}", sim.bytes_max);
}
