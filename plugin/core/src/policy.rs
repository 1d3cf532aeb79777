//! What the rules say, after they were checked: [`Policy`]. `routecache-config` builds it; nothing here can be wrong in
//! a way that a request would notice.

use crate::condition::{Condition, Glob, Test};
use crate::json::Pointer;
use crate::path::PathTemplate;
use crate::recache::Recache;
use crate::template::Template;
use crate::warm::Warm;

/// A count of whole seconds: the `delta-seconds` of RFC 9111 §1.2.2.
///
/// Saturates at 2^31, so an enormous `max-age` means "for ever", never "now".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DeltaSeconds(u32);

impl DeltaSeconds {
    /// 2^31, which RFC 9111 §1.2.2 offers for counts that are too large to hold.
    pub const MAX: Self = Self(1 << 31);
    /// None at all.
    pub const ZERO: Self = Self(0);

    /// So many seconds, at most [`DeltaSeconds::MAX`].
    #[must_use]
    pub fn saturating(seconds: u64) -> Self {
        u32::try_from(seconds).map_or(Self::MAX, |seconds| Self(seconds.min(Self::MAX.0)))
    }

    /// Reads one or more ASCII digits; anything else, a sign too, is `None`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        // Only digits are left, so the one way to fail is being too long.
        let text = std::str::from_utf8(text).ok()?;
        Some(text.parse().map_or(Self::MAX, Self::saturating))
    }

    /// The number of seconds.
    #[must_use]
    pub fn as_secs(self) -> u32 {
        self.0
    }

    /// The number of milliseconds.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        u64::from(self.0).saturating_mul(1000)
    }
}

/// The checked rules of one filter instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Prefix and version: part of every key and tag.
    pub namespace: Namespace,
    /// The group tier; without one, this gateway stands alone.
    pub bridge: Option<Bridge>,
    /// Fetches behind the clients.
    pub background: Option<Background>,
    /// What is read once behind a start.
    pub warm: Warm,
    /// Byte budgets.
    pub limits: Limits,
    /// The consistency window W, in milliseconds: how long after a purge elsewhere this gateway may still serve what it
    /// purged, and how long it trusts what it holds without hearing the feed.
    pub window_ms: u32,
    /// What the gateway holds is served although the feed hasn't been heard for longer than that.
    pub serves_unheard: bool,
    /// How long the response to a write waits for the group to acknowledge its purge, in milliseconds.
    pub purge_timeout_ms: u32,
    /// Whether it waits until every gateway of the group has heard of the purge, too.
    pub purge_heard: bool,
    /// In the order of the file.
    pub rules: Vec<Rule>,
}

impl Policy {
    /// The clusters to which fetches go straight; one may come several times.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter_map(|rule| match &rule.action {
            Action::Cache(cache) => cache.origin.as_deref(),
            Action::Purge(_) => None,
        })
    }
}

/// `prefix:version`, by which different services, and versions of one, share a store without meeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Letters, digits, `.`, `_` and `-`.
    pub prefix: String,
    /// Letters, digits, `.`, `_` and `-`.
    pub version: String,
}

impl std::fmt::Display for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.prefix, self.version)
    }
}

/// Where the group tier is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// The name of the gateway's cluster for it.
    pub cluster: String,
    /// How long a request waits for a lookup, in milliseconds; at least 1, since a host takes 0 for "for ever".
    pub timeout_ms: u32,
    /// The variable of the VM's environment that holds the token which the bridge wants.
    pub token_env: Option<String>,
    /// How entries are sealed in the group; not, where the rules don't say.
    pub seal: Option<Seal>,
}

/// How entries are sealed in the group ([`crate::seal`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The variables of the VM's environment that hold the secrets: the first seals, any opens.
    pub env: Vec<String>,
    /// Entries that aren't sealed are taken too.
    pub accept_unsealed: bool,
}

/// How the filter fetches by itself ([`crate::fetch`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Background {
    /// The name of the gateway's cluster that leads to its own listener.
    pub cluster: String,
    /// How many may be under way at a time in each worker.
    pub concurrency: usize,
    /// How long one may take, in milliseconds; at least 1.
    pub timeout_ms: u32,
}

/// Byte budgets, and how much waits and is fetched at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The worker tier's, for each worker.
    pub l0_bytes: u64,
    /// The gateway tier's, for all workers together.
    pub l1_bytes: u64,
    /// The longest response body that is stored.
    pub body_bytes_max: u64,
    /// How many reads that writes ask for may be under way at a time in each worker.
    pub recache_concurrency: usize,
    /// How many of them may begin in a second in each worker.
    pub recache_rate: u32,
    /// Most requests of one worker that wait for what others fetch, or for their turn to.
    pub waiters: u32,
    /// Most fetches that all workers of the gateway have under way together, where that is limited.
    pub fills: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            l0_bytes: 8 << 20,
            l1_bytes: 64 << 20,
            body_bytes_max: 1 << 20,
            waiters: 4096,
            fills: None,
            recache_concurrency: 4,
            recache_rate: 50,
        }
    }
}

/// One item of `routes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Unique in the file.
    pub name: String,
    /// Upper-case; never empty.
    pub methods: Vec<String>,
    /// Lower-case host without port, or `*.` and what it ends in; none means every host.
    pub host: Option<String>,
    /// Which paths.
    pub path: PathTemplate,
    /// What else a request must be; all of it.
    pub conditions: Vec<Condition>,
    /// Whether it does anything.
    pub mode: Mode,
    /// What the rule does.
    pub action: Action,
}

/// Whether a rule does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    On,
    /// It doesn't. What a cache rule would answer goes to the origin, and less specific rules don't answer it either.
    Off,
}

/// What a rule does with a request that it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Answers it from the cache, and stores the answers of the origin.
    Cache(Box<CacheRule>),
    /// Purges tags when it succeeded.
    Purge(PurgeRule),
}

/// How responses are stored and reused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRule {
    /// Names the response, together with namespace, rule, scheme, method class, host and selected query.
    pub key: Template,
    /// Which query parameters count.
    pub query: QuerySelection,
    /// Whether the request is forwarded without the parameters that don't count.
    pub strip_query: bool,
    /// Whose response it is.
    pub identity: Option<Identity>,
    /// Freshness lifetime where the response doesn't say.
    pub ttl: Ttl,
    /// How much of a lifetime may be cut off by chance, in percent, so that what was stored together doesn't go stale
    /// together.
    pub jitter_percent: u8,
    /// The tags of a response that the request decides.
    pub tags: Vec<Template>,
    /// The tags that are made of what the response says.
    pub item_tags: Vec<ItemTag<ResponsePart>>,
    /// The tags that are made of what is posted.
    pub request_tags: Vec<ItemTag<Pointer>>,
    /// What a response must be to be stored; all of it.
    pub when: ResponseTests,
    /// What a response must not be; any of it.
    pub unless: ResponseTests,
    /// How often a worker must have been asked before a response is stored; at least 1.
    pub min_uses: u8,
    /// Requests that aren't answered from the cache; any of it.
    pub bypass: Vec<Condition>,
    /// The longest response body that is stored, where the rule says.
    pub body_bytes_max: Option<u64>,
    /// Who waits while it is fetched.
    pub lock: Lock,
    /// The cluster to which the filter's own fetches go straight; where there is none, they go through the gateway's own
    /// listener ([`Background`]).
    pub origin: Option<String>,
    /// How much origin and client are heard.
    pub terms: Terms,
}

impl CacheRule {
    /// A rule that says nothing but its key, which is its tag too.
    #[must_use]
    pub fn new(key: Template, ttl: DeltaSeconds) -> Self {
        Self {
            query: QuerySelection::All,
            strip_query: false,
            identity: None,
            ttl: Ttl::Fixed(ttl),
            jitter_percent: 0,
            tags: vec![key.clone()],
            item_tags: Vec::new(),
            request_tags: Vec::new(),
            when: ResponseTests::default(),
            unless: ResponseTests::default(),
            min_uses: 1,
            bypass: Vec::new(),
            body_bytes_max: None,
            key,
            lock: Lock::default(),
            origin: None,
            terms: Terms::default(),
        }
    }

    /// Whether only the whole response says if it is stored, for how long, and with which tags.
    #[must_use]
    pub fn reads_response_body(&self) -> bool {
        matches!(self.ttl, Ttl::Json { .. })
            || self.item_tags.iter().any(|tag| matches!(tag.part, ResponsePart::Json(_)))
            || [&self.when, &self.unless].iter().any(|tests| !tests.json.is_empty())
    }
}

/// Whose response it is: part of the key, as a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Whoever sends this value of a header field; its name in lower case.
    Header(String),
    /// Whoever sends this value of a cookie.
    Cookie(String),
    /// Whoever the token is about that the gateway has verified.
    Claim {
        /// The claim.
        name: String,
        /// Where the gateway keeps the claims (`payload_in_metadata` of its `jwt_authn`).
        payload: String,
    },
}

impl Identity {
    /// Whether it accounts for a request field that says who the client is.
    #[must_use]
    pub fn covers(&self, field: &str) -> bool {
        match self {
            Self::Header(name) => name == field,
            Self::Cookie(_) => field == "cookie",
            Self::Claim { .. } => field == "authorization",
        }
    }
}

/// A rule's freshness lifetime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// Always the same.
    Fixed(DeltaSeconds),
    /// Seconds in a response field.
    Header {
        /// Its name, in lower case.
        name: String,
        /// Where the response has none.
        default: DeltaSeconds,
    },
    /// Seconds in the response's body.
    Json {
        /// Where.
        pointer: Pointer,
        /// Where the body has none.
        default: DeltaSeconds,
    },
}

/// Tags of which each is made of a value that is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemTag<Part> {
    /// Where the values are.
    pub part: Part,
    /// The tag of each, with the value at `{}`.
    pub template: Template,
}

/// A part of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponsePart {
    /// The words of a field; its name in lower case.
    Header(String),
    /// Values in the body.
    Json(Pointer),
}

/// A part of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WritePart {
    /// Values in the body of the request.
    Request(Pointer),
    /// A part of the response.
    Response(ResponsePart),
}

/// Conditions on a response. Whether all of them must hold or any, the field says that has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseTests {
    /// Its status is one of these; none means no condition.
    pub status: Vec<StatusRange>,
    /// Fields, by their names in lower case.
    pub header: Vec<(String, Test)>,
    /// Values in the body.
    pub json: Vec<(Pointer, Test)>,
    /// The origin took longer than this, in milliseconds.
    pub slower_than_ms: Option<u64>,
}

/// Who waits while a response is fetched, instead of fetching it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// How far it reaches.
    pub reach: Reach,
    /// How long a request waits at most, in milliseconds.
    pub wait_ms: u32,
    /// Whether a request that has waited in vain is refused (503) instead of forwarded.
    pub protect_origin: bool,
}

impl Default for Lock {
    fn default() -> Self {
        Self { reach: Reach::Group, wait_ms: 5000, protect_origin: false }
    }
}

/// How far a lock reaches; each reaches as far as those before it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Every request for itself.
    Off,
    /// One fetch in each worker.
    Worker,
    /// One in each gateway.
    Gateway,
    /// One in the group; without a bridge, in each gateway.
    Group,
}

/// How much origin and client are heard. docs/caching.md has what `origin`, `heuristics`, `ttl_by_status` and `ttl` mean
/// together, as one table; [`crate::freshness`] tests that table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How much the origin's own words count.
    pub origin: OriginControl,
    /// Prohibitions of the origin's that the rule spells out as not binding.
    pub unheard: Unheard,
    /// Freshness lifetimes of single statuses and of classes, where the response doesn't say. The first that fits counts.
    pub ttl_by_status: Vec<(StatusRange, DeltaSeconds)>,
    /// Whether `Last-Modified` gives a lifetime where nothing else of the origin's does (RFC 9111 §4.2.2).
    pub heuristics: bool,
    /// Targeted fields (RFC 9213) that speak to this cache, in lower case; the first that is there counts.
    pub targeted: Vec<String>,
    /// Response fields whose words are tags, in lower case (`surrogate-key`, `cache-tag`).
    pub tag_fields: Vec<String>,
    /// What cookies mean.
    pub cookies: Cookies,
    /// How long after it went stale a response may stand in for an error, where it doesn't say itself (RFC 5861 §4).
    pub stale_if_error: DeltaSeconds,
    /// How long after it went stale a response may be served while it is refreshed behind the client, where it doesn't
    /// say itself (RFC 5861 §3).
    pub stale_while_revalidate: DeltaSeconds,
    /// When a response is refreshed before it goes stale.
    pub early: Early,
    /// How long after it was stored a response is refreshed, however fresh it is.
    pub revalidate_after: Option<DeltaSeconds>,
    /// Whether a use renews a lifetime that the rule gave.
    pub sliding: bool,
    /// Whether the cache answers only when the origin fails.
    pub failover: bool,
    /// Whether the request's `Cache-Control` and `Pragma` count (RFC 9111 §5.2.1).
    pub client_directives: ClientDirectives,
    /// What browsers are told.
    pub client_cache_control: ClientCacheControl,
    /// What becomes of a request for a part of something that isn't stored.
    pub range_miss: RangeMiss,
    /// Whether responses may say which parameters of the query don't matter.
    pub no_vary_search: NoVarySearch,
    /// Request fields that are part of the key whatever the response's `Vary` says, in lower case.
    pub vary: Vec<String>,
    /// Request fields of preferences that are brought into one order before they are compared (RFC 9111 §4.1), in lower
    /// case: `accept-encoding`, `accept-language`.
    pub normalize: Vec<String>,
}

/// The targeted field of all CDNs (RFC 9213 §3.1).
pub const CDN_CACHE_CONTROL: &str = "cdn-cache-control";

impl Default for Terms {
    fn default() -> Self {
        Self {
            origin: OriginControl::Respect,
            unheard: Unheard::default(),
            ttl_by_status: Vec::new(),
            heuristics: false,
            targeted: vec![CDN_CACHE_CONTROL.to_owned()],
            tag_fields: Vec::new(),
            cookies: Cookies::Respect,
            stale_if_error: DeltaSeconds::ZERO,
            stale_while_revalidate: DeltaSeconds::ZERO,
            early: Early::default(),
            revalidate_after: None,
            sliding: false,
            failover: false,
            client_directives: ClientDirectives::Distrust,
            client_cache_control: ClientCacheControl::Keep,
            range_miss: RangeMiss::Forward,
            no_vary_search: NoVarySearch::Ignore,
            vary: Vec::new(),
            normalize: Vec::new(),
        }
    }
}

impl Terms {
    /// Whether a response field is for this cache alone, and isn't shown to clients.
    #[must_use]
    pub fn hides(&self, name: &[u8]) -> bool {
        let is = |known: &String| name.eq_ignore_ascii_case(known.as_bytes());
        // `CDN-Cache-Control` speaks to every CDN on the way; another may stand in front of us.
        self.tag_fields.iter().any(is) || self.targeted.iter().any(|known| is(known) && known != CDN_CACHE_CONTROL)
    }

    /// The rule's own lifetime for a status where `ttl_by_status` names one.
    #[must_use]
    pub fn ttl_of(&self, status: u16) -> Option<DeltaSeconds> {
        self.ttl_by_status.iter().find(|(range, _)| range.holds(status)).map(|(_, ttl)| *ttl)
    }
}

/// How much the origin's own words count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginControl {
    /// They decide; the rule's lifetimes are for responses that don't say.
    Respect,
    /// The rule's lifetimes decide; everything else counts.
    Override,
    /// Nothing counts but `private` and `no-store`.
    Ignore,
}

/// Prohibitions that a rule spells out as not binding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unheard {
    /// `private`.
    pub private: bool,
    /// `no-store`.
    pub no_store: bool,
}

/// A status, or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusRange {
    /// `404`.
    One(u16),
    /// `5xx`, as 5.
    Class(u16),
}

impl StatusRange {
    /// Whether a status is in it.
    #[must_use]
    pub fn holds(self, status: u16) -> bool {
        match self {
            Self::One(one) => one == status,
            Self::Class(class) => class == status / 100,
        }
    }
}

/// When a response is refreshed before it goes stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Early {
    /// From so long before on; none at all means never.
    pub within: DeltaSeconds,
    /// Whether the first client from then on triggers it, or chance decides, by how near the end is.
    pub probabilistic: bool,
}

/// What cookies mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookies {
    /// A request with `Cookie` and a response with `Set-Cookie` are one client's own.
    Respect,
    /// `Cookie` doesn't matter; a response with `Set-Cookie` still is one client's own.
    Ignore,
    /// Neither matters where the origin gives a freshness lifetime (RFC 9111 §7.3): `Set-Cookie` is stored and shared.
    Share,
}

/// Whether a request's own directives count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientDirectives {
    /// They don't: any client could make any request reach the origin.
    Distrust,
    /// They do.
    Honour,
}

/// What `No-Vary-Search` of responses counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoVarySearch {
    /// Nothing.
    Ignore,
    /// A response answers every request that it says it is for ([`crate::no_vary_search`]).
    Respect,
}

/// What becomes of a request for a part of something that isn't stored (RFC 9110 §14.2 lets a server answer with the whole).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeMiss {
    /// It is forwarded as it is; the part isn't stored.
    Forward,
    /// The whole is asked for, stored, and shown.
    Whole,
}

/// What browsers are told about caching, which no purge reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCacheControl {
    /// What the origin says.
    Keep,
    /// To ask every time.
    NoCache,
    /// To keep it for so long.
    MaxAge(DeltaSeconds),
}

/// Which parameters of the query are part of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuerySelection {
    /// Every one.
    All,
    /// Those with these names only.
    Include(Vec<Glob>),
    /// All but those with these names.
    Exclude(Vec<Glob>),
}

/// What a successful write purges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PurgeRule {
    /// Filled with the captures of the write's path and whatever else the request says.
    pub tags: Vec<Template>,
    /// Made of what its bodies and its response say.
    pub item_tags: Vec<ItemTag<WritePart>>,
    /// Makes what carries them stale, rather than void.
    pub soft: bool,
    /// What is read again behind the writer.
    pub recache: Vec<Recache>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9111 §1.2.2: overflow is read as a very long time.
    #[test]
    fn a_count_too_large_to_hold_means_for_ever() {
        for text in ["2147483648", "2147483649", "99999999999999999999"] {
            assert_eq!(DeltaSeconds::parse(text.as_bytes()), Some(DeltaSeconds::MAX), "{text}");
        }
    }

    #[test]
    fn anything_but_digits_is_no_count() {
        for text in ["", "-1", "+5", "1.5", " 5", "0x5", "\u{663}"] {
            assert_eq!(DeltaSeconds::parse(text.as_bytes()), None, "{text}");
        }
    }
}
