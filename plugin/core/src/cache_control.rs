//! `Cache-Control` of responses (RFC 9111 §5.2.2) and of requests (§5.2.1), read over all its lines.

use crate::fields::Fields;
use crate::policy::DeltaSeconds;

/// The response directives that a shared cache acts on. Where a directive is repeated, the most restrictive reading wins
/// (§4.2.1 lets a cache choose), and an argument that can't be read counts as `0`, which is stale at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// §5.2.2.5: must not be stored.
    pub no_store: bool,
    /// §5.2.2.4: must not be reused without validation.
    pub no_cache: bool,
    /// §5.2.2.7: not for a shared cache.
    pub private: bool,
    /// §5.2.2.4 and §5.2.2.7, qualified: these fields, in lower case, must not be stored by a shared cache, or not be
    /// reused without validation. They are left out of what is stored.
    pub withheld: Vec<Vec<u8>>,
    /// §5.2.2.10: freshness lifetime for shared caches.
    pub s_maxage: Option<DeltaSeconds>,
    /// §5.2.2.1: freshness lifetime.
    pub max_age: Option<DeltaSeconds>,
    /// §5.2.2.9: storable though nothing else says so.
    pub public: bool,
    /// §5.2.2.2 and §5.2.2.8: never served stale.
    pub must_revalidate: bool,
    /// §5.2.2.3: stored only where the status is understood.
    pub must_understand: bool,
    /// RFC 5861 §4: may stand in for an error for so long after it went stale.
    pub stale_if_error: Option<DeltaSeconds>,
    /// RFC 5861 §3: may be served for so long after it went stale, while it is asked about behind the client.
    pub stale_while_revalidate: Option<DeltaSeconds>,
    /// Whether anything was said at all.
    pub said: bool,
}

impl CacheControl {
    /// Reads every `Cache-Control` line.
    #[must_use]
    pub fn of(fields: &Fields<'_>) -> Self {
        let mut found = Self::default();
        for line in fields.all("cache-control") {
            for (name, argument) in directives(line) {
                found.add(name, argument);
            }
        }
        // §5.2.2.3: who knows `must-understand` ignores the `no-store` that stands there for those who don't; whether
        // the status is understood is looked at when storing.
        if found.must_understand {
            found.no_store = false;
        }
        found
    }

    /// Counts one directive in.
    pub(crate) fn add(&mut self, name: &[u8], argument: Option<&[u8]>) {
        let is = |directive: &str| name.eq_ignore_ascii_case(directive.as_bytes());
        self.said = true;
        if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") {
            self.no_cache |= !self.withhold(argument);
        } else if is("private") {
            self.private |= !self.withhold(argument);
        } else if is("s-maxage") {
            restrict(&mut self.s_maxage, argument);
        } else if is("max-age") {
            restrict(&mut self.max_age, argument);
        } else if is("public") {
            self.public = true;
        } else if is("must-revalidate") || is("proxy-revalidate") {
            self.must_revalidate = true;
        } else if is("must-understand") {
            self.must_understand = true;
        } else if is("stale-if-error") {
            restrict(&mut self.stale_if_error, argument);
        } else if is("stale-while-revalidate") {
            restrict(&mut self.stale_while_revalidate, argument);
        }
    }

    /// Notes the fields that a qualified directive names; false when it names none, and means the whole response.
    fn withhold(&mut self, argument: Option<&[u8]>) -> bool {
        let names = argument.unwrap_or_default().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let before = self.withheld.len();
        self.withheld.extend(names.filter(|name| !name.is_empty()).map(<[u8]>::to_ascii_lowercase));
        self.withheld.len() > before
    }
}

/// The request directives (§5.2.1), and `Pragma` where there is no `Cache-Control` (§5.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestControl {
    /// §5.2.1.4: not without validation.
    pub no_cache: bool,
    /// §5.2.1.5: the response isn't to be stored.
    pub no_store: bool,
    /// §5.2.1.7: the stored response or none.
    pub only_if_cached: bool,
    /// §5.2.1.1: not older than this.
    pub max_age: Option<DeltaSeconds>,
    /// §5.2.1.3: fresh for at least so long.
    pub min_fresh: Option<DeltaSeconds>,
    /// §5.2.1.2: stale for at most so long.
    pub max_stale: Option<DeltaSeconds>,
}

impl RequestControl {
    /// Reads a request.
    #[must_use]
    pub fn of(fields: &Fields<'_>) -> Self {
        let mut found = Self::default();
        let mut said = false;
        for line in fields.all("cache-control") {
            for (name, argument) in directives(line) {
                let is = |directive: &str| name.eq_ignore_ascii_case(directive.as_bytes());
                said = true;
                if is("no-cache") {
                    found.no_cache = true;
                } else if is("no-store") {
                    found.no_store = true;
                } else if is("only-if-cached") {
                    found.only_if_cached = true;
                } else if is("max-age") {
                    restrict(&mut found.max_age, argument);
                } else if is("min-fresh") {
                    // The largest is the most restrictive one; one that can't be read asks for nothing.
                    let given = argument.and_then(DeltaSeconds::parse);
                    found.min_fresh = found.min_fresh.max(given);
                } else if is("max-stale") {
                    // Without an argument: however stale.
                    match argument {
                        None => found.max_stale = found.max_stale.or(Some(DeltaSeconds::MAX)),
                        argument => restrict(&mut found.max_stale, argument),
                    }
                }
            }
        }
        if !said && fields.list("pragma").any(|directive| directive.eq_ignore_ascii_case(b"no-cache")) {
            found.no_cache = true;
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
pub(crate) fn directives(line: &[u8]) -> Vec<(&[u8], Option<&[u8]>)> {
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

    fn fields<'a>(lines: &[&'a str]) -> Fields<'a> {
        Fields::from_pairs(lines.iter().map(|line| (&b"cache-control"[..], line.as_bytes())).collect())
    }

    fn read(lines: &[&str]) -> CacheControl {
        CacheControl::of(&fields(lines))
    }

    fn secs(seconds: u64) -> Option<DeltaSeconds> {
        Some(DeltaSeconds::saturating(seconds))
    }

    #[test]
    fn directives_are_read_in_any_letter_case_and_over_all_lines() {
        let found = read(&["Max-Age=60, Proxy-Revalidate", "NO-STORE, S-MaxAge=\"5\" ,, stale-if-error=7"]);
        let expected = CacheControl {
            no_store: true,
            must_revalidate: true,
            s_maxage: secs(5),
            max_age: secs(60),
            stale_if_error: secs(7),
            said: true,
            ..CacheControl::default()
        };
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
        assert_eq!(read(&["ext=\"no-store, private\""]), CacheControl { said: true, ..CacheControl::default() });
        assert!(read(&["ext=\"a\\\", no-store\", no-cache"]).no_cache);
        assert!(!read(&["ext=\"a\\\", no-store\", no-cache"]).no_store);
    }

    /// RFC 9111 §5.2.2.4 and §5.2.2.7.
    #[test]
    fn a_qualified_directive_withholds_the_fields_that_it_names_and_one_without_names_the_whole() {
        let found = read(&["private=\"X-User, set-cookie\", no-cache=X-Once"]);
        assert_eq!((found.private, found.no_cache), (false, false));
        assert_eq!(found.withheld, [&b"x-user"[..], b"set-cookie", b"x-once"]);
        for line in ["private=\"\"", "private=", "private=\" , \"", "private=\"a\", private"] {
            assert!(read(&[line]).private, "{line}");
        }
    }

    /// RFC 9111 §5.2.2.3.
    #[test]
    fn must_understand_takes_the_place_of_no_store() {
        let found = read(&["no-store, must-understand, max-age=5"]);
        assert_eq!((found.no_store, found.must_understand), (false, true));
    }

    /// RFC 9111 §5.2.1 and §5.4.
    #[test]
    fn a_requests_directives_are_read_with_the_strictest_of_each() {
        let read = |lines: &[&str]| RequestControl::of(&fields(lines));
        let found = read(&["max-age=5, max-age=3, min-fresh=1, min-fresh=9", "max-stale=4, only-if-cached"]);
        let expected = RequestControl {
            only_if_cached: true,
            max_age: secs(3),
            min_fresh: secs(9),
            max_stale: secs(4),
            ..RequestControl::default()
        };
        assert_eq!(found, expected);
        assert_eq!(read(&["max-stale"]).max_stale, Some(DeltaSeconds::MAX));
        assert_eq!(read(&["max-stale, max-stale=5"]).max_stale, secs(5));
        assert_eq!(read(&["max-stale=x"]).max_stale, secs(0));
        assert!(read(&["no-cache, no-store"]).no_cache && read(&["no-store"]).no_store);
        let pragma = |cache_control: &'static str| {
            let mut lines: Vec<(&[u8], &[u8])> = vec![(b"pragma", b"x, No-Cache")];
            if !cache_control.is_empty() {
                lines.push((b"cache-control", cache_control.as_bytes()));
            }
            RequestControl::of(&Fields::from_pairs(lines)).no_cache
        };
        assert!(pragma("") && !pragma("max-age=60"));
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(line: Vec<u8>) {
            directives(&line);
            let fields = Fields::from_pairs(vec![(b"cache-control", &line), (b"pragma", &line)]);
            let _ = CacheControl::of(&fields);
            let _ = RequestControl::of(&fields);
        }
    }
}
