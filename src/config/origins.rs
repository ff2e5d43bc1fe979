//! From a key to the place where it was written, after everything else is done: for what others find wrong.

use std::fmt;

use super::context::{KeyPath, Spot, Written};
use super::diagnostic::{Diagnostic, Place, Severity};
use super::listing::{Listing, Shown};

/// Knows where every value comes from. It holds the texts, with what may be secret in them.
#[derive(Clone, PartialEq)]
pub struct Origins {
    pub(super) written: Written,
    pub(super) listing: Listing,
}

/// The names of the files only.
impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.written.files.0.iter().map(|file| &file.path)).finish()
    }
}

impl Origins {
    /// The place of a value: keys from the top (`["source", "boiler", "plugin"]`), numbers for list items. Of what is not
    /// written, the nearest table above it; `None` if that is the file.
    pub fn place(&self, path: &[&str]) -> Option<Place> {
        self.written.place(&KeyPath::of(path), Spot::Value)
    }

    /// An error about a value, for what can't be known here: a plugin that is not there.
    pub fn error(&self, code: &'static str, path: &[&str], message: String, hint: Option<String>) -> Diagnostic {
        let place = self.place(path);
        Diagnostic { severity: Severity::Error, code, place, message, hint, related: None }
    }

    /// A warning about a value.
    pub fn warning(&self, code: &'static str, path: &[&str], message: String, hint: Option<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..self.error(code, path, message, hint) }
    }

    /// What a plugin finds wrong with its configuration, at its place: `pointer` is a JSON pointer into the `config` of
    /// `source`. A pointer that leads nowhere shows the last thing on its way.
    pub fn plugin_problem(&self, source: &str, pointer: &str, message: String, hint: Option<String>) -> Diagnostic {
        let mut path = KeyPath::of(&["source", source, "config"]);
        let steps = pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"));
        path.0.extend(steps);
        let place = self.written.place(&path, Spot::Value);
        Diagnostic { severity: Severity::Error, code: "plugin", place, message, hint, related: None }
    }

    /// Every value that is in force, in the order of the manual.
    pub fn listing(&self) -> Vec<Shown> {
        self.listing.shown(&self.written.files)
    }
}
