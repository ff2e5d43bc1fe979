//! From the log to the broker: connects, gives the session what it wants, and brings acknowledgements back.
//!
//! ```text
//!  waiting ──▶ connecting ──▶ connected ──┐        on each connection: status, metas, then the log
//!     ▲            │ refused, failed      │ link lost, refused
//!     └────────────┴──────────────────────┘        full jitter; a list of brokers in order of preference
//! ```
//!
//! The only place that sees spool, encode and net together. Invariants: what is sent comes from the log and stays
//! there until the broker has it; after every CONNACK the log is read again from the first message that is not
//! done, so that what was in flight goes out again in its order (R6) or, in a new session, as new (R7); what the
//! rules of "Exactly once" want durable first is durable before the session is told to go on.

mod backlog;
mod blame;
mod brokers;
mod commands;
mod culprit;
mod doubt;
mod events;
mod give;
mod leave;
mod link;
mod options;
mod quirks;
mod side;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::commands::Commands;
use super::log::{self, Ended, Log, SessionStep};
use super::metas::{MetaList, Metas};
use crate::config::{self, BrokerUrl};
use crate::encode;
use crate::mqtt::reconnect::{Backoff, Failure, STANDING_MIN};
use crate::mqtt::session::Connected;
use crate::mqtt::{Options, QoS, Reason, Session, Version};
use crate::net::{ConnectError, Connection, Dialer, Fingerprint, Step, Target};
use crate::os::clock;
use crate::reading::Timestamp;
use crate::status::{self, LinkState};

pub(in crate::agent) use backlog::{GapRoute, Routes};

use brokers::Brokers;
use commands::Intake;
use culprit::{By, Culprit};
use doubt::Doubt;
use quirks::Quirks;
use side::Side;
use window::Window;

/// Connections in a row that follow soon although the broker took nothing on any of them (F-23).
const SOONS_MAX: u32 = 8;
/// Most messages of QoS 1 and 2 that are in flight, whatever a broker allows (R2).
pub const IN_FLIGHT_MAX: u16 = 1024;
/// How long a clean stop may take for what is still in the log.
pub const DRAIN_MAX: Duration = Duration::from_secs(5);
/// How long a clean stop may take for `stopped` and DISCONNECT.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
/// How long an attempt to connect that is under way when the agent is to end may still take: a broker that answers
/// is told `stopped`.
const LAST_ATTEMPT_MAX: Duration = Duration::from_secs(3);
/// How long the end may take altogether.
pub const END_MAX: Duration = Duration::from_secs(10);

/// Who owns the publisher's durable values in the log.
const OWNER_OF_VALUES: &str = "publisher";
/// Durable value: the meta topics that hold something at the broker, as a JSON list.
const METAS: &str = "metas";
/// Durable value: whose the session is.
const SESSION_OWNER: &str = "session-owner";
/// Durable value: of the owner of the session, while its broker has spoken 5 last.
const SPEAKS_5: &str = "speaks-5";

/// Whether and how the publisher is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is not.
    No,
    /// Another one takes over: say good-bye, leave the rest to it.
    Handover,
    /// The agent ends: send what can be sent, say `stopped`.
    End,
}

/// What the publisher needs to know.
pub struct Setup {
    /// The way to the broker.
    pub mqtt: config::Mqtt,
    /// The agent's id.
    pub agent: String,
    /// Whether a source uses QoS 2.
    pub exactly_once: bool,
    /// See `buffer.replay_rate`.
    pub replay_rate: u32,
}

/// See the head of this file.
pub struct Publisher {
    setup: Setup,
    log: Log,
    metas: watch::Receiver<Metas>,
    status: watch::Sender<status::Mqtt>,
    session: Session,
    window: Window,
    side: Side,
    intake: Intake,
    brokers: Brokers,
    backoff: Backoff,
    /// Which message makes the broker close, if one does (F-28).
    culprit: Culprit,
    /// The connection ended over one message: the next one follows soon.
    soon: bool,
    /// How often it did without anything that the broker took.
    soons: u32,
    routes: backlog::Routes,
    rate: backlog::Rate,
    dialer: Dialer,
    /// How often a message was refused for now.
    refusals: BTreeMap<u64, u8>,
    /// Gaps that were refused with their sources, and are said once more without.
    bare_gaps: BTreeSet<u64>,
    /// What became of messages since the log was told last.
    steps: Vec<log::Step>,
    /// Running number of the last step.
    steps_given: u64,
    /// Whether a present session is ours (R7).
    doubt: Doubt,
    /// The session is not to be trusted any more (R9); the log does not know yet.
    distrusted: bool,
    /// The list of published metas is another one; the log does not know yet.
    metas_changed: bool,
    /// The next CONNECT has Clean Start.
    clean: bool,
    /// Whose the session is; see [`Publisher::owner_of_session`].
    owner: Option<String>,
    /// The owner whose broker has spoken 5, as it is kept.
    speaks_5: Option<String>,
    /// What was said of the broker.
    quirks: Quirks,
}

/// How a connection ended.
enum End {
    /// The agent stops, and `stopped` was said as far as could be.
    Stopped,
    /// There is something better: the next attempt follows at once.
    Left,
    /// Another attempt is due.
    Lost {
        failure: Failure,
        why: String,
        /// Who ended it.
        by: By,
    },
    /// The broker names another one.
    Redirected { failure: Failure, why: String, server_reference: Option<Box<str>> },
}

impl Publisher {
    /// A publisher that has not connected yet.
    pub fn new(
        setup: Setup,
        log: Log,
        metas: &MetaList,
        commands: &Commands,
        in_flight_bytes: usize,
    ) -> (Self, watch::Receiver<status::Mqtt>) {
        let (status, shown) = watch::channel(status::Mqtt { state: LinkState::Connecting, ..status::Mqtt::default() });
        let backoff = Backoff::new(setup.mqtt.reconnect_min, setup.mqtt.reconnect_max);
        let publisher = Self {
            session: Session::new(IN_FLIGHT_MAX, in_flight_bytes),
            window: Window::default(),
            side: Side::new(&setup),
            intake: Intake::new(commands, setup.mqtt.topics.command.clone()),
            brokers: Brokers::new(&setup.mqtt),
            backoff,
            culprit: Culprit::default(),
            soon: false,
            soons: 0,
            routes: backlog::Routes::default(),
            rate: backlog::Rate::new(setup.replay_rate),
            dialer: Dialer::new(),
            refusals: BTreeMap::new(),
            bare_gaps: BTreeSet::new(),
            steps: Vec::new(),
            steps_given: 0,
            doubt: Doubt::default(),
            distrusted: false,
            metas_changed: false,
            clean: false,
            owner: None,
            speaks_5: None,
            quirks: Quirks::default(),
            setup,
            log,
            metas: metas.watch(),
            status,
        };
        (publisher, shown)
    }

    /// Connects and publishes until `stop` says so.
    pub async fn run(mut self, mut stop: watch::Receiver<Stop>) {
        if let Err(error) = self.lives(&mut stop).await {
            error!("nothing is published any more: {error}");
        }
    }

    /// Connection after connection.
    async fn lives(&mut self, stop: &mut watch::Receiver<Stop>) -> Result<(), Ended> {
        self.restore().await?;
        while *stop.borrow() == Stop::No {
            let end = self.attempt(stop).await;
            self.tell_log().await?;
            let (failure, why) = match end? {
                End::Stopped => break,
                End::Left => continue,
                End::Lost { failure, why, .. } => (failure, why),
                End::Redirected { failure, why, .. } => (failure, why),
            };
            let pause = if std::mem::take(&mut self.soon) && self.soons < SOONS_MAX {
                self.soons += 1;
                self.backoff.soon(random())
            } else {
                self.backoff.next(failure, random())
            };
            self.shown(LinkState::Waiting, |status| status.last_error = Some(why));
            info!("next attempt to connect in {:.1} s", pause.as_secs_f64());
            tokio::select! {
                _ = stopped(stop) => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(())
    }

    /// What the broker may still know of an earlier process.
    async fn restore(&mut self) -> Result<(), Ended> {
        for (key, value) in self.log.values(OWNER_OF_VALUES).await? {
            match key.as_str() {
                METAS => self.side.remember(&value),
                commands::FILTERS => self.intake.remember(&value),
                SPEAKS_5 => self.speaks_5 = String::from_utf8(value).ok(),
                SESSION_OWNER => self.owner = String::from_utf8(value).ok(),
                _ => {}
            }
        }
        for url in self.setup.mqtt.urls.clone() {
            if self.speaks_5 == Some(self.owner_of_session(&url)) {
                self.brokers.speaks_5(&url);
            }
        }
        let at = self.log.session(SessionStep::Look).await?;
        self.clean = at.clean;
        self.doubt.is_doubtful = at.connecting;
        let mut sent = Vec::new();
        let mut from = at.done_below;
        while from < at.sent_below {
            let Ok(chunk) = self.log.read(from).await?.await else { return Err(Ended) };
            from = chunk.next;
            let items = self.items(&chunk);
            let may_be_sent =
                items.iter().filter(|item| item.origin.number < at.sent_below && item.qos != QoS::AtMostOnce);
            sent.extend(may_be_sent.map(|item| (window::packet_id(item.origin.number), item.qos)));
            if chunk.entries.is_empty() {
                break;
            }
        }
        let released: Vec<_> = at.released.iter().map(|&number| window::packet_id(number)).collect();
        self.session.restore(&released, &sent);
        Ok(())
    }

    /// One connection, from dialling to its end.
    async fn attempt(&mut self, stop: &mut watch::Receiver<Stop>) -> Result<End, Ended> {
        let Some((url, version)) = self.brokers.current() else {
            return Ok(End::Lost { failure: Failure::Network, why: "no broker is configured".into(), by: By::Link });
        };
        self.shown(LinkState::Connecting, |status| status.broker = Some(url.to_string()));
        let target = Target::new(&self.setup.mqtt, &url, options::credentials().as_deref());
        // Before they are read: what changes in between is seen as a change.
        let files = Fingerprint::of(&target, self.setup.mqtt.password.as_ref()).await;
        let options = match options::options(&self.setup, version, self.log.boot()).await {
            Ok(options) => options,
            Err(why) => {
                error!("{why}");
                return Ok(End::Lost { failure: Failure::Network, why, by: By::Link });
            }
        };
        let clean_start = self.prepare(&url).await?;
        let doubtful = !clean_start && self.session.has_qos_2_state();
        let dialled = tokio::select! {
            dialled = self.dial(&target, &options, clean_start) => Some(dialled?),
            () = too_late(stop) => None,
        };
        let Some(dialled) = dialled else {
            self.session.disconnected();
            return Ok(End::Stopped);
        };
        match dialled {
            Ok((connection, connected)) => {
                self.brokers.connected();
                self.quirks.connected(&url.to_string(), &self.setup, &options, &connected);
                let began = clock::now();
                let end = self.serve(connection, &connected, &url, files, stop).await;
                self.session.disconnected();
                self.distrusted |= self.doubt.disconnected();
                self.backoff.stood(clock::now().saturating_sub(began));
                let end = end?;
                if let End::Lost { why, .. } = &end {
                    warn!("connection to {url} lost: {why}");
                }
                Ok(self.after(&url, began, end))
            }
            Err(error) => {
                // R7: this CONNECT may have begun another session.
                self.doubt.is_doubtful |= doubtful && error.step() == Step::Connack;
                self.refused(&url, &error);
                Ok(match error.server_reference() {
                    Some(reference) => self.redirect(&url, error.failure(), error.to_string(), reference),
                    None => End::Lost { failure: error.failure(), why: error.to_string(), by: By::Link },
                })
            }
        }
    }

    /// What the end of a connection that stood means for the next one.
    fn after(&mut self, url: &BrokerUrl, began: Duration, end: End) -> End {
        if clock::now().saturating_sub(began) >= STANDING_MIN {
            self.brokers.stood();
            self.side.stood();
        }
        match end {
            End::Redirected { failure, why, server_reference } => {
                self.redirect(url, failure, why, server_reference.as_deref())
            }
            end => end,
        }
    }

    /// A broker says that another one is to be used.
    fn redirect(&mut self, url: &BrokerUrl, failure: Failure, why: String, reference: Option<&str>) -> End {
        match self.brokers.redirected(url, reference) {
            Ok(to) => {
                info!("{url} sends us to {to}");
                End::Left
            }
            Err(not) => {
                warn!("{why}; that is not followed: {not}");
                End::Lost { failure, why, by: By::Link }
            }
        }
    }

    /// Up to CONNACK, with a session that outlives the connection.
    async fn dial(
        &mut self,
        target: &Target,
        options: &Options,
        clean_start: bool,
    ) -> Result<Result<(Connection, Connected), ConnectError>, Ended> {
        let limit = self.setup.mqtt.connect_timeout;
        let dialled = self.dialer.connect(target, &mut self.session, options, clean_start, limit).await;
        if !clean_start || options.version != Version::V311 {
            return Ok(dialled);
        }
        let Ok((connection, _)) = dialled else { return Ok(dialled) };
        // In 3.1.1 a clean session ends with its connection: this one has only wiped the old state.
        self.clean = self.log.session(SessionStep::New).await?.clean;
        self.session.disconnect(Reason::SUCCESS, None);
        if let Err(error) = connection.close(&mut self.session, FAREWELL_MAX).await {
            debug!("after wiping the session: {error}");
        }
        self.session.disconnected();
        Ok(self.dialer.connect(target, &mut self.session, options, false, limit).await)
    }

    /// Before CONNECT: whether it has Clean Start, and what must be durable for that (R7, R9).
    async fn prepare(&mut self, url: &BrokerUrl) -> Result<bool, Ended> {
        let owner = self.owner_of_session(url);
        if self.owner.as_ref().is_some_and(|other| *other != owner) {
            // Another broker's, or another client's: nothing is known of what is there.
            return Ok(true);
        }
        if std::mem::take(&mut self.distrusted) {
            self.clean = self.log.session(SessionStep::Distrust).await?.clean;
        }
        if !self.clean {
            self.log.session(SessionStep::Connecting).await?;
        }
        Ok(self.clean)
    }

    /// Whose the session is: delivery state counts for one broker and one client id only. [MQTT-3.1.3-2]
    fn owner_of_session(&self, url: &BrokerUrl) -> String {
        let mqtt = &self.setup.mqtt;
        let place = if mqtt.urls_share_session { "cluster".to_owned() } else { url.to_string() };
        format!("{place} {}", mqtt.client_id)
    }

    /// Keeps a durable value. Without it a meta stays too long at the broker, or a session is started anew.
    async fn keep(&self, key: &str, value: Vec<u8>) {
        if let Err(why) = self.log.set_value(OWNER_OF_VALUES, key.to_owned(), Some(value)).await {
            warn!("{key} can't be kept: {why}");
        }
    }

    /// Hands over what became of messages.
    async fn tell_log(&mut self) -> Result<(), Ended> {
        if std::mem::take(&mut self.metas_changed) {
            self.keep(METAS, self.side.published()).await;
        }
        if self.steps.is_empty() {
            return Ok(());
        }
        self.log.steps(std::mem::take(&mut self.steps), self.steps_given).await
    }

    fn refused(&mut self, url: &BrokerUrl, error: &ConnectError) {
        let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        if self.brokers.failed(error) {
            warn!("{url} refuses MQTT 5, from now on 3.1.1 is used there: {error}");
        } else {
            warn!("no connection to {url}: {error}{hint}");
        }
    }

    fn shown(&self, state: LinkState, change: impl FnOnce(&mut status::Mqtt)) {
        self.status.send_modify(|status| {
            if status.state != state {
                status.state = state;
                status.since = Some(Timestamp(clock::wall_ns()).rfc3339());
            }
            status.in_flight = self.session.in_flight() as u64;
            change(status);
        });
    }

    fn online(&self, state: &str) -> Vec<u8> {
        encode::status(state, env!("CARGO_PKG_VERSION"), self.log.boot(), Timestamp(clock::wall_ns()))
    }
}

/// Waits until the publisher is to stop.
async fn stopped(stop: &mut watch::Receiver<Stop>) -> Stop {
    // A sender that is gone means the end.
    stop.wait_for(|stop| *stop != Stop::No).await.map_or(Stop::End, |stop| *stop)
}

/// Waits until an attempt to connect is no use any more: another publisher takes over, or the agent's end can't wait.
async fn too_late(stop: &mut watch::Receiver<Stop>) {
    if stopped(stop).await == Stop::End {
        tokio::time::sleep(LAST_ATTEMPT_MAX).await;
    }
}

/// Jitter needs no secrecy. Without a source of randomness (an early boot) the clock has to do.
fn random() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => clock::wall_ns().unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15),
    }
}

/// A route that came back from the log.
type SharedRoute = Arc<encode::Route>;
