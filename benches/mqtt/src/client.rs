//! One client at work, in a process and on a thread of its own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::config::{BrokerUrl, Scheme};
use crate::count::counted;
use crate::mqtt::packet::{Properties, Publish};
use crate::mqtt::session::Want;
use crate::mqtt::{Event, Options, PacketId, QoS, Session};
use crate::net::{Connection, Dialer, Target};
use crate::os::clock;

/// The topic of all messages.
const TOPIC: &str = "outstation/press-7/boiler";
/// Messages before the clock starts, so that buffers have grown; the last of each part is one of QoS 1, whose
/// acknowledgement is its end at QoS 0 too.
const WARM: usize = 10_000;
/// What comes to the sink beside the messages that are measured.
pub const EXTRA: usize = WARM + 2;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Work {
    ours: bool,
    address: SocketAddr,
    qos: u8,
    payload: Vec<u8>,
    window: u16,
    count: usize,
}

impl Work {
    /// From the words of the command line.
    pub fn parse(words: &[String]) -> Self {
        let [client, address, qos, size, window, count] = words else { panic!("six words") };
        Self {
            ours: client == "ours",
            address: address.parse().expect("an address"),
            qos: qos.parse().expect("a QoS"),
            payload: vec![b'x'; size.parse().expect("a size")],
            window: window.parse().expect("a window"),
            count: count.parse().expect("a count"),
        }
    }
}

/// Nanoseconds, nanoseconds of processor, allocations, bytes that the client holds.
pub fn measure(work: &Work) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let held = counted().1;
    let (before, after) = if work.ours {
        runtime.block_on(ours(work))
    } else {
        runtime.block_on(tokio::task::LocalSet::new().run_until(rumqttc(work)))
    };
    let (wall, processor) = (after.wall - before.wall, after.processor - before.processor);
    let allocations = after.allocations - before.allocations;
    format!("{} {} {allocations} {}", wall.as_nanos(), processor.as_nanos(), after.held - held)
}

/// Where the clocks and counters stand.
#[derive(Clone, Copy, Debug)]
struct Mark {
    wall: Instant,
    processor: Duration,
    allocations: u64,
    held: i64,
}

fn mark() -> Mark {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let processor = Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
    let (allocations, held) = counted();
    Mark { wall: Instant::now(), processor, allocations, held }
}

async fn ours(work: &Work) -> (Mark, Mark) {
    let url = BrokerUrl {
        scheme: Scheme::Mqtt,
        host: work.address.ip().to_string(),
        port: work.address.port(),
        path: String::new(),
    };
    let mut session = Session::new(work.window, 16 << 20);
    let options = Options { topic_aliases_out: 0, ..Options::new("bench") };
    let limit = Duration::from_secs(10);
    let dialling = Dialer::new().connect(&Target::direct(url), &mut session, &options, true, limit).await;
    let (mut connection, _) = dialling.expect("connected");
    let mut next_id = 1;
    send(&mut session, &mut connection, work, WARM, &mut next_id).await;
    let before = mark();
    send(&mut session, &mut connection, work, work.count, &mut next_id).await;
    (before, mark())
}

/// So many messages and one of QoS 1, to the last acknowledgement.
async fn send(session: &mut Session, connection: &mut Connection, work: &Work, count: usize, next_id: &mut u16) {
    let qos = QoS::from_bits(work.qos).expect("a QoS");
    let (mut given, mut last_given) = (0, false);
    loop {
        while given < count && give(session, work, qos, *next_id) {
            given += 1;
            *next_id = *next_id % 32_768 + 1;
        }
        if given == count && !last_given && give(session, work, QoS::AtLeastOnce, *next_id) {
            last_given = true;
            *next_id = *next_id % 32_768 + 1;
        }
        if last_given && session.in_flight() == 0 {
            return;
        }
        connection.turn(session).await.expect("the link stands");
        while let Some(event) = session.poll_event() {
            if let Event::Received { id } = event {
                session.release(id);
            }
        }
    }
}

fn give(session: &mut Session, work: &Work, qos: QoS, id: u16) -> bool {
    if !matches!(session.want(), Want::Fresh { .. }) {
        return false;
    }
    let id = if qos == QoS::AtMostOnce { None } else { PacketId::new(id) };
    let properties = Properties::EMPTY;
    let message = Publish { dup: false, qos, retain: false, topic: TOPIC, id, properties, payload: &work.payload };
    session.publish(clock::now(), &message).is_ok()
}

async fn rumqttc(work: &Work) -> (Mark, Mark) {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::Packet;
    use rumqttc::v5::{AsyncClient, Event, MqttOptions};

    let mut options = MqttOptions::new("bench", work.address.ip().to_string(), work.address.port());
    options.set_outgoing_inflight_upper_limit(work.window);
    options.set_keep_alive(Duration::from_secs(30));
    options.set_clean_start(true);
    let (client, mut events) = AsyncClient::new(options, usize::from(work.window));
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(work.qos)];
    let mut marks = Vec::new();
    for count in [WARM, work.count] {
        marks.push(mark());
        let (client, payload) = (client.clone(), bytes(&work.payload));
        tokio::task::spawn_local(async move {
            for _ in 0..count {
                client.publish_bytes(TOPIC, qos, false, payload.clone()).await.expect("its event loop takes it");
            }
            client.publish_bytes(TOPIC, QoS::AtLeastOnce, false, payload).await.expect("its event loop takes it");
        });
        let mut open = if work.qos == 0 { 1 } else { count + 1 };
        while open > 0 {
            match events.poll().await.expect("the link stands") {
                Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => open -= 1,
                _ => {}
            }
        }
    }
    (marks[1], mark())
}

/// As rumqttc takes them: shared, so that no message copies its payload on the way in.
fn bytes(payload: &[u8]) -> tokio_tungstenite::tungstenite::Bytes {
    payload.to_vec().into()
}
