//! Whether a response may be stored (RFC 9111 §3), and on what terms it may be reused.

use crate::cache_control::CacheControl;
use crate::condition::json_holds;
use crate::entry::Freshness;
use crate::fields::{Fields, Line};
use crate::freshness::{Response, Source, initial_age_ms, lifetime_ms, rule_ttl};
use crate::planted::planted;
use crate::policy::{CacheRule, Cookies, DeltaSeconds, OriginControl, ResponseTests};
use crate::targeted;

/// Statuses whose meaning we know, and to whose caching requirements this cache conforms (§3, `must-understand`).
const UNDERSTOOD: [u16; 21] =
    [200, 203, 204, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 410, 414, 451, 500, 501, 502, 503];

/// Final statuses that don't stand for the whole of what a GET would get: parts (206, 416), and answers to a
/// precondition (304, 412).
const PARTIAL: [u16; 4] = [206, 304, 412, 416];

/// Most fields that `Vary` may name.
const VARY_MAX: usize = 16;

/// What the request that a response answers has to do with storing it.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// It carried `Authorization`.
    pub authorised: bool,
    /// It asked not to be stored, and counts ([`crate::policy::ClientDirectives`]).
    pub no_store: bool,
    /// How often this worker was asked lately.
    pub uses: u8,
    /// By which a lifetime is cut ([`CacheRule::jitter_percent`]): 0 not at all, 255 as far as the rule allows.
    pub chance: u8,
}

impl Default for Asked {
    fn default() -> Self {
        Self { authorised: false, no_store: false, uses: u8::MAX, chance: 0 }
    }
}

/// Why a response isn't stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// The status isn't final or whole, isn't understood, or has no freshness lifetime from anybody.
    Status,
    /// `no-store`, of the response or the request.
    NoStore,
    /// `Cache-Control: private`.
    Private,
    /// `Cache-Control: no-cache`, and nothing to validate it with.
    NoCache,
    /// `Set-Cookie`: made for one client.
    SetCookie,
    /// The request carried `Authorization`, and the response doesn't say that it is for others too (§3.5).
    Credentials,
    /// `Vary: *`, or more fields than are kept.
    Vary,
    /// Fresh for no time at all, and of no use when stale.
    Stale,
    /// `Trailer`, or `Content-Length` lines that contradict each other.
    Incomplete,
    /// Longer than `limits.body_bytes_max`.
    TooLarge,
    /// An event stream: it has no end.
    Endless,
    /// More tags than an entry may have, or one too long.
    Tags,
    /// What the rule makes tags, a lifetime or a condition of can't be read.
    Unreadable,
    /// The rule's `when` or `unless` keeps it out.
    Condition,
    /// Not asked for often enough yet (`min_uses`).
    MinUses,
}

impl NotStored {
    /// A word for logs and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::NoCache => "no-cache",
            Self::SetCookie => "set-cookie",
            Self::Credentials => "credentials",
            Self::Vary => "vary",
            Self::Stale => "stale",
            Self::Incomplete => "incomplete",
            Self::TooLarge => "too-large",
            Self::Endless => "endless",
            Self::Tags => "tags",
            Self::Unreadable => "unreadable",
            Self::Condition => "condition",
            Self::MinUses => "min-uses",
        }
    }
}

/// What the origin says to this cache: its targeted field, else `Cache-Control`; and whether it was a targeted one. What
/// the rule doesn't hear is left out.
#[must_use]
pub fn control(fields: &Fields<'_>, rule: &CacheRule) -> (CacheControl, bool) {
    let terms = &rule.terms;
    let targeted = targeted::control(fields, &terms.targeted);
    let by_target = targeted.is_some();
    let mut control = targeted.unwrap_or_else(|| CacheControl::of(fields));
    if terms.origin == OriginControl::Ignore {
        let CacheControl { no_store, private, withheld, .. } = control;
        control = CacheControl { no_store, private, withheld, ..CacheControl::default() };
    }
    control.no_store &= !terms.unheard.no_store;
    control.private &= !terms.unheard.private;
    (control, by_target)
}

/// Whether the response to a request that met a rule may be stored, and how it may be reused. Where the rule reads the body
/// ([`CacheRule::reads_response_body`]), this is to be asked again when it is there; until then, what it says counts for
/// the response.
///
/// # Errors
///
/// The first reason against it.
pub fn storable(
    response: &Response<'_>,
    rule: &CacheRule,
    asked: Asked,
    body_bytes_max: u64,
) -> Result<Freshness, NotStored> {
    let fields = response.fields;
    let (control, targeted) = control(fields, rule);
    if !(200..600).contains(&response.status)
        || PARTIAL.contains(&response.status)
        || control.must_understand && !UNDERSTOOD.contains(&response.status)
    {
        return Err(NotStored::Status);
    }
    if control.no_store || asked.no_store {
        return Err(NotStored::NoStore);
    }
    if control.private && !planted("private_stored") {
        return Err(NotStored::Private);
    }
    if asked.authorised && !is_shareable(&control) {
        return Err(NotStored::Credentials);
    }
    let ttl = rule_ttl(response, rule);
    let lifetime = lifetime_ms(response, &control, targeted, rule, ttl.unwrap_or_default());
    let explicit = matches!(lifetime, Some((_, Source::Explicit)));
    let sets_cookie = fields.has("set-cookie") && !control.withheld.iter().any(|name| name == b"set-cookie");
    if sets_cookie && !(explicit && rule.terms.cookies == Cookies::Share) {
        return Err(NotStored::SetCookie);
    }
    if fields.list("vary").any(|name| name == b"*") || fields.list("vary").count() > VARY_MAX {
        return Err(NotStored::Vary);
    }
    if fields.has("trailer") {
        return Err(NotStored::Incomplete);
    }
    if fields.list("content-type").any(|value| starts_with_ignore_case(value, b"text/event-stream")) {
        return Err(NotStored::Endless);
    }
    if content_length(fields)?.is_some_and(|length| length > body_bytes_max) {
        return Err(NotStored::TooLarge);
    }
    let reads_body = rule.reads_response_body();
    if reads_body && fields.list("content-encoding").any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
        || ttl.is_none() && matches!(lifetime, Some((_, Source::Rule)))
    {
        return Err(NotStored::Unreadable);
    }
    if !meets_all(&rule.when, response) || meets_any(&rule.unless, response) {
        return Err(NotStored::Condition);
    }
    if asked.uses < rule.min_uses {
        return Err(NotStored::MinUses);
    }
    let has_validator = fields.has("etag") || fields.has("last-modified");
    if control.no_cache && !has_validator {
        return Err(NotStored::NoCache);
    }
    let (lifetime_ms, source) = lifetime.ok_or(NotStored::Status)?;
    let freshness = freshness(response, rule, &control, (lifetime_ms, source), asked.chance);
    // What is stale at once is of use only if it can be validated, or has a window in which it is served stale; and a rule
    // that says "no time at all" means that nothing is stored.
    let said = !source.is_rule() || control.no_cache;
    let windows = freshness.stale_if_error_ms.max(freshness.stale_while_revalidate_ms);
    let useful_stale = said && (has_validator || windows > 0);
    if freshness.lifetime_ms <= freshness.age_ms && !useful_stale {
        return Err(NotStored::Stale);
    }
    Ok(freshness)
}

/// How a response may be reused whose lifetime is known, and where that comes from; `chance` is how much of the rule's jitter it gets.
fn freshness(
    response: &Response<'_>,
    rule: &CacheRule,
    control: &CacheControl,
    (lifetime_ms, source): (u64, Source),
    chance: u8,
) -> Freshness {
    let never_stale = control.must_revalidate || control.s_maxage.is_some() || control.no_cache;
    let window = |said: Option<DeltaSeconds>, by_rule: DeltaSeconds| {
        // An error that stands in for another error helps nobody.
        if never_stale || response.status >= 500 { 0 } else { said.unwrap_or(by_rule).as_millis() }
    };
    let age_ms = initial_age_ms(response);
    let cut = u64::from(rule.jitter_percent).saturating_mul(chance.into());
    let cut_ms = lifetime_ms.saturating_sub(age_ms).saturating_mul(cut) / 25_500;
    Freshness {
        age_ms,
        lifetime_ms: lifetime_ms.saturating_sub(cut_ms),
        stale_if_error_ms: window(control.stale_if_error, rule.terms.stale_if_error),
        stale_while_revalidate_ms: window(control.stale_while_revalidate, rule.terms.stale_while_revalidate),
        took_ms: took_ms(response),
        must_revalidate: never_stale,
        no_cache: control.no_cache,
        shareable: is_shareable(control),
        // What the origin says of a lifetime isn't ours to stretch.
        sliding_ms: if rule.terms.sliding && source.is_rule() { lifetime_ms.saturating_sub(age_ms) } else { 0 },
    }
}

/// Whether the origin lets the response to a request with `Authorization` be shared (§3.5). `Override` and `Ignore` don't widen
/// what it says about whom a response is for.
fn is_shareable(control: &CacheControl) -> bool {
    control.public || control.must_revalidate || control.s_maxage.is_some()
}

/// Whether every condition holds, as far as the response has come. Of a body that can't be read, none does.
fn meets_all(tests: &ResponseTests, response: &Response<'_>) -> bool {
    let ResponseTests { status, header, json, slower_than_ms } = tests;
    (status.is_empty() || status.iter().any(|range| range.holds(response.status)))
        && header.iter().all(|(name, test)| test.holds(response.fields.all(name)))
        && slower_than_ms.is_none_or(|least| took_ms(response) > least)
        && response
            .body
            .is_none_or(|body| json.iter().all(|(pointer, test)| json_holds(body, pointer, test) == Some(true)))
}

/// Whether some condition holds, as far as the response has come. Of a body that can't be read, each might.
fn meets_any(tests: &ResponseTests, response: &Response<'_>) -> bool {
    let ResponseTests { status, header, json, slower_than_ms } = tests;
    status.iter().any(|range| range.holds(response.status))
        || header.iter().any(|(name, test)| test.holds(response.fields.all(name)))
        || slower_than_ms.is_some_and(|least| took_ms(response) > least)
        || response
            .body
            .is_some_and(|body| json.iter().any(|(pointer, test)| json_holds(body, pointer, test) != Some(false)))
}

fn took_ms(response: &Response<'_>) -> u64 {
    response.received_ms.saturating_sub(response.requested_ms)
}

/// The declared length of the body; an error when it is no number or the lines disagree.
///
/// # Errors
///
/// [`NotStored::Incomplete`]: the length can't be told, so whether the body is whole can't either.
pub fn content_length(fields: &Fields<'_>) -> Result<Option<u64>, NotStored> {
    let mut length = None;
    for value in fields.list("content-length") {
        let digits = value.iter().all(u8::is_ascii_digit);
        let given = std::str::from_utf8(value)
            .ok()
            .filter(|_| digits)
            .and_then(|text| text.parse::<u64>().ok())
            .ok_or(NotStored::Incomplete)?;
        if length.is_some_and(|known| known != given) {
            return Err(NotStored::Incomplete);
        }
        length = Some(given);
    }
    Ok(length)
}

/// The header lines of a response that are kept with it: not what belongs to one connection (RFC 9110 §7.6.1) or to one
/// handling of the request, not what the reply gets anew (`Age`, `Content-Length`), and not what the origin withholds
/// (`private="…"`, `no-cache="…"`).
#[must_use]
pub fn kept_fields<'a>(fields: &Fields<'a>, control: &CacheControl) -> Vec<Line<'a>> {
    let withheld = |name: &[u8]| control.withheld.iter().any(|known| name.eq_ignore_ascii_case(known));
    fields.iter().filter(|(name, _)| keeps_field(name, fields) && !withheld(name)).collect()
}

fn keeps_field(name: &[u8], fields: &Fields<'_>) -> bool {
    const DROPPED: [&str; 13] = [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "age",
        "content-length",
        "x-envoy-upstream-service-time",
        "x-envoy-decorator-operation",
    ];
    // A sender can't declare away what decides about reuse (facts/attacks.md A19).
    const CRITICAL: [&str; 9] = [
        "cache-control",
        "vary",
        "date",
        "expires",
        "etag",
        "last-modified",
        "content-type",
        "content-encoding",
        "set-cookie",
    ];
    let is = |known: &&str| name.eq_ignore_ascii_case(known.as_bytes());
    let listed = || fields.list("connection").any(|listed| listed.eq_ignore_ascii_case(name));
    !name.starts_with(b":")
        && !name.eq_ignore_ascii_case(b"proxy-authorization")
        && !DROPPED.iter().any(is)
        && (CRITICAL.iter().any(is) || !listed())
}

fn starts_with_ignore_case(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::{Glob, Test};
    use crate::json::Pointer;
    use crate::policy::{StatusRange, Ttl};
    use crate::template::Template;

    const NOW_MS: u64 = 1_764_000_000_000; // Mon, 24 Nov 2025 16:00:00 GMT

    fn rule() -> CacheRule {
        CacheRule::new(Template::parse("k").unwrap(), DeltaSeconds::saturating(60))
    }

    fn judge_by(rule: &CacheRule, asked: Asked, status: u16, lines: &[(&str, &str)]) -> Result<Freshness, NotStored> {
        let fields =
            Fields::from_pairs(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect());
        let response = Response { status, fields: &fields, requested_ms: NOW_MS - 40, received_ms: NOW_MS, body: None };
        storable(&response, rule, asked, 1000)
    }

    fn judge(status: u16, lines: &[(&str, &str)]) -> Result<Freshness, NotStored> {
        judge_by(&rule(), Asked::default(), status, lines)
    }

    /// RFC 9111 §3, and C8.
    #[test]
    fn what_is_made_for_one_client_is_not_stored() {
        for (line, why) in [
            (("cache-control", "private"), NotStored::Private),
            (("cache-control", "PRIVATE=\"\""), NotStored::Private),
            (("cache-control", "public, no-store"), NotStored::NoStore),
            (("cache-control", "no-cache"), NotStored::NoCache),
            (("cdn-cache-control", "private"), NotStored::Private),
            (("set-cookie", "a=b"), NotStored::SetCookie),
            (("vary", "accept, *"), NotStored::Vary),
            (("trailer", "x"), NotStored::Incomplete),
            (("content-type", "Text/Event-Stream; charset=utf-8"), NotStored::Endless),
            (("content-length", "1001"), NotStored::TooLarge),
            (("content-length", "5, 6"), NotStored::Incomplete),
            (("content-length", "+5"), NotStored::Incomplete),
            (("cache-control", "max-age=0"), NotStored::Stale),
            (("expires", "0"), NotStored::Stale),
            (("expires", "Mon, 24 Nov 2025 15:59:00 GMT"), NotStored::Stale),
        ] {
            assert_eq!(judge(200, &[line]), Err(why), "{line:?}");
        }
    }

    /// RFC 9111 §3.
    #[test]
    fn any_whole_final_status_is_stored_where_the_origin_says_how_long_and_few_where_only_the_rule_does() {
        let explicit = [("cache-control", "max-age=9")];
        for status in [200, 204, 299, 302, 400, 404, 499, 503, 599] {
            assert!(judge(status, &explicit).is_ok(), "{status}");
        }
        for status in [0, 100, 103, 199, 206, 304, 412, 416, 600] {
            assert_eq!(judge(status, &explicit), Err(NotStored::Status), "{status}");
        }
        for status in [200, 203, 204, 300, 301, 308] {
            assert!(judge(status, &[]).is_ok(), "{status}");
        }
        for status in [201, 206, 302, 304, 400, 404, 500, 503] {
            assert_eq!(judge(status, &[]), Err(NotStored::Status), "{status}");
        }
    }

    /// RFC 9111 §5.2.2.3.
    #[test]
    fn must_understand_keeps_out_statuses_that_are_not_understood_and_lets_in_what_no_store_would_keep_out() {
        let line = [("cache-control", "max-age=9, must-understand, no-store")];
        assert!(judge(200, &line).is_ok() && judge(404, &line).is_ok());
        assert_eq!(judge(299, &line), Err(NotStored::Status));
    }

    /// RFC 9111 §3.5.
    #[test]
    fn a_response_to_authorization_is_stored_only_where_it_says_that_it_is_for_others() {
        let asked = Asked { authorised: true, ..Asked::default() };
        for (control, expected) in [
            ("max-age=60", false),
            ("private", false),
            ("max-age=60, public", true),
            ("s-maxage=60", true),
            ("max-age=60, must-revalidate", true),
        ] {
            let judged = judge_by(&rule(), asked, 200, &[("cache-control", control)]);
            assert_eq!(judged.is_ok(), expected, "{control}");
        }
        assert_eq!(judge_by(&rule(), asked, 200, &[]), Err(NotStored::Credentials));
    }

    #[test]
    fn what_is_stale_at_once_is_kept_only_to_be_validated_or_to_stand_in_for_an_error() {
        let etag = ("etag", "\"a\"");
        assert!(judge(200, &[("cache-control", "no-cache"), etag]).unwrap().no_cache);
        assert_eq!(judge(200, &[("cache-control", "max-age=0"), etag]).unwrap().lifetime_ms, 0);
        assert!(judge(200, &[("cache-control", "max-age=0, stale-if-error=5")]).is_ok());
        let never = CacheRule { ttl: Ttl::Fixed(DeltaSeconds::ZERO), ..rule() };
        assert_eq!(judge_by(&never, Asked::default(), 200, &[etag]), Err(NotStored::Stale));
        assert!(judge_by(&never, Asked::default(), 200, &[etag, ("cache-control", "no-cache")]).is_ok());
    }

    /// RFC 5861 §4, RFC 9111 §4.2.4 and §5.2.2.10.
    #[test]
    fn stale_service_needs_permission_and_what_forbids_it_wins() {
        let mut rule = rule();
        rule.terms.stale_if_error = DeltaSeconds::saturating(600);
        rule.terms.stale_while_revalidate = DeltaSeconds::saturating(30);
        let allowed = |status, control: &str| {
            let judged = judge_by(&rule, Asked::default(), status, &[("cache-control", control), ("etag", "\"a\"")]);
            let judged = judged.unwrap();
            (judged.stale_if_error_ms / 1000, judged.stale_while_revalidate_ms / 1000)
        };
        assert_eq!(allowed(200, "max-age=5"), (600, 30));
        assert_eq!(allowed(200, "max-age=5, stale-if-error=7, stale-while-revalidate=3"), (7, 3));
        assert_eq!(allowed(200, "max-age=5, stale-while-revalidate=soon"), (600, 0));
        for forbidding in ["must-revalidate", "proxy-revalidate", "s-maxage=5", "no-cache"] {
            let control = format!("max-age=5, stale-if-error=7, stale-while-revalidate=3, {forbidding}");
            assert_eq!(allowed(200, &control), (0, 0), "{forbidding}");
        }
        assert_eq!(allowed(503, "max-age=5"), (0, 0));
    }

    /// RFC 9111 §7.3.
    #[test]
    fn a_cookie_is_shared_only_where_the_rule_and_the_origin_say_so() {
        let mut rule = rule();
        let cookie = ("set-cookie", "a=b");
        let explicit = [cookie, ("cache-control", "max-age=9")];
        for (cookies, shared) in [(Cookies::Respect, false), (Cookies::Ignore, false), (Cookies::Share, true)] {
            rule.terms.cookies = cookies;
            assert_eq!(judge_by(&rule, Asked::default(), 200, &explicit).is_ok(), shared, "{cookies:?}");
            assert!(judge_by(&rule, Asked::default(), 200, &[cookie]).is_err(), "{cookies:?}");
        }
        assert!(judge(200, &[cookie, ("cache-control", "private=\"set-cookie\"")]).is_ok(), "it is left out");
    }

    #[test]
    fn what_a_rule_spells_out_as_not_binding_does_not_bind_and_nothing_else() {
        let mut rule = rule();
        rule.terms.origin = OriginControl::Ignore;
        let judge = |rule: &CacheRule, control| judge_by(rule, Asked::default(), 200, &[("cache-control", control)]);
        assert_eq!(judge(&rule, "no-cache, max-age=0").unwrap().lifetime_ms, 60_000);
        assert_eq!(judge(&rule, "private"), Err(NotStored::Private));
        rule.terms.unheard.private = true;
        assert!(judge(&rule, "private").is_ok());
        assert_eq!(judge(&rule, "private, no-store"), Err(NotStored::NoStore));
    }

    #[test]
    fn a_rule_stores_what_meets_all_of_when_and_nothing_of_unless() {
        let is = |text: &str| Test::Is(vec![Glob::new(text)]);
        let tests = ResponseTests {
            status: vec![StatusRange::One(200), StatusRange::One(404)],
            header: vec![("x-cacheable".into(), is("yes"))],
            json: vec![(Pointer::parse("/state").unwrap(), is("done"))],
            slower_than_ms: Some(20),
        };
        let judge = |rule: &CacheRule, status, value: &str, took_ms, body: Option<&str>| {
            let fields = Fields::from_pairs(vec![(b"x-cacheable", value.as_bytes()), (b"cache-control", b"max-age=9")]);
            let body = body.map(str::as_bytes);
            let response =
                Response { status, fields: &fields, requested_ms: NOW_MS - took_ms, received_ms: NOW_MS, body };
            storable(&response, rule, Asked::default(), 1000).map(drop)
        };
        let when = CacheRule { when: tests.clone(), ..rule() };
        let unless = CacheRule { unless: tests, ..rule() };
        let done = Some(r#"{"state":"done"}"#);
        let refused = Err(NotStored::Condition);
        for (status, value, took_ms, body, by_when, by_unless) in [
            (200, "yes", 21, done, Ok(()), refused),
            (404, "yes", 21, done, Ok(()), refused),
            (200, "yes", 21, None, Ok(()), refused),
            (410, "yes", 21, done, refused, refused),
            (200, "no", 21, done, refused, refused),
            (200, "yes", 20, done, refused, refused),
            (200, "yes", 21, Some("{}"), refused, refused),
            (410, "no", 20, Some("{}"), refused, Ok(())),
            (410, "no", 20, None, refused, Ok(())),
        ] {
            assert_eq!(judge(&when, status, value, took_ms, body), by_when, "when {status} {value} {took_ms} {body:?}");
            assert_eq!(judge(&unless, status, value, took_ms, body), by_unless, "unless {status} {value} {body:?}");
        }
    }

    #[test]
    fn a_rule_may_wait_until_a_response_has_been_asked_for_often_enough() {
        let rule = CacheRule { min_uses: 3, ..rule() };
        let judge = |uses| judge_by(&rule, Asked { uses, ..Asked::default() }, 200, &[]).map(drop);
        assert_eq!(judge(2), Err(NotStored::MinUses));
        assert_eq!(judge(3), Ok(()));
    }

    #[test]
    fn jitter_only_ever_shortens_what_is_left_of_a_lifetime() {
        let rule = CacheRule { jitter_percent: 50, ..rule() };
        let lifetime = |chance| {
            let asked = Asked { chance, ..Asked::default() };
            let line = [("cache-control", "max-age=100"), ("date", "Mon, 24 Nov 2025 15:59:00 GMT")];
            judge_by(&rule, asked, 200, &line).unwrap().lifetime_ms
        };
        assert_eq!((lifetime(0), lifetime(255)), (100_000, 80_000));
        assert!((80_000..100_000).contains(&lifetime(100)));
    }

    #[test]
    fn what_a_rule_reads_must_be_readable() {
        let rule = CacheRule { ttl: Ttl::Header { name: "x-ttl".into(), default: DeltaSeconds::ZERO }, ..rule() };
        let judge = |rule: &CacheRule, lines| judge_by(rule, Asked::default(), 200, lines).map(drop);
        assert_eq!(judge(&rule, &[("x-ttl", "soon")]), Err(NotStored::Unreadable));
        assert_eq!(judge(&rule, &[("x-ttl", "soon"), ("cache-control", "max-age=9")]), Ok(()), "the origin decides");
        assert_eq!(judge(&rule, &[("x-ttl", "5")]), Ok(()));
        let pointer = Pointer::parse("/ttl").unwrap();
        let rule = CacheRule { ttl: Ttl::Json { pointer, default: DeltaSeconds::ZERO }, ..rule };
        assert_eq!(judge(&rule, &[]), Ok(()));
        assert_eq!(judge(&rule, &[("content-encoding", "gzip")]), Err(NotStored::Unreadable));
    }

    /// facts/attacks.md A19.
    #[test]
    fn fields_of_one_connection_are_dropped_and_critical_ones_cannot_be() {
        let lines: [(&[u8], &[u8]); 9] = [
            (b"connection", b"x-hop, Cache-Control"),
            (b"x-hop", b"1"),
            (b"cache-control", b"max-age=1"),
            (b"Keep-Alive", b"1"),
            (b":status", b"200"),
            (b"etag", b"\"a\""),
            (b"AGE", b"5"),
            (b"cache-status", b"cdn; hit"),
            (b"x-once", b"1"),
        ];
        let control = CacheControl { withheld: vec![b"x-once".to_vec()], ..CacheControl::default() };
        let kept: Vec<_> =
            kept_fields(&Fields::from_pairs(lines.to_vec()), &control).into_iter().map(|(name, _)| name).collect();
        assert_eq!(kept, [&b"cache-control"[..], b"etag", b"cache-status"]);
    }
}
