//! Background fetches: requests of the filter's own, which go through the gateway's own listener, so that they get what a
//! forwarded request gets (routes, rewrites, the other filters), and on their way to the origin pass this filter again.
//! It knows them by a mark that nobody else can make ([`Mark`]), takes what comes back into its tiers, and answers with
//! a word about it ([`Outcome`]). Where the rules say that nothing is rewritten, they go straight to the origin instead, as
//! the client's request would have been forwarded ([`Edit`]).

use std::fmt;

use crate::cache_status::CACHE_NAME;
use crate::fields::{Fields, Line, encode};

/// The field of the mark in a request, and of the outcome in its response. Whatever says so from outside is taken away.
pub const FETCH: &str = "routecache-fetch";

/// Tells who has forwarded a request already (RFC 8586).
pub(crate) const CDN_LOOP: &str = "cdn-loop";

/// What marks a request as a fetch of this gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What only this gateway's workers know.
    pub secret: u128,
    /// Whether the client came by https, which the way back to the listener doesn't tell.
    pub https: bool,
    /// For whom it is.
    pub manner: Manner,
}

/// For whom a fetch is, and so how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// For the tiers: the origin is asked, and the answer is a word.
    Behind,
    /// The same for a client that waits, and gets what can't be stored.
    Waits,
    /// To have it stored: what is stored already will do, and the answer is any client's.
    Reads,
}

impl Manner {
    fn word(self) -> &'static str {
        match self {
            Self::Behind => "",
            Self::Waits => "; waits",
            Self::Reads => "; reads",
        }
    }
}

impl Mark {
    /// Reads the mark of a request; `None` unless it has this secret.
    #[must_use]
    pub fn read(value: &[u8], secret: u128) -> Option<Self> {
        let manners = [Manner::Behind, Manner::Waits, Manner::Reads];
        let mut marks =
            manners.into_iter().flat_map(|manner| [false, true].map(|https| Self { secret, https, manner }));
        // All bytes are compared, wherever the first difference is: nothing can be learned from how long it takes.
        let same = |mark: &Self| {
            let text = mark.to_string();
            let different = text.bytes().zip(value).fold(0, |different, (one, two)| different | (one ^ two));
            text.len() == value.len() && different == 0
        };
        marks.find(same)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{:032x}; scheme={scheme}{}", self.secret, self.manner.word())
    }
}

/// What became of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// See [`Kind`].
    pub kind: Kind,
    /// The status that the origin answered with; 0 if it wasn't asked.
    pub status: u16,
    /// Whether the response that says so is the origin's as it came.
    pub whole: bool,
}

/// What stands behind the status where the response is the origin's.
const WHOLE: &str = " whole";

/// What the tiers have of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The response, or they will have it once it is whole.
    Stored,
    /// Nothing: it isn't for sharing.
    Uncacheable,
    /// What they had: the origin failed.
    Failed,
}

impl Kind {
    const WORDS: [(Self, &str); 3] =
        [(Self::Stored, "stored"), (Self::Uncacheable, "uncacheable"), (Self::Failed, "failed")];

    /// A word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }
}

impl Outcome {
    /// What a response to a fetch says; `None` if something else has answered.
    #[must_use]
    pub fn read(response: &Fields<'_>) -> Option<Self> {
        let (word, status) = std::str::from_utf8(response.only(FETCH)?).ok()?.split_once(' ')?;
        let (kind, _) = Kind::WORDS.iter().find(|(_, known)| *known == word)?;
        let (status, whole) = status.strip_suffix(WHOLE).map_or((status, false), |status| (status, true));
        Some(Self { kind: *kind, status: status.parse().ok()?, whole })
    }

    /// The value of the field that says so.
    #[must_use]
    pub fn value(&self) -> String {
        format!("{} {}{}", self.kind.word(), self.status, if self.whole { WHOLE } else { "" })
    }

    /// The header of the response that says so. No filter on the way is to make anything of it.
    #[must_use]
    pub fn header(&self, with_status: bool) -> Vec<u8> {
        let text = self.value();
        let lines: [Line<'_>; 3] =
            [(b":status", b"200"), (FETCH.as_bytes(), text.as_bytes()), (b"cache-control", b"no-store, no-transform")];
        encode(lines.get(usize::from(!with_status)..).unwrap_or_default())
    }
}

/// Whether an error on the way to the origin: what is stored is better (RFC 5861 §4).
#[must_use]
pub fn is_error(status: u16) -> bool {
    matches!(status, 500 | 502..=504)
}

/// Whether a fetch that got this status says nothing about what is stored: the origin is in trouble, or has enough of us.
#[must_use]
pub fn is_failure(status: u16) -> bool {
    status >= 500 || status == 429
}

/// Whether the request has come through a cache of this name: then nothing is fetched on its behalf, lest it go round.
#[must_use]
pub fn has_looped(request: &Fields<'_>) -> bool {
    let name =
        |id: &[u8]| id.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii() == CACHE_NAME.as_bytes();
    request.list(CDN_LOOP).any(name)
}

/// The header of a fetch of what `request` asks for, but for its mark; serialised. It asks for the whole, without
/// conditions, and with whatever else the client sent from end to end.
#[must_use]
pub fn header_of(request: &Fields<'_>, behind: bool) -> Vec<u8> {
    let mut loops = request.joined(CDN_LOOP).unwrap_or_default();
    if !loops.is_empty() {
        loops.extend_from_slice(b", ");
    }
    loops.extend_from_slice(CACHE_NAME.as_bytes());
    let mut lines: Vec<Line<'_>> = vec![(b":method", b"GET")];
    lines.extend(request.iter().filter(|(name, _)| passes_on(name, request, behind)));
    lines.push((CDN_LOOP.as_bytes(), &loops));
    encode(&lines)
}

/// Whether a read that the rules list may carry a field, its name in lower case: none that belongs to a connection, shapes the
/// message, or tells where it came from.
#[must_use]
pub fn may_carry(name: &str) -> bool {
    let of_the_way =
        matches!(name, "host" | "via" | "forwarded") || name.starts_with(':') || name.starts_with("x-forwarded-");
    !of_the_way && passes_on(name.as_bytes(), &Fields::default(), true)
}

/// Something that the origin gets otherwise than the client sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The field is this one line.
    Replace(&'static str, Vec<u8>),
    /// It isn't there.
    Remove(&'static str),
    /// It has this line more.
    Add(&'static str, String),
}

impl Edit {
    fn drops(&self, name: &[u8]) -> bool {
        match self {
            Self::Replace(field, _) | Self::Remove(field) => name.eq_ignore_ascii_case(field.as_bytes()),
            Self::Add(..) => false,
        }
    }

    fn line(&self) -> Option<Line<'_>> {
        match self {
            Self::Replace(name, value) => Some((name.as_bytes(), value)),
            Self::Add(name, value) => Some((name.as_bytes(), value.as_bytes())),
            Self::Remove(_) => None,
        }
    }
}

/// The header as these edits leave it; serialised.
#[must_use]
pub fn edited(header: &Fields<'_>, edits: &[Edit]) -> Vec<u8> {
    let kept = header.iter().filter(|(name, _)| !edits.iter().any(|edit| edit.drops(name)));
    let lines: Vec<Line<'_>> = kept.chain(edits.iter().filter_map(Edit::line)).collect();
    encode(&lines)
}

/// Whether a field of the client's goes into a fetch. Behind the client, its own wishes about caching don't count.
fn passes_on(name: &[u8], request: &Fields<'_>, behind: bool) -> bool {
    const DROPPED: [&str; 24] = [
        ":method",
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "content-length",
        "content-type",
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        // The mark tells it.
        "x-forwarded-proto",
        "x-forwarded-client-cert",
        // Each request has its own.
        "x-request-id",
        CDN_LOOP,
        FETCH,
        "surrogate-capability",
    ];
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    let internal = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"x-envoy-"));
    let listed =
        || !name.starts_with(b":") && request.list("connection").any(|listed| listed.eq_ignore_ascii_case(name));
    let wish = behind && (is("cache-control") || is("pragma"));
    !internal && !wish && !DROPPED.iter().any(|known| is(known)) && !listed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<'a>(lines: &[(&'a str, &'a str)]) -> Fields<'a> {
        Fields::from_pairs(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect())
    }

    #[test]
    fn only_who_knows_the_secret_can_make_a_mark() {
        let mark = Mark { secret: 0x00ab, https: true, manner: Manner::Behind };
        let text = mark.to_string();
        assert_eq!(text, "000000000000000000000000000000ab; scheme=https");
        for manner in [Manner::Behind, Manner::Waits, Manner::Reads] {
            let mark = Mark { manner, ..mark };
            assert_eq!(Mark::read(mark.to_string().as_bytes(), 0xab), Some(mark));
        }
        assert_eq!(
            Mark::read(b"000000000000000000000000000000ab; scheme=http", 0xab).map(|mark| mark.https),
            Some(false)
        );
        for forged in
            ["", "000000000000000000000000000000ac; scheme=https", "ab; scheme=https", &text[..44], &format!("{text} ")]
        {
            assert_eq!(Mark::read(forged.as_bytes(), 0xab), None, "{forged}");
        }
    }

    #[test]
    fn an_outcome_reads_back_as_it_was_said() {
        for (kind, status, whole) in
            [(Kind::Stored, 304, false), (Kind::Uncacheable, 0, false), (Kind::Failed, 503, true)]
        {
            let outcome = Outcome { kind, status, whole };
            assert_eq!(Outcome::read(&Fields::decode(&outcome.header(true)).unwrap()), Some(outcome));
            assert!(!Fields::decode(&outcome.header(false)).unwrap().has(":status"));
        }
        for strange in ["", "stored", "stored x", "lost 200"] {
            assert_eq!(Outcome::read(&fields(&[(FETCH, strange)])), None, "{strange}");
        }
        assert_eq!(Outcome::read(&fields(&[(FETCH, "stored 200"), (FETCH, "stored 200")])), None);
    }

    #[test]
    fn a_fetch_asks_for_the_whole_as_its_client_did() {
        let request = fields(&[
            (":method", "HEAD"),
            (":path", "/a?b"),
            (":authority", "h"),
            ("Accept-Language", "de"),
            ("cookie", "a=b"),
            ("connection", "x-hop, :path"),
            ("x-hop", "1"),
            ("range", "bytes=0-1"),
            ("if-none-match", "\"a\""),
            ("x-envoy-expected-rq-timeout-ms", "5"),
            ("cache-control", "no-cache"),
            ("cdn-loop", "edge; v=1"),
            ("x-forwarded-for", "1.2.3.4"),
            (FETCH, "forged"),
        ]);
        let lines = |behind| {
            let block = header_of(&request, behind);
            let fields = Fields::decode(&block).unwrap();
            fields
                .iter()
                .map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii()))
                .collect::<Vec<_>>()
        };
        let kept = [
            ":method: GET",
            ":path: /a?b",
            ":authority: h",
            "Accept-Language: de",
            "cookie: a=b",
            "cache-control: no-cache",
            "x-forwarded-for: 1.2.3.4",
            "cdn-loop: edge; v=1, routecache",
        ];
        assert_eq!(lines(false), kept);
        assert!(!lines(true).iter().any(|line| line.starts_with("cache-control")));
    }

    #[test]
    fn a_listed_read_carries_what_selects_a_response_and_nothing_of_the_message() {
        for name in ["accept-language", "accept", "user-agent", "x-tenant", "cookie", "accept-encoding"] {
            assert!(may_carry(name), "{name}");
        }
        for name in [
            "host",
            ":authority",
            ":path",
            "connection",
            "te",
            "transfer-encoding",
            "content-length",
            "range",
            "if-none-match",
            "cache-control",
            "x-forwarded-for",
            "x-envoy-retry-on",
            "cdn-loop",
            FETCH,
        ] {
            assert!(!may_carry(name), "{name}");
        }
    }

    #[test]
    fn edits_leave_the_rest_as_it_is() {
        let request =
            fields(&[(":path", "/a?b"), ("If-None-Match", "\"c\""), ("if-none-match", "\"d\""), ("range", "x")]);
        let edits = [
            Edit::Replace(":path", b"/a".to_vec()),
            Edit::Replace("if-none-match", b"\"e\"".to_vec()),
            Edit::Remove("range"),
            Edit::Remove("accept-encoding"),
            Edit::Add("range", "y".to_owned()),
        ];
        let expected: &[Line<'_>] = &[(b":path", b"/a"), (b"if-none-match", b"\"e\""), (b"range", b"y")];
        assert_eq!(edited(&request, &edits), encode(expected));
    }

    /// RFC 8586 §2.
    #[test]
    fn a_request_that_came_through_us_is_known() {
        for (value, expected) in [
            ("routecache", true),
            ("edge, routecache; v=1", true),
            ("routecache2", false),
            ("edge; x=routecache", false),
        ] {
            assert_eq!(has_looped(&fields(&[("CDN-Loop", value)])), expected, "{value}");
        }
    }
}
