//! What was written, held against the schema: every fault becomes a diagnostic, every sound value a [`Checked`] one.
//!
//! Invariant: a value is missing from a [`Fields`] only if it is optional and absent, or if an error was reported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use registers::AddressRange;

use super::address::GpioLine;
use super::context::{Context, KeyPath, Spot};
use super::forms::{self, Fault};
use super::packed::Packed;
use super::schema::{Default, Key, Kind};
use super::suggest::nearest;
use super::tree::{self, Body, List, Node};
use super::url::{BrokerUrl, BusUrl, ProxyUrl};
use super::{sections, values};

/// A value of the right kind, in its range.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Checked {
    Text(String),
    Word(&'static str),
    Bool(bool),
    Integer(i64),
    Duration(Duration),
    Size(u64),
    Path(PathBuf),
    Broker(BrokerUrl),
    Proxy(ProxyUrl),
    Bus(BusUrl),
    Range(AddressRange),
    Line(GpioLine),
    List(Vec<Checked>),
    Table(Fields),
    /// A free table, as JSON.
    Json(Packed),
}

/// A table of sound values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fields(pub BTreeMap<String, Checked>);

impl Fields {
    /// A value by its key.
    pub fn value<T: Take>(&self, key: &str) -> Option<T> {
        self.0.get(key).and_then(T::take)
    }

    /// A table by its key.
    pub fn table(&self, key: &str) -> Option<&Fields> {
        match self.0.get(key) {
            Some(Checked::Table(fields)) => Some(fields),
            _ => None,
        }
    }
}

/// What can be taken out of a checked value.
pub(super) trait Take: Sized {
    fn take(value: &Checked) -> Option<Self>;
}

/// One line a type: which variant it comes from.
macro_rules! take {
    ($($type:ty: $pattern:pat => $value:expr;)+) => {
        $(impl Take for $type {
            fn take(value: &Checked) -> Option<Self> {
                match value { $pattern => $value, _ => None }
            }
        })+
    };
}

take! {
    bool: Checked::Bool(value) => Some(*value);
    u8: Checked::Integer(value) => u8::try_from(*value).ok();
    u16: Checked::Integer(value) => u16::try_from(*value).ok();
    u32: Checked::Integer(value) => u32::try_from(*value).ok();
    u64: Checked::Size(value) => Some(*value);
    String: Checked::Text(value) => Some(value.clone());
    &'static str: Checked::Word(value) => Some(value);
    Duration: Checked::Duration(value) => Some(*value);
    PathBuf: Checked::Path(value) => Some(value.clone());
    BrokerUrl: Checked::Broker(value) => Some(value.clone());
    ProxyUrl: Checked::Proxy(value) => Some(value.clone());
    BusUrl: Checked::Bus(value) => Some(value.clone());
    AddressRange: Checked::Range(value) => Some(*value);
    GpioLine: Checked::Line(value) => Some(value.clone());
    Packed: Checked::Json(text) => Some(text.clone());
}

impl<T: Take> Take for Vec<T> {
    fn take(value: &Checked) -> Option<Self> {
        match value {
            Checked::List(items) => items.iter().map(T::take).collect(),
            _ => None,
        }
    }
}

impl Context<'_> {
    /// Checks a table against its keys; an absent one gives the defaults.
    pub fn table(&mut self, path: &KeyPath, node: Option<&Node>, keys: &'static [Key]) -> Fields {
        let mut fields = Fields::default();
        let written = node.and_then(|node| if let Body::Table(table) = &node.body { Some(table) } else { None });
        for name in written.into_iter().flat_map(tree::Table::keys) {
            if !keys.iter().any(|key| key.name == name) {
                self.unknown_key(path, name, keys);
            }
        }
        for key in keys {
            let at = path.key(key.name);
            let value = match written.and_then(|table| table.get(key.name)) {
                Some(node) => self.value(&at, node, &key.kind),
                None => self.absent(path, &at, key),
            };
            if let Some(value) = value {
                fields.0.insert(key.name.to_owned(), value);
            }
        }
        fields
    }

    fn absent(&mut self, path: &KeyPath, at: &KeyPath, key: &'static Key) -> Option<Checked> {
        let body = match key.default {
            Default::Required(_) if self.misspelt.contains(at) => return None,
            Default::Required(example) => {
                let message = format!("`{}` is missing in {path}", key.name);
                self.error("missing-key", path, Spot::Value, message, Some(format!("add {example}")));
                return None;
            }
            Default::Nothing => return None,
            Default::Derived(from) => {
                self.listing.reserve(at, from);
                return None;
            }
            Default::EmptyTable => Body::Table(tree::Table::new()),
            Default::Text(text) => Body::Text(text.to_owned()),
            Default::Bool(value) => Body::Bool(value),
            Default::Integer(value) => Body::Integer(value),
            Default::EmptyList => Body::List(List::Kept(Vec::new())),
        };
        let node = Node { key: None, span: Context::NOWHERE, replaced: Vec::new(), body };
        self.value(at, &node, &key.kind)
    }

    fn unknown_key(&mut self, path: &KeyPath, name: &str, keys: &'static [Key]) {
        let at = path.key(name);
        let wanted = name.to_lowercase().replace('-', "_");
        let known = || keys.iter().map(|key| key.name);
        let by_alias = keys.iter().find(|key| key.aliases.contains(&wanted.as_str())).map(|key| key.name);
        let meant = known().find(|key| *key == wanted).or(by_alias).or_else(|| nearest(name, known()));
        let hint = match (name, meant) {
            (_, Some(meant)) if super::files::is_secret_key(name) => {
                format!("a secret never stands in this file: use `{meant}` or a systemd credential")
            }
            (_, Some(meant)) => format!("did you mean `{meant}`?"),
            (name, None) => match sections::HOMES.iter().find(|(_, keys)| keys.iter().any(|key| key.name == name)) {
                Some((home, _)) => format!("`{name}` belongs to {home}"),
                None => format!("known here: {}", known().collect::<Vec<_>>().join(", ")),
            },
        };
        let message = format!("unknown key `{}` in {path}", name.escape_debug());
        self.error("unknown-key", &at, Spot::Key, message, Some(hint));
        self.misspelt.extend(meant.map(|meant| path.key(meant)));
    }

    /// Checks one value against its kind.
    pub fn value(&mut self, at: &KeyPath, node: &Node, kind: &'static Kind) -> Option<Checked> {
        let checked = match (kind, &node.body) {
            (Kind::Later(why), _) => {
                let message = format!("{at} is not there yet: {why}");
                self.error("not-yet", at, Spot::Value, message, Some("take it out until then".to_owned()));
                return None;
            }
            (Kind::Either(kinds), body) => {
                return match kinds.iter().find(|kind| takes(kind, body)) {
                    Some(kind) => self.value(at, node, kind),
                    None => self.wrong_type(at, node, kind),
                };
            }
            (Kind::Table(keys), Body::Table(_)) => return Some(Checked::Table(self.table(at, Some(node), keys))),
            (Kind::Map { names, of }, Body::Table(table)) => {
                let mut fields = Fields::default();
                for (name, node) in table.iter() {
                    let at = at.key(name);
                    // What is in it is looked at in any case; under a bad name it goes no further.
                    let value = self.value(&at, node, of);
                    match (names.read)(name, Path::new("")) {
                        Ok(_) => _ = value.map(|value| fields.0.insert(name.clone(), value)),
                        Err(fault) => self.fault("bad-name", &at, Spot::Key, fault),
                    }
                }
                return Some(Checked::Table(fields));
            }
            (Kind::List { of, min }, Body::List(_)) => {
                let items = node.items(&self.written.files);
                if items.len() < *min {
                    return self.refuse(at, Fault::new("this list can't be empty"));
                }
                let quiet = self.listing.pause();
                let checked: Vec<_> =
                    items.iter().enumerate().map(|(i, item)| self.value(&at.key(&i.to_string()), item, of)).collect();
                self.listing.resume(quiet);
                Checked::List(checked.into_iter().collect::<Option<Vec<_>>>()?)
            }
            (Kind::Free, Body::Table(_)) => {
                let mut text = String::new();
                return self.json(at, node, &mut text).then(|| Checked::Json(text.as_str().into()));
            }
            (Kind::Bool, Body::Bool(value)) => Checked::Bool(*value),
            (Kind::Integer { min, max }, Body::Integer(value)) if (min..=max).contains(&value) => {
                Checked::Integer(*value)
            }
            (Kind::Integer { min, max }, Body::Integer(value)) => {
                let fault =
                    Fault::new(format!("{value} is out of range")).hint(format!("a number from {min} to {max}"));
                return self.refuse(at, fault);
            }
            (_, Body::Text(text)) => match self.text(node, kind, text) {
                Some(Ok(value)) => value,
                Some(Err(fault)) => return self.refuse(at, fault),
                None => return self.wrong_type(at, node, kind),
            },
            _ => return self.wrong_type(at, node, kind),
        };
        self.listing.value(at, node, Some(&checked));
        Some(checked)
    }

    fn refuse(&mut self, at: &KeyPath, fault: Fault) -> Option<Checked> {
        self.fault("bad-value", at, Spot::Value, fault);
        None
    }

    /// A value that is written as a text; `None` if this kind is not.
    fn text(&self, node: &Node, kind: &'static Kind, text: &str) -> Option<Result<Checked, Fault>> {
        Some(match kind {
            Kind::Text(form) => (form.read)(text, self.folder(node.span)),
            Kind::Word(words) => forms::word(text, words).map(Checked::Word),
            Kind::Duration { word: Some(word), .. } if *word == text => Ok(Checked::Word(word)),
            Kind::Duration { min, max, whole_seconds, word } => match values::duration(text) {
                None => {
                    let as_word = || word.and_then(|word| nearest(text, [word])).map(str::to_owned);
                    let meant = values::duration_meant(text).or_else(as_word).map(|meant| format!("write \"{meant}\""));
                    Err(Fault::new(format!("`{}` is no duration", text.escape_debug()))
                        .hint(meant.unwrap_or_else(|| expected(kind))))
                }
                Some(value) if value < *min || value > *max => {
                    Err(Fault::new(format!("{text} is out of range")).hint(expected(kind)))
                }
                Some(value) if *whole_seconds && value.subsec_nanos() > 0 => {
                    Err(Fault::new(format!("{text} is no whole number of seconds")).hint(expected(kind)))
                }
                Some(value) => Ok(Checked::Duration(value)),
            },
            Kind::Size { min, max } => match values::size(text) {
                None => {
                    let meant = values::size_meant(text).map(|meant| format!("write \"{meant}\""));
                    Err(Fault::new(format!("`{}` is no size", text.escape_debug()))
                        .hint(meant.unwrap_or_else(|| expected(kind))))
                }
                Some(value) if value < *min || value > *max => {
                    Err(Fault::new(format!("{text} is out of range")).hint(expected(kind)))
                }
                Some(value) => Ok(Checked::Size(value)),
            },
            _ => return None,
        })
    }

    fn wrong_type(&mut self, at: &KeyPath, node: &Node, kind: &'static Kind) -> Option<Checked> {
        let message = format!("expected {}, found {}", expected(kind), node.body.what());
        let hint = match (kind, &node.body) {
            (Kind::Duration { .. }, Body::Integer(n)) => Some(format!("with its unit: \"{n}s\"")),
            (Kind::Size { .. }, Body::Integer(n)) => Some(format!("with its unit: \"{n}B\"")),
            (Kind::Word(words), Body::Integer(n)) => {
                words.contains(&n.to_string().as_str()).then(|| format!("in quotes: \"{n}\""))
            }
            (Kind::Text(_), Body::Integer(n)) => Some(format!("in quotes: \"{n}\"")),
            (Kind::Bool, Body::Text(text)) if matches!(text.as_str(), "true" | "false") => {
                Some(format!("without quotes: {text}"))
            }
            (Kind::Bool, Body::Text(text)) if matches!(text.as_str(), "yes" | "on") => Some("write true".to_owned()),
            (Kind::Bool, Body::Text(text)) if matches!(text.as_str(), "no" | "off") => Some("write false".to_owned()),
            (Kind::Integer { .. }, Body::Text(text)) if text.parse::<i64>().is_ok() => {
                Some(format!("without quotes: {text}"))
            }
            (Kind::List { .. }, Body::Text(_) | Body::Integer(_)) => Some("in brackets: [..]".to_owned()),
            (Kind::Map { .. }, Body::List(_)) => Some(format!("each has its name: [{}.NAME]", at.dotted())),
            (Kind::Map { .. }, _) => Some(format!("a table with a name: [{}.NAME]", at.dotted())),
            (Kind::Either(kinds), Body::Text(_)) if kinds.iter().any(|kind| matches!(kind, Kind::List { .. })) => {
                Some("in brackets: [..]".to_owned())
            }
            _ => None,
        };
        self.error("wrong-type", at, Spot::Value, message, hint);
        None
    }

    /// A free table as JSON, at the end of `out`; the values in it are listed one by one. `false`: nothing is sound.
    fn json(&mut self, at: &KeyPath, node: &Node, out: &mut String) -> bool {
        if let Body::Table(table) = &node.body {
            return self.object(table, out, |cx, name, node, out| cx.json(&at.key(name), node, out));
        }
        let is_sound = self.plain_json(node, out);
        if is_sound {
            self.listing.value(at, node, None);
        }
        is_sound
    }

    /// The same of a part of one value.
    fn plain_json(&mut self, node: &Node, out: &mut String) -> bool {
        match &node.body {
            Body::Table(table) => return self.object(table, out, |cx, _, node, out| cx.plain_json(node, out)),
            Body::List(_) => {
                out.push('[');
                let begin = out.len();
                for item in node.items(&self.written.files).iter() {
                    let end = out.len();
                    if end > begin {
                        out.push(',');
                    }
                    if !self.plain_json(item, out) {
                        out.truncate(end);
                    }
                }
                out.push(']');
            }
            Body::Text(text) | Body::Date(text) => push_text(text, out),
            Body::Integer(number) => out.push_str(&number.to_string()),
            Body::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Body::Float(number) => match serde_json::Number::from_f64(*number) {
                Some(number) => out.push_str(&number.to_string()),
                None => {
                    let fault = Fault::new("a plugin can't be given inf or nan").hint("a finite number");
                    self.fault_at("bad-value", Some(node.span), fault);
                    return false;
                }
            },
        }
        true
    }

    /// A table, without what is not sound in it.
    fn object(
        &mut self,
        table: &tree::Table,
        out: &mut String,
        mut value: impl FnMut(&mut Self, &str, &Node, &mut String) -> bool,
    ) -> bool {
        out.push('{');
        let begin = out.len();
        for (name, node) in table.iter() {
            let end = out.len();
            if end > begin {
                out.push(',');
            }
            push_text(name, out);
            out.push(':');
            if !value(self, name, node, out) {
                out.truncate(end);
            }
        }
        out.push('}');
        true
    }
}

/// A JSON string.
fn push_text(text: &str, out: &mut String) {
    // A text always becomes one.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// Whether a kind is written in this type.
fn takes(kind: &Kind, body: &Body) -> bool {
    match kind {
        Kind::Bool => matches!(body, Body::Bool(_)),
        Kind::Integer { .. } => matches!(body, Body::Integer(_)),
        Kind::List { .. } => matches!(body, Body::List(_)),
        Kind::Table(_) | Kind::Map { .. } | Kind::Free => matches!(body, Body::Table(_)),
        Kind::Either(kinds) => kinds.iter().any(|kind| takes(kind, body)),
        Kind::Text(_) | Kind::Word(_) | Kind::Duration { .. } | Kind::Size { .. } => matches!(body, Body::Text(_)),
        Kind::Later(_) => true,
    }
}

/// What would be right, with its article.
pub(super) fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "true or false".to_owned(),
        Kind::Integer { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Text(form) => format!("{} as {}", form.what, form.example),
        Kind::Word(words) => {
            format!("one of {}", words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", "))
        }
        Kind::Duration { min, max, word, whole_seconds } => {
            let (min, max) = (values::show_duration(*min), values::show_duration(*max));
            let word = word.map(|word| format!(", or \"{word}\"")).unwrap_or_default();
            let whole = if *whole_seconds { " in whole seconds" } else { "" };
            format!("a duration{whole} as \"10s\", from \"{min}\" to \"{max}\"{word}")
        }
        Kind::Size { min, max } => {
            format!("a size as \"64MiB\", from \"{}\" to \"{}\"", values::show_size(*min), values::show_size(*max))
        }
        Kind::List { .. } => "a list".to_owned(),
        Kind::Table(_) | Kind::Map { .. } | Kind::Free => "a table".to_owned(),
        Kind::Either(kinds) => kinds.iter().map(expected).collect::<Vec<_>>().join(", or "),
        Kind::Later(_) => "nothing".to_owned(),
    }
}
