//! Every key that there is: the tables of INTERFACE.md, section 2.

use super::forms::{
    AGENT_ID, AGENT_TOPIC, BASE, BROKER_URL, BUS_URL, CREDENTIAL, GPIO_LINE, MINISIGN_KEY, NAME, PATH, PLUGIN,
    PROXY_URL, READ_RANGE, READINGS_TOPIC, SOURCE_NAME, SOURCE_TOPIC, TEXT, UNIT_NUMBER, WRITE_RANGE,
};
use super::schema::Default::{
    Bool as IsBool, Derived, EmptyList, EmptyTable, Integer as Is, Nothing, Required, Text as IsText,
};
use super::schema::Kind::{Bool, Either, Free, Integer, Later, List, Map, Size, Table, Text, Word};
use super::schema::{Key, Kind, duration, duration_or, key, seconds};
use super::settings::{Engine, Format, LogLevel, MqttAuth, MqttVersion, Signatures, WhenFull, WriteFunctions};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

const PATHS: Kind = List { of: &Text(&PATH), min: 1 };
const QOS: Kind = Integer { min: 0, max: 2 };

/// A whole file.
pub(super) static ROOT: &[Key] = &[
    key("agent", Table(AGENT), EmptyTable, "The process itself.").aka(&["global", "main"]),
    key("mqtt", Table(MQTT), EmptyTable, "The way to the broker; without it readings are only buffered.")
        .aka(&["broker", "output", "outputs"]),
    key("buffer", Table(BUFFER), EmptyTable, "The log on disk.").aka(&["spool", "queue", "storage"]),
    key(
        "bus",
        Map { names: &NAME, of: &Table(BUS) },
        EmptyTable,
        "Modbus lines, shared by the sources that are allowed on them.",
    )
    .aka(&["buses", "modbus"]),
    key("source", Map { names: &SOURCE_NAME, of: &Table(SOURCE) }, EmptyTable, "Running plugins.")
        .aka(&["sources", "input", "inputs", "plugin", "plugins"]),
    key("http", Later("the HTTP page comes in a later version"), Nothing, "Page, metrics, health."),
];

static AGENT: &[Key] = &[
    key("id", Text(&AGENT_ID), Derived("the host name"), "Who this agent is on the broker.").aka(&["name", "hostname"]),
    key("data_dir", Text(&PATH), Derived("the place of the file"), "Where the buffer and the compiled plugins live."),
    key("plugin_dirs", PATHS, Derived("the place of the file"), "Where plugins are looked for; the first hit wins.")
        .aka(&["plugin_dir"]),
    key("log", Word(LogLevel::WORDS), IsText("info"), "Least severe level that is logged.")
        .aka(&["log_level", "level"]),
    key(
        "engine",
        Word(Engine::WORDS),
        IsText("native"),
        "How plugins are run; pulley is interpreted, without executable memory.",
    ),
    key(
        "plugin_signatures",
        Word(Signatures::WORDS),
        IsText("off"),
        "What to make of plugins without a good signature.",
    ),
    key(
        "plugin_keys",
        List { of: &Text(&MINISIGN_KEY), min: 0 },
        EmptyList,
        "Minisign public keys that plugins are signed with.",
    ),
];

static MQTT: &[Key] = &[
    key("url", Text(&BROKER_URL), Nothing, "The broker: mqtt, mqtts, ws, wss or unix.")
        .aka(&["server", "broker", "host", "address"]),
    key(
        "urls",
        List { of: &Text(&BROKER_URL), min: 1 },
        Nothing,
        "Several brokers in order of preference, in place of url.",
    )
    .aka(&["servers", "brokers", "hosts"]),
    key(
        "urls_share_session",
        Bool,
        IsBool(false),
        "The urls are nodes of one cluster: a session goes on from one to the other.",
    ),
    key(
        "redirects",
        Bool,
        IsBool(false),
        "Follow a broker that names another one to use, three times in a row at most.",
    )
    .aka(&["redirect"]),
    key(
        "version",
        Word(MqttVersion::WORDS),
        IsText("auto"),
        "Protocol version; auto: 5 first, 3.1.1 where the broker refuses it.",
    )
    .aka(&["protocol", "protocol_version"]),
    key("client_id", Text(&TEXT), Derived("agent.id"), "Client identifier.").aka(&["clientid", "id"]),
    key(
        "auth",
        Word(MqttAuth::WORDS),
        IsText("password"),
        "How the password is proved; scram-sha-256 (MQTT 5 only) never sends it.",
    )
    .aka(&["authentication", "auth_method"]),
    key("username", Text(&TEXT), Nothing, "User name.").aka(&["user"]),
    key("password_file", Text(&PATH), Nothing, "File that holds the password.").aka(&["password", "pass"]),
    key(
        "credential",
        Text(&CREDENTIAL),
        Nothing,
        "The systemd credential that holds the password, in place of password_file.",
    ),
    key("ca_file", Text(&PATH), Nothing, "PEM file of trusted roots, in place of the system's.")
        .aka(&["ca", "tls_ca", "cafile"]),
    key("cert_file", Text(&PATH), Nothing, "PEM file of the client's certificate chain.")
        .aka(&["cert", "tls_cert", "certfile"]),
    key("key_file", Text(&PATH), Nothing, "PEM file of the client's key.").aka(&["key", "tls_key", "keyfile"]),
    key("alpn", List { of: &Text(&TEXT), min: 0 }, EmptyList, "Application protocols offered in the TLS handshake."),
    key("proxy", Text(&PROXY_URL), Nothing, "Proxy to go through: http or socks5."),
    key("proxy_username", Text(&TEXT), Nothing, "User name at the proxy."),
    key("proxy_password_file", Text(&PATH), Nothing, "File that holds the proxy's password.").aka(&["proxy_password"]),
    key("proxy_credential", Text(&CREDENTIAL), Nothing, "The systemd credential that holds the proxy's password."),
    key("keep_alive", seconds(1, 65_535), IsText("30s"), "Longest silence before the link is tested.")
        .aka(&["keepalive"]),
    key(
        "connect_timeout",
        duration(100, HOUR),
        IsText("15s"),
        "One deadline over DNS, TCP, proxy, TLS, WebSocket and CONNACK.",
    )
    .aka(&["timeout"]),
    key("reconnect", Table(RECONNECT), EmptyTable, "Wait between attempts, with full jitter.")
        .aka(&["backoff", "retry"]),
    key(
        "session_expiry",
        seconds(0, 3_650 * 86_400),
        IsText("1d"),
        "How long the broker keeps the session of an agent that is away.",
    ),
    key(
        "max_message",
        Size { min: 128, max: 255 * MIB },
        IsText("128KiB"),
        "Largest message that is published; larger polls are split.",
    )
    .aka(&["max_packet_size", "max_message_size"]),
    key("base", Text(&BASE), IsText("outstation/{agent}"), "What {base} stands for in topics.")
        .aka(&["prefix", "topic_prefix"]),
    key(
        "topic",
        Text(&READINGS_TOPIC),
        IsText("{base}/{source}"),
        "Topic of readings; with {point} a message a point.",
    ),
    key("qos", QOS, Is(1), "Quality of service of readings."),
    key("retain", Bool, IsBool(false), "Whether readings are retained at the broker.").aka(&["retained"]),
    key("format", Word(Format::WORDS), IsText("json"), "Payload format of readings.").aka(&["data_format", "encoding"]),
    key("topics", Table(TOPICS), EmptyTable, "Topics beside those of readings; \"\" turns one off."),
];

static RECONNECT: &[Key] = &[
    key("min", duration(10, HOUR), IsText("1s"), "Base of the first wait."),
    key("max", duration(10, DAY), IsText("2m"), "Longest wait."),
];

static TOPICS: &[Key] = &[
    key("status", Text(&AGENT_TOPIC), IsText("{base}/status"), "Online, offline, stopped."),
    key("meta", Text(&SOURCE_TOPIC), IsText("{base}/{source}/meta"), "What a source measures."),
    key("gaps", Text(&AGENT_TOPIC), IsText("{base}/gaps"), "What will never come, and why."),
    key("command", Text(&SOURCE_TOPIC), IsText("{base}/command/{source}"), "Commands to a source."),
    key(
        "reply",
        Text(&SOURCE_TOPIC),
        IsText("{base}/reply/{source}"),
        "Answers to commands that name no response topic.",
    ),
];

static BUFFER: &[Key] = &[
    key("max_size", Size { min: MIB, max: 16 << 40 }, IsText("512MiB"), "All that the buffer takes on the disk.")
        .aka(&["size", "limit"]),
    key(
        "max_age",
        duration_or("never", SECOND, 3_650 * DAY),
        IsText("30d"),
        "Older readings are dropped; \"never\" keeps them as long as there is room.",
    )
    .aka(&["age", "retention"]),
    key(
        "sync",
        duration_or("always", 1, HOUR),
        IsText("1s"),
        "\"always\", or the longest time that a power cut may take readings from.",
    )
    .aka(&["flush", "flush_interval", "fsync"]),
    key("when_full", Word(WhenFull::WORDS), IsText("drop-oldest"), "What gives way when the buffer is full."),
    key(
        "replay_rate",
        Integer { min: 0, max: 1_000_000 },
        Is(0),
        "While catching up, at most so many messages a second more than are being taken; 0: no limit.",
    ),
];

static BUS: &[Key] = &[
    key("url", Text(&BUS_URL), Required("url = \"tcp://192.168.1.20:502\""), "Where it is: tcp, rtu or rtu+tcp.")
        .aka(&["address", "host", "device", "controller"]),
    key("timeout", TIMEOUT, IsText("1s"), "For one request and its reply."),
    key("retries", RETRIES, Is(1), "Further attempts after the first."),
    key("pause", PAUSE, IsText("0ms"), "Silence between two requests."),
    key("pause_connect", duration(0, MINUTE), IsText("0ms"), "Silence after connecting."),
    key("max_registers", REGISTERS, Is(125), "Registers a request."),
    key("connections", Integer { min: 1, max: 16 }, Is(1), "Connections at once; a serial line has one."),
    key("write", WRITE, IsText("single"), "Which functions write: 5 and 6, or 15 and 16."),
    key("read_gaps", GAPS, Is(0), "Registers that nobody asked for and that a joined read may pass over."),
    key("check_transaction", Bool, IsBool(true), "A reply must echo the transaction number of its request."),
    key("unit", Map { names: &UNIT_NUMBER, of: &Table(UNIT) }, EmptyTable, "What differs for one unit.")
        .aka(&["units"]),
];

const TIMEOUT: Kind = duration(10, 5 * MINUTE);
const RETRIES: Kind = Integer { min: 0, max: 10 };
const PAUSE: Kind = duration(0, 10 * SECOND);
const REGISTERS: Kind = Integer { min: 1, max: 125 };
const WRITE: Kind = Word(WriteFunctions::WORDS);
const GAPS: Kind = Integer { min: 0, max: 124 };

static UNIT: &[Key] = &[
    key("timeout", TIMEOUT, Derived("the bus"), "For one request and its reply."),
    key("retries", RETRIES, Derived("the bus"), "Further attempts after the first."),
    key("pause", PAUSE, Derived("the bus"), "Silence between two requests."),
    key("max_registers", REGISTERS, Derived("the bus"), "Registers a request."),
    key("write", WRITE, Derived("the bus"), "Which functions write."),
    key("read_gaps", GAPS, Derived("the bus"), "Registers that a joined read may pass over."),
];

static SOURCE: &[Key] = &[
    key(
        "plugin",
        Text(&PLUGIN),
        Required("plugin = \"system\""),
        "Name of the plugin: a .wasm file in a plugin folder.",
    )
    .aka(&["type"]),
    key(
        "every",
        duration(10, 366 * DAY),
        Required("every = \"10s\""),
        "Period of the polls: at the start, then on multiples.",
    )
    .aka(&["interval", "period", "poll", "schedule", "scrape_interval", "poll_interval"]),
    key("allow", Table(ALLOW), EmptyTable, "What the plugin may touch; nothing by default.").aka(&[
        "grant",
        "grants",
        "permissions",
    ]),
    key("limits", Table(LIMITS), EmptyTable, "What the plugin may use.").aka(&["limit"]),
    key("topic", Text(&READINGS_TOPIC), Derived("mqtt.topic"), "Topic of its readings."),
    key("qos", QOS, Derived("mqtt.qos"), "Quality of service of its readings."),
    key("retain", Bool, Derived("mqtt.retain"), "Whether its readings are retained.").aka(&["retained"]),
    key("format", Word(Format::WORDS), Derived("mqtt.format"), "Payload format of its readings."),
    key("config", Free, EmptyTable, "Handed to the plugin, and checked by it.").aka(&["options", "settings"]),
];

static ALLOW: &[Key] = &[
    key("system", Bool, IsBool(false), "Statistics of the system."),
    key(
        "modbus",
        Map { names: &NAME, of: &Either(&[Bool, Table(GRANT)]) },
        EmptyTable,
        "Buses by name; true: reading on the whole bus.",
    )
    .aka(&["bus"]),
    key(
        "gpio",
        Either(&[List { of: &Text(&GPIO_LINE), min: 0 }, Table(LINES)]),
        EmptyTable,
        "Lines; a bare list: reading.",
    )
    .aka(&["lines"]),
];

static GRANT: &[Key] = &[
    key("units", List { of: &Integer { min: 0, max: 255 }, min: 1 }, Derived("every unit"), "Units on the bus.")
        .aka(&["unit"]),
    key(
        "read",
        Either(&[Bool, List { of: &Text(&READ_RANGE), min: 0 }]),
        IsBool(true),
        "What may be read; true: everything.",
    ),
    key(
        "write",
        Either(&[Bool, List { of: &Text(&WRITE_RANGE), min: 0 }]),
        IsBool(false),
        "What may be written; true: everything.",
    ),
];

static LINES: &[Key] = &[
    key("read", List { of: &Text(&GPIO_LINE), min: 0 }, EmptyList, "Lines that may be read."),
    key("write", List { of: &Text(&GPIO_LINE), min: 0 }, EmptyList, "Lines that may be set."),
];

static LIMITS: &[Key] = &[
    key("memory", Size { min: 64 * KIB, max: 4 << 30 }, IsText("64MiB"), "Linear memory."),
    key("time", duration(10, 10 * MINUTE), IsText("2s"), "One call of the plugin, without its waiting.")
        .aka(&["timeout"]),
];

/// Tables of single values by name: where a key that is out of place may belong.
pub(super) static HOMES: &[(&str, &[Key])] = &[
    ("[agent]", AGENT),
    ("[mqtt]", MQTT),
    ("[mqtt.topics]", TOPICS),
    ("[buffer]", BUFFER),
    ("[bus.NAME]", BUS),
    ("[source.NAME]", SOURCE),
    ("allow of [source.NAME]", ALLOW),
    ("limits of [source.NAME]", LIMITS),
];
