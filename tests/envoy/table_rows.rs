//! What teams had of their application's cache library and expect of a gateway: the rows that `docs/from-decorators.md` shows with
//! nothing else, in a real Envoy. `scenarios/table_rows.rs` has the same in host-test.

use std::time::Duration;

use http::StatusCode;
use routecache_harness::{Answer, Origin, Request, Result};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::stage::{Gateway, Stage, WINDOW, options};

/// An origin, and a gateway on its own with these rules.
async fn stage(routes: &Value) -> Result<(Origin, Gateway)> {
    let origin = Origin::start().await?;
    let rules = json!({ "namespace": { "prefix": "rows", "version": "v1" }, "routes": routes });
    let gateway = Gateway::open(&rules, options(&origin)?).await?;
    Ok((origin, gateway))
}

async fn hits(gateway: &mut Gateway, path: &str) -> Result<bool> {
    Ok(gateway.get(0, path).await?.cache_status().hit)
}

#[tokio::test]
async fn a_key_may_be_a_list_and_formats_what_it_holds() -> Result<()> {
    let key = json!(["user", "{id|lower}", "{query.fields|sort|hash|default(all)}", "{query.page|int|default(1)}"]);
    let (origin, mut gateway) = stage(&json!([
        { "name": "user", "match": { "path": "/names/{id}" }, "cache": { "key": key, "tags": ["users"], "query": { "include": [] } } }
    ]))
    .await?;
    for path in ["/names/Ada?fields=name,age", "/names/ada", "/names/ada?fields=name", "/names/bob?fields=age,name"] {
        origin.script("GET", path, Answer::json(StatusCode::OK, &json!({})));
        assert!(!hits(&mut gateway, path).await?, "{path}");
    }
    for same in ["/names/ada?fields=age,name", "/names/ADA?page=01&fields=name,age&utm_source=mail"] {
        assert!(hits(&mut gateway, same).await?, "{same}");
    }
    Ok(())
}

#[tokio::test]
async fn one_read_rule_and_one_write_rule_suffice_and_a_write_for_12_leaves_123() -> Result<()> {
    let (origin, mut gateway) = stage(&json!([
        { "name": "user", "match": { "path": "/names/{id}" }, "cache": { "key": "user:{id}" } },
        { "name": "write", "match": { "path": "/names/{id}" }, "purge": { "tags": ["user:{id}"] } }
    ]))
    .await?;
    let users = ["/names/12", "/names/123", "/names/1"];
    for user in users {
        origin.script("GET", user, Answer::json(StatusCode::OK, &json!({})));
        assert!(!hits(&mut gateway, user).await?);
    }
    origin.script("PUT", "/names/12", Answer::empty(StatusCode::NO_CONTENT));
    gateway.send(0, Request::put("/names/12", &json!({}))).await?;
    for (user, kept) in users.into_iter().zip([false, true, true]) {
        assert_eq!(hits(&mut gateway, user).await?, kept, "{user}");
    }
    Ok(())
}

#[tokio::test]
async fn early_refreshes_before_anything_is_stale() -> Result<()> {
    let (origin, mut gateway) = stage(&json!([
        { "name": "user", "match": { "path": "/users/{id}" }, "cache": { "ttl": "60s", "early": "59s" } }
    ]))
    .await?;
    assert!(!hits(&mut gateway, "/users/1").await?);
    sleep(Duration::from_millis(1500)).await;
    assert!(hits(&mut gateway, "/users/1").await?);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(origin.requests("GET", "/users/1"), 2, "behind the client");
    Ok(())
}

#[tokio::test]
async fn sliding_makes_what_is_used_fresh_again() -> Result<()> {
    let (origin, mut gateway) = stage(&json!([
        { "name": "user", "match": { "path": "/users/{id}" }, "cache": { "ttl": "2s", "sliding": true } }
    ]))
    .await?;
    assert!(!hits(&mut gateway, "/users/1").await?);
    for _ in 0..5 {
        sleep(Duration::from_millis(800)).await;
        assert!(hits(&mut gateway, "/users/1").await?);
    }
    sleep(Duration::from_millis(3200)).await;
    assert!(!hits(&mut gateway, "/users/1").await?, "unused for longer than its lifetime");
    assert_eq!(origin.requests("GET", "/users/1"), 2);
    Ok(())
}

#[tokio::test]
async fn what_is_read_again_takes_renamed_and_further_values() -> Result<()> {
    let (origin, mut gateway) = stage(&json!([
        { "name": "list", "match": { "path": "/shops/{shop}/orders/{kind}" }, "cache": { "tags": ["shop:{shop}"] } },
        {
            "name": "order",
            "match": { "path": "/orders/{from}" },
            "purge": { "tags": ["shop:{from}"] },
            "recache": [{ "route": "list", "rename": { "from": "shop" }, "set": { "kind": "open", "query.page": 1 } }]
        }
    ]))
    .await?;
    let list = "/shops/7/orders/open?page=1";
    origin.script("GET", list, Answer::json(StatusCode::OK, &json!([])));
    origin.script("POST", "/orders/7", Answer::empty(StatusCode::NO_CONTENT));
    gateway.send(0, Request::post("/orders/7", &json!({}))).await?;
    sleep(Duration::from_millis(500)).await;
    assert!(hits(&mut gateway, list).await?);
    Ok(())
}

#[tokio::test]
async fn a_tag_reaches_what_lives_longer_than_others_that_carry_it() -> Result<()> {
    let (origin, mut gateway) = stage(&json!([
        { "name": "short", "match": { "path": "/short" }, "cache": { "ttl": "1s", "tags": ["a"] } },
        { "name": "long", "match": { "path": "/long" }, "cache": { "ttl": "1h", "tags": ["a"] } },
        { "name": "write", "match": { "path": "/write" }, "purge": { "tags": ["a"] } }
    ]))
    .await?;
    for path in ["/long", "/short"] {
        origin.script("GET", path, Answer::json(StatusCode::OK, &json!({})));
        gateway.get(0, path).await?;
    }
    origin.script("POST", "/write", Answer::empty(StatusCode::NO_CONTENT));
    sleep(Duration::from_millis(2100)).await;
    assert!(!hits(&mut gateway, "/short").await?);
    assert!(hits(&mut gateway, "/long").await?);
    gateway.send(0, Request::post("/write", &json!({}))).await?;
    assert!(!hits(&mut gateway, "/long").await?);
    Ok(())
}

/// One read and one write of a resource, in two namespaces at one bridge.
#[tokio::test]
async fn keys_and_tags_of_resources_stay_in_their_namespace() -> Result<()> {
    let stage = Stage::set().await?;
    let open = async |prefix: &str| {
        let rules = json!({
            "namespace": { "prefix": prefix, "version": "v1" },
            "bridge": { "cluster": "bridge" },
            "resources": { "user": {
                "id": "id",
                "reads": { "profile": { "path": "/users/{id}" } },
                "writes": [{ "methods": ["PUT"], "path": "/users/{id}" }]
            } }
        });
        let gateway = Gateway::open(&rules, stage.options()?).await?;
        gateway.settled(&Request::get("/users/999")).await?;
        Ok::<_, routecache_harness::Error>(gateway)
    };
    let (mut shop, mut bank) = (open("shop").await?, open("bank").await?);
    assert!(!hits(&mut shop, "/users/1").await?);
    assert!(hits(&mut shop, "/users/1").await?);
    assert!(!hits(&mut bank, "/users/1").await?, "another namespace's entry isn't its own");
    let written = bank.send(0, Request::put("/users/1", &json!({ "name": "Ada" }))).await?;
    assert_eq!(written.cache_status().detail.as_deref(), Some("purged"));
    assert!(!hits(&mut bank, "/users/1").await?, "what the resource's write purges");
    sleep(WINDOW).await;
    assert!(hits(&mut shop, "/users/1").await?, "another namespace's purge isn't its own");
    Ok(())
}
