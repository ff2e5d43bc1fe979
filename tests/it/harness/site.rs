//! A place where an agent runs: `agent.toml`, `plugins/` and `data/` in a temporary folder, and the agents that run
//! there one after another (or, in one test, at once).

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::log::Log;
use super::{SOON, confine, plugins, wait_for};

/// Within this time an agent that got SIGTERM is gone, whatever the broker does.
pub const STOP_MAX: Duration = Duration::from_secs(15);

/// See the module.
#[derive(Debug)]
pub struct Site {
    folder: TempDir,
    /// What all its agents logged.
    pub log: Log,
}

/// A running agent. It dies with the test.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    log: Log,
    first_line: usize,
}

/// What a command of the program came to.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status; `None` after a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Site {
    /// A folder with that `agent.toml` and those plugins.
    pub fn new(config: &str, plugins: &[&str]) -> Self {
        let site = Self::made(config, plugins);
        if confine::everywhere() {
            site.set_engine("pulley");
        }
        site
    }

    /// The same without a folder of drop-ins, whatever engine is asked for.
    pub fn without_drop_ins(config: &str, plugins: &[&str]) -> Self {
        let engine = if confine::everywhere() { "[agent]\nengine = \"pulley\"\n" } else { "[agent]\n" };
        Self::made(&config.replace("[agent]\n", engine), plugins)
    }

    fn made(config: &str, plugins: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("outstation-site-").tempdir().expect("a temporary folder");
        let site = Self { folder, log: Log::new() };
        std::fs::create_dir(site.path("plugins")).expect("make the plugin folder");
        for plugin in plugins {
            plugins::install(plugin, &site.path("plugins"));
        }
        site.write("agent.toml", config);
        site
    }

    /// As a drop-in: no line of the configuration moves.
    fn set_engine(&self, engine: &str) {
        std::fs::create_dir_all(self.path("agent.d")).expect("make the folder of drop-ins");
        self.write("agent.d/00-engine.toml", format!("[agent]\nengine = \"{engine}\"\n"));
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of its folder.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), contents).expect("write a file of the site");
    }

    /// The program, free of what the caller's environment says to it.
    pub fn program(&self) -> Command {
        self.program_at(Path::new(env!("CARGO_BIN_EXE_outstation")))
    }

    /// The same with the binary somewhere else.
    pub fn program_at(&self, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        for variable in
            ["OUTSTATION_DATA_DIR", "OUTSTATION_PLUGIN_DIRS", "OUTSTATION_SOCKET", "NOTIFY_SOCKET", "JOURNAL_STREAM"]
        {
            command.env_remove(variable);
        }
        command.env("NO_COLOR", "1").current_dir(self.folder.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts `outstation run` on it.
    pub fn start(&self) -> Agent {
        let mut command = self.program();
        command.arg("run").arg("-c").arg(self.path("agent.toml"));
        self.start_command(command)
    }

    /// Starts `outstation run` with that engine, where memory that is written is never run.
    pub fn start_confined(&self, engine: &str) -> Agent {
        self.set_engine(engine);
        let mut command = self.program();
        command.arg("run").arg("-c").arg(self.path("agent.toml"));
        self.spawn(confine::confined(&command))
    }

    /// Starts a command of this program as an agent of this site.
    pub fn start_command(&self, command: Command) -> Agent {
        self.spawn(if confine::everywhere() { confine::confined(&command) } else { command })
    }

    fn spawn(&self, mut command: Command) -> Agent {
        let mut child = command.spawn().expect("start the agent");
        self.log.push(format!("(process {} starts)", child.id().unwrap_or_default()));
        let first_line = self.log.len();
        self.log.follow(child.stdout.take().expect("its stdout"));
        self.log.follow(child.stderr.take().expect("its stderr"));
        Agent { child, log: self.log.clone(), first_line }
    }

    /// Runs a command of the program to its end, with `-c` of this site.
    pub async fn outcome(&self, command: &[&str]) -> Outcome {
        let mut program = self.program();
        program.args(command).arg("-c").arg(self.path("agent.toml"));
        outcome_of(program).await
    }

    /// What the running agent says of itself: `status --json`.
    pub async fn status(&self) -> serde_json::Value {
        let outcome = self.outcome(&["status", "--json"]).await;
        serde_json::from_str(&outcome.expect_code(0).stdout).expect("JSON")
    }

    /// A question on the control socket itself, and its answer: what a command costs is left out.
    pub async fn ask(&self, question: serde_json::Value) -> serde_json::Value {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream =
            tokio::net::UnixStream::connect(self.path("data/control.sock")).await.expect("the agent listens");
        stream.write_all(format!("{question}\n").as_bytes()).await.expect("ask");
        let mut answer = String::new();
        let reading = tokio::time::timeout(SOON, stream.read_to_string(&mut answer)).await;
        reading.expect("an answer in time").expect("an answer");
        serde_json::from_str(&answer).expect("JSON")
    }

    /// Asks for the status until `holds` is true of it. Before the agent listens there is none.
    #[track_caller]
    pub fn status_until(&self, holds: impl Fn(&serde_json::Value) -> bool) -> impl Future<Output = serde_json::Value> {
        let place = std::panic::Location::caller();
        async move {
            let mut last = serde_json::Value::Null;
            let asking = async {
                while !holds(&last) {
                    let outcome = self.outcome(&["status", "--json"]).await;
                    last = serde_json::from_str(&outcome.stdout).unwrap_or_default();
                }
            };
            let answer = tokio::time::timeout(SOON, asking).await;
            assert!(answer.is_ok(), "{place}: the status is still {last}");
            last
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.log.show_on_failure("agent");
    }
}

/// Runs a command to its end.
pub async fn outcome_of(mut command: Command) -> Outcome {
    let output = tokio::time::timeout(SOON, command.output()).await.expect("the command ends").expect("it starts");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}

impl Outcome {
    /// Fails the test where the exit status is another one, or the program panicked.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked at"), "it panicked:\n{}", self.stderr);
        self
    }

    /// Fails the test where stderr lacks one of `words`, letters' case aside.
    #[track_caller]
    pub fn expect_said(&self, words: &[&str]) -> &Self {
        let said = self.stderr.to_lowercase();
        let missing: Vec<_> = words.iter().filter(|word| !said.contains(&word.to_lowercase())).collect();
        assert!(missing.is_empty(), "{missing:?} is missing in stderr:\n{}", self.stderr);
        self
    }
}

impl Agent {
    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.id().expect("it runs").cast_signed()
    }

    /// Waits for a line of its log that has all of `words`.
    #[track_caller]
    pub fn says(&self, words: &[&str]) -> impl Future<Output = String> {
        let place = std::panic::Location::caller();
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let (log, first_line) = (self.log.clone(), self.first_line);
        async move {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let what = format!("{place}: the agent logs a line with {words:?}");
            wait_for(&what, SOON, || log.line_with(first_line, &words)).await
        }
    }

    /// Whether a line of its log has all of `words`.
    pub fn has_said(&self, words: &[&str]) -> bool {
        self.log.line_with(self.first_line, words).is_some()
    }

    /// All that it logged.
    pub fn said(&self) -> String {
        self.log.since(self.first_line)
    }

    /// kill -9, and comes back when it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("kill the agent");
        self.expect_no_panic();
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let pid = Pid::from_raw(self.pid()).expect("a process id");
        kill_process(pid, Signal::TERM).expect("SIGTERM to the agent");
    }

    /// SIGTERM; it must come to its end in time and with status 0.
    pub async fn stop(self) {
        self.terminate();
        let status = self.ended(STOP_MAX).await;
        assert!(status.success(), "after SIGTERM the agent ended with {status}");
    }

    /// Waits until it has ended by itself.
    pub async fn ended(mut self, within: Duration) -> ExitStatus {
        let status = tokio::time::timeout(within, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("the agent has not ended within {within:?}"));
        self.expect_no_panic();
        status.expect("its status")
    }

    fn expect_no_panic(&self) {
        assert!(!self.has_said(&["panicked at"]), "the agent panicked");
    }
}
