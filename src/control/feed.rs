//! Live readings for whoever watches them: [`Feed`] where they are taken, [`Tail`] where they are shown.
//!
//! Nobody who watches slows down or grows what is watched: each has a queue of [`LINES_MAX`] lines of about
//! [`LINE_BYTES_MAX`] bytes, shared among all; what finds no room is left out for that one, counted, and said before
//! its next line. While nobody watches, nothing is rendered.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

/// Lines that wait for one who watches.
const LINES_MAX: usize = 64;
/// Bytes of a line, but for a single reading that is larger.
pub const LINE_BYTES_MAX: u64 = 64 << 10;
/// Who may watch at once.
pub const TAILS_MAX: usize = 4;

/// A line, and how many were left out before it.
pub(super) struct Line {
    pub missed: u64,
    pub text: Arc<str>,
}

/// Where readings are shown. A clone is the same feed; the last one that goes ends all tails.
#[derive(Clone, Debug, Default)]
pub struct Feed(Arc<watch::Sender<Vec<Reader>>>);

#[derive(Debug)]
struct Reader {
    /// `None`: every source's.
    source: Option<String>,
    lines: mpsc::Sender<Line>,
    missed: u64,
}

/// What one who watches gets.
#[derive(Debug)]
pub struct Tail(pub(super) mpsc::Receiver<Line>);

impl Reader {
    fn wants(&self, source: &str) -> bool {
        self.source.as_deref().is_none_or(|wanted| wanted == source)
    }
}

impl Feed {
    /// Nobody watches yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches one source, or all. `None`: [`TAILS_MAX`] do already.
    pub fn tail(&self, source: Option<String>) -> Option<Tail> {
        let (lines, receiver) = mpsc::channel(LINES_MAX);
        let mut reader = Some(Reader { source, lines, missed: 0 });
        self.0.send_if_modified(|readers| {
            readers.retain(|reader| !reader.lines.is_closed());
            if readers.len() < TAILS_MAX {
                readers.extend(reader.take());
            }
            false
        });
        reader.is_none().then_some(Tail(receiver))
    }

    /// Shows what `render` makes, if anybody watches this source.
    pub fn show(&self, source: &str, render: impl FnOnce() -> Vec<String>) {
        if !self.0.borrow().iter().any(|reader| reader.wants(source)) {
            return;
        }
        let texts: Vec<Arc<str>> = render().into_iter().map(Arc::from).collect();
        self.0.send_if_modified(|readers| {
            readers
                .retain_mut(|reader| !reader.wants(source) || texts.iter().all(|text| reader.give(Arc::clone(text))));
            false
        });
    }

    /// Ends every tail.
    pub fn close(&self) {
        self.0.send_if_modified(|readers| {
            readers.clear();
            false
        });
    }
}

impl Reader {
    /// `false`: nobody watches any more.
    fn give(&mut self, text: Arc<str>) -> bool {
        match self.lines.try_send(Line { missed: self.missed, text }) {
            Ok(()) => self.missed = 0,
            Err(mpsc::error::TrySendError::Full(_)) => self.missed += 1,
            Err(mpsc::error::TrySendError::Closed(_)) => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(tail: &mut Tail) -> Option<(u64, String)> {
        tail.0.try_recv().ok().map(|line| (line.missed, line.text.to_string()))
    }

    #[test]
    fn a_slow_reader_misses_and_is_told_how_many() {
        let feed = Feed::new();
        let (mut slow, mut other) = (feed.tail(None).unwrap(), feed.tail(Some("b".into())).unwrap());
        for number in 0..LINES_MAX + 7 {
            feed.show("a", || vec![number.to_string()]);
        }
        assert_eq!(slow.0.len(), LINES_MAX, "and no more");
        assert_eq!(take(&mut slow), Some((0, "0".into())));
        feed.show("a", || vec!["late".into()]);
        let last = std::iter::from_fn(|| take(&mut slow)).last();
        assert_eq!(last, Some((7, "late".into())));
        assert_eq!(take(&mut other), None, "of another source");
    }

    #[test]
    fn nothing_is_rendered_for_nobody() {
        let feed = Feed::new();
        feed.show("a", || panic!("nobody watches"));
        drop(feed.tail(None));
        // Who left is known at the next line.
        feed.show("a", || vec![String::new()]);
        feed.show("a", || panic!("who watched is gone"));
        let _other = feed.tail(Some("b".into()));
        feed.show("a", || panic!("nobody watches this one"));
    }

    #[test]
    fn places_are_few_and_come_back() {
        let feed = Feed::new();
        let mut tails: Vec<_> = (0..TAILS_MAX).map(|_| feed.tail(None).unwrap()).collect();
        assert!(feed.tail(None).is_none());
        tails.pop();
        tails.push(feed.tail(None).unwrap());
        feed.close();
        assert!(tails.iter_mut().all(|tail| tail.0.is_closed() && take(tail).is_none()));
    }
}
