//! Which Redis is meant: one server, a cluster, or the master that sentinels name; and how to connect to it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_read_routing::RandomReplicaStrategy;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline, RedisResult,
    TlsCertificates, TlsMode, Value,
};
use tokio::sync::Mutex;

use super::address::{Address, Shape};

/// How often a cluster's client follows slots that have moved, or waits for ones that nobody serves. Whatever we send may
/// be sent twice: see the scripts.
const CLUSTER_RETRIES: u32 = 4;

/// Milliseconds that it waits at most in between.
const CLUSTER_WAIT_MS: u64 = 200;

/// PEM files for TLS towards Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreTls {
    /// Who signs the server's certificate, instead of those whom the system trusts.
    pub ca: Option<PathBuf>,
    /// The certificate to show, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl StoreTls {
    fn read(&self) -> std::io::Result<TlsCertificates> {
        let client = |(certificate, key): &(PathBuf, PathBuf)| {
            Ok::<_, std::io::Error>(ClientTlsConfig { client_cert: fs::read(certificate)?, client_key: fs::read(key)? })
        };
        Ok(TlsCertificates {
            client_tls: self.client.as_ref().map(client).transpose()?,
            root_cert: self.ca.as_ref().map(fs::read).transpose()?,
        })
    }
}

/// Why there is no way to the Redis that is meant.
#[derive(Debug, thiserror::Error)]
pub enum UnusableRedis {
    /// The client refuses the address.
    #[error("the client refuses the address")]
    Client(#[from] redis::RedisError),
    /// A certificate can't be read.
    #[error("a certificate for Redis can't be read")]
    Certificate(#[from] std::io::Error),
}

/// Which server is meant where there are several of the same data.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Master,
    /// Any replica; of a cluster's slot without one, its master. What only one server can be, it is.
    Replica,
}

/// Where to connect.
pub(super) enum Target {
    Single(Box<Client>),
    Cluster(Box<ClusterClient>, Nodes),
    Sentinel(Arc<Mutex<SentinelClient>>),
}

/// The nodes of a cluster that the address names, one after the other.
pub(super) struct Nodes {
    clients: Vec<Client>,
    turn: AtomicUsize,
}

impl Nodes {
    fn next(&self) -> RedisResult<Client> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.clients.get(turn % self.clients.len().max(1)).cloned().ok_or_else(no_host)
    }
}

/// A connection that mends itself.
#[derive(Clone)]
pub(super) enum Link {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Target {
    pub(super) fn new(address: &Address, role: Role, tls: &StoreTls, within: Duration) -> Result<Self, UnusableRedis> {
        // The client takes what the process prefers; it refuses a second one, which is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificates = tls.read()?;
        let infos: Vec<ConnectionInfo> =
            address.nodes().into_iter().map(|node| node.into_connection_info()).collect::<RedisResult<_>>()?;
        let is_tls = |info: &ConnectionInfo| matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        let encrypted = infos.iter().any(is_tls);
        let client = |info: ConnectionInfo| match encrypted {
            true => Client::build_with_tls(info, certificates.clone()),
            false => Client::open(info),
        };
        Ok(match address.shape() {
            Shape::Single => {
                let Some(info) = infos.into_iter().next() else { return Err(no_host().into()) };
                Self::Single(Box::new(client(info)?))
            }
            Shape::Cluster => {
                let clients = infos.iter().cloned().map(client).collect::<RedisResult<_>>()?;
                let builder = ClusterClientBuilder::new(infos)
                    .retries(CLUSTER_RETRIES)
                    .min_retry_wait(10)
                    .max_retry_wait(CLUSTER_WAIT_MS)
                    .connection_timeout(within)
                    .response_timeout(within);
                let builder = match role {
                    Role::Master => builder,
                    Role::Replica => builder.read_routing_strategy(RandomReplicaStrategy),
                };
                let builder = if encrypted { builder.tls(TlsMode::Secure).certs(certificates) } else { builder };
                Self::Cluster(Box::new(builder.build()?), Nodes { clients, turn: AtomicUsize::new(0) })
            }
            Shape::Sentinel { service, db, sentinel_password } => {
                let redis = infos.first().map(|info| info.redis_settings().clone()).ok_or_else(no_host)?;
                let addresses = infos.iter().map(|info| info.addr().clone());
                let server = match role {
                    Role::Master => SentinelServerType::Master,
                    Role::Replica => SentinelServerType::Replica,
                };
                let mut builder = SentinelClientBuilder::new(addresses, service, server)?;
                builder = builder.set_client_to_redis_db(*db);
                if let Some(user) = redis.username() {
                    builder = builder.set_client_to_redis_username(user);
                }
                if let Some(password) = redis.password() {
                    builder = builder.set_client_to_redis_password(password);
                }
                if let Some(password) = sentinel_password {
                    builder = builder.set_client_to_sentinel_password(password);
                }
                if encrypted {
                    builder = builder
                        .set_client_to_redis_tls_mode(TlsMode::Secure)
                        .set_client_to_redis_certificates(certificates.clone())
                        .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                        .set_client_to_sentinel_certificates(certificates);
                }
                Self::Sentinel(Arc::new(Mutex::new(builder.build()?)))
            }
        })
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(..))
    }

    /// A client of the one server, of the master that sentinels name, or of a node of the cluster, another each time: what is
    /// published reaches them all.
    pub(super) async fn client(&self) -> RedisResult<Client> {
        match self {
            Self::Single(client) => Ok(Client::clone(client)),
            Self::Cluster(_, nodes) => nodes.next(),
            Self::Sentinel(sentinels) => sentinels.lock().await.async_get_client().await,
        }
    }

    /// Connects; what is given out then reconnects by itself.
    pub(super) async fn connect(&self, within: Duration) -> RedisResult<Link> {
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0) // the pauses are ours
            .set_connection_timeout(Some(within))
            .set_response_timeout(None); // nor is this: one clock per call is enough
        Ok(match self {
            Self::Single(client) => {
                Link::Single(ConnectionManager::new_lazy_with_config(Client::clone(client), config)?)
            }
            Self::Cluster(client, _) => Link::Cluster(client.get_async_connection().await?),
            Self::Sentinel(sentinels) => {
                let master = sentinels.lock().await.async_get_client().await?;
                Link::Single(ConnectionManager::new_lazy_with_config(master, config)?)
            }
        })
    }
}

/// A master of a cluster, or the only one there is.
pub(super) type Node = Option<(String, u16)>;

impl Link {
    /// Sends all commands to one node.
    pub(super) async fn send_to(&mut self, node: &Node, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        match (self, node) {
            (Self::Cluster(cluster), Some((host, port))) => {
                let route = SingleNodeRoutingInfo::ByAddress { host: host.clone(), port: *port };
                let mut values = Vec::new();
                for command in pipeline.cmd_iter() {
                    let value = cluster.route_command(command.clone(), RoutingInfo::SingleNode(route.clone())).await?;
                    values.push(value.extract_error()?);
                }
                Ok(values)
            }
            (link, _) => link.send(pipeline).await,
        }
    }

    /// Sends all commands and reads all answers. On one server that is one pipeline; in a cluster each command goes to its
    /// own slot, all at once.
    pub(super) async fn send(&mut self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        match self {
            Self::Single(manager) => pipeline.query_async(manager).await,
            Self::Cluster(cluster) => {
                let each = pipeline.cmd_iter().map(|command| {
                    let mut cluster = cluster.clone();
                    async move { cluster.req_packed_command(command).await?.extract_error() }
                });
                try_join_all(each).await
            }
        }
    }
}

fn no_host() -> redis::RedisError {
    (ErrorKind::InvalidClientConfig, "the address has no host").into()
}
