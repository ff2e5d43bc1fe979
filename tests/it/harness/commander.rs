//! Whoever sends commands: a client of MQTT 5 that is not ours, with response topic and correlation data.

use std::net::SocketAddr;
use std::sync::Arc;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use serde_json::Value;
use tokio::sync::watch;

use super::net::Task;
use super::{SOON, random, wait_for};

/// What a command may carry beside its payload.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// Where the answer is to go.
    pub response_topic: Option<&'static str>,
    /// What is to come back with it.
    pub correlation: Option<&'static str>,
    /// Seconds that the broker keeps it.
    pub expiry_s: Option<u32>,
    /// The broker keeps it.
    pub retain: bool,
}

/// See the module. It ends when it is dropped.
#[derive(Debug)]
pub struct Commander {
    client: AsyncClient,
    heard: Arc<watch::Sender<Vec<Publish>>>,
    /// QoS 1 messages that the broker has acknowledged.
    taken: Arc<watch::Sender<usize>>,
    sent: std::sync::atomic::AtomicUsize,
    _task: Task,
}

impl Commander {
    /// Connects, and listens to `topics`; comes back when the broker has confirmed it.
    pub async fn start(broker: SocketAddr, topics: &[&str]) -> Self {
        let mut options = MqttOptions::new(format!("commander-{:x}", random()), broker.ip().to_string(), broker.port());
        options.set_clean_start(true);
        let (client, events) = AsyncClient::new(options, 256);
        let (heard, taken) = (Arc::new(watch::Sender::new(Vec::new())), Arc::new(watch::Sender::new(0)));
        let task = Task::spawn(follow(events, Arc::clone(&heard), Arc::clone(&taken)));
        for topic in topics {
            client.subscribe(*topic, QoS::AtLeastOnce).await.expect("subscribe");
        }
        let commander = Self { client, heard, taken, sent: 0.into(), _task: task };
        // What the broker acknowledges after the subscriptions comes after them.
        commander.send("commander/ready", "", Extras::default()).await;
        commander
    }

    /// Publishes at QoS 1, and comes back when the broker has it.
    pub async fn send(&self, topic: &str, payload: &str, extras: Extras) {
        let properties = PublishProperties {
            response_topic: extras.response_topic.map(str::to_owned),
            correlation_data: extras.correlation.map(|data| data.as_bytes().to_vec().into()),
            message_expiry_interval: extras.expiry_s,
            ..PublishProperties::default()
        };
        let payload = payload.to_owned();
        self.client
            .publish_with_properties(topic, QoS::AtLeastOnce, extras.retain, payload, properties)
            .await
            .expect("publish");
        let sent = self.sent.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        wait_for("the broker takes it", SOON, || (*self.taken.borrow() >= sent).then_some(())).await;
    }

    /// Answers that came on a topic, as JSON with the correlation data beside it.
    pub fn heard(&self, topic: &str) -> Vec<(Value, String)> {
        let text = |publish: &Publish| {
            let data = publish.properties.as_ref().and_then(|properties| properties.correlation_data.clone());
            String::from_utf8(data.unwrap_or_default().to_vec()).expect("the test's correlation data")
        };
        let heard = self.heard.borrow();
        let here = heard.iter().filter(|publish| publish.topic == topic.as_bytes());
        here.map(|publish| (serde_json::from_slice(&publish.payload).expect("JSON"), text(publish))).collect()
    }

    /// Waits for an answer with that id.
    #[track_caller]
    pub fn answer(&self, topic: &str, id: &str) -> impl Future<Output = (Value, String)> {
        let what = format!("{}: an answer to {id} on {topic}", std::panic::Location::caller());
        let (topic, id) = (topic.to_owned(), id.to_owned());
        async move {
            wait_for(&what, SOON, || self.heard(&topic).into_iter().find(|(answer, _)| answer["id"] == id.as_str()))
                .await
        }
    }
}

async fn follow(mut events: EventLoop, heard: Arc<watch::Sender<Vec<Publish>>>, taken: Arc<watch::Sender<usize>>) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) => heard.send_modify(|heard| heard.push(publish)),
            Ok(Event::Incoming(Packet::PubAck(_))) => taken.send_modify(|taken| *taken += 1),
            Ok(_) => {}
            // The broker is away: the next poll dials again.
            Err(_) => tokio::time::sleep(super::LOOK_EVERY).await,
        }
    }
}
