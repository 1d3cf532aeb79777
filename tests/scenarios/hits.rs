//! Where hits come from, and what they say.

use proxy_wasm_host_test::{Call, Request, Response, World};
use serde_json::json;

use super::stage::{get, ms, rules, settle, status, world};

#[test]
fn a_hit_comes_from_the_worker_else_the_gateway_else_the_group() {
    let (builder, _, _) = world(&rules());
    let mut world = builder.gateways(2).workers(2).build().expect("a world");
    settle(&mut world);
    assert_eq!(status(&get(&mut world, 0, "/users/7")), "fwd=uri-miss; stored");
    world.run_until_idle();
    assert_eq!(status(&get(&mut world, 0, "/users/7")), "hit; detail=worker");
    assert_eq!(status(&get(&mut world, 1, "/users/7")), "hit; detail=gateway");
    assert_eq!(status(&get(&mut world, 1, "/users/7")), "hit; detail=worker");
    let elsewhere =
        |world: &mut World, worker| status(&world.fetch(Request::get("/users/7").gateway(1).worker(worker)));
    assert_eq!(elsewhere(&mut world, 0), "hit; detail=group");
    assert_eq!(elsewhere(&mut world, 1), "hit; detail=gateway");
    assert_eq!(world.origin_requests().len(), 1);
}

#[test]
fn a_hit_is_the_origins_answer_with_its_age_and_what_is_left_of_its_ttl() {
    let (builder, _, _) = world(&rules());
    let mut world = builder.build().expect("a world");
    settle(&mut world);
    let miss = world.get("/users/7");
    world.advance(ms(13_500));
    let hit = world.get("/users/7");
    assert_eq!((hit.status, hit.text().as_str(), hit.header("content-type")), (200, "v1", miss.header("content-type")));
    assert_eq!(hit.header("cache-status"), Some("routecache; hit; ttl=286; detail=worker"));
    assert_eq!(hit.header("age"), Some("13"));
    assert!(hit.local_reply);
    assert_eq!(hit.details, "routecache_hit_worker");
    world.advance(ms(286_600));
    assert_eq!(status(&world.get("/users/7")), "fwd=stale; stored");
}

#[test]
fn an_entry_from_the_group_is_as_old_as_it_was_there() {
    let (builder, _, _) = world(&rules());
    let mut world = builder.gateways(2).build().expect("a world");
    settle(&mut world);
    world.get("/users/7");
    world.advance(ms(20_000));
    let hit = world.fetch(Request::get("/users/7").gateway(1));
    assert_eq!(status(&hit), "hit; detail=group");
    assert_eq!(hit.header("age"), Some("20"));
    world.advance(ms(280_500));
    assert_eq!(status(&world.fetch(Request::get("/users/7").gateway(1))), "fwd=stale; stored");
}

#[test]
fn a_head_is_answered_from_what_get_stored_and_stores_nothing() {
    let (builder, _, _) = world(&rules());
    let mut world = builder.build().expect("a world");
    settle(&mut world);
    assert_eq!(status(&world.fetch(Request::head("/users/7"))), "fwd=uri-miss");
    assert_eq!(status(&world.get("/users/7")), "fwd=uri-miss; stored");
    let head = world.fetch(Request::head("/users/7"));
    assert_eq!((status(&head).as_str(), head.text().as_str()), ("hit; detail=worker", ""));
    assert_eq!(head.header("content-length"), Some("2"));
}

#[test]
fn a_response_is_reused_only_for_the_selecting_fields_that_it_was_made_for() {
    let (builder, _, _) = world(&rules());
    let origin = |call: &Call| {
        let language = call.header("accept-language").unwrap_or("none").to_owned();
        Response::ok(language).header("vary", "Accept-Language")
    };
    let mut world = builder.origin(origin).build().expect("a world");
    settle(&mut world);
    let ask = |world: &mut World, language| {
        let answer = world.fetch(Request::get("/users/7").header("accept-language", language));
        assert_eq!(answer.text(), language);
        status(&answer)
    };
    assert_eq!(ask(&mut world, "de"), "fwd=uri-miss; stored");
    assert_eq!(ask(&mut world, "de"), "hit; detail=worker");
    assert_eq!(ask(&mut world, "fr"), "fwd=vary-miss; stored");
    assert_eq!(ask(&mut world, "fr"), "hit; detail=worker");
}

#[test]
fn a_request_that_no_rule_speaks_of_passes_untouched() {
    let (builder, _, _) = world(&rules());
    let mut world = builder.build().expect("a world");
    settle(&mut world);
    for _ in 0..2 {
        let answer = world.get("/other");
        assert_eq!((answer.status, status(&answer).as_str()), (200, "none"));
    }
    assert_eq!(world.origin_requests().len(), 2);
}

/// C9: what is too long for one gateway is a miss there, and the others' to keep; what is no entry goes.
#[test]
fn a_gateway_leaves_in_the_group_what_only_others_take() {
    for seals in [false, true] {
        let mut rules = rules();
        rules["limits"] = json!({ "l1_bytes": "4MiB", "body_bytes_max": "512KiB" });
        if seals {
            rules["bridge"]["seal"] = json!({ "env": ["SEAL"] });
        }
        let (builder, _, bridge) = world(&rules);
        let origin = |_: &Call| Response::ok("x".repeat(300 << 10)).after(ms(30));
        let builder = builder.gateways(3).origin(origin).env("SEAL", &"5e".repeat(32));
        let mut world = builder.build().expect("a world");
        settle(&mut world);
        rules["limits"]["body_bytes_max"] = json!("1KiB");
        world.reconfigure_gateway(1, rules.to_string().as_bytes()).expect("good rules");
        settle(&mut world);
        let ask = |world: &mut World, gateway: usize, path: &str| {
            let answer = world.fetch(Request::get(path).gateway(gateway));
            world.run_for(ms(20));
            status(&answer)
        };
        assert_eq!(ask(&mut world, 0, "/users/7"), "fwd=uri-miss; stored");
        assert_eq!(ask(&mut world, 1, "/users/7"), "fwd=uri-miss; detail=too-large");
        assert_eq!(ask(&mut world, 2, "/users/7"), "hit; detail=group", "sealed: {seals}");
        // As long, and nobody's.
        assert_eq!(ask(&mut world, 0, "/users/8"), "fwd=uri-miss; stored");
        let (request, payload) = bridge.last_stored();
        bridge.put(&world, &request, &[payload, vec![b'x'; 9]].concat());
        assert_eq!(ask(&mut world, 1, "/users/8"), "fwd=uri-miss; detail=too-large");
        assert!(bridge.holds(&world, &request).is_empty());
    }
}
