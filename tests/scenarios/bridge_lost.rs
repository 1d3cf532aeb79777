//! C4 and C11: without the bridge, requests are answered by the origin, in time.

use proxy_wasm_host_test::Request;

use super::stage::{Failure, ms, rules, settle, status, world};

#[test]
fn however_the_bridge_fails_requests_go_to_the_origin_within_its_timeout_and_it_recovers() {
    for failure in Failure::ALL {
        let (builder, _, bridge) = world(&rules());
        let mut world = builder.gateways(2).workers(2).build().expect("a world");
        settle(&mut world);
        bridge.fails(Some(failure));
        for user in 0..20 {
            let answer = world.get(&format!("/users/{user}"));
            assert_eq!((answer.status, answer.text().as_str()), (200, "v1"), "{failure:?}");
            assert!(answer.took() <= ms(50 + 30 + 10), "{failure:?}: {:?}", answer.took());
            world.run_for(ms(100));
        }
        bridge.fails(None);
        world.run_for(ms(1500));
        world.get("/users/new");
        assert_eq!(status(&world.get("/users/new")), "hit; detail=worker", "{failure:?}");
        world.run_until_idle();
        assert_eq!(status(&world.fetch(Request::get("/users/new").gateway(1))), "hit; detail=group", "{failure:?}");
    }
}

/// C4.
#[test]
fn a_gateway_that_does_not_hear_the_feed_stops_trusting_what_it_holds() {
    let (builder, _, bridge) = world(&rules());
    let mut world = builder.build().expect("a world");
    settle(&mut world);
    world.get("/users/7");
    bridge.fails(Some(Failure::NoConnection));
    assert_eq!(status(&world.get("/users/7")), "hit; detail=worker");
    world.run_for(ms(2000));
    assert_eq!(status(&world.get("/users/7")), "fwd=bypass; stored; detail=feed-lost");
    bridge.fails(None);
    world.run_for(ms(500));
    assert_eq!(status(&world.get("/users/7")), "hit; detail=worker");
}

/// `on_feed_loss: serve`: what was purged elsewhere meanwhile is seen when the feed is back.
#[test]
fn a_gateway_may_go_on_with_what_it_holds_until_the_feed_is_back() {
    let mut rules = rules();
    rules["consistency"]["on_feed_loss"] = "serve".into();
    let (builder, _, bridge) = world(&rules);
    let mut world = builder.gateways(2).build().expect("a world");
    settle(&mut world);
    world.get("/users/7");
    bridge.fails(Some(Failure::NoConnection));
    world.run_for(ms(5000));
    world.fetch(Request::put("/users/7").body("{}").gateway(1));
    let answer = world.get("/users/7");
    assert_eq!((status(&answer), answer.text()), ("hit; detail=worker".to_owned(), "v1".to_owned()));
    bridge.fails(None);
    world.run_for(ms(3000));
    assert_eq!(world.get("/users/7").text(), "v2");
}

#[test]
fn a_bridge_that_lost_its_memory_empties_every_gateway() {
    let (builder, _, bridge) = world(&rules());
    let mut world = builder.gateways(2).build().expect("a world");
    settle(&mut world);
    world.get("/users/7");
    world.run_until_idle();
    bridge.restart();
    world.run_for(ms(1500));
    assert_eq!(status(&world.get("/users/7")), "fwd=uri-miss; stored");
    world.run_until_idle();
    assert_eq!(status(&world.fetch(Request::get("/users/7").gateway(1))), "hit; detail=group");
}

#[test]
fn nothing_is_served_before_the_feed_was_heard_for_the_first_time() {
    let (builder, _, bridge) = world(&rules());
    bridge.fails(Some(Failure::Hangs));
    let mut world = builder.build().expect("a world");
    for _ in 0..3 {
        assert_eq!(status(&world.get("/users/7")), "fwd=bypass; stored; detail=feed-lost");
    }
}
