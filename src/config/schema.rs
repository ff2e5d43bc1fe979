//! The language of keys and kinds: one definition from which checking, hints, defaults and the schema come.

use std::time::Duration;

use super::forms::Form;

/// A key of a table.
pub(super) struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub default: Default,
    /// One sentence for the reader of the manual.
    pub doc: &'static str,
    /// What other systems call it.
    pub aliases: &'static [&'static str],
}

/// What a value can be.
pub(super) enum Kind {
    Bool,
    Integer {
        min: i64,
        max: i64,
    },
    Text(&'static Form),
    Word(&'static [&'static str]),
    Duration {
        min: Duration,
        max: Duration,
        whole_seconds: bool,
        word: Option<&'static str>,
    },
    Size {
        min: u64,
        max: u64,
    },
    List {
        of: &'static Kind,
        min: usize,
    },
    Table(&'static [Key]),
    /// Names of the user's choice.
    Map {
        names: &'static Form,
        of: &'static Kind,
    },
    /// Whatever a plugin makes of it.
    Free,
    /// The first that takes the type that was written.
    Either(&'static [Kind]),
    /// Not yet.
    Later(&'static str),
}

/// What holds where a key is absent.
pub(super) enum Default {
    /// It must be there; how it could look.
    Required(&'static str),
    Nothing,
    Text(&'static str),
    Bool(bool),
    Integer(i64),
    EmptyList,
    EmptyTable,
    /// It follows from something else, in words.
    Derived(&'static str),
}

pub(super) const fn key(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Key {
    Key { name, kind, default, doc, aliases: &[] }
}

impl Key {
    pub const fn aka(mut self, aliases: &'static [&'static str]) -> Key {
        self.aliases = aliases;
        self
    }
}

/// A duration between two numbers of milliseconds.
pub(super) const fn duration(min_ms: u64, max_ms: u64) -> Kind {
    let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(max_ms));
    Kind::Duration { min, max, whole_seconds: false, word: None }
}

/// A duration between two numbers of seconds, none of them split.
pub(super) const fn seconds(min_s: u64, max_s: u64) -> Kind {
    let (min, max) = (Duration::from_secs(min_s), Duration::from_secs(max_s));
    Kind::Duration { min, max, whole_seconds: true, word: None }
}

/// A duration, or a word in its place.
pub(super) const fn duration_or(word: &'static str, min_ms: u64, max_ms: u64) -> Kind {
    let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(max_ms));
    Kind::Duration { min, max, whole_seconds: false, word: Some(word) }
}
