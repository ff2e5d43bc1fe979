//! What `net` needs of it.

#[path = "../../../src/os/clock.rs"]
pub mod clock;
