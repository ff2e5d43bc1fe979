//! One piece of work on a bus: a read request, or a write with what belongs to it, over a link that is there or is made.
//!
//! A read whose connection turns out to have ended is made once more over a new one: gateways close what is idle. A
//! write is sent once.

use std::sync::Arc;
use std::time::Duration;

use tokio_modbus::Request;

use super::call::{Tally, Written};
use super::frame::Reply;
use super::link::{Fault, Link, Terms, now};
use super::wire::{Dial, Framing};
use super::{Data, Error, READ_REGISTERS_MAX, Read, Table, Write};
use crate::config::{UnitSettings, WriteFunctions};

/// What is to be done.
pub(super) struct Job {
    /// Of this call.
    pub call: u64,
    pub unit: u8,
    pub settings: UnitSettings,
    pub timeout: Duration,
    pub task: Task,
    /// If it fails, the unit has failed.
    pub last_attempt: bool,
    /// What the unit is left alone for after it has failed.
    pub rest: Duration,
}

/// See [`Job`].
pub(super) enum Task {
    Read(Read),
    Write { write: Write, before: bool, verify: bool },
}

/// What a job came to.
pub(super) struct Done {
    /// Sound, and ready for the next.
    pub link: Option<Link>,
    pub job: Job,
    pub outcome: Outcome,
    pub costs: Costs,
}

/// See [`Done`].
pub(super) enum Outcome {
    /// Data or an exception.
    Read(Reply),
    /// Of the writing itself.
    Written(Result<Written, Fault>),
    /// A read without a sound reply.
    Failed(Fault),
    /// There was no connection.
    NoLink(String),
}

/// What it cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Costs {
    pub requests: u64,
    pub timeouts: u64,
    pub exceptions: u64,
    pub connects: u64,
    pub last_rtt: Duration,
}

impl Costs {
    pub(super) fn add_to(&self, tally: &mut Tally) {
        tally.requests += self.requests;
        tally.timeouts += self.timeouts;
        tally.exceptions += self.exceptions;
        tally.last_rtt = self.last_rtt;
    }
}

impl Fault {
    /// As whoever asked is told.
    pub(super) fn error(&self) -> Error {
        match self {
            Fault::Timeout => Error::Timeout,
            Fault::Stale | Fault::Closed => Error::Link("the device closed the connection".into()),
            Fault::Broken(what) => Error::Link(what.clone()),
            Fault::Exception(code) => Error::Exception(*code),
        }
    }
}

/// Does it.
pub(super) async fn work(link: Option<Link>, terms: (Arc<dyn Dial>, Framing, Duration), job: Job) -> Done {
    let mut worker = Worker { link, terms, costs: Costs::default() };
    let outcome = worker.run(&job).await;
    let is_broken = match &outcome {
        Outcome::Read(_) | Outcome::Written(Ok(_) | Err(Fault::Exception(_))) => false,
        Outcome::Failed(_) | Outcome::NoLink(_) | Outcome::Written(Err(_)) => true,
    };
    let link = worker.link.take().filter(|_| !is_broken);
    Done { link, job, outcome, costs: worker.costs }
}

struct Worker {
    link: Option<Link>,
    terms: (Arc<dyn Dial>, Framing, Duration),
    costs: Costs,
}

impl Worker {
    async fn run(&mut self, job: &Job) -> Outcome {
        if let Err(why) = self.connect(job).await {
            return Outcome::NoLink(why);
        }
        match &job.task {
            Task::Read(read) => self.read(job, *read).await,
            Task::Write { write, before, verify } => match self.write(job, write, *before, *verify).await {
                Ok(written) => Outcome::Written(written),
                Err(why) => Outcome::NoLink(why),
            },
        }
    }

    async fn connect(&mut self, job: &Job) -> Result<(), String> {
        if self.link.is_none() {
            let (dial, framing, pause) = &self.terms;
            self.link = Some(Link::open(dial.as_ref(), *framing, job.settings.timeout, *pause).await?);
            self.costs.connects += 1;
        }
        Ok(())
    }

    async fn read(&mut self, job: &Job, read: Read) -> Outcome {
        let request = read_request(read);
        let was_used = self.link.as_ref().is_some_and(|link| link.replies > 0);
        let mut result = self.exchange(job, &request).await;
        if was_used && matches!(result, Err(Fault::Stale | Fault::Closed)) {
            self.link = None;
            if let Err(why) = self.connect(job).await {
                return Outcome::NoLink(why);
            }
            result = self.exchange(job, &request).await;
        }
        match result {
            Ok(reply) => Outcome::Read(reply),
            Err(fault) => Outcome::Failed(fault),
        }
    }

    /// `Err`: there is no connection.
    async fn write(
        &mut self,
        job: &Job,
        write: &Write,
        before: bool,
        verify: bool,
    ) -> Result<Result<Written, Fault>, String> {
        let Some(place) = write.place() else {
            return Ok(Err(Fault::Broken("nothing, or more than one request can write".into())));
        };
        let mut written = Written::default();
        if before {
            written.before = match self.read_whole(job, place).await {
                Ok(data) => data,
                // What can't be reached can't be written either.
                Err(fault) => return Ok(Err(fault)),
            };
        }
        for request in write_requests(write, &job.settings) {
            let was_used = self.link.as_ref().is_some_and(|link| link.replies > 0);
            let mut result = self.exchange(job, &request).await;
            if was_used && matches!(result, Err(Fault::Stale)) {
                // Nothing was sent yet.
                self.link = None;
                self.connect(job).await?;
                result = self.exchange(job, &request).await;
            }
            match result {
                Ok(Reply::Written) => {}
                Ok(Reply::Exception(code)) => return Ok(Err(Fault::Exception(code))),
                Ok(Reply::Data(_)) => return Ok(Err(Fault::Broken("a reply to something else".into()))),
                Err(fault) => return Ok(Err(fault)),
            }
        }
        if verify {
            written.after = self.read_whole(job, place).await.unwrap_or_else(|_| {
                self.link = None;
                None
            });
        }
        Ok(Ok(written))
    }

    /// Everything in `place`, in as many requests as the unit wants. `None`: the device refuses.
    async fn read_whole(&mut self, job: &Job, place: Read) -> Result<Option<Data>, Fault> {
        let most =
            if place.table.is_bits() { u16::MAX } else { job.settings.max_registers.clamp(1, READ_REGISTERS_MAX) };
        let (mut bits, mut words) = (Vec::new(), Vec::new());
        let mut offset = 0;
        while offset < place.count {
            let count = most.min(place.count - offset);
            let read = Read { table: place.table, first: place.first.saturating_add(offset), count };
            match self.read(job, read).await {
                Outcome::Read(Reply::Data(Data::Bits(more))) => bits.extend(more),
                Outcome::Read(Reply::Data(Data::Registers(more))) => words.extend(more),
                Outcome::Failed(fault) => return Err(fault),
                Outcome::NoLink(why) => return Err(Fault::Broken(why)),
                _ => return Ok(None),
            }
            offset += count;
        }
        Ok(Some(if place.table.is_bits() { Data::Bits(bits) } else { Data::Registers(words) }))
    }

    async fn exchange(&mut self, job: &Job, request: &Request<'_>) -> Result<Reply, Fault> {
        let Some(link) = &mut self.link else { return Err(Fault::Stale) };
        self.costs.requests += 1;
        let asked = now();
        let result = link.exchange(job.unit, request, Terms { timeout: job.timeout, pause: job.settings.pause }).await;
        self.costs.last_rtt = now().saturating_duration_since(asked);
        self.costs.timeouts += u64::from(result == Err(Fault::Timeout));
        self.costs.exceptions += u64::from(matches!(result, Ok(Reply::Exception(_))));
        result
    }
}

/// Functions 1 to 4.
pub(super) const fn read_request(read: Read) -> Request<'static> {
    match read.table {
        Table::Coil => Request::ReadCoils(read.first, read.count),
        Table::Discrete => Request::ReadDiscreteInputs(read.first, read.count),
        Table::Holding => Request::ReadHoldingRegisters(read.first, read.count),
        Table::Input => Request::ReadInputRegisters(read.first, read.count),
    }
}

/// Functions 5 and 6, a request a value; or 15 and 16, as many registers a request as the unit takes; or 22.
pub(super) fn write_requests(write: &Write, settings: &UnitSettings) -> Vec<Request<'static>> {
    let at = |first: u16, offset: usize| first.saturating_add(u16::try_from(offset).unwrap_or(u16::MAX));
    match (write, settings.write) {
        (Write::Mask(address, and, or), _) => vec![Request::MaskWriteRegister(*address, *and, *or)],
        (Write::Coils(first, values), WriteFunctions::Single) => {
            let each = values.iter().enumerate();
            each.map(|(offset, on)| Request::WriteSingleCoil(at(*first, offset), *on)).collect()
        }
        (Write::Registers(first, values), WriteFunctions::Single) => {
            let each = values.iter().enumerate();
            each.map(|(offset, word)| Request::WriteSingleRegister(at(*first, offset), *word)).collect()
        }
        (Write::Coils(first, values), WriteFunctions::Multiple) => {
            vec![Request::WriteMultipleCoils(*first, values.clone().into())]
        }
        (Write::Registers(first, values), WriteFunctions::Multiple) => {
            let most = usize::from(settings.max_registers.max(1));
            let each = values.chunks(most).enumerate();
            each.map(|(n, words)| Request::WriteMultipleRegisters(at(*first, n * most), words.to_vec().into()))
                .collect()
        }
    }
}
