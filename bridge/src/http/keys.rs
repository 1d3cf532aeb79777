//! The key space of applications: `/v1/keys/<namespace>/<key>`.

use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::call::{granted, refuse, say_json};
use super::{Shared, Surroundings};
use crate::access::Scope;
use crate::limits::KEEP_MS_MAX;
use crate::people::{KeyCall, KeyReply};
use crate::{Error, KeyOf};

/// How long the value is still kept, in milliseconds.
const TTL: HeaderName = HeaderName::from_static("routecache-ttl-ms");

pub(super) fn router() -> Router<Surroundings> {
    Router::new()
        .route("/v1/keys/{namespace}", delete(delete_by_pattern))
        .route("/v1/keys/{namespace}/{key}", get(read).put(write).delete(remove))
        .route("/v1/keys/{namespace}/{key}/pop", post(pop))
        .route("/v1/keys/{namespace}/{key}/increment", post(increment))
}

type OfKey = Path<(String, String)>;

async fn read(State(calls): State<Surroundings>, Path(of): OfKey, request: Request) -> Response {
    calls.0.key(of, request, Scope::Read, async |_, _| Ok(KeyCall::Get)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Writing {
    ttl_ms: Option<u64>,
    /// Only if nothing is there.
    #[serde(default)]
    add: bool,
}

async fn write(State(calls): State<Surroundings>, Path(of): OfKey, request: Request) -> Response {
    let call = async |shared: &Shared, request: Request| {
        let Writing { ttl_ms, add } = query(&request)?;
        let ttl_ms = ttl_ms.unwrap_or(KEEP_MS_MAX).min(KEEP_MS_MAX);
        let value = shared.body(request).await?;
        shared.metrics.came(value.len());
        Ok(if add { KeyCall::Add { value, ttl_ms } } else { KeyCall::Set { value, ttl_ms } })
    };
    calls.0.key(of, request, Scope::Keys, call).await
}

async fn remove(State(calls): State<Surroundings>, Path(of): OfKey, request: Request) -> Response {
    calls.0.key(of, request, Scope::Keys, async |_, _| Ok(KeyCall::Delete)).await
}

async fn pop(State(calls): State<Surroundings>, Path(of): OfKey, request: Request) -> Response {
    calls.0.key(of, request, Scope::Keys, async |_, _| Ok(KeyCall::Pop)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Incrementing {
    by: Option<i64>,
    ttl_ms: Option<u64>,
}

async fn increment(State(calls): State<Surroundings>, Path(of): OfKey, request: Request) -> Response {
    let call = async |_: &Shared, request: Request| {
        let Incrementing { by, ttl_ms } = query(&request)?;
        Ok(KeyCall::Increment { by: by.unwrap_or(1), ttl_ms: ttl_ms.unwrap_or(KEEP_MS_MAX).min(KEEP_MS_MAX) })
    };
    calls.0.key(of, request, Scope::Keys, call).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deleting {
    pattern: String,
}

async fn delete_by_pattern(
    State(calls): State<Surroundings>,
    Path(namespace): Path<String>,
    request: Request,
) -> Response {
    let shared = &*calls.0;
    let began = Instant::now();
    let deleted = async move {
        let grant = granted(&request, &[Scope::Keys])?;
        grant.check_namespace(&namespace)?;
        let _place = shared.place()?;
        let Deleting { pattern } = query(&request)?;
        shared.service.delete_keys(&namespace, &pattern).await
    };
    shared.ended(began, deleted.await.map(|deleted| ("done", say_json(&deleted))))
}

/// A number that a key holds now.
#[derive(Serialize)]
struct Number {
    value: i64,
}

impl Shared {
    async fn key(
        &self,
        (namespace, key): (String, String),
        request: Request,
        scope: Scope,
        call: impl AsyncFnOnce(&Self, Request) -> Result<KeyCall, Error>,
    ) -> Response {
        let began = Instant::now();
        let is_head = request.method() == Method::HEAD;
        let outcome = async {
            let grant = granted(&request, &[scope, Scope::Keys])?;
            grant.check_namespace(&namespace)?;
            let _place = self.place()?;
            let call = call(self, request).await?;
            match self.service.key(&KeyOf { namespace, key }, &call).await? {
                KeyReply::Absent => Err(Error::Absent),
                KeyReply::Present => Err(Error::Present),
                KeyReply::NoNumber => Err(Error::NoNumber),
                KeyReply::Full => Err(Error::Full),
                KeyReply::Done => Ok(("done", StatusCode::NO_CONTENT.into_response())),
                KeyReply::Number(value) => Ok(("number", say_json(&Number { value }))),
                KeyReply::Value(value, left_ms) => {
                    if !is_head {
                        self.metrics.went(value.len());
                    }
                    Ok(("value", show(value, left_ms)))
                }
            }
        };
        self.ended(began, outcome.await)
    }

    fn ended(&self, began: Instant, outcome: Result<(&'static str, Response), Error>) -> Response {
        let (came_to, response) = match outcome {
            Ok(done) => done,
            Err(error) => (error.code(), refuse("keys", &error)),
        };
        self.metrics.ended("keys", came_to, Some(began.elapsed()));
        response
    }
}

fn show(value: Bytes, left_ms: u64) -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    ([kind, (TTL, HeaderValue::from(left_ms))], Body::from(value)).into_response()
}

fn query<T: DeserializeOwned>(request: &Request) -> Result<T, Error> {
    let parsed = Query::try_from_uri(request.uri());
    parsed.map(|Query(query)| query).map_err(|error| Error::Malformed(error.body_text()))
}
