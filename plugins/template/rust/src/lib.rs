//! A sensor that counts up, as a start: replace what `run` does by what yours measures.
//!
//! Configuration:
//!
//! ```toml
//! [source.NAME.config]
//! full = 1000.0       # mm, where it begins again; default 1000
//! ```

use outstation_sdk::{Failure, Plugin, PointId, Poll, Problems, Setup, config};

/// What it needs from one poll to the next.
struct Sensor {
    level: PointId,
    polls: PointId,
    full: f64,
    count: u64,
}

impl Plugin for Sensor {
    /// Everything that is wrong with a configuration, with what would be right. `outstation check` shows it at its line.
    fn check(config: &config::Value, problems: &mut Problems) {
        problems.unknown_keys("", config, &["full"]);
        if let Some(full) = config.get("full") {
            match full.as_f64() {
                None => problems.add_with_hint("/full", format!("a number belongs here, not {}", full.kind()), "full = 1000.0"),
                Some(mm) if mm <= 0.0 => problems.add("/full", "a tank holds more than nothing"),
                Some(_) => {}
            }
        }
    }

    /// The configuration was checked. Declare the points here; open devices after that.
    fn start(setup: &mut Setup) -> Result<Self, Failure> {
        let full = setup.config().get("full").and_then(config::Value::as_f64).unwrap_or(1000.0);
        let level = setup.point("level").title("Level of the tank").unit("mm").range(0.0, full).real();
        let polls = setup.point("polls").title("Polls since the start").counter().unsigned();
        Ok(Self { level, polls, full, count: 0 })
    }

    /// Take the readings. An error is shown to the operator: `Failure::Unavailable` for a device that is away.
    fn run(&mut self, poll: &mut Poll) -> Result<(), Failure> {
        self.count += 1;
        poll.good(self.level, (self.count as f64 * 12.5) % self.full);
        poll.good(self.polls, self.count);
        Ok(())
    }
}

outstation_sdk::export!(Sensor);
