//! Another client of the gateways' Redis writes there what it likes.

use std::time::Duration;

use bridge_api::{LOOKUP, LookupReply, LookupRequest, STORE, StoreRequest, decode, encode};
use routecache_config::render::EnvoyOptions;
use routecache_core::entry::Entry;
use routecache_core::seal::unsealed;
use routecache_harness::{Bridge, Client, Error, Redis, Request, Result};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::stage::{Gateway, Stage, rules};

const SECRET: &str = "5ea1ed005ea1ed005ea1ed005ea1ed005ea1ed005ea1ed005ea1ed005ea1ed00";

/// What is read, and what its key holds.
const PATHS: [(&str, &str); 4] = [
    ("/users/1", " user:1 "),
    ("/users/2", " user:2 "),
    ("/users/12", " user:12 "),
    ("/users/1/orders", " user:1:orders:"),
];

/// Somebody with a bridge of their own, which is any program that knows how entries are written.
struct Stranger {
    bridge: Bridge,
    redis: Redis,
}

impl Stranger {
    /// What stands beside the entry in Redis in whose key this is, as soon as it is there.
    async fn finds(&self, part: &str) -> Result<StoreRequest> {
        /// The heads of all entries, one a line.
        const HEADS: &str = "EVAL \"local heads = {} for _, name in ipairs(redis.call('KEYS', 'routecache:*:entry:*')) do \
                             local value = redis.call('GET', name) heads[#heads + 1] = value:sub(10):match('^(.-)' .. string.char(10)) end \
                             return table.concat(heads, string.char(10))\" 0";
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            for head in self.redis.tell(HEADS).await?.lines() {
                let mut head: Value = serde_json::from_str(head).unwrap_or_default();
                if head["key"].as_str().is_some_and(|key| key.contains(part)) {
                    head["namespace"] = json!("shop:v1");
                    return serde_json::from_value(head).map_err(|error| Error::Unexpected(error.to_string()));
                }
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err(Error::Unexpected(format!("Redis has no entry of `{part}` after 10 s")))
    }

    async fn reads(&self, found: &StoreRequest) -> Result<Vec<u8>> {
        let (namespace, key, tags) = (found.namespace.clone(), found.key.clone(), found.tags.clone());
        let asked = encode(&LookupRequest { namespace, key, tags, ..LookupRequest::default() }, b"");
        let answer = self.client().send(Request::post(LOOKUP, &Value::Null).body(asked)).await?;
        let read = decode::<LookupReply>(&answer.body).map_err(|error| Error::Unexpected(error.to_string()))?;
        Ok(read.1.to_vec())
    }

    async fn writes(&self, place: &StoreRequest, payload: &[u8]) -> Result<()> {
        let answer = self.client().send(Request::post(STORE, &Value::Null).body(encode(place, payload))).await?;
        assert!(answer.text().contains("stored"), "{}", answer.text());
        Ok(())
    }

    fn client(&self) -> Client {
        Client::new(self.bridge.address())
    }
}

/// The entry with another body, and all its checksums right.
fn forged(entry: &[u8]) -> Vec<u8> {
    let entry = Entry::decode(entry.to_vec()).expect("an entry");
    entry.with_body(br#"{"name":"forged"}"#).expect("an entry").bytes().to_vec()
}

/// A40. The first round shows that the stranger knows how to.
#[tokio::test]
async fn what_another_client_of_the_redis_writes_is_served_by_no_gateway_that_seals() -> Result<()> {
    for seals in [false, true] {
        let Stage { origin, redis, bridge } = Stage::set().await?;
        let stranger = Stranger { bridge: Bridge::start(redis.url()).await?, redis };
        let mut rules = rules();
        rules["bridge"]["timeout"] = json!("10s"); // what counts is who is believed, however slow the machine
        rules["consistency"]["window"] = json!("60s");
        if seals {
            rules["bridge"]["seal"] = json!({ "env": ["SEAL"] });
        }
        let mut gateways = Vec::new();
        for _ in 0..2 {
            let environment = vec![("SEAL".to_owned(), SECRET.to_owned())];
            let options = super::stage::options(&origin)?;
            let options = EnvoyOptions { bridge: Some(bridge.address().into()), environment, ..options };
            let gateway = Gateway::open(&rules, options).await?;
            gateway.settled(&Request::get("/users/999")).await?;
            gateways.push(gateway);
        }
        let (Some(mut two), Some(mut one)) = (gateways.pop(), gateways.pop()) else { unreachable!("there are two") };
        let mut genuine = Vec::new();
        let mut found = Vec::new();
        for (path, part) in PATHS {
            let answer = one.get(0, path).await?;
            assert!(answer.cache_status().stored, "{path}: {}", answer.header("cache-status"));
            genuine.push(answer.json());
            found.push(stranger.finds(part).await?);
        }
        let [shared, changed, bared, swapped] = &found[..] else { unreachable!("there are four") };

        // Nobody touches the first; the second gets another body, the third loses its seal too, the fourth gets the first's bytes.
        let sealed = stranger.reads(changed).await?;
        let (entry, _) = unsealed(&sealed);
        let seal = &sealed[..sealed.len() - entry.len()];
        stranger.writes(changed, &[seal, &forged(entry)].concat()).await?;
        let sealed = stranger.reads(bared).await?;
        stranger.writes(bared, &forged(unsealed(&sealed).0)).await?;
        stranger.writes(swapped, &stranger.reads(shared).await?).await?;

        // Another key's bytes are believed by nobody: an entry names its own.
        let (genuine_hit, refused) = ((true, false), (false, false));
        let forgery = if seals { refused } else { (true, true) };
        let wanted = [genuine_hit, forgery, forgery, refused];
        for (((path, _), genuine), wanted) in PATHS.iter().zip(&genuine).zip(wanted) {
            let answer = two.get(0, path).await?;
            let forged = answer.json()["name"] == "forged";
            assert_eq!((answer.cache_status().hit, forged), wanted, "{path}: {}", answer.header("cache-status"));
            assert!(forged || answer.status == 200 && answer.json() == *genuine, "{path}: {}", answer.text());
        }
        if seals {
            assert_eq!(two.envoy.stat("wasmcustom.routecache_seals_broken").await?, 2);
            assert_eq!(two.envoy.stat("wasmcustom.routecache_seals_missing").await?, 1);
            assert!(two.envoy.log().contains("it counts as a miss"));
        }
        for gateway in [&one, &two] {
            assert!(!gateway.envoy.log().contains(SECRET));
        }
    }
    Ok(())
}

/// A gateway that is to seal never goes on unsealed.
#[tokio::test]
async fn an_envoy_without_the_secret_refuses_the_rules_and_says_what_to_set() -> Result<()> {
    let stage = Stage::set().await?;
    let mut rules = rules();
    rules["bridge"]["seal"] = json!({ "env": ["SEAL_THAT_NOBODY_SETS"] });
    let Err(error) = Gateway::open(&rules, stage.options()?).await else { panic!("it started") };
    let error = error.to_string();
    assert!(error.contains("SEAL_THAT_NOBODY_SETS") && error.contains("openssl rand -hex 32"), "{error}");
    Ok(())
}
