//! What is stored and then reused, held against an independent reading of RFC 9111 §3 and §4: it works on what was meant,
//! before that was written as header text in one of many ways.

use http_cache_semantics::{CacheOptions, CachePolicy};
use proptest::prelude::*;
use routecache_core::entry::{Entry, Parts, Ticket};
use routecache_core::fields::Fields;
use routecache_core::freshness::Response;
use routecache_core::path::PathTemplate;
use routecache_core::policy::{
    Action, CacheRule, ClientDirectives, DeltaSeconds, Limits, Mode, Namespace, Policy, Rule, Terms,
};
use routecache_core::request::{Arrived, Engine, Plan};
use routecache_core::reuse::{Reuse, Wanted};
use routecache_core::storing::{Asked, storable};
use routecache_core::template::Template;

/// Mon, 24 Nov 2025 16:00:00 GMT.
const NOW_MS: u64 = 1_764_000_000_000;

/// What the origin means.
#[derive(Clone, Debug)]
struct Origin {
    status: u16,
    no_store: bool,
    private: bool,
    no_cache: bool,
    public: bool,
    must_revalidate: bool,
    s_maxage: Option<u32>,
    /// Twice, where it contradicts itself.
    max_age: Vec<u32>,
    /// Seconds after its `Date`; none for text that is no date.
    expires: Option<Option<u32>>,
    age: Option<u32>,
    /// Seconds ago.
    date: Option<u32>,
    etag: bool,
}

/// What the client means.
#[derive(Clone, Debug)]
struct Client {
    authorised: bool,
    no_cache: bool,
    max_age: Option<u32>,
    min_fresh: Option<u32>,
    max_stale: Option<u32>,
}

/// How it is written.
#[derive(Clone, Copy, Debug)]
struct Hand {
    capitals: bool,
    quotes: bool,
    lines: bool,
    /// In one plain line, whatever the others say but `capitals` and `quotes`.
    plain: bool,
}

fn origin() -> impl Strategy<Value = Origin> {
    let seconds = || prop::option::of(prop_oneof![0u32..20, Just(1000)]);
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.2));
    let more = (prop::bool::weighted(0.3), prop::bool::weighted(0.3), any::<bool>());
    let status = prop_oneof![4 => Just(200u16), 1 => prop::sample::select(vec![206u16, 301, 304, 404, 503])];
    let max_age = prop::collection::vec(prop_oneof![0u32..20, Just(1000)], 0..3);
    (status, flags, more, seconds(), max_age, prop::option::of(seconds()), seconds(), seconds()).prop_map(
        |(status, flags, more, s_maxage, max_age, expires, age, date)| {
            let ((no_store, private, no_cache), (public, must_revalidate, etag)) = (flags, more);
            Origin {
                status,
                no_store,
                private,
                no_cache,
                public,
                must_revalidate,
                s_maxage,
                max_age,
                expires,
                age,
                date,
                etag,
            }
        },
    )
}

fn client() -> impl Strategy<Value = Client> {
    let seconds = || prop::option::weighted(0.3, 0u32..30);
    (prop::bool::weighted(0.2), prop::bool::weighted(0.2), seconds(), seconds(), seconds()).prop_map(
        |(authorised, no_cache, max_age, min_fresh, max_stale)| Client {
            authorised,
            no_cache,
            max_age,
            min_fresh,
            max_stale,
        },
    )
}

fn hand() -> impl Strategy<Value = Hand> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(capitals, quotes, lines)| Hand {
        capitals,
        quotes,
        lines,
        plain: false,
    })
}

fn http_date(ms: u64) -> String {
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms))
}

/// The lines of one `Cache-Control`.
fn control(hand: Hand, directives: &[(&str, Option<u32>)]) -> Vec<(String, String)> {
    let written: Vec<String> = directives
        .iter()
        .map(|(name, seconds)| {
            let name = if hand.capitals { name.to_uppercase() } else { (*name).to_owned() };
            match seconds {
                Some(seconds) if hand.quotes => format!("{name}=\"{seconds}\""),
                Some(seconds) => format!("{name}={seconds}"),
                None => name,
            }
        })
        .collect();
    let line = |value: String| ("Cache-Control".to_owned(), value);
    match written.len() {
        0 => Vec::new(),
        _ if hand.plain => vec![line(written.join(", "))],
        _ if hand.lines => written.into_iter().map(line).collect(),
        _ => vec![line(format!("ext=\"no-store, max-age=9999\" , {}", written.join(" ,,")))],
    }
}

impl Client {
    fn write(&self, hand: Hand) -> Vec<(String, String)> {
        let seconds = [("max-age", self.max_age), ("min-fresh", self.min_fresh), ("max-stale", self.max_stale)];
        let mut directives: Vec<(&str, Option<u32>)> =
            seconds.into_iter().filter(|(_, seconds)| seconds.is_some()).collect();
        directives.extend(self.no_cache.then_some(("no-cache", None)));
        let mut lines = control(hand, &directives);
        lines.extend(self.authorised.then(|| ("authorization".to_owned(), "x".to_owned())));
        lines
    }
}

impl Origin {
    fn write(&self, hand: Hand) -> Vec<(String, String)> {
        let flags = [
            (self.no_store, "no-store"),
            (self.private, "private"),
            (self.no_cache, "no-cache"),
            (self.public, "public"),
            (self.must_revalidate, "must-revalidate"),
        ];
        let mut directives: Vec<(&str, Option<u32>)> =
            flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| (name, None)).collect();
        directives.extend(self.s_maxage.map(|seconds| ("s-maxage", Some(seconds))));
        directives.extend(self.max_age.iter().map(|seconds| ("max-age", Some(*seconds))));
        let mut lines = control(hand, &directives);
        let date_ms = NOW_MS - u64::from(self.date.unwrap_or(0)) * 1000;
        if self.date.is_some() {
            lines.push(("date".to_owned(), http_date(date_ms)));
        }
        if let Some(expires) = self.expires {
            let text = expires.map_or("0".to_owned(), |seconds| http_date(date_ms + u64::from(seconds) * 1000));
            lines.push(("expires".to_owned(), text));
        }
        lines.extend(self.age.map(|age| ("age".to_owned(), age.to_string())));
        lines.extend(self.etag.then(|| ("etag".to_owned(), "\"a\"".to_owned())));
        lines
    }

    /// §4.2.1, in seconds; none where it says nothing.
    fn lifetime(&self) -> Option<u32> {
        self.s_maxage.or(self.max_age.iter().min().copied()).or(self.expires.map(Option::unwrap_or_default))
    }

    /// §4.2.3, in seconds.
    fn age(&self) -> u32 {
        self.age.unwrap_or(0).max(self.date.unwrap_or(0))
    }

    fn is_shared(&self) -> bool {
        self.public || self.must_revalidate || self.s_maxage.is_some()
    }

    /// §3 and §3.5: the reason against storing, if there is one.
    fn forbids_storing(&self, client: &Client) -> Option<&'static str> {
        match self.status {
            206 | 304 => Some("a part, or no response of its own"),
            _ if self.no_store => Some("no-store"),
            _ if self.private => Some("private"),
            _ if client.authorised && !self.is_shared() => Some("made for one who is authorised"),
            _ if self.lifetime().is_none() && self.status != 200 && self.status != 301 => {
                Some("nobody gives a lifetime")
            }
            _ => None,
        }
    }

    /// §4, §4.2.4 and §5.2.1: the reason against reusing it unasked, `later` seconds after it came, if there is one.
    fn forbids_reuse(&self, client: &Client, later: u32) -> Option<&'static str> {
        let (lifetime, age) = (self.lifetime().unwrap_or(0), self.age() + later);
        let never_stale = self.must_revalidate || self.s_maxage.is_some();
        let stale = age >= lifetime;
        let stale_by = age.saturating_sub(lifetime);
        if self.no_cache {
            Some("no-cache of the response")
        } else if client.authorised && !self.is_shared() {
            Some("made for one who is authorised")
        } else if client.no_cache {
            Some("no-cache of the request")
        } else if client.max_age.is_some_and(|limit| age > limit) {
            Some("older than the request accepts")
        } else if !stale && client.min_fresh.is_some_and(|wanted| lifetime - age < wanted) {
            Some("not fresh for long enough")
        } else if stale && (never_stale || client.max_stale.is_none_or(|limit| stale_by > limit)) {
            Some("stale")
        } else {
            None
        }
    }
}

fn engine() -> Engine {
    let mut cache = CacheRule::new(Template::parse("k").unwrap(), DeltaSeconds::ZERO);
    cache.terms = Terms { client_directives: ClientDirectives::Honour, ..Terms::default() };
    let rule = Rule {
        name: "r".into(),
        methods: vec!["GET".into()],
        host: None,
        path: PathTemplate::parse("/a").unwrap(),
        conditions: Vec::new(),
        mode: Mode::On,
        action: Action::Cache(Box::new(cache)),
    };
    let namespace = Namespace { prefix: "p".into(), version: "v".into() };
    let limits = Limits::default();
    Engine::new(Policy {
        namespace,
        bridge: None,
        background: None,
        warm: Default::default(),
        limits,
        window_ms: 1000,
        serves_unheard: false,
        purge_timeout_ms: 250,
        purge_heard: false,
        rules: vec![rule],
    })
}

fn wanted(engine: &Engine, client: &Client, hand: Hand) -> Wanted {
    let lines = client.write(hand);
    let line = [(":method", "GET"), (":path", "/a"), (":authority", "h"), (":scheme", "http")];
    let pairs = line.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let more = lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    match engine.plan(&Arrived::new(&Fields::from_pairs(pairs.chain(more).collect()), true, &|_| None)) {
        Plan::Read(reading) => reading.wanted,
        other => panic!("{other:?}"),
    }
}

/// Whether `http-cache-semantics` 3.0 stores a response, and reuses it unasked.
fn by_semantics(origin: &Origin, first: &Client, second: &Client, hand: Hand, later: u32) -> (bool, bool) {
    let at = |ms: u64| std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
    let request = |client: &Client| {
        let lines = client.write(hand).into_iter();
        lines
            .fold(http::Request::get("http://h/a"), |request, (name, value)| request.header(name, value))
            .body(())
            .unwrap()
    };
    let lines = origin.write(hand).into_iter();
    let response = lines
        .fold(http::Response::builder().status(origin.status), |response, (name, value)| response.header(name, value));
    let options = CacheOptions { cache_heuristic: 0.0, ..CacheOptions::default() };
    let policy = CachePolicy::new_options(&request(first), &response.body(()).unwrap(), at(NOW_MS), options);
    let now = at(NOW_MS + u64::from(later) * 1000);
    let reused = policy.before_request(&request(second), now).satisfies_without_revalidation();
    (policy.is_storable(), policy.is_storable() && reused)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    /// And the other way round: what the model allows is done, or the cache would be of no use.
    #[test]
    fn storing_and_reusing_yields_what_the_rfc_allows_and_nothing_that_it_forbids(
        origin in origin(), first in client(), second in client(), hand in hand(), later in 0u32..40
    ) {
        let engine = engine();
        let lines = origin.write(hand);
        let fields = Fields::from_pairs(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect());
        let response = Response { status: origin.status, fields: &fields, requested_ms: NOW_MS, received_ms: NOW_MS, body: None };
        let asked = Asked { authorised: first.authorised, ..Asked::default() };
        let stored = storable(&response, engine.cache_rule(0).unwrap(), asked, 1000);
        if let Some(why) = origin.forbids_storing(&first) {
            prop_assert!(stored.is_err(), "stored in spite of: {}", why);
            return Ok(());
        }
        // What is stale at once, or always to be validated, is worth keeping only if it can be.
        let fresh = origin.lifetime().unwrap_or(0) > origin.age();
        let validated = origin.etag && (origin.lifetime().is_some() || origin.no_cache);
        prop_assert_eq!(stored.is_ok(), if origin.no_cache { validated } else { fresh || validated }, "{:?}", stored);
        let Ok(freshness) = stored else { return Ok(()) };
        let filler = wanted(&engine, &first, hand);
        let entry = Entry::new(&Parts {
            ticket: Ticket { era: 1, position: 1 },
            received_ms: 5000,
            freshness,
            fingerprint: filler.fingerprint,
            status: origin.status,
            key: filler.key.as_str(),
            tags: &[],
            header: &fields.iter().collect::<Vec<_>>(),
            body: b"body",
        }).unwrap();
        let wanted = wanted(&engine, &second, hand);
        let reuse = wanted.reuse(&wanted.key, &entry, 5000 + u64::from(later) * 1000);
        match origin.forbids_reuse(&second, later) {
            Some(why) => prop_assert_ne!(reuse, Reuse::Yes, "reused in spite of: {}", why),
            None => prop_assert_eq!(reuse, Reuse::Yes),
        }
    }

    /// Differential, where that crate is right. Its known errors are kept out: directives in capitals and inside quoted
    /// arguments, repeated directives and lines, a `Date` that says more of the age than `Age`, and `max-stale`, which
    /// makes it reuse what says `no-cache`, and is off by one. So is what we choose to do otherwise: to store 503 when told
    /// for how long, and not to give a stranger's response to one who is authorised.
    #[test]
    fn another_implementation_agrees(origin in origin(), first in client(), second in client(), later in 0u32..40) {
        let origin = Origin { max_age: origin.max_age.iter().copied().take(1).collect(), date: None, status: if origin.status == 503 { 200 } else { origin.status }, ..origin };
        let first = Client { max_stale: None, ..first };
        let second = Client { authorised: first.authorised, max_stale: None, ..second };
        let hand = Hand { capitals: false, quotes: false, lines: false, plain: true };
        let (stores, reuses) = by_semantics(&origin, &first, &second, hand, later);
        let ours = origin.forbids_storing(&first).is_none() && origin.forbids_reuse(&second, later).is_none();
        prop_assert_eq!(reuses, ours, "stores: {}", stores);
    }
}
