//! What all VMs of a gateway share, through the filter that ships: many keys, several filters, and VMs that come and go.

use proxy_wasm_host_test::{FailurePolicy, Request, Response, SharedData, World};
use routecache_core::entry::Entry;
use routecache_core::gateway_tier::{Index, Layout, entry_in};
use routecache_core::key::hash_of;
use serde_json::{Value, json};

use super::stage::{get, ms, rules, rules_alone, settle, status, world};

const L1_BYTES: u64 = 1 << 20;
const BODY_BYTES_MAX: u64 = 64 << 10;

/// A table that is full soon.
fn small(mut rules: Value) -> Value {
    rules["limits"] = json!({ "l0_bytes": "64KiB", "l1_bytes": L1_BYTES, "body_bytes_max": BODY_BYTES_MAX });
    rules
}

fn value(shared: &SharedData, key: &str) -> Vec<u8> {
    shared.value(format!("routecache/1/shop:v1/{key}")).expect("a key that was laid out").to_vec()
}

/// Holds each slot against what its index says of it; how many entries there are.
fn agree(shared: &SharedData, layout: Layout) -> usize {
    let (mut entries, mut bytes) = (0, 0);
    for segment in 0..layout.segments {
        let index = value(shared, &segment.to_string());
        bytes += index.len();
        for number in 0..layout.slots {
            let content = value(shared, &format!("{segment}/{number}"));
            bytes += content.len();
            let Some(entry) = content.get(8..).and_then(|entry| Entry::decode(entry.to_vec()).ok()) else { continue };
            let slot = Index::find(layout, &index, hash_of(entry.key())).expect("a slot that its index knows");
            assert_eq!((slot.number, entry_in(&slot, &content)), (number, Some(entry)));
            entries += 1;
        }
    }
    assert!(u64::try_from(bytes).is_ok_and(|bytes| bytes <= L1_BYTES), "{bytes}");
    entries
}

/// C13: requests for ten thousand resources on four workers, whose host calls come in any order.
#[test]
fn many_keys_leave_the_table_within_its_bounds_and_as_its_indexes_say() {
    let (builder, ..) = world(&small(rules_alone()));
    let origin =
        |call: &proxy_wasm_host_test::Call| Response::ok("x".repeat(call.path().len() * 40 % 1000)).after(ms(1));
    let mut world = builder.workers(4).seed(7).origin(origin).build().expect("a world");
    let layout = Layout::new(L1_BYTES, BODY_BYTES_MAX);
    let keys = world.shared_data().len();
    let mut hits = 0;
    for round in 0..1250 {
        let scan: Vec<_> = (0..8)
            .map(|client| world.send(Request::get(&format!("/users/{}", 100 + round * 8 + client)).worker(client % 4)))
            .collect();
        // Beside them, what somebody asks for all the time, on a worker that asks for little else.
        let hot = world.send(Request::get(&format!("/users/{}", round % 20)).worker(round % 4));
        world.run_for(ms(5));
        assert!(scan.into_iter().all(|id| world.finished(id).is_some_and(|answer| answer.status == 200)));
        hits += u32::from(status(world.answer(hot)).starts_with("hit"));
        if round % 25 == 0 {
            agree(&world.shared_data(), layout);
        }
    }
    assert_eq!(world.shared_data().len(), keys);
    assert!(agree(&world.shared_data(), layout) > 20);
    assert!(hits > 1100, "{hits} of 1250");
}

/// Filters share what stands in shared data where they share a namespace, and nothing where they don't, whatever their VM's id:
/// Istio's is empty.
#[test]
fn rules_of_another_namespace_neither_see_nor_touch_what_a_namespace_holds() {
    for vm_id in ["", "routecache"] {
        let (builder, ..) = world(&rules_alone());
        let mut world = builder.vm_id(vm_id).workers(2).build().expect("a world");
        get(&mut world, 0, "/users/7");
        // But for the lease of the feed, which the old rules give back.
        let held = |world: &World| -> Vec<(Vec<u8>, Vec<u8>)> {
            let shared = world.shared_data();
            let ours = |key: &[u8]| key.starts_with(b"routecache/1/shop:v1/") && !key.ends_with(b"/lease");
            let ours = shared.of(vm_id).filter(|(key, _)| ours(key));
            ours.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
        };
        let before = held(&world);
        assert!(before.len() > 200, "{vm_id:?}");
        let mut other = rules_alone();
        other["namespace"]["version"] = "v10".into(); // begins with the first
        world.reconfigure(other.to_string()).expect("good rules");
        assert_eq!(status(&get(&mut world, 0, "/users/7")), "fwd=uri-miss; stored", "{vm_id:?}");
        assert_eq!(world.fetch(Request::put("/users/7").body("x")).text(), "v2");
        assert_eq!(get(&mut world, 1, "/users/7").text(), "v2");
        let changed = held(&world).into_iter().zip(before).filter(|(now, before)| now != before);
        let changed: Vec<_> = changed.map(|((key, _), _)| String::from_utf8_lossy(&key).into_owned()).collect();
        assert_eq!(changed, Vec::<String>::new(), "{vm_id:?}");
        world.reconfigure(rules_alone().to_string()).expect("good rules");
        assert_eq!(status(&get(&mut world, 1, "/users/7")), "hit; detail=gateway", "{vm_id:?}");
    }
}

/// What a worker knows of purges dies with its VM. The next one reads it from the log, as far as that reaches back; what is
/// older counts as purged.
#[test]
fn a_new_vm_serves_what_the_gateway_holds_as_far_as_the_log_tells_of_purges() {
    for (writes, expected) in [(20, "hit; detail=gateway"), (600, "fwd=uri-miss; stored")] {
        let (builder, ..) = world(&rules_alone());
        let mut world = builder.workers(2).failure_policy(FailurePolicy::Reload).build().expect("a world");
        for path in ["/users/7", "/users/8"] {
            get(&mut world, 0, path);
            assert!(status(&get(&mut world, 1, path)).starts_with("hit"));
        }
        world.fetch(Request::put("/users/8").body("x"));
        for other in 0..writes {
            world.fetch(Request::put(&format!("/users/{}", 100 + other)).body("x").worker(1));
        }
        world.crash(0, 0, "proxy_on_request_headers");
        assert_eq!(get(&mut world, 0, "/users/9").status, 503, "the VM that died");
        world.run_for(ms(2000));
        assert_eq!(status(&get(&mut world, 0, "/users/7")), expected, "after {writes} writes");
        assert_eq!(get(&mut world, 0, "/users/8").text(), "v2", "whatever the new VM knows");
        assert_eq!(status(&get(&mut world, 1, "/users/7")), "hit; detail=worker", "who was there knows");
    }
}

/// A change of rules keeps VM and purge table; a change of the VM's own configuration, which starts new ones, keeps the rest.
#[test]
fn the_same_rules_again_find_what_the_gateway_holds() {
    for starts in [false, true] {
        let (builder, ..) = world(&rules());
        let mut world = builder.workers(2).build().expect("a world");
        settle(&mut world);
        for path in ["/users/7", "/users/8"] {
            get(&mut world, 0, path);
        }
        world.reconfigure(rules().to_string()).expect("good rules");
        if starts {
            (0..2).for_each(|worker| world.restart_worker(worker));
        }
        world.run_for(ms(600));
        world.fetch(Request::put("/users/8").body("x").worker(1));
        assert_eq!(status(&get(&mut world, 1, "/users/7")), "hit; detail=gateway");
        assert_eq!(
            status(&get(&mut world, 0, "/users/7")),
            if starts { "hit; detail=gateway" } else { "hit; detail=worker" }
        );
        (0..2).for_each(|worker| assert_eq!(get(&mut world, worker, "/users/8").text(), "v2"));
    }
}
