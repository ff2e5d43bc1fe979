//! The way through a proxy: HTTP CONNECT or SOCKS5, with a name and a password where it wants them.
//!
//! The name of the broker goes to the proxy as it is; only the proxy's own is looked up here. Nothing is read
//! beyond the proxy's answer, since what follows it is the broker's.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::ProxyScheme;

use super::error::{ConnectError, Step};
use super::secret;
use super::stream::Io;
use super::target::Proxy;

/// Bytes of an HTTP answer's head.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Bytes of a line of the answer that are shown.
const SHOWN_MAX: usize = 80;

/// Who the agent is at the proxy.
struct Credentials {
    username: Vec<u8>,
    password: Vec<u8>,
}

/// What went wrong, before it is said where.
enum Fault {
    /// The proxy's answer, or the lack of a usable one.
    Answer(String),
    /// It wants to know who asks, or does not like the answer.
    Denied(String),
    Io(std::io::Error),
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// Asks the proxy at the other end of `io` for a way to `host` and `port`.
pub(super) async fn tunnel(
    io: &mut impl Io,
    proxy: &Proxy,
    credentials: Option<&Path>,
    (host, port): (&str, u16),
    place: &str,
) -> Result<(), ConnectError> {
    let credentials = match (&proxy.username, &proxy.password) {
        (Some(username), Some(secret)) => Some(Credentials {
            username: username.clone().into_bytes(),
            password: secret::password(secret, credentials).await?,
        }),
        (Some(username), None) => Some(Credentials { username: username.clone().into_bytes(), password: Vec::new() }),
        (None, _) => None,
    };
    let outcome = match proxy.url.scheme {
        ProxyScheme::Http => http_connect(io, credentials.as_ref(), host, port).await,
        ProxyScheme::Socks5 => socks5(io, credentials.as_ref(), host, port).await,
    };
    outcome.map_err(|fault| match fault {
        Fault::Answer(reason) => ConnectError::Proxy { place: place.to_owned(), reason, denied: false },
        Fault::Denied(reason) => ConnectError::Proxy { place: place.to_owned(), reason, denied: true },
        Fault::Io(error) => ConnectError::from_io(error, place, Step::Proxy, None),
    })
}

async fn http_connect(io: &mut impl Io, credentials: Option<&Credentials>, host: &str, port: u16) -> Result<(), Fault> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(Credentials { username, password }) = credentials {
        let pair = [username.as_slice(), b":", password].concat();
        request.push_str(&format!("Proxy-Authorization: Basic {}\r\n", BASE64.encode(pair)));
    }
    request.push_str("\r\n");
    io.write_all(request.as_bytes()).await?;
    io.flush().await?;

    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_BYTES_MAX {
            return Err(Fault::Answer("its answer has no end".to_owned()));
        }
        head.push(io.read_u8().await?);
        if !b"HTTP/1.".starts_with(head.get(..7).unwrap_or(&head)) {
            return Err(Fault::Answer(format!("it does not speak HTTP: it answered \"{}\"", head.escape_ascii())));
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let shown = line.get(..SHOWN_MAX).unwrap_or(line).escape_ascii().to_string();
    match line.get(9..12) {
        Some([b'2', ..]) => Ok(()),
        Some(b"407") => Err(Fault::Denied(format!("it answered \"{shown}\""))),
        _ => Err(Fault::Answer(format!("it answered \"{shown}\""))),
    }
}

async fn socks5(io: &mut impl Io, credentials: Option<&Credentials>, host: &str, port: u16) -> Result<(), Fault> {
    const NO_AUTHENTICATION: u8 = 0;
    const PASSWORD: u8 = 2;
    const NOTHING_ACCEPTABLE: u8 = 0xFF;

    // RFC 1928, section 3.
    let hello: &[u8] =
        if credentials.is_some() { &[5, 2, NO_AUTHENTICATION, PASSWORD] } else { &[5, 1, NO_AUTHENTICATION] };
    io.write_all(hello).await?;
    io.flush().await?;
    let mut answer = [0; 2];
    io.read_exact(&mut answer).await?;
    match (answer, credentials) {
        ([5, NO_AUTHENTICATION], _) => {}
        ([5, PASSWORD], Some(credentials)) => socks5_password(io, credentials).await?,
        ([5, NOTHING_ACCEPTABLE], None) => return Err(Fault::Denied("it wants a user name and a password".to_owned())),
        ([5, method], _) => return Err(Fault::Denied(format!("it wants authentication method {method:#04x}"))),
        _ => return Err(Fault::Answer(format!("it does not speak SOCKS5: it answered \"{}\"", answer.escape_ascii()))),
    }

    // Section 4: CONNECT.
    let mut request = vec![5, 1, 0];
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        request.push(1);
        request.extend(address.octets());
    } else if let Ok(address) = host.parse::<Ipv6Addr>() {
        request.push(4);
        request.extend(address.octets());
    } else {
        request.push(3);
        put_short(&mut request, host.as_bytes(), "the host name")?;
    }
    request.extend(port.to_be_bytes());
    io.write_all(&request).await?;
    io.flush().await?;

    let mut reply = [0; 4];
    io.read_exact(&mut reply).await?;
    let [_, code, _, kind] = reply;
    if code != 0 {
        return Err(socks5_refusal(code));
    }
    // The address that it bound, which is of no use here.
    let length = match kind {
        1 => 4,
        4 => 16,
        3 => usize::from(io.read_u8().await?),
        other => return Err(Fault::Answer(format!("its answer has an address of unknown type {other}"))),
    };
    let mut bound = vec![0; length + 2];
    io.read_exact(&mut bound).await?;
    Ok(())
}

/// RFC 1929.
async fn socks5_password(io: &mut impl Io, credentials: &Credentials) -> Result<(), Fault> {
    let mut request = vec![1];
    put_short(&mut request, &credentials.username, "the user name")?;
    put_short(&mut request, &credentials.password, "the password")?;
    io.write_all(&request).await?;
    io.flush().await?;
    let mut answer = [0; 2];
    io.read_exact(&mut answer).await?;
    match answer {
        [_, 0] => Ok(()),
        _ => Err(Fault::Denied("it does not accept the user name and password".to_owned())),
    }
}

fn put_short(out: &mut Vec<u8>, bytes: &[u8], what: &str) -> Result<(), Fault> {
    let length = u8::try_from(bytes.len()).map_err(|_| Fault::Answer(format!("{what} has more than 255 bytes")))?;
    out.push(length);
    out.extend_from_slice(bytes);
    Ok(())
}

fn socks5_refusal(code: u8) -> Fault {
    let reason = match code {
        1 => "general failure",
        2 => return Fault::Denied("it does not allow this connection".to_owned()),
        3 => "the network can't be reached",
        4 => "the host can't be reached",
        5 => "the broker refused the connection",
        6 => "the broker did not answer in time",
        7 => "it does not make connections",
        8 => "it does not know this type of address",
        other => return Fault::Answer(format!("it refused with code {other}")),
    };
    Fault::Answer(reason.to_owned())
}
