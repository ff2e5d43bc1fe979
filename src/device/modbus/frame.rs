//! Requests into bytes, and what came back held against what was asked: transaction, unit, function, length, echo, CRC.
//!
//! Pure. A reply that does not fit its request in every respect is [`Wrong`]; nothing of it is used.

use tokio_modbus::bytes::Bytes;
use tokio_modbus::{Request, Response};

use super::Data;

/// Bytes of the longest RTU frame (Modbus over serial line 1.02, section 2.5.1).
pub(super) const RTU_MAX: usize = 256;
/// Bytes before the PDU of a TCP frame, the unit included (Modbus messaging on TCP/IP 1.0b, section 3.1.3).
pub(super) const HEADER: usize = 7;
/// Bytes of the longest PDU.
const PDU_MAX: usize = 253;

/// What a reply says that fits its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Data(Data),
    Written,
    Exception(u8),
}

/// What does not fit, in words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong(pub String);

/// What a stream of bytes has so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The reply, and how many bytes it took, everything before it included.
    Reply(Reply, usize),
    /// Not all of it yet.
    More,
}

/// The request without its frame. (tokio-modbus keeps its own encoder to itself.)
fn pdu(request: &Request<'_>) -> Vec<u8> {
    let mut out = vec![request.function_code().value()];
    match request {
        Request::ReadCoils(first, count)
        | Request::ReadDiscreteInputs(first, count)
        | Request::ReadHoldingRegisters(first, count)
        | Request::ReadInputRegisters(first, count) => put(&mut out, &[*first, *count]),
        Request::WriteSingleCoil(address, on) => put(&mut out, &[*address, if *on { 0xff00 } else { 0 }]),
        Request::WriteSingleRegister(address, value) => put(&mut out, &[*address, *value]),
        Request::MaskWriteRegister(address, and, or) => put(&mut out, &[*address, *and, *or]),
        Request::WriteMultipleCoils(first, values) => {
            put(&mut out, &[*first, u16::try_from(values.len()).unwrap_or(u16::MAX)]);
            out.push(u8::try_from(values.len().div_ceil(8)).unwrap_or(u8::MAX));
            let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte: u8, bit| byte << 1 | u8::from(*bit));
            out.extend(values.chunks(8).map(byte));
        }
        Request::WriteMultipleRegisters(first, values) => {
            put(&mut out, &[*first, u16::try_from(values.len()).unwrap_or(u16::MAX)]);
            out.push(u8::try_from(values.len() * 2).unwrap_or(u8::MAX));
            put(&mut out, values);
        }
        // No other is ever made.
        _ => {}
    }
    out
}

fn put(out: &mut Vec<u8>, words: &[u16]) {
    out.extend(words.iter().flat_map(|word| word.to_be_bytes()));
}

/// A request as TCP carries it.
pub(super) fn tcp(transaction: u16, unit: u8, request: &Request<'_>) -> Vec<u8> {
    let pdu = pdu(request);
    let length = u16::try_from(pdu.len() + 1).unwrap_or(u16::MAX);
    let mut out = Vec::with_capacity(HEADER + pdu.len());
    for word in [transaction, 0, length] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.push(unit);
    out.extend(pdu);
    out
}

/// A request as a serial line carries it.
pub(super) fn rtu(unit: u8, request: &Request<'_>) -> Vec<u8> {
    let mut out = vec![unit];
    out.extend(pdu(request));
    let crc = crc(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// CRC-16 with polynomial 0xA001, begun with ones (Modbus over serial line 1.02, section 6.2.2).
pub(super) fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc: u16, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xa001 } else { crc >> 1 })
    })
}

/// The first reply in what came over TCP. `transaction` is `None` where the device does not echo it.
pub(super) fn from_tcp(
    bytes: &[u8],
    transaction: Option<u16>,
    unit: u8,
    request: &Request<'_>,
) -> Result<Found, Wrong> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(Found::More) };
    let [t0, t1, p0, p1, l0, l1, from] = *header;
    let (came, protocol, length) =
        (u16::from_be_bytes([t0, t1]), u16::from_be_bytes([p0, p1]), usize::from(u16::from_be_bytes([l0, l1])));
    if protocol != 0 {
        return Err(Wrong("what came is not Modbus TCP".into()));
    }
    if let Some(asked) = transaction.filter(|asked| *asked != came) {
        return Err(Wrong(format!("a reply to transaction {came} came for {asked} (check_transaction)")));
    }
    if from != unit {
        return Err(Wrong(format!("unit {from} answered for unit {unit}")));
    }
    if !(3..=PDU_MAX + 1).contains(&length) {
        return Err(Wrong(format!("a reply says that it has {length} bytes")));
    }
    let Some(pdu) = rest.get(..length - 1) else {
        return match rest.first() {
            // A wrong length would be waited for in vain.
            Some(function) => expect_length(request, *function, length - 1).map(|()| Found::More),
            None => Ok(Found::More),
        };
    };
    Ok(Found::Reply(reply(request, pdu)?, HEADER + length - 1))
}

/// The first reply in what came over a serial line. Noise before it is passed over: behind it has to stand a frame of
/// this unit and function, of the right length, with its CRC.
pub(super) fn from_rtu(bytes: &[u8], unit: u8, request: &Request<'_>) -> Result<Found, Wrong> {
    for start in 0..bytes.len() {
        let Some(at) = bytes.get(start..) else { break };
        let Some(frame) = whole_frame(at) else { continue };
        let [from, function, ..] = *frame else { continue };
        let Some(pdu) = frame.get(1..frame.len().saturating_sub(2)) else { continue };
        if from == unit && function & 0x7f == request.function_code().value() {
            return Ok(Found::Reply(reply(request, pdu)?, start + frame.len()));
        }
        if start == 0 {
            return Err(match from == unit {
                true => Wrong(format!("function {function} came for {}", request.function_code().value())),
                false => Wrong(format!("unit {from} answered for unit {unit}")),
            });
        }
    }
    Ok(Found::More)
}

/// What is wrong with bytes that are no reply, when no more come.
pub(super) fn diagnosis(bytes: &[u8], unit: u8) -> Wrong {
    match bytes {
        [from, ..] if *from != unit => Wrong(format!("{} bytes came that are no reply of unit {unit}", bytes.len())),
        _ => Wrong(format!("{} bytes of a reply came, cut short or with a wrong CRC", bytes.len())),
    }
}

/// The frame at the beginning, if it is all there and its CRC is right.
fn whole_frame(bytes: &[u8]) -> Option<&[u8]> {
    let [_, function, third, ..] = *bytes else { return None };
    let length = match function {
        0x81..=0xff => 5,
        1..=4 => 5 + usize::from(third),
        5 | 6 | 15 | 16 => 8,
        22 => 10,
        _ => return None,
    };
    let frame = bytes.get(..length)?;
    let (content, sum) = frame.split_at_checked(length - 2)?;
    (crc(content).to_le_bytes() == *sum).then_some(frame)
}

/// Bytes of the PDU that answers the request.
fn pdu_length(request: &Request<'_>) -> usize {
    match request {
        Request::ReadCoils(_, count) | Request::ReadDiscreteInputs(_, count) => 2 + usize::from(*count).div_ceil(8),
        Request::ReadHoldingRegisters(_, count) | Request::ReadInputRegisters(_, count) => 2 + usize::from(*count) * 2,
        Request::MaskWriteRegister(..) => 7,
        _ => 5,
    }
}

/// Bytes of request and reply on a serial line.
pub(super) fn rtu_bytes(request: &Request<'_>) -> usize {
    rtu(0, request).len() + pdu_length(request) + 3
}

fn expect_length(request: &Request<'_>, function: u8, length: usize) -> Result<(), Wrong> {
    let expected = if function & 0x80 == 0 { pdu_length(request) } else { 2 };
    if length == expected {
        return Ok(());
    }
    Err(Wrong(format!("a reply to function {function} has {length} bytes instead of {expected}")))
}

/// Decodes and compares.
fn reply(request: &Request<'_>, pdu: &[u8]) -> Result<Reply, Wrong> {
    let function = request.function_code().value();
    let came = pdu.first().copied().unwrap_or_default();
    if came & 0x7f != function {
        return Err(Wrong(format!("function {came} came for {function}")));
    }
    expect_length(request, came, pdu.len())?;
    if let [_, code] = *pdu {
        return Ok(Reply::Exception(code));
    }
    let response = Response::try_from(Bytes::copy_from_slice(pdu));
    let response = response.map_err(|error| Wrong(format!("a reply can't be read: {error}")))?;
    let fits = match (request, response) {
        (Request::ReadCoils(_, count), Response::ReadCoils(bits))
        | (Request::ReadDiscreteInputs(_, count), Response::ReadDiscreteInputs(bits)) => {
            let wanted = usize::from(*count);
            let bits = bits.get(..wanted).map(<[bool]>::to_vec);
            bits.map(|bits| Reply::Data(Data::Bits(bits)))
        }
        (Request::ReadHoldingRegisters(_, count), Response::ReadHoldingRegisters(words))
        | (Request::ReadInputRegisters(_, count), Response::ReadInputRegisters(words)) => {
            (words.len() == usize::from(*count)).then_some(Reply::Data(Data::Registers(words)))
        }
        (Request::WriteSingleCoil(address, on), Response::WriteSingleCoil(to, value)) => {
            (*address == to && *on == value).then_some(Reply::Written)
        }
        (Request::WriteSingleRegister(address, word), Response::WriteSingleRegister(to, value)) => {
            (*address == to && *word == value).then_some(Reply::Written)
        }
        (Request::WriteMultipleCoils(address, values), Response::WriteMultipleCoils(to, count)) => {
            (*address == to && values.len() == usize::from(count)).then_some(Reply::Written)
        }
        (Request::WriteMultipleRegisters(address, values), Response::WriteMultipleRegisters(to, count)) => {
            (*address == to && values.len() == usize::from(count)).then_some(Reply::Written)
        }
        (Request::MaskWriteRegister(address, and, or), Response::MaskWriteRegister(to, a, o)) => {
            ((*address, *and, *or) == (to, a, o)).then_some(Reply::Written)
        }
        _ => None,
    };
    fits.ok_or_else(|| Wrong("the reply confirms something else than was written, or has another count".into()))
}

#[cfg(test)]
mod tests;
