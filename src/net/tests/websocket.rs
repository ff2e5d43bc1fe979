//! F-30: frames that don't align with packets, frames that don't belong, and handshakes that fail.

use std::net::SocketAddr;

use futures_util::{Sink, Stream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use crate::config::Scheme;
use crate::mqtt::packet::{Properties, Publish};
use crate::mqtt::{Event, QoS};
use crate::net::stream::BoxedIo;
use crate::net::{ConnectError, LinkError, Step, Target};
use crate::os::clock;

use super::{CONNACK, PATIENCE, Remote, connect, listen, message, refused, until, url};

type Server = WebSocketStream<BoxedIo>;

fn target(address: SocketAddr, path: &str) -> Target {
    let mut url = url(Scheme::Ws, address);
    url.path = path.to_owned();
    Target::direct(url)
}

/// A server that grants `mqtt` at `/mqtt`, takes CONNECT and goes on with `script`.
async fn serve<F, R>(script: impl FnOnce(Server) -> F + Send + 'static) -> (Target, JoinHandle<R>)
where
    F: Future<Output = R> + Send,
    R: Send + 'static,
{
    let (address, task) = listen(|remote: Remote| async move {
        let mut server = accept_hdr_async(remote.io, grant).await.expect("a handshake");
        let first = next(&mut server).await.expect("CONNECT");
        assert_eq!(first.into_data().first(), Some(&0x10));
        script(server).await
    })
    .await;
    (target(address, "/mqtt"), task)
}

#[expect(clippy::result_large_err, reason = "the library's signature")]
fn grant(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    assert_eq!(request.uri().path(), "/mqtt");
    assert_eq!(request.headers().get("Sec-WebSocket-Protocol"), Some(&HeaderValue::from_static("mqtt")));
    response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
    Ok(response)
}

async fn next(server: &mut Server) -> Option<Message> {
    std::future::poll_fn(|cx| std::pin::Pin::new(&mut *server).poll_next(cx)).await?.ok()
}

async fn send(server: &mut Server, message: Message) {
    use std::future::poll_fn;
    use std::pin::Pin;
    poll_fn(|cx| Pin::new(&mut *server).poll_ready(cx)).await.expect("ready");
    Pin::new(&mut *server).start_send(message).expect("sent");
    poll_fn(|cx| Pin::new(&mut *server).poll_flush(cx)).await.expect("flushed");
}

fn binary(bytes: &[u8]) -> Message {
    Message::Binary(Bytes::copy_from_slice(bytes))
}

#[tokio::test]
async fn f30_frames_need_not_align_with_packets() {
    let mut stream = CONNACK.to_vec();
    for number in 0..40 {
        stream.extend(message("a/b", &[number]));
    }
    for frame_bytes in [1, 3, 7, 64, stream.len()] {
        let bytes = stream.clone();
        let (target, task) = serve(move |mut server| async move {
            for (index, frame) in bytes.chunks(frame_bytes).enumerate() {
                if index % 5 == 1 {
                    send(&mut server, Message::Ping(Bytes::from_static(b"there?"))).await;
                    send(&mut server, binary(b"")).await;
                }
                send(&mut server, binary(frame)).await;
            }
            let mut pongs = 0;
            while let Some(message) = next(&mut server).await {
                pongs += usize::from(message.is_pong());
            }
            pongs
        })
        .await;
        let (mut connection, mut session, _) = connect(&target).await.expect("connected");
        for number in 0..40 {
            let payload = until(&mut connection, &mut session, |event| match event {
                Event::Message(message) => Some(message.payload().to_vec()),
                _ => None,
            });
            assert_eq!(payload.await.expect("a message"), [number], "frames of {frame_bytes}");
        }
        connection.close(&mut session, PATIENCE).await.expect("closed");
        let pongs = task.await.expect("the server saw the end");
        assert!(pongs > 0 || frame_bytes == stream.len(), "pings are answered");
    }
}

#[tokio::test]
async fn a_large_message_goes_out_in_frames_of_bounded_size() {
    let (target, task) = serve(|mut server| async move {
        send(&mut server, binary(CONNACK)).await;
        let mut frames = Vec::new();
        while let Some(message) = next(&mut server).await {
            if message.is_binary() {
                frames.push(message.into_data());
            }
        }
        frames
    })
    .await;
    let (connection, mut session, _) = connect(&target).await.expect("connected");
    let payload: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).take(200_000).collect();
    let message = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "a",
        id: None,
        properties: Properties::EMPTY,
        payload: &payload,
    };
    session.publish(clock::now(), &message).expect("taken");
    connection.close(&mut session, PATIENCE).await.expect("closed");
    let frames = task.await.expect("the server saw the end");
    assert!(frames.len() > 1 && frames.iter().all(|frame| frame.len() <= 32 * 1024));
    assert!(frames.concat().ends_with(&payload));
}

#[tokio::test]
async fn f30_a_text_frame_is_an_error() {
    let (target, _task) = serve(|mut server| async move {
        send(&mut server, binary(CONNACK)).await;
        send(&mut server, Message::text("hello")).await;
        while next(&mut server).await.is_some() {}
    })
    .await;
    let (mut connection, mut session, _) = connect(&target).await.expect("connected");
    let error = until(&mut connection, &mut session, |_| None::<()>).await.expect_err("refused");
    assert!(matches!(&error, LinkError::Io(error) if error.to_string().contains("text frame")), "{error}");
}

#[tokio::test]
async fn a_close_frame_is_the_end() {
    let (target, _task) = serve(|mut server| async move {
        send(&mut server, binary(CONNACK)).await;
        send(&mut server, Message::Close(None)).await;
        while next(&mut server).await.is_some() {}
    })
    .await;
    let (mut connection, mut session, _) = connect(&target).await.expect("connected");
    let error = until(&mut connection, &mut session, |_| None::<()>).await.expect_err("closed");
    assert!(matches!(error, LinkError::Closed), "{error}");
}

#[tokio::test]
async fn a_frame_of_absurd_length_is_refused() {
    let (address, _task) = listen(|remote: Remote| async move {
        let mut server = accept_hdr_async(remote.io, grant).await.expect("a handshake");
        next(&mut server).await.expect("CONNECT");
        let mut raw = Remote { io: server.into_inner() };
        // Binary, 2^62 bytes.
        raw.send(&[0x82, 127, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]).await;
        raw.drain().await;
    })
    .await;
    let error = refused(&target(address, "/mqtt")).await;
    assert!(matches!(error, ConnectError::Io { step: Step::Connack, .. }), "{error}");
}

#[tokio::test]
async fn handshakes_that_fail_are_told_apart() {
    let answers: [(&'static [u8], &str); 4] = [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "it answered 404 Not Found"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "it answered 200 OK"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "HTTP"),
        (&[0x20, 3, 0, 0, 0], "HTTP"),
    ];
    for (answer, words) in answers {
        let (address, _task) = listen(move |mut remote: Remote| async move {
            remote.head().await;
            remote.send(answer).await;
        })
        .await;
        let error = refused(&target(address, "/mqtt")).await;
        assert_eq!(error.step(), Step::WebSocket, "{error}");
        assert!(error.to_string().contains(words) || matches!(error, ConnectError::Closed { .. }), "{error}");
        assert!(error.hint().is_some());
    }

    // A server that speaks WebSocket, and not this sub-protocol.
    let (address, _task) = listen(|remote: Remote| async move {
        tokio_tungstenite::accept_async(remote.io).await.expect("a handshake");
    })
    .await;
    let error = refused(&target(address, "/mqtt")).await;
    assert!(matches!(error, ConnectError::WebSocket { .. }), "{error}");
    assert!(error.hint().expect("a hint").contains("sub-protocol"), "{error}");

    let (address, _task) = listen(|_| async {}).await;
    let error = refused(&target(address, "/mqtt")).await;
    assert!(matches!(error, ConnectError::Closed { step: Step::WebSocket, .. }), "{error}");
}
