//! A bus without an owner: for a look at a device by hand (`probe`, `check --live`), while nobody else uses it.

use std::time::Duration;

use super::frame::Reply;
use super::link::{Fault, Link, Terms};
use super::wire::Framing;
use super::work::read_request;
use super::{Data, Error, READ_BITS_MAX, READ_REGISTERS_MAX, Read, Table};
use crate::config::Bus;

/// One connection to a bus, which asks when it is told to.
pub struct Line {
    bus: Bus,
    link: Option<Link>,
}

impl Line {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`Error::Link`] where the bus can't be reached within its time-out.
    pub async fn open(bus: &Bus) -> Result<Self, Error> {
        let mut line = Self { bus: bus.clone(), link: None };
        line.connect(bus.defaults.timeout).await?;
        Ok(line)
    }

    async fn connect(&mut self, limit: Duration) -> Result<&mut Link, Error> {
        let link = match self.link.take() {
            Some(link) => link,
            None => {
                let framing = Framing::of(&self.bus.url, self.bus.check_transaction);
                let opened = Link::open(&self.bus.url, framing, limit, self.bus.pause_connect).await;
                opened.map_err(Error::Link)?
            }
        };
        Ok(self.link.insert(link))
    }

    /// Reads once; asks as often as the bus's `retries` say. After an error the next call connects anew.
    pub async fn read(&mut self, unit: u8, read: Read) -> Result<Data, Error> {
        let most = if read.table.is_bits() { READ_BITS_MAX } else { READ_REGISTERS_MAX };
        if !read.is_possible() || read.count > most {
            return Err(Error::Invalid(format!("a request reads 1 to {most} of a table's 65536")));
        }
        let settings = self.bus.unit(unit).clone();
        let terms = Terms { timeout: settings.timeout, pause: settings.pause };
        let mut last = Error::Timeout;
        for _ in 0..=settings.retries {
            let link = self.connect(settings.timeout).await?;
            match link.exchange(unit, &read_request(read), terms).await {
                Ok(Reply::Data(data)) => return Ok(data),
                Ok(Reply::Exception(code)) => return Err(Error::Exception(code)),
                Ok(Reply::Written) => last = Fault::Broken("a reply to something else".into()).error(),
                Err(fault) => last = fault.error(),
            }
            self.link = None;
        }
        Err(last)
    }
}

/// Asks a unit for one address, and says in words for people what it answered. A refusal is an answer as well, unless it is a
/// gateway's that has found nobody.
///
/// # Errors
///
/// What is in the way.
pub async fn probe(line: &mut Line, unit: u8, table: Table, address: u16) -> Result<String, Error> {
    let place = format!("{}:{address}", table.word());
    match line.read(unit, Read { table, first: address, count: 1 }).await {
        Ok(Data::Registers(words)) => Ok(format!("answers, {place} is {}", words.first().copied().unwrap_or_default())),
        Ok(Data::Bits(bits)) => Ok(format!("answers, {place} is {}", bits.first().copied().unwrap_or_default())),
        Err(Error::Exception(code @ 1..=9)) => Ok(format!("answers exception {code} to {place}")),
        Err(error) => Err(error),
    }
}
