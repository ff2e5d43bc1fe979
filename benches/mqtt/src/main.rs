//! Messages a second, processor time, allocations, system calls and memory of the MQTT client and of rumqttc.
//!
//! The parent owns the sink, a broker of the least possible kind, and starts each client as a process of its own with the
//! same work: so many messages of one size at one QoS, with so many in flight. Each is run [`ROUNDS`] times in turn, and the
//! median counts. System calls are counted by strace where there is one, in a run that is not timed.
//!
//! `bench-mqtt` prints the table; `bench-mqtt client ours|rumqttc ADDRESS QOS SIZE WINDOW COUNT` is one client.

#![allow(dead_code, reason = "the modules are taken in whole, and used in part")]

#[path = "../../../src/config/mod.rs"]
pub mod config;
#[path = "../../../src/modbus/mod.rs"]
pub mod modbus;
#[path = "../../../src/mqtt/mod.rs"]
pub mod mqtt;
#[path = "../../../src/net/mod.rs"]
pub mod net;
#[path = "../../../src/reading/mod.rs"]
pub mod reading;

mod client;
mod count;
mod os;
mod sink;

use std::process::Command;

use client::{Work, measure};

/// Runs of each client for each line of the table.
const ROUNDS: usize = 3;
/// Messages of a run.
const COUNT: usize = 200_000;
/// Messages of the run under strace.
const TRACED: usize = 20_000;

#[global_allocator]
static ALLOCATOR: count::Counting = count::Counting;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "client") {
        let figures = measure(&Work::parse(&arguments[1..]));
        println!("{figures}");
        return;
    }
    let quick = arguments.first().is_some_and(|first| first == "--quick");
    table(if quick { COUNT / 20 } else { COUNT });
}

/// The figures of a run, as a client prints them: nanoseconds, nanoseconds of processor, allocations, bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Figures([f64; 4]);

fn table(count: usize) {
    println!(
        "| QoS | bytes | window | messages/s | rumqttc | ratio | CPU us/message | rumqttc | allocations/message | rumqttc | syscalls/message | rumqttc | KiB/connection | rumqttc |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for qos in [0, 1, 2] {
        for size in [100, 1024] {
            for window in [20, 100, 1000] {
                let [ours, theirs] = both(qos, size, window, count);
                let calls = ["ours", "rumqttc"].map(|name| system_calls(name, qos, size, window));
                let rate = |figures: Figures| count as f64 * 1e9 / figures.0[0];
                let a_message = |figures: Figures, index: usize, unit: f64| figures.0[index] / count as f64 / unit;
                println!(
                    "| {qos} | {size} | {window} | {:.0} | {:.0} | **{:.1}** | {:.2} | {:.2} | {:.3} | {:.2} | {} | {} | {:.0} | {:.0} |",
                    rate(ours),
                    rate(theirs),
                    rate(ours) / rate(theirs),
                    a_message(ours, 1, 1e3),
                    a_message(theirs, 1, 1e3),
                    a_message(ours, 2, 1.0),
                    a_message(theirs, 2, 1.0),
                    calls[0],
                    calls[1],
                    ours.0[3] / 1024.0,
                    theirs.0[3] / 1024.0,
                );
            }
        }
    }
}

/// The median of each figure, of both clients, in turn.
fn both(qos: u8, size: usize, window: u16, count: usize) -> [Figures; 2] {
    let mut runs = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (name, runs) in ["ours", "rumqttc"].iter().zip(&mut runs) {
            runs.push(run(&mut Command::new(program()), name, qos, size, window, count));
        }
    }
    runs.map(|runs| {
        Figures(std::array::from_fn(|index| {
            let mut values: Vec<f64> = runs.iter().map(|run| run.0[index]).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        }))
    })
}

fn program() -> std::path::PathBuf {
    std::env::current_exe().expect("this program")
}

fn run(command: &mut Command, name: &str, qos: u8, size: usize, window: u16, count: usize) -> Figures {
    let (address, sink) = sink::start(window);
    command.args(["client", name, &address.to_string(), &qos.to_string(), &size.to_string()]);
    let output = command.args([window.to_string(), count.to_string()]).output().expect("the client runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let taken = sink.join().expect("the sink ends");
    assert_eq!(taken, count + client::EXTRA, "every message came to the sink, {name} {qos} {size} {window}");
    let text = String::from_utf8(output.stdout).expect("figures");
    let mut words = text.split_whitespace().map(|word| word.parse().expect("a number"));
    Figures(std::array::from_fn(|_| words.next().expect("four figures")))
}

/// System calls a message: what a run of [`TRACED`] messages has more than one of a single message.
fn system_calls(name: &str, qos: u8, size: usize, window: u16) -> String {
    let [none, all] = [1, TRACED].map(|count| {
        let file = std::env::temp_dir().join(format!("bench-mqtt-{}", std::process::id()));
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-U", "calls,name", "-o"]).arg(&file).arg(program());
        if Command::new("strace").arg("-V").output().is_err() {
            return None;
        }
        run(&mut command, name, qos, size, window, count);
        let text = std::fs::read_to_string(&file).ok()?;
        let _gone = std::fs::remove_file(&file);
        text.lines().last()?.split_whitespace().next()?.parse::<f64>().ok()
    });
    none.zip(all).map_or_else(|| "?".to_owned(), |(none, all)| format!("{:.3}", (all - none) / (TRACED - 1) as f64))
}
