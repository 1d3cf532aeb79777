//! What a test stands on: an origin, a bridge on Redis, and as many gateways as it opens.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use routecache_config::render::{self, EnvoyOptions};
use routecache_harness::{
    Bridge, Connection, Envoy, EnvoyConfig, Error, Origin, Redis, Request, Response, Result, filter,
};
use serde_json::{Value, json};
use tokio::time::sleep;

/// The consistency window of [`rules`].
pub const WINDOW: Duration = Duration::from_secs(1);

/// How long the call to the bridge may hold a request up: `bridge.timeout`, and what a busy machine adds.
pub const BRIDGE_TIMEOUT: Duration = Duration::from_millis(50 + 500);

/// Users and their orders, as the demo has them.
pub fn rules() -> Value {
    json!({
        "version": 1,
        "namespace": { "prefix": "shop", "version": "v1" },
        "bridge": { "cluster": "bridge", "timeout": "50ms" },
        "consistency": { "window": "1s" },
        "purge": { "timeout": "250ms" },
        "routes": [
            {
                "name": "user",
                "match": { "methods": ["GET"], "path": "/users/{user_id}" },
                "cache": { "key": "user:{user_id}", "ttl": "default", "tags": ["user:{user_id}"] }
            },
            {
                "name": "order-list",
                "match": { "methods": ["GET"], "path": "/users/{user_id}/orders" },
                "cache": {
                    "key": "user:{user_id}:orders:{query.page|default(1)}:{query.size|default(10)}",
                    "query": { "include": ["page", "size"] },
                    "ttl": "default",
                    "tags": ["user:{user_id}", "orders:{user_id}"]
                }
            },
            {
                "name": "user-write",
                "match": { "methods": ["PUT", "PATCH", "DELETE"], "path": "/users/{user_id}" },
                "purge": { "tags": ["user:{user_id}"] }
            },
            {
                "name": "order-create",
                "match": { "methods": ["POST"], "path": "/users/{user_id}/orders" },
                "purge": { "tags": ["orders:{user_id}"] }
            }
        ]
    })
}

/// The same without a bridge: one gateway on its own.
pub fn rules_without_bridge() -> Value {
    let mut rules = rules();
    if let Some(rules) = rules.as_object_mut() {
        rules.remove("bridge");
        rules.remove("consistency");
    }
    rules
}

/// What `routecache render` has to know of a gateway without a bridge.
pub fn options(origin: &Origin) -> Result<EnvoyOptions> {
    options_for(origin.address())
}

/// The same for any origin.
pub fn options_for(origin: SocketAddr) -> Result<EnvoyOptions> {
    let wasm = filter()?.display().to_string();
    Ok(EnvoyOptions { upstream: origin.into(), wasm, ..EnvoyOptions::default() })
}

/// An origin, and a bridge on a Redis of its own.
pub struct Stage {
    pub origin: Origin,
    pub redis: Redis,
    pub bridge: Bridge,
}

impl Stage {
    pub async fn set() -> Result<Self> {
        Self::set_on(Redis::start().await?).await
    }

    /// The same on that Redis.
    pub async fn set_on(redis: Redis) -> Result<Self> {
        let bridge = Bridge::start(redis.url()).await?;
        Ok(Self { origin: Origin::start().await?, redis, bridge })
    }

    /// Opens a gateway with [`rules`], and waits until it hears the bridge.
    pub async fn gateway(&self) -> Result<Gateway> {
        let gateway = Gateway::open(&rules(), self.options()?).await?;
        gateway.settled(&Request::get("/users/999")).await?;
        Ok(gateway)
    }

    /// What `routecache render` has to know of this stage.
    pub fn options(&self) -> Result<EnvoyOptions> {
        Ok(EnvoyOptions { bridge: Some(self.bridge.address().into()), ..options(&self.origin)? })
    }
}

/// An Envoy with the filter, and a connection to each of its two workers.
pub struct Gateway {
    pub envoy: Envoy,
    pub workers: [Connection; 2],
}

impl Gateway {
    /// Opens one; it may not hear the bridge yet.
    pub async fn open(rules: &Value, options: EnvoyOptions) -> Result<Self> {
        Self::open_changed(rules, options, |yaml| yaml).await
    }

    /// The same with a change to what is rendered.
    pub async fn open_changed(
        rules: &Value,
        options: EnvoyOptions,
        change: impl FnOnce(String) -> String,
    ) -> Result<Self> {
        let config = EnvoyConfig::new(|listen, admin| {
            change(render::envoy(rules, &EnvoyOptions { listen, admin: Some(admin), ..options }))
        })?;
        let envoy = Envoy::start(config).await?;
        let workers = [envoy.worker(0).await?, envoy.worker(1).await?];
        Ok(Self { envoy, workers })
    }

    /// Asks through a worker.
    pub async fn get(&mut self, worker: usize, path: &str) -> Result<Response> {
        self.workers[worker].get(path).await
    }

    /// Sends a request through a worker.
    pub async fn send(&mut self, worker: usize, request: Request) -> Result<Response> {
        self.workers[worker].send(request).await
    }

    /// Sends `probe` until it isn't bypassed: until its first poll of the bridge, a gateway doesn't trust what it holds.
    pub async fn settled(&self, probe: &Request) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            let answer = self.envoy.send(probe.clone()).await?;
            if answer.cache_status().detail.as_deref() != Some("feed-lost") {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err(Error::Unexpected(format!("the gateway doesn't hear the bridge within 10 s\n{}", self.envoy.log())))
    }

    /// Asks through a worker until the answer is as wanted, for at most `within`; the time that it took.
    pub async fn until(
        &mut self,
        worker: usize,
        path: &str,
        within: Duration,
        wanted: impl Fn(&Response) -> bool,
    ) -> Result<Duration> {
        let start = Instant::now();
        loop {
            let answer = self.get(worker, path).await?;
            if wanted(&answer) {
                return Ok(start.elapsed());
            }
            if start.elapsed() > within {
                let (status, cache) = (answer.status, answer.header("cache-status"));
                return Err(Error::Unexpected(format!(
                    "{path} isn't as wanted after {within:?}: {status}, {cache}\n{}",
                    self.envoy.log()
                )));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}
