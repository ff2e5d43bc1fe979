//! Opens the spool in the data folder, says what was found there, and starts its thread.
//!
//! Owns nothing.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use super::thread::{Keeper, limits, news, now, say_damage};
use super::{Log, QUEUE_MAX};
use crate::config::Buffer;
use crate::os::clock;
use crate::os::files::{Folder, FolderError};
use crate::spool::{self, Limits, Opened, Spool, StorageError, StorageErrorKind};

/// Why the data folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It can't be made or entered, or another agent has it.
    #[error("the data folder can't be used: {0}")]
    Folder(#[from] FolderError),
    /// Rights are missing in it.
    #[error("the data folder can't be used: no rights in {path}: {reason}", path = path.display())]
    Denied {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: StorageError,
    },
    /// The buffer in it can't be opened.
    #[error("the buffer in {path} can't be opened: {reason}", path = path.display())]
    Spool {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: spool::OpenError,
    },
    /// There is no thread for it.
    #[error("the log's thread can't be started: {0}")]
    Thread(std::io::Error),
}

/// The running thread.
pub struct Thread(JoinHandle<()>);

impl Thread {
    /// Waits for its end, after [`Log::stop`].
    pub fn join(self) {
        if self.0.join().is_err() {
            error!("the log's thread panicked");
        }
    }
}

/// Opens the spool in the data folder, and starts its thread.
pub fn open(data_dir: &Path, buffer: &Buffer) -> Result<(Log, Thread), OpenError> {
    let folder = data_dir.join("spool");
    let storage = Folder::open(&folder)?;
    let Limits { max_size, max_age, when_full } = limits(buffer);
    let options = spool::Options {
        max_size,
        max_age,
        when_full,
        seed: u64::from_le_bytes(random()),
        ..spool::Options::default()
    };
    let (spool, opened) = Spool::open(storage, options, random(), now())
        .map_err(|reason| OpenError::Spool { path: folder.clone(), reason })?;
    if let Some(reason) = opened.trouble.clone().filter(|trouble| trouble.kind == StorageErrorKind::Denied) {
        return Err(OpenError::Denied { path: folder, reason });
    }
    say(&opened, &folder);
    let (commands, receiver) = mpsc::channel(QUEUE_MAX);
    let (news, watched) = watch::channel(news(&spool, 0, &[]));
    let log = Log {
        commands,
        news: watched,
        store: spool.store(),
        boot: spool.boot(),
        journal_bytes_max: spool.values_max(),
    };
    let keeper = Keeper::new(spool, news, buffer).map_err(OpenError::Thread)?;
    let body = || keeper.run(receiver);
    let thread = std::thread::Builder::new().name("log".into()).spawn(body).map_err(OpenError::Thread)?;
    Ok((log, Thread(thread)))
}

fn say(opened: &Opened, folder: &Path) {
    if opened.fresh {
        info!("a new buffer in {}", folder.display());
    }
    opened.damage.iter().for_each(say_damage);
    if opened.lost_messages > 0 {
        warn!("{} messages are lost by damage and reported as gaps", opened.lost_messages);
    }
    if let Some(trouble) = &opened.trouble {
        error!("the disk refuses writes, readings are kept in memory: {trouble}");
    }
}

/// Needs no secrecy; where the system has no randomness yet, the clock has to do.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if getrandom::fill(&mut bytes).is_err() {
        let time = clock::wall_ns().to_le_bytes();
        bytes.iter_mut().zip(time.iter().cycle()).for_each(|(byte, time)| *byte = *time);
    }
    bytes
}
