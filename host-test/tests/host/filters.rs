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
