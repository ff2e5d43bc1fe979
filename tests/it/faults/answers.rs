//! Acknowledgements that are wrong, late, missing, too many, or refuse.

use std::time::Duration;

use super::{before, recovers};
use crate::harness::fault::{CONNACK, Fault, Packet, Reply, ack, ack_with, frame, kind};
use crate::harness::{GAPS_TOPIC, STEADY_TOPIC, pass, random};

/// A PUBLISH of the source.
fn is_reading(packet: &Packet) -> bool {
    packet.kind() == kind::PUBLISH && packet.qos() > 0 && packet.topic() == STEADY_TOPIC
}

/// F-27: PUBACK to QoS 2, as RabbitMQ says it: done, and said once.
#[tokio::test]
async fn puback_to_qos_2() {
    let fault = Fault::start(|line| async move {
        line.with_answers(|packet, answer| match (packet.kind(), packet.qos()) {
            (kind::PUBLISH, 2) => ack(0x40, packet.id()),
            (kind::PUBREL, _) => panic!("nothing was received by PUBREC"),
            _ => answer,
        })
        .await;
    })
    .await;
    let (site, agent) = before(&fault, "qos = 2");
    agent.says(&["answers QoS 2 with PUBACK", "at least once"]).await;
    recovers(&fault, agent).await;
    assert_eq!(site.log.count(&["answers QoS 2 with PUBACK"]), 1);
    assert_eq!(fault.connections(), 1);
}

/// F-27: acknowledgements for identifiers that nobody used, before and behind each proper one.
#[tokio::test]
async fn acknowledgements_for_unknown_identifiers() {
    for qos in [1, 2] {
        let fault = Fault::start(|line| async move {
            line.with_answers(|packet, answer| {
                // To its PUBREC the agent owes a PUBREL that says "not found", and so on.
                if packet.kind() == kind::PUBREL && packet.id() == 9_999 {
                    assert_eq!(packet.body.get(2), Some(&0x92));
                    return ack_with(0x70, 9_999, 0x92);
                }
                if !is_reading(packet) {
                    return answer;
                }
                let strange = [ack(0x40, 9_999), ack(0x50, 9_999), ack(0x62, 9_999), ack(0x70, 9_999)].concat();
                let requests = [[0x90, 4, 0xA0, 0, 0, 0], [0xB0, 4, 0xA0, 1, 0, 0]].concat();
                [strange.clone(), answer, requests, strange].concat()
            })
            .await;
        })
        .await;
        let (_site, agent) = before(&fault, &format!("qos = {qos}"));
        fault.wait_count(STEADY_TOPIC, 20).await;
        recovers(&fault, agent).await;
        assert_eq!(fault.connections(), 1);
        assert_eq!(fault.look(|seen| seen.ledger.copies()), 0);
    }
}

/// F-27: everything is said twice.
#[tokio::test]
async fn acknowledgements_that_come_twice() {
    for qos in [1, 2] {
        let fault = Fault::start(|line| async move {
            line.with_answers(|_, answer| answer.repeat(2)).await;
        })
        .await;
        let (_site, agent) = before(&fault, &format!("qos = {qos}"));
        fault.wait_count(STEADY_TOPIC, 20).await;
        recovers(&fault, agent).await;
        assert_eq!(fault.connections(), 1);
        assert_eq!(fault.look(|seen| seen.ledger.copies()), 0);
    }
}

/// Acknowledgements in another order than the messages', which 4.6 does not allow to a broker.
#[tokio::test]
async fn acknowledgements_out_of_order() {
    let fault = Fault::start(|line| async move {
        let mut held: Vec<Vec<u8>> = Vec::new();
        line.with_answers(move |packet, answer| {
            if !is_reading(packet) {
                return answer;
            }
            held.push(answer);
            // An empty answer would mean that the message was not taken: PINGRESP stands for "later".
            if held.len() < 5 { vec![0xD0, 0] } else { held.drain(..).rev().collect::<Vec<_>>().concat() }
        })
        .await;
    })
    .await;
    let (_site, agent) = before(&fault, "qos = 1");
    fault.wait_count(STEADY_TOPIC, 50).await;
    agent.kill().await;
    fault.assert_kept();
    assert_eq!(fault.connections(), 1);
}

/// PUBREC to QoS 1 is an error of the broker: said, and what was in flight is sent again.
#[tokio::test]
async fn pubrec_to_qos_1() {
    let fault = Fault::start(|line| async move {
        let is_wrong = line.number < 2;
        line.with_answers(
            move |packet, answer| {
                if is_wrong && is_reading(packet) { ack(0x50, packet.id()) } else { answer }
            },
        )
        .await;
    })
    .await;
    let (_site, agent) = before(&fault, "qos = 1");
    agent.says(&["broke the protocol", "PUBREC for a message of QoS 1"]).await;
    fault.wait_connections(3).await;
    recovers(&fault, agent).await;
}

/// F-21, F-22: TCP stands, and nothing is answered any more, or nothing is even read. The link is given up within 1.5
/// times the keep-alive, although the agent has much to say, and all goes out again: DUP set, in order.
#[tokio::test]
async fn a_broker_that_falls_silent() {
    for reads in [true, false] {
        let fault = Fault::start(move |mut line| async move {
            if line.number == 0 {
                line.accept(CONNACK).await;
                match reads {
                    true => line.drain().await,
                    false => std::future::pending().await,
                }
            }
            let (mut repeated, mut last) = (true, 0);
            line.with_answers(move |packet, answer| {
                if is_reading(packet) {
                    assert!(packet.dup() <= repeated, "what is sent again goes first");
                    repeated = packet.dup();
                    assert!(packet.id() > last, "in the order of the first sending");
                    last = packet.id();
                }
                answer
            })
            .await;
        })
        .await;
        let (_site, agent) = before(&fault, "keep_alive = \"1s\"");
        agent.says(&["does not answer", "keep-alive of 1 s"]).await;
        recovers(&fault, agent).await;
        assert_eq!(fault.connections(), 2);
    }
}

/// F-24: a refusal for now is not the end of a message: a pause, and it goes out again as a new one, behind what was on
/// its way already.
#[tokio::test]
async fn a_quota_that_is_exceeded_for_a_while() {
    for (qos, first) in [(1, 0x40), (2, 0x50)] {
        let fault = Fault::start(move |line| async move {
            let mut refusals = 3;
            line.with_answers(move |packet, answer| {
                assert!(!packet.dup() || packet.kind() != kind::PUBLISH, "a new message, on one connection");
                if is_reading(packet) && refusals > 0 {
                    refusals -= 1;
                    return ack_with(first, packet.id(), 0x97);
                }
                answer
            })
            .await;
        })
        .await;
        let (_site, agent) = before(&fault, &format!("qos = {qos}"));
        agent.says(&["refuses message", "for now", "quota exceeded", "attempt 1 of 10"]).await;
        agent.says(&["message 1 ", "attempt 2 of 10"]).await;
        crate::harness::wait_until("message 1", crate::harness::SOON, || {
            fault.look(|seen| seen.ledger.missing().is_empty())
        })
        .await;
        agent.stop().await;
        fault.look(|seen| assert_eq!((seen.ledger.missing().len(), seen.ledger.copies()), (0, 0)));
        assert_eq!(fault.connections(), 1);
    }
}

/// A refusal for good, by a reason that has a name and by one that has none, becomes a gap.
#[tokio::test]
async fn a_refusal_for_good_becomes_a_gap() {
    let fault = Fault::start(|line| async move {
        let mut refusals = vec![0x99, 0x90, 0x87];
        line.with_answers(move |packet, answer| {
            let refusal = if is_reading(packet) { refusals.pop() } else { None };
            refusal.map_or(answer, |reason| ack_with(0x40, packet.id(), reason))
        })
        .await;
    })
    .await;
    let (_site, agent) = before(&fault, "qos = 1");
    agent.says(&["refuses message", "for good", "not authorized"]).await;
    fault.wait_count(GAPS_TOPIC, 1).await;
    recovers(&fault, agent).await;
    let gaps = fault.look(|seen| seen.messages.iter().filter(|message| message.topic == GAPS_TOPIC).count());
    assert!((1..=3).contains(&gaps), "{gaps}");
}

/// F-27: the subscription is refused.
#[tokio::test]
async fn a_subscription_that_is_refused() {
    for code in [0x80, 0x87, 0x8F, 0xA1, 0xA2] {
        let fault = Fault::start(move |line| async move {
            line.with_answers(move |packet, answer| {
                if packet.kind() != kind::SUBSCRIBE {
                    return answer;
                }
                let codes = vec![code; packet.filters(5).len()];
                frame(0x90, &[&packet.id().to_be_bytes()[..], &[0], &codes].concat())
            })
            .await;
        })
        .await;
        let (_site, agent) = before(&fault, "qos = 2");
        agent.says(&["takes no subscription", "outstation/press-7/session/+"]).await;
        recovers(&fault, agent).await;
        assert_eq!(fault.connections(), 1);
    }
}

/// F-27: the subscriptions that mark a session are never answered. QoS 2 waits for them, but not for ever.
#[tokio::test]
async fn a_subscription_that_is_never_answered() {
    let fault = Fault::start(|line| async move {
        let is_cut = line.number < 3;
        line.with_answers(move |packet, answer| {
            let is_unanswered = packet.kind() == kind::SUBSCRIBE;
            assert!(!is_cut || !is_reading(packet), "QoS 2 waits for the marks");
            Reply { bytes: if is_unanswered { Vec::new() } else { answer }, is_last: is_unanswered && is_cut }
        })
        .await;
    })
    .await;
    let (_site, agent) = before(&fault, "qos = 2\nversion = \"5\"");
    fault.wait_connections(4).await;
    recovers(&fault, agent).await;
}

/// A broker that answers every UNSUBSCRIBE with success knows nothing of its subscriptions: in doubt its session is not
/// trusted, and what was in flight comes again rather than never.
#[tokio::test]
async fn a_broker_that_can_not_tell_whose_session_it_is() {
    let fault = Fault::start(|mut line| async move {
        if line.number == 1 {
            // CONNACK does not arrive.
            return drop(line.packet().await);
        }
        let is_first = line.number == 0;
        line.with_answers(move |packet, answer| match packet.kind() {
            // The message stays in the middle of its exchange.
            kind::PUBREL if is_first => Reply { bytes: Vec::new(), is_last: true },
            kind::UNSUBSCRIBE => {
                let codes = vec![0; packet.filters(5).len()];
                frame(0xB0, &[&packet.id().to_be_bytes()[..], &[0], &codes].concat()).into()
            }
            _ => answer.into(),
        })
        .await;
    })
    .await;
    let (site, agent) = before(&fault, "qos = 2\nversion = \"5\"");
    agent.says(&["can't tell whose session it is"]).await;
    recovers(&fault, agent).await;
    assert_eq!(site.log.count(&["the session is started anew"]), 1);
    assert!(fault.look(|seen| seen.ledger.copies()) <= 1, "the message that was in the middle of its exchange");
}

/// The broker says good-bye with a reason and words; the agent repeats them.
#[tokio::test]
async fn a_disconnect_has_its_reason_said() {
    const REASONS: [(u8, &str); 4] = [
        (0x8B, "server shutting down"),
        (0x98, "administrative action"),
        (0x97, "quota exceeded"),
        (0x8D, "keep alive timeout"),
    ];
    let fault = Fault::start(|mut line| async move {
        let Some((code, _)) = REASONS.get(line.number) else { return line.by_the_book().await };
        line.accept(if line.number == 0 { CONNACK } else { crate::harness::fault::RESUMED }).await;
        line.packet().await;
        line.send(&frame(0xE0, &[*code, 6, 0x1F, 0, 3, b'w', b'h', b'y'])).await;
        // Who closes with bytes unread takes back what he said last.
        line.drain().await;
    })
    .await;
    let (_site, agent) = before(&fault, "");
    for (_, name) in REASONS {
        agent.says(&["good-bye", name, "why"]).await;
    }
    recovers(&fault, agent).await;
}

/// F-16, F-27: messages that nobody asked for, sent again without DUP: each is answered, none does harm.
#[tokio::test]
async fn messages_that_nobody_asked_for() {
    let fault = Fault::start(|mut line| async move {
        line.accept(CONNACK).await;
        for _ in 0..3 {
            for (first, id) in [(0x34_u8, 7_u8), (0x34, 8), (0x32, 9), (0x3C, 7)] {
                line.send(&frame(first, &[0, 1, b'a', 0, id, 0, b'x'])).await;
            }
        }
        let mut answers = [0_usize; 16];
        line.serve(move |packet, answer| {
            answers[usize::from(packet.kind())] += 1;
            // A PUBREC (5) for each PUBLISH of QoS 2 is taken with a PUBREL, which is answered by PUBCOMP (7).
            if packet.kind() == 5 { ack(0x62, packet.id()) } else { answer }
        })
        .await;
    })
    .await;
    let (_site, agent) = before(&fault, "");
    recovers(&fault, agent).await;
    assert_eq!(fault.connections(), 1);
}

/// A flood of PUBRELs, while the broker reads, and while it does not: memory stays bounded, and the rest goes on.
#[tokio::test]
async fn a_flood_of_pubrels() {
    let fault = Fault::start(|mut line| async move {
        let flood: Vec<u8> = (1..=60_000).flat_map(|id| ack(0x62, id)).collect();
        if line.number == 0 {
            // Nothing is read: the answers pile up at the agent, until it has enough.
            line.accept(CONNACK).await;
            while line.send(&flood).await {}
            return;
        }
        line.accept(CONNACK).await;
        line.send(&flood[..40_000]).await;
        line.serve(|_, answer| answer).await;
    })
    .await;
    let (_site, agent) = before(&fault, "keep_alive = \"2s\"");
    fault.wait_connections(2).await;
    fault.wait_count(STEADY_TOPIC, 10).await;
    let peak = peak_kib(agent.pid());
    assert!(peak < 96 * 1024, "the agent took {peak} KiB");
    recovers(&fault, agent).await;
}

/// The most memory that a process had.
pub fn peak_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// F-14, F-15, F-18, F-19: the line ends at any byte of any answer, forty times. The broker keeps its session: QoS 2
/// arrives once, in order; nothing is given an identifier that is in use.
#[tokio::test]
async fn answers_that_are_cut_at_any_byte() {
    for qos in [1, 2] {
        let fault = Fault::start(|line| async move {
            let is_cut = line.number < 40;
            let mut bytes = (random() % 60) as usize;
            line.with_answers(move |_, mut answer| {
                let is_last = is_cut && bytes < answer.len();
                answer.truncate(if is_last { bytes } else { usize::MAX });
                bytes = bytes.saturating_sub(answer.len());
                Reply { bytes: answer, is_last }
            })
            .await;
        })
        .await;
        let (_site, agent) = before(&fault, &format!("qos = {qos}\nversion = \"5\""));
        crate::harness::wait_until("forty cuts", Duration::from_secs(90), || fault.connections() > 40).await;
        recovers(&fault, agent).await;
        if qos == 2 {
            assert_eq!(fault.look(|seen| seen.ledger.copies()), 0, "exactly once");
        }
    }
}

/// F-15, F-19: the line ends right behind a PUBREC, so that its PUBREL was not said: it goes out on the next line, before
/// everything else.
#[tokio::test]
async fn a_line_that_ends_behind_pubrec() {
    let fault = Fault::start(|line| async move {
        let number = line.number;
        let mut released = number == 0;
        line.with_answers(move |packet, answer| {
            released |= packet.kind() == kind::PUBREL;
            if is_reading(packet) {
                assert!(released, "PUBREL goes first");
            }
            Reply { bytes: answer, is_last: number < 5 && is_reading(packet) }
        })
        .await;
    })
    .await;
    let (_site, agent) = before(&fault, "qos = 2\nversion = \"5\"");
    fault.wait_connections(6).await;
    recovers(&fault, agent).await;
    assert_eq!(fault.look(|seen| seen.ledger.copies()), 0, "exactly once");
}

/// Answers that come late are waited for.
#[tokio::test]
async fn answers_that_come_late() {
    let fault = Fault::start(|mut line| async move {
        line.accept(CONNACK).await;
        while let Some(packet) = line.packet().await {
            pass(Duration::from_millis(50)).await;
            line.respond(&packet).await;
        }
    })
    .await;
    let (_site, agent) = before(&fault, "qos = 2");
    fault.wait_count(STEADY_TOPIC, 10).await;
    agent.kill().await;
    fault.assert_kept();
    assert_eq!(fault.connections(), 1);
}
