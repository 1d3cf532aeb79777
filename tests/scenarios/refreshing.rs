//! Responses that are refreshed behind clients, and stale ones that are asked about while a client waits: through the
//! gateway's own listener.

use std::time::Duration;

use proxy_wasm_host_test::{Answer, Call, Reply, Request, Response, World};
use serde_json::{Value, json};

use super::stage::{get, ms, rules, rules_alone, settle, status, world};

/// How soon a worker notices what another one has refreshed.
const ELSEWHERE: Duration = ms(100);

/// The stage's rules with more terms for users.
fn with(mut rules: Value, terms: &Value) -> Value {
    for (name, value) in terms.as_object().expect("a map") {
        rules["routes"][0]["cache"][name] = value.clone();
    }
    rules
}

fn alone(terms: &Value) -> Value {
    with(rules_alone(), terms)
}

/// Two workers and a way back to them.
fn stage<R: Into<Reply>>(rules: &Value, origin: impl FnMut(&Call) -> R + 'static) -> World {
    let (builder, _, _) = world(rules);
    let mut world = builder.workers(2).loopback("routecache-self").origin(origin).build().expect("a world");
    settle(&mut world);
    world
}

/// An origin that counts its answers, `max-age=10` each, and knows a 304.
fn counting(more: &'static str) -> impl FnMut(&Call) -> Response + 'static {
    let mut count = 0;
    move |_| {
        count += 1;
        Response::ok(format!("v{count}")).header("cache-control", format!("max-age=10{more}")).after(ms(30))
    }
}

/// One whose answers don't change, and who says so.
fn unchanging(call: &Call) -> Response {
    let answer = match call.header("if-none-match") {
        Some("\"a\"") => Response::new(304),
        _ => Response::ok("v1"),
    };
    answer.header("etag", "\"a\"").header("cache-control", "max-age=10").after(ms(30))
}

fn asked(world: &World) -> usize {
    world.origin_requests().len()
}

/// Asks for the user, and lets whatever follows come to its end.
fn user(world: &mut World) -> Answer {
    let answer = get(world, 0, "/users/7");
    world.run_until_idle();
    answer
}

fn wait_s(world: &mut World, seconds: u64) {
    world.advance(ms(seconds * 1000));
}

/// RFC 5861 §3.
#[test]
fn what_is_stale_answers_at_once_within_its_window_and_is_refreshed_behind_the_client() {
    for (terms, more) in [(json!({ "stale_while_revalidate": "30s" }), ""), (json!({}), ", stale-while-revalidate=30")]
    {
        let mut world = stage(&alone(&terms), counting(more));
        assert_eq!(user(&mut world).text(), "v1");
        wait_s(&mut world, 15);
        let stale = user(&mut world);
        assert_eq!((stale.text().as_str(), status(&stale).as_str()), ("v1", "hit; detail=worker"));
        assert_eq!((stale.took(), stale.header("age")), (ms(0), Some("15")));
        assert_eq!(stale.header("cache-status"), Some("routecache; hit; ttl=-5; detail=worker"));
        for worker in [0, 1] {
            let fresh = get(&mut world, worker, "/users/7");
            assert_eq!((fresh.text().as_str(), fresh.header("age")), ("v2", Some("0")), "worker {worker}");
        }
        assert_eq!((asked(&world), world.metric("routecache_fetches_stored")), (2, 1));
    }
}

/// The window is a hard limit, and what forbids stale answers wins over it.
#[test]
fn past_the_window_or_against_the_origins_word_nothing_stale_is_served() {
    for (more, after_s, served) in [
        (", stale-while-revalidate=30", 39, "v1"),
        (", stale-while-revalidate=30", 40, "v2"),
        (", stale-while-revalidate=30, must-revalidate", 15, "v2"),
        (", stale-while-revalidate=30, proxy-revalidate", 15, "v2"),
        (", stale-while-revalidate=30, s-maxage=10", 15, "v2"),
        ("", 15, "v2"),
    ] {
        let mut world = stage(&alone(&json!({})), counting(more));
        user(&mut world);
        wait_s(&mut world, after_s);
        assert_eq!(user(&mut world).text(), served, "{more} after {after_s} s");
    }
}

#[test]
fn however_many_ask_at_once_on_however_many_workers_one_refreshes() {
    let mut world = stage(&alone(&json!({ "stale_while_revalidate": "30s" })), counting(""));
    user(&mut world);
    get(&mut world, 1, "/users/7");
    wait_s(&mut world, 15);
    let ids = world.clients(100).get("/users/7");
    world.run_until_idle();
    assert!(ids.into_iter().all(|id| world.answer(id).text() == "v1"));
    assert_eq!(asked(&world), 2);
    world.advance(ELSEWHERE);
    let ids = world.clients(100).get("/users/7");
    world.run_until_idle();
    assert!(ids.into_iter().all(|id| world.answer(id).text() == "v2"));
    assert_eq!(asked(&world), 2);
}

/// As far as the lock reaches, also between gateways: behind clients, and while they wait.
#[test]
fn a_group_refreshes_once_however_many_gateways_want_to() {
    for (lock, behind, fetches) in
        [("group", true, 1), ("group", false, 1), ("gateway", true, 2), ("gateway", false, 2)]
    {
        let window = if behind { "30s" } else { "0s" };
        let rules = with(rules(), &json!({ "lock": lock, "stale_while_revalidate": window }));
        let (builder, ..) = world(&rules);
        let builder = builder.gateways(2).workers(2).loopback("routecache-self").origin(unchanging);
        let mut world = builder.build().expect("a world");
        settle(&mut world);
        let place = |number: usize| Request::get("/users/7").gateway(number % 2).worker(number / 2 % 2);
        for number in 0..4 {
            world.fetch(place(number));
        }
        assert_eq!(asked(&world), 1);
        world.run_for(ms(15_000));
        let ids: Vec<_> = (0..40).map(|number| world.send(place(number))).collect();
        world.run_for(ms(1000));
        assert_eq!(asked(&world) - 1, fetches, "{lock}, {behind}");
        for id in ids {
            let answer = world.answer(id);
            assert_eq!((answer.status, answer.text().as_str()), (200, "v1"));
            // What another gateway has fetched is told as that.
            assert!(!answer.header("cache-status").is_some_and(|told| told.contains("fwd-status=0")), "{lock}");
            assert!(answer.took() < if behind { ms(5) } else { ms(250) }, "{lock}: {:?}", answer.took());
        }
        for number in 0..4 {
            let fresh = world.fetch(place(number));
            let age_s: u32 = fresh.header("age").and_then(|age| age.parse().ok()).expect("an age");
            assert!(status(&fresh).starts_with("hit") && age_s <= 2, "{lock}, {number}: {age_s}");
        }
        assert_eq!(asked(&world) - 1, fetches);
    }
}

/// An origin whose clock, or a cache in front of it, makes its answers look old: the one that a gateway fetches anew is no
/// older news for the others than one that looks young.
#[test]
fn a_group_refreshes_once_however_old_the_answer_looks() {
    let rules = with(rules(), &json!({ "ttl": "5s", "stale_while_revalidate": "0s" }));
    let (builder, ..) = world(&rules);
    let mut count = 0;
    let ageing = move |_: &Call| {
        count += 1;
        let age = if count > 1 { "600" } else { "0" };
        Response::ok("v1").header("etag", "\"a\"").header("age", age).after(ms(100))
    };
    let builder = builder.gateways(3).loopback("routecache-self").origin(ageing);
    let mut world = builder.build().expect("a world");
    settle(&mut world);
    (0..3).for_each(|gateway| drop(world.fetch(Request::get("/users/7").gateway(gateway))));
    world.run_for(ms(8000));
    let ids: Vec<_> = (0..30).map(|number| world.send(Request::get("/users/7").gateway(number % 3))).collect();
    world.run_for(ms(1000));
    assert_eq!(asked(&world), 2);
    assert!(ids.into_iter().all(|id| world.answer(id).took() < ms(200)));
}

/// I16: what one gateway fetches for all breaks off. Its client goes on by itself, one of those who waited fetches in its place, and
/// the others take what that brings.
#[test]
fn a_group_whose_refresh_breaks_off_tries_once_more() {
    let rules = with(rules(), &json!({ "ttl": "5s", "stale_while_revalidate": "0s", "stale_if_error": "0s" }));
    let (builder, ..) = world(&rules);
    let mut count = 0;
    let breaks = move |_: &Call| {
        count += 1;
        let answer = Response::new(200).header("etag", format!("\"{count}\"")).after(ms(50));
        match count {
            2 => answer.chunk(ms(0), "half").then_reset(ms(50)),
            _ => answer.chunk(ms(50), "whole"),
        }
    };
    let builder = builder.gateways(5).loopback("routecache-self").origin(breaks);
    let mut world = builder.build().expect("a world");
    settle(&mut world);
    (0..5).for_each(|gateway| drop(world.fetch(Request::get("/users/7").gateway(gateway))));
    assert_eq!(asked(&world), 1);
    world.run_for(ms(8000));
    let ids: Vec<_> = (0..50).map(|number| world.send(Request::get("/users/7").gateway(number % 5))).collect();
    world.run_for(ms(2000));
    assert_eq!(asked(&world), 1 + 3);
    for id in ids {
        let answer = world.answer(id);
        assert_eq!(answer.text(), "whole");
        assert!(answer.took() < ms(300), "{:?}", answer.took());
    }
}

/// A response that is to be validated for each request: what another gateway had validated a while ago doesn't do.
#[test]
fn what_wants_validation_each_time_is_not_taken_from_the_group_unvalidated() {
    let (builder, ..) = world(&rules());
    let unready = |_: &Call| Response::ok("v1").header("etag", "\"a\"").header("cache-control", "max-age=60, no-cache");
    let mut world = builder.gateways(2).loopback("routecache-self").origin(unready).build().expect("a world");
    settle(&mut world);
    for (number, gateway) in [(1, 0), (2, 1), (3, 0), (4, 1), (5, 0)] {
        assert_eq!(world.fetch(Request::get("/users/7").gateway(gateway)).text(), "v1");
        assert_eq!(asked(&world), number, "gateway {gateway}");
        world.run_for(ms(5000));
    }
}

/// What another gateway has refreshed a while ago is taken from the group.
#[test]
fn what_the_group_has_anew_is_not_asked_of_the_origin() {
    let rules = with(rules(), &json!({ "stale_while_revalidate": "30s", "early": "4s" }));
    let (builder, ..) = world(&rules);
    let builder = builder.gateways(2).loopback("routecache-self").origin(counting(""));
    let mut world = builder.build().expect("a world");
    settle(&mut world);
    let user = |world: &mut World, gateway| world.fetch(Request::get("/users/7").gateway(gateway));
    for gateway in [0, 1] {
        assert_eq!(user(&mut world, gateway).text(), "v1");
    }
    world.run_for(ms(7000));
    assert_eq!(user(&mut world, 0).text(), "v1");
    world.run_for(ms(1000));
    assert_eq!((user(&mut world, 0).text(), user(&mut world, 1).text()), ("v2".to_owned(), "v1".to_owned()));
    world.run_for(ms(1000));
    assert_eq!((user(&mut world, 1).text(), asked(&world)), ("v2".to_owned(), 2));
}

/// I23: the gateway that refreshes for the group dies, or its origin fails: another one does when the lease is over, or after
/// a while.
#[test]
fn a_refresh_that_comes_to_nothing_is_taken_over() {
    for dies in [true, false] {
        let rules = with(rules(), &json!({ "stale_while_revalidate": "1h" }));
        let mut rules = rules;
        rules["background"] = json!({ "timeout": "2s" });
        let (builder, ..) = world(&rules);
        let mut count = 0;
        let origin = move |_: &Call| {
            count += 1;
            let answer = Response::ok(format!("v{count}")).header("cache-control", "max-age=10");
            match count {
                2 if dies => Reply::hang(),
                2 => Response::new(503).into(),
                _ => answer.after(ms(30)).into(),
            }
        };
        let mut world = builder.gateways(2).loopback("routecache-self").origin(origin).build().expect("a world");
        settle(&mut world);
        let user = |world: &mut World, gateway| world.fetch(Request::get("/users/7").gateway(gateway));
        for gateway in [0, 1] {
            user(&mut world, gateway);
        }
        world.run_for(ms(15_000));
        user(&mut world, 0);
        world.run_for(ms(10));
        if dies {
            world.restart_gateway(0);
        }
        let mut waited = 0;
        while user(&mut world, 1).text() == "v1" {
            world.run_for(ms(100));
            waited += 100;
            assert!(waited < 8000, "dies: {dies}");
        }
        assert_eq!(asked(&world), 3, "dies: {dies}");
    }
}

#[test]
fn a_refresh_asks_with_validators_and_a_304_makes_the_stored_one_fresh_again() {
    let mut world = stage(&alone(&json!({ "stale_while_revalidate": "30s" })), unchanging);
    user(&mut world);
    wait_s(&mut world, 15);
    assert_eq!(user(&mut world).header("age"), Some("15"));
    let fresh = user(&mut world);
    assert_eq!((fresh.text().as_str(), fresh.header("age")), ("v1", Some("0")));
    assert_eq!(world.origin_requests()[1].header("if-none-match"), Some("\"a\""));
    assert_eq!(asked(&world), 2);
}

#[test]
fn a_refresh_asks_as_the_client_did_for_the_whole_and_nothing_of_the_filters_own_reaches_the_origin() {
    let mut world = stage(&alone(&json!({ "stale_while_revalidate": "30s", "cookies": "ignore" })), counting(""));
    user(&mut world);
    wait_s(&mut world, 15);
    let request = Request::head("/users/7?b=2&a=1")
        .header("x-forwarded-proto", "https")
        .header("accept-language", "de")
        .header("cookie", "a=b")
        .header("range", "bytes=0-0")
        .header("if-none-match", "\"x\"");
    // Another key: the query, and https.
    world.fetch(request.clone());
    world.run_until_idle();
    let first = Request::get("/users/7?b=2&a=1").header("x-forwarded-proto", "https");
    world.fetch(first);
    wait_s(&mut world, 15);
    assert_eq!(world.fetch(request).status, 200, "a HEAD is answered whole");
    world.run_until_idle();
    let call = world.origin_requests().last().expect("a refresh");
    assert_eq!((call.method(), call.path()), ("GET", "/users/7?b=2&a=1"));
    for (name, value) in [
        ("accept-language", Some("de")),
        ("cookie", Some("a=b")),
        ("x-forwarded-proto", Some("https")),
        ("cdn-loop", Some("routecache")),
        ("range", None),
        ("if-none-match", None),
        ("routecache-fetch", None),
    ] {
        assert_eq!(call.header(name), value, "{name}");
    }
    let again = world.fetch(Request::get("/users/7?b=2&a=1").header("x-forwarded-proto", "https"));
    assert_eq!(status(&again).split(';').next(), Some("hit"), "it fills the entry of https");
    assert_eq!(again.header("age"), Some("0"));
}

#[test]
fn a_forged_mark_is_taken_away_and_means_nothing() {
    let mut world = stage(&alone(&json!({})), counting(""));
    user(&mut world);
    for forged in ["", "x", "00000000000000000000000000000000; scheme=https"] {
        let answer = world.fetch(Request::get("/users/7").header("routecache-fetch", forged));
        assert_eq!((status(&answer).as_str(), answer.text().as_str()), ("hit; detail=worker", "v1"), "{forged}");
        let miss = world.fetch(Request::get(&format!("/users/{}", forged.len())).header("routecache-fetch", forged));
        assert_eq!((miss.status, miss.header("routecache-fetch")), (200, None), "{forged}");
    }
    assert!(world.origin_requests().iter().all(|call| call.header("routecache-fetch").is_none()));
}

#[test]
fn a_failed_refresh_keeps_what_is_stored_to_its_limit_and_backs_off() {
    let mut count = 0;
    let mut world = stage(&alone(&json!({ "stale_while_revalidate": "30s" })), move |_: &Call| {
        count += 1;
        let answer = if count == 1 { Response::ok("v1") } else { Response::new(503).body("busy") };
        answer.header("cache-control", "max-age=10")
    });
    user(&mut world);
    wait_s(&mut world, 10);
    // Ten clients a second for twenty seconds.
    for _ in 0..200 {
        assert_eq!(user(&mut world).text(), "v1");
        world.advance(ms(100));
    }
    assert!((5..=8).contains(&asked(&world)), "after 0.5, 1, 2, 4, 8 seconds, not {}", asked(&world));
    let failed = usize::try_from(world.metric("routecache_fetches_failed")).expect("a few");
    assert_eq!(failed, asked(&world) - 1);
    wait_s(&mut world, 15);
    assert_eq!(user(&mut world).status, 503);
}

/// What the origin takes back isn't served until the end of the window.
#[test]
fn a_refresh_that_finds_something_else_ends_the_window() {
    for gone in
        [Response::new(404), Response::new(403).body("no"), Response::ok("x").header("cache-control", "private")]
    {
        let (mut count, last) = (0, gone.clone());
        let mut world = stage(&alone(&json!({ "stale_while_revalidate": "1h" })), move |_: &Call| {
            count += 1;
            if count == 1 { Response::ok("v1").header("cache-control", "max-age=10") } else { gone.clone() }
        });
        user(&mut world);
        wait_s(&mut world, 15);
        assert_eq!(user(&mut world).text(), "v1");
        for _ in 0..2 {
            let answer = user(&mut world);
            assert!(status(&answer).starts_with("fwd=stale"), "{last:?}: {}", status(&answer));
            assert_ne!(answer.text(), "v1", "{last:?}");
        }
    }
}

#[test]
fn a_refresh_goes_on_when_its_client_has_gone() {
    let mut world = stage(&alone(&json!({ "stale_while_revalidate": "30s" })), counting(""));
    user(&mut world);
    wait_s(&mut world, 15);
    let client = world.send(Request::get("/users/7"));
    world.run_until(|world| asked(world) == 2);
    world.client_disconnects(client);
    world.run_until_idle();
    assert_eq!(user(&mut world).text(), "v2");
}

#[test]
fn no_more_than_so_many_refreshes_are_under_way_on_a_worker() {
    let mut rules = alone(&json!({ "stale_while_revalidate": "30s" }));
    rules["background"] = json!({ "concurrency": 3 });
    let mut world = stage(&rules, |call: &Call| {
        Response::ok("v").header("cache-control", "max-age=10").after(ms(if call.header("cdn-loop").is_some() {
            1000
        } else {
            1
        }))
    });
    for user in 0..10 {
        get(&mut world, 0, &format!("/users/{user}"));
    }
    wait_s(&mut world, 15);
    for user in 0..10 {
        get(&mut world, 0, &format!("/users/{user}"));
    }
    world.run_for(ms(500));
    assert_eq!(asked(&world), 10 + 3);
    world.run_until_idle();
    assert_eq!(asked(&world), 10 + 10, "the others follow");
}

/// C1.
#[test]
fn a_purge_during_a_refresh_leaves_nothing_of_what_was_read_before_it() {
    for rules in [rules(), rules_alone()] {
        let mut version = 1;
        let mut world = stage(&with(rules, &json!({ "stale_while_revalidate": "1h" })), move |call: &Call| {
            if call.method() == "PUT" {
                version += 1;
                return Response::new(204);
            }
            Response::ok(format!("v{version}")).header("cache-control", "max-age=10").after(ms(500))
        });
        user(&mut world);
        wait_s(&mut world, 15);
        world.send(Request::get("/users/7"));
        world.run_for(ms(100));
        world.fetch(Request::put("/users/7").body("x"));
        world.run_until_idle();
        assert_eq!(user(&mut world).text(), "v2");
    }
}

/// The request phase answers, so that filters in front see what they see of a hit.
#[test]
fn what_is_stale_is_asked_about_while_the_client_waits_and_then_answers_like_a_hit() {
    for rules in [rules(), rules_alone()] {
        let mut world = stage(&with(rules, &json!({})), unchanging);
        user(&mut world);
        wait_s(&mut world, 15);
        let answer = user(&mut world);
        assert_eq!(
            (answer.status, answer.text().as_str(), answer.details.as_str()),
            (200, "v1", "routecache_validated")
        );
        assert_eq!(answer.header("cache-status"), Some("routecache; fwd=stale; fwd-status=304; stored; ttl=10"));
        assert_eq!((answer.header("age"), asked(&world)), (Some("0"), 2));
        let held = world.fetch(Request::get("/users/7").header("if-none-match", "\"a\""));
        assert_eq!((held.status, status(&held).split(';').next()), (304, Some("hit")));
        // Its own condition, and a part, are answered from what has been validated.
        wait_s(&mut world, 15);
        let held = world.fetch(Request::get("/users/7").header("if-none-match", "\"a\""));
        assert_eq!((held.status, status(&held).as_str()), (304, "fwd=stale; fwd-status=304; stored"));
        wait_s(&mut world, 15);
        let part = world.fetch(Request::get("/users/7").header("range", "bytes=1-"));
        assert_eq!((part.status, part.text().as_str()), (206, "1"));
        assert_eq!(asked(&world), 4);
    }
}

#[test]
fn what_has_changed_is_filled_and_shown() {
    let mut count = 0;
    let mut world = stage(&alone(&json!({})), move |_: &Call| {
        count += 1;
        let answer = Response::ok(format!("v{count}")).header("etag", format!("\"{count}\""));
        answer.header("cache-control", "no-cache").after(ms(30))
    });
    user(&mut world);
    for version in 2..5 {
        let answer = user(&mut world);
        assert_eq!(answer.text(), format!("v{version}"));
        assert_eq!(status(&answer), "fwd=stale; stored");
        assert_eq!(asked(&world), version);
    }
}

#[test]
fn what_can_no_longer_be_stored_is_shown_to_who_asked_and_asked_for_once() {
    let mut count = 0;
    let mut world = stage(&alone(&json!({})), move |_: &Call| {
        count += 1;
        let control = if count == 1 { "max-age=10" } else { "private" };
        let answer = Response::ok(format!("v{count}")).header("etag", format!("\"{count}\""));
        let answer = answer.header("cache-control", control);
        if count == 1 { answer } else { answer.header("set-cookie", "a=b") }
    });
    user(&mut world);
    wait_s(&mut world, 15);
    let answer = user(&mut world);
    assert_eq!((answer.text().as_str(), status(&answer).as_str()), ("v2", "fwd=stale; detail=uncacheable"));
    assert_eq!((answer.header("set-cookie"), answer.header("routecache-fetch")), (Some("a=b"), None));
    // From then on nothing is gained by a fetch.
    for version in 3..6 {
        let answer = user(&mut world);
        assert_eq!((answer.text(), answer.details.as_str()), (format!("v{version}"), "via_upstream"));
        assert_eq!(asked(&world), version);
    }
}

#[test]
fn an_error_without_anything_to_stand_in_is_shown_and_asked_for_once() {
    for failure in [Response::new(503).body("busy"), Response::new(404).body("gone"), Response::new(500)] {
        let (mut count, failing) = (0, failure.clone());
        let mut world = stage(&alone(&json!({})), move |_: &Call| {
            count += 1;
            let answer = Response::ok("v1").header("etag", "\"a\"").header("cache-control", "max-age=10");
            if count == 1 { answer } else { failing.clone() }
        });
        user(&mut world);
        wait_s(&mut world, 15);
        let answer = user(&mut world);
        assert_ne!((answer.status, answer.text().as_str()), (200, "v1"), "{failure:?}");
        assert_eq!(asked(&world), 2, "{failure:?}");
        assert_eq!(answer.header("routecache-fetch"), None);
    }
}

/// RFC 5861 §4: 5xx, a broken connection, none at all, and an origin that takes too long; nothing else, and not for longer.
#[test]
fn a_stale_response_stands_in_for_every_kind_of_failure_and_for_nothing_else() {
    let failures: [(&str, Reply, Option<u16>); 11] = [
        ("500", Response::new(500).body("x").into(), Some(500)),
        ("502", Response::new(502).into(), Some(502)),
        ("503", Response::new(503).body("busy").into(), Some(503)),
        ("504", Response::new(504).into(), Some(504)),
        ("reset", Reply::reset(), Some(503)),
        ("no connection", Reply::connect_failure(), Some(503)),
        ("hangs", Reply::hang(), Some(504)),
        ("401", Response::new(401).into(), None),
        ("403", Response::new(403).body("x").into(), None),
        ("404", Response::new(404).into(), None),
        ("410", Response::new(410).into(), None),
    ];
    for (name, failure, stands_in) in failures {
        for (etag, within) in [("\"a\"", true), ("", true), ("\"a\"", false)] {
            let (mut count, failure) = (0, failure.clone());
            let mut world = stage(&alone(&json!({ "stale_if_error": "1m" })), move |_: &Call| {
                count += 1;
                let answer = Response::ok("v1").header("cache-control", "max-age=10");
                match (count, etag) {
                    (1, "") => answer.into(),
                    (1, etag) => answer.header("etag", etag).into(),
                    _ => failure.clone(),
                }
            });
            user(&mut world);
            wait_s(&mut world, if within { 15 } else { 71 });
            let answer = user(&mut world);
            match stands_in.filter(|_| within) {
                Some(code) => {
                    assert_eq!((answer.status, answer.text().as_str()), (200, "v1"), "{name}, `{etag}`");
                    let told = format!("fwd=stale; fwd-status={code}; detail=stale-if-error");
                    assert_eq!(
                        (status(&answer), answer.details.as_str()),
                        (told, "routecache_stale"),
                        "{name}, `{etag}`"
                    );
                }
                None => assert_ne!(answer.text(), "v1", "{name}, `{etag}`"),
            }
        }
    }
}

#[test]
fn while_an_origin_is_known_to_fail_nobody_waits_for_it_again() {
    let mut count = 0;
    let mut world = stage(&alone(&json!({ "stale_if_error": "1h" })), move |_: &Call| {
        count += 1;
        let answer = Response::ok("v1").header("cache-control", "max-age=10");
        if count == 1 || count > 4 { Reply::from(answer) } else { Reply::hang() }
    });
    user(&mut world);
    wait_s(&mut world, 11);
    assert_eq!(user(&mut world).took(), ms(15_000));
    let at_once = user(&mut world);
    assert_eq!((at_once.took(), at_once.text().as_str()), (ms(0), "v1"));
    assert_eq!(status(&at_once), "hit; detail=stale-if-error");
    assert_eq!(asked(&world), 2);
}

#[test]
fn without_a_way_back_the_origin_is_asked_by_the_client_itself_and_that_is_said_once() {
    let (builder, _, _) = world(&alone(&json!({ "stale_while_revalidate": "30s", "stale_if_error": "1m" })));
    let mut world = builder.workers(2).origin(unchanging).build().expect("a world");
    user(&mut world);
    wait_s(&mut world, 15);
    // Nothing could be known before it was tried.
    assert_eq!(status(&user(&mut world)), "hit; detail=worker");
    for _ in 0..3 {
        let answer = user(&mut world);
        assert!(status(&answer).starts_with("fwd=stale; fwd-status=304") || status(&answer).starts_with("hit"));
        wait_s(&mut world, 15);
    }
    let said = world.log_text().matches("there is no cluster `routecache-self`").count();
    assert_eq!(said, 1, "{}", world.log_text());
}

#[test]
fn early_refreshes_before_anything_is_stale_and_once() {
    let mut world = stage(&alone(&json!({ "early": "4s" })), counting(""));
    user(&mut world);
    wait_s(&mut world, 5);
    assert_eq!((user(&mut world).text().as_str(), asked(&world)), ("v1", 1));
    wait_s(&mut world, 2);
    let ids = world.clients(50).get("/users/7");
    world.run_until_idle();
    assert!(ids.into_iter().all(|id| world.answer(id).text() == "v1"));
    assert_eq!(asked(&world), 2);
    world.advance(ELSEWHERE);
    for worker in [0, 1] {
        let hit = get(&mut world, worker, "/users/7");
        assert_eq!((hit.text().as_str(), hit.header("age")), ("v2", Some("0")));
    }
    assert_eq!(asked(&world), 2);
}

#[test]
fn revalidate_after_refreshes_what_is_old_however_fresh_it_is() {
    let mut world = stage(&alone(&json!({ "revalidate_after": "3s", "ttl": "1h" })), |call: &Call| {
        let answer = if call.header("if-none-match").is_some() { Response::new(304) } else { Response::ok("v1") };
        answer.header("etag", "\"a\"").after(ms(30))
    });
    user(&mut world);
    for round in 1..5 {
        wait_s(&mut world, 2);
        user(&mut world);
        assert_eq!(asked(&world), round);
        wait_s(&mut world, 2);
        user(&mut world);
        assert_eq!(asked(&world), round + 1, "behind the client");
    }
}

/// It is the origin's word that gets old, wherever it lies.
#[test]
fn revalidate_after_counts_the_time_that_the_group_had_it() {
    let rules = with(rules(), &json!({ "revalidate_after": "5s", "ttl": "1h" }));
    let (builder, ..) = world(&rules);
    let mut world = builder
        .gateways(3)
        .loopback("routecache-self")
        .origin(|call: &Call| match call.header("if-none-match") {
            Some(_) => Response::new(304),
            None => Response::ok("v1").header("etag", "\"a\""),
        })
        .build()
        .expect("a world");
    settle(&mut world);
    let user = |world: &mut World, gateway| {
        let answer = world.fetch(Request::get("/users/7").gateway(gateway));
        world.run_for(ms(300));
        (status(&answer).split(';').next().unwrap_or_default().to_owned(), asked(world))
    };
    assert_eq!(user(&mut world, 0), ("fwd=uri-miss".to_owned(), 1));
    world.run_for(ms(3000));
    assert_eq!(user(&mut world, 1), ("hit".to_owned(), 1));
    world.run_for(ms(2500));
    // It came here 2.8 s ago, and from the origin 6 s ago; what the third gateway gets there is as old.
    assert_eq!((user(&mut world, 1), user(&mut world, 2)), (("hit".to_owned(), 2), ("hit".to_owned(), 2)));
    world.run_for(ms(5500));
    assert_eq!(user(&mut world, 2), ("hit".to_owned(), 3));
    // What another one has asked about since, and isn't due, is taken from the group.
    assert_eq!(user(&mut world, 0), ("hit".to_owned(), 3));
}

/// A purge says nothing of whether responses are for sharing.
#[test]
fn what_is_stored_after_a_purge_that_overtook_a_validation_is_refreshed_as_ever() {
    let terms = json!({ "early": "4s" });
    let mut world = stage(&alone(&terms), |call: &Call| match call.method() {
        "PUT" => Response::new(204),
        _ => unchanging(call).after(ms(200)),
    });
    user(&mut world);
    wait_s(&mut world, 12);
    world.send(Request::get("/users/7"));
    world.run_for(ms(100));
    world.fetch(Request::put("/users/7").body("x"));
    world.run_until_idle();
    user(&mut world);
    let before = asked(&world);
    wait_s(&mut world, 8);
    assert!(status(&user(&mut world)).starts_with("hit"));
    assert_eq!(asked(&world), before + 1, "behind the client");
}

#[test]
fn chance_refreshes_one_client_before_the_end_where_the_rule_asks_for_it() {
    let mut world = stage(&alone(&json!({ "early": { "within": "9s", "probabilistic": true } })), counting(""));
    user(&mut world);
    // The origin takes 30 ms, so that with seconds to go nobody refreshes, and with 3 ms to go nearly everybody would.
    wait_s(&mut world, 5);
    for _ in 0..100 {
        user(&mut world);
    }
    assert_eq!(asked(&world), 1);
    world.advance(ms(4963));
    for _ in 0..20 {
        get(&mut world, 0, "/users/7");
    }
    world.run_until_idle();
    assert_eq!(asked(&world), 2);
}

#[test]
fn sliding_makes_what_is_used_fresh_again_on_every_worker_and_nothing_else() {
    let mut count = 0;
    let mut world = stage(&alone(&json!({ "sliding": true, "ttl": "10s" })), move |_: &Call| {
        count += 1;
        Response::ok(format!("v{count}"))
    });
    user(&mut world);
    for second in 1..30 {
        wait_s(&mut world, 1);
        let hit = get(&mut world, second % 2, "/users/7");
        assert_eq!((hit.text().as_str(), hit.header("age")), ("v1", Some(second.to_string().as_str())));
    }
    wait_s(&mut world, 11);
    assert_eq!(user(&mut world).text(), "v2", "unused for longer than its lifetime");
    // A purge ends it all the same, and what the origin says of a lifetime isn't stretched.
    world.fetch(Request::put("/users/7").body("x"));
    assert_ne!(user(&mut world).text(), "v2");
    let mut world = stage(&alone(&json!({ "sliding": true })), counting(""));
    user(&mut world);
    wait_s(&mut world, 6);
    user(&mut world);
    wait_s(&mut world, 6);
    assert_eq!(user(&mut world).text(), "v2");
}

#[test]
fn revalidate_after_bounds_how_long_sliding_keeps_what_is_used() {
    let mut world = stage(&alone(&json!({ "sliding": true, "ttl": "10s", "revalidate_after": "25s" })), unsaid);
    user(&mut world);
    for _ in 0..30 {
        wait_s(&mut world, 1);
        user(&mut world);
    }
    assert_eq!(asked(&world), 2);
}

/// An origin that leaves the lifetime to the rule.
fn unsaid(call: &Call) -> Response {
    let answer = if call.header("if-none-match").is_some() { Response::new(304) } else { Response::ok("v1") };
    answer.header("etag", "\"a\"").after(ms(30))
}

#[test]
fn in_failover_mode_the_cache_answers_only_when_the_origin_fails_and_never_past_the_limit() {
    let failures: [(Reply, u16); 6] = [
        (Response::new(500).body("x").into(), 500),
        (Response::new(503).into(), 503),
        (Reply::reset(), 503),
        (Reply::connect_failure(), 503),
        (Reply::hang(), 504),
        (Response::new(404).body("gone").into(), 0),
    ];
    for rules in [rules(), rules_alone()] {
        for (failure, code) in &failures {
            let (mut count, failing) = (0, failure.clone());
            let mut rules = with(rules.clone(), &json!({ "stale_if_error": "1m" }));
            rules["routes"][0]["mode"] = json!("failover");
            let mut world = stage(&rules, move |_: &Call| {
                count += 1;
                let answer =
                    Response::ok(format!("v{count}")).header("etag", "\"a\"").header("cache-control", "max-age=10");
                if count < 4 { Reply::from(answer) } else { failing.clone() }
            });
            for version in 1..4 {
                let answer = user(&mut world);
                assert_eq!(answer.text(), format!("v{version}"), "the origin answers, fresh as the entry is");
                assert_eq!(status(&answer), "fwd=bypass; stored; detail=failover");
            }
            assert!(world.origin_requests().iter().all(|call| call.header("if-none-match").is_none()));
            for worker in [0, 1] {
                let answer = get(&mut world, worker, "/users/7");
                world.run_until_idle();
                if *code == 0 {
                    assert_eq!(answer.status, 404);
                } else {
                    assert_eq!(answer.text(), "v3", "{failure:?}");
                    assert_eq!(status(&answer), format!("fwd=bypass; fwd-status={code}; detail=failover"));
                }
            }
            wait_s(&mut world, 71);
            assert_ne!(user(&mut world).text(), "v3", "{failure:?}");
        }
    }
}

/// Rules by which a write to a user has its orders read again, each page.
fn recaching(mut rules: Value) -> Value {
    rules["routes"][2]["recache"] = json!([
        { "route": "user", "include": ["id"] },
        { "route": "orders", "include": ["id"], "set": { "query.page": [1, 2] } }
    ]);
    rules
}

#[test]
fn what_a_write_purged_is_read_again_behind_it_for_the_next_reader_and_as_nobody() {
    for rules in [rules(), rules_alone()] {
        let mut version = 1;
        let mut world = stage(&recaching(rules), move |call: &Call| {
            version += u32::from(call.method() == "PUT");
            Response::ok(format!("v{version} of {}", call.path())).after(ms(40))
        });
        get(&mut world, 0, "/users/7");
        let write = Request::put("/users/7")
            .body("x")
            .header("cookie", "session=1")
            .header("authorization", "Bearer x")
            .header("x-forwarded-for", "10.0.0.1")
            .header("x-forwarded-proto", "https");
        let written = world.fetch(write);
        assert!(written.took() <= ms(42), "nobody waits for it: {:?}", written.took());
        world.run_until_idle();
        let calls = world.origin_requests()[2..].to_vec();
        let mut paths: Vec<&str> = calls.iter().map(Call::path).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["/users/7", "/users/7/orders?page=1", "/users/7/orders?page=2"]);
        for call in &calls {
            for name in ["cookie", "authorization", "x-forwarded-for"] {
                assert_eq!(call.header(name), None, "{name}");
            }
            assert_eq!((call.method(), call.header("x-forwarded-proto")), ("GET", Some("https")));
        }
        for (worker, path) in [(0, "/users/7"), (1, "/users/7/orders?page=1"), (0, "/users/7/orders?page=2")] {
            let answer = world.fetch(Request::get(path).worker(worker).header("x-forwarded-proto", "https"));
            assert_eq!((answer.text(), status(&answer).split(';').next()), (format!("v2 of {path}"), Some("hit")));
        }
        assert_eq!(world.metric("routecache_recaches_stored"), 3);
    }
}

/// Each of a list: in the write, in its response, and among the tags that it purges.
#[test]
fn what_a_write_names_in_lists_is_read_again_one_by_one() {
    let mut rules = rules_alone();
    rules["routes"][2]["match"]["path"] = "/users".into();
    rules["routes"][2]["purge"]["tags"] = json!([{ "request_json": "/users/*/id", "as": "user:{}" }]);
    rules["routes"][2]["recache"] = json!([
        { "route": "user", "each": { "id": { "tag": "user:{}" } } },
        { "route": "orders", "each": { "id": { "request_json": "/users/*/id" } }, "set": { "query.page": [1, 2] } },
        { "route": "user", "each": { "id": { "json": "/created/*" } } }
    ]);
    let mut world = stage(&rules, |call: &Call| match call.method() {
        "POST" => Response::ok(json!({ "created": ["new/1", 8, "7"] }).to_string()).after(ms(20)),
        _ => Response::ok("x").after(ms(20)),
    });
    let body = json!({ "users": [{ "id": 7 }, { "id": "a b" }] }).to_string();
    let written = world.fetch(Request::post("/users").body(&body).header("cookie", "session=1"));
    assert_eq!((written.status, status(&written).as_str()), (200, "fwd=method; detail=purged"));
    world.run_until_idle();
    let mut paths: Vec<String> = world.origin_requests()[1..].iter().map(|call| call.path().to_owned()).collect();
    paths.sort_unstable();
    let orders = ["7", "a%20b"].map(|id| [1, 2].map(|page| format!("/users/{id}/orders?page={page}")));
    let mut expected: Vec<String> = orders.concat();
    // `7` is among the tags and in the response: what waits already isn't asked for twice.
    expected.extend(["7", "8", "a%20b", "new%2F1"].map(|id| format!("/users/{id}")));
    expected.sort_unstable();
    paths.dedup();
    assert_eq!(paths, expected);
    assert!(world.origin_requests()[1..].iter().all(|call| call.header("cookie").is_none() && call.method() == "GET"));
    for path in expected {
        assert!(status(&get(&mut world, 1, &path)).starts_with("hit"), "{path}");
    }
}

#[test]
fn of_a_long_list_only_so_many_are_read_again() {
    let mut rules = rules_alone();
    rules["routes"][2]["recache"] = json!([{ "route": "orders", "each": { "id": { "request_json": "/ids/*" } } }]);
    rules["limits"]["recache_rate"] = json!(1000);
    let ids = |count: u32| json!({ "ids": (0..count).collect::<Vec<_>>() }).to_string();
    for (body, reads) in [(ids(100), 64), (ids(129), 0), ("{\"ids\":[1".to_owned(), 0)] {
        let mut world = stage(&rules, |_: &Call| Response::ok("x"));
        world.fetch(Request::put("/users/7").body(&body));
        world.run_until_idle();
        assert_eq!(asked(&world) - 1, reads);
    }
}

#[test]
fn a_write_that_failed_has_nothing_read_again() {
    let mut world = stage(&recaching(rules_alone()), |call: &Call| {
        Response::new(if call.method() == "PUT" { 409 } else { 200 }).body("x")
    });
    world.fetch(Request::put("/users/7").body("x"));
    world.run_until_idle();
    assert_eq!(asked(&world), 1);
}

/// C1, and no write is read again for ever: of writes in a row, the last one's reads stay.
#[test]
fn of_many_writes_in_a_row_the_last_ones_state_is_what_is_read() {
    let mut version = 0;
    let mut world = stage(&recaching(rules_alone()), move |call: &Call| {
        version += u32::from(call.method() == "PUT");
        Response::ok(format!("v{version}")).after(ms(40))
    });
    for _ in 0..20 {
        world.send(Request::put("/users/7").body("x"));
        world.run_for(ms(7));
    }
    world.run_until_idle();
    let reads = asked(&world) - 20;
    assert!(reads < 60, "what waits already isn't asked for twice: {reads}");
    for path in ["/users/7", "/users/7/orders?page=1", "/users/7/orders?page=2"] {
        let answer = get(&mut world, 0, path);
        assert_eq!(answer.text(), "v20", "{path}");
        assert!(status(&answer).starts_with("hit"), "{path}");
    }
}

#[test]
fn reads_after_writes_are_bounded_at_a_time_and_in_a_second() {
    let mut rules = recaching(rules_alone());
    rules["limits"]["recache_concurrency"] = json!(2);
    rules["limits"]["recache_rate"] = json!(5);
    let mut world =
        stage(&rules, |call: &Call| Response::ok("x").after(ms(if call.method() == "PUT" { 1 } else { 100 })));
    for user in 0..10 {
        world.fetch(Request::put(&format!("/users/{user}")).body("x"));
    }
    let reads = |world: &World| asked(world) - 10;
    world.run_for(ms(10));
    assert_eq!(reads(&world), 2);
    world.run_for(ms(900));
    assert!(reads(&world) <= 10, "{}", reads(&world));
    world.run_for(ms(8000));
    assert_eq!(reads(&world), 30, "all in time");
}
