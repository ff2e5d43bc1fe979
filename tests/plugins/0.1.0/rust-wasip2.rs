//! The source of `rust-wasip2.wasm`: what a library may do without thinking of a sandbox, in a plugin that was built for
//! `wasm32-wasip2`. `right` says that it found clocks, random numbers and a standard output, and no file, no network, no
//! environment and no arguments.

use outstation_sdk::{Failure, Plugin, PointId, Poll, Problems, Setup, config};

/// What it needs from one poll to the next.
struct Sensor {
    level: PointId,
    polls: PointId,
    right: PointId,
    full: f64,
    count: u64,
}

impl Plugin for Sensor {
    /// Everything that is wrong with a configuration, with what would be right. `outstation check` shows it at its line.
    fn check(config: &config::Value, problems: &mut Problems) {
        problems.unknown_keys("", config, &["full"]);
        if let Some(full) = config.get("full") {
            match full.as_f64() {
                None => problems.add_with_hint(
                    "/full",
                    format!("a number belongs here, not {}", full.kind()),
                    "full = 1000.0",
                ),
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
        let right = setup.point("right").title("Whether the sandbox is what it should be").boolean();
        Ok(Self { level, polls, right, full, count: 0 })
    }

    /// Take the readings. An error is shown to the operator: `Failure::Unavailable` for a device that is away.
    fn run(&mut self, poll: &mut Poll) -> Result<(), Failure> {
        self.count += 1;
        println!("run {}", self.count);
        eprintln!("what is wrong");
        // What a library may do without thinking of a sandbox.
        let began = std::time::Instant::now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let slept = began.elapsed() >= std::time::Duration::from_millis(2);
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let map: std::collections::HashMap<u64, u64> = (0..10).map(|n| (n, n)).collect();
        let no_file = std::fs::read("/etc/passwd").is_err();
        let no_socket = std::net::TcpStream::connect("127.0.0.1:80").is_err();
        let nothing = std::env::vars().count() + std::env::args().count();
        let right = slept
            && since.is_ok_and(|since| since.as_secs() > 1_700_000_000)
            && map.len() == 10
            && no_file
            && no_socket
            && nothing == 0;
        poll.good(self.right, right);
        poll.good(self.level, (self.count as f64 * 12.5) % self.full);
        poll.good(self.polls, self.count);
        Ok(())
    }
}

outstation_sdk::export!(Sensor);
