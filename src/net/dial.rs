//! From a target to a connection that the broker has accepted.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::mqtt::auth::Mechanism;
use crate::mqtt::session::Connected;
use crate::mqtt::{Event, Options, Session};
use crate::os::clock;

use super::auth;
use super::classify::TlsContext;
use super::connection::{Connection, Moved, Peer};
use super::error::{ConnectError, LinkError, Progress, Step};
use super::stream::BoxedIo;
use super::target::Target;
use super::{proxy, tcp, tls, websocket};

/// Bytes of an answer that is not MQTT which are shown.
const GREETING_SHOWN_MAX: usize = 48;

/// Where only the way is tried, no packet is read.
const PROBE_PACKET_MAX: u32 = 64 * 1024;

/// Makes connections; keeps what the next one can use of the last: the TLS configuration with its tickets.
#[derive(Default)]
pub struct Dialer {
    tls: tls::Cache,
    mechanism: Option<Box<dyn FnMut() -> Box<dyn Mechanism> + Send + Sync>>,
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

    /// Lets each connection authenticate by a mechanism of the caller's (5.0), made anew for each, in place of what the
    /// options say.
    #[must_use]
    pub fn with_mechanism(mut self, make: impl FnMut() -> Box<dyn Mechanism> + Send + Sync + 'static) -> Self {
        self.mechanism = Some(Box::new(make));
        self
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
            let attempt = match self.mechanism.as_mut() {
                Some(make) => Some(auth::Attempt::with(make(), options.clone())),
                None => auth::Attempt::of(options)?,
            };
            let transport = self.transport(target, options.maximum_packet_size, &mut progress).await?;
            progress.step = Step::Connack;
            let greeting = Greeting { options, clean_start, place: &progress.place };
            greet(transport, target, session, &greeting, attempt).await
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

    /// Whether the way up to CONNECT is free: name, TCP, proxy, TLS, WebSocket. Nothing is said to the broker.
    ///
    /// # Errors
    /// Which step failed, where and why.
    pub async fn reach(&mut self, target: &Target, limit: Duration) -> Result<(), ConnectError> {
        let mut progress = Progress::new(target.url.to_string());
        let reached = timeout(limit, self.transport(target, PROBE_PACKET_MAX, &mut progress)).await;
        match reached {
            Ok(reached) => reached.map(drop),
            Err(_) => {
                let Progress { place, step, pending, failed } = progress;
                Err(ConnectError::TimedOut { place, step, limit, pending, failed })
            }
        }
    }

    pub(super) async fn read_tls_files(&mut self, target: &Target) -> Result<(), ConnectError> {
        self.tls.refresh(&target.tls).await.map(drop)
    }

    async fn transport(
        &mut self,
        target: &Target,
        packet_max: u32,
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
            let packet_max = usize::try_from(packet_max).unwrap_or(usize::MAX);
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

/// What CONNECT says, and to whom.
struct Greeting<'a> {
    options: &'a Options,
    clean_start: bool,
    place: &'a str,
}

/// CONNECT, and what the broker says to it.
async fn greet(
    transport: Transport,
    target: &Target,
    session: &mut Session,
    greeting: &Greeting<'_>,
    mut attempt: Option<auth::Attempt>,
) -> Result<(Connection, Connected), ConnectError> {
    let Greeting { options, clean_start, place } = *greeting;
    let Transport { io, peer, tls } = transport;
    let mut connection = Connection::new(io, peer);
    let options = attempt.as_ref().map_or(options, |attempt| &attempt.options);
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
            (Some(Ok(Answer::Auth(challenge))), Ok(())) => {
                let asked = attempt.take().ok_or_else(|| ConnectError::Authentication { place: place.to_owned() })?;
                attempt = Some(asked.answer(challenge, session, place).await?);
            }
            (Some(Ok(Answer::Auth(_))) | None, Err(error)) => {
                return Err(ConnectError::Protocol { place: place.to_owned(), error });
            }
            (Some(Ok(Answer::Connected(connected))), received) => {
                if let Some(attempt) = &mut attempt {
                    attempt.finish(connected.authentication_data.as_deref(), place)?;
                }
                if let Err(error) = received {
                    connection.fail_next(LinkError::Protocol(error));
                }
                return Ok((connection, *connected));
            }
            (Some(Err(error)), _) => return Err(error),
            (None, Ok(())) => {}
        }
    }
}

/// What the broker says to CONNECT, if it does not refuse.
enum Answer {
    Connected(Box<Connected>),
    /// A step of an authentication.
    Auth(Vec<u8>),
}

/// What an event means to somebody who waits for CONNACK.
fn verdict(event: Event, place: &str) -> Option<Result<Answer, ConnectError>> {
    let place = place.to_owned();
    match event {
        Event::Connected(connected) => Some(Ok(Answer::Connected(connected))),
        Event::Refused(refused) => Some(Err(ConnectError::Refused { place, refused })),
        Event::Authenticate { data, .. } => Some(Ok(Answer::Auth(data.unwrap_or_default()))),
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
        LinkError::Closed | LinkError::Cut | LinkError::Silent(_) => {
            ConnectError::Closed { place: place.to_owned(), step: Step::Connack }
        }
        LinkError::Protocol(error) => ConnectError::Protocol { place: place.to_owned(), error },
    }
}
