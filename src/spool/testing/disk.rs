//! The simulated disk of the crash replay: before or after each operation the power is cut, and what comes up again is
//! looked at. Tests only.

use std::cell::RefCell;
use std::rc::Rc;

use super::model::Model;
use super::pick;
use super::sim::{SURVIVALS, Sim, SimFlush};
use super::verify::verify;
use crate::spool::core::Rng;
use crate::spool::*;

/// What a workload shares with its disk.
pub(super) struct Shared {
    pub(super) sim: Sim,
    pub(super) model: Model,
    pub(super) options: Options,
    pub(super) rng: Rng,
    pub(super) now: Now,
    /// Cuts so far.
    pub(super) points: u64,
}

/// A handle on it.
#[derive(Clone)]
pub(super) struct Disk(pub(super) Rc<RefCell<Shared>>);

impl Shared {
    /// Cuts the power here, in one of the ways, and looks at what comes up again.
    fn cut(&mut self) {
        self.points += 1;
        let survival = pick(&mut self.rng, &SURVIVALS);
        let after = self.sim.after_cut(survival, self.rng.next());
        verify(after, &self.model, &self.options, self.now, &mut self.rng);
    }
}

impl Disk {
    fn run<T>(
        &self,
        before: bool,
        operation: impl FnOnce(&mut Sim) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut shared = self.0.borrow_mut();
        if before {
            shared.cut();
        }
        let result = operation(&mut shared.sim);
        if !before {
            shared.cut();
        }
        result
    }
}

impl Storage for Disk {
    fn list(&mut self) -> Result<Vec<FileInfo>, StorageError> {
        self.0.borrow_mut().sim.list()
    }
    fn create(&mut self, name: &str, size: u64) -> Result<(), StorageError> {
        self.run(false, |sim| sim.create(name, size))
    }
    fn read(&mut self, name: &str, offset: u64, into: &mut [u8]) -> Result<usize, StorageError> {
        self.0.borrow_mut().sim.read(name, offset, into)
    }
    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.run(false, |sim| sim.write(name, offset, bytes))
    }
    fn sync(&mut self, name: &str) -> Result<(), StorageError> {
        self.run(true, |sim| sim.sync(name))
    }
    fn sync_folder(&mut self) -> Result<(), StorageError> {
        self.run(true, Sim::sync_folder)
    }
    fn rename(&mut self, from: &str, to: &str) -> Result<(), StorageError> {
        self.run(false, |sim| sim.rename(from, to))
    }
    fn remove(&mut self, name: &str) -> Result<(), StorageError> {
        self.run(false, |sim| sim.remove(name))
    }
}

impl Deferred for Disk {
    type Flush = SimFlush;

    fn begin_flush(&mut self, name: &str) -> Result<SimFlush, StorageError> {
        self.0.borrow_mut().sim.begin_flush(name)
    }
    fn end_flush(&mut self, flush: SimFlush) -> Result<(), StorageError> {
        self.run(true, |sim| sim.end_flush(flush))
    }
}
