//! Long lists are folded while a configuration is read: nothing that can be seen of it is another one for that.

use super::*;

const POINTS: usize = 1000;

/// A source whose points are a list of this many entries, in a file of its own; the last entry is `last`.
fn with_points(count: usize, last: &str) -> Loaded {
    let main = "[source.a]\nplugin = \"x\"\nevery = \"1s\"\n";
    let mut text = "[source.a.config]\nunit = 1\npoints = [\n".to_owned();
    for point in 1..count {
        text.push_str(&format!("  {{ name = \"p{point}\", address = \"holding:{point}\", scale = 0.5 }}, # a word\n"));
    }
    text.push_str(&format!("  {last},\n]\nbus = \"b\"\n"));
    let input = |name: &str, text: &str| Input { path: name.into(), text: text.into() };
    load(&[input("main.toml", main), input("points.toml", &text)], &environment("h"))
}

const LAST: &str = "{ name = \"é\", deep = [[1, 2], { z = true, at = 1979-05-27 }] }";

#[test]
fn a_long_list_is_handed_to_the_plugin_as_a_short_one() {
    let config = |count| with_points(count, LAST).settings.expect("sound").sources["a"].config.text().into_owned();
    let (long, short) = (config(POINTS), config(2));
    let begin = r#"{"bus":"b","points":[{"address":"holding:1","name":"p1","scale":0.5},"#;
    let end = r#"{"deep":[[1,2],{"at":"1979-05-27","z":true}],"name":"é"}],"unit":1}"#;
    assert_eq!(short, format!("{begin}{end}"));
    assert!(long.starts_with(begin) && long.ends_with(end), "{long}");
    assert_eq!(long.matches("\"address\"").count(), POINTS - 1);
}

#[test]
fn a_long_list_is_shown_with_all_that_is_in_it() {
    let loaded = with_points(POINTS, LAST);
    let shown = in_force(&loaded).remove("source.a.config.points").expect("it is in force");
    assert!(
        shown.value.ends_with("{ deep = [[1, 2], { at = 1979-05-27, z = true }], name = \"é\" }]"),
        "{}",
        shown.value
    );
    assert_eq!(shown.value.matches("address").count(), POINTS - 1);
    assert_eq!(shown.origin.map(|(_, line)| line), Some(3));
}

#[test]
fn what_is_wrong_in_a_long_list_is_said_at_its_place() {
    let loaded = with_points(POINTS, "{ name = \"x\", scale = nan }");
    let place = loaded.diagnostics.first().and_then(|diagnostic| diagnostic.place.clone()).expect("it is an error");
    assert_eq!((place.line, place.column), (3 + POINTS as u32, 25));
    let loaded = with_points(POINTS, LAST);
    let place = |pointer: &str| {
        let problem = loaded.origins.of_config("a").plugin_problem(pointer, "wrong".into(), None);
        problem.place.map(|place| (place.line, place.column))
    };
    assert_eq!(place("/points/500/scale"), Some((504, 53)));
    assert_eq!(place("/points/999/deep/1/z"), Some((1003, 39)));
    assert_eq!(place("/points/1000"), Some((3, 10)));
    assert_eq!(loaded.origins.place(&["source", "a", "config", "points", "7", "name"]).map(|at| at.line), Some(11));
}

#[test]
fn a_long_list_is_replaced_whole() {
    let long = with_points(POINTS, LAST);
    let mut inputs: Vec<Input> = long
        .origins
        .written
        .files
        .0
        .iter()
        .map(|file| Input { path: file.path.clone(), text: file.text.clone() })
        .collect();
    inputs.push(Input { path: "z.toml".into(), text: "[source.a.config]\npoints = []\n".into() });
    let loaded = load(&inputs, &environment("h"));
    assert_eq!(
        loaded.settings.expect("sound").sources["a"].config.text().into_owned(),
        r#"{"bus":"b","points":[],"unit":1}"#
    );
    assert_eq!(loaded.diagnostics.iter().map(|diagnostic| diagnostic.code).collect::<Vec<_>>(), ["set-twice"]);
}
