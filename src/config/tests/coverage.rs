//! Every key of the schema is written in a valid file and found fault with in an invalid one; and the JSON schema
//! says of both what it should.

use std::collections::BTreeSet;

use serde_json::Value;

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
/// belongs together, what is on the disk, and ranges of durations and sizes.
#[test]
fn the_json_schema_says_the_same() {
    let schema = json_schema();
    for path in toml_files(&Path::new(CORPUS).join("valid")) {
        let (name, inputs) = case(&path);
        // Files with drop-ins are whole only together.
        if let [input] = inputs.as_slice() {
            let faults = faults(&schema, &as_json(&input.text).unwrap());
            assert!(faults.is_empty(), "{name}: {faults:?}");
        }
    }
    let mut passed = Vec::new();
    for path in toml_files(&Path::new(CORPUS).join("invalid")) {
        let (name, inputs) = case(&path);
        if let Some(document) = as_json(&inputs[0].text).filter(|document| faults(&schema, document).is_empty()) {
            assert!(document.is_object());
            passed.push(name);
        }
    }
    snapshot("schema", "passes", &passed.join("\n"));
    for (wrong, place) in [
        ("{\"agent\":{\"nonsense\":1}}", "/agent/nonsense"),
        ("{\"agent\":{\"log\":\"loud\"}}", "/agent/log"),
        ("{\"mqtt\":{\"qos\":3}}", "/mqtt/qos"),
        ("{\"mqtt\":{\"url\":7}}", "/mqtt/url"),
        ("{\"source\":{\"status\":{\"plugin\":\"x\",\"every\":\"1s\"}}}", "/source/status"),
        ("{\"source\":{\"a\":{\"plugin\":\"x\"}}}", "/source/a/every"),
        ("{\"mqtt\":{\"urls\":[]}}", "/mqtt/urls"),
        (
            "{\"source\":{\"a\":{\"plugin\":\"x\",\"every\":\"1s\",\"allow\":{\"modbus\":{\"b\":3}}}}}",
            "/source/a/allow/modbus/b",
        ),
        ("{\"http\":{}}", "/http"),
    ] {
        assert_eq!(faults(&schema, &serde_json::from_str(wrong).unwrap()), [place], "{wrong}");
    }
}

/// A validator of what [`json_schema`] uses of JSON schema; a word that it does not know fails the test. Gives the
/// places of faults.
fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    validate(schema, value, "", &mut found);
    found
}

/// Editors know "but not"; this expression engine does not.
fn matches(pattern: &str, text: &str) -> bool {
    let is_match = |pattern: &str| regex_lite::Regex::new(pattern).unwrap().is_match(text);
    match pattern.strip_prefix("^(?!").and_then(|rest| rest.split_once("$)")) {
        Some((never, rest)) => !is_match(&format!("^{never}$")) && is_match(&format!("^{rest}")),
        None => is_match(pattern),
    }
}

fn validate(schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let below = |name: &str| format!("{at}/{name}");
    let matches = |pattern: &Value, text: &str| matches(pattern.as_str().unwrap(), text);
    let entries = || value.as_object().into_iter().flatten();
    let properties = schema.get("properties").and_then(Value::as_object);
    for (word, rule) in schema.as_object().unwrap() {
        let holds = match word.as_str() {
            "type" => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_i64() || value.is_u64(),
                other => panic!("type {other}"),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "pattern" => value.as_str().is_none_or(|text| matches(rule, text)),
            "minimum" => value.as_i64().is_none_or(|number| number >= rule.as_i64().unwrap()),
            "maximum" => value.as_i64().is_none_or(|number| number <= rule.as_i64().unwrap()),
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
            "anyOf" => rule.as_array().unwrap().iter().any(|schema| faults(schema, value).is_empty()),
            "not" => !faults(rule, value).is_empty(),
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                items.for_each(|(index, item)| validate(rule, item, &below(&index.to_string()), found));
                true
            }
            "properties" => {
                let known = entries().filter_map(|(name, value)| Some((name, rule.get(name)?, value)));
                known.for_each(|(name, rule, value)| validate(rule, value, &below(name), found));
                true
            }
            "required" => {
                let names = rule.as_array().unwrap().iter().filter_map(Value::as_str);
                found.extend(names.filter(|name| value.is_object() && value.get(name).is_none()).map(below));
                true
            }
            "propertyNames" => {
                let wrong = entries().filter(|(name, _)| !matches(&rule["pattern"], name));
                found.extend(wrong.map(|(name, _)| below(name)));
                true
            }
            "additionalProperties" => {
                for (name, value) in
                    entries().filter(|(name, _)| properties.is_none_or(|known| !known.contains_key(*name)))
                {
                    match rule {
                        Value::Bool(allowed) => found.extend((!allowed).then(|| below(name))),
                        rule => validate(rule, value, &below(name), found),
                    }
                }
                true
            }
            "$schema" | "$comment" | "title" | "description" | "default" => true,
            other => panic!("the schema uses {other}"),
        };
        if !holds {
            found.push(at.to_owned());
        }
    }
}
