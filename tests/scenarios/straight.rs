//! What the filter fetches by itself goes straight to the cluster that a rule names, past route and listener.

use std::cell::Cell;
use std::rc::Rc;

use proxy_wasm_host_test::{Call, LogLevel, Reply, Request, Response, World, WorldBuilder};
use serde_json::{Value, json};

use super::stage::{Failure, get, ms, rules, rules_alone, settle, status, world};

/// The stage's rules, whose users are fetched from `orders`, with more terms.
fn with(mut rules: Value, terms: &Value) -> Value {
    let cache = &mut rules["routes"][0]["cache"];
    cache["origin"] = json!({ "cluster": "orders", "rewrites": "none" });
    for (name, value) in terms.as_object().expect("a map") {
        cache[name] = value.clone();
    }
    rules
}

/// A gateway whose route and whose cluster `orders` lead to one origin, and that has no way back to itself.
fn stage_of<R: Into<Reply>>(rules: &Value, origin: impl Fn(&Call) -> R + 'static) -> WorldBuilder {
    let origin = Rc::new(origin);
    let behind = Rc::clone(&origin);
    world(rules).0.workers(2).origin(move |call| origin(call)).callout("orders", move |call| behind(call))
}

fn stage<R: Into<Reply>>(rules: &Value, origin: impl Fn(&Call) -> R + 'static) -> World {
    let mut world = stage_of(rules, origin).build().expect("a world");
    settle(&mut world);
    world
}

/// Counts its answers, `max-age=10` each.
fn counting() -> impl Fn(&Call) -> Response + 'static {
    let count = Cell::new(0);
    move |_| {
        count.set(count.get() + 1);
        Response::ok(format!("v{}", count.get())).header("cache-control", "max-age=10").after(ms(30))
    }
}

/// Knows a 304.
fn unchanging(call: &Call) -> Response {
    let answer = match call.header("if-none-match") {
        Some("\"a\"") => Response::new(304),
        _ => Response::ok("v1"),
    };
    answer.header("etag", "\"a\"").header("cache-control", "max-age=10").after(ms(30))
}

/// Answers the first one with `v1`, and then like that.
fn first_and_then<R: Into<Reply>>(then: impl Fn() -> R + 'static) -> impl Fn(&Call) -> Reply + 'static {
    let first = Cell::new(true);
    move |_| match first.replace(false) {
        true => Response::ok("v1").header("cache-control", "max-age=10").into(),
        false => then().into(),
    }
}

/// What went straight to `orders`.
fn straight(world: &World) -> Vec<&Call> {
    world.callouts().iter().filter(|call| call.cluster == "orders").collect()
}

fn by_route(world: &World) -> usize {
    world.origin_requests().len()
}

fn user(world: &mut World) -> (String, String) {
    let answer = get(world, 0, "/users/7");
    world.run_until_idle();
    (answer.text(), status(&answer))
}

/// What is stored is stale, if it isn't served behind.
fn grown_old(world: &mut World) {
    user(world);
    world.advance(ms(15_000));
}

fn alone(terms: &Value) -> Value {
    with(rules_alone(), terms)
}

#[test]
fn refreshes_ask_the_cluster_what_the_client_asked_and_fill_its_entry() {
    for terms in [
        json!({ "stale_while_revalidate": "30s" }),
        json!({ "early": "9s", "stale_while_revalidate": "30s" }),
        json!({ "revalidate_after": "5s", "stale_while_revalidate": "30s" }),
    ] {
        let mut world = stage(&alone(&terms), unchanging);
        let ask = Request::get("/users/7?b=2&a=1")
            .header("x-forwarded-proto", "https")
            .header("accept-language", "de")
            .header("x-hop", "1")
            .header("connection", "x-hop");
        world.fetch(ask.clone());
        world.advance(ms(15_000));
        let stale = world.fetch(ask.clone());
        assert_eq!((stale.text().as_str(), status(&stale).as_str()), ("v1", "hit; detail=worker"));
        world.run_until_idle();
        for worker in [0, 1] {
            let fresh = world.fetch(ask.clone().worker(worker));
            assert_eq!((fresh.text().as_str(), fresh.header("age")), ("v1", Some("0")), "worker {worker}");
        }
        let calls = straight(&world);
        let [call] = calls.as_slice() else { panic!("{calls:?}") };
        assert_eq!((call.method(), call.path()), ("GET", "/users/7?b=2&a=1"));
        for (name, value) in [
            (":authority", Some("example.com")),
            ("if-none-match", Some("\"a\"")),
            ("accept-language", Some("de")),
            ("x-forwarded-proto", Some("https")),
            ("cdn-loop", Some("routecache")),
            ("routecache-fetch", None),
            ("x-hop", None),
        ] {
            assert_eq!(call.header(name), value, "{name}");
        }
        assert_eq!((by_route(&world), world.metric("routecache_fetches_stored")), (1, 1));
        assert_eq!(world.log_text(), "", "there is no way back, and nobody misses it");
    }
}

#[test]
fn of_many_clients_on_two_workers_one_triggers_it_and_it_goes_on_without_it() {
    let mut world = stage(&alone(&json!({ "stale_while_revalidate": "30s" })), counting());
    user(&mut world);
    get(&mut world, 1, "/users/7");
    world.advance(ms(15_000));
    let ids = world.clients(50).get("/users/7");
    world.run_until(|world| !straight(world).is_empty());
    for id in ids {
        world.client_disconnects(id);
    }
    world.run_until_idle();
    world.run_for(ms(100)); // whichever worker found the other one at it looks again
    assert_eq!(user(&mut world).0, "v2");
    assert_eq!(get(&mut world, 1, "/users/7").text(), "v2");
    assert_eq!((straight(&world).len(), by_route(&world)), (1, 1));
}

#[test]
fn a_failed_one_keeps_what_is_stored_to_its_limit_and_backs_off() {
    for (failure, counted) in [
        (Reply::from(Response::new(503)), "routecache_fetches_failed"),
        (Response::new(429).into(), "routecache_fetches_failed"),
        (Reply::connect_failure(), "routecache_fetches_failed"),
        (Response::ok("v").then_reset(ms(5)).into(), "routecache_fetches_lost"),
    ] {
        let rules = alone(&json!({ "stale_while_revalidate": "30s" }));
        let told = format!("{failure:?}");
        let mut world = stage(&rules, first_and_then(move || failure.clone()));
        user(&mut world);
        world.advance(ms(10_000));
        for _ in 0..200 {
            assert_eq!(user(&mut world).0, "v1");
            world.advance(ms(100));
        }
        let tries = straight(&world).len();
        assert!((4..=8).contains(&tries), "after 0.5, 1, 2, 4, 8 seconds, not {tries}: {told}");
        assert_eq!(usize::try_from(world.metric(counted)), Ok(tries), "{told}");
        assert_eq!(by_route(&world), 1, "{told}");
    }
}

/// C1: its ticket is that of its beginning.
#[test]
fn a_purge_while_it_is_under_way_voids_it() {
    for (terms, validates) in [(json!({ "stale_while_revalidate": "30s" }), false), (json!({ "early": "9s" }), true)] {
        let mut world = stage(&alone(&terms), move |call: &Call| match (call.method(), validates) {
            ("PUT", _) => Response::ok("written"),
            (_, true) => unchanging(call).after(ms(200)),
            _ => Response::ok("old").header("cache-control", "max-age=10").after(ms(200)),
        });
        user(&mut world);
        world.advance(ms(if validates { 5000 } else { 15_000 }));
        get(&mut world, 0, "/users/7");
        world.run_until(|world| !straight(world).is_empty());
        world.fetch(Request::new("PUT", "/users/7"));
        world.run_until_idle();
        for worker in [0, 1] {
            assert!(!status(&get(&mut world, worker, "/users/7")).starts_with("hit; ttl=-"), "worker {worker}");
        }
        let last = world.origin_requests().last().expect("a read behind the write");
        assert_eq!((last.method(), straight(&world).len(), by_route(&world)), ("GET", 1, 3), "{validates}");
    }
}

#[test]
fn a_client_that_waits_gets_the_answer_as_a_hit_or_what_stands_in_for_it() {
    let mut world = stage(&alone(&json!({})), unchanging);
    grown_old(&mut world);
    assert_eq!(user(&mut world), ("v1".into(), "fwd=stale; fwd-status=304; stored".into()));
    assert_eq!(user(&mut world).1, "hit; detail=worker");
    assert_eq!((straight(&world).len(), by_route(&world)), (1, 1));

    for failure in [Reply::from(Response::new(503).body("busy")), Reply::connect_failure(), Reply::hang()] {
        let told = format!("{failure:?}");
        let mut rules = alone(&json!({ "stale_if_error": "1h" }));
        rules["background"] = json!({ "timeout": "2s" });
        let mut world = stage(&rules, first_and_then(move || failure.clone()));
        grown_old(&mut world);
        for _ in 0..2 {
            let (body, said) = user(&mut world);
            assert_eq!((body.as_str(), said.contains("detail=stale-if-error")), ("v1", true), "{told}: {said}");
        }
        assert_eq!((straight(&world).len(), by_route(&world)), (1, 1), "{told}");
    }

    // What isn't for others is handed over, and then such requests go the plain way.
    let private = || Response::new(404).header("cache-control", "private").body("gone");
    let mut world = stage(&alone(&json!({ "stale_if_error": "1h" })), first_and_then(private));
    grown_old(&mut world);
    let gone = get(&mut world, 0, "/users/7");
    assert_eq!((gone.status, gone.text().as_str()), (404, "gone"));
    assert_eq!((straight(&world).len(), by_route(&world)), (1, 1));
    assert_eq!(get(&mut world, 0, "/users/7").status, 404);
    assert_eq!((straight(&world).len(), by_route(&world)), (1, 2));
}

#[test]
fn an_answer_that_cant_be_stored_ends_the_entrys_time() {
    for gone in [Response::new(404), Response::ok("x").header("cache-control", "private"), {
        Response::ok("x").header("cache-control", "max-age=10").trailer("checksum", "1")
    }] {
        let rules = alone(&json!({ "stale_while_revalidate": "1h", "ttl_by_status": { "404": "0s" } }));
        let trailers = gone.clone();
        let mut world = stage(&rules, first_and_then(move || gone.clone()));
        grown_old(&mut world);
        assert_eq!(user(&mut world).0, "v1");
        assert_eq!(world.metric("routecache_fetches_uncacheable"), 1, "{trailers:?}");
    }
}

#[test]
fn a_group_fetches_once_however_many_gateways_want_to() {
    for (behind, fetches) in [(true, 1), (false, 1)] {
        let window = if behind { "30s" } else { "0s" };
        let rules = with(rules(), &json!({ "lock": "group", "stale_while_revalidate": window }));
        let mut world = stage_of(&rules, unchanging).gateways(2).build().expect("a world");
        settle(&mut world);
        let place = |number: usize| Request::get("/users/7").gateway(number % 2).worker(number / 2 % 2);
        for number in 0..4 {
            world.fetch(place(number));
        }
        world.run_for(ms(15_000));
        let ids: Vec<_> = (0..40).map(|number| world.send(place(number))).collect();
        world.run_for(ms(1000));
        for id in ids {
            assert_eq!(world.answer(id).text(), "v1");
        }
        assert_eq!((straight(&world).len(), by_route(&world)), (fetches, 1), "{behind}");
        for number in 0..4 {
            assert!(status(&world.fetch(place(number))).starts_with("hit"), "{behind}, {number}");
        }
    }
}

#[test]
fn what_a_write_purged_and_what_is_listed_are_read_there() {
    let mut rules = with(rules(), &json!({}));
    rules["routes"][2]["recache"] = json!([{ "route": "user", "include": ["id"] }]);
    rules["warm"] = json!(["https://example.com/users/1", "http://example.com/users/2/orders"]);
    let builder = stage_of(&rules, |call: &Call| Response::ok(call.path()).after(ms(30)));
    let mut world = builder.gateways(2).loopback("routecache-self").log_level(LogLevel::Info).build().expect("a world");
    world.run_for(ms(3000));
    assert_eq!(straight(&world).len(), 1, "the group reads it once");
    assert_eq!(straight(&world)[0].header("x-forwarded-proto"), Some("https"));
    assert_eq!(world.origin_requests()[0].path(), "/users/2/orders", "the other rule says nothing of a cluster");
    for gateway in [0, 1] {
        let first = Request::get("/users/1").gateway(gateway).worker(1).header("x-forwarded-proto", "https");
        assert!(status(&world.fetch(first)).starts_with("hit"), "gateway {gateway}");
    }
    assert!(world.logged(LogLevel::Info, "warmed, 2 of 2 are stored"), "{}", world.log_text());
    let write = Request::new("PUT", "/users/7").header("cookie", "secret").header("authorization", "Bearer x");
    world.fetch(write);
    world.run_for(ms(1000));
    let calls = straight(&world);
    let read = calls.last().expect("a read");
    assert_eq!((read.path(), read.header("cookie"), read.header("authorization")), ("/users/7", None, None));
    assert!(status(&get(&mut world, 0, "/users/7")).starts_with("hit"));
    assert_eq!((by_route(&world), world.metric("routecache_recaches_stored")), (2, 1), "the list's and the write");
}

#[test]
fn whoever_asks_while_the_list_is_read_waits_for_that() {
    let mut rules = with(rules_alone(), &json!({ "lock": "gateway" }));
    rules["warm"] = json!(["http://example.com/users/1"]);
    let mut world = stage_of(&rules, |_: &Call| Response::ok("x").after(ms(300))).build().expect("a world");
    world.run_for(ms(350));
    assert_eq!(straight(&world).len(), 1);
    let ids: Vec<_> = [0, 1].map(|worker| world.send(Request::get("/users/1").worker(worker))).into();
    world.run_for(ms(2000));
    for id in ids {
        assert_eq!(status(world.answer(id)), "fwd=uri-miss; collapsed");
    }
    assert_eq!((straight(&world).len(), by_route(&world)), (1, 0));
}

#[test]
fn no_more_than_so_many_are_under_way_on_a_worker() {
    let mut rules = alone(&json!({ "stale_while_revalidate": "1h" }));
    rules["background"] = json!({ "concurrency": 3 });
    let mut world = stage(&rules, |_: &Call| Response::ok("x").header("cache-control", "max-age=10").after(ms(100)));
    let paths: Vec<String> = (0..20).map(|user| format!("/users/{user}")).collect();
    paths.iter().for_each(|path| drop(get(&mut world, 0, path)));
    world.advance(ms(15_000));
    paths.iter().for_each(|path| drop(get(&mut world, 0, path)));
    world.run_until_idle();
    let starts: Vec<_> = straight(&world).iter().map(|call| call.at).collect();
    assert_eq!(starts.len(), 20);
    let running = |at| starts.iter().filter(|start| **start <= at && at < **start + ms(100)).count();
    assert!(starts.iter().all(|start| running(*start) <= 3), "{starts:?}");
}

#[test]
fn a_cluster_that_isnt_there_is_said_once_and_nobody_waits_for_it() {
    let rules = alone(&json!({ "stale_while_revalidate": "5s", "stale_if_error": "1h" }));
    let (builder, ..) = world(&rules);
    let mut world = builder.workers(1).origin(counting()).build().expect("a world");
    settle(&mut world);
    user(&mut world);
    for second in 0..40 {
        world.advance(ms(1000));
        assert!(user(&mut world).0.starts_with('v'), "second {second}");
    }
    assert!(by_route(&world) >= 3, "clients ask by themselves: {}", by_route(&world));
    assert_eq!(world.log_text().matches("there is no cluster `orders`").count(), 1, "{}", world.log_text());
}

/// New rules end what is under way; who waits for it goes on.
#[test]
fn new_rules_leave_nobody_waiting() {
    for named in [true, false] {
        let rules = alone(&json!({}));
        let mut world = stage(&rules, |call: &Call| unchanging(call).after(ms(500)));
        grown_old(&mut world);
        let client = world.send(Request::get("/users/7"));
        world.run_until(|world| !straight(world).is_empty());
        let mut next = if named { rules } else { rules_alone() };
        next["limits"]["waiters"] = json!(100);
        world.reconfigure(next.to_string()).expect("good rules");
        world.run_for(ms(3000));
        assert_eq!(world.answer(client).text(), "v1", "{named}");
        world.advance(ms(15_000));
        assert_eq!(user(&mut world).0, "v1", "{named}");
    }
}

/// The store is gone: nothing is asked of it for longer than its timeout.
#[test]
fn without_the_bridge_they_go_on() {
    let rules = with(rules(), &json!({ "lock": "group", "stale_while_revalidate": "30s" }));
    let mut rules = rules;
    rules["consistency"] = json!({ "on_feed_loss": "serve" });
    let (builder, _, bridge) = world(&rules);
    let origin = Rc::new(counting());
    let behind = Rc::clone(&origin);
    let builder = builder.workers(2).origin(move |call| origin(call)).callout("orders", move |call| behind(call));
    let mut world = builder.build().expect("a world");
    settle(&mut world);
    get(&mut world, 0, "/users/7");
    world.run_for(ms(15_000));
    bridge.fails(Some(Failure::Hangs));
    assert_eq!(get(&mut world, 0, "/users/7").text(), "v1");
    world.run_for(ms(1000));
    assert_eq!(get(&mut world, 0, "/users/7").text(), "v2");
    assert_eq!((straight(&world).len(), by_route(&world)), (1, 1));
}
