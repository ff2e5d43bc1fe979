//! Plugins that mean harm, each a source of its own beside a healthy one: all at once, in one agent. F-43, F-44.

mod files;
mod values;

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::harness::plugins::{Fixture, fixtures::devices};
use crate::harness::{
    Agent, Broker, Checker, Commander, Extras, SOON, STATUS_TOPIC, STEADY, STEADY_TOPIC, Site, config, confine,
    wait_until,
};

/// What the agent's memory may be above what it was before, once the hostile ones are gone: code that was not touched
/// before, threads that have not ended yet, and what the allocator keeps. One of them alone may take 16 MiB.
const GROWN_KIB_MAX: u64 = 8 << 10;
/// How often they come once more, to an agent that has had them; `OUTSTATION_TEST_ROUNDS` says otherwise.
const ROUNDS: usize = 3;
/// And what all those rounds may add: gaps between what is allocated, which get rarer.
const ROUNDS_KIB_MAX: u64 = 2 << 10;
/// The same for plugins that are interpreted: each has a stack of 512 KiB on the heap, of which little is touched.
const ROUNDS_PULLEY_KIB_MAX: u64 = 6 << 10;

const LIMITS: &str = "limits = { memory = \"16MiB\", time = \"300ms\" }\n";
const LOOP: &str = "(loop $for_ever (br $for_ever)) unreachable";
const BOMB: &str = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";

/// A Modbus line on which nobody answers, and the grant of one unit on it.
const RIG: &str = "[bus.rig]\nurl = \"tcp://127.0.0.1:1\"\n";
const GRANT: &str = "allow.modbus.rig = { units = [1] }\n";

/// A list of readings that begins at 131072.
fn list(count: u32, each: &str) -> String {
    format!(
        "(local $n i32) (local $at i32)
         (drop (memory.grow (i32.const 120)))
         (loop $more
            (local.set $at (i32.add (i32.const 131072) (i32.mul (local.get $n) (i32.const 56))))
            {each}
            (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {count}))))
         (drop (call $outcome (i32.const {count})))
         (i32.store (i32.const 136) (i32.const 131072))
         (i32.const 128)"
    )
}

/// Ends the instance: name, and what is wrong with it.
fn deadly() -> Vec<(&'static str, Fixture)> {
    let with = |hole, text: &str| Fixture::new().with(hole, text);
    let deep = "(func $deep (param i64) (result i64) (i64.add (call $deep (local.get 0)) (i64.const 1)))";
    let table = "(table $t 1 funcref)";
    let grow = "(if (i32.eq (table.grow $t (ref.null func) (i32.const 10000000)) (i32.const -1)) (then unreachable)) (call $steady)";
    // Each of 32 KiB, which all lie on one another's memory.
    let texts =
        list(4000, "(call $reading (local.get $at) (i32.const 0) (i32.const 4) (i64.const 0x00008000_00008000))");
    let points = "(drop (memory.grow (i32.const 120))) (i32.store (i32.const 536) (i32.const 131072))
        (i32.store (i32.const 540) (i32.const 100000)) (i32.const 512)";
    let index =
        "(call $reading (i32.const 1024) (i32.const 7) (i32.const 2) (i64.const 1)) (call $outcome (i32.const 1))";
    let many = "(drop (call $outcome (i32.const 70000000))) (i32.const 128)";
    // As many as a run may bring: the host takes them, and then sees that there is no such point.
    let most = list(100_000, "(call $reading (local.get $at) (i32.const 7) (i32.const 2) (i64.const 1))");
    let mut all = vec![
        ("loop-run", with("run", LOOP)),
        ("loop-init", with("init", LOOP)),
        ("loop-describe", with("describe", LOOP)),
        ("loop-check", with("check", LOOP)),
        ("loop-start", with("start", "(loop $for_ever (br $for_ever))")),
        ("deep", with("functions", deep).with("run", "(drop (call $deep (i64.const 0))) (call $steady)")),
        ("memory-run", with("run", BOMB)),
        ("memory-init", with("init", BOMB)),
        ("memory-start", with("globals", "(memory 4000)")),
        ("tables", with("globals", table).with("run", grow)),
        ("table-start", with("globals", "(table 10000000 funcref)")),
        ("readings", with("run", many)),
        ("most-readings", with("run", &most)),
        ("texts", with("describe", "(i32.store8 (i32.const 592) (i32.const 4)) (i32.const 512)").with("run", texts)),
        ("points", with("describe", points)),
        ("index", with("run", index)),
        ("handles", devices::leak()),
    ];
    for entry in ["start", "check", "describe", "init", "run"] {
        let name = ["trap-start", "trap-check", "trap-describe", "trap-init", "trap-run"];
        let name = name.into_iter().find(|name| name.ends_with(entry)).unwrap_or_default();
        all.push((name, with(entry, "unreachable")));
    }
    all
}

/// The agent with what its unit says to the allocator.
fn start(site: &Site) -> Agent {
    let unit = include_str!("../../packaging/debian/outstation.service");
    let variables = unit.lines().find_map(|line| line.strip_prefix("Environment=")).expect("the unit's environment");
    let mut command = site.program();
    command.envs(variables.split(' ').filter_map(|variable| variable.split_once('=')));
    command.arg("run").arg("-c").arg(site.path("agent.toml"));
    site.start_command(command)
}

fn memory_kib(agent: &Agent) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("the agent runs");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    memory.trim().trim_end_matches(" kB").trim().parse().expect("KiB")
}

/// A source of each that `wanted` names, and the line that one of them asks for.
fn sources(wanted: impl Fn(&str) -> bool) -> String {
    let mut all = format!("{STEADY}{RIG}");
    for (name, _) in deadly().iter().filter(|(name, _)| wanted(name)) {
        let grant = if *name == "handles" { GRANT } else { "" };
        write!(all, "[source.{name}]\nplugin = \"{name}\"\nevery = \"100ms\"\n{LIMITS}{grant}").unwrap();
    }
    all
}

/// Whether it lives until it is started: at a reload each plugin is asked whether its configuration is right, and one
/// that does not live through that is refused with the configuration.
fn dies_late(name: &str) -> bool {
    let early = ["start", "check"].into_iter().any(|entry| name.ends_with(entry));
    !early
}

/// An agent beside hostile ones.
struct Stand {
    broker: Broker,
    checker: Checker,
    site: Site,
}

impl Stand {
    async fn new() -> Self {
        let broker = Broker::start().await;
        let checker = Checker::start(broker.address()).await;
        let site = Site::new(&config(&broker.url(), STEADY), &["steady"]);
        for (name, fixture) in deadly() {
            site.write(&format!("plugins/{name}.wasm"), fixture.build());
        }
        Self { broker, checker, site }
    }

    fn configure(&self, sources: &str) {
        self.site.write("agent.toml", config(&self.broker.url(), sources));
    }

    /// How often it has died, or was found to be no plugin.
    fn deaths(&self, name: &str) -> (usize, usize) {
        let said = |what| self.site.log.count(&[&format!("source={name}"), what]);
        (said("started again in"), said("it stays off"))
    }

    /// Those that `wanted` names die so often, or are off.
    async fn they_die(&self, times: usize, wanted: impl Fn(&str) -> bool, before: &Deaths) {
        for (name, _) in deadly().iter().filter(|(name, _)| wanted(name)) {
            let (died, off) = before.get(name).copied().unwrap_or_default();
            wait_until(&format!("{name} dies {times} times"), 4 * SOON, || {
                let now = self.deaths(name);
                now.0 >= died + times || now.1 > off
            })
            .await;
        }
    }

    /// Only the healthy one is left.
    async fn they_go(&self) {
        self.configure(STEADY);
        let alone = |status: &Value| status["sources"].as_array().is_some_and(|sources| sources.len() == 1);
        self.site.status_until(alone).await;
    }

    /// All of them come at a reload, which is refused; then those that live until they run, and go again.
    async fn round(&self) {
        let refused = || self.site.log.count(&["the new configuration is not used"]);
        let before = refused();
        self.configure(&sources(|_| true));
        wait_until("the configuration is refused", 4 * SOON, || refused() > before).await;
        let deaths = deadly().iter().map(|(name, _)| (*name, self.deaths(name))).collect();
        self.configure(&sources(dies_late));
        self.they_die(1, dies_late, &deaths).await;
        self.they_go().await;
    }
}

type Deaths = std::collections::BTreeMap<&'static str, (usize, usize)>;

/// Each of them dies, is said to be dead, and dies again; the healthy one learns nothing of it; afterwards the agent is
/// as small as it was; and they leave nothing, however often they come.
#[tokio::test]
async fn they_die_alone() {
    let stand = Stand::new().await;
    let (site, checker) = (&stand.site, &stand.checker);
    let agent = start(site);
    checker.wait_count(STEADY_TOPIC, 10, SOON).await;
    let before = memory_kib(&agent);
    agent.stop().await;
    stand.configure(&sources(|_| true));
    let agent = start(site);
    stand.they_die(2, |_| true, &Deaths::new()).await;
    checker.wait_more(STEADY_TOPIC, 10).await;
    let status = site.status().await;
    assert_eq!(of_source(&status, "steady")["state"], "running");
    for (name, _) in deadly() {
        let state = of_source(&status, name)["state"].clone();
        assert!(["backoff", "failed", "running"].contains(&state.as_str().unwrap()), "{name}");
    }
    stand.they_go().await;
    wait_until("the memory is given back", SOON, || memory_kib(&agent) <= before + GROWN_KIB_MAX).await;
    let rounds = std::env::var("OUTSTATION_TEST_ROUNDS").map_or(ROUNDS, |text| text.parse().expect("a number"));
    let mut after = vec![memory_kib(&agent)];
    for _ in 0..rounds {
        stand.round().await;
        after.push(memory_kib(&agent));
    }
    eprintln!("memory in KiB: {before} before, {after:?} after each round");
    let may_grow = if confine::everywhere() { ROUNDS_PULLEY_KIB_MAX } else { ROUNDS_KIB_MAX };
    wait_until("the rounds leave nothing", SOON, || memory_kib(&agent) <= after[0] + may_grow).await;
    checker.kept_to_the_end_of(agent).await;
    assert_counted_to_the_end(checker);
}

/// Every poll of the last life came, of one instance.
#[track_caller]
fn assert_counted_to_the_end(checker: &Checker) {
    let steady = checker.of(STEADY_TOPIC);
    let boot = steady.last().expect("a reading").json["boot"].clone();
    let of_last_life = steady.iter().filter(|message| message.json["boot"] == boot);
    let counts: Vec<u64> =
        of_last_life.map(|message| message.json["values"]["count"].as_u64().expect("a count")).collect();
    assert!(counts.iter().copied().eq(1..=counts.len() as u64), "every poll came, of one instance: {counts:?}");
}

fn of_source(status: &Value, name: &str) -> Value {
    let sources = status["sources"].as_array().map(Vec::as_slice).unwrap_or_default();
    sources.iter().find(|source| source["name"] == name).cloned().unwrap_or_default()
}

fn number(status: &Value, name: &str, what: &str) -> u64 {
    of_source(status, name)[what].as_u64().unwrap_or(0)
}

/// What only asks for too much is refused, counted, and goes on: a flood of log lines, calls that are not granted, each
/// followed by one that is; and a file of 50 MB is a plugin like any other.
#[tokio::test]
async fn what_is_refused_is_counted_and_ends_nothing() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let one = |name: &str, more: &str| format!("[source.{name}]\nplugin = \"{name}\"\nevery = \"100ms\"\n{more}");
    let rest = [STEADY, RIG, &one("flood", ""), &one("asker", GRANT)].concat();
    let site = Site::new(&config(&broker.url(), &rest), &["steady", "flood", "asker"]);
    let agent = site.start();
    // 1000 lines a run: 20 a second are written, the others counted, in `status` and in the log.
    let status = site
        .status_until(|status| number(status, "flood", "polls") >= 30 && number(status, "asker", "polls") >= 30)
        .await;
    let (runs, refused) = (number(&status, "flood", "polls"), number(&status, "flood", "refused"));
    let written = site.log.count(&["source=\"flood\"", "rig"]) as u64;
    assert!(
        refused + 25 * (status["uptime_s"].as_u64().unwrap_or(0) + 2) >= (runs - 1) * 1000,
        "{refused} of {runs} runs"
    );
    assert!(written < 1000, "{written} lines");
    agent.says(&["source=\"flood\"", "lines were dropped: more than 20 in a second"]).await;
    let (runs, refused) = (number(&status, "asker", "polls"), number(&status, "asker", "refused"));
    assert!(refused >= runs - 1 && refused <= runs + 1, "{refused} of {runs} runs");
    let before = memory_kib(&agent);
    // 50 MB more, and two that do not let themselves be stopped; and gone again.
    crate::harness::plugins::install("huge", &site.path("plugins"));
    site.write("plugins/trap-stop.wasm", Fixture::new().with("stop", "unreachable").build());
    site.write("plugins/loop-stop.wasm", Fixture::new().with("stop", "(loop $for_ever (br $for_ever))").build());
    let more = ["huge", "trap-stop", "loop-stop"];
    let all = more.map(|name| one(name, "")).concat();
    site.write("agent.toml", config(&broker.url(), &format!("{rest}{all}")));
    let status = site.status_until(|status| more.iter().all(|name| number(status, name, "polls") >= 10)).await;
    for name in ["steady", "flood", "asker"].iter().chain(&more) {
        let source = of_source(&status, name);
        assert_eq!((&source["state"], &source["restarts"]), (&json!("running"), &json!(0)), "{source}");
    }
    let with = memory_kib(&agent);
    site.write("agent.toml", config(&broker.url(), &rest));
    site.status_until(|status| more.iter().all(|name| of_source(status, name).is_null())).await;
    let after = memory_kib(&agent);
    eprintln!("memory: {before} KiB before the 50 MB, {with} KiB with them, {after} KiB after");
    assert!(after <= before + (8 << 10), "{before} KiB before, {after} KiB after");
    checker.kept_to_the_end_of(agent).await;
    crate::isolation::assert_unbroken(&checker);
}

/// A command that never comes back takes the source's time and no more: it is answered, and the source starts again.
#[tokio::test]
async fn a_command_that_hangs_is_ended() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let commander = Commander::start(broker.address(), &["outstation/press-7/reply/#"]).await;
    let valve = "[source.valve]\nplugin = \"valve\"\nevery = \"100ms\"\nlimits = { time = \"500ms\" }\n";
    let site = Site::new(&config(&broker.url(), &format!("{STEADY}{valve}")), &["steady", "valve"]);
    let agent = site.start();
    agent.says(&["commands are taken on"]).await;
    let (topic, reply) = ("outstation/press-7/command/valve", "outstation/press-7/reply/valve");
    commander.send(topic, &json!({"id": "h-1", "name": "hang"}).to_string(), Extras::default()).await;
    let (answer, _) = commander.answer(reply, "h-1").await;
    assert_eq!((&answer["ok"], &answer["error"]), (&json!(false), &json!("failed")), "{answer}");
    assert!(answer["message"].as_str().is_some_and(|message| message.contains("500 ms")), "{answer}");
    // It is there again, and takes the next one.
    commander.send(topic, &json!({"id": "h-2", "name": "echo", "args": 7}).to_string(), Extras::default()).await;
    assert_eq!(commander.answer(reply, "h-2").await.0["result"], 7);
    let status = site.status().await;
    assert_eq!(number(&status, "valve", "restarts"), 1, "{status}");
    agent.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
    crate::isolation::assert_unbroken(&checker);
}
