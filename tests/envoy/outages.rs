//! What an outage costs, counted: how often a bridge is asked that doesn't answer, what stands in for which error of the origin, and how
//! many fetches an origin has at once when everything is to be fetched anew.

use std::time::{Duration, Instant};

use bridge_api::{Continuity, FeedReply, LookupReply, MARKER, Position, Ticket, VERSION};
use http::StatusCode;
use routecache_config::render::{self, EnvoyOptions};
use routecache_harness::{Answer, Client, Envoy, EnvoyConfig, Heard, Origin, Request, Response, Result};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::stage::{Gateway, Stage, options, rules, rules_without_bridge};

/// How soon something must be seen that time brings about, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// How long a call to the bridge may take here: what waits for it can't be taken for what a busy machine holds up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// What a bridge says, with its mark.
fn marked(reply: &impl serde::Serialize) -> Answer {
    let reply = serde_json::to_value(reply).expect("a reply is JSON");
    Answer::json(StatusCode::OK, &reply).header(MARKER, VERSION)
}

/// A bridge whose feed tells of nothing, and which answers lookups so.
async fn bridge(lookups: Answer) -> Result<Origin> {
    let bridge = Origin::start().await?;
    let cursor = Position { ms: 1, seq: 1, unique: 1 };
    let quiet = FeedReply { continuity: Continuity::Joined, records: vec![], cursor, held_ms: 0, complete: true };
    bridge.script("POST", "/v1/feed", marked(&quiet).after(Duration::from_millis(100)));
    bridge.script("POST", "/v1/lookup", lookups);
    Ok(bridge)
}

fn nothing_there() -> Answer {
    let ticket = Ticket { at: Position { ms: 1, seq: 1, unique: 1 }, era: "1".parse().expect("an era"), seen_ms: None };
    marked(&LookupReply::Miss { ticket, lease: None })
}

/// How many probes a breaker may have sent so long after it was closed: one after 1 s, then after 2, 4, 8.
fn probes_within(time: Duration) -> usize {
    [1, 3, 7, 15, 23, 31, 39, 47, 55, 63].iter().filter(|seconds| time >= Duration::from_secs(**seconds)).count()
}

#[tokio::test]
async fn while_the_breaker_is_open_only_probes_ask_the_bridge_and_nobody_else_waits() -> Result<()> {
    let (origin, bridge) = (Origin::start().await?, bridge(nothing_there()).await?);
    let mut rules = rules();
    rules["bridge"]["timeout"] = "2s".into();
    rules["consistency"]["window"] = "60s".into();
    rules["routes"][1]["cache"]["lock"] = "off".into(); // each request asks for itself
    let options = EnvoyOptions { bridge: Some(bridge.address().into()), access_log: false, ..options(&origin)? };
    let config = EnvoyConfig::new(|listen, admin| {
        render::envoy(&rules, &EnvoyOptions { listen, admin: Some(admin), ..options })
    })?;
    // A breaker is its worker's.
    let envoy = Envoy::start(EnvoyConfig { concurrency: 1, ..config }).await?;
    let lookups = || usize::try_from(bridge.requests("POST", "/v1/lookup")).expect("so many");
    let page = |number: usize| format!("/users/1/orders?page={number}");
    let start = Instant::now();
    for number in 300_000.. {
        envoy.get(&page(number)).await?; // until the feed is heard, nobody asks
        if lookups() > 0 {
            break;
        }
        assert!(start.elapsed() < SOON, "the feed isn't heard");
        sleep(Duration::from_millis(20)).await;
    }
    bridge.script("POST", "/v1/lookup", nothing_there().after(Duration::from_secs(60)));
    let (before, start) = (lookups(), Instant::now());
    let mut five = JoinSet::new();
    for number in 100..105 {
        let (client, path) = (envoy.client(), page(number));
        five.spawn(async move { client.get(&path).await });
    }
    while let Some(answer) = five.join_next().await {
        let answer = answer.expect("no client panics")?;
        assert!(answer.status == 200 && answer.elapsed >= LOOKUP_TIMEOUT, "{:?}", answer.elapsed);
    }
    assert_eq!(lookups() - before, 5);
    let (mut asked, mut waited) = (0, 0);
    while lookups() - before < 5 + 2 {
        let answer = envoy.get(&page(200 + asked)).await?;
        assert_eq!(answer.status, 200);
        assert!(answer.elapsed < LOOKUP_TIMEOUT * 2, "{:?}", answer.elapsed);
        asked += 1;
        waited += usize::from(answer.elapsed >= LOOKUP_TIMEOUT);
        assert!(lookups() - before - 5 <= probes_within(start.elapsed()), "after {:?}", start.elapsed());
        assert!(start.elapsed() < SOON, "it isn't tried again");
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(waited, lookups() - before - 5, "who waits is a probe");
    assert!(asked > 20, "{asked} requests show nothing");
    let said = |text: &str| envoy.lines().iter().filter(|line| line.contains(text)).count();
    assert_eq!((said("the bridge doesn't answer"), said("the bridge answers again")), (1, 0));
    assert_eq!(envoy.stat("wasmcustom.routecache_bridge_breaker_opened").await?, 1);
    bridge.script("POST", "/v1/lookup", nothing_there());
    while said("the bridge answers again") == 0 {
        envoy.get(&page(100_000 + asked)).await?;
        asked += 1;
        assert!(start.elapsed() < SOON, "it isn't found again");
        sleep(Duration::from_millis(10)).await;
    }
    let before = lookups();
    for number in 0..10 {
        envoy.get(&page(200_000 + number)).await?;
    }
    assert_eq!(lookups() - before, 10, "closed, everybody asks");
    Ok(())
}

/// How the origin fails, what a client gets where nothing stands in, and whether anything may.
fn failures() -> Vec<(&'static str, Answer, u16, bool)> {
    let status = |code: u16| Answer::json(StatusCode::from_u16(code).expect("a status"), &json!({ "error": code }));
    vec![
        ("500", status(500), 500, true),
        ("502", status(502), 502, true),
        ("503", status(503), 503, true),
        ("504", status(504), 504, true),
        ("reset", Answer::reset(), 503, true),
        ("timeout", Answer::empty(StatusCode::OK).after(Duration::from_secs(60)), 504, true),
        ("401", status(401), 401, false),
        ("403", status(403), 403, false),
        ("404", status(404), 404, false),
        ("410", status(410), 410, false),
    ]
}

fn outliving() -> Value {
    let mut rules = rules_without_bridge();
    rules["background"] = json!({ "timeout": "300ms" });
    rules["routes"] = json!([
        { "name": "kept", "match": { "path": "/kept/{id}" }, "cache": { "ttl": "1s", "stale_if_error": "10m" } },
        { "name": "past", "match": { "path": "/past/{id}" }, "cache": { "ttl": "1s", "stale_if_error": "1s" } },
        {
            "name": "failover", "match": { "path": "/failover/{id}" }, "mode": "failover",
            "cache": { "ttl": "1s", "stale_if_error": "10m" }
        },
        { "name": "guarded", "match": { "path": "/guarded/{id}" }, "cache": { "protect_origin": "on" } }
    ]);
    rules
}

async fn outliving_gateway(origin: &Origin) -> Result<Gateway> {
    Gateway::open_changed(&outliving(), options(origin)?, |yaml| yaml.replace("timeout: 15s", "timeout: 0.5s")).await
}

fn is_stored(answer: &Response) -> bool {
    answer.status == 200 && answer.json()["is"] == "stored"
}

#[tokio::test]
async fn what_is_stored_stands_in_for_failures_within_its_limit_and_for_answers_never() -> Result<()> {
    let origin = Origin::start().await?;
    let mut gateway = outliving_gateway(&origin).await?;
    let stored = Answer::json(StatusCode::OK, &json!({ "is": "stored" }));
    let mut names: Vec<_> = failures().into_iter().map(|(name, ..)| name).collect();
    names.push("connection");
    for name in &names {
        for kind in ["kept", "past", "failover"] {
            let path = format!("/{kind}/{name}");
            origin.script("GET", &path, stored.clone());
            assert!(is_stored(&gateway.get(0, &path).await?), "{path}");
        }
    }
    sleep(Duration::from_millis(2300)).await; // all of it is stale, and one kind may not stand in any more
    for (name, answer, passed_on, stands_in) in failures() {
        for kind in ["kept", "past", "failover"] {
            let path = format!("/{kind}/{name}");
            origin.script("GET", &path, answer.clone());
            for worker in [0, 1] {
                let answer = gateway.get(worker, &path).await?;
                let told = answer.header("cache-status");
                if stands_in && kind != "past" {
                    assert!(is_stored(&answer), "{path}: {} {told}", answer.status);
                    assert!(
                        told.contains(if kind == "kept" { "stale-if-error" } else { "failover" }),
                        "{path}: {told}"
                    );
                } else {
                    assert_eq!(answer.status, passed_on, "{path}: {told}");
                }
            }
        }
    }
    drop(origin); // nobody listens any more
    for (kind, status) in [("kept", 200), ("past", 503), ("failover", 200)] {
        let answer = gateway.get(0, &format!("/{kind}/connection")).await?;
        assert_eq!(answer.status, status, "{kind}, no connection: {}", answer.header("cache-status"));
    }
    Ok(())
}

#[tokio::test]
async fn an_origin_that_is_protected_hears_two_of_a_stampede_from_each_worker_and_is_found_again() -> Result<()> {
    const CLIENTS: usize = 200;
    let origin = Origin::start().await?;
    let mut gateway = outliving_gateway(&origin).await?;
    origin.script("GET", "/guarded/1", Answer::empty(StatusCode::SERVICE_UNAVAILABLE));
    let (start, mut asking) = (Instant::now(), JoinSet::new());
    for _ in 0..CLIENTS {
        let client = gateway.envoy.client();
        asking.spawn(async move { client.get("/guarded/1").await });
    }
    let mut refused = 0;
    while let Some(answer) = asking.join_next().await {
        let answer = answer.expect("no client panics")?;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        if answer.header("cache-status").contains("protect-origin") {
            assert_eq!(answer.header("retry-after"), "1");
            refused += 1;
        }
    }
    let asked = usize::try_from(origin.requests("GET", "/guarded/1")).expect("so many");
    assert_eq!(refused + asked, CLIENTS, "who isn't refused has asked");
    // Two failures of a key close it for a second, in each of two workers.
    let seconds = usize::try_from(start.elapsed().as_secs()).expect("so many") + 1;
    assert!(asked <= 2 * 2 * seconds, "the origin was asked {asked} times in {seconds} s");
    origin.script("GET", "/guarded/1", Answer::json(StatusCode::OK, &json!({ "is": "back" })));
    for worker in [0, 1] {
        gateway.until(worker, "/guarded/1", SOON, |answer| answer.status == 200).await?;
    }
    Ok(())
}

/// How many requests the origin had under way at once, at most.
fn at_once(heard: &[Heard]) -> usize {
    let under_way =
        |at: Instant| heard.iter().filter(|one| one.at <= at && one.ended.is_none_or(|ended| ended > at)).count();
    heard.iter().map(|one| under_way(one.at)).max().unwrap_or_default()
}

/// I18: a purge of everything, and an expiry of all.
#[tokio::test]
async fn when_all_is_to_be_fetched_anew_the_origin_has_as_many_fetches_at_once_as_it_may() -> Result<()> {
    const FILLS: usize = 4;
    const KEYS: usize = 60;
    let stage = Stage::set().await?;
    let mut rules = rules();
    rules["limits"] = json!({ "fills": FILLS });
    rules["bridge"]["timeout"] = "5s".into();
    rules["consistency"]["window"] = "30s".into();
    for route in [0, 1] {
        rules["routes"][route]["cache"]["lock_wait"] = "60s".into();
    }
    rules["routes"][1]["cache"]["ttl"] = "2s".into();
    let gateway = Gateway::open(&rules, stage.options()?).await?;
    gateway.settled(&Request::get("/users/999")).await?;
    let everybody = async |case: &str, path: fn(usize) -> String| {
        let before = stage.origin.heard().len();
        let mut asking = JoinSet::new();
        for key in 0..KEYS {
            let (client, path) = (gateway.envoy.client(), path(key));
            asking.spawn(async move { client.get(&path).await });
        }
        while let Some(answer) = asking.join_next().await {
            let answer = answer.expect("no client panics")?;
            assert!(answer.status == 200 || answer.status == 404, "{case}: {}", answer.status);
        }
        let heard = stage.origin.heard().split_off(before);
        assert_eq!(heard.len(), KEYS, "{case}: each key is fetched once");
        let most = at_once(&heard);
        assert!((2..=FILLS).contains(&most), "{case}: {most} fetches at once");
        Ok::<_, routecache_harness::Error>(())
    };
    let listed: fn(usize) -> String = |key| format!("/users/1/orders?page={key}");
    everybody("cold", listed).await?;
    let purge = Request::post("/v1/purge", &json!({ "namespace": "shop:v1", "everything": true }));
    assert_eq!(Client::new(stage.bridge.address()).send(purge).await?.status, 200);
    sleep(Duration::from_secs(1)).await;
    everybody("purged", listed).await?;
    sleep(Duration::from_millis(2200)).await;
    everybody("expired", listed).await
}
