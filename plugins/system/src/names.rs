//! What the machine calls its parts, as parts of point names.

use std::collections::{BTreeMap, BTreeSet};

/// Gives each part of the machine a name that is safe in a point, and its own for as long as the plugin lives.
#[derive(Default)]
pub struct Names {
    given: BTreeMap<(&'static str, String), String>,
    taken: BTreeSet<(&'static str, String)>,
}

impl Names {
    /// The name of `part` in `group`; of two parts that would get the same, the later gets `-2`.
    pub fn of(&mut self, group: &'static str, part: &str) -> String {
        let key = (group, part.to_owned());
        if let Some(name) = self.given.get(&key) {
            return name.clone();
        }
        let base = safe(part);
        let mut name = base.clone();
        let mut number = 2u32;
        while !self.taken.insert((group, name.clone())) {
            name = format!("{base}-{number}");
            number += 1;
        }
        self.given.insert(key, name.clone());
        name
    }
}

/// The name of what is mounted on `path`: `root` for `/`, `var-log` for `/var/log`.
pub fn of_mount(path: &str) -> &str {
    if path == "/" { "root" } else { path.trim_start_matches('/') }
}

/// The name of a unit: `ssh` for `ssh.service`.
pub fn of_unit(name: &str) -> &str {
    name.strip_suffix(".service").unwrap_or(name)
}

/// Letters, digits, `_` and `-` stay; whatever else stands there becomes one `-`. A dot would divide the point's name.
fn safe(part: &str) -> String {
    let mut name = String::new();
    for letter in part.chars() {
        if letter.is_ascii_alphanumeric() || letter == '_' {
            name.push(letter);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_matches('-');
    if name.is_empty() { "unnamed".to_owned() } else { name.chars().take(64).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe() {
        assert_eq!(safe(of_mount("/")), "root");
        assert_eq!(safe(of_mount("/var/log")), "var-log");
        assert_eq!(safe("coretemp Package id 0"), "coretemp-Package-id-0");
        assert_eq!(safe("eth0.100"), "eth0-100");
        assert_eq!(safe("wlp0s20f3_x"), "wlp0s20f3_x");
        assert_eq!(safe("/mnt/ü ö"), "mnt");
        assert_eq!(safe("°"), "unnamed");
    }

    #[test]
    fn duplicates_are_kept_apart_and_keep_their_names() {
        let mut names = Names::default();
        assert_eq!(names.of("disk", "var/log"), "var-log");
        assert_eq!(names.of("disk", "var-log"), "var-log-2");
        assert_eq!(names.of("disk", "var log"), "var-log-3");
        assert_eq!(names.of("net", "var-log"), "var-log");
        assert_eq!(names.of("disk", "var-log"), "var-log-2");
    }
}
