//! What reaches the device for each byte of payload: an ext4 image on a loop device, by the block layer's counters.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rusqlite::Connection;

use super::{PAYLOAD, noise, now, open, route};

/// Records, each durable before the next; each batch is read and deleted when it is full.
const COUNT: u64 = 2000;
const BATCH: u64 = 50;
/// Of the default size: what a segment takes for its ends is shared by as many records as in the field.
const MAX_SIZE: u64 = 512 << 20;
/// Records until its first files are used again: four segments of a page each.
const WARM: u64 = 5000;

/// Sectors written and flushes so far.
#[derive(Clone, Copy)]
struct Counters {
    bytes: u64,
    flushes: u64,
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

/// The spool, then SQLite.
pub fn compare(folder: &Path) {
    let Some(image) = Image::mount(folder) else {
        println!("wear: NOT MEASURED: a loop image takes root, mount and mkfs.ext4");
        return;
    };
    let spool = measured(&image, "spool", |started| {
        let (mut spool, route) = (open(&image.at.join("spool"), MAX_SIZE), route());
        // The first filling of its files is paid once; a buffer that runs recycles them.
        let warm = |spool: &mut crate::spool::Spool<_>, count: u64| {
            let mut entries = Vec::new();
            for n in 0..count {
                spool.append(now(started), &route, 1, 0, &noise(n)).expect("fits");
                spool.sync(now(started)).expect("flushes");
                if n % BATCH == BATCH - 1 {
                    entries.clear();
                    let from = spool.delivery().done_below();
                    spool.read(from, 1 << 20, &mut entries).expect("reads");
                    entries.iter().for_each(|entry| spool.done(entry.first));
                }
            }
        };
        warm(&mut spool, WARM);
        let before = image.counters();
        warm(&mut spool, COUNT);
        before
    });
    let rounded = spool.bytes as f64 / (COUNT * 4096) as f64;
    println!("wear: the spool writes {rounded:.2} x one page a durable record");
    // The last one deletes each row when it is acknowledged, as a plain outbox does.
    for (mode, batch, name) in [("FULL", BATCH, "FULL"), ("NORMAL", BATCH, "NORMAL"), ("FULL", 1, "FULL one by one")] {
        let sqlite = measured(&image, &format!("SQLite WAL {name}"), |_| {
            let file = Connection::open(image.at.join(name)).expect("opens");
            let _: String = file.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0)).expect("WAL");
            file.pragma_update(None, "synchronous", mode).expect("set");
            file.execute("CREATE TABLE queue (number INTEGER PRIMARY KEY, body BLOB)", []).expect("made");
            let before = image.counters();
            for n in 0..COUNT {
                file.execute("INSERT INTO queue (body) VALUES (?1)", [noise(n)]).expect("inserted");
                if n % batch == batch - 1 {
                    let mut rows = file.prepare("SELECT body FROM queue").expect("a query");
                    let read = rows.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("rows").count();
                    assert!(read as u64 >= batch, "it reads what it wrote");
                    file.execute("DELETE FROM queue", []).expect("deleted");
                }
            }
            before
        });
        println!("wear: SQLite {name} writes {:.1} x the bytes of the spool", sqlite.bytes as f64 / spool.bytes as f64);
    }
}

fn measured(image: &Image, name: &str, work: impl FnOnce(Instant) -> Counters) -> Counters {
    let started = Instant::now();
    let before = work(started);
    let _ = run("sync", &["-f", image.at.to_str().unwrap_or_default()]);
    let after = image.counters();
    let used = Counters { bytes: after.bytes - before.bytes, flushes: after.flushes - before.flushes };
    println!(
        "wear: {name}: {:.1} device bytes a payload byte, {:.2} flushes a record, {} ms",
        used.bytes as f64 / (COUNT * PAYLOAD as u64) as f64,
        used.flushes as f64 / COUNT as f64,
        started.elapsed().as_millis()
    );
    used
}
