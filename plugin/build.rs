//! How the filter is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Objects hold every call and address in five bytes, so that the linker can fill it in; most need
    // fewer, and the module is 7 % smaller. The linker can't do it where it writes debug information.
    let is_wasm = std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm");
    if is_wasm && std::env::var("DEBUG").is_ok_and(|debug| debug == "false") {
        println!("cargo::rustc-link-arg-cdylib=--compress-relocations");
    }
}
