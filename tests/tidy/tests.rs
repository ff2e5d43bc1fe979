//! Each rule, broken once on a made-up tree, and what comes close to breaking it and does not.

use crate::rules::{FILE_LINES_HARD, FILE_LINES_MAX, FUNCTION_LINES_MAX, ORDER, check};
use std::collections::BTreeMap;

/// Checks files; a head is put before those that are not to lack one. Findings as `path:line: message`.
fn findings(files: &[(&str, &str)]) -> Vec<String> {
    let tree: BTreeMap<String, String> =
        files.iter().map(|(path, text)| ((*path).to_owned(), format!("//! Head.\n{text}"))).collect();
    check(&tree).iter().map(ToString::to_string).collect()
}

/// The one finding of a file must begin with its place (the head is line 1) and contain the words.
#[track_caller]
fn broken(path: &str, text: &str, line: usize, words: &str) {
    let found = findings(&[(path, text)]);
    assert_eq!(found.len(), 1, "{text}\n{found:#?}");
    assert!(found[0].starts_with(&format!("{path}:{line}: ")) && found[0].contains(words), "{text}\n{found:#?}");
}

#[track_caller]
fn fine(path: &str, text: &str) {
    let found = findings(&[(path, text)]);
    assert!(found.is_empty(), "{text}\n{found:#?}");
}

#[test]
fn a_module_imports_only_from_those_before_it() {
    let late = "which comes after it";
    broken("src/reading/mod.rs", "use crate::status::Status;", 2, late);
    broken("src/os/files.rs", "\n\nuse crate::agent;", 4, late);
    broken("src/net/mod.rs", "use crate::{os, plugin::Host};", 2, late);
    broken("src/config/mod.rs", "fn f(x: crate::os::Files) {}", 2, late);
    broken("src/control/mod.rs", "use super::agent::Agent;", 2, late);
    broken("src/net/tls/mod.rs", "use super::super::{\n    control,\n};", 3, late);
    broken("src/os/mod.rs", "mod inner { use super::super::cli; }", 2, late);
    broken("src/os/mod.rs", "use crate as root;\nfn f() { root::cli::run() }", 3, late);
    broken("src/os/mod.rs", "#[cfg(test)]\nmod tests { use crate::net; }", 3, late);
    broken("src/agent/mod.rs", "macro_rules! m { () => { $crate::cli::x() } }", 2, late);
    fine("src/agent/mod.rs", "use crate::{config::Settings, spool, os::files as f};\nuse self::x::Y;");
    fine("src/agent/run.rs", "use super::pipeline; // use crate::cli\nconst T: &str = \"use crate::cli;\";");
    fine("src/main.rs", "fn main() { outstation::cli::run() }");
    fine("src/spool/mod.rs", "mod log { use super::Error; fn f() -> impl Sized + use<'static> {} }");
}

#[test]
fn the_order_is_the_designs() {
    let position = |name: &str| ORDER.iter().position(|known| *known == name);
    assert!(position("reading") < position("spool") && position("config") < position("os"));
    broken("src/gateway/mod.rs", "", 1, "no place in the order");
    broken("src/lib.rs", "pub mod os;\npub use os::files;", 3, "declares modules");
    broken("src/os/mod.rs", "use crate::*;", 2, "glob");
}

#[test]
fn the_table_of_forbidden_imports() {
    for (module, other) in [
        ("mqtt", "reading"),
        ("spool", "mqtt"),
        ("spool", "reading"),
        ("encode", "spool"),
        ("encode", "mqtt"),
        ("plugin", "mqtt"),
        ("plugin", "net"),
        ("plugin", "spool"),
        ("device", "spool"),
        ("device", "mqtt"),
    ] {
        broken(&format!("src/{module}/x.rs"), &format!("use crate::{other}::X;"), 2, "never imports");
    }
    broken("src/mqtt/x.rs", "use crate::config;", 2, "never imports");
}

#[test]
fn ring_0_is_pure() {
    let pure = "is pure";
    for (text, line) in [
        ("use tokio::time;", 2),
        ("use std::fs;", 2),
        ("use std::{io, fs::File};", 2),
        ("use std::*;", 2),
        ("fn f() { ::std::fs::read(\"x\"); }", 2),
        ("fn f() { std::thread::sleep(d) }", 2),
        ("use std::time as t;\nfn f() { t::Instant::now() }", 3),
        ("use std::time::{Duration,\n Instant};", 3),
        ("use jiff::Timestamp;\nfn f() { Timestamp::now() }", 3),
        ("use std::net::{IpAddr, UdpSocket};", 2),
        ("use wasmtime::Engine;", 2),
        ("use rustls::pki_types;", 2),
        ("fn f() { p.exists() }", 2),
    ] {
        broken("src/spool/x.rs", text, line, pure);
    }
    fine("src/spool/x.rs", "use std::time::Duration;\nuse jiff::Timestamp;\n#[cfg(test)]\nmod t { use std::fs; }");
    fine("src/config/x.rs", "use std::net::IpAddr;\nuse std::path::PathBuf;\nfn fs() { tokio(1) }");
    fine("src/os/files.rs", "use std::fs;\nuse std::time::Instant;\nfn f() { p.exists() }");
}

#[test]
fn devices_do_not_know_one_another() {
    let system = ("src/device/system.rs", "use super::gpio::Line;");
    let gpio = ("src/device/gpio/mod.rs", "use super::Registry;\nuse crate::device::Services;");
    let found = findings(&[system, gpio, ("src/device/mod.rs", "use self::gpio::Line;")]);
    assert_eq!(
        found,
        ["src/device/system.rs:2: `device::system` imports `device::gpio`: one device knows nothing of another"]
    );
}

#[test]
fn the_wiring_speaks_the_projects_words() {
    for other in ["wasmtime::Store", "rustls::ClientConfig", "tokio_rustls::client", "tokio_modbus::client"] {
        broken("src/agent/x.rs", &format!("fn f(x: {other}) {{}}"), 2, "is wiring");
    }
    fine("src/agent/x.rs", "use tokio::sync::mpsc;");
}

#[test]
fn sizes() {
    let of = |lines: usize| "\n".repeat(lines - 1);
    fine("src/os/x.rs", &of(FILE_LINES_MAX));
    broken("src/os/x.rs", &of(FILE_LINES_MAX + 1), FILE_LINES_MAX + 1, "two subjects");
    broken("tests/it/x.rs", &of(FILE_LINES_HARD + 1), FILE_LINES_HARD + 1, "two subjects");

    let function = |lines: usize| format!("fn long(a: [u8; 4], f: fn(u8) -> u8) {{{}}}", "\n".repeat(lines - 1));
    fine("plugins/sdk/src/lib.rs", &function(FUNCTION_LINES_MAX));
    broken("plugins/sdk/src/lib.rs", &function(FUNCTION_LINES_MAX + 1), 2, "`long` has 71 lines");
    fine("src/os/x.rs", &format!("trait T {{ fn declared(&self); }}\n{}", "\n".repeat(FUNCTION_LINES_MAX)));
}

#[test]
fn words() {
    broken("src/os/x.rs", "// TODO: later", 2, "TODO");
    broken("src/os/x.rs", "/* a\n FIXME */", 3, "FIXME");
    broken("tests/it/x.rs", "/// XXX\nfn f() {}", 2, "XXX");
    broken("src/os/x.rs", "fn f() { dbg!(1); }", 2, "`dbg!`");
    broken("src/os/x.rs", "fn f() { todo!() }", 2, "`todo!`");
    fine("src/os/x.rs", "// A todo list, XXXL.\nconst W: &str = r#\"TODO \"quoted\" dbg!(\"#;\nconst C: char = '\"';");
}

#[test]
fn exceptions_have_reasons() {
    let without = "without `reason";
    broken("src/os/x.rs", "#[allow(dead_code)]\nfn f() {}", 2, without);
    broken("src/os/x.rs", "#![expect(clippy::all)]", 2, without);
    broken("src/os/x.rs", "#[cfg_attr(test, allow(dead_code))]\nfn f() {}", 2, without);
    broken("src/os/x.rs", "#[allow(\n    dead_code,\n    reason = \"\"\n)]\nfn f() {}", 2, without);
    fine("src/os/x.rs", "#[expect(dead_code, reason = \"why\")]\nfn f() { x.expect(\"y\"); allow(1) }");
}

#[test]
fn unwrap_is_for_tests() {
    broken("src/os/x.rs", "fn f() { x.unwrap(); }\n#[cfg(test)]\nmod tests { fn g() { x.unwrap() } }", 2, "unwrap");
    broken("src/os/x.rs", "#[cfg(test)]\nfn g() { x.unwrap(); }\nfn f() { x.unwrap() }", 4, "unwrap");
    fine("src/os/x.rs", "fn f() { x.unwrap_or(1); /* .unwrap() */ }");
    fine("tests/it/x.rs", "fn f() { x.unwrap() }");
    let tests_elsewhere =
        [("src/os/mod.rs", "#[cfg(test)]\nmod trials;"), ("src/os/trials.rs", "fn f() { x.unwrap() }")];
    assert!(findings(&tests_elsewhere).is_empty());
}

#[test]
fn a_file_opens_with_its_head() {
    let tree = |text: &str| BTreeMap::from([("src/os/x.rs".to_owned(), text.to_owned())]);
    for text in ["", "use std::fs;\n//! Late.", "//!\n", "// Head."] {
        let found = check(&tree(text));
        assert!(found.len() == 1 && found[0].line == 1 && found[0].message.contains("does not open"), "{text:?}");
    }
    assert!(check(&tree("//! Head.")).is_empty());
}

#[test]
fn all_findings_come_at_once() {
    let found = findings(&[
        ("src/mqtt/a.rs", "use tokio::net;\nuse crate::reading;\n// TODO"),
        ("src/os/b.rs", "fn f() { x.unwrap() }"),
    ]);
    let places = ["src/mqtt/a.rs:2: ", "src/mqtt/a.rs:3: ", "src/mqtt/a.rs:4: ", "src/os/b.rs:2: "];
    assert_eq!(found.len(), places.len(), "{found:#?}");
    assert!(found.iter().zip(places).all(|(line, place)| line.starts_with(place)), "{found:#?}");
}
