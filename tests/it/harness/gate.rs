//! A door between the agent and the broker that the test opens and shuts: the network, seen from the agent.
//!
//! States: shut (nothing listens: connection refused) and open (bytes pass both ways). Shutting it cuts every
//! connection wherever it stands, in the middle of a packet too.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Broker;
use super::net::{GATE_PORT, Task};

/// See the module.
#[derive(Debug)]
pub struct Gate {
    /// Where it listens when it is open.
    pub outside: SocketAddr,
    inside: SocketAddr,
    passing: Option<Task>,
}

impl Gate {
    /// A shut gate that listens on `outside` when it is open, and leads to `inside`.
    pub fn new(outside: SocketAddr, inside: SocketAddr) -> Self {
        Self { outside, inside, passing: None }
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
        let listener = TcpListener::bind(self.outside).await.expect("bind the gate");
        let inside = self.inside;
        self.passing = Some(Task::spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                lines.spawn(async move {
                    let Ok(mut to) = TcpStream::connect(inside).await else { return };
                    let _ended = from.set_nodelay(true).and(to.set_nodelay(true));
                    let _ended = tokio::io::copy_bidirectional(&mut from, &mut to).await;
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
