//! What a terminal is shown while something takes longer than a moment; a pipe or a file is spared it.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// What takes less needs no word.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks at the work.
const TICK: Duration = Duration::from_millis(250);

/// Shows on a terminal how far it is; an empty text wipes it away.
pub(super) fn line(text: &str) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        // Nothing can be said where stderr is gone.
        let _ = write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush());
    }
}

/// Waits for `work`; says `what` on a terminal, with the seconds that it takes, and wipes it away at the end.
pub(super) async fn during<T>(what: &str, work: impl Future<Output = T>) -> T {
    let mut stderr = std::io::stderr();
    if !stderr.is_terminal() {
        return work.await;
    }
    let mut work = std::pin::pin!(work);
    if let Ok(done) = tokio::time::timeout(PATIENCE, &mut work).await {
        return done;
    }
    let mut waited = PATIENCE;
    loop {
        // Nothing can be said where stderr is gone.
        let _ = write!(stderr, "\r\x1b[K{what} ... {} s", waited.as_secs()).and_then(|()| stderr.flush());
        let done = tokio::time::timeout(TICK, &mut work).await;
        waited += TICK;
        if let Ok(done) = done {
            let _ = write!(stderr, "\r\x1b[K").and_then(|()| stderr.flush());
            return done;
        }
    }
}
