//! The plugin `modbus`: reads points of Modbus devices on a bus that the agent owns, and writes them by command.
//!
//! ```toml
//! [source.boiler.config]
//! bus = "boiler"
//! unit = 1
//! points = [
//!   { name = "flow", address = "holding:0", type = "f32", order = "CDAB", scale = 0.1, unit = "m3/h", deadband = 0.5, heartbeat = "1m" },
//!   { name = "pump", address = "coil:3" },
//! ]
//! ```
//!
//! Every poll asks for all points of a unit at once; the host joins them into as few requests as the device takes. A
//! point that cannot be read is bad, with the reason, and never shows its last value.
//!
//! `{"name":"write","args":{"point":"pump","value":true}}` writes.

mod bus;
mod options;
mod points;
mod report;
mod sample;
mod write;

use outstation_sdk::{Command, Commands, Failure, Plugin, PointId, Poll, Problems, Rejection, Setup, clock, config};

use bus::Devices;
use options::Options;
use report::Reporter;
use sample::{Cause, Sample};

struct Modbus {
    options: Options,
    devices: Devices,
    /// As many as there are points, in their order.
    declared: Vec<PointId>,
    reporters: Vec<Reporter>,
}

impl Plugin for Modbus {
    const REASONS: &'static [&'static str] = sample::REASONS;

    fn check_document(document: &str, problems: &mut Problems) {
        Options::read(document, problems);
    }

    fn start(setup: &mut Setup) -> Result<Self, Failure> {
        let mut problems = Problems::default();
        let options = Options::read(setup.document(), &mut problems);
        if let Some(problem) = problems.list().first() {
            return Err(Failure::Config(format!("{}: {}", problem.path, problem.message)));
        }
        setup.reserve(options.points.len());
        let declared = options.points.iter().map(|point| point.declare(setup)).collect();
        let reporters = options.points.iter().map(|_| Reporter::default()).collect();
        let devices = Devices::on(&options.bus);
        Ok(Self { options, devices, declared, reporters })
    }

    fn run(&mut self, poll: &mut Poll) -> Result<(), Failure> {
        // As soon as something was read.
        let mut now = None;
        let points = &self.options.points;
        poll.reserve(points.len());
        sample::take(points, &mut self.devices, |index, sample| {
            let known = points.get(index).zip(self.declared.get(index)).zip(self.reporters.get_mut(index));
            if let Some(((point, &id), reporter)) = known
                && reporter.is_news(point, &sample, *now.get_or_insert_with(clock::monotonic))
            {
                give(poll, id, sample);
            }
        });
        Ok(())
    }
}

impl Commands for Modbus {
    fn command(&mut self, command: &Command) -> Result<config::Value, Rejection> {
        match command.name.as_str() {
            "write" => write::write(&self.options.points, &mut self.devices, &command.args()?),
            _ => Err(Rejection::Unknown),
        }
    }
}

fn give(poll: &mut Poll, id: PointId, sample: Sample) {
    match sample {
        Sample::Good(value) => poll.good(id, sample::for_host(value)),
        Sample::Doubtful(value, reason) => poll.uncertain_own(id, sample::for_host(value), reason),
        Sample::Bad(Cause::Shared(code)) => poll.bad(id, code),
        Sample::Bad(Cause::Own(reason)) => poll.bad_own(id, reason),
    }
}

outstation_sdk::export!(Modbus, commands);
