//! Whether a response may be stored (RFC 9111 §3), and for how long it is fresh (§4.2).

use crate::cache_control::CacheControl;
use crate::fields::Fields;
use crate::policy::DeltaSeconds;

/// Statuses that a rule's `ttl` applies to. Others are stored only when the origin gives them a freshness lifetime, and
/// only those of [`UNDERSTOOD`]: an error that slipped into a cache by default would outlive its cause.
const BY_RULE: [u16; 6] = [200, 203, 204, 300, 301, 308];

/// Statuses whose meaning we know, so that an explicit freshness lifetime is enough (§3, §4.2.2).
const UNDERSTOOD: [u16; 14] = [200, 203, 204, 300, 301, 302, 307, 308, 404, 405, 410, 414, 451, 501];

/// Most fields that `Vary` may name.
const VARY_MAX: usize = 16;

/// The facts about a response that decide about storing it.
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
}

/// How a response that may be stored is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Its age when it arrived, in milliseconds (§4.2.3 `corrected_initial_age`).
    pub age_ms: u64,
    /// Its freshness lifetime, in milliseconds (§4.2.1).
    pub lifetime_ms: u64,
}

/// Why a response isn't stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// The status isn't understood, or needs a freshness lifetime that the origin didn't give.
    Status,
    /// `Cache-Control: no-store`.
    NoStore,
    /// `Cache-Control: private`.
    Private,
    /// `Cache-Control: no-cache`: it could never be reused without asking.
    NoCache,
    /// `Set-Cookie`: made for one client.
    SetCookie,
    /// `Vary: *`, or more fields than are kept.
    Vary,
    /// Fresh for no time at all.
    Stale,
    /// `Content-Range`, `Trailer` or `Content-Length` lines that contradict each other.
    Incomplete,
    /// Longer than `limits.body_bytes_max`.
    TooLarge,
    /// An event stream: it has no end.
    Endless,
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
            Self::Vary => "vary",
            Self::Stale => "stale",
            Self::Incomplete => "incomplete",
            Self::TooLarge => "too-large",
            Self::Endless => "endless",
        }
    }
}

/// Whether the response to a GET that met a rule may be stored, and for how long it is fresh.
///
/// `ttl` is the rule's; it applies where the origin gives no freshness lifetime. The caller has seen to it that the
/// request carried no credentials.
///
/// # Errors
///
/// The first reason against it.
pub fn storable(response: &Response<'_>, ttl: DeltaSeconds, body_bytes_max: u64) -> Result<Freshness, NotStored> {
    let fields = response.fields;
    let control = CacheControl::of(fields);
    if control.no_store {
        return Err(NotStored::NoStore);
    }
    if control.private {
        return Err(NotStored::Private);
    }
    if control.no_cache {
        return Err(NotStored::NoCache);
    }
    if fields.has("set-cookie") {
        return Err(NotStored::SetCookie);
    }
    if fields.list("vary").any(|name| name == b"*") || fields.list("vary").count() > VARY_MAX {
        return Err(NotStored::Vary);
    }
    if fields.has("content-range") || fields.has("trailer") {
        return Err(NotStored::Incomplete);
    }
    if fields.list("content-type").any(|value| starts_with_ignore_case(value, b"text/event-stream")) {
        return Err(NotStored::Endless);
    }
    if content_length(fields)?.is_some_and(|length| length > body_bytes_max) {
        return Err(NotStored::TooLarge);
    }
    let age_ms = initial_age_ms(response);
    let lifetime_ms = match explicit_lifetime(response, &control) {
        Some(lifetime) if UNDERSTOOD.contains(&response.status) => lifetime.as_millis(),
        // The rule's ttl counts from the moment of storing, however old the response says it is.
        None if BY_RULE.contains(&response.status) => ttl.as_millis().saturating_add(age_ms),
        _ => return Err(NotStored::Status),
    };
    if lifetime_ms <= age_ms {
        return Err(NotStored::Stale);
    }
    Ok(Freshness { age_ms, lifetime_ms })
}

/// §4.2.1: `s-maxage`, else `max-age`, else `Expires` minus `Date`. An `Expires` that is no date means "expired".
fn explicit_lifetime(response: &Response<'_>, control: &CacheControl) -> Option<DeltaSeconds> {
    let expires = || {
        if !response.fields.has("expires") {
            return None;
        }
        // Repeated lines, and what some hosts make of them (joined by a comma), are no date: expired.
        let expires_ms = response.fields.only("expires").and_then(http_date_ms).unwrap_or_default();
        let lifetime = expires_ms.saturating_sub(date_ms(response).unwrap_or(response.received_ms));
        Some(DeltaSeconds::saturating(lifetime.checked_div(1000).unwrap_or_default()))
    };
    control.s_maxage.or(control.max_age).or_else(expires)
}

/// §4.2.3: `corrected_initial_age`, in milliseconds.
fn initial_age_ms(response: &Response<'_>) -> u64 {
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

/// Any of the three forms of RFC 9110 §5.6.7, as milliseconds since 1970.
fn http_date_ms(text: &[u8]) -> Option<u64> {
    let time = httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
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

/// Whether a response header line is kept with the entry: not what belongs to one connection (RFC 9110 §7.6.1) or to
/// one handling of the request, and not what the reply gets anew (`Age`, `Content-Length`, `Cache-Status`).
#[must_use]
pub fn keeps_field(name: &[u8], fields: &Fields<'_>) -> bool {
    const DROPPED: [&str; 14] = [
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
        "cache-status",
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
    !name.starts_with(b":") && !DROPPED.iter().any(is) && (CRITICAL.iter().any(is) || !listed())
}

fn starts_with_ignore_case(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_764_000_000_000; // Mon, 24 Nov 2025 16:00:00 GMT

    fn judge(status: u16, lines: &[(&str, &str)]) -> Result<Freshness, NotStored> {
        let fields =
            Fields::from_pairs(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect());
        let response = Response { status, fields: &fields, requested_ms: NOW_MS - 40, received_ms: NOW_MS };
        storable(&response, DeltaSeconds::saturating(60), 1000)
    }

    fn fresh_for(lifetime_s: u64, age_s: u64) -> Result<Freshness, NotStored> {
        Ok(Freshness { age_ms: age_s * 1000, lifetime_ms: lifetime_s * 1000 })
    }

    /// RFC 9111 §3, and C8.
    #[test]
    fn what_is_made_for_one_client_is_not_stored() {
        for (line, why) in [
            (("cache-control", "private"), NotStored::Private),
            (("cache-control", "PRIVATE=\"x\""), NotStored::Private),
            (("cache-control", "public, no-store"), NotStored::NoStore),
            (("cache-control", "no-cache"), NotStored::NoCache),
            (("set-cookie", "a=b"), NotStored::SetCookie),
            (("vary", "accept, *"), NotStored::Vary),
            (("content-range", "bytes 0-1/5"), NotStored::Incomplete),
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

    #[test]
    fn the_rule_gives_a_lifetime_where_the_origin_gives_none() {
        assert_eq!(judge(200, &[]), fresh_for(60, 0));
        assert_eq!(judge(200, &[("age", "100")]).map(|fresh| fresh.lifetime_ms - fresh.age_ms), Ok(60_000));
        for status in [201, 206, 302, 304, 400, 404, 500, 503] {
            assert_eq!(judge(status, &[]), Err(NotStored::Status), "{status}");
        }
    }

    /// RFC 9111 §4.2.1.
    #[test]
    fn the_origins_lifetime_comes_from_s_maxage_then_max_age_then_expires() {
        assert_eq!(judge(200, &[("cache-control", "max-age=9, s-maxage=5"), ("expires", "0")]), fresh_for(5, 0));
        assert_eq!(judge(404, &[("cache-control", "max-age=9"), ("expires", "0")]), fresh_for(9, 0));
        let date = ("date", "Mon, 24 Nov 2025 16:00:00 GMT");
        for expires in ["Mon, 24 Nov 2025 16:00:30 GMT", "Monday, 24-Nov-25 16:00:30 GMT", "Mon Nov 24 16:00:30 2025"] {
            assert_eq!(judge(200, &[date, ("expires", expires)]), fresh_for(30, 0), "{expires}");
        }
        assert_eq!(judge(503, &[("cache-control", "max-age=9")]), Err(NotStored::Status));
    }

    /// RFC 9111 §4.2.3.
    #[test]
    fn a_response_is_as_old_as_the_older_of_its_date_and_its_age() {
        let control = ("cache-control", "max-age=100");
        assert_eq!(judge(200, &[control, ("date", "Mon, 24 Nov 2025 15:59:50 GMT")]), fresh_for(100, 10));
        let by_age = judge(200, &[control, ("age", "20"), ("date", "Mon, 24 Nov 2025 15:59:50 GMT")]).unwrap();
        assert_eq!(by_age.age_ms, 20_040); // with the delay of the response
        assert_eq!(judge(200, &[control, ("age", "100")]), Err(NotStored::Stale));
        assert_eq!(judge(200, &[control, ("age", "x")]), fresh_for(100, 0));
        assert_eq!(judge(200, &[control, ("date", "Mon, 24 Nov 2025 17:00:00 GMT")]), fresh_for(100, 0));
    }

    /// facts/attacks.md A19.
    #[test]
    fn fields_of_one_connection_are_dropped_and_critical_ones_cannot_be() {
        let fields = Fields::from_pairs(vec![(b"connection", b"x-hop, Cache-Control")]);
        for (name, kept) in [
            ("x-hop", false),
            ("cache-control", true),
            ("Connection", false),
            (":status", false),
            ("etag", true),
            ("AGE", false),
        ] {
            assert_eq!(keeps_field(name.as_bytes(), &fields), kept, "{name}");
        }
    }
}
