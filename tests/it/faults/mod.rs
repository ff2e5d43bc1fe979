//! Brokers that break the rules: each is survived, said in a line, and costs nothing.
//!
//! What stands behind each test is the promise: what the agent took arrives at the broker, or a gap names it, however the
//! broker behaves in between. Most scripts misbehave on the first connections and keep the rules on the later ones.

mod answers;
mod bytes;
mod greeting;
mod limits;

use crate::harness::fault::Fault;
use crate::harness::{Agent, STEADY, STEADY_TOPIC, Site, config};

/// An agent before this broker; `keys` are more keys of `[mqtt]`.
fn before(fault: &Fault, keys: &str) -> (Site, Agent) {
    let fast = STEADY.replace("100ms", "20ms");
    let site = Site::new(&config(&fault.url(), &format!("{keys}\n{fast}")), &["steady"]);
    let agent = site.start();
    (site, agent)
}

/// From now on the broker keeps the rules: more comes, nothing is missing, and a clean stop is one.
async fn recovers(fault: &Fault, agent: Agent) {
    let so_far = fault.count(STEADY_TOPIC);
    fault.wait_count(STEADY_TOPIC, so_far + 10).await;
    agent.stop().await;
    fault.assert_kept();
}
