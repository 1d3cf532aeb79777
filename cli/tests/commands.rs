//! What the commands print, as people see it: `TRYCMD=overwrite cargo test -p routecache` writes what is found; read the
//! difference before keeping it.

use std::process::Command;

#[test]
fn commands_print_what_their_files_say() {
    trycmd::TestCases::new().case("tests/cmd/*.trycmd").case("tests/cmd/*.toml");
}

/// Both ways of building are tested by building both ways; `cargo xtask build` makes the one with the filter.
#[test]
fn the_filter_inside_is_the_one_that_it_was_built_with() {
    let output = Command::new(env!("CARGO_BIN_EXE_routecache")).args(["filter", "--output", "-"]).output().unwrap();
    match option_env!("ROUTECACHE_WASM") {
        Some(filter) => assert_eq!(output.stdout, std::fs::read(filter).unwrap()),
        None => {
            let message = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{message}");
            assert!(message.contains("cargo xtask build"), "{message}");
        }
    }
}
