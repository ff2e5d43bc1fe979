//! Proxies of both kinds: what is asked of them, and what they may answer.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::config::{BrokerUrl, ProxyScheme, ProxyUrl, Scheme, Secret};
use crate::net::{ConnectError, Proxy, Step, Target};

use super::{Remote, connect, listen, refused};

/// A broker by a name that only the proxy knows.
fn target(scheme: ProxyScheme, proxy: SocketAddr) -> Target {
    let url = BrokerUrl { scheme: Scheme::Mqtt, host: "broker.plant".to_owned(), port: 1883, path: String::new() };
    let proxy = ProxyUrl { scheme, host: proxy.ip().to_string(), port: proxy.port() };
    Target { proxy: Some(Proxy { url: proxy, username: None, password: None }), ..Target::direct(url) }
}

fn with_password(mut target: Target, folder: &tempfile::TempDir) -> Target {
    let file = folder.path().join("proxy.password");
    std::fs::write(&file, "s3cret\n").expect("written");
    if let Some(proxy) = &mut target.proxy {
        proxy.username = Some("press".to_owned());
        proxy.password = Some(Secret::File(file));
    }
    target
}

async fn broker() -> SocketAddr {
    let (address, _task) = listen(|mut remote| async move {
        remote.accept().await;
        remote.drain().await;
    })
    .await;
    address
}

/// From here on a proxy only passes bytes.
async fn pass(mut remote: Remote, broker: SocketAddr) {
    let mut onward = TcpStream::connect(broker).await.expect("the broker");
    let _ = copy_bidirectional(&mut remote.io, &mut onward).await;
}

/// An HTTP proxy that gives `answer`, and the head of what it was asked.
async fn http(answer: &'static [u8]) -> (SocketAddr, JoinHandle<String>) {
    let broker = broker().await;
    listen(move |mut remote: Remote| async move {
        let head = remote.head().await;
        remote.send(answer).await;
        if answer.starts_with(b"HTTP/1.1 200") {
            pass(remote, broker).await;
        }
        head
    })
    .await
}

#[tokio::test]
async fn http_connect_asks_for_the_broker_by_name() {
    let (address, task) = http(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 plant\r\n\r\n").await;
    let (connection, ..) = connect(&target(ProxyScheme::Http, address)).await.expect("connected");
    drop(connection);
    let head = task.await.expect("asked");
    assert_eq!(head, "CONNECT broker.plant:1883 HTTP/1.1\r\nHost: broker.plant:1883\r\n\r\n");

    let folder = tempfile::tempdir().expect("a folder");
    let (address, task) = http(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let mut target = with_password(target(ProxyScheme::Http, address), &folder);
    target.url.host = "fd00::7".to_owned();
    drop(connect(&target).await.expect("connected"));
    let head = task.await.expect("asked");
    assert!(head.starts_with("CONNECT [fd00::7]:1883 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nProxy-Authorization: Basic cHJlc3M6czNjcmV0\r\n"), "{head}");
}

#[tokio::test]
async fn what_an_http_proxy_says_is_passed_on() {
    let cases: [(&'static [u8], &str, bool); 4] = [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy Authentication Required", true),
        (b"HTTP/1.0 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno", "502 Bad Gateway", false),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "does not speak HTTP", false),
        (&[5, 0xFF], "does not speak HTTP", false),
    ];
    for (answer, words, expected) in cases {
        let (address, _task) = http(answer).await;
        let error = refused(&target(ProxyScheme::Http, address)).await;
        let ConnectError::Proxy { denied, .. } = error else { panic!("{error}") };
        assert_eq!(denied, expected);
        let text = error.to_string();
        assert!(text.contains(words) && text.contains(&format!("through http://{address}")), "{text}");
    }
    let (address, _task) = listen(|mut remote: Remote| async move {
        remote.head().await;
        remote.send(b"HTTP/1.1 200 OK\r\n").await;
        // Until the client has had enough.
        while remote.io.write_all(b"X-Filler: 0123456789\r\n").await.is_ok() {}
    })
    .await;
    let error = refused(&target(ProxyScheme::Http, address)).await;
    assert!(error.to_string().contains("has no end"), "{error}");

    let (address, _task) = listen(|_| async {}).await;
    let error = refused(&target(ProxyScheme::Http, address)).await;
    assert!(matches!(error, ConnectError::Closed { step: Step::Proxy, .. }), "{error}");
}

/// What a SOCKS5 proxy of the test does.
#[derive(Clone, Copy)]
struct Socks {
    method: u8,
    password_status: u8,
    reply: u8,
}

/// Its view of the exchange: user name and password, then the request.
async fn socks(script: Socks) -> (SocketAddr, JoinHandle<Vec<Vec<u8>>>) {
    let broker = broker().await;
    listen(move |mut remote: Remote| async move {
        let mut seen = vec![remote.take(2).await];
        let methods = usize::from(*seen[0].last().expect("a count"));
        seen[0].extend(remote.take(methods).await);
        remote.send(&[5, script.method]).await;
        if script.method == 2 {
            let mut credentials = remote.take(2).await;
            let user = usize::from(*credentials.last().expect("a length"));
            credentials.extend(remote.take(user + 1).await);
            let password = usize::from(*credentials.last().expect("a length"));
            credentials.extend(remote.take(password).await);
            seen.push(credentials);
            remote.send(&[1, script.password_status]).await;
            if script.password_status != 0 {
                return seen;
            }
        }
        if script.method == 0xFF {
            return seen;
        }
        let mut request = remote.take(5).await;
        let rest = if request[3] == 3 { usize::from(request[4]) + 2 } else { 5 };
        request.extend(remote.take(rest).await);
        seen.push(request);
        // The address that it bound, as a name of three letters.
        remote.send(&[5, script.reply, 0, 3, 3, b'a', b'b', b'c', 0, 80]).await;
        if script.reply == 0 {
            pass(remote, broker).await;
        }
        seen
    })
    .await
}

#[tokio::test]
async fn socks5_is_asked_for_the_broker_by_name() {
    let (address, task) = socks(Socks { method: 0, password_status: 0, reply: 0 }).await;
    drop(connect(&target(ProxyScheme::Socks5, address)).await.expect("connected"));
    let seen = task.await.expect("asked");
    assert_eq!(seen, [vec![5, 1, 0], [&[5, 1, 0, 3, 12][..], b"broker.plant", &[7, 0x5B]].concat()]);

    let folder = tempfile::tempdir().expect("a folder");
    let (address, task) = socks(Socks { method: 2, password_status: 0, reply: 0 }).await;
    let mut target = with_password(target(ProxyScheme::Socks5, address), &folder);
    target.url.host = "10.1.2.3".to_owned();
    drop(connect(&target).await.expect("connected"));
    let seen = task.await.expect("asked");
    let credentials = [&[1, 5][..], b"press", &[6], b"s3cret"].concat();
    assert_eq!(seen, [vec![5, 2, 0, 2], credentials, vec![5, 1, 0, 1, 10, 1, 2, 3, 7, 0x5B]]);
}

#[tokio::test]
async fn what_a_socks5_proxy_refuses_is_said() {
    let granted = Socks { method: 0, password_status: 0, reply: 0 };
    let folder = tempfile::tempdir().expect("a folder");
    let cases = [
        (Socks { method: 0xFF, ..granted }, false, "wants a user name", true),
        (Socks { method: 0xFF, ..granted }, true, "authentication method 0xff", true),
        (Socks { method: 2, password_status: 1, ..granted }, true, "does not accept the user name", true),
        (Socks { reply: 2, ..granted }, false, "does not allow", true),
        (Socks { reply: 4, ..granted }, false, "the host can't be reached", false),
        (Socks { reply: 5, ..granted }, false, "the broker refused", false),
        (Socks { reply: 99, ..granted }, false, "code 99", false),
    ];
    for (script, has_password, words, expected) in cases {
        let (address, _task) = socks(script).await;
        let mut target = target(ProxyScheme::Socks5, address);
        if has_password {
            target = with_password(target, &folder);
        }
        let error = refused(&target).await;
        let ConnectError::Proxy { denied, .. } = error else { panic!("{error}") };
        assert!(denied == expected && error.to_string().contains(words), "{error}");
        assert_eq!(error.hint().is_some(), expected);
    }

    let (address, _task) = listen(|mut remote: Remote| async move { remote.send(b"HTTP/1.1 400\r\n").await }).await;
    let error = refused(&target(ProxyScheme::Socks5, address)).await;
    assert!(error.to_string().contains("does not speak SOCKS5"), "{error}");
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    drop(listener);
    let error = refused(&target(ProxyScheme::Http, address)).await;
    let expected =
        format!("can't connect to mqtt://broker.plant:1883 through http://{address}: {address} connection refused");
    assert_eq!(error.to_string(), expected);
}

impl Remote {
    async fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.io.read_exact(&mut bytes).await.expect("bytes");
        bytes
    }
}
