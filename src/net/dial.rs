//! From a target to a connection that the broker has accepted.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::mqtt::session::Connected;
use crate::mqtt::{Event, Options, Session};
use crate::os::clock;

use super::classify::TlsContext;
use super::connection::{Connection, Moved, Peer};
use super::error::{ConnectError, LinkError, Progress, Step};
use super::stream::BoxedIo;
use super::target::Target;
use super::{proxy, tcp, tls, websocket};

/// Bytes of an answer that is not MQTT which are shown.
const GREETING_SHOWN_MAX: usize = 48;

/// Makes connections; keeps what the next one can use of the last: the TLS configuration with its tickets.
#[derive(Default)]
pub struct Dialer {
    tls: tls::Cache,
}

/// A transport, and what it knows of itself for later errors.
struct Transport {
    io: BoxedIo,
    peer: Peer,
    tls: Option<tls::Ready>,
}

impl Dialer {
    /// Nothing kept yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes all the way up to CONNACK within `limit`. On success the session's next events are what came after
    /// CONNACK. Dropping the future is like an error, but that [`Session::disconnected`] is then the caller's.
    ///
    /// # Errors
    /// Which step failed, where and why. The session has been told that it is disconnected.
    pub async fn connect(
        &mut self,
        target: &Target,
        session: &mut Session,
        options: &Options,
        clean_start: bool,
        limit: Duration,
    ) -> Result<(Connection, Connected), ConnectError> {
        let place = match &target.proxy {
            Some(proxy) => format!("{} through {}", target.url, proxy.url),
            None => target.url.to_string(),
        };
        let mut progress = Progress::new(place);
        let way = async {
            let transport = self.transport(target, options, &mut progress).await?;
            progress.step = Step::Connack;
            greet(transport, target, session, options, clean_start, &progress.place).await
        };
        let outcome = timeout(limit, way).await.unwrap_or_else(|_| {
            let Progress { place, step, pending, failed } = progress;
            Err(ConnectError::TimedOut { place, step, limit, pending, failed })
        });
        if outcome.is_err() {
            session.disconnected();
        }
        outcome
    }

    async fn transport(
        &mut self,
        target: &Target,
        options: &Options,
        progress: &mut Progress,
    ) -> Result<Transport, ConnectError> {
        let tls = if target.is_tls() { Some(self.tls.refresh(&target.tls).await?) } else { None };
        if let Some(path) = target.socket_path() {
            progress.step = Step::Tcp;
            let stream = UnixStream::connect(&path)
                .await
                .map_err(|error| ConnectError::Unix { place: progress.place.clone(), error })?;
            return Ok(Transport { io: Box::new(stream), peer: Peer { address: None, tls: None }, tls: None });
        }
        let stream = reach(target, progress).await?;
        let address = stream.peer_addr().ok();
        let mut transport = secure(stream, address, tls, target, progress).await?;
        if target.is_websocket() {
            progress.step = Step::WebSocket;
            let packet_max = usize::try_from(options.maximum_packet_size).unwrap_or(usize::MAX);
            let socket = websocket::handshake(transport.io, &target.url, packet_max, &progress.place).await?;
            transport.io = Box::new(socket);
        }
        Ok(transport)
    }
}

/// TCP to the broker, or to the proxy and through it.
async fn reach(target: &Target, progress: &mut Progress) -> Result<TcpStream, ConnectError> {
    let broker = (target.url.host.as_str(), target.url.port);
    let (host, port) = target.proxy.as_ref().map_or(broker, |proxy| (proxy.url.host.as_str(), proxy.url.port));
    let mut stream = tcp::connect(host, port, progress).await?;
    tcp::tune(&stream, target.silence)
        .map_err(|error| ConnectError::from_io(error, &progress.place, Step::Tcp, None))?;
    progress.pending.clear();
    progress.failed.clear();
    if let Some(proxy) = &target.proxy {
        progress.step = Step::Proxy;
        let credentials = target.credentials.as_deref();
        proxy::tunnel(&mut stream, proxy, credentials, broker, &progress.place).await?;
    }
    Ok(stream)
}

/// TLS over `stream`, where there is to be one.
async fn secure(
    stream: TcpStream,
    address: Option<SocketAddr>,
    tls: Option<tls::Ready>,
    target: &Target,
    progress: &mut Progress,
) -> Result<Transport, ConnectError> {
    let Some(ready) = tls else {
        return Ok(Transport { io: Box::new(stream), peer: Peer { address, tls: None }, tls: None });
    };
    progress.step = Step::Tls;
    match ready.handshake(stream, &target.url.host).await {
        Ok((io, session)) => Ok(Transport { io, peer: Peer { address, tls: Some(session) }, tls: Some(ready) }),
        Err(error) => Err(ConnectError::from_io(error, &progress.place, Step::Tls, Some(context(&ready, target)))),
    }
}

fn context<'a>(ready: &'a tls::Ready, target: &'a Target) -> TlsContext<'a> {
    TlsContext { host: &target.url.host, roots: &ready.roots, identity: target.tls.cert.is_some() }
}

/// CONNECT, and what the broker says to it.
async fn greet(
    transport: Transport,
    target: &Target,
    session: &mut Session,
    options: &Options,
    clean_start: bool,
    place: &str,
) -> Result<(Connection, Connected), ConnectError> {
    let Transport { io, peer, tls } = transport;
    let mut connection = Connection::new(io, peer);
    session.connect(clock::now(), options, clean_start).map_err(|error| ConnectError::Options { error })?;
    let mut greeted = false;
    loop {
        let moved = connection.io(session).await.map_err(|error| {
            let tls = tls.as_ref().map(|ready| context(ready, target));
            from_link(error, place, tls)
        })?;
        let Moved::Read(count) = moved else { continue };
        let bytes = connection.bytes(count);
        match bytes.first() {
            None => return Err(ConnectError::Closed { place: place.to_owned(), step: Step::Connack }),
            Some(first) if !greeted && !may_begin_an_answer(*first) => {
                return Err(ConnectError::NotMqtt { place: place.to_owned(), first: printable(bytes) });
            }
            Some(_) => greeted = true,
        }
        let received = session.receive(clock::now(), bytes);
        if received.is_err() {
            connection.last_words(session).await;
        }
        // What comes behind CONNACK stays in the session.
        let answer = std::iter::from_fn(|| session.poll_event()).find_map(|event| verdict(event, place));
        match (answer, received) {
            (Some(Ok(connected)), received) => {
                if let Err(error) = received {
                    connection.fail_next(LinkError::Protocol(error));
                }
                return Ok((connection, connected));
            }
            (Some(Err(error)), _) => return Err(error),
            (None, Err(error)) => return Err(ConnectError::Protocol { place: place.to_owned(), error }),
            (None, Ok(())) => {}
        }
    }
}

/// What an event means to somebody who waits for CONNACK.
fn verdict(event: Event, place: &str) -> Option<Result<Connected, ConnectError>> {
    let place = place.to_owned();
    match event {
        Event::Connected(connected) => Some(Ok(*connected)),
        Event::Refused(refused) => Some(Err(ConnectError::Refused { place, refused })),
        Event::Authenticate { .. } => Some(Err(ConnectError::Authentication { place })),
        _ => None,
    }
}

/// CONNACK, AUTH, or the DISCONNECT that some brokers send in place of a CONNACK.
const fn may_begin_an_answer(first: u8) -> bool {
    matches!(first, 0x20 | 0xF0 | 0xE0)
}

/// The first line, or its beginning, with everything escaped that is not plain text.
fn printable(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).find(|line| !line.is_empty()).unwrap_or(bytes);
    let shown = line.get(..GREETING_SHOWN_MAX).unwrap_or(line);
    shown.escape_ascii().to_string()
}

fn from_link(error: LinkError, place: &str, tls: Option<TlsContext<'_>>) -> ConnectError {
    match error {
        LinkError::Io(error) => ConnectError::from_io(error, place, Step::Connack, tls),
        LinkError::Closed | LinkError::Silent(_) => {
            ConnectError::Closed { place: place.to_owned(), step: Step::Connack }
        }
        LinkError::Protocol(error) => ConnectError::Protocol { place: place.to_owned(), error },
    }
}
