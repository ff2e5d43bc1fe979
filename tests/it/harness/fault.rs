//! A broker that breaks the rules where a test says so, and keeps them everywhere else.
//!
//! Every connection is handed to the test's script as a [`Line`]. [`Line::serve`] does what a broker has to do, for both
//! versions and all QoS, and lets a closure change each answer; [`Line::send`] says whatever one likes. It knows nothing
//! of the agent's codec, and keeps what it took like [`super::Checker`]: a message counts when the broker has become
//! responsible for it, at QoS 2 once an exchange, over all connections for as long as the session is kept.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::checker::{Message, Seen};
use super::net::{BROKER_PORT, Task, own_address};
use super::{SOON, wait_until};

/// No agent sends more at once here.
const PACKET_MAX: usize = 1 << 20;

/// Packet types: the upper half of the first byte.
pub mod kind {
    pub const CONNECT: u8 = 1;
    pub const PUBLISH: u8 = 3;
    pub const PUBREL: u8 = 6;
    pub const SUBSCRIBE: u8 = 8;
    pub const UNSUBSCRIBE: u8 = 10;
    pub const PINGREQ: u8 = 12;
    pub const DISCONNECT: u8 = 14;
}

/// CONNACK of 5: success, no session, no properties.
pub const CONNACK: &[u8] = &[0x20, 3, 0, 0, 0];
/// The same with the session present.
pub const RESUMED: &[u8] = &[0x20, 3, 1, 0, 0];

/// See the module.
#[derive(Debug)]
pub struct Fault {
    address: SocketAddr,
    seen: Arc<watch::Sender<Seen>>,
    connections: Arc<AtomicUsize>,
    /// A script's own assertion failed.
    broken: Arc<AtomicUsize>,
    _task: Task,
}

/// What the broker knows of its one client beyond a connection.
#[derive(Debug, Default)]
struct Session {
    exists: bool,
    /// Identifiers of QoS 2 messages that were taken and not released.
    taken: BTreeSet<u16>,
    /// Filters that are subscribed to.
    filters: BTreeSet<String>,
}

/// A connection of an agent.
#[derive(Debug)]
pub struct Line {
    stream: TcpStream,
    seen: Arc<watch::Sender<Seen>>,
    session: Arc<watch::Sender<Session>>,
    /// 5, or 4 for 3.1.1; known after CONNECT.
    pub version: u8,
    /// Which connection this is, from 0.
    pub number: usize,
}

/// What a script makes of an answer.
#[derive(Debug)]
pub struct Reply {
    /// What is said; nothing: the packet is not taken.
    pub bytes: Vec<u8>,
    /// The line ends behind it.
    pub is_last: bool,
}

impl From<Vec<u8>> for Reply {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, is_last: false }
    }
}

/// A packet as it came.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Type and flags.
    pub first: u8,
    /// All behind the fixed header.
    pub body: Vec<u8>,
}

impl Fault {
    /// Listens on an address of its own, and gives every connection to `script`.
    pub async fn start<F>(script: impl Fn(Line) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let address = SocketAddr::from((own_address(), BROKER_PORT));
        let listener = TcpListener::bind(address).await.expect("bind the fault broker");
        let seen = Arc::new(watch::Sender::new(Seen::default()));
        let session = Arc::new(watch::Sender::new(Session::default()));
        let connections = Arc::new(AtomicUsize::new(0));
        let broken = Arc::new(AtomicUsize::new(0));
        let (count, keeps, breaks) = (Arc::clone(&connections), Arc::clone(&seen), Arc::clone(&broken));
        let task = Task::spawn(async move {
            let mut lines = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((stream, _)) = listener.accept() => {
                        let _best_effort = stream.set_nodelay(true);
                        let number = count.fetch_add(1, Ordering::SeqCst);
                        let (seen, session) = (Arc::clone(&keeps), Arc::clone(&session));
                        lines.spawn(script(Line { stream, seen, session, version: 5, number }));
                    }
                    Some(Err(_panicked)) = lines.join_next() => {
                        breaks.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        });
        Self { address, seen, connections, broken, _task: task }
    }

    /// The URL under which the agent finds it.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Looks at what it took.
    pub fn look<T>(&self, at: impl FnOnce(&Seen) -> T) -> T {
        at(&self.seen.borrow())
    }

    /// How many messages it took on that topic.
    pub fn count(&self, topic: &str) -> usize {
        self.look(|seen| seen.messages.iter().filter(|message| message.topic == topic).count())
    }

    /// Waits until it took so many.
    #[track_caller]
    pub fn wait_count(&self, topic: &str, count: usize) -> impl Future<Output = ()> {
        let what = format!("{}: {count} messages on {topic}", std::panic::Location::caller());
        let topic = topic.to_owned();
        async move { wait_until(&what, SOON, || self.count(&topic) >= count).await }
    }

    /// Waits until there were so many connections.
    #[track_caller]
    pub fn wait_connections(&self, count: usize) -> impl Future<Output = ()> {
        let what = format!("{}: {count} connections", std::panic::Location::caller());
        async move { wait_until(&what, SOON, || self.connections() >= count).await }
    }

    /// Fails the test unless the ledger is kept.
    #[track_caller]
    pub fn assert_kept(&self) {
        self.seen.borrow().ledger.assert_kept();
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        let broken = self.broken.load(Ordering::SeqCst);
        assert!(broken == 0 || std::thread::panicking(), "{broken} scripts failed, see above");
    }
}

impl Line {
    /// The next packet; `None` at the end of the stream.
    pub async fn packet(&mut self) -> Option<Packet> {
        let first = self.stream.read_u8().await.ok()?;
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let byte = self.stream.read_u8().await.ok()?;
            length |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        assert!(length <= PACKET_MAX, "the agent sends {length} bytes");
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.ok()?;
        let packet = Packet { first, body };
        if packet.kind() == kind::CONNECT {
            self.version = packet.body[6];
        }
        Some(packet)
    }

    /// Waits for CONNECT, and answers it. Without Session Present, what was known of the client is forgotten.
    pub async fn accept(&mut self, connack: &[u8]) -> Packet {
        let packet = self.packet().await.expect("CONNECT");
        assert_eq!(packet.kind(), kind::CONNECT);
        let is_new = matches!(*connack, [0x20, _, 0, 0, ..]);
        if is_new {
            self.session.send_replace(Session { exists: true, ..Session::default() });
        }
        self.send(connack).await;
        packet
    }

    /// Says these bytes; that the agent has gone meanwhile is no fault.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Takes what comes, answers nothing, until the agent closes.
    pub async fn drain(&mut self) {
        while self.packet().await.is_some() {}
    }

    /// CONNACK by the book, then [`Line::serve`].
    pub async fn by_the_book(self) {
        self.with_answers(|_, answer| answer).await;
    }

    /// CONNACK by the book, then [`Line::serve`] with this change.
    pub async fn with_answers<R: Into<Reply>>(mut self, change: impl FnMut(&Packet, Vec<u8>) -> R) {
        let Some(connect) = self.packet().await else { return };
        assert_eq!(connect.kind(), kind::CONNECT);
        let is_clean = connect.body[7] & 2 != 0;
        let present = u8::from(self.session.borrow().exists && !is_clean);
        if present == 0 {
            self.session.send_replace(Session { exists: true, ..Session::default() });
        }
        let connack = if self.version == 5 { vec![0x20, 3, present, 0, 0] } else { vec![0x20, 2, present, 0] };
        self.send(&connack).await;
        self.serve(change).await;
    }

    /// Answers every packet as a broker has to, with `change` applied to each answer, to the end of the line.
    pub async fn serve<R: Into<Reply>>(mut self, mut change: impl FnMut(&Packet, Vec<u8>) -> R) {
        while let Some(packet) = self.packet().await {
            let Reply { bytes, is_last } = change(&packet, self.answer(&packet)).into();
            let is_gone = !self.take(&packet, &bytes).await;
            if is_last {
                // Who closes with bytes unread takes back what he said last.
                let _gone = self.stream.shutdown().await;
                return self.drain().await;
            }
            if is_gone || packet.kind() == kind::DISCONNECT {
                return;
            }
        }
    }

    /// Answers one packet by the book.
    pub async fn respond(&mut self, packet: &Packet) -> bool {
        let answer = self.answer(packet);
        self.take(packet, &answer).await
    }

    /// Takes note of what this answer means, and says it.
    async fn take(&mut self, packet: &Packet, answer: &[u8]) -> bool {
        // Who is not answered, or is refused, keeps his message.
        let is_refusal = matches!(answer, [0x40 | 0x50, 3..=127, _, _, 0x80..=255, ..]);
        if packet.kind() == kind::PUBLISH && (packet.qos() == 0 || (!answer.is_empty() && !is_refusal)) {
            self.enter(packet);
        }
        if packet.kind() == kind::PUBREL && !answer.is_empty() {
            self.session.send_modify(|session| {
                session.taken.remove(&packet.id());
            });
        }
        answer.is_empty() || self.send(answer).await
    }

    fn enter(&self, packet: &Packet) {
        let is_new = packet.qos() < 2 || {
            let id = packet.id();
            self.session.send_if_modified(|session| session.taken.insert(id))
        };
        if is_new {
            self.seen.send_modify(|seen| seen.enter(packet.message(self.version)));
        }
    }

    fn answer(&self, packet: &Packet) -> Vec<u8> {
        match packet.kind() {
            kind::PUBLISH if packet.qos() > 0 => ack(if packet.qos() == 1 { 0x40 } else { 0x50 }, packet.id()),
            kind::PUBREL => ack(0x70, packet.id()),
            kind::SUBSCRIBE => {
                let filters = packet.filters(self.version);
                let codes = vec![0; filters.len()];
                self.session.send_modify(|session| session.filters.extend(filters));
                self.codes(0x90, packet.id(), &codes)
            }
            kind::UNSUBSCRIBE => {
                let mut codes = Vec::new();
                self.session.send_modify(|session| {
                    let filters = packet.filters(self.version);
                    codes.extend(filters.iter().map(|filter| if session.filters.remove(filter) { 0 } else { 0x11 }));
                });
                self.codes(0xB0, packet.id(), &codes)
            }
            kind::PINGREQ => vec![0xD0, 0],
            _ => Vec::new(),
        }
    }

    /// SUBACK or UNSUBACK.
    fn codes(&self, first: u8, id: u16, codes: &[u8]) -> Vec<u8> {
        let id = id.to_be_bytes();
        match (self.version, first) {
            (5, _) => frame(first, &[&id[..], &[0], codes].concat()),
            (_, 0xB0) => frame(first, &id),
            _ => frame(first, &[&id[..], codes].concat()),
        }
    }
}

/// An acknowledgement without reason, which is a success in both versions.
pub fn ack(first: u8, id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![first, 2, high, low]
}

/// The same with a reason (5).
pub fn ack_with(first: u8, id: u16, reason: u8) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![first, 3, high, low, reason]
}

/// CONNACK of 5: success with these properties.
pub fn connack(properties: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend(length(properties.len()));
    body.extend_from_slice(properties);
    frame(0x20, &body)
}

/// A packet with its length.
pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first][..], &length(body.len()), body].concat()
}

/// A variable byte integer.
pub fn length(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        bytes.push(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return bytes;
        }
    }
}

impl Packet {
    /// See [`kind`].
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// Of a PUBLISH.
    pub fn qos(&self) -> u8 {
        (self.first >> 1) & 3
    }

    /// DUP of a PUBLISH.
    pub fn dup(&self) -> bool {
        self.first & 8 != 0
    }

    /// Its packet identifier.
    pub fn id(&self) -> u16 {
        let at = if self.kind() == kind::PUBLISH { 2 + self.topic_len() } else { 0 };
        u16::from_be_bytes([self.body[at], self.body[at + 1]])
    }

    fn topic_len(&self) -> usize {
        usize::from(u16::from_be_bytes([self.body[0], self.body[1]]))
    }

    /// The topic of a PUBLISH; empty where an alias stands for it.
    pub fn topic(&self) -> String {
        String::from_utf8(self.body[2..2 + self.topic_len()].to_vec()).expect("UTF-8")
    }

    /// The topic alias of a PUBLISH of 5.
    pub fn alias(&self) -> Option<u16> {
        let at = 2 + self.topic_len() + if self.qos() > 0 { 2 } else { 0 };
        // It is the only property that the agent puts there.
        matches!(self.body[at..at + 2], [3, 0x23]).then(|| u16::from_be_bytes([self.body[at + 2], self.body[at + 3]]))
    }

    /// The filters of a SUBSCRIBE or UNSUBSCRIBE.
    pub fn filters(&self, version: u8) -> Vec<String> {
        let mut at = if version == 5 { 3 + usize::from(self.body[2]) } else { 2 };
        let mut filters = Vec::new();
        while at < self.body.len() {
            let end = at + 2 + usize::from(u16::from_be_bytes([self.body[at], self.body[at + 1]]));
            filters.push(String::from_utf8(self.body[at + 2..end].to_vec()).expect("UTF-8"));
            at = end + usize::from(self.kind() == kind::SUBSCRIBE);
        }
        filters
    }

    fn message(&self, version: u8) -> Message {
        let mut at = 2 + self.topic_len() + if self.qos() > 0 { 2 } else { 0 };
        if version == 5 {
            assert!(self.body[at] < 0x80, "the agent's properties are short");
            at += 1 + usize::from(self.body[at]);
        }
        let payload = self.body[at..].to_vec();
        Message {
            topic: self.topic(),
            json: serde_json::from_slice(&payload).unwrap_or_default(),
            payload,
            qos: self.qos(),
            retain: self.first & 1 != 0,
            dup: self.first & 8 != 0,
        }
    }
}
