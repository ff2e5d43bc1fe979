//! TCP: a name, all its addresses, and the first that answers.
//!
//! Addresses are tried in the resolver's order with the families interleaved; the next one is begun when
//! the last has failed, or has not answered for [`STAGGER`]. The first to stand wins, the rest are dropped.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;

use super::error::{Attempt, ConnectError, Progress, Step};

/// How long an address has before the next one is tried as well (RFC 8305 proposes 250 ms).
const STAGGER: Duration = Duration::from_millis(250);

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// Connects to any address of `host`.
pub(super) async fn connect(host: &str, port: u16, progress: &mut Progress) -> Result<TcpStream, ConnectError> {
    progress.step = Step::Lookup;
    let found: Vec<SocketAddr> = match lookup_host((host, port)).await {
        Ok(found) => found.collect(),
        Err(error) => return Err(ConnectError::Lookup { host: host.to_owned(), error }),
    };
    if found.is_empty() {
        let error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        return Err(ConnectError::Lookup { host: host.to_owned(), error });
    }
    progress.step = Step::Tcp;
    race(interleave(found), progress).await.ok_or_else(|| ConnectError::Tcp {
        place: progress.place.clone(),
        attempts: std::mem::take(&mut progress.failed),
    })
}

/// `None`: all failed, as `progress` says.
async fn race(mut addresses: VecDeque<SocketAddr>, progress: &mut Progress) -> Option<TcpStream> {
    let mut racing = JoinSet::new();
    loop {
        if let Some(address) = addresses.pop_front() {
            progress.pending.push(address);
            racing.spawn(async move { (address, TcpStream::connect(address).await) });
        }
        let more = !addresses.is_empty();
        tokio::select! {
            ended = racing.join_next() => match ended {
                Some(Ok((_, Ok(stream)))) => return Some(stream),
                Some(Ok((address, Err(error)))) => {
                    progress.pending.retain(|pending| *pending != address);
                    progress.failed.push(Attempt { address, error });
                    // With the others still under way and none left to begin, the loop comes back here.
                }
                Some(Err(_)) => {}
                None if more => {}
                None => return None,
            },
            () = tokio::time::sleep(STAGGER), if more => {}
        }
    }
}

/// The families in turn, each in its own order, beginning with that of the first address.
fn interleave(found: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (mut leading, mut other): (VecDeque<_>, VecDeque<_>) =
        found.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut order = VecDeque::new();
    while order.len() < ADDRESSES_MAX && !(leading.is_empty() && other.is_empty()) {
        order.extend(leading.pop_front());
        order.extend(other.pop_front());
    }
    order.truncate(ADDRESSES_MAX);
    order
}

/// Small packets at once; a peer that takes nothing, or is gone, is noticed by the kernel after `silence`.
pub(super) fn tune(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let silence_ms = u32::try_from(silence.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, silence_ms)?;
    // Probes find a dead peer also where nothing is being sent.
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, (silence / 2).max(Duration::from_secs(1)))?;
    sockopt::set_tcp_keepintvl(stream, (silence / 8).max(Duration::from_secs(1)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn families_take_turns() {
        let order =
            interleave(["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "1.1.1.2:1"].into_iter().map(address).collect());
        let expected = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "[::3]:1"].map(address);
        assert_eq!(Vec::from(order), expected);
    }

    #[tokio::test]
    async fn the_second_address_wins_when_the_first_refuses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let good = listener.local_addr().expect("its address");
        let refused = {
            let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
            gone.local_addr().expect("its address")
        };
        let mut progress = Progress::new("test".to_owned());
        let stream = race([refused, good].into(), &mut progress).await.expect("a connection");
        assert_eq!(stream.peer_addr().expect("the peer"), good);
        assert_eq!(progress.failed.len(), 1);
        tune(&stream, Duration::from_secs(45)).expect("socket options");
        assert_eq!(sockopt::tcp_user_timeout(&stream).expect("a socket option"), 45_000);

        let mut progress = Progress::new("test".to_owned());
        assert!(race([refused, refused].into(), &mut progress).await.is_none());
        assert_eq!(progress.failed.len(), 2);
    }

    /// An address that swallows everything must not hold up the next one. The first is a listener whose
    /// queue is full, which on Linux leaves further SYNs unanswered.
    #[tokio::test]
    async fn the_second_address_is_tried_when_the_first_is_silent() {
        let full = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
            .expect("a socket");
        rustix::net::bind(&full, &address("127.0.0.1:0")).expect("bound");
        rustix::net::listen(&full, 0).expect("listening");
        let silent: SocketAddr =
            rustix::net::getsockname(&full).expect("its address").try_into().expect("an internet address");
        let fill: Vec<_> = (0..3)
            .map(|_| {
                let stream = std::net::TcpStream::connect_timeout(&silent, Duration::from_millis(200));
                stream.ok()
            })
            .collect();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let good = listener.local_addr().expect("its address");
        let mut progress = Progress::new("test".to_owned());
        let stream = race([silent, good].into(), &mut progress).await.expect("a connection");
        assert_eq!(stream.peer_addr().expect("the peer"), good);
        assert_eq!(progress.pending, [silent, good]);
        drop(fill);
    }
}
