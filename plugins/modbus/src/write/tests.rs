//! Commands on a made-up bus.

#![allow(clippy::unwrap_used, reason = "tests")]

use outstation_sdk::config::parse;

use super::*;
use crate::sample::tests::{Fake, bus, points};

const POINTS: &str = r#"{"name": "pump", "address": "coil:3"},
    {"name": "setpoint", "address": "holding:0", "type": "i16", "scale": 0.1, "range": [5, 80]},
    {"name": "limit", "address": "holding:1", "type": "f32", "order": "CDAB", "read_back": true},
    {"name": "alarm", "address": "holding:3.9"},
    {"name": "mode", "address": "holding:3.0", "bit_write": "rewrite"},
    {"name": "count", "address": "holding:4"},
    {"name": "flow", "address": "input:4"}, {"name": "name", "address": "holding:5", "type": "string:4"}"#;

fn run(bus: &mut Fake, args: &str) -> Result<String, Rejection> {
    write(&points(POINTS), bus, &parse(args).unwrap()).map(|answer| answer.to_string())
}

fn plant() -> Fake {
    bus(&[215, 0, 0x4148, 0x00ff, 7, 0x4142, 0])
}

fn failed(result: Result<String, Rejection>) -> String {
    match result {
        Err(Rejection::Failed(text) | Rejection::Invalid(text)) => text,
        other => format!("{other:?}"),
    }
}

#[test]
fn the_answer_has_the_old_and_the_new_value() {
    let mut bus = plant();
    assert_eq!(
        run(&mut bus, r#"{"point":"pump","value":true}"#).unwrap(),
        r#"{"point":"pump","old":false,"new":true}"#
    );
    assert_eq!(
        run(&mut bus, r#"{"point":"setpoint","value":22}"#).unwrap(),
        r#"{"point":"setpoint","old":21.5,"new":22.0}"#
    );
    assert_eq!(
        run(&mut bus, r#"{"point":"setpoint","value":22.26}"#).unwrap(),
        r#"{"point":"setpoint","old":22.0,"new":22.3}"#
    );
    assert_eq!(
        run(&mut bus, r#"{"point":"limit","value":-1.5}"#).unwrap(),
        r#"{"point":"limit","old":12.5,"new":-1.5}"#
    );
    assert_eq!(
        run(&mut bus, r#"{"point":"name","value":"CD\""}"#).unwrap(),
        r#"{"point":"name","old":"AB","new":"CD\""}"#
    );
    assert_eq!(
        format!("{:?}", bus.written),
        format!(
            "{:?}",
            [
                Write::Coil((3, true)),
                Write::Register((0, 220)),
                Write::Register((0, 223)),
                Write::Registers((1, vec![0, 0xbfc0])),
                Write::Registers((5, vec![0x4344, 0x2200])),
            ]
        )
    );
}

#[test]
fn a_bit_leaves_the_others_alone() {
    let mut bus = plant();
    assert_eq!(
        run(&mut bus, r#"{"point":"alarm","value":true}"#).unwrap(),
        r#"{"point":"alarm","old":false,"new":true}"#
    );
    assert_eq!(
        run(&mut bus, r#"{"point":"mode","value":false}"#).unwrap(),
        r#"{"point":"mode","old":true,"new":false}"#
    );
    assert_eq!(
        format!("{:?}", bus.written),
        format!("{:?}", [Write::MaskRegister((3, !0x0200, 0x0200)), Write::Register((3, 0x02fe))])
    );
    assert_eq!(bus.registers.get(&(1, 3)), Some(&0x02fe));
}

#[test]
fn nothing_is_written_that_does_not_fit() {
    let mut bus = plant();
    for (args, word) in [
        (r#"{"point":"setpoint","value":80.1}"#, "out of range: 5 to 80"),
        (r#"{"point":"setpoint","value":true}"#, "no number"),
        (r#"{"point":"count","value":65536}"#, "0 to 65535"),
        (r#"{"point":"count","value":1.5}"#, "no whole number"),
        (r#"{"point":"count","value":1e300}"#, "too large"),
        (r#"{"point":"pump","value":1}"#, "true or false, not a number"),
        (r#"{"point":"alarm","value":"on"}"#, "true or false, not a string"),
        (r#"{"point":"pump"}"#, "`value` is missing"),
        (r#"{"point":"pump","value":null}"#, "true or false, not nothing"),
        (r#"{"point":"count","value":[1]}"#, "can't be an array"),
        (r#"{"value":1}"#, "`point` is missing"),
        (r#"{"point":"pumps","value":true}"#, "did you mean `pump`?"),
        (r#"{"point":"flow","value":1}"#, "input:4, which no device lets be written"),
        (r#"{"point":"pump","value":true,"verify":true}"#, "unknown argument `verify`"),
        (r#"{"point":"pump","value":true,"read_back":1}"#, "`read_back` is true or false"),
        (r#"{"point":"name","value":"longer"}"#, "room for 4"),
        ("7", "as {\"point\""),
    ] {
        let result = run(&mut bus, args);
        assert!(matches!(&result, Err(Rejection::Invalid(text)) if text.contains(word)), "{args}: {result:?}");
    }
    assert!(bus.written.is_empty());
}

#[test]
fn what_was_not_kept_is_told() {
    let mut bus = Fake { forgets: true, ..plant() };
    let text = failed(run(&mut bus, r#"{"point":"limit","value":3}"#));
    assert_eq!(text, "3 was written, and 12.5 was read back");
    assert!(run(&mut bus, r#"{"point":"count","value":3}"#).is_ok(), "nobody asked");
    let text = failed(run(&mut bus, r#"{"point":"count","value":3,"read_back":true}"#));
    assert_eq!(text, "3 was written, and 7 was read back");
}

#[test]
fn refusals_have_their_words() {
    let with = |error| Fake { broken: [(1, error)].into(), ..plant() };
    let write = r#"{"point":"count","value":3}"#;
    assert!(matches!(run(&mut with(Error::Denied), write), Err(Rejection::Denied)));
    assert!(failed(run(&mut with(Error::Exception(2)), write)).contains("exception 2, there is no such register"));
    assert!(failed(run(&mut with(Error::Timeout), write)).contains("not known"));
    let bit = r#"{"point":"alarm","value":true}"#;
    assert!(failed(run(&mut with(Error::Exception(1)), bit)).contains("bit_write = \"rewrite\""));
    assert!(failed(run(&mut with(Error::Exception(1)), write)).contains("write = \"multiple\""));
    // What stands there cannot be read: it is written all the same, and the answer says null.
    let mut blind = bus(&[]);
    assert_eq!(run(&mut blind, write).unwrap(), r#"{"point":"count","old":null,"new":3}"#);
}
