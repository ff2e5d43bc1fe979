//! Speed and wear of the spool: in one run with its limits (memcpy and CRC, bare pwrite and fdatasync) and with SQLite
//! doing the same job of insert, read and delete, and with the MQTT client that takes its messages from memory. Figures are ratios, so that machines can be compared.
//!
//! `make bench-spool`. `BENCH_FOLDER` is where the files go (default: a temporary folder here), `BENCH_BACKLOG_MIB` how
//! large a backlog is opened and drained (default 1024), `BENCH_PARTS` which parts are run (default all: `lz4,append,durable,wear,backlog,drain`). As root, the device's own counters on a loop image are read too.

#![allow(dead_code, unused_imports, missing_docs, reason = "modules of the agent, of which a part is used")]

#[path = "../../../src/mqtt/mod.rs"]
mod mqtt;
#[path = "../../../src/spool/mod.rs"]
mod spool;
#[path = "../../../src/os"]
mod os {
    pub mod files;
}
#[path = "../../../src/reading/mod.rs"]
mod reading;

mod drain;
mod keeper;
#[path = "../../mqtt/src/sink.rs"]
mod sink;
mod squeeze;
mod wear;

use std::fs::OpenOptions;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use os::files::Folder;
use spool::{Now, Options, Route, Spool};

/// Bytes of a reading.
pub const PAYLOAD: usize = 200;

type Part = fn(&Path);
const PARTS: [(&str, Part); 6] = [
    ("lz4", |_| squeeze::compare()),
    ("append", append),
    ("durable", durable),
    ("wear", wear::compare),
    ("backlog", backlog),
    ("drain", drain::compare),
];

fn main() {
    let base = std::env::var("BENCH_FOLDER").unwrap_or_else(|_| ".".into());
    let folder = tempfile::Builder::new().prefix("bench-spool-").tempdir_in(base).expect("a folder");
    let wanted = std::env::var("BENCH_PARTS").ok();
    for (name, part) in PARTS {
        if wanted.as_ref().is_none_or(|wanted| wanted.split(',').any(|part| part == name)) {
            part(folder.path());
        }
    }
}

pub fn now(started: Instant) -> Now {
    Now { mono: started.elapsed(), wall_ns: 1_700_000_000_000_000_000, synced: true }
}

pub fn route() -> Route {
    Route { source: "press".into(), blob: vec![7; 300].into() }
}

/// Bytes that no compression makes smaller.
pub fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..PAYLOAD)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

pub fn open(folder: &Path, max_size: u64) -> Spool<Folder> {
    let options = Options { max_size, seed: 1, ..Options::default() };
    let storage = Folder::open(folder).expect("the folder");
    Spool::open(storage, options, *b"BNCH", Now::default()).expect("opens").0
}

pub fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// Records into the page cache, beside three limits: copying and summing the same bytes; one bare write each; and the same
/// with a flush for every MiB, since the spool holds no more in memory. The buffer is of the default size and has run for a
/// while: what was appended is acknowledged, and its files are used again.
fn append(folder: &Path) {
    const COUNT: u64 = 200_000;
    const UNSYNCED: u64 = 1 << 20;
    const ACKNOWLEDGED: u64 = 100;
    let payloads: Vec<Vec<u8>> = (0..256).map(noise).collect();
    let started = Instant::now();
    let mut page = Vec::with_capacity(4096);
    let mut sum = 0;
    for n in 0..COUNT {
        page.clear();
        page.extend_from_slice(&payloads[(n % 256) as usize]);
        sum ^= crc32c::crc32c(black_box(&page));
    }
    black_box(sum);
    let limit = rate(COUNT, started.elapsed());
    let bare = |flushed_every: u64| {
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(true).write(true).open(folder.join("bare")).expect("a file");
        file.write_all_at(&vec![0; 64 << 20], 0).and_then(|()| file.sync_all()).expect("room");
        let started = Instant::now();
        for n in 0..COUNT {
            file.write_all_at(&payloads[(n % 256) as usize], n * PAYLOAD as u64).expect("writes");
            if n % flushed_every == flushed_every - 1 {
                file.sync_data().expect("flushes");
            }
        }
        rate(COUNT, started.elapsed())
    };
    let (written, flushed) = (bare(COUNT + 1), bare(UNSYNCED / PAYLOAD as u64));
    let (mut spool, route) = (open(&folder.join("append"), 512 << 20), route());
    let begun = Instant::now();
    let fill = |spool: &mut Spool<Folder>, count: u64| {
        for n in 0..count {
            let number = spool.append(now(begun), &route, 1, 0, &payloads[(n % 256) as usize]).expect("fits");
            if n % ACKNOWLEDGED == ACKNOWLEDGED - 1 {
                (number + 1 - ACKNOWLEDGED..=number).for_each(|number| spool.done(number));
                spool.flush_state(now(begun)).expect("writes");
            }
        }
    };
    fill(&mut spool, COUNT);
    let bytes = spool.stats().bytes;
    let (started, before) = (Instant::now(), processor());
    fill(&mut spool, COUNT);
    let (appended, after) = (rate(COUNT, started.elapsed()), processor());
    assert_eq!(spool.stats().bytes, bytes, "its files are used again");
    let part = |limit: f64| 100.0 * appended / limit;
    let each = |at: usize| (after[at] - before[at]) * 1e6 / COUNT as f64;
    println!("append: {appended:.0} records of {PAYLOAD} B a second");
    println!("append: {:.1} us of its own for each, {:.1} us of the kernel", each(0), each(1));
    println!("append: {:.0} % of one bare write each with a flush for every MiB", part(flushed));
    println!("append: {:.0} % of one bare write each, never flushed", part(written));
    println!("append: {:.1} % of memcpy and CRC without any file", part(limit));
    together(&mut spool, &payloads, begun, limit);
}

/// As many as sources that are read at the same moment: one write takes them all.
fn together(spool: &mut Spool<Folder>, payloads: &[Vec<u8>], begun: Instant, limit: f64) {
    const COUNT: u64 = 200_000;
    const TOGETHER: u64 = 50;
    let route = route();
    let (started, before) = (Instant::now(), processor());
    for at in (0..COUNT).step_by(TOGETHER as usize) {
        for n in at..at + TOGETHER {
            let payload = payloads[(n % 256) as usize].clone();
            let number = spool.push(now(begun), &route, 1, 0, payload).expect("fits");
            spool.done(number.saturating_sub(TOGETHER));
        }
        spool.flush_state(now(begun)).expect("writes");
    }
    let (pushed, after) = (rate(COUNT, started.elapsed()), processor());
    let [own, kernel] = [0, 1].map(|at| (after[at] - before[at]) * 1e6 / COUNT as f64);
    println!(
        "append: {TOGETHER} at once: {pushed:.0} a second, {own:.1} us of its own, {kernel:.1} us of the kernel, {:.1} % of memcpy and CRC",
        100.0 * pushed / limit
    );
}

/// Processor time of this process so far, seconds: its own, and in the kernel.
pub fn processor() -> [f64; 2] {
    const TICKS_A_SECOND: f64 = 100.0;
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = text.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<f64> = behind_name.split_whitespace().skip(11).take(2).flat_map(str::parse).collect();
    [0, 1].map(|at| ticks.get(at).copied().unwrap_or(0.0) / TICKS_A_SECOND)
}

/// One record, one flush.
fn durable(folder: &Path) {
    const COUNT: u64 = 400;
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(folder.join("flush")).expect("a file");
    file.write_all_at(&vec![1; 4 << 20], 0).and_then(|()| file.sync_all()).expect("room");
    let page = [3; 4096];
    let started = Instant::now();
    for n in 0..COUNT {
        file.write_all_at(&page, n * 4096).and_then(|()| file.sync_data()).expect("writes");
    }
    let bare = rate(COUNT, started.elapsed());
    let (mut spool, route) = (open(&folder.join("durable"), 512 << 20), route());
    let started = Instant::now();
    for n in 0..COUNT {
        spool.append(now(started), &route, 1, 0, &noise(n)).expect("fits");
        spool.sync(now(started)).expect("flushes");
    }
    let durable = rate(COUNT, started.elapsed());
    println!("durable: {durable:.0} records a second, {:.0} % of bare pwrite and fdatasync", 100.0 * durable / bare);
}

/// A long outage: opening what it left, and reading it out.
fn backlog(folder: &Path) {
    let mib: u64 = std::env::var("BENCH_BACKLOG_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(1024);
    let (place, size) = (folder.join("backlog"), mib << 20);
    let mut spool = open(&place, size);
    let (started, route) = (Instant::now(), route());
    let payload: Vec<u8> = (0..8).flat_map(noise).collect();
    let before = memory();
    while spool.stats().dropped == 0 && spool.stats().bytes < size - size / 10 {
        for _ in 0..5000 {
            spool.append(now(started), &route, 1, 0, &payload).expect("fits");
        }
    }
    spool.sync(now(started)).expect("flushes");
    let filled = memory();
    let storage = spool.close(now(started)).expect("closes");
    drop(storage);
    let opening = Instant::now();
    let mut spool = open(&place, size);
    let opening = opening.elapsed();
    let (mut at, mut count, mut entries, mut most) = (1, 0_u64, Vec::new(), 0);
    spool.connected();
    let draining = Instant::now();
    while at < spool.end() {
        entries.clear();
        at = spool.read(at, 256 << 10, &mut entries).expect("reads");
        for entry in &entries {
            spool.sent(entry.first);
            spool.done(entry.first);
            count += 1;
        }
        spool.flush_state(now(started)).expect("writes");
        most = most.max(memory());
    }
    let time = draining.elapsed();
    println!("backlog of {mib} MiB: opened in {} ms", opening.as_millis());
    println!(
        "backlog: {:.0} messages of {} B a second read and settled, {:.0} MB/s",
        rate(count, time),
        payload.len(),
        rate(count * payload.len() as u64, time) / 1e6
    );
    println!("memory: {before} KiB before, {filled} KiB when it was full, {most} KiB at most while draining");
}

/// Resident memory, KiB.
pub fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}
