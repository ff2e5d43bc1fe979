//! `outstation tail`: live readings, and nobody who watches slows down or grows the agent.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::harness::{Agent, SOON, STEADY, Site, config, wait_until};

const NOWHERE: &str = "mqtt://127.0.0.1:1";

async fn running(rest: &str, plugins: &[&str]) -> (Site, Agent) {
    let site = Site::new(&config(NOWHERE, rest), plugins);
    let agent = site.start();
    site.status_until(|status| status["sources"][0]["polls"].as_u64() > Some(2)).await;
    (site, agent)
}

struct Tail {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

fn tail(site: &Site, arguments: &[&str]) -> Tail {
    let mut program = site.program();
    program.arg("tail").args(arguments).arg("-c").arg(site.path("agent.toml")).stderr(Stdio::piped());
    let mut child = program.spawn().expect("start it");
    let lines = BufReader::new(child.stdout.take().expect("its stdout")).lines();
    Tail { child, lines }
}

impl Tail {
    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(SOON, self.lines.next_line()).await.expect("a line in time");
        line.expect("text").expect("one more line")
    }

    /// Its exit status and what it said.
    async fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        let reading = async {
            self.child.stderr.take().expect("its stderr").read_to_string(&mut said).await.expect("text");
            self.child.wait().await.expect("its status").code()
        };
        let code = tokio::time::timeout(SOON, reading).await.expect("it ends");
        (code, said)
    }
}

#[tokio::test]
async fn readings_come_as_lines_and_as_json() {
    let rest = format!("{STEADY}\n[source.other]\nplugin = \"steady\"\nevery = \"50ms\"\n");
    let (site, agent) = running(&rest, &["steady"]).await;
    let mut one = tail(&site, &["steady"]);
    for _ in 0..3 {
        let line = one.line().await;
        let words: Vec<&str> = line.split(' ').collect();
        assert!(words.len() >= 4 && words[0].ends_with('Z') && words[1] == "steady", "{line}");
    }
    let mut all = tail(&site, &["--json"]);
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        let reading: Value = serde_json::from_str(&all.line().await).expect("JSON");
        assert!(reading["values"].is_object() && reading["time"].is_string(), "{reading}");
        assert!(reading.get("seq").is_none(), "it has no number: {reading}");
        seen.insert(reading["source"].as_str().expect("a source").to_owned());
    }
    // The agent's end is theirs, and no failure.
    agent.stop().await;
    for tail in [one, all] {
        let (code, said) = tail.end().await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("the agent has ended"), "{said}");
    }
}

#[tokio::test]
async fn a_source_that_is_not_there_is_said() {
    let (site, _agent) = running(STEADY, &["steady"]).await;
    site.outcome(&["tail", "staedy"]).await.expect_code(1).expect_said(&["no source \"staedy\"", "steady"]);
}

/// A source that reads nothing is no reason to wait without a word.
#[tokio::test]
async fn a_source_that_is_off_is_said() {
    let rest = format!("{STEADY}\n[source.ill]\nplugin = \"ill\"\nevery = \"1s\"\n");
    let site = Site::new(&config(NOWHERE, &rest), &["steady"]);
    site.write("plugins/ill.wasm", "no component");
    let _agent = site.start();
    site.status_until(|status| status["sources"][0]["state"] == "failed").await;
    let mut tail = tail(&site, &[]);
    tail.line().await;
    kill(&tail, Signal::INT);
    let (code, said) = tail.end().await;
    assert_eq!(code, Some(0), "Ctrl-C ends it: {said}");
    assert!(said.contains("ill is off"), "{said}");
}

fn kill(tail: &Tail, signal: Signal) {
    let pid = tail.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it runs");
    kill_process(pid, signal).expect("a signal");
}

#[tokio::test]
async fn a_closed_pipe_ends_it() {
    let (site, _agent) = running(STEADY, &["steady"]).await;
    let mut tail = tail(&site, &["--json"]);
    tail.line().await;
    let Tail { child, lines } = tail;
    drop(lines);
    let ended = tokio::time::timeout(SOON, child.wait_with_output()).await.expect("it ends").expect("its status");
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
}

/// One that is not read: the source goes on, and when it is read again it says how much it lacks.
#[tokio::test]
async fn a_slow_reader_misses_and_is_told() {
    let wide = "[source.wide]\nplugin = \"wide\"\nevery = \"10ms\"\n";
    let (site, agent) = running(wide, &["wide"]).await;
    let mut slow = tail(&site, &["--json"]);
    slow.line().await;
    let polls = |status: &Value| status["sources"][0]["polls"].as_u64().unwrap_or(0);
    let begun = polls(&site.status().await);
    // 4 KiB each: far more than pipe, socket and queue hold together.
    site.status_until(|status| polls(status) > begun + 300).await;
    let mut missed = None;
    for _ in 0..1_000 {
        let line: Value = serde_json::from_str(&slow.line().await).expect("JSON");
        missed = line["missed"].as_u64();
        if missed.is_some() {
            break;
        }
    }
    assert!(missed > Some(0), "{missed:?}");
    agent.stop().await;
}

/// The socket is the owner's and the group's; two ask at once; who says nothing holds nobody up.
#[tokio::test]
async fn two_ask_while_others_hold_the_line() {
    use std::os::unix::fs::PermissionsExt as _;
    let (site, agent) = running(STEADY, &["steady"]).await;
    let mode = std::fs::metadata(site.path("data/control.sock")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(tokio::net::UnixStream::connect(site.path("data/control.sock")).await.expect("connect"));
    }
    let (one, other) = tokio::join!(site.status(), site.status());
    assert_eq!(one["agent"], other["agent"]);
    agent.stop().await;
    wait_until("the socket goes with the agent", SOON, || !site.path("data/control.sock").exists()).await;
}
