//! An HTTP/1.1 client that says when it opens a connection, since in Envoy the connection decides the worker.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HOST, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{error::Elapsed, timeout};

use crate::{Error, Result};

/// The host that requests name, unless they name one themselves. Gateways of a group have it in common, not an address;
/// a cache has it in its keys.
pub const API_HOST: &str = "api.example.com";

/// A server's address, to open connections to.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    address: SocketAddr,
}

impl Client {
    /// How long a client waits for headers, and for each piece of a body.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// A client of that server.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// When nothing listens there.
    pub async fn connect(&self) -> Result<Connection> {
        let doing = format!("connect to {}", self.address);
        let stream = TcpStream::connect(self.address).await.map_err(Error::io(&doing))?;
        stream.set_nodelay(true).map_err(Error::io(&doing))?;
        let broken = |source| Error::Broken { request: doing, source };
        let (sender, driver) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(driver); // ends with the sender; an error shows in the exchange that it breaks
        Ok(Connection { sender })
    }

    /// Sends a GET on a new connection.
    ///
    /// # Errors
    ///
    /// When there is no complete answer.
    pub async fn get(&self, path: &str) -> Result<Response> {
        self.send(Request::get(path)).await
    }

    /// Sends a request on a new connection.
    ///
    /// # Errors
    ///
    /// When there is no complete answer.
    pub async fn send(&self, request: Request) -> Result<Response> {
        self.connect().await?.send(request).await
    }
}

/// One connection, and so one worker. Requests on it follow each other.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Sends a GET and reads the whole answer.
    ///
    /// # Errors
    ///
    /// When there is no complete answer.
    pub async fn get(&mut self, path: &str) -> Result<Response> {
        self.send(Request::get(path)).await
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    ///
    /// When there is no complete answer.
    pub async fn send(&mut self, request: Request) -> Result<Response> {
        let start = Instant::now();
        let mut arriving = self.begin(request).await?;
        let mut body = Vec::new();
        while let Some(piece) = arriving.next().await? {
            body.extend_from_slice(&piece);
        }
        let Arriving { status, headers, .. } = arriving;
        Ok(Response { status, headers, body: body.into(), elapsed: start.elapsed() })
    }

    /// Sends a request and reads the headers of its answer; the body is read as it comes.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn begin(&mut self, request: Request) -> Result<Arriving> {
        let name = request.to_string();
        self.sender.ready().await.map_err(|source| Error::Broken { request: name.clone(), source })?;
        let mut outgoing = http::Request::new(Full::new(request.body));
        *outgoing.method_mut() = request.method;
        *outgoing.uri_mut() =
            request.path.parse().map_err(|cause| Error::Unexpected(format!("{name}: no request target: {cause}")))?;
        *outgoing.headers_mut() = request.headers;
        outgoing.headers_mut().entry(HOST).or_insert(HeaderValue::from_static(API_HOST));
        let answer = timeout(Client::TIMEOUT, self.sender.send_request(outgoing)).await;
        let (parts, body) = within(&name, answer)?.into_parts();
        Ok(Arriving { status: parts.status, headers: parts.headers, name, body })
    }
}

fn within<T>(request: &str, outcome: std::result::Result<hyper::Result<T>, Elapsed>) -> Result<T> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(Error::Broken { request: request.to_owned(), source }),
        Err(_) => Err(Error::NoAnswer { request: request.to_owned(), after: Client::TIMEOUT }),
    }
}

/// A request, built up from its method and path.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Request {
    /// Any method.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A GET.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A PUT of a JSON document.
    #[must_use]
    pub fn put(path: impl Into<String>, document: &Value) -> Self {
        Self::new(Method::PUT, path).json(document)
    }

    /// A POST of a JSON document.
    #[must_use]
    pub fn post(path: impl Into<String>, document: &Value) -> Self {
        Self::new(Method::POST, path).json(document)
    }

    /// Adds a header field.
    ///
    /// # Panics
    ///
    /// When the value can't stand in a header: tests write them out.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a header value as HTTP allows it");
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    /// Gives it this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    fn json(mut self, document: &Value) -> Self {
        self.body = document.to_string().into();
        self.header("content-type", "application/json")
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// An answer whose body is still coming.
#[derive(Debug)]
pub struct Arriving {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
    name: String,
    body: Incoming,
}

impl Arriving {
    /// The next piece of the body, or none at its end. Trailers are passed over.
    ///
    /// # Errors
    ///
    /// When the body breaks off, or nothing comes.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let frame = match timeout(Client::TIMEOUT, self.body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => within(&self.name, Ok(frame))?,
                Err(elapsed) => within(&self.name, Err(elapsed))?,
            };
            if let Ok(piece) = frame.into_data() {
                return Ok(Some(piece));
            }
        }
    }
}

/// A complete answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// From the request's first byte to the answer's last, without connecting.
    pub elapsed: Duration,
}

impl Response {
    /// The body as text, with what isn't UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `null` when it isn't.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header field's lines, joined as RFC 9110 §5.3 joins them; empty when there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        joined(&self.headers, name)
    }

    /// What `Cache-Status` says of our cache; [`CacheStatus::default`] when it says nothing.
    #[must_use]
    pub fn cache_status(&self) -> CacheStatus {
        CacheStatus::of(&self.headers)
    }
}

fn joined(headers: &HeaderMap, name: &str) -> String {
    let lines = headers.get_all(name).iter();
    let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect();
    lines.join(", ")
}

/// The `routecache` member of a `Cache-Status` field (RFC 9211).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Answered from the cache.
    pub hit: bool,
    /// Why it was forwarded.
    pub fwd: Option<String>,
    /// Whether the forwarded answer is being stored.
    pub stored: bool,
    /// Seconds that the answer stays fresh.
    pub ttl: Option<i64>,
    /// What RFC 9211 leaves to the cache: the tier of a hit, the state of a purge.
    pub detail: Option<String>,
}

impl CacheStatus {
    /// What the header fields of an answer say of our cache.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        Self::parse(&joined(headers, "cache-status"))
    }

    /// Reads our own member. None of what we write holds a quoted `,` or `;`.
    fn parse(field: &str) -> Self {
        let mut status = Self::default();
        let member = field.split(',').map(str::trim).find(|member| member.split(';').next() == Some("routecache"));
        for parameter in member.unwrap_or_default().split(';').skip(1) {
            let (name, value) = parameter.trim().split_once('=').unwrap_or((parameter.trim(), ""));
            match name {
                "hit" => status.hit = true,
                "stored" => status.stored = true,
                "fwd" => status.fwd = Some(value.to_owned()),
                "ttl" => status.ttl = value.parse().ok(),
                "detail" => status.detail = Some(value.to_owned()),
                _ => {}
            }
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::CacheStatus;

    #[test]
    fn cache_status_is_read_by_member_and_parameter() {
        let hit = CacheStatus { hit: true, ttl: Some(287), detail: Some("worker".into()), ..CacheStatus::default() };
        let miss = CacheStatus { fwd: Some("uri-miss".into()), stored: true, ..CacheStatus::default() };
        for (field, expected) in [
            ("routecache; hit; ttl=287; detail=worker", hit.clone()),
            ("Other; hit; ttl=1, routecache; fwd=uri-miss; stored", miss),
            ("routecache;hit;ttl=287;detail=worker, CDN; fwd=stale", hit),
            ("routecache2; hit", CacheStatus::default()),
            ("", CacheStatus::default()),
        ] {
            assert_eq!(CacheStatus::parse(field), expected, "{field}");
        }
    }
}
