//! HTTP caching (RFC 9111 and neighbours), as the shipped filter does it.

use std::cell::RefCell;
use std::rc::Rc;

use proxy_wasm_host_test::{Answer, Call, Request, Response, World};
use serde_json::{Value, json};

use super::stage::{ms, rules, rules_alone, settle, status, world};

/// The stage's rules with more terms for users.
fn with(terms: &Value) -> Value {
    merged(rules(), terms)
}

fn merged(mut rules: Value, terms: &Value) -> Value {
    for (name, value) in terms.as_object().expect("a map") {
        rules["routes"][0]["cache"][name] = value.clone();
    }
    rules
}

/// What the origin heard, the last request last.
type Heard = Rc<RefCell<Vec<Call>>>;

/// A world whose origin answers as told, and what it hears.
fn stage(rules: &Value, answer: impl Fn(&Call, usize) -> Response + 'static) -> (World, Heard) {
    let heard = Heard::default();
    let hears = Rc::clone(&heard);
    let origin = move |call: &Call| {
        hears.borrow_mut().push(call.clone());
        let number = hears.borrow().len();
        answer(call, number)
    };
    let (builder, _, _) = world(rules);
    let mut world = builder.workers(2).origin(origin).build().expect("a world");
    settle(&mut world);
    (world, heard)
}

fn user() -> Response {
    Response::ok("0123456789").header("content-type", "text/plain")
}

fn get(world: &mut World, lines: &[(&str, &str)]) -> Answer {
    let request = lines.iter().fold(Request::get("/users/7"), |request, (name, value)| request.header(name, value));
    let answer = world.fetch(request);
    world.run_until_idle();
    answer
}

/// RFC 9111 §4.3.
#[test]
fn a_stale_response_is_validated_with_both_validators_and_a_304_renews_it() {
    let modified = "Mon, 24 Nov 2025 15:00:00 GMT";
    let (mut world, heard) = stage(&with(&json!({})), move |call, number| {
        let answer = match call.header("if-none-match") {
            Some("\"a\"") => Response::new(304).header("x-round", number.to_string()),
            _ => user(),
        };
        answer.header("etag", "\"a\"").header("last-modified", modified).header("cache-control", "max-age=10")
    });
    get(&mut world, &[]);
    world.advance(ms(11_000));
    let validated = get(&mut world, &[]);
    assert_eq!((validated.status, validated.text().as_str()), (200, "0123456789"));
    assert_eq!(status(&validated), "fwd=stale; fwd-status=304; stored");
    assert_eq!(validated.header("x-round"), Some("2"));
    assert_eq!(heard.borrow()[1].header("if-modified-since"), Some(modified));
    for worker in [0, 1] {
        let hit = world.fetch(Request::get("/users/7").worker(worker));
        assert_eq!((status(&hit).split(';').next(), hit.header("x-round")), (Some("hit"), Some("2")), "{worker}");
    }
    // On another gateway too, from the group.
    assert_eq!(heard.borrow().len(), 2);
}

/// RFC 9111 §4.3.2 and RFC 9110 §14.
#[test]
fn a_clients_own_condition_and_range_are_answered_from_what_is_stored() {
    let (mut world, heard) = stage(&with(&json!({})), |_, _| user().header("etag", "\"a\""));
    get(&mut world, &[]);
    for (lines, code, body) in [
        (&[("if-none-match", "W/\"a\"")][..], 304, ""),
        (&[("if-none-match", "\"b\"")], 200, "0123456789"),
        (&[("range", "bytes=2-3")], 206, "23"),
        (&[("range", "bytes=-1"), ("if-range", "\"a\"")], 206, "9"),
        (&[("range", "bytes=-1"), ("if-range", "\"b\"")], 200, "0123456789"),
        (&[("range", "bytes=10-")], 416, ""),
    ] {
        let answer = get(&mut world, lines);
        assert_eq!((answer.status, answer.text().as_str()), (code, body), "{lines:?}");
        assert_eq!(status(&answer), "hit; detail=worker", "{lines:?}");
    }
    assert_eq!(heard.borrow().len(), 1);
}

/// RFC 9111 §3.3: a part isn't the whole.
#[test]
fn a_range_that_is_not_stored_is_forwarded_and_poisons_nothing() {
    let (mut world, heard) = stage(&with(&json!({})), |call, _| match call.header("range") {
        Some(_) => {
            Response::new(206).body("23").header("content-range", "bytes 2-3/10").header("cache-control", "max-age=60")
        }
        None => user(),
    });
    assert_eq!(status(&get(&mut world, &[("range", "bytes=2-3")])), "fwd=uri-miss; detail=status");
    assert_eq!(get(&mut world, &[]).text(), "0123456789");
    assert_eq!(get(&mut world, &[("range", "bytes=2-3")]).status, 206);
    assert_eq!(heard.borrow().len(), 2);
}

#[test]
fn a_rule_may_ask_for_the_whole_where_a_part_is_asked_for() {
    let (mut world, heard) = stage(&with(&json!({ "range_miss": "whole" })), |_, _| user());
    let whole = get(&mut world, &[("range", "bytes=2-3"), ("if-range", "\"a\"")]);
    assert_eq!((whole.status, status(&whole).as_str()), (200, "fwd=uri-miss; stored"));
    assert!(heard.borrow().iter().all(|call| call.header("range").is_none() && call.header("if-range").is_none()));
    assert_eq!(get(&mut world, &[("range", "bytes=2-3")]).status, 206);
}

/// RFC 9111 §4.1.
#[test]
fn variants_of_one_url_are_kept_side_by_side_on_every_worker_and_in_the_group() {
    let language = |call: &Call, _| {
        let language = call.header("accept-language").unwrap_or("none").to_owned();
        Response::ok(language).header("vary", "Accept-Language")
    };
    let heard = Heard::default();
    let hears = Rc::clone(&heard);
    let (builder, _, _) = world(&rules());
    let origin = move |call: &Call| {
        hears.borrow_mut().push(call.clone());
        language(call, 0)
    };
    let mut world = builder.gateways(2).workers(2).origin(origin).build().expect("a world");
    settle(&mut world);
    let ask = |world: &mut World, gateway, worker, language| {
        let request = Request::get("/users/7").header("accept-language", language).gateway(gateway).worker(worker);
        let answer = world.fetch(request);
        world.run_until_idle();
        assert_eq!(answer.text(), language);
        status(&answer)
    };
    assert_eq!(ask(&mut world, 0, 0, "de"), "fwd=uri-miss; stored");
    assert_eq!(ask(&mut world, 0, 0, "fr"), "fwd=vary-miss; stored");
    for language in ["de", "fr"] {
        assert_eq!(ask(&mut world, 0, 0, language), "hit; detail=worker", "{language}");
        assert_eq!(ask(&mut world, 0, 1, language), "hit; detail=gateway", "{language}");
        assert_eq!(ask(&mut world, 1, 0, language), "hit; detail=group", "{language}");
        assert_eq!(ask(&mut world, 1, 1, language), "hit; detail=gateway", "{language}");
    }
    assert_eq!(heard.borrow().len(), 2);
    // A write reaches all of them.
    world.fetch(Request::put("/users/7").body("x"));
    for language in ["de", "fr"] {
        assert!(ask(&mut world, 0, 1, language).starts_with("fwd="), "{language}");
    }
}

#[test]
fn gateways_learn_of_each_others_variants() {
    let (builder, _, _) = world(&rules());
    let origin =
        |call: &Call| Response::ok(call.header("accept-language").unwrap_or("none")).header("vary", "Accept-Language");
    let mut world = builder.gateways(3).origin(origin).build().expect("a world");
    settle(&mut world);
    let ask = |world: &mut World, gateway, language| {
        let answer = world.fetch(Request::get("/users/7").header("accept-language", language).gateway(gateway));
        world.run_until_idle();
        assert_eq!(answer.text(), language);
        status(&answer)
    };
    assert_eq!(ask(&mut world, 0, "de"), "fwd=uri-miss; stored");
    assert_eq!(ask(&mut world, 1, "fr"), "fwd=vary-miss; stored");
    for (gateway, language) in [(0, "fr"), (1, "de"), (2, "de"), (2, "fr")] {
        assert_eq!(ask(&mut world, gateway, language), "hit; detail=group", "{gateway}: {language}");
        assert_eq!(ask(&mut world, gateway, language), "hit; detail=worker", "{gateway}: {language}");
    }
    assert_eq!(world.origin_requests().len(), 2);
}

/// RFC 5861 §4 and RFC 9111 §4.2.4.
#[test]
fn a_stale_response_stands_in_for_an_error_within_its_window_unless_something_forbids_it() {
    for (control, after_s, wanted) in [
        ("max-age=10", 15, 200),
        ("max-age=10", 75, 503),
        ("max-age=10, stale-if-error=100", 75, 200),
        ("max-age=10, stale-if-error=2", 15, 503),
        ("max-age=10, must-revalidate", 15, 503),
        ("s-maxage=10", 15, 503),
    ] {
        for error in [Response::new(503).body("busy"), Response::new(503)] {
            let failing = error.clone();
            let (mut world, _) = stage(&with(&json!({ "stale_if_error": "1m" })), move |_, number| {
                if number == 1 { user().header("cache-control", control) } else { failing.clone() }
            });
            get(&mut world, &[]);
            world.advance(ms(after_s * 1000));
            let answer = get(&mut world, &[]);
            assert_eq!(answer.status, wanted, "{control} after {after_s} s: {error:?}");
            if wanted == 200 {
                assert_eq!(answer.text(), "0123456789", "{control}: {error:?}");
                assert_eq!(status(&answer), "fwd=stale; fwd-status=503; detail=stale-if-error");
            }
        }
    }
}

/// The purge protocol: a hard-purged body is never served on error, nor validated.
#[test]
fn what_was_purged_neither_stands_in_for_an_error_nor_is_validated() {
    for rules in [rules(), rules_alone()] {
        let (mut world, heard) = stage(&merged(rules, &json!({ "stale_if_error": "1h" })), |call, _| {
            match (call.method(), call.header("x-fail")) {
                ("PUT", _) => Response::new(204),
                (_, Some(_)) => Response::new(503).body("busy"),
                _ => user().header("etag", "\"a\"").header("cache-control", "max-age=10"),
            }
        });
        get(&mut world, &[]);
        world.fetch(Request::put("/users/7").body("x"));
        world.run_until_idle();
        world.advance(ms(11_000));
        assert_eq!(get(&mut world, &[("x-fail", "1")]).status, 503);
        get(&mut world, &[]);
        assert!(heard.borrow().iter().all(|call| call.header("if-none-match").is_none()));
    }
}

/// RFC 9111 §5.2.1.
#[test]
fn a_clients_directives_count_only_where_the_rule_honours_them() {
    for (directives, reload, only) in [("distrust", "hit; detail=worker", 200), ("honour", "fwd=request; stored", 504)]
    {
        let (mut world, heard) = stage(&with(&json!({ "client_directives": directives })), |_, _| user());
        let first = get(&mut world, &[("cache-control", "only-if-cached")]);
        assert_eq!(first.status, only, "{directives}");
        assert_eq!(heard.borrow().len(), usize::from(only == 200), "{directives}");
        get(&mut world, &[]);
        assert_eq!(status(&get(&mut world, &[("cache-control", "no-cache")])), reload, "{directives}");
        assert_eq!(get(&mut world, &[("cache-control", "only-if-cached")]).status, 200, "{directives}");
    }
}

/// RFC 9111 §4.4 and RFC 9875.
#[test]
fn a_write_invalidates_what_no_purge_rule_names() {
    let origin = |call: &Call, _: usize| match call.method() {
        "POST" if call.path() == "/groups" => Response::new(204).header("cache-group-invalidation", "\"staff\""),
        "POST" => Response::new(201).header("location", "/users/7"),
        "GET" => user().header("cache-groups", "\"staff\", \"all\""),
        _ => Response::new(500),
    };
    for (write, gone) in [
        (Request::post("/users/7").body("x"), true),
        (Request::post("/users").body("x"), true),
        (Request::post("/groups").body("x"), true),
        (Request::new("DELETE", "/users/8"), false),
    ] {
        let (mut world, _) = stage(&with(&json!({})), origin);
        get(&mut world, &[]);
        assert_eq!(status(&get(&mut world, &[])), "hit; detail=worker");
        let told = format!("{write:?}");
        world.fetch(write);
        assert_eq!(status(&get(&mut world, &[])).starts_with("fwd=uri-miss"), gone, "{told}");
    }
}

#[test]
fn words_of_a_response_field_are_tags_that_a_write_purges_and_no_client_sees() {
    let mut rules = with(&json!({ "tags": [{ "header": "Surrogate-Key" }] }));
    rules["routes"][2]["purge"]["tags"] = json!(["staff"]);
    let (mut world, _) = stage(&rules, |call, _| match call.method() {
        "GET" => user().header("surrogate-key", "menu staff"),
        _ => Response::new(204),
    });
    assert_eq!(get(&mut world, &[]).header("surrogate-key"), None);
    let hit = get(&mut world, &[]);
    assert_eq!((status(&hit).as_str(), hit.header("surrogate-key")), ("hit; detail=worker", None));
    world.fetch(Request::put("/users/8").body("x"));
    assert_eq!(status(&get(&mut world, &[])), "fwd=uri-miss; stored");
}

/// RFC 9213.
#[test]
fn a_targeted_field_decides_for_us_and_cache_control_for_clients() {
    let (mut world, _) = stage(&with(&json!({ "client_cache_control": "keep" })), |_, _| {
        user().header("cache-control", "no-store").header("cdn-cache-control", "max-age=60")
    });
    get(&mut world, &[]);
    let hit = get(&mut world, &[]);
    assert_eq!((status(&hit).as_str(), hit.header("cache-control")), ("hit; detail=worker", Some("no-store")));
}

#[test]
fn browsers_are_told_what_the_rule_says_on_a_miss_and_on_a_hit() {
    for (told, miss, hit) in [("no-cache", "no-cache", "no-cache"), ("30s", "max-age=30", "max-age=35")] {
        let (mut world, _) = stage(&with(&json!({ "client_cache_control": told })), |_, _| {
            user().header("cache-control", "max-age=600").header("expires", "0")
        });
        let first = get(&mut world, &[]);
        assert_eq!((first.header("cache-control"), first.header("expires")), (Some(miss), None), "{told}");
        world.advance(ms(5000));
        let second = get(&mut world, &[]);
        assert_eq!((second.header("cache-control"), second.header("expires")), (Some(hit), None), "{told}");
    }
}

/// RFC 9111 §4.3.5.
#[test]
fn the_response_to_a_head_renews_what_is_stored_or_makes_it_stale() {
    for (length, renewed) in [("10", true), ("11", false)] {
        let (mut world, _) = stage(&with(&json!({})), move |call, _| match call.method() {
            "HEAD" => Response::new(200).header("content-length", length).header("cache-control", "max-age=60"),
            _ => user().header("cache-control", "max-age=10"),
        });
        get(&mut world, &[]);
        world.advance(ms(11_000));
        world.fetch(Request::head("/users/7"));
        assert_eq!(status(&get(&mut world, &[])).starts_with("hit"), renewed, "{length}");
    }
}

/// facts/hosts.md §11: a reply is looked at on its way out once per entry and worker, and costs nothing more from then on.
#[test]
fn only_the_first_hit_of_an_entry_is_looked_at() {
    let (mut world, _) = stage(&with(&json!({})), |_, _| user());
    get(&mut world, &[]);
    for calls in [1, 0, 0] {
        get(&mut world, &[]);
        let trace = world.trace();
        let reply = trace.iter().rev().find(|callback| callback.name == "proxy_on_response_headers").expect("a reply");
        assert_eq!(reply.host_calls.len(), calls);
    }
}

/// RFC 9211 §2: each cache adds its member behind those of the caches nearer to the origin.
#[test]
fn what_other_caches_have_said_stays_in_front() {
    let (mut world, _) = stage(&with(&json!({})), |_, _| user().header("cache-status", "cdn; hit; ttl=5"));
    for ours in ["routecache; fwd=uri-miss; stored", "routecache; hit; ttl=299; detail=worker"] {
        let answer = get(&mut world, &[]);
        assert_eq!(answer.headers.all("cache-status"), ["cdn; hit; ttl=5", ours]);
    }
}

/// A connection that becomes another protocol's, and gRPC in any rule's way: passed on as they are, never stored.
#[test]
fn upgrades_and_grpc_are_left_alone() {
    let mut rules = merged(rules_alone(), &json!({ "key": "user:{id}:{body}", "tags": ["user:{id}"] }));
    rules["routes"][0]["match"]["methods"] = json!(["GET", "POST"]);
    let (mut world, heard) = stage(&rules, |call, _| match call.header("upgrade") {
        Some(_) => Response::new(101).header("upgrade", "websocket").chunk(ms(5), "frame").chunk(ms(5), "frame"),
        None => Response::grpc("message"),
    });
    for _ in 0..2 {
        let answer = get(&mut world, &[("connection", "upgrade"), ("upgrade", "websocket")]);
        assert_eq!((answer.status, answer.text().as_str()), (101, "frameframe"));
        assert_eq!(status(&answer), "fwd=bypass; detail=upgrade");
    }
    // A call by POST is an unsafe request, and what answers its URL is purged (RFC 9111 §4.4).
    for (method, told) in [("POST", "fwd=method; detail=purged"), ("GET", "fwd=bypass; detail=grpc")] {
        for _ in 0..2 {
            let call = Request::new(method, "/users/7").header("content-type", "application/grpc").body("message");
            let answer = world.fetch(call);
            assert_eq!((answer.status, answer.trailers.get("grpc-status")), (200, Some("0")), "{method}");
            assert_eq!(status(&answer), told, "{method}");
        }
    }
    assert_eq!(heard.borrow().len(), 6);
    assert!(heard.borrow()[2..].iter().all(|call| call.body.ends_with(b"message")));
    // What speaks gRPC in answer to a plain request has trailers, and isn't stored either.
    for _ in 0..2 {
        get(&mut world, &[]);
    }
    assert_eq!(heard.borrow().len(), 8);
}

/// RFC 8246 §2: it reaches browsers, and a client that asks for validation all the same gets it.
#[test]
fn immutable_is_for_browsers_and_forbids_no_validation() {
    let (mut world, heard) = stage(&with(&json!({ "client_directives": "honour" })), |call, _| {
        let answer = if call.header("if-none-match").is_some() { Response::new(304) } else { user() };
        answer.header("etag", "\"a\"").header("cache-control", "max-age=60, immutable")
    });
    for (lines, told) in [
        (&[][..], "fwd=uri-miss; stored"),
        (&[], "hit; detail=worker"),
        (&[("cache-control", "no-cache")], "fwd=request; fwd-status=304; stored"),
        (&[], "hit; detail=worker"),
    ] {
        let answer = get(&mut world, lines);
        assert_eq!((status(&answer).as_str(), answer.header("cache-control")), (told, Some("max-age=60, immutable")));
    }
    assert_eq!(heard.borrow().len(), 2);
}
