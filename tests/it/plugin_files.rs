//! Plugin files as they come: signed or not, and built long ago.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::site::outcome_of;
use crate::harness::{STEADY, Site, config, plugins};

/// The public half of a key that signed `tests/plugins/0.1.0/energy-meter.wasm`, and nothing else.
const KEY: &str = "RWRPVVRTVEVTVOI3H+zQZLL1gn/8V7F82KddW1g8a9qQqUn5g9NtId3r";
/// The example of minisign's documentation: somebody else's.
const OTHER_KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

fn frozen() -> PathBuf {
    plugins::repository().join("tests/plugins/0.1.0")
}

/// A site with two sources: one of a signed plugin, one of a plugin that nobody signed.
fn site(signatures: &str, key: &str) -> Site {
    let meter = "[bus.cabinet]\nurl = \"tcp://127.0.0.1:1\"\n[source.meter]\nplugin = \"energy-meter\"\nevery = \"100ms\"\n\
                 allow.modbus.cabinet = true\nconfig = { bus = \"cabinet\", unit = 7 }\n";
    let agent = format!("[agent]\nplugin_signatures = \"{signatures}\"\nplugin_keys = [\"{key}\"]");
    let text = config("mqtt://127.0.0.1:1", &format!("{STEADY}{meter}")).replace("[agent]", &agent);
    let site = Site::new(&text, &["steady"]);
    for file in ["energy-meter.wasm", "energy-meter.wasm.minisig"] {
        std::fs::copy(frozen().join(file), site.path("plugins").join(file)).expect("copy the plugin");
    }
    site
}

fn source<'s>(status: &'s Value, name: &str) -> &'s Value {
    let sources = status["sources"].as_array().map(Vec::as_slice).unwrap_or_default();
    sources.iter().find(|source| source["name"] == name).unwrap_or(&Value::Null)
}

fn has_polled(status: &Value, name: &str) -> bool {
    source(status, name)["polls"].as_u64().is_some_and(|polls| polls >= 2)
}

#[tokio::test]
async fn only_what_is_signed_runs_where_signatures_are_required() {
    let site = site("require", KEY);
    site.outcome(&["check"]).await.expect_code(78).expect_said(&["steady.wasm: not signed", "agent.toml:"]);
    let agent = site.start();
    let refused = |status: &Value| source(status, "steady")["state"] == "failed" && has_polled(status, "meter");
    let status = site.status_until(refused).await;
    assert!(source(&status, "steady")["last_error"].to_string().contains("not signed"), "{status}");
    assert_eq!(source(&status, "steady")["polls"], 0, "{status}");

    // Replaced by something that the signature is not of: what runs goes on, and it is said why.
    let mut bytes = std::fs::read(site.path("plugins/energy-meter.wasm")).unwrap();
    let at = bytes.windows(12).position(|bytes| bytes == b"energy-meter").expect("its name");
    bytes[at] = b'E';
    site.write("plugins/new", &bytes);
    std::fs::rename(site.path("plugins/new"), site.path("plugins/energy-meter.wasm")).unwrap();
    agent.says(&["energy-meter.wasm", "not signed", "none of agent.plugin_keys"]).await;
    let polls = source(&site.status().await, "meter")["polls"].as_u64().unwrap_or(0);
    site.status_until(|status| source(status, "meter")["polls"].as_u64().is_some_and(|now| now > polls)).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_key_of_somebody_else_is_no_key() {
    let site = site("require", OTHER_KEY);
    site.outcome(&["check"]).await.expect_code(78).expect_said(&["energy-meter.wasm: not signed", "plugin_keys"]);
    let listed = site.outcome(&["plugin", "list"]).await;
    listed.expect_code(0);
    assert!(listed.stdout.contains("wrongly signed") && listed.stdout.contains("the agent refuses it"), "{listed:?}");
}

#[tokio::test]
async fn warn_says_it_and_runs_it_and_off_says_nothing() {
    for (mode, said) in [("warn", true), ("off", false)] {
        let site = site(mode, KEY);
        let agent = site.start();
        site.status_until(|status| has_polled(status, "steady") && has_polled(status, "meter")).await;
        assert_eq!(agent.has_said(&["steady.wasm: not signed", "run all the same"]), said, "{mode}");
        assert!(!agent.has_said(&["energy-meter.wasm: not signed"]), "{mode}");
        agent.stop().await;
        let listed = site.outcome(&["plugin", "list"]).await;
        let line = |name: &str| listed.stdout.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
        assert!(line("energy-meter ").contains("  signed"), "{}", listed.stdout);
        assert!(line("steady ").contains("not signed"), "{}", listed.stdout);
    }
}

/// Components that were built against 0.1.0 once, and are never built again: each runs, and reads what it read then.
#[tokio::test]
async fn components_of_0_1_0_still_run() {
    let site = Site::new(&config("mqtt://127.0.0.1:1", STEADY), &[]);
    let mut count = 0;
    for entry in std::fs::read_dir(frozen()).expect("the folder") {
        let wasm = entry.expect("an entry").path();
        if wasm.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        for pulley in [&[][..], &["--pulley"]] {
            let mut program = site.program();
            program.args(["plugin", "test"]).arg(&wasm).arg("--config").arg(beside(&wasm, "toml"));
            program.arg("--replay").arg(beside(&wasm, "record.json")).args(pulley);
            outcome_of(program).await.expect_code(0).expect_said(&["the same as recorded"]);
        }
        count += 1;
    }
    assert!(count >= 2, "{count} components");
}

fn beside(wasm: &Path, extension: &str) -> PathBuf {
    wasm.with_extension(extension)
}
