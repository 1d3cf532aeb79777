//! Real processes under faults: two Envoys with two workers each, two bridges on a Redis Cluster of six. Readers and writers go
//! on at full speed while bridges are killed, masters die, keys are evicted or refused and gateways are replaced or take other
//! rules; no read may tell of a version older than what was acknowledged a window before.
//!
//! In reading order: [`Soak::run`] sets the stage and begins; `break_things` is what fails; `ledger` knows which version a
//! read must have, and how long purges took.

mod ledger;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use routecache_config::render::{self, EnvoyOptions};
use routecache_harness::{
    Bridge, Client, Connection, Envoy, EnvoyConfig, Origin, RedisCluster, Request, Result, filter,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

pub use ledger::{FAULTS, Ledger, Report};

/// The users of the harness's API.
const USERS: [u64; 3] = [1, 2, 12];

const GATEWAYS: usize = 2;

/// Connections that read through each gateway; the system spreads them over its workers.
const READERS: usize = 4;

/// The consistency window.
pub const WINDOW: Duration = Duration::from_secs(1);

/// What a soak is.
#[derive(Clone, Copy, Debug)]
pub struct Soak {
    /// How long it goes on, or as long as it takes until everything has failed once.
    pub time: Duration,
    /// How long everything works between two faults.
    pub pause: Duration,
}

struct Shared {
    /// Where the gateways are; none while one is being replaced.
    gateways: RwLock<[Option<SocketAddr>; GATEWAYS]>,
    ledger: Ledger,
    over: AtomicBool,
    reads: AtomicU64,
    hits: AtomicU64,
    writes: AtomicU64,
    pending: AtomicU64,
    /// Answers that weren't 200 although their gateway was there.
    failed: AtomicU64,
}

impl Shared {
    fn gateway(&self, number: usize) -> Option<SocketAddr> {
        self.gateways.read().unwrap_or_else(PoisonError::into_inner)[number]
    }

    fn set_gateway(&self, number: usize, address: Option<SocketAddr>) {
        self.gateways.write().unwrap_or_else(PoisonError::into_inner)[number] = address;
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The rules, where entries live so many minutes.
fn rules(minutes: u64) -> Value {
    json!({
        "version": 1,
        "namespace": { "prefix": "soak", "version": "v1" },
        "bridge": { "cluster": "bridge", "timeout": "50ms" },
        "consistency": { "window": format!("{}s", WINDOW.as_secs()) },
        "routes": [
            { "name": "user", "match": { "path": "/users/{id}" }, "cache": { "key": "user:{id}", "ttl": format!("{minutes}m") } },
            { "name": "write", "match": { "path": "/users/{id}" }, "purge": { "tags": ["user:{id}"] } }
        ]
    })
}

/// A gateway, and how it can be told other rules.
struct Gateway {
    envoy: Envoy,
    options: EnvoyOptions,
}

impl Gateway {
    async fn start(origin: &Origin, bridge: &Bridge) -> Result<Self> {
        let (upstream, bridge) = (origin.address().into(), Some(bridge.address().into()));
        let wasm = filter()?.display().to_string();
        let mut options = EnvoyOptions { upstream, wasm, bridge, ..EnvoyOptions::default() };
        let mut config = EnvoyConfig::new(|listen, admin| {
            (options.listen, options.admin) = (listen, Some(admin));
            render::envoy(&rules(60), &options)
        })?;
        config.reloads = true;
        Ok(Self { envoy: Envoy::start(config).await?, options })
    }

    async fn reload(&self, minutes: u64) -> Result<()> {
        self.envoy.reload(&render::envoy(&rules(minutes), &self.options)).await
    }
}

/// What is broken.
struct Stage {
    origin: Origin,
    redis: RedisCluster,
    bridges: [Bridge; GATEWAYS],
    gateways: Vec<Gateway>,
}

impl Soak {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// When something can't be started.
    pub async fn run(self) -> Result<Report> {
        let origin = Origin::start().await?;
        origin.set_read_time(Duration::from_millis(3));
        let redis = RedisCluster::start().await?;
        let bridges = [Bridge::start(redis.url()).await?, Bridge::start(redis.url()).await?];
        let mut gateways = Vec::new();
        for bridge in &bridges {
            gateways.push(Gateway::start(&origin, bridge).await?);
        }
        let mut stage = Stage { origin, redis, bridges, gateways };
        let addresses = [0, 1].map(|number: usize| stage.gateways.get(number).map(|gateway| gateway.envoy.address()));
        let shared = Arc::new(Shared {
            gateways: RwLock::new(addresses),
            ledger: Ledger::new(WINDOW),
            over: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let mut clients = JoinSet::new();
        for number in 0..GATEWAYS {
            for reader in 0..READERS {
                clients.spawn(read(Arc::clone(&shared), number, reader));
            }
        }
        for user in USERS {
            clients.spawn(write(Arc::clone(&shared), user));
        }
        let start = Instant::now();
        let mut faults = [0; FAULTS.len()];
        for (number, kind) in (0..FAULTS.len()).cycle().enumerate() {
            if start.elapsed() >= self.time && number >= FAULTS.len() {
                break;
            }
            sleep(self.pause).await;
            stage.break_something(kind, number / FAULTS.len(), &shared).await?;
            faults[kind] += 1;
        }
        shared.over.store(true, Ordering::Relaxed);
        while clients.join_next().await.is_some() {}
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut report = shared.ledger.report();
        (report.reads, report.hits) = (get(&shared.reads), get(&shared.hits));
        (report.writes, report.pending) = (get(&shared.writes), get(&shared.pending));
        (report.failed, report.faults) = (get(&shared.failed), faults);
        for gateway in stage.gateways {
            gateway.envoy.stop().await;
        }
        Ok(report)
    }
}

impl Stage {
    /// One of [`FAULTS`], for the how manieth time.
    async fn break_something(&mut self, kind: usize, round: usize, shared: &Shared) -> Result<()> {
        let Self { origin, redis, bridges, gateways } = self;
        let one = round % GATEWAYS;
        match kind {
            0 => {
                bridges[one].kill().await;
                sleep(Duration::from_millis(1500)).await;
                bridges[one].restart().await?;
            }
            // The one with the group's log, then others.
            1 => redis.fail_over(["routecache:{soak:v1}:log", "entries-1", "entries-2"][round % 3]).await?,
            2 => evict(redis, 40).await,
            3 => {
                bridges[one].hold();
                sleep(Duration::from_millis(700)).await;
                bridges[one].release();
            }
            // New keys are refused and deletes aren't, or everything is thrown out at once; then as before.
            4 => {
                tell(redis, &format!("CONFIG SET maxmemory-policy {}", ["noeviction", "allkeys-lru"][one])).await;
                tell(redis, "CONFIG SET maxmemory 1").await;
                sleep(Duration::from_millis(1500)).await;
                tell(redis, "CONFIG SET maxmemory 0").await;
            }
            5 => gateways[one].reload(61 + u64::try_from(round).unwrap_or_default()).await?,
            _ => {
                shared.set_gateway(one, None);
                let fresh = Gateway::start(origin, &bridges[one]).await?;
                let (address, old) = (fresh.envoy.address(), std::mem::replace(&mut gateways[one], fresh));
                old.envoy.stop().await;
                shared.set_gateway(one, Some(address));
            }
        }
        Ok(())
    }
}

/// Deletes keys at random, as an eviction does.
async fn evict(redis: &RedisCluster, count: usize) {
    for _ in 0..count {
        tell(redis, "EVAL \"local key = redis.call('randomkey') if key then redis.call('del', key) end\" 0").await;
        sleep(Duration::from_millis(20)).await;
    }
}

/// Tells every node; those that refuse are replicas.
async fn tell(redis: &RedisCluster, command: &str) {
    for node in redis.nodes() {
        let _ = node.tell(command).await;
    }
}

/// A connection to a gateway, once it is there.
async fn connect(shared: &Shared, number: usize) -> Option<(SocketAddr, Connection)> {
    while !shared.is_over() {
        if let Some(address) = shared.gateway(number)
            && let Ok(connection) = Client::new(address).connect().await
        {
            return Some((address, connection));
        }
        sleep(Duration::from_millis(20)).await;
    }
    None
}

async fn read(shared: Arc<Shared>, gateway: usize, reader: usize) {
    let mut turn = reader;
    while let Some((address, mut connection)) = connect(&shared, gateway).await {
        while !shared.is_over() {
            let user = USERS[turn % USERS.len()];
            turn += 1;
            let began = Instant::now();
            let answer = connection.get(&format!("/users/{user}")).await;
            let here = shared.gateway(gateway) == Some(address);
            let Ok(answer) = answer else {
                if here {
                    Shared::count(&shared.failed);
                }
                break;
            };
            Shared::count(&shared.reads);
            if answer.cache_status().hit {
                Shared::count(&shared.hits);
            }
            match answer.json()["version"].as_u64().filter(|_| answer.status == 200) {
                Some(version) => {
                    let told = answer.header("cache-status");
                    shared.ledger.read(user, gateway, version, began, &told);
                }
                None if here => Shared::count(&shared.failed),
                None => {}
            }
            if !here || answer.header("connection") == "close" {
                break;
            }
        }
    }
}

async fn write(shared: Arc<Shared>, user: u64) {
    let mut turn = 0;
    while !shared.is_over() {
        turn += 1;
        let gateway = turn % GATEWAYS;
        let Some((_, mut connection)) = connect(&shared, gateway).await else { return };
        let answer = connection.send(Request::put(format!("/users/{user}"), &json!({ "name": "new" }))).await;
        if let Ok(answer) = answer
            && answer.status == 200
            && let Some(version) = answer.json()["version"].as_u64()
        {
            Shared::count(&shared.writes);
            match answer.cache_status().detail.as_deref() {
                Some("purged") => shared.ledger.acknowledged(user, gateway, version, Instant::now()),
                _ => Shared::count(&shared.pending),
            }
        }
        sleep(Duration::from_millis(30 + user)).await;
    }
}
