//! Purges by what people know, and a look at what is held.

use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use routecache_bridge::{Bridge, MemStore};
use routecache_config::load_json;
use routecache_core::key::{Target, url_tag};
use routecache_core::policy::{Action, CacheRule};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{RedisServer, redis_store};

async fn post(bridge: &Bridge, path: &str, body: &str) -> (StatusCode, String) {
    let request = Request::post(path).body(Body::from(body.to_owned())).unwrap();
    let (head, body) = bridge.router().oneshot(request).await.unwrap().into_parts();
    (head.status, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

/// The first line of an answer that must be fine.
async fn ask(bridge: &Bridge, path: &str, body: &Value) -> Value {
    let (status, text) = post(bridge, path, &body.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str(text.lines().next().unwrap()).unwrap()
}

async fn fill(bridge: &Bridge, key: &str, tags: &[&str]) {
    let missed = ask(bridge, "/v1/lookup", &json!({ "namespace": "n", "key": key, "tags": tags })).await;
    let head = json!({ "namespace": "n", "key": key, "tags": tags, "ticket": missed["ticket"], "keep_ms": 60_000 });
    let (_, said) = post(bridge, "/v1/store", &format!("{head}\nbody of {key}")).await;
    assert!(said.contains("stored"), "{said}");
}

async fn hits(bridge: &Bridge, key: &str) -> bool {
    ask(bridge, "/v1/lookup", &json!({ "namespace": "n", "key": key, "tags": [] })).await["outcome"] == "hit"
}

/// In memory and on a Redis.
async fn everywhere(test: impl AsyncFn(&Bridge)) {
    test(&Bridge::new(MemStore::new(16 << 20))).await;
    let server = RedisServer::start();
    test(&Bridge::new(redis_store(&server.url(), Duration::from_secs(2)))).await;
}

#[tokio::test]
async fn whatever_names_an_entry_purges_it_and_a_dry_run_counts_it() {
    everywhere(async |bridge| {
        let url = "!url:d4ba9e5a43c2e5ee0df63a8acdd29b1b";
        let cases = [
            (json!({ "tags": ["dish:7"] }), 1),
            (json!({ "hosts": ["Shop.example"] }), 1),
            (json!({ "rules": ["menu"] }), 1),
            (json!({ "keys": ["k"] }), 1),
            (json!({ "patterns": [{ "key": "k*" }] }), 1),
            (json!({ "patterns": [{ "tag": "dish:*" }] }), 1),
            (json!({ "everything": true }), 2),
            (json!({ "tags": ["nothing"], "keys": ["none"], "patterns": [{ "key": "x*" }] }), 0),
        ];
        for (order, matching) in cases {
            fill(bridge, "k", &["dish:7", url, "!host:shop.example", "!rule:menu", "!all"]).await;
            fill(bridge, "other", &["!url:0", "!host:other.example", "!rule:cart", "!all"]).await;
            let with = |more: Value| {
                let mut order = order.clone();
                order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                order
            };
            let counted = ask(bridge, "/v1/purge", &with(json!({ "namespace": "n", "dry_run": true }))).await;
            assert_eq!(counted, json!({ "matching": matching, "scanned": 2, "complete": true }), "{order}");
            assert!(hits(bridge, "k").await && hits(bridge, "other").await, "{order}: nothing has been done");
            ask(bridge, "/v1/purge", &with(json!({ "namespace": "n" }))).await;
            assert_eq!(hits(bridge, "k").await, matching == 0, "{order}");
            assert_eq!(hits(bridge, "other").await, matching < 2, "{order}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_order_that_makes_no_sense_is_refused_and_nothing_purged() {
    let bridge = Bridge::new(MemStore::new(16 << 20));
    fill(&bridge, "k", &["a", "!all"]).await;
    let many: Vec<String> = (0..300).map(|number| format!("h{number}")).collect();
    for (order, status) in [
        (json!({ "namespace": "n" }), 400),
        (json!({ "namespace": "n", "tag": ["a"] }), 400),
        (json!({ "namespace": "n", "everything": false }), 400),
        (json!({ "namespace": "n", "urls": ["/menu"] }), 400),
        (json!({ "namespace": "n", "urls": ["https://h/?a&b&c&d&e&f&g&h"] }), 413),
        (json!({ "namespace": "n", "patterns": [{ "glob": "*" }] }), 400),
        (json!({ "namespace": "n", "patterns": vec![json!({ "key": "x" }); 33] }), 413),
        (json!({ "namespace": "n", "hosts": many }), 413),
        (json!({ "namespace": "{n}", "everything": true }), 400),
    ] {
        assert_eq!(post(&bridge, "/v1/purge", &order.to_string()).await.0.as_u16(), status, "{order}");
    }
    assert!(hits(&bridge, "k").await);
}

/// The cache rules of a policy.
fn cache_rules(query: &Value) -> Vec<CacheRule> {
    let rules = json!({ "routes": [{
        "name": "r", "match": { "path": "/{x}" }, "cache": { "ttl": "1m", "query": query, "tags": ["x:{x}"] },
    }] });
    let policy = load_json(rules.to_string().as_bytes(), &|_| None).unwrap();
    let rule = |rule: routecache_core::policy::Rule| match rule.action {
        Action::Cache(cache) => Some(*cache),
        _ => None,
    };
    policy.rules.into_iter().filter_map(rule).collect()
}

/// The filter and the bridge spell an entry's URL in the same way, whatever the rule's selection of parameters.
#[tokio::test]
async fn a_url_is_purged_whatever_its_rules_make_of_its_query() {
    let bridge = Bridge::new(MemStore::new(16 << 20));
    let queries = [None, Some(""), Some("page=2&utm=x"), Some("b=2&a=1&a=0"), Some("q=a%20b!{}&x"), Some("utm")];
    for selection in
        [json!({ "include": ["page", "a", "q"] }), json!({ "include": ["none"] }), json!({ "include": ["x", "b"] })]
    {
        for rule in cache_rules(&selection) {
            for query in queries {
                let target =
                    Target { scheme: "https", method: "GET", authority: "shop.example:8443", path: "/menu/ä!", query };
                fill(&bridge, "k", &[&url_tag(&target, &rule)]).await;
                let url =
                    format!("https://Shop.example/menu/ä!{}", query.map_or(String::new(), |query| format!("?{query}")));
                ask(&bridge, "/v1/purge", &json!({ "namespace": "n", "urls": [url] })).await;
                assert!(!hits(&bridge, "k").await, "{url}");
            }
        }
    }
}

/// A few bytes each of an order may stand for very much: it is refused before that is worked out.
#[tokio::test]
async fn an_order_that_comes_to_too_much_is_refused() {
    let bridge = Bridge::new(MemStore::new(16 << 20));
    let urls: Vec<_> = (0..50_000).map(|number| format!("https://h/{number}?a&b&c&d&e&f&g")).collect();
    let keys: Vec<_> = (0..10_000).map(|number| format!("key {number}")).collect();
    for order in [
        json!({ "namespace": "n", "urls": urls }),
        json!({ "namespace": "n", "keys": keys }),
        json!({ "namespace": "n", "keys": &keys[..100] }),
    ] {
        assert_eq!(post(&bridge, "/v1/purge", &order.to_string()).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    }
    let (status, _) = post(&bridge, "/v1/purge", &json!({ "namespace": "n", "keys": &keys[..32] }).to_string()).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn an_entry_is_shown_with_its_tags_and_age_valid_or_not() {
    everywhere(async |bridge| {
        let look = json!({ "namespace": "n", "key": "k" });
        assert_eq!(ask(bridge, "/v1/entry", &look).await, json!({ "outcome": "none" }));
        fill(bridge, "k", &["a", "b"]).await;
        let shown = ask(bridge, "/v1/entry", &look).await;
        assert_eq!((&shown["valid"], &shown["tags"], &shown["bytes"]), (&json!(true), &json!(["a", "b"]), &json!(9)));
        assert!(shown["remaining_ms"].as_u64().unwrap() > 50_000 && shown["resident_ms"].as_u64().unwrap() < 10_000);
        let (_, with_body) = post(bridge, "/v1/entry", r#"{"namespace":"n","key":"k","body":true}"#).await;
        assert!(with_body.ends_with("\nbody of k"), "{with_body}");
        ask(bridge, "/v1/purge", &json!({ "namespace": "n", "tags": ["b"] })).await;
        assert_eq!(ask(bridge, "/v1/entry", &look).await["valid"], false);
    })
    .await;
}

/// `cargo xtask openapi` holds the answers against it; this holds it against the routes.
#[tokio::test]
async fn the_document_names_every_call_and_no_other() {
    let bridge = Bridge::new(MemStore::new(16 << 20));
    let document =
        bridge.router().oneshot(Request::get("/v1/openapi.json").body(Body::empty()).unwrap()).await.unwrap();
    let document: Value = serde_json::from_slice(&document.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    for (path, calls) in paths {
        let path = path.replace("{namespace}", "n").replace("{key}", "k").replace("{name}", "h");
        for method in calls.as_object().unwrap().keys().filter(|name| *name != "parameters") {
            let request = Request::builder().method(&*method.to_uppercase()).uri(&path).body(Body::empty()).unwrap();
            let response = bridge.router().oneshot(request).await.unwrap();
            let (status, body) = (response.status(), response.into_body().collect().await.unwrap().to_bytes());
            assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert!(!String::from_utf8_lossy(&body).contains("there is no call"), "{method} {path}");
        }
    }
    let source = concat!(
        include_str!("../../src/http/keys.rs"),
        include_str!("../../src/http/people.rs"),
        include_str!("../../src/http/health.rs"),
        include_str!("../../src/http/hooks.rs"),
        include_str!("../../api/src/lib.rs"),
    );
    let quoted = source.split('"').skip(1).step_by(2).filter(|text| text.starts_with("/v1/") || *text == "/metrics");
    for path in quoted.filter(|path| !path.contains("/v1/<")) {
        assert!(paths.contains_key(path), "{path} isn't in the document");
    }
}
