//! One look at the machine: every point with its value, in a fixed order.

use outstation_sdk::{PointId, Setup, activity, clock, system};

use crate::names::{self, Names};
use crate::options::Options;
use crate::rates::{Rate, Rates};

const BYTES: &str = "By";
const BYTES_A_SECOND: &str = "By/s";

/// A point and what it is now.
pub struct Item {
    /// Its name.
    pub id: String,
    title: String,
    unit: &'static str,
    grows: bool,
    /// A percentage that may exceed 100.
    many: bool,
    /// Its value.
    pub measure: Measure,
}

/// A value.
#[derive(Clone)]
pub enum Measure {
    /// Measured.
    Real(f64),
    /// Counted.
    Count(u64),
    /// So or not.
    Is(bool),
    /// In a word.
    Word(String),
    /// What would be so or not: systemd does not know it.
    NeitherIs,
    /// What would be a word: systemd does not know it.
    NoWord,
    /// There, and not measured yet. Only real ones.
    Unknown,
}

impl Item {
    fn gauge(id: impl Into<String>, title: impl Into<String>, unit: &'static str, measure: Measure) -> Self {
        Self { id: id.into(), title: title.into(), unit, grows: false, many: false, measure }
    }

    fn counter(id: impl Into<String>, title: impl Into<String>, unit: &'static str, count: u64) -> Self {
        Self { grows: true, ..Self::gauge(id, title, unit, Measure::Count(count)) }
    }

    /// Computing, in percent of one core.
    fn load(id: impl Into<String>, title: impl Into<String>, measure: Measure) -> Self {
        Self { many: true, ..Self::gauge(id, title, "%", measure) }
    }

    /// As a point.
    pub fn declare(&self, setup: &mut Setup) -> PointId {
        let mut point = setup.point(&self.id).title(&self.title).unit(self.unit);
        if self.unit == "%" && !self.many {
            point = point.range(0.0, 100.0);
        }
        if self.grows {
            point = point.counter();
        }
        match self.measure {
            Measure::Count(_) => point.unsigned(),
            Measure::Is(_) | Measure::NeitherIs => point.boolean(),
            Measure::Word(_) | Measure::NoWord => point.text(),
            Measure::Real(_) | Measure::Unknown => point.real(),
        }
    }
}

/// A rate as a measure, `scale` for one.
fn measure(rate: Rate, scale: f64) -> Measure {
    match rate {
        Rate::Known(rate) => Measure::Real(rounded(rate * scale)),
        Rate::Unknown => Measure::Unknown,
    }
}

/// Everything of the groups that are wanted.
pub fn take(options: &Options, names: &mut Names, rates: &mut Rates) -> Vec<Item> {
    let mut items = Vec::new();
    let now = clock::monotonic();
    if options.wants("cpu") {
        cpu(&mut items);
    }
    if options.wants("load") {
        load(&mut items);
    }
    if options.wants("memory") || options.wants("swap") {
        memory(options, &mut items);
    }
    if options.wants("disk") {
        disks(names, &mut items);
    }
    if options.wants("net") {
        interfaces(names, rates, now, &mut items);
    }
    if options.wants("io") {
        io(names, rates, now, &mut items);
    }
    if options.wants("temperature") {
        temperatures(names, &mut items);
    }
    if options.wants("uptime")
        && let Some(nanoseconds) = system::uptime()
    {
        items.push(Item::counter("uptime", "Time since the machine was started", "s", nanoseconds / 1_000_000_000));
    }
    if options.wants("agent") {
        agent(rates, now, &mut items);
    }
    if !options.processes.is_empty() {
        processes(options, names, rates, now, &mut items);
    }
    if !options.services.is_empty() {
        services(options, names, &mut items);
    }
    rates.sweep();
    items
}

fn cpu(items: &mut Vec<Item>) {
    let cores = system::cpus();
    if cores.is_empty() {
        return;
    }
    let known: Vec<f64> = cores.iter().filter_map(|core| core.usage_percent).map(f64::from).collect();
    let mean = if known.is_empty() { Measure::Unknown } else { Measure::Real(mean(&known)) };
    items.push(Item::gauge("cpu", "CPU, all cores", "%", mean));
    for core in cores {
        let usage = core.usage_percent.map_or(Measure::Unknown, |usage| Measure::Real(rounded(f64::from(usage))));
        items.push(Item::gauge(format!("cpu.{}", core.name), format!("CPU core {}", core.name), "%", usage));
    }
}

fn load(items: &mut Vec<Item>) {
    if let Some(load) = system::load_average() {
        for (minutes, value) in [("1", load.one), ("5", load.five), ("15", load.fifteen)] {
            let title = format!("Load, mean over {minutes} min");
            items.push(Item::gauge(format!("load.{minutes}"), title, "1", Measure::Real(value)));
        }
    }
}

fn memory(options: &Options, items: &mut Vec<Item>) {
    let Some(memory) = system::memory_info() else { return };
    let mut bytes = |id: &str, title: &str, value| items.push(Item::gauge(id, title, BYTES, Measure::Count(value)));
    if options.wants("memory") {
        bytes("memory.total", "Memory", memory.total);
        bytes("memory.used", "Memory that is not available", memory.total.saturating_sub(memory.available));
        bytes("memory.available", "Memory that programs could take", memory.available);
    }
    if options.wants("swap") && memory.swap_total > 0 {
        bytes("swap.total", "Swap", memory.swap_total);
        bytes("swap.used", "Swap in use", memory.swap_used);
    }
}

fn disks(names: &mut Names, items: &mut Vec<Item>) {
    for disk in system::filesystems() {
        let name = names.of("disk", names::of_mount(&disk.mount));
        for (what, value) in [("total", disk.total), ("used", disk.used), ("available", disk.available)] {
            let title = format!("{}, {what}", disk.mount);
            items.push(Item::gauge(format!("disk.{name}.{what}"), title, BYTES, Measure::Count(value)));
        }
    }
}

fn interfaces(names: &mut Names, rates: &mut Rates, now: u64, items: &mut Vec<Item>) {
    for interface in system::interfaces() {
        let name = names.of("net", &interface.name);
        let values = [
            ("rx_bytes", "received", BYTES, interface.rx_bytes),
            ("tx_bytes", "sent", BYTES, interface.tx_bytes),
            ("rx_errors", "receive errors", "1", interface.rx_errors),
            ("tx_errors", "send errors", "1", interface.tx_errors),
        ];
        for (what, words, unit, value) in values {
            let title = format!("{}, {words}", interface.name);
            items.push(Item::counter(format!("net.{name}.{what}"), title, unit, value));
        }
        for (what, words, count) in
            [("rx_rate", "received", interface.rx_bytes), ("tx_rate", "sent", interface.tx_bytes)]
        {
            let id = format!("net.{name}.{what}");
            if let Some(rate) = rates.of(&id, count, now) {
                let title = format!("{}, {words} a second", interface.name);
                items.push(Item::gauge(id, title, BYTES_A_SECOND, measure(rate, 1.0)));
            }
        }
    }
}

/// Nanoseconds of computing, or of being busy, a second: as percent.
const PERCENT: f64 = 1e-7;

fn io(names: &mut Names, rates: &mut Rates, now: u64, items: &mut Vec<Item>) {
    for disk in activity::disks() {
        let name = names.of("io", &disk.name);
        for (what, words, value) in
            [("read_bytes", "read", disk.read_bytes), ("written_bytes", "written", disk.written_bytes)]
        {
            items.push(Item::counter(format!("io.{name}.{what}"), format!("{}, {words}", disk.name), BYTES, value));
        }
        for (what, words, unit, count, scale) in [
            ("read_rate", "read a second", BYTES_A_SECOND, disk.read_bytes, 1.0),
            ("write_rate", "written a second", BYTES_A_SECOND, disk.written_bytes, 1.0),
            ("busy", "busy", "%", disk.busy, PERCENT),
        ] {
            let id = format!("io.{name}.{what}");
            if let Some(rate) = rates.of(&id, count, now) {
                let mut measure = measure(rate, scale);
                if let (Measure::Real(percent), "%") = (&mut measure, unit) {
                    // The kernel counts in ticks: a little more than all is all.
                    *percent = percent.min(100.0);
                }
                items.push(Item::gauge(id, format!("{}, {words}", disk.name), unit, measure));
            }
        }
    }
}

fn agent(rates: &mut Rates, now: u64, items: &mut Vec<Item>) {
    let Some(own) = activity::own_figures() else { return };
    for (what, title, unit, value) in [
        ("memory", "The agent, resident memory", BYTES, own.memory),
        ("threads", "The agent, threads", "1", own.threads),
        ("descriptors", "The agent, open files and sockets", "1", own.descriptors),
        ("buffer.messages", "The buffer, messages", "1", own.buffered),
        ("buffer.bytes", "The buffer, on the disk", BYTES, own.buffer_bytes),
    ] {
        items.push(Item::gauge(format!("agent.{what}"), title, unit, Measure::Count(value)));
    }
    for (what, title, value) in [
        ("accepted", "Messages accepted since the agent was started", own.accepted),
        ("delivered", "Messages delivered since the agent was started", own.delivered),
        ("dropped", "Messages dropped since the agent was started", own.dropped),
    ] {
        items.push(Item::counter(format!("agent.{what}"), title, "1", value));
    }
    if let Some(rate) = rates.of("agent.cpu", own.cpu, now) {
        items.push(Item::load("agent.cpu", "The agent, computing (100: one core)", measure(rate, PERCENT)));
    }
}

fn processes(options: &Options, names: &mut Names, rates: &mut Rates, now: u64, items: &mut Vec<Item>) {
    for group in activity::process_groups(&options.processes) {
        let name = names.of("process", &group.name);
        let count = Measure::Count(u64::from(group.count));
        items.push(Item::gauge(format!("process.{name}.count"), format!("{}, how many", group.name), "1", count));
        let memory = Measure::Count(group.memory);
        items.push(Item::gauge(
            format!("process.{name}.memory"),
            format!("{}, resident memory", group.name),
            BYTES,
            memory,
        ));
        let id = format!("process.{name}.cpu");
        if let Some(rate) = rates.of(&id, group.cpu, now) {
            let title = format!("{}, computing (100: one core)", group.name);
            items.push(Item::load(id, title, measure(rate, PERCENT)));
        }
    }
}

fn services(options: &Options, names: &mut Names, items: &mut Vec<Item>) {
    let known = activity::services(&options.services);
    for wanted in &options.services {
        let service = known.iter().find(|service| service.name == *wanted);
        let name = names.of("service", names::of_unit(wanted));
        let id = |what: &str| format!("service.{name}.{what}");
        let title = |what: &str| format!("{wanted}, {what}");
        let active = service.map_or(Measure::NeitherIs, |service| Measure::Is(service.active == "active"));
        let state =
            service.map_or(Measure::NoWord, |service| Measure::Word(format!("{}/{}", service.active, service.sub)));
        items.push(Item::gauge(id("active"), title("active"), "", active));
        items.push(Item::gauge(id("state"), title("state"), "", state));
        if let Some(restarts) = service.and_then(|service| service.restarts) {
            items.push(Item::counter(id("restarts"), title("restarts by systemd"), "1", restarts));
        }
    }
}

fn temperatures(names: &mut Names, items: &mut Vec<Item>) {
    // Two sensors may have one label: their place in the list keeps them apart.
    let mut before: Option<(String, u32)> = None;
    for sensor in system::thermals() {
        let number = match &before {
            Some((label, number)) if *label == sensor.label => number + 1,
            _ => 1,
        };
        let part = if number == 1 { sensor.label.clone() } else { format!("{} {number}", sensor.label) };
        let id = format!("temperature.{}", names.of("temperature", &part));
        items.push(Item::gauge(id, part, "Cel", Measure::Real(rounded(f64::from(sensor.celsius)))));
        before = Some((sensor.label, number));
    }
}

fn mean(values: &[f64]) -> f64 {
    rounded(values.iter().sum::<f64>() / values.len() as f64)
}

/// Two digits after the point are more than there is in it, and f32 made f64 shows many more.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
