//! Workers, gateways, shared state, and the life of VMs.

use std::time::Duration;

use proxy_wasm_host_test::{
    BuildError, Dialect, Ending, LogLevel, Reply, Request, Response, Status, Thread, World, WorldBuilder,
};

use crate::probe::{on, probe};
use crate::said;

const MS: Duration = Duration::from_millis(1);

fn world(functions: &[String]) -> WorldBuilder {
    World::builder().filter(probe(&functions.concat()))
}

/// Reads a byte of shared data and writes it back incremented: without comparing (`cas` 0), or with.
fn counting(compare: bool) -> String {
    let cas = if compare { "(i32.load (i32.const 8))" } else { "(i32.const 0)" };
    on(
        "request_headers",
        &format!(
            "(loop $again
                (if (call $get_shared \"count\" (i32.const 0) (i32.const 4) (i32.const 8))
                    (then (i32.store (i32.const 16) (i32.const 0)) (i32.store (i32.const 8) (i32.const -1)))
                    (else (i32.store (i32.const 16) (i32.load8_u (i32.load (i32.const 0))))))
                (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (i32.const 1)))
                (br_if $again (i32.eq (i32.const 8)
                    (call $set_shared \"count\" (i32.const 16) (i32.const 1) {cas}))))
            (i32.const 0)"
        ),
    )
}

fn count_after_30_requests(seed: u64, compare: bool, interleave: bool) -> u8 {
    let mut world = world(&[counting(compare)]).workers(3).seed(seed).interleave(interleave).build().unwrap();
    world.clients(30).get("/");
    world.run_until_idle();
    world.shared_data().value("count").unwrap()[0]
}

#[test]
fn workers_take_turns_between_host_calls() {
    let lost = (0..20).filter(|seed| count_after_30_requests(*seed, false, true) < 30).count();
    assert!(lost > 10, "an unguarded update is lost in most runs, here {lost} of 20");
    for seed in 0..20 {
        assert_eq!(count_after_30_requests(seed, true, true), 30, "a guarded one never is; seed {seed}");
        assert_eq!(count_after_30_requests(seed, false, false), 30, "nor without interleaving; seed {seed}");
    }
}

#[test]
fn one_seed_gives_one_run() {
    let run = |seed| {
        let mut world = world(&[
            counting(true),
            on("response_headers", "(drop (call $random (i32.const 32) (i32.const 2))) (call $note \"drawn\" (i32.load16_u (i32.const 32))) (i32.const 0)"),
        ])
        .workers(3)
        .seed(seed)
        .build()
        .unwrap();
        world.clients(12).get("/");
        world.run_until_idle();
        (world.trace(), world.logs())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

/// facts: on_configure runs on the main thread twice (once in a VM that is thrown away) and on each worker once.
#[test]
fn every_thread_configures_and_ticks_but_only_workers_see_requests() {
    let mut world = world(&[
        on("vm_start", "(call $say \"start\") (i32.const 1)"),
        on("configure", "(call $body (i32.const 7)) (drop (call $tick (i32.const 5))) (i32.const 1)"),
        on("tick", "(call $say \"tick\")"),
        on("request_headers", "(call $say \"request\") (i32.const 0)"),
    ])
    .configuration("{}")
    .workers(2)
    .build()
    .unwrap();
    let count = |world: &World, thread, word: &str| {
        world.logs().iter().filter(|log| log.thread == thread && log.message == word).count()
    };
    world.clients(2).get("/");
    world.run_for(12 * MS);
    for (thread, configured, requests) in [(Thread::Main, 2, 0), (Thread::Worker(0), 1, 1), (Thread::Worker(1), 1, 1)] {
        assert_eq!(count(&world, thread, "{}"), configured, "{thread}");
        assert_eq!(count(&world, thread, "start"), configured, "{thread}");
        assert_eq!(count(&world, thread, "tick"), 2, "{thread}");
        assert_eq!(count(&world, thread, "request"), requests, "{thread}");
    }
}

#[test]
fn a_filter_that_refuses_its_configuration_says_why() {
    let outcome = world(&[on("configure", "(call $say \"rules.yaml:3: no\") (i32.const 0)")]).build();
    let Err(error @ BuildError::Refused { .. }) = outcome else { panic!("it was accepted") };
    assert!(error.to_string().contains("rules.yaml:3: no"), "{error}");
}

#[test]
fn gateways_share_nothing_and_workers_everything() {
    let mut world = world(&[counting(true), on("vm_start", "(i32.const 1)")]).gateways(2).workers(2).build().unwrap();
    for (gateway, worker) in [(0, 0), (0, 1), (1, 0)] {
        world.fetch(Request::get("/").gateway(gateway).worker(worker));
    }
    assert_eq!(world.shared_data_of(0).value("count"), Some(&[2][..]));
    assert_eq!(world.shared_data_of(1).value("count"), Some(&[1][..]));
}

/// facts §1: `on_queue_ready` runs on the VM that registered last; a queue of one's own is a post to one's own loop.
#[test]
fn a_queue_wakes_the_last_registrant() {
    let mut world = world(&[
        on("configure", "(drop (call $register_queue \"q\" (i32.const 8))) (i32.const 1)"),
        on(
            "request_headers",
            "(drop (call $enqueue (i32.load (i32.const 8)) \"item\")) (call $say \"sent\") (i32.const 0)",
        ),
        on(
            "queue_ready",
            "(call $tell (call $dequeue (local.get $token) (i32.const 0) (i32.const 4)))
                           (call $note \"again\" (call $dequeue (local.get $token) (i32.const 0) (i32.const 4)))",
        ),
    ])
    .build()
    .unwrap();
    world.get("/");
    world.run_until_idle();
    assert_eq!(said(&world), ["sent", "item", "again=7"]);
    assert_eq!(world.logs()[1].thread, Thread::Worker(0));
}

/// facts §7: new root contexts in the same VMs; streams keep the old one, which goes with the last of them.
#[test]
fn a_new_configuration_waits_for_no_stream() {
    let mut world = world(&[
        on("configure", "(call $body (i32.const 7)) (i32.ne (local.get $size) (i32.const 3))"),
        on("context_create", "(call $note \"create\" (local.get $parent))"),
        on("done", "(call $note \"done\" (local.get $context)) (i32.const 1)"),
        on("delete", "(call $note \"delete\" (local.get $context))"),
    ])
    .configuration("first")
    .origin(|_| Response::ok("menu").after(20 * MS))
    .build()
    .unwrap();
    let on_worker = |world: &World| -> Vec<String> {
        world.logs().into_iter().filter(|log| log.thread == Thread::Worker(0)).map(|log| log.message).collect()
    };
    let id = world.send(Request::get("/"));
    world.run_for(MS);
    assert!(matches!(world.reconfigure("bad"), Err(BuildError::Refused { .. })));
    world.reconfigure("second").unwrap();
    let other = world.send(Request::get("/"));
    world.run_until_idle();
    assert_eq!((world.answer(id).status, world.answer(other).status), (200, 200));
    assert_eq!(
        on_worker(&world),
        // Root 1, its stream 2, root 3, its stream 4; root 1 goes after stream 2.
        [
            "create=0", "first", "create=1", "create=0", "second", "create=3", "done=2", "delete=2", "done=1",
            "delete=1", "done=4", "delete=4"
        ]
    );
}

#[test]
fn a_restarted_worker_loses_its_streams_and_its_memory_but_not_what_is_shared() {
    let mut world = world(&[
        counting(true),
        on("response_headers", "(global.set $seen (i32.add (global.get $seen) (i32.const 1))) (call $note \"seen\" (global.get $seen)) (i32.const 0)"),
        "(global $seen (mut i32) (i32.const 0))".into(),
    ])
    .origin(|_| Response::ok("menu").after(5 * MS))
    .build()
    .unwrap();
    world.get("/");
    let id = world.send(Request::get("/"));
    world.after(MS, |world| world.restart_worker(0));
    world.run_until_idle();
    assert_eq!((world.answer(id).ending, world.answer(id).status), (Ending::Reset, 0));
    world.get("/");
    assert_eq!(said(&world), ["seen=1", "seen=1"]);
    assert_eq!(world.shared_data().value("count"), Some(&[3][..]));
    world.restart_gateway(0);
    assert!(world.shared_data().is_empty());
}

#[test]
fn the_wall_clock_can_jump_while_the_monotonic_one_walks() {
    let mut world = world(&[on(
        "request_headers",
        "(drop (call $time (i32.const 32))) (call $note \"seconds\" (i32.wrap_i64 (i64.div_u (i64.load (i32.const 32)) (i64.const 1000000000)))) (i32.const 0)",
    )])
    .wall(Duration::from_secs(1000))
    .build()
    .unwrap();
    world.get("/");
    world.advance(Duration::from_secs(5));
    world.get("/");
    world.set_wall(Duration::from_secs(100));
    world.get("/");
    assert_eq!(said(&world), ["seconds=1000", "seconds=1005", "seconds=100"]);
    assert_eq!(world.now(), Duration::from_secs(5));
}

#[test]
fn the_wall_clocks_of_gateways_differ_while_the_monotonic_one_is_the_same() {
    let mut world = world(&[on(
        "request_headers",
        "(drop (call $time (i32.const 32))) (call $note \"seconds\" (i32.wrap_i64 (i64.div_u (i64.load (i32.const 32)) (i64.const 1000000000)))) (i32.const 0)",
    )])
    .gateways(2)
    .wall(Duration::from_secs(1000))
    .build()
    .unwrap();
    world.set_wall_of(1, Duration::from_secs(700));
    world.advance(Duration::from_secs(5));
    for gateway in [0, 1] {
        world.send(Request::get("/").gateway(gateway));
        world.run_until_idle();
    }
    world.set_wall(Duration::from_secs(2000));
    assert_eq!(said(&world), ["seconds=1005", "seconds=705"]);
    assert_eq!([0, 1].map(|gateway| world.wall_of(gateway).as_secs()), [2000, 1700]);
    assert_eq!((world.wall().as_secs(), world.now()), (2000, Duration::from_secs(5)));
}

#[test]
fn a_worker_that_rests_lets_the_others_go_first() {
    for seed in 0..20 {
        let note =
            on("request_headers", "(call $note \"a\" (i32.const 1)) (call $note \"b\" (i32.const 2)) (i32.const 0)");
        let mut world = world(&[note]).workers(2).seed(seed).interleave(true).build().unwrap();
        let order = |world: &mut World| {
            let before = world.logs().len();
            for worker in 0..2 {
                world.send(Request::get("/").worker(worker));
            }
            world.run_until_idle();
            world.logs()[before..].iter().map(|log| log.thread).collect::<Vec<_>>()
        };
        world.rest_worker_of(0, 0, 1000);
        let [one, other] = [0, 1].map(Thread::Worker);
        assert_eq!(order(&mut world), [other, other, one, one], "seed {seed}: it goes on when nobody else can");
        world.rest_worker_of(0, 0, 0);
        world.rest_worker_of(0, 1, 1000);
        assert_eq!(order(&mut world), [one, one, other, other], "seed {seed}");
    }
}

#[test]
fn a_test_can_have_host_functions_refuse() {
    let mut world = world(&[on(
        "request_headers",
        "(call $note \"set\" (call $set_shared \"k\" \"v\" (i32.const 0))) (i32.const 0)",
    )])
    .build()
    .unwrap();
    world.refuse("proxy_set_shared_data", Status::CasMismatch, 1);
    world.clients(2).get("/");
    world.run_until_idle();
    assert_eq!(said(&world), ["set=8", "set=0"]);
    world.plant_shared_data(0, "k", "planted");
    assert_eq!(world.shared_data().value("k"), Some(&b"planted"[..]));
    world.forget_shared_data(0, |key| key == b"k");
    assert!(world.shared_data().is_empty());
}

#[test]
fn root_contexts_hear_of_the_end_after_their_streams() {
    let mut world = world(&[
        on("log", "(call $note \"log\" (local.get $context))"),
        on("done", "(call $note \"done\" (local.get $context)) (i32.const 1)"),
        on("delete", "(call $note \"delete\" (local.get $context))"),
    ])
    .origin(|_| Reply::hang())
    .build()
    .unwrap();
    let id = world.send(Request::get("/"));
    world.run_for(MS);
    world.shut_down();
    assert_eq!(world.answer(id).ending, Ending::Reset);
    let of = |thread| -> Vec<String> {
        world.logs().into_iter().filter(|log| log.thread == thread).map(|log| log.message).collect()
    };
    assert_eq!(of(Thread::Main), ["done=1", "delete=1"]);
    assert_eq!(of(Thread::Worker(0)), ["log=2", "done=2", "delete=2", "done=1", "delete=1"]);
}

/// A root context that has work left says "not yet", and that it is done once it is.
#[test]
fn a_root_context_may_put_its_end_off() {
    let mut world = world(&[
        on("done", "(call $say \"not yet\") (call $call) (i32.const 0)"),
        on("http_call_response", "(call $note \"done\" (call $done))"),
        on("delete", "(call $say \"deleted\")"),
    ])
    .callout("bridge", |_| Response::ok("saved").after(MS))
    .build()
    .unwrap();
    world.reconfigure("again").unwrap();
    world.run_until_idle();
    let on_worker = || world.logs().into_iter().filter(|log| log.thread == Thread::Worker(0)).map(|log| log.message);
    assert_eq!(on_worker().collect::<Vec<_>>(), ["not yet", "call=0", "done=0", "deleted"]);
}

/// facts §§1, 2: what ngx_wasm_module does otherwise.
#[test]
fn another_host_has_its_own_ways() {
    let mut world = world(&[
        on("configure", "(drop (call $register_queue \"q\" (i32.const 8))) (i32.const 1)"),
        on("queue_ready", "(call $say \"never\")"),
        on(
            "request_headers",
            "(drop (call $enqueue (i32.load (i32.const 8)) \"item\"))
             (call $note \"new\" (call $set_shared \"k\" \"v\" (i32.const 0)))
             (call $note \"over\" (call $set_shared \"k\" \"v\" (i32.const 0)))
             (drop (call $get_shared \"k\" (i32.const 0) (i32.const 4) (i32.const 16)))
             (call $note \"delete\" (call $set_shared \"k\" (i32.const 0) (i32.const 0) (i32.load (i32.const 16))))
             (call $call) (i32.const 0)",
        ),
        on("response_headers", "(call $call) (i32.const 0)"),
    ])
    .dialect(Dialect::NGINX)
    .callout("bridge", |_| Response::ok(""))
    .build()
    .unwrap();
    assert_eq!(world.get("/").status, 503);
    world.run_until_idle();
    let said = said(&world);
    assert_eq!(said[..4], ["new=0", "over=8", "delete=0", "call=0"]);
    assert!(!said.contains(&"never".to_owned()), "{said:?}");
    assert!(world.shared_data().is_empty());
    assert!(world.take_violations()[0].detail.contains("allows no callout in proxy_on_response_headers"));
}

/// facts §§2, 12: ngx_wasm_module traps in these phases; Envoy allows callouts in all of them.
#[test]
fn callouts_are_refused_where_the_host_refuses_them() {
    for callback in ["request_headers", "request_body", "response_headers", "response_body", "log", "done"] {
        let traps = |dialect| {
            let returns = match callback {
                "log" => "",
                "done" => "(i32.const 1)",
                _ => "(i32.const 0)",
            };
            let mut world = world(&[on(callback, &format!("(call $call) {returns}"))])
                .dialect(dialect)
                .callout("bridge", |_| Response::ok(""))
                .origin(|_| Response::ok("menu"))
                .build()
                .unwrap();
            world.fetch(Request::post("/").body("ask"));
            world.run_until_idle();
            world.take_violations().iter().any(|violation| violation.detail.contains("allows no callout"))
        };
        assert!(!traps(Dialect::ENVOY), "{callback}");
        assert_eq!(traps(Dialect::NGINX), !callback.starts_with("request"), "{callback}");
    }
}

#[test]
fn metrics_costs_and_callbacks_are_seen_from_outside() {
    let mut world = world(&[on(
        "request_headers",
        "(drop (call $define_metric (i32.const 0) \"requests\" (i32.const 8)))
         (drop (call $increment_metric (i32.load (i32.const 8)) (i64.const 2))) (i32.const 0)",
    )])
    .build()
    .unwrap();
    world.clients(3).get("/");
    world.run_until_idle();
    assert_eq!(world.metric("requests"), 6);
    let cost = world.costs()["proxy_on_request_headers"];
    assert_eq!((cost.calls, cost.host_calls, cost.host_calls_max), (3, 6, 2));
    assert!(cost.fuel_max > 0 && cost.fuel == 3 * cost.fuel_max, "{cost:?}");
    let trace = world.trace();
    let callback = trace.iter().rfind(|callback| callback.name == "proxy_on_request_headers").unwrap();
    let names: Vec<&str> = callback.host_calls.iter().map(|call| call.name).collect();
    assert_eq!((names, callback.returned), (vec!["proxy_define_metric", "proxy_increment_metric"], Some(0)));
}

#[test]
fn a_request_that_waits_for_the_script_is_left_waiting() {
    let mut world = world(&[]).origin(|_| Reply::later()).build().unwrap();
    let id = world.send(Request::get("/"));
    let unfinished = world.send(Request::post("/").chunk(MS, "a").unfinished());
    world.run_until_idle();
    assert!(world.finished(id).is_none() && world.finished(unfinished).is_none());
    let call = world.origin_requests()[0].id;
    world.complete(call, Response::ok("menu"));
    world.run_until_idle();
    assert_eq!(world.answer(id).text(), "menu");
    assert!(!world.logged(LogLevel::Error, ""));
}

/// Every context that was created is deleted once, whatever becomes of its stream; and nothing is stuck.
#[test]
fn contexts_are_deleted_once_in_any_run() {
    let functions = [
        counting(true),
        on("request_body", "(i32.eqz (local.get $end))"),
        on("response_headers", "(call $call) (i32.const 0)"),
        on("http_call_response", "(call $say \"heard\")"),
        on("context_create", ""),
        on("delete", ""),
    ];
    for seed in 0..40 {
        let mut world = world(&functions)
            .workers(2)
            .seed(seed)
            .origin(move |call| {
                let late = MS * u32::try_from(call.at.as_millis() % 7).unwrap();
                match (call.at.as_millis() + u128::from(seed)) % 4 {
                    0 => Reply::reset().after(late),
                    1 => Response::ok("menu").after(late).into(),
                    2 => Response::new(200).chunk(late, "me").then_reset(MS).into(),
                    _ => Response::new(200).chunk(late, "me").chunk(MS, "nu").trailer("t", "1").into(),
                }
            })
            .callout(
                "bridge",
                |call| if call.at.as_millis() % 2 == 0 { Reply::hang() } else { Response::ok("yes").into() },
            )
            .build()
            .unwrap();
        for client in 0..20 {
            let request = Request::post("/").worker(client % 2).chunk(MS, "a").chunk(2 * MS, "b");
            world.after(MS * u32::try_from(client * 3 % 11).unwrap(), move |world| {
                let id = world.send(request);
                if client % 5 == 0 {
                    world.after(3 * MS, move |world| world.client_disconnects(id));
                }
            });
        }
        world.run_until_idle();
        assert_eq!(world.answers().count(), 20, "seed {seed}");
        let contexts = |name: &str| {
            let mut contexts: Vec<(Thread, u32)> = world
                .trace()
                .iter()
                .filter(|callback| callback.name == name && callback.arguments[1..] != [0])
                .map(|callback| (callback.thread, callback.arguments[0]))
                .collect();
            contexts.sort_unstable();
            contexts
        };
        assert_eq!(contexts("proxy_on_context_create").len(), 20, "seed {seed}");
        assert_eq!(contexts("proxy_on_context_create"), contexts("proxy_on_delete"), "seed {seed}");
    }
}
