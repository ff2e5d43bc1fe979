//! What is refused, and with which words; what is neither in the vectors nor in a module's own tests.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use registers::{Codec, Kind, Order, Scale, Type, Value};

#[test]
fn twelve_point_three_is_twelve_point_three() {
    let codec = Codec::new(Type::U16, Order::ABCD).scaled(Scale::new(0.1, 0.0).unwrap());
    assert_eq!(codec.decode(&[123]), Ok(Value::Real(12.3)));
    assert_eq!(codec.decode(&[3]), Ok(Value::Real(0.3)));
    let float = Codec::new(Type::F32, Order::ABCD);
    assert_eq!(float.decode(&[0x4144, 0xcccd]), Ok(Value::Real(12.3)));
    assert_eq!(float.scaled(Scale::new(0.1, 0.0).unwrap()).decode(&[0x42f6, 0x0000]), Ok(Value::Real(12.3)));
}

#[test]
fn kinds_follow_type_and_scale() {
    let kind = |kind, scale, offset| Codec::new(kind, Order::ABCD).scaled(Scale::new(scale, offset).unwrap()).kind();
    assert_eq!(kind(Type::U16, 1.0, 0.0), Kind::Unsigned);
    assert_eq!(kind(Type::U16, 10.0, 5.0), Kind::Unsigned);
    assert_eq!(kind(Type::U16, 1.0, -40.0), Kind::Integer);
    assert_eq!(kind(Type::U32, -1.0, 0.0), Kind::Integer);
    assert_eq!(kind(Type::I16, 10.0, 0.0), Kind::Integer);
    assert_eq!(kind(Type::I16, 0.1, 0.0), Kind::Real);
    assert_eq!(kind(Type::F32, 10.0, 0.0), Kind::Real);
    assert_eq!(kind(Type::Bool, 1.0, 0.0), Kind::Boolean);
    assert_eq!(kind(Type::String(4), 1.0, 0.0), Kind::Text);
}

#[test]
fn not_a_number_stays_one() {
    let codec = Codec::new(Type::F32, Order::ABCD);
    for scaled in [codec, codec.scaled(Scale::new(0.1, 3.0).unwrap())] {
        assert!(matches!(scaled.decode(&[0x7fc0, 0]), Ok(Value::Real(real)) if real.is_nan()));
        assert_eq!(scaled.decode(&[0x7f80, 0]), Ok(Value::Real(f64::INFINITY)));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let tenths = Codec::new(Type::U16, Order::ABCD).scaled(Scale::new(0.1, -40.0).unwrap());
    let refused = |codec: Codec, value: Value| codec.encode(&value).expect_err("refused").to_string();
    assert_eq!(refused(tenths, Value::Real(7000.0)), "7000 does not fit u16 (-40 to 6513.5)");
    assert_eq!(refused(tenths, Value::Real(-40.1)), "-40.1 does not fit u16 (-40 to 6513.5)");
    assert_eq!(tenths.encode(&Value::Real(-40.0)), Ok(vec![0]));
    assert_eq!(tenths.encode(&Value::Integer(20)), Ok(vec![600]));
    assert_eq!(tenths.encode(&Value::Real(21.37)), Ok(vec![614]), "to the nearest step");
    let plain = Codec::new(Type::I16, Order::ABCD);
    assert_eq!(refused(plain, Value::Real(3.5)), "3.5 is no whole number (this point has no fractions)");
    assert_eq!(plain.encode(&Value::Real(3.0)), Ok(vec![3]));
    assert!(refused(plain, Value::Integer(32_768)).ends_with("(-32768 to 32767)"));
    assert!(refused(plain, Value::Real(f64::NAN)).contains("no finite number"));
    assert!(refused(plain, Value::Boolean(true)).contains("is no number"));
    assert!(refused(Codec::new(Type::F32, Order::ABCD), Value::Real(1e39)).contains("does not fit f32"));
    assert!(refused(Codec::new(Type::Bool, Order::ABCD), Value::Integer(1)).contains("neither true nor false"));
    let text = Codec::new(Type::String(4), Order::ABCD);
    assert!(refused(text, Value::Text("12345".into())).contains("room for 4"));
    assert!(refused(text, Value::Text("°C".into())).contains("ASCII"));
    assert!(Scale::new(0.0, 1.0).is_err() && Scale::new(f64::NAN, 0.0).is_err());
}

#[test]
fn registers_that_are_too_few_are_no_value() {
    assert!(Codec::new(Type::F32, Order::ABCD).decode(&[1]).is_err());
    assert!(Codec::new(Type::U16, Order::ABCD).decode(&[]).is_err());
}

#[test]
fn texts_end_where_they_end() {
    let text = |registers: &[u16]| Codec::new(Type::String(4), Order::ABCD).decode(registers).unwrap();
    assert_eq!(text(&[0x4142, 0x2020]), Value::Text("AB".into()));
    assert_eq!(text(&[0x4100, 0x4243]), Value::Text("A".into()));
    assert_eq!(text(&[0x41b0, 0x4300]), Value::Text("A°C".into()), "one character a byte, where it is no UTF-8");
    assert_eq!(text(&[0xc2b0, 0x4300]), Value::Text("°C".into()));
}

#[test]
fn words_of_other_programs_get_a_hint() {
    assert_eq!(Type::parse("float32").unwrap_err().hint, "did you mean `f32`?");
    assert_eq!(Type::parse("U16").unwrap_err().hint, "did you mean `u16`?");
    assert!(Type::parse("string").unwrap_err().hint.contains("string:16"));
    assert!(
        Type::parse("string:0").is_err() && Type::parse("string:251").is_err() && Type::parse("string:+5").is_err()
    );
    assert!(Type::parse("complex").unwrap_err().hint.starts_with("one of: bool"));
    assert!(Order::parse("GHEFCDAB").unwrap_err().hint.contains("\"CDAB\""));
    assert!(Order::parse("little").unwrap_err().hint.contains("\"DCBA\""));
    for kind in Type::NUMBERS.into_iter().chain([Type::Bool, Type::String(7)]) {
        assert_eq!(Type::parse(&kind.word()), Ok(kind));
    }
}
