//! The subscriber that checks: a client that is not ours (rumqttc), with a persistent session at QoS 1 on `#`.
//!
//! It connects again for ever, subscribes again where the broker has forgotten it, keeps every message in the order of
//! arrival, and enters each into a [`Ledger`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{AsyncClient, ConnectReturnCode, Event, EventLoop, MqttOptions, Packet, Publish, QoS};
use serde_json::Value;
use tokio::sync::watch;

use super::ledger::Ledger;
use super::net::Task;
use super::{Agent, SOON, STATUS_TOPIC, random, wait_until};

/// What the agent's largest message fits into.
const PACKET_MAX: usize = 1 << 20;

/// A message as it came.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its payload as JSON; null where it is none.
    pub json: Value,
    /// The payload itself.
    pub payload: Vec<u8>,
    /// The lower one of what the agent published and 1.
    pub qos: u8,
    /// Whether it is one that the broker kept.
    pub retain: bool,
    /// Whether the broker says that it may have sent it before.
    pub dup: bool,
}

/// What it saw so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// All messages, in order of arrival.
    pub messages: Vec<Message>,
    /// Those with a number.
    pub ledger: Ledger,
    subscribed: u64,
}

/// See the module. It ends when it is dropped.
#[derive(Debug)]
pub struct Checker {
    seen: Arc<watch::Sender<Seen>>,
    _task: Task,
}

impl Checker {
    /// Connects to the broker, and comes back when it is subscribed.
    pub async fn start(broker: SocketAddr) -> Self {
        let mut options = options("checker", broker);
        options.set_clean_session(false);
        let (client, events) = AsyncClient::new(options, 16);
        let seen = Arc::new(watch::Sender::new(Seen::default()));
        let task = Task::spawn(follow(client, events, Arc::clone(&seen)));
        let checker = Self { seen, _task: task };
        checker.subscribed_again(0).await;
        checker
    }

    /// How often the broker confirmed its subscription.
    pub fn subscribed(&self) -> u64 {
        self.seen.borrow().subscribed
    }

    /// Waits until the broker has confirmed more subscriptions than `before`.
    pub async fn subscribed_again(&self, before: u64) {
        wait_until("the checker is subscribed", SOON, || self.subscribed() > before).await;
    }

    /// Looks at what it saw.
    pub fn look<T>(&self, at: impl FnOnce(&Seen) -> T) -> T {
        at(&self.seen.borrow())
    }

    /// All messages of one topic.
    pub fn of(&self, topic: &str) -> Vec<Message> {
        self.look(|seen| seen.messages.iter().filter(|message| message.topic == topic).cloned().collect())
    }

    /// How many messages came on one topic.
    pub fn count(&self, topic: &str) -> usize {
        self.look(|seen| seen.messages.iter().filter(|message| message.topic == topic).count())
    }

    /// Waits until there are so many messages of one topic.
    #[track_caller]
    pub fn wait_count(&self, topic: &str, count: usize, within: Duration) -> impl Future<Output = ()> {
        let what = format!("{}: {count} messages on {topic}", std::panic::Location::caller());
        let topic = topic.to_owned();
        async move { wait_until(&what, within, || self.count(&topic) >= count).await }
    }

    /// Waits for so many more messages on one topic.
    #[track_caller]
    pub fn wait_more(&self, topic: &str, more: usize) -> impl Future<Output = ()> {
        self.wait_count(topic, self.count(topic) + more, SOON)
    }

    /// Stops the agent, and fails the test unless it says so last and the ledger is kept.
    #[track_caller]
    pub fn kept_to_the_end_of(&self, agent: Agent) -> impl Future<Output = ()> {
        let says_so = self.wait_state(STATUS_TOPIC, "stopped");
        async move {
            agent.stop().await;
            says_so.await;
            self.assert_kept();
        }
    }

    /// Waits until the last message of one topic has that `state`, which is what status topics have.
    #[track_caller]
    pub fn wait_state(&self, topic: &str, state: &str) -> impl Future<Output = ()> {
        let what = format!("{}: {topic} says {state}", std::panic::Location::caller());
        let (topic, state) = (topic.to_owned(), state.to_owned());
        async move { wait_until(&what, SOON, || self.state(&topic) == Some(state.clone())).await }
    }

    fn state(&self, topic: &str) -> Option<String> {
        self.look(|seen| {
            let last = seen.messages.iter().rev().find(|message| message.topic == topic)?;
            last.json["state"].as_str().map(str::to_owned)
        })
    }

    /// Waits until everything has come that the broker had taken by now: what it takes after all else comes after it.
    pub async fn has_all_of(&self, broker: SocketAddr) {
        let id = format!("mark-{:x}", random());
        let (client, mut events) = AsyncClient::new(options(&id, broker), 16);
        client.publish(&id, QoS::AtLeastOnce, false, "").await.expect("its own event loop takes it");
        let giving = async {
            while !matches!(events.poll().await.expect("the broker answers"), Event::Incoming(Packet::PubAck(_))) {}
        };
        tokio::time::timeout(SOON, giving).await.expect("the broker takes the mark");
        wait_until("the checker has all that the broker had", SOON, || self.count(&id) > 0).await;
    }

    /// Fails the test unless the ledger is kept.
    #[track_caller]
    pub fn assert_kept(&self) {
        let seen = self.seen.borrow();
        seen.ledger.assert_kept();
    }
}

async fn follow(client: AsyncClient, mut events: EventLoop, seen: Arc<watch::Sender<Seen>>) {
    let mut retry = tokio::time::interval(Duration::from_millis(20));
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(ack))) if ack.code == ConnectReturnCode::Success => {
                if ack.session_present {
                    seen.send_modify(|seen| seen.subscribed += 1);
                } else {
                    client.subscribe("#", QoS::AtLeastOnce).await.expect("its own event loop takes it");
                }
            }
            Ok(Event::Incoming(Packet::SubAck(_))) => seen.send_modify(|seen| seen.subscribed += 1),
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                seen.send_modify(|seen| seen.enter(Message::from(publish)));
            }
            Ok(_) => {}
            // The broker is away: the next poll dials again.
            Err(_) => {
                retry.tick().await;
            }
        }
    }
}

impl Seen {
    /// Takes note of a message.
    pub fn enter(&mut self, message: Message) {
        self.ledger.enter_with(&message.payload, &message.json, message.dup);
        self.messages.push(message);
    }
}

impl From<Publish> for Message {
    fn from(publish: Publish) -> Self {
        Self {
            json: serde_json::from_slice(&publish.payload).unwrap_or_default(),
            topic: publish.topic,
            payload: publish.payload.into(),
            qos: publish.qos as u8,
            retain: publish.retain,
            dup: publish.dup,
        }
    }
}

/// What the broker keeps for who comes late, by topic.
pub async fn retained(broker: SocketAddr) -> BTreeMap<String, Message> {
    tokio::time::timeout(SOON, fetch_retained(broker, "#")).await.expect("the broker hands out what it keeps")
}

/// What it keeps on one topic; some brokers look at no wildcards here, and some go on before they have handed it out.
pub async fn retained_on(broker: SocketAddr, topic: &str) -> Message {
    let looking = async {
        loop {
            if let Some(message) = fetch_retained(broker, topic).await.remove(topic) {
                return message;
            }
        }
    };
    tokio::time::timeout(SOON, looking).await.unwrap_or_else(|_| panic!("nothing is kept on {topic}"))
}

async fn fetch_retained(broker: SocketAddr, filter: &str) -> BTreeMap<String, Message> {
    let id = format!("late-{:x}", random());
    let (client, mut events) = AsyncClient::new(options(&id, broker), 16);
    let (mut kept, mut half) = (BTreeMap::new(), true);
    loop {
        match events.poll().await.expect("the broker answers") {
            Event::Incoming(Packet::ConnAck(_)) => {
                for filter in [filter, &id] {
                    client.subscribe(filter, QoS::AtLeastOnce).await.expect("subscribe");
                }
            }
            // A broker sends what it keeps before it takes the next packet: when this one comes back, all has come.
            Event::Incoming(Packet::SubAck(_)) if std::mem::replace(&mut half, false) => {}
            Event::Incoming(Packet::SubAck(_)) => {
                client.publish(&id, QoS::AtLeastOnce, false, "").await.expect("publish");
            }
            Event::Incoming(Packet::Publish(publish)) if publish.topic == id => return kept,
            Event::Incoming(Packet::Publish(publish)) if publish.retain => {
                kept.insert(publish.topic.clone(), Message::from(publish));
            }
            _ => {}
        }
    }
}

fn options(id: &str, broker: SocketAddr) -> MqttOptions {
    let mut options = MqttOptions::new(id, broker.ip().to_string(), broker.port());
    options.set_max_packet_size(PACKET_MAX, PACKET_MAX);
    options.set_keep_alive(Duration::from_secs(10));
    options
}
