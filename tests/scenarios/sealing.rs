//! Sealing: whoever can write to the group's store can't make a gateway serve what no gateway has stored.

use std::cell::Cell;
use std::rc::Rc;

use bridge_api::{Pattern, StoreRequest};
use proxy_wasm_host_test::{Call, LogLevel, Metric, Request, Response, World};
use routecache_core::entry::Entry;
use routecache_core::seal::CLOCKS_APART_MS;
use serde_json::{Value, json};

use super::stage::{Bridge, Versions, ms, rules, settle, status, world};

const SECRET: &str = "a55e1ed0a55e1ed0a55e1ed0a55e1ed0a55e1ed0a55e1ed0a55e1ed0a55e1ed0";
const OTHER: &str = "07a507a507a507a507a507a507a507a507a507a507a507a507a507a507a507a5";

/// How many bytes a seal takes in front of the entry.
const SEAL_BYTES: usize = 84;

/// The rules with these variables; with none, nothing is sealed.
fn sealing(env: &[&str], accept_unsealed: bool) -> Value {
    let mut rules = rules();
    if !env.is_empty() {
        rules["bridge"]["seal"] = json!({ "env": env, "accept_unsealed": accept_unsealed });
    }
    rules
}

/// Two gateways that have both secrets.
fn gateways(rules: &Value) -> (World, Versions, Bridge) {
    let (builder, versions, bridge) = world(rules);
    let builder = builder.gateways(2).env("SEAL", SECRET).env("OTHER", OTHER);
    let mut world = builder.build().expect("a world");
    settle(&mut world);
    (world, versions, bridge)
}

fn at(world: &mut World, gateway: usize, path: &str) -> (String, String) {
    let answer = world.fetch(Request::get(path).gateway(gateway));
    world.run_for(ms(20));
    assert_eq!(answer.status, 200);
    (status(&answer), answer.text())
}

fn reconfigure(world: &mut World, gateway: usize, rules: &Value) {
    world.reconfigure_gateway(gateway, rules.to_string().as_bytes()).expect("good rules");
    world.run_for(ms(600));
}

fn hit(text: &str) -> (String, String) {
    ("hit; detail=group".to_owned(), text.to_owned())
}

fn miss(text: &str) -> (String, String) {
    ("fwd=uri-miss; stored".to_owned(), text.to_owned())
}

/// The entry's bytes with another body, and a checksum that is right.
fn forged(entry: &[u8]) -> Vec<u8> {
    let entry = Entry::decode(entry.to_vec()).expect("an entry");
    entry.with_body(b"forged").expect("an entry").bytes().to_vec()
}

/// A40, and A33 for entries: every way of writing to the store is a miss, is counted and told, and goes.
#[test]
fn what_somebody_else_writes_to_the_store_is_a_miss_and_goes() {
    type Attack = fn(StoreRequest, &[u8], (&StoreRequest, &[u8])) -> (StoreRequest, Vec<u8>);
    let attacks: [(&str, &str, Attack); 9] = [
        ("a body", "broken", |request, sealed, _| {
            let (seal, entry) = sealed.split_at(SEAL_BYTES);
            (request, [seal, &forged(entry)].concat())
        }),
        ("no seal", "missing", |request, sealed, _| (request, forged(&sealed[SEAL_BYTES..]))),
        ("another key's bytes", "broken", |request, _, (_, other)| (request, other.to_vec())),
        ("fewer tags, so that a purge misses it", "broken", |request, sealed, _| {
            (StoreRequest { tags: vec!["!all".to_owned()], ..request }, sealed.to_vec())
        }),
        ("a younger position", "broken", |request, sealed, _| {
            let mut sealed = sealed.to_vec();
            sealed[44] ^= 0x40;
            (request, sealed)
        }),
        ("a later time of sealing", "broken", |request, sealed, _| {
            let mut sealed = sealed.to_vec();
            sealed[76 + 3] += 1; // 2^24 ms
            (request, sealed)
        }),
        ("an unknown secret", "unknown", |request, sealed, _| {
            let mut sealed = sealed.to_vec();
            sealed[4] ^= 1;
            (request, sealed)
        }),
        ("half of it", "broken", |request, sealed, _| (request, sealed[..sealed.len() / 2].to_vec())),
        ("the mark alone", "broken", |request, sealed, _| (request, sealed[..4].to_vec())),
    ];
    for (attack, counted, forge) in attacks {
        let (mut world, versions, bridge) = gateways(&sealing(&["SEAL"], false));
        assert_eq!(at(&mut world, 0, "/users/8"), miss("v1"));
        let other = bridge.last_stored();
        assert_eq!(at(&mut world, 0, "/users/7"), miss("v1"));
        let (request, sealed) = bridge.last_stored();
        let (request, payload) = forge(request, &sealed, (&other.0, &other.1));
        bridge.put(&world, &request, &payload);
        versions.write("/users/7"); // who asks the origin gets this
        assert_eq!(at(&mut world, 1, "/users/7"), miss("v2"), "{attack}");
        let counters = world.metrics_of(1);
        assert!(counters.contains_key(&format!("routecache_seals_{counted}")), "{attack}: {:?}", counters.keys());
        assert!(world.logged(LogLevel::Warn, "it counts as a miss"), "{attack}");
        assert!(!world.log_text().contains("a55e1ed0"), "{attack}");
        world.restart_gateway(0);
        world.run_for(ms(600));
        assert_eq!(at(&mut world, 0, "/users/7"), hit("v2"), "{attack}: it was stored anew");
    }
}

/// Without it, such writing is believed: this is what is sealed against.
#[test]
fn unsealed_a_forged_entry_is_believed() {
    let (mut world, _, bridge) = gateways(&rules());
    assert_eq!(at(&mut world, 0, "/users/7"), miss("v1"));
    let (request, entry) = bridge.last_stored();
    bridge.put(&world, &request, &forged(&entry));
    assert_eq!(at(&mut world, 1, "/users/7"), hit("forged"));
}

/// C9. What can't be read goes, though nothing comes in its place.
#[test]
fn what_cannot_be_read_is_removed_though_the_response_may_not_be_stored() {
    let oversized = vec![b'x'; 1 << 20];
    for unreadable in [&b"rce9 of another version"[..], b"rcs1", b"\0", &oversized] {
        let (builder, _, bridge) = world(&rules());
        let private = Rc::new(Cell::new(false));
        let now_private = Rc::clone(&private);
        let origin = move |_: &Call| match now_private.get() {
            true => Response::ok("mine").header("cache-control", "no-store"),
            false => Response::ok("v1"),
        };
        let mut world = builder.gateways(2).origin(origin).build().expect("a world");
        settle(&mut world);
        assert_eq!(at(&mut world, 0, "/users/7"), miss("v1"));
        let (request, _) = bridge.last_stored();
        bridge.put(&world, &request, unreadable);
        private.set(true);
        assert_eq!(at(&mut world, 1, "/users/7").1, "mine");
        assert_eq!(bridge.holds(&world, &request), b"");
    }
}

/// The steps of docs/sealing.md, one gateway after the other: nobody fails, and nobody misses.
#[test]
fn a_secret_is_introduced_replaced_and_given_up_without_a_miss() {
    let steps = [
        sealing(&[], false),
        sealing(&["SEAL"], true),
        sealing(&["SEAL"], false),
        sealing(&["SEAL", "OTHER"], false),
        sealing(&["OTHER", "SEAL"], false),
        sealing(&["OTHER"], false),
        sealing(&["OTHER"], true),
        sealing(&[], false),
    ];
    let (mut world, _, _) = gateways(&steps[0]);
    let mut user = 0;
    for step in &steps[1..] {
        for gateway in [0, 1] {
            reconfigure(&mut world, gateway, step);
            for (one, other) in [(0, 1), (1, 0)] {
                user += 1;
                let path = format!("/users/{user}");
                assert_eq!(at(&mut world, one, &path), miss("v1"), "{step}");
                assert_eq!(at(&mut world, other, &path), hit("v1"), "{step}");
            }
        }
    }
    assert!(!world.metrics_of(0).keys().chain(world.metrics_of(1).keys()).any(|name| name.contains("seals")));
}

/// All at once, it costs misses and nothing else.
#[test]
fn gateways_with_other_secrets_miss_what_each_other_stored() {
    let (mut world, _, _) = gateways(&sealing(&["SEAL"], false));
    reconfigure(&mut world, 1, &sealing(&["OTHER"], false));
    for gateway in [0, 1, 0, 1] {
        let (told, text) = at(&mut world, gateway, "/users/7");
        assert!(told == "fwd=uri-miss; stored" || told == "hit; detail=worker", "{told}");
        assert_eq!(text, "v1");
    }
    assert_eq!(world.metrics_of(1)["routecache_seals_unknown"], Metric::Counter(1));
}

/// I8. Who can write to the store can put back what was there: not past a purge that the gateway has heard of, of whatever kind.
#[test]
fn what_is_put_back_after_a_purge_stays_purged() {
    type Purge = fn(&Bridge, &World);
    let key = |bridge: &Bridge, world: &World| bridge.ban(world, &[], &[Pattern::Key("* user:7 ".into())]);
    let tag = |bridge: &Bridge, world: &World| bridge.ban(world, &[], &[Pattern::Tag("user:7*".into())]);
    let kinds: [(&str, Purge); 6] = [
        ("for good", |bridge, world| bridge.purge(world, &["user:7"])),
        ("everything", Bridge::purge_everything),
        ("softly", |bridge, world| bridge.purge_softly(world, "user:7")),
        ("by a pattern of keys", key),
        ("by one of tags", tag),
        ("softly and by a pattern", |bridge, world| {
            bridge.purge_softly(world, "user:7");
            bridge.ban(world, &[], &[Pattern::Tag("user:7".into())]);
        }),
    ];
    for (how, purge) in kinds {
        let (mut world, versions, bridge) = gateways(&sealing(&["SEAL"], false));
        assert_eq!(at(&mut world, 0, "/users/7"), miss("v1"));
        let (old, sealed) = bridge.last_stored();
        versions.write("/users/7");
        purge(&bridge, &world);
        world.run_for(ms(600));
        assert_eq!(at(&mut world, 0, "/users/8"), miss("v1"));
        let now = bridge.last_stored().0.ticket;
        assert_ne!(old.ticket.at, now.at);
        bridge.put(&world, &StoreRequest { ticket: now, ..old }, &sealed);
        assert_eq!(at(&mut world, 1, "/users/7").1, "v2", "{how}");
    }
}

/// What a seal vouches for is stale, refreshed and gone as anything is.
#[test]
fn what_is_sealed_serves_after_a_soft_purge_and_not_after_a_ban() {
    let mut rules = sealing(&["SEAL"], false);
    rules["routes"][1]["cache"]["stale_while_revalidate"] = json!("10s");
    let (builder, versions, bridge) = world(&rules);
    let builder = builder.gateways(2).loopback("routecache-self").env("SEAL", SECRET);
    let mut world = builder.build().expect("a world");
    settle(&mut world);
    let path = "/users/7/orders";
    assert_eq!(at(&mut world, 0, path), miss("v1"));
    let (old, sealed) = bridge.last_stored();
    versions.write("/users/7");
    bridge.purge_softly(&world, "user:7");
    world.run_for(ms(600));
    assert_eq!(at(&mut world, 1, path), hit("v1"), "stale, and refreshed");
    world.run_for(ms(600));
    assert_eq!(at(&mut world, 1, path).1, "v2");
    let (new, resealed) = bridge.last_stored();
    assert_eq!((&new.key, new.ticket.era), (&old.key, old.ticket.era));

    versions.write("/users/7");
    bridge.ban(&world, &[], &[Pattern::Tag("user:*".into())]);
    world.run_for(ms(600));
    assert_eq!(at(&mut world, 0, "/users/8"), miss("v1"));
    let now = bridge.last_stored().0.ticket;
    for bytes in [&sealed, &resealed] {
        bridge.put(&world, &StoreRequest { ticket: now, ..new.clone() }, bytes);
        world.restart_gateway(1); // it knows of no purge but what the group says
        world.run_for(ms(600));
        bridge.purge(&world, &["another"]);
        world.run_for(ms(600));
        let (told, text) = at(&mut world, 0, path);
        assert_eq!(text, "v3", "{told}");
    }
}

/// I8. Nor for longer than it is fresh and clocks may differ.
#[test]
fn what_is_put_back_is_as_old_as_it_was_when_it_was_sealed() {
    const TTL_MS: u64 = 300_000;
    for (later_ms, served) in [(TTL_MS + CLOCKS_APART_MS - 1000, true), (TTL_MS + CLOCKS_APART_MS + 1000, false)] {
        let (mut world, _, bridge) = gateways(&sealing(&["SEAL"], false));
        assert_eq!(at(&mut world, 0, "/users/7"), miss("v1"));
        let (request, sealed) = bridge.last_stored();
        world.run_for(ms(later_ms));
        bridge.put(&world, &request, &sealed);
        let (told, _) = at(&mut world, 1, "/users/7");
        assert_eq!(told == "hit; detail=group", served, "{told} after {later_ms} ms");
    }
}

/// Variants are told by an entry of their own, which is sealed like any.
#[test]
fn what_tells_of_variants_is_sealed_too() {
    let (builder, _, bridge) = world(&sealing(&["SEAL"], false));
    let origin = |_: &Call| Response::ok("v1").header("vary", "accept-language").header("cache-control", "max-age=60");
    let mut world = builder.gateways(2).env("SEAL", SECRET).origin(origin).build().expect("a world");
    settle(&mut world);
    assert_eq!(at(&mut world, 0, "/users/7"), miss("v1"));
    assert_eq!(at(&mut world, 1, "/users/7"), hit("v1"));
    let (marker, sealed) = bridge.last_stored();
    let told = Entry::decode(sealed[SEAL_BYTES..].to_vec()).expect("an entry");
    assert_eq!(told.status(), 0);
    bridge.put(&world, &marker, &sealed[SEAL_BYTES..]);
    world.restart_gateway(1);
    world.run_for(ms(600));
    assert_eq!(at(&mut world, 1, "/users/7"), miss("v1"));
}

/// The secret is never in the rules, and nothing tells it.
#[test]
fn rules_whose_secret_is_missing_or_short_are_refused_and_told_what_to_set() {
    for unusable in
        [None, Some(""), Some("a55e1ed0"), Some("not hexadecimal, though it is long enough for a secret, surely!!")]
    {
        let (mut builder, _, _) = world(&sealing(&["SEAL"], false));
        if let Some(secret) = unusable {
            builder = builder.env("SEAL", secret);
        }
        let error = builder.build().map(|_| ()).unwrap_err().to_string();
        for part in ["bridge.seal.env", "`SEAL`", "openssl rand -hex 32", "host_env_keys"] {
            assert!(error.contains(part), "{part} in {error}");
        }
        assert!(!error.contains("a55e1ed0") && !error.contains("surely"), "{error}");
    }
}

/// It is told at most once a minute, and every time it is counted.
#[test]
fn a_flood_of_forgeries_is_counted_and_does_not_flood_the_log() {
    let (mut world, _, bridge) = gateways(&sealing(&["SEAL"], false));
    assert_eq!(at(&mut world, 0, "/users/7"), miss("v1"));
    let (_, sealed) = bridge.last_stored();
    for user in 10..30 {
        let path = format!("/users/{user}");
        at(&mut world, 0, &path);
        bridge.put(&world, &bridge.last_stored().0, &sealed);
        assert_eq!(at(&mut world, 1, &path), miss("v1"));
    }
    assert_eq!(world.metrics_of(1)["routecache_seals_broken"], Metric::Counter(20));
    assert_eq!(world.log_text().matches("it counts as a miss").count(), 1);
}
