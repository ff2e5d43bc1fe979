//! Every way to a broker: WebSocket, with TLS and without, unix sockets, proxies with credentials.

use crate::harness::net::free_localhost_port;
use crate::harness::proxy::{PASSWORD, Proxy};
use crate::harness::tls::Authority;
use crate::harness::{Broker, Checker, SOON, STEADY, STEADY_TOPIC, Site, config};

/// Twenty readings at QoS 2 arrive over `url`, through a restart of the broker; nothing is missing.
async fn delivers(mut broker: Broker, authority: Option<&Authority>, url: &str, keys: &str) {
    broker.up().await;
    let checker = Checker::start(broker.address()).await;
    let site = site(authority, url, keys);
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 10, SOON).await;
    broker.down().await;
    broker.up().await;
    checker.wait_more(STEADY_TOPIC, 10).await;
    checker.kept_to_the_end_of(agent).await;
    assert_eq!(checker.look(|seen| seen.ledger.copies()), 0, "QoS 2");
}

fn site(authority: Option<&Authority>, url: &str, keys: &str) -> Site {
    let trusts = if authority.is_some() { "ca_file = \"ca.pem\"\n" } else { "" };
    let site = Site::new(&config(url, &format!("qos = 2\n{trusts}{keys}{STEADY}")), &["steady"]);
    authority.iter().for_each(|authority| site.write("ca.pem", &authority.certificate));
    site.write("proxy.password", format!("{PASSWORD}\n"));
    site
}

/// A broker with one more listener on `localhost`, with TLS.
fn with_tls(authority: &Authority, more: &str) -> (Broker, u16) {
    let port = free_localhost_port();
    (Broker::with_tls(&authority.sign(&["localhost"]), port, more), port)
}

fn with_websocket() -> (Broker, u16) {
    let port = free_localhost_port();
    (Broker::with_listener(&format!("listener {port} 127.0.0.1\nprotocol websockets")), port)
}

/// F-30: WebSocket.
#[tokio::test]
async fn websocket() {
    let (broker, port) = with_websocket();
    delivers(broker, None, &format!("ws://localhost:{port}/mqtt"), "").await;
}

/// F-30: WebSocket over TLS.
#[tokio::test]
async fn websocket_over_tls() {
    let authority = Authority::new("Works CA");
    let (broker, port) = with_tls(&authority, "protocol websockets");
    delivers(broker, Some(&authority), &format!("wss://localhost:{port}/mqtt"), "").await;
}

#[tokio::test]
async fn unix_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("broker.sock");
    let broker = Broker::with_listener(&format!("listener 0 {}", socket.display()));
    delivers(broker, None, &format!("unix:{}", socket.display()), "").await;
}

#[tokio::test]
async fn tls_through_an_http_proxy() {
    let authority = Authority::new("Works CA");
    let (broker, port) = with_tls(&authority, "");
    let proxy = Proxy::http().await;
    delivers(broker, Some(&authority), &format!("mqtts://localhost:{port}"), &proxy.keys()).await;
    assert!(proxy.log.count(&[&format!("localhost:{port}")]) >= 2, "the broker's name is left to the proxy");
}

#[tokio::test]
async fn tls_through_a_socks_proxy() {
    let authority = Authority::new("Works CA");
    let (broker, port) = with_tls(&authority, "");
    let proxy = Proxy::socks5().await;
    delivers(broker, Some(&authority), &format!("mqtts://localhost:{port}"), &proxy.keys()).await;
    assert!(proxy.log.count(&[&format!("localhost:{port}")]) >= 2, "the broker's name is left to the proxy");
}

#[tokio::test]
async fn websocket_through_an_http_proxy() {
    let (broker, port) = with_websocket();
    let proxy = Proxy::http().await;
    delivers(broker, None, &format!("ws://localhost:{port}/mqtt"), &proxy.keys()).await;
    assert!(proxy.log.len() >= 2);
}

#[tokio::test]
async fn websocket_over_tls_through_a_socks_proxy() {
    let authority = Authority::new("Works CA");
    let (broker, port) = with_tls(&authority, "protocol websockets");
    let proxy = Proxy::socks5().await;
    delivers(broker, Some(&authority), &format!("wss://localhost:{port}/mqtt"), &proxy.keys()).await;
    assert!(proxy.log.len() >= 2);
}

/// A proxy that does not know the password: said, by both kinds, and where to look; the password is not shown.
#[tokio::test]
async fn a_proxy_that_refuses() {
    for proxy in [Proxy::http().await, Proxy::socks5().await] {
        let site = site(None, "mqtt://broker.plant", &proxy.keys());
        site.write("proxy.password", "forgotten\n");
        let agent = site.start();
        let line = agent.says(&["the proxy refused", "proxy_password_file"]).await;
        assert!(!line.contains("forgotten"), "{line}");
        agent.stop().await;
        assert_eq!(proxy.log.len(), 0);
    }
}

/// F-25: a password and an authority that are renewed count at the next connect, without a restart.
#[tokio::test]
async fn credentials_that_are_renewed() {
    let (old, new) = (Authority::new("Old CA"), Authority::new("New CA"));
    let port = free_localhost_port();
    let mut broker = Broker::with_tls(&new.sign(&["localhost"]), port, "");
    broker.up().await;
    let checker = Checker::start(broker.address()).await;
    let proxy = Proxy::http().await;
    let site = site(Some(&old), &format!("mqtts://localhost:{port}"), &proxy.keys());
    site.write("proxy.password", "old\n");
    let agent = site.start();
    agent.says(&["the proxy refused"]).await;
    site.write("proxy.password", PASSWORD);
    agent.says(&["not signed by an authority that is trusted"]).await;
    site.write("ca.pem", &new.certificate);
    checker.wait_count(STEADY_TOPIC, 1, SOON).await;
    agent.stop().await;
    checker.assert_kept();
}
