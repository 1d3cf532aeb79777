//! Soft purges: what they name is stale, and serves as long as what is stale may.

use proxy_wasm_host_test::{Answer, Reply, Request, Response, World};
use serde_json::{Value, json};

use super::stage::{Bridge, Failure, Versions, ms, rules, rules_alone, settle, status, world};

/// A write to a user makes the user's orders stale, which serve for ten seconds while they are asked about.
fn softly(mut rules: Value) -> Value {
    rules["routes"][1]["cache"]["stale_while_revalidate"] = json!("10s");
    rules["routes"][2]["purge"]["soft"] = json!(true);
    rules
}

fn stage(rules: &Value, gateways: usize) -> (World, Versions, Bridge) {
    let (builder, versions, bridge) = world(rules);
    let mut world = builder.gateways(gateways).workers(2).loopback("routecache-self").build().expect("a world");
    settle(&mut world);
    (world, versions, bridge)
}

fn orders(world: &mut World, gateway: usize, worker: usize) -> Answer {
    world.fetch(Request::get("/users/7/orders").gateway(gateway).worker(worker))
}

/// Lets refreshes end.
fn rest(world: &mut World) {
    world.run_for(ms(200));
}

#[test]
fn what_a_write_purges_softly_serves_once_more_on_each_gateway_while_it_is_asked_about() {
    for (rules, gateways) in [(softly(rules()), 2), (softly(rules_alone()), 1)] {
        let (mut world, ..) = stage(&rules, gateways);
        for gateway in 0..gateways {
            orders(&mut world, gateway, 0);
            orders(&mut world, gateway, 1);
            rest(&mut world);
        }
        let write = world.fetch(Request::put("/users/7").body("x"));
        assert_eq!(status(&write), "fwd=method; detail=purged");
        world.run_for(ms(50));
        for gateway in 0..gateways {
            let stale = orders(&mut world, gateway, 0);
            assert_eq!((stale.text().as_str(), status(&stale).as_str()), ("v1", "hit; detail=worker"), "{gateway}");
            assert!(stale.header("cache-status").is_some_and(|told| told.contains("ttl=0") || told.contains("ttl=-")));
            rest(&mut world);
            assert_eq!(orders(&mut world, gateway, 0).text(), "v2", "{gateway}");
            assert_eq!(orders(&mut world, gateway, 1).text(), "v2", "{gateway}");
        }
    }
}

/// RFC 9111 §4.4.
#[test]
fn what_answers_the_writes_own_url_is_gone_all_the_same() {
    let mut rules = softly(rules());
    rules["routes"][0]["cache"]["stale_while_revalidate"] = json!("10s");
    let (mut world, ..) = stage(&rules, 1);
    world.get("/users/7");
    rest(&mut world);
    world.fetch(Request::put("/users/7").body("x"));
    assert_eq!(world.get("/users/7").text(), "v2");
}

/// I7: the window counts from when the gateway hears of the first soft purge, which it does within its consistency window.
#[test]
fn past_its_window_nothing_that_was_purged_softly_is_served() {
    for (second_ms, asked_ms, served) in [(0, 9_900, "v1"), (0, 10_500, "v2"), (6_000, 10_500, "v2")] {
        let (mut world, versions, bridge) = stage(&softly(rules()), 2);
        orders(&mut world, 0, 0);
        orders(&mut world, 1, 0);
        rest(&mut world);
        versions.write("/users/7");
        bridge.purge_softly(&world, "user:7");
        world.run_for(ms(second_ms));
        if second_ms > 0 {
            bridge.purge_softly(&world, "user:7");
        }
        world.run_for(ms(asked_ms - second_ms));
        assert_eq!(orders(&mut world, 1, 0).text(), served, "{second_ms} {asked_ms}");
    }
}

/// I7: the way in which a gateway learns of it doesn't lengthen the window.
#[test]
fn a_gateway_that_was_cut_off_counts_from_when_it_should_have_heard() {
    for (asked_ms, served) in [(9_500, "v1"), (11_100, "v2")] {
        let (mut world, versions, bridge) = stage(&softly(rules()), 2);
        orders(&mut world, 0, 0);
        orders(&mut world, 1, 0);
        rest(&mut world);
        bridge.fails(Some(Failure::Refused));
        world.run_for(ms(300)); // the poll that is held ends
        versions.write("/users/7");
        bridge.purge_softly(&world, "user:7");
        world.run_for(ms(5_000));
        bridge.fails(None);
        world.run_for(ms(asked_ms - 5_000));
        assert_eq!(orders(&mut world, 1, 0).text(), served, "after {asked_ms} ms");
    }
}

#[test]
fn a_purge_after_a_soft_one_voids_what_is_stale() {
    let (mut world, versions, bridge) = stage(&softly(rules()), 2);
    orders(&mut world, 0, 0);
    rest(&mut world);
    versions.write("/users/7");
    bridge.purge_softly(&world, "user:7");
    world.run_for(ms(500));
    bridge.purge(&world, &["user:7"]);
    world.run_for(ms(500));
    assert_eq!(orders(&mut world, 0, 0).text(), "v2");
}

/// The group's entry is stale too: a gateway that holds none gets it, and asks about it.
#[test]
fn a_gateway_that_gets_it_from_the_group_knows_since_when_it_is_stale() {
    for (asked_ms, served) in [(5_000, "v1"), (10_100, "v2")] {
        let (mut world, versions, bridge) = stage(&softly(rules()), 2);
        orders(&mut world, 0, 0);
        rest(&mut world);
        versions.write("/users/7");
        bridge.purge_softly(&world, "user:7");
        world.run_for(ms(asked_ms));
        let answer = orders(&mut world, 1, 0);
        assert_eq!(answer.text(), served, "after {asked_ms} ms: {}", status(&answer));
        rest(&mut world);
        assert_eq!(orders(&mut world, 1, 0).text(), "v2");
    }
}

/// RFC 5861 §4.
#[test]
fn what_was_purged_softly_stands_in_for_an_origin_that_fails_within_its_window() {
    for (asked_ms, expected) in [(3_000, 200), (5_500, 503)] {
        let mut rules = rules_alone();
        rules["routes"][1]["cache"]["stale_if_error"] = json!("5s");
        rules["routes"][2]["purge"]["soft"] = json!(true);
        let (builder, versions, _) = world(&rules);
        let failing = std::rc::Rc::new(std::cell::Cell::new(false));
        let fails = std::rc::Rc::clone(&failing);
        let origin = move |call: &proxy_wasm_host_test::Call| -> Reply {
            if fails.get() { Response::new(503).body("later").into() } else { versions.answer(call).into() }
        };
        let mut world = builder.origin(origin).build().expect("a world");
        settle(&mut world);
        orders(&mut world, 0, 0);
        rest(&mut world);
        world.fetch(Request::put("/users/7").body("x"));
        failing.set(true);
        world.run_for(ms(asked_ms));
        assert_eq!(orders(&mut world, 0, 0).status, expected, "after {asked_ms} ms");
    }
}
