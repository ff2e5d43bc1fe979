//! A connection that stands, and the motor of its session.
//!
//! Owns the transport, a read buffer of fixed size and one timer. Each turn does, in this order: the
//! session's timers that are due, all of its output in as few writes as it comes in and one flush, one read.
//! Writing comes first so that a flood of incoming messages never holds up a PINGREQ (F-21), and a peer that
//! takes nothing never holds up reading.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep_until, timeout};

use crate::mqtt::Session;
use crate::os::clock;

use super::error::LinkError;
use super::stream::BoxedIo;
use super::tls::Session as TlsSession;

/// Bytes read at once: a TLS record.
const READ_BYTES: usize = 16 * 1024;

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address; none for a unix socket.
    pub address: Option<SocketAddr>,
    /// What the TLS handshake came to.
    pub tls: Option<TlsSession>,
}

/// A transport to a broker, and what is needed to move a session's bytes over it.
pub struct Connection {
    io: BoxedIo,
    peer: Peer,
    buffer: Box<[u8]>,
    /// Something was written since the last flush was through.
    unflushed: bool,
    /// Writing has failed. What the broker said before is still read, since it may say why.
    write_failed: Option<io::Error>,
    /// Found while the connection was made, behind CONNACK; the next turn says it.
    fault: Option<LinkError>,
    timer: Pin<Box<Sleep>>,
    timer_at: Option<Duration>,
}

/// What one turn moved.
pub(super) enum Moved {
    /// So many bytes into the buffer; 0: the peer closed.
    Read(usize),
    /// Output, or a timer.
    Other,
}

impl Connection {
    pub(super) fn new(io: BoxedIo, peer: Peer) -> Self {
        Self {
            io,
            peer,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            unflushed: false,
            write_failed: None,
            fault: None,
            timer: Box::pin(sleep_until(clock::instant(clock::now()).into())),
            timer_at: None,
        }
    }

    /// Who is at the other end.
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Writes what is pending, reads what there is, turns timers. Returns when something came in, when all
    /// that was pending has been written (there may be room for more now), or when the link has ended; the
    /// session's events say what happened. Cancel safe.
    ///
    /// # Errors
    /// The link has ended: take the session's last events, then tell it [`Session::disconnected`].
    pub async fn turn(&mut self, session: &mut Session) -> Result<(), LinkError> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let Moved::Read(count) = poll_fn(|cx| self.poll_io(cx, session)).await? else { return Ok(()) };
        let bytes = self.buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Err(LinkError::Closed);
        }
        if let Err(error) = session.receive(clock::now(), bytes) {
            self.last_words(session).await;
            return Err(LinkError::Protocol(error));
        }
        Ok(())
    }

    /// Ends the connection within `limit` [MQTT-3.14.4-2]: writes what is pending (call [`Session::disconnect`] first), closes
    /// the writing side, and takes what still comes in until the broker closes as well, so that neither the
    /// last acknowledgements nor the DISCONNECT are lost. The session's events and
    /// [`Session::disconnected`] remain to the caller.
    ///
    /// # Errors
    /// What was pending could not be written in time.
    pub async fn close(mut self, session: &mut Session, limit: Duration) -> Result<(), LinkError> {
        let mut written = false;
        let farewell = async {
            loop {
                if !written && session.transmit().is_empty() && !self.unflushed {
                    written = true;
                    poll_fn(|cx| Pin::new(&mut self.io).poll_shutdown(cx)).await.map_err(LinkError::from_io)?;
                }
                match poll_fn(|cx| self.poll_io(cx, session)).await? {
                    Moved::Read(0) => {
                        // A broker may close as soon as it has read the DISCONNECT.
                        written |= session.transmit().is_empty() && !self.unflushed;
                        return Ok(());
                    }
                    Moved::Read(count) => {
                        // Its faults do not matter any more.
                        let _ = session.receive(clock::now(), self.buffer.get(..count).unwrap_or_default());
                    }
                    Moved::Other => {}
                }
            }
        };
        let outcome = timeout(limit, farewell).await;
        match outcome {
            _ if written => Ok(()),
            Ok(Ok(())) => Err(LinkError::Closed),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(LinkError::Io(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Lets the next turn fail.
    pub(super) fn fail_next(&mut self, fault: LinkError) {
        self.fault = Some(fault);
    }

    /// Bytes of the last read.
    pub(super) fn bytes(&self, count: usize) -> &[u8] {
        self.buffer.get(..count).unwrap_or_default()
    }

    /// One turn, without handing what was read to the session.
    pub(super) async fn io(&mut self, session: &mut Session) -> Result<Moved, LinkError> {
        poll_fn(|cx| self.poll_io(cx, session)).await
    }

    fn poll_io(&mut self, cx: &mut Context<'_>, session: &mut Session) -> Poll<Result<Moved, LinkError>> {
        let now = clock::now();
        let due = session.poll_timeout().is_some_and(|at| at <= now);
        if due {
            session.handle_timeout(now).map_err(LinkError::Silent)?;
        }
        let wrote = self.poll_write(cx, session, now);
        let mut buffer = ReadBuf::new(&mut self.buffer);
        match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(Moved::Read(buffer.filled().len()))),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(LinkError::from_io(error))),
            Poll::Pending => {}
        }
        if let Some(error) = self.write_failed.take() {
            return Poll::Ready(Err(LinkError::from_io(error)));
        }
        if due || wrote {
            return Poll::Ready(Ok(Moved::Other));
        }
        ready!(self.poll_timer(cx, session));
        Poll::Ready(Ok(Moved::Other))
    }

    /// Writes and flushes as much as the transport takes. `true`: the last of it went out just now.
    fn poll_write(&mut self, cx: &mut Context<'_>, session: &mut Session, now: Duration) -> bool {
        if self.write_failed.is_some() {
            return false;
        }
        let had_output = self.unflushed || !session.transmit().is_empty();
        match self.poll_write_all(cx, session, now) {
            Poll::Ready(Ok(())) => had_output,
            Poll::Ready(Err(error)) => {
                self.write_failed = Some(error);
                false
            }
            Poll::Pending => false,
        }
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>, session: &mut Session, now: Duration) -> Poll<io::Result<()>> {
        while !session.transmit().is_empty() {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, session.transmit()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            session.transmitted(now, count);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the session's next timer is due; never, if it has none.
    fn poll_timer(&mut self, cx: &mut Context<'_>, session: &Session) -> Poll<()> {
        let Some(at) = session.poll_timeout() else { return Poll::Pending };
        if self.timer_at != Some(at) {
            self.timer.as_mut().reset(clock::instant(at).into());
            self.timer_at = Some(at);
        }
        let fired = self.timer.as_mut().poll(cx);
        if fired.is_ready() {
            // A timer that has fired must be set anew, also to the same time.
            self.timer_at = None;
        }
        fired
    }

    /// The DISCONNECT that says which rule the broker broke, if it can be said without waiting.
    pub(super) async fn last_words(&mut self, session: &mut Session) {
        poll_fn(|cx| {
            let _ = self.poll_write_all(cx, session, clock::now());
            Poll::Ready(())
        })
        .await;
    }
}
