//! Instances and polls, in this process: the best of many and the one in the middle. Where the two are far apart, the machine had
//! other things to do.

use std::time::{Duration, Instant};

use outstation::config::Limits;
use outstation::plugin::{
    CompileLimits, Compiler, EngineKind, Host, HostOptions, Instance, Plugin, SourceSpec, Trigger, Trust,
};
use outstation::reading::Timestamp;

use crate::fixtures::{Fixture, steady};
use crate::{COMPILE, COST_FILE, of_process, repository};

const NOW: Timestamp = Timestamp(1_790_000_000_000_000_000);
/// Instances that are made for one figure of memory.
const INSTANCES: u32 = 100;

/// One line of the table: what, the two engines' figures, the aim.
type Row = (String, Vec<String>, &'static str);

/// Prints the table's lines.
pub async fn measure(script: Option<&[u8]>) {
    let mut rows: Vec<Row> = Vec::new();
    for engine in [EngineKind::Native, EngineKind::Pulley] {
        for (at, (what, figure, aim)) in of_engine(engine, script).await.into_iter().enumerate() {
            match rows.get_mut(at) {
                Some((_, figures, _)) => figures.push(figure),
                None => rows.push((what, vec![figure], aim)),
            }
        }
    }
    for (what, figures, aim) in rows {
        println!("| {what} | {} | {aim} |", figures.join(" | "));
    }
}

async fn of_engine(engine: EngineKind, script: Option<&[u8]>) -> Vec<(String, String, &'static str)> {
    let bench = Bench::new(engine);
    let rust = std::fs::read(repository().join("tests/plugins/0.1.0/rust-sensor.wasm")).expect("the plugin in Rust");
    let (sensor, took) = bench.compiled("rust", &rust).await;
    let mut rows = vec![(format!("compile a plugin in Rust, {} KB, in its child", rust.len() / 1000), took, "")];
    let mut row = |what: &str, figure: String, aim| rows.push((what.to_owned(), figure, aim));
    let (small, _) = bench.compiled("steady", &steady().build()).await;
    row("instantiate, check, init and describe: the smallest", micros(instantiate(&small).await), "50 us");
    row("instantiate, check, init and describe: in Rust", micros(instantiate(&sensor).await), "50 us");
    let (two, _) = bench.compiled("two", &two_calls().build()).await;
    row("a poll with 2 calls of the host, 2 readings", micros(poll(&two, 20_000).await), "3 us");
    row("a poll in Rust, 2 readings", micros(poll(&sensor, 20_000).await), "");
    for (readings, polls, aim) in [(1_000, 2_000, "100 us"), (100_000, 20, "")] {
        let (plugin, _) = bench.compiled(&format!("many{readings}"), &many(readings, readings).build()).await;
        row(&format!("a poll with {readings} readings"), micros(poll(&plugin, polls).await), aim);
        let (plugin, _) = bench.compiled(&format!("made{readings}"), &many(readings, 0).build()).await;
        row("of which the plugin takes to make them", micros(poll(&plugin, polls).await), "");
    }
    row("memory of one more instance: the smallest", kib(memory(&small).await), "");
    row("memory of one more instance: in Rust", kib(memory(&sensor).await), "150 KiB");
    if let Some(script) = script {
        let (plugin, took) = bench.compiled("script", script).await;
        row(&format!("compile a plugin in JavaScript, {} KB, in its child", script.len() / 1000), took, "");
        row("instantiate, check, init and describe: in JavaScript", micros(instantiate(&plugin).await), "");
        row("a poll in JavaScript", micros(poll(&plugin, 2_000).await), "");
        row("memory of one more instance: in JavaScript", kib(memory(&plugin).await), "");
    }
    rows
}

struct Bench {
    host: Host,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(engine: EngineKind) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = std::env::current_exe().expect("this program");
        let (cache_dir, compile) = (folder.path().join("cache"), CompileLimits::default());
        let arguments = vec![COMPILE.into(), folder.path().join(COST_FILE).into()];
        let (trust, compiler) = (Trust::OFF, Compiler { program, arguments });
        let host = Host::new(HostOptions { engine, cache_dir, trust, compiler, compile }).expect("a host");
        Self { host, folder }
    }

    /// Loaded, and what it took to compile.
    async fn compiled(&self, name: &str, bytes: &[u8]) -> (Plugin, String) {
        let file = self.folder.path().join(format!("{name}.wasm"));
        std::fs::write(&file, bytes).expect("a file");
        let plugin = self.host.load(&file).await.unwrap_or_else(|error| panic!("{error}"));
        let cost = std::fs::read_to_string(self.folder.path().join(COST_FILE)).expect("what it took");
        let (kib, ms) = cost.split_once(' ').expect("two numbers");
        (plugin, format!("{ms} ms, {} MiB", kib.parse::<u64>().expect("KiB") / 1024))
    }
}

fn spec() -> SourceSpec {
    let mut spec = SourceSpec::unknown("bench", Limits { memory: 64 << 20, time: Duration::from_secs(10) });
    spec.config_json = "{}".into();
    spec
}

/// Two calls of the host a poll.
fn two_calls() -> Fixture {
    let import = r#"(import "outstation:host/clock@0.1.0" (instance $clock (export "monotonic" (func (result u64)))))"#;
    Fixture::new()
        .with("name", "two")
        .with("imports", import)
        .with("core_imports", r#"(import "clock" "monotonic" (func $monotonic (result i64)))"#)
        .with("lowered", r#"(core func $monotonic (canon lower (func $clock "monotonic")))"#)
        .with("with", r#"(with "clock" (instance (export "monotonic" (func $monotonic))))"#)
        .with("run", "(drop (call $monotonic)) (drop (call $monotonic)) (call $steady)")
}

/// So many readings a poll, made anew each time; given to the host, or only made.
fn many(readings: u32, given: u32) -> Fixture {
    let pages = (readings * 56).div_ceil(65_536) + 1;
    let run = format!(
        "(local $n i32)
         (if (i64.eqz (global.get $polls)) (then (drop (memory.grow (i32.const {pages})))))
         (global.set $polls (i64.const 1))
         (loop $more
            (call $reading (i32.add (i32.const 131072) (i32.mul (local.get $n) (i32.const 56)))
                (i32.const 1) (i32.const 3) (i64.reinterpret_f64 (f64.const 12.5)))
            (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {readings}))))
         (drop (call $outcome (i32.const {given})))
         (i32.store (i32.const 136) (i32.const 131072))
         (i32.const 128)"
    );
    Fixture::new().with("name", "many").with("run", run)
}

async fn instantiate(plugin: &Plugin) -> Times {
    let mut times = Vec::new();
    for _ in 0..500 {
        let began = Instant::now();
        let instance = Instance::start(plugin, &spec()).await.unwrap_or_else(|failure| panic!("{failure}"));
        times.push(began.elapsed());
        drop(instance);
    }
    sorted(times)
}

async fn poll(plugin: &Plugin, count: u32) -> Times {
    let mut instance = Instance::start(plugin, &spec()).await.unwrap_or_else(|failure| panic!("{failure}"));
    let mut times = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        let outcome = instance.run(Trigger::Schedule(0), NOW).await;
        times.push(began.elapsed());
        drop(outcome.unwrap_or_else(|failure| panic!("{failure}")));
    }
    sorted(times)
}

struct Times {
    best: Duration,
    middle: Duration,
}

fn sorted(mut times: Vec<Duration>) -> Times {
    times.sort();
    Times { best: times[0], middle: times[times.len() / 2] }
}

/// KiB of one more instance that was polled once.
async fn memory(plugin: &Plugin) -> u64 {
    let mut instances = Vec::new();
    let mut before = 0;
    for number in 0..INSTANCES + 10 {
        if number == 10 {
            before = of_process("/proc/self/status", "VmRSS:");
        }
        let mut instance = Instance::start(plugin, &spec()).await.unwrap_or_else(|failure| panic!("{failure}"));
        instance.run(Trigger::Start, NOW).await.unwrap_or_else(|failure| panic!("{failure}"));
        instances.push(instance);
    }
    of_process("/proc/self/status", "VmRSS:").saturating_sub(before) / u64::from(INSTANCES)
}

fn micros(times: Times) -> String {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    format!("{:.1}, {:.1} us", micros(times.best), micros(times.middle))
}

fn kib(kib: u64) -> String {
    format!("{kib} KiB")
}
