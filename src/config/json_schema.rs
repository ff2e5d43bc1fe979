//! A JSON schema of the file for editors, from the same tables that check it.

use serde_json::{Map, Value, json};

use super::check::expected;
use super::schema::{Default, Key, Kind};
use super::sections::ROOT;

/// The schema, draft 2020-12. What it refuses is wrong; what it lets pass may still be refused by the check.
pub fn json_schema() -> Value {
    let mut schema = table(ROOT);
    if let Value::Object(schema) = &mut schema {
        schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        schema.insert("title".to_owned(), json!("outstation agent.toml"));
    }
    schema
}

fn table(keys: &[Key]) -> Value {
    let properties: Map<String, Value> = keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required = keys.iter().filter(|key| matches!(key.default, Default::Required(_))).map(|key| key.name);
    json!({
        "type": "object",
        "properties": properties,
        "required": required.collect::<Vec<_>>(),
        "additionalProperties": false,
    })
}

fn property(key: &Key) -> Value {
    let mut schema = kind(&key.kind);
    let Value::Object(object) = &mut schema else { return schema };
    let (default, from) = match key.default {
        Default::Text(text) => (Some(json!(text)), ""),
        Default::Bool(value) => (Some(json!(value)), ""),
        Default::Integer(value) => (Some(json!(value)), ""),
        Default::EmptyList => (Some(json!([])), ""),
        Default::Derived(from) => (None, from),
        Default::Required(_) | Default::Nothing | Default::EmptyTable => (None, ""),
    };
    let from = if from.is_empty() { String::new() } else { format!(" Default: {from}.") };
    object.insert("description".to_owned(), json!(format!("{}{from}", key.doc)));
    if let Some(default) = default {
        object.insert("default".to_owned(), default);
    }
    schema
}

fn kind(kind_of: &Kind) -> Value {
    match kind_of {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Text(form) => json!({ "type": "string", "pattern": form.pattern }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Duration { word, .. } => {
            let word = word.map(|word| format!("|{word}")).unwrap_or_default();
            json!({ "type": "string", "pattern": format!("^([0-9]+(ms|s|m|h|d){word})$"), "$comment": expected(kind_of) })
        }
        Kind::Size { .. } => {
            json!({ "type": "string", "pattern": "^[0-9]+(B|[KMGT]i?B)$", "$comment": expected(kind_of) })
        }
        Kind::List { of, min } => json!({ "type": "array", "items": kind(of), "minItems": min }),
        Kind::Table(keys) => table(keys),
        Kind::Map { names, of } => json!({
            "type": "object",
            "propertyNames": { "pattern": names.pattern },
            "additionalProperties": kind(of),
        }),
        Kind::Free => json!({ "type": "object" }),
        Kind::Either(kinds) => json!({ "anyOf": kinds.iter().map(kind).collect::<Vec<_>>() }),
        Kind::Later(_) => json!({ "not": {} }),
    }
}
