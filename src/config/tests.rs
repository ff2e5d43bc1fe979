//! The corpus of `tests/configs`: every file loaded, what is said of it kept as a snapshot; and what no text may do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed"
)]

mod coverage;
mod folding;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/configs");

fn environment(host_name: &str) -> Environment {
    Environment {
        host_name: host_name.to_owned(),
        default_data_dir: "/var/lib/outstation".into(),
        default_plugin_dirs: vec!["/usr/local/lib/outstation/plugins".into(), "/usr/lib/outstation/plugins".into()],
    }
}

fn load_text(text: &str) -> Loaded {
    let input = Input { path: "/etc/outstation/agent.toml".into(), text: text.into() };
    load(&[input], &environment("gateway-7"))
}

/// Files of a folder that end in `.toml`, in the order of their names.
fn toml_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

/// A file with the drop-ins beside it.
fn case(path: &Path) -> (String, Vec<Input>) {
    let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
    let mut inputs =
        vec![Input { path: path.file_name().unwrap().into(), text: fs::read_to_string(path).unwrap().into() }];
    let folder = path.with_extension("d");
    for drop_in in toml_files(&folder) {
        let shown = Path::new(folder.file_name().unwrap()).join(drop_in.file_name().unwrap());
        inputs.push(Input { path: shown, text: fs::read_to_string(&drop_in).unwrap().into() });
    }
    (name, inputs)
}

fn load_case(name: &str, inputs: &[Input]) -> Loaded {
    load(inputs, &environment(if name.starts_with("common-host-name") { "raspberrypi" } else { "gateway-7" }))
}

fn snapshot(kind: &str, name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("{CORPUS}/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(format!("{kind}-{name}"), text));
}

#[test]
fn valid_files_load_and_show_where_each_value_comes_from() {
    let files = toml_files(&Path::new(CORPUS).join("valid"));
    assert!(files.len() >= 30, "{}", files.len());
    for path in files {
        let (name, inputs) = case(&path);
        let loaded = load_case(&name, &inputs);
        let said = render_all(&loaded.diagnostics, Colour::Plain);
        assert!(loaded.settings.is_some(), "{name}\n{said}");
        assert!(!loaded.diagnostics.iter().any(Diagnostic::is_error), "{name}\n{said}");
        let mut shown = loaded.origins.listing();
        if name != "everything" {
            shown.retain(|value| value.origin.is_some() || value.derived.is_some());
        }
        snapshot("valid", &name, &format!("{said}\n{}", render_listing(&shown)));
    }
}

#[test]
fn invalid_files_say_what_would_be_right() {
    let files = toml_files(&Path::new(CORPUS).join("invalid"));
    assert!(files.len() >= 120, "{}", files.len());
    let mut miscounted = Vec::new();
    for path in files {
        let (name, inputs) = case(&path);
        let loaded = load_case(&name, &inputs);
        let said = render_all(&loaded.diagnostics, Colour::Plain);
        assert!(loaded.settings.is_none(), "{name} was accepted\n{said}");
        let errors = loaded.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
        let wanted = match name.as_str() {
            "ten-errors" => 10,
            // Each wrong line says so.
            name if name.starts_with("all-of-") => {
                inputs.iter().map(|input| input.text.matches("# wrong").count()).sum()
            }
            name if name.starts_with("two-") => 2,
            _ => 1,
        };
        if errors != wanted {
            miscounted.push(format!("{name}: {errors}, not {wanted}\n{said}"));
        }
        snapshot("invalid", &name, &said);
    }
    assert!(miscounted.is_empty(), "{}", miscounted.join("\n"));
}

/// The file that the package installs: nothing to say but that a host name is shared by many.
#[test]
fn the_shipped_file_is_sound() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("agent.toml")).unwrap();
    assert_eq!(load_text(&text).diagnostics, []);
    let loaded = load(&[Input { path: "agent.toml".into(), text: text.as_str().into() }], &environment("debian"));
    let codes: Vec<_> = loaded.diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
    assert_eq!(codes, ["common-host-name"]);
    // What is commented out is right as well.
    let all: String = text
        .lines()
        .map(|line| {
            line.strip_prefix("# ").filter(|rest| rest.contains(" = ") || rest.starts_with(['[', ']'])).unwrap_or(line)
        })
        .map(|line| format!("{line}\n"))
        .collect();
    for key in sections::ROOT {
        assert!(all.contains(&format!("[{}", key.name)), "it mentions every section: {}", key.name);
    }
    assert!(text.starts_with("#:schema "), "for editors");
    let codes: Vec<_> = load_text(&all).diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
    assert_eq!(codes, ["no-effect"]);
}

/// What the file of the contract means.
#[test]
fn everything_is_in_the_settings() {
    let (_, inputs) = case(&Path::new(CORPUS).join("valid/everything.toml"));
    let text = inputs[0].text.clone();
    let settings = load_text(&text).settings.unwrap();
    snapshot("settings", "everything", &format!("{settings:#?}"));
}

/// What is in force, by key.
fn in_force(loaded: &Loaded) -> BTreeMap<String, Shown> {
    loaded.origins.listing().into_iter().map(|shown| (shown.key.clone(), shown)).collect()
}

/// Keys that mean something else than before and come from another line than `line`, or from none.
fn changed_elsewhere(before: &BTreeMap<String, Shown>, after: &Loaded, line: u32) -> Vec<String> {
    let after = in_force(after);
    let from = |shown: Option<&Shown>| shown.and_then(|shown| shown.origin.as_ref()).map(|origin| origin.1);
    let differs =
        |key: &&String| before.get(*key).map(|shown| &shown.value) != after.get(*key).map(|shown| &shown.value);
    let elsewhere = |key: &&String| {
        // A default takes the place of a value whose line was changed, or follows from one.
        let (was, is) = (from(before.get(*key)), from(after.get(*key)));
        was.is_some_and(|was| was != line) || is.is_some_and(|is| is != line)
    };
    before.keys().chain(after.keys()).filter(differs).filter(elsewhere).cloned().collect()
}

/// Every valid file of one text.
fn valid_texts() -> impl Iterator<Item = (String, String)> {
    let files = fs::read_dir(Path::new(CORPUS).join("valid")).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.is_file() && !path.with_extension("d").exists())
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap()))
}

/// A file that ends too early is refused, or means the same up to its last line.
#[test]
fn no_cut_panics_or_changes_what_stands_before_it() {
    let (mut accepted, mut bytes) = (0, 0);
    for (name, text) in valid_texts() {
        let whole = in_force(&load_text(&text));
        bytes += text.len();
        for cut in (0..text.len()).filter_map(|at| text.get(..at)) {
            let loaded = load_text(cut);
            _ = render_all(&loaded.diagnostics, Colour::Ansi);
            if loaded.settings.is_some() {
                accepted += 1;
                let last = u32::try_from(cut.split('\n').count()).unwrap();
                let lost = changed_elsewhere(&whole, &loaded, last);
                let (is, early) = (in_force(&loaded), |was: &Shown| was.origin.as_ref().is_none_or(|at| at.1 < last));
                // A list of tables has an end after each.
                let shorter = |was: &Shown| {
                    let is = is.get(&was.key).map(|is| is.value.trim_end_matches([']', '}', ' ']));
                    was.value.starts_with('[') && is.is_some_and(|is| was.value.starts_with(is))
                };
                let lost: Vec<_> =
                    lost.iter().filter(|key| whole.get(*key).is_none_or(|was| early(was) && !shorter(was))).collect();
                assert!(lost.is_empty(), "{name} cut in line {last}: {lost:?}");
            }
        }
    }
    assert!(accepted < bytes * 3 / 4, "{accepted} of {bytes} cuts are accepted");
}

/// A byte that is another one is refused, or changes nothing but what stands on its line.
#[test]
fn no_flipped_byte_panics_or_changes_another_line() {
    for (name, text) in valid_texts() {
        let whole = in_force(&load_text(&text));
        let bytes = text.as_bytes();
        let mut line = 1;
        for at in 0..bytes.len() {
            let is_header = text.lines().nth(line as usize - 1).is_some_and(|line| line.trim_start().starts_with('['));
            let bytes_at = bytes[at];
            for flip in [0x01, 0x20, 0x80] {
                let mut bytes = bytes.to_vec();
                bytes[at] ^= flip;
                let loaded = load_text(&String::from_utf8_lossy(&bytes));
                assert_eq!(loaded.settings.is_none(), loaded.diagnostics.iter().any(Diagnostic::is_error));
                _ = render_all(&loaded.diagnostics, Colour::Plain);
                // Another name in a header is another source or bus, with all that stands below it.
                // And without its end a comment goes on over the next line.
                if loaded.settings.is_some() && !is_header && bytes_at != b'\n' {
                    // A value of several lines comes from its first.
                    let from = whole.values().filter_map(|shown| Some(shown.origin.as_ref()?.1));
                    let first = from.filter(|&from| from <= line).max().unwrap_or(line);
                    let mut changed = changed_elsewhere(&whole, &loaded, line);
                    changed.retain(|key| {
                        whole.get(key).is_none_or(|was| was.origin.as_ref().is_none_or(|at| at.1 != first))
                    });
                    assert!(changed.is_empty(), "{name}:{line}, byte {at} ^ {flip:#x}: {changed:?}");
                }
            }
            line += u32::from(bytes[at] == b'\n');
        }
    }
}

#[test]
fn deep_and_wide_texts_end() {
    let deep_keys = format!("{}x = 1", "a.".repeat(200_000));
    let deep_lists = format!("a = {}", "[".repeat(200_000));
    let deep_tables = format!("a = {}", "{ a = ".repeat(200_000));
    let deep_headers = format!("[{}x]", "a.".repeat(200_000));
    let wide = "x = 1\n".repeat(50_000);
    let unknown: String = (0..20_000).map(|n| format!("x{n} = 1\n")).collect();
    for text in [deep_keys, deep_lists, deep_tables, deep_headers, wide, unknown] {
        let loaded = load_text(&text);
        assert!(loaded.settings.is_none());
        assert!(loaded.diagnostics.len() <= DIAGNOSTICS_MAX);
    }
}

#[test]
fn secrets_are_nowhere() {
    let text = r#"
[mqtt]
url = "mqtt://me:hunter2@broker"
password = "hunter2"
proxy = "http://me:hunter2@proxy"
[bus.a]
url = "tcp://me:hunter2@bus"
[source.a]
plugin = "x"
every = "1s"
config = { password = "hunter2", list = [{ token = "hunter2" }], wrong = inf }
"#;
    let sound = "[source.a]\nplugin = \"x\"\nevery = \"1s\"\nconfig = { list = [{ api_key = \"hunter2\" }] }";
    let loaded = load_text(text);
    let json: Vec<_> = loaded.diagnostics.iter().map(|diagnostic| to_json(diagnostic).to_string()).collect();
    assert_eq!(loaded.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count(), 5);
    for said in [
        render_all(&loaded.diagnostics, Colour::Ansi),
        json.join("\n"),
        render_listing(&loaded.origins.listing()),
        listing_json(&loaded.origins.listing()).to_string(),
        format!("{loaded:?}"),
        format!("{:?}", load_text(sound).settings.unwrap()),
    ] {
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn problems_of_plugins_are_shown_at_their_place() {
    let text = "[source.a]\nplugin = \"x\"\nevery = \"1s\"\n[source.a.config]\npoints = [\n  { name = \"f\", \"a/b\" = 7 },\n]\n";
    let origins = load_text(text).origins;
    let place = |pointer: &str| {
        let problem = origins.of_config("a").plugin_problem(pointer, "wrong".into(), None);
        problem.place.map(|place| (place.line, place.column, place.length))
    };
    assert_eq!(place("/points/0/name"), Some((6, 12, 3)));
    assert_eq!(place("/points/0/a~1b"), Some((6, 25, 1)));
    assert_eq!(place("/points/0/type"), Some((6, 3, 25)));
    assert_eq!(place("/points/9"), Some((5, 10, 1)));
    assert_eq!(place("/missing"), Some((4, 1, 17)));
    assert_eq!(place(""), Some((4, 1, 17)));
    assert_eq!(origins.place(&["bus", "b"]), None);
}

#[test]
fn plugins_can_be_looked_for_beside_other_errors() {
    let text = "[source.a]\nplugin = \"x\"\nevery = 1\n[source.b]\nplugin = \"y\"\nevery = \"1s\"\n";
    let sound = load_text(text).sound;
    assert_eq!(sound.plugins.into_iter().collect::<Vec<_>>(), [("a".into(), "x".into()), ("b".into(), "y".into())]);
    assert_eq!(sound.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(sound.plugin_dirs.map(|dirs| dirs.len()), Some(2));
    assert_eq!(load_text("[agent]\nid = a").sound, Sound::default());
}

#[test]
fn many_sources_are_no_burden() {
    let sources: String = (0..2_000).map(|n| format!("[source.s{n}]\nplugin = \"x\"\nevery = \"1s\"\n")).collect();
    for topic in ["{base}/{source}", "{base}/{source}/{point}"] {
        let loaded = load_text(&format!("[mqtt]\nurl = \"mqtt://h\"\ntopic = \"{topic}\"\n{sources}"));
        assert_eq!(loaded.settings.map(|settings| settings.sources.len()), Some(2_000));
    }
    let clashing = load_text(&format!("[mqtt]\nurl = \"mqtt://h\"\ntopic = \"{{base}}/{{point}}\"\n{sources}"));
    assert_eq!(clashing.diagnostics.len(), DIAGNOSTICS_MAX);
}

#[test]
fn relative_paths_count_from_the_folder_of_their_file() {
    let main = Input { path: "/etc/o/agent.toml".into(), text: "[agent]\ndata_dir = \"data\"".into() };
    let drop_in = Input {
        path: "/etc/o/agent.d/1.toml".into(),
        text: "[mqtt]\nurl = \"mqtts://b\"\nca_file = \"ca.pem\"\ncert_file = \"/c\"\nkey_file = \"../k\"".into(),
    };
    let settings = load(&[main, drop_in], &environment("h7")).settings.unwrap();
    let mqtt = settings.mqtt.unwrap();
    assert_eq!(settings.agent.data_dir, Path::new("/etc/o/data"));
    assert_eq!(mqtt.ca_file.as_deref(), Some(Path::new("/etc/o/agent.d/ca.pem")));
    assert_eq!(mqtt.cert_file.as_deref(), Some(Path::new("/c")));
    assert_eq!(mqtt.key_file.as_deref(), Some(Path::new("/etc/o/agent.d/../k")));
}

#[test]
fn a_url_is_shown_as_it_is_read() {
    for text in ["mqtt://h:1", "mqtts://[::1]:8883", "ws://h:80/mqtt", "wss://h:443/a?b=c", "unix:/run/s"] {
        assert_eq!(url::broker_url(text).unwrap().to_string(), text);
    }
    for text in ["tcp://h:502", "rtu+tcp://[::1]:4001", "rtu:///dev/ttyS0?baud=9600&parity=odd&stop=2"] {
        assert_eq!(url::bus_url(text).unwrap().to_string(), text);
    }
    for text in ["http://p:3128", "socks5://[::1]:1080"] {
        assert_eq!(url::proxy_url(text).unwrap().to_string(), text);
    }
}

/// Defaults in the tables are valid values, and a key stands once in a table.
#[test]
fn the_tables_are_sound() {
    fn visit(keys: &'static [schema::Key]) {
        let mut names: Vec<_> = keys.iter().map(|key| key.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), keys.len());
        for key in keys {
            assert!(key.doc.ends_with('.'), "{}", key.doc);
            match &key.kind {
                schema::Kind::Table(keys) | schema::Kind::Map { of: schema::Kind::Table(keys), .. } => visit(keys),
                _ => {}
            }
        }
    }
    visit(sections::ROOT);
    assert_eq!(
        load_text("[bus.a]\nurl = \"tcp://h\"\nunit.1 = {}\n[source.a]\nplugin = \"p\"\nevery = \"1s\"").diagnostics,
        []
    );
    snapshot("schema", "json", &serde_json::to_string_pretty(&json_schema()).unwrap());
}

/// Words of the language, thrown together.
fn scraps() -> impl Strategy<Value = String> {
    let scrap = prop::sample::select(vec![
        "[agent]\n",
        "[mqtt]\n",
        "[source.a]\n",
        "[source.a.config]\n",
        "[bus.b]\n",
        "allow",
        "modbus",
        "url",
        "every",
        "topic",
        " = ",
        ".",
        "\"1s\"",
        "\"{base}/{point}\"",
        "[",
        "]",
        "{",
        "}",
        ",",
        "\n",
        "1",
        "true",
        "\"",
        "'",
        "é",
        "\"mqtt://[::1\"",
        "inf",
        "-",
        "\r",
        "\t",
        "\u{0}",
        "#",
        "0x",
        "1979-05-27",
    ]);
    prop::collection::vec(scrap, 0..60).prop_map(|scraps| scraps.concat())
}

proptest! {
    #[test]
    fn no_text_panics(text in ".*", scraps in scraps()) {
        for text in [text, scraps] {
            let inputs = [
                Input { path: "a.toml".into(), text: text.as_str().into() },
                Input { path: "b.toml".into(), text: "[mqtt]\nurls = []\n[source]\na = 1".into() },
                Input { path: "c.toml".into(), text: text.into() },
            ];
            let loaded = load(&inputs, &environment("h"));
            prop_assert_eq!(loaded.settings.is_none(), loaded.diagnostics.iter().any(Diagnostic::is_error));
            render_all(&loaded.diagnostics, Colour::Ansi);
        }
    }

    #[test]
    fn no_value_panics(text in "[ -~é\\\\]{0,40}") {
        for key in ["mqtt.url", "mqtt.proxy", "mqtt.topic", "bus.a.url", "buffer.sync", "buffer.max_size", "agent.id"] {
            load_text(&format!("{key} = {}", listing::quoted(&text)));
        }
    }
}

#[test]
fn a_bus_by_its_url_alone_has_the_defaults() {
    let bus = bus_of_url("rtu:///dev/ttyUSB0?baud=9600&rs485=true").expect("a bus");
    assert_eq!(bus.url.to_string(), "rtu:///dev/ttyUSB0?baud=9600&parity=even&stop=1&rs485=true");
    assert_eq!((bus.connections, bus.defaults.max_registers, bus.check_transaction), (1, 125, true));
    assert!(bus_of_url("modbus://10.0.0.1").expect_err("no such scheme").contains("tcp://"));
    assert!(bus_of_url("rtu:///dev/ttyUSB0?rs485=maybe").expect_err("no such value").contains("true or false"));
}

/// A reload restarts what differs: the order in which things were written is no difference.
#[test]
fn the_order_of_keys_and_of_files_makes_no_other_source() {
    let source = "[source.a]\nplugin = \"x\"\nevery = \"1s\"\n";
    let settings = |texts: &[&str]| {
        let input =
            |(number, text): (usize, &&str)| Input { path: format!("{number}.toml").into(), text: (*text).into() };
        let inputs: Vec<Input> = texts.iter().enumerate().map(input).collect();
        load(&inputs, &environment("h")).settings.expect("sound")
    };
    let one = settings(&[source, "[source.a.config]\nunit = 1\nbus = \"b\"\nlist = [{ z = 1.5, y = true }]"]);
    let other = settings(&[
        &format!("{source}[source.a.config]\nlist = [{{ y = true, z = 1.5 }}]"),
        "[source.a.config]\nunit = 1",
        "[source.a.config]\nbus = \"b\"",
    ]);
    assert_eq!(one.sources["a"].config.text(), r#"{"bus":"b","list":[{"y":true,"z":1.5}],"unit":1}"#);
    assert!(one == other);
    assert!(!format!("{:?}", settings(&[source, "[source.a.config]\npassword = \"s3cret\""])).contains("s3cret"));
}
