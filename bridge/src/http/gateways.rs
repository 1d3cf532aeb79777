//! The calls of gateways.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use bridge_api::{
    Continuity, FEED, FeedReply, FeedRequest, LOOKUP, LookupReply, LookupRequest, PURGE, RELEASE, ReleaseReply,
    ReleaseRequest, STORE, StoreReply, StoreRequest, WAIT, WaitReply, WaitRequest,
};
use bytes::Bytes;

use super::call::{About, CameTo, Incoming, Kind};
use super::{Surroundings, people};
use crate::access::Scope;

pub(super) fn router() -> Router<Surroundings> {
    Router::new()
        .route(LOOKUP, post(lookup))
        .route(STORE, post(store))
        .route(PURGE, post(people::purge))
        .route(FEED, post(feed))
        .route(WAIT, post(wait))
        .route(RELEASE, post(release))
}

async fn lookup(State(calls): State<Surroundings>, request: Request) -> Response {
    look_up(&calls, request).await
}

/// Also called without a router: see [`super::front`].
pub(super) async fn look_up(calls: &Surroundings, request: http::Request<impl Incoming>) -> Response {
    let kind = Kind::new("lookup", Scope::Filter);
    calls.answer(kind, request, async |shared, asked, _| shared.service.lookup(&asked).await).await
}

async fn store(State(calls): State<Surroundings>, request: Request) -> Response {
    let kind = Kind::new("store", Scope::Filter);
    calls
        .answer(kind, request, async |shared, asked, payload| shared.service.store(asked, payload).await.map(bare))
        .await
}

async fn feed(State(calls): State<Surroundings>, request: Request) -> Response {
    let kind = Kind { held: true, ..Kind::new("feed", Scope::Filter) };
    calls.answer(kind, request, async |shared, asked, _| shared.service.feed(&asked).await.map(bare)).await
}

async fn wait(State(calls): State<Surroundings>, request: Request) -> Response {
    let kind = Kind { held: true, ..Kind::new("wait", Scope::Filter) };
    calls.answer(kind, request, async |shared, asked, _| shared.service.wait(asked).await.map(bare)).await
}

async fn release(State(calls): State<Surroundings>, request: Request) -> Response {
    let kind = Kind::new("release", Scope::Filter);
    calls.answer(kind, request, async |shared, asked, _| shared.service.release(&asked).await.map(bare)).await
}

/// A reply that carries no stored bytes.
fn bare<T>(reply: T) -> (T, Bytes) {
    (reply, Bytes::new())
}

macro_rules! about {
    ($($request:ty),+) => {
        $(impl About for $request {
            fn namespace(&self) -> &str {
                &self.namespace
            }
        })+
    };
}
about!(LookupRequest, StoreRequest, FeedRequest, WaitRequest, ReleaseRequest);

impl CameTo for LookupReply {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Hit { .. } => "hit",
            Self::Miss { .. } => "miss",
            Self::Behind => "behind",
        }
    }
}

impl CameTo for StoreReply {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Newer => "newer",
            Self::Void => "void",
            Self::Full => "full",
        }
    }
}

impl CameTo for FeedReply {
    fn outcome(&self) -> &'static str {
        match self.continuity {
            Continuity::Joined => "joined",
            Continuity::First => "first",
            Continuity::Trimmed => "trimmed",
            Continuity::Lost => "lost",
            Continuity::NewEra => "new-era",
        }
    }
}

impl CameTo for WaitReply {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Pass { .. } => "pass",
            Self::Held { .. } => "held",
        }
    }
}

impl CameTo for ReleaseReply {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::HeldByAnother => "held-by-another",
        }
    }
}
