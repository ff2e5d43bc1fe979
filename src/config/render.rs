//! Diagnostics for people (as compilers show them) and for programs (one JSON object each).

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::diagnostic::{Diagnostic, Place, Severity};

/// Whether to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// ANSI escape sequences.
    Ansi,
    /// None.
    Plain,
}

impl Colour {
    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Colour::Ansi => format!("\x1b[{code}m{text}\x1b[0m"),
            Colour::Plain => text.to_owned(),
        }
    }
}

const RED: &str = "1;31";
const YELLOW: &str = "1;33";
const BLUE: &str = "1;34";
const CYAN: &str = "1;36";
const BOLD: &str = "1";

/// One diagnostic over several lines, with a line end after the last.
pub fn render(diagnostic: &Diagnostic, colour: Colour) -> String {
    let (tone, word) = match diagnostic.severity {
        Severity::Error => (RED, "error"),
        Severity::Warning => (YELLOW, "warning"),
    };
    let head = colour.paint(tone, &format!("{word}[{}]", diagnostic.code));
    let mut out = format!("{head}{}\n", colour.paint(BOLD, &format!(": {}", visible(&diagnostic.message))));
    let lines = diagnostic.place.iter().chain(diagnostic.related.iter().map(|(place, _)| place));
    let width = lines.map(|place| place.line.to_string().len()).max().unwrap_or(1);
    let bar = colour.paint(BLUE, "|");
    let gutter = " ".repeat(width);
    if let Some(place) = &diagnostic.place {
        let arrow = colour.paint(BLUE, "-->");
        _ = writeln!(out, "{gutter}{arrow} {}", position(place));
        snippet(&mut out, place, width, (colour, tone, '^'), "");
    }
    if let Some((place, why)) = &diagnostic.related {
        let arrow = colour.paint(BLUE, ":::");
        _ = writeln!(out, "{gutter}{arrow} {}", position(place));
        snippet(&mut out, place, width, (colour, BLUE, '-'), why);
    }
    if let Some(hint) = &diagnostic.hint {
        if diagnostic.place.is_some() {
            _ = writeln!(out, "{gutter} {bar}");
        }
        let help = format!("{} {}", colour.paint(BLUE, "="), colour.paint(CYAN, "help"));
        _ = writeln!(out, "{gutter} {help}: {}", visible(hint));
    }
    out
}

/// All of them, an empty line between two, and a last line that counts; empty if there is none.
pub fn render_all(diagnostics: &[Diagnostic], colour: Colour) -> String {
    let mut out: String = diagnostics.iter().map(|diagnostic| render(diagnostic, colour) + "\n").collect();
    if let Some(summary) = summary(diagnostics) {
        _ = writeln!(out, "{summary}");
    }
    out
}

/// "2 errors, 1 warning"; `None` if there is nothing to say.
pub fn summary(diagnostics: &[Diagnostic]) -> Option<String> {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let warnings = diagnostics.len() - errors;
    let counted = |n: usize, word: &str| (n > 0).then(|| format!("{n} {word}{}", if n == 1 { "" } else { "s" }));
    let parts: Vec<_> = [counted(errors, "error"), counted(warnings, "warning")].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// One object, its fields stable: `severity`, `code`, `message`, `hint`, `file`, `line`, `column`, `length`, `text`,
/// `related`. What does not apply is null.
pub fn to_json(diagnostic: &Diagnostic) -> Value {
    let place = diagnostic.place.as_ref();
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let related = diagnostic.related.as_ref().map(|(place, why)| {
        json!({
            "file": place.path.to_string_lossy(),
            "line": place.line,
            "column": place.column,
            "length": place.length,
            "message": why,
        })
    });
    json!({
        "severity": severity,
        "code": diagnostic.code,
        "message": diagnostic.message,
        "hint": diagnostic.hint,
        "file": place.map(|place| place.path.to_string_lossy()),
        "line": place.map(|place| place.line),
        "column": place.map(|place| place.column),
        "length": place.map(|place| place.length),
        "text": place.map(|place| &place.text),
        "related": related,
    })
}

fn position(place: &Place) -> String {
    format!("{}:{}:{}", visible(&place.path.to_string_lossy()), place.line, place.column)
}

fn snippet(out: &mut String, place: &Place, width: usize, (colour, tone, mark): (Colour, &str, char), why: &str) {
    let bar = colour.paint(BLUE, "|");
    let number = colour.paint(BLUE, &format!("{:>width$}", place.line));
    let before = place.mark as usize;
    let room = place.text.chars().count().saturating_sub(before).max(1);
    let marks = mark.to_string().repeat((place.length as usize).clamp(1, room));
    let marks = format!("{marks}{}{why}", if why.is_empty() { "" } else { " " });
    _ = writeln!(out, "{} {bar}", " ".repeat(width));
    _ = writeln!(out, "{number} {bar} {}", visible(&place.text));
    _ = writeln!(out, "{} {bar} {}{}", " ".repeat(width), " ".repeat(before), colour.paint(tone, &marks));
}

/// Nothing that a terminal would obey; as many characters as before.
fn visible(text: &str) -> String {
    let shown = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        // Marks that turn the direction of what follows.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}
