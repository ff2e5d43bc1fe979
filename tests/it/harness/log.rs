//! What a process prints, line by line, while it runs and after it.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::sync::watch;

/// How many of the last lines a failed test shows.
const SHOWN_MAX: usize = 400;

/// Lines, shared by those who write and those who look.
#[derive(Clone, Debug)]
pub struct Log(Arc<watch::Sender<Vec<String>>>);

impl Log {
    /// An empty one.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }

    /// Adds a line.
    pub fn push(&self, line: impl Into<String>) {
        self.0.send_modify(|lines| lines.push(line.into()));
    }

    /// Adds what `stream` brings until it ends.
    pub fn follow(&self, stream: impl AsyncRead + Unpin + Send + 'static) {
        let log = self.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stream).split(b'\n');
            while let Ok(Some(line)) = lines.next_segment().await {
                log.push(String::from_utf8_lossy(&line));
            }
        });
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// All lines from number `from` on.
    pub fn since(&self, from: usize) -> String {
        self.0.borrow().get(from..).unwrap_or_default().join("\n")
    }

    /// The first line from number `from` on in which every one of `words` stands, letters' case aside.
    pub fn line_with(&self, from: usize, words: &[&str]) -> Option<String> {
        self.0.borrow().iter().skip(from).find(|line| has_all(line, words)).cloned()
    }

    /// How many lines have all of `words`.
    pub fn count(&self, words: &[&str]) -> usize {
        self.0.borrow().iter().filter(|line| has_all(line, words)).count()
    }

    /// Shows the last lines, under a heading, if the test is failing just now.
    pub fn show_on_failure(&self, heading: &str) {
        if !std::thread::panicking() {
            return;
        }
        let lines = self.0.borrow();
        let left_out = lines.len().saturating_sub(SHOWN_MAX);
        eprintln!("──── {heading}: {} lines, the first {left_out} left out", lines.len());
        for line in lines.iter().skip(left_out) {
            eprintln!("│ {line}");
        }
    }
}

fn has_all(line: &str, words: &[&str]) -> bool {
    let line = line.to_lowercase();
    words.iter().all(|word| line.contains(&word.to_lowercase()))
}
