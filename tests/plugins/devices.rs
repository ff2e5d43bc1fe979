//! Fixtures that use what the host offers, some of them badly: logs, durable values, and a Modbus line named `rig`.

use super::{Fixture, heir_good};

/// Where the bus's name stands in their memory.
const NAME: &str = r#"(data (i32.const 800) "rig")"#;

/// A memory that stands before the plugin does: what the host's functions are lowered with.
const BEFORE: &str = r#"
  (core module $before
    (memory (export "memory") 4)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 98304)))
  (core instance $before (instantiate $before))
  (alias core export $before "memory" (core memory $shared))
  (alias core export $before "realloc" (core func $room))"#;

const CLIENT: &str = r#"(import "outstation:modbus/client@0.1.0" (instance $client
    (export "device" (type $device (sub resource)))
    (type $error' (variant (case "exception" u8) (case "timeout") (case "transport" string) (case "denied") (case "busy")
      (case "invalid" string)))
    (export "error" (type $error (eq $error')))
    (type $write' (variant (case "coil" (tuple u16 bool)) (case "coils" (tuple u16 (list bool)))
      (case "register" (tuple u16 u16)) (case "registers" (tuple u16 (list u16))) (case "mask-register" (tuple u16 u16 u16))))
    (export "write" (type $write (eq $write')))
    (export "open" (func (param "bus" string) (param "unit" u8) (result (result (own $device) (error $error)))))
    (export "[method]device.write" (func (param "self" (borrow $device)) (param "what" $write)
      (result (result (error $error)))))))"#;

const LOG: &str = r#"(import "outstation:host/log@0.1.0" (instance $log
    (type $level' (enum "trace" "debug" "info" "warn" "error" "critical"))
    (export "level" (type $level (eq $level')))
    (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))"#;

/// Logs a thousand lines a run.
pub fn flood() -> Fixture {
    let run = "(local $n i32)
        (loop $more
          (call $log (i32.const 2) (i32.const 800) (i32.const 0) (i32.const 800) (i32.const 3))
          (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000))))
        (call $steady)";
    Fixture::new()
        .with("name", "flood")
        .with("imports", LOG)
        .with("core_imports", r#"(import "log" "log" (func $log (param i32 i32 i32 i32 i32)))"#)
        .with("memory", r#"(import "before" "memory" (memory 4)) (export "memory" (memory 0))"#)
        .with("globals", NAME)
        .with("lowered", format!(r#"{BEFORE} (core func $log (canon lower (func $log "log") (memory $shared)))"#))
        .with("with", r#"(with "log" (instance (export "log" (func $log)))) (with "before" (instance $before))"#)
        .with("run", run)
}

const STATE: &str = r#"(import "outstation:host/state@0.1.0" (instance $state
    (type $error' (variant (case "quota-exceeded") (case "too-large") (case "unavailable" string)))
    (export "error" (type $error (eq $error')))
    (export "get" (func (param "key" string) (result (result (option (list u8)) (error $error)))))
    (export "set" (func (param "key" string) (param "value" (list u8)) (result (result (error $error)))))))"#;

/// Counts its runs in a durable value, and traps where that can't be read or written.
pub fn keeper() -> Fixture {
    let run = "
        (call $get (i32.const 800) (i32.const 3) (i32.const 3000))
        (if (i32.load8_u (i32.const 3000)) (then unreachable))
        (if (i32.load8_u (i32.const 3004)) (then (global.set $polls (i64.load (i32.load (i32.const 3008))))))
        (drop (call $steady))
        (i64.store (i32.const 3100) (global.get $polls))
        (call $set (i32.const 800) (i32.const 3) (i32.const 3100) (i32.const 8) (i32.const 3000))
        (if (i32.load8_u (i32.const 3000)) (then unreachable))
        (call $outcome (i32.const 2))";
    let imports = r#"(import "state" "get" (func $get (param i32 i32 i32)))
        (import "state" "set" (func $set (param i32 i32 i32 i32 i32)))"#;
    let lowered = format!(
        r#"{BEFORE}
  (core func $get (canon lower (func $state "get") (memory $shared) (realloc $room)))
  (core func $set (canon lower (func $state "set") (memory $shared) (realloc $room)))"#
    );
    let with = r#"(with "state" (instance (export "get" (func $get)) (export "set" (func $set))))
    (with "before" (instance $before))"#;
    Fixture::new()
        .with("name", "keeper")
        .with("imports", STATE)
        .with("core_imports", imports)
        .with("memory", r#"(import "before" "memory" (memory 4)) (export "memory" (memory 0))"#)
        .with("globals", NAME)
        .with("lowered", lowered)
        .with("with", with)
        .with("run", run)
}

/// With the Modbus client in it. `globals` are its own.
fn client(fixture: Fixture, globals: &str) -> Fixture {
    let imports = r#"(import "client" "open" (func $open (param i32 i32 i32 i32)))
        (import "client" "write" (func $write (param i32 i32 i32 i32 i32 i32)))"#;
    let lowered = r#"
  (core func $open (canon lower (func $client "open") (memory $shared) (realloc $room)))
  (core func $write (canon lower (func $client "[method]device.write") (memory $shared) (realloc $room)))"#;
    let with = r#"(with "client" (instance (export "open" (func $open)) (export "write" (func $write))))
    (with "before" (instance $before))"#;
    fixture
        .with("imports", CLIENT)
        .with("core_imports", imports)
        .with("memory", r#"(import "before" "memory" (memory 4)) (export "memory" (memory 0))"#)
        .with("globals", format!("{NAME} {globals}"))
        .with("lowered", format!("{BEFORE}{lowered}"))
        .with("with", with)
}

/// Opens unit 1 twenty times a run, and closes none.
pub fn leak() -> Fixture {
    let run = "(local $n i32)
        (loop $more
          (call $open (i32.const 800) (i32.const 3) (i32.const 1) (i32.const 3000))
          (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 20))))
        (call $steady)";
    client(Fixture::new(), "").with("name", "leak").with("run", run)
}

/// At each run it asks for unit 9, which it is not granted, and then for unit 1; `level` is bad where that is refused too.
pub fn asker() -> Fixture {
    let run = "
        (call $open (i32.const 800) (i32.const 3) (i32.const 9) (i32.const 3000))
        (if (i32.ne (i32.load8_u (i32.const 3000)) (i32.const 1)) (then unreachable))
        (if (i32.eqz (global.get $device)) (then
          (call $open (i32.const 800) (i32.const 3) (i32.const 1) (i32.const 3000))
          (if (i32.ne (i32.load8_u (i32.const 3000)) (i32.const 0)) (then unreachable))
          (global.set $device (i32.load (i32.const 3004)))))
        (call $steady)";
    client(Fixture::new(), "(global $device (mut i32) (i32.const 0))").with("name", "asker").with("run", run)
}

/// Counts its runs, writes the count to register `address` of unit 1, and hands the count over. `level` is 0 where the write
/// was done, 1 where it was not.
pub fn writer(address: u16) -> Fixture {
    let run = format!(
        "(if (i32.eqz (global.get $device)) (then
          (call $open (i32.const 800) (i32.const 3) (i32.const 1) (i32.const 3000))
          (global.set $device (i32.load (i32.const 3004)))))
        (drop (call $steady))
        (call $write (global.get $device) (i32.const 2) (i32.const {address})
          (i32.wrap_i64 (global.get $polls)) (i32.const 0) (i32.const 3000))
        (f64.store (i32.const 1104) (f64.convert_i32_u (i32.load8_u (i32.const 3000))))
        (call $outcome (i32.const 2))"
    );
    let heap = "(global $heap (mut i32) (i32.const 65536)) (global $device (mut i32) (i32.const 0))";
    client(heir_good(), heap).with("name", "writer").with("run", run)
}
