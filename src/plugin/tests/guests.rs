//! What guests do, and what becomes of them.

use super::*;

fn since(began: Duration) -> Duration {
    clock::now().saturating_sub(began)
}

#[tokio::test]
async fn a_healthy_plugin_is_polled() {
    let bench = Bench::new();
    let mut instance = bench.start(&Fixture::new().with("name", "healthy")).await.expect("it starts");
    let about = instance.about().clone();
    assert_eq!((about.name.as_str(), about.version.as_str()), ("healthy", "1.2.3"));
    assert_eq!(about.points.ids().iter().collect::<Vec<_>>(), ["count", "level"]);
    assert_eq!(about.points.get(1).expect("a point").unit, "mm");
    assert_eq!(about.reasons, ["odd-weather"]);
    for count in 1..=3 {
        let outcome = instance.run(Trigger::Schedule(0), NOW).await.expect("readings");
        let expected = [Reading::good(0, Value::Unsigned(count)), Reading::good(1, Value::Real(12.5))];
        assert_eq!(outcome.readings, expected);
        assert_eq!((outcome.next, outcome.points_changed), (None, false));
    }
    assert_eq!(instance.memory_bytes(), 2 << 16);
    assert_eq!(instance.refused(), 0);
    instance.stop().await;
}

#[tokio::test]
async fn the_interpreter_does_the_same() {
    let bench = Bench::with(EngineKind::Pulley);
    let mut instance = bench.start(&Fixture::new()).await.expect("it starts");
    let outcome = instance.run(Trigger::Start, NOW).await.expect("readings");
    assert_eq!(outcome.readings[0], Reading::good(0, Value::Unsigned(1)));
    let spin = bench.start(&Fixture::new().with("run", "(loop $l (br $l)) unreachable")).await;
    let failure = spin.expect("it starts").run(Trigger::Start, NOW).await.expect_err("a failure");
    assert!(matches!(failure, Failure::Timeout { .. }), "{failure:?}");
}

#[tokio::test]
async fn a_trap_ends_the_instance() {
    let failure = Bench::new().run_fails(&Fixture::new().with("run", "unreachable")).await;
    assert!(matches!(&failure, Failure::Trap(reason) if reason.contains("unreachable")), "{failure:?}");
}

#[tokio::test]
async fn traps_at_every_other_entry_are_failures_as_well() {
    let bench = Bench::new();
    for entry in ["start", "check", "describe", "init"] {
        let result = bench.start(&Fixture::new().with(entry, "unreachable")).await;
        assert!(matches!(result, Err(Failure::Trap(_))), "{entry}: {:?}", result.err());
    }
    bench.start(&Fixture::new().with("stop", "unreachable")).await.expect("it starts").stop().await;
}

#[tokio::test]
async fn f44_a_plugin_that_spins_is_ended_and_delays_nobody() {
    let bench = Bench::new();
    let limit = spec().limits.time;
    let mut instance =
        bench.start(&Fixture::new().with("run", "(loop $l (br $l)) unreachable")).await.expect("it starts");
    let began = clock::now();
    let spinning = async {
        let failure = instance.run(Trigger::Start, NOW).await.expect_err("a failure");
        assert_eq!(failure, Failure::Timeout { limit });
        since(began)
    };
    // On the same thread: it is woken before the guest's end only because the guest hands the thread back.
    let mut spinning = std::pin::pin!(spinning);
    let mut woken = 0;
    let took = loop {
        tokio::select! {
            biased;
            took = &mut spinning => break took,
            () = tokio::time::sleep(Duration::from_millis(2)) => woken += 1,
        }
    };
    assert!(took >= limit, "{took:?}");
    assert!(woken >= 5, "{woken} times in {took:?}");
}

#[tokio::test]
async fn loops_at_every_other_entry_are_ended() {
    let bench = Bench::new();
    for entry in ["start", "check", "describe", "init"] {
        let result = bench.start(&Fixture::new().with(entry, "(loop $l (br $l)) unreachable")).await;
        assert!(matches!(result, Err(Failure::Timeout { .. })), "{entry}: {:?}", result.err());
    }
    bench.start(&Fixture::new().with("stop", "(loop $l (br $l))")).await.expect("it starts").stop().await;
}

const CLOCK: &str =
    r#"(import "outstation:host/clock@0.1.0" (instance $clock (export "sleep" (func (param "how-long" u64)))))"#;

fn sleeper(nanoseconds: u64) -> Fixture {
    Fixture::new()
        .with("imports", CLOCK)
        .with("core_imports", r#"(import "clock" "sleep" (func $sleep (param i64)))"#)
        .with("lowered", r#"(core func $sleep (canon lower (func $clock "sleep")))"#)
        .with("with", r#"(with "clock" (instance (export "sleep" (func $sleep))))"#)
        .with("run", format!("(call $sleep (i64.const {nanoseconds})) (call $steady)"))
}

#[tokio::test]
async fn a_plugin_that_sleeps_uses_its_own_time_up() {
    let bench = Bench::new();
    let mut instance = bench.start(&sleeper(20_000_000)).await.expect("it starts");
    let began = clock::now();
    instance.run(Trigger::Start, NOW).await.expect("readings");
    assert!(since(began) >= Duration::from_millis(20));
    // It is woken when its time is over, early enough to give what it has.
    let mut instance = bench.start(&sleeper(u64::MAX)).await.expect("it starts");
    instance.run(Trigger::Start, NOW).await.expect("readings");
}

/// A store that answers late.
struct SlowStore(Duration);

impl StateStore for SlowStore {
    fn load(&self) -> StateFuture<'_, Vec<(String, Vec<u8>)>> {
        Box::pin(async {
            tokio::time::sleep(self.0).await;
            Ok(vec![("a".into(), vec![1])])
        })
    }

    fn write(&self, _key: &str, _value: Option<&[u8]>) -> StateFuture<'_, ()> {
        Box::pin(async { Err("the disk is gone".into()) })
    }
}

const STATE: &str = r#"(import "outstation:host/state@0.1.0" (instance $state
    (type $error (variant (case "quota-exceeded") (case "too-large") (case "unavailable" string)))
    (export "error" (type $e (eq $error)))
    (export "set" (func (param "key" string) (param "value" (list u8)) (result (result (error $e)))))))"#;

/// Sets a value of so many bytes, and gives as `count` what came back: 0 ok, 1 + n the error n.
fn setter(bytes: u32) -> Fixture {
    let run = format!(
        "(call $set (i32.const 336) (i32.const 5) (i32.const 0) (i32.const {bytes}) (i32.const 2048))
         (global.set $polls (if (result i64) (i32.load8_u (i32.const 2048))
            (then (i64.extend_i32_u (i32.load8_u (i32.const 2052)))) (else (i64.const -1))))
         (call $steady)"
    );
    Fixture::new()
        .with("imports", STATE)
        .with("core_imports", r#"(import "state" "set" (func $set (param i32 i32 i32 i32 i32)))"#)
        .with(
            "lowered",
            r#"(core module $libc (memory (export "memory") 3) (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
               (core instance $libc (instantiate $libc))
               (core func $set (canon lower (func $state "set") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))"#,
        )
        .with("with", r#"(with "state" (instance (export "set" (func $set)))) (with "libc" (instance $libc))"#)
        // The host's answer comes into the memory that the import was lowered with.
        .with("memory", r#"(import "libc" "memory" (memory 3)) (export "memory" (memory 0))"#)
        .with("run", run)
}

/// F-44: waiting for the host is charged to the plugin.
#[tokio::test]
async fn waiting_for_the_host_is_not_charged() {
    // The state is loaded at the first call, which takes twice as long as the guest may compute.
    let bench = Bench::new();
    let plugin = bench.plugin(&setter(8)).await;
    let limit = spec().limits.time;
    let spec = spec().with_state(std::sync::Arc::new(SlowStore(limit * 2)));
    let mut instance = Instance::start(&plugin, &spec).await.expect("it starts");
    let began = clock::now();
    let outcome = instance.run(Trigger::Start, NOW).await.expect("readings");
    assert!(since(began) >= limit * 2);
    // And the store's failure is an error value for the guest: the third of the variant.
    assert_eq!(outcome.readings[0].value, Some(Value::Unsigned(3)));
}

#[tokio::test]
async fn state_has_limits() {
    let bench = Bench::new();
    let plugin = bench.plugin(&setter(100_000)).await;
    let spec = spec().with_state(std::sync::Arc::new(SlowStore(Duration::ZERO)));
    let mut instance = Instance::start(&plugin, &spec).await.expect("it starts");
    let outcome = instance.run(Trigger::Start, NOW).await.expect("readings");
    assert_eq!(outcome.readings[0].value, Some(Value::Unsigned(2)), "too-large");
    assert_eq!(instance.refused(), 1);
}

#[tokio::test]
async fn f43_a_plugin_that_grows_too_far_is_ended() {
    let run =
        "(loop $l (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable)) (br $l)) unreachable";
    let failure = Bench::new().run_fails(&Fixture::new().with("run", run)).await;
    assert_eq!(failure, Failure::Memory { limit: 4 << 20 });
}

#[tokio::test]
async fn memory_that_is_too_large_from_the_start_is_refused() {
    let result = Bench::new().start(&Fixture::new().with("globals", "(memory 1000)")).await;
    assert_eq!(result.err(), Some(Failure::Memory { limit: 4 << 20 }));
}

#[tokio::test]
async fn a_table_bomb_is_refused() {
    let bench = Bench::new();
    let start = bench.start(&Fixture::new().with("globals", "(table 10000000 funcref)")).await;
    assert!(matches!(start, Err(Failure::Instantiate(_))), "{:?}", start.err());
    let run = "(if (i32.eq (table.grow $t (ref.null func) (i32.const 10000000)) (i32.const -1)) (then unreachable)) (call $steady)";
    let failure = bench.run_fails(&Fixture::new().with("globals", "(table $t 1 funcref)").with("run", run)).await;
    assert!(matches!(failure, Failure::Trap(_)), "{failure:?}");
}

#[tokio::test]
async fn deep_recursion_is_ended() {
    let functions = "(func $deep (param i64) (result i64) (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))";
    let fixture =
        Fixture::new().with("functions", functions).with("run", "(drop (call $deep (i64.const 0))) (call $steady)");
    for engine in [EngineKind::Native, EngineKind::Pulley] {
        let failure = Bench::with(engine).run_fails(&fixture).await;
        assert!(matches!(&failure, Failure::Trap(reason) if reason.contains("recursion")), "{failure:?}");
    }
}

#[tokio::test]
async fn a_point_that_was_not_declared_is_bad_output() {
    let run =
        "(call $reading (i32.const 1024) (i32.const 7) (i32.const 2) (i64.const 1)) (call $outcome (i32.const 1))";
    let failure = Bench::new().run_fails(&Fixture::new().with("run", run)).await;
    assert!(matches!(&failure, Failure::BadOutput(what) if what.contains("point 7")), "{failure:?}");
}

#[tokio::test]
async fn a_value_of_another_kind_is_bad_output() {
    let run =
        "(call $reading (i32.const 1024) (i32.const 1) (i32.const 2) (i64.const 1)) (call $outcome (i32.const 1))";
    let failure = Bench::new().run_fails(&Fixture::new().with("run", run)).await;
    assert!(matches!(&failure, Failure::BadOutput(what) if what.contains("level")), "{failure:?}");
}

#[tokio::test]
async fn what_is_not_finite_is_bad() {
    let bench = Bench::new();
    for value in ["nan", "inf", "-inf"] {
        let run = format!(
            "(call $reading (i32.const 1024) (i32.const 1) (i32.const 3) (i64.reinterpret_f64 (f64.const {value})))
             (call $outcome (i32.const 1))"
        );
        let mut instance = bench.start(&Fixture::new().with("run", run)).await.expect("it starts");
        let outcome = instance.run(Trigger::Start, NOW).await.expect("readings");
        assert_eq!(outcome.readings, [Reading::bad(1, Quality::NOT_FINITE)]);
    }
}

#[tokio::test]
async fn times_that_cannot_be_are_the_polls() {
    let bench = Bench::new();
    let year_1_ns = i64::MIN;
    let year_9999_ns = i64::MAX;
    let sane = NOW.0 - 5;
    for (at, expected) in [(year_1_ns, None), (year_9999_ns, None), (sane, Some(Timestamp(sane)))] {
        let run = format!(
            "(call $reading (i32.const 1024) (i32.const 0) (i32.const 2) (i64.const 1))
             (i32.store8 (i32.const 1064) (i32.const 1)) (i64.store (i32.const 1072) (i64.const {at}))
             (call $outcome (i32.const 1))"
        );
        let mut instance = bench.start(&Fixture::new().with("run", run)).await.expect("it starts");
        let outcome = instance.run(Trigger::Start, NOW).await.expect("readings");
        assert_eq!(outcome.readings[0].at, expected);
    }
}

#[tokio::test]
async fn bad_readings_show_no_value() {
    let run = "(call $reading (i32.const 1024) (i32.const 0) (i32.const 2) (i64.const 1))
         (i32.store8 (i32.const 1056) (i32.const 2)) (i32.store16 (i32.const 1058) (i32.const 512))
         (call $reading (i32.const 1080) (i32.const 1) (i32.const 3) (i64.const 0))
         (i32.store8 (i32.const 1088) (i32.const 0))
         (call $outcome (i32.const 2))";
    let mut instance = Bench::new().start(&Fixture::new().with("run", run)).await.expect("it starts");
    let outcome = instance.run(Trigger::Start, NOW).await.expect("readings");
    assert_eq!(outcome.readings[0], Reading::bad(0, Quality::OWN));
    assert_eq!(outcome.readings[0].quality.word(&instance.about().reasons), "odd-weather");
    // Good without a value cannot be.
    assert_eq!((outcome.readings[1].quality.severity, &outcome.readings[1].value), (Severity::Bad, &None));
}

#[tokio::test]
async fn a_flood_of_readings_or_text_is_bounded() {
    let bench = Bench::new();
    // A list that is said to have millions of elements, which all lie on one another's memory: refused before it is
    // taken.
    let many = "(i32.store (i32.const 136) (i32.const 1024)) (i32.store8 (i32.const 128) (i32.const 0))
         (i32.store (i32.const 140) (i32.const 70000000)) (i32.const 128)";
    let failure = bench.run_fails(&Fixture::new().with("run", many)).await;
    assert!(matches!(failure, Failure::Trap(_)), "{failure:?}");
    // A thousand readings that show one large text each.
    let text = Fixture::new().with("describe", "(i32.store8 (i32.const 592) (i32.const 4)) (i32.const 512)");
    let text = text.with(
        "run",
        "(local $n i32) (local $at i32)
         (drop (memory.grow (i32.const 8)))
         (loop $l
            (local.set $at (i32.add (i32.const 131072) (i32.mul (local.get $n) (i32.const 56))))
            (call $reading (local.get $at) (i32.const 0) (i32.const 4) (i64.const 0x00017f70_00000000))
            (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 4096))))
         (drop (call $outcome (i32.const 4096)))
         (i32.store (i32.const 136) (i32.const 131072))
         (i32.const 128)",
    );
    let failure = bench.run_fails(&text).await;
    assert!(matches!(failure, Failure::Trap(_)), "{failure:?}");
}

#[tokio::test]
async fn a_text_that_is_too_large_is_a_bad_reading() {
    let fixture = Fixture::new().with("describe", "(i32.store8 (i32.const 592) (i32.const 4)) (i32.const 512)").with(
        "run",
        "(call $reading (i32.const 1024) (i32.const 0) (i32.const 4) (i64.const 0x00017f70_00000000)) (call $outcome (i32.const 1))",
    );
    let mut instance = Bench::new().start(&fixture).await.expect("it starts");
    let outcome = instance.run(Trigger::Start, NOW).await.expect("readings");
    assert_eq!(outcome.readings, [Reading::bad(0, 0)]);
    assert_eq!(instance.refused(), 1);
}

#[tokio::test]
async fn points_that_cannot_be_are_bad_output() {
    let bench = Bench::new();
    // The second point gets the first one's name; a name with a space; a reason with a capital letter.
    for describe in [
        "(i32.store (i32.const 640) (i32.const 336)) (i32.const 512)",
        "(i32.store8 (i32.const 337) (i32.const 32)) (i32.const 512)",
        "(i32.store8 (i32.const 360) (i32.const 65)) (i32.const 512)",
    ] {
        let result = bench.start(&Fixture::new().with("describe", describe)).await;
        assert!(matches!(result, Err(Failure::BadOutput(_))), "{describe}: {:?}", result.err());
    }
}

#[tokio::test]
async fn too_many_points_are_refused_and_far_too_many_before_there_is_memory_for_them() {
    let bench = Bench::new();
    let points = |count: u32| {
        let describe = format!(
            "(drop (memory.grow (i32.const 40))) (i32.store (i32.const 536) (i32.const 131072))
             (i32.store (i32.const 540) (i32.const {count})) (i32.const 512)"
        );
        Fixture::new().with("describe", describe)
    };
    let failure = bench.start(&points(10_001)).await.err();
    assert!(matches!(&failure, Some(Failure::BadOutput(why)) if why.contains("10001 points")), "{failure:?}");
    let failure = bench.start(&points(40_000)).await.err();
    assert!(matches!(&failure, Some(Failure::Trap(why)) if why.contains("too much data")), "{failure:?}");
}

#[tokio::test]
async fn a_run_may_bring_as_many_readings_as_a_batch_holds() {
    let bench = Bench::new();
    let readings = |count: u32| {
        let run = format!(
            "(local $n i32)
             (drop (memory.grow (i32.const 90)))
             (loop $l
                (call $reading (i32.add (i32.const 131072) (i32.mul (local.get $n) (i32.const 56)))
                    (i32.const 0) (i32.const 2) (i64.extend_i32_u (local.get $n)))
                (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {count}))))
             (drop (call $outcome (i32.const {count})))
             (i32.store (i32.const 136) (i32.const 131072))
             (i32.const 128)"
        );
        Fixture::new().with("run", run)
    };
    let spec = SourceSpec { limits: Limits { memory: 16 << 20, time: Duration::from_secs(30) }, ..spec() };
    for (count, fits) in [(100_000, true), (100_001, false)] {
        let plugin = bench.plugin(&readings(count)).await;
        let outcome = Instance::start(&plugin, &spec).await.expect("it starts").run(Trigger::Start, NOW).await;
        match outcome {
            Ok(outcome) => assert!(fits && outcome.readings.len() == count as usize, "{}", outcome.readings.len()),
            Err(failure) => assert!(!fits && matches!(failure, Failure::BadOutput(_)), "{count}: {failure:?}"),
        }
    }
}

#[tokio::test]
async fn what_the_plugin_says_of_its_failure_is_kept() {
    // `init` fails with the second case, and a text with a line break in it.
    let init = "(i32.store8 (i32.const 64) (i32.const 1)) (i32.store8 (i32.const 68) (i32.const 1))
        (i32.store8 (i32.const 341) (i32.const 10))
        (call $text (i32.const 72) (i32.const 336) (i32.const 8)) (i32.const 64)";
    let failure = Bench::new().start(&Fixture::new().with("init", init)).await.err();
    assert_eq!(failure, Some(Failure::Unavailable("count   ".into())));
    assert!(failure.is_some_and(|failure| !failure.is_fatal()));
}

#[tokio::test]
async fn points_may_change() {
    // After the second run there is one point less, and the reading counts in the new list.
    let run = "(drop (call $steady))
        (if (result i32) (i64.eq (global.get $polls) (i64.const 2))
            (then (i32.store (i32.const 540) (i32.const 1)) (drop (call $outcome (i32.const 1)))
                  (i32.store8 (i32.const 160) (i32.const 1)) (i32.const 128))
            (else (call $outcome (i32.const 2))))";
    let mut instance = Bench::new().start(&Fixture::new().with("run", run)).await.expect("it starts");
    assert_eq!(instance.run(Trigger::Start, NOW).await.expect("readings").readings.len(), 2);
    let outcome = instance.run(Trigger::Schedule(0), NOW).await.expect("readings");
    assert!(outcome.points_changed);
    assert_eq!((outcome.readings.len(), instance.about().points.len()), (1, 1));
}

#[tokio::test]
async fn a_call_that_is_dropped_half_way_leaves_a_dead_instance() {
    let mut instance = Bench::new().start(&sleeper(100_000_000)).await.expect("it starts");
    let run = tokio::time::timeout(Duration::from_millis(10), instance.run(Trigger::Start, NOW)).await;
    assert!(run.is_err());
    assert!(matches!(instance.run(Trigger::Start, NOW).await, Err(Failure::Instantiate(_))));
}
