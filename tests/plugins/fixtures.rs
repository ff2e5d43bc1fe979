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
        ];
        let empty = ["imports", "core_imports", "globals", "functions", "start", "stop", "lowered", "with"];
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
        self.0.iter().find(|(name, _)| *name == hole).map(|(_, text)| text.as_str())
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

/// Those that stand beside the template as files of their own, for tests that take a file.
pub fn files() -> [(&'static str, Fixture); 3] {
    [("steady.wat", steady()), ("trap.wat", trap()), ("spin.wat", spin())]
}
