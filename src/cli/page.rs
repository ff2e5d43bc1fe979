//! The page that `outstation status` shows: a line and a mark for each thing; under what is not well why, and behind
//! `>` what to do about it.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::status::{Buffer, Bus, BusState, Dropping, LinkState, Mqtt, Source, SourceState, Status};

/// Part of `buffer.max_size` from which on the buffer is said to be nearly full.
const NEARLY_FULL_PERCENT: u64 = 80;

/// How it is shown.
#[derive(Clone, Copy)]
pub(super) struct Style {
    pub colour: bool,
}

/// How a thing is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Well.
    Ok,
    /// It may become so by itself.
    Wait,
    /// It needs somebody.
    Fail,
}

/// Lines under construction.
pub(super) struct Lines {
    out: String,
    style: Style,
}

impl Lines {
    pub(super) fn new(style: Style) -> Self {
        Self { out: String::new(), style }
    }

    /// A thing, and how it is.
    pub(super) fn thing(&mut self, mark: Mark, name: &str, text: &str) {
        let (word, colour) = match mark {
            Mark::Ok => ("ok  ", "32"),
            Mark::Wait => ("wait", "33"),
            Mark::Fail => ("FAIL", "31"),
        };
        let word = if self.style.colour { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_owned() };
        let _ = writeln!(self.out, "{word}  {name:<8} {}", shown(text));
    }

    /// More of it.
    pub(super) fn more(&mut self, text: &str) {
        let _ = writeln!(self.out, "{:15}{}", "", shown(text));
    }

    /// What to do about it.
    pub(super) fn advice(&mut self, text: &str) {
        self.more(&format!("> {text}"));
    }

    pub(super) fn into_text(self) -> String {
        self.out
    }
}

/// Texts come from brokers and devices: nothing in them reaches the terminal as a command to it.
fn shown(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

/// The page, as it is at `now_ns`.
pub(super) fn page(status: &Status, now_ns: i64, style: Style) -> String {
    let mut lines = Lines::new(style);
    let Status { agent, version, boot, store, .. } = status;
    let up = duration(status.uptime_s);
    let _ = writeln!(lines.out, "{agent}: outstation {version}, up {up}, boot {boot} of store {store}\n");
    config(&mut lines, status, now_ns);
    link(&mut lines, &status.mqtt, now_ns);
    buffer(&mut lines, &status.buffer, now_ns);
    for each in &status.buses {
        bus(&mut lines, each);
    }
    if status.sources.is_empty() {
        lines.thing(Mark::Wait, "sources", "none is configured");
        lines.advice("a source is a plugin with a name and a schedule: [source.NAME] with plugin and every");
    }
    for each in &status.sources {
        source(&mut lines, each, now_ns);
    }
    lines.into_text()
}

fn config(lines: &mut Lines, status: &Status, now_ns: i64) {
    let read = ago(Some(&status.config.loaded_at), now_ns);
    if status.config.valid {
        lines.thing(Mark::Ok, "config", &format!("read {read}"));
        return;
    }
    lines.thing(Mark::Fail, "config", &format!("what lies in the files is not used, what was read {read} is"));
    for error in &status.config.errors {
        lines.more(error);
    }
    lines.advice("`outstation check` shows each place; a corrected file is read by itself");
}

fn link(lines: &mut Lines, mqtt: &Mqtt, now_ns: i64) {
    let broker = mqtt.broker.as_deref().unwrap_or("the broker");
    let since = ago(mqtt.since.as_deref(), now_ns);
    match mqtt.state {
        LinkState::Unconfigured => {
            lines.thing(Mark::Wait, "broker", "none is configured: readings are only buffered");
            lines.advice("[mqtt] with a url says where to");
            return;
        }
        LinkState::Connected => {
            let version = mqtt.version.as_deref().unwrap_or("?");
            lines.thing(Mark::Ok, "broker", &format!("{broker} connected {since}, MQTT {version}"));
        }
        LinkState::Connecting => lines.thing(Mark::Wait, "broker", &format!("{broker} connecting, begun {since}")),
        LinkState::Waiting => {
            lines.thing(Mark::Fail, "broker", &format!("{broker} not connected; the last change was {since}"));
        }
    }
    let Mqtt { published, acknowledged, in_flight, maybe_duplicated, .. } = mqtt;
    let again = match maybe_duplicated {
        0 => String::new(),
        count => format!(", {count} sent again in a new session"),
    };
    lines.more(&format!("{published} published, {acknowledged} acknowledged, {in_flight} in flight{again}"));
    if let Some(error) = mqtt.last_error.as_ref().filter(|_| mqtt.state != LinkState::Connected) {
        lines.more(error);
        lines.advice("it is tried again by itself; `outstation check --live` shows how far one gets");
    }
}

fn buffer(lines: &mut Lines, buffer: &Buffer, now_ns: i64) {
    let percent = buffer.bytes.saturating_mul(100).checked_div(buffer.max_bytes).unwrap_or(0);
    let mark = match buffer.state.as_str() {
        "ok" if percent < NEARLY_FULL_PERCENT => Mark::Ok,
        "ok" => Mark::Wait,
        _ => Mark::Fail,
    };
    let oldest = buffer.oldest.as_deref().map(|time| format!(", the oldest of {}", ago(Some(time), now_ns)));
    let (messages, oldest) = (buffer.messages, oldest.unwrap_or_default());
    let size = format!("{} of {} ({percent} %)", bytes(buffer.bytes), bytes(buffer.max_bytes));
    lines.thing(mark, "buffer", &format!("{messages} messages{oldest}; {size}"));
    let dropped = match buffer.dropped {
        0 => String::new(),
        count => format!(", {count} dropped (each is named by a gap)"),
    };
    lines.more(&format!("{}/s in, {}/s out{dropped}", buffer.accepted_per_s, buffer.delivered_per_s));
    for Dropping { since, reason, messages, .. } in &buffer.dropping {
        lines.more(&format!("messages are dropped since {since}: {reason}, {messages} so far"));
    }
    if buffer.state != "ok" {
        lines.more("the disk refuses writes: new readings are kept in memory, up to 4 MiB");
        lines.advice("make room on the disk of the data folder, or replace it; the agent goes back to it by itself");
    } else if mark == Mark::Wait {
        lines.advice(
            "nearly full: soon messages are dropped as buffer.when_full says; bring the broker back, or raise \
                      buffer.max_size",
        );
    }
}

fn bus(lines: &mut Lines, bus: &Bus) {
    let (mark, state) = match bus.state {
        BusState::Idle => (Mark::Ok, "not asked yet"),
        BusState::Connecting => (Mark::Wait, "connecting"),
        BusState::Connected if bus.units_aside.is_empty() => (Mark::Ok, "connected"),
        BusState::Connected => (Mark::Wait, "connected"),
        BusState::Waiting => (Mark::Fail, "can't be reached"),
    };
    lines.thing(mark, &bus.name, &format!("(bus at {}) {state}", bus.url));
    let Bus { requests, timeouts, exceptions, errors, .. } = bus;
    lines.more(&format!("{requests} requests, {timeouts} timeouts, {exceptions} exceptions, {errors} errors"));
    if !bus.units_aside.is_empty() {
        let units: Vec<_> = bus.units_aside.iter().map(ToString::to_string).collect();
        lines.more(&format!("do not answer, and are asked less often: units {}", units.join(" ")));
    }
    if let Some(error) = bus.last_error.as_ref().filter(|_| mark != Mark::Ok) {
        lines.more(error);
        lines.advice("it is tried again by itself; `outstation check --live` shows whether the device is there");
    }
}

fn source(lines: &mut Lines, source: &Source, now_ns: i64) {
    let (mark, state) = match source.state {
        SourceState::Running => (Mark::Ok, "running"),
        SourceState::Backoff => (Mark::Wait, "waiting to be started"),
        SourceState::Failed => (Mark::Fail, "off"),
        SourceState::Stopped => (Mark::Wait, "stopped"),
    };
    let polled = source.last_poll.as_deref().map(|time| format!(", polled {}", ago(Some(time), now_ns)));
    let text = format!("({}) {state}{}", source.plugin, polled.unwrap_or_default());
    lines.thing(mark, &source.name, &text);
    let Source { polls, readings, missed, errors, refused, restarts, .. } = source;
    let counted = |count: u64, word: &str| if count > 0 { format!(", {count} {word}") } else { String::new() };
    lines.more(&format!(
        "{polls} polls, {readings} readings{}{}{}{}, {}",
        counted(*missed, "slots missed"),
        counted(*errors, "polls failed"),
        counted(*refused, "calls refused"),
        counted(*restarts, "restarts"),
        bytes(source.memory_bytes)
    ));
    if let Some(error) = &source.last_error {
        let last = if source.state == SourceState::Running { "last error: " } else { "" };
        lines.more(&format!("{last}{error}"));
    }
    match source.state {
        SourceState::Backoff => lines.advice("it is started again by itself"),
        SourceState::Failed => {
            lines.advice(
                "it is started as soon as its configuration or its plugin changes; `outstation check` says more",
            );
        }
        SourceState::Running if *refused > 0 => {
            lines
                .advice("its plugin calls what `allow` does not grant: `outstation check --show` shows what it grants");
        }
        SourceState::Running if missed.saturating_mul(10) > *polls => {
            lines.advice("it is not ready with one poll when the next is due: a longer `every` is honest");
        }
        SourceState::Running | SourceState::Stopped => {}
    }
}

/// How long ago a time of RFC 3339 was.
fn ago(time: Option<&str>, now_ns: i64) -> String {
    let Some(then) = time.and_then(|time| time.parse::<Timestamp>().ok()) else { return "?".into() };
    let seconds = i128::from(now_ns).saturating_sub(then.as_nanosecond()) / 1_000_000_000;
    match u64::try_from(seconds) {
        Ok(seconds) => format!("{} ago", duration(seconds)),
        // The clock was set back since.
        Err(_) => then.to_string(),
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

pub(super) fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{} KiB", count >> 10),
        _ => format!("{}.{} MiB", count >> 20, ((count % 1_048_576) * 10) >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Config;

    /// 2026-11-22T17:05:00Z.
    const NOW_NS: i64 = 1_795_367_100_000_000_000;
    const PLAIN: Style = Style { colour: false };

    fn time(clock: &str) -> Option<String> {
        Some(format!("2026-11-22T{clock}.000000Z"))
    }

    fn well() -> Status {
        Status {
            agent: "press-7".into(),
            store: "9f3ac1d2".into(),
            version: "0.1.0".into(),
            boot: 17,
            uptime_s: 7_384,
            config: Config { valid: true, errors: Vec::new(), loaded_at: time("15:00:00").unwrap() },
            mqtt: Mqtt {
                state: LinkState::Connected,
                broker: Some("mqtt://127.0.0.1:1883".into()),
                version: Some("5".into()),
                since: time("17:00:00"),
                published: 812,
                acknowledged: 810,
                in_flight: 2,
                ..Mqtt::default()
            },
            buffer: Buffer {
                state: "ok".into(),
                messages: 2,
                oldest: time("17:04:58"),
                bytes: 70_000,
                max_bytes: 1 << 29,
                accepted_per_s: 2.1,
                delivered_per_s: 2.1,
                ..Buffer::default()
            },
            sources: vec![Source {
                name: "host".into(),
                plugin: "system".into(),
                state: SourceState::Running,
                polls: 731,
                readings: 30_702,
                last_poll: time("17:04:59"),
                memory_bytes: 1_245_184,
                ..Source::default()
            }],
            buses: Vec::new(),
        }
    }

    #[test]
    fn what_is_well_is_short() {
        insta::assert_snapshot!(page(&well(), NOW_NS, PLAIN), @r"
        press-7: outstation 0.1.0, up 2 h 3 min, boot 17 of store 9f3ac1d2

        ok    config   read 2 h 5 min ago
        ok    broker   mqtt://127.0.0.1:1883 connected 5 min ago, MQTT 5
                       812 published, 810 acknowledged, 2 in flight
        ok    buffer   2 messages, the oldest of 2 s ago; 68 KiB of 512.0 MiB (0 %)
                       2.1/s in, 2.1/s out
        ok    host     (system) running, polled 1 s ago
                       731 polls, 30702 readings, 1.1 MiB
        ");
        let coloured = page(&well(), NOW_NS, Style { colour: true });
        assert!(coloured.contains("\u{1b}[32mok  \u{1b}[0m  broker"));
    }

    /// Everything is ill in its own way.
    fn ill() -> Status {
        let mut status = well();
        status.config.valid = false;
        status.config.errors = vec!["/etc/outstation/agent.toml:3:1: unknown key `nonsense`".into()];
        status.mqtt.state = LinkState::Waiting;
        status.mqtt.last_error = Some("connection\u{1b}[2Jrefused".into());
        status.mqtt.maybe_duplicated = 3;
        status.buffer.bytes = 500 << 20;
        status.buffer.dropped = 51;
        status.buses = vec![Bus {
            name: "line".into(),
            url: "tcp://10.0.0.5:502".into(),
            state: BusState::Connected,
            requests: 120,
            timeouts: 2,
            errors: 2,
            units_aside: vec![17],
            last_error: Some("unit 17: no answer in time".into()),
            ..Bus::default()
        }];
        let host = Source {
            missed: 100,
            last_error: Some("the new plugin: no component".into()),
            ..status.sources[0].clone()
        };
        let ill = Source {
            name: "boiler-room-7".into(),
            plugin: "modbus".into(),
            state: SourceState::Failed,
            errors: 1,
            last_error: Some("its plugin refuses the configuration".into()),
            ..Source::default()
        };
        let again =
            Source { state: SourceState::Backoff, restarts: 4, last_error: Some("trapped".into()), ..ill.clone() };
        let curious = Source { refused: 9, ..status.sources[0].clone() };
        status.sources = vec![host, ill, again, curious];
        status
    }

    #[test]
    fn what_is_not_says_why_and_what_to_do() {
        insta::assert_snapshot!(page(&ill(), NOW_NS, PLAIN), @r"
        press-7: outstation 0.1.0, up 2 h 3 min, boot 17 of store 9f3ac1d2

        FAIL  config   what lies in the files is not used, what was read 2 h 5 min ago is
                       /etc/outstation/agent.toml:3:1: unknown key `nonsense`
                       > `outstation check` shows each place; a corrected file is read by itself
        FAIL  broker   mqtt://127.0.0.1:1883 not connected; the last change was 5 min ago
                       812 published, 810 acknowledged, 2 in flight, 3 sent again in a new session
                       connection�[2Jrefused
                       > it is tried again by itself; `outstation check --live` shows how far one gets
        wait  buffer   2 messages, the oldest of 2 s ago; 500.0 MiB of 512.0 MiB (97 %)
                       2.1/s in, 2.1/s out, 51 dropped (each is named by a gap)
                       > nearly full: soon messages are dropped as buffer.when_full says; bring the broker back, or raise buffer.max_size
        wait  line     (bus at tcp://10.0.0.5:502) connected
                       120 requests, 2 timeouts, 0 exceptions, 2 errors
                       do not answer, and are asked less often: units 17
                       unit 17: no answer in time
                       > it is tried again by itself; `outstation check --live` shows whether the device is there
        ok    host     (system) running, polled 1 s ago
                       731 polls, 30702 readings, 100 slots missed, 1.1 MiB
                       last error: the new plugin: no component
                       > it is not ready with one poll when the next is due: a longer `every` is honest
        FAIL  boiler-room-7 (modbus) off
                       0 polls, 0 readings, 1 polls failed, 0 B
                       its plugin refuses the configuration
                       > it is started as soon as its configuration or its plugin changes; `outstation check` says more
        wait  boiler-room-7 (modbus) waiting to be started
                       0 polls, 0 readings, 1 polls failed, 4 restarts, 0 B
                       trapped
                       > it is started again by itself
        ok    host     (system) running, polled 1 s ago
                       731 polls, 30702 readings, 9 calls refused, 1.1 MiB
                       > its plugin calls what `allow` does not grant: `outstation check --show` shows what it grants
        ");
    }

    #[test]
    fn what_is_missing_or_refused_says_so() {
        let mut status = ill();
        status.buffer.state = "memory".into();
        status.mqtt = Mqtt::default();
        (status.sources, status.buses) = (Vec::new(), Vec::new());
        insta::assert_snapshot!(page(&status, NOW_NS, PLAIN), @r"
        press-7: outstation 0.1.0, up 2 h 3 min, boot 17 of store 9f3ac1d2

        FAIL  config   what lies in the files is not used, what was read 2 h 5 min ago is
                       /etc/outstation/agent.toml:3:1: unknown key `nonsense`
                       > `outstation check` shows each place; a corrected file is read by itself
        wait  broker   none is configured: readings are only buffered
                       > [mqtt] with a url says where to
        FAIL  buffer   2 messages, the oldest of 2 s ago; 500.0 MiB of 512.0 MiB (97 %)
                       2.1/s in, 2.1/s out, 51 dropped (each is named by a gap)
                       the disk refuses writes: new readings are kept in memory, up to 4 MiB
                       > make room on the disk of the data folder, or replace it; the agent goes back to it by itself
        wait  sources  none is configured
                       > a source is a plugin with a name and a schedule: [source.NAME] with plugin and every
        ");
    }
}
