//! What stands beside an instance in its Store: its limits, what it is charged, and what every plugin may import (log,
//! configuration, clock, state).
//!
//! Invariants: nothing here grows with what a guest does; a call that is refused is an error value for the guest and
//! counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, error, info, trace, warn};
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Result};

use super::bindings::outstation::host::state::Error as StateError;
use super::bindings::outstation::host::{clock as clock_import, config, log, state};
use super::bindings::outstation::types::types;
use super::failure::one_line;
use super::simulated::Simulation;
use super::spec::{Devices, SourceSpec, StateStore, Trial};
use super::ticker::Meter;
use crate::config::{GpioGrant, ModbusGrant, Packed};
use crate::device::gpio::{Lines, Wakeups};
use crate::device::modbus::Buses;
use crate::device::system::Statistics;
use crate::os::clock;

/// Elements of all tables of an instance together.
const TABLE_ELEMENTS_MAX: usize = 1 << 18;
/// Core instances, tables, memories of a component. Components made from other languages have dozens.
const INSTANCES_MAX: usize = 128;
const TABLES_MAX: usize = 128;
const MEMORIES_MAX: usize = 64;
/// How long one call may wait for devices; what is not answered then is busy. Less than a call may last.
const DEVICE_TIME_MAX: Duration = Duration::from_secs(50);
/// Lines that a source may log in a second.
const LOG_LINES_MAX: u32 = 20;
/// Bytes of a line.
const LOG_LINE_MAX: usize = 4096;
const LOG_CONTEXT_MAX: usize = 64;
/// Bytes of a key, of a value, and of all of a source's keys and values.
const STATE_KEY_MAX: usize = 256;
const STATE_VALUE_MAX: usize = 64 << 10;
const STATE_QUOTA: usize = 256 << 10;

/// A Store's data.
pub struct Guest {
    name: String,
    document: Packed,
    /// Taken by the system interface; `None` where nothing is to be read.
    pub(super) statistics: Option<Statistics>,
    /// `None` where none may be opened.
    pub(super) lines: Option<Lines>,
    pub(super) gpio: GpioGrant,
    /// `None` where none may be opened.
    pub(super) buses: Option<Buses>,
    pub(super) modbus: BTreeMap<String, ModbusGrant>,
    /// Lines of this instance that have edges.
    pub(super) wakeups: Wakeups,
    /// What the guest has opened.
    pub(super) table: ResourceTable,
    /// While it is on, nothing is driven or written.
    pub(super) trial: Trial,
    /// What the present call is charged.
    pub(super) meter: Arc<Meter>,
    /// When the present call began.
    pub(super) began: Duration,
    memory: Memory,
    log: LogGate,
    state: State,
    refused: u64,
    /// What it sees in place of this machine and its devices, where it is only tried out.
    pub(super) simulation: Option<Box<Simulation>>,
}

struct Memory {
    limit: u64,
    /// All memories together.
    bytes: u64,
    refused: bool,
    table_elements: usize,
}

#[derive(Default)]
struct LogGate {
    second: u64,
    lines: u32,
    dropped: u64,
}

struct State {
    store: Option<Arc<dyn StateStore>>,
    /// What the store holds, once it was asked.
    values: Option<BTreeMap<String, Vec<u8>>>,
    bytes: usize,
}

impl Guest {
    /// For a source. Devices and the source's state are left out where a component is only looked at.
    pub(super) fn new(spec: &SourceSpec, devices: &Devices, live: bool) -> Self {
        Self {
            name: spec.name.clone(),
            document: spec.config_json.clone(),
            statistics: (live && spec.grants.system).then(|| devices.statistics.clone()),
            lines: live.then(|| devices.lines.clone()),
            gpio: spec.grants.gpio.clone(),
            buses: live.then(|| devices.buses.clone()),
            modbus: spec.grants.modbus.clone(),
            wakeups: Wakeups::default(),
            table: ResourceTable::new(),
            trial: spec.trial.clone(),
            meter: Arc::new(Meter::default()),
            began: clock::now(),
            memory: Memory { limit: spec.limits.memory, bytes: 0, refused: false, table_elements: 0 },
            log: LogGate::default(),
            state: State { store: spec.state.clone().filter(|_| live), values: None, bytes: 0 },
            refused: 0,
            simulation: None,
        }
    }

    /// The source's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How long the present call may still wait for a device.
    pub(super) fn device_time(&self) -> Duration {
        DEVICE_TIME_MAX.saturating_sub(clock::now().saturating_sub(self.began))
    }

    /// The linear memory that it has.
    pub(super) const fn memory_bytes(&self) -> u64 {
        self.memory.bytes
    }

    pub(super) const fn memory_limit(&self) -> u64 {
        self.memory.limit
    }

    /// Whether it wanted more memory than its limit.
    pub(super) const fn memory_refused(&self) -> bool {
        self.memory.refused
    }

    /// Calls that were not granted, and readings and log lines that were not taken.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    pub(super) const fn count_refused(&mut self) {
        self.refused = self.refused.saturating_add(1);
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let more = u64::try_from(desired.saturating_sub(current)).unwrap_or(u64::MAX);
        let wanted = self.memory.bytes.saturating_add(more);
        if wanted > self.memory.limit {
            self.memory.refused = true;
            return Ok(false);
        }
        self.memory.bytes = wanted;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let wanted = self.memory.table_elements.saturating_add(desired.saturating_sub(current));
        if wanted > TABLE_ELEMENTS_MAX {
            return Ok(false);
        }
        self.memory.table_elements = wanted;
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

impl LogGate {
    /// Whether one more line may be written in this second; and how many were dropped, once that second is over.
    fn admit(&mut self, second: u64) -> (bool, u64) {
        let mut dropped = 0;
        if second != self.second {
            self.second = second;
            self.lines = 0;
            dropped = std::mem::take(&mut self.dropped);
        }
        if self.lines >= LOG_LINES_MAX {
            self.dropped += 1;
            return (false, dropped);
        }
        self.lines += 1;
        (true, dropped)
    }
}

impl types::Host for Guest {}

impl log::Host for Guest {
    async fn log(&mut self, level: log::Level, context: String, message: String) -> Result<()> {
        self.write_log(level, &context, &message);
        Ok(())
    }
}

impl Guest {
    /// A line of the plugin's, under the log's limits.
    pub(super) fn write_log(&mut self, level: log::Level, context: &str, message: &str) {
        let (admitted, dropped) = self.log.admit(clock::now().as_secs());
        let source = self.name.as_str();
        if dropped > 0 {
            warn!(target: "plugin", source, "{dropped} lines were dropped: more than {LOG_LINES_MAX} in a second");
        }
        if !admitted {
            self.count_refused();
            return;
        }
        let message = one_line(message, LOG_LINE_MAX);
        let context = one_line(context, LOG_CONTEXT_MAX);
        let line = if context.is_empty() { message } else { format!("{context}: {message}") };
        match level {
            log::Level::Trace => trace!(target: "plugin", source, "{line}"),
            log::Level::Debug => debug!(target: "plugin", source, "{line}"),
            log::Level::Info => info!(target: "plugin", source, "{line}"),
            log::Level::Warn => warn!(target: "plugin", source, "{line}"),
            log::Level::Error | log::Level::Critical => error!(target: "plugin", source, "{line}"),
        }
    }

    /// The clocks that it sees: this machine's, or of the one that is simulated.
    pub(super) fn monotonic_now(&self) -> Duration {
        self.simulation.as_ref().map_or_else(clock::now, |there| there.machine().monotonic())
    }

    pub(super) fn wall_now_ns(&self) -> i64 {
        self.simulation.as_ref().map_or_else(clock::wall_ns, |there| there.machine().wall_ns())
    }

    /// Lets time pass, no longer than the call may last. It could have waited for its next slot instead: this is the
    /// plugin's own time.
    pub(super) async fn pass(&mut self, time: Duration) {
        let time = time.min(self.meter.remaining());
        self.meter.charge(time);
        match &mut self.simulation {
            Some(there) => there.sleep(time),
            None => tokio::time::sleep(time).await,
        }
    }

    /// Lets time pass until then.
    pub(super) async fn wait_until(&mut self, at: Duration) {
        let time = at.saturating_sub(self.monotonic_now());
        if !time.is_zero() {
            self.pass(time).await;
        }
    }
}

impl config::Host for Guest {
    async fn document(&mut self) -> Result<String> {
        Ok(self.document.text().into_owned())
    }
}

impl clock_import::Host for Guest {
    async fn now(&mut self) -> Result<i64> {
        Ok(self.wall_now_ns())
    }

    async fn monotonic(&mut self) -> Result<u64> {
        Ok(nanoseconds(self.monotonic_now()))
    }

    async fn sleep(&mut self, how_long: u64) -> Result<()> {
        self.pass(Duration::from_nanos(how_long)).await;
        Ok(())
    }

    async fn remaining(&mut self) -> Result<u64> {
        Ok(nanoseconds(self.meter.remaining()))
    }
}

impl state::Host for Guest {
    async fn get(&mut self, key: String) -> Result<Result<Option<Vec<u8>>, StateError>> {
        Ok(match self.state.values().await {
            Ok(values) => Ok(values.get(&key).cloned()),
            Err(error) => Err(error),
        })
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> Result<Result<(), StateError>> {
        let result = self.state.set(key, value).await;
        if matches!(result, Err(StateError::QuotaExceeded | StateError::TooLarge)) {
            self.count_refused();
        }
        Ok(result)
    }

    async fn delete(&mut self, key: String) -> Result<Result<(), StateError>> {
        Ok(self.state.delete(&key).await)
    }

    async fn keys(&mut self) -> Result<Result<Vec<String>, StateError>> {
        Ok(match self.state.values().await {
            Ok(values) => Ok(values.keys().cloned().collect()),
            Err(error) => Err(error),
        })
    }
}

impl State {
    /// What the store holds; asked once.
    async fn values(&mut self) -> Result<&mut BTreeMap<String, Vec<u8>>, StateError> {
        if self.values.is_none() {
            let store = self.store.as_ref().ok_or_else(no_store)?;
            let values: BTreeMap<_, _> = store.load().await.map_err(StateError::Unavailable)?.into_iter().collect();
            self.bytes = values.iter().map(|(key, value)| key.len() + value.len()).sum();
            self.values = Some(values);
        }
        self.values.as_mut().ok_or_else(no_store)
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> Result<(), StateError> {
        if key.len() > STATE_KEY_MAX || value.len() > STATE_VALUE_MAX {
            return Err(StateError::TooLarge);
        }
        let before = self.values().await?.get(&key).map_or(0, |before| key.len() + before.len());
        let bytes = self.bytes.saturating_sub(before) + key.len() + value.len();
        if bytes > STATE_QUOTA {
            return Err(StateError::QuotaExceeded);
        }
        let store = self.store.as_ref().ok_or_else(no_store)?;
        store.write(&key, Some(&value)).await.map_err(StateError::Unavailable)?;
        self.bytes = bytes;
        self.values().await?.insert(key, value);
        Ok(())
    }

    async fn delete(&mut self, key: &str) -> Result<(), StateError> {
        let Some(before) = self.values().await?.get(key).map(|value| key.len() + value.len()) else { return Ok(()) };
        let store = self.store.as_ref().ok_or_else(no_store)?;
        store.write(key, None).await.map_err(StateError::Unavailable)?;
        self.bytes = self.bytes.saturating_sub(before);
        self.values().await?.remove(key);
        Ok(())
    }
}

fn no_store() -> StateError {
    StateError::Unavailable("there is no store here".into())
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_flood_is_dropped_and_counted() {
        let mut gate = LogGate::default();
        let written = (0..1000).filter(|_| gate.admit(7).0).count();
        assert_eq!(written, LOG_LINES_MAX as usize);
        // The next second says how many there were, once.
        assert_eq!(gate.admit(8), (true, 1000 - u64::from(LOG_LINES_MAX)));
        assert_eq!(gate.admit(8), (true, 0));
    }
}
