//! Files that are no plugin, damaged ones, ones that ask for what there is not, and one whose compiling does not end: each
//! is refused with words, and keeps nobody from his work.

use std::fmt::Write as _;
use std::path::PathBuf;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use super::of_source;
use crate::harness::plugins::{Fixture, fixtures};
use crate::harness::{Agent, Broker, Checker, SOON, STEADY, STEADY_TOPIC, Site, config, wait_for, wait_until};
use crate::isolation::assert_unbroken;

/// Bits that are flipped, each in a file of its own, all over the file.
const FLIPS: usize = 16;
/// What the compiler may take of a processor, in seconds.
const CPU_S: u64 = 300;

/// Each is refused: name, file, and a word of why.
fn refused() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = fixtures::steady().build();
    let with = |imports: &str| Fixture::new().with("imports", imports).build();
    let stats = r#"(import "outstation:sys/stats@0.1.0" (instance (export "uptime" (func (result (option u64))))))"#;
    let shape = r#"(import "outstation:sys/stats@0.1.0" (instance (export "uptime" (func (result string)))))"#;
    let wasi =
        r#"(import "wasi:http/types@0.2.3" (instance (export "http-error-code" (func (result (list string))))))"#;
    vec![
        ("cut-nothing-left", Vec::new(), "it is empty"),
        ("cut-in-its-first-word", good[..3].to_vec(), "begins with something else"),
        ("cut-after-its-header", good[..9].to_vec(), "cannot be compiled"),
        ("cut-in-the-middle", good[..good.len() / 2].to_vec(), "cannot be compiled"),
        ("cut-at-the-end", good[..good.len() - 1].to_vec(), "cannot be compiled"),
        ("a-script", b"#!/bin/sh\necho hello\n".to_vec(), "begins with something else"),
        ("a-module", b"\0asm\x01\0\0\0".to_vec(), "core module"),
        ("of-wasi", with(wasi), "wasi:http/types@0.2.3"),
        ("of-a-later-agent", with(r#"(import "outstation:host/log@0.2.0" (instance))"#), "another version"),
        ("of-no-name", with(r#"(import "frobnicate" (func))"#), "frobnicate"),
        ("of-another-shape", with(shape), "not a plugin"),
        ("not-granted", with(stats), "allow = { system = true }"),
    ]
}

/// A good one with one bit that is another. Most are refused; one with a bit flipped in a text, say, is a plugin that runs.
fn flipped() -> Vec<(String, Vec<u8>)> {
    let good = fixtures::steady().build();
    let flip = |n: usize| {
        let mut bytes = good.clone();
        bytes[8 + n * (good.len() - 8) / FLIPS] ^= 1 << (n % 8);
        (format!("flipped-{n}"), bytes)
    };
    (0..FLIPS).map(flip).collect()
}

fn source(name: &str) -> String {
    format!("[source.{name}]\nplugin = \"{name}\"\nevery = \"100ms\"\n")
}

#[tokio::test]
async fn what_is_no_plugin_is_refused_and_what_is_damaged_dies_alone() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let mut sources = STEADY.to_owned();
    let (refused, flipped) = (refused(), flipped());
    let names = || refused.iter().map(|one| one.0).chain(flipped.iter().map(|one| one.0.as_str()));
    names().for_each(|name| write!(sources, "{}", source(name)).unwrap());
    let site = Site::new(&config(&broker.url(), &sources), &["steady"]);
    let files = refused.iter().map(|(name, bytes, _)| (*name, bytes));
    for (name, bytes) in files.chain(flipped.iter().map(|(name, bytes)| (name.as_str(), bytes))) {
        site.write(&format!("plugins/{name}.wasm"), bytes);
    }
    let agent = site.start();
    let settled = |status: &Value, name: &str| {
        let one = of_source(status, name);
        one["last_error"].is_string() || one["polls"].as_u64().is_some_and(|polls| polls >= 3)
    };
    let status = site.status_until(|status| names().all(|name| settled(status, name))).await;
    checker.wait_more(STEADY_TOPIC, 10).await;
    assert_eq!(of_source(&status, "steady")["state"], "running");
    for (name, _, word) in &refused {
        let one = of_source(&status, name);
        assert_eq!((&one["state"], &one["polls"]), (&json!("failed"), &json!(0)), "{one}");
        assert!(one["last_error"].as_str().is_some_and(|error| error.contains(word)), "{word}: {one}");
    }
    let dead = |name: &&(String, Vec<u8>)| of_source(&status, &name.0)["polls"] == 0;
    assert!(flipped.iter().filter(dead).count() >= FLIPS / 2, "a flipped bit is seen: {status}");
    checker.kept_to_the_end_of(agent).await;
    assert_unbroken(&checker);
}

/// F-45: over a plugin that runs, by rename: the old one goes on, and misses nothing.
#[tokio::test]
async fn none_of_them_takes_the_place_of_one_that_runs() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&config(&broker.url(), STEADY), &["steady"]);
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 5, SOON).await;
    for (name, bytes, word) in refused() {
        site.write("plugins/steady.new", bytes);
        std::fs::rename(site.path("plugins/steady.new"), site.path("plugins/steady.wasm")).unwrap();
        agent.says(&["source=steady", "the old one goes on", word]).await;
        checker.wait_more(STEADY_TOPIC, 3).await;
        let status = site.status().await;
        let steady = of_source(&status, "steady");
        assert_eq!((&steady["state"], &steady["restarts"]), (&json!("running"), &json!(0)), "{name}: {steady}");
    }
    checker.kept_to_the_end_of(agent).await;
    assert_unbroken(&checker);
}

/// Machine code of this takes minutes to make: many functions, each with loops in which many variables meet.
fn compiles_for_ever() -> Fixture {
    const FUNCTIONS: usize = 400;
    const BLOCKS: usize = 200;
    const VARIABLES: usize = 60;
    let mut all = String::new();
    for function in 0..FUNCTIONS {
        write!(all, "(func (param i64) (local{})", " i64".repeat(VARIABLES)).unwrap();
        for block in 0..BLOCKS {
            let (to, from) = (1 + block * 7 % VARIABLES, 1 + (block * 13 + function) % VARIABLES);
            write!(
                all,
                "(loop (local.set {to} (i64.div_s (local.get {from}) (i64.add (local.get 0) (local.get {to}))))
                   (br_if 0 (i64.eqz (local.get {from}))))"
            )
            .unwrap();
        }
        all.push(')');
    }
    Fixture::new().with("name", "endless").with("functions", all)
}

/// The child of that agent that compiles.
fn compiler(agent: &Agent) -> Option<Pid> {
    let processes = std::fs::read_dir("/proc").expect("the kernel shows processes");
    let is_it = |folder: PathBuf| {
        let status = std::fs::read_to_string(folder.join("status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse::<i32>().ok()?;
        let command = std::fs::read(folder.join("cmdline")).ok()?;
        let compiles = command.split(|byte| *byte == 0).any(|word| word == b"compile-plugin");
        let number = folder.file_name()?.to_str()?.parse().ok()?;
        (parent == agent.pid() && compiles).then(|| Pid::from_raw(number)).flatten()
    };
    processes.flatten().find_map(|entry| is_it(entry.path()))
}

/// The healthy one is polled while another's plugin is compiled, which does not end; when the child has used up its time on
/// a processor the kernel ends it, the source is off, and says why. The time is made shorter here.
#[tokio::test]
async fn one_that_compiles_for_ever_is_ended_and_holds_nobody_up() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&config(&broker.url(), STEADY), &["steady"]);
    site.write("plugins/endless.wasm", compiles_for_ever().build());
    // The healthy one is compiled before: one is compiled at a time.
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 3, SOON).await;
    agent.stop().await;
    site.write("agent.toml", config(&broker.url(), &format!("{STEADY}{}", source("endless"))));
    let agent = site.start();
    let child = wait_for("it is compiled", SOON, || compiler(&agent)).await;
    checker.wait_more(STEADY_TOPIC, 20).await;
    assert_eq!(compiler(&agent), Some(child), "it is compiled still");
    let limit = prlimit(Some(child), Resource::Cpu, Rlimit { current: Some(1), maximum: Some(2) }).expect("its limit");
    assert_eq!(limit.current, Some(CPU_S), "it has set it itself");
    agent.says(&["source=endless", "processor time", "it stays off"]).await;
    wait_until("the child is gone", SOON, || compiler(&agent).is_none()).await;
    let endless = of_source(&site.status().await, "endless");
    assert_eq!((&endless["state"], &endless["polls"]), (&json!("failed"), &json!(0)), "{endless}");
    // What it has written so far is gone as well.
    let left: Vec<_> = std::fs::read_dir(site.path("data/cache")).expect("the cache").flatten().collect();
    assert!(left.iter().all(|entry| entry.path().extension().is_some_and(|kind| kind == "cwasm")), "{left:?}");
    checker.wait_more(STEADY_TOPIC, 10).await;
    checker.kept_to_the_end_of(agent).await;
    super::assert_counted_to_the_end(&checker);
}
