//! What a test stands on: rules in a file, an origin, and as many gateways as it opens.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use routecache_harness::{Connection, Error, Origin, Request, Response, Result, Serve};
use tokio::time::sleep;

/// A gateway that stands alone.
pub const ALONE: &str = r#"
version: 1
namespace: { prefix: shop, version: v1 }
routes:
  - name: user
    match: { methods: [GET], path: "/users/{user_id}" }
    cache: { key: "user:{user_id}", ttl: default, tags: ["user:{user_id}"] }
  - name: user-write
    match: { methods: [PUT, PATCH, DELETE], path: "/users/{user_id}" }
    purge: { tags: ["user:{user_id}"] }
"#;

/// The same with a bridge.
pub const WITH_BRIDGE: &str = r#"
bridge: { cluster: bridge, timeout: 50ms }
consistency: { window: 1s }
"#;

/// Rules in a file of their own.
pub fn file(rules: &str) -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let name = format!("rules-{}-{}.yaml", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, rules).expect("cargo's folder for tests can be written to");
    path
}

/// A gateway, and a connection to each of its two workers.
pub struct Gateway {
    pub serve: Serve,
    pub workers: [Connection; 2],
}

impl Gateway {
    /// Opens one in front of the origin, and waits until it doesn't wait for the bridge any more.
    pub async fn open(rules: &str, origin: &Origin, more: &[&str]) -> Result<Self> {
        let rules = file(rules);
        let upstream = format!("http://{}", origin.address());
        let mut arguments = vec![rules.to_str().expect("a path in UTF-8"), "--workers", "2", "--upstream", &upstream];
        arguments.extend(more);
        let serve = Serve::start(&arguments).await?;
        // Connections go to the workers in turn.
        let workers = [serve.client().connect().await?, serve.client().connect().await?];
        let mut gateway = Self { serve, workers };
        let start = Instant::now();
        while gateway.get(0, "/users/999").await?.cache_status().detail.as_deref() == Some("feed-lost") {
            if start.elapsed() > Duration::from_secs(10) {
                let log = gateway.serve.log();
                return Err(Error::Unexpected(format!("it doesn't hear the bridge within 10 s\n{log}")));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(gateway)
    }

    /// Asks through a worker.
    pub async fn get(&mut self, worker: usize, path: &str) -> Result<Response> {
        self.workers[worker].get(path).await
    }

    /// Sends a request through a worker.
    pub async fn send(&mut self, worker: usize, request: Request) -> Result<Response> {
        self.workers[worker].send(request).await
    }

    /// Asks until the answer is as wanted.
    pub async fn until(&mut self, worker: usize, path: &str, wanted: impl Fn(&Response) -> bool) -> Result<Response> {
        let start = Instant::now();
        loop {
            let answer = self.get(worker, path).await?;
            if wanted(&answer) {
                return Ok(answer);
            }
            if start.elapsed() > Duration::from_secs(10) {
                let (cache, log) = (answer.header("cache-status"), self.serve.log());
                return Err(Error::Unexpected(format!("{path} isn't as wanted: {cache}\n{log}")));
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The tier that a hit came from.
pub fn tier(answer: &Response) -> Option<String> {
    let status = answer.cache_status();
    status.detail.filter(|_| status.hit)
}
