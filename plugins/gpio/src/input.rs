//! One line that is read.

use outstation_sdk::lines::{self, Edge};
use outstation_sdk::{PointId, Poll, Setup, clock, log, state};

use crate::options::{self, Line};
use crate::{bad, is_active, text};

/// Edges that become readings in one run; the rest comes with the next, at once.
const EDGES_MAX: u32 = 500;

/// See the head of this file.
pub struct Input {
    line: Line,
    wanted: options::Input,
    point: PointId,
    count: Option<PointId>,
    frequency: Option<PointId>,
    lost: Option<PointId>,
    open: Option<lines::Input>,
    /// Pulses up to when the line was opened.
    counted_before: u64,
    /// What the state holds.
    kept: Option<u64>,
    /// Pulses at the poll before, and when that was.
    last: Option<(u64, u64)>,
    edges_lost: u64,
    /// What was said last of a line that does not open.
    said: Option<String>,
}

impl Input {
    pub fn declare(setup: &mut Setup, line: &Line, wanted: options::Input) -> Self {
        let name = &line.name;
        let point = setup.point(name).state().boolean();
        let count = wanted.count.then(|| setup.point(&format!("{name}.count")).counter().unsigned());
        let frequency = wanted.frequency.then(|| setup.point(&format!("{name}.frequency")).unit("Hz").real());
        let lost = wanted.watches().then(|| setup.point(&format!("{name}.lost")).counter().unsigned());
        Self {
            line: line.clone(),
            wanted,
            point,
            count,
            frequency,
            lost,
            open: None,
            counted_before: 0,
            kept: None,
            last: None,
            edges_lost: 0,
            said: None,
        }
    }

    /// Whether this is the line that the host names.
    pub fn is(&self, line: &str) -> bool {
        self.line.line == line
    }

    /// Edges become readings, each with its own time.
    pub fn edges(&mut self, poll: &mut Poll) {
        let Some(open) = self.open.as_ref().filter(|_| self.wanted.watches()) else { return };
        let by_edge = self.wanted.rising || self.wanted.falling;
        if by_edge {
            let batch = open.take_edges(EDGES_MAX);
            self.edges_lost += u64::from(batch.dropped);
            for event in batch.events {
                poll.good_at(self.point, event.edge == Edge::Rising, event.at);
            }
        }
        self.keep();
        // The host also wakes us when the line has gone.
        if let Err(error) = self.open.as_ref().map_or(Ok(lines::Level::Inactive), lines::Input::read) {
            self.fails(poll, &error);
        }
    }

    /// The level, and what is counted.
    pub fn poll(&mut self, poll: &mut Poll) {
        let level = self.line().and_then(lines::Input::read);
        match level {
            Ok(level) => poll.good(self.point, is_active(level)),
            Err(error) => {
                self.fails(poll, &error);
                return;
            }
        }
        let pulses = self.pulses();
        if let Some(count) = self.count {
            poll.good(count, pulses);
        }
        let now = clock::monotonic();
        if let (Some(frequency), Some((before, at))) = (self.frequency, self.last)
            && now > at
        {
            poll.good(frequency, pulses.saturating_sub(before) as f64 * 1e9 / (now - at) as f64);
        }
        self.last = Some((pulses, now));
        self.say_lost(poll);
        self.keep();
    }

    /// Keeps the count over restarts.
    pub fn keep(&mut self) {
        if self.count.is_none() || self.open.is_none() {
            return;
        }
        let pulses = self.pulses();
        if self.kept == Some(pulses) {
            return;
        }
        match state::set(&self.key(), pulses.to_string().as_bytes()) {
            Ok(()) => self.kept = Some(pulses),
            Err(error) => log::warn(&format!("the count of {} can't be kept: {error:?}", self.line.name)),
        }
    }

    /// How many edges were lost so far, once there was one.
    pub fn say_lost(&self, poll: &mut Poll) {
        if let Some(lost) = self.lost.filter(|_| self.edges_lost > 0) {
            poll.good(lost, self.edges_lost);
        }
    }

    /// All pulses, those before the last restart too.
    fn pulses(&self) -> u64 {
        let since = self.open.as_ref().filter(|_| self.wanted.counts()).map_or(0, |open| {
            let (rising, falling) = open.count();
            if self.wanted.counts_falling() { falling } else { rising }
        });
        self.counted_before + since
    }

    fn key(&self) -> String {
        format!("count.{}", self.line.name)
    }

    /// The line, opened where it is not.
    fn line(&mut self) -> Result<&lines::Input, lines::Error> {
        match self.open {
            Some(ref open) => Ok(open),
            None => {
                let options = lines::InputOptions { bias: self.wanted.bias, active_low: self.line.active_low };
                let open = lines::open_input(&self.line.line, options)?;
                if self.wanted.watches() {
                    let falling = self.wanted.falling;
                    let rising = self.wanted.rising || (self.wanted.counts() && !self.wanted.counts_falling());
                    let debounce = u64::try_from(self.wanted.debounce.as_nanos()).unwrap_or(u64::MAX);
                    open.watch(rising, falling, debounce)?;
                }
                self.counted_before = self.counted();
                self.last = None;
                self.said = None;
                Ok(self.open.insert(open))
            }
        }
    }

    /// What the state says was counted so far; from nothing where it does not.
    fn counted(&mut self) -> u64 {
        if let Some(kept) = self.kept {
            return kept;
        }
        if self.count.is_none() {
            return 0;
        }
        match state::get(&self.key()) {
            Ok(value) => {
                let text = value.and_then(|bytes| String::from_utf8(bytes).ok());
                text.and_then(|text| text.parse().ok()).unwrap_or(0)
            }
            Err(error) => {
                log::warn(&format!("the count of {} begins at 0: {error:?}", self.line.name));
                0
            }
        }
    }

    /// The line can not be read: it is bad, closed, and opened anew at the next poll.
    fn fails(&mut self, poll: &mut Poll, error: &lines::Error) {
        self.keep();
        self.open = None;
        let why = text(error);
        if self.said.as_ref() != Some(&why) {
            log::warn(&format!("{} ({}): {why}", self.line.name, self.line.line));
        }
        self.said = Some(why);
        bad(poll, self.point, error);
        for point in [self.count, self.frequency].into_iter().flatten() {
            bad(poll, point, error);
        }
    }
}
