//! Why a connection could not be made, or why it ended: which step, where, why, and what to look at.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::mqtt::Reason;
use crate::mqtt::auth::AuthError;
use crate::mqtt::reconnect::Failure;
use crate::mqtt::session::{ProtocolError, Refused, RequestError, Timeout};

use super::tls::Roots;

/// The steps of dialling, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reading certificates, keys and passwords.
    Files,
    /// Asking for the addresses of a name.
    Lookup,
    /// Connecting to one of them.
    Tcp,
    /// Asking the proxy for a way through.
    Proxy,
    /// The TLS handshake.
    Tls,
    /// The WebSocket handshake.
    WebSocket,
    /// Waiting for the broker's CONNACK.
    Connack,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "reading the certificate files",
            Self::Lookup => "looking up its address",
            Self::Tcp => "connecting by TCP",
            Self::Proxy => "asking the proxy",
            Self::Tls => "in the TLS handshake",
            Self::WebSocket => "in the WebSocket handshake",
            Self::Connack => "waiting for CONNACK",
        })
    }
}

/// An address that could not be connected to.
#[derive(Debug)]
pub struct Attempt {
    /// Which.
    pub address: SocketAddr,
    /// Why.
    pub error: io::Error,
}

/// How far dialling has come; it outlives a dialling that ran out of time.
pub(super) struct Progress {
    pub(super) place: String,
    pub(super) step: Step,
    pub(super) pending: Vec<SocketAddr>,
    pub(super) failed: Vec<Attempt>,
}

impl Progress {
    pub(super) fn new(place: String) -> Self {
        Self { place, step: Step::Files, pending: Vec::new(), failed: Vec::new() }
    }
}

/// Why no connection came about. `place` is the broker's URL, without credentials.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A file that the configuration names is of no use.
    #[error("{what} {} {reason}", path.display())]
    File {
        /// The key in the configuration.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// As the end of a sentence that begins with the file.
        reason: String,
    },
    /// The system has no authorities to trust.
    #[error("the system has no certificate authorities{why}")]
    NoRoots {
        /// What was seen when they were looked for.
        why: String,
    },
    /// TLS can't be set up from what is configured.
    #[error("TLS can't be set up: {reason}")]
    TlsSetup {
        /// Why.
        reason: String,
    },
    /// The name has no address.
    #[error("no such host: {host}{}", detail(error))]
    Lookup {
        /// The name.
        host: String,
        /// The resolver's words.
        error: io::Error,
    },
    /// None of the addresses could be connected to.
    #[error("can't connect to {place}: {}", list(attempts))]
    Tcp {
        /// The broker.
        place: String,
        /// Every address, and why not.
        attempts: Vec<Attempt>,
    },
    /// The unix socket could not be connected to.
    #[error("can't connect to {place}: {error}")]
    Unix {
        /// The socket.
        place: String,
        /// Why.
        error: io::Error,
    },
    /// The time for the whole way up to CONNACK is over.
    #[error("no connection to {place} within {}: time ran out {step}{}", seconds(*limit), tried(pending, failed))]
    TimedOut {
        /// The broker.
        place: String,
        /// Where dialling stood.
        step: Step,
        /// The time that it had.
        limit: Duration,
        /// Addresses that had not answered.
        pending: Vec<SocketAddr>,
        /// Addresses that had failed.
        failed: Vec<Attempt>,
    },
    /// The proxy gave no way through.
    #[error("{place}: the proxy refused: {reason}")]
    Proxy {
        /// The broker and the proxy.
        place: String,
        /// What the proxy said.
        reason: String,
        /// It was about who asks.
        denied: bool,
    },
    /// The WebSocket handshake failed.
    #[error("{place}: WebSocket failed: {reason}")]
    WebSocket {
        /// The broker.
        place: String,
        /// Why.
        reason: String,
    },
    /// The certificate's authority is not trusted.
    #[error("{place}: its certificate is not signed by an authority that is trusted ({roots})")]
    UnknownAuthority {
        /// The broker.
        place: String,
        /// What was looked in.
        roots: Roots,
    },
    /// The certificate belongs to somebody else.
    #[error("{place}: its certificate is for {}, not for {asked}", names(holds))]
    WrongHost {
        /// The broker.
        place: String,
        /// The name that was asked for.
        asked: String,
        /// The names in the certificate.
        holds: Vec<String>,
    },
    /// The certificate's time is over.
    #[error("{place}: its certificate expired{}", date(" on ", *since_s))]
    Expired {
        /// The broker.
        place: String,
        /// Seconds since 1970.
        since_s: Option<u64>,
    },
    /// The certificate's time has not come.
    #[error("{place}: its certificate is not valid yet{}", date(", only from ", *from_s))]
    NotYetValid {
        /// The broker.
        place: String,
        /// Seconds since 1970.
        from_s: Option<u64>,
    },
    /// Another fault of the broker's certificate.
    #[error("{place}: its certificate is refused: {reason}")]
    Certificate {
        /// The broker.
        place: String,
        /// Which.
        reason: String,
    },
    /// The broker wants another client certificate, or one at all.
    #[error("{place} refused {}: {alert}", if *sent { "the client certificate" } else { "a client without certificate" })]
    ClientCertificate {
        /// The broker.
        place: String,
        /// The alert that it sent.
        alert: String,
        /// Whether a certificate is configured.
        sent: bool,
    },
    /// What answers there does not speak TLS.
    #[error("{place} does not speak TLS")]
    NotTls {
        /// The broker.
        place: String,
    },
    /// Another fault in the TLS handshake.
    #[error("{place}: TLS failed: {reason}")]
    Tls {
        /// The broker.
        place: String,
        /// Which.
        reason: String,
    },
    /// The other side closed before a CONNACK.
    #[error("{place} closed the connection {step}")]
    Closed {
        /// The broker.
        place: String,
        /// Where dialling stood.
        step: Step,
    },
    /// The connection failed on the way.
    #[error("{place}: {error} ({step})")]
    Io {
        /// The broker.
        place: String,
        /// Where dialling stood.
        step: Step,
        /// How.
        error: io::Error,
    },
    /// What answers there does not speak MQTT.
    #[error("{place} is not an MQTT broker: it answered \"{first}\"")]
    NotMqtt {
        /// The broker.
        place: String,
        /// What came first, printable.
        first: String,
    },
    /// The broker's CONNACK is malformed, or no CONNACK.
    #[error("{place} broke the protocol before the connection stood: {error}")]
    Protocol {
        /// The broker.
        place: String,
        /// How.
        error: ProtocolError,
    },
    /// The broker refused.
    #[error("{place} refused the connection: {}{}", refused.reason, quoted(refused.text.as_deref()))]
    Refused {
        /// The broker.
        place: String,
        /// Its CONNACK.
        refused: Box<Refused>,
    },
    /// The broker asked for a step of an enhanced authentication that is not configured.
    #[error("{place} asked for a step of an authentication that the agent does not know")]
    Authentication {
        /// The broker.
        place: String,
    },
    /// An enhanced authentication went wrong.
    #[error("{place}: the authentication failed: {error}")]
    AuthenticationFailed {
        /// The broker.
        place: String,
        /// How.
        error: AuthError,
    },
    /// An enhanced authentication can't be begun.
    #[error("the authentication can't be begun: {reason}")]
    AuthenticationSetup {
        /// Why.
        reason: String,
    },
    /// CONNECT can't be made from what is configured.
    #[error("no CONNECT can be made from the configuration: {error}")]
    Options {
        /// Why.
        error: RequestError,
    },
}

impl ConnectError {
    /// The step that failed.
    pub fn step(&self) -> Step {
        match self {
            Self::File { .. } | Self::NoRoots { .. } | Self::TlsSetup { .. } | Self::AuthenticationSetup { .. } => {
                Step::Files
            }
            Self::Lookup { .. } => Step::Lookup,
            Self::Tcp { .. } | Self::Unix { .. } => Step::Tcp,
            Self::Proxy { .. } => Step::Proxy,
            Self::WebSocket { .. } => Step::WebSocket,
            Self::TimedOut { step, .. } | Self::Closed { step, .. } | Self::Io { step, .. } => *step,
            Self::UnknownAuthority { .. }
            | Self::WrongHost { .. }
            | Self::Expired { .. }
            | Self::NotYetValid { .. }
            | Self::Certificate { .. }
            | Self::ClientCertificate { .. }
            | Self::NotTls { .. }
            | Self::Tls { .. } => Step::Tls,
            Self::NotMqtt { .. }
            | Self::Protocol { .. }
            | Self::Refused { .. }
            | Self::Authentication { .. }
            | Self::AuthenticationFailed { .. }
            | Self::Options { .. } => Step::Connack,
        }
    }

    /// How it counts for the pause before the next attempt.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Refused { refused, .. } => Failure::Refused(refused.reason),
            Self::AuthenticationFailed { .. } => Failure::Refused(Reason::NOT_AUTHORIZED),
            Self::Protocol { .. } | Self::NotMqtt { .. } | Self::Authentication { .. } => Failure::Protocol,
            _ => Failure::Network,
        }
    }

    /// Where the broker says to go instead: `None`, it does not; `Some(None)`, it does not say where.
    pub fn server_reference(&self) -> Option<Option<&str>> {
        match self {
            Self::Refused { refused, .. }
                if matches!(refused.reason, Reason::USE_ANOTHER_SERVER | Reason::SERVER_MOVED) =>
            {
                Some(refused.server_reference.as_deref())
            }
            _ => None,
        }
    }

    /// Whether the broker said that it does not speak the version that was asked for: CONNACK 1 or 0x84.
    pub fn is_version_refused(&self) -> bool {
        matches!(self, Self::Refused { refused, .. }
            if refused.in_v311 || refused.reason == Reason::UNSUPPORTED_PROTOCOL_VERSION)
    }
}

/// Why a connection that stood has ended. The session is to be told `disconnected()`.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other side closed. Had it a reason, it came as an event before.
    #[error("the broker closed the connection")]
    Closed,
    /// The stream ended without the words that TLS and WebSocket have for an end.
    #[error("the connection was cut")]
    Cut,
    /// The transport failed.
    #[error("the connection broke: {0}")]
    Io(#[source] io::Error),
    /// The broker broke the protocol; where the version has a DISCONNECT for that, it was sent.
    #[error("the broker broke the protocol: {0}")]
    Protocol(#[source] ProtocolError),
    /// The broker does not answer any more.
    #[error("the broker does not answer: {0}")]
    Silent(#[source] Timeout),
}

impl LinkError {
    pub(super) fn from_io(error: io::Error) -> Self {
        match error.kind() {
            // Without a TLS close_notify; MQTT says itself where a packet ends.
            io::ErrorKind::UnexpectedEof => Self::Cut,
            _ => Self::Io(error),
        }
    }

    /// Whether the other side ended the connection of its own will. Behind TLS only its own word for it counts, since
    /// anybody on the way can end the TCP connection below.
    pub fn is_by_peer(&self, has_tls: bool) -> bool {
        matches!(self, Self::Closed) || (self.is_cut() && !has_tls)
    }

    /// Whether the TCP connection was ended, by whomever, without words of TLS or WebSocket.
    pub fn is_cut(&self) -> bool {
        match self {
            Self::Cut => true,
            Self::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe
            ),
            Self::Closed | Self::Protocol(_) | Self::Silent(_) => false,
        }
    }
}

fn detail(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit(": ").next().unwrap_or_default().to_owned();
    if text.is_empty() { text } else { format!(" ({text})") }
}

fn list(attempts: &[Attempt]) -> String {
    let each: Vec<String> =
        attempts.iter().map(|attempt| format!("{} {}", attempt.address, brief(&attempt.error))).collect();
    each.join(", ")
}

/// Without the number that the standard library adds.
fn brief(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn tried(pending: &[SocketAddr], failed: &[Attempt]) -> String {
    let mut parts: Vec<String> = pending.iter().map(|address| format!("{address} did not answer")).collect();
    parts.extend((!failed.is_empty()).then(|| list(failed)));
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

fn names(holds: &[String]) -> String {
    const SHOWN_MAX: usize = 8;
    match holds.len() {
        0 => "no host name at all".to_owned(),
        count if count > SHOWN_MAX => {
            let shown: Vec<&str> = holds.iter().take(SHOWN_MAX).map(String::as_str).collect();
            format!("{} and {} more", shown.join(", "), count - SHOWN_MAX)
        }
        _ => holds.join(", "),
    }
}

fn date(before: &str, seconds: Option<u64>) -> String {
    let at = seconds.and_then(|seconds| jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok());
    at.map_or_else(String::new, |at| format!("{before}{at}"))
}

fn seconds(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{} ms", duration.as_millis())
    }
}

fn quoted(text: Option<&str>) -> String {
    text.map_or_else(String::new, |text| format!(" ({text:?})"))
}
