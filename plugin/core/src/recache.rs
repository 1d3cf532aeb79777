//! Recaching: what a write purged is read again, behind its client, so that the next reader finds it. The write's captures
//! and parameters become those of another rule's path; nothing of who wrote goes along.

use crate::cache_status::CACHE_NAME;
use crate::fetch::CDN_LOOP;
use crate::fields::{Line, encode};
use crate::json::{self, Pointer};
use crate::key::{Target, host_of, percent_decode, query_value};
use crate::matching::Match;
use crate::path::{PathTemplate, Segment};
use crate::template::escape;

/// Most reads that one write asks for.
pub const READS_MAX: usize = 64;

/// One read that a write asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recache {
    /// Index of the cache rule that it meets.
    pub rule: usize,
    /// The captures of that rule's path.
    pub captures: Vec<(String, Given)>,
    /// The parameters of its query, in order.
    pub query: Vec<(String, Given)>,
    /// Where the values are of [`Given::Each`], of which each makes a read.
    pub each: Option<Each>,
}

/// Where a list of values is found, once a write is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Each {
    /// In the body of the write.
    Request(Pointer),
    /// In the body of its response.
    Response(Pointer),
    /// Among the tags that it purges: what stands between these two.
    Tag(String, String),
}

/// What is known of a write that is done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done<'a> {
    /// Its body, if it was read as a whole.
    pub request: Option<&'a [u8]>,
    /// That of its response, likewise.
    pub response: Option<&'a [u8]>,
    /// The tags that it purges.
    pub tags: &'a [String],
}

impl Each {
    /// The values; none where they can't be told.
    fn values(&self, done: &Done<'_>) -> Vec<Vec<u8>> {
        let within = |body: Option<&[u8]>, pointer| body.and_then(|body| json::values(body, pointer));
        match self {
            Self::Request(pointer) => within(done.request, pointer).unwrap_or_default(),
            Self::Response(pointer) => within(done.response, pointer).unwrap_or_default(),
            Self::Tag(before, behind) => {
                let value = |tag: &String| {
                    let value = tag.strip_prefix(before.as_str())?.strip_suffix(behind.as_str())?;
                    Some(percent_decode(value).into_owned())
                };
                done.tags.iter().filter_map(value).collect()
            }
        }
    }
}

/// Stands for a value that is found later; no target has it.
const HOLE: char = '\0';

/// Reads of which each has another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reads {
    pub(crate) each: Each,
    /// With [`HOLE`] in place of the value.
    pub(crate) read: Read,
}

impl Reads {
    /// The reads, for what is known of the write.
    pub(crate) fn of(&self, done: &Done<'_>) -> impl Iterator<Item = Read> {
        self.each.values(done).into_iter().filter_map(|value| {
            let odd = value.is_empty() || [&b"."[..], b".."].contains(&&*value);
            let (before, behind) = self.read.target.split_once(HOLE).filter(|_| !odd)?;
            let mut target = before.to_owned();
            escape(&value, if before.contains('?') { IN_QUERY } else { IN_PATH }, &mut target);
            target.push_str(behind);
            Some(Read { authority: self.read.authority.clone(), target })
        })
    }
}

/// What ends a segment of a path, and a value in a query.
const IN_PATH: &[u8] = b"/?#";
const IN_QUERY: &[u8] = b"&#+;";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// A capture of the write's path.
    Capture(String),
    /// A parameter of its query.
    Query(String),
    /// The rules.
    Text(String),
    /// What is found ([`Recache::each`]).
    Each,
}

/// A read, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Host, and port where there is one.
    pub authority: String,
    /// Path and query.
    pub target: String,
}

impl Recache {
    /// The read that a write asks for; `None` if the write lacks a value, or the read would be another path than the rule's.
    #[must_use]
    pub(crate) fn read(
        &self,
        path: &PathTemplate,
        host: Option<&str>,
        write: &Target<'_>,
        found: &Match<'_, '_>,
    ) -> Option<Read> {
        let value = |given: &Given, stops: &[u8]| match given {
            Given::Capture(name) => found.capture(name).map(str::to_owned),
            Given::Query(name) => query_value(write.query?, name).map(str::to_owned),
            Given::Text(text) => {
                let mut escaped = String::new();
                escape(text.as_bytes(), stops, &mut escaped);
                Some(escaped)
            }
            Given::Each => Some(HOLE.to_string()),
        };
        let mut target = String::new();
        let mut captures = path.captures().iter();
        for segment in &path.segments {
            target.push('/');
            let mut filled = |stops: &[u8]| {
                let name = &captures.next()?.name;
                let given = self.captures.iter().find(|(known, _)| known == name).map(|(_, given)| given)?;
                value(given, stops).filter(|value| !value.is_empty())
            };
            match segment {
                Segment::Literal(text) => target.push_str(text),
                Segment::Rest => target.push_str(&filled(b"?#")?),
                Segment::Capture(before, behind) => {
                    let value = filled(IN_PATH)?;
                    (!value.contains('/')).then_some(())?;
                    target.extend([before.as_str(), &value, behind]);
                }
            }
        }
        for (number, (name, given)) in self.query.iter().enumerate() {
            target.push(if number == 0 { '?' } else { '&' });
            target.extend([name.as_str(), "=", &value(given, IN_QUERY)?]);
        }
        let authority = match host.filter(|host| !host.starts_with('*') && *host != host_of(write.authority)) {
            Some(host) => host.to_owned(),
            None => write.authority.to_owned(),
        };
        Some(Read { authority, target })
    }
}

impl Read {
    /// The header of its request, but for the mark; serialised. It is nobody's in particular.
    #[must_use]
    pub fn header(&self) -> Vec<u8> {
        let lines: [Line<'_>; 7] = [
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":authority", self.authority.as_bytes()),
            (b":path", self.target.as_bytes()),
            (b"accept", b"*/*"),
            (b"user-agent", CACHE_NAME.as_bytes()),
            (CDN_LOOP.as_bytes(), CACHE_NAME.as_bytes()),
        ];
        encode(&lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::Router;
    use crate::policy::{Action, Mode, PurgeRule, Rule};

    fn read(recache: &Recache, target: &str, host: Option<&str>, write: (&str, Option<&str>)) -> Option<String> {
        let rule = Rule {
            name: "write".into(),
            methods: vec!["POST".into()],
            host: None,
            path: PathTemplate::parse("/users/{user_id}/orders/{*rest}").unwrap(),
            conditions: Vec::new(),
            mode: Mode::On,
            action: Action::Purge(PurgeRule::default()),
        };
        let router = Router::new(std::slice::from_ref(&rule));
        let found = router.find("POST", "h", write.0, &|_| true).purges.into_iter().next().unwrap();
        let write = Target { scheme: "http", method: "POST", authority: "h:8080", path: write.0, query: write.1 };
        let path = PathTemplate::parse(target).unwrap();
        recache.read(&path, host, &write, &found).map(|read| format!("{} {}", read.authority, read.target))
    }

    fn given(captures: &[(&str, Given)], query: &[(&str, Given)]) -> Recache {
        let owned =
            |list: &[(&str, Given)]| list.iter().map(|(name, given)| ((*name).to_owned(), given.clone())).collect();
        Recache { rule: 0, captures: owned(captures), query: owned(query), each: None }
    }

    #[test]
    fn a_writes_values_become_those_of_another_path() {
        let capture = |name: &str| Given::Capture(name.into());
        let text = |text: &str| Given::Text(text.into());
        let write = ("/users/4%32/orders/a/b", Some("size=5&x=%20"));
        let found = |text: &str| Some(text.to_owned());
        let id = given(&[("id", capture("user_id"))], &[]);
        assert_eq!(read(&id, "/people/{id:int}/list", None, write), found("h:8080 /people/4%32/list"));
        assert_eq!(read(&id, "/p/{id}.json", Some("h"), write), found("h:8080 /p/4%32.json"));
        assert_eq!(read(&id, "/p/{id}", Some("api"), write), found("api /p/4%32"));
        assert_eq!(read(&id, "/p/{id}", Some("*.example.com"), write), found("h:8080 /p/4%32"));
        let page = given(&[("id", text("a b/c"))], &[("page", text("1&2")), ("size", Given::Query("size".into()))]);
        assert_eq!(read(&page, "/p/{id}", None, write), found("h:8080 /p/a%20b%2Fc?page=1%262&size=5"));
        let rest = given(&[("path", capture("rest"))], &[]);
        assert_eq!(read(&rest, "/files/{*path}", None, write), found("h:8080 /files/a/b"));
        assert_eq!(read(&rest, "/files/{path}", None, write), None, "two segments are no one");
        assert_eq!(read(&id, "/p/{other}", None, write), None);
        assert_eq!(read(&given(&[], &[("q", Given::Query("none".into()))]), "/p", None, write), None);
    }

    #[test]
    fn each_value_that_is_found_makes_a_read() {
        let reads =
            |each: Each, target: &str| Reads { each, read: Read { authority: "h".into(), target: target.into() } };
        let targets = |reads: &Reads, done: &Done<'_>| reads.of(done).map(|read| read.target).collect::<Vec<_>>();
        let pointer = || Pointer::parse("/items/*/id").unwrap();
        let body = br#"{"items":[{"id":"a/b"},{"id":7},{"id":""},{"id":".."},{"id":"c&d"}]}"#;
        let done = Done { response: Some(body), ..Done::default() };
        let in_path = reads(Each::Response(pointer()), "/orders/\0/lines");
        assert_eq!(targets(&in_path, &done), ["/orders/a%2Fb/lines", "/orders/7/lines", "/orders/c&d/lines"]);
        let in_query = reads(Each::Response(pointer()), "/orders?id=\0");
        assert_eq!(targets(&in_query, &done), ["/orders?id=a/b", "/orders?id=7", "/orders?id=c%26d"]);
        let posted = reads(Each::Request(pointer()), "/orders/\0");
        assert!(
            targets(&posted, &done).is_empty() && targets(&posted, &Done { request: Some(b"{"), ..done }).is_empty()
        );
        assert_eq!(targets(&posted, &Done { request: Some(body), ..done }).len(), 3);
        let tags = ["user:7".to_owned(), "user:a%2Fb".to_owned(), "order:9".to_owned(), "user:".to_owned()];
        let tagged = reads(Each::Tag("user:".into(), String::new()), "/users/\0");
        assert_eq!(targets(&tagged, &Done { tags: &tags, ..done }), ["/users/7", "/users/a%2Fb"]);
    }
}
