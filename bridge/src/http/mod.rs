//! The calls over HTTP. Every answer carries the marker, a refusal too.

mod call;
mod front;
mod gateways;
mod guard;
mod health;
mod hooks;
mod keys;
mod people;
mod rate;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::post;
use bridge_api::{MARKER, PURGE, VERSION};
use http::header::HeaderValue;
use tokio::sync::Semaphore;

pub(crate) use self::front::Front;
use self::rate::Rates;
use crate::access::Access;
use crate::hooks::Hooks;
use crate::metrics::Metrics;
use crate::server::Role;
use crate::{Error, Limits, Service};

/// What all calls share.
#[derive(Clone)]
pub(crate) struct Surroundings(Arc<Shared>);

pub(crate) struct Shared {
    service: Service,
    limits: Limits,
    access: Access,
    hooks: Hooks,
    metrics: Metrics,
    rates: Rates,
    /// Places for calls.
    free: Semaphore,
}

impl Shared {
    pub(crate) fn new(service: Service, limits: Limits, access: Access, hooks: Hooks, metrics: Metrics) -> Self {
        let (free, rates) = (Semaphore::new(limits.requests), Rates::new(limits.rate));
        Self { service, limits, access, hooks, metrics, rates, free }
    }
}

impl Surroundings {
    pub(crate) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    pub(crate) fn front(&self, role: Role) -> Front {
        Front::new(self, role)
    }

    pub(crate) fn router(&self, role: Role) -> Router {
        let mut calls = Router::new();
        if matches!(role, Role::All | Role::Gateways) {
            calls = calls.merge(gateways::router());
        }
        if matches!(role, Role::All | Role::Admin) {
            calls = calls.merge(health::figures()).merge(people::router()).merge(keys::router());
        }
        if role == Role::Admin {
            calls = calls.route(PURGE, post(people::purge));
        }
        let mut calls = calls.layer(from_fn_with_state(self.clone(), guard::granted));
        if role != Role::Gateways {
            calls = calls.merge(hooks::router()); // which ask for signatures instead
        }
        calls
            .layer(from_fn_with_state(self.clone(), guard::guard))
            .merge(health::router()) // open to whoever asks: it tells nothing of the data
            .fallback(async |request: Request| call::refuse("none", &Error::NotFound(request.uri().path().to_owned())))
            .method_not_allowed_fallback(async || call::refuse("none", &Error::MethodNotAllowed))
            .layer(map_response(async |response| marked(response)))
            .with_state(self.clone())
    }
}

fn marked(mut response: Response) -> Response {
    response.headers_mut().insert(MARKER, HeaderValue::from_static(VERSION));
    response
}
