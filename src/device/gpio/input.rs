//! A line that is read, and its edges.
//!
//! One task a watched line reads what the kernel has queued and hands it to everybody who watches. It ends with the
//! line's last handle, or when the chip goes away: then everybody is woken, and reads the error.

use std::sync::{Arc, Weak};
use std::time::Duration;

use gpiocdev::Request;
use gpiocdev::line::{EdgeDetection, EdgeKind, EventClock};
use gpiocdev::request::Config;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tracing::debug;

use super::edges::{Debounce, Edge, EdgeQueue, Level, Numbers};
use super::{LineError, Place, Wakeups, blocking, failed, level, request};

/// Edges that the kernel keeps until they are read (its own maximum is 1,024 a line).
const KERNEL_EDGES: u32 = 1024;
/// Edges that are read at once.
const READ_AT_ONCE: usize = 64;
/// Longer debouncing than this is no debouncing.
const DEBOUNCE_MAX: Duration = Duration::from_secs(10);

/// What holds an open line at a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// As the board has set it.
    AsIs,
    /// Nothing.
    Disabled,
    /// A resistor to the supply.
    PullUp,
    /// A resistor to ground.
    PullDown,
}

/// How a line is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its bias.
    pub bias: Bias,
    /// Low is active.
    pub active_low: bool,
}

/// A line, as long as somebody has a handle.
pub struct Shared {
    owner: String,
    wanted: Wanted,
    request: Arc<Request>,
    place: Place,
    watching: Mutex<Watching>,
}

#[derive(Default)]
struct Watching {
    /// What the kernel reports now: to active, to inactive, debounced by so much.
    reported: Option<(bool, bool, Duration)>,
    watchers: Watchers,
    reader: Option<Reader>,
}

/// Everybody who watches a line.
type Watchers = Arc<Mutex<Vec<Weak<Watcher>>>>;

/// The task, ended with what it reads for.
struct Reader(JoinHandle<()>);

impl Reader {
    fn has_ended(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Watcher {
    line: Arc<str>,
    wakeups: Wakeups,
    queue: Mutex<EdgeQueue>,
}

/// A handle to a line that is read.
pub struct Input {
    shared: Arc<Shared>,
    line: Arc<str>,
    wakeups: Wakeups,
    watcher: Option<Arc<Watcher>>,
}

impl Shared {
    pub(super) async fn open(owner: &str, place: &Place, wanted: Wanted) -> Result<Self, LineError> {
        let request = request(place, move |builder| {
            builder.as_input().with_bias(wanted.bias.of_kernel()).with_event_clock(EventClock::Realtime);
            if wanted.active_low {
                builder.as_active_low();
            }
            builder.with_kernel_event_buffer_size(KERNEL_EDGES);
        });
        Ok(Self {
            owner: owner.to_owned(),
            wanted,
            request: Arc::new(request.await?),
            place: place.clone(),
            watching: Mutex::default(),
        })
    }

    /// Whether this source may share it.
    pub(super) fn fits(&self, owner: &str, wanted: Wanted) -> bool {
        self.owner == owner && self.wanted == wanted
    }

    async fn level(&self) -> Result<Level, LineError> {
        blocking(&self.request, |request| request.lone_value().map(level).map_err(|error| failed(&error))).await
    }

    /// Has the kernel report edges. Gives whether it debounces as well.
    async fn detect(&self, edges: EdgeDetection, debounce: Duration) -> Result<bool, LineError> {
        let set = |debounce: Option<Duration>| {
            let (offset, wanted) = (self.place.offset, self.wanted);
            blocking(&self.request, move |request| {
                let mut config = Config::default();
                config.with_line(offset).as_input().with_bias(wanted.bias.of_kernel());
                config.with_edge_detection(edges).with_event_clock(EventClock::Realtime);
                if wanted.active_low {
                    config.as_active_low();
                }
                if let Some(period) = debounce {
                    config.with_debounce_period(period);
                }
                request.reconfigure(&config).map_err(|error| failed(&error))
            })
        };
        if debounce.is_zero() {
            return set(None).await.map(|()| true);
        }
        match set(Some(debounce)).await {
            Ok(()) => Ok(true),
            Err(error) => {
                debug!(line = %self.place.offset, "the kernel does not debounce: {error}");
                set(None).await.map(|()| false)
            }
        }
    }

    async fn watch(
        &self,
        watcher: &Arc<Watcher>,
        rising: bool,
        falling: bool,
        period: Duration,
    ) -> Result<(), LineError> {
        let period = period.min(DEBOUNCE_MAX);
        let mut watching = self.watching.lock().await;
        let (was_rising, was_falling, _) = watching.reported.unwrap_or_default();
        let wanted = (rising | was_rising, falling | was_falling, period);
        if watching.reported != Some(wanted) || watching.reader.as_ref().is_none_or(Reader::has_ended) {
            let edges = match (wanted.0, wanted.1) {
                (true, false) => EdgeDetection::RisingEdge,
                (false, true) => EdgeDetection::FallingEdge,
                _ => EdgeDetection::BothEdges,
            };
            let debounce = if self.detect(edges, period).await? {
                None
            } else {
                // It needs to see both.
                self.detect(EdgeDetection::BothEdges, Duration::ZERO).await?;
                Some((period, Debounce::new(self.level().await?)))
            };
            let task = Task {
                fd: register(self.request.clone())?,
                watchers: watching.watchers.clone(),
                numbers: Numbers::default(),
                debounce,
            };
            watching.reader = Some(Reader(tokio::spawn(task.run())));
            watching.reported = Some(wanted);
        }
        let mut watchers = watching.watchers.lock().await;
        watchers.retain(|watcher| watcher.strong_count() > 0);
        watchers.push(Arc::downgrade(watcher));
        Ok(())
    }
}

#[expect(deprecated, reason = "the request owns its descriptor as long as it lives; what replaces this is unsafe")]
fn register(request: Arc<Request>) -> Result<AsyncFd<Arc<Request>>, LineError> {
    AsyncFd::new(request).map_err(|error| LineError::Hardware(error.to_string()))
}

/// Reads a line's edges.
struct Task {
    fd: AsyncFd<Arc<Request>>,
    watchers: Watchers,
    numbers: Numbers,
    debounce: Option<(Duration, Debounce)>,
}

impl Task {
    async fn run(mut self) {
        if let Err(error) = self.read().await {
            debug!("a line's edges end: {error}");
            for watcher in self.watchers.lock().await.iter().filter_map(Weak::upgrade) {
                watcher.wakeups.wake(&watcher.line).await;
            }
        }
    }

    async fn read(&mut self) -> Result<(), LineError> {
        loop {
            let unsettled =
                self.debounce.as_ref().filter(|(_, debounce)| debounce.unsettled()).map(|(period, _)| *period);
            let edges = match unsettled {
                Some(period) => tokio::time::timeout(period, ready(&self.fd)).await.ok(),
                None => Some(ready(&self.fd).await),
            };
            match edges {
                Some(edges) => {
                    for (number, edge) in edges? {
                        let lost = self.numbers.lost_before(number);
                        match &mut self.debounce {
                            Some((_, debounce)) => debounce.moved(edge),
                            None => hand_over(&self.watchers, edge, lost).await,
                        }
                    }
                }
                None => self.settle().await?,
            }
        }
    }

    /// The line has been still.
    async fn settle(&mut self) -> Result<(), LineError> {
        let request = self.fd.get_ref();
        let now = blocking(request, |request| request.lone_value().map(level).map_err(|error| failed(&error))).await?;
        let edge = self.debounce.as_mut().and_then(|(_, debounce)| debounce.settled(now));
        if let Some(edge) = edge {
            hand_over(&self.watchers, edge, 0).await;
        }
        Ok(())
    }
}

/// What the kernel has queued, with its numbers; waits for it. Cancel safe.
async fn ready(fd: &AsyncFd<Arc<Request>>) -> Result<Vec<(u32, Edge)>, LineError> {
    loop {
        let mut guard = fd.readable().await.map_err(|error| LineError::Hardware(error.to_string()))?;
        let edges = read_edges(fd.get_ref())?;
        if edges.is_empty() {
            guard.clear_ready();
        } else {
            return Ok(edges);
        }
    }
}

/// What the kernel has queued; does not wait.
fn read_edges(request: &Request) -> Result<Vec<(u32, Edge)>, LineError> {
    let mut edges = Vec::new();
    if !request.has_edge_event().map_err(|error| failed(&error))? {
        return Ok(edges);
    }
    let size = request.edge_event_u64_size();
    let mut buffer = vec![0_u64; size * READ_AT_ONCE];
    let words = request.read_edge_events_into_slice(&mut buffer).map_err(|error| failed(&error))?;
    for raw in buffer.get(..words).unwrap_or_default().chunks_exact(size) {
        let event = request.edge_event_from_slice(raw).map_err(|error| failed(&error))?;
        let to = match event.kind {
            EdgeKind::Rising => Level::Active,
            EdgeKind::Falling => Level::Inactive,
        };
        edges.push((event.line_seqno, Edge { to, at_ns: i64::try_from(event.timestamp_ns).unwrap_or(i64::MAX) }));
    }
    Ok(edges)
}

async fn hand_over(watchers: &Watchers, edge: Edge, lost: u32) {
    for watcher in watchers.lock().await.iter().filter_map(Weak::upgrade) {
        if watcher.queue.lock().await.push(edge, lost) {
            watcher.wakeups.wake(&watcher.line).await;
        }
    }
}

impl Input {
    pub(super) const fn new(shared: Arc<Shared>, line: Arc<str>, wakeups: Wakeups) -> Self {
        Self { shared, line, wakeups, watcher: None }
    }

    /// Its level now.
    pub async fn read(&self) -> Result<Level, LineError> {
        self.shared.level().await
    }

    /// Begins to queue and to count edges: to active (`rising`), to inactive (`falling`), once the line has kept still
    /// for `debounce`. What was queued before is forgotten.
    pub async fn watch(&mut self, rising: bool, falling: bool, debounce: Duration) -> Result<(), LineError> {
        let queue = Mutex::new(EdgeQueue::new(rising, falling));
        let watcher = Arc::new(Watcher { line: self.line.clone(), wakeups: self.wakeups.clone(), queue });
        self.watcher = None;
        self.shared.watch(&watcher, rising, falling, debounce).await?;
        self.watcher = Some(watcher);
        Ok(())
    }

    /// At most `max` edges, each with its number, and how many were lost since the last time. Where some are left the
    /// source is woken again.
    pub async fn take_edges(&self, max: usize) -> (Vec<(u32, Edge)>, u32) {
        let Some(watcher) = &self.watcher else { return (Vec::new(), 0) };
        let mut queue = watcher.queue.lock().await;
        let taken = queue.take(max);
        if queue.waits() {
            self.wakeups.wake(&self.line).await;
        }
        taken
    }

    /// Edges since it is watched: to active, to inactive.
    pub async fn count(&self) -> (u64, u64) {
        match &self.watcher {
            Some(watcher) => watcher.queue.lock().await.counts(),
            None => (0, 0),
        }
    }
}

impl Bias {
    const fn of_kernel(self) -> Option<gpiocdev::line::Bias> {
        match self {
            Self::AsIs => None,
            Self::Disabled => Some(gpiocdev::line::Bias::Disabled),
            Self::PullUp => Some(gpiocdev::line::Bias::PullUp),
            Self::PullDown => Some(gpiocdev::line::Bias::PullDown),
        }
    }
}
