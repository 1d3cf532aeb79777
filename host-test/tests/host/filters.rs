//! Filters by others, which do here what their documentation says.

use proxy_wasm_host_test::{World, WorldBuilder};

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
