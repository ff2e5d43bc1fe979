//! How the agent fares with many points: processor, memory, whether it keeps its period, and whether every point of every
//! period reaches the broker.
//!
//! ```text
//!  devices (device.rs) ◀── Modbus TCP ── agent, as released ── MQTT, QoS 1 ──▶ mosquitto ──▶ subscriber (counter.rs)
//! ```
//!
//! `make bench-scale` runs all cases; `bench-scale 10000@1s 100000@1s+100` some: points, period, and how many writes are
//! commanded meanwhile, ten a second. `line` is a serial line with one dead unit of 32 (line.rs). Run from the root of the repository, after `make build`.
//! `SCALE_SECONDS` (30) is how long a case is measured after it has come to its rhythm, `SCALE_POINTS` (2500) how many
//! points a source has at most.

mod counter;
mod device;
mod line;
mod process;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use counter::Counter;
use device::Device;
use process::{Cost, Process};

/// What others have published figures of, and a line.
const CASES: [&str; 8] =
    ["10000@1s", "50000@1s", "100000@1s", "1000@100ms", "5000@100ms", "10000@100ms", "100000@1s+100", "line"];
const AGENT: &str = "scale";
/// Sources that share a bus, each with a unit of its own.
const SOURCES_A_BUS: usize = 4;
/// Periods that all sources must have been heard in before a case is measured, and the longest wait for them.
const STEADY_PERIODS: u64 = 5;
const STEADY_MAX: Duration = Duration::from_secs(120);
/// What is under way when the measured time ends has so long to arrive.
const ARRIVE_MAX: Duration = Duration::from_secs(20);
const WRITE_EVERY: Duration = Duration::from_millis(100);
const REPLY_MAX: Duration = Duration::from_secs(60);

type Outcome<T> = Result<T, String>;

/// One case.
struct Case {
    name: String,
    points: usize,
    period: Duration,
    writes: usize,
}

impl Case {
    fn parse(text: &str) -> Option<Self> {
        let (load, writes) = text.split_once('+').unwrap_or((text, "0"));
        let (points, period) = load.split_once('@')?;
        let period = match period.strip_suffix("ms") {
            Some(ms) => Duration::from_millis(ms.parse().ok()?),
            None => Duration::from_secs(period.strip_suffix('s')?.parse().ok()?),
        };
        let case = Self { name: text.to_owned(), points: points.parse().ok()?, period, writes: writes.parse().ok()? };
        Some(case).filter(|case| case.points > 0 && !case.period.is_zero())
    }

    /// Points of each source.
    fn sources(&self, most: usize) -> Vec<usize> {
        let count = self.points.div_ceil(most);
        (0..count).map(|number| (self.points * (number + 1)) / count - (self.points * number) / count).collect()
    }
}

fn main() {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    if names.is_empty() {
        names = CASES.map(str::to_owned).to_vec();
    }
    if let Err(why) = run(&names) {
        eprintln!("bench-scale: {why}");
        std::process::exit(1);
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn run(names: &[String]) -> Outcome<()> {
    let (program, plugins) = (PathBuf::from("target/release/outstation"), PathBuf::from("target/plugins"));
    let place = |path: &Path| path.canonicalize().map_err(|_| format!("{} is not here: make build", path.display()));
    let (program, plugins) = (place(&program)?, place(&plugins)?);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("{} cores, Linux {}, load when it began {load}\n", cores, kernel.trim());
    println!(
        "| points, period | % of a core | of all {cores} | broker's % | peak MiB | at the end | anonymous | points due | missing | twice or wrong | bad | slots missed | taken after slot, ms: half, 99 %, most | at the subscriber, ms | requests/s | MB/s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for name in names {
        if name == "line" {
            for dead in [None, Some(line::DEAD)] {
                serial_line(dead, &program, &plugins)?;
            }
            continue;
        }
        let case = Case::parse(name).ok_or_else(|| format!("`{name}` is not POINTS@PERIOD or POINTS@PERIOD+WRITES"))?;
        let folder = tempfile::Builder::new().prefix("outstation-scale").tempdir().map_err(|e| e.to_string())?;
        Bench::start(&case, &program, &plugins, folder.path())?.measure(&case, &program)?;
    }
    Ok(())
}

struct Bench {
    sources: Vec<usize>,
    devices: Vec<Device>,
    folder: PathBuf,
    counter: Counter,
    // Ended in this order.
    agent: Process,
    broker: Process,
}

impl Bench {
    fn start(case: &Case, program: &Path, plugins: &Path, folder: &Path) -> Outcome<Self> {
        let sources = case.sources(setting("SCALE_POINTS", 2500) as usize);
        let devices: Result<Vec<Device>, _> =
            (0..sources.len().div_ceil(SOURCES_A_BUS)).map(|_| Device::start()).collect();
        let devices = devices.map_err(|error| error.to_string())?;
        let (broker, port) = process::broker(folder)?;
        configure(case, &sources, &devices, port, folder).map_err(|error| error.to_string())?;
        let counter = Counter::start(port, AGENT, case.period)?;
        let agent = process::agent(program, plugins, folder)?;
        Ok(Self { sources, devices, folder: folder.to_owned(), counter, agent, broker })
    }

    fn measure(mut self, case: &Case, program: &Path) -> Outcome<()> {
        self.steady(case)?;
        let seconds = Duration::from_secs(setting("SCALE_SECONDS", 30)).max(case.period * 3);
        let missed_before = self.missed(program);
        // From the next period on, which everybody reckons from the epoch.
        let first = now_us() / micros(case.period) + 2;
        sleep(Duration::from_micros((first * micros(case.period)).saturating_sub(now_us())));
        let asked = self.requests();
        let (agent, broker, began) = (self.cost(&self.agent)?, self.cost(&self.broker)?, Instant::now());
        let answers = self.write(case)?;
        sleep(seconds.saturating_sub(began.elapsed()));
        let end = now_us() / micros(case.period);
        let wall = began.elapsed().as_secs_f64();
        let requests = (self.requests() - asked) as f64 / wall;
        let (agent_after, broker_after) = (self.cost(&self.agent)?, self.cost(&self.broker)?);
        let missed = self.missed(program).saturating_sub(missed_before);
        self.arrive(end);
        if !self.agent.is_running() {
            return Err(format!("the agent ended:\n{}", self.agent.words()));
        }
        let percent = |after: Cost, before: Cost| (after.processor_s - before.processor_s) / wall * 100.0;
        let cpu = percent(agent_after, agent);
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let mib = |kib: u64| kib as f64 / 1024.0;
        let found = self.judge(first, end);
        println!(
            "| {} | {cpu:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {found} | {missed} | {} | {} | {requests:.0} | {:.2} |",
            case.name,
            cpu / cores,
            percent(broker_after, broker),
            mib(agent_after.peak),
            mib(agent_after.resident),
            mib(agent_after.own),
            found.taken.text(),
            found.arrived.text(),
            found.bytes_a_period / case.period.as_secs_f64() / 1e6,
        );
        if case.writes > 0 {
            let written: u64 = self.devices.iter().map(|device| device.written.load(Ordering::Relaxed)).sum();
            println!("\n{} writes: {written} registers written, answers after {}\n", case.writes, answers.text());
        }
        if std::env::var_os("SCALE_LOG").is_some() {
            println!("{}", self.agent.words());
        }
        Ok(())
    }

    /// Requests that the devices have had.
    fn requests(&self) -> u64 {
        self.devices.iter().map(|device| device.reads.load(Ordering::Relaxed)).sum()
    }

    fn cost(&self, process: &Process) -> Outcome<Cost> {
        process.cost().map_err(|error| format!("a process ended: {error}\n{}", self.agent.words()))
    }

    /// Until every source has been heard in some periods one after another.
    fn steady(&mut self, case: &Case) -> Outcome<()> {
        let until = Instant::now() + STEADY_MAX;
        loop {
            let heard = self.counter.look(|counts| {
                let last = counts.slots.keys().map(|(_, number)| *number).max().unwrap_or(0);
                let recent = counts.slots.keys().filter(|(_, number)| (last - STEADY_PERIODS..last).contains(number));
                recent.count() as u64
            });
            if heard >= STEADY_PERIODS * self.sources.len() as u64 {
                return Ok(());
            }
            if !self.agent.is_running() || Instant::now() > until {
                let why = self.agent.words();
                return Err(format!("{} does not come to its rhythm, {heard} heard:\n{why}", case.name));
            }
            sleep(case.period.min(Duration::from_millis(200)));
        }
    }

    /// Slots that the sources say they missed.
    fn missed(&self, program: &Path) -> u64 {
        let Some(status) = process::status(program, &self.folder) else { return 0 };
        let sources = status["sources"].as_array().cloned().unwrap_or_default();
        sources.iter().filter_map(|source| source["missed"].as_u64()).sum()
    }

    /// Commands, one after another; how long each took to be answered.
    fn write(&self, case: &Case) -> Outcome<Spread> {
        let mut took = Vec::new();
        for number in 0..case.writes {
            let began = Instant::now();
            let sent = jiff::Timestamp::now();
            let point = number % self.sources[0];
            let command = format!(
                r#"{{"id":"c-{number}","name":"write","args":{{"point":"p{point}","value":{number}.5}},"sent":"{sent}"}}"#
            );
            self.counter.publish(format!("outstation/{AGENT}/command/s0"), command)?;
            let reply = self.counter.replies.recv_timeout(REPLY_MAX);
            let reply = reply.map_err(|_| format!("write {number} was not answered:\n{}", self.agent.words()))?;
            let reply = String::from_utf8_lossy(&reply).into_owned();
            if !reply.contains("\"ok\":true") {
                return Err(format!("write {number} was refused: {reply}"));
            }
            took.push(began.elapsed().as_micros() as u64);
            sleep(WRITE_EVERY.saturating_sub(began.elapsed()));
        }
        Ok(Spread::of(took))
    }

    /// Waits for what was taken before `end`.
    fn arrive(&self, end: u64) {
        let until = Instant::now() + ARRIVE_MAX;
        let is_there = || {
            let last = self.counter.look(|counts| {
                let whole = counts.slots.iter().filter(|((_, number), _)| *number + 1 == end);
                whole.map(|(_, slot)| slot.points + slot.bad).sum::<u64>()
            });
            last >= self.sources.iter().sum::<usize>() as u64
        };
        while !is_there() && Instant::now() < until {
            sleep(Duration::from_millis(50));
        }
    }

    /// What came of the periods from `first` to before `end`.
    fn judge(&self, first: u64, end: u64) -> Found {
        self.counter.look(|counts| {
            let slots = counts.slots.iter().filter(|((_, number), _)| (first..end).contains(number));
            let slots: Vec<_> = slots.map(|(_, slot)| slot).collect();
            let due = self.sources.iter().sum::<usize>() as u64 * end.saturating_sub(first);
            let (points, bad) = (slots.iter().map(|s| s.points).sum::<u64>(), slots.iter().map(|s| s.bad).sum());
            Found {
                due,
                missing: due.saturating_sub(points),
                strange: counts.twice + counts.wrong + counts.strange,
                bad,
                taken: Spread::of(slots.iter().map(|slot| slot.taken_us).collect()),
                arrived: Spread::of(slots.iter().map(|slot| slot.arrived_us).collect()),
                bytes_a_period: counts.bytes as f64 / counts.messages.max(1) as f64 * slots.len() as f64
                    / (end.saturating_sub(first) as f64).max(1.0),
            }
        })
    }
}

/// What the subscriber found.
struct Found {
    due: u64,
    missing: u64,
    strange: u64,
    bad: u64,
    taken: Spread,
    arrived: Spread,
    bytes_a_period: f64,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} | {} | {} | {}", self.due, self.missing, self.strange, self.bad)
    }
}

/// Times in microseconds, in their order.
struct Spread(Vec<u64>);

impl Spread {
    fn of(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    fn at(&self, part: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * part).round() as usize).map_or(0.0, |time| *time as f64 / 1000.0)
    }

    /// The half, 99 of 100, and all of them are not above.
    fn text(&self) -> String {
        format!("{:.1}, {:.1}, {:.1}", self.at(0.5), self.at(0.99), self.at(1.0))
    }
}

/// How long after its slot what was read of each unit is at the subscriber, with all units well or one dead.
fn serial_line(dead: Option<u8>, program: &Path, plugins: &Path) -> Outcome<()> {
    let folder = tempfile::Builder::new().prefix("outstation-line").tempdir().map_err(|e| e.to_string())?;
    let folder = folder.path();
    let line = line::Line::start(folder, dead)?;
    let (broker, port) = process::broker(folder)?;
    let text =
        format!("[agent]\nid = \"{AGENT}\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\n{}", line.configuration());
    fs::write(folder.join("agent.toml"), text).map_err(|error| error.to_string())?;
    let counter = Counter::start(port, AGENT, line::PERIOD)?;
    let agent = process::agent(program, plugins, folder)?;
    let living = u64::from(line::UNITS) - u64::from(dead.is_some());
    let until = Instant::now() + STEADY_MAX;
    while counter.look(|counts| counts.slots.values().filter(|slot| slot.points > 0).count() as u64) < 3 * living {
        if Instant::now() > until {
            return Err(format!("the line does not come to its rhythm:\n{}", agent.words()));
        }
        sleep(Duration::from_millis(200));
    }
    let first = now_us() / micros(line::PERIOD) + 1;
    sleep(Duration::from_secs(setting("SCALE_LINE_SECONDS", 120)));
    let end = now_us() / micros(line::PERIOD);
    sleep(line::PERIOD * 3);
    let (mut slots, mut times, mut bad, mut cycles) = (0, Vec::new(), 0, BTreeMap::new());
    counter.look(|counts| {
        let of_living = |(source, number): &(String, u64)| {
            (first..end).contains(number) && Some(source.as_str()) != dead.map(|unit| format!("u{unit}")).as_deref()
        };
        for ((_, number), slot) in counts.slots.iter().filter(|(key, _)| of_living(key)) {
            slots += 1;
            bad += slot.bad;
            times.push(slot.arrived_us);
            let cycle = cycles.entry(*number).or_insert(0);
            *cycle = slot.arrived_us.max(*cycle);
        }
    });
    let due = living * (end - first);
    let who = dead.map_or("all 32 answer".to_owned(), |unit| format!("unit {unit} is dead"));
    let late = times.iter().filter(|time| **time > micros(line::PERIOD)).count();
    println!(
        "\nline of 32 units, {who}: {slots} of {due} slots of the living came, {bad} bad points, {late} later than a period; \
         after their slot, ms (half, 99 %, most): {}",
        Spread::of(times).text()
    );
    let worst: Vec<String> = cycles.values().map(|time| (time / 1000).to_string()).collect();
    println!("the last of each cycle, ms: {}", worst.join(" "));
    drop((counter, agent, broker));
    Ok(())
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

const fn micros(period: Duration) -> u64 {
    period.as_micros() as u64
}

/// `agent.toml`, and a drop-in a source.
fn configure(case: &Case, sources: &[usize], devices: &[Device], port: u16, folder: &Path) -> std::io::Result<()> {
    let mut main = format!("[agent]\nid = \"{AGENT}\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\n");
    for (number, device) in devices.iter().enumerate() {
        // A value of two registers is written whole.
        let bus = format!("[bus.d{number}]\nurl = \"tcp://127.0.0.1:{}\"\nwrite = \"multiple\"\n", device.port);
        main.push_str(&bus);
    }
    fs::write(folder.join("agent.toml"), main)?;
    let drop_ins = folder.join("agent.d");
    fs::create_dir(&drop_ins)?;
    for (number, &points) in sources.iter().enumerate() {
        let (bus, unit, last) = (number / SOURCES_A_BUS, 1 + number % SOURCES_A_BUS, 2 * points - 1);
        let write =
            if case.writes > 0 && number == 0 { format!(", write = [\"holding:0-{last}\"]") } else { String::new() };
        let mut text = format!(
            "[source.s{number}]\nplugin = \"modbus\"\nevery = \"{}ms\"\n\
             allow.modbus.d{bus} = {{ units = [{unit}], read = [\"holding:0-{last}\"]{write} }}\n\
             [source.s{number}.config]\nbus = \"d{bus}\"\nunit = {unit}\npoints = [\n",
            case.period.as_millis()
        );
        for point in 0..points {
            let address = 2 * point;
            let _ = writeln!(text, "  {{ name = \"p{point}\", address = \"holding:{address}\", type = \"f32\" }},");
        }
        text.push_str("]\n");
        fs::write(drop_ins.join(format!("s{number}.toml")), text)?;
    }
    Ok(())
}
