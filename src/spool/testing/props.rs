//! Properties of the codecs and of the set of ranges, over random input.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use crate::spool::bytes::{Put, Take};
use crate::spool::format::{Commit, FrameHead, Header, HeaderPage, Kind, PAGE, Run, Seed};
use crate::spool::ranges::Ranges;
use crate::spool::state::{Delivery, State};
use crate::spool::summary::Summary;
use crate::spool::{Gap, GapReason, gap};

fn any_run() -> impl Strategy<Value = Run> {
    (any::<[u8; 4]>(), any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(store, boot, base, salt)| Run {
        store,
        boot,
        base,
        salt,
    })
}

fn any_gap() -> impl Strategy<Value = Gap> {
    let sources = proptest::collection::btree_map("[a-z]{1,9}", 1u64.., 0..4);
    (0..5usize, any::<[u8; 4]>(), any::<u32>(), 1..1u64 << 40, 0..1u64 << 20, sources, any::<Option<i64>>()).prop_map(
        |(reason, store, boot, first, more, sources, from_ns)| Gap {
            reason: [
                GapReason::BufferFull,
                GapReason::Expired,
                GapReason::Corrupt,
                GapReason::Rejected,
                GapReason::TooLarge,
            ][reason],
            store,
            boot,
            first,
            last: first + more,
            messages: more + 1,
            sources: sources.into_iter().map(|(name, count)| (Arc::from(name), count)).collect(),
            from_ns,
            to_ns: from_ns,
        },
    )
}

proptest! {
    #[test]
    fn numbers_come_back(number in any::<u64>(), name in ".{0,60}") {
        let mut bytes = Vec::new();
        bytes.put_varint(number);
        bytes.put_name(&name);
        let mut take = Take::new(&bytes);
        prop_assert_eq!(take.varint(), Some(number));
        prop_assert_eq!(take.name(), Some(Arc::from(name)));
        prop_assert!(take.rest().is_empty());
    }

    #[test]
    fn ranges_are_a_set(inserts in proptest::collection::vec((0u64..200, 0u64..30), 0..40), window in (0u64..220, 0u64..220)) {
        let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
        for (from, length) in inserts {
            let new = (from..from + length).filter(|number| set.insert(*number)).count();
            prop_assert_eq!(ranges.insert(from, from + length), new as u64);
        }
        let (from, to) = window;
        prop_assert_eq!(ranges.count_in(from, to), set.range(from..to.max(from)).count() as u64);
        let missing: Vec<u64> = ranges.missing_in(from, to).into_iter().flat_map(|(s, e)| s..e).collect();
        let expected: Vec<u64> = (from..to).filter(|number| !set.contains(number)).collect();
        prop_assert_eq!(missing, expected);
        prop_assert!((0..230).all(|number| ranges.contains(number) == set.contains(&number)));
        let ends: Vec<(u64, u64)> = ranges.iter().collect();
        prop_assert!(ends.windows(2).all(|pair| pair[0].1 < pair[1].0), "ranges touch: {:?}", ends);
    }

    #[test]
    fn gaps_come_back_and_joining_keeps_the_sum(gaps in proptest::collection::vec(any_gap(), 1..6)) {
        let mut joined = Vec::new();
        for gap in &gaps {
            let mut bytes = Vec::new();
            gap::encode(gap, &mut bytes);
            prop_assert_eq!(gap::decode(&mut Take::new(&bytes)), Some(gap.clone()));
            gap::join(&mut joined, gap.clone());
        }
        let sum = |gaps: &[Gap]| gaps.iter().map(|gap| gap.messages).sum::<u64>();
        prop_assert_eq!(sum(&gaps), sum(&joined));
    }

    #[test]
    fn a_run_in_pieces_joins_to_one(cuts in proptest::collection::btree_set(2u64..100, 0..10), gap in any_gap()) {
        let borders: Vec<u64> = std::iter::once(1).chain(cuts).chain(std::iter::once(100)).collect();
        let mut pieces: Vec<Gap> = borders
            .windows(2)
            .map(|pair| Gap { first: pair[0], last: pair[1] - 1, messages: pair[1] - pair[0], ..gap.clone() })
            .collect();
        pieces.reverse();
        let mut joined = Vec::new();
        for piece in pieces {
            gap::join(&mut joined, piece);
        }
        prop_assert_eq!(joined.len(), 1);
        prop_assert_eq!((joined[0].first, joined[0].last, joined[0].messages), (1, 99, 99));
    }

    #[test]
    fn state_comes_back(done in proptest::collection::vec(1u64..3000, 0..200), released in proptest::collection::vec(1u64..3000, 0..20), gaps in proptest::collection::vec(any_gap(), 0..3)) {
        let mut delivery = Delivery::new();
        for number in released {
            delivery.release(number);
        }
        for number in done {
            delivery.deliver(number..number + 1);
        }
        let state = State { delivery, next: 3000, open_gaps: gaps };
        let mut bytes = Vec::new();
        state.encode(3000, 77, &state.open_gaps, &mut bytes);
        let back = State::decode(&mut Take::new(&bytes)).expect("decodes");
        prop_assert_eq!(back.delivery.released(), state.delivery.released());
        prop_assert!((0..3001).all(|number| back.delivery.is_done(number) == state.delivery.is_done(number)));
        prop_assert_eq!(back.delivery.sent_below(), 77);
        prop_assert_eq!((back.next, back.open_gaps), (3000, state.open_gaps));
    }

    #[test]
    fn pages_come_back_and_no_other_place_passes(run in any_run(), size in 2u32..64, number in any::<u64>(), bit in 0usize..72 * 8, other in 1u32..1000) {
        let header = Header { size: size * PAGE, number, packed: bit % 2 == 0, first: 5, salt: run.salt ^ 1, age_ms: 9, run };
        prop_assert_eq!(Header::decode(&header.encode()), HeaderPage::Good(header));
        let commit = Commit { segment_salt: header.salt, segment: number, run, durable: 7, cut: 8, age_ms: 9, wall_ns: -1, first: 4, opens_run: true, packed: true, synced: false };
        let (head, body) = commit.encode();
        let seed = Seed { salt: header.salt, segment: number };
        let mut frame = Vec::new();
        head.put(&mut frame, PAGE, seed, &body);
        prop_assert_eq!(Commit::find(&frame, PAGE, Some(seed)), Some(commit));
        prop_assert_eq!(Commit::find(&frame, PAGE, None), Some(commit));
        prop_assert_eq!(Commit::find(&frame, PAGE + other * PAGE, Some(seed)), None);
        prop_assert_eq!(Commit::find(&frame, PAGE, Some(Seed { segment: number ^ 1, ..seed })), None);
        frame[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(Commit::find(&frame, PAGE, Some(seed)), None);
    }

    #[test]
    fn a_summary_comes_back_and_knows_its_size(records in proptest::collection::vec((0..3u32, "[a-z]{1,5}", 1u32..5, any::<i64>()), 0..60)) {
        let (mut summary, mut next) = (Summary::default(), 1);
        for (boot, source, count, time_ns) in records {
            let run = Run { store: *b"abcd", boot, base: 1, salt: 2 };
            summary.add_record(&run, &Arc::from(source), next, count, time_ns);
            next += u64::from(count);
        }
        let mut bytes = Vec::new();
        summary.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), summary.encoded_len());
        prop_assert_eq!(Summary::decode(&mut Take::new(&bytes)), Some(summary));
    }

    #[test]
    fn noise_is_refused_and_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = State::decode(&mut Take::new(&noise));
        let _ = Summary::decode(&mut Take::new(&noise));
        let _ = gap::decode(&mut Take::new(&noise));
        let _ = FrameHead::peek(&noise).map(|(_, head)| head.kind == Kind::Record);
        prop_assert_eq!(Commit::find(&noise, 0, None), None);
        prop_assert_eq!(Header::decode(&noise), HeaderPage::Bad);
    }
}
