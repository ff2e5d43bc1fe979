//! Whole lives of a session, simulated: our side with a durable store, a model broker, and a network between them
//! that cuts at any byte, stands still, or loses one of the two; all of it from one seed.
//!
//! Promises that are checked while it runs, and at the end:
//!
//! - QoS 1 is never lost; QoS 2 is never lost, nor delivered twice while the broker keeps the session; both ways.
//! - PUBLISH comes in the order of the log on every connection; PUBREL, PUBACK and PUBREC in the order of what they
//!   answer; DUP stands where it must.
//! - Never more in flight than Receive Maximum, no identifier in two exchanges, no alias that was not set on this
//!   connection, no packet that is too large, no PUBREL before it is durable, nothing behind DISCONNECT.
//! - When the faults end, everything drains.
//!
//! `OUTSTATION_SIM_SEEDS` is how many lives are lived (20,000 where it is not set), `OUTSTATION_SIM_FIRST` the first
//! seed. A life that breaks a promise prints its seed.

mod broker;
mod client;

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::sabotage::{self, FAULTS};
use super::tests::PROBES;
use crate::mqtt::packet::{QoS, Version};

use broker::Broker;
use client::Client;

/// Steps with faults, at most.
const FAULTY_STEPS_MAX: u64 = 600;
/// Steps without faults in which everything has to drain.
const DRAIN_STEPS_MAX: u64 = 60_000;

/// Lives that are lived where nothing else is asked for.
const LIVES: u64 = 20_000;
/// Lives in which a fault that was put in should show.
const LIVES_WITH_FAULT: u64 = 150;

const MIXED: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// A small generator of even numbers (SplitMix64): the same for the same seed everywhere.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// What kind of life it is.
#[derive(Clone, Debug)]
struct Plan {
    version: Version,
    messages: u32,
    topics: u64,
    /// Packet identifiers come round again after so many numbers (R2, R5).
    ids: u32,
    in_flight_max: u16,
    /// Receive Maximum is drawn from 1 to this at each CONNACK.
    receive_maximum: u64,
    /// Limits on packet size and QoS change from connection to connection.
    has_changing_limits: bool,
    aliases: u64,
    /// Percent.
    refusals: u64,
    /// The broker comes back with an older copy of its state (R9).
    goes_back: bool,
    /// The broker delivers a QoS 2 message when PUBREL comes, not when PUBLISH comes.
    delivers_on_pubrel: bool,
    /// Percent of all steps.
    faults: u64,
    /// Percent of the occasions on which the store syncs.
    syncs: u64,
    /// Messages of the broker to us.
    incoming: u32,
    incoming_qos: [QoS; 3],
    /// Percent of resends that the broker sends without DUP (F-27).
    forgets_dup: u64,
    /// The most bytes that move in a step.
    chunk: u64,
}

impl Plan {
    fn new(random: &mut Random) -> Self {
        let version = if random.percent(70) { Version::V5 } else { Version::V311 };
        let v5 = version == Version::V5;
        let goes_back = v5 && random.percent(15);
        Self {
            version,
            messages: 5 + random.below(40) as u32,
            topics: 1 + random.below(4),
            // With a broker that goes back none comes round: it may meet the message that had it before.
            ids: if goes_back { 32_768 } else { [8, 16, 32_768][random.below(3) as usize] },
            in_flight_max: 1 + random.below(8) as u16,
            receive_maximum: 1 + random.below(8),
            has_changing_limits: v5 && random.percent(20),
            aliases: random.below(4),
            refusals: if v5 && random.percent(30) { 10 } else { 0 },
            goes_back,
            delivers_on_pubrel: random.percent(50),
            faults: [1, 3, 10][random.below(3) as usize],
            syncs: [100, 30, 5][random.below(3) as usize],
            incoming: if goes_back { 0 } else { random.below(60) as u32 },
            incoming_qos: [MIXED, [QoS::ExactlyOnce; 3]][random.below(2) as usize],
            forgets_dup: if random.percent(20) { 50 } else { 0 },
            chunk: [3, 40, 400][random.below(3) as usize],
        }
    }
}

/// Two pipes. Bytes that are in them when they are cut are lost.
#[derive(Default)]
struct Link {
    up: VecDeque<u8>,
    down: VecDeque<u8>,
    /// Nothing moves, and nobody is told.
    is_frozen: bool,
}

/// Numbers whose PUBREC is durable at our side.
type Ledger = Rc<RefCell<BTreeSet<u32>>>;

struct World {
    random: Random,
    plan: Plan,
    now: Duration,
    link: Option<Link>,
    client: Client,
    broker: Broker,
    has_faults: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let plan = Plan::new(&mut random);
        let ledger = Ledger::default();
        let client = Client::new(plan.clone(), Random(random.next()), Rc::clone(&ledger));
        let broker = Broker::new(plan.clone(), Random(random.next()), ledger);
        let now = Duration::from_secs(1);
        Self { random, plan, now, link: None, client, broker, has_faults: true }
    }

    fn live(&mut self) {
        let faulty = self.random.below(FAULTY_STEPS_MAX);
        (0..faulty).for_each(|_| self.step());
        self.has_faults = false;
        self.broker.calm();
        if self.link.as_ref().is_some_and(|link| link.is_frozen) {
            self.cut();
        }
        for _ in 0..DRAIN_STEPS_MAX {
            if self.client.is_done() && self.broker.is_done() {
                self.broker.check_end(&self.client);
                return;
            }
            self.step();
        }
        panic!("does not drain: {:?} {:?}", self.plan, self.client);
    }

    fn step(&mut self) {
        if self.link.is_none() {
            self.link = Some(Link::default());
            self.client.connect(self.now);
            self.broker.accept();
        }
        if self.has_faults && self.random.percent(self.plan.faults) {
            self.fault();
            return;
        }
        let count = 1 + self.random.below(self.plan.chunk) as usize;
        match self.random.below(12) {
            0 | 1 => self.client.fill(self.now),
            10 => self.client.request(self.now, !self.has_faults),
            2 | 3 => self.write(count),
            4 | 5 => self.read_at_broker(count),
            6 => self.broker.work(),
            7 => self.write_at_broker(count),
            8 => self.read(count),
            9 if self.random.percent(self.plan.syncs) => self.client.sync(),
            _ => self.pass(),
        }
        if self.has_faults && self.random.below(2000) < self.plan.faults {
            return self.crash_unnoted();
        }
        self.client.handle_events(self.now);
        let is_said = self.client.session.is_closing() && self.client.session.transmit().is_empty();
        if self.client.must_close || is_said {
            if is_said {
                self.read_at_broker(usize::MAX);
            }
            self.cut();
        }
    }

    fn fault(&mut self) {
        match self.random.below(9) {
            8 if self.plan.goes_back => {
                self.cut();
                self.broker.go_back();
            }
            0..=2 => self.cut(),
            3 => {
                self.cut();
                self.client.crash();
            }
            4 => {
                self.cut();
                self.broker.lose_session();
            }
            5 => {
                // Both at once: the broker forgets while we do not run.
                self.cut();
                self.broker.lose_session();
                self.client.crash();
            }
            6 => {
                if let Some(link) = &mut self.link {
                    link.is_frozen = true;
                }
            }
            _ => self.client.leave(),
        }
    }

    /// What the session was just told is lost with the process: CONNACK of a new session among it.
    fn crash_unnoted(&mut self) {
        self.link = None;
        self.client.crash();
        self.broker.disconnected();
    }

    fn cut(&mut self) {
        self.link = None;
        self.client.disconnected(self.now);
        self.broker.disconnected();
    }

    fn write(&mut self, count: usize) {
        let Some(link) = &mut self.link else { return };
        let bytes = self.client.session.transmit();
        let count = count.min(bytes.len());
        link.up.extend(&bytes[..count]);
        self.client.session.transmitted(self.now, count);
    }

    fn read_at_broker(&mut self, count: usize) {
        let Some(link) = self.link.as_mut().filter(|link| !link.is_frozen) else { return };
        let count = count.min(link.up.len());
        let bytes: Vec<u8> = link.up.drain(..count).collect();
        self.broker.receive(&bytes);
    }

    fn write_at_broker(&mut self, count: usize) {
        if let Some(link) = &mut self.link {
            link.down.extend(self.broker.transmit(count));
        }
    }

    fn read(&mut self, count: usize) {
        let Some(link) = self.link.as_mut().filter(|link| !link.is_frozen) else { return };
        let count = count.min(link.down.len());
        let bytes: Vec<u8> = link.down.drain(..count).collect();
        self.client.session.receive(self.now, &bytes).expect("the model broker breaks no rule");
    }

    fn pass(&mut self) {
        let is_frozen = self.link.as_ref().is_some_and(|link| link.is_frozen);
        match self.client.session.poll_timeout() {
            // Nobody hears anything: time passes until somebody minds.
            Some(due) if is_frozen => self.now = self.now.max(due),
            None if is_frozen => return self.cut(),
            _ => self.now += Duration::from_millis(self.random.below(30)),
        }
        if self.client.session.handle_timeout(self.now).is_err() {
            assert!(is_frozen || self.has_faults, "a living link is given up");
            self.cut();
        }
    }
}

/// Says which life it was.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("a promise was broken; again with OUTSTATION_SIM_FIRST={} OUTSTATION_SIM_SEEDS=1", self.0);
        }
    }
}

fn number_from(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// On as many threads as there are processors, each with every so many-th seed.
#[test]
fn every_life_keeps_its_promises() {
    let first = number_from("OUTSTATION_SIM_FIRST", 0);
    let last = first + number_from("OUTSTATION_SIM_SEEDS", LIVES);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for thread in 0..threads as u64 {
            scope.spawn(move || {
                for seed in (first + thread..last).step_by(threads) {
                    let seed = Seed(seed);
                    World::new(seed.0).live();
                }
            });
        }
    });
}

/// Each fault that is put into the session is found: by lives, or by a test of the single steps.
#[test]
fn every_fault_put_in_is_found() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for &fault in FAULTS {
        sabotage::set(Some(fault));
        let life = (0..LIVES_WITH_FAULT).find(|&seed| std::panic::catch_unwind(|| World::new(seed).live()).is_err());
        let test = PROBES.iter().find(|(_, probe)| std::panic::catch_unwind(probe).is_err()).map(|(name, _)| name);
        if std::env::var_os("OUTSTATION_SIM_SHOW").is_some() {
            println!("{fault:?}: life {life:?}, test {test:?}");
        }
        if life.is_none() && test.is_none() {
            missed.push(fault);
        }
    }
    sabotage::set(None);
    std::panic::set_hook(quiet);
    assert_eq!(missed, [], "the simulation and the tests see nothing of these");
    assert!(FAULTS.len() >= 20);
}
