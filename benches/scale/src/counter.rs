//! The subscriber: every point of every period is counted, whatever message it came in.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use crate::device::WHOLE_BELOW;

/// The largest packet that is taken.
const PACKET_BYTES_MAX: usize = 1 << 20;

/// What came of one source in one period.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    /// A bit a point.
    seen: Vec<u64>,
    pub points: u64,
    /// Said to be bad.
    pub bad: u64,
    /// After the period began, in microseconds: when it was taken, and when the subscriber had it.
    pub taken_us: u64,
    pub arrived_us: u64,
}

/// All that came.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// By source, and by number of the period since the epoch.
    pub slots: BTreeMap<(String, u64), Slot>,
    pub messages: u64,
    pub bytes: u64,
    /// Points that came twice in one period, and values that are not their point's.
    pub twice: u64,
    pub wrong: u64,
    /// What could not be read.
    pub strange: u64,
}

/// The subscriber, and who sends commands.
pub struct Counter {
    counts: Arc<Mutex<Counts>>,
    client: Client,
    /// It is to end: that its connection does is no news.
    ending: Arc<AtomicBool>,
    pub replies: mpsc::Receiver<Vec<u8>>,
}

impl Counter {
    /// Stands when it returns: what is published from now on is counted.
    pub fn start(port: u16, agent: &str, period: Duration) -> Result<Self, String> {
        let mut options = MqttOptions::new("bench-scale", "127.0.0.1", port);
        options.set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
        let (client, mut connection) = Client::new(options, 64);
        let (base, counts) = (format!("outstation/{agent}/"), Arc::new(Mutex::new(Counts::default())));
        client.subscribe(format!("{base}+"), QoS::AtLeastOnce).map_err(|error| error.to_string())?;
        client.subscribe(format!("{base}reply/+"), QoS::AtLeastOnce).map_err(|error| error.to_string())?;
        let (sender, replies) = mpsc::channel();
        let (ready, stands) = mpsc::channel();
        let into = Arc::clone(&counts);
        let ending = Arc::new(AtomicBool::new(false));
        let is_ending = Arc::clone(&ending);
        thread::spawn(move || {
            for event in connection.iter() {
                let message = match event {
                    Ok(Event::Incoming(Packet::Publish(message))) => message,
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        let _ = ready.send(());
                        continue;
                    }
                    Ok(_) => continue,
                    Err(_) if is_ending.load(Ordering::Relaxed) => return,
                    Err(error) => return eprintln!("bench-scale: the subscriber lost its connection: {error}"),
                };
                match message.topic.strip_prefix(&base) {
                    Some("status" | "gaps") | None => {}
                    Some(topic) if topic.starts_with("reply/") => drop(sender.send(message.payload.to_vec())),
                    Some(source) => lock(&into).take(source, &message.payload, period),
                }
            }
        });
        for _ in 0..2 {
            let stood = stands.recv_timeout(Duration::from_secs(10));
            stood.map_err(|_| "the broker did not take the subscriptions".to_owned())?;
        }
        Ok(Self { counts, client, ending, replies })
    }

    pub fn look<T>(&self, at: impl FnOnce(&Counts) -> T) -> T {
        at(&lock(&self.counts))
    }

    pub fn publish(&self, topic: String, payload: String) -> Result<(), String> {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).map_err(|error| error.to_string())
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        drop(self.client.disconnect());
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Deserialize)]
struct Message<'m> {
    time: &'m str,
    #[serde(default)]
    values: Values,
    #[serde(default)]
    bad: BTreeMap<String, IgnoredAny>,
}

impl Counts {
    fn take(&mut self, source: &str, payload: &[u8], period: Duration) {
        let arrived = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        self.messages += 1;
        self.bytes += payload.len() as u64;
        let message: Option<Message<'_>> = serde_json::from_slice(payload).ok();
        let parsed = message.and_then(|message| Some((message.time.parse::<jiff::Timestamp>().ok()?, message)));
        let Some((time, message)) = parsed else {
            self.strange += 1;
            return;
        };
        let (time, period) = (time.as_microsecond() as u64, period.as_micros() as u64);
        let number = time / period;
        let slot = self.slots.entry((source.to_owned(), number)).or_default();
        slot.taken_us = time - number * period;
        slot.arrived_us = arrived.saturating_sub(number * period);
        slot.bad += message.bad.len() as u64;
        self.wrong += message.values.wrong;
        for point in message.values.points {
            let (word, bit) = (point as usize / 64, 1 << (point % 64));
            if slot.seen.len() <= word {
                slot.seen.resize(word + 1, 0);
            }
            let is_new = slot.seen[word] & bit == 0;
            slot.seen[word] |= bit;
            slot.points += u64::from(is_new);
            self.twice += u64::from(!is_new);
        }
    }
}

/// The points of `values`, by their numbers; a point is called `p` and its number.
#[derive(Default)]
struct Values {
    points: Vec<u32>,
    wrong: u64,
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Values;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("values by their points' names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
                let mut values = Values::default();
                while let Some((name, value)) = map.next_entry::<&str, f64>()? {
                    match name.strip_prefix('p').and_then(|number| number.parse::<u32>().ok()) {
                        Some(point) if value as u32 == point % WHOLE_BELOW => values.points.push(point),
                        _ => values.wrong += 1,
                    }
                }
                Ok(values)
            }
        }
        from.deserialize_map(All)
    }
}
