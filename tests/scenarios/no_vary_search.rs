//! Responses that answer several queries (`No-Vary-Search`).

use proxy_wasm_host_test::{Call, Request, Response, World};
use serde_json::{Value, json};

use super::stage::{get, ms, rules, rules_alone, settle, status, world};

fn honoured(mut rules: Value) -> Value {
    rules["routes"][0]["cache"]["no_vary_search"] = json!("respect");
    rules
}

/// A world of two gateways with two workers each, whose origin says this, and which query it was asked for.
fn stage(rules: &Value, said: &'static str) -> World {
    let (builder, _, _) = world(rules);
    let origin = move |call: &Call| Response::ok(call.path()).header("no-vary-search", said);
    let mut world = builder.gateways(2).workers(2).origin(origin).build().expect("a world");
    settle(&mut world);
    world
}

fn query(world: &mut World, query: &str) -> (String, String) {
    let answer = get(world, 0, &format!("/users/7?{query}"));
    world.run_until_idle();
    (status(&answer), answer.text().split('?').nth(1).unwrap_or_default().to_owned())
}

const HIT: &str = "hit; detail=worker";
const MISS: &str = "fwd=uri-miss; stored";

/// The draft's examples, and what it tells apart.
#[test]
fn a_response_answers_the_queries_that_differ_only_in_what_it_says_does_not_matter() {
    for (said, first, second, expected) in [
        ("params=(\"utm_source\" \"utm_medium\")", "a=1&utm_source=x", "utm_medium=y&a=1", HIT),
        ("params=(\"utm_source\")", "a=1&utm_source=x", "a=1", HIT),
        ("params=(\"utm_source\")", "a=1&utm_source=x", "a=2&utm_source=x", MISS),
        ("params=(\"utm_source\")", "a=1", "a=1&other=x", MISS),
        ("params, except=(\"a\")", "a=1&b=1", "c=3&a=1", HIT),
        ("params, except=(\"a\")", "a=1&b=1", "a=2&b=1", MISS),
        ("params", "a=1", "", HIT),
        ("key-order", "a=1&b=1", "b=1&a=1", HIT),
        ("key-order", "a=1&b=1", "b=1&a=1&c", MISS),
        ("params=(utm_source)", "a=1&utm_source=x", "a=1", MISS),
        ("params=(\"utm_source\"", "a=1&utm_source=x", "a=1", MISS),
        ("params=(\"utm_source\"), unknown", "a=1&utm_source=x", "a=1", MISS),
    ] {
        for rules in [honoured(rules()), honoured(rules_alone())] {
            let mut world = stage(&rules, said);
            assert_eq!(query(&mut world, first).0, MISS, "{said}");
            assert_eq!(query(&mut world, first), (HIT.to_owned(), first.to_owned()), "{said}");
            let (status, body) = query(&mut world, second);
            assert_eq!(status, expected, "{said}: {first}, {second}");
            assert_eq!(body, if expected == HIT { first } else { second }, "{said}");
        }
    }
}

#[test]
fn a_rule_that_does_not_say_so_does_not_hear_it() {
    let mut rules = honoured(rules());
    rules["routes"][0]["cache"]["no_vary_search"] = json!("ignore");
    let mut world = stage(&rules, "params");
    assert_eq!(query(&mut world, "a=1").0, MISS);
    assert_eq!(query(&mut world, "a=2").0, MISS);
}

#[test]
fn other_workers_and_gateways_find_it_and_other_paths_do_not() {
    let mut world = stage(&honoured(rules()), "params=(\"utm\")");
    query(&mut world, "a=1&utm=x");
    let ask = |world: &mut World, gateway, worker, target: &str| {
        let answer = world.fetch(Request::get(target).gateway(gateway).worker(worker));
        world.run_until_idle();
        status(&answer)
    };
    assert_eq!(ask(&mut world, 0, 1, "/users/7?utm=y&a=1"), "hit; detail=gateway");
    assert_eq!(ask(&mut world, 0, 1, "/users/7?utm=z&a=1"), HIT);
    assert_eq!(ask(&mut world, 1, 0, "/users/7?utm=y&a=1"), "hit; detail=group");
    assert_eq!(ask(&mut world, 1, 0, "/users/7?a=1"), HIT);
    assert_eq!(ask(&mut world, 1, 1, "/users/7?a=1"), "hit; detail=gateway");
    assert_eq!(ask(&mut world, 1, 1, "/users/8?a=1"), MISS);
}

/// C1, C2, C3: also where the write's rule has no tags, and the store holds it under another URL.
#[test]
fn a_write_to_any_of_its_urls_purges_it_on_every_worker_and_gateway() {
    for target in ["/users/7", "/users/7?a=1&utm=z", "/users/7?utm=x", "/users/7?other"] {
        let mut rules = honoured(rules());
        rules["routes"].as_array_mut().expect("routes").truncate(1);
        rules["routes"][0]["cache"]["tags"] = json!(["unrelated"]);
        let mut world = stage(&rules, "params=(\"utm\")");
        let all = [(0, 0), (0, 1), (1, 0), (1, 1)];
        let ask = |world: &mut World, number: usize, (gateway, worker)| {
            let request = Request::get(&format!("/users/7?a=1&utm={number}"));
            let answer = world.fetch(request.gateway(gateway).worker(worker));
            world.run_until_idle();
            status(&answer)
        };
        for (number, place) in all.into_iter().enumerate() {
            ask(&mut world, number, place);
        }
        world.fetch(Request::put(target).body("x"));
        world.run_for(ms(50));
        assert_eq!(ask(&mut world, 4, (1, 1)), MISS, "{target}");
        assert_eq!(ask(&mut world, 5, (0, 0)), "hit; detail=group", "{target}");
        assert_eq!(ask(&mut world, 6, (0, 1)), "hit; detail=gateway", "{target}");
    }
}

/// RFC 9111 §4.1, for each query by itself.
#[test]
fn variants_of_such_a_response_stand_side_by_side() {
    let (builder, _, _) = world(&honoured(rules()));
    let origin = |call: &Call| {
        let said = [call.path(), call.header("accept-language").unwrap_or_default()].concat();
        Response::ok(said).header("no-vary-search", "params=(\"utm\")").header("vary", "accept-language")
    };
    let mut world = builder.gateways(2).origin(origin).build().expect("a world");
    settle(&mut world);
    let ask = |world: &mut World, gateway, query: &str, language: &str| {
        let request = Request::get(&format!("/users/7?{query}")).header("accept-language", language);
        let answer = world.fetch(request.gateway(gateway));
        world.run_until_idle();
        (status(&answer), answer.text())
    };
    assert_eq!(ask(&mut world, 0, "a=1&utm=1", "de").0, MISS);
    assert_eq!(ask(&mut world, 0, "a=1&utm=2", "fr").0, "fwd=vary-miss; stored");
    for (language, utm) in [("de", 1), ("fr", 2)] {
        let stored = format!("/users/7?a=1&utm={utm}{language}");
        assert_eq!(ask(&mut world, 0, "a=1&utm=3", language), (HIT.to_owned(), stored.clone()));
        assert_eq!(ask(&mut world, 1, "a=1&utm=4", language), ("hit; detail=group".to_owned(), stored));
    }
}

/// RFC 9111 §4.3.
#[test]
fn a_304_to_one_query_renews_what_answers_all() {
    let (builder, _, _) = world(&honoured(rules()));
    let origin = |call: &Call| {
        let answer = if call.header("if-none-match").is_some() { Response::new(304) } else { Response::ok("v1") };
        let answer = answer.header("etag", "\"a\"").header("cache-control", "max-age=10");
        if call.header("if-none-match").is_some() { answer } else { answer.header("no-vary-search", "params") }
    };
    let mut world = builder.origin(origin).build().expect("a world");
    settle(&mut world);
    assert_eq!(query(&mut world, "a=1").0, MISS);
    world.advance(ms(11_000));
    assert_eq!(query(&mut world, "a=2").0, "fwd=stale; fwd-status=304; stored");
    assert_eq!(query(&mut world, "a=3").0, HIT);
}

/// What an origin said before it changed its mind doesn't outlive what it said later.
#[test]
fn of_two_responses_that_answer_the_later_one_does() {
    let origin = |call: &Call| match call.header("x-round") {
        Some(said) => Response::ok("later").header("no-vary-search", said),
        None => Response::ok("earlier").header("no-vary-search", "params"),
    };
    for later in ["", "params=(\"a\")", "params, except=(\"b\")"] {
        let mut rules = honoured(rules());
        rules["routes"][0]["cache"]["client_directives"] = json!("honour");
        let (builder, _, _) = world(&rules);
        let mut world = builder.origin(origin).build().expect("a world");
        settle(&mut world);
        query(&mut world, "a=1");
        world.advance(ms(1000));
        let reload = Request::get("/users/7?a=1").header("cache-control", "no-cache").header("x-round", later);
        assert_eq!(world.fetch(reload).text(), "later");
        world.run_until_idle();
        assert_eq!(get(&mut world, 0, "/users/7?a=1").text(), "later", "{later}");
    }
}

/// C10: campaigns bring many queries at once.
#[test]
fn those_who_ask_for_other_queries_at_once_wait_for_one_fetch_once_it_is_known_that_they_may() {
    let mut rules = honoured(rules());
    rules["routes"][0]["cache"]["lock"] = json!("gateway");
    let mut world = stage(&rules, "params=(\"utm\")");
    query(&mut world, "a=1");
    world.fetch(Request::put("/users/7").body("x"));
    world.run_for(ms(50));
    let before = world.origin_requests().len();
    let ask = |number: usize| Request::get(&format!("/users/7?a=1&utm={number}")).worker(number % 2);
    let ids: Vec<_> = (0..40).map(|number| world.send(ask(number))).collect();
    let other = world.send(Request::get("/users/7?a=2&utm=1"));
    world.run_until_idle();
    let told = |status_is: &str| ids.iter().filter(|id| status(world.answer(**id)) == status_is).count();
    assert_eq!((told(MISS), told("fwd=uri-miss; collapsed")), (1, 39));
    assert_eq!(status(world.answer(other)), MISS);
    assert_eq!(world.origin_requests().len(), before + 2);
}
