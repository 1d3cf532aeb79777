//! What a hit costs, counted.

use proxy_wasm_host_test::{Call, Callback, Request, Response, World};
use serde_json::json;

use super::stage::{get, ms, rules, settle, status, world};

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
fn the_filter_is_no_larger_than_620_kib() {
    let filter = routecache_harness::filter().expect("the filter: run `cargo xtask build`");
    let bytes = std::fs::metadata(filter).expect("its size").len();
    println!("routecache.wasm: {bytes} bytes");
    assert!(bytes <= 620 << 10, "{bytes}");
}

/// What reads cost of so many bytes, in fuel: from the group, the worker and the gateway.
fn read_costs(sealed: bool, bytes: usize) -> [u64; 3] {
    let mut rules = rules();
    if sealed {
        rules["bridge"]["seal"] = json!({ "env": ["SEAL"] });
    }
    let (builder, _, _) = world(&rules);
    let builder = builder.origin(move |_: &Call| Response::ok("x".repeat(bytes))).env("SEAL", &"5e".repeat(32));
    let mut world = builder.gateways(2).workers(2).interleave(false).build().expect("a world");
    settle(&mut world);
    // What the allocator finds differs: the least of several.
    let mut least = [u64::MAX; 3];
    for path in ["/users/3", "/users/4", "/users/5", "/users/6", "/users/7"] {
        get(&mut world, 0, path);
        world.run_for(ms(20));
        for (least, (tier, worker)) in least.iter_mut().zip([("group", 0), ("worker", 0), ("gateway", 1)]) {
            let hit = world.fetch(Request::get(path).gateway(1).worker(worker));
            assert_eq!(status(&hit), format!("hit; detail={tier}"));
            let replies =
                |callback: &&Callback| callback.host_calls.iter().any(|call| call.name == "proxy_send_local_response");
            *least = world.trace().iter().rfind(replies).expect("a reply").fuel.min(*least);
            world.run_for(ms(20));
        }
    }
    least
}

/// Only what comes from the group is hashed: SHA-256 goes over it once, 64 bytes at a time.
#[test]
fn sealing_costs_a_hit_from_the_group_its_bytes_hashed_and_other_hits_nothing() {
    for bytes in [16, 1 << 10, 48 << 10] {
        let ([plain, plain_worker, plain_gateway], [sealed, worker, gateway]) =
            (read_costs(false, bytes), read_costs(true, bytes));
        println!("{bytes} bytes: a hit from the group costs {plain} fuel, sealed {sealed}");
        // Numbers are drawn and written in decimal: no two worlds cost the same to the last instruction.
        for (sealed, plain) in [(worker, plain_worker), (gateway, plain_gateway)] {
            assert!(sealed.abs_diff(plain) < plain / 50, "{bytes} bytes: {plain}, {sealed}");
        }
        let hashed = u64::try_from(bytes).expect("a size");
        assert!(sealed > plain + 20 * hashed, "{bytes} bytes: {plain}, {sealed}");
        assert!(sealed < plain + 120 * hashed + 100_000, "{bytes} bytes: {plain}, {sealed}");
    }
}

/// The header is serialised when it is stored: all that a hit from the worker does to a line of it is to copy it, in less than an
/// instruction a byte. From the gateway it is read, line by line. A copy costs more where its bytes lie across words, and where they
/// lie is decided by the length of the key; so several are tried.
#[test]
fn a_hit_copies_its_header_however_many_lines_it_has() {
    const LINE_BYTES: u64 = 8 + 10 + 1 + 40 + 1; // lengths, name, value, and what ends them
    let costs = |lines: usize, path: &str| {
        let (builder, _, _) = world(&rules());
        let line = |answer: Response, line: usize| answer.header(format!("x-line-{line:03}"), "v".repeat(40));
        let origin = move |_: &Call| (0..lines).fold(Response::ok("v1"), line);
        let mut world = builder.origin(origin).workers(2).interleave(false).build().expect("a world");
        settle(&mut world);
        get(&mut world, 0, path);
        world.run_until_idle();
        get(&mut world, 0, path); // the first is looked at on its way out
        [(0, "hit; detail=worker"), (1, "hit; detail=gateway")].map(|(worker, told)| {
            assert_eq!(status(&get(&mut world, worker, path)), told);
            let trace = world.trace();
            trace.iter().rfind(|callback| callback.name == "proxy_on_request_headers").expect("a request").fuel
        })
    };
    let paths = (1..=8).map(|digits| format!("/users/{}", "7".repeat(digits)));
    let lines = paths.map(|path| {
        let ([few, few_read], [many, many_read]) = (costs(4, &path), costs(104, &path));
        (many.saturating_sub(few) / 100, many_read.saturating_sub(few_read) / 100)
    });
    let (copied, read): (Vec<u64>, Vec<u64>) = lines.unzip();
    println!("a line more costs a hit from the worker {copied:?} fuel, one from the gateway {read:?}");
    assert!(copied.iter().any(|fuel| *fuel < LINE_BYTES), "{copied:?}");
    assert!(copied.iter().all(|fuel| *fuel < 3 * LINE_BYTES), "{copied:?}");
    assert!(read.iter().all(|fuel| *fuel > 3 * LINE_BYTES), "{read:?}");
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

/// Found by the simulation: each tag was looked for among all records of the gateway's log, again for each lost race.
#[test]
fn hearing_of_a_purge_with_many_tags_costs_about_as_much_a_tag_as_one_with_few() {
    let cost = |count: usize| {
        let (builder, _, bridge) = world(&rules());
        let mut world = builder.interleave(false).build().expect("a world");
        settle(&mut world);
        let mut cost = 0;
        // The first one fills the log.
        for names in ["first", "second"] {
            let tags: Vec<_> = (0..count).map(|number| format!("{names}:{number}")).collect();
            bridge.purge(&world, &tags.iter().map(String::as_str).collect::<Vec<_>>());
            world.run_for(ms(600));
            cost = world.trace().iter().rev().map(|callback| callback.fuel).take(20).max().expect("a callback");
        }
        cost
    };
    let (few, many) = (cost(60), cost(600));
    assert!(many < few * 15, "{few} for 60 tags, {many} for 600");
}
