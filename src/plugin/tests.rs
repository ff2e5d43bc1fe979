//! Plugins as they should be, and as they should not: each in its own words of component text.

#[path = "../../tests/plugins/fixtures.rs"]
mod fixtures;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use super::*;
use crate::config::Limits;
use crate::os::clock;
use crate::reading::{Quality, Reading, Severity, Timestamp, Value};
use fixtures::Fixture;

const NOW: Timestamp = Timestamp(1_790_000_000_000_000_000);

/// The compile child of the tests: this very test binary, told to run this one "test", which finds its arguments
/// behind the name.
#[test]
fn compile_child_of_the_tests() {
    let arguments: Vec<OsString> =
        std::env::args_os().skip_while(|argument| argument != "compile-plugin").skip(1).collect();
    if !arguments.is_empty()
        && let Err(reason) = compile_child(&arguments)
    {
        panic!("{reason}");
    }
}

fn compiler() -> Compiler {
    let name = "plugin::tests::compile_child_of_the_tests";
    let arguments = ["--exact", "--nocapture", "--test-threads=1", name, "compile-plugin"];
    Compiler {
        program: std::env::current_exe().expect("this test's program"),
        arguments: arguments.map(OsString::from).to_vec(),
    }
}

struct Bench {
    host: Host,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(EngineKind::Native)
    }

    fn with(engine: EngineKind) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { host: host(engine, folder.path().join("cache")), folder }
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let file = self.folder.path().join("plugin.wasm");
        fs::write(&file, bytes).expect("a file");
        file
    }

    async fn plugin(&self, fixture: &Fixture) -> Plugin {
        self.host.load(&self.file(&fixture.build())).await.expect("the plugin loads")
    }

    async fn start(&self, fixture: &Fixture) -> Result<Instance, Failure> {
        Instance::start(&self.plugin(fixture).await, &spec()).await
    }

    /// The failure of the first run.
    async fn run_fails(&self, fixture: &Fixture) -> Failure {
        let mut instance = self.start(fixture).await.expect("the plugin starts");
        let failure = instance.run(Trigger::Start, NOW).await.expect_err("a failure");
        if failure.is_fatal() {
            // An instance that has failed for good is never entered again.
            let again = instance.run(Trigger::Start, NOW).await;
            assert!(matches!(again, Err(Failure::Instantiate(_))), "{again:?}");
        }
        failure
    }
}

fn host(engine: EngineKind, cache_dir: PathBuf) -> Host {
    Host::new(HostOptions {
        engine,
        cache_dir,
        trust: Trust::OFF,
        compiler: compiler(),
        compile: CompileLimits::default(),
    })
    .expect("a host")
}

fn spec() -> SourceSpec {
    SourceSpec {
        name: "tank".into(),
        config_json: "{}".into(),
        grants: Grants::default(),
        limits: Limits { memory: 4 << 20, time: Duration::from_millis(300) },
        state: None,
        trial: Trial::default(),
    }
}

mod files;
mod guests;
mod system;
mod wasi;
