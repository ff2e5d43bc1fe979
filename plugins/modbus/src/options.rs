//! The source's `config` table: the bus, the unit, and the list of points. What is wrong is told all at once, each
//! with its place.

use std::rc::Rc;

use outstation_sdk::Problems;
use outstation_sdk::config::{Document, Value, suggestion};

use registers::Codec;

use crate::points::{self, Point};

/// Points that a source may have; the host's limit.
const POINTS_MAX: usize = 10_000;
/// Different ways to read a point that are looked for among those before.
const CODECS_MAX: usize = 64;

/// What the table says.
#[derive(Debug, Default)]
pub struct Options {
    /// Name of a `[bus.NAME]`.
    pub bus: String,
    /// In the order of the list.
    pub points: Vec<Point>,
}

impl Options {
    /// What the table says, as far as it can be told; what is wrong with it goes to `problems`. One point at a time: all
    /// of them are not in memory but as what they mean.
    pub fn read(document: &str, problems: &mut Problems) -> Self {
        let document = match Document::parse(document, "points") {
            Ok(document) => document,
            Err(reason) => {
                problems.add("", format!("not JSON: {reason}"));
                return Self::default();
            }
        };
        let config = &document.table;
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
        let length = length(&document, problems);
        let (mut points, mut numbers) = (Vec::with_capacity(length), Vec::with_capacity(length));
        let (mut all_have_own, mut codecs) = (true, Vec::new());
        for (number, entry) in document.elements().take(length).enumerate() {
            all_have_own &= entry.get("unit_id").is_some();
            if let Some(mut point) = Point::read(&entry, &format!("/points/{number}"), unit, problems) {
                share(&mut codecs, &mut point.codec);
                points.push(point);
                numbers.push(number);
            }
        }
        twins(&points, &numbers, problems);
        if config.get("unit").is_none() && !all_have_own {
            let hint = "the number of the device on its bus: unit = 1; where there is only one, mostly 1, 0 or 255";
            problems.add_with_hint("", "`unit` is missing", hint);
        }
        Self { bus, points }
    }
}

/// Of those that are equal one is kept.
fn share(known: &mut Vec<Rc<Codec>>, codec: &mut Rc<Codec>) {
    match known.iter().find(|known| *known == codec) {
        Some(known) => *codec = Rc::clone(known),
        None if known.len() < CODECS_MAX => known.push(Rc::clone(codec)),
        None => {}
    }
}

/// How many points are to be looked at.
fn length(document: &Document<'_>, problems: &mut Problems) -> usize {
    const EXAMPLE: &str = "points = [{ name = \"flow\", address = \"holding:0\", type = \"f32\" }]";
    match (document.table.get("points"), document.length) {
        (None, _) => problems.add_with_hint("", "`points` is missing", EXAMPLE),
        (Some(value), _) if value.as_array().is_none() => {
            problems.add_with_hint("/points", format!("a list belongs here, not {}", value.kind()), EXAMPLE);
        }
        (Some(_), 0) => problems.add_with_hint("/points", "there is no point in it", EXAMPLE),
        (Some(_), count) if count > POINTS_MAX => {
            let message = format!("{count} points; a source may have {POINTS_MAX}");
            problems.add_with_hint("/points", message, "divide them among sources: they share the bus");
        }
        (Some(_), count) => return count,
    }
    0
}

/// Every point needs a name of its own. `numbers` are theirs in the list.
fn twins(points: &[Point], numbers: &[usize], problems: &mut Problems) {
    let mut named: Vec<(&str, usize)> =
        points.iter().zip(numbers).map(|(point, number)| (&*point.name, *number)).collect();
    named.sort_unstable();
    let pairs = named.iter().zip(named.iter().skip(1));
    let mut twins: Vec<_> = pairs.filter(|((one, _), (other, _))| one == other).collect();
    twins.sort_unstable_by_key(|(_, (_, number))| *number);
    for ((name, first), (_, number)) in twins {
        let message = format!("two points are called `{name}`");
        let hint = format!("the other one is number {}", first + 1);
        problems.add_with_hint(&format!("/points/{number}/name"), message, hint);
    }
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
