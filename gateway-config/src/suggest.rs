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

/// How many characters to insert, delete or replace, or neighbours to swap (the optimal string alignment distance).
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let at = |row: &[usize], place: usize| row.get(place).copied().unwrap_or(usize::MAX);
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut next = vec![i.saturating_add(1)];
        for (j, b) in other.iter().enumerate() {
            let after = j.saturating_add(1);
            let replaced = at(&row, j).saturating_add(usize::from(a != b));
            let added = at(&next, j).min(at(&row, after)).saturating_add(1);
            let last = |chars: &[char], place: usize| place.checked_sub(1).and_then(|place| chars.get(place)).copied();
            let swapped = if last(&one, i) == Some(*b) && last(&other, j) == Some(*a) {
                j.checked_sub(1).map_or(usize::MAX, |place| at(&before, place).saturating_add(1))
            } else {
                usize::MAX
            };
            next.push(replaced.min(added).min(swapped));
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}

/// What other caches call a field of ours.
#[cfg(feature = "files")]
pub(crate) fn synonym(word: &str) -> Option<&'static str> {
    const KNOWN: &[(&str, &str)] = &[
        ("max_age", "ttl"),
        ("maxage", "ttl"),
        ("s_maxage", "ttl"),
        ("expires", "ttl"),
        ("lifetime", "ttl"),
        ("swr", "stale_while_revalidate"),
        ("grace", "stale_while_revalidate"),
        ("sie", "stale_if_error"),
        ("surrogate_key", "tags"),
        ("surrogate_keys", "tags"),
        ("cache_tag", "tags"),
        ("cache_tags", "tags"),
        ("cache_key", "key"),
        ("cache_by_headers", "vary"),
        ("vary_headers", "vary"),
        ("query_string", "query"),
        ("url", "path"),
        ("uri", "path"),
        ("prefix_path", "path"),
        ("pattern", "path"),
        ("hostname", "host"),
        ("domain", "host"),
        ("hosts", "host"),
        ("verbs", "methods"),
        ("rules", "routes"),
        ("invalidate", "purge"),
        ("invalidates", "purge"),
        ("redis", "bridge"),
    ];
    let word = word.to_ascii_lowercase().replace('-', "_");
    KNOWN.iter().find(|(known, _)| *known == word).map(|(_, ours)| *ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_is_one_slip() {
        for (one, other, expected) in [
            ("lnog", "long", 1),
            ("defualt", "default", 1),
            ("abcd", "badc", 2),
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("ttl", "ttl", 0),
        ] {
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
