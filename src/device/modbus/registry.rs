//! The buses by name: started, changed and ended with the configuration; asked by whoever is allowed to.
//!
//! A bus whose configuration changed ends its present request, lets go of its port, and a new owner takes over. What
//! waited is asked again by the new one: a source on it notices a pause, on any other bus nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::warn;

use super::Error;
use super::bus::{Owner, Setup};
use super::call::{Answer, Call, Pending, Tally};
use super::link::now;
use super::wire::Dial;
use crate::config::Bus;
use crate::status;

/// Calls on their way to an owner.
const INBOX_MAX: usize = 64;
/// How long an owner may take to end its present request.
const END_MAX: Duration = Duration::from_secs(10);
/// How long a bus may be between two owners.
const HANDOVER_MAX: Duration = Duration::from_secs(15);
/// How often a call is given to a next owner.
const OWNERS_MAX: usize = 3;

#[derive(Clone)]
struct Handle {
    bus: Bus,
    inbox: mpsc::Sender<Pending>,
    stop: Arc<watch::Sender<bool>>,
    status: watch::Receiver<status::Bus>,
}

type Map = BTreeMap<String, Handle>;

/// All buses. A clone is the same ones.
#[derive(Clone)]
pub struct Buses(Arc<watch::Sender<Map>>);

impl Default for Buses {
    fn default() -> Self {
        Self::new()
    }
}

impl Buses {
    /// None yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Map::new())))
    }

    /// Ends what is not wanted, or not as it is; starts what is wanted and not there. What is as wanted goes on.
    pub async fn apply(&self, wanted: &BTreeMap<String, Bus>) {
        self.apply_with(wanted, |bus| Arc::new(bus.url.clone())).await;
    }

    /// The same with other ways to the devices.
    pub(super) async fn apply_with(&self, wanted: &BTreeMap<String, Bus>, dial: impl Fn(&Bus) -> Arc<dyn Dial>) {
        let mut ended = Vec::new();
        self.0.send_if_modified(|map| {
            let stays = |name: &String, handle: &Handle| wanted.get(name) == Some(&handle.bus);
            let names: Vec<_> = map.iter().filter(|(n, h)| !stays(n, h)).map(|(name, _)| name.clone()).collect();
            ended.extend(names.into_iter().filter_map(|name| map.remove_entry(&name)));
            !ended.is_empty()
        });
        for (_, handle) in &ended {
            handle.stop.send_replace(true);
        }
        for (name, handle) in &ended {
            // A serial port has to be free before it is opened again.
            if timeout(END_MAX, handle.inbox.closed()).await.is_err() {
                warn!(bus = %name, "did not end within {END_MAX:?}");
            }
        }
        let missing: Vec<_> = wanted.iter().filter(|(name, _)| !self.0.borrow().contains_key(*name)).collect();
        for (name, bus) in missing {
            let handle = start(name, bus, dial(bus));
            self.0.send_modify(|map| drop(map.insert(name.clone(), handle)));
        }
    }

    /// How each is, in order of name.
    pub fn status(&self) -> Vec<status::Bus> {
        self.0.borrow().values().map(|handle| handle.status.borrow().clone()).collect()
    }

    /// Somebody who asks, with a turn of his own.
    pub fn caller(&self, source: &str) -> Caller {
        Caller { buses: self.clone(), source: source.into() }
    }
}

fn start(name: &str, bus: &Bus, dial: Arc<dyn Dial>) -> Handle {
    let (inbox, calls) = mpsc::channel(INBOX_MAX);
    let (stop, stopped) = watch::channel(false);
    let shown = status::Bus { name: name.to_owned(), url: bus.url.to_string(), ..status::Bus::default() };
    let (status, receiver) = watch::channel(shown);
    let owner = Owner::new(Setup { name: name.to_owned(), bus: bus.clone(), dial }, status);
    tokio::spawn(owner.run(calls, stopped));
    Handle { bus: bus.clone(), inbox, stop: Arc::new(stop), status: receiver }
}

/// Asks on behalf of one source.
#[derive(Clone)]
pub struct Caller {
    buses: Buses,
    source: Arc<str>,
}

impl Caller {
    /// Whether there is a bus of this name, and whether it is a serial line, where units are 1 to 247.
    pub fn is_serial(&self, bus: &str) -> Option<bool> {
        self.buses.0.borrow().get(bus).map(|handle| handle.bus.url.device().is_some())
    }

    /// Asks, and waits for the answer. Whoever stops waiting stops nothing that was begun.
    pub async fn call(&self, bus: &str, call: Call) -> (Answer, Tally) {
        let refused = |error: Error| (call.nothing(&error), Tally::default());
        let mut map = self.buses.0.subscribe();
        for _ in 0..OWNERS_MAX {
            let found =
                async { map.wait_for(|map| map.contains_key(bus)).await.ok()?.get(bus).map(|h| h.inbox.clone()) };
            let inbox = timeout(HANDOVER_MAX.min(call.within), found).await.ok().flatten();
            let Some(inbox) = inbox else { return refused(Error::Link(format!("there is no bus \"{bus}\""))) };
            let (reply, answer) = oneshot::channel();
            match inbox.try_send(Pending::new(Arc::clone(&self.source), call.clone(), now(), reply)) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => return refused(Error::Busy),
                // Between two owners.
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    let _ = timeout(HANDOVER_MAX, map.changed()).await;
                    continue;
                }
            }
            if let Ok(answer) = answer.await {
                return answer;
            }
            // Its owner has ended before the call had its turn.
        }
        refused(Error::Link(format!("the bus \"{bus}\" is being configured anew")))
    }
}
