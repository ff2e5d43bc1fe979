//! Every key of the schema is written in a valid file and found fault with in an invalid one; and the JSON schema
//! says of both what it should.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use super::super::schema::{Key, Kind};
use super::*;

/// Where keys are, with `*` for names of the user's choice: `bus.*.unit.*.timeout`.
fn schema_keys() -> BTreeSet<String> {
    fn visit(keys: &[Key], above: &str, found: &mut BTreeSet<String>) {
        for key in keys {
            let path = if above.is_empty() { key.name.to_owned() } else { format!("{above}.{}", key.name) };
            visit_kind(&key.kind, &path, found);
            if !matches!(key.kind, Kind::Later(_)) {
                found.insert(path);
            }
        }
    }
    fn visit_kind(kind: &Kind, path: &str, found: &mut BTreeSet<String>) {
        match kind {
            Kind::Table(keys) => visit(keys, path, found),
            Kind::Map { of, .. } => visit_kind(of, &format!("{path}.*"), found),
            Kind::Either(kinds) => kinds.iter().for_each(|kind| visit_kind(kind, path, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    visit(sections::ROOT, "", &mut found);
    found
}

/// The keys that a file writes, in the same form.
fn written(value: &Value, above: &str, known: &BTreeSet<String>, found: &mut BTreeSet<String>) {
    let Value::Object(table) = value else { return };
    for (name, value) in table {
        let join = |name: &str| if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") };
        let path = [join(name), join("*")].into_iter().find(|path| {
            let below = format!("{path}.");
            known.iter().any(|key| key == path || key.starts_with(&below))
        });
        if let Some(path) = path {
            found.insert(path.clone());
            written(value, &path, known, found);
        }
    }
}

fn as_json(text: &str) -> Option<Value> {
    serde_json::to_value(toml::from_str::<toml::Table>(text).ok()?).ok()
}

#[test]
fn every_key_stands_in_a_valid_file_and_is_wrong_in_an_invalid_one() {
    let known = schema_keys();
    assert!(known.len() > 80, "{known:?}");
    let (mut right, mut wrong) = (BTreeSet::new(), BTreeSet::new());
    for path in toml_files(&Path::new(CORPUS).join("valid")) {
        for input in case(&path).1 {
            written(&as_json(&input.text).unwrap(), "", &known, &mut right);
        }
    }
    for path in toml_files(&Path::new(CORPUS).join("invalid")) {
        let (name, inputs) = case(&path);
        let marked: Vec<_> = load_case(&name, &inputs)
            .diagnostics
            .into_iter()
            .filter_map(|diagnostic| diagnostic.place)
            .map(|place| place.text)
            .collect();
        let mut here = BTreeSet::new();
        for input in &inputs {
            written(&as_json(&input.text).unwrap_or_default(), "", &known, &mut here);
        }
        let is_marked = |key: &String| {
            let name = key.rsplit('.').find(|name| *name != "*").unwrap();
            marked.iter().any(|line| line.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == name))
        };
        wrong.extend(here.into_iter().filter(is_marked));
    }
    // Tables that hold names have nothing that could be wrong but what is in them.
    let lacking = |found: &BTreeSet<String>| known.difference(found).cloned().collect::<Vec<_>>();
    assert_eq!(lacking(&right), Vec::<String>::new(), "in no valid file");
    assert_eq!(lacking(&wrong), Vec::<String>::new(), "never wrong in an invalid file");
}

/// The schema takes every valid file; of the invalid ones it lets pass only those whose fault it can't know: what
/// belongs together, what is on the disk, and ranges of durations and sizes. The judge is a validator that editors' are like.
#[test]
fn the_json_schema_says_the_same() {
    let mut documents = Map::new();
    for path in toml_files(&Path::new(CORPUS).join("valid")) {
        let (name, inputs) = case(&path);
        // Files with drop-ins are whole only together.
        if let [input] = inputs.as_slice() {
            documents.insert(format!("valid {name}"), as_json(&input.text).unwrap());
        }
    }
    for path in toml_files(&Path::new(CORPUS).join("invalid")) {
        let (name, inputs) = case(&path);
        if let Some(document) = as_json(&inputs[0].text) {
            documents.insert(format!("invalid {name}"), document);
        }
    }
    let wrong = [
        ("{\"agent\":{\"nonsense\":1}}", "/agent"),
        ("{\"agent\":{\"log\":\"loud\"}}", "/agent/log"),
        ("{\"mqtt\":{\"qos\":3}}", "/mqtt/qos"),
        ("{\"mqtt\":{\"url\":7}}", "/mqtt/url"),
        ("{\"source\":{\"status\":{\"plugin\":\"x\",\"every\":\"1s\"}}}", "/source"),
        ("{\"source\":{\"a\":{\"plugin\":\"x\"}}}", "/source/a"),
        ("{\"mqtt\":{\"urls\":[]}}", "/mqtt/urls"),
        (
            "{\"source\":{\"a\":{\"plugin\":\"x\",\"every\":\"1s\",\"allow\":{\"modbus\":{\"b\":3}}}}}",
            "/source/a/allow/modbus/b",
        ),
        ("{\"http\":{}}", "/http"),
    ];
    documents.extend(wrong.map(|(text, _)| (text.to_owned(), serde_json::from_str(text).unwrap())));
    let Some(found) = validated(&json!({ "schema": json_schema(), "documents": documents })) else { return };
    assert_eq!(found.len(), documents.len());
    let mut passed = Vec::new();
    for (name, places) in &found {
        let sound = places.as_array().unwrap().is_empty();
        assert!(sound || !name.starts_with("valid "), "{name}: {places}");
        if let (true, Some(name)) = (sound, name.strip_prefix("invalid ")) {
            passed.push(name);
        }
    }
    passed.sort_unstable();
    snapshot("schema", "passes", &passed.join("\n"));
    for (text, place) in wrong {
        assert_eq!(found[text], json!([place]), "{text}");
    }
}

/// What Python's jsonschema says, which `packaging/setup-validator` installs; `None` where it can't be had, which is said.
fn validated(asked: &Value) -> Option<Map<String, Value>> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache"))).expect("HOME");
    let folder = cache.join("outstation/validator");
    if let Ok(why) = fs::read_to_string(folder.join("jsonschema.missing")) {
        eprintln!("SKIPPED: the JSON schema is not held against a validator: {}", why.trim());
        return None;
    }
    let mut python = Command::new(folder.join("jsonschema-4.26.0/bin/python"))
        .arg(Path::new(CORPUS).join("validate.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python's jsonschema; packaging/setup-validator installs it");
    // Dropped with the statement, which is the end of what it reads.
    python.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "the schema is no schema, or the validator failed");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}
