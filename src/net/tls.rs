//! TLS: what the files say, as a client configuration of rustls, and the handshake.
//!
//! Owns the last configuration ([`Cache`]). The files are read at every connect, so that renewed ones are
//! taken without a restart (F-25); while their content stays the same, so does the configuration, and with
//! it the tickets that make the next handshake a short one.
//!
//! The provider is ring: it builds with a C compiler alone on every target, and is small.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsConnector;

use super::error::ConnectError;
use super::stream::{BoxedIo, Io};

/// The largest certificate, key or password file that is read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Brokers whose tickets are kept.
const TICKETS_MAX: usize = 8;

/// Which files TLS is set up from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities to trust, and no others. `None`: the system's.
    pub ca: Option<PathBuf>,
    /// The client's certificate, followed by what leads to its authority.
    pub cert: Option<PathBuf>,
    /// The key of `cert`.
    pub key: Option<PathBuf>,
    /// Protocols to offer, in order of preference.
    pub alpn: Vec<String>,
}

/// Which authorities a certificate was held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Those of the system.
    System {
        /// How many there are.
        count: usize,
    },
    /// Those in a file.
    File(PathBuf),
}

impl fmt::Display for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { count } => write!(f, "the {count} authorities of the system"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A client configuration, and what it was made from.
#[derive(Clone)]
pub(super) struct Ready {
    config: Arc<ClientConfig>,
    pub(super) roots: Roots,
    fingerprint: [u8; 32],
}

/// The last configuration.
#[derive(Default)]
pub(super) struct Cache(Option<Ready>);

impl Cache {
    /// Reads the files again; gives the last configuration if nothing in them changed.
    pub(super) async fn refresh(&mut self, files: &TlsFiles) -> Result<Ready, ConnectError> {
        let files = files.clone();
        let last = self.0.clone();
        // Files may be on a slow disk, and the system's roots are a hundred of them.
        let ready = tokio::task::spawn_blocking(move || load(&files, last))
            .await
            .map_err(|error| ConnectError::TlsSetup { reason: error.to_string() })??;
        self.0 = Some(ready.clone());
        Ok(ready)
    }
}

impl Ready {
    /// The handshake, as client, over `io`.
    pub(super) async fn handshake(&self, io: impl Io + 'static, host: &str) -> io::Result<(BoxedIo, Session)> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::clone(&self.config)).connect(name, io).await?;
        let (_, connection) = stream.get_ref();
        let session = Session {
            version: connection.protocol_version().and_then(|version| version.as_str()).unwrap_or("TLS"),
            resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        };
        Ok((Box::new(stream), session))
    }
}

/// What a handshake came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The protocol's version, as `TLSv1_3`.
    pub version: &'static str,
    /// Whether a ticket of an earlier connection made it a short handshake.
    pub resumed: bool,
}

fn load(files: &TlsFiles, last: Option<Ready>) -> Result<Ready, ConnectError> {
    let mut hash = Sha256::new();
    let authorities = match &files.ca {
        Some(path) => certificates(path, "ca_file", &mut hash)?,
        None => system_roots(&mut hash)?,
    };
    let identity = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            Some((certificates(cert, "cert_file", &mut hash)?, private_key(key, &mut hash)?, cert, key))
        }
        (None, None) => None,
        (Some(_), None) => return Err(setup("cert_file is set and key_file is not")),
        (None, Some(_)) => return Err(setup("key_file is set and cert_file is not")),
    };
    for protocol in &files.alpn {
        hash.update(protocol.len().to_le_bytes());
        hash.update(protocol);
    }
    let fingerprint = hash.finalize().into();
    if let Some(last) = last.filter(|last| last.fingerprint == fingerprint) {
        return Ok(last);
    }

    let mut store = RootCertStore::empty();
    let (count, _) = store.add_parsable_certificates(authorities);
    let roots = match &files.ca {
        Some(path) if count == 0 => return Err(bad_file("ca_file", path, "holds no usable certificate")),
        Some(path) => Roots::File(path.clone()),
        None => Roots::System { count },
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| setup(&error.to_string()))?
        .with_root_certificates(store);
    let mut config = match identity {
        Some((chain, key_der, cert, key)) => builder.with_client_auth_cert(chain, key_der).map_err(|error| {
            let reason = match error {
                rustls::Error::InconsistentKeys(_) => format!("is not the key of {}", cert.display()),
                other => other.to_string(),
            };
            bad_file("key_file", key, &reason)
        })?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = files.alpn.iter().map(|protocol| protocol.clone().into_bytes()).collect();
    config.resumption = Resumption::in_memory_sessions(TICKETS_MAX);
    Ok(Ready { config: Arc::new(config), roots, fingerprint })
}

fn system_roots(hash: &mut Sha256) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        return Err(ConnectError::NoRoots { why });
    }
    found.certs.iter().for_each(|certificate| hash.update(certificate));
    Ok(found.certs)
}

fn certificates(
    path: &Path,
    what: &'static str,
    hash: &mut Sha256,
) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let bytes = read(path, what)?;
    hash.update(bytes.len().to_le_bytes());
    hash.update(&bytes);
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match list {
        Ok(list) if list.is_empty() => Err(bad_file(what, path, "holds no certificate in PEM form")),
        Ok(list) => Ok(list),
        Err(error) => Err(bad_file(what, path, &format!("is not PEM: {error}"))),
    }
}

fn private_key(path: &Path, hash: &mut Sha256) -> Result<PrivateKeyDer<'static>, ConnectError> {
    let bytes = read(path, "key_file")?;
    hash.update(bytes.len().to_le_bytes());
    hash.update(&bytes);
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let encrypted = b"ENCRYPTED";
        let reason = match error {
            _ if bytes.windows(encrypted.len()).any(|window| window == encrypted) => {
                "is protected by a passphrase; the agent takes a key without one".to_owned()
            }
            pem::Error::NoItemsFound => "holds no private key in PEM form".to_owned(),
            other => format!("is not PEM: {other}"),
        };
        bad_file("key_file", path, &reason)
    })
}

/// Reads a small file that the configuration names as `what`.
pub(super) fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, ConnectError> {
    let mut bytes = Vec::new();
    let outcome = fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match outcome {
        Ok(count) if count as u64 > FILE_BYTES_MAX => Err(bad_file(what, path, "is larger than 4 MiB")),
        Ok(_) => Ok(bytes),
        Err(error) => Err(bad_file(what, path, &error.to_string())),
    }
}

fn bad_file(what: &'static str, path: &Path, reason: &str) -> ConnectError {
    ConnectError::File { what, path: path.to_owned(), reason: reason.to_owned() }
}

fn setup(reason: &str) -> ConnectError {
    ConnectError::TlsSetup { reason: reason.to_owned() }
}
