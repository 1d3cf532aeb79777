//! The caches that `bench collapse` asks, each on two workers or more, each in front of the same origin.

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use routecache_config::render::{self, EnvoyOptions};
use routecache_harness::{Client, Envoy, EnvoyConfig, Port, Server, filter};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::envoys;

type Outcome<T> = Result<T, Box<dyn Error>>;

enum Running {
    Envoy(Envoy),
    Server { server: Server, _folder: TempDir },
}

/// A cache under test.
pub struct Cache {
    pub name: &'static str,
    running: Running,
}

impl Cache {
    pub fn client(&self) -> Client {
        match &self.running {
            Running::Envoy(envoy) => envoy.client(),
            Running::Server { server, .. } => server.client(),
        }
    }
}

/// How long a client may wait for another one's fetch, wherever that can be said.
const WAIT: &str = "30s";

/// All that can be had here, ours first.
pub async fn all(origin: SocketAddr) -> Outcome<Vec<Cache>> {
    let mut caches = vec![routecache(origin).await?, http_cache(origin).await?];
    for (name, variable) in [("nginx", "ROUTECACHE_NGINX"), ("Varnish", "ROUTECACHE_VARNISHD")] {
        let Some(program) = std::env::var_os(variable).map(PathBuf::from) else {
            println!("{name} IS MISSING from what follows: {variable} names none (xtask has said why)");
            continue;
        };
        caches.push(if name == "nginx" { nginx(&program, origin).await? } else { varnish(&program, origin).await? });
    }
    Ok(caches)
}

/// Two workers, no bridge, all defaults except for the wait.
async fn routecache(origin: SocketAddr) -> Outcome<Cache> {
    let rules: Value = json!({
        "routes": [{ "name": "all", "match": { "path": "/{*path}" }, "cache": { "ttl": "1m", "lock_wait": WAIT } }],
    });
    let wasm = filter()?.display().to_string();
    let options = EnvoyOptions { upstream: origin.into(), wasm, access_log: false, ..EnvoyOptions::default() };
    let config = EnvoyConfig::new(|listen, admin| {
        render::envoy(&rules, &EnvoyOptions { listen, admin: Some(admin), ..options })
    })?;
    Ok(Cache { name: "routecache", running: Running::Envoy(Envoy::start(config).await?) })
}

/// The same Envoy with the cache that comes with it.
async fn http_cache(origin: SocketAddr) -> Outcome<Cache> {
    let filters = [envoys::http_cache()];
    let config = EnvoyConfig::new(|listen, admin| {
        envoys::bootstrap(listen, admin, origin, &envoys::forward(), &filters).to_string()
    })?;
    Ok(Cache { name: "Envoy's http.cache", running: Running::Envoy(Envoy::start(config).await?) })
}

/// With the lock, stale answers during an update, and the update in the background. `/strict/` has the lock alone: there
/// nothing stale may answer.
async fn nginx(program: &Path, origin: SocketAddr) -> Outcome<Cache> {
    let (port, folder) = (Port::claim()?, TempDir::with_prefix("routecache-nginx-")?);
    let listen = port.address();
    let settings = format!(
        "
        daemon off;
        user root;
        worker_processes 2;
        pid nginx.pid;
        error_log stderr warn;
        events {{ worker_connections 4096; }}
        http {{
            access_log off;
            keepalive_requests 1000000;
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            proxy_cache_path cache keys_zone=all:10m use_temp_path=off;
            upstream origin {{ server {origin}; keepalive 32; }}
            proxy_http_version 1.1;
            proxy_set_header Connection '';
            proxy_cache all;
            proxy_cache_lock on;
            proxy_cache_lock_timeout {WAIT};
            proxy_cache_lock_age {WAIT};
            server {{
                listen {listen} backlog=4096;
                location / {{
                    proxy_pass http://origin;
                    proxy_cache_use_stale updating;
                    proxy_cache_background_update on;
                }}
                location /strict/ {{ proxy_pass http://origin; }}
            }}
        }}"
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, settings)?;
    let mut command = Command::new(program);
    command.arg("-p").arg(folder.path()).arg("-c").arg(&file).args(["-e", "stderr"]);
    let server = Server::start("nginx", command, port).await?;
    Ok(Cache { name: "nginx", running: Running::Server { server, _folder: folder } })
}

/// With half a minute of grace; none below `/strict/`.
async fn varnish(program: &Path, origin: SocketAddr) -> Outcome<Cache> {
    let (port, folder) = (Port::claim()?, TempDir::with_prefix("routecache-varnish-")?);
    let (host, number) = (origin.ip(), origin.port());
    let settings = format!(
        "vcl 4.1;
        backend origin {{ .host = \"{host}\"; .port = \"{number}\"; }}
        sub vcl_backend_response {{
            set beresp.grace = 30s;
            if (bereq.url ~ \"^/strict/\") {{ set beresp.grace = 0s; }}
        }}"
    );
    let file = folder.path().join("origin.vcl");
    std::fs::write(&file, settings)?;
    let mut command = Command::new(program);
    command.args(["-F", "-j", "none", "-T", "none", "-s", "malloc,64m", "-a", &port.address().to_string()]);
    command.arg("-n").arg(folder.path()).arg("-f").arg(&file);
    let server = Server::start("varnishd", command, port).await?;
    Ok(Cache { name: "Varnish", running: Running::Server { server, _folder: folder } })
}
