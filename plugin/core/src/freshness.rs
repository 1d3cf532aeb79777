//! How long a response is fresh (RFC 9111 §4.2), by the origin's words and the rule's.

use crate::cache_control::CacheControl;
use crate::fields::Fields;
use crate::http_date::http_date_ms;
use crate::json;
use crate::planted::planted;
use crate::policy::{CacheRule, DeltaSeconds, OriginControl, Ttl};

/// Statuses that a rule's `ttl` applies to. For others a rule says so (`ttl_by_status`) or the origin does: an error that
/// slipped into a cache by default would outlive its cause.
const BY_RULE: [u16; 6] = [200, 203, 204, 300, 301, 308];

/// Statuses that are heuristically cacheable (RFC 9110 §15.1), but for 206.
const HEURISTIC: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];

/// A tenth of the time since the last modification (§4.2.2's own example), at most a day.
const HEURISTIC_SHARE: u64 = 10;
const HEURISTIC_MAX_MS: u64 = 24 * 60 * 60 * 1000;

/// The facts about a response that decide about its freshness.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// Its final status.
    pub status: u16,
    /// Its header fields.
    pub fields: &'a Fields<'a>,
    /// Wall-clock time when the request was forwarded, in milliseconds since 1970.
    pub requested_ms: u64,
    /// Wall-clock time when its header arrived, likewise.
    pub received_ms: u64,
    /// Its whole body, once it is there and where the rule reads it.
    pub body: Option<&'a [u8]>,
}

/// Where a lifetime comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The origin gave it.
    Explicit,
    /// Guessed from `Last-Modified`.
    Heuristic,
    /// The rule's `ttl_by_status`.
    Status,
    /// The rule's `ttl`.
    Rule,
}

impl Source {
    /// Whether the rule decides, not the origin.
    #[must_use]
    pub fn is_rule(self) -> bool {
        matches!(self, Self::Status | Self::Rule)
    }
}

/// What a rule's `ttl` says of a response; `None` where it can't be read, though it is there. A body that hasn't come yet
/// may say anything.
#[must_use]
pub fn rule_ttl(response: &Response<'_>, rule: &CacheRule) -> Option<DeltaSeconds> {
    match &rule.ttl {
        Ttl::Fixed(ttl) => Some(*ttl),
        Ttl::Header { name, default } if !response.fields.has(name) => Some(*default),
        Ttl::Header { name, .. } => response.fields.only(name).map(<[u8]>::trim_ascii).and_then(DeltaSeconds::parse),
        Ttl::Json { pointer, default } => {
            let Some(body) = response.body else { return Some(DeltaSeconds::MAX) };
            let mut given: Option<Option<DeltaSeconds>> = None;
            let mut add = |value: &[u8]| given = Some(DeltaSeconds::parse(value).filter(|_| given.is_none()));
            match json::select(body, pointer, &mut add) {
                Ok(()) => given.unwrap_or(Some(*default)),
                Err(json::Unreadable::Missing) => Some(*default),
                Err(json::Unreadable::NotJson) => None,
            }
        }
    }
}

/// A freshness lifetime in milliseconds, counted from the response's making, and where it comes from; `None` where the
/// response has none, and mustn't be stored for that (§3). `ttl` is what the rule's own says of it.
#[must_use]
pub fn lifetime_ms(
    response: &Response<'_>,
    control: &CacheControl,
    targeted: bool,
    rule: &CacheRule,
    ttl: DeltaSeconds,
) -> Option<(u64, Source)> {
    let terms = &rule.terms;
    // A rule's lifetime counts from the moment of storing, however old the response says it is.
    let by_rule = |ttl: DeltaSeconds| ttl.as_millis().saturating_add(initial_age_ms(response));
    let by_status = terms.ttl_of(response.status).map(|ttl| (by_rule(ttl), Source::Status));
    let may_default = BY_RULE.contains(&response.status) || planted("negative_any_status");
    let by_default = || may_default.then(|| (by_rule(ttl), Source::Rule));
    let explicit = || explicit_lifetime(response, control, targeted).map(|given| (given.as_millis(), Source::Explicit));
    match terms.origin {
        OriginControl::Respect => explicit()
            .or(by_status)
            .or_else(|| terms.heuristics.then(|| heuristic_ms(response, control)).flatten())
            .or_else(by_default),
        OriginControl::Override => by_status.or_else(by_default).or_else(explicit),
        OriginControl::Ignore => by_status.or_else(by_default),
    }
}

/// §4.2.1: `s-maxage`, else `max-age`, else `Expires` minus `Date`. An `Expires` that is no date means "expired". Where a
/// targeted field speaks, `Expires` doesn't (RFC 9213 §2.2).
fn explicit_lifetime(response: &Response<'_>, control: &CacheControl, targeted: bool) -> Option<DeltaSeconds> {
    let expires = || {
        if targeted || !response.fields.has("expires") {
            return None;
        }
        // Repeated lines, and what some hosts make of them (joined by a comma), are no date: expired.
        let expires_ms = response.fields.only("expires").and_then(http_date_ms).unwrap_or_default();
        let lifetime = expires_ms.saturating_sub(date_ms(response).unwrap_or(response.received_ms));
        Some(DeltaSeconds::saturating(lifetime / 1000))
    };
    control.s_maxage.or(control.max_age).or_else(expires)
}

/// §4.2.2: for statuses that allow it, and for any that the origin calls `public`.
fn heuristic_ms(response: &Response<'_>, control: &CacheControl) -> Option<(u64, Source)> {
    (HEURISTIC.contains(&response.status) || control.public).then_some(())?;
    let modified_ms = response.fields.only("last-modified").and_then(http_date_ms)?;
    let since_ms = date_ms(response).unwrap_or(response.received_ms).saturating_sub(modified_ms);
    Some(((since_ms / HEURISTIC_SHARE).min(HEURISTIC_MAX_MS), Source::Heuristic))
}

/// §4.2.3: `corrected_initial_age`, in milliseconds.
#[must_use]
pub fn initial_age_ms(response: &Response<'_>) -> u64 {
    let apparent = date_ms(response).map_or(0, |date| response.received_ms.saturating_sub(date));
    // A Date has whole seconds: less than one of apparent age is no age.
    let apparent = if apparent < 1000 { 0 } else { apparent };
    // §5.1: of several Age values the first counts; one that is no number is ignored.
    let age = response.fields.list("age").next().and_then(DeltaSeconds::parse).unwrap_or_default();
    let delay = response.received_ms.saturating_sub(response.requested_ms);
    // Without an Age, a delay of milliseconds would make every response a little old for no use.
    let corrected = if age == DeltaSeconds::ZERO { 0 } else { age.as_millis().saturating_add(delay) };
    apparent.max(corrected)
}

fn date_ms(response: &Response<'_>) -> Option<u64> {
    response.fields.only("date").and_then(http_date_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::StatusRange;
    use crate::template::Template;

    const NOW_MS: u64 = 1_764_000_000_000; // Mon, 24 Nov 2025 16:00:00 GMT

    fn rule(origin: OriginControl, heuristics: bool) -> CacheRule {
        let mut rule = CacheRule::new(Template::parse("k").unwrap(), DeltaSeconds::saturating(300));
        rule.terms.origin = origin;
        rule.terms.heuristics = heuristics;
        rule.terms.ttl_by_status =
            vec![(StatusRange::One(404), DeltaSeconds::saturating(30)), (StatusRange::Class(5), DeltaSeconds::ZERO)];
        rule
    }

    fn response<'a>(status: u16, fields: &'a Fields<'a>) -> Response<'a> {
        Response { status, fields, requested_ms: NOW_MS - 40, received_ms: NOW_MS, body: None }
    }

    fn of(rule: &CacheRule, status: u16, lines: &[(&str, &str)]) -> Option<(u64, Source)> {
        let fields =
            Fields::from_pairs(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect());
        let response = response(status, &fields);
        let ttl = rule_ttl(&response, rule).unwrap();
        lifetime_ms(&response, &CacheControl::of(&fields), false, rule, ttl).map(|(ms, source)| (ms / 1000, source))
    }

    /// A status, what the origin says, and the lifetime under each of the four ways to hear it.
    type Row<'a> = (u16, &'a [(&'a str, &'a str)], [Option<(u64, Source)>; 4]);

    /// The table of docs/caching.md, "Who decides how long": what the origin says, the status, and the lifetime under
    /// `respect`, `respect` with heuristics, `override` and `ignore`.
    #[test]
    fn who_decides_how_long() {
        use Source::{Explicit, Heuristic, Rule, Status};
        let modified = ("last-modified", "Mon, 24 Nov 2025 15:50:00 GMT"); // ten minutes ago
        let expires = ("expires", "Mon, 24 Nov 2025 16:01:00 GMT");
        let table: [Row<'_>; 10] = [
            (200, &[], [Some((300, Rule)); 4]),
            (
                200,
                &[("cache-control", "max-age=9")],
                [Some((9, Explicit)), Some((9, Explicit)), Some((300, Rule)), Some((300, Rule))],
            ),
            (200, &[expires], [Some((60, Explicit)), Some((60, Explicit)), Some((300, Rule)), Some((300, Rule))]),
            (200, &[modified], [Some((300, Rule)), Some((60, Heuristic)), Some((300, Rule)), Some((300, Rule))]),
            (404, &[], [Some((30, Status)); 4]),
            (404, &[modified], [Some((30, Status)); 4]),
            (
                404,
                &[("cache-control", "max-age=9")],
                [Some((9, Explicit)), Some((9, Explicit)), Some((30, Status)), Some((30, Status))],
            ),
            (503, &[], [Some((0, Status)); 4]),
            (410, &[], [None; 4]),
            (
                410,
                &[("cache-control", "max-age=9")],
                [Some((9, Explicit)), Some((9, Explicit)), Some((9, Explicit)), None],
            ),
        ];
        let rules = [
            rule(OriginControl::Respect, false),
            rule(OriginControl::Respect, true),
            rule(OriginControl::Override, true),
            rule(OriginControl::Ignore, true),
        ];
        for (status, lines, expected) in table {
            for (rule, expected) in rules.iter().zip(expected) {
                assert_eq!(of(rule, status, lines), expected, "{status} {lines:?} under {:?}", rule.terms);
            }
        }
    }

    /// RFC 9111 §4.2.1.
    #[test]
    fn the_origins_lifetime_comes_from_s_maxage_then_max_age_then_expires() {
        let rule = rule(OriginControl::Respect, false);
        let of = |lines: &[(&str, &str)]| of(&rule, 200, lines).map(|(seconds, _)| seconds);
        assert_eq!(of(&[("cache-control", "max-age=9, s-maxage=5"), ("expires", "0")]), Some(5));
        assert_eq!(of(&[("cache-control", "max-age=9"), ("expires", "0")]), Some(9));
        let date = ("date", "Mon, 24 Nov 2025 16:00:00 GMT");
        for expires in ["Mon, 24 Nov 2025 16:00:30 GMT", "Monday, 24-Nov-25 16:00:30 GMT", "Mon Nov 24 16:00:30 2025"] {
            assert_eq!(of(&[date, ("expires", expires)]), Some(30), "{expires}");
        }
        for expires in ["0", "-1", "", "Mon, 24 Nov 2025 15:00:00 GMT", "Mon, 24 Nov 2025 16:00:30 UTC"] {
            assert_eq!(of(&[("expires", expires)]), Some(0), "{expires}");
        }
        assert_eq!(of(&[("expires", "Mon, 24 Nov 2025 16:00:30 GMT"); 2]), Some(0), "two lines are no date");
    }

    #[test]
    fn a_rules_lifetime_may_stand_in_the_response() {
        let mut rule = rule(OriginControl::Respect, false);
        let default = DeltaSeconds::saturating(7);
        let ttl = |rule: &CacheRule, lines: Vec<(&[u8], &[u8])>, body: Option<&[u8]>| {
            let fields = Fields::from_pairs(lines);
            rule_ttl(&Response { body, ..response(200, &fields) }, rule).map(DeltaSeconds::as_secs)
        };
        rule.ttl = Ttl::Header { name: "x-ttl".into(), default };
        assert_eq!(ttl(&rule, vec![], None), Some(7));
        assert_eq!(ttl(&rule, vec![(b"X-TTL", b" 60 ")], None), Some(60));
        for value in ["", "-1", "5m", "60, 70"] {
            assert_eq!(ttl(&rule, vec![(b"x-ttl", value.as_bytes())], None), None, "{value}");
        }
        rule.ttl = Ttl::Json { pointer: json::Pointer::parse("/meta/ttl").unwrap(), default };
        for (body, seconds) in [
            (r#"{"meta":{"ttl":60}}"#, Some(60)),
            (r#"{"meta":{"ttl":"60"}}"#, Some(60)),
            ("{}", Some(7)),
            (r#"{"meta":{"ttl":1.5}}"#, None),
            (r#"{"meta":{"ttl":60,"ttl":5}}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(ttl(&rule, vec![], Some(body.as_bytes())), seconds, "{body}");
        }
        assert_eq!(ttl(&rule, vec![], None), Some(DeltaSeconds::MAX.as_secs()), "it may yet say anything");
    }

    /// RFC 9213 §2.2.
    #[test]
    fn where_a_targeted_field_speaks_expires_does_not() {
        let fields = Fields::from_pairs(vec![(b"expires", b"Mon, 24 Nov 2025 16:01:00 GMT")]);
        let rule = rule(OriginControl::Respect, false);
        let ttl = DeltaSeconds::saturating(300);
        let lifetime = lifetime_ms(&response(200, &fields), &CacheControl::default(), true, &rule, ttl);
        assert_eq!(lifetime, Some((300_000, Source::Rule)));
    }

    /// RFC 9111 §4.2.2.
    #[test]
    fn a_heuristic_lifetime_is_a_tenth_of_what_has_passed_at_most_a_day_and_only_where_the_status_allows() {
        let mut rule = rule(OriginControl::Respect, true);
        rule.terms.ttl_by_status.clear();
        let long_ago = ("last-modified", "Mon, 24 Nov 2003 16:00:00 GMT");
        assert_eq!(of(&rule, 200, &[long_ago]), Some((24 * 60 * 60, Source::Heuristic)));
        for status in HEURISTIC {
            assert!(matches!(of(&rule, status, &[long_ago]), Some((_, Source::Heuristic))), "{status}");
        }
        for status in [201, 202, 302, 403, 502, 503, 599] {
            assert_eq!(of(&rule, status, &[long_ago]), None, "{status}");
            let public = of(&rule, status, &[long_ago, ("cache-control", "public")]);
            assert!(matches!(public, Some((_, Source::Heuristic))), "{status}");
        }
        let tomorrow = ("last-modified", "Tue, 25 Nov 2025 16:00:00 GMT");
        assert_eq!(of(&rule, 200, &[tomorrow]), Some((0, Source::Heuristic)));
    }

    /// RFC 9111 §4.2.3.
    #[test]
    fn a_response_is_as_old_as_the_older_of_its_date_and_its_age() {
        let age = |lines: &[(&str, &str)]| {
            let fields =
                Fields::from_pairs(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect());
            initial_age_ms(&response(200, &fields))
        };
        let ten_seconds_ago = ("date", "Mon, 24 Nov 2025 15:59:50 GMT");
        assert_eq!(age(&[ten_seconds_ago]), 10_000);
        assert_eq!(age(&[("age", "20"), ten_seconds_ago]), 20_040, "with the delay of the response");
        assert_eq!(age(&[("date", "Mon, 24 Nov 2025 17:00:00 GMT")]), 0, "a clock ahead of ours");
        for (value, ms) in
            [("x", 0), ("-5", 0), ("5.0", 0), ("", 0), ("7, 9", 7040), ("99999999999", (1 << 31) * 1000 + 40)]
        {
            assert_eq!(age(&[("age", value)]), ms, "{value}");
        }
    }
}
