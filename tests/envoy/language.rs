//! What rules can say, in a real Envoy: its verified tokens, its bodies and its properties.

use std::time::{Duration, Instant};

use http::StatusCode;
use routecache_config::render::EnvoyOptions;
use routecache_harness::{Answer, Error, Origin, Request, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::stage::{Gateway, Stage, options};

const MISS: &str = "routecache; fwd=uri-miss; stored";

fn rules(routes: &Value) -> Value {
    json!({ "namespace": { "prefix": "language", "version": "v1" }, "routes": routes })
}

async fn gateway(origin: &Origin, routes: &Value) -> Result<Gateway> {
    Gateway::open(&rules(routes), options(origin)?).await
}

async fn status(gateway: &mut Gateway, request: Request) -> Result<String> {
    Ok(gateway.send(0, request).await?.header("cache-status"))
}

fn is_hit(status: &str) -> bool {
    status.starts_with("routecache; hit")
}

/// Signed (HS256) by the key below, by it, and by another one.
const ADA: &str = "Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJ0ZXN0Iiwic3ViIjoiYWRhIn0.NsxGtO4ijwur-e9ItCgy0BhNsMfjeFZ4AHS1IC4fk90";
const BOB: &str = "Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJ0ZXN0Iiwic3ViIjoiYm9iIn0.QvfHKdPog8DZlFi1PeSmohGB5B0L22wDXLnoA7VWMlE";
const FORGED: &str = "Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJ0ZXN0Iiwic3ViIjoiYWRhIn0.SSRkNFlrPVLfYKh_0D87KsnOKtvqssN8-Zsny-vP6EI";
const KEYS: &str = r#"{"keys":[{"kty":"oct","alg":"HS256","k":"YSBzZWNyZXQgb2YgdGhpcnR5LXR3byBieXRlcywgb2s"}]}"#;

/// A token that nobody has verified says nothing, whatever stands in it.
#[tokio::test]
async fn a_client_is_who_the_gateway_has_verified_and_nobody_else() -> Result<()> {
    let origin = Origin::start().await?;
    let jwt = json!({
        "name": "jwt",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": { "test": {
                "issuer": "test", "forward": true, "payload_in_metadata": "jwt_payload", "local_jwks": { "inline_string": KEYS }
            } },
            // The worst case: what isn't verified passes all the same.
            "rules": [{ "match": { "prefix": "/" }, "requires": { "requires_any": { "requirements": [
                { "provider_name": "test" }, { "allow_missing_or_failed": {} }
            ] } } }]
        }
    });
    let routes = json!([{
        "name": "dashboard",
        "match": { "path": "/users/{id}" },
        "cache": { "identity": { "claim": "sub" }, "tags": ["user:{id}", "of:{claim.sub}"] }
    }]);
    let options = EnvoyOptions { filters_before: vec![jwt], ..options(&origin)? };
    let mut gateway = Gateway::open(&rules(&routes), options).await?;
    let get = |token: &str| Request::get("/users/1").header("authorization", token);
    assert_eq!(status(&mut gateway, get(ADA)).await?, MISS);
    assert_eq!(status(&mut gateway, get(BOB)).await?, MISS);
    assert!(is_hit(&status(&mut gateway, get(ADA)).await?));
    assert!(is_hit(&status(&mut gateway, get(BOB)).await?));
    for request in [get(FORGED), get("Bearer nonsense"), Request::get("/users/1")] {
        assert_eq!(status(&mut gateway, request).await?, "routecache; fwd=bypass; detail=no-identity");
    }
    assert_eq!(origin.requests("GET", "/users/1"), 5);
    Ok(())
}

#[tokio::test]
async fn a_read_by_post_is_answered_by_its_body_and_a_mutation_purges_what_it_names() -> Result<()> {
    let origin = Origin::start().await?;
    origin.script("POST", "/graphql", Answer::json(StatusCode::OK, &json!({ "data": { "id": 7 } })));
    let mut gateway = gateway(
        &origin,
        &json!([
            {
                "name": "query",
                "match": { "methods": ["POST"], "path": "/graphql", "json": { "/query": "query*" } },
                "cache": { "key": "{body}", "tags": [{ "request_json": "/id", "as": "user:{}" }] }
            },
            {
                "name": "mutation",
                "match": { "methods": ["POST"], "path": "/graphql" },
                "purge": { "tags": [{ "request_json": "/id", "as": "user:{}" }] }
            }
        ]),
    )
    .await?;
    let post = |query: &str, id: u8| Request::post("/graphql", &json!({ "query": query, "id": id }));
    for id in [1, 2] {
        assert_eq!(status(&mut gateway, post("query { user }", id)).await?, MISS);
        let hit = gateway.send(0, post("query { user }", id)).await?;
        assert!(is_hit(&hit.header("cache-status")), "{}", hit.header("cache-status"));
        assert_eq!(hit.json()["data"]["id"], 7);
    }
    let purged = "routecache; fwd=method; detail=purged";
    assert_eq!(status(&mut gateway, post("mutation { rename }", 1)).await?, purged);
    assert_eq!(status(&mut gateway, post("query { user }", 1)).await?, MISS);
    assert!(is_hit(&status(&mut gateway, post("query { user }", 2)).await?));
    // Longer than is read: it passes, whole.
    let long = post(&format!("query {}", "x".repeat(70_000)), 1);
    for _ in 0..2 {
        let answer = gateway.send(0, long.clone()).await?;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(!is_hit(&answer.header("cache-status")));
    }
    Ok(())
}

#[tokio::test]
async fn tags_are_made_of_what_responses_and_writes_say() -> Result<()> {
    let origin = Origin::start().await?;
    let list = |ids: &[u8]| {
        let items: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
        Answer::json(StatusCode::OK, &json!({ "items": items }))
    };
    origin.script("GET", "/lists/a", list(&[1, 2]));
    origin.script("GET", "/lists/b", list(&[3]));
    origin.script("POST", "/import", Answer::empty(StatusCode::NO_CONTENT));
    origin.script("POST", "/random", Answer::json(StatusCode::OK, &json!({ "changed": [3] })));
    let order = |part: &str, pointer: &str| json!([{ part: pointer, "as": "order:{}" }]);
    let mut gateway = gateway(
        &origin,
        &json!([
            { "name": "list", "match": { "path": "/lists/{name}" }, "cache": { "tags": order("json", "/items/*/id") } },
            { "name": "import", "match": { "path": "/import" }, "purge": { "tags": order("request_json", "/orders/*") } },
            { "name": "random", "match": { "path": "/random" }, "purge": { "tags": order("json", "/changed/*") } }
        ]),
    )
    .await?;
    let post = |path: &str, orders: Value| Request::post(path, &json!({ "orders": orders }));
    for (write, kept) in [
        (post("/import", json!([2])), [false, true]),
        (post("/random", json!([])), [true, false]),
        // What it names can't be told: it says something else, too much, or in another coding.
        (post("/import", json!("all")), [false, false]),
        (post("/import", json!(["x".repeat(70_000)])), [false, false]),
        (post("/import", json!([])).header("content-encoding", "gzip"), [false, false]),
    ] {
        for path in ["/lists/a", "/lists/b"] {
            gateway.get(0, path).await?;
            assert!(is_hit(&gateway.get(0, path).await?.header("cache-status")), "{path}");
        }
        let answer = gateway.send(0, write).await?;
        assert!(answer.status.is_success());
        for (path, kept) in ["/lists/a", "/lists/b"].into_iter().zip(kept) {
            assert_eq!(is_hit(&gateway.get(0, path).await?.header("cache-status")), kept, "{path}");
        }
    }
    Ok(())
}

/// A body without a length, piece by piece.
#[tokio::test]
async fn what_a_write_names_is_read_from_a_body_that_comes_in_chunks() -> Result<()> {
    let origin = Origin::start().await?;
    let list = |id: u8| Answer::json(StatusCode::OK, &json!({ "items": [{ "id": id }] }));
    origin.script("GET", "/lists/a", list(1));
    origin.script("GET", "/lists/b", list(2));
    origin.script("POST", "/import", Answer::json(StatusCode::OK, &json!({})));
    let order = |part: &str, pointer: &str| json!([{ part: pointer, "as": "order:{}" }]);
    let mut gateway = gateway(
        &origin,
        &json!([
            { "name": "list", "match": { "path": "/lists/{name}" }, "cache": { "tags": order("json", "/items/*/id") } },
            { "name": "import", "match": { "path": "/import" }, "purge": { "tags": order("request_json", "/orders/*") } }
        ]),
    )
    .await?;
    let long = format!(r#"{{"orders":[1],"more":"{}"}}"#, "x".repeat(70_000));
    for (body, kept) in [(r#"{"orders":[1]}"#, [false, true]), (&long, [false, false])] {
        for path in ["/lists/a", "/lists/b"] {
            gateway.get(0, path).await?;
            assert!(is_hit(&gateway.get(0, path).await?.header("cache-status")), "{path}");
        }
        let broken = || |error: std::io::Error| Error::Unexpected(format!("send a body in chunks: {error}"));
        let mut stream = TcpStream::connect(gateway.envoy.address()).await.map_err(broken())?;
        let head =
            "POST /import HTTP/1.1\r\nhost: api.example.com\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.map_err(broken())?;
        let (one, two) = body.split_at(6);
        for piece in [one, two, ""] {
            sleep(Duration::from_millis(30)).await;
            let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
            stream.write_all(chunk.as_bytes()).await.map_err(broken())?;
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map_err(broken())?;
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        for (path, kept) in ["/lists/a", "/lists/b"].into_iter().zip(kept) {
            assert_eq!(is_hit(&gateway.get(0, path).await?.header("cache-status")), kept, "{path}");
        }
    }
    Ok(())
}

/// C2 and C5: the header of a write's response, held with its body, until what that names is purged in the group.
#[tokio::test]
async fn the_header_of_a_writes_response_waits_with_its_body_for_what_that_names() -> Result<()> {
    let stage = Stage::set().await?;
    stage.origin.script("GET", "/lists/a", Answer::json(StatusCode::OK, &json!({ "items": [{ "id": 1 }] })));
    stage.origin.script("POST", "/random", Answer::json(StatusCode::OK, &json!({ "changed": [1] })));
    let order = |pointer: &str| json!([{ "json": pointer, "as": "order:{}" }]);
    let rules = json!({
        "namespace": { "prefix": "language", "version": "v1" },
        "bridge": { "cluster": "bridge" },
        "purge": { "timeout": "2s" },
        "routes": [
            { "name": "list", "match": { "path": "/lists/{name}" }, "cache": { "tags": order("/items/*/id") } },
            { "name": "random", "match": { "path": "/random" }, "purge": { "tags": order("/changed/*") } }
        ]
    });
    let mut gateway = Gateway::open(&rules, stage.options()?).await?;
    gateway.settled(&Request::get("/lists/a")).await?;
    for worker in [0, 1, 0] {
        gateway.get(worker, "/lists/a").await?;
        assert!(is_hit(&gateway.get(worker, "/lists/a").await?.header("cache-status")));
        let written = gateway.send(worker, Request::post("/random", &json!({}))).await?;
        // Said in the header, so it has waited until that was known.
        assert_eq!(written.header("cache-status"), "routecache; fwd=method; detail=purged");
        assert_eq!(written.json()["changed"], json!([1]));
        assert!(!is_hit(&gateway.get(1 - worker, "/lists/a").await?.header("cache-status")));
    }
    // A bridge that hears nothing more: that is said, too, and the gateway itself has purged.
    stage.bridge.hold();
    let written = gateway.send(0, Request::post("/random", &json!({}))).await?;
    assert_eq!(written.header("cache-status"), "routecache; fwd=method; detail=purge-pending");
    assert_eq!(written.json()["changed"], json!([1]));
    assert!(!is_hit(&gateway.get(1, "/lists/a").await?.header("cache-status")));
    stage.bridge.release();
    let start = Instant::now();
    loop {
        let written = gateway.send(1, Request::post("/random", &json!({}))).await?;
        if written.cache_status().detail.as_deref() == Some("purged") {
            return Ok(());
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{}", written.header("cache-status"));
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn keys_hold_what_the_gateway_knows_and_what_does_not_count_is_left_out() -> Result<()> {
    let origin = Origin::start().await?;
    let mut gateway = gateway(
        &origin,
        &json!([
            {
                "name": "user",
                "match": { "path": "/users/{id:int}", "host": "*.example.com" },
                "cache": {
                    "key": "{cluster.name}:{client.address}:{header.x-tenant|lower}:{id}",
                    "tags": ["users"],
                    "query": { "exclude": ["utm_*"], "strip": "on" },
                    "bypass": { "header": { "x-debug": "on" } }
                }
            },
            {
                "name": "metadata",
                "match": { "path": "/users/{id}/orders" },
                "cache": { "key": "{metadata.com.example/tenant}:{id}", "tags": ["users"] }
            }
        ]),
    )
    .await?;
    let get = |path: &str| Request::get(path).header("x-tenant", "Acme");
    assert_eq!(status(&mut gateway, get("/users/1?utm_source=mail")).await?, MISS);
    assert!(is_hit(&status(&mut gateway, get("/users/1")).await?));
    assert_eq!(origin.requests("GET", "/users/1"), 1, "without what doesn't count");
    assert_eq!(
        status(&mut gateway, get("/users/1").header("x-debug", "on")).await?,
        "routecache; fwd=bypass; detail=rule"
    );
    let missing = "routecache; fwd=bypass; detail=missing-value";
    assert_eq!(status(&mut gateway, Request::get("/users/1")).await?, missing);
    assert_eq!(status(&mut gateway, Request::get("/users/1/orders")).await?, missing, "the route has no metadata");
    Ok(())
}
