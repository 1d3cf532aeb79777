//! The upstreams' side: forwarded requests and callouts on their way out, answers on their way in.

use std::time::Duration;

use super::events::Part;
use super::{Event, World};
use crate::Headers;
use crate::abi::{Direction, Status};
use crate::commons::{Dispatch, Frame};
use crate::failure::UpstreamFailure;
use crate::faults::{Fault, Site};
use crate::grpc::{self, Kind};
use crate::job::Job;
use crate::request::RequestId;
use crate::upstream::{Call, CallId, CallKind, Fate, Kept, Reply, Response};
use crate::vm::{CallResponse, VmKey};

/// A call whose answer hasn't come yet.
pub(super) struct OpenCall {
    caller: Caller,
    at: Duration,
    /// When a callout's headers arrive.
    headers_at: Option<Duration>,
    /// Whether the script keeps it to answer it later.
    pub(super) kept: bool,
    /// Whether a gRPC stream's initial metadata are under way.
    metadata_sent: bool,
    /// Whether the filter is told of the answer twice.
    twice: bool,
    /// What goes wrong with a forwarded request, and whether the origin has said what becomes of it.
    fault: Option<Fault>,
    answered: bool,
}

enum Caller {
    Stream(RequestId, VmKey),
    Root { vm: VmKey, root: u32, token: u32, kind: Kind },
}

impl OpenCall {
    fn new(caller: Caller, at: Duration) -> Self {
        Self {
            caller,
            at,
            headers_at: None,
            kept: false,
            metadata_sent: false,
            twice: false,
            fault: None,
            answered: false,
        }
    }

    fn belongs_to(&self, vm: VmKey, root: Option<u32>) -> bool {
        match self.caller {
            Caller::Stream(_, of) => of == vm && root.is_none(),
            Caller::Root { vm: of, root: caller, .. } => of == vm && root.is_none_or(|root| root == caller),
        }
    }

    fn kind(&self) -> Kind {
        match self.caller {
            Caller::Stream(..) => Kind::Http,
            Caller::Root { kind, .. } => kind,
        }
    }

    pub(super) fn is_callout_of(&self, vm: VmKey) -> bool {
        matches!(self.caller, Caller::Root { vm: of, .. } if of == vm)
    }
}

// Out.
impl World {
    pub(super) fn upstream_gets(&mut self, request: RequestId, frame: Frame) {
        let now = self.now();
        let Some(exchange) = self.exchanges.get_mut(&request).filter(|exchange| exchange.answer.is_none()) else {
            return;
        };
        let upstream = exchange.upstream;
        if let Frame::Headers { headers, end } = frame {
            return self.begin_forward(request, headers, end);
        }
        let Some(call) = self.origin_requests.iter_mut().rev().find(|call| Some(call.id) == upstream) else { return };
        match frame {
            Frame::Headers { .. } => {}
            Frame::Data { bytes, end } => {
                if !bytes.is_empty() {
                    call.pieces.push((now, bytes.len()));
                }
                call.body.extend(bytes);
                call.whole = end;
            }
            Frame::Trailers(trailers) => {
                call.trailers = trailers;
                call.whole = true;
            }
        }
        if call.whole {
            exchange.forwarded = true;
            let call = call.clone();
            self.end_forward(&call);
        }
    }

    /// The headers of a forwarded request reach the origin.
    fn begin_forward(&mut self, request: RequestId, headers: Headers, whole: bool) {
        let id = CallId(self.number());
        let (at, wall, timeout) = (self.now(), self.wall(), self.route_timeout);
        let Some(exchange) = self.exchanges.get_mut(&request) else { return };
        exchange.upstream = Some(id);
        exchange.forwarded = whole;
        let (place, vm) = (exchange.place, exchange.vm);
        let call = Call {
            id,
            request: Some(request),
            kind: CallKind::Http,
            cluster: "origin".to_owned(),
            gateway: place.gateway,
            thread: place.thread,
            at,
            wall,
            headers,
            body: Vec::new(),
            pieces: Vec::new(),
            trailers: Headers::new(),
            whole,
            timeout,
        };
        let fault = self.commons.lock().fault(Site::Origin);
        self.calls.insert(id, OpenCall { fault, ..OpenCall::new(Caller::Stream(request, vm), at) });
        if let Some(fault) = fault.filter(|fault| fault.keeps_from_upstream()) {
            return self.plan(id, fault.spoil(Reply::hang()));
        }
        self.origin_requests.push(call.clone());
        if whole {
            return self.end_forward(&call);
        }
        let mut kept = Kept::default();
        if let Some(reply) = self.origin.begins(&call, &mut kept) {
            self.answer_forward(id, reply);
        }
        self.give_kept(kept);
    }

    /// The end of a forwarded request reaches the origin.
    fn end_forward(&mut self, call: &Call) {
        if self.calls.get(&call.id).is_none_or(|open| open.answered) {
            return;
        }
        let mut kept = Kept::default();
        let reply = self.origin.call(call, &mut kept);
        if let Some(timeout) = call.timeout {
            self.schedule(self.now() + timeout, reply.background, Event::CallTimeout(call.id));
        }
        self.answer_forward(call.id, reply);
        self.give_kept(kept);
    }

    fn answer_forward(&mut self, id: CallId, reply: Reply) {
        let Some(open) = self.calls.get_mut(&id) else { return };
        open.answered = true;
        let reply = match open.fault {
            Some(fault) => fault.spoil(reply),
            None => reply,
        };
        self.plan(id, reply);
    }

    /// A filter makes a callout; the VM waits for [`Commons::dispatched`](crate::commons::Commons::dispatched).
    pub(super) fn dispatch(&mut self, dispatch: Dispatch) {
        let id = CallId(self.number());
        let (at, wall) = (self.now(), self.wall());
        let Dispatch { vm, place, root, token, kind, cluster, headers, body, trailers, timeout } = dispatch;
        let (gateway, thread) = (place.gateway, place.thread);
        let call = Call {
            id,
            request: None,
            kind: match kind {
                Kind::Http | Kind::Unknown => CallKind::Http,
                Kind::Call => CallKind::GrpcCall,
                Kind::Stream => CallKind::GrpcStream,
            },
            cluster,
            gateway,
            thread,
            at,
            wall,
            headers,
            body,
            pieces: Vec::new(),
            trailers,
            whole: true,
            timeout,
        };
        let mut kept = Kept::default();
        let fault = self.commons.lock().fault(Site::Callout);
        let loops = self.loopback.as_ref() == Some(&call.cluster);
        let reply = match self.clusters.get_mut(&call.cluster) {
            _ if loops && !fault.is_some_and(Fault::keeps_from_upstream) => {
                Reply { background: false, ..Reply::later() }
            }
            _ if loops => Reply::hang(),
            None => Reply::refuse(Status::BadArgument),
            Some(_) if fault.is_some_and(Fault::keeps_from_upstream) => Reply::hang(),
            Some(cluster) => cluster.call(&call, &mut kept),
        };
        let reply = self.spoilt_callout(fault, reply);
        self.callouts.push(call);
        let answer = match reply.fate {
            Fate::Refuse(status) => Err(status),
            fate => {
                if loops && matches!(fate, Fate::Later { .. }) {
                    self.loop_back(id);
                }
                let caller = Caller::Root { vm, root, token, kind };
                self.open_callout(id, caller, timeout, Reply { fate, ..reply }, fault);
                Ok(())
            }
        };
        self.commons.lock().dispatched.insert(vm, answer);
        self.give_kept(kept);
    }

    fn spoilt_callout(&mut self, fault: Option<Fault>, reply: Reply) -> Reply {
        let answer = reply.response().cloned();
        let before = std::mem::replace(&mut self.last_answer, answer);
        match (fault, before) {
            (Some(Fault::Swap), Some(before)) => reply.map_response(|_| before),
            (Some(fault), _) => fault.spoil(reply),
            (None, _) => reply,
        }
    }

    fn open_callout(
        &mut self,
        id: CallId,
        caller: Caller,
        timeout: Option<Duration>,
        reply: Reply,
        fault: Option<Fault>,
    ) {
        // As long as an answer waits for the next one.
        const WAIT: Duration = Duration::from_secs(1);
        let takes = reply.after + reply.response().map_or(Duration::ZERO, Response::takes);
        if fault == Some(Fault::Overtaken) {
            self.overtake(takes);
            let wait = timeout.map_or(WAIT, |timeout| WAIT.min(timeout / 2));
            self.open(id, caller, timeout, Reply::hang());
            self.overtaken = Some((id, reply));
            self.schedule(self.now() + wait, false, Event::Overtake);
        } else {
            self.open(id, caller, timeout, reply);
            self.overtake(takes);
        }
        if let Some(call) = self.calls.get_mut(&id) {
            call.twice = fault == Some(Fault::Twice);
        }
    }

    /// Answers the call that another one overtakes, this long from now and a moment.
    pub(super) fn overtake(&mut self, after: Duration) {
        if let Some((id, reply)) = self.overtaken.take() {
            let after = after + reply.after + Duration::from_millis(1);
            self.plan(id, reply.after(after));
        }
    }

    fn give_kept(&mut self, kept: Kept) {
        for (call, reply) in kept.answers {
            self.complete_call(call, reply);
        }
    }

    fn open(&mut self, id: CallId, caller: Caller, timeout: Option<Duration>, reply: Reply) {
        let at = self.now();
        self.calls.insert(id, OpenCall::new(caller, at));
        if let Some(timeout) = timeout {
            // Whoever waits for it may be waiting for this; the events of answered calls are dropped.
            self.schedule(at + timeout, reply.background, Event::CallTimeout(id));
        }
        self.plan(id, reply);
    }

    /// Plans what a reply says.
    fn plan(&mut self, id: CallId, reply: Reply) {
        let Reply { fate, after, background } = reply;
        let at = self.now() + after;
        let Some(call) = self.calls.get_mut(&id) else { return };
        let kind = call.kind();
        // On a stream the script may say more at any time.
        call.kept = kind == Kind::Stream || matches!(fate, Fate::Later { .. });
        let is_callout = matches!(call.caller, Caller::Root { .. });
        match fate {
            Fate::Response(response) if kind != Kind::Http => {
                self.plan_grpc(id, at, background, response, grpc::ANSWERED)
            }
            Fate::Response(response) if is_callout => {
                // A filter is told of a callout's answer when all of it is there, and only that it broke off if it isn't.
                call.headers_at = Some(at + response.after);
                let at = at + response.takes();
                let mut response = (!response.reset).then_some(response);
                if let Some(Response { headers, .. }) = &mut response {
                    headers.set("x-envoy-upstream-service-time", (at - self.now()).as_millis().to_string());
                }
                self.schedule(at, background, Event::Callout { call: id, response });
            }
            Fate::Response(response) => self.plan_parts(id, at, background, response),
            Fate::Refuse(_) | Fate::ConnectFailure => self.plan_failure(id, at, background, UpstreamFailure::Connect),
            Fate::Reset => self.plan_failure(id, at, background, UpstreamFailure::Reset),
            Fate::Hang => {}
            Fate::Later { otherwise: Some((hold, response)) } => {
                self.schedule(at + hold, background, Event::Complete { call: id, reply: response.into() });
            }
            Fate::Later { otherwise: None } => {}
        }
    }

    fn plan_parts(&mut self, id: CallId, at: Duration, background: bool, response: Response) {
        let Response { headers, chunks, trailers, after, ends_after, reset, last_chunk_ends } = response;
        let mut at = at + after;
        let send = |world: &mut Self, at, frame| {
            world.schedule(at, background, Event::Upstream { call: id, part: Part::Frame(frame) });
        };
        let bare = chunks.is_empty() && trailers.is_empty() && !reset;
        send(self, at, Frame::Headers { headers, end: bare });
        let count = chunks.len();
        for (index, chunk) in chunks.into_iter().enumerate() {
            at += chunk.after;
            let end = last_chunk_ends && index + 1 == count && trailers.is_empty() && !reset;
            send(self, at, Frame::Data { bytes: chunk.bytes, end });
        }
        at += ends_after;
        if reset {
            self.plan_failure(id, at, background, UpstreamFailure::Cut);
        } else if !trailers.is_empty() {
            send(self, at, Frame::Trailers(trailers));
        } else if !bare && !last_chunk_ends {
            send(self, at, Frame::Data { bytes: Vec::new(), end: true });
        }
    }

    /// A callout hears of failures as of answers that Envoy makes up.
    fn plan_failure(&mut self, id: CallId, at: Duration, background: bool, failure: UpstreamFailure) {
        let Some(call) = self.calls.get(&id) else { return };
        if call.kind() != Kind::Http {
            return self.plan_grpc(id, at, background, made_up_grpc(failure), failure.words().details);
        }
        let is_callout = matches!(call.caller, Caller::Root { .. });
        let event = match is_callout {
            true => Event::Callout { call: id, response: Some(made_up(failure)) },
            false => Event::Upstream { call: id, part: Part::Failure(failure) },
        };
        self.schedule(at, background, event);
    }
}

// In.
impl World {
    pub(super) fn complete_call(&mut self, id: CallId, reply: Reply) {
        if self.calls.get(&id).is_some_and(|call| call.kept) {
            self.plan(id, reply);
        }
    }

    pub(super) fn upstream_sends(&mut self, id: CallId, part: Part) {
        let now = self.now();
        let Some(call) = self.calls.get(&id) else { return };
        let Caller::Stream(request, vm) = call.caller else { return };
        let took = now.saturating_sub(call.at);
        match part {
            Part::Failure(failure) => {
                self.close_call(id);
                self.post(vm, Job::UpstreamFailed(request, failure));
            }
            Part::Frame(mut frame) => {
                let mut end = matches!(
                    frame,
                    Frame::Headers { end: true, .. } | Frame::Data { end: true, .. } | Frame::Trailers(_)
                );
                if let Frame::Headers { headers, end: ends } = &mut frame {
                    headers.set("x-envoy-upstream-service-time", took.as_millis().to_string());
                    // Answers to HEAD, 204 and 304 have no body, whatever the script says.
                    let is_head = self
                        .origin_requests
                        .iter()
                        .rev()
                        .find(|call| call.id == id)
                        .is_some_and(|call| call.method() == "HEAD");
                    if is_head || matches!(headers.status(), 204 | 304) {
                        *ends = true;
                        end = true;
                    }
                }
                if end {
                    self.close_call(id);
                }
                self.post(vm, Job::Frame { request, direction: Direction::Response, frame });
            }
        }
    }

    pub(super) fn callout_done(&mut self, id: CallId, response: Option<Response>) {
        let Some(OpenCall { caller: Caller::Root { vm, root, token, .. }, twice, .. }) = self.calls.get(&id) else {
            return;
        };
        let (vm, root, token, twice) = (*vm, *root, *token, *twice);
        self.close_call(id);
        let response = response.map(|response| {
            let Response { headers, chunks, trailers, .. } = response;
            CallResponse { headers, body: chunks.into_iter().flat_map(|chunk| chunk.bytes).collect(), trailers }
        });
        if let Some(response) = response.clone().filter(|_| twice) {
            const MOMENT: Duration = Duration::from_millis(1);
            self.schedule(self.now() + MOMENT, false, Event::Again { vm, root, token, response });
        }
        self.post(vm, Job::CallDone { root, token, response });
    }

    pub(super) fn call_times_out(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id) else { return };
        match call.caller {
            Caller::Stream(request, vm) => {
                self.close_call(id);
                self.post(vm, Job::UpstreamFailed(request, UpstreamFailure::Timeout));
            }
            Caller::Root { kind: Kind::Call | Kind::Stream, .. } => {
                let timeout = UpstreamFailure::Timeout;
                self.plan_grpc(id, self.now(), false, made_up_grpc(timeout), timeout.words().details);
            }
            // Too late for an answer of Envoy's own.
            Caller::Root { .. } if call.headers_at.is_some_and(|at| at <= self.now()) => self.callout_done(id, None),
            Caller::Root { .. } => self.callout_done(id, Some(made_up(UpstreamFailure::Timeout))),
        }
    }

    pub(super) fn cancel_upstream(&mut self, request: RequestId) {
        let call = self.exchanges.get_mut(&request).and_then(|exchange| exchange.upstream.take());
        if let Some(call) = call {
            self.close_call(call);
        }
    }

    /// Forgets the calls of a VM, or only those of a root context of it.
    pub(super) fn call_off(&mut self, vm: VmKey, root: Option<u32>) {
        let calls = self.calls.iter().filter(|(_, call)| call.belongs_to(vm, root));
        for id in calls.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.close_call(id);
        }
    }

    /// Forgets a call, and what was planned for it.
    fn close_call(&mut self, id: CallId) {
        if self.calls.remove(&id).is_some() {
            self.unloop(id);
            self.events.drop_call(id);
        }
    }
}

// gRPC.
impl World {
    /// Plans what a filter hears of an answer to a gRPC call, or of more on a stream.
    fn plan_grpc(&mut self, id: CallId, at: Duration, background: bool, mut response: Response, details: &str) {
        let now = self.now();
        let Some(call) = self.calls.get_mut(&id) else { return };
        let first = !std::mem::replace(&mut call.metadata_sent, true);
        let kind = call.kind();
        let mut at = at + response.after;
        let send =
            |world: &mut Self, at, part, last| world.schedule(at, background, Event::Grpc { call: id, part, last });
        if kind == Kind::Call {
            return send(self, at + response.takes() - response.after, grpc::of_call(&response, details), true);
        }
        if first && details == grpc::ANSWERED {
            response.headers.set("x-envoy-upstream-service-time", (at - now).as_millis().to_string());
        }
        let Response { headers, chunks, trailers, .. } = &response;
        let trailers_only = chunks.is_empty() && trailers.is_empty() && headers.has("grpc-status");
        let is_grpc = headers.status() == 200;
        if first {
            let headers = if trailers_only || !is_grpc { Headers::new() } else { headers.clone() };
            send(self, at, grpc::Part::InitialMetadata(headers), false);
        }
        // What isn't gRPC has no messages.
        for chunk in chunks.iter().filter(|_| is_grpc) {
            at += chunk.after;
            send(self, at, grpc::Part::Message(chunk.bytes.clone()), false);
        }
        at += response.ends_after;
        if trailers_only || !trailers.is_empty() || response.reset || !is_grpc {
            let told = match (response.reset, trailers_only) {
                (true, _) => Headers::new(),
                _ if !is_grpc => Headers::new(),
                (false, true) => headers.clone(),
                (false, false) => trailers.clone(),
            };
            send(self, at, grpc::Part::TrailingMetadata(told), false);
            send(self, at, grpc::ending(&response, details), true);
        }
    }

    pub(super) fn grpc_arrives(&mut self, id: CallId, part: grpc::Part, last: bool) {
        let Some(OpenCall { caller: Caller::Root { vm, root, token, .. }, .. }) = self.calls.get(&id) else { return };
        let (vm, job) = (*vm, Job::Grpc { root: *root, token: *token, part });
        if last {
            self.close_call(id);
        }
        self.post(vm, job);
    }

    pub(super) fn grpc_sends(&mut self, handle: (VmKey, u32, u32), message: Option<&[u8]>, end: bool) {
        let Some(id) = self.grpc_call(handle) else { return };
        let Some(call) = self.callouts.iter().rev().find(|call| call.id == id).cloned() else { return };
        let mut kept = Kept::default();
        let cluster = self.clusters.get_mut(&call.cluster);
        let response = cluster.and_then(|cluster| cluster.grpc_message(&call, message, end, &mut kept));
        if let Some(response) = response {
            self.plan(id, response.into());
        }
        self.give_kept(kept);
    }

    pub(super) fn grpc_cancelled(&mut self, handle: (VmKey, u32, u32)) {
        if let Some(id) = self.grpc_call(handle) {
            self.close_call(id);
        }
    }

    fn grpc_call(&self, handle: (VmKey, u32, u32)) -> Option<CallId> {
        let is_it = |call: &OpenCall| matches!(call.caller, Caller::Root { vm, root, token, .. } if (vm, root, token) == handle);
        self.calls.iter().find(|(_, call)| is_it(call)).map(|(id, _)| *id)
    }
}

/// An answer that Envoy's router makes up for a gRPC request.
fn made_up_grpc(failure: UpstreamFailure) -> Response {
    match failure {
        UpstreamFailure::Cut => Response::new(200).then_reset(Duration::ZERO),
        other => {
            let words = other.words();
            Response::grpc_status(grpc::status_of(words.status.into()), words.body)
        }
    }
}

/// An answer that Envoy's router makes up.
fn made_up(failure: UpstreamFailure) -> Response {
    let words = failure.words();
    Response::new(words.status).body(words.body).header("content-type", "text/plain")
}
