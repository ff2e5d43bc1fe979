//! The rules, as tables and as functions over a tree of files. What they say stands in ARCHITECTURE.md and
//! CONTRIBUTING.md; where one of them is in the way, it is changed there and here in one commit.

use crate::paths::{Named, Target, named};
use crate::source::{FILLER, Source, item_after};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The modules of the library, and the binary, in order: each imports only from those before it.
pub const ORDER: [&str; 15] = [
    "reading", "modbus", "mqtt", "spool", "encode", "config", "status", // ring 0
    "os", "net", "device", "plugin", "control", // ring 1
    "agent", "cli", "main", // rings 2 and 3
];

/// The last module of ring 0.
const PURE_LAST: &str = "status";

/// What a module never imports although the order would let it, and why.
const NEVER: [(&str, &[&str], &str); 5] = [
    ("mqtt", &["reading", "config"], "bytes and topics only: it can be simulated"),
    ("spool", &["mqtt", "reading"], "it keeps bytes for a route, whatever they mean"),
    ("encode", &["spool", "mqtt"], "pure functions under snapshot tests"),
    ("plugin", &["mqtt", "net", "spool"], "a plugin never comes near the broker or a secret"),
    ("device", &["spool", "mqtt"], "a device answers its bus and nothing else"),
];

/// What ring 0 never names outside its tests: runtimes, files, sockets, processes, clocks, chance.
const IMPURE: [&str; 22] = [
    "tokio",
    "tokio_rustls",
    "tokio_modbus",
    "rustls",
    "rustls_native_certs",
    "wasmtime",
    "sysinfo",
    "rustix",
    "libc",
    "getrandom",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::time::Instant",
    "std::time::SystemTime",
    "jiff::Timestamp::now",
];

/// Methods of paths that ask the disk.
const ASKS_DISK: [&str; 8] =
    ["canonicalize", "exists", "try_exists", "is_dir", "is_file", "read_dir", "read_link", "symlink_metadata"];

/// What the wiring never names: it speaks in the project's own words.
const NOT_WIRING: [&str; 4] = ["wasmtime", "rustls", "tokio_rustls", "tokio_modbus"];

/// Lines of a file. What is larger has two subjects.
pub const FILE_LINES_MAX: usize = 500;
/// Lines of a file that is named in [`LARGER_FILES`].
pub const FILE_LINES_HARD: usize = 800;
/// Files that may have up to [`FILE_LINES_HARD`] lines, each with the reason.
const LARGER_FILES: [(&str, &str); 0] = [];
/// Lines of a function, from `fn` to its closing brace.
pub const FUNCTION_LINES_MAX: usize = 70;

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// From the root of the repository.
    pub path: String,
    /// From 1.
    pub line: usize,
    /// What is wrong, and what to do where that is not plain.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// A file with its place in the tree.
struct File<'a> {
    path: &'a str,
    text: &'a str,
    source: Source,
    /// From the crate's root; empty for lib.rs and for files outside src/.
    module: Vec<String>,
    /// The whole file is test code.
    is_test: bool,
}

impl File<'_> {
    fn is_library(&self) -> bool {
        self.path.starts_with("src/")
    }

    fn is_test(&self, line: usize) -> bool {
        self.is_test || self.source.is_test(line)
    }
}

/// Every finding in a tree of `.rs` files (path from the root of the repository, text), in order.
pub fn check(tree: &BTreeMap<String, String>) -> Vec<Violation> {
    let mut files: Vec<File> = tree
        .iter()
        .map(|(path, text)| File { path, text, source: Source::new(text), module: module_of(path), is_test: false })
        .collect();
    let test_modules: BTreeSet<Vec<String>> = files.iter().filter(|f| f.is_library()).flat_map(test_modules).collect();
    for file in &mut files {
        let inside = |known: &Vec<String>| file.module.starts_with(known);
        file.is_test = !file.path.contains("src/") || test_modules.iter().any(inside);
    }
    let mut found = Vec::new();
    for file in &files {
        let mut report = |line: usize, message: String| {
            found.push(Violation { path: file.path.to_owned(), line, message });
        };
        if file.is_library() {
            imports(file, &files, &mut report);
            disk_methods(file, &mut report);
            unwraps(file, &mut report);
        }
        head(file, &mut report);
        size(file, &mut report);
        functions(file, &mut report);
        words(file, &mut report);
        reasons(file, &mut report);
    }
    found.sort();
    found
}

type Report<'r> = &'r mut dyn FnMut(usize, String);

/// `src/mqtt/session/mod.rs` is `mqtt::session`; `src/main.rs` is `main`; `src/lib.rs` is the root.
fn module_of(path: &str) -> Vec<String> {
    let Some(inside) = path.strip_prefix("src/").and_then(|p| p.strip_suffix(".rs")) else { return Vec::new() };
    let mut module: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] {
        module.pop();
    }
    module
}

fn test_modules(file: &File<'_>) -> Vec<Vec<String>> {
    let child = |name: String| file.module.iter().cloned().chain([name]).collect();
    file.source.test_modules().into_iter().map(child).collect()
}

fn place(module: &str) -> Option<usize> {
    ORDER.iter().position(|known| *known == module)
}

fn is_pure(module: &str) -> bool {
    place(module).is_some_and(|at| Some(at) <= place(PURE_LAST))
}

fn imports(file: &File<'_>, files: &[File<'_>], report: Report<'_>) {
    let own_name = if file.path == "src/main.rs" { "outstation" } else { "crate" };
    let paths = named(&file.source, &file.module, own_name);
    let Some(top) = file.module.first() else {
        for path in paths.iter().filter(|path| path.imported) {
            report(path.line, "lib.rs declares modules and brings nothing in: it would go round their order".into());
        }
        return;
    };
    if place(top).is_none() {
        report(1, format!("`{top}` has no place in the order of modules (ORDER in tests/tidy/rules.rs)"));
        return;
    }
    for path in &paths {
        let problem = match &path.target {
            Target::Own(to) => own_import(file, files, to, path.glob),
            Target::Other(_) if file.is_test(path.line) => None,
            Target::Other(to) => other_import(top, to, path),
        };
        if let Some(problem) = problem {
            report(path.line, problem);
        }
    }
}

fn own_import(file: &File<'_>, files: &[File<'_>], to: &[String], glob: bool) -> Option<String> {
    let top = file.module.first()?;
    let Some(target) = to.first() else {
        return glob.then(|| "a glob of the crate's root hides what is imported".to_owned());
    };
    for (module, never, why) in NEVER {
        if top == module && never.contains(&target.as_str()) {
            return Some(format!("`{top}` never imports `{target}`: {why}"));
        }
    }
    if place(target) > place(top) {
        return Some(format!("`{top}` imports `{target}`, which comes after it in the order of modules"));
    }
    let (Some(from), Some(sibling)) = (file.module.get(1), to.get(1)) else { return None };
    let is_module = |f: &File<'_>| f.module.first() == Some(target) && f.module.get(1) == Some(sibling);
    if top == "device" && target == "device" && from != sibling && files.iter().any(is_module) {
        return Some(format!("`device::{from}` imports `device::{sibling}`: one device knows nothing of another"));
    }
    None
}

fn other_import(top: &str, to: &[String], path: &Named) -> Option<String> {
    let written = to.join("::");
    let names = |banned: &&&str| {
        written == ***banned
            || written.strip_prefix(**banned).is_some_and(|rest| rest.starts_with("::"))
            || (path.glob && banned.strip_prefix(&written).is_some_and(|rest| rest.starts_with("::")))
    };
    if is_pure(top)
        && let Some(banned) = IMPURE.iter().find(names)
    {
        return Some(format!("`{top}` is pure and never names `{banned}`"));
    }
    if top == "agent"
        && let Some(banned) = NOT_WIRING.iter().find(names)
    {
        return Some(format!("`agent` is wiring and never names `{banned}`"));
    }
    None
}

fn disk_methods(file: &File<'_>, report: Report<'_>) {
    if !file.module.first().is_some_and(|top| is_pure(top)) {
        return;
    }
    for (at, token) in file.source.tokens.iter().enumerate().skip(1) {
        let called = file.source.at(at - 1) == "." && file.source.at(at + 1) == "(";
        if called && ASKS_DISK.contains(&token.text.as_str()) && !file.is_test(token.line) {
            report(token.line, format!("`.{}()` asks the disk; `{}` is pure", token.text, file.module[0]));
        }
    }
}

fn unwraps(file: &File<'_>, report: Report<'_>) {
    for (at, token) in file.source.tokens.iter().enumerate().skip(1) {
        let called = file.source.at(at - 1) == "." && file.source.at(at + 1) == "(";
        if called && token.text == "unwrap" && !file.is_test(token.line) {
            report(token.line, "`.unwrap()` outside tests: handle it, or make the case impossible".into());
        }
    }
}

fn head(file: &File<'_>, report: Report<'_>) {
    let first = file.text.lines().next().unwrap_or_default();
    if first.strip_prefix("//!").is_none_or(|rest| rest.trim().is_empty()) {
        report(1, "the file does not open with `//!`: what it owns, its states, its invariants".into());
    }
}

fn size(file: &File<'_>, report: Report<'_>) {
    let lines = file.text.lines().count();
    let larger = LARGER_FILES.iter().any(|(path, _)| *path == file.path);
    let most = if larger { FILE_LINES_HARD } else { FILE_LINES_MAX };
    if lines > most {
        report(lines, format!("{lines} lines, at most {most}: a larger file has two subjects"));
    }
}

fn functions(file: &File<'_>, report: Report<'_>) {
    for (at, token) in file.source.tokens.iter().enumerate() {
        // `fn(u8)` is a type.
        if token.text != "fn" || file.source.at(at + 1) == "(" {
            continue;
        }
        let item = item_after(&file.source.tokens, at);
        let Some(last) = file.source.tokens.get(item.end) else { continue };
        let lines = last.line - token.line + 1;
        if lines > FUNCTION_LINES_MAX {
            let name = file.source.at(at + 1);
            report(token.line, format!("`{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}"));
        }
    }
}

fn words(file: &File<'_>, report: Report<'_>) {
    for (index, line) in file.source.comments.lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_alphanumeric());
        if let Some(word) = words.find(|word| ["TODO", "FIXME", "XXX"].contains(word)) {
            report(index + 1, format!("{word}: do it, or write the limit down where users look"));
        }
    }
    for (at, token) in file.source.tokens.iter().enumerate() {
        if ["dbg", "todo", "unimplemented"].contains(&token.text.as_str()) && file.source.at(at + 1) == "!" {
            report(token.line, format!("`{}!` is left over", token.text));
        }
    }
}

/// Inside `#[..]` and `#![..]`, also under `cfg_attr`.
fn reasons(file: &File<'_>, report: Report<'_>) {
    let source = &file.source;
    for (at, token) in source.tokens.iter().enumerate() {
        let open = if source.at(at + 1) == "!" { at + 2 } else { at + 1 };
        if token.text != "#" || source.at(open) != "[" {
            continue;
        }
        let end = source.closing(open);
        for inner in open..end {
            if !["allow", "expect"].contains(&source.at(inner)) || source.at(inner + 1) != "(" {
                continue;
            }
            let close = source.closing(inner + 1);
            let given =
                |i: usize| source.at(i) == "reason" && source.at(i + 1) == "=" && source.at(i + 2).contains(FILLER);
            if !(inner..close).any(given) {
                report(source.tokens[inner].line, format!("`{}(..)` without `reason = \"..\"`", source.at(inner)));
            }
        }
    }
}
