//! What waits for a bus: a queue a source, and the sources take turns.
//!
//! Pure. Invariant: a source that was served stands behind all others.

use std::collections::VecDeque;
use std::sync::Arc;

/// Calls of one source that may wait. A plugin makes one at a time, a second one is its successor's trial.
const CALLS_MAX: usize = 16;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Queue<C> {
    /// In the order of their turns; none is empty.
    sources: VecDeque<(Arc<str>, VecDeque<C>)>,
}

/// What is to be done with a call that was looked at.
pub(super) enum Look<T> {
    /// It can't go on now.
    Wait,
    /// It is over.
    Over,
    /// This is done for it now. It stays, and its source goes to the end.
    Go(T),
}

impl<C> Queue<C> {
    /// Empty.
    pub(super) const fn new() -> Self {
        Self { sources: VecDeque::new() }
    }

    /// Takes a call at the end of its source's queue. Gives it back where too many wait.
    pub(super) fn push(&mut self, source: &Arc<str>, call: C) -> Result<(), C> {
        match self.sources.iter_mut().find(|(name, _)| name == source) {
            Some((_, calls)) if calls.len() >= CALLS_MAX => return Err(call),
            Some((_, calls)) => calls.push_back(call),
            None => self.sources.push_back((Arc::clone(source), VecDeque::from([call]))),
        }
        Ok(())
    }

    /// Looks at the calls, source by source, until one can go.
    pub(super) fn next<T>(&mut self, mut look: impl FnMut(&mut C) -> Look<T>) -> Option<T> {
        for _ in 0..self.sources.len() {
            let (name, mut calls) = self.sources.pop_front()?;
            let mut at = 0;
            let mut went = None;
            while let Some(call) = calls.get_mut(at) {
                match look(call) {
                    Look::Wait => at += 1,
                    Look::Over => drop(calls.remove(at)),
                    Look::Go(what) => {
                        went = Some(what);
                        break;
                    }
                }
            }
            if !calls.is_empty() {
                self.sources.push_back((name, calls));
            }
            if went.is_some() {
                return went;
            }
        }
        None
    }

    /// The first call that `is` it.
    pub(super) fn find(&mut self, is: impl Fn(&C) -> bool) -> Option<&mut C> {
        self.sources.iter_mut().flat_map(|(_, calls)| calls).find(|call| is(call))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_take_turns_whatever_they_ask() {
        let mut queue = Queue::new();
        let (greedy, modest): (Arc<str>, Arc<str>) = ("greedy".into(), "modest".into());
        for call in 0..CALLS_MAX {
            assert!(queue.push(&greedy, ("greedy", call)).is_ok());
        }
        assert_eq!(queue.push(&greedy, ("greedy", 99)), Err(("greedy", 99)), "its queue has an end");
        assert!(queue.push(&modest, ("modest", 0)).is_ok(), "and it is its own");
        let mut served = Vec::new();
        let mut left = 3;
        // The modest one's call needs three requests, each of the greedy one's needs one.
        for _ in 0..6 {
            let next = queue.next(|(name, number)| match *name {
                "modest" if left == 0 => Look::Over,
                "modest" => {
                    left -= 1;
                    Look::Go("modest".to_owned())
                }
                _ if served_before(&served, *number) => Look::Over,
                _ => Look::Go(format!("greedy {number}")),
            });
            served.push(next.expect("something waits"));
        }
        assert_eq!(served, ["greedy 0", "modest", "greedy 1", "modest", "greedy 2", "modest"]);
    }

    fn served_before(served: &[String], number: usize) -> bool {
        served.contains(&format!("greedy {number}"))
    }

    #[test]
    fn who_has_to_wait_holds_nobody_up() {
        let mut queue = Queue::new();
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        for (source, call) in [(&one, 1), (&one, 2), (&other, 3)] {
            assert!(queue.push(source, call).is_ok());
        }
        let look = |call: &mut i32| if *call == 1 { Look::Wait } else { Look::Go(*call) };
        assert_eq!(queue.next(look), Some(2), "the next call of the same source");
        assert_eq!(queue.next(look), Some(3));
        assert_eq!(queue.next(|_| Look::<()>::Over), None);
        assert!(queue.find(|_| true).is_none());
    }
}
