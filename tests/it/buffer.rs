//! `outstation buffer` on an agent that is stopped, killed, running, and on a damaged folder. F-13.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{
    Broker, Checker, GAPS_TOPIC, Gate, SOON, STATUS_TOPIC, STEADY, STEADY_TOPIC, Site, config, wait_until,
};

/// A broker that is down, and a site that takes readings all the same.
async fn unheard(rest: &str, plugins: &[&str]) -> (Broker, Checker, Site) {
    let mut broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    broker.down().await;
    let site = Site::new(&config(&broker.url(), rest), plugins);
    (broker, checker, site)
}

/// The messages that `export` prints, by boot and number.
async fn exported(site: &Site) -> BTreeMap<(u64, u64), String> {
    let outcome = site.outcome(&["buffer", "export"]).await;
    let lines = outcome.expect_code(0).stdout.lines();
    let named = lines.map(|line| {
        let json: Value = serde_json::from_str(line).expect("each line is JSON");
        ((json["boot"].as_u64().expect("boot"), json["seq"].as_u64().expect("seq")), line.to_owned())
    });
    named.collect()
}

async fn inspected(site: &Site) -> Value {
    let outcome = site.outcome(&["buffer", "inspect", "--json"]).await;
    serde_json::from_str(&outcome.expect_code(0).stdout).expect("JSON")
}

async fn deliver_the_rest(mut broker: Broker, checker: &Checker, site: &Site, boot: u64) {
    let subscribed = checker.subscribed();
    broker.up().await;
    checker.subscribed_again(subscribed).await;
    let agent = site.start();
    wait_until("it delivers", SOON, || checker.look(|seen| seen.ledger.boots().last() == Some(&boot))).await;
    site.status_until(|status| status["buffer"]["messages"].as_u64().is_some_and(|left| left < 3)).await;
    agent.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
}

/// The segment files that have something in them, the fullest first.
fn segments(site: &Site) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(site.path("data/spool")).expect("the buffer");
    let mut files: Vec<(usize, PathBuf)> = folder
        .flatten()
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .map(|path| (std::fs::read(&path).expect("its bytes").iter().filter(|byte| **byte != 0).count(), path))
        .collect();
    files.sort();
    files.into_iter().rev().map(|(_, path)| path).collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("its bytes");
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).expect("written back");
}

#[tokio::test]
async fn what_is_in_it_is_what_comes_later() {
    let (broker, checker, site) = unheard(STEADY, &["steady"]).await;
    for _ in 0..2 {
        let agent = site.start();
        site.status_until(|status| status["buffer"]["messages"].as_u64() > Some(10)).await;
        agent.kill().await;
    }
    let before: Vec<Vec<u8>> = segments(&site).iter().map(|path| std::fs::read(path).expect("bytes")).collect();
    let verified = site.outcome(&["buffer", "verify"]).await;
    verified.expect_code(0);
    assert_eq!(verified.stdout.lines().count(), 1, "a crash is no damage: {}", verified.stdout);
    let about = inspected(&site).await;
    let lines = exported(&site).await;
    assert_eq!(about["messages"]["pending"], lines.len());
    assert_eq!((&about["boot"], &about["process"]), (&Value::from(2), &Value::Null));
    let segment = &about["segments"][0];
    assert_eq!((&segment["first"], &segment["boots"][0]["first"]), (&Value::from(1), &Value::from(1)), "{about}");
    assert!(segment["boots"][0]["sources"]["steady"]["from"].is_string(), "{about}");
    let page = site.outcome(&["buffer", "inspect"]).await;
    assert!(page.expect_code(0).stdout.contains("no agent runs on it"), "{}", page.stdout);
    let after: Vec<Vec<u8>> = segments(&site).iter().map(|path| std::fs::read(path).expect("bytes")).collect();
    assert!(before == after, "nothing was written");

    let with_topics = site.outcome(&["buffer", "export", "--topics"]).await;
    let first: Value =
        serde_json::from_str(with_topics.expect_code(0).stdout.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["topic"], &first["qos"]), (&Value::from(STEADY_TOPIC), &Value::from(1)), "{first}");

    deliver_the_rest(broker, &checker, &site, 3).await;
    checker.assert_kept();
    let messages = checker.of(STEADY_TOPIC);
    for (name, line) in &lines {
        let same = |json: &Value| json["boot"] == name.0 && json["seq"] == name.1;
        let came = messages.iter().find(|message| same(&message.json)).expect("it came");
        assert_eq!(came.payload, line.as_bytes(), "byte by byte");
    }
}

/// While the agent fills, packs, drops and delivers, nothing is called damaged, nothing is held up, and what is
/// exported is in order.
#[tokio::test]
async fn beside_a_running_agent() {
    let mut broker = Broker::with("max_inflight_messages 5");
    broker.up().await;
    let checker = Checker::start(broker.address()).await;
    let gate = Gate::before(&broker);
    let rest = "[buffer]\nmax_size = \"1MiB\"\nsync = \"20ms\"\n\n[source.wide]\nplugin = \"wide\"\nevery = \"10ms\"\n";
    let site = Site::new(&config(&gate.url(), rest), &["wide"]);
    let agent = site.start();
    site.status_until(|status| status["buffer"]["dropped"].as_u64() > Some(100)).await;
    let mut gate = gate;
    for round in 0..12 {
        if round == 6 {
            gate.open().await;
        }
        let verified = site.outcome(&["buffer", "verify"]).await;
        assert_eq!(verified.code, Some(0), "round {round}: {} {}", verified.stdout, verified.stderr);
        let lines = exported(&site).await;
        assert!(lines.len() > 20 || round > 6, "round {round}: {} lines", lines.len());
        assert_eq!(inspected(&site).await["process"], agent.pid());
    }
    checker.wait_state(STATUS_TOPIC, "online").await;
    checker.kept_to_the_end_of(agent).await;
}

/// F-5, F-13: what is damaged is listed with what is lost, the rest is exported, and the agent reports the same.
#[tokio::test]
async fn a_damaged_folder() {
    let rest = format!("{STEADY}[buffer]\nmax_size = \"1MiB\"\nsync = \"50ms\"\n");
    let (broker, checker, site) = unheard(&rest, &["steady"]).await;
    let agent = site.start();
    site.status_until(|status| status["buffer"]["messages"].as_u64() > Some(30)).await;
    agent.stop().await;
    let whole = exported(&site).await;
    // The fifth page of the first segment: the header and some commits stand before it, others behind; a record follows its commit head.
    let file = segments(&site).first().cloned().expect("a segment");
    flip(&file, 5 * 4096 + 120);
    let verified = site.outcome(&["buffer", "verify"]).await;
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
    let place = format!("{name}, bytes 20584 to 24576: is damaged; lost: boot 1, seq ");
    assert!(verified.expect_code(1).stdout.starts_with(&place), "{}", verified.stdout);
    let told = site.outcome(&["buffer", "verify", "--json"]).await;
    let told: Value = serde_json::from_str(&told.expect_code(1).stdout).expect("JSON");
    let lost = told["damage"][0]["lost"][0]["messages"].as_u64().expect("messages");
    let left = exported(&site).await;
    assert_eq!((left.len() as u64, whole.len() as u64), (whole.len() as u64 - lost, left.len() as u64 + lost));
    assert!(lost > 0 && lost < 20, "one commit is lost, not all: {told}");

    deliver_the_rest(broker, &checker, &site, 2).await;
    checker.assert_kept();
    let gaps = checker.of(GAPS_TOPIC);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let gap = &gaps[0].json["gap"];
    assert_eq!((&gap["reason"], &gap["messages"]), (&Value::from("corrupt"), &Value::from(lost)));
    assert!(gap["from"].is_string() && gap["from"].as_str() <= gap["to"].as_str(), "{gap}");
}

#[tokio::test]
async fn what_can_not_be_read_is_said() {
    let site = Site::new(&config("mqtt://127.0.0.1:1", STEADY), &["steady"]);
    for command in ["inspect", "verify", "export"] {
        site.outcome(&["buffer", command]).await.expect_code(1).expect_said(&["there is no buffer at"]);
    }
    assert!(!site.path("data").exists(), "nothing was made");
    site.outcome(&["buffer", "repair"]).await.expect_code(64);

    let agent = site.start();
    site.status_until(|status| status["buffer"]["messages"].as_u64() > Some(0)).await;
    agent.stop().await;
    if rustix::process::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(site.path("."), std::fs::Permissions::from_mode(0o755)).expect("rights");
        // Where it was built, somebody else may not even start it.
        let copy = site.path("outstation");
        std::fs::copy(env!("CARGO_BIN_EXE_outstation"), &copy).expect("copy the program");
        let mut program = site.program_at(&copy);
        program.args(["buffer", "verify", "-c"]).arg(site.path("agent.toml")).uid(65_534).gid(65_534);
        let outcome = crate::harness::site::outcome_of(program).await;
        outcome.expect_code(1).expect_said(&["no rights", "outstation", "root"]);
    } else {
        eprintln!("not root: missing rights are not tried");
    }
    // A version that is not known yet, with a right CRC.
    let file = segments(&site).first().cloned().expect("a segment");
    let mut bytes = std::fs::read(&file).expect("its bytes");
    bytes[8] = 9;
    let crc = crc32c(&bytes[..508]).to_le_bytes();
    bytes[508..512].copy_from_slice(&crc);
    std::fs::write(&file, bytes).expect("written back");
    site.outcome(&["buffer", "verify"]).await.expect_code(1).expect_said(&["version 9", "reads up to 1"]);
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}
