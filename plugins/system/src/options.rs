//! The source's `config` table: which points are wanted.

use outstation_sdk::Problems;
use outstation_sdk::config::{Value, suggestion};

/// The first part of every point's name.
const GROUPS: [&str; 10] = ["cpu", "load", "memory", "swap", "disk", "io", "net", "temperature", "uptime", "agent"];
/// Names of processes, and of services: what the host answers at once.
const NAMES_MAX: usize = 64;

/// Which points are wanted.
pub struct Options {
    groups: Vec<String>,
    exclude: Vec<String>,
    /// Names of processes that are wanted.
    pub processes: Vec<String>,
    /// Names of units of systemd that are wanted.
    pub services: Vec<String>,
}

impl Options {
    /// `check` has accepted the table.
    pub fn new(config: &Value) -> Self {
        let texts = |key| {
            let elements = config.get(key)?.as_array()?;
            Some(elements.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        };
        let all = || GROUPS.iter().map(|&group| group.to_owned()).collect();
        Self {
            groups: texts("groups").unwrap_or_else(all),
            exclude: texts("exclude").unwrap_or_default(),
            processes: texts("processes").unwrap_or_default(),
            services: texts("services").unwrap_or_default(),
        }
    }

    /// Whether this group is wanted.
    pub fn wants(&self, group: &str) -> bool {
        self.groups.iter().any(|wanted| wanted == group)
    }

    /// Whether this point is not wanted.
    pub fn excludes(&self, id: &str) -> bool {
        self.exclude.iter().any(|pattern| matches(pattern, id))
    }
}

/// What is wrong with the table.
pub fn check(config: &Value, problems: &mut Problems) {
    let examples = [
        ("groups", "[\"cpu\", \"memory\"]"),
        ("exclude", "[\"net.veth*\"]"),
        ("processes", "[\"mosquitto\"]"),
        ("services", "[\"ssh\", \"chrony\"]"),
    ];
    problems.unknown_keys("", config, &examples.map(|(key, _)| key));
    for (key, example) in examples {
        let Some(value) = config.get(key) else { continue };
        let Some(elements) = value.as_array() else {
            let message = format!("`{key}` is an array of strings, not {}", value.kind());
            problems.add_with_hint(&format!("/{key}"), message, format!("write {key} = {example}"));
            continue;
        };
        let names = matches!(key, "processes" | "services");
        if names && elements.len() > NAMES_MAX {
            let message = format!("{} names; at most {NAMES_MAX}", elements.len());
            problems.add_with_hint(&format!("/{key}"), message, "make a second source of them");
        }
        for (index, element) in elements.iter().enumerate() {
            let path = format!("/{key}/{index}");
            match element.as_str() {
                None => problems.add(&path, format!("a string belongs here, not {}", element.kind())),
                Some(group) if key == "groups" && !GROUPS.contains(&group) => {
                    problems.add_with_hint(&path, format!("there is no group `{group}`"), suggestion(group, &GROUPS));
                }
                Some("") if names => problems.add(&path, "a name can't be empty"),
                Some(name) if key == "services" && !is_unit_name(name) => {
                    problems.add_with_hint(
                        &path,
                        format!("`{name}` is no name of a unit"),
                        "as `systemctl status NAME` takes it",
                    );
                }
                Some(_) => {}
            }
        }
    }
}

/// What systemd.unit(5) allows, and what is no option.
fn is_unit_name(name: &str) -> bool {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || ":-_.\\@".contains(letter);
    !name.starts_with('-') && name.chars().all(allowed)
}

/// `*` stands for any text, none included.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(head) else { return false };
    (0..=rest.len()).filter_map(|at| rest.get(at..)).any(|rest| matches(tail, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        assert!(matches("net.veth*", "net.veth1a.rx_bytes"));
        assert!(matches("*.rx_errors", "net.eth0.rx_errors"));
        assert!(matches("cpu", "cpu"));
        assert!(!matches("cpu", "cpu.0"));
        assert!(!matches("disk.*.used", "disk.root.total"));
        assert!(matches("*", ""));
    }

    #[test]
    fn all_problems_are_found() {
        let config = Value::Table(vec![
            ("group".to_owned(), Value::Null),
            ("groups".to_owned(), Value::Array(vec![Value::Text("cpus".to_owned()), Value::Integer(1)])),
            ("exclude".to_owned(), Value::Text("x".to_owned())),
        ]);
        // The list itself is checked through the host, which is where problems are seen.
        let options = Options::new(&Value::Table(Vec::new()));
        assert!(options.wants("cpu") && !options.wants("cpus") && !options.excludes("cpu"));
        let narrow = Options::new(&config);
        assert!(narrow.wants("cpus") && !narrow.wants("disk"));
    }
}
