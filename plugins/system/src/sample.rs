//! One look at the machine: every point with its value, in a fixed order.

use outstation_sdk::{PointId, Setup, system};

use crate::names::{self, Names};
use crate::options::Options;

const BYTES: &str = "By";

/// A point and what it is now.
pub struct Item {
    /// Its name.
    pub id: String,
    title: String,
    unit: &'static str,
    grows: bool,
    /// Its value.
    pub measure: Measure,
}

/// A value.
#[derive(Clone, Copy)]
pub enum Measure {
    /// Measured.
    Real(f64),
    /// Counted.
    Count(u64),
    /// There, and not measured yet. Only real ones.
    Unknown,
}

impl Item {
    fn gauge(id: impl Into<String>, title: impl Into<String>, unit: &'static str, measure: Measure) -> Self {
        Self { id: id.into(), title: title.into(), unit, grows: false, measure }
    }

    fn counter(id: impl Into<String>, title: impl Into<String>, unit: &'static str, count: u64) -> Self {
        Self { id: id.into(), title: title.into(), unit, grows: true, measure: Measure::Count(count) }
    }

    /// As a point.
    pub fn declare(&self, setup: &mut Setup) -> PointId {
        let mut point = setup.point(&self.id).title(&self.title).unit(self.unit);
        if self.unit == "%" {
            point = point.range(0.0, 100.0);
        }
        if self.grows {
            point = point.counter();
        }
        match self.measure {
            Measure::Count(_) => point.unsigned(),
            Measure::Real(_) | Measure::Unknown => point.real(),
        }
    }
}

/// Everything of the groups that are wanted.
pub fn take(options: &Options, names: &mut Names) -> Vec<Item> {
    let mut items = Vec::new();
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
        interfaces(names, &mut items);
    }
    if options.wants("temperature") {
        temperatures(names, &mut items);
    }
    if options.wants("uptime")
        && let Some(nanoseconds) = system::uptime()
    {
        items.push(Item::counter("uptime", "Time since the machine was started", "s", nanoseconds / 1_000_000_000));
    }
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

fn interfaces(names: &mut Names, items: &mut Vec<Item>) {
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
