//! Other limits while the spool works.
//!
//! Owns nothing. Invariants: a lower limit holds when the call returns, as far as what is in flight and the disk allow;
//! what goes for it is named by gaps; a higher one is filled as it is needed.

use super::core::Spool;
use super::pool::RESERVE;
use super::storage::Storage;
use super::types::{Error, Limits, Now};

impl<S: Storage> Spool<S> {
    /// Changes the limits. Segments of the size that fits the new ones come with the next segment.
    pub fn set_limits(&mut self, now: Now, limits: Limits) -> Result<(), Error> {
        self.now = now;
        let resized = limits.max_size != self.options.max_size;
        self.options.max_age = limits.max_age;
        self.options.when_full = limits.when_full;
        self.options.max_size = limits.max_size;
        if resized {
            self.pool.resize(limits.max_size);
            self.shrink(now)?;
        }
        self.retain(now)
    }

    /// Brings the files within the limit.
    fn shrink(&mut self, now: Now) -> Result<(), Error> {
        self.sync(now)?;
        let fitted = self.fit();
        if let Err(error) = fitted {
            self.fail(error.clone());
            return Err(error.into());
        }
        self.mark_reserve();
        self.sync(now)
    }

    fn fit(&mut self) -> Result<(), super::storage::StorageError> {
        self.make_room()?;
        self.pool.purge(&mut self.storage)?;
        let other_size =
            |spool: &Self| spool.active.as_ref().is_some_and(|active| active.slot.size != spool.pool.segment_size());
        if other_size(self) && self.pool.over_budget() {
            // The one that is written is too large itself, and the reserve with it: from the largest to the right size.
            for _ in 0..RESERVE + 1 {
                if !self.roll(false)? {
                    break;
                }
                self.make_room()?;
                self.pool.purge(&mut self.storage)?;
                if !other_size(self) {
                    break;
                }
            }
        }
        self.pool.fill_reserve(&mut self.storage, RESERVE)
    }
}
