//! The MQTT client with messages that come out of a spool on the disk, as after a long outage, beside the same client with
//! messages from memory, before the same sink.
//!
//! The spool has a thread of its own ([`crate::keeper`]), as in the agent. What may be sent, what is durable before what, how
//! much is read at once and ahead is as there. Memory is looked at all the while.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::keeper::{Answer, Ask, Log, News, SILENCE_MAX, Step, add};
use crate::mqtt::packet::{Properties, Publish};
use crate::mqtt::session::Want;
use crate::mqtt::{Event, Options, PacketId, QoS, Session};
use crate::spool::{Body, Entry};
use crate::{memory, noise, now, open, processor, rate, route, sink};

/// Runs of each kind, of which the median counts.
const ROUNDS: usize = 3;
/// Packet identifiers of messages (R2).
const IDS: u64 = 32_768;
/// A quarter of the default buffer may be in flight.
const IN_FLIGHT_BYTES: usize = 16 << 20;
/// Bytes that are taken from the socket at once.
const RECEIVED_MAX: usize = 64 << 10;
/// Bytes that are read ahead, and what a message takes of them beside its payload; as the agent's.
const WAITING_BYTES_MAX: usize = 2 << 20;
const ITEM_BYTES: usize = 64;

/// A line of the table.
struct Case {
    qos: QoS,
    size: usize,
    window: u16,
    count: u64,
}

/// A line for each QoS, size and window. At QoS 2 each PUBREC is durable before its PUBREL: that is the disk's pace.
pub fn compare(folder: &Path) {
    for (qos, size, window, count) in [
        (QoS::AtLeastOnce, 200, 100, 1_000_000),
        (QoS::AtLeastOnce, 200, 1000, 1_000_000),
        (QoS::AtLeastOnce, 1600, 100, 400_000),
        (QoS::AtLeastOnce, 1600, 1000, 400_000),
        (QoS::ExactlyOnce, 200, 1000, 200_000),
    ] {
        let case = Case { qos, size, window, count };
        let (mut of_memory, mut of_spool, mut most) = (Vec::new(), Vec::new(), 0);
        let mut processor = [0.0; 2];
        for round in 0..ROUNDS {
            let memory = From::Memory { payload: noise(1).into_iter().cycle().take(size).collect(), given: 0 };
            let measured = run(memory, &case);
            of_memory.push(measured.rate);
            processor[0] += measured.processor;
            let place = folder.join(format!("drain-{}-{size}-{window}-{round}", qos as u8));
            let measured = run(From::Spool(Box::new(backlog(&place, &case))), &case);
            of_spool.push(measured.rate);
            processor[1] += measured.processor;
            most = most.max(measured.memory);
            let _gone = std::fs::remove_dir_all(place);
        }
        let [memory, spool] = [of_memory, of_spool].map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[ROUNDS / 2]
        });
        let each = processor.map(|seconds| seconds * 1e6 / (ROUNDS as u64 * count) as f64);
        println!(
            "drain: QoS {}, {size} B, window {window}: {spool:.0} messages a second, {:.0} % of {memory:.0} from memory; {:.2} us of processor for each, {:.2} from memory, the sink's too; {most} KiB resident at most",
            qos as u8,
            100.0 * spool / memory,
            each[1],
            each[0],
        );
    }
}

/// Where the messages come from.
enum From {
    Memory { payload: Vec<u8>, given: u64 },
    Spool(Box<Backlog>),
}

/// The publisher's view of the log.
struct Backlog {
    log: Log,
    end: u64,
    next_read: u64,
    reading: bool,
    waiting: VecDeque<Entry>,
    waiting_bytes: usize,
    news: News,
    /// The log was asked to make this number sendable.
    flushed_for: u64,
    /// The number that has an identifier.
    numbers: Vec<u64>,
    steps: Vec<Step>,
    steps_given: u64,
    /// What is to be durable before its PUBREL (R4).
    releases: VecDeque<(u64, PacketId)>,
}

/// A spool with messages of this size, closed and opened again.
fn backlog(folder: &Path, case: &Case) -> Backlog {
    let room = case.count * (case.size as u64 + 64) * 5 / 4 + (32 << 20);
    let (started, mut spool) = (Instant::now(), open(folder, room));
    let payloads: Vec<Vec<u8>> =
        (0..16).map(|seed| (0..8).flat_map(|part| noise(8 * seed + part)).take(case.size).collect()).collect();
    for n in 0..case.count {
        spool.append(now(started), &route(), 1, 0, &payloads[n as usize % 16]).expect("fits");
    }
    drop(spool.close(now(started)).expect("closes"));
    let spool = open(folder, room);
    assert_eq!(spool.stats().buffered, case.count, "all of it is there");
    Backlog {
        end: spool.end(),
        log: Log::start(spool),
        next_read: 1,
        reading: false,
        waiting: VecDeque::new(),
        waiting_bytes: 0,
        news: News::default(),
        flushed_for: 0,
        numbers: vec![0; IDS as usize + 1],
        steps: Vec::new(),
        steps_given: 0,
        releases: VecDeque::new(),
    }
}

/// What a run took.
struct Measured {
    /// Messages a second.
    rate: f64,
    /// Processor time of all threads, seconds.
    processor: f64,
    /// The most memory, KiB.
    memory: u64,
}

/// Sends all of it, to the last acknowledgement.
fn run(mut from: From, case: &Case) -> Measured {
    let (address, sink) = sink::start(case.window);
    let mut stream = TcpStream::connect(address).expect("the sink");
    stream.set_nodelay(true).expect("an option");
    let begun = Instant::now();
    let mut session = Session::new(case.window, IN_FLIGHT_BYTES);
    session.connect(begun.elapsed(), &Options::new("bench"), true).expect("good options");
    let mut buffer = vec![0; RECEIVED_MAX];
    let (mut started, mut most, mut turns) = (None, 0, 0_u32);
    let before: f64 = processor().iter().sum();
    loop {
        if let From::Spool(backlog) = &mut from {
            backlog.look(&mut session);
        }
        while matches!(session.want(), Want::Fresh { .. }) && give(&mut from, &mut session, case, begun) {}
        while !session.transmit().is_empty() {
            let count = stream.write(session.transmit()).expect("the link stands");
            session.transmitted(begun.elapsed(), count);
        }
        if started.is_some() && session.in_flight() == 0 && is_over(&from, case) {
            break;
        }
        let readable = match &mut from {
            From::Spool(backlog) => backlog.rest(&stream),
            From::Memory { .. } => true,
        };
        if readable {
            let count = stream.read(&mut buffer).expect("the link stands");
            session.receive(begun.elapsed(), &buffer[..count]).expect("MQTT");
        }
        if session.is_connected() {
            started.get_or_insert_with(Instant::now);
        }
        settle(&mut from, &mut session);
        turns += 1;
        if turns.is_multiple_of(1024) {
            most = most.max(memory());
        }
    }
    let rate = rate(case.count, started.expect("connected").elapsed());
    let processor = processor().iter().sum::<f64>() - before;
    drop(stream);
    assert_eq!(sink.join().expect("the sink ends") as u64, case.count, "every message came");
    if let From::Spool(backlog) = from {
        backlog.log.end();
    }
    Measured { rate, processor, memory: most }
}

/// The next message; `false` if there is none, or the session takes none.
fn give(from: &mut From, session: &mut Session, case: &Case, begun: Instant) -> bool {
    match from {
        From::Memory { payload, given } => {
            let goes = *given < case.count && publish(session, payload, case.qos, 1 + *given % IDS, begun);
            *given += u64::from(goes);
            goes
        }
        From::Spool(backlog) => backlog.give(session, case.qos, begun),
    }
}

fn publish(session: &mut Session, payload: &[u8], qos: QoS, id: u64, begun: Instant) -> bool {
    let (topic, properties, id) = ("outstation/press-7/boiler", Properties::EMPTY, PacketId::new(id as u16));
    let message = Publish { dup: false, qos, retain: false, topic, id, properties, payload };
    session.publish(begun.elapsed(), &message).is_ok()
}

/// Takes what came.
fn settle(from: &mut From, session: &mut Session) {
    while let Some(event) = session.poll_event() {
        match (event, &mut *from) {
            (Event::Received { id }, From::Memory { .. }) => session.release(id),
            (event, From::Spool(backlog)) => backlog.settle(&event),
            _ => {}
        }
    }
}

fn is_over(from: &From, case: &Case) -> bool {
    match from {
        From::Memory { given, .. } => *given == case.count,
        From::Spool(backlog) => backlog.next_read >= backlog.end && backlog.waiting.is_empty() && !backlog.reading,
    }
}

impl Backlog {
    /// Takes what the log says, and asks for more.
    fn look(&mut self, session: &mut Session) {
        while let Some(answer) = self.log.answer() {
            match answer {
                Answer::News(news) => self.news = news,
                Answer::Chunk(entries, next) => {
                    self.waiting_bytes += entries.iter().map(bytes).sum::<usize>();
                    self.waiting.extend(entries);
                    (self.next_read, self.reading) = (next, false);
                }
            }
        }
        while let Some((_, id)) = self.releases.front().filter(|(step, _)| *step <= self.news.steps_durable) {
            session.release(*id);
            self.releases.pop_front();
        }
        if !self.reading && self.waiting_bytes < WAITING_BYTES_MAX / 2 && self.next_read < self.end {
            self.tell();
            self.log.ask(Ask::Read(self.next_read));
            self.reading = true;
        }
    }

    fn tell(&mut self) {
        if !self.steps.is_empty() {
            self.log.ask(Ask::Steps(std::mem::take(&mut self.steps), self.steps_given));
        }
    }

    fn give(&mut self, session: &mut Session, qos: QoS, begun: Instant) -> bool {
        let Some(entry) = self.waiting.front() else { return false };
        let number = entry.first;
        if number >= self.news.sendable {
            if self.flushed_for < number {
                self.flushed_for = number;
                self.tell();
                self.log.ask(Ask::Flush);
            }
            return false;
        }
        let Body::Record { payload, .. } = &entry.body else { panic!("records alone") };
        let id = 1 + number % IDS;
        if !publish(session, payload, qos, id, begun) {
            return false;
        }
        self.numbers[id as usize] = number;
        self.waiting_bytes -= bytes(entry);
        self.waiting.pop_front();
        self.step(number, false);
        true
    }

    fn step(&mut self, number: u64, done: bool) {
        self.steps_given += 1;
        add(&mut self.steps, number, done);
    }

    fn settle(&mut self, event: &Event) {
        match event {
            Event::Received { id } => {
                self.steps_given += 1;
                self.steps.push(Step::Released(self.numbers[usize::from(id.value())]));
                self.releases.push_back((self.steps_given, *id));
            }
            Event::Acknowledged { id, .. } | Event::Completed { id, .. } => {
                self.step(self.numbers[usize::from(id.value())], true);
            }
            _ => {}
        }
    }

    /// Tells the log what became of messages. Where it has to answer first, sleeps until it or the socket has something;
    /// gives whether it is the socket.
    fn rest(&mut self, stream: &TcpStream) -> bool {
        self.tell();
        let stuck = self.waiting.front().is_none_or(|entry| entry.first >= self.news.sendable);
        if !stuck && self.releases.is_empty() {
            return true;
        }
        let mut answered = false;
        if let Some(bell) = self.log.sleep() {
            let mut both = [PollFd::new(stream, PollFlags::IN), PollFd::new(bell, PollFlags::IN)];
            let limit = Timespec { tv_sec: SILENCE_MAX.as_secs() as i64, tv_nsec: 0 };
            let count = poll(&mut both, Some(&limit)).expect("polls");
            assert!(count > 0, "nothing happens any more");
            answered = !both[0].revents().is_empty();
        }
        self.log.awake();
        answered
    }
}

fn bytes(entry: &Entry) -> usize {
    ITEM_BYTES + entry.bytes()
}
