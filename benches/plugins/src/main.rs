//! What plugins cost: `make bench-plugins`. Prints tables with the aims beside what was measured; fails nowhere, since a
//! figure depends on the machine.
//!
//! [`instances`] measures in this process, with the agent's own library; [`agent`] measures an agent from outside, as the
//! kernel counts it. This program is that agent as well, where it is called with a command of it, and the child that
//! compiles, which says what it took.

mod agent;
#[path = "../../../tests/plugins/fixtures.rs"]
mod fixtures;
mod instances;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What makes this program the child that compiles. Behind it stands the file for what it took: KiB, milliseconds.
const COMPILE: &str = "compile-and-count";
const COST_FILE: &str = "cost";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        None => measure(),
        Some(first) if first == COMPILE => {
            let cost = arguments.next().unwrap_or_default();
            compile_child(Path::new(&cost), &arguments.collect::<Vec<_>>())
        }
        Some(_) => outstation::cli::main(),
    }
}

fn measure() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let script = script();
    println!("{} cores, load {}", cores(), load());
    println!("\n| in this process: best, middle | native | pulley | aim |\n|---|---|---|---|");
    runtime.block_on(instances::measure(script.as_deref()));
    println!("\n| of the agent | measured | aim |\n|---|---|---|");
    agent::measure(&std::env::current_exe().expect("this program"));
    ExitCode::SUCCESS
}

fn compile_child(file: &Path, arguments: &[OsString]) -> ExitCode {
    if let Err(reason) = outstation::plugin::compile_child(arguments) {
        eprintln!("{reason}");
        return ExitCode::FAILURE;
    }
    let cost = format!("{} {}", of_process("/proc/self/status", "VmHWM:"), processor_ms());
    std::fs::write(file, cost).expect("write what it took");
    ExitCode::SUCCESS
}

/// Milliseconds that this process, which has one thread, was on a processor.
fn processor_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("the kernel counts it");
    text.split(' ').next().and_then(|number| number.parse::<u64>().ok()).expect("nanoseconds") / 1_000_000
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// A number out of `/proc/PID/status`.
fn of_process(status: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(status).expect("the process runs");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the number is there");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// A plugin in JavaScript: the file that is named, or a project as `plugin new` writes it, where its tool is in the cache.
fn script() -> Option<Vec<u8>> {
    if let Some(file) = std::env::var_os("OUTSTATION_BENCH_JS") {
        return Some(std::fs::read(file).expect("the component in JavaScript"));
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let tool = cache.join("outstation/languages/npm/node_modules/.bin/componentize-qjs");
    let folder = tempfile::tempdir().expect("a folder");
    let (wit, source) = (repository().join("plugins/wit"), repository().join("plugins/template/js/plugin.js"));
    let out = folder.path().join("plugin.wasm");
    let made = std::process::Command::new(tool)
        .arg("--wit")
        .arg(wit)
        .args(["--world", "base", "--js"])
        .arg(source)
        .args(["--sync", "--opt-size", "--stub-wasi", "-o"])
        .arg(&out)
        .stdout(std::process::Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!(
            "no JavaScript: componentize-qjs is not in the cache (`make test-languages` puts it there), or fails"
        );
        return None;
    }
    std::fs::read(out).ok()
}
