//! F-31 and F-34: who is asked when. The device writes down the order and the time of what it is asked.

use super::*;

/// Polls a unit every second, as a source of its own, so often.
fn poll_every_second(bench: &Bench, unit: u8, times: u32) -> tokio::task::JoinHandle<Vec<Result<Data, Error>>> {
    let caller = bench.caller(&format!("unit {unit}"));
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut results = Vec::new();
        for _ in 0..times {
            ticks.tick().await;
            results.push(read(&caller, unit, 0, 2).await);
        }
        results
    })
}

#[tokio::test(start_paused = true)]
async fn f31_one_dead_of_32_on_a_serial_line_costs_the_others_a_time_out_a_cycle_at_most_and_then_nothing() {
    const DEAD: u8 = 17;
    const CYCLES: u32 = 120;
    let bench = Bench::new("rtu:///dev/ttyS9?baud=115200", |bus| {
        bus.defaults.timeout = Duration::from_millis(500);
    })
    .await;
    bench.device.follow(|asked| if asked.unit == DEAD { Act::Silent } else { Act::Answer });
    let start = now();
    let polls: Vec<_> = (1..=32).map(|unit| (unit, poll_every_second(&bench, unit, CYCLES))).collect();
    for (unit, poll) in polls {
        let results = poll.await.expect("the polls");
        let good = results.iter().filter(|result| **result == Ok(registers(unit, 0, 2))).count();
        match unit {
            DEAD => assert!(results.iter().all(|result| *result == Err(Error::Timeout)), "{results:?}"),
            _ => assert_eq!(good, CYCLES as usize, "unit {unit} was always read"),
        }
    }
    let asked = bench.device.asked();
    // In the order of the line: between two attempts at the dead one, every other one has had its turn.
    let mut cycle = Vec::new();
    for one in &asked {
        if one.unit == DEAD {
            let others: std::collections::BTreeSet<u8> = cycle.drain(..).collect();
            assert!(others.len() == 31 || one.number <= 32, "only {others:?} before request {}", one.number);
        } else {
            cycle.push(one.unit);
        }
    }
    // The others: never later than a time-out (and the half second's worth of requests) after their second; and after
    // the first minute only when the dead one was looked after.
    let disturbed = |unit: u8| {
        let late = asked.iter().filter(move |one| one.unit == unit);
        late.filter(|one| (one.at - start).subsec_millis() >= 200).count()
    };
    let attempts = asked.iter().filter(|one| one.unit == DEAD).count();
    assert!(attempts <= 12, "{attempts} attempts in two minutes");
    for unit in (1..=32).filter(|unit| *unit != DEAD) {
        let times: Vec<_> = asked.iter().filter(|one| one.unit == unit).map(|one| one.at).collect();
        assert_eq!(times.len(), CYCLES as usize);
        for (cycle, time) in times.iter().enumerate() {
            let lag = (*time - start).saturating_sub(Duration::from_secs(cycle as u64));
            assert!(lag < Duration::from_millis(800), "unit {unit}, cycle {cycle}: {lag:?} late");
        }
        assert!(disturbed(unit) <= attempts, "unit {unit} was disturbed {} times", disturbed(unit));
    }
    let status = bench.buses.status().remove(0);
    assert_eq!(status.units_aside, [DEAD]);
}

#[tokio::test(start_paused = true)]
async fn f31_a_dead_unit_comes_back_by_itself() {
    let bench = Bench::new(TCP, |_| {}).await;
    bench.device.follow(|_| Act::Silent);
    assert_eq!(bench.read(7, 0, 2).await, Err(Error::Timeout));
    let asked = bench.device.asked().len();
    assert_eq!(asked, 2, "once, and once again");
    for _ in 0..5 {
        assert_eq!(bench.read(7, 0, 2).await, Err(Error::Timeout));
    }
    assert_eq!(bench.device.asked().len(), asked, "while it is aside it is not asked");
    bench.device.follow(|_| Act::Answer);
    let gone = now();
    while bench.read(7, 0, 2).await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(now() - gone <= Duration::from_secs(5), "{:?}", now() - gone);
    assert!(bench.buses.status()[0].units_aside.is_empty());
}

#[tokio::test(start_paused = true)]
async fn sources_take_turns_request_by_request() {
    let bench = Bench::new(TCP, |bus| bus.defaults.max_registers = 1).await;
    bench.device.follow(|_| Act::Slow(Duration::from_millis(10)));
    let (big, small) = (bench.caller("big"), bench.caller("small"));
    let big = tokio::spawn(async move { read(&big, 1, 0, 100).await });
    tokio::time::sleep(Duration::from_millis(105)).await;
    assert_eq!(read(&small, 2, 0, 3).await, Ok(registers(2, 0, 3)));
    let order: Vec<u8> = bench.device.asked().iter().map(|asked| asked.unit).collect();
    let first = order.iter().position(|unit| *unit == 2).expect("the small one's turn");
    assert_eq!(order.get(first..first + 5), Some(&[2, 1, 2, 1, 2][..]), "{order:?}");
    assert_eq!(big.await.expect("the big one"), Ok(registers(1, 0, 100)));
}

#[tokio::test(start_paused = true)]
async fn f34_pauses_limits_and_gaps_are_kept() {
    let bench = Bench::new(TCP, |bus| {
        bus.pause_connect = Duration::from_secs(2);
        bus.defaults.pause = Duration::from_millis(300);
        bus.defaults.max_registers = 10;
        bus.defaults.read_gaps = 2;
    })
    .await;
    let began = now();
    let reads: Arc<[Read]> =
        [(0, 2), (4, 2), (9, 2), (100, 25)].map(|(first, count)| Read { table: Table::Holding, first, count }).into();
    let (Answer::Read(results), tally) = bench.caller("one").call("b", call(7, What::Read(reads))).await else {
        panic!()
    };
    let expected = [(0, 2), (4, 2), (9, 2), (100, 25)].map(|(first, count)| Ok(registers(7, first, count)));
    assert_eq!(results, expected);
    let asked = bench.device.asked();
    assert_eq!(asked[0].at - began, Duration::from_secs(2));
    for pair in asked.windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_millis(300));
    }
    let places: Vec<_> = asked.iter().map(|asked| (asked.first, asked.count)).collect();
    // Two gaps of two are read over, one of three is not.
    assert_eq!(places[..2], [(0, 6), (9, 2)]);
    assert!(asked.iter().all(|asked| asked.count <= 10), "{places:?}");
    assert_eq!(tally.requests, asked.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn f34_one_register_a_request_still_makes_whole_values() {
    let bench = Bench::new(RTU, |bus| bus.defaults.max_registers = 1).await;
    assert_eq!(bench.read(7, 40, 4).await, Ok(registers(7, 40, 4)));
    let asked = bench.device.asked();
    assert!(asked.iter().all(|asked| asked.count == 1));
    // 3.5 characters of eleven bits at 19,200 baud: 2.005 ms, on a clock of milliseconds.
    for pair in asked.windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_millis(2));
    }
}

#[tokio::test(start_paused = true)]
async fn units_have_their_own_options() {
    let bench = Bench::new(TCP, |bus| {
        let slow = crate::config::UnitSettings { timeout: Duration::from_secs(3), retries: 0, ..bus.defaults.clone() };
        bus.units.insert(9, slow);
    })
    .await;
    bench.device.follow(|_| Act::Slow(Duration::from_secs(2)));
    assert_eq!(bench.read(9, 0, 2).await, Ok(registers(9, 0, 2)));
    assert_eq!(bench.read(8, 0, 2).await, Err(Error::Timeout));
}

#[tokio::test(start_paused = true)]
async fn connections_at_once_share_the_work() {
    let bench = Bench::new(TCP, |bus| bus.connections = 3).await;
    bench.device.follow(|_| Act::Slow(Duration::from_millis(100)));
    let began = now();
    let polls: Vec<_> = (1..=6)
        .map(|unit| {
            let caller = bench.caller(&format!("source {unit}"));
            tokio::spawn(async move { read(&caller, unit, 0, 2).await })
        })
        .collect();
    for (unit, poll) in (1..).zip(polls) {
        assert_eq!(poll.await.expect("a poll"), Ok(registers(unit, 0, 2)));
    }
    assert_eq!(now() - began, Duration::from_millis(200), "three and three");
    assert_eq!(bench.device.connections(), 3);
}
