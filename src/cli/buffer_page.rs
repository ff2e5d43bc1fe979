//! How `outstation buffer` shows what it found: for people, and as JSON. Pure.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::reading::Timestamp;
use crate::spool::{BootView, Fault, Gap, SegmentKind, SegmentView, Storage, View};

fn time(ns: i64) -> String {
    Timestamp(ns).rfc3339()
}

fn kind(segment: &SegmentView) -> &'static str {
    match segment.kind {
        SegmentKind::Open => "open",
        SegmentKind::Unsealed => "unsealed",
        SegmentKind::Sealed => "sealed",
        SegmentKind::Packed => "packed",
    }
}

fn store(store: [u8; 4]) -> String {
    format!("{:08x}", u32::from_be_bytes(store))
}

/// For people.
pub(super) fn page<S: Storage>(folder: &Path, holder: Option<u32>, view: &View<S>, segments: &[SegmentView]) -> String {
    let mut out = String::new();
    let held = holder.map_or_else(|| "no agent runs on it".to_owned(), |pid| format!("process {pid} runs on it"));
    // Writing to a string does not fail.
    let _ = writeln!(out, "buffer    {}, {held}", folder.display());
    let Some((name, boot)) = view.name_and_boot() else {
        out.push_str("          nothing is in it\n");
        return out;
    };
    let _ = writeln!(out, "store     {}, boot {boot}", store(name));
    let stats = view.stats();
    let oldest = stats.oldest_ns.filter(|_| stats.buffered > 0).map(|ns| format!(", oldest of {}", time(ns)));
    let _ = writeln!(
        out,
        "messages  {} to be delivered{}; {} accepted, {} delivered, {} dropped",
        stats.buffered,
        oldest.unwrap_or_default(),
        stats.accepted,
        stats.delivered,
        stats.dropped
    );
    let delivery = view.delivery();
    let _ = writeln!(
        out,
        "delivery  session {}: number {} is the first not done, {} the first never sent, {} released{}{}",
        delivery.session(),
        delivery.done_below(),
        delivery.sent_below(),
        delivery.released().len(),
        if delivery.connecting() { ", a CONNECT was never answered" } else { "" },
        if delivery.clean() { ", the session is not trusted" } else { "" },
    );
    if view.open_gaps() > 0 {
        let _ = writeln!(out, "gaps      {} have no number yet", view.open_gaps());
    }
    for (owner, count, bytes) in view.values() {
        let _ = writeln!(out, "values    {owner}: {count}, {bytes} bytes");
    }
    let aside: u64 = view.set_aside().iter().map(|(_, bytes)| bytes).sum();
    let _ = writeln!(
        out,
        "files     {} segments, {} free, {} copies of damaged places ({aside} bytes), {} bytes together",
        segments.len(),
        view.free(),
        view.set_aside().len(),
        stats.bytes
    );
    for segment in segments {
        let _ = writeln!(
            out,
            "segment   {} in {}, {}, {} bytes, {} of {} messages to be delivered",
            segment.number,
            segment.file,
            kind(segment),
            segment.bytes,
            segment.pending,
            segment.end.saturating_sub(segment.first)
        );
        segment.boots.iter().for_each(|boot| boot_lines(&mut out, boot));
    }
    out
}

fn boot_lines(out: &mut String, boot: &BootView) {
    let _ = write!(out, "          boot {}, seq {} to {}", boot.boot, boot.first, boot.last);
    for (source, messages, from, to) in &boot.sources {
        let _ = write!(out, "; {source} {messages}, {} to {}", time(*from), time(*to));
    }
    if boot.gaps > 0 {
        let _ = write!(out, "; {} gaps", boot.gaps);
    }
    out.push('\n');
}

/// For programs.
pub(super) fn page_json<S: Storage>(
    folder: &Path,
    holder: Option<u32>,
    view: &View<S>,
    segments: &[SegmentView],
) -> Value {
    let (stats, delivery) = (view.stats(), view.delivery());
    let (name, boot) = view.name_and_boot().unzip();
    let values: Vec<Value> = view
        .values()
        .into_iter()
        .map(|(owner, count, bytes)| json!({ "owner": owner, "count": count, "bytes": bytes }))
        .collect();
    let aside: Vec<Value> =
        view.set_aside().iter().map(|(file, bytes)| json!({ "file": file, "bytes": bytes })).collect();
    json!({
        "folder": folder.display().to_string(),
        "process": holder,
        "store": name.map(store),
        "boot": boot,
        "bytes": stats.bytes,
        "messages": {
            "accepted": stats.accepted,
            "delivered": stats.delivered,
            "dropped": stats.dropped,
            "pending": stats.buffered,
            "oldest": stats.oldest_ns.filter(|_| stats.buffered > 0).map(time),
        },
        "delivery": {
            "session": delivery.session(),
            "done_below": delivery.done_below(),
            "sent_below": delivery.sent_below(),
            "released": delivery.released(),
            "connecting": delivery.connecting(),
            "trusted": !delivery.clean(),
            "maybe_duplicated": delivery.maybe_duplicated(),
        },
        "gaps_without_number": view.open_gaps(),
        "values": values,
        "free_files": view.free(),
        "set_aside": aside,
        "segments": segments.iter().map(segment_json).collect::<Vec<_>>(),
    })
}

fn segment_json(segment: &SegmentView) -> Value {
    json!({
        "number": segment.number,
        "file": segment.file,
        "kind": kind(segment),
        "bytes": segment.bytes,
        "first": segment.first,
        "last": segment.end.saturating_sub(1).max(segment.first),
        "messages": segment.end.saturating_sub(segment.first),
        "pending": segment.pending,
        "boots": segment.boots.iter().map(boot_json).collect::<Vec<_>>(),
    })
}

fn boot_json(boot: &BootView) -> Value {
    let source = |(name, messages, from, to): &(String, u64, i64, i64)| {
        (name.clone(), json!({ "messages": messages, "from": time(*from), "to": time(*to) }))
    };
    let sources: Map<String, Value> = boot.sources.iter().map(source).collect();
    json!({ "boot": boot.boot, "first": boot.first, "last": boot.last, "gaps": boot.gaps, "sources": sources })
}

/// A damaged place, for people.
pub(super) fn fault_line(fault: &Fault) -> String {
    let mut out = match &fault.file {
        Some(file) => format!("{file}, bytes {} to {}: {}", fault.from, fault.to, fault.what),
        None => fault.what.to_owned(),
    };
    if fault.lost.is_empty() {
        out.push_str("; no message is lost\n");
        return out;
    }
    for gap in &fault.lost {
        let _ = write!(out, "; lost: boot {}, seq {} to {}, {} messages", gap.boot, gap.first, gap.last, gap.messages);
        let sources: Vec<String> = gap.sources.iter().map(|(name, count)| format!("{name} {count}")).collect();
        if !sources.is_empty() {
            let _ = write!(out, " ({})", sources.join(", "));
        }
        if let (Some(from), Some(to)) = (gap.from_ns, gap.to_ns) {
            let _ = write!(out, ", between {} and {}", time(from), time(to));
        }
    }
    out.push('\n');
    out
}

/// A damaged place, for programs.
pub(super) fn fault_json(fault: &Fault) -> Value {
    json!({
        "file": fault.file,
        "from": fault.from,
        "to": fault.to,
        "what": fault.what,
        "lost": fault.lost.iter().map(gap_json).collect::<Vec<_>>(),
    })
}

fn gap_json(gap: &Gap) -> Value {
    let sources: Map<String, Value> =
        gap.sources.iter().map(|(name, count)| (name.to_string(), json!(count))).collect();
    json!({
        "boot": gap.boot,
        "first": gap.first,
        "last": gap.last,
        "messages": gap.messages,
        "sources": sources,
        "from": gap.from_ns.map(time),
        "to": gap.to_ns.map(time),
    })
}
