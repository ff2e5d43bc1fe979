//! Leaving a connection that stands for a better one: the preferred broker is back, or certificates or passwords
//! were renewed (F-25).
//!
//! ```text
//!  looking ── it answers again, new files ──▶ quieting: nothing new is sent ── nothing in flight ──▶ DISCONNECT
//! ```
//!
//! Invariants: delivery state belongs to one (url, client id, session), so the broker is changed only with nothing in
//! flight; files that can't be used change nothing; what is left behind at a broker says `offline`.

use std::time::Duration;

use tokio::task::JoinSet;
use tracing::{info, warn};

use super::link::Link;
use super::{Publisher, options};
use crate::config::BrokerUrl;
use crate::net::{Dialer, Fingerprint, Target};
use crate::os::clock;

/// How often certificate and password files are looked at.
const FILES_EVERY: Duration = Duration::from_secs(3);
/// How long what is in flight may hold up the use of renewed files.
const QUIET_MAX: Duration = Duration::from_secs(10);

/// What is better elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The preferred broker answers again.
    Preferred,
    /// Files that are read at connect have changed.
    Files,
}

/// What is to be done about leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// Go on as before.
    Stay,
    /// Nothing new may be sent.
    Quieten,
    /// Say `offline`, and wait until that is acknowledged.
    SayOffline,
    /// DISCONNECT.
    Go,
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Leave {
    looks: JoinSet<Why>,
    why: Option<(Why, Duration)>,
    has_said: bool,
}

impl Leave {
    /// Nothing to leave for, and nobody who looks.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Nothing new may be sent.
    pub(super) fn is_begun(&self) -> bool {
        self.why.is_some()
    }

    /// Waits until there is something better. Cancel safe.
    pub(super) async fn found(&mut self) -> Why {
        loop {
            match self.looks.join_next().await {
                Some(Ok(why)) => return why,
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    pub(super) fn begin(&mut self, now: Duration, why: Why) {
        if self.why.is_none() {
            self.why = Some((why, now));
        }
    }

    /// What is next; `is_quiet`: nothing is in flight.
    pub(super) fn next(&mut self, now: Duration, is_quiet: bool) -> Move {
        match self.why {
            None => Move::Stay,
            // The session goes on at the same broker: what is in flight can wait for that.
            Some((Why::Files, since)) if is_quiet || now >= since + QUIET_MAX => Move::Go,
            Some((Why::Preferred, _)) if is_quiet && self.has_said => Move::Go,
            Some((Why::Preferred, _)) if is_quiet => {
                self.has_said = true;
                Move::SayOffline
            }
            Some(_) => Move::Quieten,
        }
    }
}

impl Publisher {
    /// Begins to look for something better than the connection to `url`.
    pub(super) fn look_around(&self, link: &mut Link, url: &BrokerUrl, files: Fingerprint) {
        let target = Target::new(&self.setup.mqtt, url, options::credentials().as_deref());
        if files != Fingerprint::NONE {
            let password = self.setup.mqtt.password.clone();
            link.leave.looks.spawn(async move {
                let mut said = files;
                loop {
                    tokio::time::sleep(FILES_EVERY).await;
                    let now = Fingerprint::of(&target, password.as_ref()).await;
                    if now == files || now == said {
                        continue;
                    }
                    match Dialer::new().check_files(&target, password.as_ref()).await {
                        Ok(()) => return Why::Files,
                        Err(error) => warn!("certificate or password files have changed and can't be used: {error}"),
                    }
                    said = now;
                }
            });
        }
        if let Some(preferred) = self.brokers.better_than_current() {
            let target = Target::new(&self.setup.mqtt, &preferred, options::credentials().as_deref());
            let (every, limit) = (self.setup.mqtt.reconnect_max, self.setup.mqtt.connect_timeout);
            link.leave.looks.spawn(async move {
                loop {
                    tokio::time::sleep(every).await;
                    if Dialer::new().reach(&target, limit).await.is_ok() {
                        return Why::Preferred;
                    }
                }
            });
        }
    }

    /// Something better was found.
    pub(super) fn leave_for(&mut self, link: &mut Link, why: Why) {
        match why {
            Why::Preferred => info!("the preferred broker answers again: back to it when nothing is in flight"),
            Why::Files => info!("certificate or password files have changed: connecting again with the new ones"),
        }
        link.leave.begin(clock::now(), why);
    }

    /// Whether the connection is to be left now.
    pub(super) fn leaves(&mut self, link: &mut Link) -> bool {
        let is_quiet = self.window.in_flight() == 0 && self.side.is_idle();
        match link.leave.next(clock::now(), is_quiet) {
            Move::Go => return true,
            Move::SayOffline => {
                let offline = self.online("offline");
                self.side.status(offline);
            }
            Move::Stay | Move::Quieten => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn the_broker_is_changed_with_nothing_in_flight_only() {
        let mut leave = Leave::new();
        assert_eq!(leave.next(NOW, true), Move::Stay);
        leave.begin(NOW, Why::Preferred);
        assert!(leave.is_begun());
        for hour in 1..100 {
            assert_eq!(leave.next(NOW + Duration::from_secs(3600 * hour), false), Move::Quieten);
        }
        assert_eq!(leave.next(NOW, true), Move::SayOffline);
        assert_eq!(leave.next(NOW, false), Move::Quieten, "`offline` is in flight");
        assert_eq!(leave.next(NOW, true), Move::Go);
    }

    #[test]
    fn renewed_files_wait_for_a_quiet_moment_and_not_for_ever() {
        let mut leave = Leave::new();
        leave.begin(NOW, Why::Files);
        leave.begin(NOW + QUIET_MAX, Why::Preferred);
        assert_eq!(leave.next(NOW, false), Move::Quieten);
        assert_eq!(leave.next(NOW, true), Move::Go);
        assert_eq!(leave.next(NOW + QUIET_MAX, false), Move::Go, "the session is resumed");
    }
}
