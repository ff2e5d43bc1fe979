//! Components that import WASI all the same.

use super::*;

const WASI: &str = r#"
    (import "wasi:random/random@0.2.3" (instance $random (export "get-random-u64" (func (result u64)))))
    (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock (export "now" (func (result u64)))))
    (import "wasi:sockets/tcp@0.2.3" (instance $tcp (export "frobnicate" (func (result u64)))))"#;

/// `count` is what the function gives.
fn gives(instance: &str, function: &str) -> Fixture {
    Fixture::new()
        .with("imports", WASI)
        .with("core_imports", r#"(import "wasi" "f" (func $f (result i64)))"#)
        .with("lowered", format!(r#"(core func $f (canon lower (func ${instance} "{function}")))"#))
        .with("with", r#"(with "wasi" (instance (export "f" (func $f))))"#)
        .with("run", "(global.set $polls (i64.sub (call $f) (i64.const 1))) (call $steady)")
}

async fn count(instance: &mut Instance) -> u64 {
    match instance.run(Trigger::Start, NOW).await.expect("readings").readings[0].value {
        Some(Value::Unsigned(count)) => count,
        ref other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn clocks_and_random_numbers_are_given() {
    let bench = Bench::new();
    let mut random = bench.start(&gives("random", "get-random-u64")).await.expect("it starts");
    assert_ne!(count(&mut random).await, count(&mut random).await);
    let mut monotonic = bench.start(&gives("clock", "now")).await.expect("it starts");
    let (first, second) = (count(&mut monotonic).await, count(&mut monotonic).await);
    assert!(second > first, "{first} {second}");
}

#[tokio::test]
async fn what_is_not_given_ends_the_plugin_when_it_is_called() {
    let failure = Bench::new().run_fails(&gives("tcp", "frobnicate")).await;
    assert!(matches!(&failure, Failure::Trap(why) if why.contains("wasi:sockets/tcp@0.2.3#frobnicate")), "{failure:?}");
}

/// An interface that is given, with a function of another shape, is no WASI 0.2.
#[tokio::test]
async fn another_shape_is_refused() {
    let shape =
        r#"(import "wasi:random/random@0.2.9" (instance $random (export "get-random-u64" (func (result bool)))))"#;
    let bench = Bench::new();
    let error = bench.host.load(&bench.file(&Fixture::new().with("imports", shape).build())).await.err();
    assert!(matches!(error, Some(LoadError::NotAPlugin { .. })), "{error:?}");
}

/// A socket is refused by an error value, and counted.
#[tokio::test]
async fn there_is_no_network() {
    let sockets = r#"
      (import "wasi:sockets/network@0.2.0" (instance $network
        (type $code' (enum "unknown" "access-denied"))
        (export "error-code" (type $code (eq $code')))))
      (alias export $network "error-code" (type $code))
      (import "wasi:sockets/tcp@0.2.0" (instance $tcp (export "tcp-socket" (type (sub resource)))))
      (alias export $tcp "tcp-socket" (type $socket))
      (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create
        (alias outer 1 $socket (type $socket'))
        (alias outer 1 $code (type $code''))
        (export "tcp-socket" (type $mine (eq $socket')))
        (export "error-code" (type $wrong (eq $code'')))
        (export "create-tcp-socket" (func (result (result (own $mine) (error $wrong)))))))"#;
    let memory = r#"(core module $before (memory (export "memory") 4)) (core instance $before (instantiate $before))
      (alias core export $before "memory" (core memory $shared))
      (core func $create (canon lower (func $create "create-tcp-socket") (memory $shared)))"#;
    let fixture = Fixture::new()
        .with("imports", sockets)
        .with("core_imports", r#"(import "wasi" "create" (func $create (param i32)))"#)
        .with("memory", r#"(import "before" "memory" (memory 4)) (export "memory" (memory 0))"#)
        .with("lowered", memory)
        .with("with", r#"(with "wasi" (instance (export "create" (func $create)))) (with "before" (instance $before))"#)
        .with(
            "run",
            "(call $create (i32.const 3000)) (global.set $polls (i64.load8_u (i32.const 3004))) (call $steady)",
        );
    let mut instance = Bench::new().start(&fixture).await.expect("it starts");
    assert_eq!(count(&mut instance).await, 2, "access-denied is 1, and one is added");
    assert_eq!(instance.refused(), 1);
}

/// A component as a toolchain makes it for `wasm32-wasip2`, whose standard library imports all of WASI 0.2: it is its own
/// judge of what it finds, and says so in `right`.
#[tokio::test]
async fn rust_for_wasip2_finds_a_sandbox() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/0.1.0/rust-wasip2.wasm");
    for engine in [EngineKind::Native, EngineKind::Pulley] {
        let bench = Bench::with(engine);
        let plugin = bench.host.load(&file).await.expect("it loads");
        assert!(plugin.imports().iter().any(|import| import == "wasi:sockets/tcp@0.2.6"), "{:?}", plugin.imports());
        assert!(plugin.missing_grants(&Grants::default()).is_empty(), "WASI needs no grant");
        let mut instance = Instance::start(&plugin, &spec()).await.expect("it starts");
        let right = instance.about().points.iter().position(|point| point.id == "right").expect("the point");
        for run in 1..=3 {
            let readings = instance.run(Trigger::Start, NOW).await.expect("readings").readings;
            let found = readings.iter().find(|reading| reading.point as usize == right).expect("a reading");
            assert_eq!(found.value, Some(Value::Boolean(true)), "{engine:?}");
            assert_eq!(instance.refused(), run, "its socket is refused, and counted");
        }
    }
}
