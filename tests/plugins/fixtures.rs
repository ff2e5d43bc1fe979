//! Plugins that tests are made with: good ones, and ones that do what a plugin should not. Built from component text by
//! the `wat` crate, without any toolchain.
//!
//! ```ignore
//! #[path = "plugins/fixtures.rs"]
//! mod fixtures;
//! std::fs::write(folder.join("steady.wasm"), fixtures::steady().build())?;
//! ```

#![allow(dead_code, reason = "each test binary uses some")]
#![allow(clippy::expect_used, reason = "a fixture that cannot be built is a bug of the test")]

#[path = "devices.rs"]
pub mod devices;

const TEMPLATE: &str = include_str!("sensor.wat");

/// What to put into the holes of the template.
pub struct Fixture(Vec<(&'static str, String)>);

impl Fixture {
    /// A plugin that counts its runs.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Fills a hole; what is not filled is as it should be.
    pub fn with(mut self, hole: &'static str, text: impl Into<String>) -> Self {
        self.0.push((hole, text.into()));
        self
    }

    /// The component's text.
    pub fn text(&self) -> String {
        let name = self.filling("name").unwrap_or("fixture");
        let mut text = TEMPLATE.replace("{name_length}", &name.len().to_string());
        let defaults = [
            ("name", "fixture"),
            ("memory", r#"(memory (export "memory") 2)"#),
            ("check", "(call $nothing)"),
            ("describe", "(i32.const 512)"),
            ("init", "(call $nothing)"),
            ("run", "(call $steady)"),
            ("realloc", "(i32.const 65536)"),
        ];
        let empty = ["imports", "core_imports", "globals", "functions", "start", "stop", "lowered", "with", "exports"];
        for (hole, default) in defaults.into_iter().chain(empty.map(|hole| (hole, ""))) {
            text = text.replace(&format!("{{{hole}}}"), self.filling(hole).unwrap_or(default));
        }
        // Holes that stay empty leave no lines behind.
        let lines = text.lines().map(str::trim_end).skip_while(|line| line.starts_with(";;"));
        lines.filter(|line| !line.is_empty()).flat_map(|line| [line, "\n"]).collect()
    }

    /// The component.
    pub fn build(&self) -> Vec<u8> {
        wat::parse_str(self.text()).expect("the fixture's text is right")
    }

    fn filling(&self, hole: &str) -> Option<&str> {
        self.0.iter().rev().find(|(name, _)| *name == hole).map(|(_, text)| text.as_str())
    }
}

/// Gives `count` (how often it ran) and `level` (12.5) at each run.
pub fn steady() -> Fixture {
    Fixture::new().with("name", "steady")
}

/// Works twice, and traps at the third run.
pub fn trap() -> Fixture {
    let run = "(if (i64.ge_u (global.get $polls) (i64.const 2)) (then unreachable)) (call $steady)";
    Fixture::new().with("name", "trap").with("run", run)
}

/// Works twice, and never returns from the third run.
pub fn spin() -> Fixture {
    let run = "(if (i64.ge_u (global.get $polls) (i64.const 2)) (then (loop $for_ever (br $for_ever)))) (call $steady)";
    Fixture::new().with("name", "spin").with("run", run)
}

/// Memory that several arguments of one call fit into: the template's own has one place for all of them.
const HEAP: (&str, &str) = (
    "(global $heap (mut i32) (i32.const 65536))",
    "(local $at i32)
      (if (i32.gt_u (global.get $heap) (i32.const 200000)) (then (global.set $heap (i32.const 65536))))
      (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
      (global.set $heap (i32.add (local.get $at) (local.get 3)))
      (local.get $at)",
);

/// Takes commands: `echo` gives its arguments back, `slow` does so after five seconds, `trap`, `hang`, `invalid`, `denied`
/// and `failed` do what they are called. `count` is how many it has begun.
pub fn valve() -> Fixture {
    let functions = r#"
        (func (export "execute") (param $id i32) (param i32) (param $name i32) (param i32) (param $args i32) (param $length i32)
            (result i32) (local $letter i32)
          (global.set $begun (i64.add (global.get $begun) (i64.const 1)))
          (local.set $letter (i32.load8_u (local.get $name)))
          (memory.fill (i32.const 2048) (i32.const 0) (i32.const 16))
          (if (i32.eq (local.get $letter) (i32.const 116)) (then unreachable))
          (if (i32.eq (local.get $letter) (i32.const 104)) (then (loop $for_ever (br $for_ever))))
          (if (i32.eq (local.get $letter) (i32.const 115)) (then (call $sleep (i64.const 5000000000))))
          (if (i32.or (i32.eq (local.get $letter) (i32.const 101)) (i32.eq (local.get $letter) (i32.const 115)))
            (then (call $text (i32.const 2052) (local.get $args) (local.get $length)) (return (i32.const 2048))))
          (i32.store8 (i32.const 2048) (i32.const 1))
          (call $text (i32.const 2056) (i32.const 360) (i32.const 11))
          (if (i32.eq (local.get $letter) (i32.const 105)) (then (i32.store8 (i32.const 2052) (i32.const 1))))
          (if (i32.eq (local.get $letter) (i32.const 100)) (then (i32.store8 (i32.const 2052) (i32.const 2))))
          (if (i32.eq (local.get $letter) (i32.const 102)) (then (i32.store8 (i32.const 2052) (i32.const 3))))
          (i32.const 2048))"#;
    let exports = r#"
  (type $command' (record (field "id" string) (field "name" string) (field "args" string)))
  (export $command "command" (type $command'))
  (type $rejection' (variant (case "unknown") (case "invalid" string) (case "denied") (case "failed" string)))
  (export $rejection "rejection" (type $rejection'))
  (func $execute (param "cmd" $command) (result (result string (error $rejection)))
    (canon lift (core func $i "execute") (memory $memory) (realloc $realloc)))
  (instance $commands (export "execute" (func $execute)))
  (export "outstation:plugin/commands@0.1.0" (instance $commands))"#;
    let clock =
        r#"(import "outstation:host/clock@0.1.0" (instance $clock (export "sleep" (func (param "how-long" u64)))))"#;
    Fixture::new()
        .with("name", "valve")
        .with("memory", r#"(memory (export "memory") 4)"#)
        .with("imports", clock)
        .with("core_imports", r#"(import "clock" "sleep" (func $sleep (param i64)))"#)
        .with("lowered", r#"(core func $sleep (canon lower (func $clock "sleep")))"#)
        .with("with", r#"(with "clock" (instance (export "sleep" (func $sleep))))"#)
        .with("globals", format!("(global $begun (mut i64) (i64.const 0)) {}", HEAP.0))
        .with("realloc", HEAP.1)
        .with("functions", functions)
        .with("exports", exports)
        .with(
            "run",
            "(drop (call $steady)) (i64.store (i32.const 1048) (global.get $begun)) (call $outcome (i32.const 2))",
        )
}

/// Counts its runs, and hands the count over when its file is replaced. `restore` is what becomes of it.
fn heir(restore: &str) -> Fixture {
    let functions = format!(
        r#"
        (func (export "save") (result i32)
          (i64.store (i32.const 2080) (global.get $polls))
          (call $text (i32.const 2064) (i32.const 2080) (i32.const 8))
          (i32.const 2064))
        (func (export "restore") (param i32 i32) (param $state i32) (param $length i32) (result i32)
          (memory.fill (i32.const 2096) (i32.const 0) (i32.const 12))
          {restore}
          (i32.const 2096))"#
    );
    let exports = r#"
  (func $save (result (list u8)) (canon lift (core func $i "save") (memory $memory)))
  (func $restore (param "from-version" string) (param "blob" (list u8)) (result (result (error string)))
    (canon lift (core func $i "restore") (memory $memory) (realloc $realloc)))
  (instance $handover (export "save" (func $save)) (export "restore" (func $restore)))
  (export "outstation:plugin/handover@0.1.0" (instance $handover))"#;
    Fixture::new()
        .with("name", "heir")
        .with("memory", r#"(memory (export "memory") 4)"#)
        .with("globals", HEAP.0)
        .with("realloc", HEAP.1)
        .with("functions", functions)
        .with("exports", exports)
}

/// One that takes over what the one before it counted.
pub fn heir_good() -> Fixture {
    heir("(global.set $polls (i64.load (local.get $state)))")
}

/// One that says that it cannot.
pub fn heir_refusing() -> Fixture {
    heir("(i32.store8 (i32.const 2096) (i32.const 1)) (call $text (i32.const 2100) (i32.const 360) (i32.const 11))")
}

/// One that traps when it is to take over.
pub fn heir_trapping() -> Fixture {
    heir("unreachable")
}

/// Those that stand beside the template as files of their own, for tests that take a file.
pub fn files() -> [(&'static str, Fixture); 3] {
    [("steady.wat", steady()), ("trap.wat", trap()), ("spin.wat", spin())]
}
