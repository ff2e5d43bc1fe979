//! Faults put into the spool on purpose, so that the crash replay can show that it finds them. Tests only.

use std::cell::Cell;

/// A way in which the spool could be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No fdatasync.
    NoSync,
    /// New files' names are not made durable.
    NoFolderSync,
    /// Frames of another life of a page pass.
    CrcUnsalted,
}

thread_local! {
    static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Whether this fault is put in.
pub(crate) fn on(fault: Fault) -> bool {
    FAULT.get() == Some(fault)
}

/// Puts a fault into this thread's spools, or takes it out.
pub(crate) fn set(fault: Option<Fault>) {
    FAULT.set(fault);
}
