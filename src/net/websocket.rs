//! MQTT in WebSocket: a stream of bytes in binary frames, which need not begin or end with a packet (F-30).
//!
//! RFC 6455 itself is tungstenite's. Owns the rest of the frame that was last received. A text frame is an
//! error [MQTT-6.0.0-1]; the sub-protocol is `mqtt` [MQTT-6.0.0-3], and a server that grants another one, or
//! none, is refused.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Bytes, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::config::BrokerUrl;

use super::error::{ConnectError, Step};
use super::stream::Io;

/// The sub-protocol.
const PROTOCOL: &str = "mqtt";

/// Bytes of a frame that is sent, at most.
const FRAME_OUT_MAX: usize = 32 * 1024;

/// Bytes of a frame that is received beyond the largest packet: brokers put several packets into one.
const FRAME_SLACK: usize = 256 * 1024;

/// Bytes of the buffer for reading; what is larger makes it grow for as long as it lasts.
const READ_BYTES: usize = 8 * 1024;

/// Bytes over binary frames.
pub(super) struct WebSocket<S> {
    inner: WebSocketStream<S>,
    /// What is left of the last frame.
    rest: Bytes,
}

/// The handshake over `io`. Frames with more than `packet_max` bytes, and some, are refused.
pub(super) async fn handshake<S: Io>(
    io: S,
    url: &BrokerUrl,
    packet_max: usize,
    place: &str,
) -> Result<WebSocket<S>, ConnectError> {
    let fault = |reason: String| ConnectError::WebSocket { place: place.to_owned(), reason };
    let uri: Uri = url.to_string().parse().map_err(|_| fault("the url is not a valid one".to_owned()))?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(PROTOCOL);
    let frame_max = Some(packet_max.saturating_add(FRAME_SLACK));
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(2 * FRAME_OUT_MAX)
        .max_message_size(frame_max)
        .max_frame_size(frame_max);
    match client_async_with_config(request, io, Some(config)).await {
        Ok((inner, _)) => Ok(WebSocket { inner, rest: Bytes::new() }),
        Err(tungstenite::Error::Http(response)) => Err(fault(format!("it answered {}", response.status()))),
        Err(tungstenite::Error::Io(error)) => Err(ConnectError::from_io(error, place, Step::WebSocket, None)),
        Err(
            tungstenite::Error::ConnectionClosed | tungstenite::Error::Protocol(ProtocolError::HandshakeIncomplete),
        ) => Err(ConnectError::Closed { place: place.to_owned(), step: Step::WebSocket }),
        Err(other) => Err(fault(other.to_string())),
    }
}

impl<S: Io> AsyncRead for WebSocket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the broker sent a text frame over WebSocket [MQTT-6.0.0-1]",
                    )));
                }
                // Answers to pings and to a close go out by themselves.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
            }
        }
        let count = self.rest.len().min(buffer.remaining());
        let now = self.rest.split_to(count);
        buffer.put_slice(&now);
        Poll::Ready(Ok(()))
    }
}

impl<S: Io> AsyncWrite for WebSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.inner).poll_ready(cx)).map_err(to_io)?;
        let frame = bytes.get(..FRAME_OUT_MAX).unwrap_or(bytes);
        let message = Message::Binary(Bytes::copy_from_slice(frame));
        Pin::new(&mut self.inner).start_send(message).map_err(to_io)?;
        Poll::Ready(Ok(frame.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx).map_err(to_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx).map_err(to_io)
    }
}

fn to_io(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        tungstenite::Error::ConnectionClosed
        | tungstenite::Error::AlreadyClosed
        | tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing) => {
            io::ErrorKind::UnexpectedEof.into()
        }
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}
