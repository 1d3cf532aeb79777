//! Addresses of Redis as people write them.

use std::fmt;

use redis::Client;

use super::target::UnusableRedis;

/// Where Redis is. Its text form shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// `redis` or `rediss`, or `unix`.
    scheme: &'static str,
    /// `user:password@`, or nothing.
    credentials: String,
    /// Hosts with their ports, or the path of a socket.
    hosts: Vec<String>,
    /// `/database` and parameters, as the client takes them.
    rest: String,
    shape: Shape,
}

/// What stands at the address.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Shape {
    Single,
    Cluster,
    Sentinel { service: String, db: i64, sentinel_password: Option<String> },
}

impl Address {
    /// Reads what stands behind `scheme://`; nothing if it makes no sense.
    pub(crate) fn parse(scheme: &str, text: &str) -> Option<Self> {
        let (scheme, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let scheme = match (scheme, kind) {
            ("unix", "") | ("redis" | "valkey", "unix") => "unix",
            ("redis" | "valkey", _) => "redis",
            ("rediss" | "valkeys", _) => "rediss",
            _ => return None,
        };
        if scheme == "unix" {
            let path = text.starts_with('/').then(|| text.to_owned())?;
            let nothing = String::new;
            return Some(Self {
                scheme,
                credentials: nothing(),
                hosts: vec![path],
                rest: nothing(),
                shape: Shape::Single,
            });
        }
        let (authority, rest) = match text.find(['/', '?']) {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let (credentials, hosts) = match authority.rfind('@') {
            Some(at) => authority.split_at(at + 1),
            None => ("", authority),
        };
        let hosts: Vec<String> = hosts.split(',').map(str::to_owned).collect();
        if hosts.iter().any(String::is_empty) {
            return None;
        }
        let (shape, rest) = match kind {
            "" if hosts.len() == 1 => (Shape::Single, rest.to_owned()),
            "" | "cluster" => (Shape::Cluster, rest.to_owned()),
            "sentinel" => (sentinel(rest)?, String::new()),
            _ => return None,
        };
        Some(Self { scheme, credentials: credentials.to_owned(), hosts, rest, shape })
    }

    /// Whether the client can use it, which alone knows.
    ///
    /// # Errors
    ///
    /// What the client says; it doesn't repeat the address.
    pub(crate) fn check(&self) -> Result<(), UnusableRedis> {
        for node in self.nodes() {
            Client::open(node)?;
        }
        Ok(())
    }

    /// Whether what stands there says where its replicas are.
    pub(crate) fn names_replicas(&self) -> bool {
        !matches!(self.shape, Shape::Single)
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// One URL per host, as the client takes them, passwords and all.
    pub(super) fn nodes(&self) -> Vec<String> {
        let Self { scheme, credentials, rest, .. } = self;
        let node = |host: &String| format!("{scheme}://{credentials}{host}{rest}");
        self.hosts.iter().map(node).collect()
    }
}

/// `/service[/database][?sentinel_password=…]`.
fn sentinel(rest: &str) -> Option<Shape> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut parts = path.strip_prefix('/')?.split('/');
    let service = parts.next().filter(|name| !name.is_empty())?.to_owned();
    let db = parts.next().map_or(Some(0), |db| db.parse().ok())?;
    let sentinel_password = match query {
        "" => None,
        _ => Some(query.strip_prefix("sentinel_password=")?.to_owned()),
    };
    parts.next().is_none().then_some(Shape::Sentinel { service, db, sentinel_password })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Parameters may hold secrets.
        let shown = |text: &str| text.split('?').next().unwrap_or_default().to_owned();
        let hosts: Vec<String> = self.hosts.iter().map(|host| shown(host)).collect();
        let kind = match &self.shape {
            Shape::Cluster => "+cluster",
            Shape::Sentinel { .. } => "+sentinel",
            Shape::Single => "",
        };
        write!(f, "{}{kind}://{}", self.scheme, hosts.join(","))?;
        match &self.shape {
            Shape::Sentinel { service, db, .. } => write!(f, "/{service}/{db}"),
            _ => f.write_str(&shown(&self.rest)),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
