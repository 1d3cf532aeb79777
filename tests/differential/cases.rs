//! The cases, by what they are about.

use super::case::{Answer, Body, Case, Talk};

pub fn all() -> Vec<Case> {
    [messages(), maps(), pauses(), buffers(), replies(), callouts(), grpc(), failures(), calls()].concat()
}

const TWO: Body = Body::Chunks(&["ab", "cde"], &[]);
const WITH_TRAILERS: Body = Body::Chunks(&["ab", "cde"], &[("t", "1")]);

/// Goes on with what `$hold` has kept, from a timer.
const RESUMED_BY_A_TICK: &str = "(drop (call $tick (i32.const 150))) (i32.const 1)";

/// Messages that pass untouched.
fn messages() -> Vec<Case> {
    vec![
        Case::new("get"),
        Case::new("post").post(Body::Whole("ask")).origin(Answer::chunks(&["ab", "cde"])),
        Case::new("trailers")
            .post(WITH_TRAILERS)
            .origin(Answer::chunks(&["ab", "cde"]).trailers(&[("t", "1"), ("u", "2")]))
            .on("request_trailers", "(call $dump (i32.const 1)) (i32.const 0)")
            .on("response_trailers", "(call $dump (i32.const 3)) (i32.const 0)"),
        Case::new("head").request("HEAD", "/"),
        Case::new("no-content").origin(Answer::Reply {
            status: 204,
            headers: vec![("x-origin", "1")],
            body: Body::None,
            ends: true,
        }),
        Case::new("not-modified").origin(Answer::Reply {
            status: 304,
            headers: vec![("etag", "\"1\"")],
            body: Body::None,
            ends: true,
        }),
        Case::new("empty-body").origin(Answer::Reply { status: 200, headers: vec![], body: Body::None, ends: true }),
        Case::new("client-leaves").origin(Answer::chunks(&["a", "b", "c", "d"])).leaves_after(2).on(
            "log",
            "(call $tell (call $get_property \"response\\0code_details\" (i32.const 0) (i32.const 4)))
             (call $number \"response\\0flags\")",
        ),
    ]
}

/// Header maps: what is in them, when they can be reached, and what changes do.
fn maps() -> Vec<Case> {
    const READ_ALL: &str = "(call $read (i32.const 0) \"x\") (call $read (i32.const 2) \"x-origin\")
        (call $read (i32.const 1) \"t\") (call $read (i32.const 3) \"t\")
        (call $note \"size\" (call $size_of_headers (i32.const 0) (i32.const 8)))
        (call $note \"size\" (call $size_of_headers (i32.const 2) (i32.const 8)))
        (call $note \"pairs\" (call $get_headers (i32.const 0) (i32.const 0) (i32.const 4)))
        (call $note \"add\" (call $add_header (i32.const 0) \"y\" \"1\"))
        (call $note \"add\" (call $add_header (i32.const 2) \"y\" \"1\"))
        (call $note \"add\" (call $add_header (i32.const 1) \"y\" \"1\"))
        (call $note \"set\" (call $set_header (i32.const 3) \"y\" \"1\"))
        (call $note \"remove\" (call $remove_header (i32.const 3) \"y\"))
        (call $note \"remove\" (call $remove_header (i32.const 0) \"z\"))";
    const THEN_ON: &str = "(call $read_all) (i32.const 0)";
    vec![
        Case::new("pairs")
            .request("GET", "/a?b=c")
            .header("x", "first")
            .header("x", "second")
            .header("accept", "a/b")
            .header("accept", "c/d")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("X-Upper", "Case")
            .origin(
                Answer::ok("menu")
                    .header("set-cookie", "a=1")
                    .header("set-cookie", "b=2")
                    .header("cache-control", "a")
                    .header("cache-control", "b")
                    .header("vary", "x")
                    .header("vary", "y")
                    .header("warning", "1")
                    .header("warning", "2")
                    .header("link", "1")
                    .header("link", "2")
                    .header("x-empty", ""),
            )
            .on("request_headers", "(call $dump (i32.const 0)) (call $read (i32.const 0) \"x\") (call $read (i32.const 0) \"cookie\") (i32.const 0)")
            .on("response_headers", "(call $dump (i32.const 2)) (call $read (i32.const 2) \"set-cookie\") (call $read (i32.const 2) \"SET-COOKIE\") (call $read (i32.const 2) \"x-empty\") (i32.const 0)")
            .on("log", "(call $dump (i32.const 0)) (call $dump (i32.const 2)) (call $dump (i32.const 3))"),
        Case::new("lifetimes")
            .post(WITH_TRAILERS)
            .header("x", "1")
            .origin(Answer::chunks(&["ab"]).trailers(&[("t", "2")]))
            .on("request_headers", THEN_ON)
            .on("request_body", THEN_ON)
            .on("request_trailers", THEN_ON)
            .on("response_headers", THEN_ON)
            .on("response_body", THEN_ON)
            .on("response_trailers", THEN_ON)
            .on("log", "(call $read_all)")
            .on("done", "(call $read_all) (i32.const 1)")
            .with(const_func(READ_ALL)),
        Case::new("changes")
            .header("x", "1")
            .header("gone", "1")
            .on(
                "request_headers",
                "(drop (call $add_header (i32.const 0) \"x\" \"2\")) (drop (call $set_header (i32.const 0) \"new\" \"n\"))
                 (drop (call $remove_header (i32.const 0) \"gone\")) (drop (call $set_header (i32.const 0) \":path\" \"/other\"))
                 (drop (call $set_header (i32.const 0) \":method\" \"POST\")) (drop (call $add_header (i32.const 0) \"X-Upper\" \"U\"))
                 (drop (call $add_header (i32.const 0) \"accept\" \"a\")) (drop (call $add_header (i32.const 0) \"accept\" \"b\"))
                 (call $dump (i32.const 0)) (i32.const 0)",
            )
            .on(
                "response_headers",
                "(drop (call $set_header (i32.const 2) \":status\" \"201\")) (drop (call $add_header (i32.const 2) \"vary\" \"a\"))
                 (drop (call $add_header (i32.const 2) \"vary\" \"b\")) (drop (call $set_header (i32.const 2) \"x-origin\" \"2\"))
                 (drop (call $remove_header (i32.const 2) \"content-length\")) (call $dump (i32.const 2)) (i32.const 0)",
            ),
        Case::new("all-set")
            .on("response_headers", "(call $note \"set\" (call $set_headers (i32.const 2) CALL_HEADERS)) (call $dump (i32.const 2))
                 (drop (call $set_header (i32.const 2) \":status\" \"200\")) (drop (call $remove_header (i32.const 2) \":method\"))
                 (drop (call $remove_header (i32.const 2) \":path\")) (drop (call $remove_header (i32.const 2) \":authority\"))
                 (call $dump (i32.const 2)) (i32.const 0)"),
        Case::new("trailers-made")
            .post(TWO)
            .on("request_body", "(if (local.get $end) (then (call $note \"made\" (call $add_header (i32.const 1) \"t\" \"1\")))) (i32.const 0)")
            .on("response_body", "(if (local.get $end) (then (call $note \"made\" (call $add_header (i32.const 3) \"t\" \"1\")))) (i32.const 0)")
            .origin(Answer::chunks(&["ab"])),
        Case::new("trailers-changed")
            .origin(Answer::chunks(&["ab"]).trailers(&[("t", "1"), ("u", "2")]))
            .on("response_trailers", "(drop (call $set_header (i32.const 3) \"t\" \"9\")) (drop (call $remove_header (i32.const 3) \"u\"))
                 (drop (call $add_header (i32.const 3) \"v\" \"3\")) (call $dump (i32.const 3)) (i32.const 0)"),
    ]
}

/// `$read_all`, which reads and changes every map.
fn const_func(body: &str) -> &'static str {
    Box::leak(format!("(func $read_all {body})\n").into_boxed_str())
}

/// Pausing and going on.
fn pauses() -> Vec<Case> {
    const RESUME_REQUEST: &str = "(if (global.get $held) (then
        (drop (call $act_for (global.get $held))) (global.set $held (i32.const 0))
        (call $read (i32.const 0) \"x\") (call $note \"resume\" (call $resume (i32.const 0)))
        (call $read (i32.const 0) \"x\") (call $note \"add\" (call $add_header (i32.const 0) \"y\" \"1\"))))";
    const RESUME_RESPONSE: &str = "(if (global.get $held) (then
        (drop (call $act_for (global.get $held))) (global.set $held (i32.const 0))
        (call $read (i32.const 2) \"x-origin\") (call $note \"resume\" (call $resume (i32.const 1)))
        (call $read (i32.const 2) \"x-origin\") (call $note \"add\" (call $add_header (i32.const 2) \"y\" \"1\"))
        (call $read (i32.const 0) \"x\")))";
    vec![
        Case::new("request-headers-held")
            .post(TWO)
            .header("x", "1")
            .on("configure", "(drop (call $tick (i32.const 550))) (i32.const 1)")
            .on("request_headers", "(call $hold (local.get $context))")
            .on("request_body", "(call $read (i32.const 0) \"x\") (call $body (i32.const 0)) (i32.const 0)")
            .on("tick", RESUME_REQUEST),
        Case::new("request-headers-held-without-body")
            .header("x", "1")
            .on("configure", RESUMED_BY_A_TICK)
            .on("request_headers", "(call $hold (local.get $context))")
            .on("tick", RESUME_REQUEST),
        Case::new("response-headers-held")
            .origin(Answer::chunks(&["ab", "cde"]))
            .header("x", "1")
            .on("configure", "(drop (call $tick (i32.const 550))) (i32.const 1)")
            .on("response_headers", "(call $hold (local.get $context))")
            .on("response_body", "(call $read (i32.const 2) \"x-origin\") (call $body (i32.const 1)) (i32.const 0)")
            .on("tick", RESUME_RESPONSE),
        Case::new("response-headers-held-with-trailers")
            .origin(Answer::chunks(&["ab", "cde"]).trailers(&[("t", "1")]))
            .on("configure", "(drop (call $tick (i32.const 550))) (i32.const 1)")
            .on("response_headers", "(call $hold (local.get $context))")
            .on("tick", RESUME_RESPONSE),
        Case::new("request-body-held")
            .post(TWO)
            .on("request_body", "(call $body (i32.const 0)) (i32.eqz (local.get $end))"),
        Case::new("request-body-held-by-tick")
            .post(TWO)
            .header("x", "1")
            .on("configure", "(drop (call $tick (i32.const 550))) (i32.const 1)")
            .on("request_body", "(call $body (i32.const 0)) (call $hold (local.get $context))")
            .on("tick", RESUME_REQUEST),
        Case::new("response-body-held")
            .origin(Answer::chunks(&["ab", "cde"]))
            .on("response_body", "(call $body (i32.const 1)) (i32.eqz (local.get $end))"),
        Case::new("response-body-held-by-tick")
            .origin(Answer::chunks(&["ab", "cde"]))
            .header("x", "1")
            .on("configure", "(drop (call $tick (i32.const 550))) (i32.const 1)")
            .on("response_body", "(call $body (i32.const 1)) (call $hold (local.get $context))")
            .on("tick", RESUME_RESPONSE),
        Case::new("response-body-held-until-trailers")
            .origin(Answer::chunks(&["ab", "cde"]).trailers(&[("t", "1")]))
            .on("response_body", "(i32.const 1)")
            .on("response_trailers", "(call $body (i32.const 1)) (i32.const 0)"),
        Case::new("response-trailers-held")
            .origin(Answer::chunks(&["ab"]).trailers(&[("t", "1")]))
            .on("configure", "(drop (call $tick (i32.const 550))) (i32.const 1)")
            .on("response_trailers", "(call $hold (local.get $context))")
            .on(
                "tick",
                "(if (global.get $held) (then
                    (drop (call $act_for (global.get $held))) (global.set $held (i32.const 0))
                    (call $read (i32.const 3) \"t\") (drop (call $resume (i32.const 1))) (call $read (i32.const 3) \"t\")))",
            ),
        Case::new("first-piece-held")
            .origin(Answer::chunks(&["ab", "cde", "f"]))
            .on("response_body", "(call $body (i32.const 1)) (i32.eq (local.get $size) (i32.const 2))"),
        Case::new("request-trailers-held")
            .post(WITH_TRAILERS)
            .on("configure", "(drop (call $tick (i32.const 650))) (i32.const 1)")
            .on("request_trailers", "(call $hold (local.get $context))")
            .on(
                "tick",
                "(if (global.get $held) (then
                    (drop (call $act_for (global.get $held))) (global.set $held (i32.const 0))
                    (call $read (i32.const 1) \"t\") (drop (call $resume (i32.const 0))) (call $read (i32.const 1) \"t\")))",
            ),
        Case::new("headers-held-alone")
            .post(TWO)
            .stop_in_headers_alone()
            .on("request_headers", "(i32.const 1)")
            .on("request_body", "(call $read (i32.const 0) \"x-none\") (call $body (i32.const 0)) (i32.eqz (local.get $end))"),
        Case::new("response-headers-held-alone")
            .stop_in_headers_alone()
            .origin(Answer::chunks(&["ab", "cde"]))
            .on("response_headers", "(i32.const 1)")
            .on("response_body", "(call $read (i32.const 2) \"x-origin\") (i32.eqz (local.get $end))"),
        Case::new("held-for-ever-and-left")
            .origin(Answer::chunks(&["a", "b", "c", "d"]))
            .leaves_after(1)
            .on("response_body", "(i32.const 0)")
            .on("response_trailers", "(i32.const 1)"),
        Case::new("request-too-large")
            .post(Body::Chunks(&[LONG, LONG], &[]))
            .buffer_limit(1024)
            .on("request_body", "(i32.const 1)"),
        Case::new("response-too-large-while-headers-are-held")
            .origin(Answer::chunks(&[LONG, LONG]))
            .buffer_limit(1024)
            .stop_in_headers_alone()
            .on("response_headers", "(i32.const 1)")
            .on("response_body", "(i32.const 1)"),
        Case::new("response-too-large")
            .origin(Answer::chunks(&[LONG, LONG]))
            .buffer_limit(1024)
            .on("response_body", "(i32.const 1)"),
    ]
}

/// More than a kilobyte.
const LONG: &str = {
    const BYTES: [u8; 1500] = [b'x'; 1500];
    match str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

/// Reading and writing bodies.
fn buffers() -> Vec<Case> {
    vec![
        Case::new("pieces-changed")
            .origin(Answer::chunks(&["abc", "def", "ghi", "jkl"]))
            .on("response_headers", "(drop (call $remove_header (i32.const 2) \"content-length\")) (i32.const 0)")
            .on(
                "response_body",
                "(global.set $count (i32.add (global.get $count) (i32.const 1)))
                 (if (i32.eq (global.get $count) (i32.const 1)) (then
                    (call $note \"prepend\" (call $set_buffer (i32.const 1) (i32.const 0) (i32.const 0) \"X\"))))
                 (if (i32.eq (global.get $count) (i32.const 2)) (then
                    (call $note \"append\" (call $set_buffer (i32.const 1) (i32.const 3) (i32.const 0) \"Y\"))
                    (call $note \"far\" (call $set_buffer (i32.const 1) (i32.const 99) (i32.const 5) \"Z\"))))
                 (if (i32.eq (global.get $count) (i32.const 3)) (then
                    (call $note \"middle\" (call $set_buffer (i32.const 1) (i32.const 1) (i32.const 1) \"M\"))
                    (call $note \"some\" (call $set_buffer (i32.const 1) (i32.const 0) (i32.const 2) \"S\"))))
                 (if (i32.eq (global.get $count) (i32.const 4)) (then
                    (call $note \"all\" (call $set_buffer (i32.const 1) (i32.const 0) (i32.const -1) \"A\"))))
                 (call $body (i32.const 1)) (i32.const 0)",
            )
            .with("(global $count (mut i32) (i32.const 0))\n"),
        Case::new("whole-body-replaced")
            .post(TWO)
            .origin(Answer::chunks(&["ab", "cde"]))
            .on(
                "request_body",
                "(if (local.get $end) (then (drop (call $set_buffer (i32.const 0) (i32.const 0) (local.get $size) \"asked\"))))
                 (i32.eqz (local.get $end))",
            )
            .on(
                "response_body",
                "(if (local.get $end) (then (drop (call $set_buffer (i32.const 1) (i32.const 0) (local.get $size) \"told\"))))
                 (i32.eqz (local.get $end))",
            ),
        Case::new("slices")
            .origin(Answer::ok("abcdef"))
            .on(
                "response_body",
                "(i64.store (i32.const 0) (i64.const 0))
                 (call $note \"slice\" (call $get_buffer (i32.const 1) (i32.const 2) (i32.const 3) (i32.const 0) (i32.const 4)))
                 (call $note \"length\" (i32.load (i32.const 4)))
                 (call $note \"past\" (call $get_buffer (i32.const 1) (i32.const 99) (i32.const 3) (i32.const 0) (i32.const 4)))
                 (call $note \"wrap\" (call $get_buffer (i32.const 1) (i32.const 2) (i32.const -1) (i32.const 0) (i32.const 4)))
                 (call $note \"length\" (i32.load (i32.const 4)))
                 (call $note \"status\" (call $buffer_status (i32.const 1) (i32.const 0) (i32.const 4)))
                 (call $note \"length\" (i32.load (i32.const 0))) (call $note \"flags\" (i32.load (i32.const 4)))
                 (i32.const 0)",
            ),
        Case::new("buffers-out-of-phase")
            .post(Body::Whole("ask"))
            .on("request_headers", "(call $try_all) (i32.const 0)")
            .on("request_body", "(call $try_all) (i32.const 0)")
            .on("response_headers", "(call $try_all) (i32.const 0)")
            .on("log", "(call $try_all)")
            .with(
                "(func $try (param $buffer i32)
                    (i64.store (i32.const 0) (i64.const 0))
                    (call $note \"buffer\" (local.get $buffer))
                    (call $note \"get\" (call $get_buffer (local.get $buffer) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 4)))
                    (call $note \"length\" (i32.load (i32.const 4)))
                    (call $note \"status\" (call $buffer_status (local.get $buffer) (i32.const 0) (i32.const 4))))
                 (func $try_all
                    (call $try (i32.const 0)) (call $try (i32.const 1)) (call $try (i32.const 2)) (call $try (i32.const 3))
                    (call $try (i32.const 4)) (call $try (i32.const 5)) (call $try (i32.const 6)) (call $try (i32.const 7))
                    (call $try (i32.const 8)) (call $try (i32.const 9))
                    (call $note \"set\" (call $set_buffer (i32.const 1) (i32.const 0) (i32.const 0) \"x\"))
                    (call $note \"set\" (call $set_buffer (i32.const 7) (i32.const 0) (i32.const 0) \"x\"))
                    (call $note \"set\" (call $set_buffer (i32.const 99) (i32.const 0) (i32.const 0) \"x\")))\n",
            ),
    ]
}

/// Local replies, in each phase.
fn replies() -> Vec<Case> {
    const GRPC: &str = "(call $note \"replied\" (call $reply (i32.const 403) \"no\" \"not you, 100%\" (i32.const 0) (i32.const 0) (i32.const -1))) (i32.const 0)";
    vec![
        Case::new("reply-to-request").on("request_headers", "(call $answer \"hit\") (i32.const 0)"),
        Case::new("reply-to-request-and-pause").on("request_headers", "(call $answer \"hit\") (i32.const 1)"),
        Case::new("reply-to-request-with-headers")
            .on("request_headers", "(call $note \"replied\" (call $reply (i32.const 404) \"why\" \"none\" CALL_HEADERS (i32.const -1))) (i32.const 1)")
            .on("response_headers", "(call $dump (i32.const 2)) (drop (call $add_header (i32.const 2) \"x\" \"1\")) (i32.const 0)")
            .on("log", "(call $tell (call $get_property \"response\\0code_details\" (i32.const 0) (i32.const 4)))"),
        Case::new("reply-to-head").request("HEAD", "/").on("request_headers", "(call $answer \"hit\") (i32.const 1)"),
        Case::new("empty-reply").on("request_headers", "(call $answer \"\") (i32.const 1)"),
        Case::new("reply-to-request-body")
            .post(TWO)
            .on("request_body", "(call $answer \"hit\") (i32.const 1)"),
        Case::new("reply-twice").on("request_headers", "(call $answer \"one\") (call $answer \"two\") (i32.const 1)"),
        Case::new("reply-to-reply")
            .on("request_headers", "(call $answer \"one\") (i32.const 1)")
            .on("response_headers", "(call $answer \"two\") (i32.const 0)"),
        Case::new("reply-to-response").on("response_headers", "(call $answer \"stale\") (i32.const 1)"),
        Case::new("reply-to-response-with-chunks")
            .origin(Answer::chunks(&["ab", "cde"]))
            .on("response_headers", "(call $answer \"stale\") (i32.const 0)")
            .on("log", "(call $dump (i32.const 2))"),
        Case::new("reply-to-response-body").on("response_body", "(call $answer \"late\") (i32.const 0)"),
        Case::new("reply-to-held-response-body")
            .stop_in_headers_alone()
            .on("response_headers", "(i32.const 1)")
            .on("response_body", "(call $answer \"late\") (i32.const 1)"),
        Case::new("reply-from-a-tick")
            .on("configure", RESUMED_BY_A_TICK)
            .on("request_headers", "(call $hold (local.get $context))")
            .on("tick", "(if (global.get $held) (then (drop (call $act_for (global.get $held)))
                (global.set $held (i32.const 0)) (call $answer \"ticked\")))"),
        Case::new("reply-from-a-tick-to-a-held-response")
            .origin(Answer::chunks(&["ab"]))
            .on("configure", "(drop (call $tick (i32.const 450))) (i32.const 1)")
            .on("response_headers", "(call $hold (local.get $context))")
            .on("tick", "(if (global.get $held) (then (drop (call $act_for (global.get $held)))
                (global.set $held (i32.const 0)) (call $answer \"ticked\")))"),
        Case::new("grpc-reply").request("POST", "/a/B").header("content-type", "application/grpc").on("request_headers", GRPC)
            .on("response_headers", "(call $dump (i32.const 2)) (i32.const 0)"),
        Case::new("grpc-reply-with-status").request("POST", "/a/B").header("content-type", "application/grpc")
            .on("request_headers", "(call $note \"replied\" (call $reply (i32.const 403) \"no\" \"why\" CALL_HEADERS (i32.const 16))) (i32.const 1)"),
        Case::new("grpc-reply-to-response").request("POST", "/a/B").header("content-type", "application/grpc+proto").on("response_headers", GRPC),
        Case::new("reply-to-request-trailers").post(WITH_TRAILERS).on("request_trailers", "(call $answer \"hit\") (i32.const 1)"),
        Case::new("reply-to-response-trailers")
            .origin(Answer::chunks(&["ab"]).trailers(&[("t", "1")]))
            .on("response_trailers", "(call $answer \"late\") (i32.const 1)"),
        Case::new("reply-after-changes")
            .on("request_headers", "(drop (call $add_header (i32.const 0) \"y\" \"1\")) (call $answer \"hit\") (i32.const 1)")
            .on("response_headers", "(drop (call $set_header (i32.const 2) \":status\" \"418\")) (drop (call $remove_header (i32.const 2) \"content-length\")) (i32.const 0)")
            .on("response_body", "(drop (call $set_buffer (i32.const 1) (i32.const 3) (i32.const 0) \" more\")) (i32.const 0)"),
        Case::new("close-request").on("request_headers", "(call $note \"close\" (call $close (i32.const 0))) (i32.const 1)"),
        Case::new("close-response")
            .on("response_headers", "(call $note \"close\" (call $close (i32.const 1))) (i32.const 1)")
            .on("log", "(call $tell (call $get_property \"response\\0code_details\" (i32.const 0) (i32.const 4)))"),
        Case::new("close-response-body").origin(Answer::chunks(&["ab", "cde"])).on("response_body", "(call $note \"close\" (call $close (i32.const 1))) (i32.const 0)"),
        Case::new("trap-in-request").on("request_headers", "unreachable"),
        Case::new("trap-in-response").on("response_headers", "unreachable"),
        Case::new("trap-in-response-body").origin(Answer::chunks(&["ab", "cde"])).on("response_body", "unreachable"),
    ]
}

/// Callouts, and the shapes of their failures.
fn callouts() -> Vec<Case> {
    const TOLD: &str = "(call $dump (i32.const 6)) (call $body (i32.const 4)) (call $dump (i32.const 7))
        (call $note \"get_status\" (call $get_status (i32.const 8) (i32.const 0) (i32.const 4)))
        (call $note \"code\" (i32.load (i32.const 8))) (call $tell (i32.const 0))
        (if (global.get $held) (then (drop (call $act_for (global.get $held)))
            (call $read (i32.const 0) \"x\") (call $note \"resume\" (call $resume (i32.const 0))) (call $read (i32.const 0) \"x\")))";
    const ASK: &str = "(call $ask) (call $hold (local.get $context))";
    let asking = |name, callout| {
        Case::new(name).header("x", "1").callout(callout).on("request_headers", ASK).on("http_call_response", TOLD)
    };
    vec![
        asking("callout", Answer::ok("told").header("x", "1").header("x", "2")),
        asking("callout-in-chunks", Answer::chunks(&["ab", "cde"]).trailers(&[("t", "1")])),
        asking("callout-without-body", Answer::Reply { status: 204, headers: vec![], body: Body::None, ends: true }),
        asking("callout-error", Answer::ok("no").status(500)),
        asking("callout-refused", Answer::Refuse),
        asking("callout-closed", Answer::Close),
        asking("callout-cut", Answer::chunks(&["ab"]).cut()),
        asking("callout-cut-whole", Answer::ok("ab").cut()),
        asking("callout-hangs", Answer::Hang).callout_timeout(300),
        asking("callout-hangs-after-headers", Answer::HangAfter("ab")).callout_timeout(300),
        asking("callout-to-nowhere", Answer::Refuse).on(
            "request_headers",
            "(call $note \"unknown\" (call $http_call \"nowhere\" CALL_HEADERS \"ask\" (i32.const 0) (i32.const 0) (i32.const 50) (i32.const 8)))
             (call $note \"token\" (i32.load (i32.const 8)))
             (call $note \"bare\" (call $http_call \"nowhere\" (i32.const 0) (i32.const 0) \"\" (i32.const 0) (i32.const 0) (i32.const 50) (i32.const 8)))
             (i32.const 0)",
        ),
        asking("callouts-at-odds", Answer::ok("told"))
            .on(
                "request_headers",
                "(i32.store (i32.const 8) (i32.const 77))
                 (call $ask) (call $note \"token\" (i32.load (i32.const 8)))
                 (call $ask) (call $note \"token\" (i32.load (i32.const 8))) (call $hold (local.get $context))",
            )
            // Which of the two is answered first is nobody's promise: the second tells both tokens, as their sum.
            .on(
                "http_call_response",
                "(call $body (i32.const 4))
                 (if (global.get $before) (then
                     (call $note \"tokens\" (i32.add (global.get $before) (local.get $token)))
                     (drop (call $act_for (global.get $held))) (call $note \"resume\" (call $resume (i32.const 0)))))
                 (global.set $before (local.get $token))",
            ),
        asking("callout-from-response", Answer::ok("told"))
            .on("request_headers", "(i32.const 0)")
            .on("response_headers", ASK)
            .on(
                "http_call_response",
                "(call $body (i32.const 4)) (drop (call $act_for (global.get $held))) (call $body (i32.const 4))
                 (call $read (i32.const 6) \":status\") (call $read (i32.const 2) \"x-origin\")
                 (drop (call $add_header (i32.const 2) \"added\" \"1\")) (drop (call $resume (i32.const 1)))",
            ),
        asking("callout-from-log", Answer::ok("told"))
            .on("request_headers", "(i32.const 0)")
            .on("log", "(call $ask)")
            .on("http_call_response", "(call $body (i32.const 4))"),
        asking("callout-answered-with-reply", Answer::ok("told"))
            .on("http_call_response", "(drop (call $act_for (global.get $held))) (call $answer \"from callout\")"),
        asking("callout-answered-with-reply-to-response", Answer::ok("told"))
            .on("request_headers", "(i32.const 0)")
            .on("response_headers", ASK)
            .on("http_call_response", "(drop (call $act_for (global.get $held))) (call $answer \"from callout\")"),
        asking("callout-after-callout", Answer::ok("told")).on(
            "http_call_response",
            "(call $body (i32.const 4))
             (if (i32.lt_u (global.get $asked) (i32.const 2))
                (then (global.set $asked (i32.add (global.get $asked) (i32.const 1))) (call $ask) (call $body (i32.const 4)))
                (else (drop (call $act_for (global.get $held))) (drop (call $resume (i32.const 0)))))",
        )
        .with("(global $asked (mut i32) (i32.const 0))\n"),
    ]
}

/// gRPC callouts: what a call and a stream are told of, and in which order.
fn grpc() -> Vec<Case> {
    const STATUS: &str = "(drop (call $get_status (i32.const 8) (i32.const 0) (i32.const 4)))
        (call $note \"status\" (i32.load (i32.const 8))) (call $tell (i32.const 0))";
    let told = |case: Case| {
        // The request waits, so that what is told doesn't race with its own callbacks.
        case.on("configure", "(drop (call $tick (i32.const 550))) (i32.const 1)")
            .on(
                "tick",
                "(if (global.get $held) (then (drop (call $act_for (global.get $held)))
                    (global.set $held (i32.const 0)) (drop (call $resume (i32.const 0)))))",
            )
            .on("grpc_receive_initial_metadata", "(call $note \"initial\" (local.get $token)) (call $dump (i32.const 4))")
            .on("grpc_receive", "(call $note \"receive\" (local.get $token)) (call $note \"size\" (local.get $size)) (call $body (i32.const 5))")
            .on(
                "grpc_receive_trailing_metadata",
                "(call $note \"trailing\" (local.get $token)) (call $dump (i32.const 5))",
            )
            .on("grpc_close", Box::leak(format!("(call $note \"close\" (local.get $size)) {STATUS}").into_boxed_str()))
    };
    let calling = |name, talk| {
        told(Case::new(name).grpc(talk).on(
            "request_headers",
            "(call $grpc_ask) (call $note \"token\" (i32.load (i32.const 8))) (call $hold (local.get $context))",
        ))
    };
    let streaming = |name, talk| {
        told(Case::new(name).grpc(talk).on(
            "request_headers",
            "(call $grpc_open) (global.set $stream (i32.load (i32.const 8))) (call $note \"token\" (global.get $stream))
             (call $note \"send\" (call $grpc_send (global.get $stream) \"one\" (i32.const 0)))
             (call $note \"last\" (call $grpc_send (global.get $stream) \"four\" (i32.const 1)))
             (call $note \"more\" (call $grpc_send (global.get $stream) \"late\" (i32.const 1))) (call $hold (local.get $context))",
        ))
        .with("(global $stream (mut i32) (i32.const 0))\n")
    };
    vec![
        calling("grpc-call", Talk::Message("you")),
        calling("grpc-call-empty", Talk::Message("")),
        calling("grpc-call-denied", Talk::Status(7, "not you")),
        calling("grpc-call-to-http", Talk::Http(403)),
        calling("grpc-call-cut", Talk::Cut("half")),
        calling("grpc-call-refused", Talk::Refuse),
        calling("grpc-call-hangs", Talk::Hang).callout_timeout(300),
        calling("grpc-call-cancelled", Talk::Hang).on(
            "request_headers",
            "(call $grpc_ask) (call $note \"cancel\" (call $grpc_cancel (i32.load (i32.const 8))))
             (call $note \"again\" (call $grpc_cancel (i32.load (i32.const 8)))) (call $hold (local.get $context))",
        ),
        calling("grpc-call-to-nowhere", Talk::Refuse).on(
            "request_headers",
            "(call $note \"call\" (call $grpc_call \"nowhere\" \"a.B\" \"C\" (i32.const 0) (i32.const 0) \"who\" (i32.const 50) (i32.const 8)))
             (call $note \"send\" (call $grpc_send (i32.const 5) \"x\" (i32.const 0))) (call $note \"send\" (call $grpc_send (i32.const 66) \"x\" (i32.const 0)))
             (call $note \"close\" (call $grpc_close (i32.const 66))) (call $note \"close\" (call $grpc_close (i32.const 5)))
             (call $note \"cancel\" (call $grpc_cancel (i32.const 4))) (call $hold (local.get $context))",
        ),
        streaming("grpc-stream", Talk::Echo),
        streaming("grpc-stream-denied", Talk::Status(7, "not you")),
        streaming("grpc-stream-to-http", Talk::Http(403)),
        streaming("grpc-stream-cut", Talk::Cut("half")),
        streaming("grpc-stream-refused", Talk::Refuse),
        streaming("grpc-stream-closed", Talk::Echo).on(
            "request_headers",
            "(call $grpc_open) (call $note \"close\" (call $grpc_close (i32.load (i32.const 8))))
             (call $note \"again\" (call $grpc_close (i32.load (i32.const 8)))) (call $hold (local.get $context))",
        ),
        streaming("grpc-stream-cancelled", Talk::Echo).on(
            "request_headers",
            "(call $grpc_open) (call $note \"cancel\" (call $grpc_cancel (i32.load (i32.const 8))))
             (call $note \"again\" (call $grpc_cancel (i32.load (i32.const 8)))) (call $hold (local.get $context))",
        ),
    ]
}

/// Origins that fail.
fn failures() -> Vec<Case> {
    const DETAILS: &str = "(call $tell (call $get_property \"response\\0code_details\" (i32.const 0) (i32.const 4)))";
    let failing = |name, origin| {
        Case::new(name)
            .origin(origin)
            .on("response_headers", details_and("(i32.const 0)"))
            .on("log", details_and("(call $number \"response\\0flags\")"))
    };
    fn details_and(more: &str) -> &'static str {
        Box::leak(format!("{DETAILS} {more}").into_boxed_str())
    }
    vec![
        failing("origin-refuses", Answer::Refuse),
        failing("origin-closes", Answer::Close),
        failing("origin-hangs", Answer::Hang),
        failing("origin-breaks-off", Answer::chunks(&["ab", "cde"]).cut()),
        failing("origin-promises-more", Answer::ok("ab").cut()),
        failing("origin-hangs-after-headers", Answer::HangAfter("ab")),
        failing("origin-breaks-off-while-held", Answer::chunks(&["ab"]).cut()).on("response_headers", "(i32.const 1)"),
        failing("origin-hangs-while-held", Answer::Hang)
            .on("configure", "(drop (call $tick (i32.const 900))) (i32.const 1)")
            .on("response_headers", "(call $hold (local.get $context))")
            .on(
                "tick",
                "(if (global.get $held) (then (drop (call $act_for (global.get $held)))
                (global.set $held (i32.const 0)) (drop (call $resume (i32.const 1)))))",
            ),
    ]
}

/// What host calls answer, in and out of their element.
fn calls() -> Vec<Case> {
    const PROPERTIES: &str = "(call $property \"request\\0path\") (call $property \"request\\0url_path\") (call $property \"request\\0query\")
        (call $property \"request\\0host\") (call $property \"request\\0scheme\") (call $property \"request\\0method\")
        (call $property \"request\\0headers\\0x\") (call $property \"request\\0protocol\") (call $property \"request\\0referer\")
        (call $property \"request\\0useragent\") (call $property \"response\\0code_details\") (call $property \"response\\0headers\\0x-origin\")
        (call $property \"xds\\0cluster_name\") (call $property \"xds\\0route_name\") (call $property \"xds\\0virtual_host_name\")
        (call $property \"plugin_name\") (call $property \"plugin_root_id\") (call $property \"plugin_vm_id\")
        (call $property \"cluster_name\") (call $property \"invented\") (call $property \"request\\0invented\") (call $property \"\")
        (call $number \"request\\0size\") (call $number \"response\\0code\") (call $number \"response\\0flags\") (call $number \"response\\0size\")
        (call $number \"xds\\0listener_direction\") (call $property \"source\\0address\\0x\") (call $property \"mine\") (call $property \"filter_state\\0wasm.mine\")";
    let properties = format!(
        "(func $property (param i32 i32) (call $tell (call $get_property (local.get 0) (local.get 1) (i32.const 0) (i32.const 4))))
         (func $properties {PROPERTIES})\n"
    );
    vec![
        Case::new("properties")
            .request("POST", "/a/b?c=d")
            .post(Body::Whole("ask"))
            .header("x", "1")
            .on("request_headers", "(call $note \"set\" (call $set_property \"mine\" \"kept\")) (call $properties) (i32.const 0)")
            .on("response_headers", "(call $properties) (i32.const 0)")
            .on("log", "(call $properties)")
            .with(Box::leak(properties.into_boxed_str())),
        Case::new("shared").on(
            "request_headers",
            "(call $note \"absent\" (call $get_shared \"k\" (i32.const 0) (i32.const 4) (i32.const 8)))
             (call $note \"insert\" (call $set_shared \"k\" \"v\" (i32.const -1)))
             (call $note \"present\" (call $set_shared \"k\" \"w\" (i32.const -1)))
             (call $note \"get\" (call $get_shared \"k\" (i32.const 0) (i32.const 4) (i32.const 8))) (call $tell (i32.const 0))
             (call $note \"swap\" (call $set_shared \"k\" \"x\" (i32.load (i32.const 8))))
             (call $note \"stale\" (call $set_shared \"k\" \"y\" (i32.load (i32.const 8))))
             (call $note \"overwrite\" (call $set_shared \"k\" (i32.const 0) (i32.const 0) (i32.const 0)))
             (call $note \"get\" (call $get_shared \"k\" (i32.const 0) (i32.const 4) (i32.const 8)))
             (call $note \"pointer\" (i32.load (i32.const 0))) (call $note \"length\" (i32.load (i32.const 4)))
             (call $note \"queue\" (call $resolve_queue (i32.const 0) (i32.const 0) \"none\" (i32.const 8)))
             (call $note \"enqueue\" (call $enqueue (i32.const 99) \"x\"))
             (call $note \"dequeue\" (call $dequeue (i32.const 99) (i32.const 0) (i32.const 4)))
             (call $note \"register\" (call $register_queue \"q\" (i32.const 16)))
             (call $note \"resolve\" (call $resolve_queue (i32.const 0) (i32.const 0) \"q\" (i32.const 20)))
             (call $note \"same\" (i32.eq (i32.load (i32.const 16)) (i32.load (i32.const 20))))
             (call $note \"empty\" (call $dequeue (i32.load (i32.const 16)) (i32.const 0) (i32.const 4)))
             (call $note \"enqueue\" (call $enqueue (i32.load (i32.const 16)) \"item\"))
             (call $note \"dequeue\" (call $dequeue (i32.load (i32.const 16)) (i32.const 0) (i32.const 4))) (call $tell (i32.const 0))
             (i32.const 0)",
        ),
        Case::new("metrics").on(
            "request_headers",
            "(call $note \"kind\" (call $define_metric (i32.const 9) \"m\" (i32.const 8)))
             (call $note \"counter\" (call $define_metric (i32.const 0) \"c\" (i32.const 8)))
             (call $note \"gauge\" (call $define_metric (i32.const 1) \"g\" (i32.const 12)))
             (call $note \"histogram\" (call $define_metric (i32.const 2) \"h\" (i32.const 16)))
             (call $note \"up\" (call $increment_metric (i32.load (i32.const 8)) (i64.const 2)))
             (call $note \"none\" (call $increment_metric (i32.load (i32.const 8)) (i64.const 0)))
             (call $note \"down\" (call $increment_metric (i32.load (i32.const 8)) (i64.const -1)))
             (call $note \"up\" (call $increment_metric (i32.load (i32.const 12)) (i64.const 5)))
             (call $note \"down\" (call $increment_metric (i32.load (i32.const 12)) (i64.const -2)))
             (call $note \"histogram\" (call $increment_metric (i32.load (i32.const 16)) (i64.const 1)))
             (call $note \"record\" (call $record_metric (i32.load (i32.const 8)) (i64.const 7)))
             (call $note \"record\" (call $record_metric (i32.load (i32.const 16)) (i64.const 7)))
             (call $note \"get\" (call $get_metric (i32.load (i32.const 8)) (i32.const 24))) (call $note \"value\" (i32.load (i32.const 24)))
             (call $note \"get\" (call $get_metric (i32.load (i32.const 12)) (i32.const 24))) (call $note \"value\" (i32.load (i32.const 24)))
             (call $note \"get\" (call $get_metric (i32.load (i32.const 16)) (i32.const 24)))
             (call $note \"unknown\" (call $get_metric (i32.const 4000) (i32.const 24)))
             (call $note \"unknown\" (call $increment_metric (i32.const 4001) (i64.const 1)))
             (call $note \"unknown\" (call $record_metric (i32.const 4002) (i64.const 1)))
             (i32.const 0)",
        ),
        Case::new("odd-arguments").header("x", "1").on(
            "request_headers",
            "(call $note \"level\" (call $log (i32.const 9) \"x\"))
             (call $note \"map\" (call $get_header (i32.const 9) \"x\" (i32.const 0) (i32.const 4)))
             (call $note \"map\" (call $get_headers (i32.const 9) (i32.const 0) (i32.const 4)))
             (call $note \"map\" (call $add_header (i32.const 6) \"x\" \"1\"))
             (call $note \"context\" (call $act_for (i32.const 9999)))
             (call $note \"stream\" (call $resume (i32.const 9)))
             (call $note \"stream\" (call $close (i32.const 9)))
             (call $note \"done\" (call $done))
             (call $note \"foreign\" (call $foreign \"invented\" \"\" (i32.const 0) (i32.const 4)))
             (call $note \"outside\" (call $get_header (i32.const 0) (i32.const -1) (i32.const 4) (i32.const 0) (i32.const 4)))
             (call $note \"outside\" (call $get_header (i32.const 0) \"x\" (i32.const -2) (i32.const 4)))
             (call $note \"outside\" (call $log (i32.const 2) (i32.const 1048570) (i32.const 100)))
             (i32.const 0)",
        ),
        Case::new("foreign").on(
            "request_headers",
            "(call $note \"compress\" (call $foreign \"compress\" \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" (i32.const 24) (i32.const 28)))
             (call $note \"uncompress\" (call $foreign \"uncompress\" (i32.load (i32.const 24)) (i32.load (i32.const 28)) (i32.const 24) (i32.const 28)))
             (call $say (i32.load (i32.const 24)) (i32.load (i32.const 28)))
             (call $note \"junk\" (call $foreign \"uncompress\" \"junk\" (i32.const 24) (i32.const 28)))
             (call $note \"clear\" (call $foreign \"clear_route_cache\" \"\" (i32.const 24) (i32.const 28)))
             (i32.const 0)",
        ),
    ]
}
