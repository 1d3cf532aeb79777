//! What lasts longer than a cell of `matrix` while something is broken: a breaker that opens and closes, a gateway that is cut off and
//! comes back, an origin that fails for a while.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm_host_test::{Answer, Call, LogLevel, Reply, Request, Response, Status, World};
use serde_json::{Value, json};

use super::stage::{Bridge, Failure, get, ms, rules, rules_alone, settle, status, world};

/// What the origin takes, and what a turn of the gateway may add.
const ORIGIN: Duration = ms(30 + 2);

/// What a lookup may add: `bridge.timeout`.
const LOOKUP: Duration = ms(50);

fn stage(rules: &Value) -> (World, Bridge) {
    let (builder, _, bridge) = world(rules);
    let mut world = builder.gateways(2).workers(2).loopback("routecache-self").build().expect("a world");
    settle(&mut world);
    for worker in [0, 1] {
        get(&mut world, worker, "/users/1");
    }
    world.run_until_idle();
    (world, bridge)
}

fn right(answer: &Answer, version: &str) -> bool {
    (answer.status, answer.text().as_str()) == (200, version)
}

#[test]
fn bridge_fails_cold_reads_wait_for_it_a_few_times_and_then_not_at_all() {
    for failure in Failure::ALL {
        // A window in which the feed isn't missed, so that the breaker is what saves requests.
        let mut rules = rules();
        rules["consistency"] = json!({ "window": "60s" });
        let (mut world, bridge) = stage(&rules);
        bridge.fails(Some(failure));
        let mut waited = 0;
        for user in 100..160 {
            let answer = get(&mut world, 0, &format!("/users/{user}"));
            assert!(right(&answer, "v1"), "{failure:?}: {}", status(&answer));
            assert!(answer.took() <= LOOKUP + ORIGIN, "{failure:?}: {:?}", answer.took());
            waited += usize::from(answer.took() > ORIGIN);
        }
        // Five until the breaker opens; then a probe a second, then every two seconds.
        assert!(waited <= 5 + 2, "{failure:?}: {waited} requests waited");
        assert!(world.logged(LogLevel::Warn, "the bridge doesn't answer"), "{failure:?}");
        assert!(world.metric("routecache_bridge_breaker_opened") > 0, "{failure:?}");
        bridge.fails(None);
        world.run_for(ms(9000));
        get(&mut world, 0, "/users/healed");
        assert!(world.logged(LogLevel::Info, "the bridge answers again"), "{failure:?}");
        world.run_until_idle();
        let elsewhere = world.fetch(Request::get("/users/healed").gateway(1));
        assert_eq!(status(&elsewhere), "hit; detail=group", "{failure:?}");
    }
}

#[test]
fn bridge_fails_fills_are_kept_in_the_gateway_and_good_when_it_is_back() {
    for failure in Failure::ALL {
        let (mut world, bridge) = stage(&rules());
        bridge.fails(Some(failure));
        assert!(right(&get(&mut world, 0, "/users/2"), "v1"), "{failure:?}");
        assert_eq!(status(&get(&mut world, 1, "/users/2")), "hit; detail=gateway", "{failure:?}");
        world.run_for(ms(2000));
        bridge.fails(None);
        world.run_for(ms(2500));
        assert_eq!(status(&get(&mut world, 0, "/users/2")), "hit; detail=worker", "{failure:?}");
    }
}

#[test]
fn bridge_fails_many_at_once_cost_one_fetch_for_each_gateway() {
    for failure in Failure::ALL {
        let (mut world, bridge) = stage(&rules());
        bridge.fails(Some(failure));
        world.run_for(ms(2000));
        let before = world.origin_requests().len();
        let ids: Vec<_> = (0..60)
            .map(|number| world.send(Request::get("/users/5").gateway(number % 2).worker(number / 2 % 2)))
            .collect();
        world.run_for(ms(500)); // a bridge that hangs is never idle
        for id in ids {
            assert!(right(world.answer(id), "v1") && world.answer(id).took() <= ORIGIN + ms(5), "{failure:?}");
        }
        assert_eq!(world.origin_requests().len() - before, 2, "{failure:?}");
    }
}

/// Without shared data no worker can tell what was purged: nothing is served, nothing is stored, everything works.
#[test]
fn shared_data_refuses_reads_go_to_the_origin_and_writes_say_so() {
    for (rules, said) in [(rules(), "purged"), (rules_alone(), "purge-failed")] {
        let (mut world, _) = stage(&rules);
        for function in ["proxy_set_shared_data", "proxy_get_shared_data"] {
            world.refuse(function, Status::InternalFailure, 100);
        }
        for path in ["/users/1", "/users/2"] {
            let answer = get(&mut world, 0, path);
            assert_eq!(status(&answer), "fwd=bypass; detail=shared-data");
            assert!(right(&answer, "v1") && answer.took() <= ORIGIN, "{:?}", answer.took());
        }
        let write = world.fetch(Request::put("/users/1").body("x"));
        assert_eq!((write.status, status(&write)), (200, format!("fwd=method; detail={said}")));
        assert!(world.logged(LogLevel::Error, "shared data refused a purge"));
        // Each was refused as often as was asked for, sooner or later.
        let healed = (0..200).any(|_| status(&get(&mut world, 0, "/users/2")).starts_with("hit"));
        assert!(healed, "{}", status(&get(&mut world, 0, "/users/2")));
    }
}

/// How an origin fails.
const ORIGIN_FAILURES: [fn() -> Reply; 4] =
    [|| Response::new(503).body("down").into(), || Response::new(500).into(), Reply::reset, Reply::connect_failure];

fn failing_origin(terms: &Value, failure: fn() -> Reply) -> (World, Rc<Cell<bool>>) {
    let mut rules = rules_alone();
    rules["routes"][0]["cache"].as_object_mut().expect("a rule").extend(terms.as_object().expect("terms").clone());
    let fails = Rc::new(Cell::new(false));
    let (builder, ..) = world(&rules);
    let switch = Rc::clone(&fails);
    let origin = move |_: &Call| if switch.get() { failure() } else { Response::ok("v1").after(ms(30)).into() };
    let mut world = builder.workers(2).loopback("routecache-self").origin(origin).build().expect("a world");
    get(&mut world, 0, "/users/1");
    (world, fails)
}

#[test]
fn origin_fails_what_is_fresh_is_served_what_is_stale_stands_in_and_the_rest_is_the_origins_error() {
    for failure in ORIGIN_FAILURES {
        let (mut world, fails) = failing_origin(&json!({ "ttl": "2s", "stale_if_error": "10m" }), failure);
        fails.set(true);
        for worker in [0, 1] {
            assert!(status(&get(&mut world, worker, "/users/1")).starts_with("hit"));
        }
        world.run_for(ms(3000));
        for worker in [0, 1, 0, 1] {
            let answer = get(&mut world, worker, "/users/1");
            assert!(right(&answer, "v1") && status(&answer).contains("stale-if-error"), "{}", status(&answer));
        }
        assert!(get(&mut world, 0, "/users/2").status >= 500, "nothing is stored that could stand in");
        fails.set(false);
        world.run_for(ms(2000));
        assert!(right(&get(&mut world, 0, "/users/1"), "v1"));
        assert!(right(&get(&mut world, 0, "/users/2"), "v1"));
    }
}

/// Zero errors for clients of what is stored, however many ask at once.
#[test]
fn origin_fails_a_crowd_gets_what_is_stored() {
    for failure in ORIGIN_FAILURES {
        let (mut world, fails) = failing_origin(&json!({ "ttl": "2s", "stale_if_error": "10m" }), failure);
        fails.set(true);
        world.run_for(ms(3000));
        let before = world.origin_requests().len();
        let ids: Vec<_> = (0..200).map(|number| world.send(Request::get("/users/1").worker(number % 2))).collect();
        world.run_until_idle();
        for id in ids {
            assert!(right(world.answer(id), "v1"), "{}", status(world.answer(id)));
        }
        let asked = world.origin_requests().len() - before;
        assert!(asked <= 2, "the origin was asked {asked} times");
    }
}

#[test]
fn origin_fails_where_it_is_protected_it_hears_two_requests_a_second() {
    let (mut world, fails) =
        failing_origin(&json!({ "protect_origin": "on" }), || Response::new(503).after(ms(20)).into());
    fails.set(true);
    let before = world.origin_requests().len();
    for _ in 0..100 {
        let answer = get(&mut world, 0, "/users/2");
        assert_eq!(answer.status, 503);
        world.run_for(ms(10));
    }
    let asked = world.origin_requests().len() - before;
    assert!((2..=4).contains(&asked), "the origin was asked {asked} times in one second");
    let refused = get(&mut world, 0, "/users/2");
    assert_eq!(
        (refused.header("retry-after"), status(&refused).as_str()),
        (Some("1"), "detail=protect-origin-origin-fails")
    );
    fails.set(false);
    world.run_for(ms(1100));
    assert!(right(&get(&mut world, 0, "/users/2"), "v1"));
}
