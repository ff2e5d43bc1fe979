//! What the host offers of the machine's digital lines.
//!
//! A line is opened where the source's `allow.gpio` names it in the same words; what is not allowed is refused and
//! counted. While an instance is on trial it reads what the one that works has opened, and drives nothing.

use std::time::Duration;

use wasmtime::Result;
use wasmtime::component::Resource;

use super::bindings::outstation::gpio::lines as wit;
use super::guest::Guest;
use crate::config::GpioLine;
use crate::device::gpio::{Bias, Input, InputWanted, Level, LineError, Output, OutputWanted};

/// Edges that are handed over in one call.
const EDGES_TAKE_MAX: u32 = 1024;

impl wit::Host for Guest {
    async fn open_input(
        &mut self,
        line: String,
        options: wit::InputOptions,
    ) -> Result<Result<Resource<Input>, wit::Error>> {
        let Some((line, lines)) = granted(&self.gpio.read, &line).zip(self.lines.clone()) else {
            self.count_refused();
            return Ok(Err(wit::Error::NotAllowed));
        };
        let bias = match options.bias {
            wit::Bias::AsIs => Bias::AsIs,
            wit::Bias::Disabled => Bias::Disabled,
            wit::Bias::PullUp => Bias::PullUp,
            wit::Bias::PullDown => Bias::PullDown,
        };
        let wanted = InputWanted { bias, active_low: options.active_low };
        match lines.open_input(self.name(), &line, wanted, &self.wakeups).await {
            Ok(input) => Ok(Ok(self.table.push(input)?)),
            Err(error) => Ok(Err(said(&error))),
        }
    }

    async fn open_output(
        &mut self,
        line: String,
        options: wit::OutputOptions,
    ) -> Result<Result<Resource<Output>, wit::Error>> {
        let Some((line, lines)) = granted(&self.gpio.write, &line).zip(self.lines.clone()) else {
            self.count_refused();
            return Ok(Err(wit::Error::NotAllowed));
        };
        let wanted =
            OutputWanted { active_low: options.active_low, initial: level(options.initial), safe: level(options.safe) };
        match lines.open_output(self.name(), &line, wanted, !self.trial.holds()).await {
            Ok(output) => Ok(Ok(self.table.push(output)?)),
            Err(error) => Ok(Err(said(&error))),
        }
    }
}

impl wit::HostInput for Guest {
    async fn read(&mut self, line: Resource<Input>) -> Result<Result<wit::Level, wit::Error>> {
        Ok(self.table.get(&line)?.read().await.map(shown).map_err(|error| said(&error)))
    }

    async fn watch(
        &mut self,
        line: Resource<Input>,
        rising: bool,
        falling: bool,
        debounce: u64,
    ) -> Result<Result<(), wit::Error>> {
        let watched = self.table.get_mut(&line)?.watch(rising, falling, Duration::from_nanos(debounce)).await;
        Ok(watched.map_err(|error| said(&error)))
    }

    async fn take_edges(&mut self, line: Resource<Input>, max: u32) -> Result<wit::EdgeBatch> {
        let max = usize::try_from(max.min(EDGES_TAKE_MAX)).unwrap_or(usize::MAX);
        let (edges, dropped) = self.table.get(&line)?.take_edges(max).await;
        let event = |(seqno, edge): (u32, crate::device::gpio::Edge)| wit::EdgeEvent {
            edge: match edge.to {
                Level::Active => wit::Edge::Rising,
                Level::Inactive => wit::Edge::Falling,
            },
            at: edge.at_ns,
            seqno,
        };
        Ok(wit::EdgeBatch { events: edges.into_iter().map(event).collect(), dropped })
    }

    async fn count(&mut self, line: Resource<Input>) -> Result<(u64, u64)> {
        Ok(self.table.get(&line)?.count().await)
    }

    async fn drop(&mut self, line: Resource<Input>) -> Result<()> {
        self.table.delete(line)?;
        Ok(())
    }
}

impl wit::HostOutput for Guest {
    async fn set(&mut self, line: Resource<Output>, to: wit::Level) -> Result<Result<(), wit::Error>> {
        if self.trial.holds() {
            return Ok(Err(on_trial()));
        }
        Ok(self.table.get(&line)?.set(level(to)).await.map_err(|error| said(&error)))
    }

    async fn get(&mut self, line: Resource<Output>) -> Result<Result<wit::Level, wit::Error>> {
        Ok(self.table.get(&line)?.get().await.map(shown).map_err(|error| said(&error)))
    }

    async fn pulse(&mut self, line: Resource<Output>, to: wit::Level, width: u64) -> Result<Result<(), wit::Error>> {
        if self.trial.holds() {
            return Ok(Err(on_trial()));
        }
        let pulsed = self.table.get(&line)?.pulse(level(to), Duration::from_nanos(width)).await;
        Ok(pulsed.map_err(|error| said(&error)))
    }

    async fn drop(&mut self, line: Resource<Output>) -> Result<()> {
        self.table.delete(line)?;
        Ok(())
    }
}

/// The line, where the grant names it.
fn granted(allowed: &[GpioLine], line: &str) -> Option<GpioLine> {
    allowed.iter().find(|allowed| allowed.to_string() == line).cloned()
}

fn on_trial() -> wit::Error {
    wit::Error::Other("nothing is driven during a trial".into())
}

const fn level(level: wit::Level) -> Level {
    match level {
        wit::Level::Active => Level::Active,
        wit::Level::Inactive => Level::Inactive,
    }
}

const fn shown(level: Level) -> wit::Level {
    match level {
        Level::Active => wit::Level::Active,
        Level::Inactive => wit::Level::Inactive,
    }
}

fn said(error: &LineError) -> wit::Error {
    match error {
        LineError::Busy(_) => wit::Error::AlreadyInUse,
        LineError::Unknown => wit::Error::UndefinedLabel,
        LineError::Denied => wit::Error::Other(error.to_string()),
        LineError::NotSupported(_) => wit::Error::NotSupported,
        LineError::Hardware(_) => wit::Error::HardwareFault,
    }
}
