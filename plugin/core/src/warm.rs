//! Warming: what the rules list is read once behind a gateway's start, so that its first clients find it. One of the
//! gateway's workers does that ([`Claim`]), asking as a client would: what the group has already will do.

use crate::cache_status::CACHE_NAME;
use crate::fetch::{Kind, Outcome, is_failure};
use crate::fields::{Fields, Line, encode};
use crate::planted::planted;
use crate::recache::Read;
use crate::refresh::backoff_ms;
use crate::wire::Reader;

/// Most URLs that are listed.
pub const URLS_MAX: usize = 1024;

/// How often one is asked for whose answer is no answer: the origin may come later than the gateway.
pub const TRIES_MAX: u8 = 6;

/// How long after its last sign of life a worker that warms counts as gone, in milliseconds.
const CLAIM_MS: u64 = 5000;

/// What is read once behind a start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warm {
    /// The list.
    pub urls: Vec<Url>,
    /// Whether each change of the rules has it read once more.
    pub on_reload: bool,
}

/// One of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether its clients come by https.
    pub https: bool,
    /// What is asked for.
    pub read: Read,
    /// What the request says beside that, names in lower case: it selects one of several responses (`Vary`).
    pub headers: Vec<(String, String)>,
}

impl Url {
    /// Reads `https://shop.example/menus/1?size=2`; no user, no fragment, no host without a path.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let https = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let at = rest.find('/')?;
        let (authority, target) = rest.split_at_checked(at)?;
        let odd = |byte: u8| !byte.is_ascii_graphic() || matches!(byte, b'@' | b'#' | b'\\' | b'"');
        if authority.is_empty() || authority.contains('?') || rest.bytes().any(odd) {
            return None;
        }
        let read = Read { authority: authority.to_ascii_lowercase(), target: target.to_owned() };
        Some(Self { https, read, headers: Vec::new() })
    }

    /// The header of its request, but for the mark; serialised.
    #[must_use]
    pub fn header(&self) -> Vec<u8> {
        let read = self.read.header();
        let fields = Fields::decode(&read).unwrap_or_default();
        let own = |name: &[u8]| self.headers.iter().any(|(own, _)| own.as_bytes() == name);
        let mut lines: Vec<Line<'_>> = fields.iter().filter(|(name, _)| !own(name)).collect();
        lines.extend(self.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        encode(&lines)
    }
}

/// Which worker warms a gateway, and whether that is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The rules for which it is done; 0 for those that are the first.
    rules: u64,
    owner: u64,
    until_ms: u64,
}

/// Until when it isn't done again.
const DONE: u64 = u64::MAX;

/// What a worker has to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It warms.
    Mine,
    /// Another one does.
    Others,
    /// It is done.
    Over,
}

impl Claim {
    /// Reads what [`Claim::encode`] wrote; other bytes are none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let mut reader = Reader::new(bytes);
        match (reader.u64(), reader.u64(), reader.u64()) {
            (Some(rules), Some(owner), Some(until_ms)) => Self { rules, owner, until_ms },
            _ => Self::default(),
        }
    }

    /// The claim as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [self.rules, self.owner, self.until_ms].into_iter().flat_map(u64::to_le_bytes).collect()
    }

    /// A worker would warm the gateway for these rules (0: for any), or goes on with it.
    pub fn take(&mut self, rules: u64, owner: u64, now_ms: u64) -> Part {
        if self.until_ms == DONE && (rules == 0 || rules == self.rules) {
            return Part::Over;
        }
        if self.until_ms != DONE && self.until_ms > now_ms && self.owner != owner {
            return Part::Others;
        }
        *self = Self { rules, owner, until_ms: now_ms.saturating_add(CLAIM_MS) };
        Part::Mine
    }

    /// It is done; not if another worker has taken over meanwhile.
    pub fn done(&mut self, owner: u64) {
        if self.owner == owner && !planted("warm_again") {
            self.until_ms = DONE;
        }
    }
}

/// What came of reading one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// It is stored, now or before.
    Stored,
    /// There was an answer, and it isn't stored.
    Unstored,
    /// There was none worth the name: it is tried again after so many milliseconds, unless that was the last time.
    Nothing(Option<u64>),
}

impl Came {
    /// What came of the try with that number, the first being 0; `response` is empty if it broke off. What was fetched
    /// straight from the origin says so as any fetch does.
    #[must_use]
    pub fn of(response: &Fields<'_>, status: u16, tried: u8) -> Self {
        let fetched = Outcome::read(response);
        let status = fetched.map_or(status, |outcome| outcome.status);
        if fetched.is_some_and(|outcome| outcome.kind == Kind::Stored) {
            return Self::Stored;
        }
        let said = response.joined("cache-status").unwrap_or_default();
        // Ours is the last of the caches that have seen it.
        let ours = said.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        let ours = ours.strip_prefix(CACHE_NAME.as_bytes()).unwrap_or_default();
        let mut words = ours.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        if words.any(|word| [&b"hit"[..], b"stored", b"collapsed"].contains(&word)) {
            return Self::Stored;
        }
        if status == 0 || is_failure(status) {
            return Self::Nothing((tried < TRIES_MAX).then(|| backoff_ms(tried)));
        }
        Self::Unstored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_scheme_a_host_and_a_path() {
        let url = |https, authority: &str, target: &str| Url {
            https,
            read: Read { authority: authority.into(), target: target.into() },
            headers: Vec::new(),
        };
        for (text, expected) in [
            ("http://shop.example/", url(false, "shop.example", "/")),
            ("https://Shop.example:8443/a%20b?c=d/e", url(true, "shop.example:8443", "/a%20b?c=d/e")),
            ("http://[::1]:80/a", url(false, "[::1]:80", "/a")),
        ] {
            assert_eq!(Url::parse(text), Some(expected), "{text}");
        }
        for odd in ["", "/menu", "shop.example/", "ftp://h/", "http:///a", "http://h", "http://h?a/", "http://u@h/"] {
            assert_eq!(Url::parse(odd), None, "{odd}");
        }
        assert_eq!(Url::parse("http://h/a#b").or(Url::parse("http://h/a b")).or(Url::parse("http://h/ü")), None);
    }

    #[test]
    fn a_read_says_what_is_listed_for_it_in_place_of_what_reads_say() {
        let mut url = Url::parse("https://shop.example/menu").unwrap();
        let plain = Fields::decode(&url.header()).unwrap().iter().count();
        url.headers = vec![("accept".into(), "text/html".into()), ("accept-language".into(), "de".into())];
        let header = url.header();
        let fields = Fields::decode(&header).unwrap();
        for (name, value) in
            [(":path", "/menu"), (":authority", "shop.example"), ("accept", "text/html"), ("accept-language", "de")]
        {
            assert_eq!(fields.only(name), Some(value.as_bytes()), "{name}");
        }
        assert_eq!(fields.iter().count(), plain + 1);
    }

    #[test]
    fn one_worker_warms_once_and_another_takes_over_from_one_that_is_gone() {
        let mut claim = Claim::default();
        assert_eq!((claim.take(0, 1, 100), claim.take(0, 2, 200), claim.take(0, 1, 300)), {
            (Part::Mine, Part::Others, Part::Mine)
        });
        assert_eq!(claim.take(0, 2, 5300), Part::Mine);
        claim.done(1);
        assert_eq!(claim.take(0, 2, 5400), Part::Mine);
        claim.done(2);
        assert_eq!((claim.take(0, 2, u64::MAX), claim.take(0, 1, u64::MAX)), (Part::Over, Part::Over));
        // New rules that ask for it, and the same once more.
        assert_eq!((claim.take(7, 1, 9000), claim.take(7, 2, 9000)), (Part::Mine, Part::Others));
        claim.done(1);
        assert_eq!((claim.take(7, 2, 9000), claim.take(0, 2, 9000), claim.take(8, 2, 9000)), {
            (Part::Over, Part::Over, Part::Mine)
        });
        assert_eq!(Claim::decode(&claim.encode()), claim);
        assert_eq!(Claim::decode(b"x"), Claim::default());
    }

    #[test]
    fn what_is_stored_is_told_by_our_own_words() {
        let came = |status, said: &str| {
            let line: &[(&[u8], &[u8])] = &[(b"cache-status", said.as_bytes())];
            Came::of(&Fields::from_pairs(line.to_vec()), status, 0)
        };
        for said in ["routecache; hit; ttl=3", "inner; fwd=miss, routecache; fwd=uri-miss; stored"] {
            assert_eq!(came(200, said), Came::Stored, "{said}");
        }
        assert_eq!(came(404, "routecache; fwd=uri-miss; collapsed; ttl=2"), Came::Stored);
        for said in ["routecache; fwd=bypass; detail=cookie", "routecache; hit, outer; fwd=miss", "inner; hit", ""] {
            assert_eq!(came(200, said), Came::Unstored, "{said}");
        }
        assert_eq!(came(503, "routecache; fwd=uri-miss"), Came::Nothing(Some(500)));
        let fetched = |kind, status| {
            let header = Outcome { kind, status, whole: false }.header(true);
            Came::of(&Fields::decode(&header).unwrap(), 0, 0)
        };
        assert_eq!(fetched(Kind::Stored, 200), Came::Stored);
        assert_eq!(
            (fetched(Kind::Uncacheable, 200), fetched(Kind::Uncacheable, 404)),
            (Came::Unstored, Came::Unstored)
        );
        assert_eq!(fetched(Kind::Failed, 503), Came::Nothing(Some(500)));
        assert_eq!(Came::of(&Fields::default(), 0, 3), Came::Nothing(Some(4000)));
        assert_eq!(Came::of(&Fields::default(), 0, TRIES_MAX), Came::Nothing(None));
    }
}
