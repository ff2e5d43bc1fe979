//! A made-up device answers; what is asked of it is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { registers: 125, bits: 2000, gaps: 0 };
const TABLE: Table = Table::Holding;

/// Holds `address * 3 + 1` everywhere but where it is bad.
#[derive(Default)]
struct Device {
    bad: BTreeSet<u16>,
    asked: Vec<Read>,
    refused: usize,
}

fn content(table: Table, address: u16) -> u16 {
    address.wrapping_mul(3).wrapping_add(table as u16)
}

fn data(read: Read) -> Data {
    let addresses = (read.first..=u16::MAX).take(usize::from(read.count));
    if read.table.is_bits() {
        Data::Bits(addresses.map(|address| content(read.table, address).is_multiple_of(3)).collect())
    } else {
        Data::Registers(addresses.map(|address| content(read.table, address)).collect())
    }
}

impl Device {
    fn with_bad(bad: &[u16]) -> Self {
        Self { bad: bad.iter().copied().collect(), ..Self::default() }
    }

    fn answer(&mut self, read: Read) -> Answer<&'static str> {
        self.asked.push(read);
        let last = u16::try_from(read.end() - 1).expect("it is possible");
        if self.bad.range(read.first..=last).next().is_some() {
            self.refused += 1;
            return Answer::Exception(2);
        }
        Answer::Data(data(read))
    }

    fn round(
        &mut self,
        planner: &mut Planner,
        wanted: &[Read],
        limits: Limits,
        now: Duration,
    ) -> Vec<Answer<&'static str>> {
        self.asked.clear();
        self.refused = 0;
        let mut round = planner.round(wanted.to_vec(), limits, now);
        while let Some(read) = round.ask() {
            let answer = self.answer(read);
            round.answered(planner, answer, now);
        }
        round.finish()
    }
}

fn holding(first: u16, count: u16) -> Read {
    Read { table: TABLE, first, count }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn neighbours_are_joined_and_strangers_are_not() {
    let wanted =
        [holding(0, 2), holding(2, 1), holding(5, 4), holding(0, 1), Read { table: Table::Input, first: 3, count: 1 }];
    let mut device = Device::default();
    let answers = device.round(&mut Planner::default(), &wanted, LIMITS, at(0));
    assert_eq!(device.asked, [Read { table: Table::Input, first: 3, count: 1 }, holding(0, 3), holding(5, 4)]);
    assert_eq!(answers, wanted.map(|read| Answer::Data(data(read))));
}

/// F-34: limits of devices.
#[test]
fn f34_gaps_only_where_they_are_allowed() {
    let wanted = [holding(0, 1), holding(3, 1), holding(7, 1)];
    let asked = |gaps| {
        let mut device = Device::default();
        device.round(&mut Planner::default(), &wanted, Limits { gaps, ..LIMITS }, at(0));
        device.asked
    };
    assert_eq!(asked(0).len(), 3);
    assert_eq!(asked(2), [holding(0, 4), holding(7, 1)]);
    assert_eq!(asked(3), [holding(0, 8)]);
}

#[test]
fn f34_one_register_a_request() {
    let wanted = [holding(0, 2), holding(2, 1)];
    let mut device = Device::default();
    let answers = device.round(&mut Planner::default(), &wanted, Limits { registers: 1, ..LIMITS }, at(0));
    assert_eq!(device.asked, [holding(0, 1), holding(1, 1), holding(2, 1)]);
    assert_eq!(answers, wanted.map(|read| Answer::Data(data(read))));
}

#[test]
fn values_are_not_torn_by_the_limit() {
    let wanted: Vec<Read> = (0..50).map(|n| holding(n * 4, 4)).collect();
    let mut device = Device::default();
    device.round(&mut Planner::default(), &wanted, LIMITS, at(0));
    assert_eq!(device.asked, [holding(0, 124), holding(124, 76)]);
}

/// F-35: one bad register voids everything.
#[test]
fn f35_one_bad_register_costs_one_point() {
    let wanted: Vec<Read> = (0..100).map(|n| holding(n, 1)).collect();
    let (mut planner, mut device) = (Planner::default(), Device::with_bad(&[57]));
    let answers = device.round(&mut planner, &wanted, LIMITS, at(0));
    for (read, answer) in wanted.iter().zip(&answers) {
        let expected = if read.first == 57 { Answer::Exception(2) } else { Answer::Data(data(*read)) };
        assert_eq!(*answer, expected, "{read:?}");
    }
    assert!(device.asked.len() <= 15, "{}", device.asked.len());
    // Learnt: the next round goes around it, and it is not asked.
    assert_eq!(device.round(&mut planner, &wanted, LIMITS, at(0)), answers);
    assert_eq!(device.asked, [holding(0, 57), holding(58, 42)]);
    // Now and then it is asked again, alone.
    device.round(&mut planner, &wanted, LIMITS, at(2));
    assert_eq!(device.asked, [holding(0, 57), holding(58, 42), holding(57, 1)]);
    device.round(&mut planner, &wanted, LIMITS, at(3));
    assert_eq!(device.refused, 0, "the pause has grown");
    // Mended: one round to see it, then all is as it was.
    device.bad.clear();
    let answers = device.round(&mut planner, &wanted, LIMITS, at(60));
    assert!(answers.iter().all(|answer| matches!(answer, Answer::Data(_))));
    device.round(&mut planner, &wanted, LIMITS, at(61));
    assert_eq!(device.asked, [holding(0, 100)]);
}

#[test]
fn f35_a_bad_gap_is_learnt_and_forgotten() {
    let wanted = [holding(0, 2), holding(4, 2)];
    let limits = Limits { gaps: 8, ..LIMITS };
    let (mut planner, mut device) = (Planner::default(), Device::with_bad(&[3]));
    let answers = device.round(&mut planner, &wanted, limits, at(0));
    assert_eq!(answers, wanted.map(|read| Answer::Data(data(read))));
    assert_eq!(device.asked, [holding(0, 6), holding(0, 2), holding(4, 2)]);
    device.round(&mut planner, &wanted, limits, at(1));
    assert_eq!(device.asked, [holding(0, 2), holding(4, 2)]);
    device.bad.clear();
    device.round(&mut planner, &wanted, limits, CUT_KEPT);
    assert_eq!(device.asked, [holding(0, 6)]);
}

#[test]
fn values_that_overlap_are_taken_apart_too() {
    let wanted = [holding(0, 10), holding(4, 1), holding(9, 2)];
    let (mut planner, mut device) = (Planner::default(), Device::with_bad(&[10]));
    let answers = device.round(&mut planner, &wanted, LIMITS, at(0));
    assert_eq!(answers, [Answer::Data(data(wanted[0])), Answer::Data(data(wanted[1])), Answer::Exception(2)]);
    device.round(&mut planner, &wanted, LIMITS, at(0));
    assert_eq!(device.asked, [holding(0, 10)]);
}

/// F-31: one dead device stops all the others.
#[test]
fn f31_after_a_time_out_nothing_more_is_asked() {
    let wanted = [holding(0, 1), holding(10, 1), holding(20, 1)];
    let mut planner = Planner::default();
    let mut round = planner.round(wanted.to_vec(), LIMITS, at(0));
    let first = round.ask().expect("a read");
    round.answered(&mut planner, Answer::Data(data(first)), at(0));
    assert_eq!(round.ask(), Some(wanted[1]));
    assert_eq!(round.ask(), Some(wanted[1]), "the same until it is answered");
    round.answered(&mut planner, Answer::Failed("timeout"), at(0));
    assert_eq!(round.ask(), None);
    assert_eq!(round.finish(), [Answer::Data(data(wanted[0])), Answer::Failed("timeout"), Answer::Failed("timeout")]);
    assert_eq!(planner, Planner::default(), "nothing is learnt from a time-out");
}

#[test]
fn exceptions_that_say_nothing_of_a_register_are_not_learnt() {
    for (code, asked) in [(1, 2), (6, 1), (11, 1)] {
        let wanted = [holding(0, 1), holding(1, 1), Read { table: Table::Coil, first: 0, count: 8 }];
        let mut planner = Planner::default();
        let mut round = planner.round::<()>(wanted.to_vec(), LIMITS, at(0));
        let mut count = 0;
        while round.ask().is_some() {
            count += 1;
            round.answered(&mut planner, Answer::Exception(code), at(0));
        }
        assert_eq!(count, asked, "exception {code}");
        assert!(round.finish().iter().all(|answer| *answer == Answer::Exception(code)));
        assert_eq!(planner, Planner::default());
    }
}

#[test]
fn what_cannot_be_is_not_asked() {
    let wanted = [holding(65_535, 2), holding(3, 0), holding(65_535, 1)];
    let mut device = Device::default();
    let answers = device.round(&mut Planner::default(), &wanted, LIMITS, at(0));
    assert_eq!(device.asked, [holding(65_535, 1)]);
    assert_eq!(answers, [Answer::Exception(2), Answer::Exception(2), Answer::Data(data(wanted[2]))]);
}

#[test]
fn what_is_learnt_is_bounded() {
    let mut planner = Planner::default();
    let mut device = Device { bad: (0..=u16::MAX).collect(), ..Device::default() };
    for first in (0..30_000).step_by(100) {
        let wanted: Vec<Read> = (first..first + 100).map(|n| holding(n, 1)).collect();
        let answers = device.round(&mut planner, &wanted, LIMITS, at(u64::from(first)));
        assert!(answers.iter().all(|answer| *answer == Answer::Exception(2)));
    }
    assert!(format!("{planner:?}").matches("exception").count() <= LEARNT_MAX);
}

fn reads() -> impl Strategy<Value = Vec<Read>> {
    let table = prop_oneof![Just(Table::Holding), Just(Table::Input), Just(Table::Coil), Just(Table::Discrete)];
    let read = (table, 0..300_u16, prop_oneof![Just(1_u16), Just(2), Just(4), 1..20_u16]);
    vec(read.prop_map(|(table, first, count)| Read { table, first, count }), 1..60)
}

fn limits() -> impl Strategy<Value = Limits> {
    (prop_oneof![Just(1_u16), Just(4), Just(125), 1..=125_u16], 1..=2000_u16, 0..12_u16)
        .prop_map(|(registers, bits, gaps)| Limits { registers, bits, gaps })
}

proptest! {
    #[test]
    fn each_wanted_register_is_read_once_within_the_limits(wanted in reads(), limits in limits()) {
        let mut device = Device::default();
        let answers = device.round(&mut Planner::default(), &wanted, limits, at(0));
        for (read, answer) in wanted.iter().zip(answers) {
            prop_assert_eq!(answer, Answer::Data(data(*read)));
        }
        let is_wanted = |table, address: u32| {
            wanted.iter().any(|read| read.table == table && (u32::from(read.first)..read.end()).contains(&address))
        };
        let mut times: BTreeMap<(Table, u32), u32> = BTreeMap::new();
        for read in &device.asked {
            prop_assert!(u32::from(read.count) <= limits.of(read.table));
            let mut gap = 0;
            for address in u32::from(read.first)..read.end() {
                gap = if is_wanted(read.table, address) { 0 } else { gap + 1 };
                prop_assert!(gap <= limits.gaps);
                if gap == 0 {
                    *times.entry((read.table, address)).or_default() += 1;
                }
            }
            prop_assert!(is_wanted(read.table, u32::from(read.first)) && is_wanted(read.table, read.end() - 1));
        }
        for read in &wanted {
            for address in u32::from(read.first)..read.end() {
                prop_assert_eq!(times.get(&(read.table, address)), Some(&1));
            }
        }
    }

    #[test]
    fn bad_registers_cost_their_own_points_and_are_learnt(
        wanted in reads(),
        limits in limits(),
        bad in btree_set(0..320_u16, 0..12),
    ) {
        const ROUNDS_MAX: usize = 40;
        let mut planner = Planner::default();
        let mut device = Device { bad, ..Device::default() };
        let mut rounds = 0;
        loop {
            let answers = device.round(&mut planner, &wanted, limits, at(0));
            for (read, answer) in wanted.iter().zip(answers) {
                let is_bad = (u32::from(read.first)..read.end()).any(|n| device.bad.contains(&(n as u16)));
                let expected = if is_bad { Answer::Exception(2) } else { Answer::Data(data(*read)) };
                prop_assert_eq!(answer, expected);
            }
            prop_assert!(device.asked.iter().all(|read| u32::from(read.count) <= limits.of(read.table)));
            rounds += 1;
            prop_assert!(rounds <= ROUNDS_MAX, "not learnt");
            if device.refused == 0 {
                break;
            }
        }
        // Mended, and long enough later: as if nothing had been.
        device.bad.clear();
        device.round(&mut planner, &wanted, limits, CUT_KEPT * 2);
        let answers = device.round(&mut planner, &wanted, limits, CUT_KEPT * 2);
        prop_assert!(answers.iter().all(|answer| matches!(answer, Answer::Data(_))));
        let asked = std::mem::take(&mut device.asked);
        device.round(&mut Planner::default(), &wanted, limits, at(0));
        prop_assert_eq!(asked, device.asked);
    }
}
