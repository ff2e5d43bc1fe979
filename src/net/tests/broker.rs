//! Against a real mosquitto: every QoS in both versions, TLS, refusals, and an outage.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::config::Scheme;
use crate::mqtt::packet::{Filter, Properties, PropertyList, Publish};
use crate::mqtt::session::Want;
use crate::mqtt::{Event, Options, PacketId, QoS, Reason, Session, Version};
use crate::net::{ConnectError, Connection, Dialer, LinkError, Target, TlsFiles};
use crate::os::clock;

use super::pki::Authority;
use super::{PATIENCE, plain, url};

/// As much as mosquitto takes by default. It says so in 5.0; from a client of 3.1.1 that sends more QoS 2 at
/// once, 2.0.11 acknowledges the rest, and drops it.
const IN_FLIGHT: u16 = 20;

/// A mosquitto on a free port; it ends with this value.
struct Mosquitto {
    address: SocketAddr,
    config: PathBuf,
    process: Child,
    _folder: TempDir,
}

impl Mosquitto {
    /// `settings` are lines of mosquitto.conf that come after its listener.
    async fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("mosquitto.conf");
        let address = free_port();
        let user = if rustix::process::getuid().is_root() { "user root\n" } else { "" };
        let text = format!("{user}listener {} 127.0.0.1\n{settings}\n", address.port());
        std::fs::write(&config, text).expect("written");
        let process = run(&config);
        let mut broker = Self { address, config, process, _folder: folder };
        broker.ready(address).await;
        broker
    }

    /// Waits until it takes connections at one of its addresses.
    async fn ready(&mut self, address: SocketAddr) {
        let waiting = async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                if let Some(status) = self.process.try_wait().expect("its state") {
                    panic!("mosquitto ended at its start with {status}: {}", self.config.display());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("mosquitto takes connections");
    }

    /// Ends it as an operator does: it takes note of its sessions.
    async fn stop(&mut self) {
        let pid = self.process.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())).expect("it runs");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
        self.process.wait().await.expect("its end");
    }

    async fn start_again(&mut self) {
        self.process = run(&self.config);
        self.ready(self.address).await;
    }
}

fn free_port() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    free.local_addr().expect("its address")
}

fn run(config: &Path) -> Child {
    Command::new("mosquitto")
        .arg("-c")
        .arg(config)
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("these tests need mosquitto: apt-get install mosquitto")
}

/// A session with its connection.
struct Client {
    session: Session,
    connection: Connection,
}

impl Client {
    async fn new(target: &Target, options: &Options) -> Self {
        let mut session = Session::new(IN_FLIGHT, 1 << 20);
        let (connection, _) =
            Dialer::new().connect(target, &mut session, options, true, PATIENCE).await.expect("connected");
        Self { session, connection }
    }

    async fn until<T>(&mut self, pick: impl FnMut(Event) -> Option<T>) -> T {
        super::until(&mut self.connection, &mut self.session, pick).await.expect("the link stands")
    }

    async fn subscribe(&mut self, filter: &str, qos: QoS) {
        let filters = [Filter::new(filter, qos)];
        self.session.subscribe(clock::now(), &filters, &PropertyList::new()).expect("a valid filter");
        let reasons = self.until(|event| match event {
            Event::Subscribed { reasons, .. } => Some(reasons),
            _ => None,
        });
        assert_eq!(reasons.await, [Reason::new(qos.bits())]);
    }

    fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS, id: u16) {
        let id = if qos == QoS::AtMostOnce { None } else { PacketId::new(id) };
        let message = Publish { dup: false, qos, retain: false, topic, id, properties: Properties::EMPTY, payload };
        self.session.publish(clock::now(), &message).expect("taken");
    }

    /// Goes on until everything that was published is over; messages that come in meanwhile are dropped.
    async fn settle(&mut self) {
        let settling = async {
            loop {
                while let Some(event) = self.session.poll_event() {
                    if let Event::Received { id } = event {
                        self.session.release(id);
                    }
                }
                if self.session.in_flight() == 0 && self.session.transmit().is_empty() {
                    break;
                }
                self.connection.turn(&mut self.session).await.expect("the link stands");
            }
        };
        tokio::time::timeout(PATIENCE, settling).await.expect("everything is acknowledged in time");
    }

    /// The payloads of the next messages, each acknowledged.
    async fn take(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        while payloads.len() < count {
            let message = self.until(|event| match event {
                Event::Message(message) => Some(message),
                _ => None,
            });
            let message = message.await;
            payloads.push(message.payload().to_vec());
            if let Some(id) = message.id {
                self.session.acknowledge(id, Reason::SUCCESS);
            }
        }
        payloads
    }
}

/// With the usual Receive Maximum, which mosquitto 2.0.11 overruns: what it sends is taken all the same.
fn named(client_id: &str, version: Version) -> Options {
    Options { version, ..Options::new(client_id) }
}

#[tokio::test]
async fn every_qos_in_both_versions_arrives_in_order() {
    const COUNT: u16 = 50;
    let broker = Mosquitto::start("allow_anonymous true").await;
    let target = plain(broker.address);
    for version in [Version::V311, Version::V5] {
        let mut sender = Client::new(&target, &named("sender", version)).await;
        let mut receiver = Client::new(&target, &named("receiver", version)).await;
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let topic = format!("test/{version}/{}", qos.bits());
            receiver.subscribe(&topic, qos).await;
            let sending = async {
                for number in 1..=COUNT {
                    while !matches!(sender.session.want(), Want::Fresh { .. }) {
                        sender
                            .until(|event| match event {
                                Event::Received { id } => Some(Some(id)),
                                Event::Acknowledged { .. } | Event::Completed { .. } => Some(None),
                                _ => None,
                            })
                            .await
                            .into_iter()
                            .for_each(|id| sender.session.release(id));
                    }
                    sender.publish(&topic, &number.to_be_bytes(), qos, number);
                }
                sender.settle().await;
            };
            let expected: Vec<Vec<u8>> = (1..=COUNT).map(|number| number.to_be_bytes().to_vec()).collect();
            let ((), payloads) = tokio::join!(sending, receiver.take(expected.len()));
            assert_eq!(payloads, expected, "{version} {qos}");
        }
        for mut client in [sender, receiver] {
            client.session.disconnect(Reason::SUCCESS, None);
            client.connection.close(&mut client.session, PATIENCE).await.expect("closed");
        }
    }
}

#[tokio::test]
async fn websocket_carries_messages_both_ways() {
    // Mosquitto 2.0.11 doesn't start with a listener for WebSocket alone.
    let address = free_port();
    let settings = format!("listener {} 127.0.0.1\nprotocol websockets", address.port());
    let mut broker = Mosquitto::start(&format!("allow_anonymous true\n{settings}")).await;
    broker.ready(address).await;
    let mut url = url(Scheme::Ws, address);
    url.path = "/mqtt".to_owned();
    let mut client = Client::new(&Target::direct(url), &Options::new("ws")).await;
    client.subscribe("loop", QoS::AtLeastOnce).await;
    // Little: this mosquitto sends 4 KB each 100 ms over WebSocket.
    client.publish("loop", &vec![7; 3_000], QoS::AtLeastOnce, 1);
    client.publish("loop", b"small", QoS::AtLeastOnce, 2);
    assert_eq!(client.take(2).await, [vec![7; 3_000], b"small".to_vec()]);
    client.settle().await;
    client.session.disconnect(Reason::SUCCESS, None);
    client.connection.close(&mut client.session, PATIENCE).await.expect("closed");
}

#[tokio::test]
async fn tls_with_a_client_certificate() {
    let authority = Authority::new("plant");
    let (cert, key) = authority.write(&authority.issue(&["127.0.0.1"]), "broker");
    let settings = format!(
        "allow_anonymous true\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n",
        authority.ca_file().display(),
        cert.display(),
        key.display()
    );
    let broker = Mosquitto::start(&settings).await;
    let (cert, key) = authority.write(&authority.issue(&["press-7"]), "client");
    let tls = TlsFiles { ca: Some(authority.ca_file()), cert: Some(cert), key: Some(key), alpn: Vec::new() };
    let mut target = Target { tls, ..Target::direct(url(Scheme::Mqtts, broker.address)) };
    let mut client = Client::new(&target, &Options::new("tls")).await;
    client.subscribe("loop", QoS::AtLeastOnce).await;
    client.publish("loop", &vec![7; 100_000], QoS::AtLeastOnce, 1);
    assert_eq!(client.take(1).await, [vec![7; 100_000]]);
    client.settle().await;

    (target.tls.cert, target.tls.key) = (None, None);
    let error = super::refused(&target).await;
    assert!(matches!(error, ConnectError::ClientCertificate { sent: false, .. }), "{error}");
}

#[tokio::test]
async fn a_refusal_has_its_name_in_both_versions() {
    let broker = Mosquitto::start("allow_anonymous false").await;
    for version in [Version::V311, Version::V5] {
        let outcome = Dialer::new()
            .connect(&plain(broker.address), &mut super::session(), &named("nobody", version), true, PATIENCE)
            .await;
        let error = outcome.err().expect("nobody is let in");
        assert!(matches!(&error, ConnectError::Refused { refused, .. } if refused.reason == Reason::NOT_AUTHORIZED));
        assert!(error.to_string().contains("not authorized"), "{error}");
    }
}

#[tokio::test]
async fn a_session_outlives_an_outage_of_the_broker() {
    let store = tempfile::tempdir().expect("a folder");
    let settings =
        format!("allow_anonymous true\npersistence true\npersistence_location {}/\n", store.path().display());
    let mut broker = Mosquitto::start(&settings).await;
    let target = plain(broker.address);
    let options = Options::new("lasting");
    // Mosquitto 2.0.11 doesn't keep a session over its restart that began with Clean Start.
    let mut session = super::session();
    let dialling = Dialer::new().connect(&target, &mut session, &options, false, PATIENCE).await;
    let (connection, _) = dialling.expect("connected");
    let mut client = Client { session, connection };
    client.subscribe("loop", QoS::AtLeastOnce).await;

    broker.stop().await;
    let error = super::until(&mut client.connection, &mut client.session, |_| None::<()>).await;
    assert!(matches!(error, Err(LinkError::Closed | LinkError::Io(_))), "{error:?}");
    client.session.disconnected();
    broker.start_again().await;

    let outcome = Dialer::new().connect(&target, &mut client.session, &options, false, PATIENCE).await;
    let (connection, connected) = outcome.expect("connected again");
    assert!(connected.session_present);
    client.connection = connection;
    client.publish("loop", b"again", QoS::AtLeastOnce, 1);
    assert_eq!(client.take(1).await, [b"again"]);
}
