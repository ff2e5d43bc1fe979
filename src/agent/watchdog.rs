//! The sign of life for the service manager: given only while the pipeline proves that it lives.
//!
//! Half a watchdog's time after the last sign, proof is asked for. The main loop gives it by asking, the runtime's
//! workers by carrying the question, the log's thread by answering it, and the sources by having polled. Where one of
//! them stands still, there is no sign, and the manager ends and restarts the service. A timer alone proves nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::{error, warn};

use crate::os::clock;

/// Beside a few of its own intervals, a source has so long for a poll: devices are slow, and machines are busy.
const POLL_MAX: Duration = Duration::from_secs(120);
/// Intervals of its schedule that a source may let pass.
const INTERVALS_MAX: u32 = 4;

/// How far a source that runs has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Its name.
    pub source: String,
    /// Polls that it has begun.
    pub polls: u64,
    /// Its schedule.
    pub every: Duration,
}

/// A question that is not answered yet.
#[derive(Debug)]
struct Asked {
    answer: JoinHandle<bool>,
    at: Duration,
    /// It is late, and that was said.
    is_late: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Watchdog {
    /// Between two signs; `None`: nobody waits for any.
    every: Option<Duration>,
    due: Duration,
    asked: Option<Asked>,
    /// What each source had come to when it last came further.
    seen: BTreeMap<String, (u64, Duration)>,
}

impl Watchdog {
    /// For a manager that waits for `limit` at most.
    pub fn new(limit: Option<Duration>) -> Self {
        Self { every: limit.map(|limit| limit / 2), due: clock::now(), asked: None, seen: BTreeMap::new() }
    }

    /// Waits until the next sign is due and what it then asks is answered with yes; for ever where it is not. Cancel
    /// safe.
    pub async fn proof<F>(&mut self, ask: impl FnOnce() -> F)
    where
        F: Future<Output = bool> + Send + 'static,
    {
        let Some(every) = self.every else { return std::future::pending().await };
        let asked = match &mut self.asked {
            Some(asked) => asked,
            None => {
                tokio::time::sleep_until(clock::instant(self.due).into()).await;
                self.asked.insert(Asked { answer: tokio::spawn(ask()), at: clock::now(), is_late: false })
            }
        };
        let answered = match asked.is_late {
            true => (&mut asked.answer).await,
            false => tokio::select! {
                answered = &mut asked.answer => answered,
                // Well before the manager gives up: what it then ends can't say why.
                () = tokio::time::sleep_until(clock::instant(asked.at + every / 4).into()) => {
                    asked.is_late = true;
                    error!("the buffer does not answer; is its disk stuck? The service manager is given no sign of life");
                    (&mut asked.answer).await
                }
            },
        };
        if asked.is_late {
            let waited = clock::now().saturating_sub(asked.at).as_secs();
            warn!("the buffer answers again, after {waited} s");
        }
        self.asked = None;
        self.due = clock::now() + every;
        if !answered.unwrap_or(false) {
            // Whoever was asked has ended, and this process is about to.
            std::future::pending::<()>().await;
        }
    }

    /// Whether sources are polled, as far as any are to be: at least one of those that run has come further in its
    /// time. That one alone hangs in its device is its own fault, and `status` shows it.
    pub fn is_polling(&mut self, sources: &[Progress], now: Duration) -> bool {
        self.seen.retain(|name, _| sources.iter().any(|source| source.source == *name));
        let mut polling = sources.is_empty();
        for source in sources {
            let (polls, since) = self.seen.entry(source.source.clone()).or_insert((source.polls, now));
            if *polls != source.polls {
                (*polls, *since) = (source.polls, now);
            }
            polling |= now.saturating_sub(*since) <= source.every.saturating_mul(INTERVALS_MAX) + POLL_MAX;
        }
        if !polling {
            error!("no source has been polled for a long time: the service manager is given no sign of life");
        }
        polling
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn progress(source: &str, polls: u64) -> Progress {
        Progress { source: source.into(), polls, every: s(1) }
    }

    #[test]
    fn sources_that_stand_still_are_no_life() {
        let mut watchdog = Watchdog::new(Some(s(30)));
        assert!(watchdog.is_polling(&[], s(0)), "there are none");
        assert!(watchdog.is_polling(&[progress("a", 1), progress("b", 1)], s(10)));
        assert!(watchdog.is_polling(&[progress("a", 1), progress("b", 1)], s(100)), "busy");
        assert!(watchdog.is_polling(&[progress("a", 1), progress("b", 2)], s(1_000)), "b is polled, a hangs");
        assert!(watchdog.is_polling(&[progress("a", 1), progress("b", 3)], s(2_000)));
        assert!(!watchdog.is_polling(&[progress("a", 1), progress("b", 3)], s(3_000)), "none is polled");
        assert!(watchdog.is_polling(&[progress("c", 0)], s(3_001)), "another configuration");
        let slow = Progress { every: s(3_600), ..progress("d", 1) };
        assert!(watchdog.is_polling(std::slice::from_ref(&slow), s(3_002)));
        assert!(watchdog.is_polling(&[slow], s(10_000)), "an hour between two polls");
    }

    /// The end of a wait that was given up in between, as the main loop does.
    async fn proved<F: Future<Output = bool> + Send + 'static>(watchdog: &mut Watchdog, ask: impl Fn() -> F) -> bool {
        let mut waits = 0;
        while tokio::time::timeout(Duration::from_millis(20), watchdog.proof(&ask)).await.is_err() {
            waits += 1;
            if waits == 20 {
                return false;
            }
        }
        true
    }

    #[tokio::test]
    async fn an_answer_is_proof_and_silence_is_none() {
        let mut watchdog = Watchdog::new(Some(Duration::from_millis(50)));
        for _ in 0..3 {
            assert!(proved(&mut watchdog, || std::future::ready(true)).await);
        }
        assert!(!proved(&mut watchdog, std::future::pending).await, "the log's thread is stuck");
        let mut watchdog = Watchdog::new(Some(Duration::from_millis(50)));
        assert!(!proved(&mut watchdog, || std::future::ready(false)).await, "it has ended");
        let mut watchdog = Watchdog::new(None);
        assert!(!proved(&mut watchdog, || std::future::ready(true)).await, "nobody waits for a sign");
    }
}
