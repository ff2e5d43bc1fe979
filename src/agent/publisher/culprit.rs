//! Which message makes a broker close the connection, again and again (F-28).
//!
//! Where a broker has no words for a refusal (3.1.1, and some brokers of 5.0) it closes the connection, and what was in
//! flight is sent again: for ever, if one of these messages is the reason. So:
//!
//! ```text
//!           REPEATS_MAX closes, the same message    a close, promptly,     ALONE_MAX times: convicted,
//!  at large ───────────────────────────────▶ narrow ── while it is alone ──▶ it becomes a gap
//!     ▲      first in flight, nothing acknowledged │
//!     └──── what was in flight then is acknowledged┘
//! ```
//!
//! While it is narrow one message is in flight at a time, behind status and metas, so that each trial begins with a
//! connection that works. Pure: it is told how connections end, and says whom to blame.
//!
//! Invariants: only a close that the broker itself made counts, never a link that broke, fell silent or could not be
//! made; nobody is convicted before the broker has acknowledged something of ours since the last conviction, so that
//! a broker which takes nothing at all costs no message; a message that is acknowledged is innocent.

use std::collections::BTreeMap;
use std::time::Duration;

/// So many closes with the same message first in flight begin the search.
pub const REPEATS_MAX: u8 = 3;
/// So many closes on a message that was alone and written whole convict it.
pub const ALONE_MAX: u8 = 3;
/// The same for one of which the broker took a part only: it may have seen the length and closed, but a link that
/// breaks under load looks much the same.
pub const PARTLY_MAX: u8 = 10;
/// A broker that refuses closes within this time; later the reason is another one.
pub const PROMPTLY_MAX: Duration = Duration::from_secs(10);
/// Topics for which a convicted message is remembered.
const TOPICS_MAX: usize = 64;

/// What can be to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// A message of the log, by number.
    Message(u64),
    /// One beside the log, by topic: status or meta.
    Notice(String),
}

/// How a connection that stood has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The broker closed it, or said a reason that is about a packet.
    pub by_peer: bool,
    /// What was sent first of all that is not acknowledged.
    pub first: Option<Exchange>,
    /// The highest number in flight.
    pub last: Option<u64>,
    /// It alone was in flight.
    pub alone: bool,
    /// All that was given has been written.
    pub written: bool,
    /// So long after the last message was given.
    pub after: Duration,
}

/// Where the search stands.
#[derive(Debug, Default)]
enum Search {
    #[default]
    AtLarge,
    /// Closes so far with this one first.
    Repeats { first: Exchange, closes: u8 },
    /// One at a time, until `until` is acknowledged.
    Narrow { until: Exchange, suspect: Option<Suspect> },
}

#[derive(Debug)]
struct Suspect {
    who: Exchange,
    whole: u8,
    partly: u8,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Culprit {
    search: Search,
    /// The broker has taken something since the last conviction.
    takes: bool,
    /// Topics of convicted messages, with the size of the smallest.
    known: BTreeMap<String, usize>,
}

impl Culprit {
    /// Whether one message at a time is to be sent.
    pub fn is_narrow(&self) -> bool {
        matches!(self.search, Search::Narrow { .. })
    }

    /// Whether the next connection is a trial: it follows soon, and does not count as a failure of the link.
    pub fn is_on_trial(&self) -> bool {
        matches!(self.search, Search::Narrow { suspect: Some(_), .. })
    }

    /// The topic of a notice that the broker closes on each time, where nothing of ours was taken at all: somebody has to
    /// allow it there, or turn it off here.
    pub fn complaint(&self) -> Option<&str> {
        match &self.search {
            Search::Narrow {
                suspect: Some(Suspect { who: Exchange::Notice(topic), whole: ALONE_MAX.., .. }), ..
            } => Some(topic),
            _ => None,
        }
    }

    /// Whether a message of the same topic that was no larger has been convicted: it is to be sent alone, and one
    /// prompt close is enough.
    pub fn resembles(&self, topic: &str, bytes: usize) -> bool {
        self.known.get(topic).is_some_and(|&convicted| bytes >= convicted)
    }

    /// The broker has acknowledged it, or refused it in words, or acknowledged its PUBLISH at QoS 2.
    pub fn acknowledged(&mut self, who: &Exchange) {
        self.takes = true;
        let is_over = match &mut self.search {
            Search::AtLarge => false,
            // Status and metas go through on each connection, and say nothing about a message.
            Search::Repeats { first, .. } => matches!(who, Exchange::Message(_)) || first == who,
            Search::Narrow { until, suspect } => {
                if suspect.as_ref().is_some_and(|suspect| suspect.who == *who) {
                    *suspect = None;
                }
                match (who, until) {
                    (Exchange::Message(number), Exchange::Message(until)) => number >= until,
                    // Notices go first, all of them.
                    (Exchange::Message(_), Exchange::Notice(_)) => true,
                    (who, until) => who == until,
                }
            }
        };
        if is_over {
            self.search = Search::AtLarge;
        }
    }

    /// A message that [`Culprit::resembles`] a convicted one was acknowledged: the topic is cleared.
    pub fn cleared(&mut self, topic: &str) {
        self.known.remove(topic);
    }

    /// It was convicted, and was a message of this topic and size.
    pub fn remember(&mut self, topic: &str, bytes: usize) {
        if self.known.len() >= TOPICS_MAX && !self.known.contains_key(topic) {
            self.known.clear();
        }
        let known = self.known.entry(topic.to_owned()).or_insert(bytes);
        *known = bytes.min(*known);
    }

    /// A connection that stood has ended. Gives whom to blame, once that is clear. `patience`: half the keep-alive,
    /// after which a broker closes because it hears nothing. `resembles`: see [`Culprit::resembles`].
    pub fn ended(&mut self, ending: &Ending, patience: Duration, resembles: bool) -> Option<Exchange> {
        let first = ending.first.as_ref().filter(|_| ending.by_peer)?;
        let promptly = ending.after <= PROMPTLY_MAX.min(patience);
        if ending.alone && promptly && resembles && self.takes {
            return Some(self.convict(first.clone()));
        }
        match &mut self.search {
            Search::AtLarge => self.search = Search::Repeats { first: first.clone(), closes: 1 },
            Search::Repeats { first: before, closes } if before == first => {
                *closes += 1;
                if *closes >= REPEATS_MAX {
                    let until = ending.last.map_or_else(|| first.clone(), Exchange::Message);
                    self.search = Search::Narrow { until, suspect: None };
                }
            }
            Search::Repeats { first: before, closes } => (*before, *closes) = (first.clone(), 1),
            Search::Narrow { suspect, .. } if ending.alone && promptly => {
                let suspect = match suspect {
                    Some(suspect) if suspect.who == *first => suspect,
                    other => other.insert(Suspect { who: first.clone(), whole: 0, partly: 0 }),
                };
                let count = if ending.written { &mut suspect.whole } else { &mut suspect.partly };
                *count = count.saturating_add(1);
                let is_clear = suspect.whole >= ALONE_MAX || suspect.whole.saturating_add(suspect.partly) >= PARTLY_MAX;
                if is_clear && self.takes {
                    return Some(self.convict(first.clone()));
                }
            }
            Search::Narrow { .. } => {}
        }
        None
    }

    fn convict(&mut self, who: Exchange) -> Exchange {
        self.search = Search::AtLarge;
        self.takes = false;
        who
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(15);

    fn message(number: u64) -> Exchange {
        Exchange::Message(number)
    }

    /// The broker closed with these in flight, the first of them in its mind.
    fn closed(first: u64, last: u64) -> Ending {
        Ending {
            by_peer: true,
            first: Some(message(first)),
            last: Some(last),
            alone: first == last,
            written: true,
            after: Duration::from_millis(5),
        }
    }

    fn ends(culprit: &mut Culprit, ending: &Ending) -> Option<Exchange> {
        culprit.ended(ending, PATIENCE, false)
    }

    /// One that the broker has taken something from, and that has closed three times with 10 to 29 in flight.
    fn narrow() -> Culprit {
        let mut culprit = Culprit::default();
        culprit.acknowledged(&message(9));
        for close in 1..=REPEATS_MAX {
            assert!(!culprit.is_narrow(), "{close}");
            culprit.acknowledged(&Exchange::Notice("status".into()));
            assert_eq!(ends(&mut culprit, &closed(10, 29)), None);
        }
        assert!(culprit.is_narrow());
        culprit
    }

    #[test]
    fn the_one_that_is_alone_each_time_is_convicted() {
        let mut culprit = narrow();
        culprit.acknowledged(&Exchange::Notice("status".into()));
        culprit.acknowledged(&message(10));
        culprit.acknowledged(&message(11));
        for _ in 1..ALONE_MAX {
            assert_eq!(ends(&mut culprit, &closed(12, 12)), None);
            assert!(culprit.is_on_trial());
            culprit.acknowledged(&Exchange::Notice("status".into()));
        }
        assert_eq!(ends(&mut culprit, &closed(12, 12)), Some(message(12)));
        assert!(!culprit.is_narrow(), "the rest goes on as before");
    }

    #[test]
    fn it_ends_where_all_that_was_in_flight_is_acknowledged() {
        let mut culprit = narrow();
        (10..29).for_each(|number| culprit.acknowledged(&message(number)));
        assert!(culprit.is_narrow());
        culprit.acknowledged(&message(29));
        assert!(!culprit.is_narrow());
    }

    /// Only what the broker itself ended counts, promptly, and never what a link did.
    #[test]
    fn a_bad_link_convicts_nobody() {
        let mut culprit = Culprit::default();
        culprit.acknowledged(&message(1));
        for _ in 0..100 {
            let broken = Ending { by_peer: false, ..closed(10, 10) };
            assert_eq!(ends(&mut culprit, &broken), None);
        }
        assert!(!culprit.is_narrow());
        let mut culprit = narrow();
        for _ in 0..100 {
            assert_eq!(ends(&mut culprit, &Ending { by_peer: false, ..closed(10, 10) }), None);
            let late = Ending { after: PATIENCE + Duration::from_secs(1), ..closed(10, 10) };
            assert_eq!(ends(&mut culprit, &late), None, "it heard nothing, and closed for that");
            assert_eq!(ends(&mut culprit, &closed(10, 12)), None, "not alone");
            assert_eq!(ends(&mut culprit, &Ending { first: None, last: None, ..closed(10, 10) }), None);
        }
    }

    #[test]
    fn progress_begins_the_count_anew() {
        let mut culprit = Culprit::default();
        for number in 0..100 {
            assert_eq!(ends(&mut culprit, &closed(number, number + 20)), None, "another one is first each time");
            assert_eq!(ends(&mut culprit, &closed(number, number + 20)), None);
            assert!(!culprit.is_narrow());
        }
        let mut culprit = narrow();
        for _ in 0..10 {
            ends(&mut culprit, &closed(10, 10));
            ends(&mut culprit, &closed(10, 10));
            culprit.acknowledged(&message(10));
        }
        assert_eq!(ends(&mut culprit, &closed(11, 11)), None, "an acknowledgement clears");
    }

    /// A broker that takes nothing (rights that were withdrawn) does not empty the buffer into gaps.
    #[test]
    fn a_broker_that_takes_nothing_costs_one_message_at_most() {
        let mut culprit = narrow();
        let convicted = (0..1000).filter(|number| ends(&mut culprit, &closed(10 + number / 60, 29)).is_some()).count();
        let alone = (0..1000).filter(|_| ends(&mut culprit, &closed(10, 10)).is_some()).count();
        assert_eq!((convicted, alone), (0, 1));
        for _ in 0..1000 {
            assert_eq!(ends(&mut culprit, &closed(11, 11)), None);
        }
        culprit.acknowledged(&Exchange::Notice("status".into()));
        assert!((0..10).any(|_| ends(&mut culprit, &closed(11, 11)).is_some()), "and goes on when it takes something");
    }

    /// What is only partly written when the broker closes needs more evidence.
    #[test]
    fn a_part_counts_less() {
        let mut culprit = narrow();
        let partly = Ending { written: false, ..closed(10, 10) };
        for _ in 1..PARTLY_MAX {
            assert_eq!(ends(&mut culprit, &partly), None);
        }
        assert_eq!(ends(&mut culprit, &partly), Some(message(10)));
    }

    #[test]
    fn a_notice_is_left_out_where_something_else_is_taken_and_complained_of_where_not() {
        let mut culprit = Culprit::default();
        let notice = Exchange::Notice("meta".into());
        let ending = Ending { first: Some(notice.clone()), last: None, alone: true, ..closed(0, 0) };
        assert!((0..100).all(|_| ends(&mut culprit, &ending).is_none()));
        assert_eq!(culprit.complaint(), Some("meta"));
        let blamed: Vec<_> = (0..6)
            .filter_map(|_| {
                culprit.acknowledged(&Exchange::Notice("status".into()));
                ends(&mut culprit, &ending)
            })
            .collect();
        assert_eq!((blamed, culprit.complaint()), (vec![notice], None));
    }

    #[test]
    fn what_resembles_a_convicted_one_needs_one_close() {
        let mut culprit = Culprit::default();
        culprit.remember("t", 2000);
        culprit.remember("t", 3000);
        assert!(culprit.resembles("t", 2000) && !culprit.resembles("t", 1999) && !culprit.resembles("u", 5000));
        assert_eq!(culprit.ended(&closed(5, 5), PATIENCE, true), None, "nothing was taken since");
        culprit.acknowledged(&message(4));
        assert_eq!(culprit.ended(&closed(5, 6), PATIENCE, true), None, "not alone");
        assert_eq!(culprit.ended(&closed(5, 5), PATIENCE, true), Some(message(5)));
        culprit.cleared("t");
        assert!(!culprit.resembles("t", 9999));
        (0..1000).for_each(|n| culprit.remember(&n.to_string(), 1));
        assert!(culprit.known.len() <= TOPICS_MAX);
    }
}
