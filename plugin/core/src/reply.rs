//! Answers made from a stored response: [`Replay`], a stored response as one worker replays it, and what a request gets of
//! it ([`Replay::answer`]): the whole, parts, or a 304.

use std::borrow::Cow;

use crate::cache_status::CacheStatus;
use crate::entry::Entry;
use crate::fields::{Fields, Line, encode, encode_into};
use crate::policy::{ClientCacheControl, Terms};
use crate::ranges::{Selection, content_range, multipart, select};
use crate::validation::{if_range_holds, is_not_modified};

/// Fields that each reply gets anew, beside those stored.
const ANEW: [&str; 2] = ["age", "cache-status"];

/// A stored response, and what of its header is replayed.
#[derive(Clone, Debug)]
pub struct Replay {
    entry: Entry,
    /// The header lines that are replayed, where they aren't all those stored.
    block: Option<Vec<u8>>,
    checked: bool,
    /// What [`Replay::look`] has taken out of what is replayed: the gateway adds it by itself.
    doubled: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An answer; its header is where [`Replay::answer`] was told to write it.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Cow<'a, [u8]>,
}

impl Replay {
    /// Prepares a stored response by the terms of its rule: without the fields that are for this cache alone, and with what
    /// browsers are to be told.
    #[must_use]
    pub fn new(entry: Entry, terms: &Terms) -> Self {
        let told = terms.client_cache_control;
        let hidden = |name: &[u8]| terms.hides(name) || told != ClientCacheControl::Keep && speaks_of_caching(name);
        let header = entry.header();
        let block = (told == ClientCacheControl::NoCache || header.iter().any(|(name, _)| hidden(name))).then(|| {
            let mut lines: Vec<_> = header.iter().filter(|(name, _)| !hidden(name)).collect();
            if told == ClientCacheControl::NoCache {
                lines.push((b"cache-control", b"no-cache"));
            }
            encode(&lines)
        });
        Self { entry, block, checked: false, doubled: Vec::new() }
    }

    /// The same for the response that a validation made of this one. What the gateway is known to add isn't replayed;
    /// what isn't known yet shows at the next hit.
    #[must_use]
    pub fn renewed(&self, entry: Entry, terms: &Terms) -> Self {
        let mut replay = Self::new(entry, terms);
        if !self.doubled.is_empty() {
            replay.block = Some(without(replay.block(), &self.doubled));
        }
        replay
    }

    /// The stored response.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// What it takes in memory, roughly, in bytes.
    #[must_use]
    pub fn footprint(&self) -> u64 {
        let block = self.block.as_ref().map_or(0, Vec::len);
        self.entry.footprint().saturating_add(u64::try_from(block).unwrap_or(u64::MAX))
    }

    /// Whether a reply has to be looked at on its way out: the gateway may add lines to it that are stored already, and it
    /// strips one without a body of fields that it should keep.
    #[must_use]
    pub fn needs_a_look(&self) -> bool {
        !self.checked || self.entry.body().is_empty()
    }

    fn block(&self) -> &[u8] {
        self.block.as_deref().unwrap_or_else(|| self.entry.header_block())
    }

    /// What `request` gets: a 304 if its own condition says so, the parts that it asks for, else the whole. The header is
    /// written to `out` as the host takes it: the stored lines, `Age` (RFC 9111 §5.1) and `Cache-Status`.
    pub fn answer(
        &self,
        request: &Fields<'_>,
        terms: &Terms,
        status: &CacheStatus,
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> Answer<'_> {
        let entry = &self.entry;
        let (age, status) = ((entry.age_ms(now_ms) / 1000).to_string(), status.to_string());
        let mut lines = vec![(&b"age"[..], age.as_bytes()), (&b"cache-status"[..], status.as_bytes())];
        let told;
        if let ClientCacheControl::MaxAge(seconds) = terms.client_cache_control {
            // The client counts its lifetime from the response's making, as we do.
            let seconds = u64::from(seconds.as_secs()).saturating_add(entry.age_ms(now_ms) / 1000);
            told = format!("max-age={seconds}");
            lines.push((b"cache-control", told.as_bytes()));
        }
        let whole = Answer { status: entry.status(), body: Cow::Borrowed(entry.body()) };
        if is_not_modified(request, entry.status(), || entry.header()) {
            self.write_filtered(|name| !of_the_body(name), &lines, out);
            return Answer { status: 304, body: Cow::Borrowed(b"") };
        }
        let wants_parts = entry.status() == 200 && request.first(":method") == Some(b"GET");
        let Some(range) = request.only("range").filter(|_| wants_parts && if_range_holds(request, &entry.header()))
        else {
            append_lines(self.block(), &lines, out);
            return whole;
        };
        let (body, len) = (entry.body(), entry.body().len());
        match select(range, len) {
            Selection::Whole => {
                append_lines(self.block(), &lines, out);
                whole
            }
            Selection::Unsatisfiable => {
                let range = format!("bytes */{len}");
                lines.push((b"content-range", range.as_bytes()));
                self.write_filtered(|name| !of_the_body(name), &lines, out);
                Answer { status: 416, body: Cow::Borrowed(b"") }
            }
            Selection::Parts(parts) => match parts.as_slice() {
                [part] => {
                    let range = content_range(part, len);
                    lines.push((b"content-range", range.as_bytes()));
                    append_lines(self.block(), &lines, out);
                    Answer { status: 206, body: Cow::Borrowed(body.get(part.clone()).unwrap_or_default()) }
                }
                parts => {
                    let (content_type, body) = multipart(parts, body, entry.header().only("content-type"));
                    lines.push((b"content-type", content_type.as_bytes()));
                    self.write_filtered(|name| !name.eq_ignore_ascii_case(b"content-type"), &lines, out);
                    Answer { status: 206, body: Cow::Owned(body) }
                }
            },
        }
    }

    fn write_filtered(&self, keeps: impl Fn(&[u8]) -> bool, lines: &[Line<'_>], out: &mut Vec<u8>) {
        let stored = Fields::decode(self.block()).unwrap_or_default();
        let kept: Vec<_> = stored.iter().filter(|(name, _)| keeps(name)).chain(lines.iter().copied()).collect();
        encode_into(&kept, out);
    }

    /// Looks at a reply as it leaves the gateway's router, `sent` being the header that it was given.
    ///
    /// A gateway adds the lines that its route asks for (`response_headers_to_add`) to every reply, and the stored header
    /// has them already, from when the response first came through. Such lines are taken out of what is replayed from now
    /// on, and out of this reply. A reply without a body gets back what was taken from it.
    ///
    /// Returns how this response is to be replayed, where that changes; and what this reply's header is to be, if it
    /// isn't right.
    #[must_use]
    pub fn look(&self, sent: &Fields<'_>, got: &Fields<'_>) -> (Option<Self>, Option<Vec<u8>>) {
        let mut reply: Vec<(&[u8], Cow<'_, [u8]>)> =
            got.iter().map(|(name, value)| (name, Cow::Borrowed(value))).collect();
        let before = reply.clone();
        let doubled = doubled(sent, got);
        for (name, value) in &doubled {
            take_last(&mut reply, name, value);
        }
        let empty = self.entry.body().is_empty() && self.entry.status() != 204;
        if let Some(content_type) = sent.only("content-type").filter(|_| empty && !got.has("content-type")) {
            reply.push((b"content-type", Cow::Borrowed(content_type)));
            reply.push((b"content-length", Cow::Borrowed(b"0")));
        }
        let changed = (reply != before).then(|| {
            let lines: Vec<_> = reply.iter().map(|(name, value)| (*name, value.as_ref())).collect();
            encode(&lines)
        });
        if self.checked {
            return (None, changed);
        }
        let mut replay = Self { checked: true, ..self.clone() };
        if !doubled.is_empty() {
            replay.doubled = doubled.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            replay.block = Some(without(self.block(), &replay.doubled));
        }
        (Some(replay), changed)
    }
}

/// The lines of `sent` that the gateway added by itself too: it writes its own before those that it is given, each as a
/// line or, for fields that it keeps apart, joined with a comma.
fn doubled<'a>(sent: &Fields<'a>, got: &Fields<'a>) -> Vec<Line<'a>> {
    let mut doubled = Vec::new();
    let mut seen: Vec<&[u8]> = Vec::new();
    for (name, _) in sent.iter() {
        let is = |known: &[u8]| known.eq_ignore_ascii_case(name);
        if ANEW.iter().any(|anew| is(anew.as_bytes())) || seen.iter().any(|known| is(known)) {
            continue;
        }
        seen.push(name);
        let ours: Vec<&[u8]> = sent.iter().filter(|(known, _)| is(known)).map(|(_, value)| value).collect();
        let theirs: Vec<&[u8]> = got.iter().filter(|(known, _)| is(known)).map(|(_, value)| value).collect();
        let added = match (ours.as_slice(), theirs.as_slice()) {
            ([own], [joined]) => {
                joined.strip_suffix(*own).and_then(|rest| rest.strip_suffix(b",")).into_iter().collect()
            }
            _ => theirs.get(..theirs.len().saturating_sub(ours.len())).unwrap_or_default().to_vec(),
        };
        // What the route added when the response was stored: the same line; or, where its value isn't always the same,
        // the last, since it was added behind the origin's.
        doubled.extend(added.into_iter().map(|added: &[u8]| {
            let same = ours.iter().find(|own| ends_with_member(own, added)).map(|_| added);
            (name, same.or(ours.last().copied()).unwrap_or_default())
        }));
    }
    doubled
}

/// Whether a value is `member`, or a list that ends with it.
fn ends_with_member(value: &[u8], member: &[u8]) -> bool {
    value.strip_suffix(member).is_some_and(|rest| rest.is_empty() || rest.ends_with(b","))
}

/// A serialised header without these lines; where one has another value by now, without the last of its name.
fn without(block: &[u8], doubled: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let stored = Fields::decode(block).unwrap_or_default();
    let mut lines: Vec<_> = stored.iter().map(|(name, value)| (name, Cow::Borrowed(value))).collect();
    for (name, value) in doubled {
        let last = lines.iter().rfind(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone());
        let same = lines.iter().any(|(known, own)| known.eq_ignore_ascii_case(name) && ends_with_member(own, value));
        match last {
            Some(last) if !same => take_last(&mut lines, name, &last),
            _ => take_last(&mut lines, name, value),
        }
    }
    let lines: Vec<_> = lines.iter().map(|(name, value)| (*name, value.as_ref())).collect();
    encode(&lines)
}

/// Takes the last line of this name and value away, or the value off the end of the last list that ends with it.
fn take_last(lines: &mut Vec<(&[u8], Cow<'_, [u8]>)>, name: &[u8], value: &[u8]) {
    let of_name = |line: &(&[u8], Cow<'_, [u8]>)| line.0.eq_ignore_ascii_case(name) && ends_with_member(&line.1, value);
    let Some(at) = lines.iter().rposition(of_name) else { return };
    let Some(line) = lines.get_mut(at) else { return };
    match line.1.strip_suffix(value).map(|rest| rest.strip_suffix(b",").unwrap_or(rest).to_vec()) {
        Some(rest) if !rest.is_empty() => line.1 = Cow::Owned(rest),
        _ => drop(lines.remove(at)),
    }
}

/// Fields that describe a body, which a 304 and a 416 don't have (RFC 9110 §15.4.5).
fn of_the_body(name: &[u8]) -> bool {
    name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"))
        && !name.eq_ignore_ascii_case(b"content-location")
}

/// Fields by which an origin tells clients how to cache.
#[must_use]
pub fn speaks_of_caching(name: &[u8]) -> bool {
    ["cache-control", "expires", "pragma"].iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// Copies a serialised list of fields with more lines at its end.
fn append_lines(block: &[u8], lines: &[Line<'_>], out: &mut Vec<u8>) {
    out.clear();
    let number = |len: usize| u32::try_from(len).unwrap_or_default().to_le_bytes();
    let count = block.first_chunk::<4>().map_or(0, |count| u32::from_le_bytes(*count));
    let count = usize::try_from(count).unwrap_or_default();
    let table = block.get(4..count.saturating_mul(8).saturating_add(4)).unwrap_or_default();
    let texts = block.get(table.len().saturating_add(4)..).unwrap_or_default();
    out.extend(number(count.saturating_add(lines.len())));
    out.extend_from_slice(table);
    for (name, value) in lines {
        out.extend(number(name.len()));
        out.extend(number(value.len()));
    }
    out.extend_from_slice(texts);
    for text in lines.iter().flat_map(|(name, value)| [name, value]) {
        out.extend_from_slice(text);
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache_status::Tier;
    use crate::entry::{Freshness, Parts, Ticket};
    use crate::policy::DeltaSeconds;

    type Lines<'a> = &'a [(&'a str, &'a str)];

    fn fields<'a>(lines: Lines<'a>) -> Fields<'a> {
        Fields::from_pairs(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect())
    }

    fn entry(lines: Lines<'_>, body: &[u8]) -> Entry {
        let header = fields(lines);
        Entry::new(&Parts {
            ticket: Ticket { era: 1, position: 1 },
            received_ms: 1000,
            freshness: Freshness { age_ms: 2000, lifetime_ms: 60_000, ..Freshness::default() },
            fingerprint: 9,
            status: 200,
            key: "key",
            tags: &[],
            header: &header.iter().collect::<Vec<_>>(),
            body,
        })
        .unwrap()
    }

    const STORED: Lines<'_> =
        &[("content-type", "text/plain"), ("etag", "\"a\""), ("cache-control", "max-age=60"), ("x", "1")];

    fn answer(terms: &Terms, request: Lines<'_>) -> (u16, String, Vec<(String, String)>) {
        let replay = Replay::new(entry(STORED, b"0123456789"), terms);
        let mut out = Vec::new();
        let get = [&[(":method", "GET")], request].concat();
        let status = CacheStatus::Hit { ttl_s: 55, detail: Tier::Worker.word() };
        let answer = replay.answer(&fields(&get), terms, &status, 3500, &mut out);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let header = Fields::decode(&out).unwrap();
        let lines = header.iter().map(|(name, value)| (text(name), text(value))).collect();
        (answer.status, text(&answer.body), lines)
    }

    fn names(lines: &[(String, String)]) -> Vec<&str> {
        lines.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn value<'a>(lines: &'a [(String, String)], name: &str) -> &'a str {
        lines.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    #[test]
    fn the_whole_is_the_stored_header_with_age_and_cache_status() {
        let (status, body, lines) = answer(&Terms::default(), &[]);
        assert_eq!((status, body.as_str()), (200, "0123456789"));
        assert_eq!(names(&lines), ["content-type", "etag", "cache-control", "x", "age", "cache-status"]);
        assert_eq!(value(&lines, "age"), "4");
        assert_eq!(value(&lines, "cache-status"), "routecache; hit; ttl=55; detail=worker");
    }

    /// RFC 9110 §15.4.5.
    #[test]
    fn a_client_that_holds_it_gets_a_304_without_what_describes_a_body() {
        let (status, body, lines) = answer(&Terms::default(), &[("if-none-match", "\"a\""), ("range", "bytes=0-1")]);
        assert_eq!((status, body.as_str()), (304, ""));
        assert_eq!(names(&lines), ["etag", "cache-control", "x", "age", "cache-status"]);
    }

    /// RFC 9110 §14 and §15.3.7.
    #[test]
    fn parts_come_from_the_whole() {
        let part = |request: Lines<'_>| answer(&Terms::default(), request);
        let (status, body, lines) = part(&[("range", "bytes=2-4")]);
        assert_eq!((status, body.as_str(), value(&lines, "content-range")), (206, "234", "bytes 2-4/10"));
        let (status, body, lines) = part(&[("range", "bytes=0-1,9-")]);
        assert_eq!(status, 206);
        assert!(value(&lines, "content-type").starts_with("multipart/byteranges; boundary="), "{lines:?}");
        assert!(body.contains("bytes 9-9/10\r\n\r\n9\r\n"), "{body}");
        let (status, body, lines) = part(&[("range", "bytes=10-")]);
        assert_eq!((status, body.as_str(), value(&lines, "content-range")), (416, "", "bytes */10"));
        for whole in [("range", "pages=1"), ("if-range", "\"b\"")] {
            assert_eq!(part(&[("range", "bytes=0-1"), whole][usize::from(whole.0 == "range")..]).0, 200, "{whole:?}");
        }
    }

    #[test]
    fn browsers_are_told_what_the_rule_says() {
        let told = |told| {
            let terms = Terms { client_cache_control: told, ..Terms::default() };
            let (_, _, lines) = answer(&terms, &[]);
            assert_eq!(lines.iter().filter(|(name, _)| name == "cache-control").count(), 1);
            value(&lines, "cache-control").to_owned()
        };
        assert_eq!(told(ClientCacheControl::Keep), "max-age=60");
        assert_eq!(told(ClientCacheControl::NoCache), "no-cache");
        // It is 4 seconds old, and the client counts from its making.
        assert_eq!(told(ClientCacheControl::MaxAge(DeltaSeconds::saturating(10))), "max-age=14");
    }

    #[test]
    fn fields_for_this_cache_alone_are_not_replayed() {
        let terms = Terms {
            targeted: vec!["our-control".into(), "cdn-cache-control".into()],
            tag_fields: vec!["surrogate-key".into()],
            ..Terms::default()
        };
        let stored: Lines<'_> =
            &[("Our-Control", "x"), ("cdn-cache-control", "max-age=1"), ("Surrogate-Key", "a b"), ("x", "1")];
        let replay = Replay::new(entry(stored, b"body"), &terms);
        let replayed: Vec<_> = Fields::decode(replay.block()).unwrap().iter().map(|(name, _)| name.to_vec()).collect();
        assert_eq!(replayed, [&b"cdn-cache-control"[..], b"x"]);
    }

    /// facts/hosts.md §11.
    #[test]
    fn what_the_gateway_adds_to_every_reply_is_replayed_once() {
        for (stored, got, replayed, right) in [
            // Nothing is added.
            (&[("x", "1")][..], &[("x", "1")][..], &[("x", "1")][..], &[("x", "1")][..]),
            // A line, beside the origin's own of the same name.
            (
                &[("x", "1"), ("x", "r")],
                &[("x", "r"), ("x", "1"), ("x", "r")],
                &[("x", "1")],
                &[("x", "r"), ("x", "1")],
            ),
            // The same as the origin's.
            (&[("x", "r")], &[("x", "r"), ("x", "r")], &[], &[("x", "r")]),
            // Another value each time.
            (&[("x", "12:00")], &[("x", "12:05"), ("x", "12:00")], &[], &[("x", "12:05")]),
            // A field that the gateway keeps in one line.
            (&[("vary", "accept,r")], &[("vary", "r,accept,r")], &[("vary", "accept")], &[("vary", "r,accept")]),
            (&[("vary", "r")], &[("vary", "r,r")], &[], &[("vary", "r")]),
            // Ours, and what is only the gateway's.
            (
                &[("cache-status", "cdn; hit")],
                &[("date", "x"), ("cache-status", "cdn; hit"), ("cache-status", "routecache; hit")],
                &[("cache-status", "cdn; hit")],
                &[("date", "x"), ("cache-status", "cdn; hit"), ("cache-status", "routecache; hit")],
            ),
        ] {
            let replay = Replay::new(entry(stored, b"body"), &Terms::default());
            assert!(replay.needs_a_look());
            let got = fields(got);
            let (next, changed) = replay.look(&fields(stored), &got);
            let next = next.unwrap();
            assert!(!next.needs_a_look());
            assert_eq!(Fields::decode(next.block()).unwrap(), fields(replayed), "{stored:?}");
            let renewed = next.renewed(entry(stored, b"body"), &Terms::default());
            assert_eq!(Fields::decode(renewed.block()).unwrap(), fields(replayed), "{stored:?}");
            let changed = changed.as_deref().map_or(got.clone(), |changed| Fields::decode(changed).unwrap());
            assert_eq!(changed, fields(right), "{stored:?}");
        }
    }

    /// facts/hosts.md §11: a gateway takes `Content-Type` and `Content-Length` from a reply without a body.
    #[test]
    fn an_empty_reply_gets_its_content_type_back_every_time() {
        let stored: Lines<'_> = &[("content-type", "text/plain")];
        let (next, changed) =
            Replay::new(entry(stored, b""), &Terms::default()).look(&fields(stored), &fields(&[(":status", "200")]));
        let expected = fields(&[(":status", "200"), ("content-type", "text/plain"), ("content-length", "0")]);
        assert_eq!(Fields::decode(&changed.unwrap()).unwrap(), expected);
        assert!(next.unwrap().needs_a_look());
    }
}
