//! Compiling a component, in a child process of the same program.
//!
//! Compiling takes the most memory of all that the agent does, and what it costs is the component's choice: the child
//! has limits on memory, processor time and time on the wall, and the agent only loads what it wrote. It sets its
//! limits itself, before it reads the component: `<program> compile-plugin IN OUT ENGINE KEY MEMORY-BYTES CPU-SECONDS`.
//!
//! ```text
//!  wanted ──▶ its turn: one is compiled at a time ──▶ done
//!                 │  it takes longer than `patience`
//!                 └──▶ steps aside, one at a time as well, and the next has its turn ──▶ done
//! ```

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use super::cache::{self, Key};
use super::engine::{self, Kind};
use super::failure::one_line;

/// Bytes of the child's errors that are shown.
const REASON_MAX: usize = 2048;

/// The program that compiles: the agent itself, told to.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// The program.
    pub program: PathBuf,
    /// What it is told first.
    pub arguments: Vec<OsString>,
}

impl Compiler {
    /// The agent's own hidden command.
    pub fn agent(program: PathBuf) -> Self {
        Self { program, arguments: vec!["compile-plugin".into()] }
    }
}

/// What compiling one plugin may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Address space, in bytes.
    pub memory: u64,
    /// Time on a processor.
    pub cpu: Duration,
    /// Time until it must be done.
    pub wall: Duration,
    /// Time after which others are compiled beside it.
    pub patience: Duration,
}

impl Default for CompileLimits {
    /// Enough for a large interpreter with its libraries on a slow processor.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { memory: 1 << 30, cpu: seconds(300), wall: seconds(600), patience: seconds(15) }
    }
}

/// Whose turn it is. Memory is why not all are compiled at once; that one may take minutes is why there are two places.
#[derive(Default)]
pub struct Turns {
    turn: Mutex<()>,
    /// Where one that takes long goes on, and lets the others pass.
    aside: Mutex<()>,
    /// What somebody wants compiled. Held while it is: who wants the same waits for it, and not for its turn.
    wanted: Mutex<HashMap<Key, Weak<Mutex<()>>>>,
}

impl Turns {
    /// What to hold while this one is compiled.
    pub async fn of(&self, key: &Key) -> Arc<Mutex<()>> {
        let mut wanted = self.wanted.lock().await;
        wanted.retain(|_, one| one.strong_count() > 0);
        let one = wanted.get(key).and_then(Weak::upgrade).unwrap_or_default();
        wanted.insert(*key, Arc::downgrade(&one));
        one
    }

    /// Compiles when it is its turn.
    pub async fn wait<T>(&self, patience: Duration, compiling: impl Future<Output = T>) -> T {
        let turn = self.turn.lock().await;
        let mut compiling = pin!(compiling);
        let _aside = tokio::select! {
            done = &mut compiling => return done,
            aside = async { tokio::time::sleep(patience).await; self.aside.lock().await } => aside,
        };
        drop(turn);
        compiling.await
    }
}

/// Compiles `component` into `out`. An error is the reason, for people.
pub async fn run(
    compiler: &Compiler,
    limits: CompileLimits,
    kind: Kind,
    key: &Key,
    component: &Path,
    out: &Path,
) -> Result<(), String> {
    let mut child = Command::new(&compiler.program)
        .args(&compiler.arguments)
        .arg(component)
        .arg(out)
        .arg(kind.word())
        .arg(key.to_string())
        .arg(limits.memory.to_string())
        .arg(limits.cpu.as_secs().max(1).to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("the compiler {} cannot be started: {error}", compiler.program.display()))?;
    match tokio::time::timeout(limits.wall, finish(&mut child)).await {
        Ok(result) => result.map_err(|reason| explained(&reason, limits)),
        Err(_) => {
            // It may have ended at this very moment.
            let _ = child.kill().await;
            Err(format!("it takes longer than {} s", limits.wall.as_secs()))
        }
    }
}

async fn finish(child: &mut Child) -> Result<(), String> {
    let mut reason = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // Whatever it says beyond that is read to the end and thrown away, so that it never waits for us.
        let mut stderr = stderr;
        let read = (&mut stderr).take(REASON_MAX as u64).read_to_end(&mut reason).await;
        read.map_err(|error| error.to_string())?;
        tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await.map_err(|error| error.to_string())?;
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&reason);
    let reason = one_line(reason.trim(), REASON_MAX);
    Err(if reason.is_empty() { format!("the compiler ended with {status}") } else { format!("{reason} ({status})") })
}

/// The child's last words, in ours.
fn explained(reason: &str, limits: CompileLimits) -> String {
    if reason.contains("memory allocation of") || reason.contains("out of memory") {
        format!("it takes more than {} MiB of memory", limits.memory >> 20)
    } else if reason.contains("SIGXCPU") {
        format!("it takes more than {} s of processor time", limits.cpu.as_secs())
    } else if reason.contains("SIGKILL") {
        "the compiler was killed, as the kernel does where the machine has no memory left".to_owned()
    } else {
        // An exit status says nothing to people when there are words.
        reason.strip_suffix(" (exit status: 1)").unwrap_or(reason).to_owned()
    }
}

/// The child's side: what the command `compile-plugin` does with the arguments that follow it. An error is for
/// stderr, exit status 1.
pub fn compile_child(arguments: &[OsString]) -> Result<(), String> {
    let [component, out, kind, key, memory, cpu] = arguments else {
        return Err("usage: compile-plugin IN OUT ENGINE KEY MEMORY-BYTES CPU-SECONDS".into());
    };
    let kind = text(kind).and_then(Kind::from_word).ok_or("no such engine")?;
    let key = text(key).and_then(Key::from_hex).ok_or("no such key")?;
    limit(Resource::As, number(memory)?, number(memory)?)?;
    // Address space that was reserved before is not counted when it is used: the limit on data is.
    limit(Resource::Data, number(memory)?, number(memory)?)?;
    limit(Resource::Cpu, number(cpu)?, number(cpu)?.saturating_add(1))?;
    limit(Resource::Core, 0, 0)?;

    let bytes = std::fs::read(component).map_err(|error| error.to_string())?;
    let engine = engine::new(kind).map_err(|error| error.to_string())?;
    let digest: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&bytes).into();
    if Key::new(&digest, engine::fingerprint(&engine)) != key {
        return Err("the file, or this program, was replaced in between".into());
    }
    let code = engine.precompile_component(&bytes).map_err(|error| format!("{error:#}"))?;
    cache::write(Path::new(out), &key, &code).map_err(|error| format!("{}: {error}", Path::new(out).display()))
}

/// Sets a limit; one that is lower already, set by who started the agent, stays.
fn limit(resource: Resource, soft: u64, hard: u64) -> Result<(), String> {
    let maximum = getrlimit(resource).maximum.map_or(hard, |set| set.min(hard));
    setrlimit(resource, Rlimit { current: Some(soft.min(maximum)), maximum: Some(maximum) })
        .map_err(|error| format!("a limit cannot be set: {error}"))
}

fn text(argument: &OsStr) -> Option<&str> {
    argument.to_str()
}

fn number(argument: &OsStr) -> Result<u64, String> {
    text(argument).and_then(|text| text.parse().ok()).ok_or_else(|| "no such number".into())
}
