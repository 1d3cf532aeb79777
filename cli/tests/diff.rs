//! What `routecache diff` says of entries is what the shipped filter makes of them: a response is stored under the old rules, the gateway
//! gets the new ones, and the same request is a hit exactly where nothing was called unreachable.

mod support;

use std::fs;
use std::process::Command;

use proxy_wasm_host_test::{Request, Response, World};
use serde_json::{Value, json};
use support::filter;

fn rules(change: impl Fn(&mut Value)) -> Value {
    let mut rules = json!({
        "namespace": { "prefix": "shop", "version": "v1" },
        "limits": { "l1_bytes": "1MiB", "body_bytes_max": "64KiB" },
        "routes": [
            { "name": "user", "match": { "path": "/users/{id}" }, "cache": { "key": "user:{id}", "tags": ["user:{id}"], "ttl": "5m" } },
            { "name": "write", "match": { "path": "/users/{id}" }, "purge": { "tags": ["user:{id}"] } }
        ]
    });
    change(&mut rules);
    rules
}

/// Whether anything stored becomes unreachable, by the command.
fn is_lost(old: &Value, new: &Value) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (folder.path().join("old.json"), folder.path().join("new.json"));
    fs::write(&before, old.to_string()).unwrap();
    fs::write(&after, new.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_routecache"));
    let output = command.args(["diff", "--format", "json"]).args([&before, &after]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    told["changes"].as_array().unwrap().iter().any(|change| change["effect"] == "unreachable")
}

/// Whether the filter still answers from what it stored under the old rules.
fn is_kept(old: &Value, new: &Value) -> bool {
    let builder = World::builder().filter(filter()).configuration(old.to_string()).workers(1);
    let mut world = builder.origin(|_| Response::ok("body")).build().unwrap();
    for status in ["fwd=uri-miss; stored", "hit"] {
        let answer = world.fetch(Request::get("/users/1").host("example.com"));
        assert!(answer.header("cache-status").unwrap().contains(status), "{answer:?}");
    }
    world.reconfigure(new.to_string()).unwrap();
    let answer = world.fetch(Request::get("/users/1").host("example.com"));
    answer.header("cache-status").is_some_and(|status| status.contains("; hit"))
}

#[test]
fn what_is_called_unreachable_is_missed_and_everything_else_is_hit() {
    let old = rules(|_| ());
    let cache =
        |field: &'static str, value: Value| rules(move |rules| rules["routes"][0]["cache"][field] = value.clone());
    for (new, kept) in [
        (rules(|_| ()), true),
        (cache("ttl", json!("1h")), true),
        (cache("stale_if_error", json!("1h")), true),
        (cache("client_cache_control", json!("no-cache")), true),
        (cache("range_miss", json!("whole")), true),
        (cache("key", json!("u:{id}")), false),
        (cache("tags", json!(["user:{id}", "users"])), false),
        (cache("query", json!({ "include": ["page"] })), false),
        (cache("vary", json!(["x-tenant"])), false),
        (cache("cookies", json!("ignore")), false),
        (cache("no_vary_search", json!("respect")), false),
        (cache("origin_cache_control", json!("override")), false),
        (cache("identity", json!({ "header": "x-user" })), false),
        (rules(|rules| rules["namespace"]["version"] = json!("v2")), false),
        (rules(|rules| rules["routes"][0]["name"] = json!("users")), false),
        (rules(|rules| rules["routes"][0]["match"]["host"] = json!("example.com")), false),
        (rules(|rules| rules["limits"]["body_bytes_max"] = json!("32KiB")), true),
        (rules(|rules| rules["routes"][1]["purge"]["tags"] = json!(["x"])), true),
    ] {
        assert_eq!(is_kept(&old, &new), kept, "{new:#}");
        assert_eq!(!is_lost(&old, &new), kept, "{new:#}");
    }
}
