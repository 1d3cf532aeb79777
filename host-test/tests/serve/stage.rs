//! Real sockets on both sides of a server: an origin that does what a test says, and clients that speak HTTP/1.1 byte by byte.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proxy_wasm_host_test::serve::{Server, ServerBuilder, UpstreamUrl};

/// Nothing here takes that long on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One end of a connection.
pub struct Peer(BufReader<TcpStream>);

/// A message of HTTP/1.1.
#[derive(Debug)]
pub struct Message {
    /// The start line and the header lines.
    pub head: String,
    pub body: String,
    /// Trailer lines.
    pub trailers: String,
}

impl Message {
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn header<'head>(head: &'head str, name: &str) -> Option<&'head str> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    lines.filter(|(there, _)| there.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

impl Peer {
    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    pub fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// Sends a GET and reads the whole answer.
    pub fn get(&mut self, path: &str) -> Message {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: shop.example\r\n\r\n"));
        self.read()
    }

    /// Start line and header lines; empty at the end of the connection.
    pub fn head(&mut self) -> String {
        let mut head = String::new();
        while self.0.read_line(&mut head).unwrap_or(0) > 0 && !head.ends_with("\r\n\r\n") {}
        head
    }

    /// A piece of a chunked body; empty at its end, `None` where the connection ends before.
    pub fn chunk(&mut self) -> Option<String> {
        let mut size = String::new();
        self.0.read_line(&mut size).ok()?;
        let mut bytes = vec![0; usize::from_str_radix(size.trim(), 16).ok()?];
        self.0.read_exact(&mut bytes).ok()?;
        if !bytes.is_empty() {
            self.0.read_line(&mut String::new()).ok()?;
        }
        Some(String::from_utf8(bytes).unwrap())
    }

    /// A whole message. Panics if it breaks off.
    pub fn read(&mut self) -> Message {
        let head = self.head();
        let (mut body, mut trailers) = (String::new(), String::new());
        if header(&head, "transfer-encoding") == Some("chunked") {
            loop {
                let chunk = self.chunk().expect("a whole body");
                if chunk.is_empty() {
                    break;
                }
                body += &chunk;
            }
            trailers = self.trailers();
        } else if let Some(length) = header(&head, "content-length") {
            body = self.body(length.parse().unwrap());
        }
        Message { head, body, trailers }
    }

    /// What follows the last chunk, up to the empty line.
    pub fn trailers(&mut self) -> String {
        let mut trailers = String::new();
        while self.0.read_line(&mut trailers).unwrap_or(0) > 2 {}
        trailers
    }

    /// So many bytes.
    pub fn body(&mut self, length: usize) -> String {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).expect("a whole body");
        String::from_utf8(bytes).unwrap()
    }

    /// Whether the other side has closed the connection, or does so soon.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0)) || self.0.get_ref().peek(&mut [0]).is_err()
    }

    pub fn close(self) {
        self.0.get_ref().shutdown(Shutdown::Both).unwrap();
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }
}

/// A server of HTTP/1.1 whose answers a test writes itself.
pub struct Origin {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    /// Calls this with each request's head; whatever follows is for it to read and write. False closes the connection.
    pub fn start(answer: impl Fn(&str, &mut Peer) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, heads) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (answer, counted, kept) = (Arc::new(answer), Arc::clone(&connections), Arc::clone(&heads));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                let (answer, kept) = (Arc::clone(&answer), Arc::clone(&kept));
                std::thread::spawn(move || {
                    let mut peer = Peer::new(stream.unwrap());
                    loop {
                        let head = peer.head();
                        if head.is_empty() {
                            break;
                        }
                        kept.lock().unwrap().push(head.clone());
                        if !answer(&head, &mut peer) {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, connections, heads }
    }

    /// Answers every request with its path.
    pub fn echo() -> Self {
        Self::start(|head, peer| {
            let path = head.split(' ').nth(1).unwrap_or_default();
            peer.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len()));
            true
        })
    }

    pub fn url(&self) -> UpstreamUrl {
        format!("http://{}", self.address).parse().unwrap()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// What a server said and served.
#[derive(Clone, Default)]
pub struct Record(Arc<Mutex<(Vec<String>, Vec<String>)>>);

impl Record {
    /// Lines of log, each behind its thread.
    pub fn logs(&self) -> Vec<String> {
        self.0.lock().unwrap().0.clone()
    }

    /// Lines of the access log: `GET /path 200 via_upstream`.
    pub fn accesses(&self) -> Vec<String> {
        self.0.lock().unwrap().1.clone()
    }

    /// Waits for a line of log that contains this.
    pub fn wait_for(&self, text: &str) {
        eventually(&format!("a log with `{text}`: {:?}", self.logs()), || {
            self.logs().iter().any(|line| line.contains(text))
        });
    }
}

/// Waits until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Starts a server with this filter.
pub fn serve(filter: &[u8], with: impl FnOnce(ServerBuilder) -> ServerBuilder) -> (Server, Record) {
    let record = Record::default();
    let (logs, accesses) = (record.clone(), record.clone());
    let builder = Server::builder()
        .filter(filter)
        .on_log(move |log| logs.0.lock().unwrap().0.push(format!("{}: {}", log.thread, log.message)))
        .on_access(move |access| {
            let line = format!("{} {} {} {}", access.method, access.path, access.status, access.details);
            accesses.0.lock().unwrap().1.push(line);
        });
    (with(builder).start().unwrap(), record)
}
