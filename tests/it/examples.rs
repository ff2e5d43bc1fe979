//! What the documents show is right: each TOML example of docs/devices.md, and of the manual where it is a whole source,
//! through `outstation check`, the plugins' own check included.

use crate::harness::plugins::repository;
use crate::harness::{Site, config};

/// The examples of a document: the heading above each, and its text.
fn examples(document: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(repository().join("docs").join(document)).expect("the document");
    let (mut found, mut heading, mut inside) = (Vec::new(), String::new(), None::<String>);
    for line in text.lines() {
        match &mut inside {
            Some(example) if line != "```" => {
                example.push_str(line);
                example.push('\n');
            }
            Some(_) => found.extend(inside.take().map(|example| (heading.clone(), example))),
            None if line == "```toml" => inside = Some(String::new()),
            None if line.starts_with('#') => line.trim_start_matches(['#', ' ']).clone_into(&mut heading),
            None => {}
        }
    }
    found
}

async fn is_right(what: &str, text: &str) {
    let site = Site::new(&config("mqtt://127.0.0.1", text), &["modbus", "gpio", "system"]);
    let outcome = site.outcome(&["check"]).await;
    assert_eq!(outcome.code, Some(0), "{what}:\n{text}\n{}", outcome.stderr);
    assert_eq!(outcome.stderr, "", "{what}: nothing to warn of");
}

#[tokio::test]
async fn every_example_of_devices_is_right() {
    let examples = examples("devices.md");
    let mut kinds: Vec<_> = examples.iter().map(|(heading, _)| heading.clone()).collect();
    kinds.dedup();
    assert_eq!(kinds.len(), 10, "ten kinds of device: {kinds:?}");
    for kind in kinds {
        let of_it = || examples.iter().filter(|(heading, _)| *heading == kind).map(|(_, text)| text.as_str());
        // The bus may be shown alone, and points as what they are put into.
        let whole: String = of_it().filter(|text| !text.starts_with("points")).collect();
        let named = whole.lines().find_map(|line| line.strip_prefix("[bus.")?.strip_suffix(']'));
        let bus = named.unwrap_or("b");
        let mut text = match named {
            Some(_) => whole.clone(),
            None => format!("[bus.b]\nurl = \"tcp://192.168.1.20\"\n{whole}"),
        };
        for (number, points) in of_it().filter(|text| text.starts_with("points")).enumerate() {
            text.push_str(&format!(
                "[source.s{number}]\nplugin = \"modbus\"\nevery = \"1s\"\nallow.modbus.{bus} = {{ read = true, write = true }}\n\
                 [source.s{number}.config]\nbus = \"{bus}\"\nunit = 1\n{points}"
            ));
        }
        is_right(&kind, &text).await;
    }
}

#[tokio::test]
async fn every_source_of_the_manual_is_right() {
    let whole = |text: &String| text.contains("[source.") && text.contains("plugin = ");
    let examples: Vec<_> = examples("manual.md").into_iter().filter(|(_, text)| whole(text)).collect();
    assert!(!examples.is_empty());
    for (heading, text) in examples {
        is_right(&heading, &text).await;
    }
}

/// The options of the system plugin, as the manual shows them.
#[tokio::test]
async fn the_options_of_system_statistics_are_right() {
    let (_, text) = examples("manual.md")
        .into_iter()
        .find(|(_, text)| text.starts_with("[source.host.config]"))
        .expect("the manual shows them");
    let source = "[source.host]\nplugin = \"system\"\nevery = \"10s\"\nallow = { system = true }\n";
    is_right("System statistics", &format!("{source}{text}")).await;
}
