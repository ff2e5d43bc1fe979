//! Log lines on their way to stderr: a thread of their own writes them, so that nobody waits for who reads them, or does
//! not (F-44).
//!
//! ```text
//!  anybody ── line ──▶ queue of LINES_MAX ──▶ thread ──▶ stderr
//!                        full: dropped, and counted; said as soon as there is room
//! ```

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

/// Lines that wait to be written. One has a few KiB at most, most a hundred bytes.
const LINES_MAX: usize = 512;
/// How long the end waits for what was not written yet.
const END_MAX: Duration = Duration::from_secs(1);
/// What a full queue is given to move in, so many times in [`END_MAX`].
const END_STEP: Duration = Duration::from_millis(10);

/// Where lines are put. A clone is the same queue. Each write is one line, and never waits.
#[derive(Clone)]
pub struct Lines {
    queue: SyncSender<Job>,
    dropped: Arc<AtomicU64>,
}

/// Whoever drops it waits until the lines are written, [`END_MAX`] at most.
pub struct End {
    queue: SyncSender<Job>,
    /// Never sends: closed by the thread when all is written.
    written: Receiver<()>,
}

enum Job {
    Line(Box<[u8]>),
    End,
}

impl Lines {
    /// Starts the thread that writes them there.
    ///
    /// # Errors
    ///
    /// There can be no further thread.
    pub fn to(out: impl Write + Send + 'static) -> io::Result<(Self, End)> {
        let (queue, jobs) = sync_channel(LINES_MAX);
        let (open, written) = sync_channel(0);
        let dropped = Arc::new(AtomicU64::new(0));
        let theirs = Arc::clone(&dropped);
        thread::Builder::new().name("log-lines".into()).spawn(move || {
            write_all(&jobs, &theirs, out);
            drop::<SyncSender<()>>(open);
        })?;
        Ok((Self { queue: queue.clone(), dropped }, End { queue, written }))
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Job::Line(line.into())) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut waited = Duration::ZERO;
        while let Err(TrySendError::Full(_)) = self.queue.try_send(Job::End) {
            // Nobody reads, or a little room is there in a moment.
            if waited >= END_MAX || !matches!(self.written.recv_timeout(END_STEP), Err(RecvTimeoutError::Timeout)) {
                return;
            }
            waited += END_STEP;
        }
        let _ = self.written.recv_timeout(END_MAX.saturating_sub(waited));
    }
}

fn write_all(jobs: &Receiver<Job>, dropped: &AtomicU64, mut out: impl Write) {
    // Where stderr is gone there is nobody to tell.
    while let Ok(Job::Line(line)) = jobs.recv() {
        let _ = out.write_all(&line);
        let missing = dropped.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let _ = writeln!(out, "{missing} log lines were dropped: nobody read them");
        }
    }
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes as far as it is let.
    struct Gate(Receiver<()>, SyncSender<Vec<u8>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Once the other side is gone it is open.
            let _ = self.0.recv();
            self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn f44_who_does_not_read_holds_nobody_up_and_what_is_missing_is_said() {
        let (let_through, gate) = sync_channel(0);
        let (sender, written) = sync_channel(10_000);
        let (mut lines, end) = Lines::to(Gate(gate, sender)).expect("a thread");
        for number in 0..5000 {
            lines.write_all(format!("line {number}\n").as_bytes()).expect("never an error");
        }
        drop(let_through);
        drop(end);
        let text: Vec<u8> = written.try_iter().flatten().collect();
        let text = String::from_utf8(text).expect("text");
        let kept: Vec<u32> = text.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
        // The thread may take one out of the queue, at any moment.
        assert!((LINES_MAX..=LINES_MAX + 1).contains(&kept.len()), "{}", kept.len());
        assert!(text.contains(&format!("{} log lines were dropped", 5000 - kept.len())), "{text}");
        assert!(kept.first() == Some(&0) && kept.is_sorted_by(|one, other| one < other), "in order: {text}");
    }

    #[test]
    fn the_end_waits_for_what_was_said() {
        let (let_through, gate) = sync_channel(0);
        let (sender, written) = sync_channel(100);
        let (mut lines, end) = Lines::to(Gate(gate, sender)).expect("a thread");
        lines.write_all(b"last words\n").expect("never an error");
        drop(let_through);
        drop(end);
        assert_eq!(written.try_iter().next().as_deref(), Some(&b"last words\n"[..]));
    }

    #[test]
    fn the_end_does_not_wait_for_ever() {
        let (let_through, gate) = sync_channel::<()>(0);
        let (sender, _written) = sync_channel(10_000);
        let (mut lines, end) = Lines::to(Gate(gate, sender)).expect("a thread");
        for _ in 0..5000 {
            lines.write_all(b"line\n").expect("never an error");
        }
        drop(end);
        drop(let_through);
    }
}
