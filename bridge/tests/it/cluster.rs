//! A Redis Cluster of three masters and three replicas: slots move, masters die, and nothing purged is served.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bridge_api::{FeedRequest, LookupReply, LookupRequest, PurgeRequest, StoreReply, StoreRequest};
use bytes::Bytes;
use redis::cmd;
use routecache_bridge::{RedisStore, Service, Store, StoreTls, StoreUrl};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::events::{ORDER, events};
use crate::failover::{LOOKUP, PURGE, cursor, fill, is_held, poll};
use crate::process::ask;
use crate::replicas::calls;
use crate::support::{BridgeProcess, RedisServer, redis_store, within};

/// Of the key `orders`.
const ORDERS_SLOT: u16 = 105;

struct Cluster {
    nodes: Vec<RedisServer>,
}

impl Cluster {
    fn start() -> Self {
        let settings = ["--repl-diskless-sync-delay", "0", "--cluster-node-timeout", "1000"];
        let node = |_| RedisServer::start_in_cluster(&settings);
        let cluster = Self { nodes: (0..6).map(node).collect() };
        let mut create = vec!["--cluster".to_owned(), "create".to_owned()];
        create.extend(cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)));
        create.extend(["--cluster-replicas", "1", "--cluster-yes"].map(str::to_owned));
        cluster.cli(&create);
        within(Duration::from_secs(30), || cluster.nodes.iter().all(|node| sees_a_whole(node, 6)));
        // A replica that was never in step isn't elected.
        let in_step = |node: &&RedisServer| {
            let info: String = cmd("INFO").arg("replication").query(&mut node.connect()).unwrap();
            info.contains("master_link_status:up")
        };
        within(Duration::from_secs(30), || cluster.nodes.iter().filter(in_step).count() == 3);
        // Nor is one named to clients of which its master hasn't heard since.
        let names_replicas = |node: &RedisServer| {
            let slots: Vec<Vec<redis::Value>> = cmd("CLUSTER").arg("SLOTS").query(&mut node.connect()).unwrap();
            slots.iter().all(|range| range.len() > 3)
        };
        within(Duration::from_secs(30), || cluster.nodes.iter().all(names_replicas));
        cluster
    }

    fn cli(&self, arguments: &[String]) {
        let mut cli = Command::new("redis-cli");
        let output = cli.args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    fn url(&self) -> String {
        let hosts: Vec<_> = self.nodes.iter().take(2).map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis://{}", hosts.join(","))
    }

    /// Which node serves a slot as master, and its id.
    fn master_of(&self, slot: u16) -> Option<(usize, String)> {
        let alive = self.nodes.iter().find_map(|node| redis::Client::open(node.url()).ok()?.get_connection().ok());
        let text: String = cmd("CLUSTER").arg("NODES").query(&mut alive.unwrap()).unwrap();
        for line in text.lines().filter(|line| line.contains("master") && !line.contains("fail")) {
            let words: Vec<_> = line.split(' ').collect();
            let holds = |range: &&str| {
                let (from, to) = range.split_once('-').unwrap_or((range, range));
                matches!((from.parse::<u16>(), to.parse::<u16>()), (Ok(from), Ok(to)) if (from..=to).contains(&slot))
            };
            if words[8..].iter().any(holds) {
                let port = words[1].split(['@', ':']).nth(1).unwrap();
                let index = self.nodes.iter().position(|node| node.port.to_string() == port).unwrap();
                return Some((index, words[0].to_owned()));
            }
        }
        None
    }

    /// A replica of that master that is in step with it.
    fn replica_of(&self, master: usize) -> usize {
        let (port, mut found) = (self.nodes[master].port, None);
        within(Duration::from_secs(20), || {
            found = self.nodes.iter().position(|node| {
                let info: String = cmd("INFO").arg("replication").query(&mut node.connect()).unwrap();
                let size = |node: &RedisServer| cmd("DBSIZE").query::<u64>(&mut node.connect()).unwrap();
                let follows =
                    info.contains("master_link_status:up") && info.contains(&format!("master_port:{port}\r\n"));
                follows && size(node) == size(&self.nodes[master])
            });
            found.is_some()
        });
        found.unwrap()
    }

    fn slot_of(&self, key: &str) -> u16 {
        cmd("CLUSTER").arg("KEYSLOT").arg(key).query(&mut self.nodes[0].connect()).unwrap()
    }

    /// Moves the first slots of one master to another, under load.
    fn reshard(&self, from: &str, to: &str, slots: u16) {
        let node = format!("127.0.0.1:{}", self.nodes[0].port);
        let words = ["--cluster", "reshard", &node, "--cluster-from", from, "--cluster-to", to, "--cluster-slots"];
        let mut words: Vec<String> = words.map(str::to_owned).into();
        words.extend([slots.to_string(), "--cluster-yes".to_owned()]);
        self.cli(&words);
    }
}

fn sees_a_whole(node: &RedisServer, known: usize) -> bool {
    let info: String = cmd("CLUSTER").arg("INFO").query(&mut node.connect()).unwrap();
    info.contains("cluster_state:ok") && info.contains(&format!("cluster_known_nodes:{known}"))
}

/// Readers, fillers and a purger of one namespace until told to stop. What is served is never older than what the purger
/// had acknowledged before the lookup began.
struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    purges: Arc<AtomicU64>,
    hits: Arc<AtomicU64>,
    failures: Arc<AtomicU64>,
}

impl Load {
    fn on(service: &Service, namespace: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (purges, hits, failures): (Arc<AtomicU64>, Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
        let origin = Arc::new(AtomicU64::new(0));
        let acknowledged = Arc::new(std::sync::Mutex::new((0, None)));
        let mut tasks = Vec::new();
        for reader in 0..4 {
            let (service, namespace) = (service.clone(), namespace.to_owned());
            let (stop, hits, failures) = (Arc::clone(&stop), Arc::clone(&hits), Arc::clone(&failures));
            let (origin, acknowledged) = (Arc::clone(&origin), Arc::clone(&acknowledged));
            tasks.push(tokio::spawn(async move {
                let mut round = reader;
                while !stop.load(Ordering::SeqCst) {
                    round += 1;
                    let (bound, known) = *acknowledged.lock().unwrap();
                    let (key, tags) = (format!("k{}", round % 20), vec!["a".to_owned()]);
                    let asked =
                        LookupRequest { namespace: namespace.clone(), key, tags, known, ..LookupRequest::default() };
                    match service.lookup(&asked).await {
                        Ok((LookupReply::Hit { .. }, body)) => {
                            let version: u64 = std::str::from_utf8(&body).unwrap().parse().unwrap();
                            assert!(version >= bound, "served {version} after the purge of {bound} was acknowledged");
                            hits.fetch_add(1, Ordering::SeqCst);
                        }
                        Ok((LookupReply::Miss { ticket, .. }, _)) => {
                            let version = origin.load(Ordering::SeqCst).to_string();
                            sleep(Duration::from_millis(1)).await;
                            let LookupRequest { namespace, key, tags, .. } = asked;
                            let store = StoreRequest { namespace, key, tags, ticket, keep_ms: 60_000, holder: None };
                            let _ = service.store(store, Bytes::from(version)).await;
                        }
                        Ok((LookupReply::Behind, _)) => sleep(Duration::from_millis(5)).await,
                        Err(_) => {
                            failures.fetch_add(1, Ordering::SeqCst);
                            sleep(Duration::from_millis(5)).await;
                        }
                    }
                    sleep(Duration::from_millis(1)).await;
                }
            }));
        }
        let (service, namespace) = (service.clone(), namespace.to_owned());
        let (stopped, purged, seen) = (Arc::clone(&stop), Arc::clone(&purges), Arc::clone(&hits));
        tasks.push(tokio::spawn(async move {
            let mut cursor = None;
            while !stopped.load(Ordering::SeqCst) {
                let version = origin.fetch_add(1, Ordering::SeqCst) + 1;
                let purge =
                    PurgeRequest { namespace: namespace.clone(), tags: vec!["a".into()], ..PurgeRequest::default() };
                let position = loop {
                    match service.purge(&purge).await {
                        Ok(reply) => break reply.position,
                        Err(_) if stopped.load(Ordering::SeqCst) => return,
                        Err(_) => sleep(Duration::from_millis(10)).await, // C5: until it is acknowledged
                    }
                };
                *acknowledged.lock().unwrap() = (version, Some(position));
                purged.fetch_add(1, Ordering::SeqCst);
                // However slow the machine is, something can be stored and read between two purges.
                let before = seen.load(Ordering::SeqCst);
                for _ in 0..20 {
                    sleep(Duration::from_millis(10)).await;
                    if seen.load(Ordering::SeqCst) > before {
                        break;
                    }
                }
                // As a gateway's feed does: whoever knows what was lost says so.
                let poll = FeedRequest {
                    namespace: namespace.clone(),
                    cursor,
                    known: Some(position),
                    ..FeedRequest::default()
                };
                if let Ok(reply) = service.feed(&poll).await {
                    cursor = Some(reply.cursor);
                    let mut newest = acknowledged.lock().unwrap();
                    newest.1 = newest.1.max(cursor);
                }
            }
        }));
        Self { stop, tasks, purges, hits, failures }
    }

    /// Purges and hits so far.
    fn so_far(&self) -> (u64, u64) {
        (self.purges.load(Ordering::SeqCst), self.hits.load(Ordering::SeqCst))
    }

    /// Goes on for so many more purges and hits.
    async fn goes_on(&self) {
        let before = self.so_far();
        for _ in 0..2_000 {
            let now = self.so_far();
            if now.0 >= before.0 + 20 && now.1 >= before.1 + 20 {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("no progress since {before:?}: {:?}, {} failures", self.so_far(), self.failures.load(Ordering::SeqCst));
    }

    async fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        (self.purges.load(Ordering::SeqCst), self.failures.load(Ordering::SeqCst))
    }
}

/// The log and an entry are asked at once, and the log once more where only the entry names a tag. They are written at once, too;
/// what the log doesn't vouch for is taken back.
async fn rounds(store: &RedisStore) {
    let (namespace, tags) = ("rounds".to_owned(), vec!["named".to_owned()]);
    let asked = |key: &str| {
        let (namespace, tags) = (namespace.clone(), tags.clone());
        LookupRequest { namespace, key: key.into(), tags, ..LookupRequest::default() }
    };
    let said = store.lookup(&asked("k")).await.unwrap().0;
    let LookupReply::Miss { ticket, .. } = said else { panic!("{said:?}") };
    for (key, more, lookup) in [("k", None, 1), ("l", Some("response-only".to_owned()), 2)] {
        let trips = || store.figures().round_trips;
        let before = trips();
        let tags = tags.iter().cloned().chain(more).collect();
        let (namespace, key) = (namespace.clone(), key.to_owned());
        let put = StoreRequest { namespace, key: key.clone(), tags, ticket, keep_ms: 60_000, holder: None };
        assert_eq!(store.store(&put, Bytes::from_static(b"x")).await.unwrap(), StoreReply::Stored);
        assert_eq!(trips() - before, 1, "{key}: a store");
        assert!(matches!(store.lookup(&asked(&key)).await.unwrap().0, LookupReply::Hit { .. }), "{key}");
        assert_eq!(trips() - before, 1 + lookup, "{key}: a hit");
    }
    let purge = PurgeRequest { namespace: namespace.clone(), tags: tags.clone(), ..PurgeRequest::default() };
    store.purge(&purge, &[]).await.unwrap();
    let (key, holder) = ("k".to_owned(), None);
    let late = StoreRequest { namespace: namespace.clone(), key, tags, ticket, keep_ms: 60_000, holder };
    assert_eq!(store.store(&late, Bytes::from_static(b"x")).await.unwrap(), StoreReply::Void);
    let left = store.list(&namespace).await.unwrap();
    let left: Vec<String> = left.entries.into_iter().map(|(key, _)| key).collect();
    assert_eq!(left, ["l"], "what the log doesn't vouch for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_and_masters_that_die_cost_no_purge() {
    let mut cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let store = redis_store(&cluster.url(), Duration::from_millis(1_500));
    let StoreUrl::Redis(address) = StoreUrl::parse(&cluster.url()).unwrap() else { panic!() };
    let store = store.with_replicas(&address, &StoreTls::default(), Duration::from_millis(1_500)).unwrap();
    assert!(store.ready().await.is_ok());
    rounds(&store).await;
    let service = Service::new(store);
    // Its log is among the first of the slots that the second master has, so that resharding moves it.
    let namespace = (0..100_000)
        .map(|number| format!("n{number}"))
        .find(|name| (5_500..5_530).contains(&cluster.slot_of(&format!("{{{name}}}"))))
        .unwrap();
    let slot = cluster.slot_of(&format!("{{{namespace}}}"));
    let load = Load::on(&service, &namespace);
    load.goes_on().await;
    let gets = |node: &RedisServer| calls(node, "get");
    assert!(cluster.nodes[3..].iter().map(gets).sum::<u64>() > 0, "replicas are read");

    let ((old, from), (_, to)) = (cluster.master_of(slot).unwrap(), cluster.master_of(16_000).unwrap());
    tokio::task::block_in_place(|| cluster.reshard(&from, &to, 150));
    let (new, _) = cluster.master_of(slot).unwrap();
    assert_ne!(old, new, "the log has moved");
    load.goes_on().await;
    let while_moving = load.failures.load(Ordering::SeqCst);

    cluster.nodes[new].kill();
    let survivor = (0..6).find(|node| *node != new).unwrap();
    tokio::task::block_in_place(|| {
        within(Duration::from_secs(30), || {
            let info: String = cmd("CLUSTER").arg("INFO").query(&mut cluster.nodes[survivor].connect()).unwrap();
            info.contains("cluster_state:ok") && cluster.master_of(slot).is_some_and(|(master, _)| master != new)
        });
    });
    load.goes_on().await;
    let (purges, failures) = load.end().await;
    eprintln!("{purges} purges, {while_moving} failed lookups while slots moved, {failures} in all");
    assert!(while_moving < 50, "{while_moving} lookups failed while slots moved");
}

/// The channel is heard at any node, the stream at the one that has it; both again when that node is gone.
#[test]
fn applications_purge_through_a_cluster() {
    let mut cluster = Cluster::start();
    let bridge =
        BridgeProcess::start(&["--store", &cluster.url(), "--events-channel", "purges", "--events-stream", "orders"]);
    let publish = |node: &RedisServer| {
        let _: u64 = cmd("PUBLISH").arg("purges").arg(ORDER).query(&mut node.connect()).unwrap();
    };
    // The first messages may come before the bridge listens: those are lost.
    within(Duration::from_secs(20), || {
        publish(&cluster.nodes[5]);
        events(&bridge, "channel", "purged") > 0
    });
    let add = |cluster: &Cluster| {
        let node = cluster.nodes.iter().find(|node| redis::Client::open(node.url()).unwrap().get_connection().is_ok());
        let port = node.unwrap().port.to_string();
        cluster.cli(&["-c", "-p", &port, "XADD", "orders", "*", "order", ORDER].map(str::to_owned));
    };
    add(&cluster);
    within(Duration::from_secs(20), || events(&bridge, "stream", "purged") == 1);
    let (of_the_stream, _) = cluster.master_of(ORDERS_SLOT).unwrap();
    cluster.nodes[of_the_stream].kill();
    let heard = events(&bridge, "channel", "purged");
    within(Duration::from_secs(30), || {
        publish(&cluster.nodes[5]);
        events(&bridge, "channel", "purged") > heard
    });
    within(Duration::from_secs(30), || cluster.master_of(ORDERS_SLOT).is_some_and(|(node, _)| node != of_the_stream));
    add(&cluster);
    within(Duration::from_secs(30), || events(&bridge, "stream", "purged") >= 2);
}

/// As on one server: nobody is left who knows of the purge, and what shows is that another node has the log now.
#[test]
fn a_purge_that_only_a_dead_master_of_the_cluster_had_is_not_forgotten() {
    let mut cluster = Cluster::start();
    let bridge = BridgeProcess::start(&["--store", &cluster.url(), "--store-timeout-ms", "1500"]);
    let heard = cursor(&poll(&bridge, None));
    fill(&bridge);
    let slot = cluster.slot_of("{n}");
    let (master, _) = cluster.master_of(slot).unwrap();
    let replica = cluster.replica_of(master);
    cluster.nodes[replica].signal("-STOP");
    cmd("CLIENT").arg(&["KILL", "TYPE", "replica"]).exec(&mut cluster.nodes[master].connect()).unwrap();
    let purged = ask(bridge.address, "POST", PURGE.0, PURGE.1);
    cluster.nodes[master].kill();
    cluster.nodes[replica].signal("-CONT");
    assert!(purged.starts_with("HTTP/1.1 200"), "{purged}");
    within(Duration::from_secs(30), || cluster.master_of(slot).is_some_and(|(node, _)| node == replica));
    let answers = || ask(bridge.address, "POST", LOOKUP.0, LOOKUP.1).starts_with("HTTP/1.1 200");
    within(Duration::from_secs(30), answers);
    assert!(is_held(&bridge), "it lacks the purge, and no gateway has polled yet");
    let mut told = String::new();
    within(Duration::from_secs(10), || {
        told = poll(&bridge, Some(&heard));
        told.starts_with("HTTP/1.1 200")
    });
    assert!(told.contains(r#""continuity":"lost""#), "the gateway drops what it holds: {told}");
    assert!(!is_held(&bridge), "and the group's entries are void");
    fill(&bridge);
    assert!(poll(&bridge, Some(&cursor(&told))).contains("joined"), "once");
}
