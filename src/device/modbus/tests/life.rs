//! Writes, lost links, callers that go away, and buses that change.

use super::*;

#[tokio::test(start_paused = true)]
async fn writes_show_what_was_there_and_what_is() {
    for (url, multiple) in [(TCP, false), (TCP, true), (RTU, false), (RTU, true), (RTU_OVER_TCP, true)] {
        let bench = Bench::new(url, |bus| {
            if multiple {
                bus.defaults.write = crate::config::WriteFunctions::Multiple;
            }
        })
        .await;
        let written = bench.write(7, Write::Registers(10, vec![0x1234]), true).await.expect("written");
        assert_eq!(written.before, Some(registers(7, 10, 1)));
        assert_eq!(written.after, Some(Data::Registers(vec![0x1234])));
        let written = bench.write(7, Write::Coils(3, vec![false]), true).await.expect("written");
        assert_eq!((written.before, written.after), (Some(Data::Bits(vec![true])), Some(Data::Bits(vec![false]))));
        let mask = Write::Mask(10, 0x00f2, 0x0025);
        let written = bench.write(7, mask, true).await.expect("written");
        // The example of the specification, 6.16, with another current value.
        assert_eq!(written.after, Some(Data::Registers(vec![0x1234 & 0x00f2 | (0x0025 & !0x00f2)])));
        let values = vec![1, 2, 3];
        let written = bench.write(7, Write::Registers(20, values.clone()), false).await.expect("written");
        assert_eq!(written.after, None, "not asked for");
        assert_eq!((20..23).map(|at| bench.device.register(7, at)).collect::<Vec<_>>(), values);
        let bits = vec![true, false, true, true, false, false, true, false, true];
        bench.write(7, Write::Coils(100, bits.clone()), false).await.expect("written");
        assert_eq!((100..109).map(|at| bench.device.coil(7, at)).collect::<Vec<_>>(), bits);
        let used: std::collections::BTreeSet<u8> = bench.device.asked().iter().map(|asked| asked.function).collect();
        let expected: &[u8] = if multiple { &[1, 3, 15, 16, 22] } else { &[1, 3, 5, 6, 22] };
        assert_eq!(used.into_iter().collect::<Vec<_>>(), expected, "{url}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_is_sent_once_whatever_comes_of_it() {
    for act in [Act::Silent, Act::Close, Act::WrongFunction, Act::Half] {
        let bench = Bench::new(TCP, |bus| bus.defaults.retries = 3).await;
        let script = act.clone();
        bench.device.follow(move |asked| if asked.function == 6 { script.clone() } else { Act::Answer });
        let result = bench.write(7, Write::Registers(10, vec![1]), true).await;
        assert!(matches!(result, Err(Error::Timeout | Error::Link(_))), "{act:?}: {result:?}");
        assert_eq!(bench.device.asked().iter().filter(|asked| asked.function == 6).count(), 1, "{act:?}");
    }
    let bench = Bench::new(TCP, |_| {}).await;
    bench.device.follow(|asked| if asked.function == 6 { Act::Exception(3) } else { Act::Answer });
    assert_eq!(bench.write(7, Write::Registers(10, vec![1]), true).await, Err(Error::Exception(3)));
}

#[tokio::test(start_paused = true)]
async fn nothing_comes_between_a_write_and_what_belongs_to_it() {
    let bench = Bench::new(TCP, |bus| bus.connections = 4).await;
    bench.device.follow(|_| Act::Slow(Duration::from_millis(10)));
    let readers: Vec<_> = (0..4)
        .map(|number| {
            let caller = bench.caller(&format!("reader {number}"));
            tokio::spawn(async move {
                for _ in 0..20 {
                    read(&caller, 7, 50, 1).await.expect("a value");
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(35)).await;
    bench.write(7, Write::Registers(10, vec![1]), true).await.expect("written");
    for reader in readers {
        reader.await.expect("a reader");
    }
    let asked = bench.device.asked();
    let at = asked.iter().position(|asked| asked.function == 6).expect("the write");
    let places: Vec<_> = asked[at - 1..=at + 1].iter().map(|asked| asked.first).collect();
    assert_eq!(places, [10, 10, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_stops_nothing_half_way() {
    for url in [TCP, RTU] {
        let bench = Bench::new(url, |_| {}).await;
        bench.device.follow(|_| Act::Slow(Duration::from_millis(500)));
        let caller = bench.caller("dies");
        let dying = tokio::spawn(async move { read(&caller, 7, 10, 2).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        dying.abort();
        assert_eq!(bench.read(7, 20, 2).await, Ok(registers(7, 20, 2)), "{url}");
        assert_eq!((bench.device.asked().len(), bench.device.connections()), (2, 1), "{url}");
    }
}

#[tokio::test(start_paused = true)]
async fn f36_a_way_that_is_gone_is_said_at_once_and_found_again() {
    for url in [TCP, RTU] {
        let bench = Bench::new(url, |_| {}).await;
        assert_eq!(bench.read(7, 10, 2).await, Ok(registers(7, 10, 2)));
        bench.way.is_cut.store(true, Ordering::Relaxed);
        bench.device.follow(|_| Act::Close);
        assert!(matches!(bench.read(7, 10, 2).await, Err(Error::Link(_))));
        let dials = bench.way.dials.load(Ordering::Relaxed);
        for _ in 0..100 {
            assert!(matches!(bench.read(7, 10, 2).await, Err(Error::Link(_))));
        }
        assert_eq!(bench.way.dials.load(Ordering::Relaxed), dials, "no storm");
        tokio::time::sleep(Duration::from_secs(60)).await;
        let _still_away = bench.read(7, 10, 2).await;
        assert_eq!(bench.buses.status()[0].state, crate::status::BusState::Waiting);
        bench.way.is_cut.store(false, Ordering::Relaxed);
        bench.device.follow(|_| Act::Answer);
        let back = now();
        while bench.read(7, 10, 2).await != Ok(registers(7, 10, 2)) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(now() - back <= Duration::from_secs(15), "{:?}", now() - back);
        assert_eq!(bench.buses.status()[0].state, crate::status::BusState::Connected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_has_an_end() {
    let bench = Bench::new(TCP, |_| {}).await;
    bench.device.follow(|_| Act::Slow(Duration::from_millis(900)));
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let caller = bench.caller("greedy");
            tokio::spawn(async move { read(&caller, 7, 10, 2).await })
        })
        .collect();
    let mut busy = 0;
    for call in calls {
        match call.await.expect("a call") {
            Ok(data) => assert_eq!(data, registers(7, 10, 2)),
            Err(Error::Busy) => busy += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(busy >= 20, "{busy} were refused");
}

#[tokio::test(start_paused = true)]
async fn a_changed_bus_ends_its_request_and_the_next_owner_goes_on() {
    let bench = Bench::new(TCP, |_| {}).await;
    bench.device.follow(|_| Act::Slow(Duration::from_millis(300)));
    let calls: Vec<_> = (0..3)
        .map(|number| {
            let caller = bench.caller(&format!("source {number}"));
            tokio::spawn(async move { read(&caller, 7, 10, 2).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut changed = bus_of_url(TCP).expect("a url");
    changed.defaults.timeout = Duration::from_secs(2);
    bench.apply(&changed).await;
    for call in calls {
        assert_eq!(call.await.expect("a call"), Ok(registers(7, 10, 2)));
    }
    assert_eq!(bench.device.connections(), 2);
    // The same again changes nothing.
    bench.apply(&changed).await;
    bench.read(7, 10, 2).await.expect("a value");
    assert_eq!(bench.device.connections(), 2);
    bench.buses.apply(&BTreeMap::new()).await;
    let gone = bench.read(7, 10, 2).await;
    assert!(matches!(&gone, Err(Error::Link(why)) if why.contains("no bus")), "{gone:?}");
}

#[tokio::test(start_paused = true)]
async fn what_no_device_can_have_is_not_asked() {
    let bench = Bench::new(TCP, |_| {}).await;
    assert!(bench.read(7, 65_535, 2).await.is_err());
    assert!(bench.read(7, 3, 0).await.is_err());
    assert!(bench.write(7, Write::Registers(65_535, vec![1, 2]), false).await.is_err());
    assert!(bench.write(7, Write::Registers(0, vec![0; 124]), false).await.is_err());
    assert!(bench.write(7, Write::Coils(0, Vec::new()), false).await.is_err());
    assert_eq!(bench.device.asked(), []);
}
