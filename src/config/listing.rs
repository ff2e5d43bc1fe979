//! What is in force, value by value, and where each comes from: `check --show`.
//!
//! Invariant: values of keys that look like secrets are never in it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::json;

use super::check::Checked;
use super::context::{Context, KeyPath};
use super::files::{Files, Span, is_secret_key};
use super::tree::{Body, List, Node};

/// Shown in the place of a secret.
pub(super) const HIDDEN: &str = "(hidden)";

/// One value that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Dotted, as TOML writes it.
    pub key: String,
    /// As TOML writes it.
    pub value: String,
    /// The file and the line that it comes from; `None`: it is a default.
    pub origin: Option<(PathBuf, u32)>,
    /// Where a default comes from, if it is not a constant: `agent.id`.
    pub derived: Option<String>,
    /// Places whose values it replaced, the earliest first.
    pub replaced: Vec<(PathBuf, u32)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Entry {
    key: String,
    value: Option<String>,
    span: Option<Span>,
    /// The value is a long list, and stands in the file only.
    folded: bool,
    derived: Option<String>,
    replaced: Vec<Span>,
}

/// Collects in the order of the schema.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Listing {
    entries: Vec<Entry>,
    by_key: HashMap<String, usize>,
    paused: bool,
}

impl Listing {
    /// Stops collecting: what follows are parts of one value. Gives the state to resume.
    pub fn pause(&mut self) -> bool {
        std::mem::replace(&mut self.paused, true)
    }

    pub fn resume(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// A value as it was written, or a constant default.
    pub fn value(&mut self, at: &KeyPath, node: &Node, checked: Option<&Checked>) {
        if self.paused {
            return;
        }
        let secret = at.0.last().is_some_and(|key| is_secret_key(key));
        let value = match checked.and_then(path) {
            _ if secret => HIDDEN.to_owned(),
            Some(path) => path,
            None => inline(&node.body),
        };
        let span = (node.span != Context::NOWHERE).then_some(node.span);
        let folded = !secret && matches!(node.body, Body::List(List::Folded));
        self.put(at, Entry { value: Some(value), span, folded, replaced: node.replaced.clone(), ..Entry::default() });
    }

    /// A place for a default that is derived later.
    pub fn reserve(&mut self, at: &KeyPath, from: &str) {
        self.put(at, Entry { derived: Some(from.to_owned()), ..Entry::default() });
    }

    /// A default that follows from something else; only where nothing was written.
    pub fn derive(&mut self, at: &KeyPath, value: String) {
        if let Some(entry) = self.by_key.get(&at.dotted()).and_then(|index| self.entries.get_mut(*index)) {
            entry.value.get_or_insert(value);
        }
    }

    /// A default that is another key's value, wherever that comes from.
    pub fn inherit(&mut self, at: &KeyPath, from: &KeyPath) {
        let from = from.dotted();
        let value = self.by_key.get(&from).and_then(|index| self.entries.get(*index)).and_then(|e| e.value.clone());
        if let Some(value) = value {
            self.derive(at, value);
        }
    }

    /// Takes out a table that is not in force.
    pub fn forget(&mut self, table: &str) {
        self.entries.iter_mut().filter(|entry| entry.key.starts_with(table)).for_each(|entry| entry.value = None);
    }

    fn put(&mut self, at: &KeyPath, entry: Entry) {
        if !self.paused {
            let key = at.dotted();
            self.by_key.insert(key.clone(), self.entries.len());
            self.entries.push(Entry { key, ..entry });
        }
    }

    pub fn shown(&self, files: &Files) -> Vec<Shown> {
        let line = |span: &Span| files.place(*span).map(|place| (place.path, place.line));
        let list = |span: &Span| {
            let folded = Node { key: None, span: *span, replaced: Vec::new(), body: Body::List(List::Folded) };
            inline(&folded.unfolded(files).body)
        };
        let text = |entry: &Entry| match entry.span.as_ref().filter(|_| entry.folded && entry.value.is_some()) {
            Some(span) => Some(list(span)),
            None => entry.value.clone(),
        };
        let valued = self.entries.iter().filter_map(|entry| Some((entry, text(entry)?)));
        valued
            .map(|(entry, value)| Shown {
                key: entry.key.clone(),
                value,
                origin: entry.span.as_ref().and_then(line),
                derived: entry.derived.clone(),
                replaced: entry.replaced.iter().filter_map(line).collect(),
            })
            .collect()
    }
}

/// A text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => _ = write!(out, "\\u{:04X}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A path as it counts, not as it was written.
fn path(value: &Checked) -> Option<String> {
    match value {
        Checked::Path(path) => Some(quoted(&path.to_string_lossy())),
        Checked::List(items) if !items.is_empty() => {
            let paths: Option<Vec<_>> = items.iter().map(path).collect();
            paths.map(|paths| format!("[{}]", paths.join(", ")))
        }
        _ => None,
    }
}

/// A value on one line, secrets hidden.
fn inline(body: &Body) -> String {
    match body {
        Body::Text(text) => quoted(text),
        Body::Integer(number) => number.to_string(),
        Body::Float(number) => format!("{number:?}"),
        Body::Bool(value) => value.to_string(),
        Body::Date(date) => date.clone(),
        // Who shows it has it read again.
        Body::List(List::Folded) => String::new(),
        Body::List(List::Kept(items)) => {
            format!("[{}]", items.iter().map(|item| inline(&item.body)).collect::<Vec<_>>().join(", "))
        }
        Body::Table(table) => {
            let entry = |(key, node): (&String, &Node)| {
                let value = if is_secret_key(key) { HIDDEN.to_owned() } else { inline(&node.body) };
                format!("{} = {value}", KeyPath::of(&[key]).dotted())
            };
            format!("{{ {} }}", table.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

/// One line a value: key, value, and after a `#` its file and line, or that it is a default.
pub fn render_listing(shown: &[Shown]) -> String {
    /// Columns beyond which the origins are not aligned any more.
    const ALIGNED_MAX: usize = 60;
    let line = |shown: &Shown| format!("{} = {}", shown.key, shown.value);
    let width = |text: &str| text.chars().count();
    let widest = shown.iter().map(|s| width(&line(s))).filter(|w| *w <= ALIGNED_MAX).max().unwrap_or(0);
    let mut out = String::new();
    for value in shown {
        let text = line(value);
        let origin = match (&value.origin, &value.derived) {
            (Some((path, line)), _) => format!("{}:{line}", path.display()),
            (None, Some(from)) => format!("default: {from}"),
            (None, None) => "default".to_owned(),
        };
        let replaced: Vec<_> = value.replaced.iter().map(|(path, line)| format!("{}:{line}", path.display())).collect();
        let replaced =
            if replaced.is_empty() { String::new() } else { format!(", in place of {}", replaced.join(", ")) };
        let gap = " ".repeat(widest.saturating_sub(width(&text)));
        _ = writeln!(out, "{text}{gap}  # {origin}{replaced}");
    }
    out
}

/// The same for programs: a list of objects with `key`, `value`, `file`, `line`, `default`, `from`, `replaced`.
pub fn listing_json(shown: &[Shown]) -> serde_json::Value {
    let place = |(path, line): &(PathBuf, u32)| json!({ "file": path.to_string_lossy(), "line": line });
    let entry = |value: &Shown| {
        json!({
            "key": value.key,
            "value": value.value,
            "file": value.origin.as_ref().map(|(path, _)| path.to_string_lossy()),
            "line": value.origin.as_ref().map(|(_, line)| line),
            "default": value.origin.is_none(),
            "from": value.derived,
            "replaced": value.replaced.iter().map(place).collect::<Vec<_>>(),
        })
    };
    shown.iter().map(entry).collect()
}
