//! How many lookups does the bridge answer per second of its CPU, next to webdis's `GET` on the same Redis?
//!
//! Both hold the same thousand responses of 1 KiB and are asked for one after the other by `wrk` over HTTP/1.1 (32
//! connections, loopback), in turns, so that whatever else the machine does meets both. A lookup does more than a `GET`: it
//! reads the log and the epochs of the entry's tags, one or a hundred, and judges the entry by them. CPU time is user and
//! system time of each server's own process, from `/proc`; Redis's, which serves both, stands beside it, and in a second ratio.
//!
//! Then a lookup and, straight at Redis, a `GET` are asked for at half the pace that the bridge can keep: what does the
//! bridge add to the 99th percentile? Of several turns each one's best counts: what else runs on the machine only adds. The
//! last line is the ratio of one-tag lookups to `GET`s, per second of the
//! servers' own CPU; below 1 is a failure.

mod paced;
mod wrk;

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bridge_api::{LOOKUP, STORE};
use paced::{Asked, latencies};
use serde_json::{Value, json};

/// How long one variant is asked in one round, and how many rounds there are.
const ROUND: Duration = Duration::from_secs(4);
const ROUNDS: usize = 3;
const TAGS: usize = 100;
const KEYS: usize = 1000;

/// How long paced requests go on in one turn, how many turns there are, and what the bridge may add to the 99th percentile.
const PACED: Duration = Duration::from_secs(1);
const TURNS: usize = 6;
const ADDED_MAX: Duration = Duration::from_micros(300);

/// Stands in what is asked for the number of the key.
const NUMBER: &str = "%d";

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
    /// Method, path and body, with [`NUMBER`] for the number of the key, and how many keys there are.
    asked: [String; 3],
    keys: usize,
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
    for number in 0..KEYS {
        write!(set, "SET menu:{number} {body}\r\n")?;
        set.read_exact(&mut [0; 5])?;
    }
    let many: Vec<String> = (0..TAGS).map(|tag| format!("tag:{tag}")).collect();
    let (one, one_of_them) = (["user:%d".to_owned()], ["user:0".to_owned()]);
    for number in 0..KEYS {
        fill(servers[0].address, &one_of(&lookup("one:%d", &one), number), &body)?;
    }
    for number in 0..KEYS / 10 {
        fill(servers[0].address, &one_of(&lookup("many:%d", &many), number), &body)?;
    }

    let variant = |name, server, asked: [&str; 3], keys| Variant {
        name,
        server,
        asked: asked.map(str::to_owned),
        keys,
        requests: 0,
        seconds: 0.0,
        cpu: Duration::ZERO,
        redis: Duration::ZERO,
    };
    let mut variants = [
        variant("bridge, lookup, 1 tag", 0, ["POST", LOOKUP, &lookup("one:%d", &one)], KEYS),
        variant("the same, all for one key", 0, ["POST", LOOKUP, &lookup("one:0", &one_of_them)], 1),
        variant("bridge, lookup, 100 tags", 0, ["POST", LOOKUP, &lookup("many:%d", &many)], KEYS / 10),
        variant("webdis, GET", 1, ["GET", "/GET/menu:%d", ""], KEYS),
    ];
    for round in 1..=ROUNDS {
        for variant in &mut variants {
            eprintln!("round {round} of {ROUNDS}: {}", variant.name);
            let server = &servers[variant.server];
            let (before, redis_before) = (server.cpu()?, redis.cpu()?);
            let (requests, seconds) = wrk(server.address, variant, folder)?;
            variant.cpu += server.cpu()? - before;
            variant.redis += redis.cpu()? - redis_before;
            variant.requests += requests;
            variant.seconds += seconds;
        }
    }
    println!("{:<26}{:>12}{:>14}{:>16}{:>12}", "1 KiB", "requests/s", "per CPU s", "µs CPU/request", "of Redis");
    for variant in &variants {
        println!(
            "{:<26}{:>12.0}{:>14.0}{:>16.1}{:>12.1}",
            variant.name,
            variant.rate(),
            variant.per_cpu(),
            variant.micros(variant.cpu),
            variant.micros(variant.redis),
        );
    }
    direct(&redis)?;
    paced_lookups(&servers[0], redis_at, &lookup("one:%d", &one), variants[0].rate() / 2.0)?;
    let [one_tag, .., get] = &variants;
    let with_redis = (get.cpu + get.redis).as_secs_f64()
        / as_f64(get.requests)
        / ((one_tag.cpu + one_tag.redis).as_secs_f64() / as_f64(one_tag.requests));
    println!(
        "\nlookups with 1 tag per second of CPU, to webdis's GETs; with Redis's own CPU, then without: {with_redis:.3}"
    );
    Ok(one_tag.per_cpu() / get.per_cpu())
}

impl Variant {
    fn rate(&self) -> f64 {
        as_f64(self.requests) / self.seconds
    }

    fn per_cpu(&self) -> f64 {
        as_f64(self.requests) / self.cpu.as_secs_f64()
    }

    fn micros(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / as_f64(self.requests)
    }
}

/// The body of a lookup.
fn lookup(key: &str, tags: &[String]) -> String {
    json!({ "namespace": "bench:v1", "key": key, "tags": tags }).to_string()
}

fn one_of(asked: &str, number: usize) -> String {
    asked.replace(NUMBER, &number.to_string())
}

/// Redis without anything in front of it.
fn direct(redis: &Server) -> Outcome<()> {
    const REQUESTS: u64 = 200_000;
    let before = redis.cpu()?;
    let output = Command::new("redis-benchmark")
        .args([
            "-p",
            &redis.address.port().to_string(),
            "-n",
            &REQUESTS.to_string(),
            "-c",
            "32",
            "--csv",
            "GET",
            "menu:1",
        ])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    let rate: f64 = line.split('"').nth(3).ok_or("redis-benchmark says nothing")?.parse()?;
    let micros = (redis.cpu()? - before).as_secs_f64() * 1e6 / as_f64(REQUESTS);
    println!("{:<26}{rate:>12.0}{:>14}{:>16}{micros:>12.1}", "redis-benchmark, GET", "", "");
    Ok(())
}

fn paced_lookups(bridge: &Server, redis: SocketAddr, lookup: &str, per_second: f64) -> Outcome<()> {
    let body = one_of(lookup, 1);
    let length = body.len();
    let lookup = Asked {
        request: format!("POST {LOOKUP} HTTP/1.1\r\nhost: b\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes(),
        is_whole: |answer| answer.ends_with(b"xx") && answer.len() > 1024 + 100, // the response is nothing but x
    };
    let get = Asked { request: b"GET menu:1\r\n".to_vec(), is_whole: |answer| answer.len() == 1024 + 9 };
    let (mut of_redis, mut of_bridge) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        of_redis.push(latencies(redis, &get, per_second, PACED)?);
        of_bridge.push(latencies(bridge.address, &lookup, per_second, PACED)?);
    }
    let best = |turns: Vec<(Duration, Duration)>| turns.into_iter().min_by_key(|(_, p99)| *p99).unwrap_or_default();
    let ((redis_median, redis_p99), (median, p99)) = (best(of_redis), best(of_bridge));
    let micros = |time: Duration| time.as_micros();
    println!("\nat half load, {per_second:.0} a second: median and 99th percentile in µs");
    println!("{:<26}{:>12}{:>12}", "Redis, GET", micros(redis_median), micros(redis_p99));
    println!("{:<26}{:>12}{:>12}", "bridge, lookup, 1 tag", micros(median), micros(p99));
    let added = p99.saturating_sub(redis_p99);
    let verdict = if added < ADDED_MAX { "within" } else { "NOT within" };
    println!("added to the 99th percentile: {} µs, {verdict} the aim of {} µs", micros(added), micros(ADDED_MAX));
    Ok(())
}

fn bridge(redis: SocketAddr) -> Outcome<Server> {
    let address = free()?;
    let program = std::env::var("ROUTECACHE_BRIDGE_BIN").unwrap_or_else(|_| "target/release/routecache-bridge".into());
    let mut command = Command::new(program);
    // Long enough for a machine that does other things too: a call that takes too long is refused, and isn't comparable.
    command.args(["--listen", &address.to_string(), "--store", &format!("redis://{redis}")]);
    command.args(["--store-timeout-ms", "5000"]);
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

/// Stores what a lookup asks for, as a gateway does.
fn fill(bridge: SocketAddr, lookup: &str, body: &str) -> Outcome<()> {
    let missed: Value = serde_json::from_str(&post(bridge, LOOKUP, lookup)?)?;
    let mut head: Value = serde_json::from_str(lookup)?;
    head["ticket"] = missed["ticket"].clone();
    head["keep_ms"] = 3_600_000.into();
    post(bridge, STORE, &format!("{head}\n{body}"))?;
    let found = post(bridge, LOOKUP, lookup)?;
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

/// Requests answered, and the seconds that took.
fn wrk(address: SocketAddr, variant: &Variant, folder: &Path) -> Outcome<(u64, f64)> {
    let Variant { asked: [method, path, body], keys, .. } = variant;
    let script = format!(
        "local requests, at = {{}}, 0
        function init()
          for number = 0, {keys} - 1 do
            local function with(text) return (text:gsub('%%d', number)) end
            requests[number] = wrk.format('{method}', with('{path}'), nil, with([[{body}]]))
          end
        end
        function request()
          at = (at + 1) % {keys}
          return requests[at]
        end"
    );
    let file = folder.join("wrk.lua");
    fs::write(&file, script)?;
    let output = Command::new("wrk")
        .args(["-t1", "-c32", "-d", &ROUND.as_secs().to_string(), "-s"])
        .arg(&file)
        .arg(format!("http://{address}"))
        .output()?;
    wrk::counted(&String::from_utf8_lossy(&output.stdout))
}

/// An address that nobody listens at.
fn free() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
