//! The program as a person uses it: through a terminal (`script` of util-linux makes one), in pipes, and wrongly.

use std::io::Write as _;
use std::process::Stdio;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::harness::site::{Outcome, outcome_of};
use crate::harness::{SOON, STEADY, Site, config};

const COMMANDS: [&str; 11] =
    ["run", "check", "status", "tail", "reload", "log", "plugin", "probe", "buffer", "schema", "completions"];
/// Those below them.
const DEEPER: [[&str; 2]; 8] = [
    ["plugin", "list"],
    ["plugin", "inspect"],
    ["plugin", "test"],
    ["plugin", "new"],
    ["probe", "modbus"],
    ["buffer", "inspect"],
    ["buffer", "verify"],
    ["buffer", "export"],
];
const ESCAPE: char = '\u{1b}';

fn site(rest: &str) -> Site {
    Site::new(&config("mqtt://127.0.0.1:1", rest), &["steady"])
}

/// What the terminal shows when the program has ended, before its exit status.
const ENDED: &str = "\n[ended with ";

/// The program in a terminal; both of its streams are what it shows there.
fn in_a_terminal(site: &Site, arguments: &[&str]) -> Command {
    let words = std::iter::once(env!("CARGO_BIN_EXE_outstation")).chain(arguments.iter().copied());
    let line = words.map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    // `script` ends with its program, whether or not it has read all that the terminal got: so the program's end is
    // shown there too, and the shell stays until that was read.
    let line = format!("trap : INT; {line}; code=$?; printf '\n[ended with %s]\n' $code; read -r _; exit $code");
    let mut command = site.program_at(std::path::Path::new("script"));
    command.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
    command.env_remove("NO_COLOR").env("TERM", "xterm-256color").stdin(Stdio::piped());
    command
}

/// What runs in a terminal, and a person before it.
struct Seat {
    child: Child,
    shown: String,
}

impl Seat {
    fn take(mut command: Command) -> Self {
        Self { child: command.spawn().expect("start it"), shown: String::new() }
    }

    async fn press(&mut self, keys: &[u8]) {
        self.child.stdin.as_mut().expect("the terminal's keys").write_all(keys).await.expect("press them");
    }

    /// Looks until `text` is there.
    async fn sees(&mut self, text: &str) {
        let stdout = self.child.stdout.as_mut().expect("the terminal's screen");
        let mut bytes = [0; 256];
        while !self.shown.contains(text) {
            let read = tokio::time::timeout(SOON, stdout.read(&mut bytes)).await;
            let count = read.unwrap_or_else(|_| panic!("nothing more came after {:?}", self.shown)).expect("text");
            assert!(count > 0, "it ended before {text:?}: {}", self.shown);
            self.shown.push_str(&String::from_utf8_lossy(&bytes[..count]).replace('\r', ""));
        }
    }

    /// Everything that was shown until the program ended with this status.
    async fn until_it_ends(mut self, code: i32) -> String {
        self.sees(ENDED).await;
        self.sees(&format!("{ENDED}{code}]\n")).await;
        self.press(b"\n").await;
        let status = tokio::time::timeout(SOON, self.child.wait()).await.expect("it ends").expect("its status");
        assert_eq!(status.code(), Some(code), "{}", self.shown);
        self.shown.truncate(self.shown.find(ENDED).expect("it was seen"));
        self.shown
    }
}

async fn shown(site: &Site, arguments: &[&str], code: i32) -> String {
    Seat::take(in_a_terminal(site, arguments)).until_it_ends(code).await
}

async fn piped(site: &Site, arguments: &[&str]) -> Outcome {
    let mut program = site.program();
    program.env_remove("NO_COLOR").args(arguments);
    outcome_of(program).await
}

/// At every level: usage, what each word does, and examples; on stdout, with exit status 0.
#[tokio::test]
async fn help_at_every_level() {
    let site = site(STEADY);
    let main = piped(&site, &["--help"]).await;
    assert!(COMMANDS.iter().all(|command| main.expect_code(0).stdout.contains(command)), "{}", main.stdout);
    let levels = COMMANDS.iter().map(std::slice::from_ref).chain(DEEPER.iter().map(<[&str; 2]>::as_slice));
    for words in levels {
        let command = words.join(" ");
        for flag in ["--help", "-h"] {
            let help = piped(&site, &[words, &[flag]].concat()).await;
            let text = &help.expect_code(0).stdout;
            assert!(text.contains("Usage: outstation") && text.contains("Examples:"), "{command}: {text}");
            assert!(
                text.contains("--config") && help.stderr.is_empty() && !text.contains(ESCAPE),
                "{command}: {help:?}"
            );
        }
    }
    let main = shown(&site, &["--help"], 0).await;
    assert!(main.contains(ESCAPE), "a terminal gets it with styles: {main}");
    for plain in [&["--color", "never", "--help"][..], &["--color=never", "check", "--help"]] {
        assert!(!shown(&site, plain, 0).await.contains(ESCAPE));
    }
}

/// Wrong usage is 64, on stderr, and says what would be right.
#[tokio::test]
async fn wrong_usage_says_what_would_be_right() {
    let site = site(STEADY);
    for (arguments, words) in [
        (&["stauts"][..], "status"),
        (&["check", "--lvie"], "--live"),
        (&["log", "loud"], "debug"),
        (&["log"], "LEVEL"),
        (&["completions", "csh"], "fish"),
        (&["--color", "sometimes", "check"], "always"),
        (&["tail", "a", "b"], "unexpected"),
    ] {
        let outcome = piped(&site, arguments).await;
        outcome.expect_code(64).expect_said(&[words]);
        assert!(outcome.stdout.is_empty(), "{outcome:?}");
    }
    assert!(shown(&site, &["stauts"], 64).await.contains(ESCAPE));
}

/// Colours where a person looks, and nowhere else, unless asked for.
#[tokio::test]
async fn colours_are_for_terminals() {
    let site = site("nonsense = 1\n");
    // The file that is not there by default is an error as good as any.
    assert!(shown(&site, &["check"], 78).await.contains(ESCAPE));
    assert!(!shown(&site, &["check", "--color", "never"], 78).await.contains(ESCAPE));
    for (variable, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let mut command = in_a_terminal(&site, &["check"]);
        command.env(variable, value);
        let shown = Seat::take(command).until_it_ends(78).await;
        assert!(!shown.contains(ESCAPE), "{variable}: {shown}");
    }
    assert!(!piped(&site, &["check"]).await.expect_code(78).stderr.contains(ESCAPE));
    assert!(piped(&site, &["check", "--color", "always"]).await.expect_code(78).stderr.contains(ESCAPE));
}

/// Results on stdout, all else on stderr: a pipe behind it gets nothing but results.
#[tokio::test]
async fn results_and_words_do_not_mix() {
    let wrong = site("nonsense = 1\n");
    let file = |site: &Site| site.path("agent.toml").display().to_string();
    let outcome = piped(&wrong, &["check", "--json", "-c", &file(&wrong)]).await;
    let document: serde_json::Value = serde_json::from_str(&outcome.expect_code(78).stdout).expect("JSON alone");
    assert_eq!(document["diagnostics"][0]["code"], "unknown-key", "{document}");
    let right = site(&format!("qos = 2\n[buffer]\nsync = \"10s\"\n\n{STEADY}"));
    let outcome = piped(&right, &["check", "--show", "-c", &file(&right)]).await;
    outcome.expect_code(0).expect_said(&["warning"]);
    assert!(outcome.stdout.contains("mqtt.qos") && !outcome.stdout.contains("warning"), "{outcome:?}");
}

/// Who reads no further ends nothing in disorder; a disk that is full is a failure.
#[tokio::test]
async fn a_closed_pipe_and_a_full_disk() {
    let site = site(STEADY);
    for arguments in [&["schema"][..], &["--help"], &["completions", "bash"], &["check"], &["check", "--show"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut program = site.program();
        program.args(arguments).arg("-c").arg(site.path("agent.toml"));
        let (code, said) = written_to(program, Stdio::from(writer)).await;
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
    let full = std::fs::File::options().write(true).open("/dev/full").expect("open it");
    let mut program = site.program();
    program.arg("schema");
    let (code, said) = written_to(program, Stdio::from(full)).await;
    assert!(code == Some(1) && said.contains("can't be written") && said.contains("space"), "{code:?}: {said}");
}

/// The exit status and what was said of a program that writes its results there.
async fn written_to(mut program: Command, stdout: Stdio) -> (Option<i32>, String) {
    let mut child = program.stdout(stdout).spawn().expect("start it");
    // What it writes to is its alone now.
    drop(program);
    let mut said = String::new();
    let ending = async {
        child.stderr.take().expect("its stderr").read_to_string(&mut said).await.expect("text");
        child.wait().await.expect("its status").code()
    };
    let code = tokio::time::timeout(SOON, ending).await.expect("it ends");
    (code, said)
}

/// A terminal sees that something takes its time, and the line is gone when it is over; a pipe sees nothing of it.
#[tokio::test]
async fn what_takes_long_shows_it_on_a_terminal() {
    let site = site(STEADY);
    std::fs::create_dir(site.path("data")).expect("make it");
    let agent = tokio::net::UnixListener::bind(site.path("data/control.sock")).expect("a slow agent's socket");
    let file = site.path("agent.toml").display().to_string();
    let mut seat = Seat::take(in_a_terminal(&site, &["reload", "-c", &file]));
    let (mut stream, _) = tokio::time::timeout(SOON, agent.accept()).await.expect("it asks").expect("a client");
    seat.sees("waiting for the agent ... 1 s").await;
    // Only now it is answered.
    stream.write_all(b"{\"answer\":\"done\",\"value\":\"1 source kept\"}\n").await.expect("answer");
    let shown = seat.until_it_ends(0).await;
    let (before, after) = shown.rsplit_once("\u{1b}[K").expect("the line is wiped");
    assert!(before.contains("waiting") && after.trim() == "1 source kept", "{shown:?}");
}

/// The completions that the package installs are read by their shells.
#[tokio::test]
async fn completions_are_what_their_shells_read() {
    let site = site(STEADY);
    for shell in ["bash", "zsh", "fish"] {
        let text = piped(&site, &["completions", shell]).await.expect_code(0).stdout.clone();
        assert!(COMMANDS.iter().all(|command| text.contains(command)) && !text.contains("compile-plugin"), "{shell}");
        let Ok(mut child) = std::process::Command::new(shell)
            .args(["-n", "/dev/stdin"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
        else {
            continue;
        };
        child.stdin.take().expect("its stdin").write_all(text.as_bytes()).expect("give it");
        let read = child.wait_with_output().expect("its end");
        assert!(read.status.success(), "{shell}: {}", String::from_utf8_lossy(&read.stderr));
    }
}

/// `NO_COLOR` and a pipe hold for what the agent itself logs as well.
#[tokio::test]
async fn an_agent_in_a_terminal_ends_on_ctrl_c() {
    let site = site(STEADY);
    let file = site.path("agent.toml").display().to_string();
    let mut seat = Seat::take(in_a_terminal(&site, &["run", "-c", &file]));
    site.status_until(|status| status["sources"][0]["polls"].as_u64() > Some(1)).await;
    seat.press(b"\x03").await;
    let text = seat.until_it_ends(0).await;
    assert!(text.contains("stopped, ") && text.contains(ESCAPE), "{text}");
}
