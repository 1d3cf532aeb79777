//! The clients' side: requests on their way in, answers on their way out.

use std::time::Duration;

use super::{Event, World};
use crate::Headers;
use crate::abi::{Direction, LogLevel};
use crate::commons::{Failing, Frame, Place};
use crate::faults::{Fault, Site};
use crate::job::Job;
use crate::request::{Answer, Ending, Request, RequestId};
use crate::stream::Attributes;
use crate::trace::Thread;
use crate::upstream::CallId;
use crate::vm::VmKey;

/// A configuration that no filter can want.
const NONSENSE: &[u8] = b"\xff\xfe{[not a configuration";

/// A request and what has become of it.
pub(super) struct Exchange {
    pub(super) place: Place,
    pub(super) vm: VmKey,
    method: String,
    path: String,
    started: Duration,
    /// What reached the client so far.
    headers: Option<Headers>,
    headers_at: Option<Duration>,
    body: Vec<u8>,
    pieces: Vec<(Duration, usize)>,
    trailers: Headers,
    /// Whether the client has said all it will.
    request_unfinished: bool,
    client_gone: bool,
    pub(super) upstream: Option<CallId>,
    /// Whether the whole request was forwarded.
    pub(super) forwarded: bool,
    pub(super) answer: Option<Answer>,
    pub(super) reported_stuck: bool,
}

impl Exchange {
    /// The request, for people.
    pub(super) fn words(&self) -> String {
        format!("{} {} (sent at {:?})", self.method, self.path, self.started)
    }

    /// Ends it as seen by the client.
    fn close(&mut self, now: Duration, ending: Ending, local_reply: bool, details: String) {
        if self.answer.is_some() {
            return;
        }
        let ending = if self.client_gone { Ending::ClientGone } else { ending };
        let headers = self.headers.take().unwrap_or_default();
        let Place { gateway, thread } = self.place;
        self.answer = Some(Answer {
            status: headers.status(),
            headers: headers.iter().filter(|(name, _)| !name.starts_with(b":")).collect(),
            body: std::mem::take(&mut self.body),
            pieces: std::mem::take(&mut self.pieces),
            trailers: std::mem::take(&mut self.trailers),
            ending,
            local_reply,
            details,
            started: self.started,
            headers_at: self.headers_at,
            ended: now,
            gateway,
            worker: match thread {
                Thread::Worker(worker) => worker,
                Thread::Main => 0,
            },
        });
    }
}

impl World {
    pub(super) fn begin_exchange(&mut self, request: Request) -> RequestId {
        let id = RequestId(self.number());
        let place = Place { gateway: request.gateway, thread: Thread::Worker(request.worker) };
        let request = self.strike(place, id, request);
        let Request { mut headers, chunks, trailers, unfinished, .. } = request;
        self.reload(place);
        let (vm, now) = (self.vm_at(place), self.now());
        let word = |name: &str| headers.get(name).unwrap_or_default().to_owned();
        let exchange = Exchange {
            place,
            vm,
            method: word(":method"),
            path: word(":path"),
            started: now,
            headers: None,
            headers_at: None,
            body: Vec::new(),
            pieces: Vec::new(),
            trailers: Headers::new(),
            request_unfinished: unfinished,
            client_gone: false,
            upstream: None,
            forwarded: false,
            answer: None,
            reported_stuck: false,
        };
        self.exchanges.insert(id, exchange);
        self.under_way.insert(id);
        // What Envoy's connection manager adds on the way in.
        if !headers.has("x-forwarded-proto") {
            headers.add("x-forwarded-proto", "http");
        }
        if !headers.has("x-request-id") {
            headers.add("x-request-id", format!("00000000-0000-4000-8000-{:012x}", id.0));
        }
        let end = chunks.is_empty() && trailers.is_empty() && !unfinished;
        self.post(vm, Job::Begin { request: id, headers, end, attributes: Attributes::default() });
        let mut at = now;
        let send = |world: &mut Self, at, frame| world.schedule(at, false, Event::Client { request: id, frame });
        let some_chunks = !chunks.is_empty();
        for chunk in chunks {
            at += chunk.after;
            send(self, at, Frame::Data { bytes: chunk.bytes, end: false });
        }
        if unfinished {
            // The client goes silent.
        } else if !trailers.is_empty() {
            send(self, at, Frame::Trailers(trailers));
        } else if some_chunks {
            // HTTP/1 ends a body with an empty piece.
            send(self, at, Frame::Data { bytes: Vec::new(), end: true });
        }
        id
    }

    /// Lets go wrong what is to go wrong with this request, and gives what the client sends then.
    fn strike(&mut self, place: Place, id: RequestId, request: Request) -> Request {
        let fault = self.commons.lock().fault(Site::Request);
        let gateway = place.gateway;
        match fault {
            Some(Fault::Bytewise) => return request.bytewise(),
            Some(Fault::OddHeaders) => return request.with_odd_headers(),
            Some(Fault::Trailers) if !request.chunks.is_empty() => return request.with_odd_trailers(),
            Some(Fault::ClientLeaves(ms)) => {
                let at = self.now() + Duration::from_millis(ms.into());
                self.at(at, move |world| world.client_disconnects(id));
            }
            Some(Fault::Restart) => self.restart(place),
            Some(Fault::Crash(callback)) => self.let_fail(place, callback, Failing::Trap),
            Some(Fault::OutOfFuel(callback)) => self.let_fail(place, callback, Failing::NoFuel),
            // Once the request has come in.
            Some(Fault::Reload(ms)) => {
                self.after(Duration::from_millis(ms.into()), move |world| world.reload_configuration(gateway));
            }
            Some(Fault::RefusedReload) => self.after(Duration::ZERO, move |world| {
                // Accepted or not, it isn't used: that it doesn't trap is all that is asked.
                let _ = world.try_configuration(gateway, &NONSENSE.into());
            }),
            Some(Fault::LogLevel(level)) => {
                self.commons.lock().log_level = LogLevel::from_abi(level.into());
            }
            Some(Fault::Stall(ms)) => self.stall_clock(Duration::from_millis(ms.into())),
            Some(Fault::WallJump(seconds)) => {
                let by = Duration::from_secs(seconds.unsigned_abs().into());
                let wall = if seconds < 0 { self.wall().saturating_sub(by) } else { self.wall() + by };
                self.set_wall(wall);
            }
            Some(Fault::Evict) => self.forget_shared_data(gateway, |_| true),
            _ => {}
        }
        request
    }

    pub(super) fn client_sends(&mut self, request: RequestId, frame: Frame) {
        let Some(exchange) = self.exchanges.get(&request).filter(|exchange| exchange.answer.is_none()) else { return };
        if !exchange.client_gone {
            self.post(exchange.vm, Job::Frame { request, direction: Direction::Request, frame });
        }
    }

    pub(super) fn leave(&mut self, request: RequestId) {
        let Some(exchange) = self.exchanges.get_mut(&request).filter(|exchange| exchange.answer.is_none()) else {
            return;
        };
        exchange.client_gone = true;
        let vm = exchange.vm;
        self.post(vm, Job::ClientGone(request));
    }

    pub(super) fn client_gets(&mut self, request: RequestId, frame: Frame) {
        let now = self.now();
        let Some(exchange) = self.exchanges.get_mut(&request).filter(|exchange| exchange.answer.is_none()) else {
            return;
        };
        match frame {
            Frame::Headers { headers, .. } => {
                exchange.headers_at = Some(now);
                exchange.headers = Some(headers);
            }
            Frame::Data { bytes, .. } => {
                if !bytes.is_empty() {
                    exchange.pieces.push((now, bytes.len()));
                }
                exchange.body.extend(bytes);
            }
            Frame::Trailers(trailers) => exchange.trailers = trailers,
        }
    }

    pub(super) fn stream_over(&mut self, request: RequestId, whole: bool, local_reply: bool, details: String) {
        self.cancel_upstream(request);
        let ending = if whole { Ending::Complete } else { Ending::Reset };
        self.close_exchange(request, ending, local_reply, details);
    }

    fn close_exchange(&mut self, request: RequestId, ending: Ending, local_reply: bool, details: String) {
        let now = self.now();
        self.under_way.remove(&request);
        if let Some(exchange) = self.exchanges.get_mut(&request) {
            exchange.close(now, ending, local_reply, details);
        }
        self.looped_back(request);
    }

    /// Ends a request that nobody serves any more.
    pub(super) fn break_off(&mut self, request: RequestId) {
        self.close_exchange(request, Ending::Reset, false, String::new());
    }

    /// Whether only the test can bring this request on.
    pub(super) fn waits_for_script(&self, exchange: &Exchange) -> bool {
        let kept = exchange.upstream.and_then(|call| self.calls.get(&call)).is_some_and(|call| call.kept);
        kept || (exchange.request_unfinished && !exchange.forwarded)
    }
}
