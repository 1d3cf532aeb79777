//! Who asks, how often, and under which names it is logged.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use tracing::Instrument;

use super::call::refuse;
use super::{Shared, Surroundings};
use crate::Error;
use crate::random::Random;
use crate::server::Peer;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// Characters of a request id that a client may choose.
const REQUEST_ID_CHARS_MAX: usize = 128;

/// Names calls, and keeps them within their rate.
pub(super) async fn guard(State(calls): State<Surroundings>, request: Request, next: Next) -> Response {
    let peer = peer(&request);
    named(&calls.0, peer, request, async |request| next.run(request).await).await
}

/// Says what whoever asks may do, and refuses those who show no token of ours.
pub(super) async fn granted(State(calls): State<Surroundings>, request: Request, next: Next) -> Response {
    let peer = peer(&request);
    known(&calls.0, peer, request, async |request| next.run(request).await).await
}

/// Both.
pub(super) async fn guarded<B>(
    shared: &Shared,
    peer: Option<IpAddr>,
    request: http::Request<B>,
    work: impl AsyncFnOnce(http::Request<B>) -> Response,
) -> Response {
    named(shared, peer, request, async |request| known(shared, peer, request, work).await).await
}

fn peer(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<Peer>().and_then(|peer| peer.0)
}

async fn known<B>(
    shared: &Shared,
    peer: Option<IpAddr>,
    mut request: http::Request<B>,
    work: impl AsyncFnOnce(http::Request<B>) -> Response,
) -> Response {
    let Some(grant) = shared.access.grant(bearer(request.headers())) else {
        shared.metrics.ended("none", Error::Unauthorized.code(), None);
        let id = request.headers().get(&REQUEST_ID);
        tracing::info!(?peer, ?id, path = request.uri().path(), "refused: no token, or none of ours");
        return refuse("none", &Error::Unauthorized);
    };
    request.extensions_mut().insert(grant);
    work(request).await
}

async fn named<B>(
    shared: &Shared,
    peer: Option<IpAddr>,
    mut request: http::Request<B>,
    work: impl AsyncFnOnce(http::Request<B>) -> Response,
) -> Response {
    let id = request_id(request.headers());
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let trace = trace_parent(request.headers()).cloned();
    let shown = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    // Calls are told at this level; for a span that nobody sees, nothing is written down.
    let span = tracing::debug_span!("call", id = shown(&id), trace = trace.as_ref().map(shown));
    let _under_way = UnderWay::begin(shared);
    let answer = async {
        if !shared.rates.allow(peer) {
            shared.metrics.ended("none", Error::TooOften.code(), None);
            return refuse("none", &Error::TooOften);
        }
        work(request).await
    };
    let mut response = answer.instrument(span).await;
    response.headers_mut().insert(REQUEST_ID, id);
    if let Some(trace) = trace {
        response.headers_mut().insert(TRACE_PARENT, trace);
    }
    response
}

/// Counts a call while it is under way, however it ends.
struct UnderWay<'a>(&'a Shared);

impl<'a> UnderWay<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.metrics.under_way.inc();
        Self(shared)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.metrics.under_way.dec();
    }
}

/// The secret of `Authorization: Bearer …`; several such fields are none.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    let (scheme, secret) = field.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim_start_matches(' '))
}

/// The client's, if it is fit for a log, else one of ours.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    static OURS: std::sync::LazyLock<Random> = std::sync::LazyLock::new(Random::from_system);
    let fit = |id: &&HeaderValue| {
        (1..=REQUEST_ID_CHARS_MAX).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    let made = || HeaderValue::from_bytes(&hexadecimal(OURS.next())).unwrap_or(HeaderValue::from_static("none"));
    headers.get(REQUEST_ID).filter(fit).cloned().unwrap_or_else(made)
}

fn hexadecimal(number: u64) -> [u8; 16] {
    let digit = |value: u8| value + if value < 10 { b'0' } else { b'a' - 10 };
    let bytes = number.to_be_bytes();
    std::array::from_fn(|place| digit(if place % 2 == 0 { bytes[place / 2] >> 4 } else { bytes[place / 2] & 15 }))
}

/// W3C Trace Context: `00-<32 hex>-<16 hex>-<2 hex>`, and longer in later versions.
fn trace_parent(headers: &HeaderMap) -> Option<&HeaderValue> {
    let fit = |value: &&HeaderValue| {
        (55..=128).contains(&value.len())
            && value.as_bytes().iter().all(|byte| byte.is_ascii_digit() || b"abcdef-".contains(byte))
    };
    headers.get(TRACE_PARENT).filter(fit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_taken_from_one_bearer_field_only() {
        let headers = |fields: &[&str]| {
            let name = |text: &&str| (header::AUTHORIZATION, HeaderValue::from_str(text).unwrap());
            fields.iter().map(name).collect::<HeaderMap>()
        };
        assert_eq!(bearer(&headers(&["Bearer abc"])), Some("abc"));
        assert_eq!(bearer(&headers(&["bearer  abc"])), Some("abc"));
        for none in [&[][..], &["abc"], &["Basic abc"], &["Bearer a", "Bearer a"]] {
            assert_eq!(bearer(&headers(none)), None, "{none:?}");
        }
    }

    #[test]
    fn a_name_of_ours_is_hexadecimal() {
        for number in [0, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(hexadecimal(number), *format!("{number:016x}").as_bytes());
        }
    }

    #[test]
    fn names_that_would_forge_log_lines_are_replaced() {
        let id = |text: &[u8]| {
            let headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_bytes(text).unwrap())]);
            request_id(&headers).to_str().unwrap().to_owned()
        };
        assert_eq!(id(b"abc-1"), "abc-1");
        for odd in [&b"a b"[..], b"\xffx", b"", &[b'x'; 129]] {
            assert_eq!(id(odd).len(), 16);
        }
        assert_ne!(id(b""), id(b""));
    }
}
