//! Faults by seed, laws, failures that shrink, and replays.

use std::time::Duration;

use proxy_wasm_host_test::{
    Fault, Faults, Injected, Law, Replay, Request, Response, Simulation, Site, Status, World, WorldBuilder,
};

use crate::probe::{on, probe};
use crate::said;

const MS: Duration = Duration::from_millis(1);

/// Asks the bridge about each request, and lets it go on whatever comes: a filter that does well.
fn sound() -> WorldBuilder {
    asking("(drop (call $act_for (i32.load (i32.const 1536)))) (drop (call $resume (i32.const 0)))")
}

/// One that goes on only if the bridge answers 200.
fn trusting() -> WorldBuilder {
    asking(
        "(drop (call $get_header (i32.const 6) \":status\" (i32.const 0) (i32.const 4)))
         (if (i32.eq (i32.load8_u (i32.load (i32.const 0))) (i32.const 50)) (then
            (drop (call $act_for (i32.load (i32.const 1536)))) (drop (call $resume (i32.const 0)))))",
    )
}

/// One request at a time asks; which one, stands at 1536.
fn asking(then: &str) -> WorldBuilder {
    let filter = probe(
        &[
            on(
                "request_headers",
                "(if (i32.load (i32.const 1536)) (then (return (i32.const 0))))
                 (if (call $http_call \"bridge\" CALL_HEADERS \"ask\" (i32.const 0) (i32.const 0) (i32.const 50) (i32.const 8))
                    (then (return (i32.const 0))))
                 (i32.store (i32.const 1536) (local.get $context)) (i32.const 1)",
            ),
            on(
                "http_call_response",
                &format!("(if (i32.load (i32.const 1536)) (then {then})) (i32.store (i32.const 1536) (i32.const 0))"),
            ),
            on("done", "(if (i32.eq (i32.load (i32.const 1536)) (local.get $context)) (then (i32.store (i32.const 1536) (i32.const 0)))) (i32.const 1)"),
        ]
        .concat(),
    );
    World::builder()
        .filter(filter)
        .workers(2)
        .expect_status(Status::BadArgument)
        .patience(Duration::from_secs(1))
        .origin(|_| Response::ok("menu").after(3 * MS))
        .callout("bridge", |_| Response::ok("told").after(2 * MS))
}

fn simulation(build: fn() -> WorldBuilder) -> Simulation {
    Simulation::new(build)
        .requests(|dice| (0..30).map(|_| (dice.up_to_ms(400), Request::get("/").worker(dice.below(2)))).collect())
}

#[test]
fn a_sound_filter_stands_every_mix_of_faults() {
    for seed in 0..40 {
        simulation(sound).run(seed).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn a_failure_shrinks_to_one_request_and_one_fault_and_can_be_replayed() {
    let trusting = simulation(trusting);
    let failure = (0..40).find_map(|seed| trusting.run(seed).err()).expect("some mix spoils an answer");
    assert!(failure.what.contains("NoStuckStream"), "{failure}");
    assert_eq!((failure.replay.requests.len(), failure.replay.faults.len()), (1, 1), "{failure}");
    assert!(failure.found_with.0 == 30 && failure.found_with.1 >= 1);
    let again = Replay::from_yaml(&failure.replay.to_yaml()).unwrap();
    assert_eq!(trusting.replay(&again).unwrap_err().what, failure.what);
    let without = Replay { faults: Vec::new(), ..again };
    assert!(trusting.replay(&without).is_ok(), "it takes the fault");
}

#[test]
fn a_check_fails_a_run_as_a_law_does() {
    let wrong = simulation(sound).without_faults().check(|world| match world.answers().count() {
        count if count > 3 => Err(format!("{count} answers")),
        _ => Ok(()),
    });
    let failure = wrong.run(1).unwrap_err();
    assert_eq!((failure.what.as_str(), failure.replay.requests.len()), ("4 answers", 4));
}

#[test]
fn listed_faults_come_where_they_are_wanted() {
    let at = |site, number, fault| Injected { site, number, fault };
    let mut world = sound()
        .workers(1)
        .faults(Faults::listed([
            at(Site::Callout, 1, Fault::Slow(20)),
            at(Site::Origin, 2, Fault::BadAnswer(500)),
            at(Site::Request, 3, Fault::Crash("proxy_on_request_headers")),
        ]))
        .build()
        .unwrap();
    let answers = [0; 4].map(|_| world.get("/")).map(|answer| (answer.status, answer.took()));
    assert_eq!(answers, [(200, 5 * MS), (200, 25 * MS), (500, 2 * MS), (503, Duration::ZERO)]);
    assert_eq!(world.injected_faults().len(), 3);
}

#[test]
fn ticks_are_skipped_doubled_and_late() {
    let ticking = |fault| {
        let filter = probe(
            &[on("configure", "(drop (call $tick (i32.const 10))) (i32.const 1)"), on("tick", "(call $say \"tick\")")]
                .concat(),
        );
        // The main thread's timer passes first.
        let faults = Faults::listed([Injected { site: Site::Tick, number: 0, fault }]);
        let mut world = World::builder().filter(filter).faults(faults).build().unwrap();
        world.run_for(15 * MS);
        said(&world).len()
    };
    assert_eq!([Fault::Skip, Fault::Double, Fault::Burst(5), Fault::Late(200)].map(ticking), [1, 3, 6, 1]);
}

/// A world with these faults, in which each request makes a callout that is answered with its number, and goes on at once.
fn numbered(faults: &[(Site, u64, Fault)]) -> World {
    let filter = probe(
        &[
            on("request_headers", "(call $call) (i32.const 0)"),
            on("http_call_response", "(call $note \"token\" (local.get $token)) (call $body (i32.const 4))"),
        ]
        .concat(),
    );
    let faults = faults.iter().map(|(site, number, fault)| Injected { site: *site, number: *number, fault: *fault });
    let mut number = 0;
    let mut world = World::builder()
        .filter(filter)
        .faults(Faults::listed(faults.collect::<Vec<_>>()))
        .callout("bridge", move |_| {
            number += 1;
            Response::ok(format!("answer {number}")).after(5 * MS)
        })
        .build()
        .unwrap();
    for delay in 0..2 {
        world.after(MS * delay, |world| _ = world.send(Request::get("/")));
    }
    world.run_until_idle();
    world
}

#[test]
fn answers_to_callouts_come_twice_swapped_late_and_out_of_order() {
    let heard = |faults: &[(Site, u64, Fault)]| {
        let said = said(&numbered(faults));
        said.into_iter().filter(|line| !line.starts_with("call=")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(heard(&[]), "token=4 answer 1 token=8 answer 2");
    let twice = "token=4 answer 1 token=8 answer 2 token=4 answer 1";
    assert_eq!(heard(&[(Site::Callout, 0, Fault::Twice)]), twice);
    assert_eq!(heard(&[(Site::Callout, 1, Fault::Swap)]), "token=4 answer 1 token=8 answer 1");
    assert_eq!(heard(&[(Site::Callout, 0, Fault::Overtaken)]), "token=8 answer 2 token=4 answer 1");
    let alone = "token=4 answer 1 token=8 answer 2";
    assert_eq!(heard(&[(Site::Callout, 1, Fault::Overtaken)]), alone, "a second later, where none follows");
}

#[test]
fn an_upstream_without_a_connection_hears_nothing_and_one_whose_answer_is_lost_does() {
    let reached = |fault| {
        let world = numbered(&[(Site::Origin, 0, fault)]);
        world.origin_requests().len()
    };
    assert_eq!([Fault::NoConnection, Fault::Reset].map(reached), [1, 2]);
    let answered = |fault| said(&numbered(&[(Site::Callout, 0, fault)])).join(" ").contains("answer 2");
    assert_eq!([Fault::Refuse, Fault::Reset].map(answered), [false, true]);
}

/// What a filter says of one request with a body, with one fault.
fn told(functions: &[String], site: Site, fault: Fault) -> (Vec<String>, u16) {
    let faults = Faults::listed([Injected { site, number: 0, fault }]);
    let mut world = World::builder()
        .filter(probe(&functions.concat()))
        .configuration("first")
        .next_configuration("second")
        .expect_status(Status::BadArgument)
        .faults(faults)
        .origin(|_| Response::ok("menu").after(2 * MS))
        .build()
        .unwrap();
    let before = world.logs().len();
    let answer = world.fetch(Request::post("/").body("ask"));
    world.run_until_idle();
    (said(&world).split_off(before), answer.status)
}

#[test]
fn the_host_says_no_where_it_is_wanted() {
    let calls = [on(
        "request_headers",
        "(drop (call $register_queue \"q\" (i32.const 8)))
         (call $note \"enqueue\" (call $enqueue (i32.load (i32.const 8)) \"item\"))
         (drop (call $set_shared \"j\" \"other\" (i32.const 0))) (drop (call $set_shared \"k\" \"old\" (i32.const 0)))
         (call $note \"set\" (call $set_shared \"k\" \"new\" (i32.const 0)))
         (call $tell (call $get_shared \"k\" (i32.const 0) (i32.const 4) (i32.const 8)))
         (call $tell (call $get_property \"request\\0method\" (i32.const 0) (i32.const 4)))
         (call $answer \"mine\") (i32.const 0)",
    )];
    let sound = ["enqueue=0", "set=0", "new", "POST", "answered=0"];
    let with = |index: usize, words: &str| {
        let mut said = sound.map(str::to_owned).to_vec();
        words.clone_into(&mut said[index]);
        said
    };
    for (site, fault, want, status) in [
        (Site::Queue, Fault::Full, with(0, "enqueue=10"), 200),
        (Site::SharedRead, Fault::Absent, with(2, "status=1"), 200),
        (Site::SharedRead, Fault::Stale, with(2, "old"), 200),
        (Site::SharedRead, Fault::Alias, with(2, "other"), 200),
        (Site::Property, Fault::Absent, with(3, "status=1"), 200),
        (Site::LocalReply, Fault::Refuse, with(4, "answered=10"), 200),
    ] {
        assert_eq!(told(&calls, site, fault), (want, status), "{site:?}, {fault}");
    }
    let register =
        [on("request_headers", "(call $note \"register\" (call $register_queue \"q\" (i32.const 8))) (i32.const 0)")];
    assert_eq!(told(&register, Site::HostCall, Fault::Unimplemented).0, ["register=12"]);
    let write =
        [on("request_headers", "(call $note \"set\" (call $set_shared \"k\" \"v\" (i32.const 0))) (i32.const 0)")];
    assert_eq!(told(&write, Site::SharedWrite, Fault::Full).0, ["set=10"]);
    assert_eq!(told(&write, Site::SharedWrite, Fault::CasMismatch).0, ["set=0"], "only where one is given");
}

#[test]
fn a_trap_that_a_fault_caused_breaks_no_law() {
    // As an allocator does that gets nothing.
    let growing = [on(
        "request_headers",
        "(if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable)) (i32.const 0)",
    )];
    let (said, status) = told(&growing, Site::Memory, Fault::NoMemory);
    assert!(said[0].contains("unreachable") && status == 503, "{said:?}");
    let busy = [on(
        "response_headers",
        "(local $i i32) (loop $again (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 50)))) (i32.const 0)",
    )];
    let (said, status) = told(&busy, Site::Request, Fault::OutOfFuel("proxy_on_response_headers"));
    assert!(said[0].contains("has no fuel") && status == 503, "{said:?}");
}

#[test]
fn clocks_levels_and_configurations_change_under_way() {
    let asking = [
        on("configure", "(call $body (i32.const 7)) (i32.const 1)"),
        on(
            "response_headers",
            "(drop (call $log_level (i32.const 8))) (call $note \"level\" (i32.load (i32.const 8)))
             (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 8))) (call $note \"nanoseconds\" (i32.load (i32.const 8)))
             (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 8)))
             (call $note \"day\" (i32.wrap_i64 (i64.div_u (i64.load (i32.const 8)) (i64.const 86400000000000)))) (i32.const 0)",
        ),
    ];
    let sound = ["level=2", "nanoseconds=1002000000", "day=20454"];
    assert_eq!(told(&asking, Site::Request, Fault::LogLevel(4)).0, ["level=4", sound[1], sound[2]]);
    assert_eq!(told(&asking, Site::Request, Fault::Stall(500)).0, [sound[0], "nanoseconds=1000000000", sound[2]]);
    assert_eq!(told(&asking, Site::Request, Fault::WallJump(-3600)).0, [sound[0], sound[1], "day=20453"]);
    // On the main thread twice, and on the worker, while the request is under way.
    let reloaded = ["second", "second", "second", sound[0], sound[1], sound[2]];
    assert_eq!(told(&asking, Site::Request, Fault::Reload(1)).0, reloaded);
    let (refused, status) = told(&asking, Site::Request, Fault::RefusedReload);
    assert!(refused[0].contains("not a configuration") && refused[1..] == sound && status == 200, "{refused:?}");
}

#[test]
fn messages_of_odd_shapes_pass() {
    let shown = [
        on("request_body", "(call $note \"asked\" (local.get $size)) (i32.const 0)"),
        on("request_trailers", "(call $read (i32.const 1) \"x-odd-trailer\") (i32.const 0)"),
        on("response_headers", "(call $note \"odd\" (local.get $size)) (i32.const 0)"),
        on("response_body", "(call $note \"told\" (local.get $size)) (i32.const 0)"),
    ];
    let sizes = |site, fault| told(&shown, site, fault).0.join(" ");
    assert_eq!(sizes(Site::Request, Fault::Bytewise), "asked=1 asked=1 asked=1 asked=0 odd=3 told=4 told=0");
    assert_eq!(sizes(Site::Origin, Fault::Bytewise), "asked=3 asked=0 odd=3 told=1 told=1 told=1 told=1 told=0");
    assert_eq!(sizes(Site::Origin, Fault::OddHeaders), "asked=3 asked=0 odd=8 told=4 told=0");
    assert!(sizes(Site::Request, Fault::Trailers).starts_with("asked=3 \u{fffd}t odd=3"));
}

/// The callouts of this one carry no state, so a second answer to one is as good as the first.
#[test]
fn a_filter_that_looks_at_every_status_stands_harsh_hosts_too() {
    for seed in 0..40 {
        simulation(sound).harsh().run(seed).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn costs_past_the_budget_break_a_law() {
    let filter = || {
        probe(&on(
            "request_headers",
            "(local $i i32) (drop (memory.grow (i32.const 4)))
             (loop $again (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 5000)))) (i32.const 0)",
        ))
    };
    let laws = |builder: WorldBuilder| {
        let mut world = builder.filter(filter()).build().unwrap();
        world.get("/");
        world.take_violations().into_iter().map(|violation| violation.law).collect::<Vec<_>>()
    };
    assert_eq!(laws(World::builder()), []);
    assert_eq!(laws(World::builder().fuel_budget(10_000)), [Law::FuelWithinBudget]);
    assert_eq!(laws(World::builder().memory_budget(17 << 16)), [Law::MemoryWithinBudget]);
}

#[test]
fn a_senseless_question_breaks_a_law() {
    let asked =
        || World::builder().filter(probe(&on("response_headers", "(call $read (i32.const 0) \"x\") (i32.const 0)")));
    let mut world = asked().build().unwrap();
    world.get("/");
    assert_eq!(world.take_violations()[0].law, Law::ExpectedStatus);
    let mut expecting = asked().expect_status(Status::BadArgument).build().unwrap();
    expecting.get("/");
    assert!(expecting.violations().is_empty());
}

#[test]
fn a_trap_leaves_a_core_dump_where_it_is_wanted() {
    let folder = std::env::temp_dir().join(format!("proxy-wasm-host-test-{}", std::process::id()));
    let filter = probe(&on("request_headers", "unreachable"));
    let mut world = World::builder().filter(filter).core_dumps(&folder).build().unwrap();
    world.get("/");
    world.take_violations();
    let dumps: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(dumps.len() == 1 && dumps[0].starts_with(b"\0asm"));
    std::fs::remove_dir_all(&folder).unwrap();
}
