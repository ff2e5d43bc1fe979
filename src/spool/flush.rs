//! Flushes: made here while the caller waits, or begun here and made elsewhere while the spool goes on.
//!
//! ```text
//!   begin_sync: all is written, what stands in the segment is noted ──▶ the flush, on another thread
//!      │ appends, reads, acknowledgements go on, from the next page on               │
//!      └──────────────────────── end_sync: what was noted is durable ◀───────────────┘
//! ```
//!
//! Owns [`Flight`]. Invariants: one flush at most is under way; it makes nothing durable that was written after it began; what
//! was flushed as a whole, sealed, or set aside meanwhile takes nothing from it; a session that began meanwhile neither.

use std::time::Duration;

use super::core::{Mark, Spool};
use super::format::page_up;
use super::pool::Slot;
use super::sabotage::{self, Fault};
use super::state::WINDOW;
use super::storage::{Deferred, Storage};
use super::types::{Error, Now};
use super::write::UNSYNCED_MAX;

/// A flush that is under way, and what is durable after it.
#[derive(Debug)]
pub(super) struct Flight {
    /// The segment's number and its file.
    segment: u64,
    slot: Slot,
    /// All of it up to this offset.
    end: u32,
    /// All numbers below.
    below: u64,
    pub(super) mark: Mark,
    /// The state frames of this life.
    states_written: u64,
    /// Since when somebody has waited for it.
    urgent_since: Option<Duration>,
    /// Why not all could be written before.
    written: Result<(), Error>,
    /// The segment was set aside meanwhile.
    pub(super) lost: bool,
}

impl<S: Storage> Spool<S> {
    /// When the oldest thing was appended that a caller waits for and that is not durable; late `done`s don't count.
    pub fn unsynced_since(&self) -> Option<Duration> {
        let flight = self.flight.as_ref().and_then(|flight| flight.urgent_since);
        flight.into_iter().chain(self.urgent_since).min()
    }

    /// Makes all that was done so far durable: records, gaps, state, values. After an error the spool works in memory
    /// and comes back by itself with later calls. A record that was handed out and for which there is no room waits in
    /// memory meanwhile: that is no error, but numbers are durable below [`Self::durable`] only.
    pub fn sync(&mut self, now: Now) -> Result<(), Error> {
        self.now = now;
        self.state_dirty |= self.wants_lease();
        let flushed = self.flush_state(now);
        if self.active.is_some() {
            self.sync_active()?;
        }
        flushed?;
        if !self.state_dirty {
            self.urgent_since = None;
            self.flight.iter_mut().for_each(|flight| flight.urgent_since = None);
        }
        Ok(())
    }

    /// A flush made now holds nobody up: half of what may be sent, or may wait for a flush, is used up.
    pub fn wants_sync(&self) -> bool {
        self.wants_lease() || (self.active.is_some() && self.pending.bytes() > UNSYNCED_MAX / 2)
    }

    /// A state written now would allow as much again as is left to send.
    fn wants_lease(&self) -> bool {
        let ahead = self.lease_ahead();
        let window = self.state.delivery.done_below().saturating_add(WINDOW);
        ahead > 0 && self.active.is_some() && self.lease().min(window) > self.allowed().saturating_add(ahead / 2)
    }

    /// Flushes the active segment: all that is written in it is durable then.
    pub(super) fn sync_active(&mut self) -> Result<(), Error> {
        let Some(active) = self.active.as_mut() else { return Err(self.trouble_error()) };
        // A flush costs whole pages, however little is in them.
        let written = page_up(active.used()).saturating_sub(active.durable_offset());
        if active.is_dirty()
            && let Err(error) = active.sync(&mut self.storage)
        {
            if sabotage::on(Fault::TrustFailedSync) {
                return Err(error.into());
            }
            self.fail(error.clone());
            return Err(error.into());
        }
        self.now_durable();
        self.go_on_packing(written)
    }

    fn go_on_packing(&mut self, written: u32) -> Result<(), Error> {
        self.pack_on(written).map_err(|error| {
            self.fail(error.clone());
            error.into()
        })
    }

    /// Everything written is durable.
    pub(super) fn now_durable(&mut self) {
        self.pending.drop_written(u64::MAX);
        self.durable_mark = self.written_mark;
        if !self.state_dirty {
            self.collect(u64::MAX);
        }
    }
}

impl<S: Deferred> Spool<S> {
    /// Begins what [`Self::sync`] does: writes all, and gives the flush that is to be made, then handed to
    /// [`Self::end_sync`]. Everything goes on meanwhile. `None`: there is nothing to flush, or a flush is under way.
    pub fn begin_sync(&mut self, now: Now) -> Result<Option<S::Flush>, Error> {
        self.now = now;
        self.state_dirty |= self.wants_lease();
        let written = self.flush_state(now);
        let below = self.unwritten_first();
        let Some(active) = self.active.as_mut().filter(|_| self.flight.is_none()) else {
            return written.map(|()| None);
        };
        let is_whole = written.is_ok() && !self.state_dirty;
        if !active.wants_flush() {
            self.now_durable();
            self.urgent_since = self.urgent_since.filter(|_| !is_whole);
            return written.map(|()| None);
        }
        let flush = match active.begin_flush(&mut self.storage) {
            Ok(flush) => flush,
            Err(error) => {
                self.fail(error.clone());
                return Err(error.into());
            }
        };
        self.flight = Some(Flight {
            segment: active.header.number,
            slot: active.slot,
            end: page_up(active.used()),
            below,
            mark: self.written_mark,
            states_written: self.states_written,
            urgent_since: if is_whole { self.urgent_since.take() } else { None },
            written,
            lost: false,
        });
        if sabotage::on(Fault::FlushAhead) {
            self.now_durable();
        }
        Ok(Some(flush))
    }

    /// A flush that was begun has been made, or failed. As with [`Self::sync`], an error leaves a spool that works in memory.
    pub fn end_sync(&mut self, now: Now, flush: S::Flush) -> Result<(), Error> {
        self.now = now;
        let outcome = self.storage.end_flush(flush);
        let Some(flight) = self.flight.take() else { return Ok(()) };
        let failed = match outcome {
            Err(error) if self.active.as_ref().is_some_and(|active| active.slot == flight.slot) => {
                if !sabotage::on(Fault::TrustFailedSync) {
                    self.fail(error.clone());
                }
                Some(error.into())
            }
            _ => flight.lost.then(|| self.trouble_error()),
        };
        if let Some(error) = failed {
            // Somebody still waits for what it was begun for.
            self.urgent_since = flight.urgent_since.into_iter().chain(self.urgent_since).min();
            return Err(error);
        }
        let active = self.active.as_mut().filter(|active| active.header.number == flight.segment);
        let bytes = active.map_or(0, |active| active.flushed(flight.end));
        if bytes > 0 {
            self.made_durable(&flight);
            self.go_on_packing(bytes)?;
        }
        flight.written
    }

    fn made_durable(&mut self, flight: &Flight) {
        if sabotage::on(Fault::FlushTakesAll) {
            return self.now_durable();
        }
        self.pending.drop_written(flight.below);
        self.durable_mark = flight.mark;
        // A state that was written since is not durable yet: what is below the mark of this one is done in both.
        let as_it_stands = !self.state_dirty && self.states_written == flight.states_written;
        self.collect(if as_it_stands { u64::MAX } else { flight.mark.done_below });
    }
}
