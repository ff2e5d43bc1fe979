//! What was written: one tree a file, every key and value with its span; and the merge of several.
//!
//! Invariants: nesting is bounded (the parser's limit); numbers fit 64 bit; a node that replaced others remembers them.
//!
//! A node with its places takes ten times its text, and a configuration may list a hundred thousand points: so the long
//! lists in the `config` tables of sources are folded ([`fold`]) and read again by whoever looks at them, one at a time.

use std::borrow::Cow;

use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Severity};
use super::files::{File, Files, Span};

/// Largest file that is looked at.
const FILE_BYTES_MAX: usize = 4 << 20;

/// Syntax errors shown of one file.
const SYNTAX_ERRORS_MAX: usize = 20;

/// Bytes of text from which on a list is folded.
const FOLDED_FROM: usize = 16 << 10;

/// A value with its places.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// Its key, if it has one.
    pub key: Option<Span>,
    /// The value; the header of a table that has one.
    pub span: Span,
    /// What earlier files said.
    pub replaced: Vec<Span>,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Date(String),
    List(List),
    Table(Table),
}

/// The elements of a list.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum List {
    Kept(Vec<Node>),
    /// They stand in the file, at the node's span, and nowhere else.
    Folded,
}

/// Entries by their names, in their order. A list, because a configuration with ten thousand points has as many
/// tables of three or four entries, for each of which a map reserves room for eleven.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table(Vec<(String, Node)>);

impl Table {
    /// Empty.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    fn at(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }

    pub fn get(&self, name: &str) -> Option<&Node> {
        self.at(name).ok().and_then(|at| self.0.get(at)).map(|(_, node)| node)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        self.at(name).ok().and_then(|at| self.0.get_mut(at)).map(|(_, node)| node)
    }

    pub fn remove(&mut self, name: &str) -> Option<Node> {
        self.at(name).ok().map(|at| self.0.remove(at).1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&String, &Node)> {
        self.0.iter().map(|(name, node)| (name, node))
    }

    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.0.iter().map(|(name, _)| name)
    }

    /// Takes entries in that are not there yet; sorted once, whatever their order.
    fn extend(&mut self, entries: Vec<(String, Node)>) {
        if !entries.is_empty() {
            self.0.extend(entries);
            self.0.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
    }
}

impl FromIterator<(String, Node)> for Table {
    /// Of two with one name the first stays.
    fn from_iter<I: IntoIterator<Item = (String, Node)>>(entries: I) -> Self {
        let mut table = Self::new();
        table.extend(entries.into_iter().collect());
        table.0.dedup_by(|later, first| later.0 == first.0);
        table.0.shrink_to_fit();
        table
    }
}

impl IntoIterator for Table {
    type Item = (String, Node);
    type IntoIter = std::vec::IntoIter<(String, Node)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Body {
    /// With its article.
    pub fn what(&self) -> &'static str {
        match self {
            Body::Text(_) => "a text",
            Body::Integer(_) => "a whole number",
            Body::Float(_) => "a number with a fraction",
            Body::Bool(_) => "true or false",
            Body::Date(_) => "a date",
            Body::List(_) => "a list",
            Body::Table(_) => "a table",
        }
    }
}

impl Node {
    /// One step down.
    pub fn child(&self, step: &str, files: &Files) -> Option<Cow<'_, Node>> {
        match &self.body {
            Body::Table(table) => table.get(step).map(Cow::Borrowed),
            Body::List(_) => {
                let index = step.parse::<usize>().ok()?;
                match self.items(files) {
                    Cow::Borrowed(items) => items.get(index).map(Cow::Borrowed),
                    Cow::Owned(items) => items.into_iter().nth(index).map(Cow::Owned),
                }
            }
            _ => None,
        }
    }

    /// The elements of a list; of anything else none.
    pub fn items(&self, files: &Files) -> Cow<'_, [Node]> {
        match &self.body {
            Body::List(List::Kept(items)) => Cow::Borrowed(items),
            Body::List(List::Folded) => Cow::Owned(read_again(self.span, files)),
            _ => Cow::Borrowed(&[]),
        }
    }

    /// The same with every list in it kept.
    pub fn unfolded(&self, files: &Files) -> Node {
        let body = match &self.body {
            Body::List(_) => {
                Body::List(List::Kept(self.items(files).iter().map(|item| item.unfolded(files)).collect()))
            }
            Body::Table(table) => {
                Body::Table(table.iter().map(|(name, node)| (name.clone(), node.unfolded(files))).collect())
            }
            other => other.clone(),
        };
        Node { body, key: self.key, span: self.span, replaced: self.replaced.clone() }
    }

    pub fn empty(file: usize) -> Node {
        let span = Span { file, start: 0, end: 0 };
        Node { key: None, span, replaced: Vec::new(), body: Body::Table(Table::new()) }
    }
}

/// One file, read as far as it can be.
pub(super) struct Parsed {
    pub node: Node,
    /// Syntax errors.
    pub errors: Vec<Diagnostic>,
    /// Lines on which what was recovered means nothing: single ones, and all from one on.
    pub broken_lines: Vec<usize>,
    pub broken_from: Option<usize>,
}

/// Reads one file. Never fails: what could be read is in the tree, what not in the errors.
pub(super) fn parse(index: usize, file: &File) -> Parsed {
    let mut parsed =
        Parsed { node: Node::empty(index), errors: Vec::new(), broken_lines: Vec::new(), broken_from: None };
    if file.text.len() > FILE_BYTES_MAX {
        parsed.errors.push(syntax(file, 0, 0, "this file is larger than 4 MiB".to_owned(), None));
        return parsed;
    }
    let (table, errors) = DeTable::parse_recoverable(&file.text);
    let mut reader = Reader { index, file, base: 0, errors: Vec::new(), unclosed: None };
    parsed.node.body = Body::Table(reader.table(table.get_ref()));
    let Reader { errors: bad_numbers, unclosed, .. } = reader;
    let mut found = Vec::new();
    let is_unclosed = |error: &toml::de::Error| {
        error.message().starts_with("unclosed array") || error.message().starts_with("unclosed inline table")
    };
    let unclosed = unclosed.filter(|_| errors.iter().any(is_unclosed));
    if let Some(start) = unclosed {
        let message = "this bracket is never closed".to_owned();
        found.push((start, syntax(file, start, start + 1, message, Some("close it with `]` or `}`".to_owned()))));
        parsed.broken_from = Some(file.line_index(start));
    }
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        if error.message().starts_with("unclosed table") {
            // What follows a torn header belongs nobody knows where.
            let line = file.line_index(span.start);
            parsed.broken_from = Some(parsed.broken_from.map_or(line, |from| from.min(line)));
        }
        if unclosed.is_none_or(|start| span.start < start) {
            let hint = syntax_hint(error.message(), file.text.get(span.clone()).unwrap_or_default());
            let message = match error.message() {
                "recursion limit" => "keys, lists or tables are nested too deeply here".to_owned(),
                message => message.to_owned(),
            };
            found.push((span.start, syntax(file, span.start, span.end, message, hint)));
        }
    }
    found.extend(bad_numbers);
    found.sort_by_key(|(start, _)| *start);
    // One error a line: what follows on it comes of the first.
    found.dedup_by_key(|(start, _)| file.line_index(*start));
    parsed.broken_lines = found.iter().map(|(start, _)| file.line_index(*start)).collect();
    let more = found.len().saturating_sub(SYNTAX_ERRORS_MAX);
    parsed.errors = found.into_iter().map(|(_, error)| error).take(SYNTAX_ERRORS_MAX).collect();
    if let Some(last) = parsed.errors.last_mut().filter(|_| more > 0) {
        last.hint = Some(format!("{more} more syntax errors in this file are not shown"));
    }
    parsed
}

/// Folds the long lists in the `config` tables of sources. Only of a file without errors.
pub(super) fn fold(root: &mut Node, file: &File) {
    let Body::Table(root) = &mut root.body else { return };
    let Some(Node { body: Body::Table(sources), .. }) = root.get_mut("source") else { return };
    for (_, source) in &mut sources.0 {
        if let Body::Table(source) = &mut source.body
            && let Some(config) = source.get_mut("config")
        {
            fold_below(config, file);
        }
    }
}

fn fold_below(node: &mut Node, file: &File) {
    let span = node.span;
    match &mut node.body {
        Body::Table(table) => table.0.iter_mut().for_each(|(_, node)| fold_below(node, file)),
        Body::List(List::Kept(items)) => {
            // What was written as tables with headers of their own does not stand in one place.
            let is_in = |item: &Node| span.start < item.span.start && item.span.end < span.end;
            let written = file.text.get(span.start..span.end).unwrap_or_default();
            let is_whole = written.starts_with('[') && written.ends_with(']') && items.iter().all(is_in);
            if is_whole && written.len() >= FOLDED_FROM {
                node.body = Body::List(List::Folded);
            }
        }
        _ => {}
    }
}

/// The elements of a list that was folded.
fn read_again(span: Span, files: &Files) -> Vec<Node> {
    let Some(file) = files.0.get(span.file) else { return Vec::new() };
    // It has been read before: there is nothing new to say of it.
    let Ok(value) = DeValue::parse(file.text.get(span.start..span.end).unwrap_or_default()) else { return Vec::new() };
    let mut reader = Reader { index: span.file, file, base: span.start, errors: Vec::new(), unclosed: None };
    match reader.value(value.span(), value.get_ref()).body {
        Body::List(List::Kept(items)) => items,
        _ => Vec::new(),
    }
}

fn syntax(file: &File, start: usize, end: usize, message: String, hint: Option<String>) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code: "syntax",
        place: Some(file.place(start, end)),
        message,
        hint,
        related: None,
    }
}

/// What would be right, for the slips that are made most.
fn syntax_hint(message: &str, found: &str) -> Option<String> {
    if message.starts_with("string values must be quoted") {
        let plain = !found.is_empty() && found.len() < 80 && !found.contains(['"', '\n', '\\']);
        return Some(if plain {
            format!("text stands in quotes: \"{found}\"")
        } else {
            "a value is missing".to_owned()
        });
    }
    if message.starts_with("duplicate key") {
        return Some("a key, and a [table], stands once in a file".to_owned());
    }
    if message.starts_with("invalid basic string") || message.starts_with("invalid literal string") {
        return Some("is the closing quote missing?".to_owned());
    }
    None
}

/// Turns the parser's tree into ours.
struct Reader<'a> {
    index: usize,
    file: &'a File,
    /// Where in the file it begins.
    base: usize,
    errors: Vec<(usize, Diagnostic)>,
    /// Start of the first list or table without its closing bracket.
    unclosed: Option<usize>,
}

impl Reader<'_> {
    fn span(&self, range: std::ops::Range<usize>) -> Span {
        Span { file: self.index, start: self.base + range.start, end: self.base + range.end }
    }

    fn table(&mut self, table: &DeTable<'_>) -> Table {
        let entries = table.iter().map(|(key, value)| {
            let mut node = self.value(value.span(), value.get_ref());
            node.key = Some(self.span(key.span()));
            (key.get_ref().to_string(), node)
        });
        entries.collect()
    }

    fn value(&mut self, range: std::ops::Range<usize>, value: &DeValue<'_>) -> Node {
        let written = self.file.text.get(self.base + range.start..self.base + range.end).unwrap_or_default();
        let body = match value {
            DeValue::String(text) => Body::Text(text.to_string()),
            DeValue::Boolean(value) => Body::Bool(*value),
            DeValue::Datetime(date) => Body::Date(date.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Body::Integer(number),
                Err(_) => self.number_error(&range, "this number does not fit 64 bit"),
            },
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() || written.contains("inf") || written.contains("nan") => {
                    Body::Float(number)
                }
                _ => self.number_error(&range, "this number does not fit 64 bit floating point"),
            },
            DeValue::Array(items) => {
                self.note_unclosed(&range, written, '[', ']');
                let items = items.iter().map(|item| self.value(item.span(), item.get_ref()));
                Body::List(List::Kept(items.collect()))
            }
            DeValue::Table(table) => {
                self.note_unclosed(&range, written, '{', '}');
                Body::Table(self.table(table))
            }
        };
        Node { key: None, span: self.span(range), replaced: Vec::new(), body }
    }

    fn number_error(&mut self, range: &std::ops::Range<usize>, message: &str) -> Body {
        self.errors.push((range.start, syntax(self.file, range.start, range.end, message.to_owned(), None)));
        Body::Integer(0)
    }

    fn note_unclosed(&mut self, range: &std::ops::Range<usize>, written: &str, open: char, close: char) {
        if written.starts_with(open) && !written.ends_with(close) {
            self.unclosed = Some(self.unclosed.map_or(range.start, |start| start.min(range.start)));
        }
    }
}

/// Merges `over` into `under`, key by key; what is no table in both is replaced whole. Two drop-ins (every file but the
/// first) that say one thing are worth a warning.
pub(super) fn merge(under: &mut Node, over: Node, files: &Files, warnings: &mut Vec<Diagnostic>) {
    let Node { key, span, replaced, body } = over;
    match (&mut under.body, body) {
        (Body::Table(base), Body::Table(table)) => {
            let mut new = Vec::new();
            for (name, node) in table {
                match base.get_mut(&name) {
                    Some(there) => merge(there, node, files, warnings),
                    None => new.push((name, node)),
                }
            }
            base.extend(new);
        }
        (_, body) => {
            if under.span.file > 0 {
                let earlier = files.place(under.key.unwrap_or(under.span));
                warnings.push(Diagnostic {
                    severity: Severity::Warning,
                    code: "set-twice",
                    place: files.place(key.unwrap_or(span)),
                    message: "two drop-ins set this key; this one wins".to_owned(),
                    hint: Some("set it in one of them only".to_owned()),
                    related: earlier.map(|place| (place, "also set here".to_owned())),
                });
            }
            let mut history = std::mem::take(&mut under.replaced);
            history.push(under.span);
            history.extend(replaced);
            *under = Node { key, span, replaced: history, body };
        }
    }
}

/// Of two keys that exclude each other, the one in the later file wins like any other key. In one file both stay, and
/// are an error later.
pub(super) fn prefer_later(table: &mut Node, one: &str, other: &str) {
    let Body::Table(table) = &mut table.body else { return };
    let (Some(a), Some(b)) = (table.get(one), table.get(other)) else { return };
    let (winner, loser) = match a.span.file.cmp(&b.span.file) {
        std::cmp::Ordering::Less => (other, one),
        std::cmp::Ordering::Greater => (one, other),
        std::cmp::Ordering::Equal => return,
    };
    let Some(gone) = table.remove(loser) else { return };
    if let Some(stays) = table.get_mut(winner) {
        stays.replaced.push(gone.span);
    }
}
