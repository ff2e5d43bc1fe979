//! What reaches the device for each byte of payload: an ext4 image on a loop device, by the block layer's counters.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rusqlite::Connection;

use super::{PAYLOAD, noise, now, open, route};

/// So many are read and deleted at once, but where each is deleted alone.
const BATCH: u64 = 50;
/// Of the default size: what a segment takes for its ends is shared by as many records as in the field.
const MAX_SIZE: u64 = 512 << 20;

/// What both do: insert, read, delete.
#[derive(Clone, Copy)]
struct Job {
    records: u64,
    /// Records that one flush makes durable; a power cut may take the last so many.
    a_flush: u64,
    /// Records until the spool's first files are used again: four segments of whole pages.
    warm: u64,
}

/// Each reading is durable before the next.
const EACH: Job = Job { records: 2000, a_flush: 1, warm: 5000 };
/// `sync = "1s"` with fifty readings a second: a kill takes none, a power cut the last second. What SQLite promises with
/// `synchronous = NORMAL`, which flushes at its checkpoints alone, is no more.
const A_SECOND: Job = Job { records: 20_000, a_flush: 50, warm: 75_000 };

/// Sectors written and flushes so far.
#[derive(Clone, Copy)]
struct Counters {
    bytes: u64,
    flushes: u64,
}

impl Counters {
    fn beside(self, spool: Self, name: &str) {
        println!("wear: SQLite {name} writes {:.1} x the bytes of the spool", self.bytes as f64 / spool.bytes as f64);
    }
}

struct Image {
    at: PathBuf,
    device: String,
}

impl Image {
    fn mount(folder: &Path) -> Option<Self> {
        let (image, at) = (folder.join("image"), folder.join("mounted"));
        std::fs::File::create(&image).and_then(|file| file.set_len(256 << 20)).ok()?;
        std::fs::create_dir(&at).ok()?;
        run("mkfs.ext4", &["-q", "-F", image.to_str()?])?;
        run("mount", &["-o", "loop,noatime", image.to_str()?, at.to_str()?])?;
        let source = run("findmnt", &["-n", "-o", "SOURCE", at.to_str()?])?;
        Some(Self { device: source.trim().trim_start_matches("/dev/").to_owned(), at })
    }

    fn counters(&self) -> Counters {
        let text = std::fs::read_to_string(format!("/sys/block/{}/stat", self.device)).unwrap_or_default();
        let fields: Vec<u64> = text.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let of = |at: usize| fields.get(at).copied().unwrap_or(0);
        Counters { bytes: of(6) * 512, flushes: of(15) }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", self.at.to_str().unwrap_or_default()]);
    }
}

fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The spool beside SQLite, for each of the two promises.
pub fn compare(folder: &Path) {
    let Some(image) = Image::mount(folder) else {
        println!("wear: NOT MEASURED: a loop image takes root, mount and mkfs.ext4");
        return;
    };
    let spool = of_spool(&image, "spool, each durable", EACH);
    let rounded = spool.bytes as f64 / (EACH.records * 4096) as f64;
    println!("wear: the spool writes {rounded:.2} x one page a durable record");
    // The second one deletes each row when it is acknowledged, as a plain outbox does.
    for (batch, name) in [(BATCH, "FULL"), (1, "FULL one by one")] {
        of_sqlite(&image, (name, "FULL"), EACH.records, batch).beside(spool, name);
    }
    let spool = of_spool(&image, "spool, a flush for 50", A_SECOND);
    for (batch, name) in [(BATCH, "NORMAL"), (1, "NORMAL one by one")] {
        of_sqlite(&image, (name, "NORMAL"), A_SECOND.records, batch).beside(spool, name);
    }
}

fn of_spool(image: &Image, name: &str, job: Job) -> Counters {
    measured(image, name, job.records, |started| {
        let (mut spool, route) = (open(&image.at.join(name), MAX_SIZE), route());
        let mut work = |count: u64| {
            let mut entries = Vec::new();
            for n in 0..count {
                spool.append(now(started), &route, 1, 0, &noise(n)).expect("fits");
                if n % job.a_flush == job.a_flush - 1 {
                    spool.sync(now(started)).expect("flushes");
                }
                if n % BATCH == BATCH - 1 {
                    entries.clear();
                    let from = spool.delivery().done_below();
                    spool.read(from, 1 << 20, &mut entries).expect("reads");
                    assert_eq!(entries.len() as u64, BATCH, "it reads what it wrote");
                    entries.iter().for_each(|entry| spool.done(entry.first));
                }
            }
        };
        // The first filling of its files is paid once; a buffer that runs recycles them.
        work(job.warm);
        let before = image.counters();
        work(job.records);
        before
    })
}

fn of_sqlite(image: &Image, (name, mode): (&str, &str), records: u64, batch: u64) -> Counters {
    measured(image, &format!("SQLite WAL {name}"), records, |_| {
        let file = Connection::open(image.at.join(name)).expect("opens");
        let _: String = file.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0)).expect("WAL");
        file.pragma_update(None, "synchronous", mode).expect("set");
        file.execute("CREATE TABLE queue (number INTEGER PRIMARY KEY, body BLOB)", []).expect("made");
        let before = image.counters();
        for n in 0..records {
            file.execute("INSERT INTO queue (body) VALUES (?1)", [noise(n)]).expect("inserted");
            if n % batch == batch - 1 {
                let mut rows = file.prepare("SELECT body FROM queue").expect("a query");
                let read = rows.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("rows").count();
                assert!(read as u64 >= batch, "it reads what it wrote");
                file.execute("DELETE FROM queue", []).expect("deleted");
            }
        }
        before
    })
}

fn measured(image: &Image, name: &str, records: u64, work: impl FnOnce(Instant) -> Counters) -> Counters {
    let started = Instant::now();
    let before = work(started);
    let _ = run("sync", &["-f", image.at.to_str().unwrap_or_default()]);
    let after = image.counters();
    let used = Counters { bytes: after.bytes - before.bytes, flushes: after.flushes - before.flushes };
    println!(
        "wear: {name}: {:.1} device bytes a payload byte, {:.2} flushes a record, {} ms",
        used.bytes as f64 / (records * PAYLOAD as u64) as f64,
        used.flushes as f64 / records as f64,
        started.elapsed().as_millis()
    );
    used
}
