//! Entries of the log into messages, and the pace at which a backlog goes out.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::SharedRoute;
use super::window::{Item, Origin};
use crate::encode::{self, Gap, Identity, Message, Route};
use crate::mqtt::QoS;
use crate::reading::{Batch, Timestamp};
use crate::spool::{Body, Entry};

/// Routes that are kept ready; a source has one, and another one after each change.
const ROUTES_MAX: usize = 512;

/// Routes that came back from the log, ready for use.
#[derive(Default)]
pub(in crate::agent) struct Routes {
    known: HashMap<Arc<[u8]>, SharedRoute>,
}

/// How gaps are said: they have no route of their own.
pub(in crate::agent) struct GapRoute<'a> {
    /// `None` where `mqtt.topics.gaps` is turned off.
    pub(in crate::agent) topic: Option<&'a str>,
    /// The agent's id.
    pub(in crate::agent) agent: &'a str,
    /// Gaps that were refused with their sources, and are said once more without.
    pub(in crate::agent) bare: &'a BTreeSet<u64>,
}

impl Routes {
    fn route(&mut self, blob: &Arc<[u8]>) -> Result<SharedRoute, String> {
        if let Some(route) = self.known.get(blob) {
            return Ok(route.clone());
        }
        let route = Arc::new(Route::from_bytes(blob).map_err(|error| error.to_string())?);
        if self.known.len() >= ROUTES_MAX {
            self.known.clear();
        }
        self.known.insert(blob.clone(), route.clone());
        Ok(route)
    }

    /// The messages of an entry, in order of number; an error says why it can't be read.
    pub(in crate::agent) fn items(&mut self, entry: &Entry, gaps: &GapRoute<'_>) -> Result<Vec<Item>, String> {
        match &entry.body {
            Body::Record { route, payload } => {
                let encoding = self.route(&route.blob)?;
                let batch = Batch::decode(payload).map_err(|error| error.to_string())?;
                record_items(entry, &route.source, &encoding, &batch)
            }
            Body::Gap(gap) => Ok(gap_item(entry, gap, gaps).into_iter().collect()),
        }
    }
}

fn record_items(entry: &Entry, source: &Arc<str>, route: &Route, batch: &Batch) -> Result<Vec<Item>, String> {
    let plans = encode::plan(route, batch);
    if plans.len() != entry.messages as usize {
        return Err(format!("it makes {} messages and was accepted as {}", plans.len(), entry.messages));
    }
    let qos = QoS::from_bits(route.qos).ok_or_else(|| format!("it has QoS {}", route.qos))?;
    let item = |(index, plan): (usize, &encode::Plan)| {
        let index = index as u64;
        let identity = Identity { store: entry.store, boot: entry.boot, seq: entry.seq + index };
        let message = encode::reading_message(route, batch, plan, identity);
        let origin =
            Origin { number: entry.first + index, identity, source: Some(source.clone()), time_ns: entry.time_ns };
        Item { origin, qos, retain: route.retain, message }
    };
    Ok(plans.iter().enumerate().map(item).collect())
}

fn gap_item(entry: &Entry, gap: &crate::spool::Gap, route: &GapRoute<'_>) -> Option<Item> {
    let identity = Identity { store: entry.store, boot: entry.boot, seq: entry.seq };
    let run = Gap {
        reason: gap.reason.as_str(),
        boot: gap.boot,
        first: gap.first,
        last: gap.last,
        messages: gap.messages,
        sources: if route.bare.contains(&entry.first) { &[] } else { &gap.sources },
        from: gap.from_ns.map(Timestamp),
        to: gap.to_ns.map(Timestamp),
    };
    let payload = encode::gap(route.agent, identity, Timestamp(entry.time_ns), &run);
    let message = Message { topic: route.topic?.to_owned(), payload };
    let origin = Origin { number: entry.first, identity, source: None, time_ns: entry.time_ns };
    Some(Item { origin, qos: QoS::AtLeastOnce, retain: false, message })
}

/// `buffer.replay_rate`: while catching up, at most so many messages a second more than are being taken.
///
/// A bucket of permits: each message that is taken adds one, time adds `rate` a second, each message that is sent
/// takes one.
pub(super) struct Rate {
    per_second: u32,
    permits: f64,
    filled: Duration,
    appended: u64,
}

impl Rate {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, permits: 0.0, filled: Duration::ZERO, appended: 0 }
    }

    /// Whether a message may go out now; if not, how long until one may.
    pub(super) fn wait(&mut self, now: Duration, appended: u64) -> Option<Duration> {
        if self.per_second == 0 {
            return None;
        }
        let rate = f64::from(self.per_second);
        let taken = appended.saturating_sub(self.appended) as f64;
        let earned = now.saturating_sub(self.filled).as_secs_f64() * rate;
        // A second's worth may be saved up beside what has just been taken.
        self.permits = (self.permits + earned).min(rate) + taken;
        (self.filled, self.appended) = (now, appended);
        (self.permits < 1.0).then(|| Duration::from_secs_f64((1.0 - self.permits) / rate))
    }

    /// A message went out.
    pub(super) fn sent(&mut self) {
        self.permits -= 1.0;
    }

    /// What was appended before the connection stood is backlog.
    pub(super) fn connected(&mut self, now: Duration, appended: u64) {
        *self = Self { permits: 0.0, filled: now, appended, per_second: self.per_second };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_goes_out_at_the_rate_and_live_messages_beside_it() {
        let mut rate = Rate::new(10);
        rate.connected(Duration::ZERO, 1000);
        let (mut sent, mut appended) = (0, 1000);
        for ms in 0..10_000_u64 {
            if ms % 100 == 0 {
                appended += 1;
            }
            while rate.wait(Duration::from_millis(ms), appended).is_none() {
                rate.sent();
                sent += 1;
            }
        }
        // 100 were taken in these 10 s, 100 more may go out of the backlog.
        assert!((198..=201).contains(&sent), "{sent}");
    }

    #[test]
    fn no_rate_no_wait() {
        assert_eq!(Rate::new(0).wait(Duration::ZERO, 5), None);
    }

    #[test]
    fn the_wait_is_long_enough() {
        let mut rate = Rate::new(4);
        rate.connected(Duration::ZERO, 0);
        let wait = rate.wait(Duration::ZERO, 0).unwrap();
        assert_eq!(wait, Duration::from_millis(250));
        assert_eq!(rate.wait(wait, 0), None);
    }
}
