//! Several filters in one Envoy, which share its VMs and what those hold.

use routecache_config::render::{self, EnvoyOptions};
use routecache_harness::{Client, Connection, Error, Port, Request, Result};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::stage::{Gateway, Stage, WINDOW, rules};

/// The listeners of a configuration.
fn listeners(yaml: &str) -> &str {
    let rest = yaml.split_once("\n  listeners:\n").map_or("", |(_, rest)| rest);
    rest.split_once("\n\n  clusters:\n").map_or("", |(listeners, _)| listeners)
}

/// The same with another VM id.
fn with_vm_id(yaml: &str, vm_id: &str) -> String {
    let line = |line: &str| match line.split_once("vm_id: ") {
        Some((before, _)) => format!("{before}vm_id: {vm_id:?}\n"),
        None => format!("{line}\n"),
    };
    yaml.lines().map(line).collect()
}

/// One Envoy whose first listener has [`rules`], and two others with these.
async fn envoy(stage: &Stage, others: [&Value; 2], vm_id: &str) -> Result<(Gateway, [Connection; 2], [Port; 2])> {
    let ports = [Port::claim()?, Port::claim()?];
    let mut more = String::new();
    for (number, (rules, port)) in others.into_iter().zip(&ports).enumerate() {
        let yaml = render::envoy(rules, &EnvoyOptions { listen: port.address(), ..stage.options()? });
        more += &format!("\n\n{}", listeners(&yaml).replace("name: ingress", &format!("name: other-{number}")));
    }
    let options = stage.options()?;
    let gateway = Gateway::open_changed(&rules(), options, |yaml| {
        let ours = listeners(&yaml);
        with_vm_id(&yaml.replace(ours, &format!("{ours}{more}")), vm_id)
    })
    .await?;
    gateway.settled(&Request::get("/users/999")).await?;
    let connect = async |port: &Port| -> Result<Connection> {
        let client = Client::new(port.address());
        while client.get("/users/999").await?.cache_status().detail.as_deref() == Some("feed-lost") {}
        client.connect().await
    };
    let connections = [connect(&ports[0]).await?, connect(&ports[1]).await?];
    Ok((gateway, connections, ports))
}

/// Filters of one VM id, of Istio's empty one too: with one namespace they share entries and purges, though their rules differ;
/// with another one they share nothing.
#[tokio::test]
async fn filters_of_one_namespace_share_entries_and_purges_and_others_nothing() -> Result<()> {
    for vm_id in ["", "any"] {
        let stage = Stage::set().await?;
        let (mut more, mut apart) = (rules(), rules());
        let route =
            json!({ "name": "things", "match": { "path": "/things" }, "cache": { "key": "things", "ttl": "1m" } });
        more["routes"].as_array_mut().ok_or_else(|| Error::Unexpected("no routes".into()))?.push(route);
        apart["namespace"]["version"] = json!("v10"); // begins with the other's
        let (mut one, [mut same, mut other], _ports) = envoy(&stage, [&more, &apart], vm_id).await?;

        let first = one.get(0, "/users/1").await?;
        let shared = same.get("/users/1").await?;
        let detail = shared.cache_status().detail.unwrap_or_default();
        assert!(shared.cache_status().hit && ["worker", "gateway"].contains(&detail.as_str()), "{vm_id:?} {detail}");
        assert_eq!(other.get("/users/1").await?.header("cache-status"), "routecache; fwd=uri-miss; stored");

        let write = other.send(Request::put("/users/1", &json!({ "name": "Ada" }))).await?;
        assert_eq!(write.cache_status().detail.as_deref(), Some("purged"));
        assert_ne!(other.get("/users/1").await?.json()["version"], first.json()["version"]);
        for worker in [0, 1] {
            let kept = one.get(worker, "/users/1").await?;
            assert_eq!(
                (kept.cache_status().hit, &kept.json()["version"]),
                (true, &first.json()["version"]),
                "{vm_id:?}"
            );
        }

        let write = same.send(Request::put("/users/1", &json!({ "name": "Augusta" }))).await?;
        assert_eq!(write.cache_status().detail.as_deref(), Some("purged"));
        let now = one.get(0, "/users/1").await?;
        assert!(!now.cache_status().hit, "{vm_id:?}: {}", now.header("cache-status"));
        for worker in [0, 1] {
            assert_eq!(one.get(worker, "/users/1").await?.json()["version"], now.json()["version"], "{vm_id:?}");
        }
        assert_eq!(same.get("/users/1").await?.json()["version"], now.json()["version"], "{vm_id:?}");
    }
    Ok(())
}

/// One namespace under two VM ids is two gateways in one process: neither sees the other's shared data, and each hears of the other's
/// purges through the bridge.
#[tokio::test]
async fn filters_of_one_namespace_under_two_vm_ids_hear_of_each_others_purges_through_the_bridge() -> Result<()> {
    let stage = Stage::set().await?;
    let port = Port::claim()?;
    let yaml = render::envoy(&rules(), &EnvoyOptions { listen: port.address(), ..stage.options()? });
    let apart = with_vm_id(&listeners(&yaml).replace("name: ingress", "name: other"), "two");
    let mut one = Gateway::open_changed(&rules(), stage.options()?, |yaml| {
        let ours = listeners(&yaml);
        yaml.replace(ours, &format!("{}\n{apart}", with_vm_id(ours, "one").trim_end()))
    })
    .await?;
    one.settled(&Request::get("/users/999")).await?;
    let client = Client::new(port.address());
    while client.get("/users/999").await?.cache_status().detail.as_deref() == Some("feed-lost") {}
    let mut two = client.connect().await?;

    let first = one.get(0, "/users/1").await?.json();
    // What the one has stored reaches the other by the group, or not at all.
    let there = two.get("/users/1").await?.cache_status();
    assert!(!there.hit || there.detail.as_deref() == Some("group"), "{there:?}");
    for (writes, name) in [(0, "Ada"), (1, "Augusta")] {
        for worker in [0, 1, 0, 1] {
            one.get(worker, "/users/1").await?;
            two.get("/users/1").await?;
        }
        let write = Request::put("/users/1", &json!({ "name": name }));
        let write = if writes == 0 { one.send(0, write).await? } else { two.send(write).await? };
        assert_eq!(write.cache_status().detail.as_deref(), Some("purged"));
        let now = write.json()["version"].clone();
        assert_ne!(now, first["version"]);
        sleep(WINDOW).await;
        for worker in [0, 1] {
            assert_eq!(one.get(worker, "/users/1").await?.json()["version"], now, "written by {writes}");
        }
        for _ in 0..2 {
            assert_eq!(client.get("/users/1").await?.json()["version"], now, "written by {writes}");
            assert_eq!(two.get("/users/1").await?.json()["version"], now, "written by {writes}");
        }
    }
    // Two logs, and two that are listened to.
    let heard = stage.redis.tell("HLEN routecache:{shop:v1}:gateways").await?;
    assert_eq!(heard, "3", "two that poll, and since when that has been noted");
    Ok(())
}
