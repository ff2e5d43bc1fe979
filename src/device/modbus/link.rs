//! One connection: a request goes out, and its reply comes back, or an error that ends the connection.
//!
//! - Before a request the line has been silent for as long as line and device want it. What came in that time belongs
//!   to nothing that is asked now: on a serial line it is thrown away, on TCP it ends the connection.
//! - After any error but an exception the link is dropped; a reply that comes later comes to nobody.

use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_modbus::Request;

use super::frame::{self, Found, Reply, Wrong};
use super::wire::{Dial, Framing, Stream};

/// Bytes that are kept of what comes for one request; more is no reply.
const BUFFER_MAX: usize = 2 * frame::RTU_MAX;
/// A serial line that says nothing for so long in the midst of a frame has ended it. (1.5 characters are not to be
/// seen through USB adapters and serial servers.)
const PAUSE_IN_FRAME_MAX: Duration = Duration::from_millis(200);
/// How long an opened serial line is listened to for what is still under way, at least and at most.
const SETTLE: Duration = Duration::from_millis(10);
const SETTLE_MAX: Duration = Duration::from_millis(500);

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing came in time.
    Timeout,
    /// The connection had ended before anything was asked over it.
    Stale,
    /// The device closed the connection before it sent a byte of a reply.
    Closed,
    /// The connection broke, or something wrong came over it.
    Broken(String),
    /// The device refused. The link is sound.
    Exception(u8),
}

/// What one exchange is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// For the request and its reply; what the bytes take on a serial line comes on top.
    pub timeout: Duration,
    /// Silence before it.
    pub pause: Duration,
}

/// See the head of this file.
pub(super) struct Link {
    stream: Box<dyn Stream>,
    framing: Framing,
    transaction: u16,
    buffer: Vec<u8>,
    /// When the last exchange ended, and the silence that its unit wants after it.
    last: Option<(Instant, Duration)>,
    /// Not before this.
    ready_at: Instant,
    /// Replies that came over it.
    pub replies: u64,
}

/// The runtime's clock, which its timers follow, in tests as well.
#[expect(clippy::disallowed_methods, reason = "an edge: time becomes an argument from here on")]
pub(super) fn now() -> Instant {
    Instant::now()
}

impl Link {
    /// Dials, and waits as long as the device wants after that.
    pub(super) async fn open(
        dial: &dyn Dial,
        framing: Framing,
        limit: Duration,
        pause_connect: Duration,
    ) -> Result<Self, String> {
        let stream = match timeout(limit, dial.dial()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(no_link(&error)),
            Err(_) => return Err(format!("no connection within {limit:?}")),
        };
        let mut link = Self {
            stream,
            framing,
            transaction: 0,
            buffer: Vec::new(),
            last: None,
            ready_at: now() + pause_connect,
            replies: 0,
        };
        if matches!(framing, Framing::Rtu { .. }) {
            link.settle().await.map_err(|error| no_link(&error))?;
        }
        Ok(link)
    }

    /// Listens until the line is silent: what is still being said was not meant for this link.
    async fn settle(&mut self) -> io::Result<()> {
        let until = now() + SETTLE_MAX;
        let mut bytes = [0; frame::RTU_MAX];
        loop {
            let silent = (now() + SETTLE.max(self.framing.silence())).min(until);
            match timeout_at(silent, self.stream.read(&mut bytes)).await {
                Ok(Ok(1..)) if now() < until => {}
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Err(error)) => return Err(error),
                _ => return Ok(()),
            }
        }
    }

    /// Asks. After an error the link is not to be used again.
    pub(super) async fn exchange(&mut self, unit: u8, request: &Request<'_>, terms: Terms) -> Result<Reply, Fault> {
        self.quiet(terms.pause).await;
        self.discard().await?;
        self.transaction = self.transaction.wrapping_add(1);
        let (bytes, wire) = match self.framing {
            Framing::Tcp { .. } => (frame::tcp(self.transaction, unit, request), Duration::ZERO),
            Framing::Rtu { .. } => (frame::rtu(unit, request), self.framing.time_of(frame::rtu_bytes(request))),
        };
        let deadline = now() + terms.timeout + wire;
        let result = match timeout_at(deadline, self.stream.write_all(&bytes)).await {
            Ok(Ok(())) => self.reply(unit, request, deadline).await,
            Ok(Err(error)) if is_end(&error) => Err(Fault::Closed),
            Ok(Err(error)) => Err(Fault::Broken(no_link(&error))),
            Err(_) => Err(Fault::Timeout),
        };
        self.last = Some((now(), terms.pause));
        self.replies += u64::from(result.is_ok());
        result
    }

    /// Waits until the line has been silent for long enough.
    async fn quiet(&mut self, pause: Duration) {
        let until = match self.last {
            Some((ended, after)) => ended + pause.max(after).max(self.framing.silence()),
            None => self.ready_at,
        };
        if until > now() {
            sleep_until(until).await;
        }
    }

    /// What came without being asked for, if it is there already.
    async fn discard(&mut self) -> Result<(), Fault> {
        let leftover = !self.buffer.is_empty();
        self.buffer.clear();
        let mut bytes = [0; frame::RTU_MAX];
        let mut stray = leftover;
        // A line that never stops talking is found out by the reply that never comes.
        for _ in 0..BUFFER_MAX / frame::RTU_MAX {
            let mut into = ReadBuf::new(&mut bytes);
            let waiting = std::future::poll_fn(|cx| match Pin::new(&mut self.stream).poll_read(cx, &mut into) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending => Poll::Ready(None),
            });
            match waiting.await {
                None => break,
                Some(Ok(())) if into.filled().is_empty() => return Err(Fault::Stale),
                Some(Ok(())) => stray = true,
                Some(Err(error)) if is_end(&error) => return Err(Fault::Stale),
                Some(Err(error)) => return Err(Fault::Broken(no_link(&error))),
            }
        }
        match self.framing {
            // Whose it is cannot be said, and the next reply would come behind it.
            Framing::Tcp { .. } if stray => Err(Fault::Stale),
            _ => Ok(()),
        }
    }

    async fn reply(&mut self, unit: u8, request: &Request<'_>, deadline: Instant) -> Result<Reply, Fault> {
        let mut bytes = [0; frame::RTU_MAX + frame::HEADER];
        loop {
            let until = match self.framing {
                Framing::Rtu { .. } if !self.buffer.is_empty() => deadline.min(now() + PAUSE_IN_FRAME_MAX),
                _ => deadline,
            };
            let count = match timeout_at(until, self.stream.read(&mut bytes)).await {
                Ok(Ok(0)) if self.buffer.is_empty() => return Err(Fault::Closed),
                Ok(Ok(0)) => return Err(Fault::Broken("the connection was closed in the middle of a reply".into())),
                Ok(Ok(count)) => count,
                Ok(Err(error)) if is_end(&error) && self.buffer.is_empty() => return Err(Fault::Closed),
                Ok(Err(error)) => return Err(Fault::Broken(no_link(&error))),
                Err(_) if self.buffer.is_empty() => return Err(Fault::Timeout),
                Err(_) => return Err(broken(frame::diagnosis(&self.buffer, unit))),
            };
            self.buffer.extend_from_slice(bytes.get(..count).unwrap_or_default());
            let found = match self.framing {
                Framing::Tcp { check_transaction } => {
                    let transaction = check_transaction.then_some(self.transaction);
                    frame::from_tcp(&self.buffer, transaction, unit, request)
                }
                Framing::Rtu { .. } => frame::from_rtu(&self.buffer, unit, request),
            };
            match found.map_err(broken)? {
                Found::Reply(reply, used) => {
                    self.buffer.drain(..used.min(self.buffer.len()));
                    return Ok(reply);
                }
                Found::More if self.buffer.len() > BUFFER_MAX => {
                    return Err(broken(frame::diagnosis(&self.buffer, unit)));
                }
                Found::More => {}
            }
        }
    }
}

fn broken(Wrong(what): Wrong) -> Fault {
    Fault::Broken(what)
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    // A serial device that was unplugged, and a pseudo-terminal without another end, answer EIO.
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// What broke, in words.
fn no_link(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "the device file is not there".to_owned(),
        io::ErrorKind::UnexpectedEof => "the other end is gone".to_owned(),
        io::ErrorKind::PermissionDenied => {
            format!("{error}; is the agent's user in the group of the device file (dialout)?")
        }
        _ => error.to_string(),
    }
}
