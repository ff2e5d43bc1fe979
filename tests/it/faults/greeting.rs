//! What goes wrong up to CONNACK, and what CONNACK says.

use std::time::Duration;

use super::{before, recovers};
use crate::harness::fault::{CONNACK, Fault, RESUMED, Reply, connack, kind};
use crate::harness::{SOON, STEADY_TOPIC, pass, wait_until};

/// F-22: the connection ends after each byte of a CONNACK.
#[tokio::test]
async fn a_connack_that_is_cut() {
    let fault = Fault::start(|mut line| async move {
        match line.number {
            cut @ 0..5 => drop(line.accept(&CONNACK[..cut]).await),
            _ => line.by_the_book().await,
        }
    })
    .await;
    let (_site, agent) = before(&fault, "version = \"5\"");
    agent.says(&["closed the connection", "waiting for CONNACK"]).await;
    recovers(&fault, agent).await;
}

/// Every refusal is said by its name, with the broker's words, and tried again.
#[tokio::test]
async fn a_connack_that_refuses() {
    const REFUSALS: [(u8, &str); 7] = [
        (0x86, "bad user name or password"),
        (0x87, "not authorized"),
        (0x88, "server unavailable"),
        (0x89, "server busy"),
        (0x8A, "banned"),
        (0x97, "quota exceeded"),
        (0x9F, "connection rate exceeded"),
    ];
    let fault = Fault::start(|mut line| async move {
        match REFUSALS.get(line.number) {
            // A reason string, "why".
            Some((code, _)) => drop(line.accept(&[0x20, 9, 0, *code, 6, 0x1F, 0, 3, b'w', b'h', b'y']).await),
            None => line.by_the_book().await,
        }
    })
    .await;
    let (_site, agent) = before(&fault, "");
    for (_, name) in REFUSALS {
        agent.says(&["refused the connection", name, "why"]).await;
    }
    recovers(&fault, agent).await;
}

/// F-27: CONNACK 1, as brokers of 3.1.1 say to version 5; the answer is remembered.
#[tokio::test]
async fn a_connack_of_3_1_1_to_version_5() {
    let fault = Fault::start(|mut line| async move {
        if line.number == 0 {
            line.accept(&[0x20, 2, 0, 1]).await;
            return;
        }
        let number = line.number;
        let mut left = if number == 1 { 10 } else { usize::MAX };
        line.with_answers(move |packet, answer| {
            assert_ne!(packet.first, 0xF0, "AUTH is not in 3.1.1");
            left -= 1;
            // The second connection ends in the middle of things.
            Reply { bytes: answer, is_last: left == 0 }
        })
        .await;
    })
    .await;
    let (site, agent) = before(&fault, "");
    agent.says(&["refuses MQTT 5", "3.1.1"]).await;
    fault.wait_connections(3).await;
    let status = site.status_until(|status| status["mqtt"]["state"] == "connected").await;
    assert_eq!(status["mqtt"]["version"], "3.1.1");
    recovers(&fault, agent).await;
}

/// F-27: it closes on version 5 without a word, three times.
#[tokio::test]
async fn a_broker_that_hangs_up_on_version_5() {
    let fault = Fault::start(|mut line| async move {
        if line.number < 3 {
            line.packet().await;
            assert_eq!(line.version, 5);
            return;
        }
        line.by_the_book().await;
    })
    .await;
    let (site, agent) = before(&fault, "");
    let status = site.status_until(|status| status["mqtt"]["state"] == "connected").await;
    assert_eq!(status["mqtt"]["version"], "3.1.1");
    recovers(&fault, agent).await;
}

/// F-27: an assigned client id where none was asked for, and a keep-alive of 0: no PINGREQ comes, whatever was configured.
#[tokio::test]
async fn an_assigned_client_id_and_no_keep_alive() {
    let fault = Fault::start(|mut line| async move {
        line.accept(&connack(&[0x12, 0, 2, b'x', b'1', 0x13, 0, 0])).await;
        line.serve(|packet, answer| {
            assert_ne!(packet.kind(), kind::PINGREQ, "the broker turned it off");
            // Nothing but PINGREQ would prove that the link is alive.
            if packet.kind() == kind::PUBLISH && packet.topic().ends_with("/steady") { Vec::new() } else { answer }
        })
        .await;
    })
    .await;
    let (site, agent) = before(&fault, "keep_alive = \"1s\"\nqos = 1");
    site.status_until(|status| status["mqtt"]["state"] == "connected").await;
    pass(Duration::from_secs(3)).await;
    assert_eq!(fault.connections(), 1);
    assert_eq!(site.status().await["mqtt"]["state"], "connected");
    agent.kill().await;
}

/// F-21: the broker's keep-alive counts, and PINGREQ comes under load as well.
#[tokio::test]
async fn the_brokers_keep_alive() {
    let pings = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = pings.clone();
    let fault = Fault::start(move |mut line| {
        let pings = counted.clone();
        async move {
            line.accept(&connack(&[0x13, 0, 1])).await;
            line.serve(move |packet, answer| {
                // QoS 0 flows one way: nothing else proves that the link is alive.
                if packet.kind() == kind::PINGREQ {
                    pings.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                }
                answer
            })
            .await;
        }
    })
    .await;
    let (_site, agent) = before(&fault, "keep_alive = \"1h\"\nqos = 0");
    wait_until("three PINGREQ", SOON, || pings.load(std::sync::atomic::Ordering::SeqCst) >= 3).await;
    assert_eq!(fault.connections(), 1);
    recovers(&fault, agent).await;
}

/// F-17: a session that is present although a new one was asked for.
#[tokio::test]
async fn a_session_after_a_clean_start() {
    let fault = Fault::start(|mut line| async move {
        match line.number {
            // It throws the client out as if another one had its id: the next CONNECT has Clean Start.
            0 => {
                line.accept(CONNACK).await;
                line.send(&[0xE0, 1, 0x8E]).await;
            }
            1 => {
                let connect = line.accept(RESUMED).await;
                assert_eq!(connect.body[7] & 2, 2, "Clean Start");
                let last = line.packet().await;
                assert!(last.is_none_or(|packet| packet.kind() == kind::DISCONNECT));
            }
            _ => line.by_the_book().await,
        }
    })
    .await;
    let (_site, agent) = before(&fault, "version = \"5\"");
    agent.says(&["session taken over"]).await;
    agent.says(&["session present after a clean start"]).await;
    recovers(&fault, agent).await;
}

/// Byte by byte, with a pause behind each, within the time that there is.
#[tokio::test]
async fn a_connack_that_drips() {
    let fault = Fault::start(|mut line| async move {
        line.accept(&[]).await;
        for byte in connack(&[0x21, 0, 5]) {
            pass(Duration::from_millis(100)).await;
            line.send(&[byte]).await;
        }
        line.serve(|_, answer| answer).await;
    })
    .await;
    let (_site, agent) = before(&fault, "");
    recovers(&fault, agent).await;
    assert_eq!(fault.connections(), 1);
}

/// What is no CONNACK, and what nobody asked for.
#[tokio::test]
async fn another_packet_in_place_of_connack() {
    const WORDS: [&[u8]; 6] = [
        &[0xD0, 0],
        &[0x30, 5, 0, 1, b'a', 0, b'x'],
        &[0x90, 4, 0, 1, 0, 0],
        // An authentication that CONNECT did not begin.
        &[0xF0, 9, 0x18, 7, 0x15, 0, 4, b'n', b'a', b'm', b'e'],
        // Good-bye in place of a greeting.
        &[0xE0, 1, 0x89],
        // CONNACK with a flag that is reserved.
        &[0x20, 3, 2, 0, 0],
    ];
    let fault = Fault::start(|mut line| async move {
        match WORDS.get(line.number) {
            Some(words) => drop(line.accept(words).await),
            None => line.by_the_book().await,
        }
    })
    .await;
    let (_site, agent) = before(&fault, "version = \"5\"");
    agent.says(&["is not an MQTT broker"]).await;
    agent.says(&["broke the protocol before the connection stood"]).await;
    recovers(&fault, agent).await;
    assert_eq!(fault.connections(), WORDS.len() + 1, "each cost one connection");
}

/// A second CONNACK, and packets that only clients send.
#[tokio::test]
async fn what_a_broker_never_says() {
    const WORDS: [&[u8]; 5] =
        [CONNACK, &[0xC0, 0], &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0], &[0xA2, 6, 0, 1, 0, 0, 1, b'a'], &[0x10, 0]];
    let fault = Fault::start(|mut line| async move {
        let Some(words) = WORDS.get(line.number) else { return line.by_the_book().await };
        line.accept(CONNACK).await;
        line.send(words).await;
        // 5.0: it says which rule was broken, then it closes.
        let mut reason = None;
        while let Some(packet) = line.packet().await {
            if packet.kind() == kind::DISCONNECT {
                reason = packet.body.first().copied();
            }
        }
        assert!(matches!(reason, Some(0x81 | 0x82)), "{words:?}: {reason:?}");
    })
    .await;
    let (_site, agent) = before(&fault, "version = \"5\"");
    agent.says(&["broke the protocol", "a second CONNACK"]).await;
    fault.wait_count(STEADY_TOPIC, 1).await;
    recovers(&fault, agent).await;
    assert_eq!(fault.connections(), WORDS.len() + 1);
}
