//! The ways to a Redis, and the Redises that are configured as operators do.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::cmd;
use routecache_harness::Port;
use tempfile::TempDir;

use crate::process::ask;
use crate::replicas::calls;
use crate::support::{Authority, BridgeProcess, RedisServer, redis_program, signal, within};

const PURGE: (&str, &str) = ("/v1/purge", r#"{"namespace":"n","tags":["a"]}"#);

fn is_ready(bridge: &BridgeProcess) -> bool {
    ask(bridge.address, "GET", "/readyz", "").starts_with("HTTP/1.1 200")
}

/// A whole fill and a purge, through the bridge.
fn serves(bridge: &BridgeProcess) -> bool {
    let ask = |path: &str, body: &str| ask(bridge.address, "POST", path, body);
    let look = r#"{"namespace":"n","key":"k","tags":["a"],"lease":{"holder":"1","ttl_ms":1000}}"#;
    let miss = ask("/v1/lookup", look);
    let Some((_, rest)) = miss.split_once(r#""ticket":"#) else { return false };
    let ticket = rest.split_inclusive('}').next().unwrap();
    let head = format!(r#"{{"namespace":"n","key":"k","tags":["a"],"ticket":{ticket},"keep_ms":60000,"holder":"1"}}"#);
    ask("/v1/store", &format!("{head}\nbody")).contains("stored")
        && ask("/v1/lookup", look).contains("hit")
        && ask(PURGE.0, PURGE.1).contains("position")
        && ask("/v1/lookup", look).contains("miss")
        && ask("/v1/feed", r#"{"namespace":"n","hold_ms":0}"#).contains("first")
        && ask("/v1/purge", r#"{"namespace":"n","patterns":[{"key":"x*"}]}"#).contains("position")
        && ask("/v1/lookup", look).contains("miss")
        && ask("/v1/purge", r#"{"namespace":"n","everything":true,"dry_run":true}"#).contains(r#""complete":true"#)
        && ask("/v1/keys/n/counter/increment", "").contains(r#"{"value":"#)
        && ask("/v1/keys/n/counter/pop", "").contains("200 OK")
        && ask("/v1/release", r#"{"namespace":"n","key":"k","holder":"1"}"#).contains("released")
}

#[test]
fn a_socket_a_user_a_password_and_a_database_are_taken_from_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock");
    let socket = socket.to_str().unwrap();
    let server = RedisServer::start_with(&["--unixsocket", socket]);
    cmd("ACL").arg(&["SETUSER", "me", "on", ">hush/,@", "~routecache:*", "+@all"]).exec(&mut server.connect()).unwrap();
    let credentials = "me:hush%2F%2C%40@";
    for url in [
        format!("unix://{socket}"),
        format!("redis+unix://{socket}?db=2&user=me&pass=hush%2F%2C%40"),
        format!("redis://{credentials}127.0.0.1:{}/3", server.port),
        format!("valkey://{credentials}127.0.0.1:{}", server.port),
    ] {
        let bridge = BridgeProcess::start_with(&[], &[("CACHE_URL", &url)]);
        assert!(serves(&bridge), "{url}: {}", bridge.log());
        assert!(!bridge.log().contains("hush"));
    }
    for db in [2, 3] {
        let mut connection = server.connect();
        cmd("SELECT").arg(db).exec(&mut connection).unwrap();
        assert!(cmd("DBSIZE").query::<u64>(&mut connection).unwrap() > 0, "{db}");
    }
}

#[test]
fn redis_is_reached_over_tls_with_certificates_of_both_sides() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let (certificate, key) = authority.sign(&["localhost"]);
    let (ca, certificate, key) = (write("ca", &authority.pem()), write("cert", &certificate), write("key", &key));
    let claim = Port::claim().unwrap();
    let port = claim.number().to_string();
    let _server = RedisServer::start_with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "yes",
    ]);
    let url = format!("rediss://localhost:{port}");
    let mine = ["--store", &url, "--store-ca", &ca, "--store-cert", &certificate, "--store-key", &key];
    let mine = [&mine[..], &["--store-timeout-ms", "5000"]].concat(); // a handshake takes its time on a busy machine
    let bridge = BridgeProcess::start(&mine);
    assert!(serves(&bridge), "{}", bridge.log());
    let nameless = BridgeProcess::start(&mine[..4]);
    assert!(!is_ready(&nameless), "it must show a certificate");
    let stranger = write("other", &Authority::new().pem());
    let distrusting = BridgeProcess::start(&["--store", &url, "--store-ca", &stranger]);
    assert!(!is_ready(&distrusting), "it must not take any server's certificate");
    let elsewhere = format!("rediss://127.0.0.1:{port}");
    let misnamed = BridgeProcess::start(&[&["--store", &elsewhere], &mine[2..]].concat());
    assert!(!is_ready(&misnamed), "the certificate is for another name");
}

/// What bridge/README.md says the bridge needs.
pub fn minimal_acl() -> Vec<String> {
    let text = include_str!("../../README.md");
    let line = text.lines().find(|line| line.starts_with("ACL SETUSER")).expect("the README's ACL");
    line.split_whitespace().skip(1).map(str::to_owned).collect()
}

#[test]
fn the_documented_acl_is_enough_and_no_wider() {
    let server = RedisServer::start();
    cmd("ACL").arg(minimal_acl()).exec(&mut server.connect()).unwrap();
    let bridge = BridgeProcess::start(&["--store", &format!("redis://routecache:secret@127.0.0.1:{}", server.port)]);
    assert!(serves(&bridge), "{}", bridge.log());
    assert!(is_ready(&bridge));
    let mut connection = redis::Client::open(format!("redis://routecache:secret@127.0.0.1:{}", server.port))
        .unwrap()
        .get_connection()
        .unwrap();
    for denied in [
        &["FLUSHALL"][..],
        &["KEYS", "*"],
        &["CONFIG", "GET", "*"],
        &["GET", "another:key"],
        &["EVAL", "return 1", "0"],
        &["SHUTDOWN"],
        &["ACL", "LIST"],
        &["DEBUG", "SLEEP", "0"],
        &["FUNCTION", "LIST"],
        &["SCRIPT", "FLUSH"],
    ] {
        let mut command = cmd(denied[0]);
        command.arg(&denied[1..]);
        assert!(command.exec(&mut connection).is_err(), "{denied:?}");
    }
}

/// A silence that no server of a test keeps, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A `redis-server --sentinel`, ended with the test.
struct Sentinel {
    child: Child,
    port: u16,
    _folder: TempDir,
    _claim: Port,
}

impl Sentinel {
    /// One that takes a server for dead when it hasn't heard of it for so long.
    fn of(master: u16, silence: Duration) -> Self {
        let (folder, claim) = (tempfile::tempdir().unwrap(), Port::claim().unwrap());
        let (port, silence_ms) = (claim.number(), silence.as_millis());
        let file = folder.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds main {silence_ms}\nsentinel failover-timeout main 3000\n"
        );
        std::fs::write(&file, text).unwrap();
        let child = sentinel(&file);
        within(Duration::from_secs(10), || redis::Client::open(("127.0.0.1", port)).unwrap().get_connection().is_ok());
        let sentinel = Self { child, port, _folder: folder, _claim: claim };
        // Servers that can't be told to look more often than every 10 s take that much longer.
        let _ = sentinel.ask(&["DEBUG", "INFO-PERIOD", "500", "PUBLISH-PERIOD", "250"]);
        sentinel
    }

    fn ask(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let client = redis::Client::open(("127.0.0.1", self.port))?;
        cmd("SENTINEL").arg(words).query(&mut client.get_connection()?)
    }

    /// Waits until it knows a replica of the master.
    fn knows_a_replica(&self) {
        let known = || self.ask(&["REPLICAS", "main"]);
        let some = || matches!(known(), Ok(redis::Value::Array(replicas)) if !replicas.is_empty());
        within(Duration::from_secs(15), some);
    }
}

fn sentinel(file: &Path) -> Child {
    let mut server = Command::new(redis_program());
    server.arg(file).args(["--sentinel"]).stdout(Stdio::null()).spawn().unwrap()
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sentinels_name_the_master_and_the_next_one() {
    let mut master = RedisServer::start();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let synced = || {
        let info: String = cmd("INFO").arg("replication").query(&mut replica.connect()).unwrap();
        info.contains("master_link_status:up")
    };
    within(Duration::from_secs(10), synced);
    let sentinel = Sentinel::of(master.port, Duration::from_millis(500));
    sentinel.knows_a_replica();
    let url = format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{}/main", sentinel.port);
    let found = ["--store-replicas", "found"];
    let bridge = BridgeProcess::start(&[&["--store", &url, "--store-timeout-ms", "1000"], &found[..]].concat());
    within(Duration::from_secs(5), || serves(&bridge));
    assert!(calls(&replica, "get") > 0, "the one that the sentinels name is read");
    master.kill();
    within(Duration::from_secs(30), || ask(bridge.address, "POST", PURGE.0, PURGE.1).starts_with("HTTP/1.1 200"));
    assert!(serves(&bridge));
    let mut connection = replica.connect();
    assert!(cmd("DBSIZE").query::<u64>(&mut connection).unwrap() > 0);
}

/// A master that a switch demotes answers on, and refuses writes: the next connection finds the new one. Nobody dies here, and
/// nobody is taken for dead: a sentinel demotes only what it has heard of without a break.
#[test]
fn a_demoted_master_is_left_for_the_new_one() {
    let master = RedisServer::start();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let sentinel = Sentinel::of(master.port, PATIENCE);
    sentinel.knows_a_replica();
    let url = format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port);
    let bridge = BridgeProcess::start(&["--store", &url, "--store-timeout-ms", "1000"]);
    within(Duration::from_secs(5), || serves(&bridge));
    within(Duration::from_secs(15), || sentinel.ask(&["FAILOVER", "main"]).is_ok());
    // A server whose role changes breaks off whoever is connected.
    let role = |server: &RedisServer| -> redis::RedisResult<String> {
        let mut connection = redis::Client::open(server.url())?.get_connection()?;
        let role: Vec<redis::Value> = cmd("ROLE").query(&mut connection)?;
        redis::from_redis_value(role.into_iter().next().unwrap_or(redis::Value::Nil)).map_err(Into::into)
    };
    let plays = |server: &RedisServer, wanted: &str| role(server).is_ok_and(|role| role == wanted);
    within(Duration::from_secs(20), || plays(&replica, "master") && plays(&master, "slave"));
    within(Duration::from_secs(10), || ask(bridge.address, "POST", PURGE.0, PURGE.1).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_restart_of_redis_under_load_is_lived_through_again_and_again() {
    let mut server = RedisServer::start();
    let bridge = BridgeProcess::start(&["--store", &server.url()]);
    for round in 0..3 {
        within(Duration::from_secs(5), || serves(&bridge));
        if round % 2 == 0 {
            server.kill();
            assert!(ask(bridge.address, "POST", PURGE.0, PURGE.1).starts_with("HTTP/1.1 503"));
            server.revive();
        } else {
            server.signal("-STOP");
            assert!(ask(bridge.address, "POST", PURGE.0, PURGE.1).starts_with("HTTP/1.1 503"));
            server.signal("-CONT");
        }
    }
    within(Duration::from_secs(5), || serves(&bridge));
    signal(&bridge.child, "-TERM");
}
