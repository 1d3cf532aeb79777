//! What a client gets of a stored response beside what Envoy and its other filters do to every response.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use routecache_config::render::{self, EnvoyOptions};
use routecache_harness::{Answer, Connection, Envoy, EnvoyConfig, Origin, Request, Response, Result};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::stage::{options, rules_without_bridge};

/// Longer than the lifetime that the origin gives here.
const STALE: Duration = Duration::from_millis(1200);

/// An Envoy whose route adds lines and rewrites the path and the host, with CORS and compression in front of the cache.
struct Stage {
    origin: Origin,
    envoy: Envoy,
    workers: [Connection; 2],
}

impl Stage {
    async fn set() -> Result<Self> {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Value)) -> Result<Self> {
        let origin = Origin::start().await?;
        for path in ["/api/users/1", "/api/users/2"] {
            origin.script("GET", path, user());
        }
        let mut rules = rules_without_bridge();
        rules["routes"][0]["cache"]["stale_if_error"] = "1m".into();
        rules["routes"][2]["recache"] = json!([{ "route": "user", "include": ["user_id"] }]);
        change(&mut rules);
        let filters_before = vec![
            filter("cors", "cors.v3.Cors", json!({})),
            filter(
                "compressor",
                "compressor.v3.Compressor",
                json!({ "compressor_library": {
                "name": "gzip",
                "typed_config": { "@type": "type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip" },
            } }),
            ),
        ];
        let options = EnvoyOptions { filters_before, ..options(&origin)? };
        let config = EnvoyConfig::new(|listen, admin| {
            with_route(&render::envoy(&rules, &EnvoyOptions { listen, admin: Some(admin), ..options }))
        })?;
        let envoy = Envoy::start(config).await?;
        let workers = [envoy.worker(0).await?, envoy.worker(1).await?];
        Ok(Self { origin, envoy, workers })
    }

    /// As a browser on another site asks.
    async fn get(&mut self, worker: usize, path: &str) -> Result<Response> {
        let request = Request::get(path).header("origin", "https://shop.example").header("accept-encoding", "gzip");
        self.workers[worker].send(request).await
    }
}

fn filter(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = format!("type.googleapis.com/envoy.extensions.filters.http.{kind}").into();
    json!({ "name": name, "typed_config": config })
}

/// The rendered configuration with a route that does more.
fn with_route(yaml: &str) -> String {
    const ROUTE: &str = "route: { cluster: origin, timeout: 15s }";
    let line = yaml.lines().find(|line| line.contains(ROUTE)).expect("the route that is rendered");
    let indentation = &line[..line.len() - ROUTE.len()];
    let add = |name: &str, value: &str| json!({ "header": { "key": name, "value": value } });
    let added = json!([
        add("x-route", "users"),
        add("x-version", "route"),
        add("x-time", "%START_TIME(%s.%3f)%"),
        add("cache-control", "x-note"),
    ]);
    let cors = json!({ "cors": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{ "prefix": "https://" }],
    } });
    let route = json!({ "cluster": "origin", "timeout": "15s", "prefix_rewrite": "/api/users/", "host_rewrite_literal": "inner" });
    yaml.replace("match: { prefix: / }", "match: { prefix: /users/ }").replace(
        ROUTE,
        &format!(
            "route: {route}\n{indentation}response_headers_to_add: {added}\n{indentation}typed_per_filter_config: {cors}"
        ),
    )
}

fn user() -> Answer {
    Answer::json(StatusCode::OK, &json!({ "name": "x".repeat(2000) }))
}

/// The lines that matter here, in one order.
fn shown(response: &Response) -> Vec<(String, String)> {
    let names =
        ["x-route", "x-version", "cache-control", "access-control-allow-origin", "content-encoding", "content-type"];
    names.map(|name| (name.to_owned(), response.header(name))).to_vec()
}

#[tokio::test]
async fn lines_that_the_route_adds_stand_once_in_a_hit_as_in_a_miss() -> Result<()> {
    let mut stage = Stage::set().await?;
    let answer = user().header("x-version", "origin").header("cache-control", "max-age=60");
    stage.origin.script("GET", "/api/users/1", answer);
    let miss = stage.get(0, "/users/1").await?;
    let expected = [
        ("x-route", "users"),
        ("x-version", "origin, route"),
        ("cache-control", "max-age=60,x-note"),
        ("access-control-allow-origin", "https://shop.example"),
        ("content-encoding", "gzip"),
        ("content-type", "application/json"),
    ];
    let text = |lines: &[(&str, &str)]| -> Vec<(String, String)> {
        lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    assert_eq!(shown(&miss), text(&expected));
    // The route's lines come first in a reply, wherever they were.
    let replayed =
        [&expected[..1], &[("x-version", "route, origin"), ("cache-control", "x-note,max-age=60")], &expected[3..]]
            .concat();
    for (worker, tier) in [(0, "worker"), (0, "worker"), (1, "gateway"), (1, "worker"), (1, "worker")] {
        let hit = stage.get(worker, "/users/1").await?;
        assert_eq!(hit.cache_status().detail.as_deref(), Some(tier));
        assert_eq!(shown(&hit), text(&replayed), "{tier}");
        assert_eq!(hit.headers.get_all("x-time").iter().count(), 1, "{tier}");
    }
    Ok(())
}

#[tokio::test]
async fn a_hit_without_a_body_keeps_its_content_type_and_length() -> Result<()> {
    let mut stage = Stage::set().await?;
    stage.origin.script(
        "GET",
        "/api/users/1",
        Answer::empty(StatusCode::OK).header("content-type", "application/json"),
    );
    for (worker, hit) in [(0, false), (0, true), (0, true), (1, true), (1, true)] {
        let answer = stage.get(worker, "/users/1").await?;
        assert_eq!(answer.cache_status().hit, hit);
        assert_eq!(
            (answer.header("content-type").as_str(), answer.header("content-length").as_str()),
            ("application/json", "0")
        );
        let head = stage.workers[worker].send(Request::new(Method::HEAD, "/users/1")).await?;
        assert_eq!(head.header("content-type"), "application/json");
    }
    Ok(())
}

#[tokio::test]
async fn a_stale_answer_in_place_of_an_error_passes_the_filters_in_front_as_a_hit_does() -> Result<()> {
    let mut stage = Stage::set().await?;
    stage.origin.script("GET", "/api/users/1", user().header("cache-control", "max-age=1"));
    stage.get(0, "/users/1").await?;
    let hit = stage.get(0, "/users/1").await?;
    sleep(STALE).await;
    stage.origin.script(
        "GET",
        "/api/users/1",
        Answer::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": "busy" })),
    );
    let stale = stage.get(0, "/users/1").await?;
    assert_eq!(stale.status, StatusCode::OK);
    let status = stale.header("cache-status");
    assert!(status.starts_with("routecache; fwd=stale; fwd-status=503; ttl="), "{status}");
    assert!(status.ends_with("; detail=stale-if-error"), "{status}");
    for name in ["access-control-allow-origin", "content-encoding", "content-type", "x-route"] {
        assert_eq!(stale.header(name), hit.header(name), "{name}");
    }
    let plain = stage.workers[0].get("/users/1").await?;
    assert_eq!(plain.cache_status().detail.as_deref(), Some("stale-if-error"));
    assert_eq!(plain.json(), json!({ "name": "x".repeat(2000) }));
    Ok(())
}

#[tokio::test]
async fn a_304_becomes_the_stored_200_on_a_route_that_rewrites_path_and_host() -> Result<()> {
    let mut stage = Stage::set().await?;
    let etag = |answer: Answer| answer.header("etag", "\"a\"").header("cache-control", "max-age=1");
    stage.origin.script("GET", "/api/users/1", etag(user()));
    let first = stage.workers[0].get("/users/1").await?;
    assert!(stage.workers[0].get("/users/1").await?.cache_status().hit);
    sleep(STALE).await;
    let now = etag(Answer::empty(StatusCode::NOT_MODIFIED)).header("x-version", "2");
    stage.origin.script("GET", "/api/users/1", now);
    let validated = stage.workers[0].get("/users/1").await?;
    assert_eq!((validated.status, &validated.body), (StatusCode::OK, &first.body));
    let status = validated.header("cache-status");
    assert!(status.starts_with("routecache; fwd=stale; fwd-status=304; stored; ttl="), "{status}");
    assert!(validated.header("x-version").contains('2'), "the 304 renews what is stored");
    assert_eq!(validated.header("content-type"), "application/json");
    assert_eq!(validated.header("x-route"), "users");
    assert!(stage.workers[0].get("/users/1").await?.cache_status().hit);
    // The client's own condition is judged against what has been validated.
    sleep(STALE).await;
    let held = Request::get("/users/1").header("if-none-match", "\"x\", \"a\"");
    let not_modified = stage.workers[0].send(held).await?;
    assert_eq!((not_modified.status, not_modified.header("etag").as_str()), (StatusCode::NOT_MODIFIED, "\"a\""));
    Ok(())
}

/// RFC 9111 §4.3.4: what answers is what a hit would be, since the request phase answers.
#[tokio::test]
async fn a_200_made_of_a_304_carries_what_a_hit_carries() -> Result<()> {
    let mut stage = Stage::set().await?;
    let etag = |answer: Answer| answer.header("etag", "\"a\"").header("cache-control", "max-age=1");
    stage.origin.script("GET", "/api/users/1", etag(user()));
    stage.get(0, "/users/1").await?;
    let hit = stage.get(0, "/users/1").await?;
    for worker in [0, 1, 0] {
        sleep(STALE).await;
        stage.origin.script("GET", "/api/users/1", etag(Answer::empty(StatusCode::NOT_MODIFIED)));
        let validated = stage.get(worker, "/users/1").await?;
        assert_eq!((validated.status, &validated.body), (StatusCode::OK, &hit.body));
        let status = validated.header("cache-status");
        assert!(status.starts_with("routecache; fwd=stale; fwd-status=304; stored; ttl="), "{status}");
        for name in ["access-control-allow-origin", "content-encoding", "content-type", "x-route", "x-version"] {
            assert_eq!(validated.header(name), hit.header(name), "{name} on worker {worker}");
        }
        assert_eq!(validated.header("content-encoding"), "gzip");
    }
    Ok(())
}

/// RFC 5861 §4, with an error that has no body to be replaced.
#[tokio::test]
async fn a_stale_answer_in_place_of_a_bare_error_carries_what_a_hit_carries() -> Result<()> {
    let mut stage = Stage::set().await?;
    stage.origin.script("GET", "/api/users/1", user().header("cache-control", "max-age=1"));
    stage.get(0, "/users/1").await?;
    let hit = stage.get(0, "/users/1").await?;
    sleep(STALE).await;
    stage.origin.script("GET", "/api/users/1", Answer::empty(StatusCode::BAD_GATEWAY));
    for _ in 0..2 {
        let stale = stage.get(0, "/users/1").await?;
        assert_eq!((stale.status, &stale.body), (StatusCode::OK, &hit.body));
        assert_eq!(stale.cache_status().detail.as_deref(), Some("stale-if-error"));
        for name in ["access-control-allow-origin", "content-encoding", "content-type", "x-route"] {
            assert_eq!(stale.header(name), hit.header(name), "{name}");
        }
    }
    Ok(())
}

/// RFC 5861 §3, on a route that rewrites path and host: the refresh gets what a forwarded request gets.
#[tokio::test]
async fn a_refresh_behind_the_client_passes_route_and_filters_as_a_request_does() -> Result<()> {
    let mut stage = Stage::set().await?;
    let answer = |version: &str| {
        user().header("x-version", version).header("cache-control", "max-age=1, stale-while-revalidate=60")
    };
    stage.origin.script("GET", "/api/users/1", answer("1"));
    stage.get(0, "/users/1").await?;
    stage.get(0, "/users/1").await?;
    sleep(STALE).await;
    let heard = stage.origin.requests("GET", "/api/users/1");
    stage.origin.script("GET", "/api/users/1", answer("2"));
    let stale = stage.get(0, "/users/1").await?;
    assert!(stale.cache_status().hit && stale.header("x-version").contains('1'), "{}", stale.header("x-version"));
    sleep(Duration::from_millis(500)).await;
    for worker in [0, 1] {
        let fresh = stage.get(worker, "/users/1").await?;
        assert!(fresh.cache_status().hit && fresh.header("x-version").contains('2'), "{}", fresh.header("x-version"));
        for name in ["access-control-allow-origin", "content-encoding", "x-route"] {
            assert_eq!(fresh.header(name), stale.header(name), "{name}");
        }
    }
    assert_eq!(stage.origin.requests("GET", "/api/users/1") - heard, 1);
    Ok(())
}

/// On a route that rewrites path and host, and as nobody.
#[tokio::test]
async fn what_a_write_purged_is_read_again_behind_it_the_way_of_any_request() -> Result<()> {
    let mut stage = Stage::set().await?;
    let answer = |version: &str| user().header("x-version", version).header("cache-control", "max-age=60");
    stage.origin.script("GET", "/api/users/1", answer("1"));
    stage.origin.script("PUT", "/api/users/1", Answer::empty(StatusCode::NO_CONTENT));
    let before = stage.get(0, "/users/1").await?;
    stage.origin.script("GET", "/api/users/1", answer("2"));
    let write = Request::new(Method::PUT, "/users/1").header("cookie", "a=b").header("authorization", "Bearer x");
    let written = stage.workers[0].send(write).await?;
    assert_eq!(written.cache_status().detail.as_deref(), Some("purged"));
    sleep(Duration::from_millis(500)).await;
    assert_eq!(stage.origin.requests("GET", "/api/users/1"), 2);
    for worker in [0, 1] {
        let hit = stage.get(worker, "/users/1").await?;
        assert!(hit.cache_status().hit, "{}", hit.header("cache-status"));
        assert!(hit.header("x-version").contains('2'), "{}", hit.header("x-version"));
        for name in ["access-control-allow-origin", "content-encoding", "x-route"] {
            assert_eq!(hit.header(name), before.header(name), "{name}");
        }
    }
    assert_eq!(stage.origin.requests("GET", "/api/users/1"), 2);
    Ok(())
}

/// `warm`, on the same route: as soon as the gateway is there, once for both workers.
#[tokio::test]
async fn what_the_rules_list_is_read_behind_a_start_the_way_of_any_request() -> Result<()> {
    let list = ["https://shop.example/users/1", "http://shop.example/users/2"];
    let mut stage = Stage::with(|rules| rules["warm"] = json!(list)).await?;
    let start = Instant::now();
    while stage.envoy.stat("wasmcustom.routecache_warm_stored").await? < 2 {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", stage.envoy.log());
        sleep(Duration::from_millis(10)).await;
    }
    for worker in &mut stage.workers {
        let first = worker.send(Request::get("/users/2").header("host", "shop.example")).await?;
        assert!(first.cache_status().hit, "{}", first.header("cache-status"));
        assert_eq!(first.header("x-route"), "users");
    }
    for user in [1, 2] {
        assert_eq!(stage.origin.requests("GET", &format!("/api/users/{user}")), 1);
    }
    Ok(())
}

/// `mode: failover`: an error of the origin's, and one that Envoy makes because there is no origin.
#[tokio::test]
async fn in_failover_mode_what_stands_in_carries_what_a_hit_would() -> Result<()> {
    let mut stage = Stage::with(|rules| rules["routes"][0]["mode"] = "failover".into()).await?;
    let answer = |version: &str| user().header("x-version", version).header("cache-control", "max-age=60");
    for version in ["1", "2"] {
        stage.origin.script("GET", "/api/users/1", answer(version));
        let shown = stage.get(0, "/users/1").await?;
        assert_eq!(shown.cache_status().detail.as_deref(), Some("failover"));
        assert!(shown.header("x-version").contains(version), "{}", shown.header("x-version"));
    }
    let busy = Answer::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": "busy" }));
    stage.origin.script("GET", "/api/users/1", busy);
    for worker in [0, 1] {
        let stands_in = stage.get(worker, "/users/1").await?;
        assert_eq!((stands_in.status, stands_in.header("content-encoding").as_str()), (StatusCode::OK, "gzip"));
        let status = stands_in.header("cache-status");
        assert_eq!(
            status,
            "routecache; fwd=bypass; fwd-status=503; ttl=60; detail=failover".replace("ttl=60", &ttl(&status))
        );
        assert_eq!(stands_in.header("access-control-allow-origin"), "https://shop.example");
    }
    stage.origin.script("GET", "/api/users/1", Answer::json(StatusCode::NOT_FOUND, &json!({ "error": "gone" })));
    assert_eq!(stage.get(0, "/users/1").await?.status, StatusCode::NOT_FOUND);
    Ok(())
}

/// The `ttl=…` of a `Cache-Status`.
fn ttl(status: &str) -> String {
    status.split("; ").find(|part| part.starts_with("ttl=")).unwrap_or_default().to_owned()
}
