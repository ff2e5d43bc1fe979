//! What checking carries along: the files, the merged tree, and what it found.

use std::fmt;
use std::path::Path;

use super::Environment;
use super::diagnostic::{Diagnostic, Place, Severity};
use super::files::{Files, Span};
use super::forms::Fault;
use super::listing::Listing;
use super::tree::{Body, Node};

/// Where in the tree: names of keys, numbers of list items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyPath(pub Vec<String>);

impl KeyPath {
    pub fn root() -> KeyPath {
        KeyPath(Vec::new())
    }

    pub fn of(steps: &[&str]) -> KeyPath {
        KeyPath(steps.iter().map(|step| (*step).to_owned()).collect())
    }

    pub fn key(&self, name: &str) -> KeyPath {
        let mut steps = self.0.clone();
        steps.push(name.to_owned());
        KeyPath(steps)
    }

    /// As TOML writes a dotted key.
    pub fn dotted(&self) -> String {
        self.0.iter().map(|step| dotted_step(step)).collect::<Vec<_>>().join(".")
    }
}

fn dotted_step(step: &str) -> String {
    let bare = !step.is_empty() && step.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare { step.to_owned() } else { format!("\"{}\"", step.escape_debug()) }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("this file") } else { write!(f, "[{}]", self.dotted()) }
    }
}

/// Which part of an entry a diagnostic points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    Key,
    Value,
}

/// The merged tree and its files: from a path to a place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Written {
    pub files: Files,
    pub tree: Node,
}

impl Written {
    /// What stands at a path of tables.
    pub fn node(&self, path: &KeyPath) -> Option<&Node> {
        path.0.iter().try_fold(&self.tree, |node, step| match &node.body {
            Body::Table(table) => table.get(step),
            _ => None,
        })
    }

    /// Whether a file says something at this path.
    pub fn has(&self, path: &KeyPath) -> bool {
        self.has_below(&self.tree, &path.0)
    }

    fn has_below(&self, node: &Node, steps: &[String]) -> bool {
        let Some((step, rest)) = steps.split_first() else { return true };
        node.child(step, &self.files).is_some_and(|child| self.has_below(&child, rest))
    }

    /// The span of what is at a path, or of the nearest thing above it that is in a file.
    pub fn span(&self, path: &KeyPath, spot: Spot) -> Option<Span> {
        self.span_below(&self.tree, &path.0, spot)
    }

    /// The same from a node on.
    pub fn span_below(&self, node: &Node, steps: &[String], spot: Spot) -> Option<Span> {
        let (step, rest) = steps.split_first()?;
        let child = node.child(step, &self.files)?;
        let here = match (rest, spot) {
            ([], Spot::Key) => child.key.unwrap_or(child.span),
            _ => child.span,
        };
        self.span_below(&child, rest, spot).or(Some(here))
    }

    pub fn place(&self, path: &KeyPath, spot: Spot) -> Option<Place> {
        self.span(path, spot).and_then(|span| self.files.place(span))
    }
}

/// State of one checking.
pub(super) struct Context<'a> {
    pub written: &'a Written,
    pub env: &'a Environment,
    pub found: Vec<Diagnostic>,
    pub listing: Listing,
    /// Keys that unknown ones were probably meant to be. One slip is one error: these are not missing as well.
    pub misspelt: Vec<KeyPath>,
}

impl<'a> Context<'a> {
    /// The span of what is in no file.
    pub const NOWHERE: Span = Span { file: usize::MAX, start: 0, end: 0 };

    pub fn new(written: &'a Written, env: &'a Environment) -> Context<'a> {
        Context { written, env, found: Vec::new(), listing: Listing::default(), misspelt: Vec::new() }
    }

    /// Whether a file says something at this path.
    pub fn is_written(&self, path: &KeyPath) -> bool {
        self.written.has(path)
    }

    /// Folder of the file that a span is in.
    pub fn folder(&self, span: Span) -> &'a Path {
        self.written.files.0.get(span.file).map_or(Path::new(""), |file| file.folder())
    }

    pub fn error(&mut self, code: &'static str, at: &KeyPath, spot: Spot, message: String, hint: Option<String>) {
        let place = self.written.place(at, spot);
        self.found.push(Diagnostic { severity: Severity::Error, code, place, message, hint, related: None });
    }

    pub fn warning(&mut self, code: &'static str, at: &KeyPath, message: &str, hint: &str) {
        self.found.push(Diagnostic {
            severity: Severity::Warning,
            code,
            place: self.written.place(at, Spot::Value),
            message: message.to_owned(),
            hint: Some(hint.to_owned()),
            related: None,
        });
    }

    /// An error about two places.
    pub fn clash(&mut self, code: &'static str, at: &KeyPath, other: (&KeyPath, &str), message: String, hint: &str) {
        self.error(code, at, Spot::Value, message, Some(hint.to_owned()));
        let is_elsewhere = self.is_written(other.0) && at != other.0;
        let place = self.written.place(other.0, Spot::Value).filter(|_| is_elsewhere);
        let related = place.map(|place| (place, other.1.to_owned()));
        if let Some(last) = self.found.last_mut() {
            last.related = related;
        }
    }

    /// An error at the part of a text that a fault names.
    pub fn fault(&mut self, code: &'static str, at: &KeyPath, spot: Spot, fault: Fault) {
        let mut span = self.written.span(at, spot);
        if let (Some(found), Some(part)) = (span, &fault.part) {
            span = self.written.files.0.get(found.file).map(|file| file.part(found, part));
        }
        self.fault_at(code, span, fault);
    }

    /// An error at a place that is known.
    pub fn fault_at(&mut self, code: &'static str, span: Option<Span>, fault: Fault) {
        let place = span.and_then(|span| self.written.files.place(span));
        let Fault { message, hint, .. } = fault;
        self.found.push(Diagnostic { severity: Severity::Error, code, place, message, hint, related: None });
    }
}
