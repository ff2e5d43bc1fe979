//! Digital lines.
//!
//! Points of an input: `NAME` (whether it is active: at each poll, and at each edge that `edge` asks for, with the
//! kernel's time), `NAME.count` (pulses, over restarts too), `NAME.frequency` (pulses a second since the poll before,
//! Hz), `NAME.lost` (edges that came faster than they could be read; there once there was one). A pulse is an edge to
//! active, with `edge = "falling"` one to inactive. Points of an output: `NAME`.
//!
//! ```toml
//! allow.gpio = { read = ["gpiochip0:4"], write = ["LAMP"] }
//! [source.door.config]
//! lines = [
//!   { name = "door", line = "gpiochip0:4", edge = "both", bias = "pull-up", active = "low", debounce = "20ms", count = true },
//!   { name = "lamp", line = "LAMP", mode = "output", initial = false, safe = false },
//! ]
//! ```
//!
//! Commands: `set` (`{"line":"lamp","value":true}`) and `pulse` (`{"line":"lamp","value":true,"width":"500ms"}`; then the
//! other level), answered with the level before.
//!
//! A line that is busy, gone or not granted is bad with the reason, and tried again at each poll.

mod input;
mod options;
mod output;

use std::time::Duration;

use outstation_sdk::config::Value;
use outstation_sdk::{
    Command, Commands, DENIED, Failure, LINK, Plugin, PointId, Poll, Problems, Rejection, Setup, Trigger, config, lines,
};

use input::Input;
use options::Mode;
use output::Output;

/// The plugin's own reasons, by index.
const BUSY: u16 = 0;
const NO_SUCH_LINE: u16 = 1;
const NOT_SUPPORTED: u16 = 2;
const FAILED: u16 = 3;

/// The longest pulse.
const PULSE_MAX: Duration = Duration::from_secs(60);

struct Gpio {
    inputs: Vec<Input>,
    outputs: Vec<Output>,
}

impl Plugin for Gpio {
    const REASONS: &'static [&'static str] = &["busy", "no-such-line", "not-supported", "failed"];

    fn check(config: &config::Value, problems: &mut Problems) {
        options::check(config, problems);
    }

    fn start(setup: &mut Setup) -> Result<Self, Failure> {
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for line in options::lines(setup.config()) {
            match line.mode.clone() {
                Mode::Input(wanted) => inputs.push(Input::declare(setup, &line, wanted)),
                Mode::Output { initial, safe } => outputs.push(Output::declare(setup, &line, initial, safe)),
            }
        }
        Ok(Self { inputs, outputs })
    }

    fn run(&mut self, poll: &mut Poll) -> Result<(), Failure> {
        if let Trigger::Gpio(line) = &poll.trigger {
            let line = line.clone();
            for input in self.inputs.iter_mut().filter(|input| input.is(&line)) {
                input.edges(poll);
                input.say_lost(poll);
            }
            return Ok(());
        }
        for input in &mut self.inputs {
            input.edges(poll);
            input.poll(poll);
        }
        for output in &mut self.outputs {
            output.poll(poll);
        }
        Ok(())
    }

    fn stop(&mut self) {
        for input in &mut self.inputs {
            input.keep();
        }
    }
}

impl Commands for Gpio {
    fn command(&mut self, command: &Command) -> Result<Value, Rejection> {
        let pulse = match command.name.as_str() {
            "set" => false,
            "pulse" => true,
            _ => return Err(Rejection::Unknown),
        };
        let args = command.args()?;
        let mut keys = args.entries().iter().map(|(key, _)| key.as_str());
        if let Some(key) = keys.find(|key| !(matches!(*key, "line" | "value") || pulse && *key == "width")) {
            return Err(Rejection::Invalid(format!("there is no argument `{key}`")));
        }
        let invalid = |what: &str| Rejection::Invalid(what.to_owned());
        let name = args.get("line").and_then(Value::as_str).ok_or_else(|| invalid("`line` is missing: its name"))?;
        let active = args.get("value").and_then(Value::as_bool);
        let active = active.ok_or_else(|| invalid("`value` is missing: true or false"))?;
        let width = match args.get("width").and_then(Value::as_duration) {
            Some(width) if width <= PULSE_MAX => Some(width),
            None if !pulse => None,
            _ => return Err(invalid("`width` is a duration of at most a minute: \"500ms\"")),
        };
        match self.outputs.iter_mut().find(|output| output.is(name)) {
            Some(output) => output.drive(active, width),
            None => Err(Rejection::Invalid(format!("there is no output `{name}`"))),
        }
    }
}

/// Why a point has no value.
fn bad(poll: &mut Poll, point: PointId, error: &lines::Error) {
    match error {
        lines::Error::NotAllowed => poll.bad(point, DENIED),
        lines::Error::HardwareFault => poll.bad(point, LINK),
        lines::Error::AlreadyInUse => poll.bad_own(point, BUSY),
        lines::Error::UndefinedLabel => poll.bad_own(point, NO_SUCH_LINE),
        lines::Error::NotSupported | lines::Error::ModeNotAllowed | lines::Error::ModeNotAvailable => {
            poll.bad_own(point, NOT_SUPPORTED);
        }
        lines::Error::Other(_) => poll.bad_own(point, FAILED),
    }
}

/// The same, for people.
fn text(error: &lines::Error) -> String {
    match error {
        lines::Error::NotAllowed => "it is not granted: add it to the source's allow.gpio".into(),
        lines::Error::HardwareFault => "the chip does not answer".into(),
        lines::Error::AlreadyInUse => "it is in use by another program or source".into(),
        lines::Error::UndefinedLabel => "there is no such line".into(),
        lines::Error::NotSupported | lines::Error::ModeNotAllowed | lines::Error::ModeNotAvailable => {
            "the chip can not do what the configuration asks for".into()
        }
        lines::Error::Other(text) => text.clone(),
    }
}

fn is_active(level: lines::Level) -> bool {
    level == lines::Level::Active
}

outstation_sdk::export!(Gpio, commands);
