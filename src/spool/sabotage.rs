//! Faults put into the spool on purpose, so that the crash replay can show that it finds each of them.
//!
//! Owns one switch a thread in tests; elsewhere no fault is ever on, and the compiler leaves the places out.

/// A way in which the spool could be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No fdatasync of what is written.
    NoSync,
    /// A new file's name is not made durable.
    NoFolderSync,
    /// The CRC is not seeded with the salt.
    CrcUnsalted,
    /// What is done frees its segment before that is durable.
    DoneAheadOfData,
    /// A segment that is dropped is used again before its gap is durable.
    DropAheadOfGap,
    /// The page that opens a run is not flushed.
    BootNotDurable,
    /// A new run goes on with the salt of the one before.
    NoFreshSalt,
    /// Good pages behind a torn one are kept.
    TailKept,
    /// The state frame says what was sent, not what may have been sent by the time it counts.
    NoLease,
    /// Retention drops what is in flight.
    NotPinned,
    /// A refusal's gap comes in a later frame than the refusal.
    GapAfterRefusal,
    /// A gap is forgotten with the segment that it was in.
    GapForgotten,
    /// A segment opens without the state.
    NoOpening,
    /// A segment is begun before the one before it is durable.
    SealNotSynced,
    /// After a failed flush the same segment goes on.
    TrustFailedSync,
    /// More files are made than fit.
    OverBudget,
    /// PUBREC is not in the state.
    ReleasedForgotten,
    /// Values are written once, not with every segment.
    ValuesOnce,
    /// Segments are freed before their packed copy is durable.
    PackNotSynced,
    /// Packing leaves out gaps.
    PackLosesGaps,
    /// A commit is added to a page that is durable already.
    PageWrittenTwice,
    /// What a flush was begun for counts as durable before it is made.
    FlushAhead,
    /// A flush counts for what was written after it was begun.
    FlushTakesAll,
    /// A flush that was begun in an earlier session allows the new one to send.
    FlushOfOldSession,
    /// A state that is written while a flush is under way allows less than what is being flushed.
    FlushForgotten,
}

/// Whether this fault is put in.
#[cfg(not(test))]
pub(crate) const fn on(_: Fault) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static FAULT: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Whether this fault is put in.
#[cfg(test)]
pub(crate) fn on(fault: Fault) -> bool {
    FAULT.get() == Some(fault)
}

/// Puts a fault into this thread's spools, or takes it out.
#[cfg(test)]
pub(crate) fn set(fault: Option<Fault>) {
    FAULT.set(fault);
}
