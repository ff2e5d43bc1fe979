//! What a configuration means: plain data, complete and checked.
//!
//! Owns the types that the rest of the program reads its configuration from. Invariants: every value lies in its range,
//! every name that is referred to exists, every default is filled in, every relative path has been joined to the folder
//! of the file that named it. No secret is in here: passwords are named by file or credential and read where needed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use registers::AddressRange;
use serde_json::Value;

use super::address::GpioLine;
use super::check::{Checked, Take};
use super::files::is_secret_key;
use super::listing::HIDDEN;
use super::packed::Packed;
use super::template::Template;
use super::url::{BrokerUrl, BusUrl, ProxyUrl};

/// Everything that the configuration files say, defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `[agent]`.
    pub agent: Agent,
    /// `[mqtt]`; without it readings are only buffered.
    pub mqtt: Option<Mqtt>,
    /// `[buffer]`.
    pub buffer: Buffer,
    /// `[bus.NAME]`.
    pub buses: BTreeMap<String, Bus>,
    /// `[source.NAME]`.
    pub sources: BTreeMap<String, Source>,
}

/// `[agent]`: the process itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    /// Who this agent is on the broker: letters, digits, `. _ -`.
    pub id: String,
    /// Where the buffer and the compiled plugins live.
    pub data_dir: PathBuf,
    /// Where plugins are looked for; the first hit wins.
    pub plugin_dirs: Vec<PathBuf>,
    /// Least severe level that is logged.
    pub log: LogLevel,
    /// How plugins are run.
    pub engine: Engine,
    /// What to make of plugins without a good signature.
    pub plugin_signatures: Signatures,
    /// Minisign public keys, as `minisign` prints them.
    pub plugin_keys: Vec<String>,
}

/// `[mqtt]`: the way to the broker.
#[derive(Clone, Debug, PartialEq)]
pub struct Mqtt {
    /// In order of preference, at least one.
    pub urls: Vec<BrokerUrl>,
    /// The urls are nodes of one cluster: a session goes on from one to the other.
    pub urls_share_session: bool,
    /// A broker that names another one to use is followed.
    pub redirects: bool,
    /// Protocol version.
    pub version: MqttVersion,
    /// Client identifier.
    pub client_id: String,
    /// How the password is proved.
    pub auth: MqttAuth,
    /// User name of CONNECT.
    pub username: Option<String>,
    /// Where the password of CONNECT is.
    pub password: Option<Secret>,
    /// PEM file of trusted roots; without it the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client's certificate chain; set exactly if `key_file` is.
    pub cert_file: Option<PathBuf>,
    /// PEM file of the client's key.
    pub key_file: Option<PathBuf>,
    /// Application protocols offered in the TLS handshake.
    pub alpn: Vec<String>,
    /// Proxy to go through.
    pub proxy: Option<ProxyUrl>,
    /// User name at the proxy.
    pub proxy_username: Option<String>,
    /// Where the proxy's password is.
    pub proxy_password: Option<Secret>,
    /// Whole seconds, 1 to 65,535.
    pub keep_alive: Duration,
    /// Over DNS, TCP, proxy, TLS, WebSocket and CONNACK together.
    pub connect_timeout: Duration,
    /// Shortest base of the backoff.
    pub reconnect_min: Duration,
    /// Longest wait between two attempts, at least `reconnect_min`.
    pub reconnect_max: Duration,
    /// How long the broker keeps the session; whole seconds, fits 32 bit.
    pub session_expiry: Duration,
    /// Largest message that is published, in bytes.
    pub max_message: u64,
    /// What `{base}` stands for, `{agent}` filled in.
    pub base: String,
    /// Topics beside those of the readings.
    pub topics: Topics,
}

/// `[mqtt.topics]`: `None` is turned off. `{agent}` and `{base}` are filled in, `{source}` is left.
#[derive(Clone, Debug, PartialEq)]
pub struct Topics {
    /// Online, offline, stopped. No placeholders left.
    pub status: Option<Template>,
    /// What a source measures.
    pub meta: Option<Template>,
    /// What will never come. No placeholders left.
    pub gaps: Option<Template>,
    /// Commands to a source.
    pub command: Option<Template>,
    /// Answers to commands that name no response topic.
    pub reply: Option<Template>,
}

impl Topics {
    /// Whether the readings of `source` can't go to `topic`, because the agent speaks there itself: a point called
    /// `meta` under the template `{base}/{source}/{point}`. What else could collide was refused with the configuration.
    pub fn takes(&self, source: &str, topic: &str) -> bool {
        self.meta.as_ref().is_some_and(|meta| meta.for_source(source) == topic)
    }
}

/// Where a secret is found. It is read when it is needed, and never kept here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// A file; one trailing line end is not part of it.
    File(PathBuf),
    /// A systemd credential (`LoadCredential=NAME:..`).
    Credential(String),
}

/// `[buffer]`: the log on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// All that the buffer takes on the disk, in bytes.
    pub max_size: u64,
    /// Older readings are dropped; `None` keeps them as long as there is room (`"never"`).
    pub max_age: Option<Duration>,
    /// When it is flushed.
    pub sync: Sync,
    /// What gives way when it is full.
    pub when_full: WhenFull,
    /// While catching up, at most so many messages a second more than are being taken; 0: no limit.
    pub replay_rate: u32,
}

/// How much a power cut may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Nothing: every reading is flushed before the next.
    Always,
    /// At most the readings of this long.
    Every(Duration),
}

/// `[bus.NAME]`: a Modbus line.
#[derive(Clone, Debug, PartialEq)]
pub struct Bus {
    /// Where it is.
    pub url: BusUrl,
    /// What holds for units that are not in `units`.
    pub defaults: UnitSettings,
    /// Silence after connecting.
    pub pause_connect: Duration,
    /// Connections at once; 1 on a serial line.
    pub connections: u8,
    /// A reply must echo the transaction number of the request (TCP).
    pub check_transaction: bool,
    /// `[bus.NAME.unit.N]`, completed from `defaults`.
    pub units: BTreeMap<u8, UnitSettings>,
}

impl Bus {
    /// What holds for one unit.
    pub fn unit(&self, unit: u8) -> &UnitSettings {
        self.units.get(&unit).unwrap_or(&self.defaults)
    }
}

/// What can differ from unit to unit of a bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitSettings {
    /// For one request and its reply.
    pub timeout: Duration,
    /// Further attempts after the first.
    pub retries: u8,
    /// Silence between two requests.
    pub pause: Duration,
    /// Registers a request, 1 to 125.
    pub max_registers: u16,
    /// Which functions write.
    pub write: WriteFunctions,
    /// Registers that nobody asked for and that a joined read may pass over.
    pub read_gaps: u16,
}

/// `[source.NAME]`: a running plugin.
#[derive(Clone, PartialEq)]
pub struct Source {
    /// Its name: letters, digits, `_ -`.
    pub name: String,
    /// Plugin, without `.wasm`.
    pub plugin: String,
    /// Period of the polls.
    pub every: Duration,
    /// What it may touch.
    pub allow: Allow,
    /// What it may use.
    pub limits: Limits,
    /// Topic of its readings: everything filled in but `{point}`.
    pub topic: Template,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether readings are retained at the broker.
    pub retain: bool,
    /// Payload format.
    pub format: Format,
    /// Largest message, bytes: `mqtt.max_message`, or its default while there is no `[mqtt]`.
    pub max_message: u64,
    /// `[source.NAME.config]`, an object, as JSON; checked by the plugin. As text, and shared: a list of thousands of
    /// points takes a fraction of what its values would, and everybody who keeps these settings has the same one.
    pub config: Packed,
}

/// All of it, but for what looks like a secret in `config`.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Source { name, plugin, every, allow, limits, topic, qos, retain, format, max_message, config } = self;
        f.debug_struct("Source")
            .field("name", name)
            .field("plugin", plugin)
            .field("every", every)
            .field("allow", allow)
            .field("limits", limits)
            .field("topic", topic)
            .field("qos", qos)
            .field("retain", retain)
            .field("format", format)
            .field("max_message", max_message)
            .field(
                "config",
                &serde_json::from_str(&config.text()).map_or(Value::Null, |config| without_secrets(&config)),
            )
            .finish()
    }
}

fn without_secrets(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(without_secrets).collect(),
        Value::Object(object) => {
            let hide = |key: &String, value| if is_secret_key(key) { HIDDEN.into() } else { without_secrets(value) };
            Value::Object(object.iter().map(|(key, value)| (key.clone(), hide(key, value))).collect())
        }
        value => value.clone(),
    }
}

/// What a source is granted; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Statistics of the system.
    pub system: bool,
    /// By name of the bus.
    pub modbus: BTreeMap<String, ModbusGrant>,
    /// Lines.
    pub gpio: GpioGrant,
}

/// What a source may do on one bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModbusGrant {
    /// Units; `None` is every unit.
    pub units: Option<Vec<u8>>,
    /// What may be read.
    pub read: Ranges,
    /// What may be written.
    pub write: Ranges,
}

/// A set of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// The whole bus.
    All,
    /// These; empty: none.
    Some(Vec<AddressRange>),
}

impl Ranges {
    /// No address.
    pub const NONE: Ranges = Ranges::Some(Vec::new());
}

/// What a source may do with GPIO lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpioGrant {
    /// Lines that may be read.
    pub read: Vec<GpioLine>,
    /// Lines that may be set.
    pub write: Vec<GpioLine>,
}

/// What a source may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory, bytes.
    pub memory: u64,
    /// One call, the guest's own time.
    pub time: Duration,
}

/// Declares an enum whose variants are words in the file: one list for parsing, printing, hints and the schema.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// The words of the file, in the order of the variants.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The variant of a word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }

            /// The word of the file.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl Take for $name {
            fn take(value: &Checked) -> Option<Self> {
                match value { Checked::Word(word) => Self::from_word(word), _ => None }
            }
        }
    };
}

words! {
    /// Least severe level that is logged.
    pub enum LogLevel {
        /// What needs somebody.
        Error = "error",
        /// What may.
        Warn = "warn",
        /// What happened.
        Info = "info",
        /// For finding a fault.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

words! {
    /// How plugins are run.
    pub enum Engine {
        /// Compiled to machine code.
        Native = "native",
        /// Interpreted; no executable memory.
        Pulley = "pulley",
    }
}

words! {
    /// What to make of plugins without a good signature.
    pub enum Signatures {
        /// Signatures are not looked at.
        Off = "off",
        /// Say it, run it.
        Warn = "warn",
        /// Refuse it.
        Require = "require",
    }
}

words! {
    /// Protocol version.
    pub enum MqttVersion {
        /// 5 first, 3.1.1 where the broker refuses it.
        Auto = "auto",
        /// MQTT 5.0.
        V5 = "5",
        /// MQTT 3.1.1.
        V311 = "3.1.1",
    }
}

words! {
    /// How a password is proved to a broker.
    pub enum MqttAuth {
        /// It is sent in CONNECT.
        Password = "password",
        /// By SCRAM-SHA-256 (RFC 7677) in an enhanced authentication; it is never sent.
        ScramSha256 = "scram-sha-256",
    }
}

words! {
    /// What gives way when the buffer is full.
    pub enum WhenFull {
        /// The oldest readings.
        DropOldest = "drop-oldest",
        /// The newest readings.
        DropNewest = "drop-newest",
    }
}

words! {
    /// Which functions write on a bus.
    pub enum WriteFunctions {
        /// 5 and 6.
        Single = "single",
        /// 15 and 16.
        Multiple = "multiple",
    }
}

words! {
    /// Payload format.
    pub enum Format {
        /// One JSON object a message.
        Json = "json",
    }
}
