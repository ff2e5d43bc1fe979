//! What is a command and what is none, when one lapses, and what answers look like.

use super::*;

const S: i64 = 1_000_000_000;
/// 2026-11-22T17:00:00Z.
const NOON: i64 = 1_795_366_800 * S;

fn read(text: &str) -> Result<Command, Refused> {
    Command::read(text.as_bytes())
}

fn here() -> Arrival {
    Arrival { at_ns: NOON, expiry_s: None, waited: false }
}

#[test]
fn a_command_is_read() {
    let command = read(r#"{"id":"c-17","name":"write","args":{"b":1,"a":[2]},"sent":"2026-11-22T16:59:59Z","more":0}"#);
    let command = command.unwrap();
    assert_eq!((command.id.as_str(), command.name.as_str()), ("c-17", "write"));
    assert_eq!(command.args, r#"{"b":1,"a":[2]}"#);
    assert_eq!((command.sent_ns, command.expires_ns), (Some(NOON - S), None));
    assert_eq!(read(r#"{"id":"c","name":"n"}"#).unwrap().args, "{}");
    assert_eq!(read(r#"{"id":"c","name":"n","args":18446744073709551615}"#).unwrap().args, "18446744073709551615");
}

#[test]
fn what_is_no_command_is_invalid_and_says_why() {
    let deep = format!(r#"{{"id":"c","name":"n","args":{}{}}}"#, "[".repeat(40), "]".repeat(40));
    let long = format!(r#"{{"id":"{}","name":"n"}}"#, "x".repeat(COMMAND_ID_MAX + 1));
    let large = format!(r#"{{"id":"c","name":"n","args":"{}"}}"#, "x".repeat(COMMAND_BYTES_MAX));
    for (text, id, words) in [
        ("", None, "not JSON"),
        ("\u{1}", None, "not JSON"),
        ("[1]", None, "JSON object"),
        (r#"{"name":"n"}"#, None, "`id` is missing"),
        (r#"{"id":17,"name":"n"}"#, None, "`id` is missing"),
        (r#"{"id":"","name":"n"}"#, None, "`id` is missing"),
        (long.as_str(), None, "`id` is missing"),
        (r#"{"id":"c"}"#, Some("c"), "`name` is missing"),
        (r#"{"id":"c","name":"n","sent":"yesterday"}"#, Some("c"), "`sent` is no time"),
        (r#"{"id":"c","name":"n","expires":1795366800}"#, Some("c"), "`expires` is no text"),
        (deep.as_str(), None, "nested deeper"),
        (large.as_str(), None, "at most"),
    ] {
        let refused = read(text).unwrap_err();
        assert_eq!((refused.refusal, refused.id.as_deref()), (Refusal::Invalid, id), "{text:.80}");
        assert!(refused.message.contains(words), "{text:.80}: {}", refused.message);
    }
    // Brackets in a text are no depth.
    let text = format!(r#"{{"id":"c","name":"n","args":"{}\"{}"}}"#, "[".repeat(60), "{".repeat(60));
    assert!(read(&text).is_ok());
}

#[test]
fn a_command_lapses() {
    let command = |rest: &str| read(&format!(r#"{{"id":"c","name":"n"{rest}}}"#)).unwrap();
    let lapses = |rest: &str, arrival| command(rest).lapses_ns(arrival).map_err(|refused| refused.refusal);
    assert_eq!(lapses("", here()), Ok(NOON + 60 * S));
    assert_eq!(lapses("", Arrival { waited: true, ..here() }), Err(Refusal::Expired));
    // 60 s after `sent`, and not later because the sender's clock is ahead.
    let sent = r#","sent":"2026-11-22T16:59:30Z""#;
    assert_eq!(lapses(sent, Arrival { waited: true, ..here() }), Ok(NOON + 30 * S));
    assert_eq!(lapses(r#","sent":"2027-01-01T00:00:00Z""#, here()), Ok(NOON + 60 * S));
    assert_eq!(lapses(r#","sent":"2026-11-22T16:59:00Z""#, here()), Err(Refusal::Expired));
    // `expires`, or what the broker left it, alone or both: the earlier one. `sent` says nothing beside them.
    let expires = r#","sent":"2026-11-22T10:00:00Z","expires":"2026-11-22T17:10:00Z""#;
    assert_eq!(lapses(expires, here()), Ok(NOON + 600 * S));
    assert_eq!(lapses(expires, Arrival { expiry_s: Some(5), ..here() }), Ok(NOON + 5 * S));
    assert_eq!(lapses("", Arrival { expiry_s: Some(5), waited: true, ..here() }), Ok(NOON + 5 * S));
    assert_eq!(lapses("", Arrival { expiry_s: Some(0), ..here() }), Err(Refusal::Expired));
    assert_eq!(lapses(r#","expires":"2026-11-22T17:00:00Z""#, here()), Err(Refusal::Expired));
    assert_eq!(lapses("", Arrival { expiry_s: Some(u32::MAX), ..here() }), Ok(NOON + i64::from(u32::MAX) * S));
}

#[test]
fn answers() {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert_eq!(text(success("c", r#"{"b":1,"a":2}"#)), r#"{"id":"c","ok":true,"result":{"b":1,"a":2}}"#);
    assert_eq!(text(success("c", "")), r#"{"id":"c","ok":true,"result":null}"#);
    assert!(text(success("c", "{")).contains(r#""error":"failed""#));
    assert!(text(success("c", &"1".repeat(RESULT_BYTES_MAX + 1))).contains("is the most"));
    assert_eq!(text(refusal(None, Refusal::Denied, "no")), r#"{"id":null,"ok":false,"error":"denied","message":"no"}"#);
    // Cut between letters, not inside one.
    let long = text(refusal(Some("c"), Refusal::Failed, &"ä".repeat(MESSAGE_MAX)));
    assert!(long.len() < MESSAGE_MAX + 60, "{}", long.len());
}

proptest::proptest! {
    #[test]
    fn nothing_that_comes_in_panics(payload: Vec<u8>, at_ns: i64, expiry_s: Option<u32>, waited: bool) {
        if let Ok(command) = Command::read(&payload) {
            let _ = command.lapses_ns(Arrival { at_ns, expiry_s, waited });
        }
    }

    #[test]
    fn every_command_of_the_right_shape_is_judged(id in ".{1,20}", args in ".{0,20}", at_ns: i64, sent in "[0-9TZ:.-]{0,30}") {
        let payload = json!({"id": id, "name": "n", "args": args, "sent": sent}).to_string();
        if let Ok(command) = Command::read(payload.as_bytes()) {
            proptest::prop_assert_eq!(&command.id, &id);
            let _ = command.lapses_ns(Arrival { at_ns, expiry_s: None, waited: false });
        }
    }
}
