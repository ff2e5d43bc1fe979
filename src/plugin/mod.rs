//! Plugins: WebAssembly components, compiled elsewhere, kept in limits here.
//!
//! ```text
//!  file ─▶ hash ─▶ cache ──────────────▶ Plugin ─▶ check, describe   (looked at: no device, no state)
//!                    │  none or not good    │
//!                    └─▶ compile child ─▶───┘
//!                                           └────▶ Instance ─▶ run, run, .. ─▶ stop
//! ```
//!
//! Owns wasmtime: no other module of the agent sees its types. Readings leave as `reading::Reading`.
//!
//! - A component is refused before it runs where it imports what the host does not offer, or what its source is not
//!   granted.
//! - Whatever a guest does ends at most its own instance: time, memory, tables, handles, log lines, what it hands
//!   over in a call, readings and their size are all limited, each by a named `*_MAX`.
//! - No code is compiled in this process.

mod bindings;
mod cache;
mod compile;
mod convert;
mod engine;
mod failure;
mod grants;
mod guest;
mod instance;
mod lines;
mod modbus;
mod offered;
mod optional;
mod signature;
mod simulated;
mod spec;
mod ticker;
mod wasi;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tracing::{debug, warn};
use wasmtime::Engine;
use wasmtime::component::{Component, HasSelf, Linker};

pub use compile::{CompileLimits, Compiler, compile_child};
pub use convert::About;
pub use engine::Kind as EngineKind;
pub use failure::{Failure, LoadError};
pub use grants::{Grants, MissingGrant};
pub use instance::{Instance, Outcome, Problem, Trigger};
pub use optional::{Command, Rejection};
pub use signature::{SignatureState, Trust};
pub use simulated::{Call, Simulation};
pub use spec::{SourceSpec, StateFuture, StateStore, Trial};

use crate::device::gpio::Lines;
use crate::device::modbus::Buses;
use crate::device::system::{Figures, Statistics};
use cache::{Cache, Key};
use compile::Turns;
use guest::Guest;
use instance::Live;
use spec::Devices;
use ticker::Ticker;

/// A larger file is no plugin.
const FILE_MAX: u64 = 64 << 20;
/// A component begins with this; a core module has the same first half.
const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";
const MODULE: [u8; 8] = *b"\0asm\x01\0\0\0";

/// How plugins are compiled and run.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Machine code, or interpreted.
    pub engine: EngineKind,
    /// Where compiled components are kept. Made, with access for this user only.
    pub cache_dir: PathBuf,
    /// Whom plugins have to come from.
    pub trust: Trust,
    /// What compiles.
    pub compiler: Compiler,
    /// What compiling may take.
    pub compile: CompileLimits,
}

/// The plugin host. A clone is the same host.
#[derive(Clone)]
pub struct Host(Arc<Shared>);

/// What all plugins share.
struct Shared {
    options: HostOptions,
    engine: Engine,
    fingerprint: u64,
    linker: Linker<Guest>,
    ticker: Arc<Ticker>,
    cache: Cache,
    /// Plugins that somebody holds.
    loaded: Mutex<HashMap<Key, Weak<Loaded>>>,
    /// What is compiled already waits for none.
    turns: Turns,
    /// The first sample of CPU usage was taken when the host was made.
    devices: Devices,
}

/// A component that is ready to be instantiated. A clone is the same one.
#[derive(Clone)]
pub struct Plugin {
    host: Host,
    loaded: Arc<Loaded>,
}

/// What a file looks like from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looks {
    /// Whether it is signed.
    pub signature: SignatureState,
    /// Whether its compiled form is kept.
    pub compiled: bool,
}

struct Loaded {
    pre: bindings::Host_Pre<Guest>,
    imports: Vec<String>,
    exports: Vec<String>,
}

/// The host cannot be made: the engine is not one of this machine, or there is no thread for it.
#[derive(Debug, thiserror::Error)]
#[error("plugins cannot be run here: {0}")]
pub struct HostError(String);

impl Host {
    /// Makes the engine and starts its ticker. Reads and writes no file.
    pub fn new(options: HostOptions) -> Result<Self, HostError> {
        Self::with(options, |linker| bindings::Host_::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest))
    }

    /// The same for trying plugins out: they see a machine that is not there.
    pub fn simulated(options: HostOptions) -> Result<Self, HostError> {
        Self::with(options, simulated::add_to_linker)
    }

    fn with(
        options: HostOptions,
        offer: impl FnOnce(&mut Linker<Guest>) -> wasmtime::Result<()>,
    ) -> Result<Self, HostError> {
        let failed = |error: &dyn std::fmt::Display| HostError(error.to_string());
        let engine = engine::new(options.engine).map_err(|error| failed(&error))?;
        if engine::effective(options.engine) != options.engine {
            warn!("this machine has no compiler to machine code: plugins are interpreted");
        }
        let mut linker = Linker::new(&engine);
        offer(&mut linker).map_err(|error| failed(&error))?;
        let ticker = Arc::new(Ticker::start(&engine).map_err(|error| failed(&error))?);
        Ok(Self(Arc::new(Shared {
            fingerprint: engine::fingerprint(&engine),
            cache: Cache::new(options.cache_dir.clone()),
            options,
            engine,
            linker,
            ticker,
            loaded: Mutex::new(HashMap::new()),
            turns: Turns::default(),
            devices: Devices { statistics: Statistics::new(), lines: Lines::default(), buses: Buses::new() },
        })))
    }

    /// The Modbus lines that it lends to plugins; none before they are told to be there.
    pub fn buses(&self) -> &Buses {
        &self.0.devices.buses
    }

    /// What the agent's own figures are to be set in, for plugins that may see them.
    pub fn figures(&self) -> &Figures {
        self.0.devices.statistics.figures()
    }

    /// What can be said of a plugin's file without running it.
    pub async fn look(&self, file: &Path) -> Result<Looks, LoadError> {
        let (host, path) = (self.clone(), file.to_owned());
        let looked = tokio::task::spawn_blocking(move || {
            let digest = digest(&path)?;
            let signature = host.0.options.trust.look(&path, &digest);
            Ok(Looks { signature, compiled: host.0.cache.has(&Key::new(&digest, host.0.fingerprint)) })
        });
        looked.await.map_err(|error| compile_error(file, &error))?
    }

    /// Loads a plugin's file: from the cache, where it was compiled before, else a child process compiles it first.
    pub async fn load(&self, file: &Path) -> Result<Plugin, LoadError> {
        let (path, trust) = (file.to_owned(), self.0.options.trust.clone());
        let read = tokio::task::spawn_blocking(move || {
            let digest = digest(&path)?;
            trust.check(&path, &digest).map(|()| digest)
        });
        let read = read.await;
        let digest = read.map_err(|error| compile_error(file, &error))??;
        let key = Key::new(&digest, self.0.fingerprint);
        if let Some(plugin) = self.compiled(file, &key).await? {
            return Ok(plugin);
        }
        let this_one = self.0.turns.of(&key).await;
        let _once = this_one.lock().await;
        // It may have been compiled for somebody else meanwhile.
        if let Some(plugin) = self.compiled(file, &key).await? {
            return Ok(plugin);
        }
        let component = self.0.turns.wait(self.0.options.compile.patience, self.compile(file, &key)).await?;
        self.share(file, key, &component).await
    }

    /// The plugin, where somebody holds it or its compiled form is kept.
    async fn compiled(&self, file: &Path, key: &Key) -> Result<Option<Plugin>, LoadError> {
        if let Some(loaded) = self.0.loaded.lock().await.get(key).and_then(Weak::upgrade) {
            return Ok(Some(Plugin { host: self.clone(), loaded }));
        }
        match self.cached(key).await {
            Some(component) => self.share(file, *key, &component).await.map(Some),
            None => Ok(None),
        }
    }

    /// The one plugin of this component, for all who want it.
    async fn share(&self, file: &Path, key: Key, component: &Component) -> Result<Plugin, LoadError> {
        let mut all = self.0.loaded.lock().await;
        all.retain(|_, plugin| plugin.strong_count() > 0);
        let loaded = match all.get(&key).and_then(Weak::upgrade) {
            Some(loaded) => loaded,
            None => Arc::new(self.prepare(file, component)?),
        };
        all.insert(key, Arc::downgrade(&loaded));
        Ok(Plugin { host: self.clone(), loaded })
    }

    async fn cached(&self, key: &Key) -> Option<Component> {
        let (host, key) = (self.clone(), *key);
        tokio::task::spawn_blocking(move || host.0.cache.load(&host.0.engine, &key)).await.ok().flatten()
    }

    /// Has it compiled. A cache that cannot be written (a full disk, a read-only one) is no reason not to run: then
    /// it happens in the folder for temporary files, and again at the next start.
    async fn compile(&self, file: &Path, key: &Key) -> Result<Component, LoadError> {
        debug!(file = %file.display(), "compiling");
        let cache = &self.0.cache;
        match self.compile_in(cache, file, key).await {
            Ok(Compiled { component, work_file }) => {
                if let Err(error) = cache.keep(key, &work_file) {
                    warn!("the compiled plugin cannot be kept: {error}");
                    let _ = std::fs::remove_file(&work_file);
                }
                Ok(component)
            }
            Err(Refused::Cache(error)) => {
                warn!("compiled plugins cannot be kept in {}: {error}", self.0.options.cache_dir.display());
                let name = format!("outstation-{}-{key}", std::process::id());
                let folder = std::env::temp_dir().join(name);
                let result = self.compile_in(&Cache::new(folder.clone()), file, key).await;
                let _ = std::fs::remove_dir_all(&folder);
                match result {
                    Ok(compiled) => Ok(compiled.component),
                    Err(Refused::Cache(error)) => Err(compile_error(file, &error)),
                    Err(Refused::Component(reason)) => Err(compile_error(file, &reason)),
                }
            }
            Err(Refused::Component(reason)) => Err(compile_error(file, &reason)),
        }
    }

    async fn compile_in(&self, cache: &Cache, file: &Path, key: &Key) -> Result<Compiled, Refused> {
        let work_file = cache.work_file(key).map_err(Refused::Cache)?;
        let options = &self.0.options;
        let result = compile::run(&options.compiler, options.compile, options.engine, key, file, &work_file).await;
        let loaded = match result {
            Ok(()) => {
                let (engine, key, path) = (self.0.engine.clone(), *key, work_file.clone());
                let loaded = tokio::task::spawn_blocking(move || cache::load(&engine, &key, &path)).await;
                let loaded = loaded.unwrap_or_else(|error| Err(error.to_string()));
                loaded.map_err(|reason| not_loaded(&reason, options.engine))
            }
            Err(reason) => Err(reason),
        };
        match loaded {
            Ok(component) => Ok(Compiled { component, work_file }),
            Err(reason) => {
                let _ = std::fs::remove_file(&work_file);
                // The child says so where the disk is full.
                let disk = reason.contains("No space left") || reason.contains("Read-only file system");
                Err(if disk { Refused::Cache(io::Error::other(reason)) } else { Refused::Component(reason) })
            }
        }
    }

    /// Resolves the imports.
    fn prepare(&self, file: &Path, component: &Component) -> Result<Loaded, LoadError> {
        let kind = component.component_type();
        let imports: Vec<String> = kind.imports(&self.0.engine).map(|(name, _)| name.to_owned()).collect();
        let exports = kind.exports(&self.0.engine).map(|(name, _)| name.to_owned()).collect();
        let is_unknown = |import: &&String| !grants::is_offered(import) && !wasi::is_offered(import);
        let unknown: Vec<String> = imports.iter().filter(is_unknown).cloned().collect();
        if !unknown.is_empty() {
            let hint = grants::hint(&unknown);
            return Err(LoadError::Imports { file: file.to_owned(), imports: unknown, hint });
        }
        let pre = wasi::linker(&self.0.linker, component)
            .and_then(|own| own.as_ref().unwrap_or(&self.0.linker).instantiate_pre(component))
            .and_then(bindings::Host_Pre::new);
        match pre {
            Ok(pre) => Ok(Loaded { pre, imports, exports }),
            Err(error) => {
                let reason = failure::shown(&format!("{error:#}"));
                Err(LoadError::NotAPlugin { file: file.to_owned(), reason })
            }
        }
    }
}

impl Shared {
    const fn engine(&self) -> &Engine {
        &self.engine
    }

    fn ticker(&self) -> &Ticker {
        &self.ticker
    }

    const fn devices(&self) -> &Devices {
        &self.devices
    }
}

impl Plugin {
    /// Everything that is wrong with the source's configuration. Touches no device.
    pub async fn check(&self, spec: &SourceSpec) -> Result<Vec<Problem>, Failure> {
        Live::new(self, spec, false).await?.check(&spec.config_json.text()).await
    }

    /// What the plugin is, and what it would measure with the source's configuration. Touches no device: points that
    /// depend on what is there are missing.
    pub async fn describe(&self, spec: &SourceSpec) -> Result<About, Failure> {
        Live::new(self, spec, false).await?.describe().await
    }

    /// The names of the interfaces that it imports.
    pub fn imports(&self) -> &[String] {
        &self.loaded.imports
    }

    /// The names of the interfaces that it exports.
    pub fn exports(&self) -> &[String] {
        &self.loaded.exports
    }

    /// Whether it takes commands.
    pub fn takes_commands(&self) -> bool {
        optional::takes_commands(&self.loaded.exports)
    }

    /// What it imports and `grants` does not grant.
    pub fn missing_grants(&self, grants: &Grants) -> Vec<MissingGrant> {
        grants::missing(self.loaded.imports.iter().map(String::as_str), grants)
    }

    fn shared(&self) -> &Shared {
        &self.host.0
    }

    fn pre(&self) -> &bindings::Host_Pre<Guest> {
        &self.loaded.pre
    }
}

struct Compiled {
    component: Component,
    work_file: PathBuf,
}

enum Refused {
    /// The place for compiled code.
    Cache(io::Error),
    /// The component itself.
    Component(String),
}

/// Why compiled code cannot be loaded, and what to do about it.
fn not_loaded(reason: &str, engine: EngineKind) -> String {
    let no_machine_code = engine == EngineKind::Native && reason.contains("executable");
    if no_machine_code {
        format!(
            "machine code may not be loaded here, as under MemoryDenyWriteExecute; with `[agent] engine = \"pulley\"` plugins \
             are interpreted, and need none ({reason})"
        )
    } else {
        format!("what the compiler wrote cannot be loaded: {reason}")
    }
}

/// The file's SHA-256, where it looks like a component.
fn digest(file: &Path) -> Result<[u8; 32], LoadError> {
    let unread = |reason| LoadError::Read { file: file.to_owned(), reason };
    let mut input = File::open(file).map_err(unread)?;
    let metadata = input.metadata().map_err(unread)?;
    if metadata.is_dir() {
        return Err(unread(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    if metadata.len() > FILE_MAX {
        return Err(LoadError::TooLarge { file: file.to_owned(), bytes: metadata.len(), max: FILE_MAX });
    }
    let mut first = Vec::new();
    (&mut input).take(COMPONENT.len() as u64).read_to_end(&mut first).map_err(unread)?;
    if first != COMPONENT {
        let reason = if first == MODULE {
            "it is a core module; `wasm-tools component new`, or `jco new`, makes a component of one"
        } else if first.is_empty() {
            "it is empty"
        } else {
            "it begins with something else"
        };
        return Err(LoadError::NotAComponent { file: file.to_owned(), reason: reason.into() });
    }
    let mut hash = Sha256::new();
    hash.update(&first);
    io::copy(&mut input.take(FILE_MAX), &mut hash).map_err(unread)?;
    Ok(hash.finalize().into())
}

fn compile_error(file: &Path, reason: &dyn std::fmt::Display) -> LoadError {
    LoadError::Compile { file: file.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
