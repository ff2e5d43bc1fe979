//! What goes wrong around the agent: each a clear line, none a panic, nothing lost.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::harness::net::Impostor;
use crate::harness::site::outcome_of;
use crate::harness::{Broker, Checker, Gate, SOON, STATUS_TOPIC, STEADY, STEADY_TOPIC, Site, config, wait_until};

/// Nothing listens there.
const NOWHERE: &str = "mqtt://127.0.0.1:1";

/// What listens is no MQTT broker; when a broker takes its place, everything arrives.
async fn instead_of_a_broker(answer: &'static [u8], words: &[&str]) {
    let mut broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let mut gate = Gate::before(&broker);
    let impostor = Impostor::start(gate.outside, answer).await;
    let site = Site::new(&config(&gate.url(), &format!("connect_timeout = \"1s\"\n{STEADY}")), &["steady"]);
    let agent = site.start();
    agent.says(words).await;
    impostor.stop().await;
    gate.open().await;
    checker.wait_count(STEADY_TOPIC, 10, SOON).await;
    checker.kept_to_the_end_of(agent).await;
    broker.down().await;
}

#[tokio::test]
async fn a_web_server_in_place_of_a_broker() {
    let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    instead_of_a_broker(answer, &["is not an MQTT broker", "HTTP/1.1 400"]).await;
}

/// F-29: a CONNACK with a length that no packet has.
#[tokio::test]
async fn noise_in_place_of_a_broker() {
    instead_of_a_broker(b"\x20\xff\xff\xff\xff\xff\xff\xff", &["broke the protocol"]).await;
}

/// F-22: it takes the connection and says nothing.
#[tokio::test]
async fn silence_in_place_of_a_broker() {
    instead_of_a_broker(b"", &["within 1 s", "CONNACK"]).await;
}

/// A CONNACK that says no: refused, with the broker's reason.
#[tokio::test]
async fn a_broker_that_refuses() {
    instead_of_a_broker(b"\x20\x03\x00\x88\x00", &["server unavailable"]).await;
}

#[tokio::test]
async fn a_host_name_that_does_not_exist() {
    let site = Site::new(&config("mqtt://broker.invalid", STEADY), &["steady"]);
    let agent = site.start();
    agent.says(&["broker.invalid"]).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_data_folder_that_is_no_folder() {
    let site = Site::new(&config(NOWHERE, STEADY), &["steady"]);
    site.write("data", "a file");
    site.outcome(&["run"]).await.expect_code(1).expect_said(&[&site.path("data").display().to_string()]);
    assert_eq!(std::fs::read_to_string(site.path("data")).expect("still there"), "a file");
    let below = format!("data_dir = \"data/below\"\n\n{}", "[mqtt]");
    site.write("agent.toml", config(NOWHERE, STEADY).replace("[mqtt]", &below));
    site.outcome(&["run"]).await.expect_code(1).expect_said(&["data/below"]);
}

/// Missing rights end the start with a line that says on what. Root has every right, so the agent is run as nobody.
#[tokio::test]
async fn a_data_folder_that_can_not_be_written() {
    const NOBODY: u32 = 65534;
    let site = Site::new(&config(NOWHERE, STEADY), &["steady"]);
    let data = site.path("data");
    std::fs::create_dir(&data).expect("make the data folder");
    std::fs::set_permissions(&data, Permissions::from_mode(0o555)).expect("take the right to write");
    let mut program = site.program();
    if rustix::process::geteuid().is_root() {
        // The program itself may lie where nobody can not go.
        let program_here = site.path("outstation");
        std::fs::copy(env!("CARGO_BIN_EXE_outstation"), &program_here).expect("copy the program");
        std::fs::set_permissions(site.path("."), Permissions::from_mode(0o755)).expect("let nobody in");
        program = site.program_at(&program_here);
        program.uid(NOBODY).gid(NOBODY);
    }
    program.arg("run").arg("-c").arg(site.path("agent.toml"));
    outcome_of(program).await.expect_code(1).expect_said(&["data", "permission denied"]);
    std::fs::set_permissions(&data, Permissions::from_mode(0o755)).expect("give it back");
}

/// The second one is told who is there, and the first one notices nothing.
#[tokio::test]
async fn a_second_agent_on_the_same_data() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&config(&broker.url(), STEADY), &["steady"]);
    let first = site.start();
    checker.wait_count(STEADY_TOPIC, 3, SOON).await;
    let pid = first.pid().to_string();
    site.outcome(&["run"]).await.expect_code(1).expect_said(&["data", &pid]);
    checker.wait_more(STEADY_TOPIC, 5).await;
    // The lock goes with its holder, however that ended.
    first.kill().await;
    let second = site.start();
    wait_until("boot 2 delivers", SOON, || checker.look(|seen| seen.ledger.boots()) == [1, 2]).await;
    second.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
    checker.assert_kept();
}

/// A source that names a plugin that is not there is a wrong configuration: it says where it was looked for.
#[tokio::test]
async fn a_missing_plugin() {
    let site = Site::new(&config(NOWHERE, &STEADY.replace("\"steady\"", "\"staedy\"")), &["steady"]);
    let folder = site.path("plugins").display().to_string();
    for command in ["check", "run"] {
        site.outcome(&[command]).await.expect_code(78).expect_said(&["agent.toml:", "staedy", &folder]);
    }
}

/// A plugin file that is of no use is said by `check`, and by `run`, which goes on with a healthy source beside it.
async fn with_a_bad_plugin(file: &[u8], words: &[&str]) {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let rest = format!("{STEADY}\n[source.ill]\nplugin = \"ill\"\nevery = \"100ms\"\n");
    let site = Site::new(&config(&broker.url(), &rest), &["steady"]);
    site.write("plugins/ill.wasm", file);
    site.outcome(&["check"]).await.expect_code(78).expect_said(words);

    let agent = site.start();
    agent.says(words).await;
    checker.wait_count(STEADY_TOPIC, 5, SOON).await;
    checker.kept_to_the_end_of(agent).await;
}

#[tokio::test]
async fn a_plugin_that_is_text() {
    with_a_bad_plugin(b"this is no plugin", &["ill.wasm", "not", "component"]).await;
}

#[tokio::test]
async fn a_plugin_that_is_a_core_module() {
    let module = wat::parse_str("(module (memory 1))").expect("a module");
    with_a_bad_plugin(&module, &["ill.wasm", "component"]).await;
}

#[tokio::test]
async fn a_plugin_that_is_empty_or_cut_off() {
    with_a_bad_plugin(b"", &["ill.wasm"]).await;
    let component = wat::parse_str("(component)").expect("a component");
    with_a_bad_plugin(&component[..6], &["ill.wasm"]).await;
}

/// A component that is no plugin: it exports nothing of what the host calls.
#[tokio::test]
async fn a_component_that_is_no_plugin() {
    let component = wat::parse_str("(component)").expect("a component");
    with_a_bad_plugin(&component, &["ill", "sensor"]).await;
}

/// A plugin that wants what its source does not allow is refused by name, before it runs.
#[tokio::test]
async fn a_plugin_without_its_grant() {
    let rest = format!("{STEADY}\n[source.host]\nplugin = \"system\"\nevery = \"1s\"\n");
    let site = Site::new(&config(NOWHERE, &rest), &["steady", "system"]);
    site.outcome(&["check"]).await.expect_code(78).expect_said(&["system", "allow"]);
}

/// Whoever read the log is gone: the agent works on.
#[tokio::test]
async fn a_log_that_nobody_reads() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&config(&broker.url(), STEADY), &["steady"]);
    for stderr in ["/dev/full", "pipe"] {
        let mut program = site.program();
        program.arg("run").arg("-c").arg(site.path("agent.toml"));
        if stderr == "/dev/full" {
            program.stderr(std::fs::File::options().write(true).open(stderr).expect("open it"));
        }
        let mut agent = program.spawn().expect("start the agent");
        drop(agent.stderr.take());
        checker.wait_more(STEADY_TOPIC, 10).await;
        agent.kill().await.expect("kill the agent");
    }
}

/// Bytes that nobody wrote in the middle of the data: the start goes on, and what is gone is named. F-5, F-6.
#[tokio::test]
async fn damaged_data_never_stops_a_start() {
    let mut broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    broker.down().await;
    let site = Site::new(&config(&broker.url(), STEADY), &["steady"]);
    let agent = site.start();
    agent.says(&["connection refused"]).await;
    crate::harness::pass(Duration::from_secs(2)).await;
    agent.stop().await;
    for file in files_below(&site.path("data")) {
        let mut bytes = std::fs::read(&file).expect("read a file of the data");
        // The second page of every file that has one: the first one is its header.
        if let Some(page) = bytes.get_mut(4096..8192) {
            page.fill(0xa5);
            std::fs::write(&file, bytes).expect("damage it");
        }
    }
    let subscribed = checker.subscribed();
    broker.up().await;
    checker.subscribed_again(subscribed).await;
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 10, SOON).await;
    agent.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
    checker.look(|seen| assert!(seen.ledger.faults().is_empty(), "{:#?}", seen.ledger.faults()));
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
