//! Order, versions, redirects.

use super::*;
use crate::config::Scheme;

fn url(host: &str) -> BrokerUrl {
    BrokerUrl { scheme: Scheme::Mqtts, host: host.into(), port: 8883, path: String::new() }
}

fn brokers(hosts: &[&str], follows: bool) -> Brokers {
    let list =
        hosts.iter().map(|host| Broker { url: url(host), version: Version::V5, closed: 0, speaks_5: false }).collect();
    Brokers { list, current: 0, auto: true, follows, redirect: None, redirects: 0, connected: None }
}

fn host(brokers: &Brokers) -> String {
    brokers.current().unwrap().0.host
}

fn closed() -> ConnectError {
    ConnectError::Closed { place: String::new(), step: Step::Connack }
}

#[test]
fn the_preferred_one_is_looked_for_from_another_only() {
    let mut brokers = brokers(&["a", "b"], false);
    assert_eq!(brokers.better_than_current(), None);
    brokers.failed(&closed());
    assert_eq!(host(&brokers), "b");
    brokers.connected();
    assert_eq!(brokers.better_than_current(), Some(url("a")));
    assert_eq!(host(&brokers), "a", "after this connection the list starts over");
    brokers.connected();
    assert_eq!(brokers.better_than_current(), None);
}

#[test]
fn three_closes_without_connack_mean_3_1_1() {
    let mut brokers = brokers(&["a"], false);
    assert!(!brokers.failed(&closed()) && !brokers.failed(&closed()));
    assert!(brokers.failed(&closed()));
    assert_eq!(brokers.current().unwrap().1, Version::V311);
}

/// A link that cuts off three CONNACKs in a row is no reason to speak 3.1.1 to a broker that knows 5.
#[test]
fn who_has_spoken_5_has_to_close_more_often() {
    let known: [fn(&mut Brokers); 2] = [Brokers::connected, |brokers| brokers.speaks_5(&url("a"))];
    for make_known in known {
        let mut brokers = brokers(&["a"], false);
        make_known(&mut brokers);
        assert!((1..CLOSED_THOUGH_KNOWN_MAX).all(|_| !brokers.failed(&closed())));
        assert!(brokers.failed(&closed()), "it was replaced by one that knows only 3.1.1");
    }
}

#[test]
fn redirects_are_followed_where_that_is_wanted_and_three_times_at_most() {
    assert!(brokers(&["a"], false).redirected(&url("a"), Some("b")).unwrap_err().contains("mqtt.redirects"));
    let mut brokers = brokers(&["a"], true);
    assert!(brokers.redirected(&url("a"), None).is_err());
    assert!(brokers.redirected(&url("a"), Some("")).is_err());
    assert!(brokers.redirected(&url("a"), Some("evil/path")).is_err());
    for name in ["b", "c", "d"] {
        assert_eq!(brokers.redirected(&url("a"), Some(name)), Ok(url(name)));
        assert_eq!(host(&brokers), name);
        brokers.connected();
        assert_eq!(brokers.better_than_current(), None, "who sent us away is not better");
    }
    assert!(brokers.redirected(&url("d"), Some("e")).is_err(), "a circle has an end");
    assert_eq!(host(&brokers), "a");
    brokers.redirected(&url("a"), Some("b")).unwrap();
    brokers.stood();
    assert!((0..3).all(|_| brokers.redirected(&url("b"), Some("c")).is_ok()), "it stood: counted anew");
    brokers.failed(&closed());
    assert_eq!(host(&brokers), "a", "it leads nowhere");
}

/// A reference is a host and perhaps a port; scheme, path and so TLS stay as they are. [MQTT 4.11]
#[test]
fn a_reference_changes_host_and_port_only() {
    let from = BrokerUrl { scheme: Scheme::Wss, host: "a".into(), port: 443, path: "/mqtt".into() };
    for (reference, host, port) in
        [("b", "b", 443), ("b:9443", "b", 9443), ("[fe80::1]:1", "fe80::1", 1), ("  c:2 d:3", "c", 2)]
    {
        let mut brokers = brokers(&["a"], true);
        let to = brokers.redirected(&from, Some(reference)).unwrap();
        assert_eq!((to.scheme, to.host.as_str(), to.port, to.path.as_str()), (Scheme::Wss, host, port, "/mqtt"));
    }
}
