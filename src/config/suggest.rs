//! "Did you mean": the nearest of some words, by edit distance.

/// The candidate that `word` was most likely meant to be; `None` if all are far off.
pub(super) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    /// Longer words are not looked at: the distance costs their product.
    const WORD_MAX: usize = 64;
    let length = word.chars().count();
    if length == 0 || length > WORD_MAX {
        return None;
    }
    let wanted = word.to_lowercase();
    let candidates: Vec<&str> = candidates.into_iter().filter(|candidate| candidate.len() <= WORD_MAX).collect();
    let near = candidates
        .iter()
        .map(|candidate| (distance(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(far, candidate)| *far <= allowed(length.max(candidate.chars().count())))
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| *candidate);
    near.or_else(|| candidates.into_iter().find(|candidate| is_short_for(&wanted, candidate)))
}

/// Whether one is the beginning of the other: `warning` and `warn`, `max` and `maximum`.
fn is_short_for(a: &str, b: &str) -> bool {
    const SHORT_MIN: usize = 3;
    a.len().min(b.len()) >= SHORT_MIN && (a.starts_with(b) || b.starts_with(a))
}

/// How many slips a word of this length may hold and still be that word.
fn allowed(length: usize) -> usize {
    match length {
        0..=2 => 0,
        3..=4 => 1,
        5..=8 => 2,
        _ => 3,
    }
}

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &left) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &right) in b.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX - 1);
            let mut best = (at(&last, j + 1) + 1).min(at(&row, j) + 1).min(at(&last, j) + usize::from(left != right));
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(&right) && b.get(j - 1) == Some(&left);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_slips() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("every", "evrey"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn finds_the_nearest_and_nothing_far_off() {
        let keys = ["every", "plugin", "qos", "topic"];
        assert_eq!(nearest("evry", keys), Some("every"));
        assert_eq!(nearest("Plugin", keys), Some("plugin"));
        assert_eq!(nearest("qso", keys), Some("qos"));
        assert_eq!(nearest("top", keys), Some("topic"));
        assert_eq!(nearest("plugins_dir", keys), Some("plugin"));
        assert_eq!(nearest("interval", keys), None);
        assert_eq!(nearest("", keys), None);
    }
}
