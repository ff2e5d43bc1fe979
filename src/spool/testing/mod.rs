//! Tests of the spool: on a simulated disk, with every crash replayed.
//!
//! ```text
//!   api     what callers see            sim     the disk, and what a power cut leaves of it
//!   crash   workload, cut anywhere      model   what was promised, and the check of it
//!   disk    where it is cut             damage  flipped bits, lost pages and files
//!   verify  opening what a cut left     props   the codecs, over random input
//!   memory  a disk that refuses, and comes back
//!   view    looking without touching
//!   keeping what goes by age and size          journal  one command id runs once
//!   packing what is mostly padding, in small steps    flush   made elsewhere, while the spool goes on
//! ```

#![expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "numbers in tests are small")]

mod api;
mod crash;
mod damage;
mod disk;
mod flush;
mod journal;
mod keeping;
mod memory;
mod model;
mod packing;
mod props;
mod sim;
mod verify;
mod view;

use std::sync::Arc;
use std::time::Duration;

use super::core::Rng;
use super::{MAX_SIZE_MIN, Now, Options, Route};

/// A time so long after the start, by both clocks.
fn at(ms: u64) -> Now {
    Now { mono: Duration::from_millis(ms), wall_ns: 1_700_000_000_000_000_000 + ms as i64 * 1_000_000, synced: true }
}

fn route(name: &str) -> Route {
    Route { source: Arc::from(name), blob: Arc::from(format!("route of {name}").as_bytes()) }
}

fn options() -> Options {
    Options { max_size: MAX_SIZE_MIN, seed: 7, ..Options::default() }
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[(rng.next() % from.len() as u64) as usize]
}

fn one_in(rng: &mut Rng, n: u64) -> bool {
    rng.next().is_multiple_of(n)
}

/// Bytes that no compression makes smaller.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut rng = Rng(seed);
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| rng.next().to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
