//! What happens to a response on its way to the client, and when it is stored.

use proxy_wasm_host_test::{Request, Response};

use super::stage::{get, ms, rules, settle, status, world};

#[test]
fn a_miss_streams_through_and_is_stored_only_when_it_is_complete() {
    let (builder, _, _) = world(&rules());
    let origin = |_: &proxy_wasm_host_test::Call| Response::new(200).chunk(ms(0), "first, ").chunk(ms(2000), "last");
    let mut world = builder.workers(2).origin(origin).build().expect("a world");
    settle(&mut world);
    let slow = world.send(Request::get("/users/7"));
    world.run_for(ms(1000));
    assert!(world.finished(slow).is_none());
    // Nobody is answered from half a response.
    let other = world.send(Request::get("/users/7").worker(1));
    world.run_until_idle();
    let slow = world.answer(slow);
    assert_eq!(
        (slow.text().as_str(), slow.headers_at.expect("headers") - slow.started < ms(10)),
        ("first, last", true)
    );
    let other = world.answer(other);
    assert_eq!((status(other).as_str(), other.text().as_str()), ("fwd=uri-miss; collapsed", "first, last"));
    let hit = get(&mut world, 0, "/users/7");
    assert_eq!((status(&hit).as_str(), hit.text().as_str()), ("hit; detail=worker", "first, last"));
}

/// C9.
#[test]
fn a_response_that_ends_early_or_grows_too_long_is_not_stored() {
    for (response, said) in [
        (Response::ok("half").then_reset(ms(5)), "stored"),
        (Response::new(200).chunk(ms(0), "half").then_reset(ms(5)), "stored"),
        (Response::new(200).header("content-length", "400").chunk(ms(0), "half"), "stored"),
        (Response::ok("half").header("content-length", "400"), "detail=incomplete"),
        (Response::ok("all").trailer("x-checksum", "1"), "stored"),
        // How long it is shows only later: what was said of it by then can't be taken back.
        (Response::new(200).chunk(ms(0), "x".repeat(800)).chunk(ms(5), "x".repeat(800)), "stored"),
        (Response::ok("x".repeat(1600)), "detail=too-large"),
    ] {
        let (builder, _, _) = world(&rules());
        let mut rules = rules();
        rules["limits"] = serde_json::json!({ "body_bytes_max": "1KiB" });
        let answer = response.clone();
        let mut world =
            builder.configuration(rules.to_string()).origin(move |_| answer.clone()).build().expect("a world");
        settle(&mut world);
        for _ in 0..2 {
            assert_eq!(status(&world.get("/users/7")), format!("fwd=uri-miss; {said}"), "{response:?}");
        }
    }
}

#[test]
fn a_client_that_leaves_leaves_nothing_behind() {
    let (builder, _, _) = world(&rules());
    let mut world = builder.build().expect("a world");
    settle(&mut world);
    let request = world.send(Request::get("/users/7"));
    world.run_for(ms(10));
    world.client_disconnects(request);
    world.run_until_idle();
    assert_eq!(status(&world.get("/users/7")), "fwd=uri-miss; stored");
}

#[test]
fn errors_are_not_stored() {
    for error in [404, 500, 503] {
        let (builder, _, _) = world(&rules());
        let mut world = builder.origin(move |_| Response::new(error).body("no")).build().expect("a world");
        settle(&mut world);
        for _ in 0..2 {
            assert_eq!(status(&world.get("/users/7")), "fwd=uri-miss; detail=status", "{error}");
        }
    }
}
