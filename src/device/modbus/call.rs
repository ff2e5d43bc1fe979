//! What somebody asks of a unit, and how far the asking has come: a round of reads (src/modbus), or a write.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Data, Error, READ_BITS_MAX, READ_REGISTERS_MAX, Write};
use crate::config::UnitSettings;
use crate::modbus::{self, Limits, Planner, Read, Round};

/// What is asked of one unit.
#[derive(Clone, Debug)]
pub struct Call {
    /// The unit.
    pub unit: u8,
    /// A shorter time-out than the bus has.
    pub timeout: Option<Duration>,
    /// What is not answered after so long is [`Error::Busy`].
    pub within: Duration,
    /// Reads, or a write.
    pub what: What,
}

/// Reads, or a write.
#[derive(Clone, Debug)]
pub enum What {
    /// Each has its own result.
    Read(Arc<[Read]>),
    /// With what stood there before, or what stands there afterwards.
    Write {
        /// What.
        write: Write,
        /// Read what is there first.
        before: bool,
        /// Read it back.
        verify: bool,
    },
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// In the order of the reads.
    Read(Vec<Result<Data, Error>>),
    /// Of the write.
    Write(Result<Written, Error>),
}

/// What a write replaced, and what was read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// `None` where it was not asked for, or could not be read.
    pub before: Option<Data>,
    /// `None` where it was not asked for, or could not be read.
    pub after: Option<Data>,
}

/// What a call cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests on the bus.
    pub requests: u64,
    /// Those without an answer in time.
    pub timeouts: u64,
    /// Those that the device refused.
    pub exceptions: u64,
    /// From the last request to its answer.
    pub last_rtt: Duration,
}

impl Call {
    /// The answer where nothing can be asked.
    pub(super) fn nothing(&self, error: &Error) -> Answer {
        match &self.what {
            What::Read(reads) => Answer::Read(reads.iter().map(|_| Err(error.clone())).collect()),
            What::Write { .. } => Answer::Write(Err(error.clone())),
        }
    }
}

/// What a unit takes in one request.
pub(super) fn limits(settings: &UnitSettings) -> Limits {
    Limits {
        registers: settings.max_registers.clamp(1, READ_REGISTERS_MAX),
        bits: READ_BITS_MAX,
        gaps: settings.read_gaps,
    }
}

/// A call that waits in a queue, or is under way.
pub(super) struct Pending {
    /// Distinguishes the calls of a bus.
    pub id: u64,
    /// Who asks.
    pub source: Arc<str>,
    pub call: Call,
    /// When it is given up.
    pub deadline: Instant,
    pub tally: Tally,
    /// Attempts that the present request has had.
    pub attempts: u8,
    /// Something of it is under way.
    pub under_way: bool,
    reply: Option<oneshot::Sender<(Answer, Tally)>>,
    round: Option<Round<Error>>,
}

impl Pending {
    /// Has not begun.
    pub(super) fn new(source: Arc<str>, call: Call, now: Instant, reply: oneshot::Sender<(Answer, Tally)>) -> Self {
        Self {
            id: 0,
            source,
            deadline: now + call.within,
            call,
            tally: Tally::default(),
            attempts: 0,
            under_way: false,
            reply: Some(reply),
            round: None,
        }
    }

    /// Nobody waits for the answer any more, or it has been given.
    pub(super) fn is_over(&self) -> bool {
        self.reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// What to read now; the same again until it is answered. `None`: that was all.
    pub(super) fn next_read(&mut self, planner: &Planner, limits: Limits, now: Duration) -> Option<Read> {
        let What::Read(wanted) = &self.call.what else { return None };
        self.round.get_or_insert_with(|| planner.round(Arc::clone(wanted), limits, now)).ask()
    }

    /// What came of the read that [`Pending::next_read`] gave.
    pub(super) fn answered(&mut self, planner: &mut Planner, answer: modbus::Answer<Error>, now: Duration) {
        self.attempts = 0;
        if let Some(round) = &mut self.round {
            round.answered(planner, answer, now);
        }
    }

    /// The end of reads: what has no answer yet gets `otherwise`.
    pub(super) fn finish(&mut self, planner: &mut Planner, otherwise: &Error, now: Duration) {
        let Some(mut round) = self.round.take() else { return self.answer(self.call.nothing(otherwise)) };
        if round.ask().is_some() {
            round.answered(planner, modbus::Answer::Failed(otherwise.clone()), now);
        }
        let answers = round.finish().into_iter().map(|answer| match answer {
            modbus::Answer::Data(data) => Ok(data),
            modbus::Answer::Exception(code) => Err(Error::Exception(code)),
            modbus::Answer::Failed(error) => Err(error),
        });
        let answers = answers.collect();
        self.answer(Answer::Read(answers));
    }

    /// Answers. Whoever asked may be gone.
    pub(super) fn answer(&mut self, answer: Answer) {
        if let Some(reply) = self.reply.take() {
            drop(reply.send((answer, self.tally)));
        }
    }
}
