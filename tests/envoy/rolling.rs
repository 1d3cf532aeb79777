//! Bridges and filters replaced one after the other while clients read and write: nothing fails, nothing stale is read, and no
//! purge is lost.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use e2e::soak::Ledger;
use routecache_config::render::EnvoyOptions;
use routecache_core::entry::{Entry, Freshness, Parts, Ticket};
use routecache_harness::{Bridge, Client, Origin, Redis, Request, Result, filter};
use serde_json::{Value, json};
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

/// Opens a gateway with this filter in front of a bridge.
async fn open(rules: &Value, origin: &Origin, bridge: &Bridge, wasm: &Path) -> Result<Gateway> {
    let (bridge, wasm) = (Some(bridge.address().into()), wasm.display().to_string());
    let gateway = Gateway::open(rules, EnvoyOptions { bridge, wasm, ..options(origin)? }).await?;
    gateway.settled(&Request::get("/users/999")).await?;
    Ok(gateway)
}

/// Clients read and write through both gateways while this goes on: no request fails, nothing stale is read, no purge is lost.
async fn under_load(gateways: &[Gateway; 2], meanwhile: impl Future<Output = Result<()>>) -> Result<()> {
    let load = Arc::new(Load {
        gateways: [gateways[0].envoy.address(), gateways[1].envoy.address()],
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
    meanwhile.await?;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let began = Instant::now();
    while (count(&load.hits) <= 100 || count(&load.purged) <= 50) && began.elapsed() < Duration::from_secs(30) {
        sleep(Duration::from_millis(20)).await; // a busy machine takes longer
    }
    load.over.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.expect("no client panics")?; // an error is a connection that a gateway broke
    }
    let failed = std::mem::take(&mut *load.failed.lock().expect("nobody panics"));
    assert!(failed.is_empty(), "{failed:?}");
    assert!(count(&load.hits) > 100, "the cache is at work: {} hits", count(&load.hits));
    assert!(count(&load.purged) > 50, "and purges are acknowledged: {}", count(&load.purged));
    nothing_is_lost(gateways, &load).await?;
    println!(
        "{} purges acknowledged, {} pending at release, {} hits",
        count(&load.purged),
        count(&load.pending),
        count(&load.hits)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_bridges_under_load_fails_no_request_and_loses_no_purge() -> Result<()> {
    let origin = Origin::start().await?;
    origin.set_read_time(Duration::from_millis(3));
    let redis = Redis::start().await?;
    let mut bridges = [Bridge::start(redis.url()).await?, Bridge::start(redis.url()).await?];
    let (filter, rules) = (filter()?, rules());
    let open = |bridge| open(&rules, &origin, bridge, &filter);
    let gateways = [open(&bridges[0]).await?, open(&bridges[1]).await?];
    under_load(&gateways, async {
        for turn in 0..4 {
            sleep(WINDOW / 2).await;
            let bridge = &mut bridges[turn % 2];
            assert!(bridge.stop().await, "it drains, and ends by itself: {}", bridge.log());
            bridge.restart().await?;
        }
        sleep(WINDOW / 2).await;
        Ok(())
    })
    .await
}

/// The filter as it will be when entries are written in another format: where it has the mark of today's, in its data or as the
/// number that these four bytes are, it has another.
fn of_another_format(filter: &Path) -> Vec<u8> {
    let (freshness, ticket) = (Freshness::default(), Ticket { era: 0, position: 0 });
    let (key, tags, header, body) = ("", &[][..], &[][..], &[][..]);
    let any = Parts { ticket, received_ms: 0, freshness, fingerprint: 0, status: 200, key, tags, header, body };
    let any = Entry::new(&any).expect("an entry");
    let today: [u8; 4] = *any.bytes().first_chunk().expect("a mark");
    let mark = [today, [today[0], today[1], today[2], b'~']];
    let number = |mark: [u8; 4]| {
        let number = u32::from_le_bytes(mark); // its highest bits are 0: signed and unsigned are written the same
        let seven_bits = |at: u32| (number >> (7 * at)).to_le_bytes()[0] & 0x7f;
        (0..5).map(|at| seven_bits(at) | if at < 4 { 0x80 } else { 0 }).collect::<Vec<u8>>()
    };
    let mut wasm = fs::read(filter).expect("the filter");
    let forms = [mark.map(|mark| mark.to_vec()), mark.map(number)];
    for [today, another] in forms {
        while let Some(at) = wasm.windows(today.len()).position(|bytes| bytes == today) {
            wasm[at..at + another.len()].copy_from_slice(&another);
        }
    }
    wasm
}

/// I29. A filter that writes another format takes its turn in a gateway after the other: neither reads what the other stored, and
/// each hears of the other's purges.
#[tokio::test(flavor = "multi_thread")]
async fn filters_of_two_formats_share_a_redis_and_purge_for_each_other() -> Result<()> {
    let origin = Origin::start().await?;
    origin.set_read_time(Duration::from_millis(3));
    let redis = Redis::start().await?;
    let bridge = Bridge::start(redis.url()).await?;
    let folder = tempfile::tempdir().expect("a folder");
    let another = folder.path().join("another.wasm");
    fs::write(&another, of_another_format(&filter()?)).expect("a file");
    let mut rules = rules();
    rules["bridge"]["timeout"] = json!("10s"); // so that a slow machine stores what it fetched
    let open = async |wasm: &Path| open(&rules, &origin, &bridge, wasm).await;
    let mut gateways = [open(&filter()?).await?, open(&another).await?];
    let count = "EVAL \"return #redis.call('KEYS', 'routecache:*:entry:*')\" 0";
    for (first, user) in [(0, 1), (1, 2)] {
        let (before, began) = (redis.tell(count).await?, Instant::now());
        let mut page = 0;
        // On a slow machine a gateway may be cut off for a moment, and keep what it fetches to itself.
        while redis.tell(count).await? == before {
            assert!(began.elapsed() < Duration::from_secs(30), "nothing comes into the group");
            page += 1;
            gateways[first].get(0, &format!("/users/{user}/orders?page={page}")).await?;
            let asked = Instant::now();
            while redis.tell(count).await? == before && asked.elapsed() < Duration::from_secs(1) {
                sleep(Duration::from_millis(5)).await;
            }
        }
        let answer = gateways[1 - first].get(0, &format!("/users/{user}/orders?page={page}")).await?;
        assert_eq!((answer.status.as_u16(), answer.cache_status().hit), (200, false), "what {first} stored");
    }
    under_load(&gateways, async {
        sleep(WINDOW * 3).await;
        Ok(())
    })
    .await
}
