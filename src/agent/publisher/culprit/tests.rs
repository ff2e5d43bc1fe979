//! Whom it blames, and that chance convicts nobody.

use super::*;

const KEEP_ALIVE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(15);

fn message(number: u64) -> Exchange {
    Exchange::Message(number)
}

/// The broker closed with these in flight, the first of them in its mind.
fn closed(first: u64, last: u64) -> Ending {
    Ending {
        by: By::Broker(GapReason::Rejected),
        proved: false,
        first: Some(message(first)),
        last: Some(last),
        alone: first == last,
        written: true,
        after: Duration::from_millis(5),
    }
}

fn ends(culprit: &mut Culprit, ending: &Ending) -> Option<Exchange> {
    culprit.ended(ending, KEEP_ALIVE, false)
}

/// One that the broker has taken something from, and that has closed three times with 10 to 29 in flight.
fn narrow() -> Culprit {
    let mut culprit = Culprit::default();
    culprit.acknowledged(&message(9));
    for close in 1..=REPEATS_MAX {
        assert!(!culprit.is_narrow(), "{close}");
        culprit.acknowledged(&Exchange::Notice("status".into()));
        assert_eq!(ends(&mut culprit, &closed(10, 29)), None);
    }
    assert!(culprit.is_narrow());
    culprit
}

#[test]
fn the_one_that_is_alone_each_time_is_convicted() {
    let mut culprit = narrow();
    culprit.acknowledged(&Exchange::Notice("status".into()));
    culprit.acknowledged(&message(10));
    culprit.acknowledged(&message(11));
    for _ in 1..ALONE_MAX {
        assert_eq!(ends(&mut culprit, &closed(12, 12)), None);
        assert!(culprit.is_on_trial());
        culprit.acknowledged(&Exchange::Notice("status".into()));
    }
    assert_eq!(ends(&mut culprit, &closed(12, 12)), Some(message(12)));
    assert!(!culprit.is_narrow(), "the rest goes on as before");
}

#[test]
fn it_ends_where_all_that_was_in_flight_is_acknowledged() {
    let mut culprit = narrow();
    (10..29).for_each(|number| culprit.acknowledged(&message(number)));
    assert!(culprit.is_narrow());
    culprit.acknowledged(&message(29));
    assert!(!culprit.is_narrow());
}

/// Only what the broker itself ended counts, promptly, and never what a link did.
#[test]
fn a_bad_link_convicts_nobody() {
    let mut culprit = Culprit::default();
    culprit.acknowledged(&message(1));
    for _ in 0..100 {
        let broken = Ending { by: By::Link, ..closed(10, 10) };
        assert_eq!(ends(&mut culprit, &broken), None);
    }
    assert!(!culprit.is_narrow());
    let mut culprit = narrow();
    for _ in 0..100 {
        assert_eq!(ends(&mut culprit, &Ending { by: By::Link, ..closed(10, 10) }), None);
        let late = Ending { after: PATIENCE + Duration::from_secs(1), ..closed(10, 10) };
        assert_eq!(ends(&mut culprit, &late), None, "it heard nothing, and closed for that");
        assert_eq!(ends(&mut culprit, &closed(10, 12)), None, "not alone");
        assert_eq!(ends(&mut culprit, &Ending { first: None, last: None, ..closed(10, 10) }), None);
    }
}

#[test]
fn progress_begins_the_count_anew() {
    let mut culprit = Culprit::default();
    for number in 0..100 {
        assert_eq!(ends(&mut culprit, &closed(number, number + 20)), None, "another one is first each time");
        assert_eq!(ends(&mut culprit, &closed(number, number + 20)), None);
        assert!(!culprit.is_narrow());
    }
    let mut culprit = narrow();
    for _ in 0..10 {
        ends(&mut culprit, &closed(10, 10));
        ends(&mut culprit, &closed(10, 10));
        culprit.acknowledged(&message(10));
    }
    assert_eq!(ends(&mut culprit, &closed(11, 11)), None, "an acknowledgement clears");
}

/// A broker that takes nothing (rights that were withdrawn) does not empty the buffer into gaps.
#[test]
fn a_broker_that_takes_nothing_costs_one_message_at_most() {
    let mut culprit = narrow();
    let convicted = (0..1000).filter(|number| ends(&mut culprit, &closed(10 + number / 60, 29)).is_some()).count();
    let alone = (0..1000).filter(|_| ends(&mut culprit, &closed(10, 10)).is_some()).count();
    assert_eq!((convicted, alone), (0, 1));
    for _ in 0..1000 {
        assert_eq!(ends(&mut culprit, &closed(11, 11)), None);
    }
    culprit.acknowledged(&Exchange::Notice("status".into()));
    assert!((0..10).any(|_| ends(&mut culprit, &closed(11, 11)).is_some()), "and goes on when it takes something");
}

/// What is only partly written when the broker closes needs more evidence.
#[test]
fn a_part_counts_less() {
    let mut culprit = narrow();
    let partly = Ending { written: false, ..closed(10, 10) };
    for _ in 1..PARTLY_MAX {
        assert_eq!(ends(&mut culprit, &partly), None);
    }
    assert_eq!(ends(&mut culprit, &partly), Some(message(10)));
}

/// Behind TLS, without TLS's farewell, on a connection that had stood and answered.
fn cut(number: u64) -> Ending {
    Ending { by: By::Somebody, proved: true, ..closed(number, number) }
}

#[test]
fn cuts_convict_where_each_of_many_in_a_row_is_proved() {
    let unproved = Ending { proved: false, ..cut(10) };
    let late = Ending { after: proof(KEEP_ALIVE) / QUICK_PART + Duration::from_millis(1), ..cut(10) };
    let beside_others = Ending { alone: false, ..cut(10) };
    let while_nothing_was_sent = Ending { first: None, last: None, alone: false, ..cut(10) };
    let broken = Ending { by: By::Link, ..cut(10) };
    for other in [unproved, late, beside_others, while_nothing_was_sent, broken] {
        let mut culprit = Culprit::default();
        culprit.acknowledged(&message(9));
        for _ in 0..REPEATS_MAX {
            assert!(!culprit.wants_proof());
            assert_eq!(ends(&mut culprit, &Ending { by: By::Somebody, ..closed(10, 29) }), None);
        }
        assert!(culprit.wants_proof());
        for _ in 0..20 {
            (1..CUTS_MAX).for_each(|_| assert_eq!(ends(&mut culprit, &cut(10)), None));
            assert_eq!(ends(&mut culprit, &other), None, "{other:?} begins the count anew");
        }
        (1..CUTS_MAX).for_each(|_| assert_eq!(ends(&mut culprit, &cut(10)), None));
        assert_eq!(ends(&mut culprit, &cut(10)), Some(message(10)), "{other:?}");
    }
}

#[test]
fn a_cut_alone_is_not_enough_for_what_resembles_a_convicted_one() {
    let mut culprit = Culprit::default();
    culprit.remember("t", 2000);
    culprit.acknowledged(&message(4));
    assert_eq!(culprit.ended(&Ending { proved: false, ..cut(5) }, KEEP_ALIVE, true), None);
    assert!(!culprit.is_narrow());
    for _ in 1..CUTS_AGAIN_MAX {
        assert_eq!(culprit.ended(&cut(5), KEEP_ALIVE, true), None);
        assert!(culprit.wants_proof());
    }
    assert_eq!(culprit.ended(&cut(5), KEEP_ALIVE, true), Some(message(5)));
}

/// A link that is cut by chance, at every rate there is: a message is given when the connection has proved itself, is
/// acknowledged a round trip later, and is never to blame.
#[test]
fn a_link_that_is_cut_by_chance_convicts_nobody() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) as f64 / (1_u64 << 53) as f64
    };
    for life_s in [0.3, 1.0, 3.0, 10.0, 12.0, 30.0, 100.0] {
        // An answer that takes longer than most of these links live.
        for round_trip_s in [0.1, 1.0, 1000.0] {
            let mut culprit = Culprit::default();
            let mut number = 0;
            for _ in 0..20_000 {
                culprit.acknowledged(&Exchange::Notice("status".into()));
                let lives_s: f64 = -f64::ln(1.0 - draw()) * life_s;
                let mut given_s = if culprit.wants_proof() { proof(KEEP_ALIVE).as_secs_f64() } else { 0.05 };
                while given_s + round_trip_s < lives_s {
                    culprit.acknowledged(&message(number));
                    (number, given_s) = (number + 1, given_s + round_trip_s);
                }
                let is_given = given_s < lives_s;
                let after = Duration::from_secs_f64((lives_s - given_s).max(0.0));
                let proved = is_given && given_s >= proof(KEEP_ALIVE).as_secs_f64();
                let first = is_given.then(|| message(number));
                let ending = Ending { first, alone: is_given, after, proved, ..cut(number) };
                assert_eq!(ends(&mut culprit, &ending), None, "links of {life_s} s, answers after {round_trip_s} s");
            }
        }
    }
}

#[test]
fn a_notice_is_left_out_where_something_else_is_taken_and_complained_of_where_not() {
    let mut culprit = Culprit::default();
    let notice = Exchange::Notice("meta".into());
    let ending = Ending { first: Some(notice.clone()), last: None, alone: true, ..closed(0, 0) };
    assert!((0..100).all(|_| ends(&mut culprit, &ending).is_none()));
    assert_eq!(culprit.complaint(), Some("meta"));
    let blamed: Vec<_> = (0..6)
        .filter_map(|_| {
            culprit.acknowledged(&Exchange::Notice("status".into()));
            ends(&mut culprit, &ending)
        })
        .collect();
    assert_eq!((blamed, culprit.complaint()), (vec![notice], None));
}

#[test]
fn what_resembles_a_convicted_one_needs_one_close() {
    let mut culprit = Culprit::default();
    culprit.remember("t", 2000);
    culprit.remember("t", 3000);
    assert!(culprit.resembles("t", 2000) && !culprit.resembles("t", 1999) && !culprit.resembles("u", 5000));
    assert_eq!(culprit.ended(&closed(5, 5), KEEP_ALIVE, true), None, "nothing was taken since");
    culprit.acknowledged(&message(4));
    assert_eq!(culprit.ended(&closed(5, 6), KEEP_ALIVE, true), None, "not alone");
    assert_eq!(culprit.ended(&closed(5, 5), KEEP_ALIVE, true), Some(message(5)));
    culprit.cleared("t");
    assert!(!culprit.resembles("t", 9999));
    (0..1000).for_each(|n| culprit.remember(&n.to_string(), 1));
    assert!(culprit.known.len() <= TOPICS_MAX);
}
