//! Tests over real sockets on loopback: a scripted peer that knows nothing of the project's own codec, and
//! a real mosquitto.

mod auth;
mod broker;
mod dial;
mod link;
mod pki;
mod proxy;
mod tls;
mod websocket;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::config::{BrokerUrl, Scheme};
use crate::mqtt::session::Connected;
use crate::mqtt::{Event, Options, Session};

use super::stream::{BoxedIo, Io};
use super::{ConnectError, Connection, Dialer, LinkError, Target};

/// Long enough for a busy machine, short enough for a test that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// CONNACK of 5.0: success, no properties.
const CONNACK: &[u8] = &[0x20, 3, 0, 0, 0];

fn session() -> Session {
    Session::new(100, 1 << 20)
}

fn options() -> Options {
    Options::new("net-test")
}

fn url(scheme: Scheme, address: SocketAddr) -> BrokerUrl {
    BrokerUrl { scheme, host: address.ip().to_string(), port: address.port(), path: String::new() }
}

fn plain(address: SocketAddr) -> Target {
    Target::direct(url(Scheme::Mqtt, address))
}

async fn connect(target: &Target) -> Result<(Connection, Session, Connected), ConnectError> {
    connect_within(target, PATIENCE).await
}

async fn connect_within(target: &Target, limit: Duration) -> Result<(Connection, Session, Connected), ConnectError> {
    let mut session = session();
    let (connection, connected) = Dialer::new().connect(target, &mut session, &options(), true, limit).await?;
    Ok((connection, session, connected))
}

/// The error of a connect that must not succeed.
async fn refused(target: &Target) -> ConnectError {
    match connect(target).await {
        Ok(_) => panic!("{} was connected to", target.url),
        Err(error) => error,
    }
}

/// Turns until the session says something that `pick` takes.
async fn until<T>(
    connection: &mut Connection,
    session: &mut Session,
    mut pick: impl FnMut(Event) -> Option<T>,
) -> Result<T, LinkError> {
    let turning = async {
        loop {
            while let Some(event) = session.poll_event() {
                if let Some(found) = pick(event) {
                    return Ok(found);
                }
            }
            connection.turn(session).await?;
        }
    };
    tokio::time::timeout(PATIENCE, turning).await.expect("the event comes in time")
}

/// A listener on a free port that gives its first connection to `script`.
async fn listen<F, R>(script: impl FnOnce(Remote) -> F + Send + 'static) -> (SocketAddr, JoinHandle<R>)
where
    F: Future<Output = R> + Send,
    R: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        stream.set_nodelay(true).expect("an option");
        script(Remote::new(stream)).await
    });
    (address, task)
}

/// The other end of a connection.
struct Remote {
    io: BoxedIo,
}

impl Remote {
    fn new(io: impl Io + 'static) -> Self {
        Self { io: Box::new(io) }
    }

    /// The next packet, whole; `None` at the end of the stream, however it came about.
    async fn packet(&mut self) -> Option<Vec<u8>> {
        let mut packet = vec![self.io.read_u8().await.ok()?];
        let mut length = 0_usize;
        for shift in [0, 7, 14, 21] {
            let byte = self.io.read_u8().await.ok()?;
            packet.push(byte);
            length |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let header = packet.len();
        packet.resize(header + length, 0);
        self.io.read_exact(packet.get_mut(header..)?).await.ok()?;
        Some(packet)
    }

    /// The next packet that is of this type (the upper half of its first byte).
    async fn packet_of(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let packet = self.packet().await.expect("the client goes on");
            if packet.first().is_some_and(|first| first >> 4 == kind) {
                return packet;
            }
        }
    }

    /// The head of an HTTP message.
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.io.read_u8().await.expect("a head"));
        }
        String::from_utf8(head).expect("text")
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.expect("written");
        self.io.flush().await.expect("flushed");
    }

    /// Takes CONNECT, sends CONNACK.
    async fn accept(&mut self) {
        self.packet_of(1).await;
        self.send(CONNACK).await;
    }

    /// Takes what comes until the client closes.
    async fn drain(&mut self) {
        while self.packet().await.is_some() {}
    }
}

/// A PUBLISH of QoS 0 in 5.0, for payloads up to 100 bytes.
fn message(topic: &str, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(2 + topic.len() + 1 + payload.len()).expect("a short message");
    assert!(length < 128, "one byte of length");
    let mut packet = vec![0x30, length, 0, u8::try_from(topic.len()).expect("a short topic")];
    packet.extend_from_slice(topic.as_bytes());
    packet.push(0);
    packet.extend_from_slice(payload);
    packet
}
