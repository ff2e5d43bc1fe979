//! What a trial run brought, for people and for programs, and what tells one run from another.

use serde_json::{Map, Value as Json, json};

use super::table::table;
use crate::cli::page::bytes;
use crate::encode::shown;
use crate::plugin::{About, Call, Outcome};
use crate::reading::{Reading, Severity, Timestamp};

/// One call of `run`.
pub(super) struct Run {
    /// `start`, `schedule`, `gpio gpiochip0:4`.
    pub trigger: String,
    pub time: Timestamp,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Linear memory afterwards.
    pub memory_bytes: u64,
    pub calls: Vec<Call>,
    pub outcome: Result<Outcome, String>,
    /// As of this run.
    pub about: About,
}

impl Run {
    fn name(&self, reading: &Reading) -> String {
        let name = self.about.points.ids().get(reading.point as usize);
        name.map_or_else(|| reading.point.to_string(), str::to_owned)
    }

    /// What is the same whenever the run is repeated.
    fn repeatable(&self) -> Map<String, Json> {
        let mut run = Map::new();
        run.insert("trigger".into(), self.trigger.as_str().into());
        run.insert("time".into(), self.time.rfc3339().into());
        let calls = self.calls.iter().map(|call| json!({ "call": call.what, "answer": call.answer }));
        run.insert("calls".into(), calls.collect());
        match &self.outcome {
            Ok(outcome) => {
                run.insert("readings".into(), outcome.readings.iter().map(|reading| self.reading(reading)).collect());
                if let Some(next) = outcome.next {
                    run.insert("next_ms".into(), json!(u64::try_from(next.as_millis()).unwrap_or(u64::MAX)));
                }
            }
            Err(why) => drop(run.insert("error".into(), why.as_str().into())),
        }
        run
    }

    fn reading(&self, reading: &Reading) -> Json {
        let mut entry = Map::new();
        entry.insert("point".into(), self.name(reading).into());
        if let Some(value) = shown(reading) {
            entry.insert("value".into(), value);
        }
        match reading.quality.severity {
            Severity::Good => {}
            Severity::Uncertain => drop(entry.insert("uncertain".into(), self.reason(reading).into())),
            Severity::Bad => drop(entry.insert("bad".into(), self.reason(reading).into())),
        }
        if let Some(at) = reading.at {
            entry.insert("at".into(), at.rfc3339().into());
        }
        entry.into()
    }

    fn reason(&self, reading: &Reading) -> String {
        reading.quality.word(&self.about.reasons)
    }

    fn page(&self) -> String {
        let head = format!(
            "{}, {}: {} us, {} of memory\n",
            self.trigger,
            self.time.rfc3339(),
            self.took_us,
            bytes(self.memory_bytes)
        );
        let readings = match &self.outcome {
            Ok(outcome) => &outcome.readings,
            Err(why) => return format!("{head}  {why}\n"),
        };
        let row = |reading: &Reading| {
            let value = shown(reading).map_or_else(|| "-".to_owned(), |value| value.to_string());
            let unit = self.about.points.get(reading.point as usize).map(|point| point.unit).unwrap_or_default();
            let doubt = match reading.quality.severity {
                Severity::Good => String::new(),
                Severity::Uncertain => format!("uncertain: {}", self.reason(reading)),
                Severity::Bad => format!("bad: {}", self.reason(reading)),
            };
            vec![format!("  {}", self.name(reading)), value, unit, doubt]
        };
        let rows: Vec<_> = readings.iter().map(row).collect();
        format!("{head}{}", if rows.is_empty() { "  no readings\n".to_owned() } else { table(&rows) })
    }
}

/// The whole trial.
pub(super) struct Trial {
    pub runs: Vec<Run>,
    /// Calls that were not granted, and values and log lines that were not taken.
    pub refused: u64,
    pub calls_dropped: u64,
}

impl Trial {
    fn about(&self) -> About {
        self.runs.last().map(|run| run.about.clone()).unwrap_or_default()
    }

    /// Everything, for programs.
    pub(super) fn document(&self) -> Json {
        let about = self.about();
        let runs: Vec<Json> = self
            .runs
            .iter()
            .map(|run| {
                let mut entry = run.repeatable();
                entry.insert("took_us".into(), run.took_us.into());
                entry.insert("memory_bytes".into(), run.memory_bytes.into());
                entry.into()
            })
            .collect();
        json!({
            "plugin": { "name": about.name, "version": about.version },
            "runs": runs,
            "refused": self.refused,
            "calls_not_kept": self.calls_dropped,
        })
    }

    /// What can be compared with another run of the same: no times, no memory, no version.
    pub(super) fn record(&self) -> Json {
        let runs: Vec<Json> = self.runs.iter().map(|run| run.repeatable().into()).collect();
        json!({ "plugin": self.about().name, "runs": runs })
    }

    /// For people.
    pub(super) fn page(&self) -> String {
        let about = self.about();
        let mut out = format!("{} {}: {} points\n\n", about.name, about.version, about.points.len());
        for run in &self.runs {
            out.push_str(&run.page());
            out.push('\n');
        }
        let times: Vec<u64> = self.runs.iter().map(|run| run.took_us).collect();
        let calls: usize = self.runs.iter().map(|run| run.calls.len()).sum();
        let slowest = times.iter().max().copied().unwrap_or(0);
        let memory = self.runs.iter().map(|run| run.memory_bytes).max().unwrap_or(0);
        out.push_str(&format!(
            "{} runs, {calls} calls of devices, {} refused; at most {slowest} us a run and {} of memory\n",
            self.runs.len(),
            self.refused,
            bytes(memory)
        ));
        out
    }
}

/// Where two records first differ, in words.
pub(super) fn difference(recorded: &Json, now: &Json) -> Option<String> {
    if recorded == now {
        return None;
    }
    if recorded["plugin"] != now["plugin"] {
        return Some(format!("it was recorded of the plugin {}, this is {}", recorded["plugin"], now["plugin"]));
    }
    let runs = |record: &Json| record["runs"].as_array().cloned().unwrap_or_default();
    let (before, after) = (runs(recorded), runs(now));
    for (number, (one, other)) in before.iter().zip(&after).enumerate() {
        for key in ["trigger", "time", "error", "next_ms", "calls", "readings"] {
            if let Some(what) = part(&one[key], &other[key]) {
                return Some(format!("run {number}, {key}: {what}"));
            }
        }
    }
    Some(format!("{} runs were recorded, and there are {}", before.len(), after.len()))
}

fn part(recorded: &Json, now: &Json) -> Option<String> {
    if recorded == now {
        return None;
    }
    let pairs = match (recorded, now) {
        (Json::Array(recorded), Json::Array(now)) if recorded.len() == now.len() => recorded.iter().zip(now),
        _ => return Some(format!("{recorded} was recorded, now it is {now}")),
    };
    pairs
        .into_iter()
        .find(|(one, other)| one != other)
        .map(|(one, other)| format!("{one} was recorded, now it is {other}"))
}
