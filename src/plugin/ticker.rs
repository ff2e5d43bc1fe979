//! Time that guests take: epochs, and who is charged for them.
//!
//! ```text
//!  future is polled ──▶ guest runs ──▶ waits for the host, or yields ──▶ polled again
//!       enter             ticks                  leave
//! ```
//!
//! - An epoch passes every [`TICK`] while at least one guest runs; when none does, the ticker's thread sleeps.
//! - A guest is charged the epochs that pass while its own future is being polled: waiting for the host, for the
//!   processor behind other tasks, or for a machine that was suspended costs it nothing.
//! - A guest that runs through an epoch hands its thread back to tokio before it goes on, so that it delays others by
//!   a tick.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::{Engine, EngineWeak, UpdateDeadline};

/// The length of an epoch.
pub const TICK: Duration = Duration::from_millis(5);

/// Lets epochs pass while guests run.
pub struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

struct Shared {
    running: AtomicUsize,
    /// The ticker's thread sleeps until it is woken.
    parked: AtomicBool,
    ended: AtomicBool,
    epochs: AtomicU64,
}

/// What one instance is charged. Shared with its Store.
#[derive(Default)]
pub struct Meter {
    /// Epochs charged for the present call, but for those of the present poll.
    spent: AtomicU64,
    /// The epoch in which the present poll began.
    entered: AtomicU64,
    /// More than this ends the call.
    budget: AtomicU64,
}

/// The guest used up its time.
#[derive(Debug, thiserror::Error)]
#[error("the call took longer than it may")]
pub struct Exhausted;

impl Ticker {
    /// Starts the thread.
    pub fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            parked: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            epochs: AtomicU64::new(0),
        });
        let theirs = Arc::clone(&shared);
        let engine = engine.weak();
        let thread = thread::Builder::new().name("plugin-epochs".into()).spawn(move || tick(&engine, &theirs))?;
        Ok(Self { shared, thread: thread.thread().clone() })
    }

    /// Lets the guest inside `call` run, charging `meter`.
    pub async fn run<F: Future>(&self, meter: &Meter, call: F) -> F::Output {
        let mut call = pin!(call);
        poll_fn(|context| {
            let _running = self.enter(meter);
            call.as_mut().poll(context)
        })
        .await
    }

    /// What a Store does when an epoch has passed since its guest began to run: it ends the call, or lets others run.
    pub fn deadline(&self, meter: &Meter) -> wasmtime::Result<UpdateDeadline> {
        let now = self.shared.epochs.load(Ordering::Relaxed);
        let present = now.saturating_sub(meter.entered.load(Ordering::Relaxed));
        if meter.spent.load(Ordering::Relaxed) + present > meter.budget.load(Ordering::Relaxed) {
            return Err(wasmtime::Error::new(Exhausted));
        }
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    }

    fn enter<'a>(&'a self, meter: &'a Meter) -> Running<'a> {
        meter.entered.store(self.shared.epochs.load(Ordering::Relaxed), Ordering::Relaxed);
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running { shared: &self.shared, meter }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Meter {
    /// A call begins that may take this long.
    pub fn begin(&self, limit: Duration) {
        let epochs = limit.as_nanos().div_ceil(TICK.as_nanos());
        self.budget.store(u64::try_from(epochs).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
        self.spent.store(0, Ordering::Relaxed);
    }

    /// What is left of the present call's time, to an epoch.
    pub fn remaining(&self) -> Duration {
        let left = self.budget.load(Ordering::Relaxed).saturating_sub(self.spent.load(Ordering::Relaxed));
        TICK.saturating_mul(u32::try_from(left).unwrap_or(u32::MAX))
    }

    /// Charges time that the guest chose to sleep.
    pub fn charge(&self, time: Duration) {
        let epochs = u64::try_from(time.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX);
        self.spent.fetch_add(epochs, Ordering::Relaxed);
    }
}

/// While it lives, a guest runs.
struct Running<'a> {
    shared: &'a Shared,
    meter: &'a Meter,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.shared.running.fetch_sub(1, Ordering::SeqCst);
        let epochs = self.shared.epochs.load(Ordering::Relaxed);
        let present = epochs.saturating_sub(self.meter.entered.load(Ordering::Relaxed));
        self.meter.spent.fetch_add(present, Ordering::Relaxed);
    }
}

fn tick(engine: &EngineWeak, shared: &Shared) {
    while !shared.ended.load(Ordering::SeqCst) {
        if shared.running.load(Ordering::SeqCst) == 0 {
            // Whoever enters after this line sees `parked`; whoever entered before it is seen in the next.
            shared.parked.store(true, Ordering::SeqCst);
            if shared.running.load(Ordering::SeqCst) == 0 && !shared.ended.load(Ordering::SeqCst) {
                thread::park();
            }
            shared.parked.store(false, Ordering::SeqCst);
            continue;
        }
        #[expect(clippy::disallowed_methods, reason = "this thread's only work is to let time pass")]
        thread::sleep(TICK);
        let Some(engine) = engine.upgrade() else { return };
        shared.epochs.fetch_add(1, Ordering::Relaxed);
        engine.increment_epoch();
    }
}
