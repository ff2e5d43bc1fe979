//! The examples: the MQTT client used as a library, before a real broker.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::harness::log::Log;
use crate::harness::{Broker, SOON, wait_until};

/// An example is to be read in one go.
const LINES_MAX: usize = 60;

/// An example's program. `cargo test` has built it; `cargo test --test it` has not.
async fn example(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_outstation")).with_file_name("examples").join(name);
    if !program.exists() {
        let built =
            Command::new(env!("CARGO")).args(["build", "--quiet", "--offline", "--example", name]).status().await;
        assert!(built.expect("cargo runs").success(), "the example can be built");
    }
    program
}

/// What is said with one is heard with the other.
#[tokio::test]
async fn publish_and_subscribe() {
    for text in [include_str!("../../examples/publish.rs"), include_str!("../../examples/subscribe.rs")] {
        assert!(text.lines().count() < LINES_MAX);
    }
    let mut broker = Broker::start().await;
    let (host, port) = (broker.address().ip().to_string(), broker.address().port().to_string());
    let mut subscribe = Command::new(example("subscribe").await)
        .args([&host, &port, "greetings/#"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let heard = Log::new();
    heard.follow(subscribe.stdout.take().expect("its stdout"));
    wait_until("it has subscribed", SOON, || heard.count(&["subscribed: ["]) == 1).await;

    let publish =
        Command::new(example("publish").await).args([&host, &port, "greetings/world", "hello"]).output().await;
    let publish = publish.expect("it runs");
    assert!(publish.status.success(), "{publish:?}");
    assert_eq!(String::from_utf8_lossy(&publish.stdout), "greetings/world: success (0x00)\n");
    wait_until("it is heard", SOON, || heard.count(&["greetings/world hello"]) == 1).await;

    broker.down().await;
    let ended =
        tokio::time::timeout(SOON, subscribe.wait()).await.expect("it ends with the broker").expect("its status");
    assert!(!ended.success(), "an end that was not asked for");
    let nobody = Command::new(example("publish").await).args([&host, &port, "greetings/world", "hello"]).output().await;
    assert!(!nobody.expect("it runs").status.success(), "nobody is there");
}
