//! Upstreams that are reached over a network.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::pipe::Outgoing;
use crate::failure::UpstreamFailure;

/// As Envoy's `connect_timeout`.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long an idle connection is kept. Servers should keep theirs longer, so that nothing is ever sent into a close.
const IDLE: Duration = Duration::from_secs(50);

/// Where an upstream listens: `http://host:port`, or `h2c://host:port` for HTTP/2 without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    authority: Authority,
    http2: bool,
}

/// A text that isn't an [`UpstreamUrl`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnUpstream {
    /// TLS isn't there yet.
    #[error("`https://` is not supported: name an upstream without TLS, `http://host:port`")]
    Tls,
    /// A path would have to be put before those of requests.
    #[error("`{0}` has a path; requests keep their own, so write `http://host:port`")]
    Path(String),
    /// Anything else.
    #[error("`{0}` is no upstream; write `http://host:port`, or `h2c://host:port` for HTTP/2")]
    Other(String),
}

impl UpstreamUrl {
    /// Whoever listens on an address of this machine, by HTTP/1.1.
    pub(super) fn of(mut address: SocketAddr) -> Self {
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        let authority = Authority::try_from(address.to_string()).unwrap_or(Authority::from_static("localhost"));
        Self { authority, http2: false }
    }
}

impl FromStr for UpstreamUrl {
    type Err = NotAnUpstream;

    fn from_str(text: &str) -> Result<Self, NotAnUpstream> {
        let other = || NotAnUpstream::Other(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(other)?;
        let http2 = match scheme {
            "http" => false,
            "h2c" => true,
            "https" => return Err(NotAnUpstream::Tls),
            _ => return Err(other()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(NotAnUpstream::Path(text.to_owned()));
        }
        let authority: Authority = rest.parse().map_err(|_| other())?;
        let port_is_odd = authority.port_u16().is_none() && authority.as_str() != authority.host();
        // User and password would go nowhere.
        if authority.as_str().contains('@') || authority.host().is_empty() || port_is_odd {
            return Err(other());
        }
        Ok(Self { authority, http2 })
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.http2 { "h2c" } else { "http" };
        write!(formatter, "{scheme}://{}", self.authority)
    }
}

/// A thread's connections to an upstream.
pub(super) struct Cluster {
    pub(super) url: UpstreamUrl,
    connections: Connections,
}

enum Connections {
    Http1(Box<Client<HttpConnector, Outgoing>>),
    Http2(Mutex<Option<http2::SendRequest<Outgoing>>>),
}

impl Cluster {
    pub(super) fn new(url: UpstreamUrl) -> Self {
        if url.http2 {
            return Self { url, connections: Connections::Http2(Mutex::new(None)) };
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_WITHIN));
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_idle_timeout(IDLE).pool_timer(TokioTimer::new());
        Self { url, connections: Connections::Http1(Box::new(client.build(connector))) }
    }

    /// Sends a request whose URI is a path only, and waits for the headers of the answer.
    pub(super) async fn send(&self, mut request: Request<Outgoing>) -> Result<Response<Incoming>, UpstreamFailure> {
        match &self.connections {
            Connections::Http1(client) => {
                *request.uri_mut() = absolute(request.uri(), self.url.authority.clone());
                client.request(request).await.map_err(|error| match error.is_connect() {
                    true => UpstreamFailure::Connect,
                    false => UpstreamFailure::Reset,
                })
            }
            Connections::Http2(connection) => {
                // In HTTP/2 the authority takes the place of the host.
                let host = request.headers_mut().remove("host");
                let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
                *request.uri_mut() = absolute(request.uri(), host.unwrap_or_else(|| self.url.authority.clone()));
                let mut sender = self.http2(connection).await.ok_or(UpstreamFailure::Connect)?;
                sender.send_request(request).await.map_err(|_| UpstreamFailure::Reset)
            }
        }
    }

    /// The connection of all requests, opened where there is none.
    async fn http2(
        &self,
        connection: &Mutex<Option<http2::SendRequest<Outgoing>>>,
    ) -> Option<http2::SendRequest<Outgoing>> {
        let mut connection = connection.lock().await;
        if let Some(sender) = connection.as_mut().filter(|sender| !sender.is_closed())
            && sender.ready().await.is_ok()
        {
            return Some(sender.clone());
        }
        let (host, port) = (self.url.authority.host(), self.url.authority.port_u16().unwrap_or(80));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let stream = timeout(CONNECT_WITHIN, TcpStream::connect((host, port))).await.ok()?.ok()?;
        let _ = stream.set_nodelay(true); // only slower without
        let (sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
        tokio::spawn(driver); // ends with the connection; an error shows in the exchanges that it breaks
        Some(connection.insert(sender).clone())
    }
}

fn absolute(path: &Uri, authority: Authority) -> Uri {
    let path = path.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(path).build();
    uri.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{NotAnUpstream, UpstreamUrl};

    #[test]
    fn who_listens_everywhere_is_reached_on_this_machine() {
        for (listens, reached) in [
            ("127.0.0.1:80", "http://127.0.0.1:80"),
            ("0.0.0.0:81", "http://127.0.0.1:81"),
            ("[::]:82", "http://[::1]:82"),
        ] {
            assert_eq!(UpstreamUrl::of(listens.parse().unwrap()).to_string(), reached);
        }
    }

    #[test]
    fn an_upstream_is_a_scheme_a_host_and_a_port() {
        for (text, read) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://shop.internal/", "http://shop.internal"),
            ("h2c://[::1]:50051", "h2c://[::1]:50051"),
        ] {
            assert_eq!(text.parse::<UpstreamUrl>().unwrap().to_string(), read);
        }
        for text in ["", "127.0.0.1:80", "ftp://h", "http://", "http://user:hush@h", "http://h:99999"] {
            assert!(matches!(text.parse::<UpstreamUrl>(), Err(NotAnUpstream::Other(_))), "{text}");
        }
        assert_eq!("https://h".parse::<UpstreamUrl>(), Err(NotAnUpstream::Tls));
        assert!(matches!("http://h/base".parse::<UpstreamUrl>(), Err(NotAnUpstream::Path(_))));
    }
}
