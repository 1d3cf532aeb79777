//! A gRPC server on a real socket, which does what a case wants of it.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::sleep;

use super::case::{PAUSE, Talk};
use super::http1::Message;

/// A server that treats every call and stream in the same way.
pub struct Server {
    pub port: u16,
    heard: Heard,
}

type Heard = Arc<Mutex<Vec<Message>>>;

impl Server {
    pub async fn start(talk: Talk) -> io::Result<Self> {
        let heard = Heard::default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        if !matches!(talk, Talk::Refuse) {
            let heard = Arc::clone(&heard);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let heard = Arc::clone(&heard);
                    let service = service_fn(move |request| answer(request, talk, Arc::clone(&heard)));
                    let connection =
                        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
                    tokio::spawn(connection);
                }
            });
        }
        Ok(Self { port, heard })
    }

    pub fn heard(&self) -> Vec<Message> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(request: Request<Incoming>, talk: Talk, heard: Heard) -> Result<Response<Frames>, Infallible> {
    let (head, body) = request.into_parts();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let message = Message {
        start: format!("{} {} HTTP/1.1", head.method, head.uri.path()),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        whole: true,
        ..Message::default()
    };
    let index = {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push(message);
        heard.len() - 1
    };
    let (frames, out) = unbounded_channel();
    let mut response = Response::new(Frames { out, empty: matches!(talk, Talk::Status(..)) });
    let fields = response.headers_mut();
    fields.insert("content-type", http::HeaderValue::from_static("application/grpc"));
    match talk {
        Talk::Status(status, words) => {
            fields.insert("grpc-status", status.into());
            fields.insert("grpc-message", http::HeaderValue::from_static(words));
        }
        Talk::Http(status) => {
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
            response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/plain"));
            response.headers_mut().insert("content-length", 5.into());
            // The receiver lives as long as the response.
            let _ = frames.send(Ok(Frame::data(Bytes::from_static(b"what?"))));
        }
        _ => {}
    }
    tokio::spawn(converse(body, talk, frames, heard, index));
    if let Talk::Hang = talk {
        sleep(Duration::from_secs(10)).await;
    }
    Ok(response)
}

/// Reads what the caller sends, and sends what it is to hear after the headers.
async fn converse(
    mut body: Incoming,
    talk: Talk,
    frames: UnboundedSender<io::Result<Frame<Bytes>>>,
    heard: Heard,
    index: usize,
) {
    // Whoever hung up hears nothing.
    let send = |frame| _ = frames.send(frame);
    let status = |status: u32| {
        Frame::trailers(HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), status.into())]))
    };
    let mut received = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(bytes) = frame.into_data() else { continue };
        received.extend_from_slice(&bytes);
        while let Some(message) = take_message(&mut received) {
            heard.lock().unwrap_or_else(PoisonError::into_inner)[index].body.extend_from_slice(&message);
            if let Talk::Echo = talk {
                send(Ok(Frame::data(framed(&message))));
            }
        }
    }
    match talk {
        Talk::Message(text) => {
            send(Ok(Frame::data(framed(text.as_bytes()))));
            send(Ok(status(0)));
        }
        Talk::Echo => send(Ok(status(0))),
        Talk::Cut(text) => {
            send(Ok(Frame::data(framed(text.as_bytes()))));
            sleep(PAUSE).await;
            send(Err(io::ErrorKind::ConnectionReset.into()));
        }
        _ => {}
    }
}

/// A message behind the five bytes that tell its length.
fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0], length.to_be_bytes().as_slice(), message].concat().into()
}

fn take_message(received: &mut BytesMut) -> Option<BytesMut> {
    let length = received.get(1..5)?.get_u32();
    let length = usize::try_from(length).ok()?;
    (received.len() >= 5 + length).then(|| received.split_to(5 + length).split_off(5))
}

/// A body that comes through a channel.
struct Frames {
    out: UnboundedReceiver<io::Result<Frame<Bytes>>>,
    /// Nothing follows the headers.
    empty: bool,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.out.poll_recv(context)
    }

    fn is_end_stream(&self) -> bool {
        self.empty
    }
}
