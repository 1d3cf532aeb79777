//! Pausing, resuming, buffering, answering and ending, as Envoy does.

use std::time::Duration;

use proxy_wasm_host_test::{
    Call, Ending, FailurePolicy, Kept, Law, Reply, Request, Response, Status, Upstream, World, WorldBuilder,
};

use crate::probe::{on, probe};
use crate::said;

const MS: Duration = Duration::from_millis(1);

fn world(functions: &[String]) -> WorldBuilder {
    World::builder().filter(probe(&functions.concat()))
}

fn menu() -> Response {
    Response::ok("menu").header("x-origin", "1")
}

#[test]
fn a_filter_without_callbacks_lets_everything_pass() {
    let mut world = world(&[]).origin(|_| menu().trailer("t", "1")).build().unwrap();
    let answer = world.fetch(Request::post("/a").body("ask").trailer("x", "y"));
    assert_eq!((answer.status, answer.text(), answer.trailers.get("t")), (200, "menu".into(), Some("1")));
    let call = &world.origin_requests()[0];
    assert_eq!((call.method(), call.text(), call.trailers.get("x")), ("POST", "ask".into(), Some("y")));
    assert!(!answer.local_reply);
    assert_eq!((answer.details.as_str(), answer.ending), ("via_upstream", Ending::Complete));
}

#[test]
fn callbacks_come_in_order_and_with_the_end_of_each_message() {
    let note = |name: &str| on(name, &format!("(call $note \"{name}\" (local.get $end)) (i32.const 0)"));
    let call = |name: &str| on(name, &format!("(call $say \"{name}\")"));
    let mut world = world(&[
        note("request_headers"),
        note("request_body"),
        note("response_headers"),
        note("response_body"),
        on("done", "(call $say \"done\") (i32.const 1)"),
        call("log"),
        call("delete"),
    ])
    .origin(|_| menu())
    .build()
    .unwrap();
    world.fetch(Request::post("/").body("ask"));
    assert_eq!(
        said(&world),
        [
            "request_headers=0",
            "request_body=0",
            "request_body=1",
            "response_headers=0",
            "response_body=0",
            "response_body=1",
            "log",
            "done",
            "delete"
        ]
    );
}

/// facts §3: a pause in the headers callback withholds the body callbacks; after resuming, the same filter gets them.
#[test]
fn a_pause_in_headers_withholds_the_body_until_resumed() {
    let mut world = world(&[
        on("configure", "(drop (call $tick (i32.const 10))) (i32.const 1)"),
        on("request_headers", "(global.set $paused (local.get $context)) (i32.const 1)"),
        on(
            "request_body",
            "(call $note \"body\" (local.get $size)) (call $note \"end\" (local.get $end)) (i32.const 0)",
        ),
        on(
            "tick",
            "(if (global.get $paused) (then
                (drop (call $act_for (global.get $paused)))
                (call $read (i32.const 0) \"x\")
                (drop (call $resume (i32.const 0)))
                (call $read (i32.const 0) \"x\")
                (global.set $paused (i32.const 0))))",
        ),
        "(global $paused (mut i32) (i32.const 0))".into(),
    ])
    .origin(|_| menu())
    .expect_status(Status::BadArgument)
    .build()
    .unwrap();
    let answer = world.fetch(Request::post("/").header("x", "1").chunk(MS, "ab").chunk(MS, "cd"));
    assert_eq!(answer.took(), 10 * MS);
    // The map was readable while paused, and not after; both pieces came as one.
    assert_eq!(said(&world), ["1", "status=2", "body=4", "end=1"]);
    assert_eq!(world.origin_requests()[0].text(), "abcd");
}

/// Seen in Envoy 1.40: resuming the response takes the request's maps away, and never the response's.
#[test]
fn a_response_map_outlives_a_pause() {
    let mut world = world(&[
        on("configure", "(drop (call $tick (i32.const 10))) (i32.const 1)"),
        on("response_headers", "(global.set $paused (local.get $context)) (i32.const 1)"),
        on("response_body", "(if (local.get $end) (then (call $read (i32.const 2) \"x-origin\"))) (i32.const 0)"),
        on(
            "tick",
            "(if (global.get $paused) (then
                (drop (call $act_for (global.get $paused)))
                (drop (call $resume (i32.const 1)))
                (call $read (i32.const 2) \"x-origin\")
                (global.set $paused (i32.const 0))))",
        ),
        "(global $paused (mut i32) (i32.const 0))".into(),
    ])
    .origin(|_| menu())
    .build()
    .unwrap();
    assert_eq!(world.get("/").text(), "menu");
    assert_eq!(said(&world), ["1", "1"]);
}

#[test]
fn a_pause_in_the_body_makes_its_size_cumulative() {
    let mut world = world(&[on(
        "response_body",
        "(call $note \"size\" (local.get $size))
         (if (local.get $end) (then (call $body (i32.const 1))
            (drop (call $set_buffer (i32.const 1) (i32.const 0) (local.get $size) \"replaced\"))))
         (i32.eqz (local.get $end))",
    )])
    .origin(|_| Response::new(200).chunk(MS, "ab").chunk(MS, "cde"))
    .build()
    .unwrap();
    let answer = world.get("/");
    assert_eq!(said(&world), ["size=2", "size=5", "size=5", "abcde"]);
    assert_eq!(answer.text(), "replaced");
}

#[test]
fn trailers_can_be_made_with_the_last_piece_of_body() {
    let add = |body: &str, map: u8| {
        let made = format!("(call $note \"made\" (call $add_header (i32.const {map}) \"t\" \"1\"))");
        on(body, &format!("(if (local.get $end) (then {made})) (i32.const 0)"))
    };
    let never = |name: &str| on(name, "(call $say \"never\") (i32.const 0)");
    let mut world = world(&[
        add("request_body", 1),
        add("response_body", 3),
        never("request_trailers"),
        never("response_trailers"),
    ])
    .origin(|_| menu())
    .build()
    .unwrap();
    let answer = world.fetch(Request::post("/").body("ask"));
    assert_eq!((answer.text().as_str(), answer.trailers.get("t")), ("menu", Some("1")));
    assert_eq!(world.origin_requests()[0].trailers.get("t"), Some("1"));
    assert_eq!(said(&world), ["made=0", "made=0"]);
}

#[test]
fn trailers_release_a_body_that_was_held_back() {
    let mut world = world(&[
        on("response_body", "(call $note \"size\" (local.get $size)) (i32.const 1)"),
        on("response_trailers", "(call $read (i32.const 3) \"t\") (i32.const 0)"),
    ])
    .origin(|_| Response::new(200).chunk(MS, "ab").chunk(MS, "cd").trailer("t", "1"))
    .build()
    .unwrap();
    let answer = world.get("/");
    assert_eq!((answer.text().as_str(), answer.trailers.get("t")), ("abcd", Some("1")));
    assert_eq!(said(&world), ["size=2", "size=4", "1"]);
}

#[test]
fn a_body_callback_that_continues_sees_its_piece_only() {
    let mut world = world(&[on("response_body", "(call $body (i32.const 1)) (i32.const 0)")])
        .origin(|_| Response::new(200).chunk(MS, "ab").chunk(MS, "cde").last_chunk_ends())
        .build()
        .unwrap();
    let answer = world.get("/");
    assert_eq!((answer.text().as_str(), answer.pieces), ("abcde", vec![(MS, 2), (2 * MS, 3)]));
    assert_eq!(said(&world), ["ab", "cde"]);
}

#[test]
fn a_paused_body_past_the_limit_is_refused() {
    let pausing =
        || world(&[on("request_body", "(i32.const 1)"), on("response_body", "(i32.const 1)")]).buffer_limit(4);
    let mut request = pausing().build().unwrap();
    assert_eq!(request.fetch(Request::post("/").body("12345")).status, 413);
    let mut response = pausing().origin(|_| Response::ok("12345")).build().unwrap();
    let answer = response.get("/");
    assert_eq!((answer.status, answer.ending), (200, Ending::Reset), "headers had gone out");
}

/// facts §3: request headers are out of reach after their phase; the access log sees all maps.
#[test]
fn header_maps_are_there_in_their_phase_only() {
    let mut world = world(&[
        on("request_headers", "(call $read (i32.const 0) \"x\") (call $read (i32.const 2) \"x-origin\") (i32.const 0)"),
        on(
            "response_headers",
            "(call $read (i32.const 0) \"x\") (call $read (i32.const 2) \"x-origin\")
             (call $note \"pairs\" (call $get_headers (i32.const 0) (i32.const 0) (i32.const 4)))
             (call $note \"bytes\" (i32.load (i32.const 4))) (i32.const 0)",
        ),
        on(
            "log",
            "(call $read (i32.const 0) \"x\") (call $read (i32.const 2) \"server\") (call $read (i32.const 3) \"t\")",
        ),
    ])
    .origin(|_| menu())
    .expect_status(Status::BadArgument)
    .build()
    .unwrap();
    world.fetch(Request::get("/").header("x", "first").header("x", "second"));
    assert_eq!(
        said(&world),
        ["first", "status=2", "status=2", "1", "pairs=0", "bytes=0", "first", "envoy", "status=1"]
    );
}

/// facts §3: a reply in the request phase passes the filter's own response callbacks, and can be changed there.
#[test]
fn a_local_reply_in_the_request_phase_passes_the_response_callbacks() {
    let mut world = world(&[
        on("request_headers", "(call $answer \"hit\") (i32.const 0)"),
        on(
            "response_headers",
            "(call $note \"end\" (local.get $end)) (drop (call $add_header (i32.const 2) \"x\" \"1\")) (i32.const 0)",
        ),
        on("response_body", "(call $body (i32.const 1)) (i32.const 0)"),
    ])
    .build()
    .unwrap();
    let answer = world.get("/");
    assert_eq!(
        (answer.text().as_str(), answer.header("x"), answer.header("content-length")),
        ("hit", Some("1"), Some("3"))
    );
    assert_eq!((answer.local_reply, answer.details.as_str()), (true, "probe"));
    assert!(world.origin_requests().is_empty());
    let head = world.fetch(Request::head("/"));
    assert_eq!((head.body.len(), head.header("content-length")), (0, Some("3")));
    assert_eq!(said(&world), ["answered=0", "end=0", "hit", "answered=0", "end=1"]);
}

/// facts §3: from the response headers a reply goes straight to the client.
#[test]
fn a_local_reply_in_the_response_phase_passes_no_callbacks() {
    let mut world = world(&[
        on("response_headers", "(call $say \"headers\") (call $answer \"stale\") (i32.const 0)"),
        on("response_body", "(call $say \"body\") (i32.const 0)"),
    ])
    .origin(|_| Response::new(503).body("oops").header("x-origin", "1"))
    .build()
    .unwrap();
    let answer = world.get("/");
    assert_eq!((answer.status, answer.text().as_str(), answer.header("x-origin")), (200, "stale", None));
    assert_eq!(said(&world), ["headers", "answered=0"]);
}

#[test]
fn a_local_reply_in_the_response_body_resets_the_stream() {
    let mut world =
        world(&[on("response_body", "(call $answer \"late\") (i32.const 0)")]).origin(|_| menu()).build().unwrap();
    let answer = world.get("/");
    assert_eq!((answer.status, answer.ending, answer.body.len()), (200, Ending::Reset, 0));
}

#[test]
fn a_second_local_reply_breaks_a_law() {
    let mut world =
        world(&[on("request_headers", "(call $answer \"a\") (call $answer \"b\") (i32.const 0)")]).build().unwrap();
    assert_eq!(world.get("/").text(), "a");
    assert_eq!(said(&world), ["answered=0", "answered=0"]);
    assert_eq!(world.take_violations()[0].law, Law::OneLocalReply);
}

/// facts §3: the flag that stops iteration is the VM's, so answering another stream loses what this callback was shown.
#[test]
fn answering_another_stream_from_a_callback_stops_the_current_one() {
    let mut world = world(&[
        on(
            "request_headers",
            "(if (global.get $waiting) (then (return (i32.const 0))))
             (global.set $waiting (local.get $context)) (i32.const 1)",
        ),
        on(
            "response_body",
            "(if (global.get $woken) (then (return (i32.const 0))))
             (global.set $woken (i32.const 1))
             (drop (call $act_for (global.get $waiting))) (call $answer \"woken\") (i32.const 0)",
        ),
        "(global $waiting (mut i32) (i32.const 0)) (global $woken (mut i32) (i32.const 0))".into(),
    ])
    .origin(|_| menu())
    .build()
    .unwrap();
    let (waiter, fetcher) = (world.send(Request::get("/")), world.send(Request::get("/")));
    world.run_until_idle();
    assert_eq!(world.answer(waiter).text(), "woken");
    // "menu" was shown to the callback that answered the other stream: lost.
    assert_eq!(world.answer(fetcher).text(), "");
    assert_eq!(world.take_violations()[0].law, Law::BodyConserved);
}

#[test]
fn a_stream_that_nothing_will_resume_breaks_a_law() {
    let mut world = world(&[on("request_headers", "(i32.const 1)")]).build().unwrap();
    let id = world.send(Request::get("/stuck"));
    world.run_until_idle();
    assert!(world.finished(id).is_none());
    assert_eq!(world.take_violations()[0].law, Law::NoStuckStream(id));
}

#[test]
fn a_trap_ends_the_streams_of_its_vm_with_503_and_names_the_function() {
    let mut world = world(&[on("response_headers", "(call $inner) (i32.const 0)"), "(func $inner unreachable)".into()])
        .origin(|_| menu().after(MS))
        .build()
        .unwrap();
    let ids = world.clients(2).get("/");
    world.run_until_idle();
    for id in ids {
        assert_eq!((world.answer(id).status, world.answer(id).details.as_str()), (503, "wasm_fail_stream"));
    }
    assert_eq!(world.get("/").status, 503, "the VM stays failed");
    let violations = world.take_violations();
    assert_eq!((violations.len(), &violations[0].law), (1, &Law::NoTrap));
    assert!(said(&world).concat().contains("inner"), "{:?}", said(&world));
    world.restart_worker(0);
    let id = world.send(Request::get("/"));
    world.run_until_idle();
    assert_eq!(world.answer(id).status, 503, "a new VM traps as well");
    world.take_violations();
}

#[test]
fn a_vm_crashes_where_the_test_wants_it() {
    let mut world = world(&[on("response_headers", "(i32.const 0)")]).workers(2).origin(|_| menu()).build().unwrap();
    world.crash(0, 1, "proxy_on_response_headers");
    let statuses = [0, 1, 0, 1].map(|worker| world.fetch(Request::get("/").worker(worker)).status);
    assert_eq!(statuses, [200, 503, 200, 503]);
    world.restart_worker(1);
    assert_eq!(world.fetch(Request::get("/").worker(1)).status, 200);
}

/// facts §7: `failure_policy`.
#[test]
fn requests_to_a_failed_vm_end_pass_or_get_a_new_one() {
    for (policy, want) in [
        (FailurePolicy::Closed, [503, 503, 503]),
        (FailurePolicy::Open, [200, 200, 200]),
        (FailurePolicy::Reload, [503, 503, 200]),
    ] {
        let mut world =
            world(&[on("request_headers", "(i32.const 0)")]).failure_policy(policy).origin(|_| menu()).build().unwrap();
        world.crash(0, 0, "proxy_on_request_headers");
        let statuses = [0, 500, 1000].map(|ms| {
            world.run_for(ms * MS);
            world.get("/").status
        });
        assert_eq!(statuses, want, "{policy:?}");
    }
}

#[test]
#[should_panic(expected = "NoTrap")]
fn a_world_with_a_broken_law_panics_when_it_ends() {
    let mut world = world(&[on("request_headers", "unreachable")]).build().unwrap();
    world.get("/");
}

/// facts §5: nobody sees an end of the stream; only the log and the deletion follow.
#[test]
fn a_client_that_leaves_ends_the_stream_without_an_end() {
    let mut world = world(&[
        on("response_body", "(call $note \"end\" (local.get $end)) (i32.const 0)"),
        on("log", "(call $tell (call $get_property \"response\\0code_details\" (i32.const 0) (i32.const 4)))"),
        on("delete", "(call $say \"delete\")"),
    ])
    .origin(|_| Response::new(200).chunk(MS, "ab").chunk(10 * MS, "cd"))
    .build()
    .unwrap();
    let id = world.send(Request::get("/"));
    world.at(5 * MS, move |world| world.client_disconnects(id));
    world.run_until_idle();
    let answer = world.answer(id);
    assert_eq!((answer.ending, answer.text().as_str(), answer.ended), (Ending::ClientGone, "ab", 5 * MS));
    assert_eq!(said(&world), ["end=0", "downstream_remote_disconnect", "delete"]);
    assert!(world.open_calls().is_empty(), "the origin's answer isn't wanted any more");
}

#[test]
fn an_origin_that_breaks_off_cuts_the_answer_short() {
    let mut world = world(&[on("response_body", "(call $note \"end\" (local.get $end)) (i32.const 0)")])
        .origin(|_| Response::new(200).chunk(MS, "ab").then_reset(MS))
        .build()
        .unwrap();
    let answer = world.get("/");
    assert_eq!((answer.status, answer.text().as_str(), answer.ending), (200, "ab", Ending::Reset));
    assert_eq!(said(&world), ["end=0"]);
}

/// Seen in Envoy 1.40.
#[test]
fn an_origin_that_breaks_off_while_its_headers_are_held_gives_502() {
    let mut world =
        world(&[on("response_headers", "(i32.const 1)"), on("response_body", "(call $say \"never\") (i32.const 0)")])
            .origin(|_| Response::new(200).chunk(MS, "ab").then_reset(MS))
            .build()
            .unwrap();
    let answer = world.get("/");
    assert_eq!(
        (answer.status, answer.details.as_str()),
        (502, "upstream_reset_after_response_started{protocol_error}")
    );
    assert_eq!(said(&world), [""; 0]);
}

/// Seen in Envoy 1.40: from the response callbacks of the first reply, a second one takes its place.
#[test]
fn a_reply_to_a_reply_takes_its_place() {
    let mut world = world(&[
        on("request_headers", "(call $answer \"hit\") (i32.const 0)"),
        on("response_headers", "(call $answer \"again\") (i32.const 0)"),
    ])
    .build()
    .unwrap();
    assert_eq!(world.get("/").text(), "again");
    assert_eq!(world.take_violations()[0].law, Law::OneLocalReply);
}

#[test]
fn an_origin_that_cannot_answer_gets_envoys_words() {
    const CONNECT: &str =
        "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}";
    type Case = (fn() -> Reply, u16, &'static str);
    let replies: [Case; 4] = [
        (Reply::connect_failure, 503, CONNECT),
        (Reply::reset, 503, "upstream_reset_before_response_started{connection_termination}"),
        (Reply::hang, 504, "response_timeout"),
        (|| Reply::refuse(Status::InternalFailure), 503, CONNECT),
    ];
    for (reply, status, details) in replies {
        let mut world = world(&[on(
            "response_headers",
            "(call $tell (call $get_property \"response\\0code_details\" (i32.const 0) (i32.const 4))) (i32.const 0)",
        )])
        .origin(move |_| reply())
        .build()
        .unwrap();
        let answer = world.get("/");
        assert_eq!((answer.status, answer.details.as_str(), answer.local_reply), (status, details, true));
        assert_eq!(said(&world), [details], "Envoy's own reply passes the filter too");
    }
}

#[test]
fn answers_to_head_and_without_content_have_no_body() {
    let mut world = world(&[on("response_headers", "(call $note \"end\" (local.get $end)) (i32.const 0)")])
        .origin(|call| if call.path() == "/304" { Response::ok("menu").status(304) } else { menu() })
        .build()
        .unwrap();
    for request in [Request::head("/"), Request::get("/304")] {
        assert_eq!(world.fetch(request).body.len(), 0);
    }
    assert_eq!(said(&world), ["end=1", "end=1"]);
}

/// What the origin knows of a request, and when.
#[test]
fn a_body_reaches_the_origin_piece_by_piece_as_the_filter_lets_it_pass() {
    let heard = |functions: &[String]| {
        let mut world = world(functions).origin(|_| menu()).build().unwrap();
        world.send(Request::post("/").chunk(10 * MS, "ab").chunk(10 * MS, "cde"));
        world.run_for(5 * MS);
        let at_first = world.origin_requests().first().map(|call| (call.at, call.whole));
        world.run_until_idle();
        let call = &world.origin_requests()[0];
        assert_eq!((call.text().as_str(), call.whole), ("abcde", true));
        (at_first, call.at, call.pieces.clone())
    };
    let streamed = heard(&[]);
    assert_eq!(streamed, (Some((Duration::ZERO, false)), Duration::ZERO, vec![(10 * MS, 2), (20 * MS, 3)]));
    let held = heard(&[on("request_body", "(i32.eqz (local.get $end))")]);
    assert_eq!(
        held,
        (Some((Duration::ZERO, false)), Duration::ZERO, vec![(20 * MS, 5)]),
        "with the headers gone before"
    );
    let all_held = heard(&[
        on(
            "request_headers",
            "(drop (call $tick (i32.const 50))) (global.set $held (local.get $context)) (i32.const 1)",
        ),
        on(
            "tick",
            "(drop (call $act_for (global.get $held))) (drop (call $resume (i32.const 0))) (drop (call $tick (i32.const 0)))",
        ),
        "(global $held (mut i32) (i32.const 0))".into(),
    ]);
    assert_eq!(all_held, (None, 50 * MS, vec![(50 * MS, 5)]));
}

#[test]
fn an_origin_may_answer_before_it_has_the_whole_request() {
    struct TooLarge;
    impl Upstream for TooLarge {
        fn begins(&mut self, call: &Call, _: &mut Kept) -> Option<Reply> {
            (call.header("content-length") == Some("5")).then(|| Response::new(413).after(MS).into())
        }
        fn call(&mut self, _: &Call, _: &mut Kept) -> Reply {
            menu().into()
        }
    }
    let mut world = world(&[]).origin_upstream(TooLarge).build().unwrap();
    let large = Request::post("/").header("content-length", "5").chunk(10 * MS, "abcde");
    let answer = world.fetch(large);
    assert_eq!((answer.status, answer.took()), (413, MS));
    world.run_until_idle();
    assert!(!world.origin_requests()[0].whole, "the rest isn't forwarded");
    assert_eq!(world.fetch(Request::post("/").body("abcd")).status, 200);
}

#[test]
fn an_origin_hears_of_a_client_that_leaves_within_its_request() {
    let mut world = world(&[]).origin(|_| menu()).build().unwrap();
    let id = world.send(Request::post("/").chunk(MS, "ab").chunk(10 * MS, "cde"));
    world.after(5 * MS, move |world| world.client_disconnects(id));
    world.run_until_idle();
    let call = &world.origin_requests()[0];
    assert_eq!((call.text().as_str(), call.whole), ("ab", false));
}
