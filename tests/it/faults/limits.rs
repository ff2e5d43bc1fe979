//! CONNACKs that allow little: it counts, afresh on each connection, and what does not fit is named.

use std::time::Duration;

use super::{before, recovers};
use crate::harness::fault::{CONNACK, Fault, Line, connack, kind};
use crate::harness::{GAPS_TOPIC, STATUS_TOPIC, STEADY, STEADY_TOPIC, Site, config, pass};

/// Answers by the book, and late, so that whoever may have more in flight shows it.
async fn with_at_most(mut line: Line, in_flight: usize) {
    let mut waiting = Vec::new();
    loop {
        let next = tokio::time::timeout(Duration::from_millis(20), line.packet()).await;
        match next {
            Ok(Some(packet)) if packet.kind() == kind::PUBLISH && packet.qos() > 0 => {
                waiting.push(packet);
                assert!(waiting.len() <= in_flight, "more than Receive Maximum");
            }
            Ok(Some(packet)) => {
                line.respond(&packet).await;
            }
            Ok(None) => return,
            Err(_) if waiting.is_empty() => {}
            Err(_) => {
                let packet = waiting.remove(0);
                line.respond(&packet).await;
                // PUBREC keeps the place until PUBCOMP.
                if packet.qos() == 2 {
                    let release = line.packet().await;
                    let Some(release) = release else { return };
                    assert_eq!(release.kind(), kind::PUBREL, "PUBREL goes before everything new");
                    line.respond(&release).await;
                }
            }
        }
    }
}

/// F-18, F-19, F-27: Receive Maximum 1, at QoS 1 and 2, and another one after a reconnect.
#[tokio::test]
async fn receive_maximum() {
    for qos in [1, 2] {
        let fault = Fault::start(|mut line| async move {
            match line.number {
                // The window is full when the line breaks.
                0 => {
                    line.accept(&connack(&[0x21, 0, 9])).await;
                    let mut in_flight = 0;
                    while in_flight < 9 {
                        let Some(packet) = line.packet().await else { return };
                        match packet.kind() {
                            kind::PUBLISH => in_flight += 1,
                            _ => drop(line.respond(&packet).await),
                        }
                    }
                }
                _ => {
                    line.accept(&[&[0x20, 6, 1, 0, 3][..], &[0x21, 0, 1]].concat()).await;
                    with_at_most(line, 1).await;
                }
            }
        })
        .await;
        let (_site, agent) = before(&fault, &format!("qos = {qos}\nversion = \"5\""));
        fault.wait_count(STEADY_TOPIC, 15).await;
        agent.kill().await;
        fault.assert_kept();
        assert_eq!(fault.connections(), 2);
    }
}

/// F-27: a maximum packet size of 256 bytes: what is larger becomes a gap, the rest goes on.
#[tokio::test]
async fn maximum_packet_size() {
    let fault = Fault::start(|mut line| async move {
        line.accept(&connack(&[0x27, 0, 0, 1, 0])).await;
        line.serve(|packet, answer| {
            assert!(packet.body.len() + 3 <= 256, "{} bytes", packet.body.len());
            answer
        })
        .await;
    })
    .await;
    // The values of the one are short, of the other 4 KiB of letters.
    let rest = format!("{STEADY}\n[source.wide]\nplugin = \"wide\"\nevery = \"1s\"\n");
    let site = Site::new(&config(&fault.url(), &rest), &["steady", "wide"]);
    let agent = site.start();
    agent.says(&["can't be delivered", "the broker takes 256"]).await;
    recovers_with_silent_gaps(&fault, agent).await;
}

/// Gaps may be too large as well; they are then counted, and nothing else is wrong.
async fn recovers_with_silent_gaps(fault: &Fault, agent: crate::harness::Agent) {
    let so_far = fault.count(STEADY_TOPIC);
    fault.wait_count(STEADY_TOPIC, so_far + 10).await;
    agent.stop().await;
    fault.look(|seen| assert!(seen.ledger.faults().is_empty(), "{:#?}", seen.ledger.faults()));
    assert_eq!(fault.connections(), 1);
}

/// F-27: nothing at all fits. The agent says so, and does not spin.
#[tokio::test]
async fn a_maximum_packet_size_that_nothing_fits_into() {
    let fault = Fault::start(|mut line| async move {
        line.accept(&connack(&[0x27, 0, 0, 0, 20])).await;
        line.drain().await;
    })
    .await;
    let (site, agent) = before(&fault, "");
    agent.says(&["can't be delivered", "the broker takes 20"]).await;
    agent.says(&[STATUS_TOPIC, "can't be published"]).await;
    let before = cpu_ms(agent.pid());
    pass(Duration::from_secs(2)).await;
    let spent = cpu_ms(agent.pid()) - before;
    assert!(spent < 1_500, "{spent} ms of CPU in 2 s");
    assert_eq!(fault.connections(), 1);
    assert_eq!(site.status().await["mqtt"]["state"], "connected");
    agent.stop().await;
}

/// Milliseconds of processor time that a process took.
fn cpu_ms(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().expect("a number");
    // utime and stime, in ticks of 10 ms.
    (ticks(11) + ticks(12)) * 10
}

/// F-27: the broker takes less than QoS 2, and keeps nothing: said in a line, and sent as it takes it.
#[tokio::test]
async fn maximum_qos_and_no_retained_messages() {
    for maximum in [0, 1] {
        let fault = Fault::start(move |mut line| async move {
            line.accept(&connack(&[0x24, maximum, 0x25, 0])).await;
            line.serve(move |packet, answer| {
                if packet.kind() == kind::PUBLISH {
                    assert!(packet.qos() <= maximum, "QoS {}", packet.qos());
                    assert_eq!(packet.first & 1, 0, "retain");
                }
                answer
            })
            .await;
        })
        .await;
        let (_site, agent) = before(&fault, "qos = 2\nretain = true");
        agent.says(&[&format!("takes QoS {maximum} at most"), "no retained messages"]).await;
        recovers(&fault, agent).await;
        assert_eq!(fault.connections(), 1);
    }
}

/// F-20: aliases belong to a connection. Each begins with topics in full, also where the next one allows none.
#[tokio::test]
async fn topic_aliases() {
    let fault = Fault::start(|mut line| async move {
        let maximum = [2, 3, 0].get(line.number).copied().unwrap_or(1);
        let present = u8::from(line.number > 0);
        line.accept(&[0x20, 6, present, 0, 3, 0x22, 0, maximum]).await;
        let mut topics = vec![None; 4];
        let mut left = if line.number < 3 { 30 } else { usize::MAX };
        while let Some(packet) = line.packet().await {
            if packet.kind() == kind::PUBLISH {
                match packet.alias() {
                    None => assert!(!packet.topic().is_empty(), "a topic, or an alias"),
                    Some(alias) => {
                        assert!((1..=u16::from(maximum)).contains(&alias), "alias {alias} of {maximum}");
                        let topic = &mut topics[usize::from(alias)];
                        if !packet.topic().is_empty() {
                            *topic = Some(packet.topic());
                        }
                        assert!(topic.is_some(), "alias {alias} of an earlier connection");
                    }
                }
            }
            if left == 0 || !line.respond(&packet).await {
                return;
            }
            left -= 1;
        }
    })
    .await;
    let (_site, agent) = before(&fault, "version = \"5\"");
    fault.wait_connections(4).await;
    // The ledger knows messages by their content, whatever topic they came under.
    let so_far = fault.look(|seen| seen.ledger.arrived());
    crate::harness::wait_until("more", crate::harness::SOON, || fault.look(|seen| seen.ledger.arrived()) > so_far + 20)
        .await;
    agent.stop().await;
    fault.assert_kept();
}

/// F-23: connections that are cut right behind CONNACK: the pauses grow all the same.
#[tokio::test]
async fn a_connack_does_not_reset_the_pauses() {
    let fault = Fault::start(|mut line| async move {
        line.accept(CONNACK).await;
    })
    .await;
    let site = Site::new(
        &format!(
            "[agent]\nid = \"press-7\"\n\n[mqtt]\nurl = \"{}\"\nreconnect = {{ min = \"10ms\", max = \"1h\" }}\n\n{STEADY}",
            fault.url()
        ),
        &["steady"],
    );
    let agent = site.start();
    // 10 + 20 + 40 .. ms, half of it on average: after ten of them seconds pass; without doubling there were hundreds.
    fault.wait_connections(2).await;
    pass(Duration::from_secs(4)).await;
    assert!((2..=40).contains(&fault.connections()), "{} connections in 4 s", fault.connections());
    agent.stop().await;
    assert_eq!(fault.count(GAPS_TOPIC), 0);
}
