//! Vectors that another program made (vectors.py, with Python's struct and exact fractions): every type in every order,
//! every bit, strings, scales; read and written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use registers::{Codec, Order, Scale, Type, Value};

const VECTORS: &str = include_str!("vectors.tsv");

fn rows(what: &str) -> Vec<Vec<&'static str>> {
    let rows: Vec<Vec<_>> = VECTORS.lines().map(|line| line.split('\t').collect()).collect();
    rows.into_iter().filter(|row: &Vec<_>| row[0] == what).collect()
}

fn registers(hex: &str) -> Vec<u16> {
    hex.as_bytes().chunks(4).map(|four| u16::from_str_radix(std::str::from_utf8(four).unwrap(), 16).unwrap()).collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Numbers by what they are, not by how they are written.
fn same(value: &Value, expected: &str) -> bool {
    match value {
        Value::Real(real) => expected.parse::<f64>().is_ok_and(|expected| expected.to_bits() == real.to_bits()),
        other => shown(other) == expected,
    }
}

/// F-33: byte and word order differ by type, and one type is forgotten. F-37: off by one.
#[test]
fn f33_every_type_in_every_order() {
    let mut seen = BTreeMap::new();
    for row in rows("number").into_iter().chain(rows("string")) {
        let [_, kind, order, wire, expected] = row[..] else { panic!("{row:?}") };
        let (kind, order) = (Type::parse(kind).unwrap(), Order::parse(order).unwrap());
        let codec = Codec::new(kind, order);
        let value = codec.decode(&registers(wire)).unwrap();
        assert!(same(&value, expected), "{row:?}: {value:?}");
        // A register that is true may hold more than 1.
        if kind != Type::Bool {
            assert_eq!(codec.encode(&value).unwrap(), registers(wire), "{row:?}");
        }
        *seen.entry((format!("{kind:?}").split('(').next().unwrap().to_owned(), order)).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 10 * 4, "ten types, four orders: {seen:?}");
}

#[test]
fn f33_every_bit_in_every_order() {
    let rows = rows("bit");
    assert_eq!(rows.len(), 6 * 16 * 4);
    for row in rows {
        let [_, bit, order, wire, expected] = row[..] else { panic!("{row:?}") };
        let codec = Codec::bit(bit.parse().unwrap(), Order::parse(order).unwrap());
        let before = registers(wire)[0];
        assert_eq!(codec.decode(&[before]).unwrap().to_string(), expected, "{row:?}");
        for on in [true, false] {
            let (keep, set) = codec.mask(on);
            let after = before & keep | set & !keep;
            assert_eq!(codec.decode(&[after]), Ok(Value::Boolean(on)), "{row:?}");
            assert!((before ^ after).count_ones() <= 1, "{row:?}: other bits moved");
        }
    }
}

#[test]
fn scales_are_exact() {
    let rows = rows("scale");
    assert!(rows.len() > 1000);
    for row in rows {
        let [_, kind, raw, scale, offset, expected] = row[..] else { panic!("{row:?}") };
        let kind = Type::parse(kind).unwrap();
        let plain = Codec::new(kind, Order::ABCD);
        let raw = match raw.parse::<i64>() {
            Ok(raw) => plain.encode(&Value::Integer(raw)).unwrap(),
            Err(_) => plain.encode(&Value::Unsigned(raw.parse().unwrap())).unwrap(),
        };
        let codec = plain.scaled(Scale::new(scale.parse().unwrap(), offset.parse().unwrap()).unwrap());
        match codec.decode(&raw) {
            Ok(value) => {
                assert!(same(&value, expected), "{row:?}: {value:?}");
                // Back to the same registers, as long as a double tells the steps apart.
                if !matches!(value, Value::Real(real) if real.abs() > 1e12) && !scale.contains("e-") {
                    assert_eq!(codec.encode(&value).as_ref(), Ok(&raw), "{row:?}: {value:?}");
                }
            }
            Err(fault) => assert_eq!(expected, "overflow", "{row:?}: {fault}"),
        }
    }
}
