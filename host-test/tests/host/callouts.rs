//! Callouts, and scripted clusters that answer, fail or keep them.

use std::time::Duration;

use proxy_wasm_host_test::{Call, CallId, Kept, Reply, Request, Response, Status, Upstream, World, WorldBuilder};

use crate::probe::{on, probe};
use crate::said;

const MS: Duration = Duration::from_millis(1);

/// Asks the bridge about each request, says what came, and lets the request go on.
fn asking() -> WorldBuilder {
    World::builder().expect_status(Status::BadArgument).filter(probe(
        &[
            on("request_headers", "(call $call) (global.set $waiting (local.get $context)) (i32.const 1)"),
            on(
                "http_call_response",
                "(call $note \"headers\" (local.get $headers))
                 (call $read (i32.const 6) \":status\")
                 (call $body (i32.const 4))
                 (drop (call $act_for (global.get $waiting)))
                 (drop (call $resume (i32.const 0)))",
            ),
            "(global $waiting (mut i32) (i32.const 0))".into(),
        ]
        .concat(),
    ))
}

#[test]
fn an_answer_reaches_the_root_context() {
    let mut world = asking().callout("bridge", |call| Response::ok(call.text() + "ed").after(7 * MS)).build().unwrap();
    assert_eq!(world.get("/").took(), 7 * MS);
    assert_eq!(said(&world), ["call=0", "headers=3", "200", "asked"]);
    let call = &world.callouts()[0];
    assert_eq!((call.path(), call.timeout, call.request), ("/ask", Some(50 * MS), None));
}

/// facts §2, and seen in Envoy 1.40: failures look like responses, but for those that break off after the headers.
#[test]
fn failures_have_envoys_shapes() {
    type Case = (fn() -> Reply, Duration, &'static [&'static str]);
    let cases: [Case; 6] = [
        (Reply::hang, 50 * MS, &["headers=3", "504", "upstream request timeout"]),
        (
            || Reply::from(Response::ok("late").after(60 * MS)),
            50 * MS,
            &["headers=3", "504", "upstream request timeout"],
        ),
        (
            || Reply::reset().after(MS),
            MS,
            &[
                "headers=3",
                "503",
                "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
            ],
        ),
        (|| Response::new(200).chunk(60 * MS, "slow").into(), 50 * MS, &["headers=0", "status=2", "status=1"]),
        (|| Response::ok("cut").then_reset(MS).into(), MS, &["headers=0", "status=2", "status=1"]),
        (
            Reply::connect_failure,
            Duration::ZERO,
            &[
                "headers=3",
                "503",
                "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
            ],
        ),
    ];
    for (reply, took, want) in cases {
        let mut world = asking().callout("bridge", move |_| reply()).build().unwrap();
        assert_eq!(
            (world.get("/").took(), &said(&world)[1..]),
            (took, want.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>().as_slice())
        );
    }
}

#[test]
fn a_refused_callout_is_known_at_once() {
    let filter = || probe(&on("request_headers", "(call $call) (i32.const 0)"));
    let mut unknown = World::builder().filter(filter()).build().unwrap();
    unknown.get("/");
    assert_eq!(said(&unknown), ["call=2"]);
    let mut refusing = World::builder()
        .filter(filter())
        .callout("bridge", |_| Reply::refuse(Status::InternalFailure))
        .build()
        .unwrap();
    refusing.get("/");
    assert_eq!(said(&refusing), ["call=10"]);
}

#[test]
fn a_kept_call_is_answered_by_the_test_or_times_out() {
    let mut world = asking().callout("bridge", |_| Reply::later()).build().unwrap();
    let id = world.send(Request::get("/"));
    world.run_for(20 * MS);
    assert!(world.finished(id).is_none());
    let call = world.open_calls()[0];
    world.complete(call, Response::ok("at last"));
    world.run_until_idle();
    assert_eq!((world.answer(id).took(), said(&world)[3].as_str()), (20 * MS, "at last"));
    world.complete(call, Response::ok("again"));
    let id = world.send(Request::get("/"));
    world.run_until_idle();
    assert_eq!(world.answer(id).took(), 50 * MS, "nobody answered: 504");
}

/// A bridge that holds each `/poll` until somebody else publishes.
#[derive(Default)]
struct Feed {
    polls: Vec<CallId>,
}

impl Upstream for Feed {
    fn call(&mut self, call: &Call, kept: &mut Kept) -> Reply {
        if call.gateway == 0 {
            self.polls.push(call.id);
            return Reply::later_or(40 * MS, Response::ok("nothing new"));
        }
        for poll in self.polls.drain(..) {
            kept.answer(poll, Response::ok(format!("news from gateway {}", call.gateway)).after(MS));
        }
        Response::ok("published").into()
    }
}

#[test]
fn a_long_poll_is_answered_when_another_gateway_calls() {
    let mut world = asking().gateways(2).cluster("bridge", Feed::default()).build().unwrap();
    let poll = world.send(Request::get("/"));
    world.after(10 * MS, |world| {
        world.send(Request::get("/").gateway(1));
    });
    world.run_until_idle();
    assert_eq!(
        (world.answer(poll).took(), world.logged(proxy_wasm_host_test::LogLevel::Info, "news from gateway 1")),
        (11 * MS, true)
    );
    let quiet = world.get("/");
    assert_eq!((quiet.took(), said(&world).last().map(String::as_str)), (40 * MS, Some("nothing new")));
}

/// facts §2: the call belongs to the root context, so it outlives the stream.
#[test]
fn a_callout_outlives_the_stream_that_made_it() {
    let mut world = World::builder()
        .filter(probe(
            &[
                on("request_headers", "(call $call) (i32.const 0)"),
                on("http_call_response", "(call $body (i32.const 4))"),
            ]
            .concat(),
        ))
        .callout("bridge", |_| Response::ok("late").after(9 * MS))
        .build()
        .unwrap();
    assert_eq!(world.get("/").took(), Duration::ZERO);
    world.run_until_idle();
    assert_eq!((said(&world), world.now()), (vec!["call=0".into(), "late".into()], 9 * MS));
}

#[test]
fn ticks_and_long_polls_do_not_keep_a_world_from_being_idle() {
    let mut world = World::builder()
        .filter(probe(
            &[on("configure", "(drop (call $tick (i32.const 10))) (i32.const 1)"), on("tick", "(call $call)")].concat(),
        ))
        .callout("bridge", |_| Reply::later_or(30 * MS, Response::ok("")))
        .build()
        .unwrap();
    world.get("/");
    world.run_until_idle();
    assert_eq!(world.now(), Duration::ZERO);
    world.run_for(35 * MS);
    // Each worker and the main thread tick.
    assert_eq!((world.now(), world.callouts().len()), (35 * MS, 6));
}
