//! Modules of odd shapes, and modules that mean harm: what loads does what it says, what doesn't is told why, and the host lives on.

use std::time::Duration;

use proxy_wasm_host_test::{BuildError, Law, Status, World, WorldBuilder};

use crate::probe::{on, probe};
use crate::said;

/// What every filter has, but for a memory.
const MARKER: &str = "(func (export \"proxy_abi_version_0_2_1\"))";
const ALLOCATE: &str = "(func (export \"malloc\") (param i32) (result i32) (i32.const 1024))";
const MEMORY: &str = "(memory (export \"memory\") 1)";
const REPLY: &str =
    "(import \"env\" \"proxy_send_local_response\" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))";

fn builder(wat: &str) -> WorldBuilder {
    World::builder().filter(wat.as_bytes())
}

/// A filter that answers each request with the status that this function of its computes.
fn answering(functions: &str) -> String {
    format!(
        "(module {REPLY} {MEMORY} {ALLOCATE} {MARKER} {functions}
            (func (export \"proxy_on_request_headers\") (param i32 i32 i32) (result i32)
                (drop (call $reply (call $status) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                    (i32.const 0) (i32.const 0) (i32.const -1))) (i32.const 1)))"
    )
}

#[test]
fn what_compilers_emit_nowadays_runs() {
    for (feature, functions) in [
        (
            "SIMD",
            "(func $status (result i32) (i32x4.extract_lane 2 (i32x4.add (v128.const i32x4 1 2 200 4) (v128.const i32x4 1 2 18 4))))",
        ),
        (
            "bulk memory",
            "(data $d \"\\da\") (func $status (result i32) (memory.init $d (i32.const 64) (i32.const 0) (i32.const 1))
                (memory.fill (i32.const 72) (i32.const 9) (i32.const 8)) (memory.copy (i32.const 72) (i32.const 64) (i32.const 1))
                (i32.load8_u (i32.const 72)))",
        ),
        (
            "several results",
            "(func $two (result i32 i32) (i32.const 200) (i32.const 18)) (func $status (result i32) (i32.add (call $two)))",
        ),
        (
            "sign extension and saturating conversion",
            "(func $status (result i32) (i32.add (i32.extend8_s (i32.const 0x1c8)) (i32.trunc_sat_f64_s (f64.const 274))))",
        ),
        (
            "tail calls",
            "(func $down (param i32 i32) (result i32) (if (local.get 0) (then
                (return_call $down (i32.sub (local.get 0) (i32.const 1)) (local.get 1)))) (local.get 1))
             (func $status (result i32) (return_call $down (i32.const 100000) (i32.const 218)))",
        ),
        (
            "reference types",
            "(table $t 1 funcref) (elem declare func $f) (func $f (result i32) (i32.const 218)) (type $r (func (result i32)))
             (func $status (result i32) (table.set $t (i32.const 0) (ref.func $f)) (call_indirect $t (type $r) (i32.const 0)))",
        ),
        (
            "extended constants and a start function",
            "(global $g (mut i32) (i32.add (i32.const 100) (i32.const 18))) (func $begin (global.set $g (i32.add (global.get $g) (i32.const 100))))
             (start $begin) (func $status (result i32) (global.get $g))",
        ),
        (
            "external references",
            "(global $g (mut externref) (ref.null extern)) (func $status (result i32) (i32.add (i32.const 217) (ref.is_null (global.get $g))))",
        ),
        (
            "exceptions",
            "(tag $e (param i32)) (func $status (result i32)
                (block $caught (result i32) (try_table (result i32) (catch $e $caught) (throw $e (i32.const 218)))))",
        ),
        (
            "a second memory",
            "(memory $other 1) (func $status (result i32) (i32.store8 $other (i32.const 5) (i32.const 218)) (i32.load8_u $other (i32.const 5)))",
        ),
    ] {
        let mut world = builder(&answering(functions)).build().unwrap_or_else(|error| panic!("{feature}: {error}"));
        assert_eq!(world.get("/").status, 218, "{feature}");
    }
}

#[test]
fn what_cannot_be_run_is_told_in_words() {
    let filter = |parts: &str| format!("(module {parts} {MARKER})");
    let usual = format!("{MEMORY} {ALLOCATE}");
    let component: &[u8] = b"\0asm\x0d\0\x01\0";
    for (module, words) in [
        (
            filter(
                "(memory (export \"memory\") i64 1) (func (export \"malloc\") (param i64) (result i64) (i64.const 0))",
            ),
            "64-bit memory",
        ),
        (filter("(memory (export \"memory\") 1 1 shared)"), "shared"),
        (filter(MEMORY), "neither malloc nor proxy_on_memory_allocate"),
        (format!("(module {usual} (func (export \"proxy_abi_version_0_3_0\")))"), "proxy_abi_version_0_3_0"),
        (format!("(module {usual})"), "isn't a Proxy-Wasm filter"),
        (filter(&format!("(import \"env\" \"base\" (global i32)) {usual}")), "`env::base`"),
        (filter(&format!("{usual} (func (export \"_start\") unreachable)")), "_start trapped: wasm `unreachable`"),
        (filter(&format!("{usual} (func $s unreachable) (start $s)")), "unreachable"),
        (filter(&format!("{usual} (func (export \"_initialize\") (loop $l (br $l)))")), "is this an endless loop?"),
        (filter("(memory (export \"memory\") 65536)"), "memory minimum size"),
        (filter(&format!("{usual} (table 2000000 funcref)")), "table minimum size"),
        (
            filter(&format!(
                "{usual} (func (export \"proxy_on_configure\") (param i64 f32) (result i32) (i32.const 1))"
            )),
            "proxy_on_configure",
        ),
        ("#!/bin/sh".to_owned(), "expected"),
        (String::new(), "expected"),
    ] {
        let error = builder(&module).fuel_per_callback(1_000_000).build().map(drop).expect_err(words);
        let told = error.to_string();
        assert!(told.contains(words), "{module} should be refused with `{words}`, came {told}");
        assert!(told.len() < 2000, "{told}");
    }
    let error = World::builder().filter(component).build().map(drop).unwrap_err();
    assert!(error.to_string().contains("component"), "{error}");
    let missing = World::builder().filter("no/such.wasm").build().map(drop).unwrap_err();
    assert!(matches!(missing, BuildError::Read { .. }), "{missing}");
}

/// Rust, Go and C programs end their `_start` so; anywhere else it is a crash.
#[test]
fn a_start_function_may_exit_with_success() {
    let exiting = |name: &str, code: u32| {
        format!(
            "(module (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32))) {MEMORY} {ALLOCATE} {MARKER}
                (func (export \"{name}\") (call $exit (i32.const {code})) unreachable))"
        )
    };
    assert_eq!(builder(&exiting("_start", 0)).build().unwrap().get("/").status, 200);
    let failed = builder(&exiting("_start", 3)).build().map(drop).unwrap_err();
    assert!(failed.to_string().contains("proc_exit(3)"), "{failed}");
    let failed = builder(&exiting("proxy_on_vm_start", 0)).build().map(drop).unwrap_err();
    assert!(failed.to_string().contains("proc_exit(0)"), "{failed}");
}

/// A callback of fewer parameters than usual gets the first of them; one without a result means "go on".
#[test]
fn callbacks_may_have_fewer_parameters_and_no_result() {
    let mut world = builder(&format!(
        "(module {MEMORY} {ALLOCATE} {MARKER} (func (export \"proxy_on_vm_start\") (result i32) (i32.const 1))
            (func (export \"proxy_on_request_headers\") (param i32)) (func (export \"proxy_on_log\")))"
    ))
    .build()
    .unwrap();
    assert_eq!(world.get("/").status, 200);
}

/// What a filter does that never ends: told at once, and not after the machine's memory is gone.
#[test]
fn nothing_goes_on_for_ever() {
    for (what, functions, words) in [
        ("a loop", "(loop $again (br $again))", "used up its fuel"),
        ("recursion", "(call $deeper)", "call stack exhausted"),
        ("logging", "(loop $again (call $say \"more\") (br $again))", "host calls in one callback"),
        (
            "copying",
            "(drop (memory.grow (i32.const 1000))) (loop $again (drop (call $log (i32.const 2) (i32.const 0) (i32.const 60000000))) (br $again))",
            "bytes between host and module",
        ),
        ("sleeping", "(loop $again (drop (call $time (i32.const 8))) (br $again))", "host calls in one callback"),
    ] {
        let filter = probe(&format!(
            "{} (func $deeper (call $deeper) (call $say \"never\"))",
            on("request_headers", &format!("{functions} (i32.const 0)"))
        ));
        let mut world = World::builder().filter(filter).fuel_per_callback(200_000_000).build().unwrap();
        assert_eq!(world.get("/").status, 503, "{what}");
        let violations = world.take_violations();
        assert!(
            violations.iter().any(|one| one.law == Law::NoTrap && one.detail.contains(words)),
            "{what}: {violations:?}"
        );
    }
}

#[test]
fn an_allocator_that_cannot_allocate_harms_nobody() {
    let with_allocator = |body: &str| {
        format!(
            "(module (import \"env\" \"proxy_get_property\" (func $property (param i32 i32 i32 i32) (result i32)))
                (import \"env\" \"proxy_log\" (func $log (param i32 i32 i32) (result i32)))
                {MEMORY} {MARKER} (data (i32.const 16) \"plugin_name\")
                (func $ask (result i32) (call $property (i32.const 16) (i32.const 11) (i32.const 0) (i32.const 4)))
                (func (export \"proxy_on_memory_allocate\") (param i32) (result i32) {body})
                (func (export \"proxy_on_request_headers\") (param i32 i32 i32) (result i32)
                    (i32.store8 (i32.const 32) (i32.add (i32.const 48) (call $ask)))
                    (drop (call $log (i32.const 2) (i32.const 32) (i32.const 1))) (i32.const 0)))"
        )
    };
    for (body, said_or_told) in [
        ("(i32.const 0)", "6"),
        ("(i32.const -8)", "6"),
        ("(i32.const 65534)", "6"),
        ("unreachable", "unreachable"),
        ("(loop $l (br $l)) (i32.const 0)", "used up its fuel"),
        ("(drop (call $ask)) (i32.const 64)", "allocator asks the host"),
    ] {
        let build = builder(&with_allocator(body)).plugin_name("a name").fuel_per_callback(1_000_000);
        let mut world = build.tolerate_violations().build().unwrap();
        world.get("/");
        assert!(said(&world).concat().contains(said_or_told), "{body}: {:?}", said(&world));
    }
}

/// Calls every function of the host again and again, with pointers and lengths from everywhere.
#[test]
fn hostile_arguments_never_harm_the_host() {
    let parameters = |name: &str| match name {
        "proxy_increment_metric" | "proxy_record_metric" => "i32 i64",
        "proxy_done"
        | "proxy_continue_request"
        | "proxy_continue_response"
        | "proxy_clear_route_cache"
        | "sched_yield" => "",
        "proxy_get_log_level"
        | "proxy_get_current_time_nanoseconds"
        | "proxy_set_effective_context"
        | "proxy_set_tick_period_milliseconds"
        | "proxy_continue_stream"
        | "proxy_close_stream"
        | "proxy_grpc_close"
        | "proxy_grpc_cancel"
        | "fd_close" => "i32",
        "proxy_get_configuration"
        | "proxy_get_metric"
        | "proxy_get_header_map_size"
        | "args_get"
        | "args_sizes_get"
        | "clock_res_get"
        | "environ_get"
        | "environ_sizes_get"
        | "fd_fdstat_get"
        | "fd_fdstat_set_flags"
        | "fd_filestat_get"
        | "fd_prestat_get"
        | "fd_tell"
        | "random_get"
        | "pthread_equal" => "i32 i32",
        "proxy_log"
        | "proxy_get_status"
        | "proxy_get_header_map_pairs"
        | "proxy_set_header_map_pairs"
        | "proxy_remove_header_map_value"
        | "proxy_get_buffer_status"
        | "proxy_register_shared_queue"
        | "proxy_enqueue_shared_queue"
        | "proxy_dequeue_shared_queue"
        | "fd_prestat_dir_name" => "i32 i32 i32",
        "proxy_get_property"
        | "proxy_set_property"
        | "proxy_define_metric"
        | "proxy_grpc_send"
        | "fd_write"
        | "fd_read"
        | "poll_oneoff" => "i32 i32 i32 i32",
        "clock_time_get" => "i32 i64 i32",
        "fd_seek" => "i32 i64 i32 i32",
        "path_open" => "i32 i32 i32 i32 i32 i64 i64 i32 i32",
        "path_filestat_get" => "i32 i32 i32 i32 i32",
        "proxy_call_foreign_function" => "i32 i32 i32 i32 i32 i32",
        "proxy_send_local_response" => "i32 i32 i32 i32 i32 i32 i32 i32",
        "proxy_grpc_stream" => "i32 i32 i32 i32 i32 i32 i32 i32 i32",
        "proxy_http_call" => "i32 i32 i32 i32 i32 i32 i32 i32 i32 i32",
        "proxy_grpc_call" => "i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32",
        _ => "i32 i32 i32 i32 i32",
    };
    let ends = ["abort", "proc_exit", "emscripten_notify_memory_growth"];
    let functions: Vec<String> = proxy_wasm_host_test::offered_functions()
        .into_iter()
        .filter(|name| !ends.iter().any(|end| name.ends_with(end)))
        .collect();
    let (mut imports, mut calls) = (String::new(), String::new());
    for (number, function) in functions.iter().enumerate() {
        let (module, name) = function.split_once('.').unwrap();
        let kinds = parameters(name);
        let label = if name == "random_get" { "$random".to_owned() } else { format!("$f{number}") };
        imports += &format!("(import {module:?} {name:?} (func {label} (param {kinds}) (result i32)))\n");
        let words: String = kinds
            .split_whitespace()
            .map(|kind| if kind == "i64" { "(i64.extend_i32_s (call $word))" } else { "(call $word)" })
            .collect();
        calls += &format!("(drop (call {label} {words}))\n");
    }
    // Small numbers, places in the memory, its end, what wraps around, and anything.
    let module = format!(
        "(module {imports} (memory (export \"memory\") 2) {MARKER} (global $seed (mut i32) (i32.const 0))
            (func (export \"malloc\") (param i32) (result i32) (i32.rem_u (call $next) (i32.const 140000)))
            (func $next (result i32) (global.set $seed (i32.add (i32.mul (global.get $seed) (i32.const 1664525)) (i32.const 1013904223)))
                (i32.shr_u (global.get $seed) (i32.const 7)))
            (func $word (result i32) (local $kind i32) (local.set $kind (i32.rem_u (call $next) (i32.const 8)))
                (if (i32.lt_u (local.get $kind) (i32.const 3)) (then (return (i32.rem_u (call $next) (i32.const 10)))))
                (if (i32.lt_u (local.get $kind) (i32.const 6)) (then (return (i32.rem_u (call $next) (i32.const 131072)))))
                (if (i32.eq (local.get $kind) (i32.const 6)) (then (return (i32.sub (i32.const 131072) (i32.rem_u (call $next) (i32.const 9))))))
                (i32.sub (i32.const 0) (i32.rem_u (call $next) (i32.const 1000))))
            (func $all (local $round i32) (loop $again {calls}
                (br_if $again (i32.lt_u (local.tee $round (i32.add (local.get $round) (i32.const 1))) (i32.const 4)))))
            (func (export \"proxy_on_vm_start\") (param i32 i32) (result i32) (drop (call $random (i32.const 0) (i32.const 4)))
                (global.set $seed (i32.load (i32.const 0))) (i32.const 1))
            (func (export \"proxy_on_request_headers\") (param i32 i32 i32) (result i32) (call $all) (i32.rem_u (call $next) (i32.const 3)))
            (func (export \"proxy_on_request_body\") (param i32 i32 i32) (result i32) (call $all) (i32.rem_u (call $next) (i32.const 3)))
            (func (export \"proxy_on_response_headers\") (param i32 i32 i32) (result i32) (call $all) (i32.rem_u (call $next) (i32.const 3)))
            (func (export \"proxy_on_response_body\") (param i32 i32 i32) (result i32) (call $all) (i32.const 0))
            (func (export \"proxy_on_http_call_response\") (param i32 i32 i32 i32 i32) (call $all))
            (func (export \"proxy_on_grpc_receive\") (param i32 i32 i32) (call $all))
            (func (export \"proxy_on_tick\") (param i32) (call $all))
            (func (export \"proxy_on_log\") (param i32) (call $all))
            (func (export \"proxy_on_done\") (param i32) (result i32) (call $all) (i32.const 1)))"
    );
    let linked = builder(&module).tolerate_violations().build().unwrap();
    assert!(linked.unoffered_imports().is_empty(), "{:?}", linked.unoffered_imports());
    drop(linked);
    for seed in 0..20 {
        let mut world = builder(&module)
            .seed(seed)
            .workers(2)
            .patience(Duration::from_millis(10))
            .expect_status(Status::BadArgument)
            .tolerate_violations()
            .build()
            .unwrap();
        for worker in 0..2 {
            world.send(proxy_wasm_host_test::Request::post("/").worker(worker).body("ask"));
        }
        world.run_for(Duration::from_millis(10));
        let traps = world.take_violations().into_iter().filter(|one| one.law == Law::NoTrap);
        assert_eq!(traps.map(|trap| trap.detail).collect::<Vec<_>>(), Vec::<String>::new(), "seed {seed}");
    }
}
