//! URLs of brokers, proxies and buses, by one small strict parser. Credentials never stand in a URL.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use super::forms::Fault;
use super::suggest::nearest;

/// How a broker is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// TCP, port 1883.
    Mqtt,
    /// TLS, port 8883.
    Mqtts,
    /// WebSocket, port 80.
    Ws,
    /// WebSocket over TLS, port 443.
    Wss,
    /// Socket in the file system.
    Unix,
}

impl Scheme {
    /// As in the URL, without `://`.
    pub fn word(self) -> &'static str {
        match self {
            Scheme::Mqtt => "mqtt",
            Scheme::Mqtts => "mqtts",
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
            Scheme::Unix => "unix",
        }
    }

    /// Whether what is sent is encrypted.
    pub fn is_tls(self) -> bool {
        matches!(self, Scheme::Mqtts | Scheme::Wss)
    }
}

/// Where a broker is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BrokerUrl {
    /// How it is reached.
    pub scheme: Scheme,
    /// Name or address, IPv6 without brackets; empty for a Unix socket.
    pub host: String,
    /// Port; 0 for a Unix socket.
    pub port: u16,
    /// WebSocket: path with query, starts with `/`. Unix: path of the socket. Else empty.
    pub path: String,
}

impl BrokerUrl {
    /// Whether what is sent can be read by others on the way.
    pub fn is_plain_link(&self) -> bool {
        let local = self.host == "localhost" || self.host == "::1" || self.host.starts_with("127.");
        matches!(self.scheme, Scheme::Mqtt | Scheme::Ws) && !local
    }

    /// The same way to another host: `authority` is `host` or `host:port`, IPv6 in brackets; the port stays where none is
    /// given. `None` where it is none of these, or this is a Unix socket.
    pub fn with_authority(&self, authority: &str) -> Option<Self> {
        if self.scheme == Scheme::Unix || authority.contains(['/', '?', '#', '@']) {
            return None;
        }
        let parts = Parts { scheme: self.scheme.word(), authority, path: "" };
        let (host, port) = parts.host_and_port(self.port).ok()?;
        Some(Self { host, port, ..self.clone() })
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Unix => write!(f, "unix:{}", self.path),
            _ => write!(f, "{}://{}{}", self.scheme.word(), HostPort(&self.host, self.port), self.path),
        }
    }
}

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyScheme {
    /// HTTP CONNECT, port 80.
    Http,
    /// SOCKS5, names resolved by the proxy, port 1080.
    Socks5,
}

/// Where a proxy is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProxyUrl {
    /// How it is spoken to.
    pub scheme: ProxyScheme,
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            ProxyScheme::Http => "http",
            ProxyScheme::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", HostPort(&self.host, self.port))
    }
}

/// Where a Modbus line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusUrl {
    /// Modbus TCP, port 502.
    Tcp {
        /// Name or address, IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// RTU frames over a TCP connection (serial servers), port 502.
    RtuTcp {
        /// Name or address, IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A serial line, 8 data bits.
    Rtu {
        /// Device, an absolute path.
        device: PathBuf,
        /// Bits a second; 19,200 by default.
        baud: u32,
        /// Parity; even by default.
        parity: Parity,
        /// Stop bits, 1 or 2; 1 by default.
        stop: u8,
        /// The port's driver switches an RS-485 transceiver by its RTS line (`TIOCSRS485`); off by default, since most
        /// adapters do it by themselves.
        rs485: bool,
    },
}

impl BusUrl {
    /// The serial device, if it is one.
    pub fn device(&self) -> Option<&Path> {
        match self {
            BusUrl::Rtu { device, .. } => Some(device),
            _ => None,
        }
    }
}

impl fmt::Display for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BusUrl::Tcp { host, port } => write!(f, "tcp://{}", HostPort(host, *port)),
            BusUrl::RtuTcp { host, port } => write!(f, "rtu+tcp://{}", HostPort(host, *port)),
            BusUrl::Rtu { device, baud, parity, stop, rs485 } => {
                write!(f, "rtu://{}?baud={baud}&parity={}&stop={stop}", device.display(), parity.word())?;
                if *rs485 { f.write_str("&rs485=true") } else { Ok(()) }
            }
        }
    }
}

/// Parity of a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// None.
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
}

impl Parity {
    /// As in the URL.
    pub fn word(self) -> &'static str {
        match self {
            Parity::None => "none",
            Parity::Even => "even",
            Parity::Odd => "odd",
        }
    }
}

/// `host:port`, with brackets around IPv6.
struct HostPort<'a>(&'a str, u16);

impl fmt::Display for HostPort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]:{}", self.0, self.1) } else { write!(f, "{}:{}", self.0, self.1) }
    }
}

/// Reads the URL of a broker.
pub(super) fn broker_url(text: &str) -> Result<BrokerUrl, Fault> {
    const SCHEMES: &[&str] = &["mqtt", "mqtts", "ws", "wss", "unix"];
    const MEANT: &[(&str, &str)] = &[
        ("tcp", "mqtt"),
        ("http", "ws"),
        ("https", "wss"),
        ("ssl", "mqtts"),
        ("tls", "mqtts"),
        ("mqtt+ssl", "mqtts"),
        ("mqtt+tls", "mqtts"),
        ("mqtt+ws", "ws"),
        ("mqtt+wss", "wss"),
    ];
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_socket(text, path);
    }
    let parts = Parts::read(text, SCHEMES, MEANT, "username and password_file (or credential)")?;
    let (scheme, default_port) = match parts.scheme {
        "mqtt" => (Scheme::Mqtt, 1883),
        "mqtts" => (Scheme::Mqtts, 8883),
        "ws" => (Scheme::Ws, 80),
        _ => (Scheme::Wss, 443),
    };
    let (host, port) = parts.host_and_port(default_port)?;
    let path = match scheme {
        // What most brokers listen on; `/` where it is written.
        Scheme::Ws | Scheme::Wss if parts.path.is_empty() => "/mqtt".to_owned(),
        Scheme::Ws | Scheme::Wss if parts.path.starts_with('?') => format!("/mqtt{}", parts.path),
        Scheme::Ws | Scheme::Wss => parts.path.to_owned(),
        _ => {
            parts.without_path()?;
            String::new()
        }
    };
    Ok(BrokerUrl { scheme, host, port, path })
}

fn unix_socket(text: &str, path: &str) -> Result<BrokerUrl, Fault> {
    /// `sun_path` of Linux, with its closing NUL.
    const SOCKET_PATH_MAX: usize = 107;
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') || path.len() < 2 {
        return Err(Fault::new(format!("`{text}` names no socket")).hint("an absolute path: \"unix:/run/broker.sock\""));
    }
    if path.len() > SOCKET_PATH_MAX {
        return Err(Fault::new("the path of a socket has at most 107 bytes"));
    }
    no_blanks(text)?;
    Ok(BrokerUrl { scheme: Scheme::Unix, host: String::new(), port: 0, path: path.to_owned() })
}

/// Reads the URL of a proxy.
pub(super) fn proxy_url(text: &str) -> Result<ProxyUrl, Fault> {
    const MEANT: &[(&str, &str)] =
        &[("https", "http"), ("socks", "socks5"), ("socks5h", "socks5"), ("socks4", "socks5")];
    let parts =
        Parts::read(text, &["http", "socks5"], MEANT, "proxy_username and proxy_password_file (or proxy_credential)")?;
    let (scheme, default_port) =
        if parts.scheme == "http" { (ProxyScheme::Http, 80) } else { (ProxyScheme::Socks5, 1080) };
    parts.without_path()?;
    let (host, port) = parts.host_and_port(default_port)?;
    Ok(ProxyUrl { scheme, host, port })
}

/// Reads the URL of a bus.
pub(super) fn bus_url(text: &str) -> Result<BusUrl, Fault> {
    const MEANT: &[(&str, &str)] =
        &[("modbus", "tcp"), ("modbus+tcp", "tcp"), ("serial", "rtu"), ("rtutcp", "rtu+tcp"), ("rtu-tcp", "rtu+tcp")];
    let parts = Parts::read(text, &["tcp", "rtu", "rtu+tcp"], MEANT, "nothing: Modbus has no passwords")?;
    if parts.scheme == "rtu" {
        return serial_line(text, &parts);
    }
    parts.without_path()?;
    let (host, port) = parts.host_and_port(502)?;
    Ok(if parts.scheme == "tcp" { BusUrl::Tcp { host, port } } else { BusUrl::RtuTcp { host, port } })
}

fn serial_line(text: &str, parts: &Parts<'_>) -> Result<BusUrl, Fault> {
    const OPTIONS: [&str; 4] = ["baud", "parity", "stop", "rs485"];
    let (device, query) = parts.path.split_once('?').unwrap_or((parts.path, ""));
    if !parts.authority.is_empty() || device.len() < 2 {
        let fault = Fault::new(format!("`{text}` names no serial device"));
        return Err(fault.hint("three slashes: \"rtu:///dev/ttyUSB0?baud=19200&parity=even&stop=1\""));
    }
    let (mut baud, mut parity, mut stop, mut rs485) = (19_200, Parity::Even, 1, false);
    let mut seen = Vec::new();
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let wrong =
            |right: &str| Fault::new(format!("`{value}` is no value of `{name}`")).hint(right.to_owned()).mark(option);
        if seen.contains(&name) {
            return Err(Fault::new(format!("`{name}` is given twice")).mark(option));
        }
        seen.push(name);
        match name {
            "baud" => {
                let number = value.parse().ok().filter(|baud| (300..=4_000_000).contains(baud));
                baud = number.ok_or_else(|| wrong("a number from 300 to 4000000: baud=19200"))?;
            }
            "parity" => {
                let found = [Parity::None, Parity::Even, Parity::Odd].into_iter().find(|parity| parity.word() == value);
                parity = found.ok_or_else(|| wrong("none, even or odd"))?;
            }
            "rs485" => rs485 = value.parse().map_err(|_| wrong("true or false"))?,
            "stop" => stop = value.parse().ok().filter(|n| matches!(n, 1 | 2)).ok_or_else(|| wrong("1 or 2"))?,
            _ => {
                let fault = Fault::new(format!("unknown option `{name}`")).mark(option);
                return Err(match nearest(name, OPTIONS) {
                    Some(meant) => fault.hint(format!("did you mean `{meant}`?")),
                    None => fault.hint("baud, parity, stop and rs485; there are always 8 data bits"),
                });
            }
        }
    }
    Ok(BusUrl::Rtu { device: PathBuf::from(device), baud, parity, stop, rs485 })
}

/// `scheme://authority` and what follows it.
struct Parts<'t> {
    scheme: &'t str,
    authority: &'t str,
    /// From the first `/` or `?` on.
    path: &'t str,
}

impl<'t> Parts<'t> {
    fn read(text: &'t str, schemes: &[&str], meant: &[(&str, &str)], instead: &str) -> Result<Parts<'t>, Fault> {
        no_blanks(text)?;
        let listed = schemes.iter().map(|scheme| format!("{scheme}:")).collect::<Vec<_>>().join(" ");
        let Some((scheme, rest)) = text.split_once("://") else {
            let first = schemes.first().copied().unwrap_or_default();
            let fault = Fault::new("a URL begins with its scheme");
            return Err(match text.is_empty() || text.contains('/') || text.contains('@') {
                true => fault.hint(format!("one of {listed}")),
                false => fault.hint(format!("\"{first}://{text}\"; known here: {listed}")),
            });
        };
        if !schemes.contains(&scheme) {
            let alias = meant.iter().find(|(word, _)| word.eq_ignore_ascii_case(scheme)).map(|(_, right)| *right);
            let fault = Fault::new(format!("unknown scheme `{scheme}`")).mark(scheme);
            return Err(match alias.or_else(|| nearest(scheme, schemes.iter().copied())) {
                Some(right) => fault.hint(format!("did you mean `{right}://`?")),
                None => fault.hint(format!("one of {listed}")),
            });
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if authority.contains('@') {
            let fault = Fault::new("credentials don't stand in a URL").mark(authority);
            return Err(fault.hint(format!("use {instead}")));
        }
        if path.contains('#') {
            return Err(Fault::new("a fragment (`#`) means nothing here").mark(path));
        }
        Ok(Parts { scheme, authority, path })
    }

    fn without_path(&self) -> Result<(), Fault> {
        if matches!(self.path, "" | "/") {
            return Ok(());
        }
        Err(Fault::new("nothing can follow host and port here")
            .hint(format!("leave out `{}`", self.path))
            .mark(self.path))
    }

    fn host_and_port(&self, default_port: u16) -> Result<(String, u16), Fault> {
        let (host, port) = match self.authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest
                    .split_once(']')
                    .ok_or_else(|| Fault::new("the bracket around the address is not closed").mark(self.authority))?;
                let address = host.split_once('%').map_or(host, |(address, _zone)| address);
                if address.parse::<Ipv6Addr>().is_err() {
                    return Err(Fault::new(format!("`{host}` is no IPv6 address")).mark(self.authority));
                }
                (host, port)
            }
            None if self.authority.matches(':').count() > 1 => {
                let fault = Fault::new("an IPv6 address stands in brackets").mark(self.authority);
                return Err(fault.hint("as [2001:db8::1]:1883"));
            }
            None => {
                let end = self.authority.find(':').unwrap_or(self.authority.len());
                let (host, port) = self.authority.split_at_checked(end).unwrap_or((self.authority, ""));
                self.check_name(host)?;
                (host, port)
            }
        };
        if port.is_empty() {
            return Ok((host.to_owned(), default_port));
        }
        let number = port.strip_prefix(':').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        match number.and_then(|digits| digits.parse().ok()).filter(|port| *port != 0) {
            Some(port) => Ok((host.to_owned(), port)),
            None => {
                let shown = port.trim_start_matches(':');
                let fault = Fault::new(format!("`{shown}` is no port")).hint("a number from 1 to 65535");
                Err(fault.mark(if shown.is_empty() { self.authority } else { shown }))
            }
        }
    }

    fn check_name(&self, host: &str) -> Result<(), Fault> {
        /// Of a DNS name.
        const HOST_MAX: usize = 253;
        if host.is_empty() {
            return Err(Fault::new("the host is missing").hint(format!("as {}://host", self.scheme)));
        }
        let strange = host.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')));
        match strange {
            Some(c) => Err(Fault::new(format!("`{}` can't stand in a host name", c.escape_debug())).mark(host)),
            None if host.len() > HOST_MAX => Err(Fault::new("a host name has at most 253 characters").mark(host)),
            None => Ok(()),
        }
    }
}

fn no_blanks(text: &str) -> Result<(), Fault> {
    match text.chars().find(|c| c.is_whitespace() || c.is_control()) {
        Some(_) => Err(Fault::new("a URL has no blanks and no control characters")),
        None => Ok(()),
    }
}
