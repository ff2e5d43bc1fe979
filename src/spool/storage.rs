//! The disk as the spool sees it: a folder of files that are written at offsets and flushed by name.
//!
//! Owns no state. `os::files` implements it on real files, `spool::sim` on memory with a model of what a power cut
//! leaves. Invariants that the spool relies on: after `sync(name)` returned `Ok`, the file's bytes survive a power
//! cut if its name does; after `sync_folder` returned `Ok`, the names do. Nothing else is durable, and what is not
//! may be lost, torn at 512 bytes, or reordered.

/// A file of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name, without a path.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
}

/// What the spool asks of a disk. Names are plain file names made by the spool.
pub trait Storage {
    /// The regular files of the folder, in any order.
    fn list(&mut self) -> Result<Vec<FileInfo>, StorageError>;
    /// Makes a file of `size` zero bytes whose blocks are allocated and written, so that filling it costs no metadata.
    /// Fails with [`StorageErrorKind::Exists`] if the name is taken. On an error nothing is left behind if possible.
    fn create(&mut self, name: &str, size: u64) -> Result<(), StorageError>;
    /// Fills `into` from `offset`; gives how many bytes there were before the end of the file.
    fn read(&mut self, name: &str, offset: u64, into: &mut [u8]) -> Result<usize, StorageError>;
    /// Writes all of `bytes` at `offset` (to the page cache).
    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), StorageError>;
    /// Makes the bytes of a file durable. After an error the file's content since the last success is unknown.
    fn sync(&mut self, name: &str) -> Result<(), StorageError>;
    /// Makes names durable: what was created, renamed and removed.
    fn sync_folder(&mut self) -> Result<(), StorageError>;
    /// Gives a file another name; a file that had it is gone.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), StorageError>;
    /// Removes a file.
    fn remove(&mut self, name: &str) -> Result<(), StorageError>;
}

/// A disk whose flushes may be made elsewhere, on another thread, while it is written on.
pub trait Deferred: Storage {
    /// A flush that was begun.
    type Flush;
    /// Begins to make durable what was written in a file before; what is written later is not promised with it.
    fn begin_flush(&mut self, name: &str) -> Result<Self::Flush, StorageError>;
    /// How it went; makes it now if nobody did. An error means the same as one of [`Storage::sync`], which meanwhile never
    /// says `Ok` to what this flush was refused.
    fn end_flush(&mut self, flush: Self::Flush) -> Result<(), StorageError>;
}

/// What kind of trouble a disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageErrorKind {
    /// No space left, or the quota is used up.
    Full,
    /// The file system refuses writes.
    ReadOnly,
    /// Rights are missing.
    Denied,
    /// There is no such file.
    NotFound,
    /// The name is taken.
    Exists,
    /// The device failed.
    Io,
}

/// A disk's refusal, with what was tried and the system's own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation} {name}: {message}")]
pub struct StorageError {
    /// What kind of trouble.
    pub kind: StorageErrorKind,
    /// What was tried: `write`, `sync` ...
    pub operation: &'static str,
    /// On which file.
    pub name: String,
    /// The system's words.
    pub message: String,
}

impl StorageError {
    /// A refusal of `operation` on `name`.
    pub fn new(kind: StorageErrorKind, operation: &'static str, name: &str, message: impl Into<String>) -> Self {
        Self { kind, operation, name: name.to_owned(), message: message.into() }
    }
}
