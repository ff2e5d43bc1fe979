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
//! Behind TLS a connection may end without TLS's own farewell: some brokers close like that, but anybody on the way can do
//! it too. Such a *cut* counts only as an experiment with a control: the connection has stood for a while, has answered
//! just before, and ends in a fraction of that time once the message is out; [`CUTS_MAX`] times, with nothing else in
//! between. A link that breaks by chance breaks as often while nothing is sent, and begins the count anew: at its most
//! unlucky rate one trial in nine counts (of a link's lifetimes e^-3x (1 - e^-x) at most), ten in a row one in 10^9.
//!
//! Invariants: only a close that the broker itself made counts, or such a cut, never a link that broke otherwise, fell
//! silent or could not be made; nobody is convicted before the broker has acknowledged something of ours since the last conviction, so that
//! a broker which takes nothing at all costs no message; a message that is acknowledged is innocent.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::spool::GapReason;

/// So many closes with the same message first in flight begin the search.
pub const REPEATS_MAX: u8 = 3;
/// So many closes on a message that was alone and written whole convict it.
pub const ALONE_MAX: u8 = 3;
/// The same for one of which the broker took a part only: it may have seen the length and closed, but a link that
/// breaks under load looks much the same.
pub const PARTLY_MAX: u8 = 10;
/// So many cuts in a row, each proved, convict a message.
pub const CUTS_MAX: u8 = 10;
/// The same for one that is like a convicted one.
pub const CUTS_AGAIN_MAX: u8 = 3;
/// A broker that refuses closes within this time; later the reason is another one.
pub const PROMPTLY_MAX: Duration = Duration::from_secs(10);
/// So long a connection has to stand before a cut on it proves something; less with a short keep-alive.
pub const PROOF_MAX: Duration = Duration::from_secs(10);
/// A cut that proves something comes within this part of the time for which the connection stood.
const QUICK_PART: u32 = 3;
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

/// Who has ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The broker: it closed, or said a reason that is about a packet. With what a gap would say then.
    Broker(GapReason),
    /// The broker, or anybody on the way: behind TLS it ended without TLS's farewell.
    Somebody,
    /// The link broke or fell silent, or the end has another reason.
    Link,
}

/// How a connection that stood has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Who has ended it.
    pub by: By,
    /// When the last message was given, the connection had stood for [`proof`], and had just answered.
    pub proved: bool,
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
    Narrow { until: Exchange, suspect: Option<Suspect>, by_cuts: bool },
}

#[derive(Debug)]
struct Suspect {
    who: Exchange,
    whole: u8,
    partly: u8,
    /// Proved, and in a row.
    cuts: u8,
}

impl Suspect {
    fn new(who: Exchange) -> Self {
        Self { who, whole: 0, partly: 0, cuts: 0 }
    }
}

/// How long a connection has to stand before a cut on it proves something.
pub fn proof(keep_alive: Duration) -> Duration {
    if keep_alive.is_zero() { PROOF_MAX } else { PROOF_MAX.min(keep_alive / 3) }
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

    /// Whether a message has to wait until the connection has stood for [`proof`], and has answered.
    pub fn wants_proof(&self) -> bool {
        matches!(self.search, Search::Narrow { by_cuts: true, .. })
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
            Search::Narrow { until, suspect, .. } => {
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

    /// A connection that stood has ended. Gives whom to blame, once that is clear. `resembles`: see
    /// [`Culprit::resembles`].
    pub fn ended(&mut self, ending: &Ending, keep_alive: Duration, resembles: bool) -> Option<Exchange> {
        let is_counted = self.counts_as_cut(ending, keep_alive, resembles);
        let first = ending.first.as_ref().filter(|_| ending.by != By::Link)?;
        // After half the keep-alive a broker closes because it hears nothing.
        let patience = if keep_alive.is_zero() { Duration::MAX } else { keep_alive / 2 };
        let is_prompt = ending.alone && ending.after <= PROMPTLY_MAX.min(patience);
        let by_broker = matches!(ending.by, By::Broker(_));
        if is_prompt && by_broker && resembles && self.takes {
            return Some(self.convict(first.clone()));
        }
        match &mut self.search {
            Search::AtLarge => self.search = Search::Repeats { first: first.clone(), closes: 1 },
            Search::Repeats { first: before, closes } if before == first => {
                *closes += 1;
                if *closes >= REPEATS_MAX {
                    let until = ending.last.map_or_else(|| first.clone(), Exchange::Message);
                    self.search = Search::Narrow { until, suspect: None, by_cuts: !by_broker };
                }
            }
            Search::Repeats { first: before, closes } => (*before, *closes) = (first.clone(), 1),
            Search::Narrow { suspect, by_cuts, .. } if (is_prompt && by_broker) || is_counted => {
                *by_cuts = !by_broker;
                let suspect = match suspect {
                    Some(suspect) if suspect.who == *first => suspect,
                    other => other.insert(Suspect::new(first.clone())),
                };
                let count = match (is_counted, ending.written) {
                    (true, _) => &mut suspect.cuts,
                    (false, true) => &mut suspect.whole,
                    (false, false) => &mut suspect.partly,
                };
                *count = count.saturating_add(1);
                let is_clear = suspect.whole >= ALONE_MAX
                    || suspect.whole.saturating_add(suspect.partly) >= PARTLY_MAX
                    || suspect.cuts >= if resembles { CUTS_AGAIN_MAX } else { CUTS_MAX };
                if is_clear && self.takes {
                    return Some(self.convict(first.clone()));
                }
            }
            Search::Narrow { by_cuts, .. } => *by_cuts |= !by_broker,
        }
        None
    }

    /// Whether this end is a cut that proves something. One that does not says that the link is bad: the count begins
    /// anew.
    fn counts_as_cut(&mut self, ending: &Ending, keep_alive: Duration, resembles: bool) -> bool {
        let is_quick = ending.after <= proof(keep_alive) / QUICK_PART;
        let is_proved = ending.by == By::Somebody && ending.alone && ending.proved && is_quick;
        if is_proved && resembles && !self.is_narrow() {
            // Its like was convicted: the trial goes on at once.
            let until = ending.first.clone().unwrap_or(Exchange::Message(0));
            self.search = Search::Narrow { until, suspect: None, by_cuts: true };
        }
        if let Search::Narrow { suspect: Some(suspect), .. } = &mut self.search
            && !is_proved
        {
            suspect.cuts = 0;
        }
        is_proved && self.is_narrow()
    }

    fn convict(&mut self, who: Exchange) -> Exchange {
        self.search = Search::AtLarge;
        self.takes = false;
        who
    }
}

#[cfg(test)]
mod tests;
