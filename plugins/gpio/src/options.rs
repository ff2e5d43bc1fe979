//! The source's `config` table: which lines there are, and what is wanted of each.

use std::time::Duration;

use outstation_sdk::Problems;
use outstation_sdk::config::{Value, pointer, suggestion};
use outstation_sdk::lines::{Bias, Level};

/// Lines of one source.
const LINES_MAX: usize = 128;
/// Longer than this is no debouncing.
const DEBOUNCE_MAX: Duration = Duration::from_secs(10);

const INPUT_KEYS: &[&str] = &["name", "line", "mode", "edge", "bias", "active", "debounce", "count", "frequency"];
const OUTPUT_KEYS: &[&str] = &["name", "line", "mode", "active", "initial", "safe"];
const MODES: [&str; 2] = ["input", "output"];
const EDGES: [&str; 4] = ["none", "rising", "falling", "both"];
const BIASES: [(&str, Bias); 4] =
    [("as-is", Bias::AsIs), ("disabled", Bias::Disabled), ("pull-up", Bias::PullUp), ("pull-down", Bias::PullDown)];
const ACTIVES: [&str; 2] = ["high", "low"];
/// Endings of the points that a line has beside its level.
const ENDINGS: [&str; 3] = [".count", ".frequency", ".lost"];

/// A line that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its point.
    pub name: String,
    /// As the source's `allow` names it.
    pub line: String,
    /// Low is active.
    pub active_low: bool,
    /// What it is for.
    pub mode: Mode,
}

/// What a line is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Mode {
    /// It is read.
    Input(Input),
    /// It is driven.
    Output {
        /// When the source starts.
        initial: Level,
        /// When the source ends.
        safe: Level,
    },
}

/// What is wanted of a line that is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Edges to active become readings at once.
    pub rising: bool,
    /// Edges to inactive become readings at once.
    pub falling: bool,
    /// What holds the line where nothing drives it.
    pub bias: Bias,
    /// How long the line must keep still before an edge counts.
    pub debounce: Duration,
    /// Pulses are counted.
    pub count: bool,
    /// Pulses a second, from poll to poll.
    pub frequency: bool,
}

impl Input {
    /// Whether edges are needed: as readings or for counting.
    pub const fn watches(&self) -> bool {
        self.rising || self.falling || self.counts()
    }

    /// Whether pulses are counted, for whichever point.
    pub const fn counts(&self) -> bool {
        self.count || self.frequency
    }

    /// Whether a pulse is an edge to inactive; else it is one to active.
    pub const fn counts_falling(&self) -> bool {
        self.falling && !self.rising
    }
}

/// The lines of a table that `check` has accepted.
pub fn lines(config: &Value) -> Vec<Line> {
    let elements = config.get("lines").and_then(Value::as_array).unwrap_or_default();
    elements.iter().take(LINES_MAX).map(line).collect()
}

fn line(table: &Value) -> Line {
    let text = |key| table.get(key).and_then(Value::as_str).unwrap_or_default();
    let flag = |key| table.get(key).and_then(Value::as_bool).unwrap_or_default();
    let level = |key| if flag(key) { Level::Active } else { Level::Inactive };
    let edge = text("edge");
    let mode = if text("mode") == "output" {
        Mode::Output { initial: level("initial"), safe: level("safe") }
    } else {
        let bias = BIASES.iter().find(|(name, _)| *name == text("bias"));
        Mode::Input(Input {
            rising: matches!(edge, "rising" | "both"),
            falling: matches!(edge, "falling" | "both"),
            bias: bias.map_or(Bias::AsIs, |(_, bias)| *bias),
            debounce: table.get("debounce").and_then(Value::as_duration).unwrap_or_default(),
            count: flag("count"),
            frequency: flag("frequency"),
        })
    };
    Line { name: text("name").to_owned(), line: text("line").to_owned(), active_low: text("active") == "low", mode }
}

/// What is wrong with the table.
pub fn check(config: &Value, problems: &mut Problems) {
    problems.unknown_keys("", config, &["lines"]);
    let example = "lines = [{ name = \"door\", line = \"gpiochip0:4\", edge = \"both\" }]";
    let Some(lines) = config.get("lines") else {
        problems.add_with_hint("", "`lines` is missing", format!("write {example}"));
        return;
    };
    let Some(elements) = lines.as_array() else {
        let message = format!("`lines` is an array of tables, not {}", lines.kind());
        problems.add_with_hint("/lines", message, format!("write {example}"));
        return;
    };
    if elements.is_empty() || elements.len() > LINES_MAX {
        let message = format!("{} lines; a source has 1 to {LINES_MAX}", elements.len());
        problems.add_with_hint("/lines", message, format!("write {example}, or make a second source"));
    }
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (index, table) in elements.iter().enumerate() {
        let path = format!("/lines/{index}");
        if !matches!(table, Value::Table(_)) {
            problems.add_with_hint(&path, format!("a table belongs here, not {}", table.kind()), example);
            continue;
        }
        Checker { path, table, problems }.line(&mut seen);
    }
}

struct Checker<'a, 'p> {
    path: String,
    table: &'a Value,
    problems: &'p mut Problems,
}

impl<'a> Checker<'a, '_> {
    fn line(&mut self, seen: &mut Vec<(&'a str, &'a str)>) {
        let output = self.word("mode", &MODES) == Some("output");
        let known = if output { OUTPUT_KEYS } else { INPUT_KEYS };
        for (key, value) in self.table.entries() {
            let other = if output { INPUT_KEYS } else { OUTPUT_KEYS };
            if !known.contains(&key.as_str()) {
                let hint = if other.contains(&key.as_str()) {
                    format!("an {} has none; see `mode`", if output { "output" } else { "input" })
                } else {
                    suggestion(key, known)
                };
                self.add(key, format!("unknown key `{key}`"), hint);
            } else if matches!(key.as_str(), "count" | "frequency" | "initial" | "safe") && value.as_bool().is_none() {
                self.add(key, format!("`{key}` is true or false, not {}", value.kind()), format!("{key} = true"));
            }
        }
        self.word("edge", &EDGES);
        self.word("bias", &BIASES.map(|(name, _)| name));
        self.word("active", &ACTIVES);
        self.debounce();
        let name = self.text("name", "door");
        let line = self.text("line", "gpiochip0:4");
        if let Some(name) = name {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            if !name.chars().all(allowed) {
                self.add("name", format!("`{name}` is no name of a point"), "letters, digits, `_`, `-` and `.`".into());
            } else if seen.iter().any(|(other, _)| clash(other, name)) {
                self.add("name", format!("`{name}` is a point of another line already"), "take another name".into());
            }
        }
        if let Some(line) = line
            && seen.iter().any(|(_, other)| *other == line)
        {
            self.add("line", format!("`{line}` stands here twice"), "each line once".into());
        }
        seen.push((name.unwrap_or_default(), line.unwrap_or_default()));
    }

    fn debounce(&mut self) {
        let Some(value) = self.table.get("debounce") else { return };
        match value.as_duration() {
            Some(period) if period <= DEBOUNCE_MAX => {}
            Some(_) => self.add("debounce", "that is too long".into(), "at most \"10s\"".into()),
            None => self.add("debounce", "a duration belongs here".into(), "debounce = \"20ms\"".into()),
        }
    }

    /// A text that has to be there.
    fn text(&mut self, key: &str, example: &str) -> Option<&'a str> {
        match self.table.get(key) {
            Some(value) if value.as_str().is_some_and(|text| !text.is_empty()) => value.as_str(),
            Some(value) => {
                let what = if value.as_str().is_some() { "an empty string" } else { value.kind() };
                self.add(key, format!("`{key}` is a string, not {what}"), format!("{key} = \"{example}\""));
                None
            }
            None => {
                let message = format!("`{key}` is missing");
                self.problems.add_with_hint(&self.path, message, format!("{key} = \"{example}\""));
                None
            }
        }
    }

    /// One of a few words, where it is there.
    fn word(&mut self, key: &str, words: &[&str]) -> Option<&'a str> {
        let value = self.table.get(key)?;
        match value.as_str() {
            Some(word) if words.contains(&word) => Some(word),
            Some(word) => {
                self.add(key, format!("there is no {key} `{word}`"), suggestion(word, words));
                None
            }
            None => {
                let message = format!("`{key}` is a string, not {}", value.kind());
                self.add(key, message, format!("one of: {}", words.join(", ")));
                None
            }
        }
    }

    fn add(&mut self, key: &str, message: String, hint: String) {
        self.problems.add_with_hint(&format!("{}/{}", self.path, pointer(key)), message, hint);
    }
}

/// Whether two lines would have a point in common.
fn clash(one: &str, other: &str) -> bool {
    let derived = |from: &str, to: &str| ENDINGS.iter().any(|ending| from.strip_suffix(ending) == Some(to));
    one == other || derived(one, other) || derived(other, one)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use outstation_sdk::config::parse;

    fn wrong(document: &str) -> Vec<(String, String)> {
        let mut problems = Problems::default();
        check(&parse(document).unwrap(), &mut problems);
        problems.list().iter().map(|problem| (problem.path.clone(), problem.message.clone())).collect()
    }

    #[test]
    fn the_example_of_the_manual() {
        let document = r#"{"lines": [
            {"name": "door", "line": "gpiochip0:4", "edge": "both", "bias": "pull-up", "active": "low", "debounce": "20ms", "count": true},
            {"name": "lamp", "line": "LAMP", "mode": "output", "initial": true}]}"#;
        assert_eq!(wrong(document), []);
        let lines = lines(&parse(document).unwrap());
        let door = Input {
            rising: true,
            falling: true,
            bias: Bias::PullUp,
            debounce: Duration::from_millis(20),
            count: true,
            frequency: false,
        };
        assert!(door.watches() && !door.counts_falling());
        let [first, second] = lines.as_slice() else { panic!("two lines: {lines:?}") };
        assert_eq!(first.mode, Mode::Input(door));
        assert!(first.active_low && first.line == "gpiochip0:4");
        assert_eq!(second.mode, Mode::Output { initial: Level::Active, safe: Level::Inactive });
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_with_its_place() {
        let document = r#"{"line": 1, "lines": [
            {"name": "a b", "line": "x", "edge": "up", "bias": 3, "debounce": "20", "count": 1},
            {"name": "c", "initial": true},
            {"name": "c.count", "line": "x", "mode": "out"},
            {"name": "d", "line": "y", "mode": "output", "edge": "both", "debounce": "1m"},
            7]}"#;
        let places: Vec<_> = wrong(document).into_iter().map(|(path, _)| path).collect();
        let expected = [
            "/line",
            "/lines/0/count",
            "/lines/0/edge",
            "/lines/0/bias",
            "/lines/0/debounce",
            "/lines/0/name",
            "/lines/1/initial",
            "/lines/1",
            "/lines/2/mode",
            "/lines/2/name",
            "/lines/2/line",
            "/lines/3/edge",
            "/lines/3/debounce",
            "/lines/3/debounce",
            "/lines/4",
        ];
        assert_eq!(places, expected);
        for document in ["{}", r#"{"lines": []}"#, r#"{"lines": "x"}"#] {
            assert_eq!(wrong(document).len(), 1, "{document}");
        }
    }
}
