//! Samples a second apart.

use registers::Value;

use super::*;
use crate::sample::Cause;
use crate::sample::tests::points;

const SECOND: u64 = 1_000_000_000;

/// Which of these samples, a second apart, are told.
fn told(options: &str, samples: &[Sample]) -> Vec<usize> {
    let points = points(&format!(r#"{{"name": "a", "address": "holding:0", "type": "f32"{options}}}"#));
    let mut reporter = Reporter::default();
    let is_told = |(index, sample): (usize, &Sample)| {
        reporter.is_news(points.first()?, sample, index as u64 * SECOND).then_some(index)
    };
    samples.iter().enumerate().filter_map(is_told).collect()
}

fn reals(values: &[f64]) -> Vec<Sample> {
    values.iter().map(|value| Sample::Good(Value::Real(*value))).collect()
}

#[test]
fn without_options_all_are_told() {
    assert_eq!(told("", &reals(&[1.0, 1.0, 1.0])), [0, 1, 2]);
}

#[test]
fn a_deadband_counts_from_what_was_told_last() {
    assert_eq!(told(r#", "deadband": 0.5"#, &reals(&[12.3, 12.8, 12.9, 13.3, 13.5])), [0, 2, 4]);
    assert_eq!(told(r#", "deadband": 0.5"#, &reals(&[1.0, 0.6, 0.2, 0.6, 1.0])), [0, 2, 4], "no creeping away");
    assert_eq!(told(r#", "deadband": 0"#, &reals(&[1.0, 1.0, 1.1, 1.1, 1.0])), [0, 2, 4]);
}

#[test]
fn a_heartbeat_tells_it_again() {
    assert_eq!(told(r#", "deadband": 5, "heartbeat": "2s""#, &reals(&[1.0; 6])), [0, 2, 4]);
    assert_eq!(told(r#", "heartbeat": "3s""#, &reals(&[1.0, 1.0, 2.0, 2.0, 2.0, 2.0])), [0, 2, 5]);
}

#[test]
fn a_change_of_quality_is_told_whatever_the_deadband() {
    let bad = Sample::Bad(Cause::Shared(1));
    let link = Sample::Bad(Cause::Shared(2));
    let good = Sample::Good(Value::Real(1.0));
    let doubtful = Sample::Doubtful(Value::Real(1.0), 2);
    let samples = [good.clone(), bad.clone(), bad, link, good.clone(), good, doubtful];
    assert_eq!(told(r#", "deadband": 100"#, &samples), [0, 1, 3, 4, 6]);
}

#[test]
fn large_whole_numbers_are_not_rounded_together() {
    let samples = [u64::MAX, u64::MAX - 1, u64::MAX - 1].map(|n| Sample::Good(Value::Unsigned(n)));
    assert_eq!(told(r#", "deadband": 0"#, &samples), [0, 1]);
}

#[test]
fn what_is_not_a_number_is_told_once() {
    assert_eq!(told(r#", "deadband": 0"#, &reals(&[f64::NAN, f64::NAN, 1.0])), [0, 2]);
    assert_eq!(told(r#", "deadband": 1"#, &reals(&[f64::INFINITY, f64::INFINITY, 1.0, f64::NAN])), [0, 2, 3]);
}
