//! The forms that texts have in the file: names, paths, URLs, topics, addresses. Each is said, read and marked here once.

use std::path::Path;

use super::check::Checked;
use super::suggest::nearest;
use super::{address, template, url};

/// Longest name of anything.
const NAME_MAX: usize = 128;

/// Source names that would make a topic of another meaning.
pub(super) const RESERVED_NAMES: &[&str] = &["status", "gaps", "command", "reply"];

/// Why a text has not the form that it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub message: String,
    pub hint: Option<String>,
    /// The part of the text that it is about.
    pub part: Option<String>,
}

impl Fault {
    pub fn new(message: impl Into<String>) -> Fault {
        Fault { message: message.into(), hint: None, part: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }

    pub fn mark(mut self, part: &str) -> Fault {
        self.part = Some(part.to_owned());
        self
    }
}

/// How a text must look.
pub(super) struct Form {
    /// With its article: "a name".
    pub what: &'static str,
    /// Something right.
    pub example: &'static str,
    /// A regular expression for the schema; necessary, not always sufficient.
    pub pattern: &'static str,
    /// Reads it; the folder is the file's.
    pub read: fn(&str, &Path) -> Result<Checked, Fault>,
}

pub(super) static TEXT: Form =
    Form { what: "a text", example: "\"text\"", pattern: "^[^\\x00-\\x1f]+$", read: |text, _| plain(text) };

pub(super) static AGENT_ID: Form = Form {
    what: "a name",
    example: "\"press-7\"",
    pattern: "^[A-Za-z0-9._-]+$",
    read: |text, _| name(text, "._-").map(Checked::Text),
};

pub(super) static NAME: Form = Form {
    what: "a name",
    example: "\"boiler\"",
    pattern: "^[A-Za-z0-9_-]+$",
    read: |text, _| name(text, "_-").map(Checked::Text),
};

pub(super) static SOURCE_NAME: Form = Form {
    what: "a name",
    example: "\"boiler\"",
    pattern: "^(?!(status|gaps|command|reply)$)[A-Za-z0-9_-]+$",
    read: |text, _| source_name(text),
};

pub(super) static PLUGIN: Form = Form {
    what: "the name of a plugin",
    example: "\"system\"",
    pattern: "^[A-Za-z0-9_-][A-Za-z0-9._-]*$",
    read: |text, _| plugin(text),
};

pub(super) static UNIT_NUMBER: Form = Form {
    what: "the number of a unit",
    example: "7",
    pattern: "^(0|[1-9][0-9]{0,2})$",
    read: |text, _| unit_number(text),
};

pub(super) static PATH: Form = Form {
    what: "a path",
    example: "\"ca.pem\"",
    pattern: "^[^\\x00]+$",
    read: |text, folder| {
        if text.is_empty() || text.contains('\0') {
            return Err(Fault::new("a path can't be empty").hint("leave the key out for its default"));
        }
        Ok(Checked::Path(folder.join(text)))
    },
};

pub(super) static CREDENTIAL: Form = Form {
    what: "the name of a systemd credential",
    example: "\"mqtt-password\"",
    pattern: "^[A-Za-z0-9._-]+$",
    read: |text, _| name(text, "._-").map(Checked::Text),
};

pub(super) static MINISIGN_KEY: Form = Form {
    what: "a minisign public key",
    example: "\"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"",
    pattern: "^RW[A-Za-z0-9+/]{54}$",
    read: |text, _| minisign_key(text),
};

pub(super) static BROKER_URL: Form = Form {
    what: "the URL of a broker",
    example: "\"mqtts://broker.example:8883\"",
    pattern: "^(mqtts?|wss?)://|^unix:/",
    read: |text, _| url::broker_url(text).map(Checked::Broker),
};

pub(super) static PROXY_URL: Form = Form {
    what: "the URL of a proxy",
    example: "\"http://proxy:3128\"",
    pattern: "^(http|socks5)://",
    read: |text, _| url::proxy_url(text).map(Checked::Proxy),
};

pub(super) static BUS_URL: Form = Form {
    what: "the URL of a bus",
    example: "\"tcp://192.168.1.20:502\"",
    pattern: "^(tcp|rtu|rtu\\+tcp)://",
    read: |text, _| url::bus_url(text).map(Checked::Bus),
};

pub(super) static READ_RANGE: Form = Form {
    what: "a range of Modbus addresses",
    example: "\"holding:0-199\"",
    pattern: "^((coil|discrete|input|holding):[0-9]+(-[0-9]+)?|[0134][0-9]{4,5}(-[0134][0-9]{4,5})?)$",
    read: |text, _| address::address_range(text).map(Checked::Range),
};

pub(super) static WRITE_RANGE: Form = Form {
    what: "a range of Modbus addresses that can be written",
    example: "\"coil:3\"",
    pattern: "^((coil|holding):[0-9]+(-[0-9]+)?|[04][0-9]{4,5}(-[04][0-9]{4,5})?)$",
    read: |text, _| write_range(text),
};

pub(super) static GPIO_LINE: Form = Form {
    what: "a GPIO line",
    example: "\"gpiochip0:4\"",
    pattern: "^[^\\s]+$",
    read: |text, _| address::gpio_line(text).map(Checked::Line),
};

pub(super) static BASE: Form = Form {
    what: "the beginning of topics",
    example: "\"outstation/{agent}\"",
    pattern: "^[^+#]+$",
    read: |text, _| template::check(text, &["agent"], &[]).map(Checked::Text),
};

pub(super) static READINGS_TOPIC: Form = Form {
    what: "a topic",
    example: "\"{base}/{source}\"",
    pattern: "^[^+#]+$",
    read: |text, _| template::check(text, &["base", "agent", "source", "point"], &[]).map(Checked::Text),
};

pub(super) static AGENT_TOPIC: Form = Form {
    what: "a topic, or \"\" to turn it off",
    example: "\"{base}/status\"",
    pattern: "^[^+#]*$",
    read: |text, _| unless_empty(text, |text| template::check(text, &["base", "agent"], &[])),
};

pub(super) static SOURCE_TOPIC: Form = Form {
    what: "a topic with {source}, or \"\" to turn it off",
    example: "\"{base}/{source}/meta\"",
    pattern: "^$|^[^+#]*\\{source\\}[^+#]*$",
    read: |text, _| unless_empty(text, |text| template::check(text, &["base", "agent", "source"], &["source"])),
};

fn unless_empty(text: &str, check: fn(&str) -> Result<String, Fault>) -> Result<Checked, Fault> {
    if text.is_empty() { Ok(Checked::Text(String::new())) } else { check(text).map(Checked::Text) }
}

fn plain(text: &str) -> Result<Checked, Fault> {
    /// What a string of MQTT can hold.
    const TEXT_MAX: usize = 65_535;
    if text.is_empty() {
        return Err(Fault::new("this can't be empty").hint("leave the key out for its default"));
    }
    if text.len() > TEXT_MAX {
        return Err(Fault::new("this is longer than 65535 bytes"));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(Fault::new(format!("the control character {c:?} can't stand here"))),
        None => Ok(Checked::Text(text.to_owned())),
    }
}

/// Letters, digits, and some marks.
fn name(text: &str, marks: &str) -> Result<String, Fault> {
    let listed = marks.chars().map(String::from).collect::<Vec<_>>().join(" ");
    let rule = format!("letters, digits, {listed}");
    if text.is_empty() {
        return Err(Fault::new("a name can't be empty").hint(rule));
    }
    if text.len() > NAME_MAX {
        return Err(Fault::new(format!("a name has at most {NAME_MAX} characters")));
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || marks.contains(*c))) {
        Some(c) => Err(Fault::new(format!("`{}` can't stand in a name", c.escape_debug())).hint(rule)),
        None => Ok(text.to_owned()),
    }
}

fn source_name(text: &str) -> Result<Checked, Fault> {
    let found = name(text, "_-")?;
    if RESERVED_NAMES.contains(&text) {
        let fault = Fault::new(format!("a source can't be called `{text}`: the agent's own topics are"));
        return Err(fault.hint(format!("another name; taken are {}", RESERVED_NAMES.join(", "))));
    }
    Ok(Checked::Text(found))
}

fn plugin(text: &str) -> Result<Checked, Fault> {
    if let Some(stem) = text.strip_suffix(".wasm") {
        let stem = stem.rsplit('/').next().unwrap_or(stem);
        return Err(Fault::new("a plugin is named without `.wasm`").hint(format!("write \"{stem}\"")));
    }
    if text.contains('/') || text.starts_with('.') {
        let fault = Fault::new("a plugin is named, not its path");
        return Err(fault.hint("a name; folders with plugins stand in agent.plugin_dirs"));
    }
    name(text, "._-").map(Checked::Text)
}

fn unit_number(text: &str) -> Result<Checked, Fault> {
    let wrong = || Fault::new(format!("`{}` is no unit", text.escape_debug())).hint("a number from 0 to 255");
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) || (text.len() > 1 && text.starts_with('0')) {
        return Err(wrong());
    }
    text.parse::<u8>().map(|unit| Checked::Integer(unit.into())).map_err(|_| wrong())
}

fn minisign_key(text: &str) -> Result<Checked, Fault> {
    /// 42 bytes in base64: algorithm, key number, key.
    const KEY_LENGTH: usize = 56;
    let base64 = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'));
    if text.len() == KEY_LENGTH && text.starts_with("RW") && base64 {
        return Ok(Checked::Text(text.to_owned()));
    }
    let fault = Fault::new("this is no minisign public key");
    Err(fault.hint("the second line of minisign.pub: 56 characters that begin with RW"))
}

fn write_range(text: &str) -> Result<Checked, Fault> {
    let range = address::address_range(text)?;
    if range.table.is_writable() {
        return Ok(Checked::Range(range));
    }
    let fault = Fault::new(format!("{} registers can't be written, on any device", range.table.word()));
    Err(fault.hint("only coil and holding can be granted for writing"))
}

/// A word out of few.
pub(super) fn word(text: &str, words: &'static [&'static str]) -> Result<&'static str, Fault> {
    if let Some(word) = words.iter().find(|word| **word == text) {
        return Ok(word);
    }
    let listed = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let fault = Fault::new(format!("`{}` is not known here", text.escape_debug()));
    Err(match nearest(text, words.iter().copied()) {
        Some(meant) if words.len() > 1 => fault.hint(format!("did you mean \"{meant}\"? One of {listed}")),
        _ if words.len() == 1 => fault.hint(format!("only {listed}")),
        _ => fault.hint(format!("one of {listed}")),
    })
}
