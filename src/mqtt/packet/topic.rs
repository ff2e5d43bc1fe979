//! Topic names and topic filters: what is well formed (4.7), and which name a filter matches.

/// The longest topic, in bytes. [MQTT-4.7.3-3]
pub const TOPIC_MAX: usize = 65_535;

/// Whether it can be published to: not empty [MQTT-4.7.3-1], no U+0000 [MQTT-4.7.3-2], no wildcard [MQTT-3.3.2-2].
pub fn is_valid_name(name: &str) -> bool {
    is_well_formed(name) && !name.bytes().any(|byte| matches!(byte, b'+' | b'#'))
}

/// Whether it can be subscribed to. [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.8.2-1] [MQTT-4.8.2-2]
pub fn is_valid_filter(filter: &str) -> bool {
    if !is_well_formed(filter) {
        return false;
    }
    let plain = match filter.strip_prefix("$share/") {
        // [MQTT-4.8.2-1]: a share name of at least one character without wildcards, [MQTT-4.8.2-2]: then a filter.
        Some(shared) => match shared.split_once('/') {
            Some((name, rest)) if !name.is_empty() && !rest.is_empty() && !name.contains(['+', '#']) => rest,
            _ => return false,
        },
        None => filter,
    };
    let mut levels = plain.split('/').peekable();
    while let Some(level) = levels.next() {
        match level {
            // [MQTT-4.7.1-1]: alone in the last level.
            "#" => return levels.peek().is_none(),
            // [MQTT-4.7.1-2]: alone in any level.
            "+" => {}
            _ if level.contains(['+', '#']) => return false,
            _ => {}
        }
    }
    true
}

/// Whether a filter is of the form `$share/{name}/{filter}`.
pub fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// Whether a filter (without `$share`) matches a name. [MQTT-4.7.2-1] [MQTT-4.7.3-4]
pub fn matches(filter: &str, name: &str) -> bool {
    // [MQTT-4.7.2-1]: a leading wildcard matches nothing that the server keeps to itself.
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = name.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true; // also the parent: `a/#` matches `a`
        }
        match names.next() {
            Some(part) if level == "+" || level == part => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

fn is_well_formed(text: &str) -> bool {
    !text.is_empty() && text.len() <= TOPIC_MAX && !text.as_bytes().contains(&0)
}
