//! The commands of the program and their exit status.

use crate::harness::site::outcome_of;
use crate::harness::{STEADY, Site, config, plugins};

/// A site that needs no broker: nothing listens at its URL.
fn site(rest: &str) -> Site {
    Site::new(&config("mqtt://127.0.0.1:1", rest), &["steady"])
}

#[tokio::test]
async fn help_and_version_go_to_stdout() {
    let site = site(STEADY);
    let mut program = site.program();
    program.arg("--version");
    let outcome = outcome_of(program).await;
    outcome.expect_code(0);
    assert_eq!(outcome.stdout.trim(), format!("outstation {}", env!("CARGO_PKG_VERSION")));
    for arguments in [&["--help"][..], &["run", "--help"], &["check", "--help"]] {
        let mut program = site.program();
        program.args(arguments);
        let outcome = outcome_of(program).await;
        outcome.expect_code(0);
        assert!(outcome.stdout.contains("Usage") && outcome.stderr.is_empty(), "{outcome:?}");
    }
}

#[tokio::test]
async fn wrong_usage_is_64() {
    let site = site(STEADY);
    for arguments in [&[][..], &["fly"], &["run", "--fly"], &["check", "-c"], &["check", "a", "b"]] {
        let mut program = site.program();
        program.args(arguments);
        let outcome = outcome_of(program).await;
        outcome.expect_code(64);
        assert!(outcome.stdout.is_empty(), "{outcome:?}");
        assert!(!outcome.stderr.is_empty(), "{outcome:?}");
    }
}

/// The file that the package installs and `make run` runs is right as it stands.
#[tokio::test]
async fn the_repositorys_configuration_is_right() {
    let site = site(STEADY);
    let mut program = site.program();
    program.arg("check").arg("-c").arg(plugins::repository().join("agent.toml"));
    program.env("OUTSTATION_PLUGIN_DIRS", plugins::built()).env("OUTSTATION_DATA_DIR", site.path("data"));
    outcome_of(program).await.expect_code(0);
}

/// `check` looks and touches nothing: no data folder comes of it.
#[tokio::test]
async fn check_of_a_right_configuration() {
    let site = site(STEADY);
    site.outcome(&["check"]).await.expect_code(0);
    assert!(!site.path("data/spool").exists() && !site.path("data/buffer").exists());
}

/// A plugin says what is wrong in its part of the file, and where.
#[tokio::test]
async fn no_colour_and_no_terminal_codes_in_a_pipe() {
    let site = site("colour = 1\n");
    let mut program = site.program();
    program.env_remove("NO_COLOR").arg("check").arg("-c").arg(site.path("agent.toml"));
    let outcome = outcome_of(program).await;
    outcome.expect_code(78);
    assert!(!outcome.stderr.contains('\x1b'), "{outcome:?}");
}

#[tokio::test]
async fn a_file_that_is_not_there() {
    let site = site(STEADY);
    for command in ["check", "run"] {
        let mut program = site.program();
        program.args([command, "-c", "nowhere.toml"]);
        outcome_of(program).await.expect_code(78).expect_said(&["nowhere.toml", "no such file"]);
    }
}

/// F-42: a configuration with ten errors shows all ten, each with its line, and what would be right.
#[tokio::test]
async fn ten_errors_are_all_shown() {
    const WRONG: [(&str, &[&str]); 10] = [
        ("id = \"press 7\"", &[]),
        ("log = \"loud\"", &[]),
        ("colour = \"red\"", &["colour"]),
        ("url = \"http://broker.example\"", &["http"]),
        ("pasword_file = \"secret\"", &["password_file"]),
        ("keep_alive = 30", &[]),
        ("qos = 3", &["qos"]),
        ("max_size = \"1KiB\"", &["1MiB"]),
        ("when_full = \"drop-odlest\"", &["drop-oldest"]),
        ("every = \"0s\"", &["every"]),
    ];
    let tables = ["[agent]", "", "", "[mqtt]", "", "", "", "[buffer]", "", "[source.steady]\nplugin = \"steady\""];
    let mut text = String::new();
    for (table, (line, _)) in tables.iter().zip(WRONG) {
        if !table.is_empty() {
            text.push_str(&format!("\n{table}\n"));
        }
        text.push_str(&format!("{line}\n"));
    }
    let site = Site::new(&text, &["steady"]);
    for command in ["check", "run"] {
        let outcome = site.outcome(&[command]).await;
        outcome.expect_code(78);
        for (line, words) in WRONG {
            let number = 1 + text.lines().position(|one| one == line).expect("it is in the text");
            assert!(outcome.stderr.contains(&format!("agent.toml:{number}:")), "line {number}: {}", outcome.stderr);
            assert!(outcome.stderr.contains(line), "{line}: {}", outcome.stderr);
            assert!(words.iter().all(|word| outcome.stderr.contains(word)), "{words:?}: {}", outcome.stderr);
        }
    }
    assert!(!site.path("data").exists(), "nothing was begun");
}

#[tokio::test]
async fn text_that_is_no_toml() {
    let site = site("[source.steady\nplugin = \"steady\"\n");
    site.outcome(&["check"]).await.expect_code(78).expect_said(&["agent.toml:", ":"]);
    let site = Site::new("\u{0}\u{1}binary", &[]);
    site.outcome(&["check"]).await.expect_code(78);
    let site = Site::new("", &[]);
    site.write("agent.toml", [0xff, 0xfe, 0x00]);
    site.outcome(&["check"]).await.expect_code(78).expect_said(&["utf-8"]);
}
