//! How many lookups does the bridge answer per second of its CPU, next to webdis's `GET` on the same Redis?
//!
//! Both hold the same 1 KiB and are asked by `wrk` over HTTP/1.1 (32 connections, loopback), in turns, so that whatever else
//! the machine does meets both. A lookup does more than a `GET`: it reads the log and the epochs of the entry's tags, one or a
//! hundred, and judges the entry by them. CPU time is each server's own, from `/proc`; what Redis itself spends stands
//! beside it. The last line is the ratio of one-tag lookups to `GET`s, per second of CPU; below 1 is a failure.

mod wrk;

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long one variant is asked in one round, and how many rounds there are.
const ROUND: Duration = Duration::from_secs(4);
const ROUNDS: usize = 3;
const TAGS: usize = 100;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A server of this bench, ended with it.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(command: &mut Command, address: SocketAddr) -> Outcome<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Self { child, address };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if began.elapsed() > Duration::from_secs(20) {
                return Err(format!("{:?} doesn't listen", command.get_program()).into());
            }
            sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Time that it has spent on a CPU.
    fn cpu(&self) -> Outcome<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name, which stands in parentheses; user and system time are the 14th and 15th field of all.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields.get(11..13).ok_or("no times in /proc")?.iter().map(|it| it.parse().unwrap_or(0)).sum();
        Ok(Duration::from_millis(ticks * 10))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is asked, and what that came to.
struct Variant {
    name: &'static str,
    /// 0 is the bridge, 1 webdis.
    server: usize,
    script: String,
    requests: u64,
    seconds: f64,
    cpu: Duration,
    redis: Duration,
}

fn main() -> Outcome<()> {
    let folder = std::env::temp_dir().join(format!("routecache-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let measured = measure(&folder);
    let _ = fs::remove_dir_all(&folder);
    let ratio = measured?;
    println!("{ratio:.3}");
    if ratio < 1.0 {
        std::process::exit(1);
    }
    Ok(())
}

fn measure(folder: &Path) -> Outcome<f64> {
    let redis_at = free()?;
    let program = std::env::var("ROUTECACHE_REDIS").unwrap_or_else(|_| "redis-server".into());
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--save", "", "--port", &redis_at.port().to_string()]).current_dir(folder);
    let redis = Server::start(&mut command, redis_at)?;
    let servers = [bridge(redis_at)?, webdis(redis_at, folder)?];

    let body = "x".repeat(1024);
    let mut set = TcpStream::connect(redis_at)?;
    write!(set, "*3\r\n$3\r\nSET\r\n$4\r\nmenu\r\n$1024\r\n{body}\r\n")?;
    set.read_exact(&mut [0; 5])?;
    let many: Vec<String> = (0..TAGS).map(|tag| format!("tag:{tag}")).collect();
    fill(servers[0].address, "one", &many[..1], &body)?;
    fill(servers[0].address, "hundred", &many, &body)?;

    let lookup = |key: &str, tags: &[String]| {
        let asked = json!({ "namespace": "bench:v1", "key": key, "tags": tags }).to_string();
        format!("wrk.method = 'POST'\nwrk.path = '/v1/lookup'\nwrk.body = [[{asked}]]\n")
    };
    let variant = |name, server, script| Variant {
        name,
        server,
        script,
        requests: 0,
        seconds: 0.0,
        cpu: Duration::ZERO,
        redis: Duration::ZERO,
    };
    let mut variants = [
        variant("bridge, lookup, 1 tag", 0, lookup("one", &many[..1])),
        variant("bridge, lookup, 100 tags", 0, lookup("hundred", &many)),
        variant("webdis, GET", 1, "wrk.path = '/GET/menu'\n".to_owned()),
    ];
    for round in 1..=ROUNDS {
        for variant in &mut variants {
            eprintln!("round {round} of {ROUNDS}: {}", variant.name);
            let server = &servers[variant.server];
            let (before, redis_before) = (server.cpu()?, redis.cpu()?);
            let (requests, seconds, _) = wrk(server.address, &variant.script, folder, 32)?;
            variant.cpu += server.cpu()? - before;
            variant.redis += redis.cpu()? - redis_before;
            variant.requests += requests;
            variant.seconds += seconds;
        }
    }
    let per_cpu = |variant: &Variant| as_f64(variant.requests) / variant.cpu.as_secs_f64();
    let micros = |time: Duration, variant: &Variant| time.as_secs_f64() * 1e6 / as_f64(variant.requests);
    println!(
        "{:<26}{:>12}{:>14}{:>16}{:>12}{:>14}",
        "1 KiB", "requests/s", "per CPU s", "µs CPU/request", "of Redis", "p99, 4 conn."
    );
    for variant in &variants {
        let (_, _, p99) = wrk(servers[variant.server].address, &variant.script, folder, 4)?;
        println!(
            "{:<26}{:>12.0}{:>14.0}{:>16.1}{:>12.1}{:>14}",
            variant.name,
            as_f64(variant.requests) / variant.seconds,
            per_cpu(variant),
            micros(variant.cpu, variant),
            micros(variant.redis, variant),
            p99
        );
    }
    let direct = Command::new("redis-benchmark")
        .args(["-p", &redis_at.port().to_string(), "-t", "get", "-n", "200000", "-c", "32", "-d", "1024", "--csv"])
        .output();
    if let Ok(output) = direct {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.starts_with("\"GET\"")).unwrap_or_default();
        println!("{:<26}{:>12}", "redis-benchmark, GET", line.split('"').nth(3).unwrap_or("-"));
    }
    Ok(per_cpu(&variants[0]) / per_cpu(&variants[2]))
}

fn bridge(redis: SocketAddr) -> Outcome<Server> {
    let address = free()?;
    let program = std::env::var("ROUTECACHE_BRIDGE_BIN").unwrap_or_else(|_| "target/release/routecache-bridge".into());
    let mut command = Command::new(program);
    command.args(["--listen", &address.to_string(), "--store", &format!("redis://{redis}")]);
    Server::start(&mut command, address)
}

fn webdis(redis: SocketAddr, folder: &Path) -> Outcome<Server> {
    let address = free()?;
    let settings = json!({
        "redis_host": "127.0.0.1", "redis_port": redis.port(), "http_host": "127.0.0.1", "http_port": address.port(),
        "threads": 2, "pool_size": 10, "daemonize": false, "websockets": false, "database": 0, "verbosity": 1,
        "logfile": folder.join("webdis.log"),
    });
    let file = folder.join("webdis.json");
    fs::write(&file, settings.to_string())?;
    Server::start(Command::new("webdis").arg(file), address)
}

/// Stores an entry as a gateway does.
fn fill(bridge: SocketAddr, key: &str, tags: &[String], body: &str) -> Outcome<()> {
    let asked = json!({ "namespace": "bench:v1", "key": key, "tags": tags });
    let missed: Value = serde_json::from_str(&post(bridge, "/v1/lookup", &asked.to_string())?)?;
    let head =
        json!({ "namespace": "bench:v1", "key": key, "tags": tags, "ticket": missed["ticket"], "keep_ms": 3_600_000 });
    post(bridge, "/v1/store", &format!("{head}\n{body}"))?;
    let found = post(bridge, "/v1/lookup", &asked.to_string())?;
    if found.starts_with(r#"{"outcome":"hit""#) { Ok(()) } else { Err(format!("no hit: {found}").into()) }
}

fn post(address: SocketAddr, path: &str, body: &str) -> Outcome<String> {
    let mut stream = TcpStream::connect(address)?;
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.1\r\nhost: b\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    Ok(body.to_owned())
}

/// Requests answered, the seconds that took, and the 99th percentile of latency.
fn wrk(address: SocketAddr, script: &str, folder: &Path, connections: u32) -> Outcome<(u64, f64, String)> {
    let file = folder.join("wrk.lua");
    fs::write(&file, script)?;
    let (seconds, connections) = (ROUND.as_secs().to_string(), connections.to_string());
    let output = Command::new("wrk")
        .args(["-t1", "--latency", "-c", &connections, "-d", &seconds, "-s"])
        .arg(&file)
        .arg(format!("http://{address}"))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (requests, seconds) = wrk::counted(&text)?;
    let p99 = text.lines().find_map(|line| line.trim().strip_prefix("99%")).unwrap_or("-").trim().to_owned();
    Ok((requests, seconds, p99))
}

/// An address that nobody listens at.
fn free() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
