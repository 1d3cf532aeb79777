//! The request and the response that are asked about, as a gateway hands them to the filter.

use std::fs;
use std::io;

use routecache_core::fields::Fields;
use routecache_core::property::Properties;
use routecache_core::request::{Arrived, Body, Engine, Plan, REQUEST_BODY_BYTES_MAX};

use crate::failure::Failure;

/// A request.
#[derive(Clone)]
pub struct Asked {
    /// In lower case, pseudo-fields first.
    pub lines: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
    /// What the gateway knows of it, by the ways that `--property` names.
    pub properties: Vec<(String, String)>,
}

/// A response.
pub struct Answered {
    pub status: u16,
    lines: Vec<(String, String)>,
    /// None where only its header is known.
    pub body: Option<Vec<u8>>,
    /// How long the origin took, in milliseconds.
    pub took_ms: u64,
}

/// `name: value`.
pub fn field(text: &str) -> Result<(String, String), &'static str> {
    const WRITE: &str = "write `name: value`";
    let (name, value) = text.split_once(':').ok_or(WRITE)?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) || value.chars().any(char::is_control) {
        return Err(WRITE);
    }
    Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
}

impl Asked {
    /// From what was given; `headers` may name another host than the URL.
    pub fn new(
        method: &str,
        url: &str,
        headers: &[(String, String)],
        body: Option<&str>,
        properties: &[(String, String)],
    ) -> Result<Self, Failure> {
        let unusable = |why: &str| Failure::Unusable(url.to_owned(), why.to_owned());
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
            return Err(Failure::Unusable(
                method.to_owned(),
                "methods are in capitals, such as GET or POST".to_owned(),
            ));
        }
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| unusable("write a URL, such as https://api.example.com/users/7"))?;
        if !matches!(scheme, "http" | "https") {
            return Err(unusable("the scheme is http or https"));
        }
        // A fragment isn't sent.
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if authority.is_empty() || authority.contains(['@', ' ']) {
            return Err(unusable("it names no host"));
        }
        if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable("write spaces and other letters percent-encoded, as they are sent"));
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let host = headers.iter().find(|(name, _)| name == "host").map_or(authority, |(_, host)| host);
        let pseudo = [(":method", method), (":scheme", scheme), (":authority", host), (":path", &target)];
        let mut lines: Vec<_> = pseudo.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        lines.extend(headers.iter().filter(|(name, _)| name != "host").cloned());
        let body = body.map(bytes_of).transpose()?;
        if let Some(body) = body.as_ref().filter(|_| !headers.iter().any(|(name, _)| name == "content-length")) {
            lines.push(("content-length".to_owned(), body.len().to_string()));
        }
        Ok(Self { lines, body, properties: properties.to_vec() })
    }

    /// The value of a field.
    pub fn line(&self, name: &str) -> &str {
        self.lines.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The same with another value, or without the field.
    pub fn with(&self, index: usize, value: Option<String>) -> Self {
        let mut other = self.clone();
        match (value, other.lines.get_mut(index)) {
            (Some(value), Some(line)) => line.1 = value,
            (None, Some(_)) => drop(other.lines.remove(index)),
            (_, None) => {}
        }
        other
    }

    /// The same with another method.
    pub fn with_method(&self, method: &str) -> Self {
        let index = self.lines.iter().position(|(name, _)| name == ":method").unwrap_or_default();
        self.with(index, Some(method.to_owned()))
    }

    /// Its fields, as the core reads them.
    pub fn fields(&self) -> Fields<'_> {
        fields_of(&self.lines)
    }

    /// What the core makes of it, in the order in which a gateway hands it over: its header first, then, if that is asked for, its body.
    pub fn plan<'a>(&'a self, engine: &'a Engine, fields: &'a Fields<'a>, property: Properties<'a>) -> Plan<'a> {
        let arrived = Arrived::new(fields, self.body.is_none(), property);
        match (engine.plan(&arrived), self.body.as_deref()) {
            (Plan::ReadBody, Some(body)) if body.len() <= REQUEST_BODY_BYTES_MAX => {
                engine.plan(&Arrived { body: Body::Whole(body), ..arrived })
            }
            (Plan::ReadBody, _) => engine.plan_unread(&arrived),
            (plan, _) => plan,
        }
    }

    /// A property of it.
    pub fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        let path = path.join(".");
        let known = self.properties.iter().rfind(|(known, _)| *known == path);
        known.map(|(_, value)| value.as_bytes().to_vec())
    }
}

impl Answered {
    /// From a status, or a file; more fields stand behind its own, and `body` in place of its own.
    pub fn new(given: &str, headers: &[(String, String)], body: Option<&str>, took_ms: u64) -> Result<Self, Failure> {
        let mut answered = match given.parse::<u16>() {
            Ok(status) if given.len() == 3 => Self { status, lines: Vec::new(), body: None, took_ms },
            _ => Self { took_ms, ..Self::parse(given, &read(given)?)? },
        };
        if let Some(body) = body {
            answered.body = Some(bytes_of(body)?);
        }
        answered.lines.extend_from_slice(headers);
        Ok(answered)
    }

    /// What `curl -i` prints. Interim responses in front are skipped.
    fn parse(name: &str, bytes: &[u8]) -> Result<Self, Failure> {
        let unusable = |why: &str| Failure::Unusable(name.to_owned(), why.to_owned());
        let text = String::from_utf8_lossy(bytes);
        let mut rest: &str = &text;
        loop {
            let (head, body) = rest.split_once("\r\n\r\n").or_else(|| rest.split_once("\n\n")).unwrap_or((rest, ""));
            let mut lines = head.lines();
            let line = lines.next().filter(|line| line.starts_with("HTTP/"));
            let status = line.and_then(|line| line.split(' ').nth(1)?.parse::<u16>().ok());
            let status = status.ok_or_else(|| unusable("it doesn't begin with a line such as `HTTP/1.1 200 OK`"))?;
            if (100..200).contains(&status) && !body.is_empty() {
                rest = body;
                continue;
            }
            let lines = lines.map(field).collect::<Result<_, _>>().map_err(unusable)?;
            return Ok(Self { status, lines, body: (!body.is_empty()).then(|| body.as_bytes().to_vec()), took_ms: 0 });
        }
    }

    /// Its fields, as the core reads them.
    pub fn fields(&self) -> Fields<'_> {
        fields_of(&self.lines)
    }
}

fn fields_of(lines: &[(String, String)]) -> Fields<'_> {
    Fields::from_pairs(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect())
}

/// A text, or the bytes of the file behind an `@`.
fn bytes_of(text: &str) -> Result<Vec<u8>, Failure> {
    text.strip_prefix('@').map_or_else(|| Ok(text.as_bytes().to_vec()), read)
}

fn read(name: &str) -> Result<Vec<u8>, Failure> {
    let bytes = if name == "-" {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::stdin(), &mut bytes).map(|_| bytes)
    } else {
        fs::read(name)
    };
    bytes.map_err(|error| Failure::Unread(name.into(), error))
}
