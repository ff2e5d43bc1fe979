//! The motor: fragments, floods, silence, peers that stop, and how much is written at once.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

use crate::mqtt::packet::{Properties, Publish};
use crate::mqtt::session::PublishError;
use crate::mqtt::{Event, PacketId, QoS, Reason, Session};
use crate::net::connection::{Connection, Peer};
use crate::net::{Dialer, LinkError};
use crate::os::clock;

use super::{CONNACK, PATIENCE, Remote, connect, listen, message, options, plain, until};

fn publish<'a>(topic: &'a str, payload: &'a [u8], qos: QoS, id: Option<u16>) -> Publish<'a> {
    let id = id.and_then(PacketId::new);
    Publish { dup: false, qos, retain: false, topic, id, properties: Properties::EMPTY, payload }
}

#[tokio::test]
async fn one_byte_at_a_time_makes_the_same_messages() {
    const COUNT: u8 = 20;
    let (address, task) = listen(|mut remote| async move {
        remote.packet_of(1).await;
        let mut bytes = CONNACK.to_vec();
        for number in 0..COUNT {
            bytes.extend(message("a/b", &[number]));
        }
        for byte in bytes {
            remote.send(&[byte]).await;
            tokio::task::yield_now().await;
        }
        remote.drain().await;
    })
    .await;
    let (mut connection, mut session, _) = connect(&plain(address)).await.expect("connected");
    for number in 0..COUNT {
        let payload = until(&mut connection, &mut session, |event| match event {
            Event::Message(message) => Some(message.payload().to_vec()),
            _ => None,
        });
        assert_eq!(payload.await.expect("a message"), [number]);
    }
    connection.close(&mut session, PATIENCE).await.expect("closed");
    task.await.expect("the peer saw the end");
}

/// Every future of `turn` is dropped after one poll, as a `select!` with a busy channel does.
#[tokio::test]
async fn a_turn_that_is_dropped_loses_nothing() {
    const COUNT: u8 = 100;
    let (address, task) = listen(|mut remote| async move {
        remote.accept().await;
        let mut acknowledged = 0;
        for number in 0..COUNT {
            for byte in message("a/b", &[number]) {
                remote.send(&[byte]).await;
            }
            let packet = remote.packet_of(3).await;
            assert_eq!(packet.last(), Some(&number));
            acknowledged += 1;
        }
        remote.drain().await;
        acknowledged
    })
    .await;
    let (mut connection, mut session, _) = connect(&plain(address)).await.expect("connected");
    let mut seen = Vec::new();
    let work = async {
        while seen.len() < usize::from(COUNT) {
            tokio::select! {
                biased;
                outcome = connection.turn(&mut session) => outcome.expect("the link stands"),
                () = tokio::task::yield_now() => {}
            }
            while let Some(event) = session.poll_event() {
                if let Event::Message(message) = event {
                    let echo = publish("b/a", message.payload(), QoS::AtMostOnce, None);
                    session.publish(clock::now(), &echo).expect("taken");
                    seen.extend_from_slice(message.payload());
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, work).await.expect("in time");
    assert_eq!(seen, (0..COUNT).collect::<Vec<_>>());
    session.disconnect(Reason::SUCCESS, None);
    connection.close(&mut session, PATIENCE).await.expect("closed");
    assert_eq!(task.await.expect("the peer"), usize::from(COUNT));
}

/// A peer that takes nothing any more must not keep us from taking what it sends.
#[tokio::test]
async fn a_peer_that_stops_reading_is_still_heard() {
    let (filled, full) = tokio::sync::oneshot::channel();
    let (address, _task) = listen(|mut remote| async move {
        remote.accept().await;
        full.await.expect("filled");
        for number in 0..50 {
            remote.send(&message("a/b", &[number])).await;
        }
        std::future::pending::<()>().await;
    })
    .await;
    let (mut connection, mut session, _) = connect(&plain(address)).await.expect("connected");
    let payload = vec![0; 32 * 1024];
    // Until the buffers of both kernels and the session are full, which is when a turn finds nothing to move.
    loop {
        let message = publish("b/a", &payload, QoS::AtMostOnce, None);
        match session.publish(clock::now(), &message) {
            Ok(()) => {}
            Err(PublishError::Full) => {
                let turn = connection.turn(&mut session);
                match tokio::time::timeout(Duration::from_millis(200), turn).await {
                    Ok(outcome) => outcome.expect("the link stands"),
                    Err(_) => break,
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    filled.send(()).expect("the peer waits");
    for number in 0..50 {
        let payload = until(&mut connection, &mut session, |event| match event {
            Event::Message(message) => Some(message.payload().to_vec()),
            _ => None,
        });
        assert_eq!(payload.await.expect("a message"), [number]);
    }
    assert!(!session.transmit().is_empty(), "what could not be written waits");
}

/// F-22: connected, but nothing moves.
#[tokio::test]
async fn f22_a_half_open_link_ends_after_one_and_a_half_keep_alives() {
    let (address, _task) = listen(|mut remote| async move {
        remote.accept().await;
        // It takes what comes and answers nothing.
        remote.drain().await;
    })
    .await;
    let mut session = super::session();
    let options = crate::mqtt::Options { keep_alive_s: 1, ..options() };
    let (mut connection, _) =
        Dialer::new().connect(&plain(address), &mut session, &options, true, PATIENCE).await.expect("connected");
    let start = clock::now();
    let error = until(&mut connection, &mut session, |_| None::<()>).await.expect_err("dead");
    let took = clock::now().saturating_sub(start);
    assert!(matches!(error, LinkError::Silent(_)), "{error}");
    assert!(took >= Duration::from_millis(1000) && took < Duration::from_secs(5), "{took:?}");
}

/// F-21: a flood of incoming messages does not hold up PINGREQ.
#[tokio::test]
async fn f21_pingreq_goes_out_under_a_flood() {
    let (address, task) = listen(|mut remote| async move {
        remote.accept().await;
        let (mut reader, mut writer) = tokio::io::split(remote.io);
        let flood = async {
            let bytes: Vec<u8> = (0..200).flat_map(|number| message("a/b", &[number])).collect();
            while writer.write_all(&bytes).await.is_ok() {}
        };
        let ping = async {
            let mut bytes = [0; 64];
            loop {
                let count = tokio::io::AsyncReadExt::read(&mut reader, &mut bytes).await.expect("read");
                if bytes.get(..count).unwrap_or_default().starts_with(&[0xC0, 0]) {
                    break;
                }
                assert!(count > 0, "the client closed without a PINGREQ");
            }
        };
        tokio::select! { () = flood => panic!("the client closed"), () = ping => {} }
    })
    .await;
    let mut session = super::session();
    let options = crate::mqtt::Options { keep_alive_s: 1, ..options() };
    let (mut connection, _) =
        Dialer::new().connect(&plain(address), &mut session, &options, true, PATIENCE).await.expect("connected");
    let taking = until(&mut connection, &mut session, |event| match event {
        Event::Message(_) => None,
        other => Some(other),
    });
    tokio::select! {
        biased;
        outcome = task => outcome.expect("PINGREQ came"),
        outcome = taking => panic!("{outcome:?}"),
    }
}

/// The reason that comes before the end is an event before the error.
#[tokio::test]
async fn the_broker_s_last_words_are_heard() {
    let (address, _task) = listen(|mut remote| async move {
        remote.accept().await;
        remote.send(&[0xE0, 2, 0x8E, 0]).await;
    })
    .await;
    let (mut connection, mut session, _) = connect(&plain(address)).await.expect("connected");
    let reason = until(&mut connection, &mut session, |event| match event {
        Event::Disconnected { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(reason.await.expect("a reason"), Reason::SESSION_TAKEN_OVER);
    let error = until(&mut connection, &mut session, |_| None::<()>).await.expect_err("closed");
    assert!(matches!(error, LinkError::Closed), "{error}");
}

/// A broker that breaks the protocol is told so (5.0) before the connection ends.
#[tokio::test]
async fn a_protocol_error_is_answered_with_a_disconnect() {
    let (address, task) = listen(|mut remote| async move {
        remote.accept().await;
        remote.send(&[0x36, 3, 0, 1, b'a']).await;
        remote.packet_of(14).await
    })
    .await;
    let (mut connection, mut session, _) = connect(&plain(address)).await.expect("connected");
    let error = until(&mut connection, &mut session, |_| None::<()>).await.expect_err("broken");
    assert!(matches!(error, LinkError::Protocol(_)), "{error}");
    assert_eq!(task.await.expect("a DISCONNECT").get(2), Some(&0x81), "malformed packet");
}

/// Closing hands over all that is pending, and takes the acknowledgements that were still on their way.
#[tokio::test]
async fn close_writes_everything_and_takes_the_last_acknowledgements() {
    let (address, task) = listen(|mut remote| async move {
        remote.accept().await;
        let message = remote.packet_of(3).await;
        remote.packet_of(14).await;
        assert!(remote.packet().await.is_none(), "nothing comes behind DISCONNECT");
        // It answers late, into a connection whose other half is closed.
        remote.send(&[0x40, 2, 0, 7]).await;
        message
    })
    .await;
    let (connection, mut session, _) = connect(&plain(address)).await.expect("connected");
    let payload = vec![b'x'; 64 * 1024];
    session.publish(clock::now(), &publish("a", &payload, QoS::AtLeastOnce, Some(7))).expect("taken");
    session.disconnect(Reason::SUCCESS, None);
    connection.close(&mut session, PATIENCE).await.expect("closed");
    assert!(task.await.expect("the peer").len() > payload.len());
    let acknowledged = std::iter::from_fn(|| session.poll_event())
        .any(|event| matches!(event, Event::Acknowledged { id, .. } if id.value() == 7));
    assert!(acknowledged, "the PUBACK was taken");
}

/// A peer that neither reads nor closes costs `close` no more than its limit.
#[tokio::test]
async fn close_is_bounded() {
    let (address, _task) = listen(|mut remote| async move {
        remote.accept().await;
        std::future::pending::<()>().await;
    })
    .await;
    let (connection, mut session, _) = connect(&plain(address)).await.expect("connected");
    session.disconnect(Reason::SUCCESS, None);
    let start = clock::now();
    connection.close(&mut session, Duration::from_millis(200)).await.expect("DISCONNECT was written");
    assert!(clock::now().saturating_sub(start) < Duration::from_secs(5));
}

/// A transport that counts.
struct Counting {
    inner: DuplexStream,
    writes: Arc<AtomicUsize>,
    flushes: Arc<AtomicUsize>,
}

impl AsyncRead for Counting {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn fifty_messages_are_one_write_and_one_flush() {
    let (near, far) = duplex(1 << 20);
    let (writes, flushes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counting = Counting { inner: near, writes: Arc::clone(&writes), flushes: Arc::clone(&flushes) };
    let mut connection = Connection::new(Box::new(counting), Peer { address: None, tls: None });
    let mut session: Session = super::session();
    let mut remote = Remote::new(far);
    session.connect(clock::now(), &options(), true).expect("options");
    let (_, connected) = tokio::join!(
        remote.accept(),
        until(&mut connection, &mut session, |event| matches!(event, Event::Connected(_)).then_some(())),
    );
    connected.expect("connected");
    writes.store(0, Ordering::Relaxed);
    flushes.store(0, Ordering::Relaxed);
    for id in 1..=50 {
        session.publish(clock::now(), &publish("a/b", b"payload", QoS::AtLeastOnce, Some(id))).expect("taken");
    }
    connection.turn(&mut session).await.expect("the link stands");
    for _ in 0..50 {
        remote.packet_of(3).await;
    }
    assert_eq!((writes.load(Ordering::Relaxed), flushes.load(Ordering::Relaxed)), (1, 1));
}
