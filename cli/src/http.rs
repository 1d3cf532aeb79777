//! One HTTP/1.1 request at a time, for the commands that talk to a bridge or a gateway.

use std::io::{self, Read as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::failure::Failure;
use crate::tls::{Certificates, secure};

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(30);

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// A server: `http://host:port`, `https://host:port`, or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    place: Place,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Host with its port.
    Clear(String),
    Secure(String),
    Unix(String),
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unusable =
            || format!("`{text}` is no server; write `http://host:port`, `https://host:port` or `unix:/path`");
        let (scheme, rest) = text.split_once(':').ok_or_else(unusable)?;
        let authority = |port: u16| {
            let authority = rest.strip_prefix("//").ok_or_else(unusable)?.trim_end_matches('/');
            if authority.is_empty() || authority.contains(['/', '@', '?']) {
                return Err(unusable());
            }
            let has_port = authority.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok());
            Ok(if has_port { authority.to_owned() } else { format!("{authority}:{port}") })
        };
        let place = match scheme {
            "unix" => Place::Unix(rest.to_owned()),
            "http" => Place::Clear(authority(80)?),
            "https" => Place::Secure(authority(443)?),
            _ => return Err(unusable()),
        };
        Ok(Self { place, text: text.to_owned() })
    }
}

/// A server, and the certificates for it.
pub struct Client {
    server: Server,
    tls: Option<Arc<ClientConfig>>,
}

/// What came back.
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// Lines of its header, as they came.
    pub header: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first field of that name, in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.header.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Server {
    /// With what it takes to talk to it.
    ///
    /// # Errors
    ///
    /// When a certificate can't be used.
    pub fn client(&self, certificates: &Certificates) -> Result<Client, Failure> {
        let tls = match &self.place {
            Place::Secure(_) => Some(certificates.read()?),
            Place::Clear(_) | Place::Unix(_) => None,
        };
        Ok(Client { server: self.clone(), tls })
    }
}

impl Client {
    /// Sends a request and reads the whole answer. `fields` are lines of its header.
    ///
    /// # Errors
    ///
    /// Words for people, when there is no answer or none that is HTTP.
    pub fn ask(&self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Result<Answer, Failure> {
        let failed = |why: &dyn std::fmt::Display| Failure::NoAnswer(self.server.text.clone(), why.to_string());
        let mut request =
            format!("{method} {target} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        let named = fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        let host = match &self.server.place {
            Place::Clear(authority) | Place::Secure(authority) => authority.as_str(),
            Place::Unix(_) => "localhost",
        };
        let own = (!named).then_some(("host", host));
        for (name, value) in own.iter().chain(fields) {
            if value.contains(['\r', '\n']) {
                return Err(failed(&"a line break in the request"));
            }
            request += &format!("{name}: {value}\r\n");
        }
        request += "\r\n";
        let bytes = [request.as_bytes(), body].concat();
        let answer = self.exchange(&bytes).map_err(|error| failed(&error))?;
        read(&answer).ok_or_else(|| failed(&"what it answers isn't HTTP, or breaks off"))
    }

    fn exchange(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let connect = |authority: &str| {
            let stream = TcpStream::connect(authority)?;
            stream.set_read_timeout(Some(WITHIN))?;
            Ok::<_, io::Error>(stream)
        };
        match (&self.server.place, &self.tls) {
            (Place::Unix(path), _) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(WITHIN))?;
                talk(stream, request)
            }
            (Place::Secure(authority), Some(tls)) => {
                let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
                talk(secure(tls, host, connect(authority)?)?, request)
            }
            (Place::Clear(authority) | Place::Secure(authority), _) => talk(connect(authority)?, request),
        }
    }
}

/// What comes until the other side has ended.
fn talk(mut stream: impl io::Read + io::Write, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer) {
        // Many servers end TLS without a word; whether the answer is whole shows by its length.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(answer),
    }
}

fn read(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let field =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let header: Vec<_> = lines.filter_map(field).collect();
    let body = answer.get(end + 4..)?.to_vec();
    let chunked =
        header.iter().any(|(name, value)| name == "transfer-encoding" && value.eq_ignore_ascii_case("chunked"));
    let length =
        header.iter().find_map(|(name, value)| (name == "content-length").then(|| value.parse::<usize>().ok()));
    let body = match length {
        _ if chunked => unchunked(&body)?,
        Some(length) => body.get(..length?)?.to_vec(),
        None => body,
    };
    Some(Answer { status, header, body })
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(rest.get(..end)?).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let from = end + 2;
        body.extend_from_slice(rest.get(from..from.checked_add(size)?)?);
        rest = rest.get(from + size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_its_address() {
        for good in ["http://127.0.0.1:8390", "http://bridge", "https://[::1]:1/", "https://b", "unix:/run/bridge.sock"]
        {
            assert!(good.parse::<Server>().is_ok(), "{good}");
        }
        for bad in ["bridge:8390", "http://", "http://u@h", "http://h/path", "https://h/p", "ftp://h", "http:h"] {
            assert!(bad.parse::<Server>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_is_read_whole_or_in_chunks() {
        let whole = read(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody").unwrap();
        assert_eq!((whole.status, whole.field("a"), &*whole.body), (200, Some("b"), &b"body"[..]));
        let chunked = read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nbo\r\n2;x\r\ndy\r\n0\r\n\r\n");
        assert_eq!(chunked.unwrap().body, b"body");
        let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nbody";
        for odd in [&b""[..], b"HTTP/1.1 200 OK", b"SSH-2.0\r\n\r\n", cut] {
            assert!(read(odd).is_none());
        }
    }
}
