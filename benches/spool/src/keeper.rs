//! The spool on a thread of its own, as the agent has it (`src/agent/log/thread.rs`): one queue in, one task at a time, a
//! flush takes with it all that waits and is made on a thread beside, and what changed is told. The client sleeps on a bell
//! beside its socket.

use std::io::{Read as _, Write as _};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::now;
use crate::os::files::{Flush, Folder};
use crate::spool::{Entry, Spool};

/// As the agent's: requests that wait, those that one flush takes with it, bytes of one read and of how many pieces it is.
const QUEUE_MAX: usize = 256;
const BATCH_MAX: usize = 1024;
const READ_BYTES: usize = 512 << 10;
const READ_PIECES: usize = 4;

/// What became of messages.
pub enum Step {
    Sent(Range<u64>),
    Done(Range<u64>),
    Released(u64),
}

pub enum Ask {
    Read(u64),
    /// The running number of the last one as well.
    Steps(Vec<Step>, u64),
    Flush,
    /// From the thread beside.
    Made(Flush),
    End,
}

/// Numbers below may be sent; steps up to this one are durable.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct News {
    pub sendable: u64,
    pub steps_durable: u64,
}

pub enum Answer {
    Chunk(Vec<Entry>, u64),
    News(News),
}

/// The client's end.
pub struct Log {
    asks: SyncSender<Ask>,
    answers: Receiver<Answer>,
    early: Option<Answer>,
    bell: UnixStream,
    asleep: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

struct Keeper {
    spool: Spool<Folder>,
    answers: Sender<Answer>,
    bell: UnixStream,
    asleep: Arc<AtomicBool>,
    told: News,
    steps: u64,
    steps_durable: u64,
    waits: bool,
    /// Flushes to be made, and the last step that is in the one under way.
    flushes: Sender<Flush>,
    flight: Option<u64>,
    begun: Instant,
}

impl Log {
    pub fn start(spool: Spool<Folder>) -> Self {
        let (asks, asked) = sync_channel(QUEUE_MAX);
        let (answers, answered) = channel();
        let (bell, rung) = UnixStream::pair().expect("a pair");
        rung.set_nonblocking(true).expect("an option");
        let asleep = Arc::new(AtomicBool::new(false));
        let (flushes, given) = channel::<Flush>();
        let made = asks.clone();
        std::thread::spawn(move || {
            while let Ok(mut flush) = given.recv() {
                flush.make();
                // At its end the log is gone.
                let _ = made.send(Ask::Made(flush));
            }
        });
        let keeper = Keeper {
            spool,
            answers,
            bell,
            asleep: asleep.clone(),
            told: News::default(),
            steps: 0,
            steps_durable: 0,
            waits: true,
            flushes,
            flight: None,
            begun: Instant::now(),
        };
        let thread = std::thread::spawn(|| keeper.run(asked));
        Self { asks, answers: answered, early: None, bell: rung, asleep, thread }
    }

    pub fn ask(&self, what: Ask) {
        self.asks.send(what).expect("the log lives");
    }

    pub fn answer(&mut self) -> Option<Answer> {
        self.early.take().or_else(|| self.answers.try_recv().ok())
    }

    /// What to sleep on until there is an answer; `None`: there is one.
    pub fn sleep(&mut self) -> Option<&UnixStream> {
        self.asleep.store(true, Ordering::SeqCst);
        // One that came before the bell was listened to.
        self.early = self.answer();
        self.early.is_none().then_some(&self.bell)
    }

    pub fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        let _ = (&self.bell).read(&mut [0; 64]);
    }

    pub fn end(self) {
        self.ask(Ask::End);
        self.thread.join().expect("the log ends");
    }
}

impl Keeper {
    fn run(mut self, asked: Receiver<Ask>) {
        self.spool.connected();
        self.keep();
        'all: while let Ok(first) = asked.recv() {
            let mut next = Some(first);
            for _ in 0..BATCH_MAX {
                let Some(ask) = next.take().or_else(|| asked.try_recv().ok()) else { break };
                if matches!(ask, Ask::End) {
                    break 'all;
                }
                self.obey(ask);
            }
            self.keep();
        }
        drop(self.spool.close(now(self.begun)).expect("closes"));
    }

    fn obey(&mut self, ask: Ask) {
        match ask {
            Ask::Read(from) => {
                let (mut entries, mut next) = (Vec::new(), from);
                for _ in 0..READ_PIECES {
                    let count = entries.len();
                    next = self.spool.read(next, READ_BYTES / READ_PIECES, &mut entries).expect("reads");
                    if entries.len() == count {
                        break;
                    }
                    std::thread::yield_now();
                }
                self.spool.pin(next);
                self.tell(Answer::Chunk(entries, next));
            }
            Ask::Steps(what, last) => {
                for step in what {
                    match step {
                        Step::Sent(numbers) => self.spool.sent_all(numbers),
                        Step::Done(numbers) => self.spool.done_all(numbers),
                        Step::Released(number) => {
                            self.spool.released(number);
                            self.waits = true;
                        }
                    }
                }
                self.steps = last;
            }
            Ask::Flush => self.waits = true,
            Ask::Made(flush) => {
                self.spool.end_sync(now(self.begun), flush).expect("flushes");
                self.steps_durable = self.flight.take().expect("was begun");
            }
            Ask::End => {}
        }
    }

    fn keep(&mut self) {
        let now = now(self.begun);
        if self.flight.is_none() && (self.waits || self.spool.wants_sync()) {
            self.waits = false;
            if let Some(flush) = self.spool.begin_sync(now).expect("writes") {
                self.flight = Some(self.steps);
                self.flushes.send(flush).expect("the thread lives");
            }
        } else {
            self.spool.flush_state(now).expect("writes");
        }
        if self.spool.unsynced_since().is_none() {
            self.steps_durable = self.steps;
        }
        let news = News { sendable: self.spool.sendable(), steps_durable: self.steps_durable };
        if news != self.told {
            self.told = news;
            self.tell(Answer::News(news));
        }
    }

    fn tell(&mut self, answer: Answer) {
        // At its end the client is gone.
        let _ = self.answers.send(answer);
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.bell.write_all(&[1]).expect("rings");
        }
    }
}

/// Adds a number to the steps: those that follow one another become one.
pub fn add(steps: &mut Vec<Step>, number: u64, done: bool) {
    let last_two = steps.iter_mut().rev().take(2);
    for step in last_two {
        match step {
            Step::Sent(numbers) if !done && numbers.end == number => return numbers.end += 1,
            Step::Done(numbers) if done && numbers.end == number => return numbers.end += 1,
            _ => {}
        }
    }
    let numbers = number..number + 1;
    steps.push(if done { Step::Done(numbers) } else { Step::Sent(numbers) });
}

/// How long nothing may happen.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);
