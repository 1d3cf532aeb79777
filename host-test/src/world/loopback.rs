//! Callouts to the gateway's own listener: each is a client's request there.

use super::World;
use crate::request::{Ending, Request, RequestId};
use crate::upstream::{CallId, Reply, Response};

impl World {
    /// The callout comes in as a request.
    pub(super) fn loop_back(&mut self, id: CallId) {
        let Some(call) = self.callouts.last().filter(|call| call.id == id).cloned() else { return };
        let worker = if self.workers > 1 { self.random.below(self.workers) } else { 0 };
        let mut request = Request::new(call.method(), call.path()).gateway(call.gateway).worker(worker);
        request.headers = call.headers;
        // As a listener without TLS, it says how it was reached.
        request.headers.set("x-forwarded-proto", "http");
        if !call.body.is_empty() {
            request = request.body(call.body);
        }
        let request = self.begin_exchange(request);
        self.loops.insert(request, id);
    }

    /// The answer to such a request is the callout's.
    pub(super) fn looped_back(&mut self, request: RequestId) {
        let Some(id) = self.loops.remove(&request) else { return };
        let Some(answer) = self.finished(request) else { return };
        let mut response = Response::new(answer.status);
        for (name, value) in answer.headers.iter() {
            response = response.header(name, value);
        }
        let response = response.chunk(std::time::Duration::ZERO, &answer.body);
        let reply = match answer.ending {
            Ending::Complete => response.into(),
            _ if answer.status == 0 => Reply::reset(),
            _ => response.then_reset(std::time::Duration::ZERO).into(),
        };
        self.complete_call(id, reply);
    }

    /// Nobody waits for the callout any more: its connection is closed.
    pub(super) fn unloop(&mut self, id: CallId) {
        let request = self.loops.iter().find(|(_, call)| **call == id).map(|(request, _)| *request);
        if let Some(request) = request {
            self.loops.remove(&request);
            self.leave(request);
        }
    }
}
