//! The house is in order: which module may import which, how large files and functions get, and a few habits
//! that a reader relies on. All that is out of order is shown at once, as `file:line: what`.
//!
//! The rules are in `tidy/rules.rs`; `tidy/tests.rs` breaks each of them once, on small made-up trees.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a check that cannot go on has failed"
)]

#[path = "tidy/faults.rs"]
mod faults;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/statements.rs"]
mod statements;
#[path = "tidy/tests.rs"]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Folders with Rust in them.
const FOLDERS: [&str; 4] = ["src", "tests", "benches", "plugins"];
/// Folders that hold nothing of ours.
const SKIPPED: [&str; 2] = ["target", "node_modules"];
const FOLDER_DEPTH_MAX: usize = 12;

/// Every `.rs` file below a folder, by its path from the root.
fn read(root: &Path, folder: &Path, depth: usize, tree: &mut BTreeMap<String, String>) {
    assert!(depth <= FOLDER_DEPTH_MAX, "{} is too deep", folder.display());
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let entry = entry.expect("a folder that was opened can be read");
        let path = entry.path();
        let name = entry.file_name();
        if entry.file_type().expect("an entry has a type").is_dir() {
            if !SKIPPED.iter().any(|skipped| name == *skipped) {
                read(root, &path, depth + 1, tree);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let from_root = path.strip_prefix(root).expect("it is below the root");
            tree.insert(from_root.to_string_lossy().into_owned(), text);
        }
    }
}

/// Every Rust file of the project.
fn all_files(root: &Path) -> BTreeMap<String, String> {
    let mut tree = BTreeMap::new();
    for folder in FOLDERS {
        read(root, &root.join(folder), 0, &mut tree);
    }
    tree
}

#[test]
fn every_statement_of_mqtt_has_its_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(root.join("tests/mqtt-statements.txt")).expect("the list of statements");
    let (wrong, covered, excepted) = statements::check(&list, &all_files(root));
    assert!(wrong.is_empty(), "{} statements:\n{}", wrong.len(), wrong.join("\n"));
    assert!(covered > 150 && excepted < 30, "{covered} covered, {excepted} excepted");
}

#[test]
fn every_fault_of_others_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wrong = faults::check(&all_files(root), faults::LAST, faults::EXCEPTIONS);
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_house_is_in_order() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tree = all_files(root);
    // A check that looks at nothing finds nothing.
    for known in ["src/lib.rs", "src/main.rs", "src/reading/mod.rs", "tests/tidy.rs"] {
        assert!(tree.contains_key(known), "{known} was not found below {}", root.display());
    }
    let found: Vec<String> = rules::check(&tree).iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{} out of order:\n{}", found.len(), found.join("\n"));
}
