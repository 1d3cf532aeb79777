//! Recaching: what a write purged is read again, behind its client, so that the next reader finds it. The write's captures
//! and parameters become those of another rule's path; nothing of who wrote goes along.

use crate::cache_status::CACHE_NAME;
use crate::fetch::CDN_LOOP;
use crate::fields::{Line, encode};
use crate::key::{Target, host_of, query_value};
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
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// A capture of the write's path.
    Capture(String),
    /// A parameter of its query.
    Query(String),
    /// The rules.
    Text(String),
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
                    let value = filled(b"/?#")?;
                    (!value.contains('/')).then_some(())?;
                    target.extend([before.as_str(), &value, behind]);
                }
            }
        }
        for (number, (name, given)) in self.query.iter().enumerate() {
            target.push(if number == 0 { '?' } else { '&' });
            target.extend([name.as_str(), "=", &value(given, b"&#+;")?]);
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
        Recache { rule: 0, captures: owned(captures), query: owned(query) }
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
}
