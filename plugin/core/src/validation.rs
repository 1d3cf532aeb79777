//! Validation (RFC 9111 §4.3): asking the origin whether a stored response still holds, telling a client that what it
//! holds still does, and what a 304 or the response to a HEAD changes.

use crate::cache_control::CacheControl;
use crate::fields::{Fields, Line};
use crate::http_date::http_date_ms;
use crate::storing::{content_length, kept_fields};

/// The validators of a stored response, as a request sends them (§4.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validators<'a> {
    /// `If-None-Match`.
    pub etag: Option<&'a [u8]>,
    /// `If-Modified-Since`.
    pub last_modified: Option<&'a [u8]>,
}

impl<'a> Validators<'a> {
    /// Those of a stored response.
    #[must_use]
    pub fn of(stored: &Fields<'a>) -> Self {
        Self { etag: stored.only("etag"), last_modified: stored.only("last-modified") }
    }

    /// Whether there is none: then the origin can't be asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

/// Whether a client's own condition makes the answer a 304, of a stored response that may be reused (§4.3.2).
#[must_use]
pub fn is_not_modified<'a>(request: &Fields<'_>, status: u16, stored: impl FnOnce() -> Fields<'a>) -> bool {
    if !request.has("if-none-match") && !request.has("if-modified-since") {
        return false; // nearly always: the stored header isn't even read
    }
    if !(200..300).contains(&status) {
        return false;
    }
    let stored = stored();
    if request.has("if-none-match") {
        // RFC 9110 §13.1.2: `If-Modified-Since` doesn't count then.
        let etag = stored.only("etag");
        return request.all("if-none-match").any(|line| {
            line.trim_ascii() == b"*" || etag.is_some_and(|etag| entity_tags(line).any(|tag| weakly_equal(tag, etag)))
        });
    }
    let since_ms = request.only("if-modified-since").and_then(http_date_ms);
    // Without a Last-Modified, it is the Date that the stored response can't be newer than.
    let date = |name| stored.only(name).and_then(http_date_ms);
    since_ms.zip(date("last-modified").or_else(|| date("date"))).is_some_and(|(since, modified)| modified <= since)
}

/// Whether a range may be taken from the stored response (RFC 9110 §13.1.5): no `If-Range`, or one that names it
/// strongly. A date does so only if it is no younger than a second before the response.
#[must_use]
pub fn if_range_holds(request: &Fields<'_>, stored: &Fields<'_>) -> bool {
    let Some(condition) = request.first("if-range") else { return true };
    let condition = condition.trim_ascii();
    if let Some(given_ms) = http_date_ms(condition) {
        let date = |name| stored.only(name).and_then(http_date_ms);
        let strong = |modified_ms: u64| date("date").is_some_and(|date| date >= modified_ms.saturating_add(1000));
        return date("last-modified").is_some_and(|modified| modified == given_ms && strong(modified));
    }
    let is_strong = |tag: &[u8]| tag.starts_with(b"\"");
    stored.only("etag").is_some_and(|etag| is_strong(etag) && etag == condition)
}

/// The members of an `If-None-Match` line; a comma inside quotes belongs to its tag.
fn entity_tags(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    line.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    })
    .map(<[u8]>::trim_ascii)
}

/// RFC 9110 §8.8.3.2.
fn weakly_equal(one: &[u8], two: &[u8]) -> bool {
    one.strip_prefix(b"W/").unwrap_or(one) == two.strip_prefix(b"W/").unwrap_or(two)
}

/// The header lines of a stored response after a 304, or after a 200 to a HEAD, that is about it (§3.2, §4.3.4).
///
/// `None` when the newer response carries a strong validator that isn't the stored one's: then it is about something
/// else, and mustn't change it.
#[must_use]
pub fn freshened<'a>(stored: &Fields<'a>, newer: &Fields<'a>, control: &CacheControl) -> Option<Vec<Line<'a>>> {
    /// What the stored body depends upon, and its own name.
    const OF_THE_BODY: [&str; 7] =
        ["content-encoding", "content-length", "content-range", "content-md5", "content-digest", "repr-digest", "etag"];
    let etags = (stored.only("etag"), newer.only("etag"));
    if let (Some(old), Some(new)) = etags
        && new.starts_with(b"\"")
        && !weakly_equal(old, new)
    {
        return None;
    }
    let of_the_body = |name: &[u8]| OF_THE_BODY.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
    let mut updates = kept_fields(newer, control);
    updates.retain(|(name, _)| !of_the_body(name));
    let replaced = |name: &[u8]| updates.iter().any(|(newer, _)| newer.eq_ignore_ascii_case(name));
    let mut lines: Vec<_> = stored.iter().filter(|(name, _)| !replaced(name)).collect();
    lines.extend(updates);
    Some(lines)
}

/// Whether the 200 to a HEAD is about the stored response (§4.3.5): each validator and the length that it has are the
/// stored one's. Otherwise the stored one is out of date.
#[must_use]
pub fn head_agrees(stored: &Fields<'_>, stored_len: usize, head: &Fields<'_>) -> bool {
    let same = |name| head.only(name).is_none_or(|value| stored.only(name) == Some(value));
    let length = content_length(head).ok().flatten();
    same("etag") && same("last-modified") && length.is_none_or(|length| usize::try_from(length) == Ok(stored_len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields<'a>(lines: &[(&'a str, &'a str)]) -> Fields<'a> {
        Fields::from_pairs(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect())
    }

    /// RFC 9110 §13.1.2 and §8.8.3.2.
    #[test]
    fn if_none_match_is_compared_weakly_with_lists_and_stars() {
        for (etag, line, expected) in [
            ("\"a\"", "\"a\"", true),
            ("W/\"a\"", "\"a\"", true),
            ("\"a\"", "W/\"a\"", true),
            ("\"a\"", "\"x\", W/\"a\" , \"y\"", true),
            ("\"a,b\"", "\"x\",\"a,b\"", true),
            ("\"b\"", "\"a,\"b\"", false),
            ("\"a\"", "*", true),
            ("\"a\"", "\"A\"", false),
            ("\"a\"", "a", false),
            ("\"a\"", "", false),
            ("\"a\"", "w/\"a\"", false),
        ] {
            let stored = fields(&[("etag", etag)]);
            assert_eq!(
                is_not_modified(&fields(&[("if-none-match", line)]), 200, || stored.clone()),
                expected,
                "{etag} {line}"
            );
        }
        let two = fields(&[("if-none-match", "\"x\""), ("if-none-match", "\"a\"")]);
        assert!(is_not_modified(&two, 200, || fields(&[("etag", "\"a\"")])));
        assert!(!is_not_modified(&fields(&[("if-none-match", "\"a\"")]), 200, || fields(&[])));
        assert!(!is_not_modified(&fields(&[("if-none-match", "*")]), 404, || fields(&[])));
    }

    /// RFC 9111 §4.3.2.
    #[test]
    fn if_modified_since_is_compared_with_last_modified_else_with_date_and_not_beside_if_none_match() {
        let (old, mid, new) =
            ("Mon, 24 Nov 2025 15:00:00 GMT", "Mon, 24 Nov 2025 16:00:00 GMT", "Monday, 24-Nov-25 17:00:00 GMT");
        for (stored, since, expected) in [
            (("last-modified", mid), mid, true),
            (("last-modified", mid), new, true),
            (("last-modified", mid), old, false),
            (("date", mid), mid, true),
            (("date", mid), old, false),
            (("x", ""), new, false),
            (("last-modified", mid), "soon", false),
        ] {
            let request = fields(&[("if-modified-since", since)]);
            assert_eq!(is_not_modified(&request, 200, || fields(&[stored])), expected, "{stored:?} {since}");
        }
        let both = fields(&[("if-modified-since", new), ("if-none-match", "\"x\"")]);
        assert!(!is_not_modified(&both, 200, || fields(&[("last-modified", mid), ("etag", "\"a\"")])));
    }

    /// RFC 9110 §13.1.5.
    #[test]
    fn if_range_needs_the_very_same_response() {
        let (modified, date) = ("Mon, 24 Nov 2025 15:00:00 GMT", "Mon, 24 Nov 2025 16:00:00 GMT");
        let stored = fields(&[("etag", "\"a\""), ("last-modified", modified), ("date", date)]);
        for (condition, expected) in
            [("\"a\"", true), ("W/\"a\"", false), ("\"b\"", false), (modified, true), (date, false)]
        {
            assert_eq!(if_range_holds(&fields(&[("if-range", condition)]), &stored), expected, "{condition}");
        }
        assert!(if_range_holds(&fields(&[]), &stored));
        assert!(!if_range_holds(&fields(&[("if-range", "W/\"a\"")]), &fields(&[("etag", "W/\"a\"")])));
        let same_second = fields(&[("last-modified", date), ("date", date)]);
        assert!(!if_range_holds(&fields(&[("if-range", date)]), &same_second));
    }

    /// RFC 9111 §3.2 and §4.3.4.
    #[test]
    fn a_304_replaces_the_fields_that_it_has_but_not_those_of_the_body() {
        let stored = fields(&[
            ("etag", "\"a\""),
            ("X-Old", "1"),
            ("x-two", "1"),
            ("x-two", "2"),
            ("content-encoding", "gzip"),
            ("cache-control", "max-age=1"),
        ]);
        let newer = fields(&[
            ("etag", "W/\"a\""),
            ("x-two", "3"),
            ("content-encoding", "br"),
            ("Cache-Control", "max-age=9"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("content-length", "0"),
            (":status", "304"),
            ("age", "3"),
        ]);
        let lines = freshened(&stored, &newer, &CacheControl::default()).unwrap();
        let expected = fields(&[
            ("etag", "\"a\""),
            ("X-Old", "1"),
            ("content-encoding", "gzip"),
            ("x-two", "3"),
            ("Cache-Control", "max-age=9"),
        ]);
        assert_eq!(Fields::from_pairs(lines), expected);
        assert_eq!(freshened(&stored, &fields(&[("etag", "\"b\"")]), &CacheControl::default()), None);
    }

    /// RFC 9111 §4.3.5.
    #[test]
    fn the_response_to_a_head_is_about_the_stored_one_if_nothing_in_it_differs() {
        let stored = fields(&[("etag", "\"a\""), ("last-modified", "Mon, 24 Nov 2025 15:00:00 GMT")]);
        for (line, expected) in [
            (("x", "y"), true),
            (("etag", "\"a\""), true),
            (("etag", "\"b\""), false),
            (("content-length", "5"), true),
            (("content-length", "6"), false),
            (("last-modified", "Mon, 24 Nov 2025 15:00:01 GMT"), false),
        ] {
            assert_eq!(head_agrees(&stored, 5, &fields(&[line])), expected, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_judges_panic(one: Vec<u8>, two: Vec<u8>) {
            let request = Fields::from_pairs(vec![(b"if-none-match", &one), (b"if-modified-since", &one), (b"if-range", &one)]);
            let stored = Fields::from_pairs(vec![(b"etag", &two), (b"last-modified", &two), (b"date", &one)]);
            let _ = is_not_modified(&request, 200, || stored.clone());
            let _ = if_range_holds(&request, &stored);
            let _ = head_agrees(&stored, 1, &stored);
            let _ = freshened(&stored, &request, &CacheControl::default());
        }
    }
}
