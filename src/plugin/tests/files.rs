//! Files: what is no plugin, what is damaged, and what is cached.

use super::*;

/// What `load` says of a file with these bytes.
async fn refused(bytes: &[u8]) -> LoadError {
    let bench = Bench::new();
    match bench.host.load(&bench.file(bytes)).await {
        Ok(_) => panic!("it was loaded"),
        Err(error) => error,
    }
}

/// `OUTSTATION_WRITE_FIXTURES=1 cargo test --lib fixtures_are_current` writes them.
#[test]
fn fixtures_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins");
    for (name, fixture) in fixtures::files() {
        let head = ";; Made of sensor.wat by fixtures.rs; a test says when it is not what that makes any more.\n";
        let text = format!("{head}{}", fixture.text());
        if std::env::var_os("OUTSTATION_WRITE_FIXTURES").is_some() {
            fs::write(folder.join(name), &text).expect("write the fixture");
        }
        assert!(fs::read_to_string(folder.join(name)).is_ok_and(|there| there == text), "{name} is stale");
    }
}

#[tokio::test]
async fn what_is_no_component_is_refused_with_a_reason() {
    for (bytes, word) in [
        (&b"#!/bin/sh\necho hello\n"[..], "something else"),
        (b"", "empty"),
        (b"\0as", "something else"),
        (b"\0asm\x01\0\0\0", "core module"),
    ] {
        let error = refused(bytes).await;
        assert!(matches!(&error, LoadError::NotAComponent { reason, .. } if reason.contains(word)), "{error}");
    }
    let bench = Bench::new();
    let absent = bench.folder.path().join("absent.wasm");
    assert!(matches!(bench.host.load(&absent).await, Err(LoadError::Read { .. })));
    assert!(matches!(bench.host.load(bench.folder.path()).await, Err(LoadError::Read { .. })));
}

#[tokio::test]
async fn a_file_that_is_too_large_is_not_read() {
    let bench = Bench::new();
    let file = bench.file(&COMPONENT);
    fs::File::options().write(true).open(&file).and_then(|file| file.set_len(FILE_MAX + 1)).expect("a large file");
    assert!(matches!(bench.host.load(&file).await, Err(LoadError::TooLarge { .. })));
}

#[tokio::test]
async fn damaged_components_are_refused_or_run_but_never_more() {
    let good = fixtures::steady().build();
    let bench = Bench::new();
    // Cut anywhere.
    for length in [9, 100, good.len() / 2, good.len() - 1] {
        let result = bench.host.load(&bench.file(&good[..length])).await;
        assert!(matches!(result, Err(LoadError::Compile { .. } | LoadError::NotAPlugin { .. })), "cut at {length}");
    }
    // A bit flipped: most are refused; one in a text, say, makes another plugin that runs.
    for step in 0..12 {
        let mut bytes = good.clone();
        let at = 8 + step * (good.len() - 8) / 12;
        bytes[at] ^= 1 << (step % 8);
        if let Ok(plugin) = bench.host.load(&bench.file(&bytes)).await {
            let _ = Instance::start(&plugin, &spec()).await;
        }
    }
}

#[tokio::test]
async fn imports_that_are_not_offered_are_named() {
    let wasi =
        r#"(import "wasi:http/types@0.2.3" (instance (export "http-error-code" (func (result (list string))))))"#;
    let error = refused(&Fixture::new().with("imports", wasi).build()).await.to_string();
    assert!(error.contains("wasi:http/types@0.2.3") && error.contains("of WASI 0.2 they get clocks"), "{error}");
    let later = r#"(import "outstation:host/log@0.2.0" (instance))"#;
    let error = refused(&Fixture::new().with("imports", later).build()).await.to_string();
    assert!(error.contains("outstation:host/log@0.2.0") && error.contains("another version"), "{error}");
    let other = r#"(import "frobnicate" (func))"#;
    let error = refused(&Fixture::new().with("imports", other).build()).await.to_string();
    assert!(error.contains("frobnicate"), "{error}");
    // The right name with another shape.
    let shape = r#"(import "outstation:sys/stats@0.1.0" (instance (export "uptime" (func (result string)))))"#;
    let error = refused(&Fixture::new().with("imports", shape).build()).await;
    assert!(matches!(error, LoadError::NotAPlugin { .. }), "{error}");
}

#[tokio::test]
async fn a_component_that_exports_no_sensor_is_no_plugin() {
    let error = refused(&wat::parse_str("(component)").expect("a component")).await;
    assert!(
        matches!(&error, LoadError::NotAPlugin { reason, .. } if reason.contains("outstation:plugin/sensor")),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_not_granted_is_refused_before_anything_runs() {
    let stats = r#"(import "outstation:sys/stats@0.1.0" (instance (export "uptime" (func (result (option u64))))))"#;
    let bench = Bench::new();
    let plugin = bench.plugin(&Fixture::new().with("imports", stats).with("start", "unreachable")).await;
    assert_eq!(plugin.imports(), ["outstation:sys/stats@0.1.0"]);
    let missing = plugin.missing_grants(&Grants::default());
    assert_eq!(missing.len(), 1);
    assert!(missing[0].to_string().contains("allow = { system = true }"), "{}", missing[0]);
    let failure = Instance::start(&plugin, &spec()).await.err();
    assert!(matches!(&failure, Some(Failure::Config(why)) if why.contains("outstation:sys/stats")), "{failure:?}");
    let granted = Grants { system: true, ..Grants::default() };
    assert!(plugin.missing_grants(&granted).is_empty());
}

fn cached_files(bench: &Bench) -> Vec<PathBuf> {
    let entries = fs::read_dir(bench.folder.path().join("cache")).expect("the cache");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

#[tokio::test]
async fn what_was_compiled_is_kept_privately() {
    let bench = Bench::new();
    let file = bench.file(&fixtures::steady().build());
    bench.host.load(&file).await.expect("it loads");
    let files = cached_files(&bench);
    assert_eq!(files.len(), 1, "{files:?}");
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&files[0]), 0o600);
    assert_eq!(mode(&bench.folder.path().join("cache")), 0o700);
    // Another host finds it, without a compiler.
    let mut options = bench.host.0.options.clone();
    options.compiler.program = "/nonexistent".into();
    let other = Host::new(options.clone()).expect("a host");
    other.load(&file).await.expect("it loads from the cache");
    // The interpreter's code is another.
    options.engine = EngineKind::Pulley;
    let pulley = Host::new(options).expect("a host");
    assert!(matches!(pulley.load(&file).await, Err(LoadError::Compile { .. })));
}

/// The compiler behind a shell that does something first, with the compiler's words in `$@`.
fn shell(script: &str) -> Compiler {
    let Compiler { program, arguments } = compiler();
    let before = ["-c".into(), format!("{script}; exec \"$0\" \"$@\"").into(), program.into()];
    Compiler { program: "/bin/sh".into(), arguments: before.into_iter().chain(arguments).collect() }
}

impl Bench {
    /// Another host, with a cache of its own.
    fn with_compiler(&self, name: &str, compiler: Compiler, compile: CompileLimits) -> Host {
        let cache_dir = self.folder.path().join(name);
        Host::new(HostOptions { engine: EngineKind::Native, cache_dir, trust: Trust::OFF, compiler, compile })
            .expect("a host")
    }

    /// A component that only its name tells from others.
    fn named(&self, name: &'static str) -> PathBuf {
        let file = self.folder.path().join(format!("{name}.wasm"));
        fs::write(&file, Fixture::new().with("name", name).build()).expect("a file");
        file
    }
}

#[tokio::test]
async fn loads_at_once_compile_once() {
    let bench = Bench::new();
    let file = bench.named("steady");
    let count = bench.folder.path().join("count");
    let counting = shell(&format!("echo one >>{}", count.display()));
    let host = bench.with_compiler("counted", counting, CompileLimits::default());
    let (a, b, c) = tokio::join!(host.load(&file), host.load(&file), host.load(&file));
    let (a, b, c) = (a.expect("it loads"), b.expect("it loads"), c.expect("it loads"));
    assert!(Arc::ptr_eq(&a.loaded, &b.loaded) && Arc::ptr_eq(&b.loaded, &c.loaded));
    assert_eq!(fs::read_to_string(&count).expect("the count"), "one\n");
}

/// One is compiled at a time: a second child begins when the first one has ended.
#[tokio::test]
async fn compilers_take_turns() {
    let bench = Bench::new();
    let (there, met) = (bench.folder.path().join("there"), bench.folder.path().join("met"));
    let Compiler { program, arguments } = compiler();
    let script = format!(
        "mkdir {there} || touch {met}; sleep 0.2; \"$0\" \"$@\"; ended=$?; rmdir {there}; exit $ended",
        there = there.display(),
        met = met.display()
    );
    let before = ["-c".into(), script.into(), program.into()];
    let turned = Compiler { program: "/bin/sh".into(), arguments: before.into_iter().chain(arguments).collect() };
    let host = bench.with_compiler("turns", turned, CompileLimits::default());
    let files = ["one", "two", "three"].map(|name| bench.named(name));
    let (one, two, three) = tokio::join!(host.load(&files[0]), host.load(&files[1]), host.load(&files[2]));
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    assert!(!met.exists(), "two were compiled at once");
}

/// A component that compiles for ever holds up neither who is compiled already nor, for long, who is not yet. Who asks for
/// it as well waits for it, and for nobody's turn.
#[tokio::test]
async fn what_compiles_for_ever_holds_nobody_up() {
    let bench = Bench::new();
    let steady = bench.named("steady");
    let began = bench.folder.path().join("began");
    let script = format!("case \"$*\" in *endless.wasm*) echo one >>{}; exec sleep 600;; esac", began.display());
    let patience = Duration::from_millis(300);
    let host = bench.with_compiler("patient", shell(&script), CompileLimits { patience, ..CompileLimits::default() });
    drop(host.load(&steady).await.expect("it loads"));
    let endless = bench.named("endless");
    let compiling: Vec<_> = (0..3)
        .map(|_| {
            let (host, endless) = (host.clone(), endless.clone());
            tokio::spawn(async move { host.load(&endless).await.map(drop) })
        })
        .collect();
    while !began.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for file in [steady, bench.named("other"), bench.named("and-another")] {
        let loaded = tokio::time::timeout(Duration::from_secs(60), host.load(&file)).await;
        let loaded = loaded.expect("it waits for nobody").expect("it loads");
        Instance::start(&loaded, &spec()).await.expect("it starts");
    }
    assert!(compiling.iter().all(|one| !one.is_finished()));
    assert_eq!(fs::read_to_string(&began).expect("the count"), "one\n");
    compiling.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn f45_a_cache_that_is_damaged_stale_or_foreign_is_compiled_again() {
    let bench = Bench::new();
    let file = bench.file(&fixtures::steady().build());
    bench.host.load(&file).await.expect("it loads");
    let cached = cached_files(&bench).remove(0);
    let good = fs::read(&cached).expect("the compiled code");
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let damages: Vec<Vec<u8>> = vec![
        Vec::new(),
        good[..40].to_vec(),
        good[..good.len() - 1].to_vec(),
        [&good[..], b"x"].concat(),
        flipped(0),
        flipped(9),
        flipped(20),
        flipped(60),
        flipped(good.len() / 2),
        b"#!/bin/sh".to_vec(),
    ];
    let mut options = bench.host.0.options.clone();
    options.compiler.program = "/nonexistent".into();
    let reader = Host::new(options).expect("a host that compiles nothing");
    for (number, damage) in damages.iter().enumerate() {
        fs::write(&cached, damage).expect("a damaged file");
        assert!(reader.load(&file).await.is_err(), "damage {number} was not seen");
        bench.host.load(&file).await.unwrap_or_else(|error| panic!("damage {number}: {error}"));
        reader.load(&file).await.unwrap_or_else(|error| panic!("damage {number} was not repaired: {error}"));
    }
    // One that others may write is not ours.
    fs::set_permissions(&cached, fs::Permissions::from_mode(0o666)).expect("a mode");
    bench.host.load(&file).await.expect("it loads");
    assert_eq!(fs::metadata(&cached).expect("metadata").permissions().mode() & 0o777, 0o600);
    // Nor is a link.
    let elsewhere = bench.folder.path().join("elsewhere");
    fs::rename(&cached, &elsewhere).expect("moved");
    std::os::unix::fs::symlink(&elsewhere, &cached).expect("a link");
    bench.host.load(&file).await.expect("it loads");
    assert!(fs::symlink_metadata(&cached).expect("metadata").is_file());
    assert_eq!(cached_files(&bench).len(), 1, "no work file stays");
}

#[tokio::test]
async fn a_cache_that_cannot_be_made_is_no_reason_not_to_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let in_the_way = folder.path().join("cache");
    fs::write(&in_the_way, "a file").expect("a file");
    let file = folder.path().join("plugin.wasm");
    fs::write(&file, fixtures::steady().build()).expect("a file");
    let plugin = host(EngineKind::Native, in_the_way).load(&file).await.expect("it loads");
    Instance::start(&plugin, &spec()).await.expect("it starts");
}

#[tokio::test]
async fn the_compiler_has_limits() {
    let bench = Bench::new();
    let with = |compiler: Compiler, compile: CompileLimits| bench.with_compiler("other", compiler, compile);
    let reason = |result: Result<Plugin, LoadError>| match result {
        Err(LoadError::Compile { reason, .. }) => reason,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was compiled"),
    };
    let limits = CompileLimits { memory: 16 << 20, ..CompileLimits::default() };
    // Many functions: more than what an allocator has in hand when the limit is set.
    let many: String = (0..20_000)
        .map(|n| format!("(func (param i64) (result i64) (i64.mul (local.get 0) (i64.const {n})))"))
        .collect();
    let large = bench.file(&Fixture::new().with("functions", many).build());
    let said = reason(with(compiler(), limits).load(&large).await);
    assert!(said.contains("MiB of memory"), "{said}");
    let file = bench.file(&fixtures::steady().build());
    let sleeper = Compiler { program: "/bin/sh".into(), arguments: vec!["-c".into(), "sleep 60".into()] };
    let limits = CompileLimits { wall: Duration::from_millis(100), ..CompileLimits::default() };
    let said = reason(with(sleeper, limits).load(&file).await);
    assert!(said.contains("longer than"), "{said}");
    let killed = Compiler { program: "/bin/sh".into(), arguments: vec!["-c".into(), "kill -9 $$".into()] };
    let said = reason(with(killed, CompileLimits::default()).load(&file).await);
    assert!(said.contains("was killed"), "{said}");
    let liar = Compiler { program: "/bin/true".into(), arguments: Vec::new() };
    let said = reason(with(liar, CompileLimits::default()).load(&file).await);
    assert!(said.contains("cannot be loaded"), "{said}");
    let missing = Compiler { program: "/nonexistent".into(), arguments: Vec::new() };
    let said = reason(with(missing, CompileLimits::default()).load(&file).await);
    assert!(said.contains("cannot be started"), "{said}");
}

/// A limit that the service manager sets, lower than the compiler's own: it stays, and is no reason not to compile. Without
/// the right to raise it, as the agent has none.
#[tokio::test]
async fn a_limit_that_is_lower_already_stays() {
    let bench = Bench::new();
    let file = bench.named("steady");
    let Compiler { program, arguments } = shell("ulimit -v 1000000");
    let limited = if rustix::process::geteuid().is_root() {
        let before = ["--bounding-set".into(), "-sys_resource".into(), program.into_os_string()];
        Compiler { program: "/usr/bin/setpriv".into(), arguments: before.into_iter().chain(arguments).collect() }
    } else {
        Compiler { program, arguments }
    };
    bench.with_compiler("limited", limited, CompileLimits::default()).load(&file).await.expect("it loads");
}
