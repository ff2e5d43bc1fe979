//! What carries the bytes, whatever it is made of: TCP, a unix socket, TLS or WebSocket on top of them.

use tokio::io::{AsyncRead, AsyncWrite};

/// A transport: bytes both ways.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Any transport. One indirect call per batch of packets is not worth a type parameter everywhere.
pub(super) type BoxedIo = Box<dyn Io>;
