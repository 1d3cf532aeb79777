//! Bridges replaced one after the other while clients read and write: nothing fails, nothing stale is read, and no purge is lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use e2e::soak::Ledger;
use routecache_harness::{Bridge, Client, Envoy, Origin, Redis, Request, Result};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::stage::{Gateway, WINDOW, options, rules};

/// Each is written by one client, so that its versions follow each other.
const USERS: [u64; 3] = [1, 2, 12];

/// Connections that read through each gateway.
const READERS: usize = 3;

/// What clients see, and what must come of it.
struct Load {
    gateways: [SocketAddr; 2],
    ledger: Ledger,
    over: AtomicBool,
    hits: AtomicU64,
    /// Writes that were released before the group had heard their purge.
    pending: AtomicU64,
    purged: AtomicU64,
    /// The last version that was written of each user.
    newest: [AtomicU64; USERS.len()],
    /// Answers other than 200, and none at all.
    failed: std::sync::Mutex<Vec<String>>,
}

impl Load {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn failed(&self, what: String) {
        self.failed.lock().expect("nobody panics").push(what);
    }
}

async fn read(load: Arc<Load>, gateway: usize, reader: usize) -> Result<()> {
    let mut connection = Client::new(load.gateways[gateway]).connect().await?;
    let mut turn = reader;
    while !load.is_over() {
        let user = USERS[turn % USERS.len()];
        turn += 1;
        let began = Instant::now();
        let answer = connection.get(&format!("/users/{user}")).await?;
        if answer.cache_status().hit {
            load.hits.fetch_add(1, Ordering::Relaxed);
        }
        match answer.json()["version"].as_u64().filter(|_| answer.status == 200) {
            Some(version) => load.ledger.read(user, gateway, version, began, &answer.header("cache-status")),
            None => load.failed(format!("GET /users/{user}: {}", answer.status)),
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn write(load: Arc<Load>, number: usize) -> Result<()> {
    let mut connections =
        [Client::new(load.gateways[0]).connect().await?, Client::new(load.gateways[1]).connect().await?];
    let user = USERS[number];
    let mut turn = 0;
    while !load.is_over() {
        turn += 1;
        let gateway = turn % connections.len();
        let answer =
            connections[gateway].send(Request::put(format!("/users/{user}"), &json!({ "name": "new" }))).await?;
        let version = answer.json()["version"].as_u64().filter(|_| answer.status == 200);
        load.newest[number].store(version.unwrap_or_default(), Ordering::Relaxed);
        match version {
            Some(version) if answer.cache_status().detail.as_deref() == Some("purged") => {
                load.purged.fetch_add(1, Ordering::Relaxed);
                load.ledger.acknowledged(user, gateway, version, Instant::now());
            }
            Some(_) => drop(load.pending.fetch_add(1, Ordering::Relaxed)),
            None => load.failed(format!("PUT /users/{user}: {}", answer.status)),
        }
        sleep(Duration::from_millis(20 + user)).await;
    }
    Ok(())
}

/// Each gateway tells of what was written last, whether its purge was acknowledged or still pending then.
async fn nothing_is_lost(gateways: &[Gateway; 2], load: &Load) -> Result<()> {
    let began = Instant::now();
    for (user, newest) in USERS.iter().zip(&load.newest) {
        for gateway in gateways {
            while gateway.envoy.get(&format!("/users/{user}")).await?.json()["version"]
                != newest.load(Ordering::Relaxed)
            {
                assert!(began.elapsed() < WINDOW * 10, "user {user}: a gateway never heard of {newest:?}");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    let report = load.ledger.report();
    assert!(report.stale.is_empty(), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_bridges_under_load_fails_no_request_and_loses_no_purge() -> Result<()> {
    let origin = Origin::start().await?;
    origin.set_read_time(Duration::from_millis(3));
    let redis = Redis::start().await?;
    let mut bridges = [Bridge::start(redis.url()).await?, Bridge::start(redis.url()).await?];
    let open = async |bridge: &Bridge| {
        let options =
            routecache_config::render::EnvoyOptions { bridge: Some(bridge.address().into()), ..options(&origin)? };
        let gateway = Gateway::open(&rules(), options).await?;
        gateway.settled(&Request::get("/users/999")).await?;
        Ok::<_, routecache_harness::Error>(gateway)
    };
    let gateways = [open(&bridges[0]).await?, open(&bridges[1]).await?];
    let address = |gateway: &Gateway| -> SocketAddr { Envoy::address(&gateway.envoy) };
    let load = Arc::new(Load {
        gateways: [address(&gateways[0]), address(&gateways[1])],
        ledger: Ledger::new(WINDOW),
        over: AtomicBool::new(false),
        hits: AtomicU64::new(0),
        pending: AtomicU64::new(0),
        purged: AtomicU64::new(0),
        newest: Default::default(),
        failed: std::sync::Mutex::default(),
    });
    let mut clients = JoinSet::new();
    for gateway in 0..gateways.len() {
        (0..READERS).for_each(|reader| drop(clients.spawn(read(Arc::clone(&load), gateway, reader))));
    }
    (0..USERS.len()).for_each(|number| drop(clients.spawn(write(Arc::clone(&load), number))));
    for turn in 0..4 {
        sleep(WINDOW / 2).await;
        let bridge = &mut bridges[turn % 2];
        assert!(bridge.stop().await, "it drains, and ends by itself: {}", bridge.log());
        bridge.restart().await?;
    }
    sleep(WINDOW / 2).await;
    load.over.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.expect("no client panics")?; // an error is a connection that a gateway broke
    }
    let failed = std::mem::take(&mut *load.failed.lock().expect("nobody panics"));
    assert!(failed.is_empty(), "{failed:?}");
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert!(count(&load.hits) > 100, "the cache is at work between restarts: {} hits", count(&load.hits));
    assert!(count(&load.purged) > 50, "and purges are acknowledged: {}", count(&load.purged));
    nothing_is_lost(&gateways, &load).await?;
    println!(
        "{} purges acknowledged, {} pending at release, {} hits",
        count(&load.purged),
        count(&load.pending),
        count(&load.hits)
    );
    Ok(())
}
