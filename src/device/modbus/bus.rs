//! The task that owns a bus.
//!
//! ```text
//!  calls ─▶ queue ─▶ pick: whose turn, is the unit well, is there a link ─▶ work (at most `connections` at once) ─┐
//!             ▲                                                                                                   │
//!             └──────────── next request of the same call, another attempt ◀── done: judge what came ◀────────────┘
//! ```
//!
//! Ends when nobody can ask it any more; what is under way is brought to its end first, what has not begun goes
//! back unanswered to whoever asked, who asks the bus's next owner.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::Error;
use super::call::{Answer, Pending, What, limits};
use super::frame::Reply;
use super::link::{Fault, Link, now};
use super::patience::{Standing, Unit};
use super::queue::{Look, Queue};
use super::wire::{Dial, Framing};
use super::work::{Done, Job, Outcome, Task, work};
use crate::config::Bus;
use crate::modbus::{self, Planner};
use crate::status::{self, BusState};

/// First and longest pause between two attempts to reach a bus.
const REDIAL_MIN: Duration = Duration::from_millis(250);
const REDIAL_MAX: Duration = Duration::from_secs(10);
/// A further connection that was refused while others stand is not tried again for so long.
const CROWDED: Duration = Duration::from_secs(30);
/// A gateway says with these that the unit behind it does not answer (Modbus application protocol 1.1b3, section 7).
const GATEWAY_FAULTS: [u8; 2] = [10, 11];

/// What a bus is made of.
pub(super) struct Setup {
    /// Its name, for the log.
    pub name: String,
    /// Its configuration.
    pub bus: Bus,
    /// How it is reached.
    pub dial: Arc<dyn Dial>,
}

/// How it stands with reaching the bus.
#[derive(Default)]
struct Reach {
    failures: u32,
    not_before: Option<Instant>,
    error: String,
    /// No more connections than these until then.
    crowded: Option<(usize, Instant)>,
}

type Working = Pin<Box<dyn Future<Output = Done> + Send>>;

/// See the head of this file.
pub(super) struct Owner {
    setup: Setup,
    framing: Framing,
    queue: Queue<Pending>,
    units: BTreeMap<u8, (Unit, Planner)>,
    idle: Vec<Link>,
    working: FuturesUnordered<Working>,
    reach: Reach,
    status: watch::Sender<status::Bus>,
    calls: u64,
    began: Instant,
}

impl Owner {
    /// Has not reached for its bus yet, and does not before it is asked.
    pub(super) fn new(setup: Setup, status: watch::Sender<status::Bus>) -> Self {
        let framing = Framing::of(&setup.bus.url, setup.bus.check_transaction);
        Self {
            setup,
            framing,
            queue: Queue::new(),
            units: BTreeMap::new(),
            idle: Vec::new(),
            working: FuturesUnordered::new(),
            reach: Reach::default(),
            status,
            calls: 0,
            began: now(),
        }
    }

    /// Until `stop` is true, or its sender is gone.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Pending>, mut stop: watch::Receiver<bool>) {
        loop {
            let wake = self.start();
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Some(done) = self.working.next(), if !self.working.is_empty() => self.done(done),
                call = inbox.recv() => match call {
                    Some(call) => self.take(call),
                    None => break,
                },
                () = sleep_until(wake), if wake.is_some() => {}
            }
        }
        while let Some(done) = self.working.next().await {
            self.done(done);
        }
        // Links first: who waits for this end wants the port.
        drop(self);
        drop(inbox);
    }

    fn take(&mut self, mut call: Pending) {
        self.calls += 1;
        call.id = self.calls;
        let source = Arc::clone(&call.source);
        if let Err(mut call) = self.queue.push(&source, call) {
            call.answer(call.call.nothing(&Error::Busy));
        }
    }

    /// Puts to work what can be. Gives when there may be more, if time alone brings it.
    fn start(&mut self) -> Option<Instant> {
        let mut wake = None;
        while self.working.len() < self.lanes() {
            wake = None;
            let Some(job) = self.pick(&mut wake) else { break };
            let link = self.idle.pop();
            if link.is_none() && self.working.is_empty() {
                self.status.send_if_modified(|status| {
                    std::mem::replace(&mut status.state, BusState::Connecting) != BusState::Connecting
                });
            }
            let terms = (Arc::clone(&self.setup.dial), self.framing, self.setup.bus.pause_connect);
            self.working.push(Box::pin(work(link, terms, job)));
        }
        wake
    }

    /// Connections at once, at this time.
    fn lanes(&self) -> usize {
        let wanted = usize::from(self.setup.bus.connections.max(1));
        match self.reach.crowded {
            Some((most, until)) if until > now() => most.clamp(1, wanted),
            _ => wanted,
        }
    }

    /// The next request that can be made.
    fn pick(&mut self, wake: &mut Option<Instant>) -> Option<Job> {
        let (at, elapsed) = (now(), now().saturating_duration_since(self.began));
        let Self { setup, framing, queue, units, idle, working, reach, .. } = self;
        let is_unreachable = reach.not_before.is_some_and(|until| until > at) && idle.is_empty() && working.is_empty();
        queue.next(|call| {
            if call.under_way {
                return Look::Wait;
            }
            if call.is_over() {
                return Look::Over;
            }
            let (unit, planner) = units.entry(call.call.unit).or_default();
            let settings = setup.bus.unit(call.call.unit);
            let hindrance = match is_unreachable {
                true => Some(Hindrance::Over(Error::Link(reach.error.clone()))),
                false => hindrance(call, unit, at),
            };
            match hindrance {
                None => {}
                Some(Hindrance::Over(error)) => {
                    call.finish(planner, &error, elapsed);
                    return Look::Over;
                }
                Some(Hindrance::Until(until)) => {
                    *wake = Some(wake.map_or(until, |wake| wake.min(until)));
                    return Look::Wait;
                }
                Some(Hindrance::Others) => return Look::Wait,
            }
            let task = match &call.call.what {
                What::Write { write, before, verify } => {
                    Some(Task::Write { write: write.clone(), before: *before, verify: *verify })
                }
                What::Read(_) => call.next_read(planner, limits(settings), elapsed).map(Task::Read),
            };
            let Some(task) = task else {
                // Every read has its answer.
                call.finish(planner, &Error::Busy, elapsed);
                return Look::Over;
            };
            let is_write = matches!(task, Task::Write { .. });
            let attempts = if unit.is_aside() { 1 } else { settings.retries.saturating_add(1) };
            let last_attempt = is_write || call.attempts.saturating_add(1) >= attempts;
            let timeout = call.call.timeout.map_or(settings.timeout, |shorter| shorter.min(settings.timeout));
            // A late reply cannot be told from the next one where frames have no number: it is waited out.
            let rest = if matches!(framing, Framing::Rtu { .. }) { timeout } else { Duration::ZERO };
            unit.in_flight += 1;
            unit.alone = is_write;
            call.under_way = true;
            let settings = settings.clone();
            Look::Go(Job { call: call.id, unit: call.call.unit, settings, timeout, task, last_attempt, rest })
        })
    }

    /// What a job came to: the link, the unit and the call are judged.
    fn done(&mut self, done: Done) {
        let Done { link, job, outcome, costs } = done;
        let at = now();
        if let Some(link) = link {
            self.idle.push(link);
        }
        self.count(&outcome, &costs);
        let mut standing = self.units.remove(&job.unit).unwrap_or_default();
        let (unit, planner) = (&mut standing.0, &mut standing.1);
        unit.in_flight = unit.in_flight.saturating_sub(1);
        unit.alone = false;
        let again = match &outcome {
            Outcome::Read(Reply::Exception(code)) | Outcome::Written(Err(Fault::Exception(code))) => {
                match GATEWAY_FAULTS.contains(code) {
                    true => self.unit_failed(&job, unit, Error::Exception(*code), at),
                    false => self.unit_answered(&job, unit),
                }
                false
            }
            Outcome::Read(_) | Outcome::Written(Ok(_)) => {
                self.unit_answered(&job, unit);
                false
            }
            Outcome::Failed(fault) | Outcome::Written(Err(fault)) if job.last_attempt => {
                self.unit_failed(&job, unit, fault.error(), at);
                false
            }
            Outcome::Failed(_) | Outcome::Written(Err(_)) => {
                unit.rest(at, job.rest);
                true
            }
            Outcome::NoLink(why) => self.not_reached(why, at),
        };
        let elapsed = at.saturating_duration_since(self.began);
        if let Some(call) = self.queue.find(|call| call.id == job.call) {
            call.under_way = false;
            costs.add_to(&mut call.tally);
            if again {
                call.attempts = call.attempts.saturating_add(u8::from(!matches!(outcome, Outcome::NoLink(_))));
            } else {
                judge(call, planner, outcome, elapsed);
            }
        }
        self.units.insert(job.unit, standing);
        self.show_state();
    }

    fn unit_answered(&mut self, job: &Job, unit: &mut Unit) {
        if std::mem::take(&mut self.reach.failures) > 0 {
            info!(bus = %self.setup.name, "{} is there again", self.setup.bus.url);
        }
        self.reach.not_before = None;
        if unit.answered() {
            info!(bus = %self.setup.name, "unit {} answers again", job.unit);
        }
    }

    fn unit_failed(&mut self, job: &Job, unit: &mut Unit, error: Error, at: Instant) {
        let has_others = self.units.values().any(|(other, _)| !other.is_aside());
        let shown = format!("unit {}: {error}", job.unit);
        if let Some(pause) = unit.put_aside(at, error, job.rest, has_others) {
            warn!(bus = %self.setup.name, "{shown}; asked again in {pause:?}, then less and less often");
        }
        self.show(|status| status.last_error = Some(shown));
    }

    /// There is no connection. Whether the request is worth another attempt: while other connections stand, it is.
    fn not_reached(&mut self, why: &str, at: Instant) -> bool {
        let others = self.idle.len() + self.working.len();
        if others > 0 {
            self.reach.crowded = Some((others, at + CROWDED));
            self.show(|status| status.last_error = Some(format!("no further connection: {why}")));
            return true;
        }
        if self.reach.failures == 0 {
            warn!(bus = %self.setup.name, "{}: {why}; tried again", self.setup.bus.url);
        }
        let pause = REDIAL_MIN.saturating_mul(1 << self.reach.failures.min(16)).min(REDIAL_MAX);
        self.reach.failures = self.reach.failures.saturating_add(1);
        self.reach.not_before = Some(at + pause);
        self.reach.error = why.to_owned();
        self.show(|status| status.last_error = Some(why.to_owned()));
        false
    }

    fn count(&self, outcome: &Outcome, costs: &super::work::Costs) {
        self.status.send_modify(|status| {
            status.requests += costs.requests;
            status.timeouts += costs.timeouts;
            status.exceptions += costs.exceptions;
            status.connects += costs.connects;
            status.errors += u64::from(matches!(
                outcome,
                Outcome::Failed(_) | Outcome::NoLink(_) | Outcome::Written(Err(Fault::Broken(_) | Fault::Closed))
            ));
        });
    }

    /// Keeps the status true, and changes in it what `change` does.
    fn show(&self, change: impl FnOnce(&mut status::Bus)) {
        self.show_state();
        self.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            *status != before
        });
    }

    /// After every request: nothing is copied where nothing changed.
    fn show_state(&self) {
        let linked = !self.idle.is_empty() || !self.working.is_empty();
        let state = match self.reach.not_before {
            Some(_) if !linked => BusState::Waiting,
            _ if linked => BusState::Connected,
            _ => BusState::Idle,
        };
        let aside = || self.units.iter().filter(|(_, (unit, _))| unit.is_aside()).map(|(number, _)| *number);
        self.status.send_if_modified(|status| {
            let is_same = status.state == state && status.units_aside.iter().copied().eq(aside());
            if !is_same {
                status.state = state;
                status.units_aside = aside().collect();
            }
            !is_same
        });
    }
}

/// Why a call can't go on now.
enum Hindrance {
    /// It never will.
    Over(Error),
    /// Its unit rests.
    Until(Instant),
    /// Others are in the way, and will be gone.
    Others,
}

fn hindrance(call: &Pending, unit: &Unit, at: Instant) -> Option<Hindrance> {
    if call.deadline <= at {
        return Some(Hindrance::Over(Error::Busy));
    }
    let is_write = matches!(call.call.what, What::Write { .. });
    match unit.standing(at) {
        Standing::Aside(error) => Some(Hindrance::Over(error)),
        Standing::Resting(until) => Some(Hindrance::Until(until)),
        // One probe is enough.
        Standing::Due if unit.in_flight > 0 => Some(Hindrance::Others),
        _ if unit.alone || is_write && unit.in_flight > 0 => Some(Hindrance::Others),
        Standing::Good | Standing::Due => None,
    }
}

/// What became of a call's request.
fn judge(call: &mut Pending, planner: &mut Planner, outcome: Outcome, elapsed: Duration) {
    let answer = match outcome {
        Outcome::Written(result) => {
            return call.answer(Answer::Write(result.map_err(|fault| fault.error())));
        }
        Outcome::Read(Reply::Data(data)) => modbus::Answer::Data(data),
        Outcome::Read(Reply::Exception(code)) => modbus::Answer::Exception(code),
        Outcome::Read(Reply::Written) => modbus::Answer::Failed(Error::Link("a reply to something else".into())),
        Outcome::Failed(fault) => modbus::Answer::Failed(fault.error()),
        Outcome::NoLink(why) => modbus::Answer::Failed(Error::Link(why)),
    };
    if matches!(call.call.what, What::Write { .. }) {
        let error = match answer {
            modbus::Answer::Failed(error) => error,
            _ => Error::Link("a reply to something else".into()),
        };
        return call.answer(Answer::Write(Err(error)));
    }
    call.answered(planner, answer, elapsed);
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
