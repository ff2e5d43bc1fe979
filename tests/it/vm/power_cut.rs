//! Power cuts: an agent in a guest on an ext4 disk, readings flowing at QoS 2 to a broker outside, and QEMU killed at any
//! moment, again and again on the same disk. What the guest wrote is recorded; of each life many images are made as a power cut
//! might have left them (`writes`), and the spool in each is opened.
//!
//! ```text
//!   guest: agent ──▶ ext4 ──▶ virtio-blk │ QEMU: blklogwrites ──▶ disk, log of writes
//!            │                           │        kill -9            ▼
//!            └────────────── slirp ──────┼─▶ mosquitto ──▶ checker   images: all up to a flush, some of the rest
//! ```
//!
//! How a place in the log of writes is compared with what was seen outside: the length of the log is looked at *after* what was
//! seen. So a message that came before the log was that long was sent before, and a time that the guest had told was over.
//!
//! Lost is at most `sync` (and the time that a guest under emulation needs for a flush); at QoS 2 nothing comes twice: what
//! the broker has passed on was released before, so every image made behind it knows it as released or done (R4).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use outstation::os::files::Folder;
use outstation::spool::{Body, Now, Options, Spool};
use serde_json::Value;
use tokio::process::Child;

use super::writes::{Random, Writes};
use super::{Guest, compiled, copy};
use crate::harness::log::Log;
use crate::harness::mount::{Mount, run, shown};
use crate::harness::net::free_localhost_port;
use crate::harness::{Broker, Checker, Site, pass, plugins, random, wait_until};

/// `buffer.sync` of the guest's agent.
const SYNC_NS: i64 = 300_000_000;
/// So much later a flush is through, in a guest that is emulated on a machine that is busy.
const LATE_MAX_NS: i64 = 1_500_000_000;
/// A guest boots, and its agent delivers, within this time, on a machine that has much else to do.
const BOOT_MAX: Duration = Duration::from_secs(600);
/// How often the log of writes is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// So many looks later everything has arrived that was done by then.
const ARRIVED_LOOKS: usize = 400;
/// Bytes of the guest's disk, and of its buffer.
const DISK: u64 = 32 << 20;
const MAX_SIZE: u64 = 2 << 20;
const TOPIC: &str = "outstation/guest/steady";

fn config(url: &str) -> String {
    format!(
        "[agent]\nid = \"guest\"\nengine = \"pulley\"\n\n[mqtt]\nurl = \"{url}\"\nqos = 2\n\
         reconnect = {{ min = \"50ms\", max = \"300ms\" }}\n\n[buffer]\nmax_size = \"2MiB\"\nsync = \"300ms\"\n\n\
         [source.steady]\nplugin = \"steady\"\nevery = \"20ms\"\n"
    )
}

/// Runs in the guest until its power is cut. The second serial line tells how late it is.
const SCRIPT: &str = r#"
ifconfig eth0 10.0.2.15 up
mount -t ext4 -o noatime /dev/vda /disk || echo "refused: mount" > /dev/ttyS1
export OUTSTATION_DATA_DIR=/disk/data
cd /agent
( outstation run -c /agent/agent.toml; echo "refused: the agent ended with $?" > /dev/ttyS1 ) &
while :; do echo "tick $EPOCHREALTIME" > /dev/ttyS1; usleep 50000; done
"#;

/// How many cuts, and images of each life.
fn wanted(variable: &str, short: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(short)
}

/// What had been seen when the log of writes was so long.
#[derive(Clone, Copy, Debug)]
struct Look {
    log_bytes: u64,
    messages: usize,
    guest_ns: i64,
}

/// A guest that runs.
struct Life {
    qemu: Child,
    serial: Log,
    log: PathBuf,
    console: PathBuf,
    looks: Vec<Look>,
}

impl Life {
    fn start(guest: &Guest, disk: &Path, log: &Path) -> Self {
        File::create(log).expect("a log of writes");
        let drive = |name: &str, file: &Path| {
            format!("driver=file,node-name={name},filename={},cache.no-flush=on", file.display())
        };
        let mut qemu = guest
            .machine()
            .args(["-chardev", "stdio,id=ticks,signal=off", "-serial", "chardev:ticks"])
            .args(["-netdev", "user,id=net,restrict=off", "-device", "virtio-net-pci,netdev=net,romfile="])
            .args(["-blockdev", &drive("file", disk), "-blockdev", &drive("log", log)])
            .args(["-blockdev", "driver=blklogwrites,node-name=disk,file=file,log=log,log-sector-size=512"])
            .args(["-device", "virtio-blk-pci,drive=disk,discard=off,write-zeroes=off"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("start qemu-system-x86_64");
        let serial = Log::new();
        serial.follow(qemu.stdout.take().expect("its stdout"));
        Self { qemu, serial, log: log.to_owned(), console: guest.console(), looks: Vec::new() }
    }

    /// The guest's time that it told last, nanoseconds since 1970.
    fn tick(&self) -> i64 {
        let from = self.serial.len().saturating_sub(4);
        let tick = |line: &str| {
            let (seconds, micros) = line.trim().strip_prefix("tick ")?.split_once('.')?;
            Some(seconds.parse::<i64>().ok()? * 1_000_000_000 + micros.parse::<i64>().ok()? * 1000)
        };
        self.serial.since(from).lines().filter_map(tick).max().unwrap_or(0)
    }

    fn look(&mut self, checker: &Checker) {
        let seen = (checker.look(|seen| seen.messages.len()), self.tick());
        let log_bytes = fs::metadata(&self.log).map_or(0, |about| about.len());
        self.looks.push(Look { log_bytes, messages: seen.0, guest_ns: seen.1 });
    }

    async fn until(&mut self, checker: &Checker, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        wait_until(what, BOOT_MAX, || {
            self.look(checker);
            holds(self)
        })
        .await;
    }

    async fn live(&mut self, checker: &Checker, time_ms: u64) {
        for _ in 0..Duration::from_millis(time_ms).div_duration_f64(LOOK_EVERY).ceil() as u64 {
            self.look(checker);
            pass(LOOK_EVERY).await;
        }
    }

    /// The power fails.
    async fn cut(&mut self) {
        self.qemu.kill().await.expect("kill QEMU");
        assert_eq!(self.serial.count(&["refused:"]), 0, "it starts whatever a cut has left");
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.serial.show_on_failure("guest");
        if std::thread::panicking() {
            eprintln!("console:\n{}", String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()));
        }
    }
}

/// What an opening of the spool found, by boot and `seq`.
#[derive(Default)]
struct Found {
    buffered: BTreeMap<(u64, u64), (i64, Vec<u8>)>,
    released: BTreeSet<(u64, u64)>,
}

/// Opens the spool on a file system's image, which is changed by it. An error says what is wrong.
fn recover(image: &Path, at: &Path) -> Result<Found, String> {
    let mount = Mount::new(&["-o", "loop,noatime", &shown(image)], at).ok_or("ext4 refuses it")?;
    let folder = Folder::open(&mount.path().join("data/spool")).map_err(|error| error.to_string())?;
    let options = Options { max_size: MAX_SIZE, seed: random(), ..Options::default() };
    let (mut spool, opened) =
        Spool::open(folder, options, *b"CUTS", Now::default()).map_err(|error| format!("refused: {error}"))?;
    if opened.trouble.is_some() || !opened.damage.is_empty() || opened.lost_messages > 0 || opened.state_lost {
        return Err(format!("a cut is called damage: {opened:?}"));
    }
    let (mut found, mut from) = (Found::default(), 1);
    while from < spool.end() {
        let mut entries = Vec::new();
        from = spool.read(from, 1 << 20, &mut entries).map_err(|error| error.to_string())?;
        for entry in entries {
            let Body::Record { payload, .. } = entry.body else {
                return Err(format!("a gap: {:?}", entry.body));
            };
            for part in 0..u64::from(entry.messages) {
                let name = (u64::from(entry.boot), entry.seq + part);
                if spool.delivery().is_done(entry.first + part) {
                    continue;
                }
                if spool.delivery().released().contains(&(entry.first + part)) {
                    found.released.insert(name);
                }
                found.buffered.insert(name, (entry.time_ns, payload.to_vec()));
            }
        }
    }
    let stats = spool.stats();
    if stats.dropped > 0 {
        return Err(format!("{} messages dropped", stats.dropped));
    }
    Ok(found)
}

/// Boot, `seq` and time of a message of the source.
fn named(json: &Value) -> Option<((u64, u64), i64)> {
    let time: Timestamp = json.get("time")?.as_str()?.parse().ok()?;
    let name = (json["boot"].as_u64()?, json["seq"].as_u64()?);
    Some((name, i64::try_from(time.as_nanosecond()).ok()?))
}

/// What a judge of images has found so far.
#[derive(Default)]
struct Verdict {
    images: u64,
    verified: u64,
    /// How old the oldest lost reading was at the most, nanoseconds.
    lost_ns: i64,
    lost: usize,
}

struct Bench {
    folder: tempfile::TempDir,
    random: Random,
    verdict: Verdict,
    site: Site,
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes images of a life that is over, and judges each.
    fn judge(&mut self, life: &Life, checker: &Checker, images: u64) {
        let writes = Writes::read(&life.log);
        let flushes = writes.flushes();
        let arrived: Vec<_> = checker.look(|seen| seen.messages.iter().map(|message| named(&message.json)).collect());
        let end = self.path(&format!("after-{}", self.verdict.images));
        fs::copy(self.path("disk"), &end).expect("copy the disk");
        let after = recover(&end, &self.path("mounted")).expect("the disk as it is");
        fs::remove_file(&end).expect("remove the copy");
        let mut places: Vec<usize> = (0..images)
            .filter_map(|_| flushes.get(self.random.below(flushes.len() as u64) as usize).copied())
            .collect();
        places.sort_unstable();
        let base = File::options().write(true).open(self.path("before")).expect("the disk before");
        let mut at = 0;
        for flush in places {
            writes.replay(at..flush + 1, &base);
            at = flush + 1;
            let next = flushes.iter().copied().find(|&next| next > flush).unwrap_or(writes.len());
            // A file of its own: `mount` takes a loop device again that still has the file of this name.
            let image = self.path(&format!("image-{}", self.verdict.images));
            fs::copy(self.path("before"), &image).expect("copy the image");
            let file = File::options().write(true).open(&image).expect("the image");
            writes.replay_some(flush + 1..next, &file, &mut self.random);
            drop(file);
            let judged = self.judge_image(&image, &arrived, &after, &life.looks, writes.bytes_at(flush));
            if let Err(error) = judged {
                let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("power-cut-image");
                let _ = fs::copy(&image, &kept);
                panic!("entry {flush} of {}: {error}; an image of it: {}", writes.len(), kept.display());
            }
            fs::remove_file(&image).expect("remove the image");
        }
    }

    fn judge_image(
        &mut self,
        image: &Path,
        arrived: &[Option<((u64, u64), i64)>],
        after: &Found,
        looks: &[Look],
        log_bytes: u64,
    ) -> Result<(), String> {
        if self.verdict.images.is_multiple_of(10) {
            self.verify(image)?;
        }
        self.verdict.images += 1;
        let found = recover(image, &self.path("mounted"))?;
        for (name, (_, payload)) in &found.buffered {
            if after.buffered.get(name).is_some_and(|(_, later)| later != payload) {
                return Err(format!("{name:?} has two contents"));
            }
        }
        let next = looks.partition_point(|look| look.log_bytes <= log_bytes);
        let Some(look) = next.checked_sub(1).and_then(|last| looks.get(last)) else { return Ok(()) };
        let come = |messages: usize| arrived[..messages].iter().flatten().map(|(name, _)| *name);
        if let Some(twice) =
            come(look.messages).find(|name| found.buffered.contains_key(name) && !found.released.contains(name))
        {
            return Err(format!("{twice:?} has arrived, and would be sent as if it had not"));
        }
        let late = looks.get(next + ARRIVED_LOOKS).or(looks.last()).map_or(0, |look| look.messages);
        let come: BTreeSet<_> = come(late.max(look.messages)).collect();
        let buffered = after.buffered.iter().map(|(name, (time, _))| (*name, *time));
        let existing = arrived.iter().flatten().copied().chain(buffered);
        let lost: Vec<_> = existing
            .filter(|(name, time)| *time <= look.guest_ns && !come.contains(name) && !found.buffered.contains_key(name))
            .collect();
        let oldest = lost.iter().map(|(_, time)| look.guest_ns - time).max().unwrap_or(0);
        self.verdict.lost_ns = self.verdict.lost_ns.max(oldest);
        self.verdict.lost += usize::from(!lost.is_empty());
        if oldest > SYNC_NS + LATE_MAX_NS {
            return Err(format!("{} readings lost, the oldest {} ms old", lost.len(), oldest / 1_000_000));
        }
        Ok(())
    }

    /// `outstation buffer verify` calls no cut damage.
    fn verify(&mut self, image: &Path) -> Result<(), String> {
        self.verdict.verified += 1;
        let mount =
            Mount::new(&["-o", "loop,noatime", &shown(image)], &self.path("mounted")).ok_or("ext4 refuses it")?;
        if !mount.path().join("data/spool").exists() {
            return Ok(());
        }
        let output = std::process::Command::new(self.path("outstation"))
            .args(["buffer", "verify", "-c", &shown(&self.site.path("agent.toml"))])
            .env("OUTSTATION_DATA_DIR", mount.path().join("data"))
            .output()
            .map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(format!("buffer verify: {said}")) }
    }
}

/// A guest whose agent finds its plugin compiled, and a bench with its disk.
async fn prepare(url: &str) -> (Guest, Bench) {
    let guest = Guest::new();
    guest.program(Path::new(env!("CARGO_BIN_EXE_outstation")));
    guest.write("agent/agent.toml", &config(url));
    plugins::install("steady", &guest.path("agent/plugins"));
    guest.pack(SCRIPT);
    let site = compiled(&config("mqtt://127.0.0.1:1"), "steady", "steady").await;
    let seed = wanted("OUTSTATION_SEED", random());
    eprintln!("OUTSTATION_SEED={seed}");
    let folder = tempfile::Builder::new().prefix("outstation-cuts-").tempdir().expect("a folder");
    let bench = Bench { folder, random: Random(seed), verdict: Verdict::default(), site };
    fs::create_dir_all(bench.path("content/data")).expect("a folder");
    fs::create_dir(bench.path("mounted")).expect("a folder");
    // Hours may pass, and the program be built again meanwhile.
    copy(Path::new(env!("CARGO_BIN_EXE_outstation")), &bench.path("outstation"));
    copy(&bench.site.path("data/cache"), &bench.path("content/data/cache"));
    File::create(bench.path("disk")).and_then(|file| file.set_len(DISK)).expect("a disk");
    let made = run(
        "mkfs.ext4",
        &[
            "-q",
            "-F",
            "-m",
            "0",
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0",
            "-d",
            &shown(&bench.path("content")),
            &shown(&bench.path("disk")),
        ],
    );
    assert!(made, "a file system");
    (guest, bench)
}

fn last_boot(checker: &Checker) -> u64 {
    checker.look(|seen| seen.ledger.boots().last().copied().unwrap_or(0))
}

/// F-2, F-3, F-5, F-6, F-14: three of four lives are cut while they deliver or while there is no broker, the fourth while it starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "boots a virtual machine again and again: make power-cut"]
async fn power_cuts_lose_no_more_than_sync_and_double_nothing() {
    let (cuts, images) = (wanted("OUTSTATION_CUTS", 4), wanted("OUTSTATION_IMAGES", 10));
    let port = free_localhost_port();
    let mut broker = Broker::with_listener(&format!("listener {port} 127.0.0.1"));
    broker.up().await;
    let checker = Checker::start(broker.address()).await;
    let (guest, mut bench) = prepare(&format!("mqtt://10.0.2.2:{port}")).await;
    // Boot, and the guest's time a moment before its end.
    let mut deaths = Vec::new();
    for cut in 1..=cuts + 1 {
        fs::copy(bench.path("disk"), bench.path("before")).expect("copy the disk");
        let mut life = Life::start(&guest, &bench.path("disk"), &bench.path("log"));
        life.until(&checker, "the guest boots", |life| life.tick() > 0).await;
        if cut % 4 == 0 && cut <= cuts {
            life.live(&checker, bench.random.below(5000)).await;
        } else {
            let before = last_boot(&checker);
            life.until(&checker, "it delivers", |_| last_boot(&checker) > before).await;
            life.live(&checker, bench.random.below(3000)).await;
            if cut % 4 == 3 {
                broker.down().await;
                life.live(&checker, 500 + bench.random.below(3000)).await;
            }
            deaths.push((last_boot(&checker), life.tick()));
        }
        life.cut().await;
        if cut % 4 == 3 {
            let subscribed = checker.subscribed();
            broker.up().await;
            checker.subscribed_again(subscribed).await;
        }
        tokio::task::block_in_place(|| bench.judge(&life, &checker, images));
        checker.look(|seen| assert_eq!(seen.ledger.faults(), [""; 0]));
        assert_eq!(checker.look(|seen| seen.ledger.copies()), 0, "messages that came more than once");
        if cut % 10 == 0 {
            eprintln!("{cut} cuts, {} images, {} messages", bench.verdict.images, checker.count(TOPIC));
        }
    }
    checker.assert_kept();
    assert_eq!(checker.look(|seen| seen.ledger.stores().len()), 1, "the data folder stays the same");
    let lost_ns = assert_kept_until(&checker, &deaths);
    let Verdict { images, verified, lost, lost_ns: lost_in_image_ns } = bench.verdict;
    eprintln!(
        "{} power cuts, {} messages: none twice, the last {} ms lost at the most\n{images} images ({verified} verified): none \
         refused, none would send twice, {lost} lose readings, {} ms at the most",
        deaths.len() + cuts as usize / 4,
        checker.count(TOPIC),
        lost_ns / 1_000_000,
        lost_in_image_ns / 1_000_000
    );
}

/// How much of the end of its lives is missing, at the most. The last life is left out: its backlog stays in its guest.
fn assert_kept_until(checker: &Checker, deaths: &[(u64, i64)]) -> i64 {
    let mut last: BTreeMap<u64, i64> = BTreeMap::new();
    for ((boot, _), time) in checker.of(TOPIC).iter().filter_map(|message| named(&message.json)) {
        let known = last.entry(boot).or_default();
        *known = time.max(*known);
    }
    let judged = deaths.split_last().map(|(_, judged)| judged).unwrap_or_default();
    let lost = judged.iter().map(|(boot, time)| time - last.get(boot).copied().unwrap_or(0)).max().unwrap_or(0);
    assert!(lost <= SYNC_NS + LATE_MAX_NS, "a life lost its last {} ms", lost / 1_000_000);
    lost
}
