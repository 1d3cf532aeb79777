//! `Cache-Control` of responses (RFC 9111 §5.2.2), read over all its lines.

use crate::fields::Fields;
use crate::policy::DeltaSeconds;

/// The directives that a shared cache acts on. Where a directive is repeated, the most restrictive reading wins (§4.2.1
/// lets a cache choose), and an argument that can't be read counts as `0`, which is stale at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// §5.2.2.5: must not be stored.
    pub no_store: bool,
    /// §5.2.2.4: must not be reused without validation. The qualified form (`no-cache="field"`) counts as the whole.
    pub no_cache: bool,
    /// §5.2.2.7: not for a shared cache. The qualified form counts as the whole.
    pub private: bool,
    /// §5.2.2.10: freshness lifetime for shared caches.
    pub s_maxage: Option<DeltaSeconds>,
    /// §5.2.2.1: freshness lifetime.
    pub max_age: Option<DeltaSeconds>,
}

impl CacheControl {
    /// Reads every `Cache-Control` line.
    #[must_use]
    pub fn of(fields: &Fields<'_>) -> Self {
        let mut found = Self::default();
        for line in fields.all("cache-control") {
            for (name, argument) in directives(line) {
                let is = |directive: &str| name.eq_ignore_ascii_case(directive.as_bytes());
                if is("no-store") {
                    found.no_store = true;
                } else if is("no-cache") {
                    found.no_cache = true;
                } else if is("private") {
                    found.private = true;
                } else if is("s-maxage") {
                    restrict(&mut found.s_maxage, argument);
                } else if is("max-age") {
                    restrict(&mut found.max_age, argument);
                }
            }
        }
        found
    }
}

fn restrict(lifetime: &mut Option<DeltaSeconds>, argument: Option<&[u8]>) {
    let given = argument.and_then(DeltaSeconds::parse).unwrap_or_default();
    *lifetime = Some(lifetime.map_or(given, |known| known.min(given)));
}

/// The directives of one line: names, and arguments without their quotes. A comma inside quotes doesn't end one (so
/// `ext="no-store, x"` doesn't forbid storing); an unclosed quote runs to the end of the line.
fn directives(line: &[u8]) -> Vec<(&[u8], Option<&[u8]>)> {
    let mut found = Vec::new();
    let (mut quoted, mut escaped) = (false, false);
    for member in line.split(|byte| {
        let escape = quoted && !escaped && *byte == b'\\';
        if *byte == b'"' && !escaped {
            quoted = !quoted;
        }
        escaped = escape;
        *byte == b',' && !quoted
    }) {
        let member = member.trim_ascii();
        if member.is_empty() {
            continue;
        }
        let mut parts = member.splitn(2, |byte| *byte == b'=');
        let name = parts.next().unwrap_or_default().trim_ascii_end();
        let argument = parts.next().map(|argument| {
            let argument = argument.trim_ascii_start();
            argument.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(argument)
        });
        found.push((name, argument));
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &[&str]) -> CacheControl {
        CacheControl::of(&Fields::from_pairs(
            lines.iter().map(|line| (&b"cache-control"[..], line.as_bytes())).collect(),
        ))
    }

    fn secs(seconds: u64) -> Option<DeltaSeconds> {
        Some(DeltaSeconds::saturating(seconds))
    }

    #[test]
    fn directives_are_read_in_any_letter_case_and_over_all_lines() {
        let found = read(&["Max-Age=60", "NO-STORE, S-MaxAge=\"5\" ,, private=\"a, b\""]);
        let expected =
            CacheControl { no_store: true, private: true, no_cache: false, s_maxage: secs(5), max_age: secs(60) };
        assert_eq!(found, expected);
    }

    #[test]
    fn of_repeated_lifetimes_the_shortest_wins() {
        assert_eq!(read(&["max-age=60, max-age=5", "max-age=30"]).max_age, secs(5));
    }

    #[test]
    fn a_lifetime_that_cannot_be_read_is_none_at_all() {
        for line in ["max-age", "max-age=", "max-age=x", "max-age=-1", "max-age=1.5", "max-age=60, max-age=?"] {
            assert_eq!(read(&[line]).max_age, secs(0), "{line}");
        }
        assert_eq!(read(&["max-age=99999999999999999999"]).max_age, Some(DeltaSeconds::MAX));
    }

    #[test]
    fn what_is_quoted_is_no_directive() {
        assert_eq!(read(&["ext=\"no-store, private\""]), CacheControl::default());
        assert_eq!(
            read(&["ext=\"a\\\", no-store\", no-cache"]),
            CacheControl { no_cache: true, ..CacheControl::default() }
        );
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(line: Vec<u8>) {
            directives(&line);
        }
    }
}
