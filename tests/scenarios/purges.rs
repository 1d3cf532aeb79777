//! What a write does: C1 to C5.

use std::cell::Cell;
use std::rc::Rc;

use proxy_wasm_host_test::{Call, Reply, Request, Response, World};

use super::stage::{Failure, get, ms, rules, rules_alone, settle, status, world};

/// Reads a user and the user's orders into every tier of every worker.
fn warm(world: &mut World, gateways: usize, workers: usize) {
    for path in ["/users/7", "/users/7/orders", "/users/8"] {
        for gateway in 0..gateways {
            for worker in 0..workers {
                world.fetch(Request::get(path).gateway(gateway).worker(worker));
                world.run_until_idle();
            }
        }
    }
}

#[test]
fn a_write_purges_its_tags_on_every_worker_before_its_response_is_released_and_nothing_else() {
    for rules in [rules(), rules_alone()] {
        let (builder, _, _) = world(&rules);
        let mut world = builder.workers(3).build().expect("a world");
        settle(&mut world);
        warm(&mut world, 1, 3);
        let write = world.fetch(Request::put("/users/7").body("x"));
        assert_eq!(status(&write), "fwd=method; detail=purged");
        for worker in 0..3 {
            assert_eq!(get(&mut world, worker, "/users/7").text(), "v2", "worker {worker}");
            assert_eq!(get(&mut world, worker, "/users/7/orders").text(), "v2", "worker {worker}");
            assert_eq!(status(&get(&mut world, worker, "/users/8")), "hit; detail=worker", "worker {worker}");
        }
    }
}

/// C3.
#[test]
fn another_gateway_drops_what_was_purged_within_the_window() {
    let (builder, _, _) = world(&rules());
    let mut world = builder.gateways(2).workers(2).build().expect("a world");
    settle(&mut world);
    warm(&mut world, 2, 2);
    world.fetch(Request::put("/users/7").body("x"));
    world.run_for(ms(50));
    for worker in 0..2 {
        let there = |world: &mut World, path| world.fetch(Request::get(path).gateway(1).worker(worker));
        assert_eq!(there(&mut world, "/users/7").text(), "v2");
        assert_eq!(there(&mut world, "/users/7/orders").text(), "v2");
        assert_eq!(status(&there(&mut world, "/users/8")), "hit; detail=worker");
    }
}

/// `purge.acknowledge: group`: C3 without its window.
#[test]
fn a_write_may_wait_until_every_gateway_has_heard_of_its_purge() {
    let mut rules = rules();
    rules["purge"] = serde_json::json!({ "acknowledge": "group" });
    let (builder, _, _) = world(&rules);
    let mut world = builder.gateways(3).workers(2).build().expect("a world");
    world.run_for(ms(2000)); // from here on the bridge knows all who poll
    warm(&mut world, 3, 2);
    let write = world.fetch(Request::put("/users/7").body("x"));
    assert_eq!(status(&write), "fwd=method; detail=purged");
    assert!(write.took() < ms(200), "{:?}", write.took());
    for (gateway, worker) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)] {
        let there = |world: &mut World, path| world.fetch(Request::get(path).gateway(gateway).worker(worker));
        assert_eq!(there(&mut world, "/users/7").text(), "v2", "{gateway}.{worker}");
        assert_eq!(status(&there(&mut world, "/users/8")), "hit; detail=worker", "{gateway}.{worker}");
    }
}

/// A gateway that doesn't come back stops trusting what it holds, and isn't waited for any longer than that.
#[test]
fn a_gateway_that_is_gone_holds_a_write_for_the_window_at_most() {
    for (timeout, told) in [(None, "purged"), (Some("200ms"), "purge-pending")] {
        let mut rules = rules();
        rules["purge"] = serde_json::json!({ "acknowledge": "group" });
        if let Some(timeout) = timeout {
            rules["purge"]["timeout"] = serde_json::json!(timeout);
        }
        let (builder, _, _) = world(&rules);
        let mut world = builder.gateways(2).build().expect("a world");
        world.run_for(ms(2000));
        warm(&mut world, 2, 1);
        world.restart_gateway(1); // it has another name now, and the old one never polls again
        let write = world.fetch(Request::put("/users/7").body("x"));
        assert_eq!(status(&write), format!("fwd=method; detail={told}"));
        let (least, most) = if timeout.is_some() { (ms(100), ms(250)) } else { (ms(500), ms(1100)) };
        assert!(write.took() > least && write.took() < most, "{told} after {:?}", write.took());
        world.run_for(ms(2000));
        let next = world.fetch(Request::put("/users/7").body("x"));
        assert_eq!(status(&next), "fwd=method; detail=purged");
        assert!(next.took() < ms(200), "{:?}", next.took());
        assert_eq!(world.fetch(Request::get("/users/7").gateway(1)).text(), "v3");
    }
}

/// With Envoy's `allow_on_headers_stop_iteration` the body of a response comes while its header is held, and must wait as well.
#[test]
fn the_response_to_a_write_is_held_however_the_host_shows_its_body() {
    for shown in [false, true] {
        let (builder, _, _) = world(&rules());
        let mut world = builder.body_callbacks_while_headers_paused(shown).build().expect("a world");
        settle(&mut world);
        let write = world.fetch(Request::put("/users/7").body("x"));
        assert_eq!(status(&write), "fwd=method; detail=purged", "{shown}");
        assert_eq!(write.text(), "v2");
        let (asked, released) = (world.callouts().last().expect("a purge").at, world.now());
        assert!(released >= asked + ms(1), "the bridge needs a millisecond");
    }
}

#[test]
fn a_write_that_failed_purges_nothing() {
    for error in [400, 404, 409, 500, 503] {
        let (builder, versions, _) = world(&rules());
        let origin = move |call: &Call| match call.method() {
            "GET" => versions.answer(call),
            _ => Response::new(error),
        };
        let mut world = builder.origin(origin).build().expect("a world");
        settle(&mut world);
        world.get("/users/7");
        assert_eq!(status(&world.fetch(Request::put("/users/7").body("x"))), "fwd=method");
        assert_eq!(status(&world.get("/users/7")), "hit; detail=worker", "{error}");
    }
}

/// C1: the ticket is taken when the fill begins.
#[test]
fn a_fill_that_began_before_a_purge_is_never_served_after_it() {
    let (builder, versions, _) = world(&rules());
    let slow = Rc::new(Cell::new(true));
    let origin_slow = Rc::clone(&slow);
    let origin = move |call: &Call| {
        let answer = versions.answer(call);
        // A read that was asked for early is answered late, with what was true when it was asked for.
        if call.method() == "GET" && origin_slow.replace(false) { answer.after(ms(5000)) } else { answer.after(ms(30)) }
    };
    let mut world = builder.gateways(2).workers(2).origin(origin).build().expect("a world");
    settle(&mut world);
    let early = world.send(Request::get("/users/7"));
    world.run_for(ms(1000));
    world.fetch(Request::put("/users/7").body("x"));
    world.run_until_idle();
    assert_eq!(world.answer(early).text(), "v1", "it began before the write");
    for gateway in 0..2 {
        for worker in 0..2 {
            let answer = world.fetch(Request::get("/users/7").gateway(gateway).worker(worker));
            assert_eq!(answer.text(), "v2", "gateway {gateway}, worker {worker}: {}", status(&answer));
        }
    }
}

/// C5.
#[test]
fn a_purge_that_the_group_does_not_acknowledge_is_pending_and_sent_until_it_does() {
    for failure in Failure::ALL {
        let (builder, _, bridge) = world(&rules());
        let mut world = builder.gateways(2).build().expect("a world");
        settle(&mut world);
        warm(&mut world, 2, 1);
        bridge.fails(Some(failure));
        let write = world.fetch(Request::put("/users/7").body("x"));
        assert_eq!(status(&write), "fwd=method; detail=purge-pending", "{failure:?}");
        assert!(write.took() <= ms(30 + 250 + 10), "{failure:?}: held for {:?}", write.took());
        assert_eq!(world.get("/users/7").text(), "v2", "{failure:?}");
        // The other gateway still serves what it has until it stops trusting it; that is C4.
        world.run_for(ms(3000));
        bridge.fails(None);
        world.run_for(ms(2500));
        let there = world.fetch(Request::get("/users/7").gateway(1));
        assert_eq!(there.text(), "v2", "{failure:?}: {}", status(&there));
        let other = world.fetch(Request::get("/users/8").gateway(1));
        assert!(status(&other).starts_with("hit"), "{failure:?}: other entries stay: {}", status(&other));
    }
}

/// An outage fills no disk: what goes on and on is told once a minute, and counted each time.
#[test]
fn purges_that_stay_pending_are_told_once_a_minute_and_counted_each_time() {
    let (builder, _, bridge) = world(&rules());
    let mut world = builder.workers(2).build().expect("a world");
    settle(&mut world);
    bridge.fails(Some(Failure::NoConnection));
    for user in 0..10 {
        world.fetch(Request::put(&format!("/users/{user}")).body("x"));
    }
    world.run_for(ms(180_000));
    let told = world.log_text().matches("the bridge hasn't acknowledged a purge").count();
    assert!((3..=3 * 4).contains(&told), "of two workers and the main thread, in three minutes: {told}");
    assert!(world.metric("routecache_purges_unacknowledged") > 10 * 100);
    bridge.fails(None);
    world.run_for(ms(10_000));
    let before = world.metric("routecache_purges_unacknowledged");
    world.run_for(ms(10_000));
    assert_eq!(world.metric("routecache_purges_unacknowledged"), before, "all of them are acknowledged");
}

#[test]
fn a_write_whose_client_left_before_the_answer_purges_all_the_same() {
    let (builder, _, _) = world(&rules());
    let mut world = builder.gateways(2).build().expect("a world");
    settle(&mut world);
    warm(&mut world, 2, 1);
    let write = world.send(Request::put("/users/7").body("x"));
    world.run_for(ms(10));
    world.client_disconnects(write);
    world.run_for(ms(500));
    for gateway in 0..2 {
        assert_eq!(world.fetch(Request::get("/users/7").gateway(gateway)).text(), "v2", "gateway {gateway}");
    }
}

#[test]
fn a_client_that_leaves_while_its_write_is_held_stops_nothing() {
    let (builder, _, bridge) = world(&rules());
    let mut world = builder.build().expect("a world");
    settle(&mut world);
    world.get("/users/7");
    bridge.fails(Some(Failure::Hangs));
    let write = world.send(Request::put("/users/7").body("x"));
    world.run_for(ms(100));
    world.client_disconnects(write);
    world.run_for(ms(3000));
    bridge.fails(None);
    world.run_for(ms(1500));
    assert_eq!(world.get("/users/7").text(), "v2");
}

/// The simulation found it: the gateway's own 503 was taken for the origin's. The same of its 504, when the route's time is over.
#[test]
fn a_write_whose_outcome_nobody_saw_purges_since_it_may_have_happened() {
    for (how, told) in [("the connection broke", 503), ("it took too long", 504)] {
        let (builder, versions, _) = world(&rules());
        let origin = move |call: &Call| match call.method() {
            "PUT" => {
                versions.answer(call);
                if told == 504 { Reply::hang() } else { Reply::reset() }
            }
            _ => versions.answer(call).into(),
        };
        let mut world = builder.gateways(2).origin(origin).build().expect("a world");
        settle(&mut world);
        warm(&mut world, 2, 1);
        let write = world.fetch(Request::put("/users/7").body("x"));
        assert_eq!((write.status, status(&write).as_str()), (told, "fwd=method; detail=purged"), "{how}");
        world.run_for(ms(50));
        for gateway in 0..2 {
            assert_eq!(world.fetch(Request::get("/users/7").gateway(gateway)).text(), "v2", "{how}");
        }
    }
}

/// What only the request or the response could have said is taken for anything.
#[test]
fn a_write_whose_outcome_nobody_saw_purges_all_that_it_may_mean() {
    let mut rules = rules();
    rules["routes"][2]["purge"]["tags"] =
        serde_json::json!([{ "json": "/changed/*", "as": "user:{}" }, { "header": "x-also", "as": "user:{}" }]);
    for leaves in [false, true] {
        let (builder, versions, _) = world(&rules);
        let origin = move |call: &Call| match call.method() {
            "PUT" => Reply::hang(),
            _ => versions.answer(call).into(),
        };
        let mut world = builder.gateways(2).origin(origin).build().expect("a world");
        settle(&mut world);
        warm(&mut world, 2, 1);
        let write = world.send(Request::put("/users/9").body("x"));
        world.run_for(ms(10));
        if leaves {
            world.client_disconnects(write);
            world.run_for(ms(500));
        } else {
            world.run_until_idle();
            assert_eq!(world.answer(write).status, 504);
        }
        for path in ["/users/7", "/users/7/orders", "/users/8"] {
            for gateway in 0..2 {
                let answer = world.fetch(Request::get(path).gateway(gateway));
                let miss = if gateway == 0 { "fwd=uri-miss; stored" } else { "hit; detail=group" };
                assert_eq!(status(&answer), miss, "{path} on {gateway}, left: {leaves}");
                world.run_for(ms(20));
            }
        }
    }
}
