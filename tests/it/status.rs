//! `outstation status`: every field of the contract, a page for people, and clear words where nobody answers.

use serde_json::Value;

use crate::harness::site::outcome_of;
use crate::harness::{Broker, Checker, SOON, STEADY, STEADY_TOPIC, Site, config};

/// The contract's fields, by the object that has them.
const FIELDS: [(&str, &[&str]); 5] = [
    ("", &["agent", "store", "version", "boot", "uptime_s"]),
    ("/config", &["valid", "errors", "loaded_at"]),
    (
        "/mqtt",
        &[
            "state",
            "broker",
            "version",
            "since",
            "last_error",
            "published",
            "acknowledged",
            "in_flight",
            "maybe_duplicated",
        ],
    ),
    ("/buffer", &["state", "messages", "bytes", "oldest", "dropped", "max_bytes"]),
    (
        "/sources/0",
        &[
            "name",
            "plugin",
            "state",
            "polls",
            "missed",
            "readings",
            "errors",
            "refused",
            "restarts",
            "last_poll",
            "last_error",
            "memory_bytes",
        ],
    ),
];

fn assert_all_fields(status: &Value) {
    for (place, fields) in FIELDS {
        let object = status.pointer(place).and_then(Value::as_object).unwrap_or_else(|| panic!("no {place}: {status}"));
        for field in fields {
            assert!(object.contains_key(*field), "{place}/{field} is missing: {status}");
        }
    }
}

#[tokio::test]
async fn every_field_of_the_contract_is_there() {
    let site = Site::new(&config("mqtt://127.0.0.1:1", STEADY), &["steady"]);
    let agent = site.start();
    assert_all_fields(&site.status_until(|status| status["mqtt"]["state"] == "waiting").await);
    agent.stop().await;

    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    site.write("agent.toml", config(&broker.url(), STEADY));
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 3, SOON).await;
    let status = site.status_until(|status| status["mqtt"]["state"] == "connected").await;
    assert_all_fields(&status);
    for (place, wanted) in [("/agent", "press-7"), ("/mqtt/version", "5"), ("/buffer/state", "ok")] {
        assert_eq!(status.pointer(place).and_then(Value::as_str), Some(wanted), "{place}");
    }
    let outcome = site.outcome(&["status"]).await;
    let page = &outcome.expect_code(0).stdout;
    for words in ["press-7: outstation", "ok    config", "ok    broker", "ok    buffer", "ok    steady", "/s in"] {
        assert!(page.contains(words), "{words:?} is missing:\n{page}");
    }
    agent.stop().await;
}

/// Without `[mqtt]` the fields are there all the same, and the page says what is missing.
#[tokio::test]
async fn without_a_broker() {
    let site = Site::new(STEADY, &["steady"]);
    let agent = site.start();
    let status = site.status_until(|status| status["sources"][0]["polls"].as_u64() > Some(1)).await;
    assert_all_fields(&status);
    assert_eq!(status["mqtt"]["state"], "unconfigured");
    let outcome = site.outcome(&["status"]).await;
    assert!(outcome.stdout.contains("only buffered") && outcome.stdout.contains("> [mqtt]"), "{}", outcome.stdout);
    agent.stop().await;
}

#[tokio::test]
async fn where_no_agent_runs_it_says_what_to_do() {
    let site = Site::new(STEADY, &["steady"]);
    for command in [&["status"][..], &["tail"], &["reload"], &["log", "debug"]] {
        let outcome = site.outcome(command).await;
        outcome.expect_code(1).expect_said(&["no agent runs on", "agent.toml", "outstation run -c"]);
        assert!(outcome.stdout.is_empty(), "{outcome:?}");
    }
    // What an agent left behind that was killed is no agent.
    std::fs::create_dir(site.path("data")).expect("make it");
    drop(std::os::unix::net::UnixListener::bind(site.path("data/control.sock")).expect("a dead socket"));
    site.outcome(&["status"]).await.expect_code(1).expect_said(&["no agent runs on"]);
}

/// Root has every right, so it is asked as nobody.
#[tokio::test]
async fn without_rights_it_says_whose_they_are() {
    use std::os::unix::fs::PermissionsExt as _;
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let site = Site::new(STEADY, &["steady"]);
    let agent = site.start();
    site.status_until(|status| status["boot"] == 1).await;
    let open = |path: &str| {
        std::fs::set_permissions(site.path(path), std::fs::Permissions::from_mode(0o755)).expect("let nobody in");
    };
    open(".");
    open("data");
    let copy = site.path("outstation");
    std::fs::copy(env!("CARGO_BIN_EXE_outstation"), &copy).expect("copy the program");
    let mut program = site.program_at(&copy);
    program.uid(NOBODY).gid(NOBODY).arg("status").arg("-c").arg(site.path("agent.toml"));
    outcome_of(program).await.expect_code(1).expect_said(&["no rights", "group", "sudo"]);
    agent.stop().await;
}
