//! Bytes that are no packets: an error that is said, never a panic, never memory in proportion to what they claim.

use super::answers::peak_kib;
use super::{before, recovers};
use crate::harness::fault::{CONNACK, Fault, connack, frame, length};

/// F-29: packets that are cut, too short, with flags that are reserved, with lengths that can't be.
const MALFORMED: [&[u8]; 20] = [
    // Of length 1 to 4 in all, and no more than that.
    &[0x40, 0],
    &[0x50, 1, 0],
    &[0x62, 1, 7],
    &[0x90, 2, 0, 1],
    &[0xB0, 2, 0, 1],
    &[0x30, 0],
    &[0x30, 2, 0, 0],
    &[0x32, 2, 0, 9],
    // Identifier 0.
    &[0x40, 2, 0, 0],
    &[0x62, 2, 0, 0],
    // Flags that are reserved.
    &[0x41, 2, 0, 1],
    &[0x60, 2, 0, 1],
    &[0xD1, 0],
    // QoS 3, type 0.
    &[0x36, 7, 0, 1, b'a', 0, 1, 0, b'x'],
    &[0x00, 0],
    // A length of five bytes.
    &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1],
    // Properties that are longer than their packet, unknown, twice, not of this packet.
    &[0x40, 5, 0, 1, 0, 0x7F, 0x1F],
    &[0x30, 6, 0, 1, b'a', 2, 0x7E, 0],
    &[0x30, 8, 0, 1, b'a', 4, 0x01, 1, 0x01, 1],
    // A topic that is no UTF-8, with a wildcard in it.
    &[0x30, 5, 0, 2, 0xC3, 0x28, 0],
];

#[tokio::test]
async fn malformed_packets() {
    let fault = Fault::start(|mut line| async move {
        let Some(bytes) = MALFORMED.get(line.number) else { return line.by_the_book().await };
        line.accept(CONNACK).await;
        line.send(bytes).await;
        let mut said = None;
        while let Some(packet) = line.packet().await {
            if packet.kind() == 14 {
                said = packet.body.first().copied();
            }
        }
        assert!(matches!(said, Some(0x81 | 0x82 | 0x94)), "{bytes:x?} is answered by DISCONNECT: {said:x?}");
    })
    .await;
    let (site, agent) = before(&fault, "version = \"5\"");
    fault.wait_connections(MALFORMED.len() + 1).await;
    recovers(&fault, agent).await;
    assert_eq!(fault.connections(), MALFORMED.len() + 1, "each cost one connection");
    assert_eq!(site.log.count(&["connection to", "lost", "broke the protocol"]), MALFORMED.len());
}

/// F-29: a length of 268,435,455, and bytes without an end behind it; a property list that does not end either.
#[tokio::test]
async fn lengths_that_are_too_long() {
    let fault = Fault::start(|mut line| async move {
        let claims: [&[u8]; 4] = [
            &[0x30, 0xFF, 0xFF, 0xFF, 0x7F],
            // CONNACK, with properties of that length.
            &[0x20, 0xFF, 0xFF, 0xFF, 0x7F, 0, 0, 0xFF, 0xFF, 0xFF, 0x7F],
            // Just what the agent takes at most, in properties.
            &[&[0x30][..], &length((1 << 20) - 4), &[0, 1, b'a'], &length((1 << 20) - 10)].concat(),
            // Less than that, and it stays away.
            &[0x30, 0x80, 0x80, 0x10],
        ];
        let Some(claim) = claims.get(line.number) else { return line.by_the_book().await };
        if line.number == 1 {
            line.accept(&[]).await;
        } else {
            line.accept(CONNACK).await;
        }
        line.send(claim).await;
        let user_property = [&[0x26, 0, 1, b'k', 0, 200][..], &[b'v'; 200]].concat();
        let mut sent = 0;
        while sent < 64 << 20 && line.send(&user_property.repeat(50)).await {
            sent += user_property.len() * 50;
        }
        // What is on its way is still taken by the network; the agent took a little more than its maximum.
        assert!(sent < 16 << 20, "the agent took {sent} bytes");
    })
    .await;
    let (_site, agent) = before(&fault, "version = \"5\"");
    agent.says(&["broke the protocol"]).await;
    fault.wait_connections(5).await;
    let peak = peak_kib(agent.pid());
    assert!(peak < 96 * 1024, "the agent took {peak} KiB");
    recovers(&fault, agent).await;
}

/// F-29: four thousand user properties are odd, and allowed.
#[tokio::test]
async fn a_connack_with_thousands_of_properties() {
    let fault = Fault::start(|mut line| async move {
        line.accept(&connack(&[0x26, 0, 1, b'k', 0, 1, b'v'].repeat(4_000))).await;
        line.serve(|packet, answer| match answer.as_slice() {
            // Acknowledgements as well.
            [first @ (0x40 | 0x50 | 0x70), 2, high, low] if packet.id() % 7 == 0 => {
                let properties = [0x26, 0, 1, b'k', 0, 1, b'v'].repeat(100);
                let body = [&[*high, *low, 0][..], &length(properties.len()), &properties].concat();
                frame(*first, &body)
            }
            _ => answer,
        })
        .await;
    })
    .await;
    let (_site, agent) = before(&fault, "qos = 2");
    recovers(&fault, agent).await;
    assert_eq!(fault.connections(), 1);
}
