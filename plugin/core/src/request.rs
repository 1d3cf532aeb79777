//! What to do with a request ([`Engine::plan`]), and whether a stored response answers it ([`Name::reuse`]).

use std::fmt;

use crate::cache_status::Forward;
use crate::entry::Entry;
use crate::fields::Fields;
use crate::key::{self, CacheKey, NoKey, TAG_ALL, Target};
use crate::matching::{Match, PathMistake, Router, normal_path};
use crate::policy::{Action, CacheRule, DeltaSeconds, Policy, Rule};

/// Fields by which a client says who it is. A response to such a request is made for that client until a rule says
/// otherwise, so nothing is stored and nothing stored is served (C8; RFC 9111 §3.5 for `Authorization`).
const CREDENTIALS: [&str; 5] = ["authorization", "cookie", "proxy-authorization", "x-api-key", "x-auth-token"];

/// Fields by which a client asks some origins for another resource or method than the request line names; the key doesn't
/// hold them (facts/attacks.md A1, A2, A17).
const OVERRIDES: [&str; 6] =
    ["x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url", "x-host"];

/// The checked rules, ready to be asked.
#[derive(Debug)]
pub struct Engine {
    policy: Policy,
    router: Router,
    fingerprints: Vec<u64>,
}

/// What to do with a request.
#[derive(Debug)]
pub enum Plan<'r, 'p> {
    /// No rule speaks of it: the filter is out of the way.
    Ignore,
    /// A rule speaks of it, but it must go to the origin, and its response isn't stored.
    Bypass(Bypass),
    /// It may be answered from the cache.
    Read(Reading<'r, 'p>),
    /// If it succeeds, these tags are purged.
    Write {
        /// Without repeats; never empty.
        tags: Vec<String>,
    },
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
    /// It carries a field that may change what the origin answers, and that no key holds.
    Override,
    /// It has a precondition that is for the origin to judge (`If-Match`, `If-Unmodified-Since`).
    Precondition,
    /// A placeholder of the key or a tag has no value.
    MissingValue,
    /// Its key or a tag would be too long.
    TooLong,
}

impl Bypass {
    /// A word for `Cache-Status`, logs and metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Body => "request-body",
            Self::Upgrade => "upgrade",
            Self::Override => "override-field",
            Self::Precondition => "precondition",
            Self::MissingValue => "missing-value",
            Self::TooLong => "key-too-long",
        }
    }
}

impl From<NoKey> for Bypass {
    fn from(reason: NoKey) -> Self {
        match reason {
            NoKey::Missing(_) => Self::MissingValue,
            NoKey::TooLong => Self::TooLong,
        }
    }
}

/// A request that may be answered from the cache.
#[derive(Debug)]
pub struct Reading<'r, 'p> {
    /// What finds the response.
    pub name: Name,
    /// Whether it is a GET, so that the origin's answer may be stored; a HEAD is answered from what GET stored.
    pub stores: bool,
    rule: &'r Rule,
    cache: &'r CacheRule,
    found: Match<'r, 'p>,
    asked: Asked<'p>,
}

/// What finds a stored response: its key, and the rule as it was when it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The whole cache key.
    pub key: CacheKey,
    /// [`Rule::fingerprint`] of the rule.
    pub fingerprint: u64,
}

/// What is stored under a key, held against a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It answers the request.
    Fresh,
    /// It doesn't, and this is why the request is forwarded.
    No(Forward),
}

impl Reading<'_, '_> {
    /// The freshness lifetime that the rule gives where the origin gives none.
    #[must_use]
    pub fn ttl(&self) -> DeltaSeconds {
        self.cache.ttl
    }

    /// All tags of the response, implicit ones too.
    ///
    /// # Errors
    ///
    /// A tag has no value, or is too long: nothing may be stored, since no purge would reach it.
    pub fn tags(&self) -> Result<Vec<String>, Bypass> {
        Ok(key::entry_tags(self.rule, self.cache, &self.asked.target(), &self.found)?)
    }
}

impl Name {
    /// Whether an entry that a tier holds for this key's hash answers the request, purges aside.
    #[must_use]
    pub fn reuse(&self, entry: &Entry, request: &Fields<'_>, now_ms: u64) -> Reuse {
        if entry.key() != self.key.as_str() || entry.fingerprint() != self.fingerprint {
            Reuse::No(Forward::UriMiss)
        } else if !entry.vary().selects(request) {
            Reuse::No(Forward::VaryMiss)
        } else if entry.fresh_ms(now_ms) == 0 {
            Reuse::No(Forward::Stale)
        } else {
            Reuse::Fresh
        }
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

/// Rules whose paths don't go together; see [`PathMistake`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRule {
    /// Index of the rule.
    pub rule: usize,
    /// What is wrong with its path.
    pub mistake: PathMistake,
}

impl fmt::Display for BadRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "routes[{}].match.path: {}", self.rule, self.mistake)
    }
}

impl std::error::Error for BadRule {}

impl Engine {
    /// Prepares a policy.
    ///
    /// # Errors
    ///
    /// The first rule whose path can't be matched.
    pub fn new(policy: Policy) -> Result<Self, BadRule> {
        let router = Router::new(&policy.rules).map_err(|(rule, mistake)| BadRule { rule, mistake })?;
        let fingerprints = policy.rules.iter().map(Rule::fingerprint).collect();
        Ok(Self { policy, router, fingerprints })
    }

    /// The rules.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What to do with a request, from its header fields and whether its body ends with them.
    #[must_use]
    pub fn plan<'r, 'p>(&'r self, fields: &Fields<'p>, end_of_stream: bool) -> Plan<'r, 'p> {
        let Some(asked) = Asked::of(fields) else { return Plan::Ignore };
        let host = key::host_of(&asked.authority);
        let matches = self.router.find(asked.method, host, asked.path);
        match matches.cache {
            Some(found) => match self.read(asked, found, fields, end_of_stream) {
                Ok(reading) => Plan::Read(reading),
                Err(reason) => Plan::Bypass(reason),
            },
            None => {
                let mut tags = Vec::new();
                self.add_purges(&matches.purges, &asked.target(), &mut tags);
                let normal = normal_path(asked.path);
                if normal != asked.path {
                    let hidden = self.router.find(asked.method, host, &normal);
                    self.add_purges(&hidden.purges, &Target { path: &normal, ..asked.target() }, &mut tags);
                }
                if tags.is_empty() { Plan::Ignore } else { Plan::Write { tags } }
            }
        }
    }

    fn read<'r, 'p>(
        &'r self,
        asked: Asked<'p>,
        found: Match<'r, 'p>,
        fields: &Fields<'p>,
        end_of_stream: bool,
    ) -> Result<Reading<'r, 'p>, Bypass> {
        let has_any = |names: &[&str]| names.iter().any(|name| fields.has(name));
        if has_any(&CREDENTIALS) {
            return Err(Bypass::Credentials);
        }
        if !end_of_stream
            || fields.has("transfer-encoding")
            || fields.first("content-length").is_some_and(|length| length != b"0")
        {
            return Err(Bypass::Body);
        }
        if has_any(&["upgrade", ":protocol"]) {
            return Err(Bypass::Upgrade);
        }
        let other_host = |host: &[u8]| !host.eq_ignore_ascii_case(fields.first(":authority").unwrap_or_default());
        if has_any(&OVERRIDES) || fields.all("x-forwarded-host").any(other_host) {
            return Err(Bypass::Override);
        }
        if has_any(&["if-match", "if-unmodified-since"]) {
            return Err(Bypass::Precondition);
        }
        // A rule that was found is in the policy, and is a cache rule; should that ever be untrue, forwarding is safe.
        let rule = self.policy.rules.get(found.rule).ok_or(Bypass::Override)?;
        let Action::Cache(cache) = &rule.action else { return Err(Bypass::Override) };
        let fingerprint = self.fingerprints.get(found.rule).copied().unwrap_or_default();
        let key = key::cache_key(&self.policy.namespace, rule, cache, &asked.target(), &found)?;
        let stores = asked.method == "GET";
        Ok(Reading { name: Name { key, fingerprint }, stores, rule, cache, found, asked })
    }

    fn add_purges(&self, found: &[Match<'_, '_>], target: &Target<'_>, tags: &mut Vec<String>) {
        for found in found {
            let Some(Action::Purge(purge)) = self.policy.rules.get(found.rule).map(|rule| &rule.action) else {
                continue;
            };
            // A write that can't say what it changed may have changed everything.
            let named = key::purge_tags(purge, target, found).unwrap_or_else(|_| vec![TAG_ALL.to_owned()]);
            for tag in named {
                if !tags.contains(&tag) {
                    tags.push(tag);
                }
            }
        }
    }
}

/// Whether a write with this final status purges: any but an error (RFC 9111 §4.4).
#[must_use]
pub fn write_purges(status: u16) -> bool {
    (200..400).contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Parts, Ticket, VaryKey};
    use crate::policy::{Limits, Namespace, PurgeRule, QuerySelection};
    use crate::template::Template;

    fn engine() -> Engine {
        let template = |text: &str| Template::parse(text).unwrap();
        let methods = |methods: &[&str]| methods.iter().map(|method| (*method).to_owned()).collect();
        let cache = CacheRule {
            key: template("user:{id}"),
            query: QuerySelection::All,
            ttl: DeltaSeconds::saturating(60),
            tags: vec![template("user:{id}")],
        };
        let purge = |tags: &[&str]| Action::Purge(PurgeRule { tags: tags.iter().map(|tag| template(tag)).collect() });
        let rule = |name: &str, path: &str, action| Rule {
            name: name.into(),
            methods: if matches!(action, Action::Cache(_)) { methods(&["GET", "HEAD"]) } else { methods(&["PUT"]) },
            host: None,
            path: path.into(),
            action,
        };
        let rules = vec![
            rule("user", "/users/{id}", Action::Cache(cache)),
            rule("write", "/users/{id}", purge(&["user:{id}", "users"])),
            rule("any-write", "/users/{x}", purge(&["users"])),
            rule("vague", "/vague", purge(&["page:{query.page}"])),
        ];
        let namespace = Namespace { prefix: "svc".into(), version: "v1".into() };
        Engine::new(Policy {
            namespace,
            bridge: None,
            limits: Limits::default(),
            window_ms: 1000,
            purge_timeout_ms: 250,
            rules,
        })
        .unwrap()
    }

    fn fields<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Fields<'a> {
        let line = [(":method", method), (":path", path), (":authority", "h"), (":scheme", "http")];
        Fields::from_pairs(line.iter().chain(more).map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect())
    }

    fn bypass(more: &[(&str, &str)], end_of_stream: bool) -> Option<Bypass> {
        match engine().plan(&fields("GET", "/users/7", more), end_of_stream) {
            Plan::Bypass(reason) => Some(reason),
            _ => None,
        }
    }

    /// C8, RFC 9111 §3.5, and the attacks of facts/attacks.md.
    #[test]
    fn a_request_whose_answer_may_depend_on_more_than_its_key_goes_by_the_cache() {
        for (line, reason) in [
            (("authorization", "Bearer x"), Bypass::Credentials),
            (("Cookie", "a=b"), Bypass::Credentials),
            (("x-api-key", "k"), Bypass::Credentials),
            (("content-length", "5"), Bypass::Body),
            (("upgrade", "websocket"), Bypass::Upgrade),
            (("x-http-method-override", "PUT"), Bypass::Override),
            (("x-forwarded-host", "evil"), Bypass::Override),
            (("if-match", "\"x\""), Bypass::Precondition),
        ] {
            assert_eq!(bypass(&[line], true), Some(reason), "{line:?}");
        }
        assert_eq!(bypass(&[], false), Some(Bypass::Body));
        assert_eq!(bypass(&[("x-forwarded-host", "H"), ("content-length", "0")], true), None);
    }

    #[test]
    fn a_head_has_the_key_of_its_get() {
        let engine = engine();
        let key = |method| match engine.plan(&fields(method, "/users/7", &[]), true) {
            Plan::Read(reading) => (reading.name.key.as_str().to_owned(), reading.stores),
            other => panic!("{other:?}"),
        };
        assert_eq!(key("GET"), ("svc:v1 user http GET h user:7 ".to_owned(), true));
        assert_eq!(key("HEAD"), ("svc:v1 user http GET h user:7 ".to_owned(), false));
    }

    #[test]
    fn a_write_purges_the_tags_of_every_rule_that_it_meets_in_any_spelling() {
        let engine = engine();
        for path in ["/users/7", "/users/7?x=1"] {
            let Plan::Write { tags } = engine.plan(&fields("PUT", path, &[]), false) else { panic!("{path}") };
            assert_eq!(tags, ["user:7", "users"], "{path}");
        }
        let Plan::Write { tags } = engine.plan(&fields("PUT", "//%75sers/7", &[]), false) else { panic!() };
        assert_eq!(tags, ["user:7", "users"]);
    }

    #[test]
    fn a_write_that_cannot_say_what_it_changed_purges_everything() {
        let Plan::Write { tags } = engine().plan(&fields("PUT", "/vague", &[]), false) else { panic!() };
        assert_eq!(tags, ["!all"]);
    }

    #[test]
    fn what_no_rule_speaks_of_is_left_alone() {
        for (method, path) in [("GET", "/other"), ("POST", "/users/7"), ("OPTIONS", "*"), ("GET", "")] {
            assert!(matches!(engine().plan(&fields(method, path, &[]), true), Plan::Ignore), "{method} {path}");
        }
        assert!(matches!(engine().plan(&Fields::default(), true), Plan::Ignore));
    }

    #[test]
    fn only_errors_purge_nothing() {
        assert!([200, 201, 204, 302, 303, 399].into_iter().all(write_purges));
        assert!(![100, 199, 400, 404, 500, 503].into_iter().any(write_purges));
    }

    /// C7.
    #[test]
    fn an_entry_is_reused_only_for_its_key_its_rule_its_selecting_fields_and_while_fresh() {
        let engine = engine();
        let request = fields("GET", "/users/7", &[("accept", "a")]);
        let Plan::Read(reading) = engine.plan(&request, true) else { panic!() };
        let entry = |key: &str, fingerprint, vary: &'static [u8]| {
            let vary = VaryKey::of(
                &Fields::from_pairs(vec![(b"vary", vary)]),
                &fields("GET", "/", &[("accept", "a"), ("x", "1")]),
            );
            Entry::new(&Parts {
                ticket: Ticket { era: 1, position: 1 },
                received_ms: 0,
                age_ms: 0,
                lifetime_ms: 1000,
                fingerprint,
                status: 200,
                key,
                tags: &[],
                vary: &vary,
                header: &[],
                body: b"",
            })
            .unwrap()
        };
        let (key, print) = (reading.name.key.as_str(), reading.name.fingerprint);
        assert_eq!(reading.name.reuse(&entry(key, print, b"accept"), &request, 999), Reuse::Fresh);
        assert_eq!(reading.name.reuse(&entry(key, print, b"accept"), &request, 1000), Reuse::No(Forward::Stale));
        assert_eq!(reading.name.reuse(&entry(key, print, b"x"), &request, 0), Reuse::No(Forward::VaryMiss));
        assert_eq!(reading.name.reuse(&entry(key, print ^ 1, b""), &request, 0), Reuse::No(Forward::UriMiss));
        assert_eq!(reading.name.reuse(&entry("other", print, b""), &request, 0), Reuse::No(Forward::UriMiss));
    }
}
