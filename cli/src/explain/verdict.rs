//! What becomes of a request: the core is asked, and asked again with one thing changed, so that every word here is its own.

use std::time::{SystemTime, UNIX_EPOCH};

use routecache_config::Loaded;
use routecache_core::fields::Fields;
use routecache_core::freshness::{Response, Source, initial_age_ms, lifetime_ms, rule_ttl};
use routecache_core::http_date::http_date_ms;
use routecache_core::key::normal_authority;
use routecache_core::policy::{CacheRule, OriginControl, Ttl as TtlOf};
use routecache_core::request::{self as core, Engine, Plan, Reading, response_tags};
use routecache_core::reuse::Wanted;
use routecache_core::storing::{self, NotStored, storable};
use routecache_core::targeted;
use serde::Serialize;
use serde_json::Value;

use super::message::{Answered, Asked};
use super::rules::{Considered, answering, consider};
use super::words;
use super::writes::{PurgedBy, is_purged, purging};
use crate::rules::Environment;

/// Everything that is told.
#[derive(Serialize)]
pub struct Explanation {
    pub method: String,
    pub url: String,
    pub outcome: Outcome,
    /// Why it bypasses the cache: the word that `Cache-Status` gives as `detail`, and a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bypass: Option<Reason>,
    /// The cache rule that answers.
    pub rule: Option<String>,
    pub rules: Vec<Considered>,
    pub key: Option<String>,
    /// Each parameter of the query, in its order.
    pub query: Vec<Counted>,
    /// Each header field that was given.
    pub headers: Vec<Counted>,
    /// Whether it carries `Authorization`, so that only a response for everybody answers it (RFC 9111 §3.5).
    pub authorised: bool,
    /// The tags that its response gets.
    pub tags: Vec<String>,
    pub ttl: Option<Ttl>,
    pub response: Option<Stored>,
    pub purged_by: Vec<PurgedBy>,
    /// Whether any successful write to the same URL purges it (RFC 9111 §4.4).
    pub purged_by_its_url: bool,
    /// What it purges itself.
    pub purges: Vec<String>,
    /// Those of them that make what carries them stale, rather than void.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub soft: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// No rule speaks of it.
    Ignored,
    /// A rule does, and it goes to the origin.
    Bypass,
    /// It may be answered from the cache.
    Read,
    /// It may purge.
    Write,
}

#[derive(Serialize)]
pub struct Reason {
    pub word: String,
    pub sentence: String,
}

impl Reason {
    fn new(word: &str, sentence: Option<&str>) -> Self {
        Self { word: word.to_owned(), sentence: sentence.unwrap_or(word).to_owned() }
    }
}

/// Something of the request, and whether it matters.
#[derive(Serialize)]
pub struct Counted {
    pub name: String,
    pub value: String,
    /// Whether the key or the outcome would be another without it.
    pub counts: bool,
}

/// How long a response is fresh, and who says so.
#[derive(Serialize)]
pub struct Ttl {
    pub seconds: u64,
    pub from: String,
    /// Whether the origin's own words would win over it.
    pub origin_decides: bool,
}

/// What becomes of the response.
#[derive(Serialize)]
pub struct Stored {
    pub status: u16,
    pub stored: bool,
    /// Why not: the core's word, and a sentence.
    pub why_not: Option<Reason>,
    pub ttl: Option<Ttl>,
    /// Whether the rule reads the body, and none was given.
    pub body_decides: bool,
    /// How often a worker must have been asked first.
    pub min_uses: u8,
    /// By how much chance may cut the lifetime.
    pub jitter_percent: u8,
    pub stale_if_error_seconds: u64,
    pub stale_while_revalidate_seconds: u64,
    /// Tags that only the response names.
    pub tags: Vec<String>,
    /// Request fields by which its variants are told apart.
    pub vary: Vec<String>,
}

/// Explains a request and, where there is one, its response.
pub fn explain(loaded: &Loaded, environment: &Environment, asked: &Asked, answered: Option<&Answered>) -> Explanation {
    let scheme = asked.line(":scheme");
    let authority = normal_authority(asked.line(":authority"), scheme);
    let answering = answering(&loaded.policy, asked, &authority);
    let mut explanation = Explanation {
        method: asked.line(":method").to_owned(),
        url: format!("{scheme}://{}{}", asked.line(":authority"), asked.line(":path")),
        outcome: Outcome::Ignored,
        bypass: None,
        rule: None,
        rules: consider(&loaded.policy, asked, answering),
        key: None,
        query: Vec::new(),
        headers: Vec::new(),
        authorised: false,
        tags: Vec::new(),
        ttl: None,
        response: None,
        purged_by: Vec::new(),
        purged_by_its_url: false,
        purges: Vec::new(),
        soft: Vec::new(),
    };
    let engine = Engine::new(loaded.policy.clone());
    explanation.rule = answering.and_then(|rule| loaded.policy.rules.get(rule)).map(|rule| rule.name.clone());
    counts(&engine, asked, &mut explanation);
    let fields = asked.fields();
    let property = |path: &[&str]| asked.property(path);
    match asked.plan(&engine, &fields, &property) {
        Plan::Ignore | Plan::ReadBody => {}
        Plan::Bypass(reason) => {
            explanation.outcome = Outcome::Bypass;
            explanation.bypass = Some(Reason::new(reason.word(), words::of_bypass(reason.word())));
        }
        Plan::Write(write) => {
            explanation.outcome = Outcome::Write;
            explanation.bypass =
                write.bypass().map(|reason| Reason::new(reason.word(), words::of_bypass(reason.word())));
            let response = answered.map(|answered| (answered.status, answered.fields()));
            let response = response.as_ref().map(|(status, fields)| (*status, fields));
            let outcome = core::Outcome { response, request_body: asked.body.as_deref() };
            explanation.purges = engine.purged_by(&write, &outcome);
            if write.reads_response_body() && response.is_some_and(|(status, _)| core::write_purges(status)) {
                let body = answered.and_then(|answered| answered.body.as_deref());
                for tag in engine.purged_by_body(&write, body) {
                    if !explanation.purges.contains(&tag) {
                        explanation.purges.push(tag);
                    }
                }
            }
            explanation.soft = explanation.purges.iter().filter(|tag| write.softens(tag)).cloned().collect();
        }
        Plan::Read(reading) => {
            explanation.outcome = Outcome::Read;
            read(loaded, environment, &engine, &reading, &mut explanation);
            if let (Some(answered), Some(cache)) = (answered, engine.cache_rule(reading.wanted.rule)) {
                let mut stored = judge(&engine, cache, &reading, answered);
                name_ttl(loaded, environment, reading.wanted.rule, answered.status, &mut stored.ttl);
                explanation.tags.extend(stored.tags.iter().cloned());
                explanation.response = Some(stored);
            }
            let target = (scheme, authority.as_str(), asked.line(":path"));
            explanation.purged_by = purging(&engine, scheme, &authority, &explanation.tags);
            explanation.purged_by_its_url =
                explanation.tags.iter().any(|tag| tag.starts_with("!url:") && is_purged(&engine, "POST", target, tag));
        }
    }
    explanation
}

/// A read whose response may be stored.
fn read(loaded: &Loaded, environment: &Environment, engine: &Engine, reading: &Reading<'_>, into: &mut Explanation) {
    into.authorised = reading.wanted.authorised;
    into.key = Some(reading.wanted.key.as_str().to_owned());
    match reading.tags() {
        Ok(tags) => into.tags = tags,
        Err(reason) => {
            into.outcome = Outcome::Bypass;
            into.bypass = Some(Reason::new(reason.word(), words::of_bypass(reason.word())));
        }
    }
    // The lifetime of a 200 that says nothing of caching.
    if let Some(cache) = engine.cache_rule(reading.wanted.rule).filter(|cache| !matches!(cache.ttl, TtlOf::Json { .. }))
    {
        let (fields, now_ms) = (Fields::default(), now_ms());
        let plain = Response { status: 200, fields: &fields, requested_ms: now_ms, received_ms: now_ms, body: None };
        let (control, targeted) = storing::control(&fields, cache);
        into.ttl = ttl(&plain, &control, targeted, cache);
        name_ttl(loaded, environment, reading.wanted.rule, 200, &mut into.ttl);
    }
}

/// Whether a response is stored, as the filter judges it: by its header, and where the rule reads it by its body.
fn judge(engine: &Engine, cache: &CacheRule, reading: &Reading<'_>, answered: &Answered) -> Stored {
    let fields = answered.fields();
    // As if it had just been made: a response that was kept in a file isn't older for that.
    let received_ms = fields.only("date").and_then(http_date_ms).unwrap_or_else(now_ms);
    let requested_ms = received_ms.saturating_sub(answered.took_ms);
    let body = answered.body.as_deref().filter(|_| cache.reads_response_body());
    let response = Response { status: answered.status, fields: &fields, requested_ms, received_ms, body };
    let Wanted { authorised, control, is_get, .. } = &reading.wanted;
    let asked = storing::Asked { authorised: *authorised, no_store: control.no_store, ..storing::Asked::default() };
    let limit = engine.body_bytes_max(cache);
    let length = answered.body.as_ref().map_or(0, |body| u64::try_from(body.len()).unwrap_or(u64::MAX));
    let judged = storable(&response, cache, asked, limit).and_then(|freshness| {
        let around = reading.around().map_err(|_| NotStored::Tags)?;
        let tags = response_tags(&fields, body, cache, &around, &reading.origin())?;
        if length > limit { Err(NotStored::TooLarge) } else { Ok((freshness, tags)) }
    });
    let (control, targeted) = storing::control(&fields, cache);
    let mut stored = Stored {
        status: answered.status,
        stored: false,
        why_not: None,
        body_decides: cache.reads_response_body() && body.is_none(),
        min_uses: cache.min_uses,
        jitter_percent: cache.jitter_percent,
        ttl: ttl(&response, &control, targeted, cache),
        stale_if_error_seconds: 0,
        stale_while_revalidate_seconds: 0,
        tags: Vec::new(),
        vary: fields.list("vary").map(|name| String::from_utf8_lossy(name).to_ascii_lowercase()).collect(),
    };
    match judged {
        Ok(_) if !is_get => {
            let sentence = "only what a GET brings is stored; a HEAD is answered from it";
            stored.why_not = Some(Reason::new("method", Some(sentence)));
        }
        Ok((freshness, tags)) => {
            stored.stored = true;
            stored.stale_if_error_seconds = freshness.stale_if_error_ms / 1000;
            stored.stale_while_revalidate_seconds = freshness.stale_while_revalidate_ms / 1000;
            stored.tags = tags;
        }
        Err(reason) => stored.why_not = Some(Reason::new(reason.word(), words::of_not_stored(reason.word()))),
    }
    stored
}

/// The lifetime, and which words of the origin it comes from.
fn ttl(
    response: &Response<'_>,
    control: &routecache_core::cache_control::CacheControl,
    by_target: bool,
    cache: &CacheRule,
) -> Option<Ttl> {
    let by_rule = rule_ttl(response, cache).unwrap_or_default();
    let (lifetime, source) = lifetime_ms(response, control, by_target, cache, by_rule)?;
    let field = if by_target {
        let speaks = |name: &&String| targeted::control(response.fields, std::slice::from_ref(*name)).is_some();
        cache.terms.targeted.iter().find(speaks).map_or("", String::as_str)
    } else {
        "cache-control"
    };
    let from = match source {
        Source::Explicit if control.s_maxage.is_some() => format!("`s-maxage` in `{field}`"),
        Source::Explicit if control.max_age.is_some() => format!("`max-age` in `{field}`"),
        Source::Explicit => "`expires`".to_owned(),
        Source::Heuristic => "a tenth of the time since `last-modified`".to_owned(),
        // Both are named as they were written by `name_ttl`.
        Source::Status => "ttl_by_status".to_owned(),
        Source::Rule => "ttl".to_owned(),
    };
    let origin_decides = source.is_rule() && cache.terms.origin == OriginControl::Respect;
    // A rule's lifetime counts from now on, however old the response is.
    let older_ms = if source.is_rule() { initial_age_ms(response) } else { 0 };
    let seconds = lifetime.saturating_sub(older_ms) / 1000;
    Some(Ttl { seconds, from, origin_decides })
}

/// Says which field of the rules a lifetime comes from, as it was written.
fn name_ttl(loaded: &Loaded, environment: &Environment, rule: usize, status: u16, ttl: &mut Option<Ttl>) {
    let Some(ttl) = ttl.as_mut().filter(|ttl| matches!(&*ttl.from, "ttl" | "ttl_by_status")) else { return };
    let name = loaded.policy.rules.get(rule).map(|rule| rule.name.as_str());
    let routes = loaded.expanded.get("routes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let written = routes.iter().find(|route| route.get("name").and_then(Value::as_str) == name);
    let field = written.and_then(|route| route.get("cache")?.get(&ttl.from));
    let value = match field {
        Some(Value::Object(map)) if ttl.from == "ttl_by_status" => {
            map.get(&status.to_string()).or_else(|| map.get(&format!("{}xx", status / 100)))
        }
        field => field,
    };
    let bucket = value.map_or(Some("default"), Value::as_str).unwrap_or_default();
    ttl.from = match value {
        None => "the bucket `default`, as the rule has no `ttl`".to_owned(),
        Some(Value::String(text)) => format!("`{}: {text}`", ttl.from),
        Some(value) => format!("`{}: {value}`", ttl.from),
    };
    let variable = format!("CACHE_TTL_{}", bucket.to_ascii_uppercase());
    if matches!(bucket, "short" | "default" | "long") && environment.get(&variable).is_some() {
        ttl.from.push_str(&format!(", which {variable} sets"));
    }
}

/// Finds out which parameters and fields matter, by leaving each out.
fn counts(engine: &Engine, asked: &Asked, into: &mut Explanation) {
    let same = said(engine, asked);
    let place = |name: &str| asked.lines.iter().position(|(known, _)| known == name);
    if let (Some(index), Some((path, query))) = (place(":path"), asked.line(":path").split_once('?')) {
        let pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
        for (number, pair) in pairs.iter().enumerate() {
            let others: Vec<&str> =
                pairs.iter().enumerate().filter(|(other, _)| *other != number).map(|(_, pair)| *pair).collect();
            let target = if others.is_empty() { path.to_owned() } else { format!("{path}?{}", others.join("&")) };
            let counts = said(engine, &asked.with(index, Some(target))) != same;
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            into.query.push(Counted { name: name.to_owned(), value: value.to_owned(), counts });
        }
    }
    for (index, (name, value)) in asked.lines.iter().enumerate().filter(|(_, (name, _))| !name.starts_with(':')) {
        let counts = said(engine, &asked.with(index, None)) != same;
        into.headers.push(Counted { name: name.clone(), value: value.clone(), counts });
    }
}

/// What the core says of a request, as far as it can be compared.
fn said(engine: &Engine, asked: &Asked) -> String {
    match asked.plan(engine, &asked.fields(), &|path| asked.property(path)) {
        Plan::Ignore | Plan::ReadBody => "ignored".to_owned(),
        Plan::Bypass(reason) => format!("bypass {}", reason.word()),
        Plan::Read(reading) => {
            let wanted = &reading.wanted;
            format!("{} {:?} {} {:?}", wanted.key.as_str(), wanted.control, wanted.authorised, reading.tags())
        }
        Plan::Write(write) => {
            let outcome = core::Outcome { response: None, request_body: asked.body.as_deref() };
            format!("write {:?}", engine.purged_by(&write, &outcome))
        }
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
