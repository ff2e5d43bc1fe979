//! The MQTT client with messages that come out of a spool on the disk, as after a long outage, beside the same client with
//! messages from memory, before the same sink.
//!
//! One thread does both, which the agent has two for. What may be sent, what is durable before what, and how much is read at
//! once is as there. Memory is looked at all the while.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use crate::mqtt::packet::{Properties, Publish};
use crate::mqtt::session::Want;
use crate::mqtt::{Event, Options, PacketId, QoS, Session};
use crate::os::files::Folder;
use crate::spool::{Body, Entry, Spool};
use crate::{memory, now, open, rate, route, sink};

/// Messages of a run, and runs of each kind, of which the median counts.
const COUNT: usize = 100_000;
const ROUNDS: usize = 3;
/// Bytes of one read, as the agent's.
const READ_BYTES: usize = 256 << 10;
/// Packet identifiers of messages (R2).
const IDS: usize = 32_768;
/// A quarter of the default buffer may be in flight.
const IN_FLIGHT_BYTES: usize = 16 << 20;
/// Bytes that are taken from the socket at once.
const RECEIVED_MAX: usize = 64 << 10;

/// Where the messages come from.
enum From {
    Memory { payload: Vec<u8>, given: usize },
    Spool { spool: Box<Spool<Folder>>, next: u64, ready: VecDeque<Entry>, numbers: Vec<u64> },
}

/// A line for each QoS, size and window. At QoS 2 each PUBREC is durable before its PUBREL: that is the disk's pace.
pub fn compare(folder: &Path) {
    for (qos, size, window) in [
        (QoS::AtLeastOnce, 200, 100),
        (QoS::AtLeastOnce, 200, 1000),
        (QoS::AtLeastOnce, 1600, 100),
        (QoS::AtLeastOnce, 1600, 1000),
        (QoS::ExactlyOnce, 200, 1000),
    ] {
        let (mut of_memory, mut of_spool, mut most) = (Vec::new(), Vec::new(), 0);
        for round in 0..ROUNDS {
            let memory = From::Memory { payload: vec![b'x'; size], given: 0 };
            of_memory.push(run(memory, qos, window).0);
            let place = folder.join(format!("drain-{}-{size}-{window}-{round}", qos as u8));
            let (out_of_spool, used) = run(backlog(&place, size), qos, window);
            of_spool.push(out_of_spool);
            most = most.max(used);
            let _gone = std::fs::remove_dir_all(place);
        }
        let [memory, spool] = [of_memory, of_spool].map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[ROUNDS / 2]
        });
        println!(
            "drain: QoS {}, {size} B, window {window}: {spool:.0} messages a second, {:.0} % of {memory:.0} from memory; {most} KiB resident at most",
            qos as u8,
            100.0 * spool / memory
        );
    }
}

/// A spool with messages of this size, closed and opened again.
fn backlog(folder: &Path, size: usize) -> From {
    let room = (COUNT * (size + 64)) as u64 * 5 / 4 + (32 << 20);
    let (started, mut spool) = (Instant::now(), open(folder, room));
    let payload: Vec<u8> = (0..size.div_ceil(crate::PAYLOAD) as u64).flat_map(crate::noise).take(size).collect();
    for _ in 0..COUNT {
        spool.append(now(started), &route(), 1, 0, &payload).expect("fits");
    }
    drop(spool.close(now(started)).expect("closes"));
    let spool = open(folder, room);
    assert_eq!(spool.stats().buffered, COUNT as u64, "all of it is there");
    From::Spool { spool: Box::new(spool), next: 1, ready: VecDeque::new(), numbers: vec![0; IDS + 1] }
}

/// Sends all of it, to the last acknowledgement; gives the rate, and the most memory, KiB.
fn run(mut from: From, qos: QoS, window: u16) -> (f64, u64) {
    let (address, sink) = sink::start(window);
    let mut stream = TcpStream::connect(address).expect("the sink");
    stream.set_nodelay(true).expect("an option");
    let begun = Instant::now();
    let mut session = Session::new(window, IN_FLIGHT_BYTES);
    session.connect(begun.elapsed(), &Options::new("bench"), true).expect("good options");
    let mut buffer = vec![0; RECEIVED_MAX];
    let (mut started, mut most, mut turns) = (None, 0, 0_u32);
    if let From::Spool { spool, .. } = &mut from {
        spool.connected();
        spool.sync(now(begun)).expect("flushes");
    }
    loop {
        while matches!(session.want(), Want::Fresh { .. }) && give(&mut from, &mut session, qos, begun) {}
        while !session.transmit().is_empty() {
            let count = stream.write(session.transmit()).expect("the link stands");
            session.transmitted(begun.elapsed(), count);
        }
        if started.is_some() && session.in_flight() == 0 && is_over(&from) {
            break;
        }
        let count = stream.read(&mut buffer).expect("the link stands");
        session.receive(begun.elapsed(), &buffer[..count]).expect("MQTT");
        if session.is_connected() {
            started.get_or_insert_with(Instant::now);
        }
        settle(&mut from, &mut session, begun);
        turns += 1;
        if turns.is_multiple_of(256) {
            most = most.max(memory());
        }
    }
    let rate = rate(COUNT as u64, started.expect("connected").elapsed());
    drop(stream);
    assert_eq!(sink.join().expect("the sink ends"), COUNT, "every message came");
    (rate, most)
}

/// The next message; `false` if there is none, or the session takes none.
fn give(from: &mut From, session: &mut Session, qos: QoS, begun: Instant) -> bool {
    match from {
        From::Memory { payload, given } => {
            let goes = *given < COUNT && publish(session, payload, qos, 1 + *given % IDS, begun);
            *given += usize::from(goes);
            goes
        }
        From::Spool { spool, next, ready, numbers } => {
            if ready.is_empty() && *next < spool.end() {
                let mut entries = Vec::new();
                *next = spool.read(*next, READ_BYTES, &mut entries).expect("reads");
                spool.pin(*next);
                ready.extend(entries);
            }
            let Some(entry) = ready.front() else { return false };
            if entry.first >= spool.sendable() {
                spool.sync(now(begun)).expect("flushes");
            }
            let (number, id) = (entry.first, 1 + entry.first as usize % IDS);
            let Body::Record { payload, .. } = &entry.body else { panic!("records alone") };
            let goes = publish(session, payload, qos, id, begun);
            if goes {
                numbers[id] = number;
                spool.sent(number);
                ready.pop_front();
            }
            goes
        }
    }
}

fn publish(session: &mut Session, payload: &[u8], qos: QoS, id: usize, begun: Instant) -> bool {
    let (topic, properties, id) = ("outstation/press-7/boiler", Properties::EMPTY, PacketId::new(id as u16));
    let message = Publish { dup: false, qos, retain: false, topic, id, properties, payload };
    session.publish(begun.elapsed(), &message).is_ok()
}

/// Takes what came.
fn settle(from: &mut From, session: &mut Session, begun: Instant) {
    let mut received = Vec::new();
    while let Some(event) = session.poll_event() {
        match (event, &mut *from) {
            (Event::Received { id }, From::Memory { .. }) => session.release(id),
            (Event::Received { id }, From::Spool { spool, numbers, .. }) => {
                spool.released(numbers[usize::from(id.value())]);
                received.push(id);
            }
            (Event::Acknowledged { id, .. } | Event::Completed { id, .. }, From::Spool { spool, numbers, .. }) => {
                spool.done(numbers[usize::from(id.value())]);
            }
            _ => {}
        }
    }
    let From::Spool { spool, .. } = from else { return };
    if received.is_empty() {
        spool.flush_state(now(begun)).expect("writes");
    } else {
        // R4: durable before PUBREL.
        spool.sync(now(begun)).expect("flushes");
        received.into_iter().for_each(|id| session.release(id));
    }
}

fn is_over(from: &From) -> bool {
    match from {
        From::Memory { given, .. } => *given == COUNT,
        From::Spool { spool, next, ready, .. } => *next >= spool.end() && ready.is_empty(),
    }
}
