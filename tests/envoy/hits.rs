//! Where a hit comes from, and what it says of itself.

use std::time::Duration;

use routecache_config::render::EnvoyOptions;
use routecache_harness::{CacheStatus, Request, Result};
use tokio::time::sleep;

use super::stage::{Gateway, Stage, rules};

#[tokio::test]
async fn a_hit_comes_from_the_worker_else_from_the_gateway_else_from_the_group_and_says_so() -> Result<()> {
    let stage = Stage::set().await?;
    let (mut a, mut b) = (stage.gateway().await?, stage.gateway().await?);

    let first = a.get(0, "/users/1").await?;
    assert_eq!(first.header("cache-status"), "routecache; fwd=uri-miss; stored");
    let mut hits = Vec::new();
    hits.push(("worker", a.get(0, "/users/1").await?));
    hits.push(("gateway", a.get(1, "/users/1").await?));
    hits.push(("worker", a.get(1, "/users/1").await?));
    sleep(Duration::from_millis(300)).await; // the bridge is written behind the client's back
    hits.push(("group", b.get(0, "/users/1").await?));
    hits.push(("gateway", b.get(1, "/users/1").await?));
    hits.push(("worker", b.get(0, "/users/1").await?));

    for (tier, hit) in hits {
        let field = hit.header("cache-status");
        let CacheStatus { ttl: Some(ttl), .. } = hit.cache_status() else { panic!("{tier}: no ttl in `{field}`") };
        assert_eq!(field, format!("routecache; hit; ttl={ttl}; detail={tier}"));
        assert!((290..=300).contains(&ttl), "the default ttl is 5 minutes, and {ttl} s are left");
        assert_eq!((hit.status, &hit.body), (first.status, &first.body), "{tier}");
        assert_eq!(hit.header("content-type"), first.header("content-type"), "{tier}");
        assert!(!hit.header("age").is_empty(), "RFC 9111 §5.1: an answer from a cache says its age ({tier})");
    }
    assert_eq!(stage.origin.requests("GET", "/users/1"), 1);
    Ok(())
}

#[tokio::test]
async fn the_selected_parameters_are_the_key_whatever_their_order() -> Result<()> {
    let stage = Stage::set().await?;
    let mut gateway = stage.gateway().await?;
    gateway.get(0, "/users/1/orders?page=1&size=2").await?;
    for same in ["/users/1/orders?size=2&page=1", "/users/1/orders?utm_source=mail&page=1&size=2"] {
        assert!(gateway.get(0, same).await?.cache_status().hit, "{same}");
    }
    for other in ["/users/1/orders?page=2&size=2", "/users/1/orders?page=1&size=20", "/users/12/orders?page=1&size=2"] {
        assert!(!gateway.get(0, other).await?.cache_status().hit, "{other}");
    }
    Ok(())
}

#[tokio::test]
async fn the_environment_of_the_vm_decides_a_buckets_ttl() -> Result<()> {
    let stage = Stage::set().await?;
    let environment = vec![("CACHE_TTL_DEFAULT".to_owned(), "60".to_owned())];
    let mut gateway = Gateway::open(&rules(), EnvoyOptions { environment, ..stage.options()? }).await?;
    gateway.settled(&Request::get("/users/999")).await?;
    gateway.get(0, "/users/1").await?;
    let ttl = gateway.get(0, "/users/1").await?.cache_status().ttl;
    assert!(ttl.is_some_and(|ttl| (50..=60).contains(&ttl)), "{ttl:?}");
    Ok(())
}
