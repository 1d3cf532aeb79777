//! Real servers that end with the test, and both stores behind one set of words.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bridge_api::{
    FeedRequest, Holder, Lease, LeaseRequest, Listener, LookupReply, LookupRequest, Pattern, Position, PurgeReply,
    PurgeRequest, ReleaseReply, ReleaseRequest, StoreReply, StoreRequest, Ticket,
};
use bytes::Bytes;
use redis::{Commands, Connection};
use routecache_bridge::mem::Memory;
use routecache_bridge::{MemStore, Reading, RedisStore, Store, StoreTls, StoreUrl};
use routecache_harness::Port;
use tempfile::TempDir;

/// Each test twice, in a module per store.
macro_rules! on_both_stores {
    ($($(#[$doc:meta])* async fn $name:ident($rig:ident: Rig) $body:block)+) => {
        mod in_memory {
            use super::*;
            $($(#[$doc])* #[tokio::test] async fn $name() { super::$name(Rig::mem()).await })+
        }
        mod in_redis {
            use super::*;
            $($(#[$doc])* #[tokio::test] async fn $name() { super::$name(Rig::redis()).await })+
        }
        $(async fn $name($rig: Rig) $body)+
    };
}

pub const NAMESPACE: &str = "shop:v1";
pub const HOUR: u64 = 3_600_000;
/// How long gateways of the tests trust what they hold, in milliseconds: more than a busy machine takes between two steps.
pub const WINDOW: u64 = 1500;
const MEM_BYTES: usize = 64 << 20;

/// A `redis-server` of this test's own, on a port of loopback that is its own too, keeping nothing on disk.
pub struct RedisServer {
    child: Child,
    pub port: u16,
    folder: TempDir,
    program: Vec<OsString>,
    settings: Vec<String>,
    _claims: Vec<Port>,
}

impl RedisServer {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more settings, as words of its command line.
    pub fn start_with(settings: &[&str]) -> Self {
        Self::start_on(Port::claim().unwrap(), vec![], vec![redis_program()], owned(settings))
    }

    /// Another server than that of the tests, as the first words of its command line.
    pub fn start_by(program: Vec<OsString>) -> Self {
        Self::start_on(Port::claim().unwrap(), vec![], program, vec![])
    }

    /// A node of a cluster, with more settings.
    pub fn start_in_cluster(settings: &[&str]) -> Self {
        let bus = Port::claim().unwrap();
        let own = ["--cluster-enabled", "yes", "--cluster-port", &bus.number().to_string()].map(str::to_owned);
        let settings = own.into_iter().chain(owned(settings)).collect();
        Self::start_on(Port::claim().unwrap(), vec![bus], vec![redis_program()], settings)
    }

    fn start_on(claim: Port, mut claims: Vec<Port>, program: Vec<OsString>, settings: Vec<String>) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), claim.number());
        claims.push(claim);
        let child = spawn_redis(&program, port, &folder, &settings);
        let server = Self { child, port, folder, program, settings, _claims: claims };
        server.wait();
        server
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection beside the bridge's, for what an operator or a disaster would do.
    pub fn connect(&self) -> Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, empty.
    pub fn revive(&mut self) {
        self.child = spawn_redis(&self.program, self.port, &self.folder, &self.settings);
        self.wait();
    }

    fn wait(&self) {
        let client = redis::Client::open(self.url()).unwrap();
        let ping = |mut connection: Connection| redis::cmd("PING").query::<String>(&mut connection);
        within(Duration::from_secs(10), || client.get_connection().and_then(ping).is_ok());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server that `cargo xtask` found, or a Valkey or another Redis that was named.
pub fn redis_program() -> OsString {
    std::env::var_os("ROUTECACHE_REDIS").unwrap_or_else(|| "redis-server".into())
}

fn spawn_redis(program: &[OsString], port: u16, folder: &TempDir, settings: &[String]) -> Child {
    Command::new(&program[0])
        .args(&program[1..])
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()])
        .args(settings)
        .current_dir(folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("these tests need a Redis server on the PATH, or one that ROUTECACHE_REDIS names")
}

pub fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// What `cargo xtask test` puts into `target/stores` where it can be had, and names in `ROUTECACHE_STORES` if it got it: then it is
/// there. Where it isn't, a test of it is left out, and says so.
pub fn got(name: &str) -> Option<PathBuf> {
    let exe = std::env::current_exe().unwrap();
    let target = exe.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists()).expect("cargo's target folder");
    let found = target.join("stores").join(name);
    if !found.exists() {
        let promised = std::env::var("ROUTECACHE_STORES").unwrap_or_default();
        assert!(!promised.split(',').any(|store| store == name), "{} was promised and isn't there", found.display());
        println!("left out: {} isn't there; `cargo xtask test` gets it", found.display());
        return None;
    }
    Some(found)
}

/// Waits until it holds, for something that happens in another process.
pub fn within(limit: Duration, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < limit, "hasn't happened within {limit:?}");
        sleep(Duration::from_millis(5));
    }
}

/// A way to a Redis, or to the next one, on which connections can go silent without ending, as behind a firewall that forgot
/// them.
pub struct Way {
    pub port: u16,
    redis: Arc<AtomicU16>,
    /// Connections numbered below this pass nothing on.
    silent: Arc<AtomicUsize>,
    taken: Arc<AtomicUsize>,
}

impl Way {
    pub fn to(redis: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let way = Self { port, redis: Arc::new(redis.into()), silent: Arc::default(), taken: Arc::default() };
        let (redis, silent, taken) = (Arc::clone(&way.redis), Arc::clone(&way.silent), Arc::clone(&way.taken));
        std::thread::spawn(move || {
            for here in listener.incoming().flatten() {
                let number = taken.fetch_add(1, Ordering::SeqCst);
                let redis = redis.load(Ordering::SeqCst);
                let Ok(there) = TcpStream::connect(("127.0.0.1", redis)) else { continue };
                for (mut from, mut to) in [(here.try_clone().unwrap(), there.try_clone().unwrap()), (there, here)] {
                    let silent = Arc::clone(&silent);
                    std::thread::spawn(move || {
                        let mut bytes = [0; 4096];
                        while let Ok(count @ 1..) = from.read(&mut bytes) {
                            if number >= silent.load(Ordering::SeqCst) && to.write_all(&bytes[..count]).is_err() {
                                break;
                            }
                        }
                    });
                }
            }
        });
        way
    }

    /// From the next connection on.
    pub fn lead_to(&self, redis: u16) {
        self.redis.store(redis, Ordering::SeqCst);
    }

    pub fn silence(&self) {
        self.silent.store(self.taken.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

/// A gateway of this name, which trusts what it holds for [`WINDOW`].
pub fn listener(name: u64) -> Listener {
    Listener { name: Holder(name), window_ms: WINDOW }
}

/// A bridge as a process, ended with the test.
pub struct BridgeProcess {
    pub child: Child,
    pub address: SocketAddr,
    folder: TempDir,
}

impl BridgeProcess {
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    pub fn start_with(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port_file = folder.path().join("port");
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_routecache-bridge"))
            .args(["--listen", "127.0.0.1:0", "--port-file"])
            .arg(&port_file)
            .args(arguments)
            .env_remove("CACHE_URL")
            .env_remove("REDIS_URL")
            .envs(variables.iter().copied())
            .stderr(log)
            .spawn()
            .unwrap();
        let port = || std::fs::read_to_string(&port_file).ok()?.strip_suffix('\n')?.parse::<u16>().ok();
        within(Duration::from_secs(10), || port().is_some());
        Self { child, address: ([127, 0, 0, 1], port().unwrap()).into(), folder }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for BridgeProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A store at this address.
pub fn redis_store(url: &str, within: Duration) -> RedisStore {
    let StoreUrl::Redis(address) = StoreUrl::parse(url).unwrap() else { panic!("{url}") };
    RedisStore::new(&address, &StoreTls::default(), within).unwrap()
}

/// A store under test, and what may befall it.
pub struct Rig {
    pub store: Arc<dyn Store>,
    kind: Kind,
    namespace: String,
}

enum Kind {
    Mem { memory: Arc<Mutex<Memory>>, now_ms: Arc<AtomicU64> },
    Redis { connection: Mutex<Connection>, _server: Arc<RedisServer> },
}

/// What a replica had when it last heard from its master.
pub enum Replica {
    Mem(Memory),
    Redis(Vec<(Vec<u8>, Vec<u8>, i64)>),
}

impl Rig {
    pub fn mem() -> Self {
        Self::mem_with_log(1000)
    }

    pub fn mem_with_log(records: usize) -> Self {
        let memory = Arc::new(Mutex::new(Memory::new(MEM_BYTES, 1).with_log_records_max(records)));
        let now_ms = Arc::new(AtomicU64::new(1_000_000));
        let clock = Arc::clone(&now_ms);
        let store = MemStore::with_clock(Arc::clone(&memory), move || clock.fetch_add(1, Ordering::Relaxed));
        Self { store: Arc::new(store), kind: Kind::Mem { memory, now_ms }, namespace: NAMESPACE.into() }
    }

    pub fn redis() -> Self {
        Self::redis_with_log(1000)
    }

    pub fn redis_with_log(records: usize) -> Self {
        Self::on_redis(&Arc::new(RedisServer::start()), records, NAMESPACE)
    }

    pub fn on_redis(server: &Arc<RedisServer>, records: usize, namespace: &str) -> Self {
        let store = redis_store(&server.url(), Duration::from_secs(2)).with_log_records_max(records);
        let kind = Kind::Redis { connection: Mutex::new(server.connect()), _server: Arc::clone(server) };
        Self { store: Arc::new(store), kind, namespace: namespace.into() }
    }

    pub async fn ask(&self, key: &str, tags: &[&str], known: Option<Position>) -> (LookupReply, Bytes) {
        let request = LookupRequest {
            namespace: self.namespace.clone(),
            key: key.into(),
            tags: owned(tags),
            known,
            ..LookupRequest::default()
        };
        self.store.lookup(&request).await.unwrap()
    }

    pub async fn lookup(&self, key: &str, tags: &[&str]) -> LookupReply {
        self.ask(key, tags, None).await.0
    }

    pub async fn hits(&self, key: &str, tags: &[&str]) -> bool {
        matches!(self.lookup(key, tags).await, LookupReply::Hit { .. })
    }

    /// A lookup that would fetch: what it is told of the lease if it misses.
    pub async fn compete(&self, key: &str, tags: &[&str], holder: u64, ttl_ms: u64) -> Option<Lease> {
        let lease = Some(LeaseRequest { holder: Holder(holder), ttl_ms });
        let (namespace, key, tags) = (self.namespace.clone(), key.into(), owned(tags));
        let request = LookupRequest { namespace, key, tags, known: None, lease, ..LookupRequest::default() };
        match self.store.lookup(&request).await.unwrap().0 {
            LookupReply::Miss { lease, .. } => Some(lease.expect("it was asked for")),
            LookupReply::Hit { .. } => None,
            LookupReply::Behind => panic!("nothing was lost"),
        }
    }

    pub async fn put_by(&self, holder: u64, key: &str, tags: &[&str], ticket: Ticket) -> StoreReply {
        let (namespace, key, tags, holder) = (self.namespace.clone(), key.into(), owned(tags), Some(Holder(holder)));
        let request = StoreRequest { namespace, key, tags, ticket, keep_ms: HOUR, holder };
        self.store.store(&request, Bytes::from_static(b"body")).await.unwrap()
    }

    pub async fn release(&self, key: &str, holder: u64, pass_ms: Option<u64>) -> ReleaseReply {
        let (namespace, key, holder) = (self.namespace.clone(), key.into(), Holder(holder));
        self.store.release(&ReleaseRequest { namespace, key, holder, pass_ms }).await.unwrap()
    }

    pub fn forget_lease(&self, key: &str) {
        match &self.kind {
            Kind::Mem { memory, .. } => memory.lock().unwrap().forget_lease(&self.namespace, key),
            Kind::Redis { .. } => {
                let names: Vec<String> = self.redis_do(|redis| redis.keys("routecache:lease:*"));
                names.iter().for_each(|name| self.delete(name));
            }
        }
    }

    /// The ticket of a fill that begins now.
    pub async fn ticket(&self) -> Ticket {
        match self.lookup("nothing has this key", &[]).await {
            LookupReply::Miss { ticket, .. } => ticket,
            other => panic!("{other:?}"),
        }
    }

    pub async fn put(&self, key: &str, tags: &[&str], ticket: Ticket) -> StoreReply {
        self.put_for(HOUR, key, tags, ticket, b"body").await
    }

    pub async fn put_for(&self, keep_ms: u64, key: &str, tags: &[&str], ticket: Ticket, body: &[u8]) -> StoreReply {
        let (namespace, key) = (self.namespace.clone(), key.into());
        let request = StoreRequest { namespace, key, tags: owned(tags), ticket, keep_ms, holder: None };
        self.store.store(&request, Bytes::copy_from_slice(body)).await.unwrap()
    }

    /// A whole fill, from lookup to store.
    pub async fn fill(&self, key: &str, tags: &[&str]) {
        let ticket = self.ticket().await;
        assert_eq!(self.put(key, tags, ticket).await, StoreReply::Stored);
        assert!(self.hits(key, tags).await);
    }

    pub async fn purge(&self, tags: &[&str]) -> PurgeReply {
        let request = PurgeRequest { namespace: self.namespace.clone(), tags: owned(tags), ..PurgeRequest::default() };
        self.store.purge(&request, &[]).await.unwrap()
    }

    pub async fn ban(&self, tags: &[&str], patterns: &[Pattern]) -> PurgeReply {
        let request = PurgeRequest { namespace: self.namespace.clone(), tags: owned(tags), ..PurgeRequest::default() };
        self.store.purge(&request, patterns).await.unwrap()
    }

    pub fn forget_bans(&self) {
        self.delete(&format!("routecache:{{{}}}:bans", self.namespace));
    }

    fn listeners_key(&self) -> String {
        format!("routecache:{{{}}}:gateways", self.namespace)
    }

    /// How many fields the store has for those that poll.
    pub fn listeners(&self) -> u64 {
        self.redis_do(|redis| redis.hlen(self.listeners_key()))
    }

    /// As an eviction would.
    pub fn forget_listeners(&self) {
        match &self.kind {
            // What begins anew knows nobody.
            Kind::Mem { memory, .. } => memory.lock().unwrap().forget_log(&self.namespace),
            Kind::Redis { .. } => self.delete(&self.listeners_key()),
        }
    }

    pub async fn poll(&self, cursor: Option<Position>, known: Option<Position>) -> Reading {
        let request = FeedRequest { namespace: self.namespace.clone(), cursor, known, ..FeedRequest::default() };
        self.store.read_log(&request).await.unwrap()
    }

    /// A gateway polls; it trusts what it holds for [`WINDOW`].
    pub async fn poll_as(&self, name: u64, cursor: Option<Position>) -> Reading {
        let (namespace, gateway) = (self.namespace.clone(), Some(listener(name)));
        let request = FeedRequest { namespace, cursor, gateway, ..FeedRequest::default() };
        self.store.read_log(&request).await.unwrap()
    }

    /// How long others than this gateway may yet serve what was purged.
    pub async fn unheard(&self, purged: &PurgeReply, asks: u64) -> u64 {
        self.store.unheard(&self.namespace, purged.position, Some(listener(asks))).await.unwrap()
    }

    /// The cursor of a gateway that has just begun.
    pub async fn cursor(&self) -> Position {
        self.poll(None, None).await.cursor
    }

    /// Lets time go by: at once for the store in memory.
    pub async fn pass(&self, ms: u64) {
        match &self.kind {
            Kind::Mem { now_ms, .. } => {
                now_ms.fetch_add(ms, Ordering::Relaxed);
            }
            Kind::Redis { .. } => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
    }

    /// The store's clock is set back, as far as an hour, after the last poll. Redis's own stays: what the last poll has left of
    /// the group's is what a clock would have left that was an hour ahead then, and so is when keys end.
    pub fn set_clock_back(&self) {
        match &self.kind {
            Kind::Mem { now_ms, .. } => drop(now_ms.fetch_sub(HOUR, Ordering::Relaxed)),
            Kind::Redis { connection, .. } => {
                let mut redis = connection.lock().unwrap();
                let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(&mut *redis).unwrap();
                let left = format!("{} 0", seconds * 1000 + micros / 1000 + HOUR);
                redis.set::<_, _, ()>(self.clock_key(), left).unwrap();
                for key in redis.keys::<_, Vec<String>>("routecache:*:entry:*").unwrap() {
                    let left_ms: i64 = redis.pttl(&key).unwrap();
                    redis.pexpire::<_, ()>(&key, left_ms + HOUR.cast_signed()).unwrap();
                }
            }
        }
    }

    /// The store's clock is an hour ahead of what it will be.
    pub fn set_clock_ahead(&self) {
        match &self.kind {
            Kind::Mem { now_ms, .. } => drop(now_ms.fetch_add(HOUR, Ordering::Relaxed)),
            Kind::Redis { .. } => {
                self.redis_do(|redis| redis.set::<_, _, ()>(self.clock_key(), format!("0 {HOUR}")));
            }
        }
    }

    fn clock_key(&self) -> String {
        format!("routecache:{{{}}}:probe", self.namespace)
    }

    pub fn forget_epoch(&self, tag: &str) {
        match &self.kind {
            Kind::Mem { memory, .. } => memory.lock().unwrap().forget_epoch(&self.namespace, tag),
            Kind::Redis { .. } => self.delete(&format!("routecache:{{{}}}:epoch:{tag}", self.namespace)),
        }
    }

    /// As an eviction would; what begins anew does so in another millisecond.
    pub async fn forget_log(&self) {
        match &self.kind {
            Kind::Mem { memory, .. } => memory.lock().unwrap().forget_log(&self.namespace),
            Kind::Redis { .. } => self.delete(&self.log_key()),
        }
        self.pass(2).await;
    }

    pub fn replica(&self) -> Replica {
        match &self.kind {
            Kind::Mem { memory, .. } => Replica::Mem(memory.lock().unwrap().clone()),
            Kind::Redis { connection, .. } => {
                let mut connection = connection.lock().unwrap();
                let keys: Vec<Vec<u8>> = connection.keys(self.all_keys()).unwrap();
                let held = |key: Vec<u8>| {
                    let value = redis::cmd("DUMP").arg(&key).query(&mut *connection).unwrap();
                    let left_ms = connection.pttl(&key).unwrap();
                    (key, value, left_ms)
                };
                Replica::Redis(keys.into_iter().map(held).collect())
            }
        }
    }

    /// The replica becomes master; what came after it is lost. The outage takes a moment.
    pub async fn fail_over_to(&self, replica: &Replica) {
        match (&self.kind, replica) {
            (Kind::Mem { memory, .. }, Replica::Mem(replica)) => memory.lock().unwrap().fail_over_to(replica),
            (Kind::Redis { connection, .. }, Replica::Redis(held)) => {
                let mut connection = connection.lock().unwrap();
                let keys: Vec<Vec<u8>> = connection.keys(self.all_keys()).unwrap();
                if !keys.is_empty() {
                    connection.del::<_, ()>(keys).unwrap();
                }
                for (key, value, left_ms) in held {
                    redis::cmd("RESTORE").arg(key).arg(left_ms).arg(value).exec(&mut connection).unwrap();
                }
            }
            _ => panic!("a replica of another store"),
        }
        self.pass(2).await;
    }

    /// Appends a record that happens to get this position's id, as the next one after a failover may.
    pub async fn take_id(&self, lost: Position) {
        match &self.kind {
            Kind::Mem { now_ms, .. } => {
                now_ms.store(lost.ms, Ordering::Relaxed);
                let taken = self.purge(&["other"]).await.position;
                assert_eq!((taken.ms, taken.seq), (lost.ms, lost.seq));
            }
            Kind::Redis { connection, .. } => {
                let era = self.ticket().await.era.to_string();
                let on = self.here();
                let fields = [("unique", "1"), ("era", &*era), ("on", &*on), ("tag", "other")];
                let id = format!("{}-{}", lost.ms, lost.seq);
                connection.lock().unwrap().xadd::<_, _, _, _, ()>(self.log_key(), id, &fields).unwrap();
            }
        }
    }

    /// On Redis only.
    pub fn redis_do<T>(&self, work: impl FnOnce(&mut Connection) -> redis::RedisResult<T>) -> T {
        match &self.kind {
            Kind::Mem { .. } => panic!("there is no Redis here"),
            Kind::Redis { connection, .. } => work(&mut connection.lock().unwrap()).unwrap(),
        }
    }

    /// How the log names this server.
    pub fn here(&self) -> String {
        let server: String = self.redis_do(|redis| redis::cmd("INFO").arg("server").query(redis));
        let run_id = server.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap();
        run_id[..16].to_owned()
    }

    fn delete(&self, key: &str) {
        self.redis_do(|redis| redis.del::<_, ()>(key));
    }

    fn log_key(&self) -> String {
        format!("routecache:{{{}}}:log", self.namespace)
    }

    fn all_keys(&self) -> String {
        format!("routecache:*{}*", self.namespace)
    }
}

pub fn owned(tags: &[&str]) -> Vec<String> {
    tags.iter().map(|tag| (*tag).to_owned()).collect()
}

/// Signs certificates for tests.
pub struct Authority(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut about = rcgen::CertificateParams::new(vec![]).unwrap();
        about.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        about.distinguished_name.push(rcgen::DnType::CommonName, "authority of a test");
        Self(rcgen::CertifiedIssuer::self_signed(about, rcgen::KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names, and its key.
    pub fn sign(&self, names: &[&str]) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let about = rcgen::CertificateParams::new(owned(names)).unwrap();
        (about.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}
