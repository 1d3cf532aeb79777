//! C8: nothing private is shared.

use proxy_wasm_host_test::{Call, Request, Response};

use super::stage::{rules, settle, status, world};

#[test]
fn a_response_that_is_made_for_one_client_is_not_stored() {
    for (name, value, reason) in [
        ("cache-control", "private", "private"),
        ("cache-control", "max-age=60, no-store", "no-store"),
        ("set-cookie", "session=1", "set-cookie"),
        ("vary", "*", "vary"),
    ] {
        let (builder, _, _) = world(&rules());
        let origin = move |_: &Call| Response::ok("mine").header("cache-control", "public").header(name, value);
        let mut world = builder.origin(origin).build().expect("a world");
        settle(&mut world);
        for _ in 0..2 {
            assert_eq!(status(&world.get("/users/7")), format!("fwd=uri-miss; detail={reason}"), "{name}: {value}");
        }
    }
}

#[test]
fn a_request_that_says_who_asks_is_neither_answered_from_the_cache_nor_fills_it() {
    for (name, first) in [
        // What the origin says of `Authorization` may allow it (RFC 9111 §3.5); this one says nothing.
        ("authorization", "fwd=uri-miss; detail=credentials"),
        ("cookie", "fwd=bypass; detail=credentials"),
        ("x-api-key", "fwd=bypass; detail=credentials"),
    ] {
        let (builder, _, _) = world(&rules());
        let mut world = builder.build().expect("a world");
        settle(&mut world);
        let named =
            |world: &mut proxy_wasm_host_test::World| status(&world.fetch(Request::get("/users/7").header(name, "me")));
        assert_eq!(named(&mut world), first, "{name}");
        assert_eq!(status(&world.get("/users/7")), "fwd=uri-miss; stored", "{name}");
        assert_eq!(named(&mut world), "fwd=bypass; detail=credentials", "{name}");
    }
}
