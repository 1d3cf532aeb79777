//! Filters by others, which do here what their documentation says.

use proxy_wasm_host_test::{LogLevel, Request, World, WorldBuilder};

/// The example of the AssemblyScript SDK (Apache-2.0); `filters/README.md` tells how it was built.
fn add_header() -> WorldBuilder {
    World::builder().filter(include_bytes!("../filters/add_header.wasm").as_slice()).root_id("add_header")
}

#[test]
fn the_assemblyscript_example_adds_its_header() {
    assert_eq!(add_header().build().unwrap().get("/").header("hello"), Some("world!"));
    let mut configured = add_header().configuration("you").build().unwrap();
    assert_eq!(configured.get("/").header("hello"), Some("you"));
    assert_eq!(configured.unoffered_imports(), [""; 0]);
}

/// SDK 1.2.3 looks root contexts up where it keeps streams' only, and aborts: in Envoy, too, each new configuration costs it its VM.
#[test]
fn the_assemblyscript_sdk_cannot_stand_a_new_configuration() {
    let mut world = add_header().build().unwrap();
    world.reconfigure("you").unwrap();
    assert!(world.take_violations()[0].detail.starts_with("proxy_on_done trapped"));
    assert_eq!(world.get("/").status, 503);
}

#[test]
fn a_filter_in_c_with_wasi_libc_works() {
    let mut world = World::builder().filter(include_bytes!("../filters/c.wasm").as_slice()).build().unwrap();
    for greeting in ["greeting 1", "greeting 2", "greeting 3"] {
        assert_eq!(world.get("/").header("x-from-c"), Some(greeting));
    }
    assert!(world.logs().iter().any(|log| log.level == LogLevel::Info && log.message.ends_with("greeting 3")));
    assert_eq!(world.unoffered_imports(), [""; 0]);
}

#[test]
fn a_filter_in_cpp_by_emscripten_works() {
    let mut world = World::builder().filter(include_bytes!("../filters/cpp.wasm").as_slice()).build().unwrap();
    let answer = world.fetch(Request::get("/a").header("x", "y"));
    assert_eq!(answer.status, 200);
    assert!(answer.text().starts_with(":authority=example.com;:method=GET;:path=/a;"), "{}", answer.text());
    assert!(world.logged(LogLevel::Info, "fields: 7"));
    assert_eq!(world.unoffered_imports(), [""; 0]);
}

#[test]
fn a_filter_in_zig_works() {
    let mut world = World::builder().filter(include_bytes!("../filters/zig.wasm").as_slice()).build().unwrap();
    assert_eq!(world.get("/").header("x-from-zig"), Some("hello"));
}
