//! gRPC callouts and streams, and local replies to gRPC clients.

use std::time::Duration;

use proxy_wasm_host_test::{Call, CallKind, Kept, Reply, Request, Response, Status, Upstream, World, WorldBuilder};

use crate::probe::{on, probe};
use crate::said;

const MS: Duration = Duration::from_millis(1);

/// Says whatever a call or a stream brings.
fn telling(functions: &[String]) -> WorldBuilder {
    let telling = [
        on(
            "grpc_receive_initial_metadata",
            "(call $note \"initial\" (local.get $token)) (call $read (i32.const 4) \"m\")",
        ),
        on("grpc_receive", "(call $note \"message\" (local.get $size)) (call $body (i32.const 5))"),
        on(
            "grpc_receive_trailing_metadata",
            "(call $note \"trailing\" (local.get $size)) (call $read (i32.const 5) \"m\")",
        ),
        on(
            "grpc_close",
            "(call $note \"close\" (local.get $size))
             (drop (call $get_status (i32.const 8) (i32.const 0) (i32.const 4)))
             (call $note \"status\" (i32.load (i32.const 8))) (call $tell (i32.const 0))",
        ),
    ];
    World::builder().expect_status(Status::BadArgument).filter(probe(&[telling.concat(), functions.concat()].concat()))
}

/// Calls `auth.Auth/Check` with the message `who` on each request.
fn calling() -> WorldBuilder {
    telling(&[on(
        "request_headers",
        "(call $note \"call\" (call $grpc_call \"auth\" \"auth.Auth\" \"Check\" (i32.const 0) (i32.const 0) \"who\"
            (i32.const 50) (i32.const 8)))
         (call $note \"token\" (i32.load (i32.const 8))) (i32.const 0)",
    )])
}

#[test]
fn a_call_is_answered_with_a_message() {
    let mut world = calling().callout("auth", |_| Response::grpc("you").after(5 * MS)).build().unwrap();
    world.get("/");
    world.run_until_idle();
    assert_eq!(said(&world), ["call=0", "token=5", "message=3", "you"]);
    let call = &world.callouts()[0];
    assert_eq!((call.kind, call.path(), call.text().as_str()), (CallKind::GrpcCall, "/auth.Auth/Check", "who"));
    assert_eq!((call.header("content-type"), call.timeout), (Some("application/grpc"), Some(50 * MS)));
}

#[test]
fn a_call_that_fails_is_told_a_status_and_its_words() {
    type Case = (fn() -> Reply, [&'static str; 3]);
    let cases: [Case; 5] = [
        (|| Response::grpc_status(7, "not you").into(), ["close=7", "status=7", "not you{via_upstream}"]),
        (|| Response::new(403).into(), ["close=7", "status=7", "via_upstream"]),
        (Reply::hang, ["close=14", "status=14", "upstream request timeout{response_timeout}"]),
        (
            Reply::connect_failure,
            [
                "close=14",
                "status=14",
                "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure{upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}}",
            ],
        ),
        (
            || Response::grpc_messages().chunk(MS, "cut").then_reset(MS).into(),
            ["close=13", "status=13", "upstream_reset_after_response_started{remote_reset}"],
        ),
    ];
    for (reply, want) in cases {
        let mut world = calling().callout("auth", move |_| reply()).build().unwrap();
        world.get("/");
        world.run_until_idle();
        assert_eq!(said(&world)[2..], want);
    }
}

#[test]
fn a_call_to_nowhere_is_refused_at_once() {
    let mut unknown = calling().build().unwrap();
    unknown.get("/");
    assert_eq!(said(&unknown)[0], "call=4", "a name that is no cluster's");
    let mut refusing = calling().callout("auth", |_| Reply::refuse(Status::InternalFailure)).build().unwrap();
    refusing.get("/");
    assert_eq!(said(&refusing)[0], "call=10");
}

/// Answers each message with itself, and closes when the filter does.
struct Echo;

impl Upstream for Echo {
    fn call(&mut self, _: &Call, _: &mut Kept) -> Reply {
        Reply::from(Response::grpc_messages().header("m", "begin"))
    }

    fn grpc_message(&mut self, stream: &Call, message: Option<&[u8]>, end: bool, _: &mut Kept) -> Option<Response> {
        assert_eq!(stream.kind, CallKind::GrpcStream);
        let answer = Response::grpc_messages().chunk(MS, message.unwrap_or_default());
        Some(if end { answer.trailer("grpc-status", "0").trailer("m", "end") } else { answer })
    }
}

fn streaming(then: &str) -> WorldBuilder {
    let open = "(drop (call $grpc_stream \"echo\" \"Echo\" \"Talk\" (i32.const 0) (i32.const 0) (i32.const 8)))
         (global.set $stream (i32.load (i32.const 8)))";
    telling(&[
        on("request_headers", &format!("{open} {then} (i32.const 0)")),
        "(global $stream (mut i32) (i32.const 0))".into(),
    ])
}

#[test]
fn a_stream_tells_metadata_messages_and_its_end() {
    let mut world = streaming(
        "(call $note \"send\" (call $grpc_send (global.get $stream) \"one\" (i32.const 0)))
         (call $note \"send\" (call $grpc_send (global.get $stream) \"four\" (i32.const 1)))
         (call $note \"wrong\" (call $grpc_send (i32.const 5) \"x\" (i32.const 0)))
         (call $note \"unknown\" (call $grpc_send (i32.const 66) \"x\" (i32.const 0)))",
    )
    .cluster("echo", Echo)
    .build()
    .unwrap();
    world.get("/");
    world.run_until_idle();
    assert_eq!(
        said(&world),
        [
            "send=0",
            "send=0",
            "wrong=2",
            "unknown=1",
            "initial=6",
            "begin",
            "message=3",
            "one",
            "message=4",
            "four",
            "trailing=2",
            "end",
            "close=0",
            "status=0",
            "via_upstream"
        ]
    );
}

#[test]
fn a_closed_stream_may_still_hear_and_a_cancelled_one_never() {
    let mut closed = streaming("(call $note \"close\" (call $grpc_close (global.get $stream)))")
        .cluster("echo", Echo)
        .build()
        .unwrap();
    closed.get("/");
    closed.run_until_idle();
    assert_eq!(said(&closed)[..2], ["close=0", "initial=6"]);
    assert_eq!(said(&closed)[5..], ["close=0", "status=0", "via_upstream"]);
    let mut cancelled = streaming(
        "(call $note \"cancel\" (call $grpc_cancel (global.get $stream)))
         (call $note \"again\" (call $grpc_cancel (global.get $stream)))",
    )
    .cluster("echo", Echo)
    .build()
    .unwrap();
    cancelled.get("/");
    cancelled.run_until_idle();
    assert_eq!(said(&cancelled), ["cancel=0", "again=1"]);
    assert!(cancelled.open_calls().is_empty());
}

/// facts §11: a gRPC client gets headers only, with the reply's text as `grpc-message`; in the response phase too.
#[test]
fn local_replies_to_grpc_clients_are_statuses() {
    let reply =
        "(drop (call $reply (i32.const 403) \"no\" \"not you, 100%\" (i32.const 0) (i32.const 0) GRPC)) (i32.const 0)";
    for (phase, asked, want) in [
        ("request_headers", "(i32.const -1)", "7"),
        ("request_headers", "(i32.const 16)", "16"),
        ("response_headers", "(i32.const 5)", "5"),
    ] {
        let mut world = World::builder().filter(probe(&on(phase, &reply.replace("GRPC", asked)))).build().unwrap();
        let answer = world.fetch(Request::post("/a/B").header("content-type", "application/grpc").body("m"));
        assert_eq!((answer.status, answer.header("grpc-status")), (200, Some(want)), "{phase}");
        assert_eq!(answer.header("grpc-message"), Some("not you, 100%25"));
        assert_eq!((answer.header("content-type"), answer.body.len()), (Some("application/grpc"), 0));
    }
}
