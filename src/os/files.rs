//! The spool's [`Storage`] on real files: one folder, held by one process.
//!
//! Owns the folder's handle with its lock, and a few open files. Invariants: only plain names within the folder are
//! touched; while a [`Folder`] lives, no other process opens the same folder; a file that was made is full of written
//! zeros, so that filling it costs the file system no metadata.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

use crate::spool::{Deferred, FileInfo, Storage, StorageError, StorageErrorKind};

/// Files that are held open at once.
const OPEN_MAX: usize = 16;
/// Zeros are written in pieces of this size.
const ZEROS: usize = 256 * 1024;
/// Where the holder's process id stands.
const LOCK_NAME: &str = "lock";

/// Why a folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process has it.
    #[error("{} is in use: {}", path.display(), holder(*pid))]
    Held {
        /// The folder.
        path: PathBuf,
        /// The process, if its id can be read.
        pid: Option<u32>,
    },
    /// It is a file, or something else.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// It can't be made, opened or locked.
    #[error("{}: {error}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        error: std::io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process holds it".to_owned(), |pid| format!("process {pid} holds it"))
}

/// A folder that this process alone writes in.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    handle: File,
    /// Used last at the end.
    open: Vec<(String, File)>,
    /// What flushes are begun on, and of which file.
    flushing: Flushing,
}

/// A file of its own for flushes: the kernel says once to each open file that it could not write, so that whoever flushes
/// beside has no other's answer taken away.
#[derive(Debug, Default)]
enum Flushing {
    #[default]
    None,
    UnderWay(String),
    Over(String, File),
}

impl Flushing {
    fn name(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::UnderWay(name) | Self::Over(name, _) => Some(name),
        }
    }
}

/// A flush that was begun. Whoever has it makes it, on any thread.
#[derive(Debug)]
pub struct Flush {
    file: File,
    name: String,
    outcome: Option<Result<(), StorageError>>,
}

impl Flush {
    /// Makes it; returns when the disk has answered.
    pub fn make(&mut self) {
        let (file, name) = (&self.file, &self.name);
        self.outcome.get_or_insert_with(|| flush(file, name));
    }
}

fn flush(file: &File, name: &str) -> Result<(), StorageError> {
    file.sync_data().map_err(|error| refusal("sync", name, &error))
}

impl Folder {
    /// Makes the folder if it is not there, and locks it. The lock ends with the process, however it ends.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let failed = |error| FolderError::Io { path: path.to_owned(), error };
        if !path.exists() {
            DirBuilder::new().recursive(true).mode(0o750).create(path).map_err(|error| match error.kind() {
                ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                    FolderError::NotAFolder { path: path.to_owned() }
                }
                _ => failed(error),
            })?;
        }
        if !path.is_dir() {
            return Err(FolderError::NotAFolder { path: path.to_owned() });
        }
        let handle = File::open(path).map_err(failed)?;
        // The lock is on the folder itself: it holds on a full and on a read-only disk, and no one can delete it.
        match rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(FolderError::Held { path: path.to_owned(), pid: read_pid(path) });
            }
            Err(error) => return Err(failed(error.into())),
        }
        // A disk that refuses this is no reason to stay away: the holder is only harder to name.
        let _ = write_pid(path);
        Ok(Self { path: path.to_owned(), handle, open: Vec::new(), flushing: Flushing::None })
    }

    /// The process that holds a folder, if one does.
    pub fn holder(path: &Path) -> Option<u32> {
        let handle = File::open(path).ok()?;
        match rustix::fs::flock(&handle, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => read_pid(path),
            _ => None,
        }
    }

    fn file(&mut self, operation: &'static str, name: &str) -> Result<&File, StorageError> {
        if self.open.last().is_none_or(|(known, _)| known != name) {
            self.use_file(operation, name)?;
        }
        let last = self.open.last().map(|(_, file)| file);
        last.ok_or_else(|| StorageError::new(StorageErrorKind::Io, operation, name, "not open"))
    }

    /// Opens a file if it is not open, and puts it at the end.
    fn use_file(&mut self, operation: &'static str, name: &str) -> Result<(), StorageError> {
        let file = match self.open.iter().position(|(known, _)| known == name) {
            Some(at) => self.open.remove(at).1,
            None => {
                let path = self.path.join(name);
                let writable = OpenOptions::new().read(true).write(true).open(&path);
                // What can't be written may still be read: a read-only disk.
                writable.or_else(|_| File::open(&path)).map_err(|error| refusal(operation, name, &error))?
            }
        };
        let may_go = |(known, _): &(String, File)| !matches!(&self.flushing, Flushing::UnderWay(name) if name == known);
        if self.open.len() >= OPEN_MAX
            && let Some(at) = self.open.iter().position(may_go)
        {
            // One that is being flushed stays: opened anew, it would hear nothing of what was refused before.
            self.open.remove(at);
        }
        self.open.push((name.to_owned(), file));
        Ok(())
    }

    fn close(&mut self, name: &str) {
        self.open.retain(|(known, _)| known != name);
        if self.flushing.name() == Some(name) {
            self.flushing = Flushing::None;
        }
    }
}

/// A folder that is only looked at, whoever holds it. What would write is refused.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    open: Option<(String, File)>,
}

impl Reader {
    /// The folder must be there, and may be read with all its files.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let failed = |error| FolderError::Io { path: path.to_owned(), error };
        if std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(FolderError::NotAFolder { path: path.to_owned() });
        }
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            match File::open(&file) {
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return Err(FolderError::Io { path: file, error });
                }
                _ => {}
            }
        }
        Ok(Self { path: path.to_owned(), open: None })
    }

    fn refused<T>(operation: &'static str, name: &str) -> Result<T, StorageError> {
        Err(StorageError::new(StorageErrorKind::ReadOnly, operation, name, "only looked at"))
    }
}

impl Storage for Reader {
    fn list(&mut self) -> Result<Vec<FileInfo>, StorageError> {
        list(&self.path)
    }

    fn read(&mut self, name: &str, offset: u64, into: &mut [u8]) -> Result<usize, StorageError> {
        // A header is looked at to learn whether the file is still what it was: by its name, not by an old handle.
        let file = match self.open.take() {
            Some((known, file)) if known == name && offset > 0 => file,
            _ => File::open(self.path.join(name)).map_err(|error| refusal("read", name, &error))?,
        };
        let read = read_at(&file, name, offset, into);
        self.open = Some((name.to_owned(), file));
        read
    }

    fn create(&mut self, name: &str, _: u64) -> Result<(), StorageError> {
        Self::refused("create", name)
    }

    fn write(&mut self, name: &str, _: u64, _: &[u8]) -> Result<(), StorageError> {
        Self::refused("write", name)
    }

    fn sync(&mut self, name: &str) -> Result<(), StorageError> {
        Self::refused("sync", name)
    }

    fn sync_folder(&mut self) -> Result<(), StorageError> {
        Self::refused("sync", ".")
    }

    fn rename(&mut self, from: &str, _: &str) -> Result<(), StorageError> {
        Self::refused("rename", from)
    }

    fn remove(&mut self, name: &str) -> Result<(), StorageError> {
        Self::refused("remove", name)
    }
}

fn list(path: &Path) -> Result<Vec<FileInfo>, StorageError> {
    let failed = |error: std::io::Error| refusal("list", ".", &error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(about) = entry.metadata() else { continue };
        if let (true, Ok(name)) = (about.is_file(), entry.file_name().into_string()) {
            files.push(FileInfo { name, size: about.len() });
        }
    }
    Ok(files)
}

fn read_at(file: &File, name: &str, offset: u64, into: &mut [u8]) -> Result<usize, StorageError> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(refusal("read", name, &error)),
        }
    }
    Ok(done)
}

fn write_pid(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o640).open(path.join(LOCK_NAME))?;
    writeln!(file, "{}", std::process::id())
}

fn read_pid(path: &Path) -> Option<u32> {
    let mut text = String::new();
    File::open(path.join(LOCK_NAME)).ok()?.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn refusal(operation: &'static str, name: &str, error: &std::io::Error) -> StorageError {
    let kind = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => StorageErrorKind::Full,
        Some(Errno::ROFS) => StorageErrorKind::ReadOnly,
        // A file that was opened for reading alone, because the disk is read-only.
        Some(Errno::BADF) if operation != "read" => StorageErrorKind::ReadOnly,
        Some(Errno::ACCESS | Errno::PERM) => StorageErrorKind::Denied,
        Some(Errno::NOENT) => StorageErrorKind::NotFound,
        Some(Errno::EXIST) => StorageErrorKind::Exists,
        _ => StorageErrorKind::Io,
    };
    StorageError::new(kind, operation, name, error.to_string())
}

/// Blocks first, so that a full disk says so before anything is written; then zeros.
fn fill(file: &File, size: u64) -> std::io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    let zeros = vec![0; ZEROS];
    let mut at = 0;
    while at < size {
        let left = usize::try_from(size - at).unwrap_or(ZEROS).min(ZEROS);
        file.write_all_at(zeros.get(..left).unwrap_or_default(), at)?;
        at += left as u64;
    }
    Ok(())
}

impl Storage for Folder {
    fn list(&mut self) -> Result<Vec<FileInfo>, StorageError> {
        list(&self.path)
    }

    fn create(&mut self, name: &str, size: u64) -> Result<(), StorageError> {
        let path = self.path.join(name);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o640).open(&path);
        let file = file.map_err(|error| refusal("create", name, &error))?;
        if let Err(error) = fill(&file, size) {
            let _ = std::fs::remove_file(&path);
            return Err(refusal("create", name, &error));
        }
        Ok(())
    }

    fn read(&mut self, name: &str, offset: u64, into: &mut [u8]) -> Result<usize, StorageError> {
        let file = self.file("read", name)?;
        read_at(file, name, offset, into)
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let file = self.file("write", name)?;
        file.write_all_at(bytes, offset).map_err(|error| refusal("write", name, &error))
    }

    fn sync(&mut self, name: &str) -> Result<(), StorageError> {
        flush(self.file("sync", name)?, name)
    }

    fn sync_folder(&mut self) -> Result<(), StorageError> {
        self.handle.sync_all().map_err(|error| refusal("sync", ".", &error))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), StorageError> {
        self.close(from);
        self.close(to);
        std::fs::rename(self.path.join(from), self.path.join(to)).map_err(|error| refusal("rename", from, &error))
    }

    fn remove(&mut self, name: &str) -> Result<(), StorageError> {
        self.close(name);
        std::fs::remove_file(self.path.join(name)).map_err(|error| refusal("remove", name, &error))
    }
}

impl Deferred for Folder {
    type Flush = Flush;

    fn begin_flush(&mut self, name: &str) -> Result<Flush, StorageError> {
        let file = match std::mem::replace(&mut self.flushing, Flushing::UnderWay(name.to_owned())) {
            Flushing::Over(known, file) if known == name => file,
            _ => File::open(self.path.join(name)).map_err(|error| refusal("sync", name, &error))?,
        };
        Ok(Flush { file, name: name.to_owned(), outcome: None })
    }

    fn end_flush(&mut self, mut flush: Flush) -> Result<(), StorageError> {
        flush.make();
        let Flush { file, name, outcome } = flush;
        if self.flushing.name() == Some(&name) {
            self.flushing = Flushing::Over(name, file);
        }
        outcome.unwrap_or(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_with_the_first_ones_process_id() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data/spool");
        let held = Folder::open(&path).expect("opens");
        let error = Folder::open(&path).expect_err("is held");
        assert!(error.to_string().ends_with(&format!("process {} holds it", std::process::id())), "{error}");
        assert_eq!(Folder::holder(&path), Some(std::process::id()));
        drop(held);
        assert_eq!(Folder::holder(&path), None);
        Folder::open(&path).expect("opens again");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data");
        std::fs::write(&path, "x").expect("writes");
        assert!(matches!(Folder::open(&path), Err(FolderError::NotAFolder { .. })));
        assert!(matches!(Folder::open(&path.join("spool")), Err(FolderError::NotAFolder { .. })));
    }

    #[test]
    fn files_are_made_written_read_renamed_and_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut storage = Folder::open(folder.path()).expect("opens");
        storage.create("a", 300_000).expect("creates");
        assert_eq!(storage.create("a", 1).map_err(|error| error.kind), Err(StorageErrorKind::Exists));
        storage.write("a", 299_998, b"xy").expect("writes");
        storage.sync("a").and_then(|()| storage.sync_folder()).expect("syncs");
        let mut bytes = [9; 4];
        assert_eq!(storage.read("a", 299_996, &mut bytes), Ok(4));
        assert_eq!(bytes, [0, 0, b'x', b'y']);
        assert_eq!(storage.read("a", 299_999, &mut bytes), Ok(1));
        storage.rename("a", "b").expect("renames");
        let names: Vec<String> = storage.list().expect("lists").into_iter().map(|file| file.name).collect();
        assert!(names.contains(&"b".to_owned()) && !names.contains(&"a".to_owned()));
        storage.remove("b").expect("removes");
        assert_eq!(storage.read("b", 0, &mut bytes).map_err(|error| error.kind), Err(StorageErrorKind::NotFound));
    }

    /// F-12: however many files there are, a few are open.
    #[test]
    fn few_files_are_open_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut storage = Folder::open(folder.path()).expect("opens");
        for file in 0..4 * OPEN_MAX {
            storage
                .create(&file.to_string(), 1)
                .and_then(|()| storage.write(&file.to_string(), 0, b"x"))
                .expect("writes");
            assert!(storage.open.len() <= OPEN_MAX);
        }
        let mut byte = [0];
        for file in 0..4 * OPEN_MAX {
            assert_eq!(storage.read(&file.to_string(), 0, &mut byte), Ok(1));
            assert!(storage.open.len() <= OPEN_MAX && byte == *b"x");
        }
    }

    #[test]
    fn a_file_that_is_being_flushed_stays_open() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut storage = Folder::open(folder.path()).expect("opens");
        for file in 0..2 * OPEN_MAX {
            storage.create(&file.to_string(), 4096).expect("is made");
        }
        let is_open = |storage: &Folder| storage.open.iter().any(|(name, _)| name == "0");
        storage.write("0", 0, b"x").expect("is written");
        let mut flush = storage.begin_flush("0").expect("begins");
        for file in 1..2 * OPEN_MAX {
            storage.write(&file.to_string(), 0, b"x").expect("is written");
        }
        assert!(is_open(&storage) && storage.open.len() <= OPEN_MAX);
        std::thread::scope(|threads| threads.spawn(|| flush.make()).join().expect("makes it"));
        storage.end_flush(flush).expect("the disk is well");
        for file in 1..2 * OPEN_MAX {
            storage.write(&file.to_string(), 0, b"x").expect("is written");
        }
        assert!(!is_open(&storage), "another one takes its place");
    }

    #[test]
    fn a_spool_lives_on_real_files() {
        use crate::spool::{Now, Options, Route, Spool};
        let folder = tempfile::tempdir().expect("a folder");
        let options = Options { max_size: 1 << 20, ..Options::default() };
        let route = Route { source: "a".into(), blob: b"route".as_slice().into() };
        for boot in 1..4 {
            let storage = Folder::open(folder.path()).expect("opens");
            let (mut spool, opened) = Spool::open(storage, options.clone(), *b"ABCD", Now::default()).expect("opens");
            assert_eq!((spool.boot(), opened.trouble, opened.lost_messages), (boot, None, 0));
            for _ in 0..400 {
                spool.append(Now::default(), &route, 1, 0, &[7; 3000]).expect("fits");
            }
            spool.sync(Now::default()).expect("syncs");
            let stats = spool.stats();
            assert_eq!(stats.accepted, stats.delivered + stats.buffered + stats.dropped);
            let on_disk: u64 = std::fs::read_dir(folder.path())
                .expect("lists")
                .flatten()
                .map(|file| file.metadata().map_or(0, |about| about.len()))
                .sum();
            assert!(on_disk <= 1 << 20, "{on_disk}");
        }
    }
}
