//! WASI 0.2, as far as a plugin has it: clocks, random numbers, and a standard output that is its log. No files, no
//! network, no environment, no input.
//!
//! Plugins need none of it; what is built for `wasm32-wasip2`, or from a script without stubs, imports it all the same. A
//! linker is made for each such component by the names that it imports, so that every 0.2 will do.
//!
//! - What stands here answers. What does not is there to be imported, and ends the plugin when it is called: it works on a
//!   file or a socket, and nobody gets one.
//! - Whoever asks for a socket or a name's address is refused by an error value, and counted.
//! - Waiting is charged as `outstation:host/clock.sleep` is; what is written is a log line under the log's limits.

use std::time::Duration;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType, Val};
use wasmtime::{Error, Result, StoreContextMut};

use super::bindings::outstation::host::log;
use super::guest::Guest;

/// Packages of which a component may import what it likes.
const PACKAGES: [&str; 6] =
    ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];
/// Random bytes that one call gives.
const RANDOM_MAX: u64 = 64 << 10;
/// Bytes that one call may write.
const WRITE_MAX: usize = 4096;
/// What a stream's handle says: which one it is.
const STDOUT: u32 = 1;
const STDERR: u32 = 2;

type Ctx<'a> = StoreContextMut<'a, Guest>;

/// The types of handles. Behind those of files and sockets there is nothing, and none is ever made.
struct Input;
struct Output;
struct Failed;
struct Descriptor;
struct Terminal;
struct Network;
struct Other;

/// Something to wait for: a time on the monotonic clock.
pub struct Pollable(Duration);

#[derive(Clone, ComponentType, Lower, Lift)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

#[derive(ComponentType, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    #[expect(dead_code, reason = "part of the type")]
    LastOperationFailed(Resource<Failed>),
    #[component(name = "closed")]
    Closed,
}

/// Whether such an import is given.
pub fn is_offered(import: &str) -> bool {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    version.starts_with("0.2.") && PACKAGES.iter().any(|package| interface.starts_with(package))
}

/// The linker with what the component imports of WASI; `None` where that is nothing.
pub fn linker(linker: &Linker<Guest>, component: &Component) -> Result<Option<Linker<Guest>>> {
    let engine = component.engine();
    let mut with_wasi = None;
    for (import, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        if !is_offered(import) {
            continue;
        }
        let own: &mut Linker<Guest> = with_wasi.get_or_insert_with(|| linker.clone());
        own.allow_shadowing(true);
        let mut to = own.instance(import)?;
        for (name, item) in instance.exports(engine) {
            match item.ty {
                ComponentItem::Resource(_) => resource(name, &mut to)?,
                ComponentItem::ComponentFunc(_) => {
                    let refusal = format!("plugins have no {import}#{name}");
                    to.func_new(name, move |_, _, _, _| Err(Error::msg(refusal.clone())))?;
                }
                _ => {}
            }
        }
        offer(import.split('@').next().unwrap_or(import), &mut to)?;
    }
    Ok(with_wasi)
}

/// A handle's type, by the name that it has in all interfaces.
fn resource(name: &str, to: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    let kind = match name {
        "pollable" => {
            return to.resource(name, ResourceType::host::<Pollable>(), |mut store, handle| {
                store.data_mut().table.delete(Resource::<Pollable>::new_own(handle))?;
                Ok(())
            });
        }
        "input-stream" => ResourceType::host::<Input>(),
        "output-stream" => ResourceType::host::<Output>(),
        "error" => ResourceType::host::<Failed>(),
        "descriptor" => ResourceType::host::<Descriptor>(),
        "terminal-input" | "terminal-output" => ResourceType::host::<Terminal>(),
        "network" => ResourceType::host::<Network>(),
        _ => ResourceType::host::<Other>(),
    };
    to.resource(name, kind, |_, _| Ok(()))
}

fn offer(interface: &str, to: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    match interface {
        "wasi:cli/environment" => {
            to.func_wrap("get-environment", |_: Ctx<'_>, ()| Ok((Vec::<(String, String)>::new(),)))?;
            to.func_wrap("get-arguments", |_: Ctx<'_>, ()| Ok((Vec::<String>::new(),)))?;
            to.func_wrap("initial-cwd", |_: Ctx<'_>, ()| Ok((None::<String>,)))
        }
        "wasi:cli/exit" => {
            let exit =
                |_: Ctx<'_>, _: (std::result::Result<(), ()>,)| Err::<(), _>(Error::msg("the plugin wants to exit"));
            to.func_wrap("exit", exit)
        }
        "wasi:cli/stdin" => to.func_wrap("get-stdin", |_: Ctx<'_>, ()| Ok((Resource::<Input>::new_own(0),))),
        "wasi:cli/stdout" => to.func_wrap("get-stdout", |_: Ctx<'_>, ()| Ok((Resource::<Output>::new_own(STDOUT),))),
        "wasi:cli/stderr" => to.func_wrap("get-stderr", |_: Ctx<'_>, ()| Ok((Resource::<Output>::new_own(STDERR),))),
        "wasi:cli/terminal-stdin" => no_terminal(to, "get-terminal-stdin"),
        "wasi:cli/terminal-stdout" => no_terminal(to, "get-terminal-stdout"),
        "wasi:cli/terminal-stderr" => no_terminal(to, "get-terminal-stderr"),
        "wasi:clocks/monotonic-clock" => monotonic_clock(to),
        "wasi:clocks/wall-clock" => {
            to.func_wrap("now", |store: Ctx<'_>, ()| Ok((datetime(store.data().wall_now_ns()),)))?;
            to.func_wrap("resolution", |_: Ctx<'_>, ()| Ok((datetime(1000),)))
        }
        "wasi:filesystem/preopens" => {
            let none = |_: Ctx<'_>, ()| Ok((Vec::<(Resource<Descriptor>, String)>::new(),));
            to.func_wrap("get-directories", none)
        }
        "wasi:io/poll" => poll(to),
        "wasi:io/streams" => streams(to),
        "wasi:random/random" => random(to, "get-random-bytes", "get-random-u64"),
        "wasi:random/insecure" => random(to, "get-insecure-random-bytes", "get-insecure-random-u64"),
        "wasi:random/insecure-seed" => to.func_wrap("insecure-seed", |_: Ctx<'_>, ()| Ok(((number()?, number()?),))),
        "wasi:sockets/instance-network" => {
            to.func_wrap("instance-network", |_: Ctx<'_>, ()| Ok((Resource::<Network>::new_own(0),)))
        }
        "wasi:sockets/tcp-create-socket" => refused(to, "create-tcp-socket"),
        "wasi:sockets/udp-create-socket" => refused(to, "create-udp-socket"),
        "wasi:sockets/ip-name-lookup" => refused(to, "resolve-addresses"),
        _ => Ok(()),
    }
}

fn no_terminal(to: &mut LinkerInstance<'_, Guest>, name: &str) -> Result<()> {
    to.func_wrap(name, |_: Ctx<'_>, ()| Ok((None::<Resource<Terminal>>,)))
}

/// A function that gives an error of `wasi:sockets/network`, whatever it is asked.
fn refused(to: &mut LinkerInstance<'_, Guest>, name: &str) -> Result<()> {
    to.func_new(name, |mut store, _, _, results| {
        store.data_mut().count_refused();
        if let Some(result) = results.first_mut() {
            *result = Val::Result(Err(Some(Box::new(Val::Enum("access-denied".into())))));
        }
        Ok(())
    })
}

fn datetime(nanoseconds: i64) -> Datetime {
    let nanoseconds = u64::try_from(nanoseconds).unwrap_or(0);
    let rest = nanoseconds % 1_000_000_000;
    Datetime { seconds: nanoseconds / 1_000_000_000, nanoseconds: u32::try_from(rest).unwrap_or(0) }
}

fn monotonic_clock(to: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    to.func_wrap("now", move |store: Ctx<'_>, ()| Ok((nanoseconds(store.data().monotonic_now()),)))?;
    to.func_wrap("resolution", |_: Ctx<'_>, ()| Ok((1_u64,)))?;
    to.func_wrap("subscribe-instant", |mut store: Ctx<'_>, (at,): (u64,)| {
        Ok((store.data_mut().table.push(Pollable(Duration::from_nanos(at)))?,))
    })?;
    to.func_wrap("subscribe-duration", |mut store: Ctx<'_>, (time,): (u64,)| {
        let at = store.data().monotonic_now().saturating_add(Duration::from_nanos(time));
        Ok((store.data_mut().table.push(Pollable(at))?,))
    })
}

fn poll(to: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    to.func_wrap("[method]pollable.ready", |store: Ctx<'_>, (one,): (Resource<Pollable>,)| {
        Ok((store.data().table.get(&one)?.0 <= store.data().monotonic_now(),))
    })?;
    to.func_wrap_async("[method]pollable.block", |mut store: Ctx<'_>, (one,): (Resource<Pollable>,)| {
        Box::new(async move {
            let at = store.data().table.get(&one)?.0;
            store.data_mut().wait_until(at).await;
            Ok(())
        })
    })?;
    // Those whose time has come; where there is none, the first one's is waited for.
    to.func_wrap_async("poll", |mut store: Ctx<'_>, (all,): (Vec<Resource<Pollable>>,)| {
        Box::new(async move {
            let times: Result<Vec<Duration>, _> =
                all.iter().map(|one| store.data().table.get(one).map(|pollable| pollable.0)).collect();
            let times = times?;
            let Some(first) = times.iter().min().copied() else {
                return Err(Error::msg("a poll of nothing"));
            };
            store.data_mut().wait_until(first).await;
            let now = store.data().monotonic_now().max(first);
            let ready: Vec<u32> = (0..).zip(&times).filter(|(_, at)| **at <= now).map(|(number, _)| number).collect();
            Ok((ready,))
        })
    })
}

fn streams(to: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    type Done = std::result::Result<(), StreamError>;
    for name in ["[method]input-stream.read", "[method]input-stream.blocking-read"] {
        to.func_wrap(name, |_: Ctx<'_>, _: (Resource<Input>, u64)| Ok((Err::<Vec<u8>, _>(StreamError::Closed),)))?;
    }
    for name in ["[method]input-stream.skip", "[method]input-stream.blocking-skip"] {
        to.func_wrap(name, |_: Ctx<'_>, _: (Resource<Input>, u64)| Ok((Err::<u64, _>(StreamError::Closed),)))?;
    }
    to.func_wrap("[method]input-stream.subscribe", |mut store: Ctx<'_>, _: (Resource<Input>,)| {
        Ok((store.data_mut().table.push(Pollable(Duration::ZERO))?,))
    })?;
    to.func_wrap("[method]output-stream.subscribe", |mut store: Ctx<'_>, _: (Resource<Output>,)| {
        Ok((store.data_mut().table.push(Pollable(Duration::ZERO))?,))
    })?;
    to.func_wrap("[method]output-stream.check-write", |_: Ctx<'_>, _: (Resource<Output>,)| {
        Ok((Ok::<_, StreamError>(WRITE_MAX as u64),))
    })?;
    for name in ["[method]output-stream.write", "[method]output-stream.blocking-write-and-flush"] {
        to.func_wrap(name, |mut store: Ctx<'_>, (to, bytes): (Resource<Output>, Vec<u8>)| {
            if bytes.len() > WRITE_MAX {
                return Err(Error::msg(format!("more than {WRITE_MAX} bytes written at once")));
            }
            let level = if to.rep() == STDERR { log::Level::Warn } else { log::Level::Info };
            for line in String::from_utf8_lossy(&bytes).lines().filter(|line| !line.trim().is_empty()) {
                store.data_mut().write_log(level, "", line);
            }
            Ok((Done::Ok(()),))
        })?;
    }
    for name in ["[method]output-stream.flush", "[method]output-stream.blocking-flush"] {
        to.func_wrap(name, |_: Ctx<'_>, _: (Resource<Output>,)| Ok((Done::Ok(()),)))?;
    }
    Ok(())
}

fn random(to: &mut LinkerInstance<'_, Guest>, bytes: &str, one: &str) -> Result<()> {
    to.func_wrap(bytes, |_: Ctx<'_>, (many,): (u64,)| {
        let many = Some(many).filter(|many| *many <= RANDOM_MAX).and_then(|many| usize::try_from(many).ok());
        let Some(many) = many else {
            return Err(Error::msg(format!("more than {RANDOM_MAX} random bytes at once")));
        };
        let mut bytes = vec![0; many];
        getrandom::fill(&mut bytes).map_err(|error| Error::msg(error.to_string()))?;
        Ok((bytes,))
    })?;
    to.func_wrap(one, |_: Ctx<'_>, ()| Ok((number()?,)))
}

fn number() -> Result<u64> {
    getrandom::u64().map_err(|error| Error::msg(error.to_string()))
}
