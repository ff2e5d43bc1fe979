//! Every normative statement of MQTT that binds a client is named beside the code or the test that fulfils it:
//! `tests/mqtt-statements.txt` lists them, and this holds src and tests against the list.

use std::collections::{BTreeMap, BTreeSet};

/// Statements of one version, by number, and in which files they are named.
type Cited = BTreeMap<(char, String), BTreeSet<String>>;

/// All that is wrong with the list or the code, and how many statements are covered and excepted.
pub fn check(list: &str, tree: &BTreeMap<String, String>) -> (Vec<String>, usize, usize) {
    let cited = cited(tree);
    let (mut wrong, mut covered, mut excepted) = (Vec::new(), 0, BTreeSet::new());
    let mut known = BTreeSet::new();
    for line in list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (version, number) = match words.as_slice() {
            ["-", version @ ("5" | "3"), number, _, ..] => {
                excepted.insert((*version, *number));
                (*version, *number)
            }
            [version @ ("5" | "5!" | "3"), number, _, ..] => (*version, *number),
            _ => {
                wrong.push(format!("not a line of this list: {line}"));
                continue;
            }
        };
        let of = version.chars().next().unwrap_or('5');
        if !known.insert((of, number.to_owned())) {
            wrong.push(format!("{version} {number} stands twice"));
        }
        if words[0] == "-" {
            continue;
        }
        let key = match words.get(2..) {
            Some(["=", same]) => ('5', (*same).to_owned()),
            _ => (of, number.to_owned()),
        };
        let places = cited.get(&key);
        let is_tested = |places: &BTreeSet<String>| {
            places.iter().any(|path| path.split(['/', '.']).any(|part| part == "tests" || part == "sim"))
        };
        match places {
            None => wrong.push(format!("{version} {number} is named nowhere: {line}")),
            Some(places) if version == "5!" && !is_tested(places) => {
                wrong.push(format!("5 {number} is named in no test: {line}"));
            }
            Some(_) => covered += 1,
        }
    }
    (wrong, covered, excepted.len())
}

/// `[MQTT-1.2.3-4]` is a statement of 5.0, and what stands behind "3.1.1" in the same line one of 3.1.1.
fn cited(tree: &BTreeMap<String, String>) -> Cited {
    let mut cited = Cited::new();
    for (path, text) in tree.iter().filter(|(path, _)| !path.contains("tidy")) {
        for line in text.lines() {
            let old = line.find("3.1.1").filter(|&at| !line.get(..at).is_some_and(|before| before.ends_with("MQTT-")));
            // In a comment, or as the rule of an error.
            for (at, mark) in line.match_indices("[MQTT-").chain(line.match_indices("\"MQTT-")) {
                let rest = line.get(at + mark.len()..).unwrap_or_default();
                let Some((number, _)) = rest.split_once([']', '"']) else { continue };
                let version = if old.is_some_and(|old| old < at) { '3' } else { '5' };
                cited.entry((version, number.to_owned())).or_default().insert(path.clone());
            }
        }
    }
    cited
}

/// The list says what it is about, and sees what is missing.
#[test]
fn what_is_missing_is_seen() {
    let list = "5 1.1.1-1 one\n5! 1.1.1-2 two\n3 1.1.1-1 one\n3 9.9.9-9 = 1.1.1-1\n- 5 1.1.1-3 why\n";
    let tree = |path: &str, text: &str| BTreeMap::from([(path.to_owned(), text.to_owned())]);
    let count = |path, text| check(list, &tree(path, text)).0.len();
    let all = "// [MQTT-1.1.1-1] [MQTT-1.1.1-2]\n// 3.1.1 [MQTT-1.1.1-1]";
    assert_eq!(check(list, &tree("src/a/tests.rs", all)), (vec![], 4, 1));
    assert_eq!(count("src/a.rs", all), 1, "the second one needs a test");
    assert_eq!(count("src/a/tests/b.rs", "[MQTT-1.1.1-1] [MQTT-1.1.1-2]"), 1, "3.1.1 is another text");
    assert_eq!(count("src/a/tests/b.rs", ""), 4);
    assert_eq!(check("5 1.1.1-1\n", &tree("a", "")).0.len(), 1, "a line without words");
}
