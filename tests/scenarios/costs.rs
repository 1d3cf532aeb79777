//! What a hit costs, counted.

use proxy_wasm_host_test::{Call, Response, World};

use super::stage::{get, rules, settle, status, world};

#[test]
fn a_hit_from_the_worker_asks_the_host_four_things_and_one_from_the_gateway_six() {
    let (builder, _, _) = world(&rules());
    let mut world = builder.workers(2).interleave(false).build().expect("a world");
    settle(&mut world);
    get(&mut world, 0, "/users/7");
    world.run_until_idle();
    for (worker, tier, calls) in [
        (
            0,
            "worker",
            &["proxy_get_header_map_pairs", "clock_time_get", "proxy_get_shared_data", "proxy_send_local_response"][..],
        ),
        (
            1,
            "gateway",
            &[
                "proxy_get_header_map_pairs",
                "clock_time_get",
                "proxy_get_shared_data", // the head
                "proxy_get_shared_data", // the index
                "proxy_get_shared_data", // the slot
                "proxy_set_shared_data", // the use, counted
                "proxy_send_local_response",
            ],
        ),
    ] {
        let hit = get(&mut world, worker, "/users/7");
        assert_eq!(status(&hit), format!("hit; detail={tier}"));
        assert_eq!(asked(&world), calls);
    }
}

/// A gateway compiles all of it before it serves. The aim is 500 KiB.
#[test]
fn the_filter_is_no_larger_than_640_kib() {
    let filter = routecache_harness::filter().expect("the filter: run `cargo xtask build`");
    let bytes = std::fs::metadata(filter).expect("its size").len();
    println!("routecache.wasm: {bytes} bytes");
    assert!(bytes <= 640 << 10, "{bytes}");
}

/// What the last request asked the host.
fn asked(world: &World) -> Vec<&'static str> {
    let trace = world.trace();
    let request = trace.iter().rev().find(|callback| callback.name == "proxy_on_request_headers").expect("a request");
    request.host_calls.iter().map(|call| call.name).collect()
}

#[test]
fn a_hit_for_another_query_costs_the_worker_no_more() {
    let mut rules = rules();
    rules["routes"][0]["cache"]["no_vary_search"] = "respect".into();
    let (builder, _, _) = world(&rules);
    let origin = |_: &Call| Response::ok("v1").header("no-vary-search", "params");
    let mut world = builder.origin(origin).interleave(false).build().expect("a world");
    settle(&mut world);
    get(&mut world, 0, "/users/7?a");
    world.run_until_idle();
    assert_eq!(status(&get(&mut world, 0, "/users/7?b")), "hit; detail=worker");
    assert_eq!(asked(&world).len(), 4);
}
