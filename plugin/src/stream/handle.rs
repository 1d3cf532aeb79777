//! What the SDK holds of an exchange. While the exchange is parked, its worker holds it too, so that it can be woken.

use std::cell::RefCell;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::Stream;
use crate::root::Instance;

/// See the module.
pub struct Handle(Rc<RefCell<Stream>>);

impl Handle {
    /// A new exchange.
    pub fn new(id: u32, instance: Rc<Instance>) -> Self {
        Self(Rc::new(RefCell::new(Stream::new(id, instance))))
    }

    /// Lets a callback work on the exchange.
    fn with<T>(&self, callback: impl FnOnce(&mut Stream) -> T) -> T {
        let answer = callback(&mut self.0.borrow_mut());
        park(&self.0);
        answer
    }
}

/// Has the worker hold an exchange that waits to be woken.
pub fn park(exchange: &Rc<RefCell<Stream>>) {
    let stream = exchange.borrow();
    if stream.is_parked() {
        stream.instance.worker.borrow_mut().parked.insert(stream.id, Rc::clone(exchange));
    }
}

impl Context for Handle {
    fn on_http_call_response(&mut self, token: u32, header_count: usize, body_len: usize, trailer_count: usize) {
        self.with(|stream| stream.on_http_call_response(token, header_count, body_len, trailer_count));
    }

    fn on_done(&mut self) -> bool {
        self.with(Stream::on_done)
    }
}

impl HttpContext for Handle {
    fn on_http_request_headers(&mut self, count: usize, end_of_stream: bool) -> Action {
        self.with(|stream| stream.on_http_request_headers(count, end_of_stream))
    }

    fn on_http_request_body(&mut self, len: usize, end_of_stream: bool) -> Action {
        self.with(|stream| stream.on_http_request_body(len, end_of_stream))
    }

    fn on_http_request_trailers(&mut self, count: usize) -> Action {
        self.with(|stream| stream.on_http_request_trailers(count))
    }

    fn on_http_response_headers(&mut self, count: usize, end_of_stream: bool) -> Action {
        self.with(|stream| stream.on_http_response_headers(count, end_of_stream))
    }

    fn on_http_response_body(&mut self, len: usize, end_of_stream: bool) -> Action {
        self.with(|stream| stream.on_http_response_body(len, end_of_stream))
    }

    fn on_http_response_trailers(&mut self, count: usize) -> Action {
        self.with(|stream| stream.on_http_response_trailers(count))
    }
}
