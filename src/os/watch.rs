//! Notices that something in a folder changed, and waits until it has settled.
//!
//! Says only "look again": whoever asks compares contents. Folders are watched, not files, so that a save by rename, a
//! switched symlink and a file that was not there are seen alike (F-41). What others write in the same folder is no
//! unrest: a database there would keep it from ever settling. Watches are set anew at each look, which finds folders
//! that were removed and came back; and a look is due every [`LOOK_EVERY`] anyway, for file systems that send no events.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, RemoveKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;
use tokio::time::error::Elapsed;
use tracing::debug;

use super::clock;

/// After the last event so long nothing may happen; a file that is being copied is left alone.
const SETTLE: Duration = Duration::from_millis(300);
/// A folder in which something happens all the time is looked at all the same.
const SETTLE_MAX: Duration = Duration::from_secs(5);
/// Without any event.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How the names of files end that count in every watched folder: configuration, plugins and their signatures.
const ENDINGS: [&str; 3] = ["toml", "wasm", "minisig"];

/// Watches folders.
pub struct Watch {
    /// `None` where the system gives no watcher: then only time counts.
    watcher: Option<RecommendedWatcher>,
    events: watch::Receiver<u64>,
    /// Files that count whatever their names end in.
    files: watch::Sender<Vec<PathBuf>>,
    /// When the first and the last event came that were not looked at yet.
    unrest: Option<(Duration, Duration)>,
    /// When to look without any event, and how often.
    look_at: Duration,
    look_every: Duration,
    /// Kept, so that `events` has an end only with this.
    _sender: Arc<watch::Sender<u64>>,
}

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> Self {
        let (sender, events) = watch::channel(0_u64);
        let sender = Arc::new(sender);
        let handlers = sender.clone();
        let (files, named) = watch::channel(Vec::new());
        let handler = move |event: notify::Result<notify::Event>| {
            // An error may hide a change.
            if event.map_or(true, |event| is_change(&event, &named.borrow())) {
                handlers.send_modify(|count| *count += 1);
            }
        };
        let watcher = notify::recommended_watcher(handler)
            .inspect_err(|error| debug!("no watcher, folders are looked at every {} s: {error}", LOOK_EVERY.as_secs()))
            .ok();
        let look_at = clock::now() + LOOK_EVERY;
        Self { watcher, events, files, unrest: None, look_at, look_every: LOOK_EVERY, _sender: sender }
    }

    /// Watches these folders, those that are there; a folder that is watched already stays so. In them count
    /// configuration files, plugins, and `files`.
    pub fn folders<'a>(&mut self, folders: impl Iterator<Item = &'a PathBuf>, files: &[PathBuf]) {
        self.files.send_if_modified(|named| {
            let is_new = named != files;
            if is_new {
                *named = files.to_vec();
            }
            is_new
        });
        let Some(watcher) = &mut self.watcher else { return };
        for folder in folders {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                debug!("{} is not watched: {error}", folder.display());
            }
        }
    }

    /// Waits until it is time to look again. Cancel safe: an event that was seen is not forgotten.
    pub async fn changed(&mut self) {
        if self.unrest.is_none() {
            match timeout_at(self.look_at, self.events.changed()).await {
                Ok(_) => self.unrest = Some((clock::now(), clock::now())),
                Err(_) => return self.looked(),
            }
        }
        while let Some((first, last)) = &mut self.unrest {
            // What goes on happening is looked at in between.
            let until = (*last + SETTLE).min(*first + SETTLE_MAX);
            match timeout_at(until, self.events.changed()).await {
                Ok(Ok(())) if clock::now() < until => *last = clock::now(),
                _ => break,
            }
        }
        self.looked();
    }

    fn looked(&mut self) {
        self.unrest = None;
        self.look_at = clock::now() + self.look_every;
    }
}

/// Whether what is looked at can be another after this event. Reading changes nothing, and neither does what happens to
/// other files.
fn is_change(event: &notify::Event, files: &[PathBuf]) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Create(_) | EventKind::Modify(_) => {}
        EventKind::Access(_) => return false,
        // Watched folders tell their own end; so does a link's, but as a file's.
        EventKind::Remove(kind) if kind != RemoveKind::File => return true,
        EventKind::Remove(_) => {}
        // Events that were lost.
        EventKind::Any | EventKind::Other => return true,
    }
    let counts = |path: &PathBuf| {
        path.extension().and_then(OsStr::to_str).is_some_and(|ending| ENDINGS.contains(&ending))
            || files.iter().any(|file| file.file_name() == path.file_name())
            || leads_elsewhere(path)
    };
    event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(counts)
}

/// A folder or a link: behind it may be what counts.
fn leads_elsewhere(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir() || metadata.is_symlink())
}

async fn timeout_at<T>(at: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    tokio::time::timeout_at(clock::instant(at).into(), future).await
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn f41_a_save_by_rename_is_seen_once_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new();
        watch.folders(std::iter::once(&folder.path().to_path_buf()), &[]);
        std::fs::write(folder.path().join("new"), "x").unwrap();
        std::fs::rename(folder.path().join("new"), folder.path().join("agent.toml")).unwrap();
        tokio::time::timeout(LOOK_EVERY / 2, watch.changed()).await.expect("seen before the regular look");
    }

    /// F-41: a file system that sends no events, or a system that gives no watcher.
    #[tokio::test]
    async fn f41_without_events_it_is_looked_at_all_the_same() {
        let mut watch = Watch::new();
        (watch.watcher, watch.look_every, watch.look_at) = (None, SETTLE, clock::now());
        watch.folders(std::iter::once(&PathBuf::from("/")), &[]);
        for _ in 0..3 {
            tokio::time::timeout(LOOK_EVERY, watch.changed()).await.expect("looked at by the clock");
        }
    }

    /// F-41: a folder that was removed is found again when it is back, and so is a link that is switched in it.
    #[tokio::test]
    async fn f41_a_folder_that_comes_back_is_watched_again() {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("agent.d");
        let mut watch = Watch::new();
        let folders = [above.path().to_path_buf(), folder.clone()];
        for round in 0..3 {
            std::fs::create_dir(&folder).unwrap();
            watch.folders(folders.iter(), &[]);
            // What making the folder brought is over.
            while tokio::time::timeout(SETTLE * 2, watch.changed()).await.is_ok() {}
            watch.folders(folders.iter(), &[]);
            std::os::unix::fs::symlink(format!("target-{round}"), folder.join("new")).unwrap();
            std::fs::rename(folder.join("new"), folder.join("..data")).unwrap();
            tokio::time::timeout(LOOK_EVERY / 2, watch.changed()).await.expect("a link was switched");
            std::fs::remove_dir_all(&folder).unwrap();
            tokio::time::timeout(LOOK_EVERY / 2, watch.changed()).await.expect("the folder is gone");
        }
    }

    #[tokio::test]
    async fn an_event_outlives_a_wait_that_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new();
        watch.folders(std::iter::once(&folder.path().to_path_buf()), &[]);
        std::fs::write(folder.path().join("agent.toml"), "x").unwrap();
        for _ in 0..3 {
            if tokio::time::timeout(SETTLE / 4, watch.changed()).await.is_ok() {
                // A machine that has no time: it has settled before the wait was given up.
                return;
            }
        }
        tokio::time::timeout(LOOK_EVERY / 2, watch.changed()).await.expect("seen before the regular look");
    }

    #[tokio::test]
    async fn reading_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("agent.toml"), "x").unwrap();
        let mut watch = Watch::new();
        watch.folders(std::iter::once(&folder.path().to_path_buf()), &[]);
        std::fs::read(folder.path().join("agent.toml")).unwrap();
        assert!(tokio::time::timeout(SETTLE * 2, watch.changed()).await.is_err());
    }

    /// F-41: a database beside the configuration would otherwise keep a change waiting.
    #[tokio::test]
    async fn f41_what_others_write_beside_it_is_no_unrest() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut watch = Watch::new();
        watch.folders(std::iter::once(&folder.path().to_path_buf()), &[path("agent.conf")]);
        let others = || {
            std::fs::write(path("history.db"), "x").unwrap();
            std::fs::write(path("history.db-journal"), "x").unwrap();
            std::fs::rename(path("history.db-journal"), path("history.old")).unwrap();
            std::fs::remove_file(path("history.old")).unwrap();
        };
        others();
        assert!(tokio::time::timeout(SETTLE * 2, watch.changed()).await.is_err(), "others' files");
        for name in ["agent.toml", "agent.conf", "system.wasm", "system.wasm.minisig"] {
            std::fs::write(path(name), "x").unwrap();
            tokio::time::timeout(LOOK_EVERY / 2, watch.changed()).await.expect(name);
            std::fs::remove_file(path(name)).unwrap();
            tokio::time::timeout(LOOK_EVERY / 2, watch.changed()).await.expect("it is gone");
        }
        // It settles while the others go on.
        std::fs::write(path("agent.toml"), "x").unwrap();
        let changed = tokio::time::timeout(SETTLE * 10, watch.changed());
        tokio::pin!(changed);
        loop {
            tokio::select! {
                seen = &mut changed => break seen.expect("seen before what goes on happening is looked at"),
                () = tokio::time::sleep(SETTLE / 10) => others(),
            }
        }
    }
}
