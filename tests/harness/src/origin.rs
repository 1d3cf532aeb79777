//! A small JSON API: users and their orders, kept in memory. Reads are slow, as reads of a real one are.
//!
//! ```text
//! GET    /users                                 GET /users/{id}/orders?page=1&size=10
//! GET    /users/{id}                            POST /users/{id}/orders
//! PUT    /users/{id}   PATCH /users/{id}   DELETE /users/{id}
//! ```
//!
//! Its admin interface has a port of its own: `GET /admin/requests` counts what came, `POST
//! /admin/fail-next-write?status=500` makes the next write fail.

mod answer;
mod users;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

pub use answer::{Answer, Gate};

use crate::{Error, Result};
use answer::Outgoing;
use users::Users;

/// How long a read takes, unless it is told otherwise.
pub const READ_TIME: Duration = Duration::from_millis(30);

/// Header of a request that wants another read time, in milliseconds.
const READ_TIME_HEADER: &str = "x-read-time-ms";

/// A running API; dropping it closes its ports and connections.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    admin: SocketAddr,
    shared: Arc<Mutex<State>>,
    servers: [JoinHandle<()>; 2],
}

/// A request that has come.
#[derive(Clone, Debug)]
pub struct Heard {
    /// `METHOD path?query`.
    pub request: String,
    /// Its header.
    pub headers: HeaderMap,
    /// When it came.
    pub at: Instant,
    /// When its answer's header left, or its connection was closed; none before.
    pub ended: Option<Instant>,
}

#[derive(Debug)]
struct State {
    users: Users,
    read_time: Duration,
    /// How many requests came, by `METHOD path?query`.
    requests: BTreeMap<String, u64>,
    /// Each of them, in the order in which they came.
    heard: Vec<Heard>,
    next_write: Option<StatusCode>,
    /// What to answer instead, by `METHOD path?query`.
    scripted: BTreeMap<String, Answer>,
}

impl Origin {
    /// Starts one with three users, on ports that the system picks.
    ///
    /// # Errors
    ///
    /// When it can't listen on loopback.
    pub async fn start() -> Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::start_at(any, any).await
    }

    /// The same on these addresses: the API's, and its admin interface's.
    ///
    /// # Errors
    ///
    /// When it can't listen there.
    pub async fn start_at(public: SocketAddr, admin: SocketAddr) -> Result<Self> {
        let state = State {
            users: Users::three(),
            read_time: READ_TIME,
            requests: BTreeMap::new(),
            heard: Vec::new(),
            next_write: None,
            scripted: BTreeMap::new(),
        };
        let shared = Arc::new(Mutex::new(state));
        let (address, public) = serve(public, Arc::clone(&shared), answer_public).await?;
        let (admin, private) = serve(admin, Arc::clone(&shared), answer_admin).await?;
        Ok(Self { address, admin, shared, servers: [public, private] })
    }

    /// Where the API listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its admin interface listens.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// How many such requests have come; the path with its query, as it arrived here.
    #[must_use]
    pub fn requests(&self, method: &str, path: &str) -> u64 {
        let state = lock(&self.shared);
        state.requests.get(&format!("{method} {path}")).copied().unwrap_or(0)
    }

    /// How many requests have come at all.
    #[must_use]
    pub fn requests_in_all(&self) -> u64 {
        lock(&self.shared).requests.values().sum()
    }

    /// Every request that has come, in order.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        lock(&self.shared).heard.clone()
    }

    /// Sets how long a read takes.
    pub fn set_read_time(&self, time: Duration) {
        lock(&self.shared).read_time = time;
    }

    /// Makes the next write change nothing and answer `status`.
    pub fn fail_next_write(&self, status: StatusCode) {
        lock(&self.shared).next_write = Some(status);
    }

    /// Answers such requests with this from now on, whatever the API would say; the path with its query.
    pub fn script(&self, method: &str, path: &str, answer: Answer) {
        lock(&self.shared).scripted.insert(format!("{method} {path}"), answer);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

/// A request as the API sees it.
struct Call {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    read_time: Option<Duration>,
    body: Value,
}

async fn answer_public(state: Arc<Mutex<State>>, call: Call) -> Answer {
    let name = match call.query.as_str() {
        "" => format!("{} {}", call.method, call.path),
        query => format!("{} {}?{query}", call.method, call.path),
    };
    let _under_way = UnderWay::begin(&state, &name, call.headers.clone());
    answer_named(&state, &call, &name).await
}

/// A request that isn't answered yet.
struct UnderWay<'a> {
    state: &'a Mutex<State>,
    nth: usize,
}

impl<'a> UnderWay<'a> {
    fn begin(state: &'a Mutex<State>, name: &str, headers: HeaderMap) -> Self {
        let mut told = lock(state);
        *told.requests.entry(name.to_owned()).or_default() += 1;
        let nth = told.heard.len();
        told.heard.push(Heard { request: name.to_owned(), headers, at: Instant::now(), ended: None });
        Self { state, nth }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(heard) = lock(self.state).heard.get_mut(self.nth) {
            heard.ended = Some(Instant::now());
        }
    }
}

async fn answer_named(state: &Mutex<State>, call: &Call, name: &str) -> Answer {
    let is_read = matches!(call.method, Method::GET | Method::HEAD);
    let (scripted, read_time) = {
        let mut state = lock(state);
        if !is_read && let Some(status) = state.next_write.take() {
            return Answer::json(status, &json!({ "error": "this write was told to fail" }));
        }
        (state.scripted.get(name).cloned(), call.read_time.unwrap_or(state.read_time))
    };
    if let Some(answer) = scripted {
        sleep(answer.waits()).await;
        return answer;
    }
    // What a read sees is decided before it takes its time: that is how stale values come about.
    let answer = lock(state).users.answer(&call.method, &call.path, &call.query, &call.body);
    if is_read {
        sleep(read_time).await;
    }
    answer
}

async fn answer_admin(state: Arc<Mutex<State>>, call: Call) -> Answer {
    match (call.method.as_str(), call.path.as_str()) {
        ("GET", "/admin/requests") => Answer::json(StatusCode::OK, &json!(lock(&state).requests)),
        ("POST", "/admin/fail-next-write") => {
            let status = call.query.strip_prefix("status=").and_then(|status| status.parse().ok());
            let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            lock(&state).next_write = Some(status);
            Answer::json(StatusCode::OK, &json!({ "next_write": status.as_u16() }))
        }
        _ => {
            let known = json!(["GET /admin/requests", "POST /admin/fail-next-write?status=500"]);
            Answer::json(StatusCode::NOT_FOUND, &json!({ "error": "no such call", "calls": known }))
        }
    }
}

async fn serve<F>(
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    answer: impl Fn(Arc<Mutex<State>>, Call) -> F + Copy + Send + Sync + 'static,
) -> Result<(SocketAddr, JoinHandle<()>)>
where
    F: Future<Output = Answer> + Send + 'static,
{
    let listening = TcpListener::bind(address).await.map_err(Error::io(format!("listen on {address}")))?;
    let address = listening.local_addr().map_err(Error::io("read our own address"))?;
    let accepting = async move {
        let mut connections = JoinSet::new(); // dropped with this task, and all of them with it
        while let Ok((stream, _)) = listening.accept().await {
            let state = Arc::clone(&state);
            let service = service_fn(move |request| {
                let state = Arc::clone(&state);
                async move {
                    let call = read(request).await.map_err(io::Error::other)?;
                    let outgoing: io::Result<Outgoing> = answer(state, call).await.into_response();
                    outgoing
                }
            });
            connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            while connections.try_join_next().is_some() {} // those that are over
        }
    };
    Ok((address, tokio::spawn(accepting)))
}

async fn read(request: http::Request<Incoming>) -> hyper::Result<Call> {
    let (head, body) = request.into_parts();
    let body: Bytes = body.collect().await?.to_bytes();
    let read_time = head.headers.get(READ_TIME_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    Ok(Call {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        read_time: read_time.map(Duration::from_millis),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
