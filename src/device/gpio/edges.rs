//! Edges of one line on their way to a plugin: counted, queued within a bound, debounced where the kernel can not.
//!
//! Pure: times come with the edges. What is lost is counted, never hidden: in the kernel's buffer it shows as a step
//! in the sequence numbers, here as a full queue.

use std::collections::VecDeque;

/// Edges that wait for a plugin. A line that is faster wants [`EdgeQueue::counts`].
pub const EDGES_MAX: usize = 4096;

/// Whether a line is active: after `active-low` was taken into account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Off.
    Inactive,
    /// On.
    Active,
}

impl std::ops::Not for Level {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::Inactive => Self::Active,
            Self::Active => Self::Inactive,
        }
    }
}

/// A change of level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The level after it.
    pub to: Level,
    /// When the kernel saw it: nanoseconds since 1970.
    pub at_ns: i64,
}

/// Steps in the kernel's numbers of a line's edges: each number that is missing is an edge that was lost.
#[derive(Debug, Default)]
pub struct Numbers(Option<u32>);

impl Numbers {
    /// How many edges were lost before this one.
    pub const fn lost_before(&mut self, number: u32) -> u32 {
        let lost = match self.0 {
            Some(last) => number.wrapping_sub(last).wrapping_sub(1),
            None => 0,
        };
        self.0 = Some(number);
        // Backwards: the kernel began to count anew.
        if lost > u32::MAX / 2 { 0 } else { lost }
    }
}

/// What one plugin wants of a line, and what waits for it.
#[derive(Debug, Default)]
pub struct EdgeQueue {
    rising: bool,
    falling: bool,
    events: VecDeque<(u32, Edge)>,
    number: u32,
    dropped: u32,
    counts: (u64, u64),
}

impl EdgeQueue {
    /// For edges to active (`rising`), to inactive (`falling`).
    pub fn new(rising: bool, falling: bool) -> Self {
        Self { rising, falling, ..Self::default() }
    }

    /// An edge came, and `lost` before it did not. Gives whether the plugin has something to take and had nothing: who
    /// only counts is woken once.
    pub fn push(&mut self, edge: Edge, lost: u32) -> bool {
        let waited = self.waits();
        self.dropped = self.dropped.saturating_add(lost);
        let (wanted, count) = match edge.to {
            Level::Active => (self.rising, &mut self.counts.0),
            Level::Inactive => (self.falling, &mut self.counts.1),
        };
        if wanted {
            *count += 1;
            self.number = self.number.wrapping_add(1);
            if self.events.len() < EDGES_MAX {
                self.events.push_back((self.number, edge));
            } else {
                self.dropped = self.dropped.saturating_add(1);
            }
        }
        !waited && self.waits()
    }

    /// At most `max` edges in the order in which they came, each with its number; and how many were lost since the
    /// last time.
    pub fn take(&mut self, max: usize) -> (Vec<(u32, Edge)>, u32) {
        let count = max.min(self.events.len());
        (self.events.drain(..count).collect(), std::mem::take(&mut self.dropped))
    }

    /// Whether there is something to take.
    pub fn waits(&self) -> bool {
        !self.events.is_empty() || self.dropped > 0
    }

    /// Edges so far: to active, to inactive. Those that found the queue full are counted as well.
    pub const fn counts(&self) -> (u64, u64) {
        self.counts
    }
}

/// Debouncing for lines whose kernel driver refuses to: an edge counts once the line has kept still for a while, and
/// then the level is read, so that the last one is never missed.
#[derive(Debug)]
pub struct Debounce {
    level: Level,
    /// Time of the last edge since the line was still.
    unsettled: Option<i64>,
}

impl Debounce {
    /// The line stands at `level`.
    pub const fn new(level: Level) -> Self {
        Self { level, unsettled: None }
    }

    /// It moved.
    pub const fn moved(&mut self, edge: Edge) {
        self.unsettled = Some(edge.at_ns);
    }

    /// Whether it has moved and is not yet known to be still.
    pub const fn unsettled(&self) -> bool {
        self.unsettled.is_some()
    }

    /// It has been still for the whole period and reads `level`. Gives the edge that this comes to, if any.
    pub fn settled(&mut self, level: Level) -> Option<Edge> {
        let at_ns = self.unsettled.take()?;
        if level == self.level {
            return None;
        }
        self.level = level;
        Some(Edge { to: level, at_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(to: Level, at_ns: i64) -> Edge {
        Edge { to, at_ns }
    }

    #[test]
    fn what_was_asked_for_is_queued_in_order() {
        let mut queue = EdgeQueue::new(true, false);
        assert!(queue.push(edge(Level::Active, 1), 0));
        assert!(!queue.push(edge(Level::Inactive, 2), 0));
        assert!(!queue.push(edge(Level::Active, 3), 0), "the first one still waits");
        assert_eq!(queue.take(1), (vec![(1, edge(Level::Active, 1))], 0));
        assert_eq!(queue.take(9), (vec![(2, edge(Level::Active, 3))], 0));
        assert_eq!(queue.counts(), (2, 0));
        assert!(!queue.waits());
    }

    /// F-38: a burst is bounded, and what it lost is counted.
    #[test]
    fn a_burst_is_bounded_and_counted() {
        let mut queue = EdgeQueue::new(true, true);
        for n in 0..10_000 {
            queue.push(edge(if n % 2 == 0 { Level::Active } else { Level::Inactive }, n), 0);
        }
        let (taken, dropped) = queue.take(usize::MAX);
        assert_eq!(taken.len(), EDGES_MAX);
        assert_eq!(dropped as usize, 10_000 - EDGES_MAX);
        assert_eq!(queue.counts(), (5000, 5000));
        // The next one has the number that it would have had.
        queue.push(edge(Level::Active, 10_000), 0);
        assert_eq!(queue.take(1).0.first().map(|(number, _)| *number), Some(10_001));
    }

    #[test]
    fn steps_in_the_kernels_numbers_are_lost_edges() {
        let mut numbers = Numbers::default();
        assert_eq!([5, 6, 9, 10].map(|n| numbers.lost_before(n)), [0, 0, 2, 0]);
        // From the last number to the first; and a count that began anew.
        assert_eq!([u32::MAX, 0, 1].map(|n| numbers.lost_before(n)), [0, 0, 0]);
        let mut queue = EdgeQueue::new(true, true);
        assert!(queue.push(edge(Level::Active, 1), 2));
        assert_eq!(queue.take(9).1, 2);
        assert_eq!(queue.take(9).1, 0);
    }

    /// F-38: the last edge of a bouncing contact decides.
    #[test]
    fn the_level_after_the_bouncing_counts() {
        let mut debounce = Debounce::new(Level::Inactive);
        for at in 1..=5 {
            debounce.moved(edge(if at % 2 == 1 { Level::Active } else { Level::Inactive }, at));
        }
        assert!(debounce.unsettled());
        assert_eq!(debounce.settled(Level::Active), Some(edge(Level::Active, 5)));
        assert!(!debounce.unsettled());
        // Back at where it was: nothing happened.
        debounce.moved(edge(Level::Inactive, 6));
        debounce.moved(edge(Level::Active, 7));
        assert_eq!(debounce.settled(Level::Active), None);
        // The kernel lost the last edge; the level that is read tells.
        debounce.moved(edge(Level::Inactive, 8));
        debounce.moved(edge(Level::Active, 9));
        assert_eq!(debounce.settled(Level::Inactive), Some(edge(Level::Inactive, 9)));
    }
}
