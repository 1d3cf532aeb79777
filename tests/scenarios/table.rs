//! C13: shared data is a fixed table.

use super::stage::{rules, settle, status, world};

#[test]
fn shared_data_has_a_fixed_number_of_keys_and_a_byte_budget_whatever_is_asked_for() {
    let (builder, _, _) = world(&rules());
    let mut rules = rules();
    rules["limits"] = serde_json::json!({ "l0_bytes": "64KiB", "l1_bytes": "1MiB", "body_bytes_max": "16KiB" });
    let origin = |_: &proxy_wasm_host_test::Call| proxy_wasm_host_test::Response::ok("x".repeat(3000));
    let mut world = builder.configuration(rules.to_string()).workers(2).origin(origin).build().expect("a world");
    settle(&mut world);
    let keys = world.shared_data().len();
    for user in 0..3000 {
        world.fetch(proxy_wasm_host_test::Request::get(&format!("/users/{user}")).worker(user % 2));
    }
    assert_eq!(world.shared_data().len(), keys, "the table had all its keys from the start");
    let bytes = world.shared_data().byte_size();
    assert!(bytes <= (1 << 20) + (32 << 10), "{bytes} bytes in shared data");
    assert!(status(&world.fetch(proxy_wasm_host_test::Request::get("/users/2999").worker(0))).starts_with("hit"));
}
