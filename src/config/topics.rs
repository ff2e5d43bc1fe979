//! No two things on one topic: every template, expanded, against every other. One thing is allowed and warned of: two
//! sources that were each given the same topic.

use super::context::{Context, KeyPath, Spot};
use super::diagnostic::Severity;
use super::resolve::Names;
use super::template::Template;

/// Something that is published, or subscribed to.
struct Claim {
    what: String,
    at: KeyPath,
    topic: Template,
    /// The source that it is about.
    source: Option<String>,
    is_meta: bool,
}

/// Reports every template that can make two things one topic, or a topic that can't be published to.
pub(super) fn rules(cx: &mut Context<'_>, sources: &[(String, Template)], names: &Names<'_>) {
    let readings: Vec<Claim> = sources.iter().map(|(source, topic)| readings(cx, source, topic)).collect();
    let sources: Vec<&str> = sources.iter().map(|(source, _)| source.as_str()).collect();
    let own = own_topics(names, &sources);
    let mut said = Vec::new();
    let base = KeyPath::of(&["mqtt", "base"]);
    let base_fault = names.template("{base}/").fault();
    let faults = readings.iter().chain(&own).filter_map(|claim| claim.topic.fault().map(|fault| (&claim.at, fault)));
    // A base that can't be used is one fault, not one a topic.
    let alone = base_fault.is_some();
    for (at, fault) in base_fault.map(|fault| (&base, fault)).into_iter().chain(faults.filter(|_| !alone)) {
        if !said.contains(at) {
            said.push(at.clone());
            cx.fault("bad-value", at, Spot::Value, fault);
        }
    }
    let own_from = readings.len();
    let claims: Vec<Claim> = readings.into_iter().chain(own).collect();
    for (first, second) in clashing(&claims) {
        let (Some(one), Some(other)) = (claims.get(first), claims.get(second)) else { continue };
        if first < own_from {
            report(cx, one, other);
        } else if one.at != other.at && !said.contains(&other.at) {
            said.push(other.at.clone());
            report(cx, other, one);
        }
    }
}

/// Pairs of claims that can be one topic, the lower index first; at most one new pair a claim.
///
/// Sorted by what stands before the first hole: two templates can only meet if one such beginning begins the other, so
/// those that a claim can meet follow it, and thousands of sources are no thousands of thousands of comparisons.
fn clashing(claims: &[Claim]) -> Vec<(usize, usize)> {
    let mut sorted: Vec<(&str, usize, &Claim)> =
        claims.iter().enumerate().map(|(index, claim)| (claim.topic.beginning(), index, claim)).collect();
    sorted.sort_by_key(|(beginning, index, _)| (*beginning, *index));
    let mut pairs = Vec::new();
    for (at, (beginning, index, claim)) in sorted.iter().enumerate() {
        let near = sorted.iter().skip(at + 1).take_while(|(other, ..)| other.starts_with(beginning));
        let mut meeting = near.filter(|(_, _, other)| clashes(claim, other));
        if let Some((_, other, _)) = meeting.next() {
            pairs.push((*index.min(other), *index.max(other)));
        }
    }
    pairs.sort_unstable();
    pairs
}

/// `{base}/{source}/{point}` is what people want, and takes the meta topic only for a point called `meta`: that point
/// is refused when the plugin declares it ([`super::Topics::takes`]).
fn clashes(claim: &Claim, other: &Claim) -> bool {
    if claim.is_meta {
        return !other.is_meta && clashes(other, claim) || claim.topic == other.topic;
    }
    let own_meta = other.is_meta && claim.source == other.source;
    claim.topic.overlaps(&other.topic)
        && !(own_meta && claim.topic.overlaps_by_a_word(&other.topic) && claim.topic != other.topic)
}

/// Two sources that were each given the same topic, word by word: no template brings them together by accident, and what
/// arrives there names its source. Readings of one that are retained hide those of the other.
fn is_meant(cx: &Context<'_>, claim: &Claim, other: &Claim) -> bool {
    let own =
        |claim: &Claim| claim.source.as_ref().is_some_and(|name| claim.at == own_key(name) && cx.is_written(&claim.at));
    own(claim) && own(other) && claim.topic == other.topic && !claim.topic.has_point()
}

fn own_key(source: &str) -> KeyPath {
    KeyPath::of(&["source", source, "topic"])
}

fn report(cx: &mut Context<'_>, claim: &Claim, other: &Claim) {
    if is_meant(cx, claim, other) {
        let message = format!("{} and {} have one topic, `{}`", claim.what, other.what, other.topic);
        let hint = "put {source} into it, unless whoever listens tells them apart by `source` in each message";
        cx.clash("shared-topic", &claim.at, (&other.at, "the other one"), message, hint);
        if let Some(last) = cx.found.last_mut() {
            last.severity = Severity::Warning;
        }
        return;
    }
    let message = format!("{} and {} can have one topic, `{}`", claim.what, other.what, other.topic);
    let hint = match (claim.topic.has_point(), &claim.source) {
        (true, _) => "put {source} before {point}",
        (false, Some(_)) => "put {source} into it, or give each a topic of its own",
        (false, None) => "give each a topic of its own",
    };
    cx.clash("topic-clash", &claim.at, (&other.at, "the other one"), message, hint);
}

fn readings(cx: &Context<'_>, source: &str, topic: &Template) -> Claim {
    let own = own_key(source);
    let common = KeyPath::of(&["mqtt", "topic"]);
    let at = if !cx.is_written(&own) && cx.is_written(&common) { common } else { own };
    Claim {
        what: format!("the readings of `{source}`"),
        at,
        topic: topic.clone(),
        source: Some(source.to_owned()),
        is_meta: false,
    }
}

/// Topics of the agent and, for each source, those beside its readings.
fn own_topics(names: &Names<'_>, sources: &[&str]) -> Vec<Claim> {
    let topics = &names.topics;
    let at = |key: &str| KeyPath::of(&["mqtt", "topics", key]);
    let mut claims = Vec::new();
    for (key, topic) in [("status", &topics.status), ("gaps", &topics.gaps)] {
        if let Some(topic) = topic.clone() {
            claims.push(Claim { what: format!("`{key}`"), at: at(key), topic, source: None, is_meta: false });
        }
    }
    for (key, topic) in [("meta", &topics.meta), ("command", &topics.command), ("reply", &topics.reply)] {
        for source in sources {
            if let Some(topic) = topic {
                claims.push(Claim {
                    what: format!("`{key}` of `{source}`"),
                    at: at(key),
                    topic: topic.of_source(source),
                    source: Some((*source).to_owned()),
                    is_meta: key == "meta",
                });
            }
        }
    }
    claims
}
