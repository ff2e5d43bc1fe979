//! F-32: whatever a device sends, a value that is given out is the one that was asked for.

use super::*;

const WRONG: [Act; 11] = [
    Act::Silent,
    Act::WrongTransaction,
    Act::WrongUnit,
    Act::WrongFunction,
    Act::WrongLength,
    Act::BadCheck,
    Act::Half,
    Act::HalfAndClose,
    Act::GarbageBefore,
    Act::Close,
    Act::Late(Duration::from_millis(1500)),
];

/// What a serial line can't tell, or may pass over, because what follows is a sound frame.
fn is_sound_on_rtu(act: &Act) -> bool {
    matches!(act, Act::WrongTransaction | Act::GarbageBefore)
}

#[tokio::test(start_paused = true)]
async fn f32_what_is_wrong_in_any_way_is_never_a_value() {
    for url in [TCP, RTU, RTU_OVER_TCP] {
        for act in WRONG {
            let bench = Bench::new(url, |bus| bus.defaults.retries = 0).await;
            let script = act.clone();
            bench.device.follow(move |asked| if asked.number == 2 { script.clone() } else { Act::Answer });
            assert_eq!(bench.read(7, 10, 2).await, Ok(registers(7, 10, 2)), "{url} {act:?}");
            let result = bench.read(7, 20, 2).await;
            if url != TCP && is_sound_on_rtu(&act) {
                assert_eq!(result, Ok(registers(7, 20, 2)), "{url} {act:?}");
            } else if act == Act::Close {
                // Nothing came of it, so it was asked again over a new connection.
                assert_eq!(result, Ok(registers(7, 20, 2)), "{url} {act:?}");
            } else {
                assert!(matches!(result, Err(Error::Timeout | Error::Link(_))), "{url} {act:?}: {result:?}");
                if !matches!(act, Act::Silent | Act::Late(_)) {
                    assert!(matches!(result, Err(Error::Link(_))), "{url} {act:?}: {result:?}");
                }
            }
            // However long it was put aside for, then there is an answer, and it is the right one.
            let again = asked_until_answered(&bench, 7, 30).await;
            assert_eq!(again, registers(7, 30, 2), "{url} {act:?}");
        }
    }
}

async fn asked_until_answered(bench: &Bench, unit: u8, first: u16) -> Data {
    for _ in 0..100 {
        match bench.read(unit, first, 2).await {
            Ok(data) => return data,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    panic!("unit {unit} was never asked again");
}

#[tokio::test(start_paused = true)]
async fn f32_another_attempt_makes_up_for_each_of_them() {
    for url in [TCP, RTU, RTU_OVER_TCP] {
        for act in WRONG {
            let bench = Bench::new(url, |_| {}).await;
            let script = act.clone();
            bench.device.follow(move |asked| if asked.number == 2 { script.clone() } else { Act::Answer });
            assert_eq!(bench.read(7, 10, 2).await, Ok(registers(7, 10, 2)), "{url} {act:?}");
            assert_eq!(bench.read(7, 20, 2).await, Ok(registers(7, 20, 2)), "{url} {act:?}");
            assert_eq!(bench.read(7, 30, 2).await, Ok(registers(7, 30, 2)), "{url} {act:?}");
        }
    }
}

/// A device that is always slower than the time-out: each reply comes when the next request has been sent, or would
/// have been.
#[tokio::test(start_paused = true)]
async fn f32_a_device_that_is_always_late_never_gives_a_value_for_another_address() {
    for url in [TCP, RTU, RTU_OVER_TCP] {
        for late_ms in [1001, 1100, 1500, 1900] {
            let bench = Bench::new(url, |_| {}).await;
            bench.device.follow(move |asked| match asked.unit {
                7 => Act::Late(Duration::from_millis(late_ms)),
                _ => Act::Answer,
            });
            for round in 0..40 {
                let first = round * 2;
                let result = bench.read(7, first, 2).await;
                assert!(result.is_err() || result == Ok(registers(7, first, 2)), "{url} {late_ms}: {result:?}");
                let other = bench.read(8, first, 2).await;
                assert!(other.is_err() || other == Ok(registers(8, first, 2)), "{url} {late_ms}: {other:?}");
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f32_bytes_that_nobody_asked_for_are_never_the_next_reply() {
    for url in [TCP, RTU, RTU_OVER_TCP] {
        for act in [Act::Twice, Act::GarbageAfter] {
            let bench = Bench::new(url, |bus| bus.defaults.retries = 0).await;
            let script = act.clone();
            bench.device.follow(move |_| script.clone());
            for first in [10, 20, 30] {
                assert_eq!(bench.read(7, first, 2).await, Ok(registers(7, first, 2)), "{url} {act:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_does_not_echo_the_transaction_needs_its_option() {
    let bench = Bench::new(TCP, |_| {}).await;
    bench.device.follow(|_| Act::WrongTransaction);
    let Err(Error::Link(why)) = bench.read(7, 10, 2).await else { panic!("not taken") };
    assert!(why.contains("check_transaction"), "{why}");

    let bench = Bench::new(TCP, |bus| bus.check_transaction = false).await;
    bench.device.follow(|_| Act::WrongTransaction);
    assert_eq!(bench.read(7, 10, 2).await, Ok(registers(7, 10, 2)));
    // What is late is no answer there either.
    bench.device.follow(|asked| if asked.first == 20 { Act::Late(Duration::from_millis(1500)) } else { Act::Answer });
    let late = bench.read(7, 20, 2).await;
    assert_eq!(late, Err(Error::Timeout));
    assert_eq!(asked_until_answered(&bench, 7, 30).await, registers(7, 30, 2));
}

#[tokio::test(start_paused = true)]
async fn exceptions_are_answers() {
    for url in [TCP, RTU] {
        let bench = Bench::new(url, |_| {}).await;
        bench.device.follow(|asked| if asked.first == 66 { Act::Exception(2) } else { Act::Answer });
        assert_eq!(bench.read(7, 66, 2).await, Err(Error::Exception(2)));
        assert_eq!(bench.read(7, 10, 2).await, Ok(registers(7, 10, 2)));
        assert_eq!(bench.device.connections(), 1, "the connection stays");
        // Each refused once, and asked once.
        assert_eq!(bench.device.asked().len(), 2);
        let status = bench.buses.status().remove(0);
        assert_eq!((status.requests, status.exceptions, status.errors), (2, 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn f35_one_bad_register_costs_one_point() {
    let bench = Bench::new(TCP, |_| {}).await;
    bench.device.follow(|asked| {
        let bad = asked.first <= 5 && 5 < asked.first + asked.count;
        if bad { Act::Exception(2) } else { Act::Answer }
    });
    let reads: Arc<[Read]> = (0..10).map(|first| Read { table: Table::Holding, first, count: 1 }).collect();
    let (Answer::Read(results), _) = bench.caller("one").call("b", call(7, What::Read(reads))).await else { panic!() };
    for (first, result) in (0..).zip(results) {
        let expected = if first == 5 { Err(Error::Exception(2)) } else { Ok(registers(7, first, 1)) };
        assert_eq!(result, expected);
    }
}

/// On a serial line nothing distinguishes it from the next answer but that it comes before the question.
#[tokio::test(start_paused = true)]
async fn f32_what_comes_between_two_requests_is_thrown_away() {
    for url in [TCP, RTU, RTU_OVER_TCP] {
        let bench = Bench::new(url, |bus| bus.defaults.retries = 0).await;
        bench.device.follow(|_| Act::Echo(Duration::from_millis(50)));
        for first in [10, 20, 30] {
            assert_eq!(bench.read(7, first, 2).await, Ok(registers(7, first, 2)), "{url}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bits_of_another_count_are_no_answer() {
    for url in [TCP, RTU] {
        let bench = Bench::new(url, |bus| bus.defaults.retries = 0).await;
        bench.device.follow(|_| Act::WrongLength);
        let reads: Arc<[Read]> = [Read { table: Table::Coil, first: 3, count: 5 }].into();
        let (answer, _) = bench.caller("one").call("b", call(7, What::Read(reads))).await;
        assert!(matches!(&answer, Answer::Read(results) if matches!(results[..], [Err(Error::Link(_))])), "{answer:?}");
    }
}
