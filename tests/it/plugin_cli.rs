//! `outstation plugin`: list, inspect, test, new. No agent runs.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::site::{Outcome, outcome_of};
use crate::harness::{STEADY, Site, config, plugins};

/// An energy meter in C, built against 0.1.0 (plugins/examples/c-energy-meter).
fn meter() -> PathBuf {
    plugins::repository().join("tests/plugins/0.1.0/energy-meter.wasm")
}

fn system() -> PathBuf {
    plugins::built().join("system.wasm")
}

fn site(rest: &str, installed: &[&str]) -> Site {
    Site::new(&config("mqtt://127.0.0.1:1", rest), installed)
}

/// `outstation plugin ..`, in the site's folder and without `-c`.
async fn plugin(site: &Site, arguments: &[&str]) -> Outcome {
    let mut program = site.program();
    program.arg("plugin").args(arguments);
    outcome_of(program).await
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error} in {}", outcome.stdout))
}

#[tokio::test]
async fn list_shows_every_folder_and_what_is_wrong() {
    let missing = "[source.gone]\nplugin = \"gone\"\nevery = \"1s\"\n";
    let site = site(&format!("{STEADY}{missing}"), &["steady", "trap"]);
    site.write("plugins/broken.wasm", "#!/bin/sh\n");
    site.write("plugins/notes.txt", "no plugin");
    std::fs::create_dir(site.path("more")).unwrap();
    plugins::install("steady", &site.path("more"));
    let text = std::fs::read_to_string(site.path("agent.toml")).unwrap();
    site.write("agent.toml", text.replace("[mqtt]", "plugin_dirs = [\"plugins\", \"more\"]\n[mqtt]"));

    let outcome = site.outcome(&["plugin", "list", "--json"]).await;
    let listed = json(outcome.expect_code(0));
    let of = |file: &str| {
        let entries = listed["plugins"].as_array().expect("plugins");
        let path = site.path(file);
        entries
            .iter()
            .find(|entry| entry["file"] == path.to_str().unwrap())
            .unwrap_or_else(|| panic!("{file}: {listed}"))
    };
    assert_eq!(listed["plugins"].as_array().unwrap().len(), 4, "{listed}");
    let steady = of("plugins/steady.wasm");
    assert_eq!((&steady["name"], &steady["version"]), (&json!("steady"), &json!("1.2.3")));
    assert_eq!((&steady["sources"], &steady["shadowed_by"]), (&json!(["steady"]), &json!(null)));
    assert_eq!((&steady["signature"], &steady["problem"]), (&json!("none"), &json!(null)));
    assert_eq!(of("plugins/trap.wasm")["sources"], json!([]));
    let second = of("more/steady.wasm");
    assert_eq!(second["shadowed_by"], site.path("plugins/steady.wasm").to_str().unwrap());
    assert_eq!(second["sources"], json!([]));
    let broken = of("plugins/broken.wasm");
    assert!(broken["problem"].as_str().unwrap().contains("not a WebAssembly component"), "{broken}");
    assert_eq!(listed["missing"], json!([{ "source": "gone", "plugin": "gone" }]));

    let outcome = site.outcome(&["plugin", "list"]).await;
    outcome.expect_code(0);
    for words in ["used by steady", "not used:", "problem: not a WebAssembly component", "missing: gone.wasm"] {
        assert!(outcome.stdout.contains(words), "{words}: {}", outcome.stdout);
    }
}

#[tokio::test]
async fn list_needs_no_good_configuration() {
    let site = site("colour = 1\n", &["steady"]);
    let outcome = site.outcome(&["plugin", "list"]).await;
    outcome.expect_code(0).expect_said(&["1 errors", "outstation check"]);
    assert!(outcome.stdout.contains("steady  1.2.3"), "{}", outcome.stdout);
}

#[tokio::test]
async fn inspect_shows_the_grants_to_write() {
    let site = site(STEADY, &["steady"]);
    let outcome = plugin(&site, &["inspect", system().to_str().unwrap(), "--json"]).await;
    let found = json(outcome.expect_code(0));
    assert_eq!((&found["name"], &found["signature"]), (&json!("system"), &json!("none")));
    assert_eq!(found["grants"], json!(["allow = { system = true }"]));
    assert_eq!(found["takes_commands"], false);
    assert!(found["exports"].to_string().contains("outstation:plugin/sensor@0.1.0"), "{found}");

    let outcome = plugin(&site, &["inspect", meter().to_str().unwrap()]).await;
    outcome.expect_code(0);
    for words in ["energy-meter 0.1.0", "allow.modbus.BUS = true", "outstation:modbus/client@0.1.0", "W.h"] {
        assert!(outcome.stdout.contains(words), "{words}: {}", outcome.stdout);
    }
}

#[tokio::test]
async fn what_is_no_component_is_refused() {
    let site = site(STEADY, &["steady"]);
    site.write("text.wasm", "hello, this is no component\n");
    site.write("module.wasm", b"\0asm\x01\0\0\0");
    site.write("empty.wasm", "");
    for (file, words) in [
        ("text.wasm", "not a WebAssembly component"),
        ("module.wasm", "core module"),
        ("empty.wasm", "empty"),
        ("gone.wasm", "No such file"),
    ] {
        for command in ["inspect", "test"] {
            plugin(&site, &[command, file]).await.expect_code(1).expect_said(&[file, words]);
        }
    }
}

#[tokio::test]
async fn test_runs_on_simulated_devices() {
    let site = site(STEADY, &["steady"]);
    let outcome = plugin(&site, &["test", system().to_str().unwrap(), "--polls", "2", "--json"]).await;
    let trial = json(outcome.expect_code(0));
    let readings = |run: usize| trial["runs"][run]["readings"].as_array().expect("readings").clone();
    let value = |run: usize, point: &str| {
        readings(run).iter().find(|reading| reading["point"] == point).map(|reading| reading["value"].clone())
    };
    assert_eq!((value(0, "cpu.0"), value(1, "cpu.0")), (Some(json!(10.0)), Some(json!(11.0))));
    assert_eq!(value(1, "memory.total"), Some(json!(536_870_912)));
    assert_eq!(trial["runs"][1]["time"], "2026-01-01T00:00:01.000000Z");
    assert!(trial["runs"][0]["memory_bytes"].as_u64().unwrap() > 0, "{trial}");
    assert!(trial["runs"][0]["took_us"].is_u64(), "{trial}");

    let outcome = plugin(&site, &["test", system().to_str().unwrap()]).await;
    outcome.expect_code(0);
    let received = |line: &str| line.split_whitespace().take(2).eq(["net.eth0.rx_bytes", "1001500"]);
    assert!(outcome.stdout.lines().any(received), "{}", outcome.stdout);
    // A rate takes two looks, a second apart: 1,500 bytes more from poll to poll.
    assert_eq!(value(1, "net.eth0.rx_rate"), Some(json!(1500.0)));
    assert_eq!((value(0, "io.mmcblk0.write_rate"), value(1, "agent.memory")), (None, Some(json!(20 << 20))));
}

/// A file with nothing but the config table; registers that a file gives; and what a device may answer.
#[tokio::test]
async fn test_reads_simulated_registers() {
    let site = site(STEADY, &["steady"]);
    site.write("meter.toml", "bus = \"cabinet\"\nunit = 7\n");
    site.write("devices.toml", "[modbus.cabinet.7]\n\"input:0\" = [2300, 0, 1500, -1, -350, 1, 0, 1]\n");
    let meter = meter();
    let meter = meter.to_str().unwrap();
    let of_meter = async |rest: &[&str]| {
        let mut arguments = vec!["test", meter, "--config", "meter.toml", "--polls", "1", "--json"];
        arguments.extend(rest);
        plugin(&site, &arguments).await
    };
    let trial = json(of_meter(&["--devices", "devices.toml"]).await.expect_code(0));
    let readings = &trial["runs"][0]["readings"];
    assert_eq!(readings[0], json!({ "point": "voltage", "value": 230.0, "uncertain": "meter-warns" }));
    assert_eq!(readings[1], json!({ "point": "current", "value": 1.5 }));
    assert_eq!(readings[2], json!({ "point": "power", "value": -350.0 }));
    assert_eq!(readings[3], json!({ "point": "energy", "value": 65_536.0 }));
    assert_eq!(trial["runs"][0]["calls"][1]["call"], "read cabinet/7 input:0+8");
    // Without a file the registers follow the rule.
    let trial = json(of_meter(&[]).await.expect_code(0));
    assert_eq!(trial["runs"][0]["calls"][1]["answer"], "[0, 1, 2, 3, 4, 5, 6, 7]");
    for (fault, word) in [("timeout", "timeout"), ("link", "link"), ("exception-2", "exception-2")] {
        site.write("devices.toml", format!("[modbus.cabinet.7]\n\"input:3\" = \"{fault}\"\n"));
        let trial = json(of_meter(&["--devices", "devices.toml"]).await.expect_code(0));
        assert_eq!(trial["runs"][0]["readings"][3], json!({ "point": "energy", "bad": word }));
    }
    site.write("devices.toml", "[modbus.cabinet.7]\n\"input:3\" = \"smoke\"\n");
    of_meter(&["--devices", "devices.toml"]).await.expect_code(1).expect_said(&["devices.toml", "input:3", "smoke"]);
}

/// An agent's configuration: its grants and limits hold, one source of it is run.
#[tokio::test]
async fn test_takes_a_source_of_an_agent() {
    let agent = |allow: &str| {
        format!(
            "[bus.cabinet]\nurl = \"tcp://192.0.2.1:502\"\n[source.main]\nplugin = \"energy-meter\"\nevery = \"5s\"\n{allow}\
             [source.main.config]\nbus = \"cabinet\"\nunit = 7\n[source.other]\nplugin = \"system\"\nevery = \"1s\"\n"
        )
    };
    let site = site(STEADY, &["steady"]);
    let meter = meter();
    let run = async |allow: &str| {
        site.write("agent.toml", agent(allow));
        plugin(&site, &["test", meter.to_str().unwrap(), "-c", "agent.toml", "--polls", "2", "--json"]).await
    };
    let trial = json(run("allow.modbus.cabinet = true\n").await.expect_code(0));
    assert_eq!(trial["runs"][1]["time"], "2026-01-01T00:00:05.000000Z", "every counts");
    // What is not granted is denied, and counted.
    let trial = json(run("allow.modbus.cabinet = { units = [7], read = [\"input:0-3\"] }\n").await.expect_code(0));
    assert_eq!(trial["runs"][0]["readings"][0], json!({ "point": "voltage", "bad": "denied" }));
    assert_eq!(trial["refused"], 2);
    // As on a real line, one read may lie in two ranges of the grant.
    let joined = "allow.modbus.cabinet = { units = [7], read = [\"input:0-3\", \"input:4-7\"] }\n";
    let trial = json(run(joined).await.expect_code(0));
    assert_eq!(trial["refused"], 0, "{trial}");
    assert_ne!(trial["runs"][0]["readings"][0]["bad"], "denied");
    // Without a grant it is not run at all.
    run("").await.expect_code(78).expect_said(&["agent.toml:4:", "allow.modbus.BUS = true"]);
    // An error of the configuration is shown as ever.
    run("quos = 1\n").await.expect_code(78).expect_said(&["agent.toml:6:1", "qos"]);
    site.write("agent.toml", agent("").replace("energy-meter", "other-meter"));
    let outcome = plugin(&site, &["test", meter.to_str().unwrap(), "-c", "agent.toml"]).await;
    outcome.expect_code(1).expect_said(&["--source", "main", "other"]);
}

/// What the plugin says of its configuration stands at its place in the file.
#[tokio::test]
async fn test_shows_problems_at_their_place() {
    let site = site(STEADY, &["steady"]);
    site.write("meter.toml", "bus = \"cabinet\"\n\nunit = 700\n");
    let meter = meter();
    let outcome = plugin(&site, &["test", meter.to_str().unwrap(), "--config", "meter.toml"]).await;
    outcome.expect_code(78).expect_said(&["meter.toml:3:8", "a number from 0 to 255", "unit = 700"]);
    site.write("meter.toml", "bus = \n");
    let outcome = plugin(&site, &["test", meter.to_str().unwrap(), "--config", "meter.toml"]).await;
    outcome.expect_code(78).expect_said(&["meter.toml:1:"]);
    // Without a file the plugin is asked all the same.
    let outcome = plugin(&site, &["test", meter.to_str().unwrap()]).await;
    outcome.expect_code(1).expect_said(&["/bus", "--config FILE"]);
    plugin(&site, &["test", meter.to_str().unwrap(), "--config", "gone.toml"]).await.expect_code(1);
}

#[tokio::test]
async fn a_record_is_compared() {
    let site = site(STEADY, &["steady"]);
    let system = system();
    let system = system.to_str().unwrap();
    plugin(&site, &["test", system, "--record"]).await.expect_code(0);
    plugin(&site, &["test", system, "--replay", "system.record.json"]).await.expect_code(0);
    let outcome = plugin(&site, &["test", system, "--replay", "system.record.json", "--polls", "4"]).await;
    outcome.expect_code(1).expect_said(&["3 runs were recorded"]);
    let record = std::fs::read_to_string(site.path("system.record.json")).unwrap();
    site.write("system.record.json", record.replacen("536870912", "536870911", 1));
    let outcome = plugin(&site, &["test", system, "--replay", "system.record.json"]).await;
    outcome.expect_code(1).expect_said(&["run 0, readings", "memory.total", "536870911"]);
}

/// A trap, an endless loop: the trial ends with what it had, and exit status 1.
#[tokio::test]
async fn what_fails_is_shown() {
    let site = site(STEADY, &["trap", "spin"]);
    for (name, word) in [("trap", "trapped"), ("spin", "took longer than")] {
        let outcome = plugin(&site, &["test", &format!("plugins/{name}.wasm"), "--polls", "9", "--json"]).await;
        let trial = json(outcome.expect_code(1));
        assert_eq!(trial["runs"].as_array().unwrap().len(), 3, "{trial}");
        assert!(trial["runs"][2]["error"].as_str().unwrap().contains(word), "{trial}");
    }
}

#[tokio::test]
async fn new_never_touches_what_is_there() {
    let site = site(STEADY, &[]);
    for lang in ["rust", "c", "js", "python"] {
        let name = format!("tank-{lang}");
        let outcome = plugin(&site, &["new", &name, "--lang", lang]).await;
        outcome.expect_code(0);
        assert!(outcome.stdout.contains("README.md"), "{}", outcome.stdout);
        let readme = std::fs::read_to_string(site.path(&name).join("README.md")).unwrap();
        assert!(readme.contains(&format!("{name}.wasm")) && !readme.contains("my-sensor"), "{readme}");
        assert!(site.path(&name).join("wit/plugin.wit").is_file());
        site.write(&format!("{name}/README.md"), "mine");
        plugin(&site, &["new", &name, "--lang", lang]).await.expect_code(1).expect_said(&[&name, "exists"]);
        assert_eq!(std::fs::read_to_string(site.path(&name).join("README.md")).unwrap(), "mine");
    }
    for arguments in [
        &["new", "Tank", "--lang", "c"][..],
        &["new", "../x", "--lang", "c"],
        &["new", "tank"],
        &["new", "t", "--lang", "go"],
    ] {
        plugin(&site, arguments).await.expect_code(64);
    }
}

/// The project in Rust builds as it stands, with the toolchain that builds our own plugins, and runs.
#[tokio::test]
async fn new_in_rust_builds_and_runs() {
    let site = site(STEADY, &[]);
    plugin(&site, &["new", "tank-level", "--lang", "rust"]).await.expect_code(0);
    let mut build = tokio::process::Command::new(site.path("tank-level/build"));
    // The standard library is built once, where our own plugins are.
    build.env("CARGO_TARGET_DIR", plugins::repository().join("plugins/target"));
    build.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").kill_on_drop(true);
    let output = build.output().await.expect("the build starts");
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("no standard library for WebAssembly") {
        eprintln!("skipped: no toolchain for WebAssembly here");
        return;
    }
    assert!(output.status.success(), "{said}");
    let wasm = site.path("tank-level/tank-level.wasm");
    assert_runs(&site, &wasm, &site.path("tank-level/test.toml")).await;
    let outcome = plugin(&site, &["inspect", wasm.to_str().unwrap(), "--json"]).await;
    let found = json(outcome.expect_code(0));
    assert_eq!((&found["name"], &found["grants"]), (&json!("tank-level"), &json!([])));
}

/// What every template does.
async fn assert_runs(site: &Site, wasm: &Path, config: &Path) {
    let arguments = ["test", wasm.to_str().unwrap(), "--config", config.to_str().unwrap(), "--json"];
    let trial = json(plugin(site, &arguments).await.expect_code(0));
    let levels: Vec<_> = (0..3).map(|run| trial["runs"][run]["readings"][0]["value"].clone()).collect();
    assert_eq!(levels, [12.5, 25.0, 37.5], "{trial}");
    assert_eq!(trial["runs"][2]["readings"][1], json!({ "point": "polls", "value": 3 }));
}
