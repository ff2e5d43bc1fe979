//! The command journal on a disk that loses its power: one id runs once, whatever is cut (R10, F-26).

use std::collections::{BTreeMap, BTreeSet};

use super::sim::{SURVIVALS, Sim, Survival};
use super::{at, one_in, options, pick, route, setting};
use crate::spool::core::Rng;
use crate::spool::*;

/// Lives of an agent, each ended by a cut.
const LIVES: u64 = 500;

/// What the world outside the disk has seen.
#[derive(Default)]
struct World {
    /// PUBACK or PUBREC went out.
    acknowledged: BTreeSet<String>,
    /// How often the plugin was called.
    calls: BTreeMap<String, u32>,
    /// An answer was sent.
    answered: BTreeSet<String>,
}

/// An agent that does commands, in one life.
struct Life<'a> {
    spool: Spool<Sim>,
    journal: Journal,
    world: &'a mut World,
    /// Flushes before it acts; one that does not is caught.
    careful: bool,
}

impl Life<'_> {
    fn write(&mut self, changes: Vec<Change>) {
        for Change { key, value } in changes {
            self.spool.set_value(at(1), JOURNAL_OWNER, &key, value.as_deref()).expect("fits into the quota");
        }
    }

    fn durable(&mut self) {
        if self.careful {
            self.spool.sync(at(1)).expect("syncs");
        }
    }

    fn accept(&mut self, id: &str) {
        let command = Command { source: "s".into(), id: id.into(), body: vec![7; 40], ..Command::default() };
        match self.journal.accept(at(1), command) {
            Ok(changes) => self.write(changes),
            Err(NotTaken::Known) => {}
            Err(NotTaken::Busy) => return,
            Err(why) => panic!("{why}"),
        }
        self.durable();
        self.world.acknowledged.insert(id.into());
    }

    fn run(&mut self, id: &str) {
        let changes = self.journal.begin("s", id);
        if changes.is_empty() {
            return;
        }
        self.write(changes);
        self.durable();
        *self.world.calls.entry(id.into()).or_default() += 1;
    }

    fn answer(&mut self, id: &str) {
        let changes = self.journal.finish("s", id, b"answer".to_vec());
        if changes.is_empty() {
            return;
        }
        self.write(changes);
        self.durable();
        self.world.answered.insert(id.into());
    }

    fn acknowledge(&mut self, id: &str) {
        let changes = self.journal.acknowledged(at(1), "s", id);
        self.write(changes);
    }

    /// One step of one of the commands of late.
    fn step(&mut self, rng: &mut Rng, newest: &mut u64) {
        let id = format!("c-{}", (*newest).saturating_sub(rng.next() % 4));
        match rng.next() % 6 {
            0 => {
                *newest += 1;
                self.accept(&format!("c-{newest}"));
            }
            // The broker sends it again.
            1 => self.accept(&id),
            2 => self.run(&id),
            3 => self.answer(&id),
            4 => self.acknowledge(&id),
            _ => {
                // Readings come and go meanwhile: segments are left behind.
                self.spool.connected();
                (0..self.spool.end()).for_each(|number| self.spool.done(number));
                for _ in 0..rng.next() % 8 {
                    self.spool.append(at(1), &route("a"), 1, 0, &[1; 3000]).expect("fits");
                }
            }
        }
    }
}

/// Many lives; gives what was wrong.
fn lives(seed: u64, careful: bool) -> Option<String> {
    let mut rng = Rng(seed);
    let mut sim = Sim::default();
    let mut world = World::default();
    let mut newest = 0;
    for life in 0..LIVES {
        let options = Options { seed: rng.next(), ..options() };
        let (spool, _) = Spool::open(sim, options, *b"ABCD", at(0)).expect("opens");
        let (journal, unfinished) = loaded(&spool);
        let mut life_of = Life { spool, journal, world: &mut world, careful };
        for id in life_of.world.acknowledged.clone() {
            let at_end = life_of.world.answered.contains(&id);
            if life_of.journal.standing("s", &id).is_none() && !at_end {
                return Some(format!("seed {seed}, life {life}: {id} was acknowledged and is unknown"));
            }
        }
        for command in &unfinished.to_run {
            life_of.run(&command.id);
        }
        for command in unfinished.interrupted.iter().chain(&unfinished.to_run) {
            life_of.answer(&command.id);
        }
        for answer in &unfinished.answers {
            life_of.acknowledge(&answer.id);
        }
        for _ in 0..rng.next() % 12 {
            life_of.step(&mut rng, &mut newest);
        }
        if let Some((id, calls)) = life_of.world.calls.iter().find(|(_, calls)| **calls > 1) {
            return Some(format!("seed {seed}, life {life}: {id} ran {calls} times"));
        }
        let survival = if one_in(&mut rng, 3) { Survival::All } else { pick(&mut rng, &SURVIVALS) };
        sim = life_of.spool.storage.after_cut(survival, rng.next());
    }
    let called = world.calls.len() as u64;
    assert!(called > LIVES / 4, "{called} commands ran in {LIVES} lives");
    None
}

fn loaded(spool: &Spool<Sim>) -> (Journal, Unfinished) {
    let values: Vec<(&str, &[u8])> =
        spool.keys(JOURNAL_OWNER).filter_map(|key| Some((key, spool.value(JOURNAL_OWNER, key)?))).collect();
    Journal::load(values.into_iter(), spool.values_max())
}

#[test]
fn one_id_runs_once_whatever_is_cut() {
    assert_eq!(lives(setting("SPOOL_JOURNAL_SEED", 1), true), None);
}

#[test]
fn who_does_not_wait_for_the_disk_is_caught() {
    assert!((1..5).any(|seed| lives(seed, false).is_some()));
}

fn command(id: &str) -> Command {
    let reply = Reply { topic: Some("answers/7".into()), correlation: Some(vec![0, 1, 2]), qos: 2 };
    Command { source: "boiler".into(), id: id.into(), body: b"{}".to_vec(), expires_ns: Some(-5), reply }
}

/// The journal as it comes up again after these changes.
fn again(changes: &[Change], quota: usize) -> (Journal, Unfinished) {
    let mut values: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for change in changes {
        match &change.value {
            Some(value) => values.insert(&change.key, value),
            None => values.remove(change.key.as_str()),
        };
    }
    Journal::load(values.into_iter(), quota)
}

#[test]
fn each_standing_comes_back_as_what_is_to_be_done() {
    let (mut journal, nothing) = Journal::load(std::iter::empty(), 10_000);
    assert_eq!(nothing, Unfinished::default());
    let mut changes = Vec::new();
    for id in ["waits", "runs", "answered", "done"] {
        changes.extend(journal.accept(at(1), command(id)).expect("is taken"));
    }
    for id in ["runs", "answered", "done"] {
        changes.extend(journal.begin("boiler", id));
    }
    for id in ["answered", "done"] {
        changes.extend(journal.finish("boiler", id, b"yes".to_vec()));
    }
    changes.extend(journal.acknowledged(at(2), "boiler", "done"));
    let (journal, unfinished) = again(&changes, 10_000);
    assert_eq!(unfinished.to_run, [command("waits")]);
    assert_eq!(unfinished.interrupted, [Command { body: Vec::new(), ..command("runs") }]);
    let Command { source, id, reply, .. } = command("answered");
    assert_eq!(unfinished.answers, [Answer { source, id, reply, body: Some(b"yes".to_vec()) }]);
    assert_eq!(journal.standing("boiler", "done"), Some(Standing::Done));
    let mut journal = journal;
    for id in ["waits", "runs", "answered", "done"] {
        assert_eq!(journal.accept(at(9), command(id)), Err(NotTaken::Known), "{id}");
    }
    assert_eq!(journal.standing("other", "done"), None);
    assert_eq!(journal.begin("boiler", "runs"), []);
}

#[test]
fn what_is_remembered_is_bounded_by_number_age_and_room() {
    let day = 86_400_000;
    let mut journal = Journal::load(std::iter::empty(), 1 << 20).0;
    let done = |journal: &mut Journal, now: Now, id: String| {
        journal.accept(now, Command { body: vec![1; 100], ..command(&id) }).expect("is taken");
        journal.begin("boiler", &id);
        journal.finish("boiler", &id, Vec::new());
        journal.acknowledged(now, "boiler", &id);
    };
    for n in 0..COMMANDS_DONE_MAX + 10 {
        done(&mut journal, at(0), format!("c-{n}"));
    }
    assert_eq!(journal.known.len(), COMMANDS_DONE_MAX);
    assert_eq!((journal.standing("boiler", "c-9"), journal.standing("boiler", "c-10")), (None, Some(Standing::Done)));
    // A clock that was never set makes nothing old.
    let unset = Now { synced: false, ..at(400 * day) };
    done(&mut journal, unset, "unset".into());
    assert_eq!(journal.known.len(), COMMANDS_DONE_MAX);
    done(&mut journal, at(8 * day), "late".into());
    assert_eq!(journal.known.len(), 2, "what has no time stays");
    // The smallest buffer.
    let mut journal = Journal::load(std::iter::empty(), 4096).0;
    for n in 0..200 {
        done(&mut journal, at(0), format!("c-{n}"));
        let held: usize = journal.known.iter().map(|(key, entry)| entry.size(key)).sum();
        assert!(held <= 4096, "{held}");
    }
    assert!(journal.known.len() >= 20, "{}", journal.known.len());
}

#[test]
fn what_does_not_fit_is_refused_and_an_answer_that_does_not_fit_is_not_kept() {
    let mut journal = Journal::load(std::iter::empty(), 4096).0;
    let limit = journal.command_max();
    let large = Command { body: vec![0; limit + 1], ..command("large") };
    assert_eq!(journal.accept(at(0), large), Err(NotTaken::TooLarge { limit }));
    assert_eq!(journal.accept(at(0), command("")), Err(NotTaken::Id));
    assert_eq!(journal.accept(at(0), command(&"x".repeat(COMMAND_ID_MAX + 1))), Err(NotTaken::Id));
    let taken = (0..COMMANDS_OPEN_MAX + 1).take_while(|n| journal.accept(at(0), command(&n.to_string())).is_ok());
    assert!((4..COMMANDS_OPEN_MAX).contains(&taken.count()));
    assert_eq!(journal.accept(at(0), command("more")), Err(NotTaken::Busy));
    let changes = journal.finish("boiler", "0", vec![1; 4000]);
    let (_, unfinished) = again(&changes, 4096);
    assert_eq!(unfinished.answers[0].body, None);
}
