//! Digital lines of the machine, by the kernel's character device (version 2 of its interface: Linux 5.10 and later).
//!
//! ```text
//!  closed ─ open_input ─▶ Input ── watch ─▶ edges are queued and counted, the source is woken
//!         └ open_output ▶ Output ─ set, pulse ─▶ ..                      last handle gone: its safe level, closed
//! ```
//!
//! - A line belongs to one source at a time. A second instance of the same source (the trial of a replaced plugin)
//!   shares the handle, so that nothing is let go in between; it does not drive an output.
//! - Calls into the kernel run on tokio's blocking threads: a line behind I2C takes milliseconds.
//! - A line that is busy, gone or renamed is an error value; whoever asked asks again.

mod edges;
mod input;
mod output;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use gpiocdev::line::Value;
use tokio::sync::{Mutex, Notify};

pub use edges::{Edge, Level};
pub use input::{Bias, Input, Wanted as InputWanted};
pub use output::{Output, Wanted as OutputWanted};

use crate::config::GpioLine;
use input::Shared as InputShared;
use output::Shared as OutputShared;

/// Who holds a line, as other programs see it.
const CONSUMER: &str = "outstation";
/// Where the kernel's devices are.
const DEVICES: &str = "/dev";
/// A line that was let go a moment ago, by an instance that ended, is free once its last task is gone.
const BUSY_RETRIES_MAX: u32 = 10;
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Lines of a board that are searched for a name. (No chip has more than 1,024.)
const SEARCH_MAX: usize = 16_384;

/// Why a line can not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Somebody else has it: another program, the kernel, another source, or this source otherwise.
    #[error("the line is in use{0}")]
    Busy(String),
    /// There is no such chip or line.
    #[error("there is no such line")]
    Unknown,
    /// The user that the agent runs as may not open the chip.
    #[error("no right to open the chip: the agent's user belongs into its group")]
    Denied,
    /// The chip can not do this: no edges, no bias, no output.
    #[error("the chip can not do this: {0}")]
    NotSupported(String),
    /// The chip is gone, or does not answer.
    #[error("the chip does not answer: {0}")]
    Hardware(String),
}

/// All lines that are open.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<HashMap<Place, Open>>>);

/// A line, however it was named.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    chip: PathBuf,
    offset: u32,
}

enum Open {
    Input(Weak<InputShared>),
    Output(Weak<OutputShared>),
}

impl Open {
    fn is_open(&self) -> bool {
        match self {
            Self::Input(line) => line.strong_count() > 0,
            Self::Output(line) => line.strong_count() > 0,
        }
    }
}

/// Wakes a source when lines of it have edges: which ones is kept until it asks.
#[derive(Clone, Default)]
pub struct Wakeups(Arc<WakeupsInner>);

#[derive(Default)]
struct WakeupsInner {
    lines: Mutex<BTreeSet<Arc<str>>>,
    notify: Notify,
}

impl Wakeups {
    /// This line has something. A line is kept once, however often it is said.
    async fn wake(&self, line: &Arc<str>) {
        self.0.lines.lock().await.insert(line.clone());
        self.0.notify.notify_one();
    }

    /// The next line that has something. Cancel safe.
    pub async fn next(&self) -> Arc<str> {
        loop {
            let notified = self.0.notify.notified();
            if let Some(line) = self.0.lines.lock().await.pop_first() {
                return line;
            }
            notified.await;
        }
    }
}

impl Lines {
    /// Opens a line for reading. `owner` is the source; `wakeups` are told of its edges once it is watched.
    pub async fn open_input(
        &self,
        owner: &str,
        line: &GpioLine,
        wanted: InputWanted,
        wakeups: &Wakeups,
    ) -> Result<Input, LineError> {
        let mut open = self.0.lock().await;
        open.retain(|_, open| open.is_open());
        let place = blocking(line, |line| place(&line)).await?;
        let shared = match open.get(&place) {
            Some(Open::Input(shared)) => shared.upgrade().filter(|shared| shared.fits(owner, wanted)),
            Some(Open::Output(_)) => None,
            None => {
                let shared = Arc::new(InputShared::open(owner, &place, wanted).await?);
                open.insert(place, Open::Input(Arc::downgrade(&shared)));
                Some(shared)
            }
        };
        let shared = shared.ok_or_else(|| LineError::Busy(" by this agent".into()))?;
        Ok(Input::new(shared, line.to_string().into(), wakeups.clone()))
    }

    /// Opens a line for writing: at its initial level at once, at its safe level when the last handle is gone. Where
    /// `may_drive` is false, only a line that this source drives already is given.
    pub async fn open_output(
        &self,
        owner: &str,
        line: &GpioLine,
        wanted: OutputWanted,
        may_drive: bool,
    ) -> Result<Output, LineError> {
        let mut open = self.0.lock().await;
        open.retain(|_, open| open.is_open());
        let place = blocking(line, |line| place(&line)).await?;
        let shared = match open.get(&place) {
            Some(Open::Output(shared)) => shared.upgrade().filter(|shared| shared.fits(owner, wanted)),
            Some(Open::Input(_)) => None,
            None if may_drive => {
                let shared = Arc::new(OutputShared::open(owner, &place, wanted).await?);
                open.insert(place, Open::Output(Arc::downgrade(&shared)));
                Some(shared)
            }
            None => return Err(LineError::Busy(": it is not driven during a trial".into())),
        };
        shared.map(Output::new).ok_or_else(|| LineError::Busy(" by this agent".into()))
    }
}

/// What the kernel says of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The device of its chip.
    pub chip: PathBuf,
    /// Its number on it.
    pub offset: u32,
    /// Whether it is driven now.
    pub is_output: bool,
    /// Who holds it, as that program calls itself (it may be nothing); `None`: nobody.
    pub held_by: Option<String>,
}

impl Seen {
    /// Whether an agent holds it.
    pub fn is_held_by_agent(&self) -> bool {
        self.held_by.as_deref() == Some(CONSUMER)
    }
}

/// Looks whether a line is there, and who has it: opens its chip, and asks for nothing that would change a line.
///
/// # Errors
///
/// [`LineError::Unknown`], [`LineError::Denied`], or what else the kernel says of the chip.
pub async fn look(line: &GpioLine) -> Result<Seen, LineError> {
    blocking(line, |line| {
        let Place { chip, offset } = place(&line)?;
        let opened = gpiocdev::Chip::from_path(&chip).map_err(|error| failed(&error))?;
        // The kernel calls an offset beyond the last line invalid.
        if opened.info().is_ok_and(|info| offset >= info.num_lines) {
            return Err(LineError::Unknown);
        }
        let info = opened.line_info(offset).map_err(|error| failed(&error))?;
        let is_output = info.direction == gpiocdev::line::Direction::Output;
        Ok(Seen { chip, offset, is_output, held_by: info.used.then_some(info.consumer) })
    })
    .await
}

/// Finds a line: its chip by the name of its device or by its label, or the line by its own name.
fn place(line: &GpioLine) -> Result<Place, LineError> {
    match line {
        GpioLine::Offset { chip, offset } => {
            let device = Path::new(DEVICES).join(chip);
            let direct = !chip.contains('/') && device.exists();
            let chip = if direct { device } else { chip_by_label(chip)? };
            Ok(Place { chip, offset: *offset })
        }
        GpioLine::Name(name) => {
            let lines = gpiocdev::lines().map_err(|error| failed(&error))?;
            let found = lines.take(SEARCH_MAX).find(|line| line.info.name == *name).ok_or(LineError::Unknown)?;
            Ok(Place { chip: found.chip, offset: found.info.offset })
        }
    }
}

fn chip_by_label(label: &str) -> Result<PathBuf, LineError> {
    let chips = gpiocdev::chip::chips().map_err(|error| failed(&error))?;
    let has_label = |path: &PathBuf| {
        let info = gpiocdev::Chip::from_path(path).and_then(|chip| chip.info());
        info.is_ok_and(|info| info.label == label)
    };
    chips.into_iter().find(has_label).ok_or(LineError::Unknown)
}

/// Asks the kernel for a line, again for a moment where it is busy.
async fn request(
    place: &Place,
    configure: impl Fn(&mut gpiocdev::request::Builder) + Clone + Send + 'static,
) -> Result<gpiocdev::Request, LineError> {
    let mut retries = 0;
    loop {
        let configure = configure.clone();
        let requested = blocking(place, move |place| {
            let mut builder = gpiocdev::Request::builder();
            builder.on_chip(&place.chip).with_consumer(CONSUMER).with_line(place.offset);
            configure(&mut builder);
            builder.request().map_err(|error| failed(&error))
        });
        match requested.await {
            Err(LineError::Busy(_)) if retries < BUSY_RETRIES_MAX => {
                retries += 1;
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            other => return other,
        }
    }
}

/// Runs on tokio's threads for what may block.
async fn blocking<A: Clone + Send + 'static, T: Send + 'static>(
    argument: &A,
    call: impl FnOnce(A) -> Result<T, LineError> + Send + 'static,
) -> Result<T, LineError> {
    let argument = argument.clone();
    let done = tokio::task::spawn_blocking(move || call(argument)).await;
    done.unwrap_or_else(|error| Err(LineError::Hardware(error.to_string())))
}

/// The kernel's answer in our words.
fn failed(error: &gpiocdev::Error) -> LineError {
    use gpiocdev::Error;
    // Its wrapper for what the kernel says is not exported with a number.
    let number = match error {
        Error::Os(number) => Some(number.0),
        Error::Uapi(_, error) => match error {
            gpiocdev_uapi::Error::Os(number) => Some(number.0),
            gpiocdev_uapi::Error::UnderRead(_) => None,
        },
        Error::GpioChip(..) | Error::NoGpioChips() => return LineError::Unknown,
        _ => None,
    };
    let errno = number.map(rustix::io::Errno::from_raw_os_error);
    match errno {
        Some(rustix::io::Errno::BUSY) => LineError::Busy(String::new()),
        // Its device is not there, or the chip behind a line that is open has gone.
        Some(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV) => LineError::Unknown,
        // An offset beyond the chip's last line, and what a driver does not know.
        Some(rustix::io::Errno::INVAL | rustix::io::Errno::NXIO | rustix::io::Errno::OPNOTSUPP) => {
            LineError::NotSupported(error.to_string())
        }
        Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => LineError::Denied,
        _ => LineError::Hardware(error.to_string()),
    }
}

const fn level(value: Value) -> Level {
    match value {
        Value::Active => Level::Active,
        Value::Inactive => Level::Inactive,
    }
}

const fn value(level: Level) -> Value {
    match level {
        Level::Active => Value::Active,
        Level::Inactive => Value::Inactive,
    }
}
