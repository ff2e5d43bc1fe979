//! Leaving one connection for another: the preferred broker is back, the broker names another one, certificates are
//! renewed; and the end of the agent while a connection is being made.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::harness::net::{Impostor, free_localhost_port, own_address};
use crate::harness::tls::{Authority, Identity};
use crate::harness::{Broker, Checker, Gate, SOON, STATUS_TOPIC, STEADY, STEADY_TOPIC, Site, config, wait_until};

/// The numbers of the readings that came, in order.
fn numbers(checker: &Checker) -> Vec<u64> {
    checker.of(STEADY_TOPIC).iter().filter_map(|message| message.json["seq"].as_u64()).collect()
}

/// The way back to the preferred broker is taken with nothing in flight: at QoS 2 nothing is missing and nothing comes
/// twice, although delivery state belongs to one broker.
#[tokio::test]
async fn the_preferred_broker_is_returned_to() {
    let mut preferred = Broker::new();
    preferred.up().await;
    let first = Checker::start(preferred.address()).await;
    preferred.down().await;
    let second = Broker::start().await;
    let other = Checker::start(second.address()).await;
    let urls = format!("urls = [\"{}\", \"{}\"]", preferred.url(), second.url());
    let fast = STEADY.replace("100ms", "20ms");
    let settings = config("x", &format!("qos = 2\n{fast}")).replace("url = \"x\"", &urls);
    let site = Site::new(&settings, &["steady"]);
    let agent = site.start();
    other.wait_count(STEADY_TOPIC, 20, SOON).await;
    let subscribed = first.subscribed();
    preferred.up().await;
    first.subscribed_again(subscribed).await;
    agent.says(&["back to it when nothing is in flight"]).await;
    first.wait_count(STEADY_TOPIC, 20, SOON).await;
    other.wait_state(STATUS_TOPIC, "offline").await;
    agent.stop().await;
    first.wait_state(STATUS_TOPIC, "stopped").await;
    let all = [numbers(&other), numbers(&first)].concat();
    let expected: Vec<u64> = (1..=all.len() as u64).collect();
    assert_eq!(all, expected, "{} at the other one", numbers(&other).len());
}

/// CONNACK 0x9C or 0x9D of version 5 with a server reference.
fn sends_to(reason: u8, reference: &str) -> &'static [u8] {
    let length = u8::try_from(reference.len()).expect("a short reference");
    let mut connack = vec![0x20, 6 + length, 0, reason, 3 + length, 0x1C, 0, length];
    connack.extend_from_slice(reference.as_bytes());
    connack.leak()
}

#[tokio::test]
async fn a_broker_that_names_another_one_is_followed_where_that_is_wanted() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let [near, far] = [(); 2].map(|()| SocketAddr::from((own_address(), 1883)));
    let _near = Impostor::start(near, sends_to(0x9C, &far.to_string())).await;
    let _far = Impostor::start(far, sends_to(0x9D, &format!("{} nowhere:1", broker.address()))).await;
    let url = format!("mqtt://{near}");
    let site = Site::new(&config(&url, STEADY), &["steady"]);
    let agent = site.start();
    agent.says(&["mqtt.redirects is off"]).await;
    agent.stop().await;
    assert_eq!(checker.count(STEADY_TOPIC), 0);

    site.write("agent.toml", config(&url, &format!("redirects = true\n{STEADY}")));
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 10, SOON).await;
    let broker_in_use = site.status().await["mqtt"]["broker"].clone();
    assert_eq!(broker_in_use, Value::from(broker.url()));
    checker.kept_to_the_end_of(agent).await;
}

/// Two that name each other: followed three times, then the usual pause.
#[tokio::test]
async fn a_circle_of_redirects_has_an_end() {
    let [one, other] = [(); 2].map(|()| SocketAddr::from((own_address(), 1883)));
    let _one = Impostor::start(one, sends_to(0x9C, &other.to_string())).await;
    let _other = Impostor::start(other, sends_to(0x9C, &one.to_string())).await;
    let site = Site::new(&config(&format!("mqtt://{one}"), &format!("redirects = true\n{STEADY}")), &["steady"]);
    let agent = site.start();
    agent.says(&["3 brokers in a row have sent us on"]).await;
    agent.says(&["next attempt to connect in"]).await;
    agent.stop().await;
}

/// F-25: a client certificate is renewed while the connection stands. Half of it changes nothing; with all of it the
/// agent connects again, and nothing is lost or doubled by that.
#[tokio::test]
async fn a_renewed_certificate_is_used_at_once() {
    let authority = Authority::new("Works CA");
    let folder = tempfile::tempdir().expect("a folder");
    let clients = folder.path().join("clients.pem");
    std::fs::write(&clients, &authority.certificate).expect("write the authority");
    let port = free_localhost_port();
    let more = format!("require_certificate true\ncafile {}", clients.display());
    let mut broker = Broker::with_tls(&authority.sign(&["localhost"]), port, &more);
    broker.up().await;
    let checker = Checker::start(broker.address()).await;
    let files = "ca_file = \"ca.pem\"\ncert_file = \"client.pem\"\nkey_file = \"client.key\"\nqos = 2\n";
    let site = Site::new(&config(&format!("mqtts://localhost:{port}"), &format!("{files}{STEADY}")), &["steady"]);
    site.write("ca.pem", &authority.certificate);
    let write = |Identity { certificate, key }: &Identity| {
        site.write("client.pem", certificate);
        site.write("client.key", key);
    };
    write(&authority.sign(&["press-7"]));
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 5, SOON).await;
    let renewed = authority.sign(&["press-7"]);
    site.write("client.pem", &renewed.certificate);
    agent.says(&["have changed and can't be used", "client.key"]).await;
    assert_eq!(broker.connects("press-7", &[]), 1);
    write(&renewed);
    wait_until("it connects again", SOON, || broker.connects("press-7", &[]) == 2).await;
    checker.wait_more(STEADY_TOPIC, 10).await;
    checker.kept_to_the_end_of(agent).await;
    assert_eq!(checker.look(|seen| seen.ledger.copies()), 0);
    assert_eq!(broker.connects("press-7", &[]), 2);
}

/// SIGTERM while CONNACK is on its way: the attempt is brought to its end, so that the broker is told `stopped`.
#[tokio::test]
async fn a_stop_while_it_connects_is_said_to_the_broker() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let mut gate = Gate::before(&broker);
    gate.latency = Duration::from_millis(400);
    gate.open().await;
    let site = Site::new(&config(&gate.url(), STEADY), &["steady"]);
    let agent = site.start();
    wait_until("CONNECT arrives", SOON, || broker.connects("press-7", &[]) == 1).await;
    assert!(!agent.has_said(&["connected to"]));
    checker.kept_to_the_end_of(agent).await;
}

/// The same where nobody answers: the end is not held up for long.
#[tokio::test]
async fn a_stop_while_nobody_answers_is_bounded() {
    let address = SocketAddr::from((own_address(), 1883));
    let _silent = Impostor::start(address, b"").await;
    let rest = format!("connect_timeout = \"1h\"\n{STEADY}");
    let site = Site::new(&config(&format!("mqtt://{address}"), &rest), &["steady"]);
    let agent = site.start();
    site.status_until(|status| status["buffer"]["messages"].as_u64() > Some(2)).await;
    agent.stop().await;
}
