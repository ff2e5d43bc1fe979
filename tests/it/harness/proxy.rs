//! Proxies on the way to the broker: HTTP CONNECT and SOCKS5, both with a name and a password.

use std::net::{Ipv4Addr, SocketAddr};

use base64::Engine as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::log::Log;
use super::net::Task;

/// The name that both want.
pub const NAME: &str = "press";
/// The password that both want.
pub const PASSWORD: &str = "s3cret";

/// See the module. It ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    scheme: &'static str,
    address: SocketAddr,
    /// The targets that it was asked for and let through, a line each.
    pub log: Log,
    _task: Task,
}

impl Proxy {
    /// One that answers CONNECT.
    pub async fn http() -> Self {
        Self::start("http").await
    }

    /// One that speaks SOCKS5.
    pub async fn socks5() -> Self {
        Self::start("socks5").await
    }

    async fn start(scheme: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let log = Log::new();
        let notes = log.clone();
        let task = Task::spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let log = notes.clone();
                lines.spawn(async move {
                    let asked = if scheme == "http" { http(&mut stream).await } else { socks(&mut stream).await };
                    let Some(target) = asked else { return };
                    log.push(target.clone());
                    let Ok(mut onward) = TcpStream::connect(target).await else { return };
                    let _ended = copy_bidirectional(&mut stream, &mut onward).await;
                });
            }
        });
        Self { scheme, address, log, _task: task }
    }

    /// The keys of `[mqtt]` that lead through it; the password is in `proxy.password`.
    pub fn keys(&self) -> String {
        format!(
            "proxy = \"{}://{}\"\nproxy_username = \"{NAME}\"\nproxy_password_file = \"proxy.password\"\n",
            self.scheme, self.address
        )
    }
}

async fn http(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let secret = base64::engine::general_purpose::STANDARD.encode(format!("{NAME}:{PASSWORD}"));
    if !head.contains(&format!("Proxy-Authorization: Basic {secret}\r\n")) {
        stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.ok()?;
        return None;
    }
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
    head.strip_prefix("CONNECT ")?.split(' ').next().map(str::to_owned)
}

async fn socks(stream: &mut TcpStream) -> Option<String> {
    let (_version, methods) = (stream.read_u8().await.ok()?, read(stream).await?);
    assert!(methods.contains(&2), "name and password are offered");
    stream.write_all(&[5, 2]).await.ok()?;
    let _version = stream.read_u8().await.ok()?;
    let (name, password) = (read(stream).await?, read(stream).await?);
    let is_known = name == NAME.as_bytes() && password == PASSWORD.as_bytes();
    stream.write_all(&[1, u8::from(!is_known)]).await.ok()?;
    if !is_known {
        return None;
    }
    let mut request = [0; 4];
    stream.read_exact(&mut request).await.ok()?;
    let host = match request[3] {
        1 => Ipv4Addr::from(stream.read_u32().await.ok()?).to_string(),
        3 => String::from_utf8(read(stream).await?).ok()?,
        _ => return None,
    };
    let port = stream.read_u16().await.ok()?;
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?;
    Some(format!("{host}:{port}"))
}

/// A length, and so many bytes.
async fn read(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::from(stream.read_u8().await.ok()?)];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}
