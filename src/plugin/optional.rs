//! The interfaces that a plugin may export beside `sensor`: `commands` and `handover`, looked up by name.
//!
//! Invariants: a component that exports one of them in another shape than the published one is no plugin (it fails to
//! start); what comes back is bounded before it leaves here.

use wasmtime::Store;
use wasmtime::component::{ComponentType, Instance, Lift, Lower, TypedFunc};

use super::failure::shown;
use super::guest::Guest;

/// Any 0.1 of them will do.
const COMMANDS: &str = "outstation:plugin/commands@0.1.";
const HANDOVER: &str = "outstation:plugin/handover@0.1.";

/// Bytes that one instance may hand over to the next.
pub const HANDOVER_BYTES_MAX: usize = 1 << 20;

/// A command as it is handed to a plugin.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(record)]
pub struct Command {
    /// Given once.
    pub id: String,
    /// What is to be done.
    pub name: String,
    /// JSON.
    pub args: String,
}

/// Why a plugin does not do what it was told.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(variant)]
pub enum Rejection {
    /// No such command.
    #[component(name = "unknown")]
    Unknown,
    /// The arguments are wrong, and how.
    #[component(name = "invalid")]
    Invalid(String),
    /// Not allowed.
    #[component(name = "denied")]
    Denied,
    /// It did not work, and why.
    #[component(name = "failed")]
    Failed(String),
}

impl Rejection {
    pub(super) fn shown(self) -> Self {
        match self {
            Self::Invalid(text) => Self::Invalid(shown(&text)),
            Self::Failed(text) => Self::Failed(shown(&text)),
            other => other,
        }
    }
}

type Execute = TypedFunc<(Command,), (Result<String, Rejection>,)>;
type Save = TypedFunc<(), (Vec<u8>,)>;
type Restore = TypedFunc<(String, Vec<u8>), (Result<(), String>,)>;

/// What an instance exports of them.
#[derive(Clone, Copy, Default)]
pub struct Optional {
    pub(super) execute: Option<Execute>,
    pub(super) save: Option<Save>,
    pub(super) restore: Option<Restore>,
}

/// Whether a component with these exports takes commands.
pub fn takes_commands(exports: &[String]) -> bool {
    name(exports, COMMANDS).is_some()
}

impl Optional {
    /// Looks them up in an instance of a component with these exports.
    pub(super) fn of(store: &mut Store<Guest>, instance: &Instance, exports: &[String]) -> wasmtime::Result<Self> {
        let mut optional = Self::default();
        if let Some(interface) = name(exports, COMMANDS) {
            optional.execute = Some(function(store, instance, interface, "execute")?);
        }
        if let Some(interface) = name(exports, HANDOVER) {
            optional.save = Some(function(store, instance, interface, "save")?);
            optional.restore = Some(function(store, instance, interface, "restore")?);
        }
        Ok(optional)
    }
}

fn name<'e>(exports: &'e [String], prefix: &str) -> Option<&'e str> {
    exports.iter().map(String::as_str).find(|export| export.starts_with(prefix))
}

fn function<P, R>(
    store: &mut Store<Guest>,
    instance: &Instance,
    interface: &str,
    name: &str,
) -> wasmtime::Result<TypedFunc<P, R>>
where
    P: wasmtime::component::ComponentNamedList + Lower,
    R: wasmtime::component::ComponentNamedList + Lift,
{
    let missing = || wasmtime::Error::msg(format!("{interface} has no function `{name}`"));
    let outer = instance.get_export_index(&mut *store, None, interface).ok_or_else(missing)?;
    let inner = instance.get_export_index(&mut *store, Some(&outer), name).ok_or_else(missing)?;
    let typed = instance.get_typed_func(&mut *store, inner);
    typed.map_err(|error| wasmtime::Error::msg(format!("{interface}: `{name}` is another function: {error}")))
}
