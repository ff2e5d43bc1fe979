//! A door between the agent and the broker that the test opens and shuts: the network, seen from the agent.
//!
//! States: shut (nothing listens: connection refused) and open (bytes pass both ways). Shutting it cuts every
//! connection wherever it stands, in the middle of a packet too.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::net::{GATE_PORT, Task};
use super::{Broker, SOON, pass, wait_for};

/// See the module.
#[derive(Debug)]
pub struct Gate {
    /// Where it listens when it is open.
    pub outside: SocketAddr,
    inside: SocketAddr,
    /// How long every byte is on its way; when the gate is shut, what is on its way is lost.
    pub latency: Duration,
    /// When the inside closes, what is on its way to the outside is lost: TLS's farewell, and a DISCONNECT. Needs a latency.
    pub loses_farewells: bool,
    passing: Option<Task>,
}

impl Gate {
    /// A shut gate that listens on `outside` when it is open, and leads to `inside`.
    pub fn new(outside: SocketAddr, inside: SocketAddr) -> Self {
        Self { outside, inside, latency: Duration::ZERO, loses_farewells: false, passing: None }
    }

    /// A shut gate on the broker's own address.
    pub fn before(broker: &Broker) -> Self {
        Self::new(SocketAddr::from((broker.address().ip(), GATE_PORT)), broker.address())
    }

    /// The URL under which the agent finds it.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.outside)
    }

    /// Lets connections through.
    pub async fn open(&mut self) {
        // A process that another test is just starting may hold the old listener until its exec.
        let listener = wait_for("the gate opens", SOON, || std::net::TcpListener::bind(self.outside).ok()).await;
        listener.set_nonblocking(true).expect("make it asynchronous");
        let listener = TcpListener::from_std(listener).expect("make it asynchronous");
        let (inside, way) = (self.inside, (self.latency, self.loses_farewells));
        self.passing = Some(Task::spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                lines.spawn(async move {
                    let Ok(mut to) = TcpStream::connect(inside).await else { return };
                    let _ended = from.set_nodelay(true).and(to.set_nodelay(true));
                    let ((from_reads, from_writes), (to_reads, to_writes)) = (from.split(), to.split());
                    let inwards = carry(from_reads, to_writes, (way.0, false));
                    tokio::join!(inwards, carry(to_reads, from_writes, way));
                });
            }
        }));
    }

    /// Cuts what is connected, and lets nobody in.
    pub async fn shut(&mut self) {
        if let Some(passing) = self.passing.take() {
            passing.end().await;
        }
    }
}

/// One direction of a connection, to its end.
async fn carry(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, (latency, loses_farewells): (Duration, bool)) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if !latency.is_zero() {
            pass(latency).await;
        }
        if loses_farewells && matches!(from.peek(&mut [0]).now_or_never(), Some(Ok(0) | Err(_))) {
            break;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
    let _gone = to.shutdown().await;
}
