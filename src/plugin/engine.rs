//! wasmtime's settings, and what a compiled component depends on.
//!
//! Invariant: the agent and its compile child make their engines from the same [`Kind`] by the same function, so that
//! what the one compiles the other can load; [`fingerprint`] tells what else must be the same.

use std::hash::{DefaultHasher, Hash, Hasher};

use wasmtime::{Config, Engine, OptLevel};

pub use crate::config::Engine as Kind;

/// Address space that a memory gets at once. wasmtime's own 4 GiB fail on small machines.
const MEMORY_RESERVATION: u64 = 16 << 20;
/// And what is added when it has to move.
const MEMORY_RESERVATION_FOR_GROWTH: u64 = 4 << 20;
const MEMORY_GUARD: u64 = 64 << 10;
/// How deep a guest may recurse.
const WASM_STACK: usize = 512 << 10;
/// The stack of a guest and of the host functions that it calls.
const FIBER_STACK: usize = 1 << 20;
/// Frames of a guest that an error names.
const BACKTRACE_MAX: usize = 8;

/// The kind that runs here: machine code only where Cranelift makes it.
pub const fn effective(kind: Kind) -> Kind {
    let native =
        cfg!(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64", target_arch = "s390x"));
    if native { kind } else { Kind::Pulley }
}

/// An engine of this kind.
pub fn new(kind: Kind) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .memory_reservation(MEMORY_RESERVATION)
        .memory_reservation_for_growth(MEMORY_RESERVATION_FOR_GROWTH)
        .memory_guard_size(MEMORY_GUARD)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(FIBER_STACK)
        .wasm_memory64(false)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_MAX))
        .native_unwind_info(false)
        .cranelift_opt_level(OptLevel::Speed);
    if effective(kind) == Kind::Pulley {
        config.target(pulley_target())?;
    }
    Engine::new(&config)
}

const fn pulley_target() -> &'static str {
    match (cfg!(target_pointer_width = "64"), cfg!(target_endian = "little")) {
        (true, true) => "pulley64",
        (true, false) => "pulley64be",
        (false, true) => "pulley32",
        (false, false) => "pulley32be",
    }
}

/// Everything about the engine that its compiled code depends on: wasmtime's version, settings, and target.
pub fn fingerprint(engine: &Engine) -> u64 {
    // Not stable from one compiler to the next: then everything is compiled once more.
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    std::env::consts::ARCH.hash(&mut hasher);
    engine.is_pulley().hash(&mut hasher);
    hasher.finish()
}
