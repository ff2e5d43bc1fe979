//! Topic templates: text with `{placeholders}`, and whether two of them can make one topic.
//!
//! Invariants of a [`Template`]: a valid MQTT topic name in all its expansions (no wildcard, no control character, not
//! empty); the only braces in it are those of `{source}` and `{point}`, so that filling in is a plain replacement.

use std::fmt;

use super::forms::Fault;
use super::suggest::nearest;

/// Longest topic name of MQTT.
const TOPIC_BYTES_MAX: usize = 65_535;

/// A topic with holes: `{source}`, `{point}`. `{agent}` and `{base}` were filled in when the configuration was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(String);

impl Template {
    /// Fills in what is known now. The texts have passed [`check`]; names have no braces.
    pub(super) fn new(text: &str, base: &str, agent: &str) -> Template {
        Template(text.replace("{base}", base).replace("{agent}", agent))
    }

    /// With `{source}` filled in as well.
    pub(super) fn of_source(&self, source: &str) -> Template {
        Template(self.for_source(source))
    }

    /// As text, holes and all.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first hole.
    pub(super) fn beginning(&self) -> &str {
        self.0.split('{').next().unwrap_or_default()
    }

    /// Whether every point gets a topic of its own.
    pub fn has_point(&self) -> bool {
        self.0.contains("{point}")
    }

    /// With `{source}` filled in.
    pub fn for_source(&self, source: &str) -> String {
        self.0.replace("{source}", source)
    }

    /// What no single template shows: why the expanded text is no topic.
    pub(super) fn fault(&self) -> Option<Fault> {
        let fault = if self.0.len() > TOPIC_BYTES_MAX {
            Fault::new("this makes a topic of more than 65535 bytes")
        } else if self.0.starts_with("$SYS/") || self.0.starts_with("$share/") {
            Fault::new("topics that begin with $SYS/ or $share/ belong to the broker")
        } else {
            return None;
        };
        Some(fault)
    }

    /// Whether some name of a point makes the two one topic.
    pub(super) fn overlaps(&self, other: &Template) -> bool {
        let mut left = self.0.split('/');
        let mut right = other.0.split('/');
        loop {
            match (left.next(), right.next()) {
                (None, None) => return true,
                (Some(a), Some(b)) if level_overlaps(a, b) => {}
                _ => return false,
            }
        }
    }

    /// Whether the two part only in `{point}` standing where the other has one plain word.
    pub(super) fn overlaps_by_a_word(&self, other: &Template) -> bool {
        let pairs = || self.0.split('/').zip(other.0.split('/'));
        self.overlaps(other) && pairs().all(|(a, b)| a == b || (a == "{point}" && !b.contains('{')))
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that stands in a level of a topic.
#[derive(Clone, Copy, PartialEq)]
enum Token {
    One(char),
    /// Any character of a point's name.
    AnyOne,
    /// Any number of them.
    AnyMore,
}

impl Token {
    fn meets(self, other: Token) -> bool {
        let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match (self, other) {
            (Token::One(a), Token::One(b)) => a == b,
            (Token::One(c), _) | (_, Token::One(c)) => of_name(c),
            _ => true,
        }
    }
}

fn tokens(level: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (i, piece) in level.split("{point}").enumerate() {
        if i > 0 {
            tokens.extend([Token::AnyOne, Token::AnyMore]);
        }
        tokens.extend(piece.chars().map(Token::One));
    }
    tokens
}

/// Whether two levels, holes filled, can be one text. Several `{point}` in one level are taken as independent.
fn level_overlaps(a: &str, b: &str) -> bool {
    if !a.contains('{') && !b.contains('{') {
        return a == b;
    }
    let (a, b) = (tokens(a), tokens(b));
    // reached[j]: the tokens before i and before j can be one text.
    let mut reached = vec![false; b.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    for i in 0..=a.len() {
        let left = a.get(i).copied();
        let mut below = vec![false; b.len() + 1];
        for j in 0..=b.len() {
            if reached.get(j) != Some(&true) {
                continue;
            }
            let right = b.get(j).copied();
            let reach = |row: &mut [bool], at: usize| row.get_mut(at).into_iter().for_each(|cell| *cell = true);
            if left == Some(Token::AnyMore) {
                reach(&mut below, j);
            }
            if right == Some(Token::AnyMore) {
                reach(&mut reached, j + 1);
            }
            let (Some(left), Some(right)) = (left, right) else { continue };
            if left.meets(right) {
                match (left, right) {
                    (Token::AnyMore, Token::AnyMore) => {}
                    (Token::AnyMore, _) => reach(&mut reached, j + 1),
                    (_, Token::AnyMore) => reach(&mut below, j),
                    _ => reach(&mut below, j + 1),
                }
            }
        }
        if i < a.len() {
            reached = below;
        }
    }
    reached.last() == Some(&true)
}

/// A template as it was written: which placeholders it may have, and must have.
pub(super) fn check(text: &str, may: &[&str], must: &[&str]) -> Result<String, Fault> {
    if text.is_empty() {
        return Err(Fault::new("a topic can't be empty"));
    }
    let mut seen = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (plain, tail) = rest.split_at_checked(at).unwrap_or((rest, ""));
        check_plain(plain)?;
        let end = tail.find('}').filter(|_| tail.starts_with('{')).ok_or_else(|| {
            Fault::new("a brace without its partner").hint(format!("known here: {}", listed(may))).mark(tail)
        })?;
        let (hole, after) = tail.split_at_checked(end + 1).unwrap_or((tail, ""));
        let name = hole.trim_start_matches('{').trim_end_matches('}');
        if !may.contains(&name) {
            let fault = Fault::new(format!("`{hole}` can't stand here")).mark(hole);
            return Err(match nearest(name, may.iter().copied()) {
                Some(meant) => fault.hint(format!("did you mean `{{{meant}}}`?")),
                None => fault.hint(format!("known here: {}", listed(may))),
            });
        }
        seen.push(name);
        rest = after;
    }
    check_plain(rest)?;
    match must.iter().find(|name| !seen.contains(*name)) {
        Some(name) => Err(Fault::new(format!("without `{{{name}}}` this makes one topic of several"))
            .hint(format!("put `{{{name}}}` into it"))),
        None => Ok(text.to_owned()),
    }
}

fn check_plain(text: &str) -> Result<(), Fault> {
    match text.chars().find(|c| matches!(c, '+' | '#') || c.is_control()) {
        Some(c @ ('+' | '#')) => {
            let fault = Fault::new(format!("`{c}` is a wildcard: nothing can be published to it"));
            Err(fault.mark(c.encode_utf8(&mut [0; 4])))
        }
        Some(c) => Err(Fault::new(format!("the control character {c:?} can't stand in a topic"))),
        None => Ok(()),
    }
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlap(a: &str, b: &str) -> bool {
        let (a, b) = (Template(a.into()), Template(b.into()));
        assert_eq!(a.overlaps(&b), b.overlaps(&a), "{a} {b}");
        a.overlaps(&b)
    }

    #[test]
    fn templates_that_can_make_one_topic() {
        for (a, b) in [
            ("p/a", "p/a"),
            ("p/{point}", "p/status"),
            ("p/{point}", "p/{point}"),
            ("p/{point}", "p/x-{point}"),
            ("p/{point}-x", "p/a-{point}"),
            ("{point}a", "ba{point}"),
            ("{point}{point}", "ab"),
        ] {
            assert!(overlap(a, b), "{a} {b}");
        }
    }

    #[test]
    fn templates_that_never_do() {
        for (a, b) in [
            ("p/a", "p/b"),
            ("p/{point}", "p/a/b"),
            ("p/{point}", "p/"),
            ("p/a{point}", "p/b{point}"),
            ("p/{point}", "p/ä"),
            ("{point}{point}", "a"),
            ("x{point}y", "xy"),
        ] {
            assert!(!overlap(a, b), "{a} {b}");
        }
    }

    #[test]
    fn a_word_in_the_place_of_a_point() {
        let by_word = |a: &str, b: &str| Template(a.into()).overlaps_by_a_word(&Template(b.into()));
        assert!(by_word("p/a/{point}", "p/a/meta"));
        assert!(!by_word("p/a/x{point}", "p/a/xmeta"));
        assert!(!by_word("p/a", "p/b"));
    }

    #[test]
    fn what_a_template_may_hold() {
        let may = ["base", "source"];
        assert!(check("{base}/{source}", &may, &["source"]).is_ok());
        for wrong in ["", "{base", "base}", "{base}}", "{}", "{point}", "a/+/b", "#", "a\nb", "{base}"] {
            assert!(check(wrong, &may, &["source"]).is_err(), "{wrong}");
        }
    }
}
