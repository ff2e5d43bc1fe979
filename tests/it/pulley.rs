//! Plugins interpreted, where memory that is written is never run (systemd's `MemoryDenyWriteExecute`).

use serde_json::Value;

use crate::harness::{Broker, Checker, SOON, STEADY, STEADY_TOPIC, Site, config};

const HOST: &str = "[source.host]\nplugin = \"system\"\nevery = \"200ms\"\nallow = { system = true }\n";
const TRAP: &str = "[source.trap]\nplugin = \"trap\"\nevery = \"100ms\"\n";

fn source<'s>(status: &'s Value, name: &str) -> &'s Value {
    let sources = status["sources"].as_array().map(Vec::as_slice).unwrap_or_default();
    sources.iter().find(|source| source["name"] == name).unwrap_or(&Value::Null)
}

/// Compiling, loading, polling, a trap and its restart.
#[tokio::test]
async fn interpreted_plugins_need_no_executable_memory() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&config(&broker.url(), &format!("{STEADY}{HOST}{TRAP}")), &["steady", "system", "trap"]);
    let agent = site.start_confined("pulley");
    checker.wait_count(STEADY_TOPIC, 20, SOON).await;
    checker.wait_count("outstation/press-7/host", 3, SOON).await;
    site.status_until(|status| source(status, "trap")["restarts"].as_u64().is_some_and(|restarts| restarts >= 1)).await;
    agent.stop().await;
    checker.assert_kept();
}

/// The rule holds: machine code cannot be loaded under it. That is said, with what to do, and the agent goes on.
#[tokio::test]
async fn machine_code_is_refused_there_and_the_agent_lives() {
    let site = Site::new(&config("mqtt://127.0.0.1:1", STEADY), &["steady"]);
    let agent = site.start_confined("native");
    let status = site.status_until(|status| source(status, "steady")["last_error"].is_string()).await;
    let error = source(&status, "steady")["last_error"].as_str().unwrap_or_default();
    assert!(error.contains("MemoryDenyWriteExecute") && error.contains("engine = \"pulley\""), "{error}");
    assert_eq!(
        (&source(&status, "steady")["state"], &source(&status, "steady")["polls"]),
        (&"failed".into(), &0.into())
    );
    agent.stop().await;
}
