//! Header fields between hyper and the filter chain.

use std::net::SocketAddr;

use http::request;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use super::path::{self, Path};
use crate::Headers;

/// Fields that belong to one connection (RFC 9110 §7.6.1). `te` is among them, but says whether the client takes trailers.
const OF_THE_CONNECTION: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Bytes of a request's head, as many as Envoy takes (`max_request_headers_kb`).
pub(super) const HEAD_BYTES_MAX: usize = 60 << 10;

/// Why the filter isn't asked.
#[derive(Debug)]
pub(super) enum Unwanted {
    /// An answer of the gateway's own.
    Status(StatusCode),
    /// The client should ask for this path.
    Elsewhere(String),
}

/// A request as the filter sees it: Envoy's pseudo-headers first, then the client's fields, then what Envoy's connection manager adds.
pub(super) fn request_headers(request: &request::Parts, peer: SocketAddr) -> Result<Headers, Unwanted> {
    let fields = &request.headers;
    let wants_h2c = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"h2c");
    if request.method == Method::CONNECT || !fields.get_all("upgrade").iter().all(wants_h2c) {
        return Err(Unwanted::Status(StatusCode::FORBIDDEN));
    }
    let host = fields.get("host").map(HeaderValue::as_bytes);
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes()).or(host);
    let authority = authority.ok_or(Unwanted::Status(StatusCode::BAD_REQUEST))?;
    let path = match path::normal(request.uri.path_and_query().map_or("/", PathAndQuery::as_str)) {
        Path::Normal(path) => path,
        Path::Redirect(path) => return Err(Unwanted::Elsewhere(path)),
    };
    let mut headers = Headers::new();
    headers.add(":authority", authority);
    headers.add(":path", path);
    headers.add(":method", request.method.as_str());
    headers.add(":scheme", "http");
    let mut cookies: Vec<&[u8]> = Vec::new();
    for (name, value) in end_to_end(fields) {
        match name.as_str() {
            // The gateway has answered it by reading the body.
            "host" | "expect" => {}
            "cookie" => cookies.push(value.as_bytes()),
            // Only the gateway itself says such things.
            name if name.starts_with("x-envoy-") => {}
            name => headers.add(name, value.as_bytes()),
        }
    }
    if !cookies.is_empty() {
        // HTTP/2 may send crumbs (RFC 9113 §8.2.3).
        headers.add("cookie", cookies.join(&b"; "[..]));
    }
    let known = headers.all("x-forwarded-for").join(",");
    let address = peer.ip().to_canonical();
    let before = if known.is_empty() { String::new() } else { format!("{known},") };
    headers.set("x-forwarded-for", format!("{before}{address}"));
    headers.set("x-forwarded-proto", "http");
    if !headers.has("x-request-id") {
        headers.add("x-request-id", request_id());
    }
    if headers.byte_size() > HEAD_BYTES_MAX {
        return Err(Unwanted::Status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
    }
    Ok(headers)
}

/// A response, or the answer to a callout, as the filter sees it.
pub(super) fn response_headers(status: StatusCode, fields: &HeaderMap) -> Headers {
    let mut headers = Headers::new();
    headers.add(":status", status.as_str());
    for (name, value) in end_to_end(fields) {
        headers.add(name, value.as_bytes());
    }
    headers
}

pub(super) fn trailers(fields: &HeaderMap) -> Headers {
    fields.iter().map(|(name, value)| (name, value.as_bytes())).collect()
}

fn end_to_end(fields: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    let named = fields.get_all("connection").iter().filter_map(|value| value.to_str().ok());
    let named: Vec<String> = named.flat_map(|value| value.split(',')).map(|name| name.trim().to_lowercase()).collect();
    fields.iter().filter(move |(name, value)| match name.as_str() {
        "te" => value.as_bytes().eq_ignore_ascii_case(b"trailers"),
        name => !OF_THE_CONNECTION.contains(&name) && !named.iter().any(|named| named == name),
    })
}

/// What a filter has left of the fields, for hyper. Lines that HTTP doesn't allow are left out, and so are those of a connection.
pub(super) fn fields(headers: &Headers) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers.iter().filter(|(name, _)| !name.starts_with(b":")) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            && !OF_THE_CONNECTION.contains(&name.as_str())
        {
            fields.append(name, value);
        }
    }
    fields
}

/// A request for an upstream; `None` where the filter has made something of it that isn't one.
pub(super) fn upstream_request<B>(headers: &Headers, body: B) -> Option<http::Request<B>> {
    let mut request = http::Request::new(body);
    *request.method_mut() = Method::from_bytes(headers.bytes(":method")?).ok()?;
    let path = PathAndQuery::try_from(headers.bytes(":path")?).ok()?;
    *request.uri_mut() = Uri::from(path);
    *request.headers_mut() = fields(headers);
    request.headers_mut().insert("host", HeaderValue::from_bytes(headers.bytes(":authority")?).ok()?);
    Some(request)
}

/// `None` where the filter has made something of it that isn't a status.
pub(super) fn status(headers: &Headers) -> Option<StatusCode> {
    // 1xx aren't answers.
    StatusCode::from_u16(headers.status()).ok().filter(|status| !status.is_informational())
}

/// A random UUID (RFC 9562 §5.4).
fn request_id() -> String {
    let mut bytes = [0; 16];
    // Without random bytes a filter would have failed already; an id is only there to be found in logs.
    let _ = getrandom::fill(&mut bytes);
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{number:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{Unwanted, request_headers, request_id};
    use crate::Headers;

    fn of(builder: http::request::Builder) -> Result<Headers, Unwanted> {
        let (parts, ()) = builder.body(()).unwrap().into_parts();
        request_headers(&parts, SocketAddr::from(([192, 0, 2, 1], 4000)))
    }

    #[test]
    fn what_belongs_to_the_connection_stays_there() {
        let request = http::Request::get("/a//b?c")
            .header("host", "shop.example")
            .header("connection", "close, X-Mine")
            .header("x-mine", "1")
            .header("te", "gzip")
            .header("transfer-encoding", "chunked")
            .header("x-envoy-internal", "true")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("x-forwarded-for", "198.51.100.7")
            .header("accept", "*/*");
        let headers = of(request).unwrap();
        let names: Vec<_> = headers.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
        let rest = ["accept", "cookie", "x-forwarded-for", "x-forwarded-proto", "x-request-id"];
        let mut sorted = names[4..].to_vec();
        sorted.sort();
        assert_eq!(
            (&names[..4], sorted),
            (&[":authority", ":path", ":method", ":scheme"].map(str::to_owned)[..], rest.map(str::to_owned).to_vec())
        );
        assert_eq!((headers.get(":authority"), headers.get(":path")), (Some("shop.example"), Some("/a/b?c")));
        assert_eq!(headers.get("cookie"), Some("a=1; b=2"));
        assert_eq!(headers.get("x-forwarded-for"), Some("198.51.100.7,192.0.2.1"));
    }

    #[test]
    fn tunnels_and_requests_without_a_host_are_refused() {
        for (builder, status) in [
            (http::Request::get("/").header("host", "a").header("upgrade", "websocket"), 403),
            (http::Request::connect("a:1").header("host", "a"), 403),
            (http::Request::get("/"), 400),
        ] {
            let refused = of(builder).unwrap_err();
            assert!(matches!(&refused, Unwanted::Status(code) if code.as_u16() == status), "{refused:?}");
        }
        assert!(of(http::Request::get("/").header("host", "a").header("upgrade", "h2c")).is_ok());
    }

    #[test]
    fn request_ids_are_random_uuids() {
        let id = request_id();
        let parts: Vec<_> = id.split('-').map(str::len).collect();
        assert_eq!((parts, &id[14..15]), (vec![8, 4, 4, 4, 12], "4"), "{id}");
        assert_ne!(id, request_id());
    }
}
