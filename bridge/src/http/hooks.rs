//! Deliveries to webhooks: `/v1/hooks/<name>`. Instead of a token they carry their sender's signature.

use std::time::{Instant, SystemTime};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::post;
use serde::Serialize;

use super::call::{refuse, say_json};
use super::guard::REQUEST_ID;
use super::{Shared, Surroundings};
use crate::Error;
use crate::hooks::BODY_BYTES_MAX;
use crate::hooks::signature::Doubt;

/// How often the store is asked to purge before the sender is told that it fails: many senders never deliver again.
const ATTEMPTS: usize = 10;

pub(super) fn router() -> Router<Surroundings> {
    Router::new().route("/v1/hooks/{name}", post(receive))
}

/// What came of a delivery.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
enum CameTo {
    Purged,
    /// It names nothing that this hook purges by.
    Nothing,
    /// It was carried out before.
    Repeated,
}

#[derive(Serialize)]
struct Received {
    outcome: CameTo,
}

async fn receive(State(calls): State<Surroundings>, Path(name): Path<String>, request: Request) -> Response {
    let shared = &*calls.0;
    let began = Instant::now();
    let id = request.headers().get(&REQUEST_ID).cloned();
    let received = shared.receive(&name, request).await;
    let (event, outcome) = match &received {
        Ok(CameTo::Purged) => ("purged", "purged"),
        Ok(CameTo::Nothing) => ("nothing", "nothing"),
        Ok(CameTo::Repeated) => ("repeated", "repeated"),
        Err(error) => {
            let event = match error {
                Error::Malformed(_) => "malformed",
                Error::Doubtful(_) => "doubtful",
                Error::Store(_) => "lost", // unless it is delivered again
                _ => "refused",
            };
            (event, error.code())
        }
    };
    shared.metrics.event("webhook", event);
    shared.metrics.ended("hook", outcome, Some(began.elapsed()));
    match received {
        Ok(outcome) => {
            tracing::debug!(hook = name, event, "a delivery was received");
            say_json(&Received { outcome })
        }
        Err(error) => {
            tracing::warn!(hook = name, ?id, event, %error, "a delivery to a webhook is refused");
            refuse("hook", &error)
        }
    }
}

impl Shared {
    async fn receive(&self, name: &str, request: Request) -> Result<CameTo, Error> {
        let hook = self.hooks.get(name).ok_or(Error::NoHook)?;
        let _place = self.place()?;
        let headers = request.headers().clone();
        let body = self.body_within(request, BODY_BYTES_MAX.min(self.limits.body_bytes)).await?;
        let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let genuine = hook.verify(&headers, &body, now_s).map_err(|doubt| {
            Error::Doubtful(match doubt {
                Doubt::Unsigned => "the delivery isn't signed in the way that this hook asks for",
                Doubt::Forged => "the signature isn't one of this hook's secrets",
                Doubt::Stale => "the delivery was sent too long ago, or a clock is wrong",
            })
        })?;
        if self.hooks.has_seen(&hook, &genuine, now_s) {
            return Ok(CameTo::Repeated);
        }
        let orders = hook.orders(&headers, &body)?;
        for order in &orders {
            self.service.insist(order, ATTEMPTS).await?;
        }
        self.hooks.remember(&hook, &genuine, now_s);
        Ok(if orders.is_empty() { CameTo::Nothing } else { CameTo::Purged })
    }
}
