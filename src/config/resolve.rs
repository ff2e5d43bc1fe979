//! From checked values to [`Settings`]: defaults that follow from others, and rules between keys.
//!
//! The rules come first and look at what there is; then each section is put together, or not, if something in it is
//! missing or was refused. Either way every rule has been looked at.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Sound;
use super::check::Fields;
use super::context::{Context, KeyPath, Spot};
use super::listing::quoted;
use super::sections::ROOT;
use super::settings::{
    Agent, Buffer, Engine, LogLevel, Mqtt, MqttAuth, MqttVersion, Secret, Settings, Signatures, Sync, Topics, WhenFull,
};
use super::template::Template;
use super::url::BrokerUrl;
use super::{devices, topics};

/// Host names that came with an image, and that many machines share.
const COMMON_HOST_NAMES: &[&str] = &[
    "localhost",
    "debian",
    "raspberrypi",
    "raspbian",
    "ubuntu",
    "armbian",
    "openwrt",
    "buildroot",
    "beaglebone",
    "orangepi",
    "bananapi",
    "nanopi",
    "rockpi",
    "jetson",
    "fedora",
    "archlinux",
    "alarm",
    "yocto",
    "poky",
    "linux",
    "gateway",
    "host",
    "(none)",
];

/// A whole configuration, `None` only if an error was reported; and what of it is sound in any case.
pub(super) fn settings(cx: &mut Context<'_>) -> (Option<Settings>, Sound) {
    let tree = &cx.written.tree;
    let root = cx.table(&KeyPath::root(), Some(tree), ROOT);
    let nothing = Fields::default();
    let section = |name: &str| root.table(name).unwrap_or(&nothing);
    let (agent, mqtt) = (section("agent"), section("mqtt"));
    let id = agent_id(cx, agent);
    let has_mqtt = cx.is_written(&KeyPath::of(&["mqtt"]));
    agent_rules(cx, agent);
    if has_mqtt {
        mqtt_rules(cx, mqtt);
    }
    let names = Names::of(mqtt, id.as_deref().unwrap_or("-"));
    let buses = devices::buses(cx, section("bus"));
    let sources = devices::sources(cx, section("source"), section("bus"), &names);
    devices::rules(cx, section("source"), section("buffer"), mqtt);
    topics::rules(cx, &devices::topics(section("source"), &names), &names);
    if !has_mqtt {
        cx.listing.forget("mqtt.");
    }
    let mqtt = has_mqtt.then(|| build_mqtt(cx, mqtt, &names, id.as_deref()));
    let agent = build_agent(cx, agent, id);
    let named = devices::plugins(section("source"));
    let plugin_dirs = agent.as_ref().map(|agent| agent.plugin_dirs.clone());
    let sound = Sound { plugin_dirs, plugins: named, sources: sources.iter().flatten().cloned().collect() };
    let settings = || {
        Some(Settings {
            agent: agent?,
            mqtt: match mqtt {
                Some(mqtt) => Some(mqtt?),
                None => None,
            },
            buffer: build_buffer(section("buffer"))?,
            buses: buses.into_iter().collect::<Option<BTreeMap<_, _>>>()?,
            sources: sources.into_iter().map(|source| source.map(|s| (s.name.clone(), s))).collect::<Option<_>>()?,
        })
    };
    (settings(), sound)
}

/// What topics are made of.
pub(super) struct Names<'a> {
    pub mqtt: &'a Fields,
    pub agent: String,
    pub base: String,
    pub topics: Topics,
}

impl<'a> Names<'a> {
    fn of(mqtt: &'a Fields, agent: &str) -> Names<'a> {
        let base = mqtt.value::<String>("base").unwrap_or_default().replace("{agent}", agent);
        let named = |key: &str| {
            let text: String = mqtt.table("topics").and_then(|topics| topics.value(key)).unwrap_or_default();
            (!text.is_empty()).then(|| Template::new(&text, &base, agent))
        };
        let topics = Topics {
            status: named("status"),
            meta: named("meta"),
            gaps: named("gaps"),
            command: named("command"),
            reply: named("reply"),
        };
        Names { mqtt, agent: agent.to_owned(), base, topics }
    }

    pub fn template(&self, text: &str) -> Template {
        Template::new(text, &self.base, &self.agent)
    }
}

fn agent_id(cx: &mut Context<'_>, agent: &Fields) -> Option<String> {
    let at = KeyPath::of(&["agent", "id"]);
    if cx.is_written(&at) {
        return agent.value("id");
    }
    let host = cx.env.host_name.clone();
    let short = host.split('.').next().unwrap_or_default().to_lowercase();
    let is_common = COMMON_HOST_NAMES.contains(&short.as_str()) || COMMON_HOST_NAMES.contains(&host.as_str());
    let hint = "set it: id = \"press-7\" in [agent]";
    if (super::forms::AGENT_ID.read)(&host, std::path::Path::new("")).is_err() {
        let message = format!("the host name `{}` can't be the agent's id", host.escape_debug());
        cx.error("bad-value", &at, Spot::Value, message, Some(hint.to_owned()));
        return None;
    }
    if is_common {
        let message = format!("the agent's id is the host name, and `{host}` is the name of many machines");
        cx.warning("common-host-name", &at, &message, hint);
    }
    cx.listing.derive(&at, quoted(&host));
    Some(host)
}

fn agent_rules(cx: &mut Context<'_>, agent: &Fields) {
    let at = KeyPath::of(&["agent", "plugin_signatures"]);
    let without_keys = agent.value::<Vec<String>>("plugin_keys").is_some_and(|keys| keys.is_empty());
    match agent.value::<Signatures>("plugin_signatures") {
        Some(Signatures::Require) if without_keys => {
            let message = "signatures are required, but there is no key to check them with".to_owned();
            cx.error("missing-key", &at, Spot::Value, message, Some("set plugin_keys as well".to_owned()));
        }
        Some(Signatures::Warn) if without_keys => {
            cx.warning("no-plugin-keys", &at, "without plugin_keys every plugin gets this warning", "set plugin_keys");
        }
        _ => {}
    }
}

fn build_agent(cx: &mut Context<'_>, agent: &Fields, id: Option<String>) -> Option<Agent> {
    let at = |key| KeyPath::of(&["agent", key]);
    let shown = |path: &PathBuf| quoted(&path.to_string_lossy());
    let (data, plugins) = (cx.env.default_data_dir.clone(), cx.env.default_plugin_dirs.clone());
    cx.listing.derive(&at("data_dir"), shown(&data));
    let listed = plugins.iter().map(shown).collect::<Vec<_>>().join(", ");
    cx.listing.derive(&at("plugin_dirs"), format!("[{listed}]"));
    Some(Agent {
        id: id?,
        data_dir: agent.value("data_dir").unwrap_or(data),
        plugin_dirs: agent.value("plugin_dirs").unwrap_or(plugins),
        log: agent.value::<LogLevel>("log")?,
        engine: agent.value::<Engine>("engine")?,
        plugin_signatures: agent.value("plugin_signatures")?,
        plugin_keys: agent.value("plugin_keys")?,
    })
}

fn mqtt_rules(cx: &mut Context<'_>, mqtt: &Fields) {
    let section = KeyPath::of(&["mqtt"]);
    let at = |key| section.key(key);
    let (url, urls) = (cx.is_written(&at("url")), cx.is_written(&at("urls")));
    let misspelt = cx.misspelt.contains(&at("url")) || cx.misspelt.contains(&at("urls"));
    if !url && !urls && !misspelt {
        let hint = "add url = \"mqtts://broker.example:8883\"; without [mqtt] readings are only buffered".to_owned();
        cx.error("missing-key", &section, Spot::Value, "`url` is missing in [mqtt]".to_owned(), Some(hint));
    }
    exclusive(cx, "url", "urls");
    exclusive(cx, "password_file", "credential");
    exclusive(cx, "proxy_password_file", "proxy_credential");
    needs(cx, "password_file", "username");
    needs(cx, "credential", "username");
    if mqtt.value::<MqttAuth>("auth") == Some(MqttAuth::ScramSha256) {
        // A password asks for its user name itself.
        if !cx.is_written(&at("credential")) {
            needs(cx, "auth", "password_file");
        }
    }
    needs(cx, "cert_file", "key_file");
    needs(cx, "key_file", "cert_file");
    needs(cx, "proxy_username", "proxy");
    needs(cx, "proxy_password_file", "proxy_username");
    needs(cx, "proxy_credential", "proxy_username");
    if let Some(wait) = mqtt.table("reconnect") {
        let (min, max) = (wait.value::<std::time::Duration>("min"), wait.value::<std::time::Duration>("max"));
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            let wait = at("reconnect");
            let key = if cx.is_written(&wait.key("max")) { "max" } else { "min" };
            let message = "the longest wait is shorter than the first".to_owned();
            cx.error("bad-value", &wait.key(key), Spot::Value, message, Some("min is at most max".to_owned()));
        }
    }
    let Some(brokers) = brokers(mqtt) else { return };
    let has_password = cx.is_written(&at("password_file")) || cx.is_written(&at("credential"));
    if has_password && let Some(index) = brokers.iter().position(BrokerUrl::is_plain_link) {
        let place = if url { at("url") } else { at("urls").key(&index.to_string()) };
        let hint = "use mqtts:// or wss://";
        cx.warning("plain-password", &place, "the password goes over a link that others can read", hint);
    }
    if !brokers.iter().any(|url| url.scheme.is_tls()) {
        for key in ["ca_file", "cert_file", "alpn"] {
            if cx.is_written(&at(key)) {
                let message = format!("`{key}` has no effect: no url here uses TLS");
                cx.warning("no-effect", &at(key), &message, "use mqtts:// or wss://, or take it out");
            }
        }
    }
}

fn exclusive(cx: &mut Context<'_>, one: &str, other: &str) {
    let at = |key| KeyPath::of(&["mqtt", key]);
    if cx.is_written(&at(one)) && cx.is_written(&at(other)) {
        let message = format!("`{one}` and `{other}` exclude each other");
        cx.clash("conflict", &at(other), (&at(one), "the other one"), message, "keep one of them");
    }
}

fn needs(cx: &mut Context<'_>, key: &str, other: &str) {
    let at = |key| KeyPath::of(&["mqtt", key]);
    if cx.is_written(&at(key)) && !cx.is_written(&at(other)) {
        let message = format!("`{key}` needs `{other}` as well");
        cx.error("missing-key", &at(key), Spot::Key, message, Some(format!("add {other}")));
    }
}

fn brokers(mqtt: &Fields) -> Option<Vec<BrokerUrl>> {
    mqtt.value("urls").or_else(|| mqtt.value("url").map(|url| vec![url]))
}

fn build_mqtt(cx: &mut Context<'_>, mqtt: &Fields, names: &Names<'_>, id: Option<&str>) -> Option<Mqtt> {
    let secret = |file: &str, credential: &str| {
        let file = mqtt.value(file).map(Secret::File);
        file.or_else(|| mqtt.value(credential).map(Secret::Credential))
    };
    let id = id?;
    cx.listing.derive(&KeyPath::of(&["mqtt", "client_id"]), quoted(id));
    let reconnect = mqtt.table("reconnect")?;
    Some(Mqtt {
        urls: brokers(mqtt)?,
        urls_share_session: mqtt.value("urls_share_session")?,
        redirects: mqtt.value("redirects")?,
        version: mqtt.value::<MqttVersion>("version")?,
        client_id: mqtt.value("client_id").unwrap_or_else(|| id.to_owned()),
        auth: mqtt.value::<MqttAuth>("auth")?,
        username: mqtt.value("username"),
        password: secret("password_file", "credential"),
        ca_file: mqtt.value("ca_file"),
        cert_file: mqtt.value("cert_file"),
        key_file: mqtt.value("key_file"),
        alpn: mqtt.value("alpn")?,
        proxy: mqtt.value("proxy"),
        proxy_username: mqtt.value("proxy_username"),
        proxy_password: secret("proxy_password_file", "proxy_credential"),
        keep_alive: mqtt.value("keep_alive")?,
        connect_timeout: mqtt.value("connect_timeout")?,
        reconnect_min: reconnect.value("min")?,
        reconnect_max: reconnect.value("max")?,
        session_expiry: mqtt.value("session_expiry")?,
        max_message: mqtt.value("max_message")?,
        base: names.base.clone(),
        topics: names.topics.clone(),
    })
}

fn build_buffer(buffer: &Fields) -> Option<Buffer> {
    Some(Buffer {
        max_size: buffer.value("max_size")?,
        max_age: match buffer.value::<&'static str>("max_age") {
            Some(_never) => None,
            None => Some(buffer.value("max_age")?),
        },
        sync: sync(buffer)?,
        when_full: buffer.value::<WhenFull>("when_full")?,
        replay_rate: buffer.value("replay_rate")?,
    })
}

pub(super) fn sync(buffer: &Fields) -> Option<Sync> {
    match buffer.value::<&'static str>("sync") {
        Some(_always) => Some(Sync::Always),
        None => buffer.value("sync").map(Sync::Every),
    }
}
