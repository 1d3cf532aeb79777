//! The calls of people and programs: purges by whatever is known, and a look at an entry. Keys are in [`super::keys`].

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;

use super::Surroundings;
use super::call::{About, CameTo, Kind, say_text};
use crate::access::Scope;
use crate::people::{EntryReply, EntryRequest, Ordered, PurgeOrder};

/// Path of the call that shows an entry.
const ENTRY: &str = "/v1/entry";

/// Path of the description of all calls.
const OPENAPI: &str = "/v1/openapi.json";

pub(super) fn router() -> Router<Surroundings> {
    Router::new().route(ENTRY, post(entry)).route(OPENAPI, get(openapi))
}

/// What gateways and people both call; gateways name tags only.
pub(super) async fn purge(State(calls): State<Surroundings>, request: Request) -> Response {
    let kind = Kind { or: Some(Scope::Filter), ..Kind::new("purge", Scope::Purge) };
    let work = async |shared: &super::Shared, order: PurgeOrder, _| {
        let done = shared.service.order(&order).await?;
        Ok((done, Bytes::new()))
    };
    calls.answer(kind, request, work).await
}

async fn entry(State(calls): State<Surroundings>, request: Request) -> Response {
    let kind = Kind::new("entry", Scope::Read);
    calls.answer(kind, request, async |shared, asked, _| shared.service.entry(asked).await).await
}

async fn openapi() -> Response {
    say_text("application/json", include_str!("../openapi.json"))
}

impl About for PurgeOrder {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl About for EntryRequest {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl CameTo for Ordered {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Purged(_) => "purged",
            Self::Counted(_) => "counted",
        }
    }
}

impl CameTo for EntryReply {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Held { .. } => "held",
            Self::None => "none",
        }
    }
}
