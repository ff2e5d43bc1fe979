//! Compression of single frames, where it pays.
//!
//! Owns nothing. Invariant: what is kept is smaller by an eighth at least, and comes back byte for byte.

use std::borrow::Cow;

use super::bytes::{Put, Take, len_u32};
use super::format::FLAG_LZ4;
use super::payload::Payload;

/// Shorter payloads are left alone: a compact batch of a few readings has nothing to give.
const SQUEEZE_MIN: usize = 256;
/// The most that one frame unpacks to, bytes: nothing larger is ever written.
const UNPACKED_MAX: usize = 16 << 20;

/// The body to write, and its flag.
pub(crate) fn squeeze(payload: &[u8]) -> (Cow<'_, [u8]>, u8) {
    if payload.len() < SQUEEZE_MIN {
        return (Cow::Borrowed(payload), 0);
    }
    let mut body = Vec::with_capacity(payload.len() / 2);
    body.put_u32(len_u32(payload.len()));
    body.extend_from_slice(&lz4_flex::block::compress(payload));
    if body.len() > payload.len() - payload.len() / 8 {
        return (Cow::Borrowed(payload), 0);
    }
    (Cow::Owned(body), FLAG_LZ4)
}

/// The payload of a body with these flags.
pub(crate) fn unsqueeze(flags: u8, body: Payload) -> Option<Payload> {
    if flags & FLAG_LZ4 == 0 {
        return Some(body);
    }
    let mut take = Take::new(&body);
    let length = usize::try_from(take.u32()?).ok().filter(|length| *length <= UNPACKED_MAX)?;
    lz4_flex::block::decompress(take.rest(), length).ok().filter(|bytes| bytes.len() == length).map(Payload::from)
}
