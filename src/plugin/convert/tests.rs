//! What a guest hands over, and what becomes of it.

use super::*;

#[test]
fn names_and_reasons() {
    for good in ["a", "net.eth0.rx_bytes", "A-1", &"x".repeat(128)] {
        assert!(is_id(good), "{good}");
    }
    for bad in ["", "a b", "a/b", "ü", "a\n", &"x".repeat(129)] {
        assert!(!is_id(bad), "{bad}");
    }
    assert!(is_reason("odd-weather2") && !is_reason("Odd") && !is_reason("") && !is_reason("a b"));
}

#[test]
fn long_texts_are_cut() {
    let cut = text("ä".repeat(500));
    assert!(cut.len() <= TEXT_MAX + '…'.len_utf8() && cut.ends_with('…'));
    assert_eq!(text("short".into()), "short");
}
