//! What teams had of their application's cache library and expect of a gateway: the rows that `docs/from-decorators.md` shows with
//! nothing else, in host-test. `envoy/table_rows.rs` has the same in a real Envoy.

use proxy_wasm_host_test::{Call, Request, Response, World};
use serde_json::{Value, json};

use super::stage::{Bridge, get, ms, rules_alone, settle, status, world};

const MISS: &str = "fwd=uri-miss; stored";
const HIT: &str = "hit; detail=worker";

/// One gateway on its own, with these rules and an origin that counts up.
fn stage(routes: &Value) -> World {
    let mut rules = rules_alone();
    rules["routes"] = routes.clone();
    let mut count = 0;
    let origin = move |_: &Call| {
        count += 1;
        Response::ok(format!("v{count}"))
    };
    let mut world = world(&rules).0.loopback("routecache-self").origin(origin).build().expect("a world");
    settle(&mut world);
    world
}

fn ask(world: &mut World, path: &str) -> String {
    let told = status(&get(world, 0, path));
    world.run_until_idle();
    told
}

#[test]
fn a_key_may_be_a_list_and_formats_what_it_holds() {
    let key = json!(["user", "{id|lower}", "{query.fields|sort|hash|default(all)}", "{query.page|int|default(1)}"]);
    let mut world = stage(&json!([
        { "name": "user", "match": { "path": "/users/{id}" }, "cache": { "key": key, "tags": ["users"], "query": { "include": [] } } }
    ]));
    assert_eq!(ask(&mut world, "/users/Ada?fields=name,age"), MISS);
    for same in ["/users/ada?fields=age,name", "/users/ADA?page=01&fields=name,age&utm_source=mail"] {
        assert_eq!(ask(&mut world, same), HIT, "{same}");
    }
    for other in
        ["/users/ada", "/users/ada?fields=name", "/users/ada?fields=age,name&page=2", "/users/bob?fields=age,name"]
    {
        assert_eq!(ask(&mut world, other), MISS, "{other}");
    }
}

#[test]
fn one_read_rule_and_one_write_rule_suffice_and_a_write_for_12_leaves_123() {
    let mut world = stage(&json!([
        { "name": "user", "match": { "path": "/users/{id}" }, "cache": { "key": "user:{id}" } },
        { "name": "write", "match": { "path": "/users/{id}" }, "purge": { "tags": ["user:{id}"] } }
    ]));
    let users = ["/users/12", "/users/123", "/users/1"];
    for user in users {
        assert_eq!(ask(&mut world, user), MISS);
    }
    assert_eq!(status(&world.fetch(Request::put("/users/12").body("x"))), "fwd=method; detail=purged");
    assert_eq!(users.map(|user| ask(&mut world, user)), [MISS, HIT, HIT]);
}

#[test]
fn the_environment_of_the_vm_decides_a_buckets_ttl() {
    let mut rules = rules_alone();
    rules["routes"] = json!([
        { "name": "short", "match": { "path": "/short" }, "cache": { "ttl": "short" } },
        { "name": "default", "match": { "path": "/default" }, "cache": {} },
        { "name": "long", "match": { "path": "/long" }, "cache": { "ttl": "long" } }
    ]);
    let (builder, _, _) = world(&rules);
    let builder = builder.env("CACHE_TTL_SHORT", "7").env("CACHE_TTL_LONG", "2h").origin(|_: &Call| Response::ok("x"));
    let mut world = builder.build().expect("a world");
    for (path, ttl) in [("/short", "ttl=7"), ("/default", "ttl=300"), ("/long", "ttl=7200")] {
        get(&mut world, 0, path);
        world.run_until_idle();
        let hit = get(&mut world, 0, path);
        assert!(hit.header("cache-status").is_some_and(|status| status.contains(ttl)), "{path}: {hit:?}");
    }
}

#[test]
fn what_is_read_again_takes_renamed_and_further_values() {
    let mut world = stage(&json!([
        { "name": "list", "match": { "path": "/shops/{shop}/orders/{kind}" }, "cache": { "tags": ["shop:{shop}"] } },
        {
            "name": "order",
            "match": { "path": "/orders/{from}" },
            "purge": { "tags": ["shop:{from}"] },
            "recache": [{ "route": "list", "rename": { "from": "shop" }, "set": { "kind": "open", "query.page": 1 } }]
        }
    ]));
    world.fetch(Request::post("/orders/7").body("x"));
    world.run_until_idle();
    assert_eq!(ask(&mut world, "/shops/7/orders/open?page=1"), HIT);
    assert_eq!(ask(&mut world, "/shops/8/orders/open?page=1"), MISS);
}

#[test]
fn a_tag_reaches_what_lives_longer_than_others_that_carry_it() {
    let mut world = stage(&json!([
        { "name": "short", "match": { "path": "/short" }, "cache": { "ttl": "1s", "tags": ["a"] } },
        { "name": "long", "match": { "path": "/long" }, "cache": { "ttl": "1h", "tags": ["a"] } },
        { "name": "write", "match": { "path": "/write" }, "purge": { "tags": ["a"] } }
    ]));
    ask(&mut world, "/long");
    ask(&mut world, "/short");
    world.run_for(ms(60_000));
    assert_eq!(ask(&mut world, "/long"), HIT);
    world.fetch(Request::post("/write"));
    assert_eq!(ask(&mut world, "/long"), MISS);
}

/// Two gateways of this namespace beside others at the same bridge, with a resource.
fn neighbour(prefix: &str, bridge: &Bridge) -> World {
    let rules = json!({
        "namespace": { "prefix": prefix, "version": "v1" },
        "bridge": { "cluster": "routecache-bridge" },
        "limits": { "l1_bytes": "1MiB", "body_bytes_max": "64KiB" },
        "resources": { "user": {
            "id": "id",
            "reads": { "profile": { "path": "/users/{id}" } },
            "writes": [{ "methods": ["PUT"], "path": "/users/{id}" }]
        } }
    });
    let builder = world(&rules).0.cluster("routecache-bridge", bridge.clone());
    let mut world = builder.gateways(2).build().expect("a world");
    settle(&mut world);
    world
}

#[test]
fn keys_and_tags_of_resources_stay_in_their_namespace() {
    let bridge = Bridge::default();
    let (mut shop, mut bank) = (neighbour("shop", &bridge), neighbour("bank", &bridge));
    let there = |world: &mut World, gateway| {
        let told = status(&world.fetch(Request::get("/users/7").gateway(gateway)));
        world.run_until_idle();
        told
    };
    assert_eq!(there(&mut shop, 0), MISS);
    assert_eq!(there(&mut shop, 1), "hit; detail=group");
    assert_eq!(there(&mut bank, 0), MISS, "another namespace's entry isn't its own");
    assert_eq!(status(&bank.fetch(Request::put("/users/7").body("x"))), "fwd=method; detail=purged");
    bank.run_for(ms(2000));
    shop.run_for(ms(2000));
    assert!(there(&mut shop, 0).starts_with("hit"), "another namespace's purge isn't its own");
    assert_eq!(there(&mut bank, 1), MISS);
}
