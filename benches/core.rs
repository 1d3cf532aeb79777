//! What do the core's decisions cost? Each is on the path of a request: the plan (match, key), an entry's judgement and
//! reply header, and what a miss adds (reading, storing).

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use routecache_core::cache_status::{CacheStatus, Tier};
use routecache_core::entry::{Entry, Freshness, Parts, Ticket};
use routecache_core::eviction::S3Fifo;
use routecache_core::fields::{self, Fields};
use routecache_core::policy::Terms;
use routecache_core::reply::Replay;
use routecache_core::request::{Arrived, Engine, Plan};
use serde_json::json;

/// As many rules as a large gateway has.
fn engine(rules: usize) -> Engine {
    let rule = |number: usize| {
        json!({
            "name": format!("orders-{number}"),
            "match": { "path": format!("/service-{number}/users/{{id}}/orders") },
            "cache": {
                "key": "user:{id}:orders:{query.page|default(1)}",
                "query": { "include": ["page", "size"] },
                "tags": ["user:{id}"],
            },
        })
    };
    let rules = json!({ "routes": (0..rules).map(rule).collect::<Vec<_>>() }).to_string();
    let policy = routecache_config::load_json(rules.as_bytes(), &|_| None).expect("good rules");
    Engine::new(policy)
}

fn request() -> Vec<u8> {
    fields::encode(&[
        (b":authority", b"api.example.com"),
        (b":path", b"/service-7/users/12345/orders?page=2&size=20&utm_source=mail"),
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        (b"accept", b"application/json"),
        (b"accept-encoding", b"gzip, br"),
        (b"accept-language", b"en-GB,en;q=0.9"),
        (b"x-forwarded-proto", b"https"),
        (b"x-request-id", b"8f1d7b5e-4f0c-4b4e-9a54-1b1f3f1e2d3c"),
    ])
}

fn entry() -> Entry {
    Entry::new(&Parts {
        ticket: Ticket { era: 1, position: 1 },
        received_ms: 0,
        freshness: Freshness { lifetime_ms: 300_000, ..Freshness::default() },
        fingerprint: 1,
        status: 200,
        key: "shop:v1 orders https GET api.example.com user:12345:orders:2 size=20",
        tags: &["user:1", "!url:00112233445566778899aabbccddeeff", "!host:example.com", "!rule:user", "!all"],
        header: &[
            (b"content-type", b"application/json"),
            (b"date", b"Mon, 23 Nov 2026 05:19:30 GMT"),
            (b"etag", b"\"abc\""),
        ],
        body: &[b'x'; 1024],
    })
    .expect("a small entry")
}

fn benches(criterion: &mut Criterion) {
    let request = request();
    for rules in [10, 1000] {
        let engine = engine(rules);
        criterion.bench_function(&format!("plan a read, {rules} rules"), |bencher| {
            bencher.iter(|| {
                let fields = Fields::decode(black_box(&request)).expect("fields");
                let arrived = Arrived::new(&fields, true, &|_| None);
                let Plan::Read(reading) = engine.plan(&arrived) else { panic!("no read") };
                black_box(reading.wanted.key.hash())
            });
        });
    }
    let entry = entry();
    criterion.bench_function("answer from an entry", |bencher| {
        let terms = Terms::default();
        let replay = Replay::new(entry.clone(), &terms);
        let fields = Fields::decode(&request).expect("fields");
        let mut out = Vec::new();
        let status = CacheStatus::Hit { ttl_s: 287, detail: Tier::Worker.word() };
        bencher.iter(|| replay.answer(&fields, &terms, &status, black_box(1000), &mut out).status);
    });
    criterion.bench_function("decode an entry of 1 KiB", |bencher| {
        bencher.iter(|| Entry::decode(black_box(entry.bytes()).to_vec()));
    });
    criterion.bench_function("evict and insert among 10,000", |bencher| {
        let mut tier = S3Fifo::new(10_000);
        let mut hash = 0_u64;
        bencher.iter(|| {
            hash = hash.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            tier.insert(hash >> 48, (), 1).len()
        });
    });
}

criterion_group!(all, benches);
criterion_main!(all);
