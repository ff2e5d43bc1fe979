//! When lz4 pays: what it takes off records of several kinds, and what that costs.
//!
//! The spool tries it on payloads of 256 bytes and more, and keeps what is smaller by an eighth.

use std::hint::black_box;
use std::time::Instant;

use crate::reading::{Batch, Reading, Timestamp, Value};

const ROUNDS: u32 = 20_000;

/// A line for each kind of record.
pub fn compare() {
    for (what, payload) in kinds() {
        let started = Instant::now();
        for _ in 0..ROUNDS {
            black_box(lz4_flex::block::compress(black_box(&payload)));
        }
        let there = started.elapsed() / ROUNDS;
        let squeezed = lz4_flex::block::compress(&payload);
        let started = Instant::now();
        for _ in 0..ROUNDS {
            black_box(lz4_flex::block::decompress(black_box(&squeezed), payload.len()).expect("whole"));
        }
        let back = started.elapsed() / ROUNDS;
        let pays = payload.len() >= 256 && squeezed.len() + 4 <= payload.len() - payload.len() / 8;
        println!(
            "lz4: {what}: {} bytes become {} ({}), {} ns there, {} ns back",
            payload.len(),
            squeezed.len(),
            if pays { "kept" } else { "left as it was" },
            there.as_nanos(),
            back.as_nanos()
        );
    }
}

fn kinds() -> Vec<(&'static str, Vec<u8>)> {
    let compact = |count: u32, value: &dyn Fn(u32) -> Value| {
        let readings = (0..count).map(|point| Reading::good(point, value(point))).collect();
        let batch = Batch { time: Timestamp(1_700_000_000_000_000_000), clock_synced: true, readings };
        let mut out = Vec::new();
        batch.encode(&mut out);
        out
    };
    // As a converter gives them: some digits, and a point that moves a little.
    let measured = |point: u32| Value::Real(f64::from(point.wrapping_mul(2_654_435_761) % 40_000) * 0.1);
    let text = r#"{"alarm":17,"text":"pump 3: pressure low","since":"2026-11-22T17:00:00Z"},"#.repeat(12);
    vec![
        ("10 real numbers", compact(10, &measured)),
        ("27 real numbers", compact(27, &measured)),
        ("100 real numbers", compact(100, &measured)),
        ("100 whole numbers below 1000", compact(100, &|point| Value::Unsigned(u64::from(point * 37 % 1000)))),
        ("100 truth values", compact(100, &|point| Value::Boolean(point % 3 == 0))),
        ("text of a device", compact(1, &|_| Value::Text(text.clone()))),
        ("noise", (0..5).flat_map(crate::noise).collect()),
    ]
}
