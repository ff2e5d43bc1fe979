//! Every fault that users of other systems met, F-1 to F-46, has a test that names it: `F-12` in the comment in front of
//! the test.

use std::collections::{BTreeMap, BTreeSet};

/// The last of them.
pub const LAST: u32 = 46;
/// Those that no test names, each with the reason.
pub const EXCEPTIONS: &[(u32, &str)] = &[];

/// The faults that no test names and no exception does, and the exceptions that are none any more.
pub fn check(tree: &BTreeMap<String, String>, last: u32, exceptions: &[(u32, &str)]) -> Vec<String> {
    let mut tested = BTreeSet::new();
    tree.values().for_each(|text| named(text, &mut tested));
    let is_excepted = |fault: &u32| exceptions.iter().any(|(excepted, _)| excepted == fault);
    let missing = (1..=last).filter(|fault| !tested.contains(fault) && !is_excepted(fault));
    let missing = missing.map(|fault| format!("F-{fault} is named by no test"));
    let stale = exceptions.iter().filter(|(fault, _)| tested.contains(fault));
    missing.chain(stale.map(|(fault, why)| format!("F-{fault} has a test, and is excepted: {why}"))).collect()
}

/// What the comments in front of tests name.
fn named(text: &str, tested: &mut BTreeSet<u32>) {
    let mut comment = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("//") {
            comment.extend(faults(words));
        } else if line.starts_with("#[") && line.contains("test") && !line.contains("cfg") {
            tested.append(&mut comment);
        } else if !line.starts_with("#[") {
            comment.clear();
        }
    }
}

/// `F-12`, but not what only ends like it.
fn faults(words: &str) -> impl Iterator<Item = u32> {
    words.match_indices("F-").filter_map(|(at, _)| {
        let is_word = !words.get(..at)?.ends_with(|before: char| before.is_alphanumeric() || before == '-');
        let digits: String = words.get(at + 2..)?.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok().filter(|_| is_word)
    })
}

#[test]
fn what_no_test_names_is_seen() {
    let check = |text: &str, exceptions: &[(u32, &str)]| {
        check(&BTreeMap::from([("a.rs".to_owned(), text.to_owned())]), 3, exceptions).len()
    };
    assert_eq!(check("/// F-1, F-2: words\n/// F-3\n#[tokio::test]\nasync fn f() {}", &[]), 0);
    assert_eq!(check("/// F-1\n/// of F-2\n#[ignore]\n#[test]\nfn f() {}", &[(3, "no machine for it")]), 0);
    assert_eq!(check("/// F-1\n#[test]\nfn f() {}", &[(1, "stale"), (2, ""), (3, "")]), 1);
    for none in
        ["", "/// F-1\nfn f() {}\n#[test]\nfn g() {}", "// F-1\n#[cfg(test)]\nmod tests;", "/// UTF-1 F-12\n#[test]"]
    {
        assert_eq!(check(none, &[]), 3, "{none}");
    }
}
