//! Which modules load, and what the module's own system calls see.

use proxy_wasm_host_test::{BuildError, Law, Status, World};

use crate::probe::{on, probe};
use crate::said;

fn build(wat: &str) -> Result<World, BuildError> {
    World::builder().filter(wat.as_bytes()).build()
}

const ALLOCATE: &str =
    "(memory (export \"memory\") 1) (func (export \"malloc\") (param i32) (result i32) (i32.const 1024))";

#[test]
fn every_version_of_the_abi_loads() {
    for version in ["0_1_0", "0_2_0", "0_2_1"] {
        let mut world = build(&format!("(module {ALLOCATE} (func (export \"proxy_abi_version_{version}\")))")).unwrap();
        assert_eq!(world.get("/").status, 200, "{version}");
    }
    assert!(matches!(build(&format!("(module {ALLOCATE})")), Err(BuildError::NoAbi)));
    assert!(matches!(build("(module"), Err(BuildError::Compile(_))));
}

/// ABI 0.1.0: headers callbacks have two parameters, and absent fields read as empty.
#[test]
fn the_oldest_abi_has_shorter_callbacks_and_empty_fields() {
    let mut world = build(&format!(
        "(module
            (import \"env\" \"proxy_get_header_map_value\" (func $get (param i32 i32 i32 i32 i32) (result i32)))
            (import \"env\" \"proxy_send_local_response\" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
            {ALLOCATE} (func (export \"proxy_abi_version_0_1_0\"))
            (data (i32.const 16) \"absent\")
            (func (export \"proxy_on_request_headers\") (param i32 i32) (result i32)
                (drop (call $reply
                    (i32.add (i32.const 200) (call $get (i32.const 0) (i32.const 16) (i32.const 6) (i32.const 0) (i32.const 4)))
                    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
                (i32.const 1)))"
    ))
    .unwrap();
    assert_eq!(world.get("/").status, 200);
}

#[test]
fn start_functions_run_once_before_anything_else() {
    let log = "(import \"env\" \"proxy_log\" (func $log (param i32 i32 i32) (result i32)))";
    let say =
        |letter: char| format!("(drop (call $log (i32.const 2) (i32.const {}) (i32.const 1)))", u32::from(letter) - 97);
    let module = |functions: String| {
        format!("(module {log} {ALLOCATE} (data (i32.const 0) \"abc\") (func (export \"proxy_abi_version_0_2_1\")) {functions}
            (func (export \"proxy_on_vm_start\") (param i32 i32) (result i32) {} (i32.const 1)))", say('c'))
    };
    let command = module(format!("(func (export \"_start\") {})", say('a')));
    let reactor = module(format!(
        "(func (export \"_initialize\") {}) (func (export \"main\") (param i32 i32) (result i32) {} (i32.const 0)) (func (export \"_start\") unreachable)",
        say('a'),
        say('b')
    ));
    // Three VMs: one to try, the main thread's, the worker's.
    assert_eq!(said(&build(&command).unwrap()).concat(), "acacac");
    assert_eq!(said(&build(&reactor).unwrap()).concat(), "abcacabc".replace("acabc", "abcabc"));
}

#[test]
fn imports_that_nobody_offers_answer_unimplemented() {
    let mut world = build(&format!(
        "(module
            (import \"env\" \"proxy_invented\" (func $invented (param i32) (result i32)))
            (import \"env\" \"proxy_log\" (func $log (param i32 i32 i32) (result i32)))
            (import \"env\" \"proxy_log\" (func $log_again (param i32 i32 i32) (result i32)))
            (import \"env\" \"abort\" (func (param i32 i32 i32 i32)))
            (import \"wasi_unstable\" \"sock_send\" (func (param i32 i32 i32 i32 i32) (result i32)))
            {ALLOCATE} (func (export \"proxy_abi_version_0_2_1\")) (data (i32.const 0) \"twelve\")
            (func (export \"proxy_on_request_headers\") (param i32 i32 i32) (result i32)
                (if (i32.eq (call $invented (i32.const 0)) (i32.const 12))
                    (then (drop (call $log_again (i32.const 2) (i32.const 0) (i32.const 6)))))
                (i32.const 0)))"
    ))
    .unwrap();
    world.get("/");
    assert_eq!(said(&world), ["twelve"]);
    assert_eq!(world.unoffered_imports(), ["env.proxy_invented", "wasi_unstable.sock_send"]);
}

#[test]
fn pointers_outside_the_memory_are_answered_and_noticed() {
    for call in [
        "(call $get_header (i32.const 0) (i32.const -1) (i32.const 4) (i32.const 0) (i32.const 4))",
        "(call $get_header (i32.const 0) \"x\" (i32.const -2) (i32.const 4))",
        "(call $log (i32.const 2) (i32.const 1048570) (i32.const 100))",
        "(call $set_shared (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 0) (i32.const 0))",
    ] {
        let filter = probe(&on("request_headers", &format!("(call $note \"status\" {call}) (i32.const 0)")));
        let mut world = World::builder().filter(filter).build().unwrap();
        world.fetch(proxy_wasm_host_test::Request::get("/").header("x", "1"));
        assert_eq!(said(&world), ["status=6"], "{call}");
        assert_eq!(world.take_violations()[0].law, Law::PointersInMemory);
    }
}

#[test]
fn the_environment_and_output_work() {
    let filter = probe(&on(
        "vm_start",
        "(drop (call $environ (i32.const 64) (i32.const 128)))
         (i32.store (i32.const 32) (i32.load (i32.const 64))) (i32.store (i32.const 36) (i32.const 6))
         (drop (call $fd_write (i32.const 2) (i32.const 32) (i32.const 1) (i32.const 40)))
         (call $note \"written\" (i32.load (i32.const 40))) (i32.const 1)",
    ));
    let world = World::builder().filter(filter).env("TTL", "5s").env("B", "").build().unwrap();
    assert_eq!(said(&world)[..2], ["TTL=5s", "written=6"]);
}

#[test]
fn an_endless_loop_runs_out_of_fuel() {
    let filter = probe(&on("request_headers", "(loop $for_ever (br $for_ever)) (i32.const 0)"));
    let mut world = World::builder().filter(filter).fuel_per_callback(100_000).build().unwrap();
    assert_eq!(world.get("/").status, 503);
    assert!(world.take_violations()[0].detail.contains("fuel"));
}

#[test]
fn foreign_functions_compress_and_back() {
    let filter = probe(&on(
        "request_headers",
        "(call $note \"compress\" (call $foreign \"compress\" \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" (i32.const 24) (i32.const 28)))
         (call $note \"shorter\" (i32.lt_u (i32.load (i32.const 28)) (i32.const 32)))
         (call $note \"uncompress\" (call $foreign \"uncompress\" (i32.load (i32.const 24)) (i32.load (i32.const 28)) (i32.const 24) (i32.const 28)))
         (call $say (i32.load (i32.const 24)) (i32.load (i32.const 28)))
         (call $note \"bad\" (call $foreign \"uncompress\" \"junk\" (i32.const 24) (i32.const 28)))
         (call $note \"unknown\" (call $foreign \"nothing\" \"\" (i32.const 24) (i32.const 28)))
         (i32.const 0)",
    ));
    let mut world = World::builder().filter(filter).build().unwrap();
    world.get("/");
    assert_eq!(
        said(&world),
        ["compress=0", "shorter=1", "uncompress=0", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bad=3", "unknown=1"]
    );
}

#[test]
fn a_world_may_have_foreign_functions_of_its_own() {
    let filter = probe(&on(
        "request_headers",
        "(call $note \"turned\" (call $foreign \"turn\" \"abc\" (i32.const 24) (i32.const 28)))
         (call $say (i32.load (i32.const 24)) (i32.load (i32.const 28)))
         (call $note \"nothing\" (call $foreign \"turn\" \"\" (i32.const 24) (i32.const 28)))
         (i32.const 0)",
    ));
    let turn = |text: &[u8]| match text {
        [] => Err(Status::BadArgument),
        text => Ok(text.iter().rev().copied().collect()),
    };
    let mut world = World::builder().filter(filter).foreign_function("turn", turn).build().unwrap();
    world.get("/");
    assert_eq!(said(&world), ["turned=0", "cba", "nothing=2"]);
}

#[test]
fn memory_grows_to_its_limit_and_no_further() {
    let filter = probe(&on(
        "request_headers",
        "(call $note \"grown\" (i32.add (memory.grow (i32.const 4)) (i32.const 1))) (i32.const 0)",
    ));
    let mut world = World::builder().filter(filter).memory_limit(20 * 65536).build().unwrap();
    assert_eq!(world.memory_bytes(0, 0), 16 * 65536);
    world.get("/");
    world.get("/");
    // Pages before, plus one; 0 where it failed.
    assert_eq!(said(&world), ["grown=17", "grown=0"]);
    assert_eq!(world.memory_bytes(0, 0), 20 * 65536);
}

/// AssemblyScript's `abort` has four parameters, emscripten's none; Go's compiler imports a WASI function twice; some modules
/// import their memory.
#[test]
fn imports_of_any_shape_link() {
    let filter = |imports: &str, memory: &str| {
        build(&format!(
            "(module {imports} {memory}
                (func (export \"malloc\") (param i32) (result i32) (i32.const 1024))
                (func (export \"proxy_abi_version_0_2_1\")))"
        ))
    };
    let own = "(memory (export \"memory\") 1)";
    for (imports, memory, unoffered) in [
        ("(import \"env\" \"abort\" (func (param i32 i32 i32 i32)))", own, None),
        ("(import \"env\" \"abort\" (func))", own, None),
        ("(import \"env\" \"emscripten_notify_memory_growth\" (func (param i32)))", own, None),
        (
            "(import \"wasi_snapshot_preview1\" \"sched_yield\" (func (result i32)))
             (import \"wasi_snapshot_preview1\" \"sched_yield\" (func (result i32)))",
            own,
            None,
        ),
        ("(import \"env\" \"memory\" (memory 1)) (import \"env\" \"table\" (table 1 funcref))", "", None),
        // The AssemblyScript SDK declares it without initial metadata.
        (
            "(import \"env\" \"proxy_grpc_call\" (func (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))",
            own,
            Some("env.proxy_grpc_call"),
        ),
        ("(import \"env\" \"invented\" (func (param f64 i64) (result i64)))", own, Some("env.invented")),
    ] {
        let mut world = filter(imports, memory).unwrap();
        assert_eq!(world.get("/").status, 200, "{imports}");
        assert_eq!(world.unoffered_imports().first().map(String::as_str), unoffered, "{imports}");
    }
    assert!(matches!(filter("(import \"env\" \"g\" (global i32))", own), Err(BuildError::Link(_))), "as in V8");
}

#[test]
fn a_module_that_imports_its_memory_uses_it() {
    let mut world = build(
        "(module
            (import \"env\" \"memory\" (memory 1))
            (import \"env\" \"proxy_log\" (func $log (param i32 i32 i32) (result i32)))
            (data (i32.const 0) \"mine\")
            (func (export \"malloc\") (param i32) (result i32) (i32.const 1024))
            (func (export \"proxy_abi_version_0_2_1\"))
            (func (export \"proxy_on_request_headers\") (param i32 i32 i32) (result i32)
                (drop (call $log (i32.const 2) (i32.const 0) (i32.const 4))) (i32.const 0)))",
    )
    .unwrap();
    world.get("/");
    assert_eq!(said(&world), ["mine"]);
}
