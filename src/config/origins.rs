//! From a key to the place where it was written, after everything else is done: for what others find wrong.

use std::fmt;

use super::context::{KeyPath, Spot, Written};
use super::diagnostic::{Diagnostic, Place, Severity};
use super::files::Span;
use super::listing::{Listing, Shown};
use super::tree::Node;

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

    /// Where parts of a source's `config` stand.
    pub fn of_config(&self, source: &str) -> ConfigOrigins<'_> {
        let path = KeyPath::of(&["source", source, "config"]);
        // Of what was folded every part can be asked for: it is read again once.
        let config = self.written.node(&path).map(|config| config.unfolded(&self.written.files));
        ConfigOrigins { written: &self.written, config, span: self.written.span(&path, Spot::Value) }
    }

    /// Every value that is in force, in the order of the manual.
    pub fn listing(&self) -> Vec<Shown> {
        self.listing.shown(&self.written.files)
    }
}

/// See [`Origins::of_config`].
pub struct ConfigOrigins<'a> {
    written: &'a Written,
    config: Option<Node>,
    span: Option<Span>,
}

impl ConfigOrigins<'_> {
    /// What the plugin finds wrong, at its place: `pointer` is a JSON pointer into the table. A pointer that leads nowhere
    /// shows the last thing on its way.
    pub fn plugin_problem(&self, pointer: &str, message: String, hint: Option<String>) -> Diagnostic {
        let steps = pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"));
        let steps: Vec<String> = steps.collect();
        let below = self.config.as_ref().and_then(|config| self.written.span_below(config, &steps, Spot::Value));
        let place = below.or(self.span).and_then(|span| self.written.files.place(span));
        Diagnostic { severity: Severity::Error, code: "plugin", place, message, hint, related: None }
    }
}
