//! Statistics of the machine that the agent runs on.
//!
//! Points: `cpu` and `cpu.N` (%), `load.1 load.5 load.15`, `memory.total .used .available` and `swap.total .used`
//! (bytes), `disk.MOUNT.total .used .available` (bytes), `net.IF.rx_bytes .tx_bytes .rx_errors .tx_errors` (counters) and
//! `.rx_rate .tx_rate` (bytes/s), `io.DISK.read_bytes .written_bytes` (counters), `.read_rate .write_rate` (bytes/s) and
//! `.busy` (%), `temperature.LABEL` (Cel), `uptime` (s), `agent.*` (the agent's own figures); on request `process.NAME.*` and
//! `service.NAME.*`. What the machine does not have has no point; what comes and goes (a stick, an interface) makes the
//! list of points change, and so does a rate, which takes two looks.
//!
//! Configuration, all of it optional:
//!
//! ```toml
//! [source.host.config]
//! groups = ["cpu", "memory", "disk"]          # default: all
//! exclude = ["net.veth*", "disk.media-*"]     # points that are not wanted; `*` is any text
//! processes = ["mosquitto"]                   # how many there are, their memory and computing
//! services = ["ssh", "backup.timer"]          # what systemd says of them
//! ```

mod names;
mod options;
mod rates;
mod sample;

use outstation_sdk::{Failure, Plugin, PointId, Poll, Problems, Setup, config};

use names::Names;
use options::Options;
use rates::Rates;
use sample::{Item, Measure};

struct System {
    options: Options,
    names: Names,
    rates: Rates,
    /// The points that are declared, in order.
    declared: Vec<(String, PointId)>,
}

impl Plugin for System {
    // There is no measurement yet: a core that was just switched on, a count that began anew. And what systemd does not know.
    const REASONS: &'static [&'static str] = &["not-measured", "no-such-unit"];

    fn check(config: &config::Value, problems: &mut Problems) {
        options::check(config, problems);
    }

    fn start(setup: &mut Setup) -> Result<Self, Failure> {
        let options = Options::new(setup.config());
        let mut system = Self { options, names: Names::default(), rates: Rates::default(), declared: Vec::new() };
        let items = system.sample();
        system.declare(setup, &items);
        Ok(system)
    }

    fn run(&mut self, poll: &mut Poll) -> Result<(), Failure> {
        let items = self.sample();
        if !items.iter().map(|item| &item.id).eq(self.declared.iter().map(|(id, _)| id)) {
            self.declare(poll.declare_again(), &items);
        }
        for (item, &(_, point)) in items.iter().zip(&self.declared) {
            match &item.measure {
                Measure::Real(value) => poll.good(point, *value),
                Measure::Count(value) => poll.good(point, *value),
                Measure::Is(value) => poll.good(point, *value),
                Measure::Word(value) => poll.good(point, value.clone()),
                Measure::Unknown => poll.bad_own(point, 0),
                Measure::NeitherIs | Measure::NoWord => poll.bad_own(point, 1),
            }
        }
        Ok(())
    }
}

impl System {
    fn sample(&mut self) -> Vec<Item> {
        let mut items = sample::take(&self.options, &mut self.names, &mut self.rates);
        items.retain(|item| !self.options.excludes(&item.id));
        items
    }

    fn declare(&mut self, setup: &mut Setup, items: &[Item]) {
        self.declared = items.iter().map(|item| (item.id.clone(), item.declare(setup))).collect();
    }
}

outstation_sdk::export!(System);
