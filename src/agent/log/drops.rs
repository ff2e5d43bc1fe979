//! Episodes in which messages are dropped: one word in the log when one begins, one when it is over (F-8).
//!
//! Owns what was counted last. Invariant: while one cause drops again and again, nothing more is said.

use std::time::Duration;

use crate::spool::{Drops, GapReason};

/// An episode is over when nothing has been dropped for so long.
pub const QUIET: Duration = Duration::from_secs(60);

/// An episode that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episode {
    /// Why.
    pub reason: GapReason,
    /// When it began, nanoseconds since 1970.
    pub since_ns: i64,
    /// Messages so far.
    pub messages: u64,
    last: Duration,
}

/// What is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// It begins.
    Begins(Episode),
    /// It is over.
    Over(Episode),
}

/// All episodes.
#[derive(Debug, Default)]
pub struct Episodes {
    counted: Drops,
    open: Vec<Episode>,
}

impl Episodes {
    /// What the counters say now; gives what is to be said. `mono` is monotonic time.
    pub fn look(&mut self, mono: Duration, wall_ns: i64, drops: &Drops) -> Vec<Word> {
        let mut words = Vec::new();
        for reason in GapReason::ALL {
            let messages = drops.of(reason).saturating_sub(self.counted.of(reason));
            let open = self.open.iter_mut().find(|episode| episode.reason == reason);
            match open {
                Some(episode) if messages > 0 => {
                    episode.messages += messages;
                    episode.last = mono;
                }
                None if messages > 0 => {
                    let episode = Episode { reason, since_ns: wall_ns, messages, last: mono };
                    words.push(Word::Begins(episode.clone()));
                    self.open.push(episode);
                }
                _ => {}
            }
        }
        self.counted = *drops;
        let over = self.open.extract_if(.., |episode| mono.saturating_sub(episode.last) >= QUIET);
        words.extend(over.map(Word::Over));
        words
    }

    /// Those that are not over.
    pub fn open(&self) -> &[Episode] {
        &self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_is_said_twice() {
        let mut episodes = Episodes::default();
        let mut drops = Drops::default();
        let at = Duration::from_secs;
        assert_eq!(episodes.look(at(0), 5, &drops), []);
        let mut said = Vec::new();
        for second in 1..100 {
            drops.count(GapReason::BufferFull, 10);
            said.extend(episodes.look(at(second), 7, &drops));
        }
        assert!(matches!(&said[..], [Word::Begins(Episode { messages: 10, since_ns: 7, .. })]), "{said:?}");
        assert_eq!(episodes.open()[0].messages, 990);
        assert_eq!(episodes.look(at(130), 0, &drops), []);
        drops.count(GapReason::Expired, 1);
        let said = episodes.look(at(99 + 60), 0, &drops);
        assert!(matches!(&said[..], [Word::Begins(_), Word::Over(Episode { messages: 990, .. })]), "{said:?}");
        assert_eq!(episodes.open().len(), 1);
    }
}
