//! What a transport's error means in the words of [`ConnectError`].

use std::io;

use rustls::{AlertDescription, CertificateError};

use super::error::{ConnectError, Step};
use super::tls::Roots;

/// What the TLS handshake was asked to do.
#[derive(Clone, Copy)]
pub(super) struct TlsContext<'a> {
    pub(super) host: &'a str,
    pub(super) roots: &'a Roots,
    /// Whether there is a client certificate.
    pub(super) identity: bool,
}

impl ConnectError {
    /// What went wrong with the transport `step` by `step`, in the words of this type.
    pub(super) fn from_io(error: io::Error, place: &str, step: Step, tls: Option<TlsContext<'_>>) -> Self {
        let place = place.to_owned();
        let Some(fault) = tls_fault(&error) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe => Self::Closed { place, step },
                _ => Self::Io { place, step, error },
            };
        };
        match fault {
            rustls::Error::InvalidCertificate(fault) => from_certificate(fault, place, tls),
            rustls::Error::InvalidMessage(_) if step == Step::Tls => Self::NotTls { place },
            rustls::Error::AlertReceived(alert) if about_client_certificate(*alert) => {
                let sent = tls.is_some_and(|tls| tls.identity);
                Self::ClientCertificate { place, alert: format!("{alert:?}"), sent }
            }
            other => Self::Tls { place, reason: other.to_string() },
        }
    }
}

fn from_certificate(fault: &CertificateError, place: String, tls: Option<TlsContext<'_>>) -> ConnectError {
    match (fault, tls) {
        (CertificateError::UnknownIssuer, Some(tls)) => {
            ConnectError::UnknownAuthority { place, roots: tls.roots.clone() }
        }
        (CertificateError::NotValidForNameContext { presented, .. }, Some(tls)) => ConnectError::WrongHost {
            place,
            asked: tls.host.to_owned(),
            holds: presented.iter().map(|name| plain_name(name)).collect(),
        },
        (CertificateError::NotValidForName, Some(tls)) => {
            ConnectError::WrongHost { place, asked: tls.host.to_owned(), holds: Vec::new() }
        }
        (CertificateError::Expired, _) => ConnectError::Expired { place, since_s: None },
        (CertificateError::ExpiredContext { not_after, .. }, _) => {
            ConnectError::Expired { place, since_s: Some(not_after.as_secs()) }
        }
        (CertificateError::NotValidYet, _) => ConnectError::NotYetValid { place, from_s: None },
        (CertificateError::NotValidYetContext { not_before, .. }, _) => {
            ConnectError::NotYetValid { place, from_s: Some(not_before.as_secs()) }
        }
        (other, _) => ConnectError::Certificate { place, reason: other.to_string() },
    }
}

/// The fault of TLS that the runtime's adapter wrapped.
fn tls_fault(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>()
}

fn about_client_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::CertificateRequired
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
            // What a TLS 1.2 server says to a client without one.
            | A::HandshakeFailure
    )
}

/// A name out of the certificate, without the name of its kind: `DnsName("a.example")` is `a.example`.
fn plain_name(presented: &str) -> String {
    let quoted = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    quoted.map_or(presented, |name| name.trim_matches('"')).to_owned()
}
