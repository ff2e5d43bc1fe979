//! A Modbus device that does as it is told: answers, or goes wrong in one of the ways in which devices and gateways do.
//!
//! It speaks on any stream (a connection, a pseudo-terminal, a pipe in memory), writes down what it was asked, and shares
//! no code with the agent. Register and coil `n` of unit `u` hold `u * 1000 + n` (a coil: whether that is odd) until
//! they are written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::sync::{Mutex, watch};

/// What it does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// As it should.
    Answer,
    /// Refuses.
    Exception(u8),
    /// Says nothing.
    Silent,
    /// As it should, so much later; meanwhile it takes further requests.
    Late(Duration),
    /// As it should, so much later, and only then the next request.
    Slow(Duration),
    /// Answers with another transaction number (TCP).
    WrongTransaction,
    /// Answers as the next unit.
    WrongUnit,
    /// Answers with another reading function.
    WrongFunction,
    /// Answers with a register, or eight bits, more than was asked for.
    WrongLength,
    /// Answers with a wrong CRC (RTU), or a wrong protocol number (TCP).
    BadCheck,
    /// Sends the first half of the answer.
    Half,
    /// Sends the first half of the answer and closes.
    HalfAndClose,
    /// Sends some bytes that mean nothing, then the answer.
    GarbageBefore,
    /// Sends the answer, then some bytes that mean nothing.
    GarbageAfter,
    /// Sends the answer twice.
    Twice,
    /// Sends the answer, and so much later once more.
    Echo(Duration),
    /// Closes without a word.
    Close,
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// From 1.
    pub number: usize,
    /// On which connection, from 1.
    pub connection: usize,
    pub unit: u8,
    pub function: u8,
    /// The first address.
    pub first: u16,
    /// How many, or the value (5, 6), or the first mask (22).
    pub count: u16,
    /// On the runtime's clock.
    pub at: tokio::time::Instant,
}

type Script = Box<dyn FnMut(&Asked) -> Act + Send + Sync>;

struct Insides {
    asked: Vec<Asked>,
    connections: usize,
    script: Script,
    registers: BTreeMap<(u8, u16), u16>,
    coils: BTreeMap<(u8, u16), bool>,
}

/// See the head of this file. A clone is the same device.
#[derive(Clone)]
pub struct Device {
    is_rtu: bool,
    insides: Arc<watch::Sender<Insides>>,
}

impl Device {
    /// With TCP's frames, or RTU's. Answers everything.
    pub fn new(is_rtu: bool) -> Self {
        let insides = Insides {
            asked: Vec::new(),
            connections: 0,
            script: Box::new(|_| Act::Answer),
            registers: BTreeMap::new(),
            coils: BTreeMap::new(),
        };
        Self { is_rtu, insides: Arc::new(watch::Sender::new(insides)) }
    }

    /// From now on it does what `script` says.
    pub fn follow(&self, script: impl FnMut(&Asked) -> Act + Send + Sync + 'static) {
        self.insides.send_modify(|insides| insides.script = Box::new(script));
    }

    /// All that it was asked.
    pub fn asked(&self) -> Vec<Asked> {
        self.insides.borrow().asked.clone()
    }

    /// How often somebody connected.
    pub fn connections(&self) -> usize {
        self.insides.borrow().connections
    }

    /// What a register holds.
    pub fn register(&self, unit: u8, address: u16) -> u16 {
        self.insides.borrow().registers.get(&(unit, address)).copied().unwrap_or_else(|| untouched(unit, address))
    }

    /// What a coil holds.
    pub fn coil(&self, unit: u8, address: u16) -> bool {
        let coil = self.insides.borrow().coils.get(&(unit, address)).copied();
        coil.unwrap_or_else(|| untouched(unit, address) % 2 == 1)
    }

    /// Sets a register.
    pub fn set(&self, unit: u8, address: u16, value: u16) {
        self.insides.send_modify(|insides| {
            insides.registers.insert((unit, address), value);
        });
    }

    fn set_coil(&self, unit: u8, address: u16, on: bool) {
        self.insides.send_modify(|insides| {
            insides.coils.insert((unit, address), on);
        });
    }

    /// Serves one stream until it ends, or a script closes it.
    pub async fn serve(self, stream: impl AsyncRead + AsyncWrite + Send + 'static) {
        let mut connection = 0;
        self.insides.send_modify(|insides| {
            insides.connections += 1;
            connection = insides.connections;
        });
        let (mut from, to) = tokio::io::split(stream);
        let to = Arc::new(Mutex::new(to));
        let mut buffer = Vec::new();
        let mut bytes = [0; 512];
        loop {
            while let Some(request) = self.take_request(&mut buffer) {
                let act = self.act(&request, connection);
                if !self.perform(act, &request, &to).await {
                    let _gone = to.lock().await.shutdown().await;
                    return;
                }
            }
            match from.read(&mut bytes).await {
                Ok(count @ 1..) => buffer.extend_from_slice(&bytes[..count]),
                _ => return,
            }
        }
    }

    /// Listens on a free port until the sender is dropped or says so; gives the port.
    pub async fn listen(&self) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        (address, self.accept(listener))
    }

    /// Accepts on a listener until the task is aborted; its connections end with it.
    pub fn accept(&self, listener: tokio::net::TcpListener) -> tokio::task::JoinHandle<()> {
        let device = self.clone();
        tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let _none = stream.set_nodelay(true);
                serving.spawn(device.clone().serve(stream));
                while serving.try_join_next().is_some() {}
            }
        })
    }

    /// The first whole request in the buffer: header (TCP: with the transaction), unit, and what follows it.
    fn take_request(&self, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
        let length = if self.is_rtu {
            match *buffer.get(1)? {
                15 | 16 => 9 + usize::from(*buffer.get(6)?),
                22 => 10,
                _ => 8,
            }
        } else {
            6 + usize::from(u16::from_be_bytes([*buffer.get(4)?, *buffer.get(5)?]))
        };
        if buffer.len() < length {
            return None;
        }
        Some(buffer.drain(..length).collect())
    }

    fn act(&self, request: &[u8], connection: usize) -> Act {
        let unit_at = if self.is_rtu { 0 } else { 6 };
        let word = |at: usize| u16::from_be_bytes([request[at], request[at + 1]]);
        if self.is_rtu {
            let (content, sum) = request.split_at(request.len() - 2);
            assert_eq!(sum, crc(content), "the request's CRC: {request:02x?}");
        }
        let mut act = Act::Answer;
        self.insides.send_modify(|insides| {
            let asked = Asked {
                number: insides.asked.len() + 1,
                connection,
                unit: request[unit_at],
                function: request[unit_at + 1],
                first: word(unit_at + 2),
                count: word(unit_at + 4),
                at: now(),
            };
            act = (insides.script)(&asked);
            insides.asked.push(asked);
        });
        act
    }

    /// Whether the connection stays.
    async fn perform<S: AsyncWrite + Send + 'static>(
        &self,
        act: Act,
        request: &[u8],
        to: &Arc<Mutex<WriteHalf<S>>>,
    ) -> bool {
        let bytes = match &act {
            Act::Silent => return true,
            Act::Close => return false,
            _ => self.reply(&act, request),
        };
        match act {
            Act::Late(delay) => {
                let to = Arc::clone(to);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let _gone = to.lock().await.write_all(&bytes).await;
                });
                return true;
            }
            Act::Echo(delay) => {
                let (to, bytes) = (Arc::clone(to), bytes.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let _gone = to.lock().await.write_all(&bytes).await;
                });
            }
            Act::Slow(delay) => tokio::time::sleep(delay).await,
            _ => {}
        }
        to.lock().await.write_all(&bytes).await.is_ok() && act != Act::HalfAndClose
    }

    fn reply(&self, act: &Act, request: &[u8]) -> Vec<u8> {
        let unit_at = if self.is_rtu { 0 } else { 6 };
        let (mut unit, function) = (request[unit_at], request[unit_at + 1]);
        let body = &request[unit_at + 2..];
        let mut pdu = self.content(act, unit, function, body);
        match act {
            Act::WrongUnit => unit = unit.wrapping_add(1),
            Act::WrongFunction => pdu[0] = if function == 3 { 4 } else { 3 },
            Act::Exception(code) => pdu = vec![function | 0x80, *code],
            _ => {}
        }
        let mut bytes = if self.is_rtu {
            let mut frame = vec![unit];
            frame.extend(pdu);
            let sum = crc(&frame);
            frame.extend(sum);
            frame
        } else {
            let mut frame = request[..2].to_vec();
            frame.extend([0, 0]);
            frame.extend(u16::try_from(pdu.len() + 1).expect("short").to_be_bytes());
            frame.push(unit);
            frame.extend(pdu);
            frame
        };
        const GARBAGE: [u8; 3] = [0x00, 0xff, 0x55];
        match act {
            Act::WrongTransaction if !self.is_rtu => bytes[1] = bytes[1].wrapping_add(1),
            Act::BadCheck if self.is_rtu => *bytes.last_mut().expect("bytes") ^= 0x55,
            Act::BadCheck => bytes[3] = 7,
            Act::Half | Act::HalfAndClose => bytes.truncate(bytes.len() / 2),
            Act::GarbageBefore => bytes = [&GARBAGE, &bytes[..]].concat(),
            Act::GarbageAfter => bytes.extend(GARBAGE),
            Act::Twice => bytes = bytes.repeat(2),
            _ => {}
        }
        bytes
    }

    /// Function and what follows it; writes are done.
    fn content(&self, act: &Act, unit: u8, function: u8, body: &[u8]) -> Vec<u8> {
        let word = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        let (first, count) = (word(0), word(2));
        let extra = u16::from(*act == Act::WrongLength);
        let mut out = vec![function];
        match function {
            1 | 2 => {
                let count = count + 8 * extra;
                out.push(u8::try_from(count.div_ceil(8)).expect("few bits"));
                let bits: Vec<bool> = (0..count).map(|n| self.coil(unit, first.wrapping_add(n))).collect();
                out.extend(
                    bits.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit))),
                );
            }
            3 | 4 => {
                let count = count + extra;
                out.push(u8::try_from(count * 2).expect("few registers"));
                out.extend((0..count).flat_map(|n| self.register(unit, first.wrapping_add(n)).to_be_bytes()));
            }
            5 => self.set_coil(unit, first, count == 0xff00),
            6 => self.set(unit, first, count),
            15 => {
                for n in 0..count {
                    let on = body[5 + usize::from(n / 8)] >> (n % 8) & 1 == 1;
                    self.set_coil(unit, first + n, on);
                }
            }
            16 => (0..count).for_each(|n| self.set(unit, first + n, word(5 + usize::from(n) * 2))),
            22 => {
                let old = self.register(unit, first);
                self.set(unit, first, (old & count) | (word(4) & !count));
            }
            _ => {}
        }
        if matches!(function, 5 | 6 | 15 | 16) {
            out.extend(&body[..4]);
        } else if function == 22 {
            out.extend(&body[..6]);
        }
        out
    }
}

/// What nobody has written.
pub fn untouched(unit: u8, address: u16) -> u16 {
    u16::from(unit).wrapping_mul(1000).wrapping_add(address)
}

/// As it stands on the wire.
fn crc(bytes: &[u8]) -> [u8; 2] {
    let mut crc = 0xffff_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc >>= 1;
            if carry == 1 {
                crc ^= 0xa001;
            }
        }
    }
    crc.to_le_bytes()
}

#[allow(clippy::disallowed_methods, reason = "a device has a clock of its own")]
fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}
