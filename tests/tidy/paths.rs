//! Which paths a file names: from its `use` declarations, and written out in its code.
//!
//! Invariant: a path is resolved as far as the file alone allows: `crate`, `self`, `super` and what `use`
//! brought in are followed, so that neither an alias nor `super::super` goes round a rule.

use crate::source::Source;
use std::collections::HashMap;

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Into this crate, from its root.
    Own(Vec<String>),
    /// Into another crate, that crate's name first; or to a name that only the file knows.
    Other(Vec<String>),
}

/// A path that a file names.
#[derive(Clone, Debug)]
pub struct Named {
    /// Where it leads.
    pub target: Target,
    /// From 1.
    pub line: usize,
    /// `path::*`.
    pub glob: bool,
    /// Written in a `use` declaration.
    pub imported: bool,
}

struct Leaf {
    segments: Vec<String>,
    alias: Option<String>,
    line: usize,
    glob: bool,
}

/// All paths of a file that is the module `module`, whose crate calls itself `crate_name` (for the binary,
/// which names its own library).
pub fn named(source: &Source, module: &[String], crate_name: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let mut aliases: HashMap<(String, bool), Target> = HashMap::new();
    walk(source, module, |at, here| {
        if source.at(at) != "use" || source.at(at + 1) == "<" {
            return at + 1;
        }
        let mut leaves = Vec::new();
        let end = use_tree(source, at + 1, &[], &mut leaves);
        for leaf in leaves {
            let target = resolve(&leaf.segments, here, crate_name);
            let name = leaf.alias.or_else(|| leaf.segments.last().cloned()).unwrap_or_default();
            if !leaf.glob {
                aliases.insert((name, source.is_test(leaf.line)), target.clone());
            }
            found.push(Named { target, line: leaf.line, glob: leaf.glob, imported: true });
        }
        end
    });
    walk(source, module, |at, here| {
        if source.at(at) == "use" && source.at(at + 1) != "<" {
            return use_tree(source, at + 1, &[], &mut Vec::new());
        }
        let Some((segments, absolute, end)) = written_path(source, at) else { return at + 1 };
        let line = source.tokens[at].line;
        let known = |test| aliases.get(&(segments[0].clone(), test)).cloned();
        let known = if absolute { None } else { known(false).or_else(|| known(true).filter(|_| source.is_test(line))) };
        let target = match known {
            Some(target) => extended(target, &segments[1..]),
            None => resolve(&segments, here, crate_name),
        };
        found.push(Named { target, line, glob: false, imported: false });
        end
    });
    found
}

/// Goes over the tokens; `visit` gets a position and the module around it, inline modules included, and says
/// where to go on.
fn walk(source: &Source, module: &[String], mut visit: impl FnMut(usize, &[String]) -> usize) {
    let mut here = module.to_vec();
    let mut ends = Vec::new();
    let mut at = 0;
    while at < source.tokens.len() {
        while ends.last().is_some_and(|end| at >= *end) {
            ends.pop();
            here.pop();
        }
        if source.at(at) == "mod" && source.at(at + 2) == "{" {
            here.push(source.at(at + 1).to_owned());
            ends.push(source.closing(at + 2));
            at += 3;
        } else {
            at = visit(at, &here).max(at + 1);
        }
    }
}

/// One tree of a `use` declaration; gives the position after it.
fn use_tree(source: &Source, mut at: usize, prefix: &[String], leaves: &mut Vec<Leaf>) -> usize {
    let mut segments = prefix.to_vec();
    loop {
        let line = source.tokens.get(at).map_or(0, |token| token.line);
        match source.at(at) {
            "" | ";" => return at + 1,
            "," | "}" => return at,
            "::" | "$" => at += 1,
            "*" => {
                leaves.push(Leaf { segments: segments.clone(), alias: None, line, glob: true });
                at += 1;
            }
            "{" => {
                let end = source.closing(at);
                at += 1;
                while at < end {
                    at = use_tree(source, at, &segments, leaves).max(at + 1);
                }
                at = end + 1;
            }
            name => {
                let in_group = !prefix.is_empty() || segments.len() > prefix.len();
                if name != "self" || !in_group {
                    segments.push(name.to_owned());
                }
                at += 1;
                let alias = (source.at(at) == "as").then(|| source.at(at + 1).to_owned());
                at += if alias.is_some() { 2 } else { 0 };
                if source.at(at) != "::" {
                    leaves.push(Leaf { segments: segments.clone(), alias, line, glob: false });
                }
            }
        }
    }
}

/// A path of at least two segments that begins at `at`: its segments, whether it began with `::`, its end.
fn written_path(source: &Source, at: usize) -> Option<(Vec<String>, bool, usize)> {
    let is_name = |i: usize| source.at(i).starts_with(|c: char| c.is_alphabetic() || c == '_');
    if !is_name(at) || source.at(at + 1) != "::" {
        return None;
    }
    let before = |n: usize| at.checked_sub(n).map_or("", |i| source.at(i));
    // After a name or `>`, a `::` continues a path; after anything else it begins one.
    let absolute = before(1) == "::";
    if absolute && at >= 2 && (is_name(at - 2) || before(2) == ">") || before(1) == "." {
        return None;
    }
    let mut segments = vec![source.at(at).to_owned()];
    let mut end = at + 1;
    while source.at(end) == "::" && is_name(end + 1) {
        segments.push(source.at(end + 1).to_owned());
        end += 2;
    }
    Some((segments, absolute, end))
}

fn resolve(segments: &[String], here: &[String], crate_name: &str) -> Target {
    let mut rest = segments;
    let mut from = match rest.first().map(String::as_str) {
        Some("crate") => Vec::new(),
        Some(name) if name == crate_name => Vec::new(),
        Some("self") => here.to_vec(),
        Some("super") => here.split_last().map(|(_, up)| up.to_vec()).unwrap_or_default(),
        _ => return Target::Other(segments.to_vec()),
    };
    rest = &rest[1..];
    while rest.first().is_some_and(|segment| segment == "super") {
        from.pop();
        rest = &rest[1..];
    }
    from.extend_from_slice(rest);
    Target::Own(from)
}

fn extended(target: Target, rest: &[String]) -> Target {
    let join = |mut path: Vec<String>| {
        path.extend_from_slice(rest);
        path
    };
    match target {
        Target::Own(path) => Target::Own(join(path)),
        Target::Other(path) => Target::Other(join(path)),
    }
}
