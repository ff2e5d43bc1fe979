//! What answers, or doesn't, at the other end of a fresh connection.

use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};

use crate::config::{BrokerUrl, Scheme};
use crate::mqtt::reconnect::Failure;
use crate::mqtt::{Event, Reason};
use crate::net::{ConnectError, Step, Target};

use super::{Remote, connect, connect_within, listen, message, plain, refused, until, url};

/// For peers that never answer.
const SHORT: Duration = Duration::from_millis(300);

/// CONNACK of 5.0: bad user name or password, with a reason string.
fn connack_refusal() -> Vec<u8> {
    let mut packet = vec![0x20, 18, 0, 0x86, 15, 0x1F, 0, 12];
    packet.extend_from_slice(b"no such user");
    packet
}

#[tokio::test]
async fn a_name_without_address_is_said() {
    let host = format!("{}.example", "x".repeat(70));
    let target =
        Target::direct(BrokerUrl { scheme: Scheme::Mqtt, host: host.clone(), port: 1883, path: String::new() });
    let error = refused(&target).await;
    assert!(matches!(&error, ConnectError::Lookup { host: named, .. } if *named == host), "{error}");
    assert!(error.to_string().starts_with("no such host: xxx"), "{error}");
    assert_eq!((error.step(), error.failure()), (Step::Lookup, Failure::Network));
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_said_with_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    drop(listener);
    let error = refused(&plain(address)).await;
    let expected = format!("can't connect to mqtt://{address}: {address} connection refused");
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().expect("a hint").contains("running"));
}

/// F-22: the deadline covers everything up to CONNACK.
#[tokio::test]
async fn f22_a_silent_peer_costs_one_deadline_and_the_step_is_named() {
    let (address, _task) = listen(|mut remote| async move { remote.drain().await }).await;
    let error = connect_within(&plain(address), SHORT).await.err().expect("no CONNACK");
    assert!(matches!(error, ConnectError::TimedOut { step: Step::Connack, .. }), "{error}");
    assert!(error.to_string().contains("within 300 ms: time ran out waiting for CONNACK"), "{error}");

    let (address, _task) = listen(|mut remote| async move { remote.drain().await }).await;
    let target = Target::direct(url(Scheme::Mqtts, address));
    // The system's authorities are read first, which takes its time.
    let error = connect_within(&target, SHORT * 10).await.err().expect("no handshake");
    let no_roots = matches!(error, ConnectError::NoRoots { .. });
    assert!(no_roots || matches!(error, ConnectError::TimedOut { step: Step::Tls, .. }), "{error}");
}

#[tokio::test]
async fn a_peer_that_closes_is_told_apart_from_one_that_refuses() {
    let (address, _task) = listen(|mut remote| async move {
        remote.packet_of(1).await;
    })
    .await;
    let error = refused(&plain(address)).await;
    assert!(matches!(error, ConnectError::Closed { step: Step::Connack, .. }), "{error}");
    assert!(!error.is_version_refused());

    let (address, _task) = listen(|mut remote| async move {
        remote.packet_of(1).await;
        remote.send(&connack_refusal()).await;
    })
    .await;
    let error = refused(&plain(address)).await;
    assert_eq!(error.failure(), Failure::Refused(Reason::BAD_USER_NAME_OR_PASSWORD));
    let expected =
        format!("mqtt://{address} refused the connection: bad user name or password (0x86) (\"no such user\")");
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().expect("a hint").contains("password_file"));
}

/// F-27: CONNACK 1 to version 5, in the form of 3.1.1.
#[tokio::test]
async fn f27_a_broker_that_knows_only_3_1_1_is_recognized() {
    let (address, _task) = listen(|mut remote| async move {
        remote.packet_of(1).await;
        remote.send(&[0x20, 2, 0, 1]).await;
    })
    .await;
    let error = refused(&plain(address)).await;
    assert!(error.is_version_refused(), "{error}");
}

#[tokio::test]
async fn what_is_no_broker_is_shown_with_its_first_words() {
    let cases: [(&'static [u8], &str); 4] = [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "SSH-2.0-OpenSSH_9.2p1"),
        (b"\r\n220 mail.example ESMTP\r\n", "220 mail.example ESMTP"),
        (&[0xFF, 0x00, b'a', 0x80], "\\xff\\x00a\\x80"),
    ];
    for (answer, shown) in cases {
        let (address, _task) = listen(move |mut remote: Remote| async move {
            remote.send(answer).await;
            remote.drain().await;
        })
        .await;
        let error = refused(&plain(address)).await;
        assert!(matches!(&error, ConnectError::NotMqtt { first, .. } if first == shown), "{error}");
        assert_eq!(error.failure(), Failure::Protocol);
    }
}

/// F-29: a length of 268,435,455 in the place of a CONNACK.
#[tokio::test]
async fn f29_a_connack_of_absurd_length_is_a_protocol_error() {
    for answer in [&[0x20, 0xFF, 0xFF, 0xFF, 0x7F][..], &[0x20, 0x00], &[0x21, 3, 0, 0, 0], &[0x20, 3, 2, 0, 0]] {
        let answer = answer.to_vec();
        let (address, _task) = listen(move |mut remote: Remote| async move {
            remote.packet_of(1).await;
            remote.send(&answer).await;
            remote.drain().await;
        })
        .await;
        let error = refused(&plain(address)).await;
        assert!(matches!(error, ConnectError::Protocol { .. } | ConnectError::NotMqtt { .. }), "{error}");
        assert_eq!(error.step(), Step::Connack);
    }
}

/// What comes in one segment with CONNACK is not lost.
#[tokio::test]
async fn a_message_behind_connack_is_an_event() {
    let (address, _task) = listen(|mut remote| async move {
        remote.packet_of(1).await;
        let mut bytes = super::CONNACK.to_vec();
        bytes.extend(message("a/b", b"at once"));
        remote.send(&bytes).await;
        remote.drain().await;
    })
    .await;
    let (mut connection, mut session, connected) = connect(&plain(address)).await.expect("connected");
    assert!(!connected.session_present);
    let payload = until(&mut connection, &mut session, |event| match event {
        Event::Message(message) => Some(message.payload().to_vec()),
        _ => None,
    });
    assert_eq!(payload.await.expect("a message"), b"at once");
}

#[tokio::test]
async fn a_unix_socket_carries_mqtt_and_its_absence_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("broker.sock");
    let target = Target::direct(BrokerUrl {
        scheme: Scheme::Unix,
        host: String::new(),
        port: 0,
        path: path.display().to_string(),
    });
    let error = refused(&target).await;
    assert!(matches!(error, ConnectError::Unix { .. }), "{error}");
    assert!(error.to_string().contains("broker.sock"), "{error}");

    let listener = UnixListener::bind(&path).expect("a socket");
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        Remote::new(stream).accept().await;
    });
    let (connection, ..) = connect(&target).await.expect("connected");
    assert_eq!(connection.peer().address, None);
    task.await.expect("accepted");
}

/// A connect that is dropped half way leaves a session that connects again.
#[tokio::test]
async fn a_dropped_connect_leaves_the_session_usable() {
    let (silent, _task) = listen(|mut remote| async move { remote.drain().await }).await;
    let mut session = super::session();
    let mut dialer = crate::net::Dialer::new();
    let target = plain(silent);
    {
        let options = super::options();
        let attempt = dialer.connect(&target, &mut session, &options, true, super::PATIENCE);
        assert!(tokio::time::timeout(SHORT, attempt).await.is_err(), "no answer comes");
    }
    let (address, _task) = listen(|mut remote| async move {
        remote.accept().await;
        remote.drain().await;
    })
    .await;
    dialer.connect(&plain(address), &mut session, &super::options(), true, super::PATIENCE).await.expect("connected");
}
