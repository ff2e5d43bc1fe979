//! The way to a bus: a TCP connection, or a serial port.
//!
//! serial2-tokio opens serial ports: it sets every baud rate that the kernel takes, reads back whether port and driver
//! took the settings, and sets RS-485 direction control (`TIOCSRS485`); tokio-serial does neither of the last two.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use serial2_tokio::rs4xx::{Rs485Config, TransceiverMode};
use serial2_tokio::{CharSize, FlowControl, SerialPort, Settings, StopBits};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::config::{BusUrl, Parity};

/// Bytes to and from a device.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A stream, or why there is none.
pub(super) type Dialling<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// Makes streams to one bus.
pub(super) trait Dial: Send + Sync {
    /// Makes one. It may take as long as it wants: who calls has a limit.
    fn dial(&self) -> Dialling<'_>;
}

/// How frames stand on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// With a transaction number, which the device echoes, or not.
    Tcp { check_transaction: bool },
    /// With a CRC. `bits_per_second` is 0 where it is not known (a serial server).
    Rtu { bits_per_second: u32 },
}

impl Framing {
    /// Of a url.
    pub(super) const fn of(url: &BusUrl, check_transaction: bool) -> Self {
        match url {
            BusUrl::Tcp { .. } => Self::Tcp { check_transaction },
            BusUrl::RtuTcp { .. } => Self::Rtu { bits_per_second: 0 },
            BusUrl::Rtu { baud, .. } => Self::Rtu { bits_per_second: *baud },
        }
    }

    /// Time that so many bytes take on the line: eleven bits each (Modbus over serial line 1.02, section 2.5.1).
    pub(super) fn time_of(self, bytes: usize) -> Duration {
        match self {
            Self::Rtu { bits_per_second: baud @ 1.. } => {
                let bits = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(11);
                Duration::from_micros(bits.saturating_mul(1_000_000) / u64::from(baud))
            }
            _ => Duration::ZERO,
        }
    }

    /// Silence between two frames: 3.5 characters, and 1.75 ms above 19,200 baud (section 2.5.1.1).
    pub(super) fn silence(self) -> Duration {
        match self {
            Self::Rtu { bits_per_second: 19_201.. } => Duration::from_micros(1_750),
            _ => self.time_of(7) / 2,
        }
    }
}

impl Dial for BusUrl {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(async move {
            let stream: Box<dyn Stream> = match self {
                BusUrl::Tcp { host, port } | BusUrl::RtuTcp { host, port } => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream)
                }
                BusUrl::Rtu { device, baud, parity, stop, rs485 } => {
                    let port = open(device, *baud, *parity, *stop)?;
                    if *rs485 {
                        port.set_rs4xx_mode(TransceiverMode::Rs485(Rs485Config::new()))
                            .map_err(|error| no_rs485(&error))?;
                    }
                    port.discard_buffers()?;
                    Box::new(port)
                }
            };
            Ok(stream)
        })
    }
}

fn no_rs485(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the port's driver has no RS-485 mode: {error}; leave out rs485=true"))
}

fn open(device: &Path, baud: u32, parity: Parity, stop: u8) -> io::Result<SerialPort> {
    // A pseudo-terminal has no bits on a wire, and its driver does not take a parity.
    let pseudo = device.canonicalize().is_ok_and(|path| path.starts_with("/dev/pts"));
    SerialPort::open(device, |mut settings: Settings| {
        settings.set_raw();
        settings.set_baud_rate(baud)?;
        settings.set_char_size(CharSize::Bits8);
        settings.set_stop_bits(if stop == 2 { StopBits::Two } else { StopBits::One });
        settings.set_parity(match parity {
            _ if pseudo => serial2_tokio::Parity::None,
            Parity::None => serial2_tokio::Parity::None,
            Parity::Even => serial2_tokio::Parity::Even,
            Parity::Odd => serial2_tokio::Parity::Odd,
        });
        settings.set_flow_control(FlowControl::None);
        Ok(settings)
    })
}
