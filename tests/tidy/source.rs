//! One Rust file as the rules see it: its code with comments and the insides of strings taken out, its
//! comments, its tokens, and which lines are test code.
//!
//! Invariant: code and comments have the lines of the text, so that every finding has a line number.
//! This reads Rust well enough for the habits of this repository; it is no parser.

use std::iter;
use std::ops::Range;

/// What stands in the tokens for every character inside a string.
pub const FILLER: char = '_';

/// An identifier, a number, a string (with its quotes), `::`, or one character of punctuation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// As written; the inside of a string is filler.
    pub text: String,
    /// From 1.
    pub line: usize,
}

/// A file, read once.
pub struct Source {
    /// The comments alone, doc comments included.
    pub comments: String,
    /// Of the code: the text without comments, and with filler in its strings.
    pub tokens: Vec<Token>,
    /// By line, from 0: under `#[cfg(test)]`.
    pub test_lines: Vec<bool>,
}

impl Source {
    /// Reads a text.
    pub fn new(text: &str) -> Source {
        let (code, comments) = separate(text);
        let tokens = tokenize(&code);
        let test_lines = find_test_lines(&tokens, text.lines().count());
        Source { comments, tokens, test_lines }
    }

    /// Whether a line (from 1) is test code.
    pub fn is_test(&self, line: usize) -> bool {
        self.test_lines.get(line.wrapping_sub(1)).copied().unwrap_or(false)
    }

    /// The token at `index`, empty beyond the end.
    pub fn at(&self, index: usize) -> &str {
        text_at(&self.tokens, index)
    }

    /// The index of the bracket that closes the one at `open`, or the end.
    pub fn closing(&self, open: usize) -> usize {
        closing(&self.tokens, open)
    }

    /// The modules that are declared for tests alone: `#[cfg(test)] mod NAME;`.
    pub fn test_modules(&self) -> Vec<String> {
        let declared = |i: &usize| self.at(*i) == "mod" && self.at(*i + 2) == ";" && self.is_test(self.tokens[*i].line);
        (0..self.tokens.len()).filter(declared).map(|i| self.at(i + 1).to_owned()).collect()
    }
}

fn text_at(tokens: &[Token], index: usize) -> &str {
    tokens.get(index).map_or("", |token| token.text.as_str())
}

fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len()
}

/// Where a piece of the text goes.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Code,
    Inside,
    Comment,
}

fn separate(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::new(), String::new());
    let mut at = 0;
    while at < chars.len() {
        for (length, part) in piece(&chars, at) {
            let end = (at + length).min(chars.len());
            for &c in chars.get(at..end).unwrap_or_default() {
                let newline = c == '\n';
                code.push(match part {
                    _ if newline => c,
                    Part::Code => c,
                    Part::Inside => FILLER,
                    Part::Comment => ' ',
                });
                comments.push(if newline || part == Part::Comment { c } else { ' ' });
            }
            at += length;
        }
    }
    (code, comments)
}

/// The comment, string, character, name or single character that begins at `at`, as lengths of its parts.
fn piece(chars: &[char], at: usize) -> Vec<(usize, Part)> {
    let peek = |n: usize| chars.get(at + n).copied().unwrap_or('\0');
    match (peek(0), peek(1)) {
        ('/', '/') => vec![(chars[at..].iter().take_while(|c| **c != '\n').count(), Part::Comment)],
        ('/', '*') => vec![(block_comment(&chars[at..]), Part::Comment)],
        ('"', _) => string(&chars[at..], 0),
        ('\'', '\\') => {
            let inside = 2 + chars[at + 1..].iter().skip(2).take_while(|c| **c != '\'').count();
            vec![(1, Part::Code), (inside, Part::Inside), (1, Part::Code)]
        }
        ('\'', _) if peek(2) == '\'' => vec![(1, Part::Code), (1, Part::Inside), (1, Part::Code)],
        (c, _) if is_word(c) => {
            let word = chars[at..].iter().take_while(|c| is_word(**c)).count();
            let prefix: String = chars[at..at + word].iter().collect();
            let raw = matches!(prefix.as_str(), "r" | "br" | "cr");
            let hashes = chars[at + word..].iter().take_while(|c| **c == '#').count();
            if raw && peek(word + hashes) == '"' {
                let rest = raw_string(&chars[at + word..], hashes);
                iter::once((word, Part::Code)).chain(rest).collect()
            } else {
                vec![(word, Part::Code)]
            }
        }
        _ => vec![(1, Part::Code)],
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn block_comment(chars: &[char]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (at, depth) = (at + 2, depth + 1),
            ('*', Some('/')) => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(chars: &[char], start: usize) -> Vec<(usize, Part)> {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    vec![(1, Part::Code), (at - start - 1, Part::Inside), (1, Part::Code)]
}

fn raw_string(chars: &[char], hashes: usize) -> Vec<(usize, Part)> {
    let ends =
        |at: usize| chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    let end = (hashes + 1..chars.len()).find(|at| ends(*at)).unwrap_or(chars.len());
    // The hashes are taken for inside: what remains looks like an ordinary string.
    vec![
        (hashes, Part::Comment),
        (1, Part::Code),
        (end - hashes - 1, Part::Inside),
        (1, Part::Code),
        (hashes, Part::Comment),
    ]
}

fn tokenize(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let chars: Vec<char> = code.chars().collect();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let c = chars[at];
        let length = match c {
            _ if is_word(c) => chars[at..].iter().take_while(|c| is_word(**c)).count(),
            '"' => 2 + chars[at + 1..].iter().take_while(|c| **c != '"').count(),
            ':' if chars.get(at + 1) == Some(&':') => 2,
            _ => 1,
        };
        let end = (at + length).min(chars.len());
        if !c.is_whitespace() {
            tokens.push(Token { text: chars[at..end].iter().collect(), line });
        }
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    tokens
}

/// From each `#[cfg(test)]` or `#[cfg(all(test, ..))]` to the end of the item under it.
fn find_test_lines(tokens: &[Token], lines: usize) -> Vec<bool> {
    let inner = ["#", "!", "[", "cfg", "(", "test"];
    let mut marked = vec![tokens.iter().take(inner.len()).map(|token| token.text.as_str()).eq(inner); lines];
    for index in 0..tokens.len() {
        let written: Vec<&str> = tokens[index..].iter().take(7).map(|token| token.text.as_str()).collect();
        if let ["#", "[", "cfg", "(", "test", ..] | ["#", "[", "cfg", "(", "all", "(", "test", ..] = written[..] {
            let item = item_after(tokens, closing(tokens, index + 1) + 1);
            let last = tokens.get(item.end).or(tokens.last()).map_or(lines, |token| token.line);
            let first = tokens[index].line - 1;
            marked.iter_mut().take(last).skip(first).for_each(|line| *line = true);
        }
    }
    marked
}

/// The tokens of an item, up to its `;` or the end of its body.
pub fn item_after(tokens: &[Token], start: usize) -> Range<usize> {
    let mut at = start;
    while at < tokens.len() {
        match text_at(tokens, at) {
            ";" => return start..at,
            "{" => return start..closing(tokens, at),
            "(" | "[" => at = closing(tokens, at),
            _ => {}
        }
        at += 1;
    }
    start..tokens.len()
}
