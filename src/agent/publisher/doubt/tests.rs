//! Marks before a broker that keeps, forgets, and is cut off at any moment: what is taken for ours is ours.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const THERE: Reason = Reason::SUCCESS;
const NOT_THERE: Reason = Reason::NO_SUBSCRIPTION_EXISTED;

#[test]
fn only_a_mark_that_was_there_proves_it() {
    assert_eq!(Answer::of(&[NOT_THERE, THERE]), Answer::Ours);
    assert_eq!(Answer::of(&[NOT_THERE, NOT_THERE]), Answer::NotThere);
    for useless in [&[THERE, THERE][..], &[THERE, NOT_THERE], &[NOT_THERE], &[THERE], &[], &[Reason::NOT_AUTHORIZED; 2]]
    {
        assert_eq!(Answer::of(useless), Answer::Useless, "{useless:?}");
    }
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

#[test]
fn messages_wait_for_the_marks_but_not_for_ever() {
    let mut doubt = Doubt::default();
    for _ in 0..UNANSWERED_MAX {
        doubt.planting = Some(id(7));
        assert!(doubt.is_planting());
        doubt.disconnected();
        assert!(!doubt.is_planting() && !doubt.is_settled);
    }
    doubt.planting = Some(id(7));
    assert!(!doubt.is_planting(), "this broker does not answer");
    assert_eq!(doubt.planted(id(8), &[THERE]), None, "another SUBACK");
    assert_eq!(doubt.planted(id(7), &[Reason::NOT_AUTHORIZED, THERE]), Some(true), "one is enough");
    assert!(doubt.is_settled && doubt.planting.is_none());
    doubt.planting = Some(id(9));
    assert!(doubt.is_planting(), "it does answer");
    assert_eq!(doubt.planted(id(9), &[Reason::NOT_AUTHORIZED; MARKS_MAX]), Some(false));
}

#[test]
fn what_is_held_back_and_lost_is_said() {
    let mut doubt = Doubt { asking: Some(Question::Mark { id: id(1), mark: 0 }), ..Doubt::default() };
    assert!(doubt.hold(Event::Received { id: id(5) }).is_none());
    assert!(doubt.disconnected() && !doubt.disconnected());
    assert!(doubt.hold(Event::Received { id: id(5) }).is_some(), "only while it is asked");
}

/// 3.1.1: only what was said for it proves anything, not what somebody said before.
#[test]
fn who_hears_himself_is_at_home() {
    let until = Duration::from_secs(9);
    let doubt = Doubt { asking: Some(Question::Echo { status: b"17:00".to_vec(), until }), ..Doubt::default() };
    assert!(doubt.is_asking() && doubt.is_echo(b"17:00") && !doubt.is_echo(b"16:59"));
    assert_eq!(doubt.listens_until(), Some(until));
    assert!(!Doubt::default().is_echo(b""));
}

/// One connection of a client in doubt.
#[derive(Clone, Copy, Debug)]
enum Try {
    /// CONNECT arrives, CONNACK does not; the broker has forgotten the session before, or not.
    ConnackLost { forgets: bool },
    /// So many answers to questions arrive, the next one does not.
    AnswerLost { after: usize },
    /// All arrives, but SUBSCRIBE after the verdict does or does not.
    Answered { plants: bool },
}

fn a_try() -> impl Strategy<Value = Try> {
    prop_oneof![
        any::<bool>().prop_map(|forgets| Try::ConnackLost { forgets }),
        Just(Try::ConnackLost { forgets: false }),
        (0..MARKS_MAX).prop_map(|after| Try::AnswerLost { after }),
        any::<bool>().prop_map(|plants| Try::Answered { plants }),
    ]
}

/// The broker's session: whether the client means it, and the marks in it.
struct Theirs {
    is_ours: bool,
    marks: BTreeSet<usize>,
}

impl Theirs {
    fn marked() -> Self {
        Self { is_ours: true, marks: (0..MARKS_MAX).collect() }
    }

    /// The questions of one connection; `None`: cut before there was a verdict.
    fn asked(&mut self, mut answers: usize) -> Option<bool> {
        for mark in 0..MARKS_MAX {
            let was_there = self.marks.remove(&mark);
            if answers == 0 {
                return None;
            }
            answers -= 1;
            match Answer::of(&[NOT_THERE, if was_there { THERE } else { NOT_THERE }]) {
                Answer::Ours => return Some(true),
                Answer::NotThere => {}
                Answer::Useless => unreachable!("this broker tells the truth"),
            }
        }
        Some(false)
    }
}

proptest! {
    /// Another session is never taken for ours, in whatever order CONNACKs and answers are lost; ours is given up only
    /// when as many answers were lost as there are marks.
    #[test]
    fn another_session_is_never_taken_for_ours(tries in proptest::collection::vec(a_try(), 1..60)) {
        let mut theirs = Theirs::marked();
        let mut lost = 0;
        for each in tries {
            let verdict = match each {
                Try::ConnackLost { forgets } => {
                    if forgets {
                        theirs = Theirs { is_ours: false, marks: BTreeSet::new() };
                    }
                    None
                }
                Try::AnswerLost { after } => {
                    let before = theirs.marks.len();
                    let verdict = theirs.asked(after);
                    lost += before - theirs.marks.len();
                    verdict
                }
                Try::Answered { .. } => theirs.asked(usize::MAX),
            };
            match verdict {
                None => {}
                Some(true) => {
                    prop_assert!(theirs.is_ours, "a loss");
                    if matches!(each, Try::Answered { plants: true }) {
                        (theirs, lost) = (Theirs::marked(), 0);
                    } else {
                        lost = MARKS_MAX - theirs.marks.len();
                    }
                }
                Some(false) => {
                    prop_assert!(!theirs.is_ours || lost >= MARKS_MAX, "copies, after {lost} answers");
                    // Clean Start, and a new session with its marks.
                    (theirs, lost) = (Theirs::marked(), 0);
                }
            }
        }
    }
}
