//! Configurations, right and wrong.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use registers::Kind;

use super::*;

fn problems(config: &str) -> Vec<(String, String)> {
    let mut problems = Problems::default();
    Options::read(config, &mut problems);
    let shown = |problem: &outstation_sdk::config::Problem| {
        (problem.path.clone(), format!("{}; {}", problem.message, problem.hint.as_deref().unwrap_or_default()))
    };
    problems.list().iter().map(shown).collect()
}

fn of_point(point: &str) -> Vec<(String, String)> {
    problems(&format!(r#"{{"bus": "b", "unit": 1, "points": [{point}]}}"#))
}

fn points(list: &str) -> Vec<Point> {
    let mut problems = Problems::default();
    let config = format!(r#"{{"bus": "b", "unit": 1, "points": [{list}]}}"#);
    let options = Options::read(&config, &mut problems);
    assert!(problems.list().is_empty(), "{:?}", problems.list());
    options.points
}

#[test]
fn the_example_of_the_contract_is_right() {
    let points = points(
        r#"{"name": "flow", "address": "holding:0", "type": "f32", "order": "CDAB", "scale": 0.1, "offset": 0.0,
            "unit": "m3/h", "deadband": 0.5, "heartbeat": "1m"},
           {"name": "pump", "address": "coil:3", "type": "bool"}"#,
    );
    assert_eq!(points.len(), 2);
    assert_eq!((points[0].codec.kind(), points[1].codec.kind()), (Kind::Real, Kind::Boolean));
    assert_eq!(points[0].more().heartbeat, Some(std::time::Duration::from_secs(60)));
}

#[test]
fn types_have_a_default() {
    let kinds = points(
        r#"{"name": "a", "address": "40001"}, {"name": "b", "address": "discrete:0"}, {"name": "c", "address": "40001.7"},
           {"name": "d", "address": "input:0", "scale": 0.1}, {"name": "e", "address": "input:0", "type": "string:8"},
           {"name": "f", "address": "input:0", "offset": -40}"#,
    );
    let kinds: Vec<Kind> = kinds.iter().map(|point| point.codec.kind()).collect();
    assert_eq!(kinds, [Kind::Unsigned, Kind::Boolean, Kind::Boolean, Kind::Real, Kind::Text, Kind::Integer]);
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let found = problems(
        r#"{"buss": "b", "unit": 256, "points": [
            {"name": "a b", "address": 0, "type": "float", "order": "little"},
            {"name": "x", "address": "hold:1", "scale": 0},
            {"name": "x", "address": "coil:1", "order": "CDAB", "scale": 2},
            {"name": "x", "address": "holding:65535", "type": "f32"},
            {"name": "y", "address": "holding:1", "deadband": -1, "heartbeat": 10, "range": [5, 1], "unit": 7, "scale": "0.1"},
            {"name": "y", "address": "holding:1.3", "type": "u16", "unti": "x", "unit_id": -1},
            7
        ]}"#,
    );
    let at =
        |path: &str| found.iter().filter(|(known, _)| known == path).map(|(_, text)| text.as_str()).collect::<Vec<_>>();
    assert!(at("/buss")[0].contains("did you mean `bus`?"));
    assert!(at("")[0].contains("`bus` is missing"));
    assert_eq!(at("").len(), 1, "a wrong unit is not a missing one");
    assert!(at("/unit")[0].contains("1 to 247"));
    assert!(at("/points/0/name")[0].contains("letters, digits"));
    assert!(at("/points/0/address")[0].contains("not a number"));
    assert!(at("/points/0/type")[0].contains("did you mean `f32`?"));
    assert!(at("/points/0/order")[0].contains("\"DCBA\""));
    assert!(at("/points/1/address")[0].contains("did you mean `holding`?"));
    assert!(at("/points/1/scale")[0].contains("every value the same"));
    assert!(at("/points/2/order")[0].contains("no order"));
    assert!(at("/points/2/scale")[0].contains("`bool` has no scale"));
    assert!(at("/points/3/address")[0].contains("beyond the last"));
    assert!(at("/points/4/deadband")[0].contains("not negative"));
    assert!(at("/points/4/heartbeat")[0].contains("\"30s\""));
    assert!(at("/points/4/range")[0].contains("holds nothing"));
    assert!(at("/points/4/unit")[0].contains("`unit_id`"));
    assert!(at("/points/4/scale")[0].contains("a number belongs here, not a string"));
    assert!(at("/points/5/type")[0].contains("does not fit one bit"));
    assert!(at("/points/5/unti")[0].contains("did you mean `unit`?"));
    assert!(at("/points/5/unit_id")[0].contains("1 to 247"));
    assert!(at("/points/6")[0].contains("a table belongs here"));
    assert_eq!(found.len(), 21, "{found:#?}");
}

#[test]
fn two_points_of_one_name_are_an_error() {
    let found = problems(
        r#"{"bus": "b", "unit": 1, "points": [{"name": "x", "address": "coil:0"}, {"name": "x", "address": "coil:1"}]}"#,
    );
    assert_eq!(found.len(), 1);
    assert!(found[0].0 == "/points/1/name" && found[0].1.contains("number 1"), "{found:?}");
}

#[test]
fn what_is_missing_is_named() {
    let found = problems("{}");
    let texts: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
    assert!(found.iter().all(|(path, _)| path.is_empty()));
    assert!(texts[0].starts_with("`bus` is missing") && texts[1].starts_with("`points` is missing"), "{texts:?}");
    assert!(problems(r#"{"bus": "b", "unit": 1, "points": []}"#)[0].1.contains("no point"));
    assert!(of_point("{}").len() == 2);
}

#[test]
fn a_unit_is_needed_unless_every_point_has_its_own() {
    let own = r#"{"bus": "b", "points": [{"name": "x", "address": "coil:0", "unit_id": 3}]}"#;
    assert!(problems(own).is_empty());
    let one = r#"{"bus": "b", "points": [{"name": "x", "address": "coil:0", "unit_id": 3}, {"name": "y", "address": "coil:0"}]}"#;
    assert!(problems(one)[0].1.contains("`unit` is missing"));
}

#[test]
fn values_that_are_none_are_told_as_data_sheets_do() {
    let points = points(
        r#"{"name": "a", "address": "input:0", "type": "i16", "no_value": 32768},
           {"name": "b", "address": "input:0", "type": "u32", "order": "CDAB", "no_value": [4294967295, 1]},
           {"name": "c", "address": "input:0", "type": "i32", "scale": 0.1, "no_value": -1}"#,
    );
    assert_eq!(points[0].more().no_value, [[0x8000]]);
    assert_eq!(points[1].more().no_value, [[0xffff, 0xffff], [1, 0]]);
    assert_eq!(points[2].more().no_value, [[0xffff, 0xffff]], "raw, before the scale");
    let wrong = of_point(r#"{"name": "a", "address": "input:0", "no_value": 65536}"#);
    assert!(wrong[0].0 == "/points/0/no_value" && wrong[0].1.contains("0 to 65535"), "{wrong:?}");
}
