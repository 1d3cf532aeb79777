//! Readers and writers on every worker at once, in many orders: what an acknowledged write replaced is never read again.

use std::collections::HashMap;
use std::time::Duration;

use proxy_wasm_host_test::{Call, Request, RequestId, Response};
use serde_json::{Value, json};

use super::stage::{ms, rules, rules_alone, settle, status, world};

/// Numbers that look random; the seed repeats them.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// One run, of whose requests one in `one_in` is a write: returns the reads that were stale, as text, and how many fetches of
/// the filter's own were stored.
fn run(rules: &Value, one_in: u64, seed: u64) -> (Vec<String>, u64) {
    let (builder, versions, _) = world(rules);
    let mut dice = Dice(seed);
    let origin = move |call: &Call| {
        // Answers come out of order: a read may be answered long after a later write.
        let delay = ms(dice.roll(60));
        versions.answer(call).after(delay)
    };
    let builder = builder.gateways(2).workers(2).loopback("routecache-self").seed(seed);
    let mut world = builder.origin(origin).build().expect("a world");
    settle(&mut world);
    let mut dice = Dice(seed ^ 0xdead);
    let mut reads: Vec<(RequestId, usize)> = Vec::new();
    let mut writes: Vec<(RequestId, usize)> = Vec::new();
    for _ in 0..80 {
        let gateway = usize::try_from(dice.roll(2)).expect("small");
        let worker = usize::try_from(dice.roll(2)).expect("small");
        if dice.roll(one_in) == 0 {
            writes.push((world.send(Request::put("/users/7").body("x").gateway(gateway).worker(worker)), gateway));
        } else {
            reads.push((world.send(Request::get("/users/7").gateway(gateway).worker(worker)), gateway));
        }
        world.run_for(Duration::from_micros(dice.roll(40_000)));
    }
    world.run_until_idle();
    let version = |id| world.answer(id).text().trim_start_matches('v').parse::<u64>().expect("a version");
    // By gateway: when a version was released to its writer. On the other gateway it binds a window later.
    let mut released: HashMap<usize, Vec<(Duration, u64)>> = HashMap::new();
    for (id, gateway) in writes {
        let at = world.answer(id).headers_at.expect("headers");
        for reader in 0..2 {
            let bound = if reader == gateway { at } else { at + ms(1000) };
            released.entry(reader).or_default().push((bound, version(id)));
        }
    }
    let mut stale = Vec::new();
    for (id, gateway) in reads {
        let answer = world.answer(id);
        let newest =
            released[&gateway].iter().filter(|(bound, _)| *bound < answer.started).map(|(_, version)| *version).max();
        if newest.is_some_and(|newest| version(id) < newest) {
            stale.push(format!(
                "seed {seed}: gateway {gateway} at {:?}: {} after v{} ({})",
                answer.started,
                answer.text(),
                newest.unwrap_or_default(),
                answer.header("cache-status").unwrap_or_default()
            ));
        }
    }
    (stale, world.metric("routecache_fetches_stored"))
}

/// C1, C2, C3.
#[test]
fn no_order_of_readers_writers_and_workers_brings_an_old_version_back() {
    for seed in 0..60 {
        assert_eq!(run(&rules(), 5, seed), (Vec::new(), 0));
    }
}

/// The same where every hit is refreshed behind its client, what is stale answers meanwhile, writes have it read again, and
/// gateways take from the group what others have refreshed.
#[test]
fn no_order_of_refreshes_and_writes_brings_an_old_version_back() {
    let mut rules = rules();
    let terms = json!({ "ttl": "1s", "early": "1s", "stale_while_revalidate": "1m", "lock": "group" });
    for (name, value) in terms.as_object().expect("a map") {
        rules["routes"][0]["cache"][name] = value.clone();
    }
    for recache in [json!([]), json!([{ "route": "user", "include": ["id"] }])] {
        rules["routes"][2]["recache"] = recache;
        let mut fetches = 0;
        for seed in 0..12 {
            let (stale, stored) = run(&rules, 20, seed);
            assert_eq!(stale, Vec::<String>::new());
            fetches += stored;
        }
        assert!(fetches > 60, "{fetches}");
    }
}

/// Workers that store variants of one key at the same moment, in many orders: each is found afterwards, by every worker.
#[test]
fn variants_that_are_stored_at_once_are_all_kept() {
    const LANGUAGES: [&str; 3] = ["de", "en", "fr"];
    for seed in 0..60 {
        let mut rules = rules_alone();
        rules["routes"][0]["cache"]["lock"] = "off".into();
        let (builder, ..) = world(&rules);
        let origin = |call: &Call| {
            let language = call.header("accept-language").unwrap_or_default().to_owned();
            Response::ok(language).header("vary", "accept-language").after(ms(30))
        };
        let mut world = builder.workers(4).seed(seed).origin(origin).build().expect("a world");
        let user = |worker, language| Request::get("/users/7").worker(worker).header("accept-language", language);
        for (worker, language) in LANGUAGES.into_iter().enumerate() {
            world.send(user(worker, language));
        }
        world.run_until_idle();
        for language in LANGUAGES {
            let answer = world.fetch(user(3, language));
            assert_eq!(
                (answer.text().as_str(), status(&answer).as_str()),
                (language, "hit; detail=gateway"),
                "seed {seed}"
            );
        }
    }
}
