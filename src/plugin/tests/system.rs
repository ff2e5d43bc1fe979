//! The system plugin as it is shipped, on this machine.

use std::collections::BTreeMap;

use super::*;
use crate::reading::{Class, Kind, Points};

/// What the Makefile builds before it runs the tests.
fn shipped() -> PathBuf {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/plugins/system.wasm");
    assert!(file.is_file(), "{} is missing: run plugins/build (or make test, which does)", file.display());
    file
}

/// One host for all of them: it is compiled once.
static BENCH: LazyLock<Bench> = LazyLock::new(Bench::new);

async fn plugin() -> Plugin {
    BENCH.host.load(&shipped()).await.expect("the system plugin loads")
}

fn granted(config_json: &str) -> SourceSpec {
    let limits = Limits { memory: 64 << 20, time: Duration::from_secs(2) };
    let grants = Grants { system: true, ..Grants::default() };
    SourceSpec {
        name: "host".into(),
        config_json: config_json.into(),
        grants,
        limits,
        state: None,
        trial: Default::default(),
    }
}

async fn values(config_json: &str) -> (BTreeMap<String, Value>, Points) {
    let mut instance = Instance::start(&plugin().await, &granted(config_json)).await.expect("it starts");
    let outcome = instance.run(Trigger::Start, NOW).await.expect("readings");
    let points = instance.about().points.clone();
    let name = |reading: Reading| Some((points.ids().get(reading.point as usize)?.to_owned(), reading.value?));
    (outcome.readings.into_iter().filter_map(name).collect(), points)
}

#[tokio::test]
async fn every_group_of_points_is_there_at_the_first_poll() {
    let (values, points) = values("{}").await;
    let expected =
        ["cpu", "cpu.0", "load.1", "load.5", "load.15", "memory.total", "memory.used", "memory.available", "uptime"];
    for name in expected.into_iter().chain(["disk.root.total", "disk.root.used", "disk.root.available"]) {
        assert!(values.contains_key(name), "{name} is missing from {values:?}");
    }
    let real = |name: &str| match &values[name] {
        Value::Real(value) => *value,
        other => panic!("{name}: {other:?}"),
    };
    let count = |name: &str| match &values[name] {
        Value::Unsigned(value) => *value,
        other => panic!("{name}: {other:?}"),
    };
    assert!((0.0..=100.0).contains(&real("cpu")) && (0.0..=100.0).contains(&real("cpu.0")));
    assert_eq!(count("memory.total"), count("memory.used") + count("memory.available"));
    assert!(count("disk.root.total") >= count("disk.root.used") && count("uptime") > 0);
    let swap = fs::read_to_string("/proc/swaps").map_or(0, |text| text.lines().count());
    assert_eq!(values.contains_key("swap.total"), swap > 1, "swap that is not there has no point");
    assert!(!values.keys().any(|name| name.starts_with("net.lo.")));
    let point = |name: &str| points.iter().find(|point| point.id == name).expect("a point");
    assert_eq!((point("cpu").kind, point("cpu").class, point("cpu").unit.as_str()), (Kind::Real, Class::Gauge, "%"));
    assert_eq!(point("memory.total").unit, "By");
    assert_eq!((point("uptime").unit.as_str(), point("uptime").class), ("s", Class::Counter));
    for point in points.iter().filter(|point| point.id.starts_with("net.")) {
        assert_eq!((point.kind, point.class), (Kind::Unsigned, Class::Counter), "{}", point.id);
    }
}

#[tokio::test]
async fn groups_and_exclude_choose_points() {
    let (values, _) = values(r#"{"groups": ["memory", "load"], "exclude": ["load.1*", "*.used"]}"#).await;
    assert_eq!(values.keys().collect::<Vec<_>>(), ["load.5", "memory.available", "memory.total"]);
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_with_hints() {
    let wrong = r#"{"group": ["cpu"], "groups": ["memry"], "exclude": "net.*"}"#;
    let problems = plugin().await.check(&granted(wrong)).await.expect("it answers");
    let find = |path: &str| problems.iter().find(|problem| problem.path == path).expect("a problem");
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert_eq!(find("/group").hint.as_deref(), Some("did you mean `groups`?"));
    assert_eq!(find("/groups/0").hint.as_deref(), Some("did you mean `memory`?"));
    assert!(find("/exclude").message.contains("array of strings"));
    let start = Instance::start(&plugin().await, &granted(wrong)).await.err();
    assert!(matches!(start, Some(Failure::Config(_))), "{start:?}");
}

/// Rates take two looks; what is asked for by name is there, or bad.
#[tokio::test]
async fn rates_processes_services_and_the_agent_itself() {
    let config = r#"{"groups": ["io", "net", "agent"], "processes": ["no-such"], "services": ["no-such-unit"]}"#;
    let mut instance = Instance::start(&plugin().await, &granted(config)).await.expect("it starts");
    let mut looks = Vec::new();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let outcome = instance.run(Trigger::Start, NOW).await.expect("readings");
        let points = instance.about().points.clone();
        let named = outcome
            .readings
            .into_iter()
            .map(|reading| (points.ids().get(reading.point as usize).expect("a point").to_owned(), reading));
        looks.push(named.collect::<BTreeMap<_, _>>());
    }
    let (first, second) = (&looks[0], &looks[1]);
    assert!(second["agent.cpu"].value.is_some(), "{second:?}");
    for name in ["agent.memory", "agent.descriptors", "process.no-such.count"] {
        assert!(first[name].value.is_some() && second[name].value.is_some(), "{name}: {first:?}");
    }
    assert_eq!(second["process.no-such.count"].value, Some(Value::Unsigned(0)));
    assert!(
        second["service.no-such-unit.active"].value.is_none() && second["service.no-such-unit.state"].value.is_none()
    );
    for (count, rate) in [("rx_bytes", "rx_rate"), ("read_bytes", "read_rate"), ("written_bytes", "write_rate")] {
        for name in second.keys().filter_map(|name| name.strip_suffix(count)) {
            let rate = &second[&format!("{name}{rate}")];
            assert!(matches!(rate.value, Some(Value::Real(value)) if value >= 0.0), "{name}: {rate:?}");
        }
    }
}

#[tokio::test]
async fn it_needs_its_grant() {
    let mut spec = granted("{}");
    spec.grants = Grants::default();
    let plugin = plugin().await;
    assert!(plugin.missing_grants(&spec.grants)[0].line.contains("system = true"));
    // Looked at without a grant, it still says what it is.
    let about = plugin.describe(&spec).await.expect("it answers");
    assert_eq!(about.name, "system");
    assert!(about.points.is_empty());
}

#[tokio::test]
async fn polls_go_on() {
    let mut instance = Instance::start(&plugin().await, &granted("{}")).await.expect("it starts");
    for missed in 0..20 {
        let outcome = instance.run(Trigger::Schedule(missed), NOW).await.expect("readings");
        assert_eq!(outcome.readings.len(), instance.about().points.len());
    }
    assert!(instance.memory_bytes() <= 4 << 20, "{}", instance.memory_bytes());
    instance.stop().await;
}
