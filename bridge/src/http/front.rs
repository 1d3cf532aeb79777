//! What a connection's requests meet first: lookups, which are nearly all of them, are answered without the layers that it
//! takes to find out which call is meant.

use std::convert::Infallible;
use std::pin::Pin;

use axum::Router;
use axum::extract::Extension;
use axum::response::Response;
use bridge_api::LOOKUP;
use http::{Method, Request};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::{Surroundings, gateways, guard, marked};
use crate::server::{Peer, Role};

/// All calls of one place.
#[derive(Clone)]
pub(crate) struct Front {
    calls: Surroundings,
    router: Router,
    role: Role,
}

/// The same for one connection.
pub(crate) struct FrontOf {
    /// Nothing where gateways don't call.
    calls: Option<Surroundings>,
    others: TowerToHyperService<Router>,
    peer: Peer,
}

impl Front {
    pub(super) fn new(calls: &Surroundings, role: Role) -> Self {
        Self { calls: calls.clone(), router: calls.router(role), role }
    }

    pub(crate) fn of(&self, peer: Peer) -> FrontOf {
        FrontOf {
            calls: matches!(self.role, Role::All | Role::Gateways).then(|| self.calls.clone()),
            others: TowerToHyperService::new(self.router.clone().layer(Extension(peer))),
            peer,
        }
    }
}

impl Service<Request<Incoming>> for FrontOf {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        match &self.calls {
            Some(calls) if request.uri().path() == LOOKUP && request.method() == Method::POST => {
                let (calls, peer) = (calls.clone(), self.peer.0);
                Box::pin(async move {
                    let look_up = async |request| gateways::look_up(&calls, request).await;
                    Ok(marked(guard::guarded(&calls.0, peer, request, look_up).await))
                })
            }
            _ => Box::pin(self.others.call(request)),
        }
    }
}
