//! "Did you mean …": the word that a slip of the finger away.

/// The candidate nearest to `word`, if it is near enough that a slip explains the difference.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer words are no slip, and the distance takes time in the square of the length.
    const CHARS_MAX: usize = 64;
    if word.chars().nth(CHARS_MAX).is_some() {
        return None;
    }
    let allowed = (word.chars().count() / 3).max(1);
    let distances = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate));
    distances.filter(|(distance, _)| *distance <= allowed).min_by_key(|(distance, _)| *distance).map(|(_, near)| near)
}

/// Levenshtein's: how many characters to insert, delete or replace.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (index, a) in one.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index.saturating_add(1);
        let mut cells = row.iter_mut();
        if let Some(first) = cells.next() {
            *first = left;
        }
        for (cell, b) in cells.zip(other.chars()) {
            let replaced = diagonal.saturating_add(usize::from(a != b));
            diagonal = *cell;
            left = replaced.min(left.saturating_add(1)).min(diagonal.saturating_add(1));
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshteins() {
        for (one, other, expected) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("ttl", "ttl", 0)] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_slip_finds_its_word_and_another_word_does_not() {
        let words = ["namespace", "ttl", "routes"];
        assert_eq!(nearest("route", words), Some("routes"));
        assert_eq!(nearest("tll", words), Some("ttl").filter(|_| distance("tll", "ttl") <= 1));
        assert_eq!(nearest("banana", words), None);
        assert_eq!(nearest(&"n".repeat(10_000), words), None);
    }
}
