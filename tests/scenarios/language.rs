//! What rules can say, row by row of the framework's guide, as the shipped filter does it.

use std::cell::RefCell;
use std::rc::Rc;

use proxy_wasm_host_test::{Answer, Call, Request, Response, World};
use serde_json::{Value, json};

use super::stage::{Failure, ms, settle, status, world};

/// Rules with these items.
fn rules(routes: &Value) -> Value {
    json!({
        "namespace": { "prefix": "shop", "version": "v1" },
        "bridge": { "cluster": "routecache-bridge", "timeout": "50ms" },
        "limits": { "l1_bytes": "1MiB", "body_bytes_max": "64KiB" },
        "routes": routes
    })
}

/// A cache rule for users with these fields.
fn users(cache: &Value) -> Value {
    rules(&json!([{ "name": "user", "match": { "path": "/users/{id}" }, "cache": cache }]))
}

type Heard = Rc<RefCell<Vec<Call>>>;

/// A world with two workers whose origin answers as told, and what it hears.
fn stage(rules: &Value, answer: impl Fn(&Call, usize) -> Response + 'static) -> (World, Heard) {
    let (mut world, heard) = unsettled(rules, answer, false);
    settle(&mut world);
    (world, heard)
}

fn unsettled(
    rules: &Value,
    answer: impl Fn(&Call, usize) -> Response + 'static,
    bodies_while_held: bool,
) -> (World, Heard) {
    let heard = Heard::default();
    let hears = Rc::clone(&heard);
    let origin = move |call: &Call| {
        hears.borrow_mut().push(call.clone());
        let number = hears.borrow().len();
        answer(call, number)
    };
    let (builder, _, _) = world(rules);
    let builder = if bodies_while_held { builder.body_callbacks_while_headers_paused(true) } else { builder };
    (builder.origin(origin).build().expect("a world"), heard)
}

fn numbered(_: &Call, number: usize) -> Response {
    Response::ok(format!("{number}")).header("content-type", "text/plain")
}

fn get(world: &mut World, path: &str, lines: &[(&str, &str)]) -> Answer {
    send(world, Request::get(path), lines)
}

fn send(world: &mut World, request: Request, lines: &[(&str, &str)]) -> Answer {
    let answer = world.fetch(lines.iter().fold(request, |request, (name, value)| request.header(name, value)));
    world.run_until_idle();
    answer
}

const MISS: &str = "fwd=uri-miss; stored";
const HIT: &str = "hit; detail=worker";

#[test]
fn keys_hold_fields_cookies_and_what_the_gateway_knows() {
    let key = "{id}:{header.x-tenant|lower}:{cookie.tier|default(basic)}:{query.page|int|default(1)}:{route.name}";
    let rules = users(&json!({ "key": key, "tags": ["users"], "cookies": "ignore", "query": { "include": [] } }));
    let (builder, _, _) = world(&rules);
    let mut world = builder.property("xds.route_name", "users").build().expect("a world");
    settle(&mut world);
    let mut ask = |path: &str, lines: &[(&str, &str)]| status(&get(&mut world, path, lines));
    assert_eq!(ask("/users/7", &[("x-tenant", "Acme")]), MISS);
    for (path, lines) in [
        ("/users/7", &[("x-tenant", "ACME")][..]),
        ("/users/7?page=01&utm_source=x", &[("x-tenant", "acme")]),
        ("/users/7", &[("x-tenant", "acme"), ("cookie", "a=b; tier=basic")]),
    ] {
        assert_eq!(ask(path, lines), HIT, "{path} {lines:?}");
    }
    for (path, lines, expected) in [
        ("/users/7", &[("x-tenant", "other")][..], MISS),
        ("/users/7", &[("x-tenant", "acme"), ("cookie", "tier=gold")], MISS),
        ("/users/7?page=2", &[("x-tenant", "acme")], MISS),
        ("/users/7", &[], "fwd=bypass; detail=missing-value"),
        ("/users/7?page=x", &[("x-tenant", "acme")], "fwd=bypass; detail=bad-value"),
        ("/users/7", &[("x-tenant", "")], "fwd=bypass; detail=bad-value"),
    ] {
        assert_eq!(ask(path, lines), expected, "{path} {lines:?}");
    }
}

#[test]
fn what_does_not_count_reaches_the_origin_no_more() {
    let query = json!({ "exclude": ["utm_*"], "strip": true });
    let (mut world, heard) = stage(&users(&json!({ "query": query })), numbered);
    assert_eq!(status(&get(&mut world, "/users/7?b=2&utm_source=x&a=1", &[])), MISS);
    assert_eq!(status(&get(&mut world, "/users/7?a=1&b=2", &[])), HIT);
    assert_eq!(status(&get(&mut world, "/users/8?utm_source=x", &[])), MISS);
    let paths: Vec<_> = heard.borrow().iter().map(|call| call.path().to_owned()).collect();
    assert_eq!(paths, ["/users/7?b=2&a=1", "/users/8"]);
}

/// C8.
#[test]
fn whoever_the_rule_identifies_gets_their_own_and_nobody_elses() {
    for (identity, name, ada, bob) in [
        (json!({ "header": "authorization" }), "authorization", "Bearer ada", "Bearer bob"),
        (json!({ "header": "x-api-key" }), "x-api-key", "ada", "bob"),
        (json!({ "cookie": "session" }), "cookie", "session=ada; theme=dark", "session=bob; theme=dark"),
    ] {
        let (mut world, _) = stage(&users(&json!({ "identity": identity, "tags": ["user:{id}"] })), numbered);
        let mut ask = |value: &str| {
            let answer = get(&mut world, "/users/7", &[(name, value)]);
            (answer.text(), status(&answer))
        };
        assert_eq!(ask(ada), ("1".into(), MISS.into()), "{name}");
        assert_eq!(ask(bob), ("2".into(), MISS.into()), "{name}");
        assert_eq!(ask(ada), ("1".into(), HIT.into()), "{name}");
        assert_eq!(ask(bob), ("2".into(), HIT.into()), "{name}");
        assert_eq!(status(&get(&mut world, "/users/7", &[])), "fwd=bypass; detail=no-identity", "{name}");
        let other = [(name, ada), ("proxy-authorization", "x")];
        assert_eq!(status(&get(&mut world, "/users/7", &other)), "fwd=bypass; detail=credentials", "{name}");
    }
    // A token that no gateway has verified says nothing.
    let (mut world, _) = stage(&users(&json!({ "identity": { "claim": "sub" } })), numbered);
    let token = [("authorization", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.")];
    assert_eq!(status(&get(&mut world, "/users/7", &token)), "fwd=bypass; detail=no-identity");
}

/// Orders whose response names its items, and a write that names one.
fn orders() -> Value {
    rules(&json!([
        {
            "name": "orders",
            "match": { "path": "/users/{id}/orders" },
            "cache": { "tags": ["user:{id}", { "json": "/items/*/id", "as": "order:{}" }] }
        },
        { "name": "menu", "match": { "path": "/menu" }, "cache": { "tags": [{ "header": "x-dish", "as": "dish:{}" }] } },
        { "name": "write", "match": { "path": "/orders/{order}" }, "purge": { "tags": ["order:{order}"] } },
        { "name": "import", "match": { "path": "/import" }, "purge": { "tags": [{ "request_json": "/orders/*", "as": "order:{}" }] } },
        { "name": "random", "match": { "path": "/random" }, "purge": { "tags": [{ "json": "/changed/*", "as": "order:{}" }] } },
        { "name": "dish", "match": { "path": "/dishes" }, "purge": { "tags": [{ "header": "x-changed", "as": "dish:{}" }] } }
    ]))
}

fn shop(call: &Call, _: usize) -> Response {
    match (call.method(), call.path()) {
        ("GET", "/users/1/orders") => Response::ok(r#"{"items":[{"id":"a"},{"id":12}]}"#),
        ("GET", "/users/2/orders") => Response::ok(r#"{"items":[]}"#),
        ("GET", "/users/3/orders") => Response::ok("<html>"),
        ("GET", "/users/4/orders") => Response::ok(r#"{"items":[{"id":"a"}]}"#).header("content-encoding", "gzip"),
        ("GET", _) => Response::ok("soup").header("x-dish", "soup bread"),
        (_, "/random") => Response::ok(r#"{"changed":["a"]}"#),
        (_, "/dishes") => Response::ok("").header("x-changed", "bread"),
        _ => Response::ok(""),
    }
}

/// Reads everything that [`shop`] has; what each read is told.
fn read_shop(world: &mut World) -> Vec<String> {
    let paths = ["/users/1/orders", "/users/2/orders", "/menu"];
    paths.iter().map(|path| status(&get(world, path, &[]))).collect()
}

#[test]
fn tags_are_made_of_what_a_response_says_and_what_cannot_be_read_is_not_stored() {
    let (mut world, heard) = stage(&orders(), shop);
    let first = "fwd=uri-miss; detail=body-decides";
    assert_eq!(read_shop(&mut world), [first, first, MISS]);
    assert_eq!(read_shop(&mut world), [HIT, HIT, HIT]);
    for path in ["/users/3/orders", "/users/4/orders"] {
        for _ in 0..2 {
            assert!(status(&get(&mut world, path, &[])).starts_with("fwd=uri-miss"), "{path}");
        }
    }
    let asked: Vec<_> = heard.borrow().iter().filter(|call| call.path().ends_with("orders")).cloned().collect();
    assert!(asked.iter().all(|call| call.header("accept-encoding").is_none()));
    // An order that one response names takes that response along.
    world.fetch(Request::put("/orders/12").body("x"));
    assert_eq!(read_shop(&mut world), [first, HIT, HIT]);
}

#[test]
fn a_write_purges_what_its_body_its_response_and_its_responses_body_name() {
    for (path, body, expected) in [
        ("/import", r#"{"orders":[12]}"#, [false, true, true]),
        ("/import", r#"{"orders":[]}"#, [true, true, true]),
        ("/random", "", [false, true, true]),
        ("/dishes", "", [true, true, false]),
        // What can't be read may mean any order: both lists of them, and nothing else.
        ("/import", "not json", [false, false, true]),
        ("/import", r#"{"order":12}"#, [false, false, true]),
    ] {
        let (mut world, _) = stage(&orders(), shop);
        read_shop(&mut world);
        let write = send(&mut world, Request::post(path).body(body), &[]);
        assert_eq!(write.status, 200, "{path} {body}");
        let hits: Vec<bool> = read_shop(&mut world).iter().map(|status| status == HIT).collect();
        assert_eq!(hits, expected, "{path} {body}");
    }
}

/// However the body of a write comes: what can't be read, or not to its end, may mean any order.
#[test]
fn a_write_whose_body_cannot_be_read_purges_all_that_it_may_mean() {
    let json = r#"{"orders":[12]}"#;
    let long = format!(r#"{{"orders":[12],"more":"{}"}}"#, "x".repeat(64 << 10));
    let whole = [false, true, true];
    let any = [false, false, true];
    let named = r#"{"orders":["nothing"]}"#;
    let (of_named, gzip) = ([true, true, true], &b"\x1f\x8b\x08\0\0\0\0\0"[..]);
    for (how, request, expected) in [
        ("whole", Request::post("/import").body(json), whole),
        ("in pieces", Request::post("/import").chunk(ms(5), &json[..9]).chunk(ms(5), &json[9..]), whole),
        ("in pieces, of nothing", Request::post("/import").chunk(ms(5), named), of_named),
        ("none", Request::post("/import"), any),
        ("empty", Request::post("/import").body(""), any),
        ("longer than is read", Request::post("/import").body(long.clone()), any),
        ("longer, in pieces", Request::post("/import").chunk(ms(5), &long[..90]).chunk(ms(5), &long[90..]), any),
        ("compressed", Request::post("/import").header("content-encoding", "gzip").body(gzip), any),
        ("said to be compressed", Request::post("/import").header("content-encoding", "gzip").body(named), any),
        ("cut short", Request::post("/import").body(&json[..9]), any),
    ] {
        let (mut world, _) = stage(&orders(), shop);
        read_shop(&mut world);
        let write = send(&mut world, request, &[]);
        assert_eq!((write.status, status(&write).as_str()), (200, "fwd=method; detail=purged"), "{how}");
        let hits: Vec<bool> = read_shop(&mut world).iter().map(|status| status == HIT).collect();
        assert_eq!(hits, expected, "{how}");
    }
}

#[test]
fn the_body_of_a_writes_response_is_held_until_what_it_names_is_purged_in_the_group() {
    let (mut world, _) = stage(&orders(), shop);
    read_shop(&mut world);
    let write = world.fetch(Request::post("/random"));
    assert_eq!((write.status, write.text().as_str()), (200, r#"{"changed":["a"]}"#));
    assert!(status(&get(&mut world, "/users/1/orders", &[])).starts_with("fwd="));
    let trace = world.trace();
    let at = |name: &str| trace.iter().rposition(|callback| callback.name == name);
    assert!(at("proxy_on_http_call_response") > at("proxy_on_queue_ready"), "the bridge was asked, and answered");
}

/// C2 and C5, where the response's body alone says what is purged.
#[test]
fn the_header_of_a_writes_response_waits_with_its_body_for_what_that_names() {
    let purges = |world: &World| world.callouts().iter().filter(|call| call.path() == bridge_api::PURGE).count();
    for also in [None, Some("order:z")] {
        let mut rules = orders();
        rules["routes"][4]["purge"]["tags"].as_array_mut().expect("tags").extend(also.map(Value::from));
        let pieces = |call: &Call, number: usize| match call.path() {
            "/random" => Response::ok(r#"{"changed":"#).chunk(ms(100), r#"["a"]"#).chunk(ms(200), "}"),
            _ => shop(call, number),
        };
        let (mut world, _) = unsettled(&rules, pieces, true);
        settle(&mut world);
        for _ in 0..2 {
            read_shop(&mut world);
            let before = purges(&world);
            let write = world.fetch(Request::post("/random"));
            assert_eq!(
                (write.text().as_str(), status(&write).as_str()),
                (r#"{"changed":["a"]}"#, "fwd=method; detail=purged")
            );
            assert_eq!(purges(&world) - before, 1 + also.iter().count());
            let asked = world.callouts().iter().rfind(|call| call.path() == bridge_api::PURGE).expect("a purge").at;
            let shown = write.headers_at.expect("a header");
            assert!(asked >= write.started + ms(300) && shown >= asked + ms(1), "{asked:?} {shown:?}");
            assert!(status(&get(&mut world, "/users/1/orders", &[])).starts_with("fwd="));
        }
    }
    let none = |call: &Call, number: usize| match call.path() {
        "/random" => Response::ok(r#"{"changed":[]}"#),
        _ => shop(call, number),
    };
    let (mut world, _) = unsettled(&orders(), none, true);
    settle(&mut world);
    assert_eq!(status(&world.fetch(Request::post("/random"))), "fwd=method");
}

/// C5: the header says the worst that became of its purges.
#[test]
fn a_purge_of_what_a_responses_body_names_is_said_to_be_pending_where_it_is() {
    let mut rules = orders();
    rules["routes"][4]["purge"]["tags"].as_array_mut().expect("tags").push("order:z".into());
    for alone in [false, true] {
        if alone {
            rules.as_object_mut().expect("an object").remove("bridge");
        }
        let (builder, _, bridge) = world(&rules);
        let builder = builder.body_callbacks_while_headers_paused(true).origin(|call: &Call| shop(call, 0));
        let mut world = builder.build().expect("a world");
        settle(&mut world);
        read_shop(&mut world);
        bridge.fails(Some(Failure::Hangs));
        for _ in 0..8 {
            let write = world.fetch(Request::post("/random"));
            let expected = if alone { "fwd=method; detail=purged" } else { "fwd=method; detail=purge-pending" };
            assert_eq!((status(&write).as_str(), write.text().as_str()), (expected, r#"{"changed":["a"]}"#));
            assert!(write.took() <= ms(300), "{:?}", write.took());
        }
        assert!(status(&world.get("/users/1/orders")).starts_with("fwd="));
    }
}

/// C11, C12: nothing hangs, and what the body names is purged before it is through.
#[test]
fn a_gateway_that_shows_no_body_while_a_response_waits_is_found_out_and_asked_no_more() {
    let (mut world, _) = stage(&orders(), shop);
    for round in 0..4 {
        read_shop(&mut world);
        let write = world.fetch(Request::post("/random"));
        assert_eq!((write.text().as_str(), status(&write).as_str()), (r#"{"changed":["a"]}"#, "fwd=method"));
        assert!(write.took() <= if round == 0 { ms(600) } else { ms(50) }, "{round}: {:?}", write.took());
        assert!(status(&get(&mut world, "/users/1/orders", &[])).starts_with("fwd="));
    }
}

#[test]
fn a_write_whose_client_leaves_while_its_header_waits_purges_all_that_it_may_have_named() {
    let slow = |call: &Call, number: usize| match call.path() {
        "/random" => Response::ok(r#"{"changed":"#).chunk(ms(1000), "[]}"),
        _ => shop(call, number),
    };
    let (mut world, _) = unsettled(&orders(), slow, true);
    settle(&mut world);
    read_shop(&mut world);
    let write = world.send(Request::post("/random"));
    world.run_for(ms(300));
    world.client_disconnects(write);
    world.run_until_idle();
    for path in ["/users/1/orders", "/users/2/orders"] {
        assert!(status(&get(&mut world, path, &[])).starts_with("fwd="), "{path}");
    }
}

#[test]
fn a_lifetime_may_stand_in_the_response() {
    let rules = rules(&json!([
        { "name": "field", "match": { "path": "/field" }, "cache": { "ttl": { "header": "x-ttl", "default": "10s" } } },
        { "name": "body", "match": { "path": "/body/{id}" }, "cache": { "ttl": { "json": "/ttl", "default": "10s" } } }
    ]));
    let (mut world, _) = stage(&rules, |call, _| match call.path() {
        "/body/1" => Response::ok(r#"{"ttl":60}"#),
        "/body/2" => Response::ok("{}"),
        "/body/3" => Response::ok(r#"{"ttl":"soon"}"#),
        _ => Response::ok("x").header("x-ttl", "60"),
    });
    for path in ["/field", "/body/1", "/body/2", "/body/3"] {
        get(&mut world, path, &[]);
    }
    let hits = |world: &mut World| {
        ["/field", "/body/1", "/body/2", "/body/3"].map(|path| status(&get(world, path, &[])).starts_with("hit"))
    };
    assert_eq!(hits(&mut world), [true, true, true, false]);
    world.advance(ms(30_000));
    assert_eq!(hits(&mut world)[..2], [true, true]);
    world.advance(ms(31_000));
    assert!(!hits(&mut world)[0]);
}

#[test]
fn conditions_decide_what_is_stored_and_what_passes() {
    let cache = json!({
        "when": { "status": [200, 404], "header": { "x-cacheable": "yes" } },
        "unless": { "json": { "/errors": true, "/errors/*": true } },
        "ttl_by_status": { "404": "30s" },
        "bypass": { "header": { "x-debug": "*" }, "query": { "preview": true } }
    });
    let (mut world, _) = stage(&users(&cache), |call, _| match call.path() {
        "/users/1" => Response::ok("{}").header("x-cacheable", "yes"),
        "/users/2" => Response::ok("{}"),
        "/users/3" => Response::new(404).body("{}").header("x-cacheable", "yes"),
        "/users/4" => Response::ok(r#"{"errors":["no"]}"#).header("x-cacheable", "yes"),
        _ => Response::ok("<html>").header("x-cacheable", "yes"),
    });
    for (path, stored) in
        [("/users/1", true), ("/users/2", false), ("/users/3", true), ("/users/4", false), ("/users/5", false)]
    {
        get(&mut world, path, &[]);
        assert_eq!(status(&get(&mut world, path, &[])) == HIT, stored, "{path}");
    }
    assert_eq!(status(&get(&mut world, "/users/1", &[("x-debug", "1")])), "fwd=bypass; detail=rule");
    assert_eq!(status(&get(&mut world, "/users/1?preview=1", &[])), "fwd=bypass; detail=rule");
}

#[test]
fn what_is_asked_for_once_is_not_worth_storing_where_the_rule_says_so() {
    let (mut world, _) = stage(&users(&json!({ "min_uses": 2 })), numbered);
    assert_eq!(status(&get(&mut world, "/users/7", &[])), "fwd=uri-miss; detail=min-uses");
    assert_eq!(status(&get(&mut world, "/users/7", &[])), MISS);
    assert_eq!(status(&get(&mut world, "/users/7", &[])), HIT);
}

#[test]
fn a_limit_of_the_rules_own_counts() {
    let (mut world, _) = stage(&users(&json!({ "body_bytes_max": "1KiB" })), |call, _| {
        Response::ok("x".repeat(if call.path() == "/users/1" { 1024 } else { 1025 }))
    });
    for (path, stored) in [("/users/1", true), ("/users/2", false)] {
        get(&mut world, path, &[]);
        assert_eq!(status(&get(&mut world, path, &[])) == HIT, stored, "{path}");
    }
}

#[test]
fn a_rule_that_is_off_answers_nothing_and_purges_go_on_where_the_file_is_off() {
    let routes = |mode: &str| {
        json!([
            { "name": "user", "mode": mode, "match": { "path": "/users/{id:int}" }, "cache": {} },
            { "name": "any", "match": { "path": "/users/{id}" }, "cache": {} },
            { "name": "write", "match": { "path": "/users/{id}" }, "purge": { "tags": ["/users/{id}"] } }
        ])
    };
    let (mut world, _) = stage(&rules(&routes("off")), numbered);
    assert_eq!(status(&get(&mut world, "/users/7", &[])), "fwd=bypass; detail=off");
    assert_eq!(status(&get(&mut world, "/users/x", &[])), MISS);
    let mut off = rules(&routes("on"));
    off["mode"] = json!("off");
    let (mut world, _) = stage(&off, numbered);
    assert_eq!(status(&get(&mut world, "/users/x", &[])), "fwd=bypass; detail=off");
    assert_eq!(status(&world.fetch(Request::put("/users/x").body("x"))), "fwd=method; detail=purged");
}

#[test]
fn the_most_specific_rule_that_a_request_meets_answers() {
    let rule = |name: &str, matching: Value| json!({ "name": name, "match": matching, "cache": { "key": ["{id}"], "tags": [name], "vary": [] } });
    let rules = rules(&json!([
        rule("any", json!({ "path": "/{*id}" })),
        rule("user", json!({ "path": "/users/{id}" })),
        rule("number", json!({ "path": "/users/{id:int}" })),
        rule("beta", json!({ "path": "/users/{id}", "cookie": { "beta": true }, "header": { "x-old": false } })),
        rule("host", json!({ "path": "/users/{id}", "host": "*.example.com" })),
        { "name": "purge", "match": { "path": "/{*id}" }, "purge": { "tags": ["number"] } }
    ]));
    let (mut world, _) = stage(&rules, numbered);
    // Each rule has its own keys, so that a second request is a hit only if the same rule answers.
    for (path, host, lines) in [
        ("/users/7", "a", &[][..]),
        ("/users/ada", "a", &[]),
        ("/users/7", "shop.example.com", &[]),
        ("/menu/today", "a", &[]),
    ] {
        let request = || Request::get(path).header(":authority", host);
        assert_eq!(status(&send(&mut world, request(), lines)), MISS, "{path} {host}");
        assert_eq!(status(&send(&mut world, request(), lines)), HIT, "{path} {host}");
    }
    // The rule for a cookie meets it and then respects it.
    assert_eq!(status(&get(&mut world, "/users/ada", &[("cookie", "beta=1")])), "fwd=bypass; detail=credentials");
    world.fetch(Request::put("/x").header(":authority", "a").body("x"));
    assert_eq!(status(&send(&mut world, Request::get("/users/7").header(":authority", "a"), &[])), MISS);
    assert_eq!(status(&send(&mut world, Request::get("/users/ada").header(":authority", "a"), &[])), HIT);
}

#[test]
fn one_read_and_one_write_of_a_resource_suffice() {
    let mut rules = rules(&json!([]));
    let object = rules.as_object_mut().expect("an object");
    object.remove("routes");
    object.insert(
        "resources".into(),
        json!({ "user": {
            "id": "user_id",
            "reads": { "profile": { "path": "/users/{user_id}/profile" }, "list": { "path": "/users" } },
            "writes": [{ "methods": ["PUT"], "path": "/users/{user_id}" }]
        } }),
    );
    let (mut world, _) = stage(&rules, numbered);
    for path in ["/users/1/profile", "/users/2/profile", "/users"] {
        assert_eq!(status(&get(&mut world, path, &[])), MISS, "{path}");
    }
    assert_eq!(status(&world.fetch(Request::put("/users/1").body("x"))), "fwd=method; detail=purged");
    for (path, expected) in [("/users/1/profile", MISS), ("/users/2/profile", HIT), ("/users", MISS)] {
        assert_eq!(status(&get(&mut world, path, &[])), expected, "{path}");
    }
}

/// Queries by POST, and mutations at the same URL.
fn graphql() -> Value {
    rules(&json!([
        {
            "name": "query",
            "match": { "methods": ["POST"], "path": "/graphql", "json": { "/query": ["query*", "{*"] } },
            "cache": {
                "key": "{body}",
                "tags": [{ "request_json": "/variables/id", "as": "user:{}" }],
                "bypass": { "json": { "/query": "*mutation*" } }
            }
        },
        {
            "name": "mutation",
            "match": { "methods": ["POST"], "path": "/graphql" },
            "purge": { "tags": [{ "request_json": "/variables/id", "as": "user:{}" }] }
        }
    ]))
}

fn post(world: &mut World, body: &str) -> Answer {
    send(world, Request::post("/graphql").body(body), &[("content-type", "application/json")])
}

#[test]
fn a_read_by_post_is_answered_by_its_body_and_a_mutation_purges_what_it_names() {
    let (mut world, heard) = unsettled(&graphql(), numbered, true);
    settle(&mut world);
    let query = |id: u8| format!(r#"{{"query":"query {{ user }}","variables":{{"id":{id}}}}}"#);
    assert_eq!(status(&post(&mut world, &query(1))), MISS);
    assert_eq!(status(&post(&mut world, &query(2))), MISS);
    assert_eq!(status(&post(&mut world, &query(1))), HIT);
    let sent: Vec<u8> = heard.borrow()[0].body.to_vec();
    assert_eq!(String::from_utf8_lossy(&sent), query(1), "the origin gets the body as it was sent");
    let mutation = r#"{"query":"mutation { rename }","variables":{"id":1}}"#;
    assert_eq!(status(&post(&mut world, mutation)), "fwd=method; detail=purged");
    assert_eq!(status(&post(&mut world, &query(1))), MISS);
    assert_eq!(status(&post(&mut world, &query(2))), HIT);
    for body in [r#"[{"query":"mutation { a }"}]"#, "", "no json", r#"{"query":"query { a } mutation { b }"}"#] {
        for _ in 0..2 {
            assert!(!status(&post(&mut world, body)).starts_with("hit"), "{body}");
        }
    }
    let long = query(1).replace("user", &"u".repeat(70_000));
    for _ in 0..2 {
        assert!(!status(&post(&mut world, &long)).starts_with("hit"));
    }
}

#[test]
fn a_body_may_come_in_pieces() {
    let (mut world, heard) = unsettled(&graphql(), numbered, true);
    settle(&mut world);
    let (start, end) = (r#"{"query":"query { user }","#, r#""variables":{"id":1}}"#);
    let request = || Request::post("/graphql").chunk(ms(5), start).chunk(ms(5), end);
    assert_eq!(status(&send(&mut world, request(), &[])), MISS);
    assert_eq!(status(&send(&mut world, request(), &[])), HIT);
    assert_eq!(heard.borrow().len(), 1);
    assert_eq!(String::from_utf8_lossy(&heard.borrow()[0].body), format!("{start}{end}"));
}

/// C11, C12: nothing hangs, and nothing is wrong.
#[test]
fn a_gateway_that_shows_no_body_while_a_request_waits_is_found_out_and_asked_no_more() {
    let (mut world, heard) = unsettled(&graphql(), numbered, false);
    settle(&mut world);
    let query = r#"{"query":"query { user }","variables":{"id":1}}"#;
    let first = world.fetch(Request::post("/graphql").body(query));
    assert_eq!(first.status, 200);
    assert!(first.took() <= ms(1500), "{:?}", first.took());
    for _ in 0..3 {
        let next = world.fetch(Request::post("/graphql").body(query));
        assert!(next.took() < ms(400) && !status(&next).starts_with("hit"), "{:?}", next.took());
    }
    assert_eq!(heard.borrow().len(), 4);
    assert_eq!(String::from_utf8_lossy(&heard.borrow()[0].body), query);
}

/// Ten thousand rules cost a request what ten cost it, and are read before a gateway would notice.
#[test]
fn ten_thousand_rules_match_as_fast_as_ten() {
    let fuel = |count: usize| {
        let rule = |n: usize| {
            json!({
                "name": format!("orders-{n}"),
                "match": { "path": format!("/service-{n}/users/{{id:int}}/orders") },
                "cache": { "key": "user:{id}:orders:{query.page|default(1)}", "tags": ["user:{id}"] }
            })
        };
        let rules = rules(&Value::Array((0..count).map(rule).collect()));
        let (builder, _, _) = world(&rules);
        let mut world = builder.fuel_budget(2_000_000_000).build().expect("a world");
        settle(&mut world);
        get(&mut world, "/service-7/users/7/orders", &[]);
        assert_eq!(status(&get(&mut world, "/service-7/users/7/orders", &[])), HIT);
        let trace = world.trace();
        let last = |name: &str| trace.iter().rev().find(|callback| callback.name == name).expect(name).fuel;
        (last("proxy_on_request_headers"), last("proxy_on_configure"))
    };
    let ((few, _), (many, loading)) = (fuel(10), fuel(10_000));
    println!("fuel: hit among 10 rules {few}, among 10,000 {many}; loading 10,000: {loading}");
    assert!(many < few + few / 10, "a hit among 10 rules takes {few}, among 10,000 {many}");
    // About one unit for an instruction; measured, half a second.
    assert!(loading < 1_400_000_000, "{loading}");
}
