//! A serial line with 32 units, of which one may be dead: how late the others get because of it.
//!
//! The line is a pair of pseudo-terminals by socat. The devices at its end take as long for a request and its reply as the
//! bytes take at [`BAUD`], and [`TURNAROUND`]; each unit is a source of its own with two floats.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::device::float;

pub const UNITS: u8 = 32;
/// The one that does not answer.
pub const DEAD: u8 = 17;
pub const PERIOD: Duration = Duration::from_secs(2);
pub const TIMEOUT: Duration = Duration::from_millis(500);
const BAUD: u32 = 19_200;
/// From a request's last byte to the first of its reply.
const TURNAROUND: Duration = Duration::from_millis(5);
/// Bits of a byte on the line: start, eight, parity, stop.
const BITS: u32 = 11;
const REQUEST_BYTES: usize = 8;
const READ_HOLDING: u8 = 3;
const SOCAT_MAX: Duration = Duration::from_secs(10);

/// The line with its devices; ended with it.
pub struct Line {
    socat: Child,
    pub port: PathBuf,
}

impl Line {
    /// All units answer but `dead`.
    pub fn start(folder: &Path, dead: Option<u8>) -> Result<Self, String> {
        let (port, far) = (folder.join("line"), folder.join("far"));
        let end = |path: &Path| format!("pty,raw,echo=0,link={}", path.display());
        let mut command = Command::new("socat");
        let command = command.args([end(&port), end(&far)]).stderr(Stdio::null());
        let socat = command.spawn().map_err(|error| format!("socat: {error}"))?;
        let line = Self { socat, port };
        let until = Instant::now() + SOCAT_MAX;
        while !(line.port.exists() && far.exists()) {
            if Instant::now() > until {
                return Err("socat makes no pseudo-terminals".to_owned());
            }
            sleep(Duration::from_millis(20));
        }
        let far = OpenOptions::new().read(true).write(true).open(&far).map_err(|error| error.to_string())?;
        // Ends when the line does.
        thread::spawn(move || drop(serve(far, dead)));
        Ok(line)
    }

    /// What the agent is told of it.
    pub fn configuration(&self) -> String {
        let mut text = format!(
            "[bus.line]\nurl = \"rtu://{}?baud={BAUD}&parity=even\"\ntimeout = \"{}ms\"\n",
            self.port.display(),
            TIMEOUT.as_millis()
        );
        for unit in 1..=UNITS {
            text.push_str(&format!(
                "[source.u{unit}]\nplugin = \"modbus\"\nevery = \"{}ms\"\n\
                 allow.modbus.line = {{ units = [{unit}], read = [\"holding:0-3\"] }}\n\
                 [source.u{unit}.config]\nbus = \"line\"\nunit = {unit}\npoints = [\n  \
                 {{ name = \"p0\", address = \"holding:0\", type = \"f32\" }},\n  \
                 {{ name = \"p1\", address = \"holding:2\", type = \"f32\" }},\n]\n",
                PERIOD.as_millis()
            ));
        }
        text
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        drop(self.socat.kill());
        drop(self.socat.wait());
    }
}

fn serve(mut far: File, dead: Option<u8>) -> io::Result<()> {
    let began = Instant::now();
    loop {
        let mut request = [0; REQUEST_BYTES];
        far.read_exact(&mut request)?;
        let (unit, function) = (request[0], request[1]);
        let word = |at: usize| u16::from_be_bytes([request[at], request[at + 1]]);
        let (first, count) = (word(2), word(4));
        if crc(&request) != 0 || function != READ_HOLDING || count > 125 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if dead == Some(unit) {
            continue;
        }
        let mut reply = vec![unit, function, (count * 2) as u8];
        let tick = (began.elapsed().as_millis() / 10) as u32;
        for register in first..first.saturating_add(count) {
            reply.extend(float(register, tick));
        }
        reply.extend(crc(&reply).to_le_bytes());
        let bytes = (REQUEST_BYTES + reply.len()) as u32;
        sleep(TURNAROUND + Duration::from_secs(1) * bytes * BITS / BAUD);
        far.write_all(&reply)?;
    }
}

/// Modbus over serial line 1.02, 6.2.2; 0 over a frame with its own.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 })
    })
}
