//! Digital lines on the kernel's simulator: edges with their times, debouncing, counters over kill -9, a burst, outputs
//! with a safe level, a line that is busy, a chip that goes and comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use super::{Guest, compiled, copy};
use crate::harness::plugins;

/// How long after the line was moved the kernel's time of an edge may be, under software emulation.
const EDGE_LATE_MAX_NS: i64 = 10_000_000;
/// And before: times come in microseconds.
const EDGE_EARLY_MAX_NS: i64 = 1_000;
/// Edges of the burst, and those that came while the agent stood still.
const BURST: usize = 12_000;
/// Of them more than the kernel keeps.
const LOST_MIN: u64 = 800;
/// Of them those that the simulator merges before the kernel has seen them: nobody can count these.
const MERGED_MAX: u64 = 240;

const CONFIG: &str = r#"
[agent]
id = "guest"
engine = "pulley"

[mqtt]
url = "mqtt://127.0.0.1:1883"

[source.lines]
plugin = "gpio"
every = "1s"
allow.gpio = { read = ["sim:0", "sim:1", "BURST"], write = ["LAMP"] }
[source.lines.config]
lines = [
  { name = "door", line = "sim:0", edge = "both" },
  { name = "button", line = "sim:1", edge = "both", debounce = "50ms" },
  { name = "meter", line = "BURST", edge = "none", count = true, frequency = true },
  { name = "lamp", line = "LAMP", mode = "output", initial = true, safe = false },
]

[source.burst]
plugin = "gpio"
every = "1s"
allow.gpio = ["sim:5", "sim:6"]
[source.burst.config]
lines = [
  { name = "fast", line = "sim:5", edge = "both", count = true },
  { name = "taken", line = "sim:6" },
]
"#;

/// Runs in the guest. Each wait has a condition; what does not come is missed by the judge outside.
const SCRIPT: &str = r#"
mount -t configfs config /sys/kernel/config
# On one processor the kernel's thread that reads the simulated line goes before what moves it: no edge is merged with the
# next one before anybody can have seen it.
echo 0 > /sys/devices/system/cpu/cpu1/online
sim=/sys/kernel/config/gpio-sim/t
mkdir $sim $sim/b0
echo 8 > $sim/b0/num_lines
echo sim > $sim/b0/label
for line in 2:BURST 4:LAMP 7:HELD; do
    mkdir $sim/b0/line${line%:*}
    echo ${line#*:} > $sim/b0/line${line%:*}/name
done
mkdir $sim/b0/line6/ && mkdir $sim/b0/line6/hog
echo somebody > $sim/b0/line6/hog/name
echo input > $sim/b0/line6/hog/direction
echo 1 > $sim/live
chip=$(cat $sim/b0/chip_name)
pins=/sys/devices/platform/$(cat $sim/dev_name)/$chip
R=/results

mosquitto -c /etc/mosquitto.conf > $R/broker 2>&1 &
await 'mosquitto_pub -h 127.0.0.1 -t up -m 1 2>/dev/null'
mosquitto_sub -h 127.0.0.1 -q 1 -c -i judge -t 'outstation/#' -v > $R/messages 2>&1 &
cd /agent
start() { outstation run -c /agent/agent.toml >> $R/log 2>&1 & agent=$!; }
start
await "grep -q '\"door\":false' $R/messages"
await "grep -q '\"fast\":false' $R/messages"
cat $pins/sim_gpio4/value > $R/lamp-driven

mover $pins/sim_gpio0/pull $R/door 20 20000
await "[ \$(grep -c '\"door\":true' $R/messages) -ge 10 ]"

# A contact that bounces, and comes to rest active.
mover $pins/sim_gpio1/pull $R/button 11 2000
await "grep -q '\"button\":true' $R/messages"

# The last value of a point; it is at rest when it is the same a few polls later.
last() { grep -o "\"$1\":[0-9]*" $R/messages | tail -n 1 | cut -d : -f 2; }
rests() { was=; until [ "$(last $1)" = "${was:-none}" ]; do was=$(last $1); sleep 5; done; }
mover $pins/sim_gpio2/pull $R/meter 200 10000
await '[ $(last meter.count) -ge 90 ]'
rests meter.count

kill -9 $agent; wait $agent
# Down while nobody looks.
start
await "grep -q '\"boot\":2,.*\"meter.count\":' $R/messages"
before=$(last meter.count)
mover $pins/sim_gpio2/pull $R/meter 40 10000
await '[ $(last meter.count) -ge $((before + 15)) ]'

mover $pins/sim_gpio5/pull $R/fast 10000 500
rests fast.count
# More than the kernel keeps, while nobody reads.
kill -STOP $agent
mover $pins/sim_gpio5/pull $R/fast 2000 500
kill -CONT $agent
await "grep -q '\"fast.lost\":' $R/messages"
await "sleep 2; outstation status --json -c /agent/agent.toml > $R/status 2>&1; grep -q '\"messages\": *0,' $R/status"

mosquitto_pub -h 127.0.0.1 -t outstation/guest/command/lines -q 1 -m '{"id":"1","name":"set","args":{"line":"lamp","value":false}}'
await "grep -q '\"id\":\"1\",\"ok\":true' $R/messages"
cat $pins/sim_gpio4/value > $R/lamp-set

# A reload hands a line over to a source that reads it otherwise, and then to one of another name.
mkdir -p /agent/agent.d
reload() { await "outstation reload -c /agent/agent.toml >> $R/reloads 2>&1"; }
hatches() { grep -c "^outstation/guest/$1 .*\"hatch\":[tf]" $R/messages; }
for take in first:500:up first:400:down second:300:down first:500:up; do
    name=${take%%:*} bias=${take##*:} every=${take#*:} every=${every%:*}
    cat > /agent/new <<END
[source.$name]
plugin = "gpio"
every = "${every}ms"
allow.gpio = ["sim:3"]
[source.$name.config]
lines = [{ name = "hatch", line = "sim:3", bias = "pull-$bias" }]
END
    mv /agent/new /agent/agent.d/hatch.toml
    reload
    seen=$(hatches $name)
    await "[ \$(hatches $name) -ge $((seen + 3)) ]"
done
# A look beside the agent: lines that it holds, one of somebody else, and one that is free once it was given back.
cat /agent/agent.toml /agent/agent.d/hatch.toml > /agent/look.toml
rm /agent/agent.d/hatch.toml
reload
outstation check --live --json -c /agent/look.toml > $R/live 2>&1

# The chip goes away and comes back.
echo 0 > $sim/live
await "grep -q '\"bad\":{\"door\":\"' $R/messages"
echo 1 > $sim/live
cp $R/messages $R/messages-gone
await "[ \$(tail -n 3 $R/messages | grep -c '\"door\":[tf]') -ge 1 ]"
pins=/sys/devices/platform/$(cat $sim/dev_name)/$(cat $sim/b0/chip_name)
cat $pins/sim_gpio4/value > $R/lamp-again
kill -TERM $agent; wait $agent
cat $pins/sim_gpio4/value > $R/lamp-safe
await "grep -q '\"state\":\"stopped\"' $R/messages"
"#;

/// A message of a source.
struct Message {
    time_ns: i64,
    json: Value,
}

fn messages(text: &str, source: &str) -> Vec<Message> {
    let topic = format!("outstation/guest/{source} ");
    let read = |line: &str| {
        let json: Value = serde_json::from_str(line.strip_prefix(&topic)?).expect("JSON");
        let time: Timestamp = json["time"].as_str().expect("a time").parse().expect("a time");
        Some(Message { time_ns: i64::try_from(time.as_nanosecond()).expect("64 bit"), json })
    };
    text.lines().filter_map(read).collect()
}

/// Times and levels of a point, in the order in which they came.
fn levels(messages: &[Message], point: &str) -> Vec<(i64, bool)> {
    messages.iter().filter_map(|m| Some((m.time_ns, m.json["values"][point].as_bool()?))).collect()
}

/// The changes among them.
fn changes(levels: &[(i64, bool)]) -> Vec<(i64, bool)> {
    levels.windows(2).filter(|pair| pair[0].1 != pair[1].1).map(|pair| pair[1]).collect()
}

/// When each move began and ended, and its level.
fn moved(text: &str) -> Vec<(i64, bool, i64)> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let mut next = || words.next().expect("two times and a level");
        (next().parse().expect("a time"), next() == "1", next().parse().expect("a time"))
    };
    text.lines().map(line).collect()
}

/// F-38 and the rest of what a line can do. One guest for all of it: a boot costs more than the test.
#[tokio::test]
#[ignore = "boots a virtual machine: make test-vm"]
async fn lines_of_the_kernels_simulator() {
    let guest = Guest::new();
    guest.program(Path::new(env!("CARGO_BIN_EXE_outstation")));
    for program in ["/usr/sbin/mosquitto", "/usr/bin/mosquitto_sub", "/usr/bin/mosquitto_pub"] {
        guest.program(Path::new(program));
    }
    guest.compile("mover", include_str!("mover.c"));
    guest.write("etc/mosquitto.conf", "listener 1883 127.0.0.1\nallow_anonymous true\nuser root\n");
    guest.write("agent/agent.toml", CONFIG);
    plugins::install("gpio", &guest.path("agent/plugins"));
    let elsewhere = CONFIG.replace("mqtt://127.0.0.1:1883", "mqtt://127.0.0.1:1");
    let site = compiled(&elsewhere, "lines", "gpio").await;
    copy(&site.path("data"), &guest.path("agent/cache-of"));
    let cache = "mkdir -p /agent/data && cp -a /agent/cache-of/cache /agent/data/\n";
    let results = guest.run(&format!("{cache}{SCRIPT}")).await;
    judge(&results);
}

fn judge(results: &BTreeMap<String, String>) {
    let text = |name: &str| results.get(name).map_or("", String::as_str);
    let end: String = text("messages").lines().rev().take(8).fold(String::new(), |end, line| format!("{line}\n{end}"));
    let shown = || format!("console:\n{}\nlog:\n{}\nmessages:\n{end}", text("console"), text("log"));
    assert_eq!(text("never"), "", "{}", shown());
    let all = messages(text("messages"), "lines");

    // Every edge of the door, in order, with the kernel's time.
    let expected = moved(text("door"));
    // A poll that began just before may read the new level as well; it brings counts, and an edge brings none.
    let is_edge = |m: &&Message| m.json["values"]["meter.count"].is_null();
    let edge = |m: &Message| Some((m.time_ns, m.json["values"]["door"].as_bool()?));
    let door: Vec<_> = all.iter().filter(is_edge).filter_map(edge).take(expected.len()).collect();
    assert_eq!(door.len(), expected.len(), "{}", shown());
    for (edge, moved) in door.iter().zip(&expected) {
        assert_eq!(edge.1, moved.1);
        let (earliest, latest) = (moved.0 - EDGE_EARLY_MAX_NS, moved.2 + EDGE_LATE_MAX_NS);
        assert!((earliest..=latest).contains(&edge.0), "{edge:?} {moved:?}");
    }
    // The bouncing is one edge, and the level that it came to stays.
    assert_eq!(
        changes(&levels(&all, "button")).iter().map(|(_, level)| *level).collect::<Vec<_>>().first(),
        Some(&true)
    );
    let bounces = levels(&messages(text("messages-gone"), "lines"), "button");
    assert_eq!(changes(&bounces).len(), 1, "{bounces:?}");

    // The count goes on over kill -9, and never back.
    let counts: Vec<_> = all.iter().filter_map(|m| m.json["values"]["meter.count"].as_u64()).collect();
    assert!(counts.is_sorted(), "{counts:?}");
    let of_boot = |boot: u64| {
        let counted = all.iter().filter(move |m| m.json["boot"] == boot);
        counted.filter_map(|m| m.json["values"]["meter.count"].as_u64()).collect::<Vec<_>>()
    };
    let (one, two) = (of_boot(1), of_boot(2));
    assert!(one.last().is_some_and(|last| (90..=100).contains(last)), "{one:?}");
    assert_eq!(one.last(), two.first(), "{one:?} {two:?}");

    burst(&messages(text("messages-gone"), "burst"), &moved(text("fast")));
    handed_over(text("messages-gone"), text("live"));

    // Driven to its initial level, and to its safe one at the end.
    assert_eq!(
        ["lamp-driven", "lamp-set", "lamp-again", "lamp-safe"].map(|name| text(name).trim()),
        ["1", "0", "1", "0"]
    );
    // A line that somebody else holds; a chip that went away and came back.
    let other = messages(text("messages-gone"), "burst");
    assert!(other.iter().any(|m| m.json["bad"]["taken"] == "busy"), "{}", shown());
    let gone = all.iter().position(|m| m.json["bad"]["door"].is_string()).expect("the door is bad");
    assert!(all[gone..].iter().any(|m| m.json["values"]["door"].is_boolean()), "{}", shown());
}

/// F-39: who gets a line by a reload reads it at once, with what it asks of it; and a look disturbs nobody.
fn handed_over(text: &str, live: &str) {
    for (source, expected) in [("first", [true, false, true].as_slice()), ("second", &[false])] {
        let all = messages(text, source);
        let mut seen: Vec<_> = all.iter().map(|m| m.json["values"]["hatch"].as_bool()).collect();
        seen.dedup();
        assert_eq!(
            seen,
            expected.iter().copied().map(Some).collect::<Vec<_>>(),
            "{source}: good from the first poll on"
        );
    }
    let all = ["lines", "burst", "first", "second"].into_iter().flat_map(|source| messages(text, source));
    let seqs: BTreeSet<_> = all.filter(|m| m.json["boot"] == 2).filter_map(|m| m.json["seq"].as_u64()).collect();
    let missing: Vec<_> = (1..=seqs.len() as u64).filter(|seq| !seqs.contains(seq)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let document: Value = serde_json::from_str(live).unwrap_or_else(|error| panic!("{error}: {live}"));
    let rungs = document["live"].as_array().expect("rungs");
    let said = |name: &str| {
        let rung = rungs.iter().find(|rung| rung["what"] == "line" && rung["name"] == name);
        rung.unwrap_or_else(|| panic!("no {name} in {rungs:?}"))["message"].as_str().expect("a text").to_owned()
    };
    assert!(said("sim:0").ends_with("an input now, held by the running agent"), "{}", said("sim:0"));
    assert!(said("LAMP").ends_with("an output now, held by the running agent"), "{}", said("LAMP"));
    assert!(said("sim:3").ends_with("an input now, and free"), "{}", said("sim:3"));
    assert!(said("sim:6").ends_with("in use by \"somebody\""), "{}", said("sim:6"));
}

/// What of the burst came as a reading, and what was counted as lost, is all of it.
fn burst(messages: &[Message], moved: &[(i64, bool, i64)]) {
    assert_eq!(moved.len(), BURST);
    let first = moved[0].0 - EDGE_LATE_MAX_NS;
    // Edges have their own message or stand in one with others; a poll's own level has `fast.count` beside it.
    let is_edge = |m: &&Message| m.time_ns >= first && m.json["values"]["fast.count"].is_null();
    let edges: Vec<_> = messages.iter().filter(is_edge).filter(|m| m.json["values"]["fast"].is_boolean()).collect();
    let lost = messages.iter().filter_map(|m| m.json["values"]["fast.lost"].as_u64()).max().unwrap_or(0);
    assert!(lost >= LOST_MIN, "{lost}");
    let seen = edges.len() as u64 + lost;
    assert!(seen <= BURST as u64 && seen + MERGED_MAX >= BURST as u64, "{} readings, {lost} lost", edges.len());
    assert!(edges.windows(2).all(|pair| pair[0].time_ns <= pair[1].time_ns), "out of order");
    eprintln!("a burst of {BURST} edges: {} readings, {lost} counted as lost", edges.len());
}
