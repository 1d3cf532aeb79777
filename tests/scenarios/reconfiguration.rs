//! New rules, restarts, and rules that can't be used.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bridge_api::{FEED, LOOKUP, PURGE, STORE};
use proxy_wasm_host_test::{BuildError, Call, Kept, Reply, Request, Upstream};

use super::stage::{Failure, ms, rules, rules_alone, settle, status, world};

#[test]
fn rules_that_cannot_be_used_are_refused_with_what_where_and_how_to_mend_it() {
    let mut broken = rules();
    broken["routes"][0]["cache"]["ttl"] = "5 minutes".into();
    broken["routes"][1]["cache"]["keys"] = "x".into();
    let (builder, _, _) = world(&broken);
    let Err(BuildError::Refused { .. }) = builder.build().map(|_| ()) else { panic!("accepted") };
    let (builder, _, _) = world(&broken);
    let error = builder.build().map(|_| ()).unwrap_err().to_string();
    for part in ["routes[0].cache.ttl", "`user`", "5 minutes", "routes[1].cache.keys"] {
        assert!(error.contains(part), "{part} in: {error}");
    }
}

/// The bridge's token is never in the rules: they name the variable in which the gateway hands it to the filter.
#[test]
fn every_call_to_the_bridge_shows_the_token_and_rules_without_it_are_refused() {
    let mut rules = rules();
    rules["bridge"]["token_env"] = "ROUTECACHE_TOKEN".into();
    for unusable in [None, Some(""), Some("two words")] {
        let (mut builder, _, _) = world(&rules);
        if let Some(token) = unusable {
            builder = builder.env("ROUTECACHE_TOKEN", token);
        }
        let error = builder.build().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("ROUTECACHE_TOKEN") && error.contains("environment"), "{error}");
        assert!(!error.contains("two words"), "{error}");
    }
    let shown = Rc::new(RefCell::new(Vec::new()));
    let (builder, _, mut bridge) = world(&rules);
    let showed = Rc::clone(&shown);
    let guarded = move |call: &Call, kept: &mut Kept| {
        showed.borrow_mut().push((call.path().to_owned(), call.header("authorization").map(str::to_owned)));
        bridge.call(call, kept)
    };
    let builder = builder.env("ROUTECACHE_TOKEN", "s3cret").cluster("routecache-bridge", Guarded(guarded));
    let mut world = builder.workers(2).build().expect("a world");
    settle(&mut world);
    world.get("/users/7");
    world.fetch(Request::put("/users/7").body("x"));
    world.run_for(ms(600));
    for path in [LOOKUP, STORE, PURGE, FEED] {
        assert!(shown.borrow().iter().any(|(called, _)| called == path), "{path}");
    }
    assert!(shown.borrow().iter().all(|(_, token)| token.as_deref() == Some("Bearer s3cret")), "{:?}", shown.borrow());
}

/// An upstream that is a closure.
struct Guarded<F>(F);

impl<F: FnMut(&Call, &mut Kept) -> Reply> Upstream for Guarded<F> {
    fn call(&mut self, call: &Call, kept: &mut Kept) -> Reply {
        self.0(call, kept)
    }
}

#[test]
fn entries_outlive_a_change_of_rules_that_does_not_concern_them() {
    let (builder, _, _) = world(&rules());
    let mut world = builder.workers(2).build().expect("a world");
    settle(&mut world);
    world.get("/users/7");
    world.get("/users/7/orders");
    let mut changed = rules();
    changed["routes"][1]["cache"]["tags"] = serde_json::json!(["orders"]);
    world.reconfigure(changed.to_string()).expect("good rules");
    world.run_for(ms(600));
    assert_eq!(status(&world.get("/users/7")), "hit; detail=worker");
    assert_eq!(status(&world.get("/users/7/orders")), "fwd=uri-miss; stored", "its tags changed");
}

#[test]
fn a_change_of_rules_with_requests_under_way_loses_none() {
    let (builder, _, _) = world(&rules());
    let mut world = builder.workers(2).build().expect("a world");
    settle(&mut world);
    let read = world.send(Request::get("/users/7"));
    let write = world.send(Request::put("/users/8").body("x").worker(1));
    world.run_for(ms(10));
    world.reconfigure(rules().to_string()).expect("good rules");
    world.run_until_idle();
    assert_eq!((world.answer(read).status, world.answer(write).status), (200, 200));
    assert_eq!(status(world.answer(write)), "fwd=method; detail=purged");
}

#[test]
fn a_worker_that_starts_again_goes_on_with_what_the_gateway_holds() {
    let (builder, _, _) = world(&rules());
    let mut world = builder.workers(2).build().expect("a world");
    settle(&mut world);
    world.get("/users/7");
    world.restart_worker(0);
    world.run_for(ms(600));
    assert_eq!(status(&world.get("/users/7")), "hit; detail=gateway");
    world.fetch(Request::put("/users/7").body("x").worker(1));
    world.restart_worker(0);
    world.run_for(ms(600));
    assert_eq!(world.get("/users/7").text(), "v2");
}

/// The simulation found it: a context of the old rules sent the purge, and its call ended with it.
#[test]
fn a_write_whose_purge_the_old_rules_sent_is_released_though_they_go() {
    // The old rules live as long as their last request; whenever that is, no write is left behind.
    for last_us in (30_000..44_000).step_by(500) {
        let (builder, versions, _) = world(&rules());
        let origin = move |call: &Call| {
            let took = if call.path() == "/users/9" { Duration::from_micros(last_us) } else { ms(30) };
            versions.answer(call).after(took)
        };
        let mut world = builder.origin(origin).tolerate_violations().build().expect("a world");
        settle(&mut world);
        world.send(Request::get("/users/9"));
        let before = world.send(Request::put("/users/8").body("x"));
        world.run_for(ms(1));
        world.reconfigure(rules().to_string()).expect("good rules");
        let writes: Vec<_> = (0..10)
            .map(|_| {
                world.run_for(ms(1));
                world.send(Request::put("/users/7").body("x"))
            })
            .collect();
        world.run_until_idle();
        for write in std::iter::once(before).chain(writes) {
            assert!(world.finished(write).is_some(), "the last request ends after {last_us} µs");
        }
    }
}

/// The simulation found it: whoever took over sent the purge anew only when its tick came, and then had all the time that the
/// rules give.
#[test]
fn a_write_is_held_no_longer_for_rules_that_go() {
    let origin_ms = 30;
    for (hangs, limit_ms) in [(false, origin_ms + 20), (true, origin_ms + 250 + 20)] {
        for last_ms in [8, 14, 34, 38, 44] {
            let (builder, versions, bridge) = world(&rules());
            let origin = move |call: &Call| {
                let took = if call.path() == "/users/9" { last_ms } else { origin_ms };
                versions.answer(call).after(ms(took))
            };
            let mut world = builder.origin(origin).tolerate_violations().build().expect("a world");
            settle(&mut world);
            bridge.fails(hangs.then_some(Failure::Hangs));
            world.send(Request::get("/users/9").header("authorization", "me"));
            let before = world.send(Request::put("/users/8").body("x"));
            world.run_for(ms(1));
            world.reconfigure(rules().to_string()).expect("good rules");
            let writes: Vec<_> = (0..10)
                .map(|_| {
                    world.run_for(ms(1));
                    world.send(Request::put("/users/7").body("x"))
                })
                .collect();
            world.run_until_idle();
            for write in std::iter::once(before).chain(writes) {
                let took = world.answer(write).took();
                assert!(took < ms(limit_ms), "{took:?}, hangs: {hangs}, the last request ends after {last_ms} ms");
            }
        }
    }
}

/// What the new rules have no bridge for isn't waited for.
#[test]
fn a_write_is_released_by_rules_that_have_no_bridge_any_more() {
    let (builder, versions, bridge) = world(&rules());
    let mut world = builder.origin(move |call| versions.answer(call).after(ms(30))).build().expect("a world");
    settle(&mut world);
    bridge.fails(Some(Failure::Hangs));
    let write = world.send(Request::put("/users/8").body("x"));
    world.run_for(ms(1));
    world.reconfigure(rules_alone().to_string()).expect("good rules");
    world.send(Request::get("/users/7")); // the first thing for which the new rules' context is woken
    world.run_for(ms(2000));
    let answer = world.answer(write);
    assert!(answer.took() < ms(30 + 250 + 20), "{:?}", answer.took());
    assert_eq!(status(answer), "fwd=method; detail=purge-pending");
}
