//! What can be set, and where: a flag, else an environment variable, else the file, else the default.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Deserializer};

use crate::access::Tokens;
use crate::hooks::{HookSettings, Hooks};
use crate::{Algorithm, Limits, Packing, PublishPlace, Source, StoreTls, StoreUrl, Tls, TlsFiles};

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address of the network.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Address {
    /// Whether only this machine can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Unix(path.into())),
            _ => text.parse().map(Self::Tcp).map_err(|_| {
                format!(
                    "`{text}` is no place to listen at; write `127.0.0.1:8390`, `[::1]:8390` or `unix:/run/bridge.sock`"
                )
            }),
        }
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one object per line.
    Json,
}

/// What Redis's payloads are compressed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Zstandard at its fastest.
    #[default]
    Zstd,
    /// Faster, and larger.
    Lz4,
    /// Nothing.
    Off,
}

macro_rules! settings {
    ($($(#[$attribute:meta])* $name:ident: $type:ty,)+) => {
        /// What a flag, the environment and the file may each set. In the file, the names have `_` for `-`.
        #[derive(Clone, Debug, Default, Args, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Settings {
            $($(#[$attribute])* pub $name: Option<$type>,)+
        }

        impl Settings {
            /// These, and the other's where these say nothing.
            #[must_use]
            pub fn or(self, other: Self) -> Self {
                Self { $($name: self.$name.or(other.$name),)+ }
            }
        }
    };
}

settings! {
    /// Where to listen: `address:port` (port 0 takes a free one) or `unix:/path`, several between commas
    ///
    /// By default 127.0.0.1:8390. Beyond this machine only with tokens or --tls-client-ca.
    #[arg(long, env = "ROUTECACHE_LISTEN", value_name = "PLACE", value_delimiter = ',')]
    listen: Vec<Address>,
    /// Where people and programs call: purges, entries, keys, figures. By default at the same places as gateways
    #[arg(long, env = "ROUTECACHE_ADMIN_LISTEN", value_name = "PLACE")]
    admin_listen: Address,
    /// Where webhooks are delivered, and nothing else is answered. By default where people and programs call
    ///
    /// May be beyond this machine without tokens: each hook asks for its own signature.
    #[arg(long, env = "ROUTECACHE_HOOKS_LISTEN", value_name = "PLACE")]
    hooks_listen: Address,
    /// Where the data is: `mem://?bytes=256MiB`, or a Redis: `redis://` and `rediss://[user:password@]host[:port][/database]`,
    /// several hosts between commas for a cluster, `redis+sentinel://host:port,…/name`, `redis+unix:///path`
    ///
    /// By default CACHE_URL, else REDIS_URL, else mem://. A password is better kept there: arguments are seen by everybody
    /// on the machine.
    #[arg(long, value_name = "URL")]
    store: String,
    /// How long the store may take for one call, in milliseconds [default: 250]
    #[arg(long, env = "ROUTECACHE_STORE_TIMEOUT_MS", value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    store_timeout_ms: u64,
    /// Where entries' bytes may be read beside the master: `found` for the replicas that a cluster or sentinels name, or an
    /// address. Whatever decides what is valid is always the master's
    #[arg(long, env = "ROUTECACHE_STORE_REPLICAS", value_name = "URL")]
    store_replicas: String,
    /// PEM file of those who sign Redis's certificate, instead of the system's
    #[arg(long, env = "ROUTECACHE_STORE_CA", value_name = "PATH")]
    store_ca: PathBuf,
    /// PEM file of the certificate to show to Redis
    #[arg(long, env = "ROUTECACHE_STORE_CERT", value_name = "PATH")]
    store_cert: PathBuf,
    /// PEM file of its private key
    #[arg(long, env = "ROUTECACHE_STORE_KEY", value_name = "PATH")]
    store_key: PathBuf,
    /// What compresses entries in Redis, where that saves a tenth at least [default: zstd]
    #[arg(long, env = "ROUTECACHE_STORE_COMPRESSION", value_enum)]
    store_compression: Compression,
    /// Bytes from which on entries are compressed [default: 4096]
    #[arg(long, env = "ROUTECACHE_STORE_COMPRESSION_MIN_BYTES", value_name = "BYTES", value_parser = amount)]
    store_compression_min_bytes: usize,
    /// A channel of the store's Redis: each message is a purge order, as for POST /v1/purge
    #[arg(long, env = "ROUTECACHE_EVENTS_CHANNEL", value_name = "NAME")]
    events_channel: String,
    /// A stream of the store's Redis: the field `order` of each item is a purge order, kept until it is carried out
    #[arg(long, env = "ROUTECACHE_EVENTS_STREAM", value_name = "KEY")]
    events_stream: String,
    /// A channel of the store's Redis on which purges are told once they are done
    #[arg(long, env = "ROUTECACHE_PUBLISH_CHANNEL", value_name = "NAME")]
    publish_channel: String,
    /// A stream of the store's Redis in which purges are told once they are done
    #[arg(long, env = "ROUTECACHE_PUBLISH_STREAM", value_name = "KEY")]
    publish_stream: String,
    /// Purges that this stream keeps, about [default: 10000]
    #[arg(long, env = "ROUTECACHE_PUBLISH_STREAM_MAX", value_name = "COUNT", value_parser = amount)]
    publish_stream_max: usize,
    /// Webhooks by name; in the file only.
    #[arg(skip)]
    hooks: BTreeMap<String, HookSettings>,
    /// File of tokens: lines of `<secret> <scopes> <namespaces> [name]`; ROUTECACHE_TOKENS may hold such lines too
    #[arg(long, env = "ROUTECACHE_TOKENS_FILE", value_name = "PATH")]
    tokens_file: PathBuf,
    /// PEM file of the bridge's certificate: encrypts all places but unix sockets
    #[arg(long, env = "ROUTECACHE_TLS_CERT", value_name = "PATH")]
    tls_cert: PathBuf,
    /// PEM file of its private key
    #[arg(long, env = "ROUTECACHE_TLS_KEY", value_name = "PATH")]
    tls_key: PathBuf,
    /// PEM file of those who sign the certificates that clients must show
    #[arg(long, env = "ROUTECACHE_TLS_CLIENT_CA", value_name = "PATH")]
    tls_client_ca: PathBuf,
    /// Connections at once [default: 1024]
    #[arg(long, env = "ROUTECACHE_MAX_CONNECTIONS", value_name = "COUNT", value_parser = amount)]
    max_connections: usize,
    /// Calls at once, held polls among them [default: 1024]
    #[arg(long, env = "ROUTECACHE_MAX_REQUESTS", value_name = "COUNT", value_parser = amount)]
    max_requests: usize,
    /// Bytes of a request's body, hence of an entry [default: 8388608]
    #[arg(long, env = "ROUTECACHE_MAX_BODY_BYTES", value_name = "BYTES", value_parser = amount)]
    max_body_bytes: usize,
    /// Calls per second of one address; 0 is no limit [default: 0]
    #[arg(long, env = "ROUTECACHE_MAX_RATE", value_name = "COUNT")]
    max_rate: u32,
    /// How long calls under way may still take after SIGTERM, in milliseconds [default: 5000]
    #[arg(long, env = "ROUTECACHE_DRAIN_MS", value_name = "MS")]
    drain_ms: u64,
    /// How the log on standard error is written [default: text]
    #[arg(long, env = "ROUTECACHE_LOG_FORMAT", value_enum)]
    log_format: LogFormat,
    /// How much: error, warn, info, debug, or more as in RUST_LOG [default: info]
    #[arg(long, env = "RUST_LOG", value_name = "FILTER")]
    log: String,
}

/// Settings that don't work, and how to mend them. Never quotes a secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

impl Settings {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// When it can't be read, isn't TOML, or holds what nobody knows.
    pub fn read(path: &Path) -> Result<Self, Unusable> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| Unusable(format!("{shown}: {error}")))?;
        Self::parse(&text, &shown.to_string())
    }

    /// The same of a text; the name is for messages.
    ///
    /// # Errors
    ///
    /// When it isn't TOML, or holds what nobody knows.
    pub fn parse(text: &str, name: &str) -> Result<Self, Unusable> {
        toml::from_str(text).map_err(|error| {
            // What it quotes of the file may be a password.
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            Unusable(format!("{name}:{line}: {}", error.message()))
        })
    }

    /// Where to listen.
    #[must_use]
    pub fn places(&self) -> Vec<Address> {
        self.listen.clone().unwrap_or_else(|| vec![Address::Tcp(([127, 0, 0, 1], 8390).into())])
    }

    /// The store's address: a flag, else the environment, else the file, else memory. An empty variable counts as none.
    #[must_use]
    pub fn store_url(flag: Option<&str>, file: Option<&str>) -> String {
        let variable = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
        let url = flag.map(str::to_owned).or_else(|| variable("CACHE_URL")).or_else(|| variable("REDIS_URL"));
        url.or_else(|| file.map(str::to_owned)).unwrap_or_else(|| "mem://".to_owned())
    }

    /// How long the store may take for one call.
    #[must_use]
    pub fn store_timeout(&self) -> Duration {
        Duration::from_millis(self.store_timeout_ms.unwrap_or(250))
    }

    /// Where applications put their purges.
    #[must_use]
    pub fn sources(&self) -> Vec<Source> {
        let channel = self.events_channel.clone().map(Source::Channel);
        channel.into_iter().chain(self.events_stream.clone().map(Source::Stream)).collect()
    }

    /// Where purges are told.
    #[must_use]
    pub fn told_at(&self) -> Vec<PublishPlace> {
        let channel = self.publish_channel.clone().map(PublishPlace::Channel);
        let items_max = self.publish_stream_max.unwrap_or(10_000) as u64;
        let stream = self.publish_stream.clone().map(|key| PublishPlace::Stream { key, items_max });
        channel.into_iter().chain(stream).collect()
    }

    /// Refuses what the store can't do.
    ///
    /// # Errors
    ///
    /// Which of the settings needs another store.
    pub fn check_store(&self, url: &StoreUrl) -> Result<(), Unusable> {
        let asks = !self.sources().is_empty() || !self.told_at().is_empty();
        match url {
            StoreUrl::Mem { .. } if asks => Err(Unusable(
                "channels and streams (`--events-…`, `--publish-…`) are those of a Redis, and the store is `mem://`"
                    .to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// The webhooks, with their secrets.
    ///
    /// # Errors
    ///
    /// When one can't be used, or could be delivered nowhere.
    pub fn hooks(&self) -> Result<Hooks, Unusable> {
        let hooks = Hooks::new(self.hooks.as_ref().unwrap_or(&BTreeMap::new()));
        let hooks = hooks.map_err(|error| Unusable(error.to_string()))?;
        if hooks.is_empty() && self.hooks_listen.is_some() {
            return Err(Unusable("`--hooks-listen` is for webhooks, and the file has no `[hooks.NAME]`".to_owned()));
        }
        Ok(hooks)
    }

    /// What `rediss://` goes by.
    ///
    /// # Errors
    ///
    /// When only one of certificate and key is there.
    pub fn store_tls(&self) -> Result<StoreTls, Unusable> {
        let client = match (&self.store_cert, &self.store_key) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            _ => return Err(Unusable("Redis needs both `--store-cert` and `--store-key`".to_owned())),
        };
        Ok(StoreTls { ca: self.store_ca.clone(), client })
    }

    /// How entries are compressed in Redis.
    #[must_use]
    pub fn packing(&self) -> Packing {
        let usual = Packing::default();
        Packing {
            by: match self.store_compression.unwrap_or_default() {
                Compression::Zstd => Some(Algorithm::Zstd),
                Compression::Lz4 => Some(Algorithm::Lz4),
                Compression::Off => None,
            },
            min_bytes: self.store_compression_min_bytes.unwrap_or(usual.min_bytes),
            payload_bytes_max: self.limits().body_bytes,
        }
    }

    /// What the bridge takes on at once.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let usual = Limits::default();
        Limits {
            connections: self.max_connections.unwrap_or(usual.connections),
            requests: self.max_requests.unwrap_or(usual.requests),
            body_bytes: self.max_body_bytes.unwrap_or(usual.body_bytes),
            rate: self.max_rate.unwrap_or(usual.rate),
            drain: self.drain_ms.map_or(usual.drain, Duration::from_millis),
            silence: usual.silence,
        }
    }

    /// The tokens of the environment and of the file.
    ///
    /// # Errors
    ///
    /// When there is a line that is none, or a file without any: it would open the bridge to everybody.
    pub fn tokens(&self) -> Result<Tokens, Unusable> {
        let of = |place: String, text: &str| {
            let tokens = Tokens::parse(text).map_err(|error| Unusable(format!("{place}: {error}")))?;
            if tokens.is_empty() { Err(Unusable(format!("{place}: no token in it"))) } else { Ok(tokens) }
        };
        let mut tokens = Tokens::default();
        if let Ok(text) = std::env::var("ROUTECACHE_TOKENS")
            && !text.is_empty()
        {
            tokens.add(of("ROUTECACHE_TOKENS".to_owned(), &text)?);
        }
        if let Some(path) = &self.tokens_file {
            let shown = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|error| Unusable(format!("{shown}: {error}")))?;
            tokens.add(of(shown, &text)?);
        }
        Ok(tokens)
    }

    /// The bridge's certificates.
    ///
    /// # Errors
    ///
    /// When one of the files is missing or can't be used.
    pub fn tls(&self) -> Result<Option<Tls>, Unusable> {
        let (certificate, key) = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            (None, None) if self.tls_client_ca.is_none() => return Ok(None),
            _ => return Err(Unusable("TLS needs both `--tls-cert` and `--tls-key`".to_owned())),
        };
        let files = TlsFiles { certificate, key, client_ca: self.tls_client_ca.clone() };
        Tls::read(files).map(Some).map_err(|error| Unusable(told(&error)))
    }

    /// Refuses to serve strangers: beyond this machine, callers must show a token or a certificate.
    ///
    /// # Errors
    ///
    /// Which place isn't safe, and how to make it so.
    pub fn check_places(&self, tokens: &Tokens, tls: Option<&Tls>) -> Result<(), Unusable> {
        let places = self.places();
        if places.is_empty() {
            return Err(Unusable("there is no place to listen at".to_owned()));
        }
        if !tokens.is_empty() || tls.is_some_and(Tls::is_mutual) {
            return Ok(());
        }
        match places.iter().chain(&self.admin_listen).find(|place| !place.is_local()) {
            None => Ok(()),
            Some(place) => Err(Unusable(format!(
                "won't listen on {place}: whoever reaches it could read and purge everything; name who may, with \
                 `--tokens-file`, ROUTECACHE_TOKENS or `--tls-client-ca`, or listen on 127.0.0.1"
            ))),
        }
    }
}

/// A number of things, at least one.
fn amount(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=1 << 30).contains(number));
    number.ok_or_else(|| "write a whole number of at least 1".to_owned())
}

/// An error with its cause.
pub fn told(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error} ({})", told(cause)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(text: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bridge.toml");
        std::fs::write(&path, text).unwrap();
        Settings::read(&path).map_err(|error| error.to_string().replace(path.to_str().unwrap(), "bridge.toml"))
    }

    #[test]
    fn a_file_names_what_the_flags_name() {
        let read = from_file("listen = ['0.0.0.0:1', 'unix:/a']\nmax_requests = 7\nlog_format = 'json'").unwrap();
        assert_eq!(read.places(), [Address::Tcp(([0, 0, 0, 0], 1).into()), Address::Unix("/a".into())]);
        assert_eq!((read.limits().requests, read.limits().connections), (7, 1024));
        assert_eq!(read.log_format, Some(LogFormat::Json));
        let flags = Settings { max_requests: Some(9), ..Settings::default() };
        assert_eq!(flags.or(read).limits().requests, 9);
    }

    #[test]
    fn a_mistake_in_the_file_is_told_with_its_line_and_without_what_it_holds() {
        let cases = [
            ("\nmax_request = 7", "bridge.toml:2: unknown field `max_request`"),
            ("listen = ['here']", "bridge.toml:1: `here` is no place to listen at"),
            ("store_timeout_ms = 'long'", "bridge.toml:1: invalid type"),
            ("store = 'redis://user:hush@h", "bridge.toml:1:"),
        ];
        for (text, told) in cases {
            let error = from_file(text).unwrap_err();
            assert!(error.starts_with(told) && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn nobody_beyond_this_machine_is_served_unnamed() {
        let at = |listen: &str, admin: Option<&str>| Settings {
            listen: Some(vec![listen.parse().unwrap()]),
            admin_listen: admin.map(|place| place.parse().unwrap()),
            ..Settings::default()
        };
        let none = Tokens::default();
        for local in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:1", "unix:/run/a"] {
            assert!(at(local, Some(local)).check_places(&none, None).is_ok(), "{local}");
        }
        let one = Tokens::parse("aaaaaaaaaaaaaaaa read *").unwrap();
        for open in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80", "[::ffff:127.0.0.1]:1"] {
            assert!(at(open, None).check_places(&none, None).is_err(), "{open}");
            assert!(at("127.0.0.1:1", Some(open)).check_places(&none, None).is_err(), "{open}");
            assert!(at(open, None).check_places(&one, None).is_ok(), "{open}");
        }
    }
}
