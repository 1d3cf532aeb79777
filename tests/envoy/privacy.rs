//! What is nobody else's business is not kept, and what was refused is not answered.

use http::StatusCode;
use routecache_config::render::EnvoyOptions;
use routecache_harness::{Answer, Request, Result};
use serde_json::json;

use super::stage::{Gateway, Stage, rules};

#[tokio::test]
async fn a_private_answer_is_not_kept() -> Result<()> {
    let stage = Stage::set().await?;
    let mut gateway = stage.gateway().await?;
    let answer = || Answer::json(StatusCode::OK, &json!({ "mine": true }));
    for (id, (name, value)) in [
        ("cache-control", "private"),
        ("cache-control", "max-age=60, Private"),
        ("cache-control", "no-store"),
        ("cache-control", "NO-STORE, max-age=60"),
        ("set-cookie", "session=1"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/users/{}", 100 + id);
        stage.origin.script("GET", &path, answer().header(name, value));
        for worker in [0, 0, 1] {
            let read = gateway.get(worker, &path).await?;
            let status = read.cache_status();
            assert!(!status.hit && !status.stored, "{name}: {value}: {status:?}");
            assert_eq!(read.header(name), value);
        }
        assert_eq!(stage.origin.requests("GET", &path), 3, "{name}: {value}");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_to_a_request_with_credentials_is_neither_kept_nor_taken_from_what_is_kept() -> Result<()> {
    let stage = Stage::set().await?;
    let mut gateway = stage.gateway().await?;
    for (path, name, value) in [("/users/1", "authorization", "Bearer 1"), ("/users/2", "cookie", "session=1")] {
        let with = || Request::get(path).header(name, value);
        for worker in [0, 0, 1] {
            let status = gateway.send(worker, with()).await?.cache_status();
            assert!(!status.hit && !status.stored, "{name}: {value}: {status:?}");
        }
        // Nobody gets what was read with credentials, and what others have read isn't taken for them.
        assert!(!gateway.get(0, path).await?.cache_status().hit, "{name}: {value}");
        assert!(gateway.get(0, path).await?.cache_status().hit, "{name}: {value}");
        assert!(!gateway.send(0, with()).await?.cache_status().hit, "{name}: {value}");
    }
    Ok(())
}

/// Envoy's RBAC filter stands for whatever decides who may read.
#[tokio::test]
async fn a_request_that_a_filter_before_ours_refuses_gets_no_hit() -> Result<()> {
    let stage = Stage::set().await?;
    let allowed = json!({ "header": { "name": "x-role", "string_match": { "exact": "clerk" } } });
    let rbac = json!({
        "name": "rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {
                "action": "ALLOW",
                "policies": { "clerks": { "permissions": [{ "any": true }], "principals": [allowed] } }
            }
        }
    });
    let clerk = || Request::get("/users/1").header("x-role", "clerk");
    let mut gateway = Gateway::open(&rules(), EnvoyOptions { filters_before: vec![rbac], ..stage.options()? }).await?;
    gateway.settled(&clerk()).await?;
    gateway.send(0, clerk()).await?;
    assert!(gateway.send(0, clerk()).await?.cache_status().hit);

    let heard = stage.origin.requests("GET", "/users/1");
    let refused = gateway.get(0, "/users/1").await?;
    assert_eq!((refused.status, refused.header("cache-status").as_str()), (StatusCode::FORBIDDEN, ""));
    // On a connection of its own: Envoy closes it, since nobody reads the body.
    let write = gateway.envoy.send(Request::put("/users/1", &json!({ "name": "nobody" }))).await?;
    assert_eq!(write.status, StatusCode::FORBIDDEN);
    assert!(gateway.send(0, clerk()).await?.cache_status().hit, "a refused write purges nothing");
    assert_eq!(stage.origin.requests("GET", "/users/1"), heard);
    Ok(())
}
