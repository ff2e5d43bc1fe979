//! What the configuration says about commands: who there is, and where answers may go.

use std::collections::BTreeSet;

use crate::config::{Settings, Template, Topics};

/// Bytes of a response topic.
const RESPONSE_TOPIC_MAX: usize = 1024;

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// All sources that are configured.
    pub sources: BTreeSet<String>,
    /// `[mqtt.topics]`.
    topics: Option<Topics>,
    /// `mqtt.base`.
    base: String,
    /// Topics of readings, `{source}` filled in.
    readings: BTreeSet<String>,
}

impl Rules {
    /// Of a configuration.
    pub fn new(settings: &Settings) -> Self {
        let mqtt = settings.mqtt.as_ref();
        Self {
            sources: settings.sources.keys().cloned().collect(),
            topics: mqtt.map(|mqtt| mqtt.topics.clone()),
            base: mqtt.map(|mqtt| mqtt.base.clone()).unwrap_or_default(),
            readings: settings.sources.values().map(|source| source.topic.for_source(&source.name)).collect(),
        }
    }

    /// Where answers about a source go that name no topic of their own.
    pub fn reply_topic(&self, source: &str) -> Option<String> {
        self.topics.as_ref()?.reply.as_ref().map(|reply| reply.for_source(source))
    }

    /// Why no answer goes to a response topic: whoever sends a command must not be able to write, in the agent's name,
    /// where the agent itself speaks or listens.
    pub fn refuses(&self, topic: &str) -> Option<&'static str> {
        if topic.is_empty() || topic.len() > RESPONSE_TOPIC_MAX || topic.contains(['+', '#', '\0']) {
            return Some("the response topic is no topic of at most 1024 bytes without wildcards");
        }
        if topic.starts_with('$') {
            return Some("the response topic begins with $: such topics belong to the broker");
        }
        let Some(topics) = &self.topics else { return None };
        let is_reply = topics.reply.as_ref().is_some_and(|reply| meets(reply.as_str(), topic));
        let own = [&topics.status, &topics.meta, &topics.gaps, &topics.command];
        let is_own = own.into_iter().flatten().any(|template: &Template| meets(template.as_str(), topic))
            || self.readings.iter().any(|reading| meets(reading, topic))
            || (!self.base.is_empty() && topic.strip_prefix(&self.base).is_some_and(|rest| rest.starts_with('/')));
        (is_own && !is_reply).then_some("the response topic is one of the agent's own")
    }
}

/// Whether a template, its holes filled with anything, can be that topic.
fn meets(template: &str, topic: &str) -> bool {
    let (mut left, mut right) = (template.split('/'), topic.split('/'));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b || a.contains('{') => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn rules(text: &str) -> Rules {
        let input = config::Input { path: "agent.toml".into(), text: text.into() };
        let environment = config::Environment {
            host_name: "press".into(),
            default_data_dir: "/data".into(),
            default_plugin_dirs: vec!["/plugins".into()],
        };
        let loaded = config::load(&[input], &environment);
        Rules::new(&loaded.settings.expect("settings"))
    }

    #[test]
    fn answers_go_where_the_agent_does_not_speak() {
        let rules = rules(
            "[agent]\nid = \"a\"\n[mqtt]\nurl = \"mqtt://b\"\n[source.s]\nplugin = \"p\"\nevery = \"1s\"\n\
             topic = \"plant/{source}/{point}\"\n",
        );
        assert_eq!(rules.reply_topic("s").as_deref(), Some("outstation/a/reply/s"));
        for good in ["app/answers/17", "outstation/a/reply/s", "outstation/b/status", "outstation", "plant/s"] {
            assert_eq!(rules.refuses(good), None, "{good}");
        }
        let long = "x".repeat(RESPONSE_TOPIC_MAX + 1);
        for bad in [
            "",
            "a/+",
            "#",
            "$SYS/x",
            "outstation/a/status",
            "outstation/a/gaps",
            "outstation/a/s/meta",
            "outstation/a/command/s",
            "outstation/a/anything",
            "plant/s/flow",
            long.as_str(),
        ] {
            assert!(rules.refuses(bad).is_some(), "{bad}");
        }
    }
}
