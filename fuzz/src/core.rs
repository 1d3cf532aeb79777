//! What the filter reads: shared data, header fields, bodies, and what rules are made of.

use std::sync::LazyLock;

use routecache_core::bans::{Ban, Bans};
use routecache_core::cache_control::{CacheControl, RequestControl};
use routecache_core::entry::Entry;
use routecache_core::fields::{self, Fields};
use routecache_core::gateway_log::{GatewayLog, GroupPosition, Head};
use routecache_core::gateway_tier::{Index, Layout};
use routecache_core::http_date::http_date_ms;
use routecache_core::invalidation::{group_tags, on_same_origin};
use routecache_core::json::{self, Pointer};
use routecache_core::leases::Leases;
use routecache_core::no_vary_search::Variance;
use routecache_core::path::PathTemplate;
use routecache_core::permits::Permits;
use routecache_core::ranges::{Selection, multipart, select};
use routecache_core::request::{Arrived, Body, Engine, Plan};
use routecache_core::seal::{Made, Place, Seals, Secret, unsealed};
use routecache_core::template::Template;
use routecache_core::validation::{Validators, is_not_modified};
use routecache_core::{refresh, targeted, warm};

use crate::{Target, texts};

pub(crate) const TARGETS: &[Target] = &[
    Target::new("core-entry", |bytes| drop(Entry::decode(bytes.to_vec())), Vec::new),
    Target::new("core-seal", sealed, || {
        let place = Place { namespace: "n", key: "k", tags: &[] };
        let made = Made { at: GroupPosition { ms: 1, seq: 2, unique: 3 }, era: 4, wall_ms: 5 };
        vec![seals().close(&place, &made, b"entry".to_vec())]
    }),
    Target::new("core-gateway-log", gateway_log, || vec![GatewayLog::new(7).encode()]),
    Target::new("core-bans", bans, || vec![some_bans().encode()]),
    Target::new("core-gateway-index", gateway_index, || vec![Index::new(LAYOUT, 5).encode()]),
    Target::new("core-leases", leases, || vec![Leases::default().encode()]),
    Target::new("core-fields", header, || vec![fields::encode(&[(b"cache-control", b"max-age=5, s-maxage=\"7\"")])]),
    Target::new("core-header-values", header_values, || {
        texts(&[
            "max-age=60, no-cache=\"a\", stale-while-revalidate=9",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "bytes=0-1,-5",
            "W/\"a\", \"b\"",
            "params=(\"a\" \"b\"), key-order",
            "/a/../b?x=1",
        ])
    }),
    Target::new("core-templates", templates, || {
        texts(&["user:{user_id}:{query.page|default(1)}:{header.x|lower|trunc(5)}"])
    }),
    Target::new(
        "core-paths",
        |bytes| drop(PathTemplate::parse(&String::from_utf8_lossy(bytes))),
        || texts(&["/users/{user_id}/orders", "/s/{*rest}", "/a/{id:int}"]),
    ),
    Target::new("core-json", pointers, || texts(&["/items/*/id\n{\"items\":[{\"id\":1},{\"id\":\"\\u00e9\"}]}"])),
    Target::new("core-requests", requests, || {
        let get: &[(&[u8], &[u8])] = &[
            (b":method", b"GET"),
            (b":path", b"/users/7/orders?page=2"),
            (b":authority", b"h"),
            (b":scheme", b"http"),
        ];
        vec![fields::encode(get)]
    }),
];

const LAYOUT: Layout = Layout { segments: 4, slots: 64, segment_bytes: 1 << 20 };

fn seals() -> Seals {
    Seals::new(Secret::from_hex(&"5e".repeat(32)).into_iter().collect(), false)
}

/// Whatever opens is what was sealed, byte for byte: sealed again it is the same.
fn sealed(bytes: &[u8]) {
    let place = Place { namespace: "n", key: "k", tags: &[] };
    let _ = unsealed(bytes);
    if let Ok(opened) = seals().open(&place, bytes) {
        let made = opened.made.expect("nothing opens unsealed");
        assert_eq!(seals().close(&place, &made, opened.entry.to_vec()), bytes);
    }
}

/// What is read is written the same again.
fn gateway_log(bytes: &[u8]) {
    if let Some(log) = GatewayLog::decode(bytes) {
        assert_eq!(GatewayLog::decode(&log.encode()), Some(log));
    }
    if let Some(head) = Head::decode(bytes) {
        assert_eq!(head.encode(), bytes);
    }
}

fn bans(bytes: &[u8]) {
    let again = Bans::decode(bytes).encode();
    assert_eq!(Bans::decode(&again).encode(), again);
}

fn some_bans() -> Bans {
    let (mut bans, mut ban) = (Bans::default(), Ban::default());
    ban.add(false, "shop:v1 menu *");
    ban.add(true, "user:*");
    bans.add(&ban);
    bans
}

fn gateway_index(bytes: &[u8]) {
    let again = Index::decode(LAYOUT, bytes, 5).encode();
    assert_eq!(Index::decode(LAYOUT, &again, 9).encode(), again);
}

fn leases(bytes: &[u8]) {
    let again = Leases::decode(bytes).encode();
    assert_eq!(Leases::decode(&again).encode(), again);
    let _ = (Permits::decode(bytes), refresh::Leases::decode(bytes), warm::Claim::decode(bytes));
    let _ = std::str::from_utf8(bytes).map(warm::Url::parse);
}

fn header(bytes: &[u8]) {
    let Some(header) = Fields::decode(bytes) else { return };
    let _ = (CacheControl::of(&header), RequestControl::of(&header), Variance::of(&header));
    let _ = (targeted::control(&header, &["cdn-cache-control".into()]), Validators::of(&header).is_empty());
    let _ = (is_not_modified(&header, 200, || header.clone()), group_tags(&header, "cache-groups", "https", "h"));
    let pairs: Vec<_> = header.iter().collect();
    assert_eq!(Fields::decode(&fields::encode(&pairs)), Some(header.clone()));
}

/// The same value in every field that is read.
fn header_values(value: &[u8]) {
    let names =
        ["cache-control", "cdn-cache-control", "no-vary-search", "cache-groups", "if-none-match", "if-range", "vary"];
    let dates = ["if-modified-since", "last-modified", "expires", "date", "age", "etag"];
    let pairs = names.iter().chain(&dates).map(|name| (name.as_bytes(), value)).collect();
    let header = Fields::from_pairs(pairs);
    let _ = (CacheControl::of(&header), RequestControl::of(&header), Variance::of(&header), http_date_ms(value));
    let _ = targeted::control(&header, &["cdn-cache-control".into()]);
    let _ = (is_not_modified(&header, 200, || header.clone()), group_tags(&header, "cache-groups", "https", "h"));
    let _ = std::str::from_utf8(value).map(|reference| on_same_origin(reference, "https", "h", "/a/b"));
    for len in [0, 1, 100] {
        if let Selection::Parts(parts) = select(value, len) {
            assert!(parts.iter().all(|part| part.start < part.end && part.end <= len), "{parts:?} of {len}");
            let _ = multipart(&parts, &vec![b'x'; len], None);
        }
    }
}

fn templates(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = (Template::parse(&text), Template::parse_item(&text));
}

/// The first line is a pointer, the rest a document; serde_json finds as much.
fn pointers(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let Ok(pointer) = Pointer::parse(&String::from_utf8_lossy(&bytes[..at])) else { return };
    let _ = json::values(bytes.get(at + 1..).unwrap_or_default(), &pointer);
}

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let rules = r#"{"version":1,"routes":[
        {"name":"list","match":{"path":"/users/{id}/orders"},"cache":{"key":"{id}:{query.page|default(1)}",
            "query":{"exclude":["utm_*"]},"vary":["accept-language"],"cookies":"ignore","tags":["user:{id}"]}},
        {"name":"any","match":{"path":"/{*rest}"},"cache":{"key":"{rest}"}},
        {"name":"write","match":{"methods":["PUT"],"path":"/users/{id}"},"purge":{"tags":["user:{id}"]}}]}"#;
    Engine::new(routecache_config::load_json(rules.as_bytes(), &|_| None).expect("sound rules"))
});

fn requests(bytes: &[u8]) {
    let Some(header) = Fields::decode(bytes) else { return };
    let property = |_: &[&str]| None;
    let mut arrived = Arrived::new(&header, true, &property);
    if let Plan::Write(write) = ENGINE.plan(&arrived) {
        let _ = write;
    }
    arrived.body = Body::Coming;
    let _ = (ENGINE.plan(&arrived), ENGINE.plan_unread(&arrived));
}
