//! What is wrong with a configuration, where, and what would be right.

use std::path::PathBuf;

/// Whether the configuration can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It can't.
    Error,
    /// It can, but somebody may not want it so.
    Warning,
}

/// A stretch of one line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As it was given to [`super::load`].
    pub path: PathBuf,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// In characters, at least 1.
    pub length: u32,
    /// The line without its end, secrets masked; of a very long line the part around the place, between `…`.
    pub text: String,
    /// Where in `text` the place begins, in characters from 0.
    pub mark: u32,
}

/// Something that an operator should know about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Stable word for programs: `unknown-key`.
    pub code: &'static str,
    /// What it is about, if that is a place in a file.
    pub place: Option<Place>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
    /// Another place that belongs to it, and why.
    pub related: Option<(Place, String)>,
}

impl Diagnostic {
    /// Whether the configuration can't be used.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
