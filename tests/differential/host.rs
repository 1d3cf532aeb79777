//! The same cases in host-test.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm_host_test::{Call, CallKind, Ending, Kept, LogLevel, Reply, Request, Response, Thread, Upstream, World};

use super::case::{Answer, Body, Case, PAUSE, ROUTE_TIMEOUT, Talk};
use super::http1::Message;
use super::seen::{Exchange, Seen};
use crate::probe::probe;

/// Plays one case.
pub fn play(case: &Case) -> Seen {
    let (origin, callout) = (case.origin.clone(), case.callout.clone());
    let mut builder = World::builder()
        .filter(probe(&case.filter()))
        .vm_id(case.name)
        .plugin_name(case.name)
        .property("xds.cluster_name", format!("origin-of-{}", case.name))
        .route_timeout(Some(ROUTE_TIMEOUT))
        .body_callbacks_while_headers_paused(case.stop_in_headers_alone)
        .origin(move |_| reply(&origin))
        .callout(&case.cluster(), move |_| reply(&callout))
        .patience(Duration::from_secs(3))
        .tolerate_violations();
    let messages = Rc::default();
    if let Some(talk) = case.grpc {
        builder = builder.cluster(&case.grpc_cluster(), Server { talk, messages: Rc::clone(&messages) });
    }
    if let Some(limit) = case.buffer_limit {
        builder = builder.buffer_limit(limit as usize);
    }
    let mut world = builder.build().unwrap();
    let id = world.send(request(case));
    if let Some(enough) = case.request.leaves_after {
        // Half a pause after the piece that was enough.
        let pieces = u32::try_from(enough).unwrap_or(0);
        world.after(PAUSE * pieces + PAUSE / 2, move |world| world.client_disconnects(id));
    }
    world.run_until_idle();
    world.run_for(Duration::from_millis(800));
    let said = world
        .logs()
        .into_iter()
        .filter(|log| log.thread == Thread::Worker(0) && log.level < LogLevel::Critical)
        .map(|log| log.message)
        .collect();
    let lines = |headers: &proxy_wasm_host_test::Headers| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        headers.iter().map(|(name, value)| (text(name), text(value))).collect::<Vec<_>>()
    };
    let answer = match world.finished(id) {
        Some(answer) if answer.status > 0 => Message {
            start: format!("HTTP/1.1 {}", answer.status),
            headers: lines(&answer.headers),
            body: answer.body.clone(),
            trailers: lines(&answer.trailers),
            whole: answer.ending == Ending::Complete,
        },
        _ => Message::default(),
    };
    let heard = world.origin_requests().iter().filter(|call| call.whole).map(|call| Message {
        start: format!("{} {} HTTP/1.1", call.method(), call.path()),
        headers: lines(&call.headers).into_iter().filter(|(name, _)| !name.starts_with(':')).collect(),
        body: call.body.clone(),
        trailers: lines(&call.trailers),
        whole: true,
    });
    // Nobody hears a request where nobody listens.
    let heard: Vec<Message> = heard.filter(|_| !matches!(case.origin, Answer::Refuse)).collect();
    let talks = world.callouts().iter().filter(|call| call.kind != CallKind::Http);
    let talked: Vec<Message> = talks
        .map(|call| Message {
            start: format!("{} {} HTTP/1.1", call.method(), call.path()),
            headers: lines(&call.headers).into_iter().filter(|(name, _)| !name.starts_with(':')).collect(),
            // A stream's messages come after it.
            body: [call.body.as_slice(), &messages.borrow()].concat(),
            trailers: Vec::new(),
            whole: true,
        })
        .collect();
    let talked: Vec<Message> = talked.into_iter().filter(|_| !case.grpc_unheard()).collect();
    Seen::new(said, Exchange::of(&answer), &heard, &talked)
}

/// Servers on a network say when it is.
fn dated(response: Response) -> Response {
    response.header("date", "today")
}

/// A gRPC server.
struct Server {
    talk: Talk,
    messages: Rc<RefCell<Vec<u8>>>,
}

impl Upstream for Server {
    fn call(&mut self, _: &Call, _: &mut Kept) -> Reply {
        // Over a network nothing is answered before the callback has ended.
        let reply: Reply = match self.talk {
            Talk::Message(text) => dated(Response::grpc(text)).into(),
            Talk::Status(status, words) => dated(Response::grpc_status(status, words)).into(),
            Talk::Http(status) => Response::new(status).header("content-type", "text/plain").body("what?").into(),
            Talk::Echo => dated(Response::grpc_messages()).into(),
            Talk::Cut(text) => dated(Response::grpc_messages()).chunk(Duration::ZERO, text).then_reset(PAUSE).into(),
            Talk::Hang => Reply::hang(),
            Talk::Refuse => Reply::connect_failure(),
        };
        reply.after(Duration::from_millis(5))
    }

    fn grpc_message(&mut self, _: &Call, message: Option<&[u8]>, end: bool, _: &mut Kept) -> Option<Response> {
        self.messages.borrow_mut().extend_from_slice(message.unwrap_or_default());
        let Talk::Echo = self.talk else { return None };
        let answer = Response::grpc_messages()
            .after(Duration::from_millis(10))
            .chunk(Duration::ZERO, message.unwrap_or_default());
        Some(if end { answer.trailer("grpc-status", "0") } else { answer })
    }
}

fn request(case: &Case) -> Request {
    let mut request = Request::new(case.request.method, case.request.path);
    for (name, value) in &case.request.headers {
        request = request.header(name, value);
    }
    match case.request.body {
        Body::None => request,
        Body::Whole(body) => request.body(body),
        Body::Chunks(chunks, trailers) => {
            let request = request.header("transfer-encoding", "chunked");
            let request = chunks.iter().fold(request, |request, chunk| request.chunk(PAUSE, chunk));
            trailers.iter().fold(request, |request, (name, value)| request.trailer(name, value))
        }
    }
}

fn reply(answer: &Answer) -> Reply {
    match answer {
        Answer::Reply { status, headers, body, ends } => {
            let mut response = Response::new(*status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response = match body {
                Body::None if matches!(status, 204 | 304) => response,
                Body::None => response.header("content-length", "0"),
                Body::Whole(body) if *ends => response.body(body),
                Body::Whole(body) => response.body(body).set("content-length", (body.len() + 1).to_string()),
                Body::Chunks(chunks, trailers) => {
                    let response = response.header("transfer-encoding", "chunked");
                    let response = chunks.iter().fold(response, |response, chunk| response.chunk(PAUSE, chunk));
                    trailers.iter().fold(response, |response, (name, value)| response.trailer(name, value))
                }
            };
            if *ends { response.into() } else { response.then_reset(PAUSE).into() }
        }
        Answer::Close => Reply::reset(),
        Answer::Hang => Reply::hang(),
        Answer::HangAfter(piece) => {
            let response = Response::new(200).header("transfer-encoding", "chunked").chunk(Duration::ZERO, piece);
            response.chunk(Duration::from_secs(10), "late").into()
        }
        Answer::Refuse => Reply::connect_failure(),
    }
}
