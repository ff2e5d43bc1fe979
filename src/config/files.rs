//! The texts, and the way from a span of bytes to a [`Place`] that people can read.
//!
//! Invariant: no secret leaves here. What looks like a password in a line is masked, character by character, so that
//! columns stay true.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Input;
use super::diagnostic::Place;

/// Longest part of a line that a place carries.
const SHOWN_CHARS_MAX: usize = 160;

/// Bytes of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Index of the file.
    pub file: usize,
    pub start: usize,
    pub end: usize,
}

/// A file with the starts of its lines.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct File {
    pub path: PathBuf,
    pub text: Arc<str>,
    starts: Vec<usize>,
}

impl File {
    pub fn new(input: &Input) -> File {
        let breaks = input.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        File {
            path: input.path.clone(),
            text: Arc::clone(&input.text),
            starts: std::iter::once(0).chain(breaks).collect(),
        }
    }

    /// Where relative paths count from.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Index of the line that holds a byte.
    pub fn line_index(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at).saturating_sub(1)
    }

    /// Start, and text without its end.
    fn line(&self, index: usize) -> (usize, &str) {
        let start = self.starts.get(index).copied().unwrap_or(self.text.len());
        let end = self.starts.get(index + 1).copied().unwrap_or(self.text.len());
        (start, self.text.get(start..end).unwrap_or_default().trim_end_matches(['\n', '\r']))
    }

    /// The first line of a span.
    pub fn place(&self, start: usize, end: usize) -> Place {
        let index = self.line_index(start);
        let (line_start, line) = self.line(index);
        let cut = |at: usize| {
            let mut at = at.saturating_sub(line_start).min(line.len());
            while !line.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let chars = |text: Option<&str>| text.map_or(0, |text| text.chars().count());
        let before = chars(line.get(..cut(start)));
        let length = chars(line.get(cut(start)..cut(end).max(cut(start)))).max(1);
        let (text, mark) = window(&mask(line), before);
        Place {
            path: self.path.clone(),
            line: count(index + 1),
            column: count(before + 1),
            length: count(length),
            text,
            mark: count(mark),
        }
    }

    /// A part of a text value, if it stands in the file as it was read.
    pub fn part(&self, span: Span, part: &str) -> Span {
        let written = self.text.get(span.start..span.end).unwrap_or_default();
        match written.find(part) {
            Some(at) if !part.is_empty() => Span { start: span.start + at, end: span.start + at + part.len(), ..span },
            _ => span,
        }
    }
}

/// All files, in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Files(pub Vec<File>);

impl Files {
    pub fn place(&self, span: Span) -> Option<Place> {
        self.0.get(span.file).map(|file| file.place(span.start, span.end))
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The part of a long line that holds the marked character, and where that is in it.
fn window(line: &str, mark: usize) -> (String, usize) {
    if line.chars().count() <= SHOWN_CHARS_MAX {
        return (line.to_owned(), mark);
    }
    let from = mark.saturating_sub(SHOWN_CHARS_MAX / 3);
    let shown: String = line.chars().skip(from).take(SHOWN_CHARS_MAX).collect();
    let cut_right = line.chars().count() > from + SHOWN_CHARS_MAX;
    let left = if from > 0 { "…" } else { "" };
    let right = if cut_right { "…" } else { "" };
    (format!("{left}{shown}{right}"), mark - from + usize::from(from > 0))
}

/// Whether the value of such a key is nobody's business.
pub(super) fn is_secret_key(key: &str) -> bool {
    const NAMED_ELSEWHERE: [&str; 2] = ["_file", "credential"];
    const SECRET: [&str; 6] = ["password", "passwd", "secret", "token", "passphrase", "private_key"];
    let key = key.to_lowercase().replace('-', "_");
    let is_key = matches!(key.as_str(), "pass" | "psk" | "apikey" | "api_key");
    (is_key || SECRET.iter().any(|word| key.contains(word))) && !NAMED_ELSEWHERE.iter().any(|end| key.ends_with(end))
}

/// A line with what looks like a secret replaced by `*`: values of secret keys, credentials in URLs.
pub(super) fn mask(line: &str) -> String {
    let mut hidden = vec![false; line.len()];
    let mut hide = |from: usize, to: usize| {
        hidden.iter_mut().take(to).skip(from).for_each(|hide| *hide = true);
    };
    for (at, _) in line.match_indices("://") {
        let from = at + 3;
        let rest = line.get(from..).unwrap_or_default();
        let end = rest.find(['"', '\'', ' ', ',', '\t']).unwrap_or(rest.len());
        if let Some(sign) = rest.get(..end).and_then(|authority| authority.rfind('@')) {
            hide(from, from + sign);
        }
    }
    for (at, _) in line.match_indices('=') {
        let before = line.get(..at).unwrap_or_default().trim_end().trim_end_matches(['"', '\'']);
        let key_start = before.rfind(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-'))).map_or(0, |i| i + 1);
        if is_secret_key(before.get(key_start..).unwrap_or_default()) {
            let rest = line.get(at + 1..).unwrap_or_default();
            let value = at + 1 + (rest.len() - rest.trim_start().len());
            hide(value, value + value_length(line.get(value..).unwrap_or_default()));
        }
    }
    let masked = line.char_indices().map(|(at, c)| if hidden.get(at) == Some(&true) { '*' } else { c });
    masked.collect()
}

/// Bytes of a value at the start of a text; to the end of the line where it is not closed.
fn value_length(text: &str) -> usize {
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) if !text.starts_with("\"\"\"") && !text.starts_with("'''") => {
            let mut escaped = false;
            for (at, c) in text.char_indices().skip(1) {
                match c {
                    c if c == quote && !escaped => return at + 1,
                    '\\' if quote == '"' => escaped = !escaped,
                    _ => escaped = false,
                }
            }
            text.len()
        }
        Some('"' | '\'' | '[' | '{') => text.len(),
        _ => text.find([',', '}', '#']).unwrap_or(text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters() {
        let file = File::new(&Input { path: "a.toml".into(), text: "x = 1\r\nä = \"ü\"\n".into() });
        let place = file.place(12, 16);
        assert_eq!((place.line, place.column, place.length, place.text.as_str()), (2, 5, 3, "ä = \"ü\""));
        let end = file.place(99, 120);
        assert_eq!((end.line, end.column, end.length), (3, 1, 1));
    }

    #[test]
    fn secrets_are_masked_and_columns_stay() {
        assert_eq!(mask("password = \"a\\\"b\" # x"), "password = ****** # x");
        assert_eq!(mask("{ user = \"u\", token = \"t\", x = 1 }"), "{ user = \"u\", token = ***, x = 1 }");
        assert_eq!(mask("url = \"mqtt://u:p@host:1\""), "url = \"mqtt://***@host:1\"");
        assert_eq!(mask("password_file = \"p\""), "password_file = \"p\"");
        assert_eq!(mask("api-key = abc"), "api-key = ***");
    }

    #[test]
    fn long_lines_are_cut_around_the_mark() {
        let line = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let (text, mark) = window(&line, 500);
        assert_eq!(text.chars().nth(mark), Some('X'));
        assert!(text.starts_with('…') && text.ends_with('…'));
    }
}
