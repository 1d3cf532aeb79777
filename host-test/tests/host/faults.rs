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
            at(Site::Request, 3, Fault::Crash),
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
    assert_eq!([Fault::Skip, Fault::Double, Fault::Late(200)].map(ticking), [1, 3, 1]);
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
