//! TLS with certificates of a private authority, and what is said when they do not fit.

use crate::harness::net::free_localhost_port;
use crate::harness::tls::{Authority, Identity};
use crate::harness::{Broker, Checker, SOON, STEADY, STEADY_TOPIC, Site, config};

/// A broker on `localhost` with TLS, its URL, and who checks (in plain).
async fn broker_with(identity: &Identity, more: &str) -> (Broker, String, Checker) {
    let port = free_localhost_port();
    let mut broker = Broker::with_tls(identity, port, more);
    broker.up().await;
    let checker = Checker::start(broker.address()).await;
    (broker, format!("mqtts://localhost:{port}"), checker)
}

/// A site that trusts `authority`.
fn site_that_trusts(authority: &Authority, url: &str, more: &str) -> Site {
    let site = Site::new(&config(url, &format!("ca_file = \"ca.pem\"\n{more}{STEADY}")), &["steady"]);
    site.write("ca.pem", &authority.certificate);
    site
}

#[tokio::test]
async fn a_private_authority_is_trusted_where_it_is_named() {
    let authority = Authority::new("Works CA");
    let (mut broker, url, checker) = broker_with(&authority.sign(&["localhost"]), "").await;
    let site = site_that_trusts(&authority, &url, "");
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 10, SOON).await;
    broker.down().await;
    broker.up().await;
    checker.wait_more(STEADY_TOPIC, 10).await;
    checker.kept_to_the_end_of(agent).await;
}

#[tokio::test]
async fn an_address_in_place_of_a_name() {
    let authority = Authority::new("Works CA");
    let (_broker, url, checker) = broker_with(&authority.sign(&["127.0.0.1"]), "").await;
    let site = site_that_trusts(&authority, &url.replace("localhost", "127.0.0.1"), "");
    let _agent = site.start();
    checker.wait_count(STEADY_TOPIC, 1, SOON).await;
}

/// The broker shows a certificate of somebody else: refused, and said that it is the authority that does not fit.
#[tokio::test]
async fn a_wrong_authority_is_refused() {
    let (_broker, url, checker) = broker_with(&Authority::new("Other CA").sign(&["localhost"]), "").await;
    let site = site_that_trusts(&Authority::new("Works CA"), &url, "");
    let agent = site.start();
    let line = agent.says(&["not signed by an authority that is trusted", "ca.pem"]).await;
    assert!(!line.contains("not for localhost"), "{line}");
    assert_eq!(checker.count(STEADY_TOPIC), 0);
    agent.stop().await;
}

/// Without `ca_file` the system's roots count, and a private authority is not among them.
#[tokio::test]
async fn a_private_authority_is_not_trusted_by_itself() {
    let (_broker, url, checker) = broker_with(&Authority::new("Works CA").sign(&["localhost"]), "").await;
    let site = Site::new(&config(&url, STEADY), &["steady"]);
    let agent = site.start();
    agent.says(&["not signed by an authority that is trusted", "ca_file"]).await;
    assert_eq!(checker.count(STEADY_TOPIC), 0);
    agent.stop().await;
}

/// The authority is the right one, the name is not: refused, and said which names there are.
#[tokio::test]
async fn a_wrong_host_name_is_refused() {
    let authority = Authority::new("Works CA");
    let (_broker, url, checker) = broker_with(&authority.sign(&["broker.example"]), "").await;
    let site = site_that_trusts(&authority, &url, "");
    let agent = site.start();
    let line = agent.says(&["certificate is for broker.example, not for localhost"]).await;
    assert!(!line.contains("authority"), "{line}");
    assert_eq!(checker.count(STEADY_TOPIC), 0);
    agent.stop().await;
}

/// Mutual TLS: the agent shows a certificate of its own.
#[tokio::test]
async fn a_client_certificate() {
    let authority = Authority::new("Works CA");
    let folder = tempfile::tempdir().expect("a folder");
    let clients = folder.path().join("clients.pem");
    std::fs::write(&clients, &authority.certificate).expect("write the authority");
    let more = format!("require_certificate true\ncafile {}", clients.display());
    let (_broker, url, checker) = broker_with(&authority.sign(&["localhost"]), &more).await;

    let without = site_that_trusts(&authority, &url, "");
    let agent = without.start();
    agent.says(&["refused a client without certificate", "cert_file"]).await;
    assert_eq!(checker.count(STEADY_TOPIC), 0);
    agent.stop().await;

    let with = site_that_trusts(&authority, &url, "cert_file = \"client.pem\"\nkey_file = \"client.key\"\n");
    let identity = authority.sign(&["press-7"]);
    with.write("client.pem", &identity.certificate);
    with.write("client.key", &identity.key);
    let _agent = with.start();
    checker.wait_count(STEADY_TOPIC, 1, SOON).await;
}

/// A plain port where TLS is expected, and the other way round: a clear line, and no end of the agent.
#[tokio::test]
async fn plain_and_tls_mixed_up() {
    let authority = Authority::new("Works CA");
    let (broker, url, _checker) = broker_with(&authority.sign(&["localhost"]), "").await;
    let site = site_that_trusts(&authority, &broker.url().replace("mqtt://", "mqtts://"), "");
    let agent = site.start();
    agent.says(&["tls"]).await;
    agent.stop().await;
    let site = Site::new(&config(&url.replace("mqtts://", "mqtt://"), STEADY), &["steady"]);
    let agent = site.start();
    agent.says(&["mqtts://"]).await;
    agent.stop().await;
}
