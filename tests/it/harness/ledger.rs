//! The book in which every message with a number is entered, and the rules that it must keep: the promise of the
//! project, seen from outside.
//!
//! - (`store`, `boot`, `seq`) names one content for ever.
//! - Within a source, messages arrive for the first time in the order in which they were taken.
//! - What arrived and what gaps name is complete, from 1 to the highest number of each boot, and never both.
//!
//! Owns no connection and no clock; [`super::Checker`] enters what it receives. It has tests of its own: a ledger that
//! sees nothing would let everything pass.

use std::collections::BTreeMap;

use serde_json::Value;

/// A boot of a data folder.
type Boot = (String, u64);

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    boots: BTreeMap<Boot, Numbers>,
    sources: BTreeMap<(String, String), Last>,
    faults: Vec<String>,
}

/// What is known of one boot.
#[derive(Debug, Default)]
struct Numbers {
    arrived: BTreeMap<u64, Vec<u8>>,
    gaps: Vec<(u64, u64)>,
    copies: u64,
    copies_by_broker: u64,
}

/// The last message of a source, of those that arrived for the first time.
#[derive(Debug)]
struct Last {
    boot: u64,
    seq: u64,
    time: String,
}

impl Ledger {
    /// Enters a message, if it is one that has a number.
    pub fn enter(&mut self, payload: &[u8], json: &Value) {
        self.enter_with(payload, json, false);
    }

    /// The same, with the DUP flag that the broker set: then it is the broker that sends again what it sent before (mosquitto
    /// does so after its own restart), not the agent.
    pub fn enter_with(&mut self, payload: &[u8], json: &Value, dup: bool) {
        let (Some(store), Some(boot), Some(seq)) =
            (json["store"].as_str(), json["boot"].as_u64(), json["seq"].as_u64())
        else {
            return;
        };
        let key = (store.to_owned(), boot);
        let numbers = self.boots.entry(key.clone()).or_default();
        if let Some(earlier) = numbers.arrived.get(&seq) {
            *if dup { &mut numbers.copies_by_broker } else { &mut numbers.copies } += 1;
            if earlier != payload {
                let (one, other) = (String::from_utf8_lossy(earlier), String::from_utf8_lossy(payload));
                self.faults.push(format!("{key:?} {seq} has two contents: {one} and {other}"));
            }
            return;
        }
        numbers.arrived.insert(seq, payload.to_vec());
        if seq == 0 {
            self.faults.push(format!("{key:?} has a number 0"));
        }
        match json.get("gap") {
            Some(gap) => self.enter_gap(store, gap),
            None => self.enter_reading(store, boot, seq, json),
        }
    }

    fn enter_gap(&mut self, store: &str, gap: &Value) {
        let run = (gap["boot"].as_u64(), gap["first"].as_u64(), gap["last"].as_u64(), gap["messages"].as_u64());
        let (Some(boot), Some(first), Some(last), Some(messages)) = run else {
            self.faults.push(format!("a gap without a run: {gap}"));
            return;
        };
        if first == 0 || first > last || messages > last - first + 1 {
            self.faults.push(format!("a gap whose run can not be: {gap}"));
            return;
        }
        if let Some(sources) = gap["sources"].as_object() {
            let sum: u64 = sources.values().filter_map(Value::as_u64).sum();
            if sum > messages {
                self.faults.push(format!("a gap whose sources are more than its messages: {gap}"));
            }
        }
        self.boots.entry((store.to_owned(), boot)).or_default().gaps.push((first, last));
    }

    fn enter_reading(&mut self, store: &str, boot: u64, seq: u64, json: &Value) {
        let (Some(source), Some(time)) = (json["source"].as_str(), json["time"].as_str()) else {
            self.faults.push(format!("a reading without source or time: {json}"));
            return;
        };
        let key = (store.to_owned(), source.to_owned());
        if let Some(last) = self.sources.get(&key)
            && ((boot, seq) < (last.boot, last.seq) || (boot == last.boot && time < last.time.as_str()))
        {
            self.faults.push(format!("{key:?}: ({boot}, {seq}, {time}) came for the first time after {last:?}"));
        }
        self.sources.insert(key, Last { boot, seq, time: time.to_owned() });
    }

    /// Everything that broke a rule, whatever is still to come.
    pub fn faults(&self) -> Vec<String> {
        let both = self.boots.iter().flat_map(|(boot, numbers)| {
            let of_run = move |&(first, last): &(u64, u64)| numbers.arrived.range(first..=last).map(|(seq, _)| *seq);
            numbers.gaps.iter().flat_map(of_run).map(move |seq| format!("{boot:?} {seq} arrived and is named by a gap"))
        });
        self.faults.iter().cloned().chain(both).collect()
    }

    /// Numbers that have neither arrived nor been named by a gap, below the highest of their boot.
    pub fn missing(&self) -> Vec<String> {
        self.boots
            .iter()
            .flat_map(|(boot, numbers)| numbers.missing().into_iter().map(move |run| format!("{boot:?} {run}")))
            .collect()
    }

    /// Fails the test unless every rule is kept and nothing is missing.
    #[track_caller]
    pub fn assert_kept(&self) {
        let (faults, missing) = (self.faults(), self.missing());
        assert!(faults.is_empty(), "{} faults: {:#?}", faults.len(), faults.get(..10).unwrap_or(&faults));
        assert!(missing.is_empty(), "missing: {missing:#?}");
    }

    /// The boots of which something is known, in order of store and number.
    pub fn boots(&self) -> Vec<u64> {
        self.boots.keys().map(|(_, boot)| *boot).collect()
    }

    /// The stores of which something is known.
    pub fn stores(&self) -> Vec<String> {
        let mut stores: Vec<String> = self.boots.keys().map(|(store, _)| store.clone()).collect();
        stores.dedup();
        stores
    }

    /// How many numbers arrived, all boots together.
    pub fn arrived(&self) -> usize {
        self.boots.values().map(|numbers| numbers.arrived.len()).sum()
    }

    /// How many messages came more than once, by the agent's doing.
    pub fn copies(&self) -> u64 {
        self.boots.values().map(|numbers| numbers.copies).sum()
    }

    /// How many the broker sent again to the subscriber.
    pub fn copies_by_broker(&self) -> u64 {
        self.boots.values().map(|numbers| numbers.copies_by_broker).sum()
    }
}

impl Numbers {
    fn missing(&self) -> Vec<String> {
        let mut runs: Vec<(u64, u64)> =
            self.arrived.keys().map(|&seq| (seq, seq)).chain(self.gaps.iter().copied()).collect();
        runs.sort_unstable();
        let mut next = 1;
        let mut holes = Vec::new();
        for (first, last) in runs {
            if first > next {
                holes.push(format!("{next}..={}", first - 1));
            }
            next = next.max(last + 1);
        }
        holes
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ledger(messages: &[Value]) -> Ledger {
        let mut ledger = Ledger::default();
        for message in messages {
            ledger.enter(message.to_string().as_bytes(), message);
        }
        ledger
    }

    fn reading(boot: u64, seq: u64) -> Value {
        json!({"store": "aa", "boot": boot, "seq": seq, "source": "s", "time": format!("2026-01-01T00:00:{:02}Z", seq % 60)})
    }

    fn gap(seq: u64, first: u64, last: u64) -> Value {
        let run = json!({"boot": 1, "first": first, "last": last, "messages": last - first + 1});
        json!({"store": "aa", "boot": 2, "seq": seq, "gap": run})
    }

    #[test]
    fn what_is_complete_is_kept() {
        let ledger = ledger(&[reading(1, 1), reading(1, 2), reading(1, 2), gap(1, 3, 9), reading(1, 10)]);
        ledger.assert_kept();
        assert_eq!((ledger.arrived(), ledger.copies(), ledger.boots()), (4, 1, vec![1, 2]));
    }

    #[test]
    fn a_hole_is_seen() {
        assert_eq!(ledger(&[reading(1, 2), reading(1, 5)]).missing(), ["(\"aa\", 1) 1..=1", "(\"aa\", 1) 3..=4"]);
        assert_eq!(ledger(&[reading(1, 1), gap(1, 3, 4)]).missing(), ["(\"aa\", 1) 2..=2"]);
    }

    #[test]
    fn a_second_content_is_seen() {
        let mut other = reading(1, 1);
        other["values"] = json!({});
        assert_eq!(ledger(&[reading(1, 1), other]).faults().len(), 1);
    }

    #[test]
    fn wrong_order_is_seen() {
        assert_eq!(ledger(&[reading(1, 1), reading(1, 3), reading(1, 2)]).faults().len(), 1);
        assert_eq!(ledger(&[reading(2, 1), reading(1, 1)]).faults().len(), 1);
        assert_eq!(ledger(&[reading(1, 1), reading(1, 2), reading(1, 1)]).faults().len(), 0, "a copy may come late");
    }

    #[test]
    fn a_gap_that_names_what_arrived_is_seen() {
        assert_eq!(ledger(&[reading(1, 1), reading(1, 2), gap(1, 2, 3)]).faults().len(), 1);
    }
}
