//! The source's `config` table: the bus, the unit, and the list of points. What is wrong is told all at once, each
//! with its place.

use std::collections::BTreeMap;

use outstation_sdk::Problems;
use outstation_sdk::config::{Value, suggestion};

use crate::points::{self, Point};

/// Points that a source may have; the host's limit.
const POINTS_MAX: usize = 10_000;

/// What the table says.
#[derive(Debug)]
pub struct Options {
    /// Name of a `[bus.NAME]`.
    pub bus: String,
    /// In the order of the list.
    pub points: Vec<Point>,
}

impl Options {
    /// What the table says, as far as it can be told; what is wrong with it goes to `problems`.
    pub fn read(config: &Value, problems: &mut Problems) -> Self {
        problems.unknown_keys("", config, &["bus", "unit", "points"]);
        let bus = match config.get("bus") {
            None => {
                problems.add_with_hint("", "`bus` is missing", "the name of a [bus.NAME]: bus = \"boiler\"");
                String::new()
            }
            Some(bus) => bus.as_str().map(str::to_owned).unwrap_or_else(|| {
                let hint = "the name of a [bus.NAME]: bus = \"boiler\"";
                problems.add_with_hint("/bus", format!("a string belongs here, not {}", bus.kind()), hint);
                String::new()
            }),
        };
        let unit = config.get("unit").and_then(|unit| points::unit(unit, "/unit", problems));
        let points = list(config, problems);
        let mut out = Vec::new();
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for (index, entry) in points.iter().enumerate() {
            let path = format!("/points/{index}");
            let Some(point) = Point::read(entry, &path, unit, problems) else { continue };
            if let Some(first) = names.insert(point.name.clone(), index) {
                let message = format!("two points are called `{}`", point.name);
                problems.add_with_hint(
                    &format!("{path}/name"),
                    message,
                    format!("the other one is number {}", first + 1),
                );
            }
            out.push(point);
        }
        let has_own = |entry: &Value| entry.get("unit_id").is_some();
        if config.get("unit").is_none() && !points.iter().all(has_own) {
            let hint = "the number of the device on its bus: unit = 1; where there is only one, mostly 1, 0 or 255";
            problems.add_with_hint("", "`unit` is missing", hint);
        }
        Self { bus, points: out }
    }
}

fn list<'c>(config: &'c Value, problems: &mut Problems) -> &'c [Value] {
    const EXAMPLE: &str = "points = [{ name = \"flow\", address = \"holding:0\", type = \"f32\" }]";
    let Some(value) = config.get("points") else {
        problems.add_with_hint("", "`points` is missing", EXAMPLE);
        return &[];
    };
    match value.as_array() {
        None => problems.add_with_hint("/points", format!("a list belongs here, not {}", value.kind()), EXAMPLE),
        Some([]) => problems.add_with_hint("/points", "there is no point in it", EXAMPLE),
        Some(points) if points.len() > POINTS_MAX => {
            let message = format!("{} points; a source may have {POINTS_MAX}", points.len());
            problems.add_with_hint("/points", message, "divide them among sources: they share the bus");
        }
        Some(points) => return points,
    }
    &[]
}

/// One of a few words.
pub fn word<'w>(value: &Value, path: &str, words: &[&'w str], problems: &mut Problems) -> Option<&'w str> {
    let Some(text) = value.as_str() else {
        let message = format!("a string belongs here, not {}", value.kind());
        problems.add_with_hint(path, message, format!("one of: {}", words.join(", ")));
        return None;
    };
    let found = words.iter().find(|word| **word == text).copied();
    if found.is_none() {
        problems.add_with_hint(path, format!("`{text}` is not known here"), suggestion(text, words));
    }
    found
}

#[cfg(test)]
mod tests;
