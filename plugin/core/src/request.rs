//! What to do with a request ([`Engine::plan`]), and what it purges if it is a write ([`Engine::purged_by`]).

mod writing;

pub use self::writing::{Outcome, Writing, write_purges};

use crate::cache_control::RequestControl;
use crate::fetch::has_looped;
use crate::fields::Fields;
use crate::invalidation::{group_tags, is_safe};
use crate::json;
use crate::key::{self, Facts, NoKey, TAG_BYTES_MAX, Target};
use crate::matching::{Match, Router};
use crate::order::sorted_set;
use crate::policy::{
    Action, CacheRule, ClientDirectives, Cookies, Lock, Mode, OriginControl, Policy, ResponsePart, Rule, Terms,
};
use crate::property::Properties;
use crate::reuse::Wanted;
use crate::storing::NotStored;
use crate::template::{Around, NoValue, Placeholder, Source, escape};

/// Fields by which a client says who it is, beside `Authorization` and `Cookie`. A response to such a request is made for
/// that client until a rule says otherwise, so nothing is stored and nothing stored is served (C8).
const CREDENTIALS: [&str; 3] = ["proxy-authorization", "x-api-key", "x-auth-token"];

/// Fields by which a client asks some origins for another resource or method than the request line names; the key doesn't
/// hold them (facts/attacks.md A1, A2, A17).
const OVERRIDES: [&str; 6] =
    ["x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url", "x-host"];

/// Preconditions that are for the origin to judge, whatever the method.
const FOR_THE_ORIGIN: [&str; 2] = ["if-match", "if-unmodified-since"];

/// What a GET may carry and is answered with from the store, and means nothing for what a POST asks.
const OF_GET: [&str; 4] = ["if-none-match", "if-modified-since", "range", "if-range"];

/// Longest body of a request that is read, for a key or for tags.
pub const REQUEST_BODY_BYTES_MAX: usize = 64 << 10;

/// The checked rules, ready to be asked.
#[derive(Debug)]
pub struct Engine {
    policy: Policy,
    router: Router,
    fingerprints: Vec<u64>,
}

/// A request, as far as it has come.
#[derive(Clone, Copy)]
pub struct Arrived<'a> {
    /// Its header.
    pub fields: &'a Fields<'a>,
    /// Its body.
    pub body: Body<'a>,
    /// What the gateway knows of it.
    pub property: Properties<'a>,
}

/// Whether a field, its name in lower case, says who the client is.
#[must_use]
pub fn is_credential(name: &str) -> bool {
    matches!(name, "authorization" | "cookie") || CREDENTIALS.contains(&name)
}

/// The body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// It has none.
    None,
    /// It hasn't come yet.
    Coming,
    /// Here it is, whole.
    Whole(&'a [u8]),
}

impl<'a> Arrived<'a> {
    /// A request whose header is there.
    #[must_use]
    pub fn new(fields: &'a Fields<'a>, end_of_stream: bool, property: Properties<'a>) -> Self {
        Self { fields, body: if end_of_stream { Body::None } else { Body::Coming }, property }
    }

    fn whole_body(&self) -> Option<&'a [u8]> {
        match self.body {
            Body::None => Some(b""),
            Body::Coming => None,
            Body::Whole(body) => Some(body),
        }
    }
}

/// What to do with a request.
#[derive(Debug)]
pub enum Plan<'a> {
    /// No rule speaks of it: the filter is out of the way.
    Ignore,
    /// A rule speaks of it, but it must go to the origin, and its response isn't stored.
    Bypass(Bypass),
    /// Its body decides, and hasn't come: ask again when it has, or when it turns out to be longer than
    /// [`REQUEST_BODY_BYTES_MAX`] ([`Engine::plan_unread`]).
    ReadBody,
    /// It may be answered from the cache.
    Read(Box<Reading<'a>>),
    /// If it succeeds, it purges ([`Engine::purged_by`]).
    Write(Box<Writing>),
}

/// Why a request that a cache rule speaks of isn't answered from the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// It says who the client is.
    Credentials,
    /// It has a body, which no key holds.
    Body,
    /// It wants another protocol.
    Upgrade,
    /// It is a gRPC call.
    Grpc,
    /// It carries a field that may change what the origin answers, and that no key holds.
    Override,
    /// It has a precondition that is for the origin to judge (`If-Match`, `If-Unmodified-Since`).
    Precondition,
    /// A placeholder of the key or a tag has no value.
    MissingValue(Source),
    /// The value of a placeholder isn't what its formatters take.
    BadValue(Source),
    /// It doesn't say who the client is, and the rule needs to know.
    NoIdentity,
    /// Its key or a tag would be too long.
    TooLong,
    /// Its body doesn't hold what tags are made of.
    Unreadable,
    /// The rule's `bypass` is for it.
    ByRule,
    /// The rule is switched off.
    Off,
}

impl Bypass {
    /// A word for `Cache-Status`, logs and metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Body => "request-body",
            Self::Upgrade => "upgrade",
            Self::Grpc => "grpc",
            Self::Override => "override-field",
            Self::Precondition => "precondition",
            Self::MissingValue(_) => "missing-value",
            Self::BadValue(_) => "bad-value",
            Self::NoIdentity => "no-identity",
            Self::TooLong => "key-too-long",
            Self::Unreadable => "unreadable",
            Self::ByRule => "rule",
            Self::Off => "off",
        }
    }
}

impl From<NoKey> for Bypass {
    fn from(reason: NoKey) -> Self {
        match reason {
            NoKey::Value(NoValue::Missing(source)) => Self::MissingValue(source),
            NoKey::Value(NoValue::Bad(source)) => Self::BadValue(source),
            NoKey::NoIdentity => Self::NoIdentity,
            NoKey::TooLong => Self::TooLong,
            NoKey::Unreadable => Self::Unreadable,
        }
    }
}

/// A request that may be answered from the cache.
pub struct Reading<'a> {
    /// What it wants, apart from the request's own bytes.
    pub wanted: Wanted,
    rule: &'a Rule,
    cache: &'a CacheRule,
    found: Match<'a, 'a>,
    asked: Asked<'a>,
    arrived: Arrived<'a>,
}

impl std::fmt::Debug for Reading<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl Reading<'_> {
    /// The tags of the response that the request alone decides, implicit ones too.
    ///
    /// # Errors
    ///
    /// A tag has no value, or is too long: nothing may be stored, since no purge would reach it.
    pub fn tags(&self) -> Result<Vec<String>, Bypass> {
        Ok(key::entry_tags(self.rule, self.cache, &self.asked.facts(&self.arrived), &self.found)?)
    }

    /// The tags that the response decides too ([`CacheRule::item_tags`], in their order), filled but for what it says.
    ///
    /// # Errors
    ///
    /// As for [`Reading::tags`].
    pub fn around(&self) -> Result<Vec<Around>, Bypass> {
        let facts = self.asked.facts(&self.arrived);
        let tags = self.cache.item_tags.iter();
        tags.map(|tag| key::around(tag, &facts, &self.found).map_err(Bypass::from)).collect()
    }

    /// The rule.
    #[must_use]
    pub fn rule(&self) -> &CacheRule {
        self.cache
    }

    /// Who waits while it is fetched.
    #[must_use]
    pub fn lock(&self) -> Lock {
        self.cache.lock
    }

    /// The rule's terms.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.cache.terms
    }

    /// The scheme and authority that the tags of groups belong to (RFC 9875 §2).
    #[must_use]
    pub fn origin(&self) -> (&'static str, String) {
        (self.asked.scheme, self.asked.authority.clone())
    }

    /// The target to forward, where the rule leaves parts of its query out.
    #[must_use]
    pub fn stripped(&self) -> Option<String> {
        let kept = self.cache.strip_query.then(|| key::stripped_query(self.cache, self.asked.query?)).flatten()?;
        Some(if kept.is_empty() { self.asked.path.to_owned() } else { format!("{}?{kept}", self.asked.path) })
    }
}

/// The request line as the rules see it.
#[derive(Debug)]
struct Asked<'p> {
    scheme: &'static str,
    method: &'p str,
    authority: String,
    path: &'p str,
    query: Option<&'p str>,
}

impl<'p> Asked<'p> {
    /// `None` when a pseudo-header is missing or isn't text.
    fn of(fields: &Fields<'p>) -> Option<Self> {
        let text = |name| fields.first(name).and_then(|value| std::str::from_utf8(value).ok());
        let target = text(":path")?;
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        // What the client used, as the first trusted proxy saw it; Envoy always sets it.
        let scheme = match text("x-forwarded-proto").or_else(|| text(":scheme")) {
            Some(scheme) if scheme.eq_ignore_ascii_case("https") => "https",
            _ => "http",
        };
        let authority = key::normal_authority(text(":authority").or_else(|| text("host"))?, scheme);
        Some(Self { scheme, method: text(":method")?, authority, path, query })
    }

    fn facts<'a>(&'a self, arrived: &Arrived<'a>) -> Facts<'a> {
        let Arrived { fields, property, .. } = *arrived;
        Facts { target: self.target(), fields, body: arrived.whole_body(), property }
    }

    fn target(&self) -> Target<'_> {
        Target {
            scheme: self.scheme,
            method: self.method,
            authority: &self.authority,
            path: self.path,
            query: self.query,
        }
    }
}

impl Engine {
    /// Prepares a policy.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let router = Router::new(&policy.rules);
        let fingerprints = policy.rules.iter().map(Rule::fingerprint).collect();
        Self { policy, router, fingerprints }
    }

    /// The rules.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What to do with a request.
    #[must_use]
    pub fn plan<'a>(&'a self, arrived: &Arrived<'a>) -> Plan<'a> {
        self.plan_by(arrived, None)
    }

    /// What to do with a request whose body decides, and can't be read.
    #[must_use]
    pub fn plan_unread<'a>(&'a self, arrived: &Arrived<'a>) -> Plan<'a> {
        self.plan_by(arrived, Some(Bypass::Body))
    }

    fn plan_by<'a>(&'a self, arrived: &Arrived<'a>, unread: Option<Bypass>) -> Plan<'a> {
        let Some(asked) = Asked::of(arrived.fields) else { return Plan::Ignore };
        let meets = |rule: usize| self.meets(rule, &asked, arrived);
        let matches = self.router.find(asked.method, key::host_of(&asked.authority), asked.path, &meets);
        let safe = is_safe(asked.method);
        let bypass = match (matches.cache, unread) {
            (None, _) if safe => return Plan::Ignore,
            (None, _) => None,
            (Some(_), Some(reason)) => Some(reason),
            (Some(found), None) => match self.prepare(&asked, &found, arrived) {
                Ok(Prepared::NeedsBody) => return Plan::ReadBody,
                Ok(Prepared::Reads(rule, cache, wanted)) => {
                    return Plan::Read(Box::new(Reading { wanted, rule, cache, found, asked, arrived: *arrived }));
                }
                Err(reason) => Some(reason),
            },
        };
        match bypass {
            Some(reason) if safe => Plan::Bypass(reason),
            bypass => Plan::Write(Box::new(self.writing(&asked, &matches.purges, arrived, bypass))),
        }
    }

    /// Whether a request meets what a rule asks beside method, host and path. A body that hasn't come may yet.
    fn meets(&self, rule: usize, asked: &Asked<'_>, arrived: &Arrived<'_>) -> bool {
        let Some(rule) = self.policy.rules.get(rule) else { return false };
        let body = arrived.whole_body();
        let met = rule.conditions.iter().all(|condition| {
            let holds = condition.holds(arrived.fields, asked.query, body);
            holds.unwrap_or(body.is_none() || matches!(rule.action, Action::Purge(_)))
        });
        met && (rule.mode == Mode::On || matches!(rule.action, Action::Cache(_)))
    }

    /// The longest response body that a rule stores.
    #[must_use]
    pub fn body_bytes_max(&self, rule: &CacheRule) -> u64 {
        rule.body_bytes_max.unwrap_or(self.policy.limits.body_bytes_max)
    }

    /// The cache rule of that index.
    #[must_use]
    pub fn cache_rule(&self, rule: usize) -> Option<&CacheRule> {
        match &self.policy.rules.get(rule)?.action {
            Action::Cache(cache) => Some(cache),
            Action::Purge(_) => None,
        }
    }

    fn prepare<'r>(
        &'r self,
        asked: &Asked<'_>,
        found: &Match<'_, '_>,
        arrived: &Arrived<'_>,
    ) -> Result<Prepared<'r>, Bypass> {
        // A rule that was found is in the policy, and is a cache rule; should that ever be untrue, forwarding is safe.
        let rule = self.policy.rules.get(found.rule).ok_or(Bypass::Override)?;
        let Action::Cache(cache) = &rule.action else { return Err(Bypass::Override) };
        if rule.mode == Mode::Off {
            return Err(Bypass::Off);
        }
        let fields = arrived.fields;
        if let Some(reason) = goes_by(asked, cache, arrived) {
            return Err(reason);
        }
        let is_post = asked.method == "POST";
        if is_post && arrived.body == Body::Coming {
            let length = fields.first("content-length");
            let declared = length.and_then(|length| std::str::from_utf8(length).ok()?.parse::<usize>().ok());
            let too_long = declared.is_some_and(|length| length > REQUEST_BODY_BYTES_MAX);
            return if too_long { Err(Bypass::Body) } else { Ok(Prepared::NeedsBody) };
        }
        let body = arrived.whole_body();
        // What can't be told may well be what the rule wants to let pass.
        if cache.bypass.iter().any(|condition| condition.holds(fields, asked.query, body) != Some(false)) {
            return Err(Bypass::ByRule);
        }
        let fingerprint = self.fingerprints.get(found.rule).copied().unwrap_or_default();
        let (key, search) = key::cache_key(&self.policy.namespace, rule, cache, &asked.facts(arrived), found)?;
        let control = match cache.terms.client_directives {
            ClientDirectives::Honour => RequestControl::of(fields),
            ClientDirectives::Distrust => RequestControl::default(),
        };
        let by_client = |placeholder: &Placeholder| placeholder.source == Source::Client;
        let may_refresh = self.policy.background.is_some()
            && !control.no_store
            && !is_post
            && !has_looped(fields)
            && !cache.key.placeholders().any(by_client); // whose address would be the gateway's own
        let wanted = Wanted {
            key,
            search,
            fingerprint,
            rule: found.rule,
            is_get: asked.method != "HEAD",
            is_post,
            control,
            authorised: says_who(cache, fields, "authorization"),
            https: asked.scheme == "https",
            may_refresh,
            fetched_ms: None,
        };
        Ok(Prepared::Reads(rule, cache, wanted))
    }
}

/// Whether a request says by this field who its client is, beside what the key holds of it.
fn says_who(cache: &CacheRule, fields: &Fields<'_>, name: &str) -> bool {
    fields.has(name) && !cache.identity.as_ref().is_some_and(|identity| identity.covers(name))
}

/// Why a request isn't answered from the cache whatever its rule's key is, by its header and whether it has a body: its answer
/// may depend on more than a key can hold.
fn goes_by(asked: &Asked<'_>, cache: &CacheRule, arrived: &Arrived<'_>) -> Option<Bypass> {
    let fields = arrived.fields;
    let has_any = |names: &[&str]| names.iter().any(|name| fields.has(name));
    let counts = |name: &&str| says_who(cache, fields, name);
    // §3.5 is the origin's to use: a rule that doesn't hear the origin has no way to tell what is for everybody.
    if CREDENTIALS.iter().any(counts)
        || cache.terms.origin != OriginControl::Respect && counts(&"authorization")
        || cache.terms.cookies == Cookies::Respect && counts(&"cookie")
    {
        return Some(Bypass::Credentials);
    }
    if has_any(&["upgrade", ":protocol"]) {
        return Some(Bypass::Upgrade);
    }
    // Whether it went well stands in trailers, and its messages are a stream.
    let grpc = |value: &[u8]| value.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"));
    if fields.all("content-type").any(grpc) {
        return Some(Bypass::Grpc);
    }
    let is_post = asked.method == "POST";
    let has_length = fields.first("content-length").is_some_and(|length| length != b"0");
    if !is_post && (arrived.body != Body::None || fields.has("transfer-encoding") || has_length) {
        return Some(Bypass::Body);
    }
    // Beside `:authority` gateways drop `Host`, or name themselves there and leave the client's word in `Host`.
    let keyed = fields.first(":authority").or_else(|| fields.first("host")).unwrap_or_default();
    let other_host = |host: &[u8]| !host.eq_ignore_ascii_case(keyed);
    if has_any(&OVERRIDES) || ["x-forwarded-host", "host"].iter().any(|name| fields.all(name).any(other_host)) {
        return Some(Bypass::Override);
    }
    (has_any(&FOR_THE_ORIGIN) || is_post && has_any(&OF_GET)).then_some(Bypass::Precondition)
}

/// What a cache rule makes of a request.
enum Prepared<'r> {
    NeedsBody,
    Reads(&'r Rule, &'r CacheRule, Wanted),
}

/// The words of a field.
fn words<'f>(fields: &'f Fields<'_>, name: &'f str) -> impl Iterator<Item = &'f [u8]> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b',' | b'\t');
    fields.all(name).flat_map(move |line| line.split(is_space)).filter(|word| !word.is_empty())
}

/// The tags that only the response names: its groups (RFC 9875), the words of the fields that the rule lists
/// (`surrogate-key`, `cache-tag`), and what the rule makes of fields and of its body, each `around` what is found. Without a
/// body, those of its header.
///
/// # Errors
///
/// More than [`RESPONSE_TAGS_MAX`], one too long, or a body that doesn't hold what it must: then nothing may be stored, since
/// some purge wouldn't reach it.
pub fn response_tags(
    fields: &Fields<'_>,
    body: Option<&[u8]>,
    rule: &CacheRule,
    around: &[Around],
    origin: &(&'static str, String),
) -> Result<Vec<String>, NotStored> {
    let (scheme, authority) = origin;
    let mut tags = group_tags(fields, "cache-groups", scheme, authority);
    let mut add = |tag: String| {
        tags.push(tag);
        (tags.len() <= RESPONSE_TAGS_MAX).then_some(()).ok_or(NotStored::Tags)
    };
    for word in rule.terms.tag_fields.iter().flat_map(|name| words(fields, name)) {
        let mut tag = String::new();
        escape(word, b"", &mut tag);
        add(tag)?;
    }
    for (tag, around) in rule.item_tags.iter().zip(around) {
        let found: Vec<Vec<u8>> = match (&tag.part, body) {
            (ResponsePart::Header(name), _) => words(fields, name).map(<[u8]>::to_vec).collect(),
            (ResponsePart::Json(_), None) => Vec::new(),
            (ResponsePart::Json(pointer), Some(body)) => json::values(body, pointer).ok_or(NotStored::Unreadable)?,
        };
        for value in found {
            add(around.text(&value).ok_or(NotStored::Unreadable)?)?;
        }
    }
    let tags = sorted_set(tags);
    let fits = tags.iter().all(|tag| tag.len() <= TAG_BYTES_MAX);
    fits.then_some(tags).ok_or(NotStored::Tags)
}

/// Most tags that a response may name: each is looked up for every hit.
pub const RESPONSE_TAGS_MAX: usize = 128;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::path::PathTemplate;
    use crate::policy::{Background, DeltaSeconds, Limits, Namespace, PurgeRule};
    use crate::template::Template;

    pub(crate) fn engine() -> Engine {
        let template = |text: &str| Template::parse(text).unwrap();
        let methods = |methods: &[&str]| methods.iter().map(|method| (*method).to_owned()).collect();
        let cache = CacheRule::new(template("user:{id}"), DeltaSeconds::saturating(60));
        let purge = |tags: &[&str]| {
            Action::Purge(PurgeRule { tags: tags.iter().map(|tag| template(tag)).collect(), ..PurgeRule::default() })
        };
        let rule = |name: &str, path: &str, action| Rule {
            name: name.into(),
            methods: if matches!(action, Action::Cache(_)) { methods(&["GET", "HEAD"]) } else { methods(&["PUT"]) },
            host: None,
            path: PathTemplate::parse(path).unwrap(),
            conditions: Vec::new(),
            mode: Mode::On,
            action,
        };
        let rules = vec![
            rule("user", "/users/{id}", Action::Cache(Box::new(cache))),
            rule("write", "/users/{id}", purge(&["user:{id}", "users"])),
            rule("any-write", "/users/{x}", purge(&["users"])),
            rule("vague", "/vague", purge(&["page:{query.page}"])),
        ];
        let namespace = Namespace { prefix: "svc".into(), version: "v1".into() };
        Engine::new(Policy {
            namespace,
            bridge: None,
            background: Some(Background { cluster: "self".into(), concurrency: 1, timeout_ms: 1 }),
            warm: Default::default(),
            limits: Limits::default(),
            window_ms: 1000,
            serves_unheard: false,
            purge_timeout_ms: 250,
            purge_heard: false,
            rules,
        })
    }

    pub(crate) fn fields<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Fields<'a> {
        let line = [(":method", method), (":path", path), (":authority", "h"), (":scheme", "http")];
        Fields::from_pairs(line.iter().chain(more).map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect())
    }

    fn bypass(more: &[(&str, &str)], end_of_stream: bool) -> Option<Bypass> {
        match engine().plan(&Arrived::new(&fields("GET", "/users/7", more), end_of_stream, &|_| None)) {
            Plan::Bypass(reason) => Some(reason),
            _ => None,
        }
    }

    /// C8, RFC 9111 §3.5, and the attacks of facts/attacks.md.
    #[test]
    fn a_request_whose_answer_may_depend_on_more_than_its_key_goes_by_the_cache() {
        for (line, reason) in [
            (("proxy-authorization", "Bearer x"), Bypass::Credentials),
            (("Cookie", "a=b"), Bypass::Credentials),
            (("x-api-key", "k"), Bypass::Credentials),
            (("content-length", "5"), Bypass::Body),
            (("upgrade", "websocket"), Bypass::Upgrade),
            (("content-type", "application/grpc+proto"), Bypass::Grpc),
            (("x-http-method-override", "PUT"), Bypass::Override),
            (("x-forwarded-host", "evil"), Bypass::Override),
            (("host", "evil"), Bypass::Override),
            (("if-match", "\"x\""), Bypass::Precondition),
        ] {
            assert_eq!(bypass(&[line], true), Some(reason), "{line:?}");
        }
        assert_eq!(bypass(&[], false), Some(Bypass::Body));
        assert_eq!(bypass(&[("x-forwarded-host", "H"), ("host", "h"), ("content-length", "0")], true), None);
    }

    #[test]
    fn a_head_has_the_key_of_its_get() {
        let engine = engine();
        let key = |method| match engine.plan(&Arrived::new(&fields(method, "/users/7", &[]), true, &|_| None)) {
            Plan::Read(reading) => (reading.wanted.key.as_str().to_owned(), reading.wanted.is_get),
            other => panic!("{other:?}"),
        };
        assert_eq!(key("GET"), ("svc:v1 user http GET h user:7 ".to_owned(), true));
        assert_eq!(key("HEAD"), ("svc:v1 user http GET h user:7 ".to_owned(), false));
    }

    /// What a write to `path` purges when it is answered with this status and these lines.
    #[test]
    fn what_no_rule_speaks_of_is_left_alone() {
        for (method, path) in [("GET", "/other"), ("OPTIONS", "/users/7"), ("OPTIONS", "*"), ("GET", "")] {
            assert!(
                matches!(engine().plan(&Arrived::new(&fields(method, path, &[]), true, &|_| None)), Plan::Ignore),
                "{method} {path}"
            );
        }
        assert!(matches!(engine().plan(&Arrived::new(&Fields::default(), true, &|_| None)), Plan::Ignore));
    }

    #[test]
    fn who_asks_matters_unless_the_rule_says_that_it_does_not() {
        let plan = |terms: Terms, line: (&str, &str)| {
            let mut policy = engine().policy().clone();
            if let Action::Cache(cache) = &mut policy.rules[0].action {
                cache.terms = terms;
            }
            let engine = Engine::new(policy);
            matches!(engine.plan(&Arrived::new(&fields("GET", "/users/7", &[line]), true, &|_| None)), Plan::Read(_))
        };
        for (cookies, read) in [(Cookies::Respect, false), (Cookies::Ignore, true), (Cookies::Share, true)] {
            assert_eq!(plan(Terms { cookies, ..Terms::default() }, ("cookie", "a=b")), read, "{cookies:?}");
        }
        for (origin, read) in
            [(OriginControl::Respect, true), (OriginControl::Override, false), (OriginControl::Ignore, false)]
        {
            assert_eq!(plan(Terms { origin, ..Terms::default() }, ("authorization", "x")), read, "{origin:?}");
        }
    }
}
