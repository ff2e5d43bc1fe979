//! A source's `config` table, which comes as JSON: a small reader, and the problems that `check` reports.
//!
//! Plugins that read large documents may bring a crate of their own; this one keeps small plugins small.

pub use crate::bindings::exports::outstation::plugin::sensor::Problem;

use std::time::Duration;

/// How deep arrays and tables may stand in one another.
const DEPTH_MAX: u32 = 64;

/// What stands in a configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true`, `false`.
    Boolean(bool),
    /// A number without fraction and exponent that fits.
    Integer(i64),
    /// Any other number.
    Real(f64),
    /// Text.
    Text(String),
    /// `[..]`
    Array(Vec<Value>),
    /// `{..}`, in the order in which it was written.
    Table(Vec<(String, Value)>),
}

impl Value {
    /// What stands under `key`, where this is a table that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Of a table: its entries. Of anything else: none.
    pub fn entries(&self) -> &[(String, Self)] {
        match self {
            Self::Table(entries) => entries,
            _ => &[],
        }
    }

    /// The elements, where this is an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(elements) => Some(elements),
            _ => None,
        }
    }

    /// The text, where this is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// True or false, where this is one of them.
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// The number, where this is a whole one.
    pub const fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// The number, where this is one.
    pub const fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(value) => Some(*value as f64),
            Self::Real(value) => Some(*value),
            _ => None,
        }
    }

    /// The duration, where this is one as in the agent's own configuration: a whole number and its unit, `"250ms"`,
    /// `"10s"`, `"5m"`, `"2h"`, `"30d"`.
    pub fn as_duration(&self) -> Option<Duration> {
        let text = self.as_str()?;
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(milliseconds).map(Duration::from_millis)
    }

    /// What it is, for messages.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) | Self::Real(_) => "a number",
            Self::Text(_) => "a string",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

/// What is wrong with a configuration.
#[derive(Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Something is wrong at `path`, a JSON pointer: `/points/3/address`.
    pub fn add(&mut self, path: &str, message: impl Into<String>) {
        self.0.push(Problem { path: path.to_owned(), message: message.into(), hint: None });
    }

    /// Something is wrong at `path`, and `hint` says what would be right.
    pub fn add_with_hint(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Problem { path: path.to_owned(), message: message.into(), hint: Some(hint.into()) });
    }

    /// Every key of the table at `path` must be one of `known`.
    pub fn unknown_keys(&mut self, path: &str, table: &Value, known: &[&str]) {
        for (key, _) in table.entries() {
            if !known.contains(&key.as_str()) {
                let hint = if known.is_empty() { "it takes no keys".to_owned() } else { suggestion(key, known) };
                self.add_with_hint(&format!("{path}/{}", pointer(key)), format!("unknown key `{key}`"), hint);
            }
        }
    }

    /// What was found so far.
    pub fn list(&self) -> &[Problem] {
        &self.0
    }

    pub(crate) fn into_list(self) -> Vec<Problem> {
        self.0
    }
}

/// A key as a part of a JSON pointer.
pub fn pointer(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// "did you mean `x`?", or, where nothing is near, all that there is.
pub fn suggestion(word: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|&candidate| (distance(word, candidate), candidate)).min();
    match nearest {
        Some((steps, candidate)) if steps <= 1 + word.len() / 3 => format!("did you mean `{candidate}`?"),
        _ => format!("one of: {}", known.join(", ")),
    }
}

/// How many letters must be put in, taken out or changed.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (b, cell) in to.chars().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            left = (diagonal + usize::from(a != b)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// A table with one long list in it, whose elements are read one at a time: a tree of ten thousand points takes
/// megabytes, of memory that a plugin never gives back.
#[derive(Clone, Debug, PartialEq)]
pub struct Document<'d> {
    /// The table. In the place of the list stands an empty one.
    pub table: Value,
    /// How many elements the list has.
    pub length: usize,
    list: &'d str,
}

impl<'d> Document<'d> {
    /// Reads a JSON document; the list stands under `key`.
    pub fn parse(document: &'d str, key: &str) -> Result<Self, String> {
        let mut reader = Reader { rest: document, length: document.len() };
        let (mut entries, mut list, mut length) = (Vec::new(), None, 0);
        reader.space();
        let table = if reader.take("{") {
            reader.list("}", |reader| {
                let name = reader.key()?;
                reader.space();
                let value = if list.is_none() && name == key && reader.rest.starts_with('[') {
                    let begin = reader.rest;
                    length = reader.pass_list()?;
                    list = begin.get(1..begin.len() - reader.rest.len());
                    Value::Array(Vec::new())
                } else {
                    reader.value(1)?
                };
                entries.push((name, value));
                Ok(())
            })?;
            Value::Table(entries)
        } else {
            reader.value(0)?
        };
        reader.end()?;
        Ok(Self { table, length, list: list.unwrap_or_default() })
    }

    /// The elements of the list.
    pub fn elements(&self) -> impl Iterator<Item = Value> + use<'d> {
        let mut reader = Reader { rest: self.list, length: self.list.len() };
        // It was read before, and was sound.
        std::iter::from_fn(move || {
            reader.space();
            reader.take(",");
            reader.value(1).ok()
        })
    }
}

/// Reads a JSON document.
pub fn parse(document: &str) -> Result<Value, String> {
    let mut reader = Reader { rest: document, length: document.len() };
    let value = reader.value(0)?;
    reader.end()?;
    Ok(value)
}

struct Reader<'d> {
    rest: &'d str,
    length: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: u32) -> Result<Value, String> {
        if depth > DEPTH_MAX {
            return Err(self.error("too deep"));
        }
        self.space();
        for (word, value) in [("null", Value::Null), ("true", Value::Boolean(true)), ("false", Value::Boolean(false))] {
            if self.take(word) {
                return Ok(value);
            }
        }
        if self.take("[") {
            let mut elements = Vec::new();
            self.list("]", |reader| {
                elements.push(reader.value(depth + 1)?);
                Ok(())
            })?;
            return Ok(Value::Array(elements));
        }
        if self.take("{") {
            let mut entries = Vec::new();
            self.list("}", |reader| {
                entries.push((reader.key()?, reader.value(depth + 1)?));
                Ok(())
            })?;
            return Ok(Value::Table(entries));
        }
        if self.rest.starts_with('"') {
            return self.text().map(Value::Text);
        }
        self.number()
    }

    /// Of an entry of a table, with its colon.
    fn key(&mut self) -> Result<String, String> {
        self.space();
        let key = self.text()?;
        self.space();
        if self.take(":") { Ok(key) } else { Err(self.error("a colon is missing")) }
    }

    /// Reads over a list; gives how long it is.
    fn pass_list(&mut self) -> Result<usize, String> {
        let mut length = 0;
        self.take("[");
        self.list("]", |reader| {
            length += 1;
            reader.value(1).map(drop)
        })?;
        Ok(length)
    }

    fn end(&mut self) -> Result<(), String> {
        self.space();
        if self.rest.is_empty() { Ok(()) } else { Err(self.error("something after the end")) }
    }

    fn list(&mut self, end: &str, mut one: impl FnMut(&mut Self) -> Result<(), String>) -> Result<(), String> {
        self.space();
        if self.take(end) {
            return Ok(());
        }
        loop {
            one(self)?;
            self.space();
            if self.take(end) {
                return Ok(());
            }
            if !self.take(",") {
                return Err(self.error("a comma is missing"));
            }
        }
    }

    fn number(&mut self) -> Result<Value, String> {
        let end = self.rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'));
        let (digits, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let value = match (digits.parse::<i64>(), digits.parse::<f64>()) {
            (Ok(whole), _) => Value::Integer(whole),
            (_, Ok(real)) if real.is_finite() => Value::Real(real),
            _ => return Err(self.error("no value")),
        };
        self.rest = rest;
        Ok(value)
    }

    fn text(&mut self) -> Result<String, String> {
        if !self.take("\"") {
            return Err(self.error("a string is missing"));
        }
        let mut text = String::new();
        loop {
            let end = self.rest.find(['"', '\\']).ok_or_else(|| self.error("a string without an end"))?;
            let (plain, rest) = self.rest.split_at(end);
            text.push_str(plain);
            self.rest = rest;
            if self.take("\"") {
                return Ok(text);
            }
            text.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let mut letters = self.rest.chars();
        letters.next();
        let letter = letters.next().ok_or_else(|| self.error("a string without an end"))?;
        self.rest = letters.as_str();
        Ok(match letter {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            '"' | '\\' | '/' => letter,
            'u' => self.unicode()?,
            _ => return Err(self.error("an unknown escape")),
        })
    }

    fn unicode(&mut self) -> Result<char, String> {
        let first = self.hex()?;
        let code = if (0xd800..0xdc00).contains(&first) && self.take("\\u") {
            let second = self.hex()?;
            0x10000 + ((first - 0xd800) << 10) + (second.wrapping_sub(0xdc00) & 0x3ff)
        } else {
            first
        };
        char::from_u32(code).ok_or_else(|| self.error("half a character"))
    }

    fn hex(&mut self) -> Result<u32, String> {
        let digits = self.rest.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let code = digits.ok_or_else(|| self.error("an unknown escape"))?;
        self.rest = self.rest.get(4..).unwrap_or_default();
        Ok(code)
    }

    fn take(&mut self, word: &str) -> bool {
        match self.rest.strip_prefix(word) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn error(&self, what: &str) -> String {
        format!("{what} at byte {}", self.length - self.rest.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn documents_are_read() {
        let value = parse(r#" {"a": [1, -2.5, true, null, "x\n\u00e9\ud83d\ude00"], "b": {}} "#).unwrap();
        let a = value.get("a").and_then(Value::as_array).unwrap();
        assert_eq!(
            a,
            [Value::Integer(1), Value::Real(-2.5), Value::Boolean(true), Value::Null, Value::Text("x\né😀".to_owned())]
        );
        assert_eq!(value.get("b"), Some(&Value::Table(Vec::new())));
    }

    #[test]
    fn a_long_list_is_read_one_by_one() {
        for list in ["[]", "[ ]", "[1]", r#"[ {"n": "]\""} , [2, 3],"x"]"#] {
            let text = format!(r#" {{"a": 1, "list": {list} , "b": "]"}} "#);
            let (document, whole) = (Document::parse(&text, "list").unwrap(), parse(&text).unwrap());
            let elements: Vec<Value> = document.elements().collect();
            assert_eq!(Some(elements.as_slice()), whole.get("list").and_then(Value::as_array), "{text}");
            assert_eq!((document.length, document.table.get("b")), (elements.len(), whole.get("b")), "{text}");
            assert_eq!(document.table.get("list"), Some(&Value::Array(Vec::new())));
            // What is no list is a value like any other.
            let document = Document::parse(&text, "a").unwrap();
            assert_eq!((document.elements().count(), document.table), (0, whole));
        }
        assert_eq!(Document::parse("7", "list").unwrap().table, Value::Integer(7));
        for text in [
            "",
            "{",
            r#"{"list": [1 2]}"#,
            r#"{"list": [1,]}"#,
            r#"{"list": [1"#,
            r#"{"list": []} 2"#,
            r#"{"list" []}"#,
        ] {
            assert!(Document::parse(text, "list").is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        let read = |text: &str| Value::Text(text.to_owned()).as_duration();
        assert_eq!(read("20ms"), Some(Duration::from_millis(20)));
        assert_eq!(read("2h"), Some(Duration::from_secs(7200)));
        for text in ["", "20", "ms", "1.5s", "-1s", "20 ms", "1w", "18446744073709551615d"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(Value::Integer(20).as_duration(), None);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let deep = "[".repeat(100_000);
        for text in ["", "{", "[1 2]", "{\"a\" 1}", "\"", "\"\\q\"", "1 2", "nul", "--1", "\"\\ud800\"", &deep] {
            assert!(parse(text).is_err(), "{text:.20}");
        }
    }

    #[test]
    fn unknown_keys_come_with_a_hint() {
        let mut problems = Problems::default();
        problems.unknown_keys("", &parse(r#"{"grups": 1, "zzz": 2, "a/b": 3}"#).unwrap(), &["groups", "exclude"]);
        let list = problems.into_list();
        assert_eq!(list.first().and_then(|p| p.hint.as_deref()), Some("did you mean `groups`?"));
        assert_eq!(list.get(1).and_then(|p| p.hint.as_deref()), Some("one of: groups, exclude"));
        assert_eq!(list.get(2).map(|p| p.path.as_str()), Some("/a~1b"));
    }
}
