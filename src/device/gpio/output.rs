//! A line that is driven.
//!
//! Its safe level is set when its last handle is gone: the plugin closed it, ended, or died; the agent stops. (After
//! kill -9 or a power cut it is the kernel's driver and the board that decide.)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gpiocdev::Request;
use tracing::warn;

use super::edges::Level;
use super::{LineError, Place, blocking, failed, level, request, value};

/// The longest pulse.
pub const PULSE_MAX: Duration = Duration::from_secs(60);

/// How a line is to be driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Low is active.
    pub active_low: bool,
    /// Its level when it is opened.
    pub initial: Level,
    /// Its level when nobody drives it any more.
    pub safe: Level,
}

/// A line, as long as somebody has a handle.
pub struct Shared {
    owner: String,
    wanted: Wanted,
    request: Arc<Request>,
    /// Grows with each order: the end of a pulse that was overtaken does nothing.
    orders: AtomicU64,
}

/// A handle to a line that is driven.
pub struct Output(Arc<Shared>);

impl Shared {
    pub(super) async fn open(owner: &str, place: &Place, wanted: Wanted) -> Result<Self, LineError> {
        let request = request(place, move |builder| {
            builder.as_output(value(wanted.initial));
            if wanted.active_low {
                builder.as_active_low();
            }
        });
        let request = Arc::new(request.await?);
        Ok(Self { owner: owner.to_owned(), wanted, request, orders: AtomicU64::new(0) })
    }

    /// Whether this source may share it. Its initial level has passed.
    pub(super) fn fits(&self, owner: &str, wanted: Wanted) -> bool {
        self.owner == owner && self.wanted.active_low == wanted.active_low && self.wanted.safe == wanted.safe
    }

    async fn drive(&self, to: Level) -> Result<(), LineError> {
        blocking(&self.request, move |request| request.set_lone_value(value(to)).map_err(|error| failed(&error))).await
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Err(error) = self.request.set_lone_value(value(self.wanted.safe)) {
            warn!(source = %self.owner, "a line can not be set to its safe level: {error}");
        }
    }
}

impl Output {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Drives it; a pulse that lasts is over.
    pub async fn set(&self, to: Level) -> Result<(), LineError> {
        self.0.orders.fetch_add(1, Ordering::Relaxed);
        self.0.drive(to).await
    }

    /// The level that it is driven to.
    pub async fn get(&self) -> Result<Level, LineError> {
        blocking(&self.0.request, |request| request.lone_value().map(level).map_err(|error| failed(&error))).await
    }

    /// Drives it for `width`, then to the other level. Does not wait for that.
    pub async fn pulse(&self, to: Level, width: Duration) -> Result<(), LineError> {
        if width > PULSE_MAX {
            return Err(LineError::NotSupported(format!("a pulse is at most {} s", PULSE_MAX.as_secs())));
        }
        let order = self.0.orders.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.drive(to).await?;
        let line = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            tokio::time::sleep(width).await;
            // Who has let it go has set it to its safe level.
            let Some(line) = line.upgrade().filter(|line| line.orders.load(Ordering::Relaxed) == order) else { return };
            if let Err(error) = line.drive(!to).await {
                warn!(source = %line.owner, "a pulse can not be ended: {error}");
            }
        });
        Ok(())
    }
}
