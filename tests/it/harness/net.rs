//! Addresses. Every test gets an address of its own out of 127.0.0.0/8, so that fixed ports never collide between
//! tests, and a broker that is down for a while finds its port free when it comes back.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// The port that a test's broker listens on.
pub const BROKER_PORT: u16 = 1883;
/// The port of a [`super::Gate`] before that broker.
pub const GATE_PORT: u16 = 1884;

/// A loopback address that nobody else uses; 127.0.0.0/16 is left to the rest of the machine.
pub fn own_address() -> Ipv4Addr {
    let [_, second, third, fourth, ..] = super::random().to_be_bytes();
    Ipv4Addr::new(127, second.max(1), third, fourth.clamp(1, 254))
}

/// A port of 127.0.0.1 that was free a moment ago, for the few things that need the name `localhost`. It lies below
/// those that the kernel gives to outgoing connections, so that nobody gets it by chance while its owner is down.
pub fn free_localhost_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 10_000..30_000;
    let is_free = |port: &u16| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let some = || PORTS.start + u16::try_from(super::random() % PORTS.len() as u64).unwrap_or_default();
    std::iter::repeat_with(some).take(100).find(is_free).expect("a free port")
}

/// A task that ends with its owner.
#[derive(Debug)]
pub struct Task(JoinHandle<()>);

impl Task {
    /// Starts it.
    pub fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    /// Ends it, and comes back when what it held is closed.
    pub async fn end(mut self) {
        self.0.abort();
        let _cancelled = (&mut self.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Something that listens and is no MQTT broker.
#[derive(Debug)]
pub struct Impostor(Task);

impl Impostor {
    /// Answers whatever comes with `answer` and closes; with an empty one it says nothing and keeps the line.
    pub async fn start(address: SocketAddr, answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind(address).await.expect("bind the impostor");
        let task = Task::spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                lines.spawn(async move {
                    let mut heard = [0_u8; 1024];
                    while let Ok(1..) = stream.read(&mut heard).await {
                        if !answer.is_empty() {
                            let _gone = stream.write_all(answer).await;
                            break;
                        }
                    }
                });
            }
        });
        Self(task)
    }

    /// Stops listening and closes what is open.
    pub async fn stop(self) {
        self.0.end().await;
    }
}
