//! Devices over Modbus TCP: a listener, any unit, holding registers that are floats in pairs, and nothing slow about them.
//!
//! Point `k` of a unit stands in registers `2k` and `2k + 1`, byte order `ABCD`. Its whole part is `k` modulo 1000, so
//! that who reads it can tell whose it is; its fraction changes every 10 ms: with two digits where `k` is even, as
//! of a scaled number, and with all that a single has where it is odd, as of a measurement. What is written is counted,
//! and not kept.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

/// Whole parts of values are below.
pub const WHOLE_BELOW: u32 = 1000;

/// Header of a Modbus TCP frame, its unit included (Modbus messaging on TCP/IP 1.0b, 3.1.3).
const HEADER: usize = 7;
const READ_HOLDING: u8 = 3;
const WRITE_MULTIPLE: u8 = 16;
const ILLEGAL_FUNCTION: u8 = 1;
const READ_REGISTERS_MAX: u16 = 125;

/// A device that answers until the process ends.
pub struct Device {
    pub port: u16,
    /// Requests to read, and registers that were written.
    pub reads: Arc<AtomicU64>,
    pub written: Arc<AtomicU64>,
}

impl Device {
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let (reads, written) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counts = (Arc::clone(&reads), Arc::clone(&written));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counts = counts.clone();
                thread::spawn(move || drop(serve(stream, &counts)));
            }
        });
        Ok(Self { port, reads, written })
    }
}

fn serve(mut stream: TcpStream, (reads, written): &(Arc<AtomicU64>, Arc<AtomicU64>)) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let began = Instant::now();
    let mut frame = [0; 260];
    let mut reply = Vec::with_capacity(260);
    loop {
        stream.read_exact(&mut frame[..HEADER])?;
        let length = usize::from(u16::from_be_bytes([frame[4], frame[5]]));
        if !(2..=254).contains(&length) {
            return Ok(());
        }
        stream.read_exact(&mut frame[HEADER..HEADER - 1 + length])?;
        let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let (function, first, count) = (frame[HEADER], word(HEADER + 1), word(HEADER + 3));
        reply.clear();
        reply.extend_from_slice(&frame[..HEADER]);
        match function {
            READ_HOLDING if (1..=READ_REGISTERS_MAX).contains(&count) => {
                reads.fetch_add(1, Ordering::Relaxed);
                reply.extend([function, (count * 2) as u8]);
                let tick = (began.elapsed().as_millis() / 10) as u32;
                for register in first..first.saturating_add(count) {
                    reply.extend(float(register, tick));
                }
            }
            WRITE_MULTIPLE => {
                written.fetch_add(u64::from(count), Ordering::Relaxed);
                reply.extend_from_slice(&frame[HEADER..HEADER + 5]);
            }
            _ => reply.extend([function | 0x80, ILLEGAL_FUNCTION]),
        }
        let length = (reply.len() - HEADER + 1) as u16;
        reply[4..6].copy_from_slice(&length.to_be_bytes());
        stream.write_all(&reply)?;
    }
}

/// What stands in a register: a half of its point's value.
pub fn float(register: u16, tick: u32) -> [u8; 2] {
    let [a, b, c, d] = value(u32::from(register / 2), tick).to_be_bytes();
    if register.is_multiple_of(2) { [a, b] } else { [c, d] }
}

fn value(point: u32, tick: u32) -> f32 {
    let noise = (point.wrapping_mul(2_654_435_761) ^ tick).wrapping_mul(0x9E37_79B1) >> 8;
    let fraction = match point % 2 {
        0 => (noise % 100) as f32 / 100.0,
        // Not quite one, in the coarsest single below a thousand.
        _ => (noise % 16_000) as f32 / 16_384.0,
    };
    (point % WHOLE_BELOW) as f32 + fraction
}
