//! What the end-to-end tests stand on: a real broker, a real agent on a folder of its own, and a checking subscriber
//! that shares no code with either.
//!
//! Invariants: nothing here sleeps for luck, every wait has a condition and a bound ([`wait_until`]); every process
//! that a test starts ends with the test, also when it fails; every test listens on a loopback address of its own
//! ([`net::own_address`]), so that tests run side by side; a test that fails shows what broker and agent logged.

pub mod broker;
pub mod checker;
pub mod commander;
pub mod confine;
pub mod fault;
pub mod gate;
pub mod ledger;
pub mod log;
#[allow(dead_code, reason = "the tests of the bus's owner, in the library, use the rest")]
pub mod modbus_device;
pub mod mount;
pub mod net;
pub mod others;
pub mod plugins;
pub mod proxy;
pub mod real_device;
pub mod site;
pub mod tls;

use std::time::Duration;

pub use broker::Broker;
pub use checker::{Checker, Message};
pub use commander::{Commander, Extras};
pub use gate::Gate;
pub use site::{Agent, Site};

/// For what takes a moment on a machine that has nothing else to do: generous, because this one has.
pub const SOON: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until `look` finds something, and fails the test with `what` when it has not `within` that time.
///
/// Broker and agent show their logs when they are dropped by the panic, so the message says only what was missed.
#[track_caller]
pub fn wait_for<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        let looking = async {
            loop {
                ticks.tick().await;
                if let Some(found) = look() {
                    return found;
                }
            }
        };
        match tokio::time::timeout(within, looking).await {
            Ok(found) => found,
            Err(_) => panic!("{place}: not within {within:?}: {what}"),
        }
    }
}

/// Waits until `holds` is true; see [`wait_for`].
#[track_caller]
pub fn wait_until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) -> impl Future<Output = ()> {
    wait_for(what, within, move || holds().then_some(()))
}

/// Lets time pass where the time itself is what the test is about: the length of an outage, the age of a process. It is
/// never a wait for something; for that there is [`wait_until`].
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// `[agent]` and `[mqtt]` as most tests want them. `rest` may begin with more keys of `[mqtt]`.
pub fn config(url: &str, rest: &str) -> String {
    format!(
        "[agent]\nid = \"press-7\"\n\n[mqtt]\nurl = \"{url}\"\nreconnect = {{ min = \"50ms\", max = \"300ms\" }}\n{rest}\n"
    )
}

/// A source that is never ill, ten times a second.
pub const STEADY: &str = "[source.steady]\nplugin = \"steady\"\nevery = \"100ms\"\n";
/// The topic of its readings.
pub const STEADY_TOPIC: &str = "outstation/press-7/steady";
/// The topic of the agent's status.
pub const STATUS_TOPIC: &str = "outstation/press-7/status";
/// The topic of the agent's gaps.
pub const GAPS_TOPIC: &str = "outstation/press-7/gaps";

/// A number that no other process or test has, from the only randomness that std hands out.
pub fn random() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
