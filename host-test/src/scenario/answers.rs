//! Scripted upstreams: answers that the first fitting description of a file gives.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::matcher::Text;
use super::pattern::Pattern;
use super::steps::METHODS;
use super::template::Template;
use super::walk::{At, Fields, all, every};
use crate::{Call, Kept, Reply, Response, Status, Upstream};

/// Which requests are meant, and what they get.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Any, if empty.
    methods: Vec<String>,
    path: Option<Pattern>,
    when: Vec<(String, Text)>,
    /// The counter that `{version}` shows; the path if none is given.
    counter: Option<Template>,
    /// Counters that a request counts up; by default a write does so with the one that `{version}` shows.
    bumps: Option<Vec<Template>>,
    /// The first request gets the first, and so on; the last is for all that follow.
    sequence: Vec<Said>,
}

/// What an upstream says.
#[derive(Clone, Debug, Default)]
struct Said {
    status: Option<u16>,
    headers: Vec<(String, Template)>,
    body: Option<Template>,
    chunks: Vec<(Duration, Template)>,
    trailers: Vec<(String, Template)>,
    after: Duration,
    breaks_off: Option<Duration>,
    last_chunk_ends: bool,
    fails: Option<Condition>,
}

/// How an upstream fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// It answers.
    #[default]
    Up,
    /// Nobody listens.
    Down,
    /// It takes requests and never answers.
    Hangs,
    /// It breaks connections.
    Resets,
    /// The gateway knows no healthy host of it.
    Refused,
}

impl Condition {
    /// The words for them in scenario files.
    pub const WORDS: &'static [(&'static str, Self)] = &[
        ("up", Self::Up),
        ("down", Self::Down),
        ("hangs", Self::Hangs),
        ("resets", Self::Resets),
        ("refused", Self::Refused),
    ];

    /// What becomes of a call; nothing of its own while it is up.
    pub fn reply(self) -> Option<Reply> {
        Some(match self {
            Self::Up => return None,
            Self::Down => Reply::connect_failure(),
            Self::Hangs => Reply::hang(),
            Self::Resets => Reply::reset(),
            Self::Refused => Reply::refuse(Status::InternalFailure),
        })
    }
}

pub(super) const WHICH: &[&str] = &["path", "methods", "when", "counter", "bumps", "sequence"];
pub(super) const SAID: &[&str] =
    &["status", "headers", "body", "json", "chunks", "trailers", "after", "breaks_off", "last_chunk_ends", "fails"];

/// A piece of body.
pub(super) const CHUNK: &[&str] = &["after", "body"];

impl Answer {
    /// A list of answers, or a single one.
    pub(super) fn read_list(at: At<'_>) -> Option<Vec<Self>> {
        all(at.one_or_many().into_iter().map(Self::read))
    }

    /// Answers anything with what was asked: `GET /path`.
    pub(super) fn echo() -> Self {
        let said = Said { body: Some(Template::request_line()), ..Said::default() };
        Self { methods: Vec::new(), path: None, when: Vec::new(), counter: None, bumps: None, sequence: vec![said] }
    }

    fn read(at: At<'_>) -> Option<Self> {
        let methods: Vec<&str> = METHODS.iter().map(|(field, _)| *field).collect();
        let fields = at.fields(&[&methods, WHICH, SAID])?;
        let (methods, path) = read_target(&fields)?;
        let mut known: Vec<String> = path.iter().flat_map(Pattern::names).map(str::to_owned).collect();
        known.extend(["method", "path", "target", "count", "date"].map(str::to_owned));
        let counter = match fields.get("counter") {
            Some(field) => Some(Template::read(field, &known)?),
            None => None,
        };
        let bumps = match fields.get("bumps") {
            Some(field) => {
                Some(field.one_or_many().into_iter().map(|item| Template::read(item, &known)).collect::<Option<_>>()?)
            }
            None => None,
        };
        known.push("version".to_owned());
        let condition = |entry: At<'_>| Some((entry.name().to_owned(), Text::read(entry)?));
        let when = fields.get("when").map_or(Some(Vec::new()), |field| field.entries())?;
        let when = when.into_iter().map(condition).collect::<Option<_>>()?;
        let first = Said::read(&fields, &Said::default(), &known)?;
        let sequence = match fields.get("sequence") {
            Some(field) => {
                let said = |item: At<'_>| Said::read(&item.fields(&[SAID])?, &first, &known);
                let sequence: Vec<_> = field.items()?.into_iter().map(said).collect::<Option<_>>()?;
                if sequence.is_empty() {
                    field.wrong("the sequence is empty", "write an answer, or leave it out");
                    return None;
                }
                sequence
            }
            None => vec![first],
        };
        Some(Self { methods, path, when, counter, bumps, sequence })
    }

    /// What the path captures, if the request is meant.
    fn fits(&self, call: &Call) -> Option<Vec<(String, String)>> {
        let method_fits = self.methods.is_empty() || self.methods.iter().any(|method| method == call.method());
        let when = |(name, text): &(String, Text)| text.holds(&call.headers.all(name));
        if !method_fits || !self.when.iter().all(when) {
            return None;
        }
        match &self.path {
            Some(path) => path.captures(call.path()),
            None => Some(Vec::new()),
        }
    }
}

/// `get: /path`, or `methods` and `path`, or neither.
fn read_target(fields: &Fields<'_>) -> Option<(Vec<String>, Option<Pattern>)> {
    let short: Vec<_> = METHODS.iter().filter_map(|(field, method)| Some((fields.get(field)?, *method))).collect();
    let (path, methods) = (fields.get("path"), fields.get("methods"));
    match (short.as_slice(), path, methods) {
        ([(at, method)], None, None) => {
            let mut methods = vec![(*method).to_owned()];
            if *method == "GET" {
                methods.push("HEAD".to_owned());
            }
            Some((methods, Some(Pattern::read(*at)?)))
        }
        ([], path, methods) => {
            let text = |item: At<'_>| item.text().map(str::to_owned);
            let methods = methods.map_or(Some(Vec::new()), |at| at.one_or_many().into_iter().map(text).collect())?;
            let path = match path {
                Some(path) => Some(Pattern::read(path)?),
                None => None,
            };
            Some((methods, path))
        }
        ([_, second, ..], _, _) => {
            second.0.wrong_name("an answer has one path", "write `methods: [GET, PUT]` and `path:` instead");
            None
        }
        ([(at, _)], ..) => {
            at.wrong_name("method and path are given twice", "write either this or `methods` and `path`");
            None
        }
    }
}

impl Said {
    /// What the fields say, and else what `base` does.
    fn read(fields: &Fields<'_>, base: &Self, known: &[String]) -> Option<Self> {
        let mut said = base.clone();
        let template = |at: At<'_>| Template::read(at, known);
        every(fields.iter(), |field| {
            match field.name() {
                "status" => said.status = Some(field.status()?),
                "headers" => said.headers = read_lines(field, template)?,
                "trailers" => said.trailers = read_lines(field, template)?,
                "body" => said.body = Some(template(field)?),
                "json" => {
                    said.body = Some(Template::parse(field, &field.json().to_string(), known)?);
                    if !said.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                        let json = Template::parse(field, "application/json", known)?;
                        said.headers.push(("content-type".to_owned(), json));
                    }
                }
                "chunks" => said.chunks = read_chunks(field, template)?,
                "after" => said.after = field.duration()?,
                "breaks_off" => said.breaks_off = Some(field.duration()?),
                "last_chunk_ends" => said.last_chunk_ends = field.yes_or_no()?,
                "fails" => said.fails = Some(field.one_of(&Condition::WORDS[1..])?),
                _ => {}
            }
            Some(())
        })?;
        if let (Some(_), Some(chunks)) = (&said.body, fields.get("chunks")) {
            chunks.wrong_name("an answer has a body in one piece or in chunks", "leave `body` or `chunks` out");
            return None;
        }
        Some(said)
    }

    fn reply(&self, method: &str, values: &BTreeMap<String, String>) -> Reply {
        if let Some(reply) = self.fails.and_then(Condition::reply) {
            return reply.after(self.after);
        }
        let mut response = Response::new(self.status.unwrap_or(200)).after(self.after);
        for (name, value) in &self.headers {
            response = response.header(name, value.fill(values));
        }
        let body = self.body.as_ref().map(|body| body.fill(values));
        if method == "HEAD" {
            // The headers of a GET, and nothing behind them.
            return match body {
                Some(body) => response.header("content-length", body.len().to_string()).into(),
                None => response.into(),
            };
        }
        if let Some(body) = body {
            response = response.body(body);
        }
        for (after, chunk) in &self.chunks {
            response = response.chunk(*after, chunk.fill(values));
        }
        for (name, value) in &self.trailers {
            response = response.trailer(name, value.fill(values));
        }
        if self.last_chunk_ends {
            response = response.last_chunk_ends();
        }
        match self.breaks_off {
            Some(after) => response.then_reset(after).into(),
            None => response.into(),
        }
    }
}

/// Header lines: a map from names to values, or to lists of values for several lines.
pub(super) fn read_lines<T>(at: At<'_>, read: impl Fn(At<'_>) -> Option<T>) -> Option<Vec<(String, T)>> {
    let mut lines = Vec::new();
    every(at.entries()?, |entry| {
        every(entry.one_or_many(), |value| {
            lines.push((entry.name().to_owned(), read(value)?));
            Some(())
        })
    })?;
    Some(lines)
}

/// Pieces of body: texts, or maps with `body` and how long `after` the part before they come.
pub(super) fn read_chunks<T>(at: At<'_>, read: impl Fn(At<'_>) -> Option<T>) -> Option<Vec<(Duration, T)>> {
    let chunk = |item: At<'_>| {
        if !item.is_map() {
            return Some((Duration::ZERO, read(item)?));
        }
        let fields = item.fields(&[CHUNK])?;
        let after = fields.get("after").map_or(Some(Duration::ZERO), |after| after.duration())?;
        let Some(body) = fields.get("body") else {
            item.wrong("this piece has no body", "write `body:` and a text");
            return None;
        };
        Some((after, read(body)?))
    };
    all(at.items()?.into_iter().map(chunk))
}

/// An upstream that gives such answers; a clone is another handle to it.
#[derive(Clone)]
pub(super) struct Scripted {
    answers: Rc<[Answer]>,
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    condition: Condition,
    counters: BTreeMap<String, u64>,
    /// How often each answer was given.
    given: BTreeMap<usize, usize>,
    surprises: Vec<String>,
}

impl Scripted {
    pub(super) fn new(answers: &[Answer]) -> Self {
        Self { answers: answers.into(), state: Rc::default() }
    }

    pub(super) fn fares(&self, condition: Condition) {
        self.state.borrow_mut().condition = condition;
    }

    /// Starts anew: counters and sequences begin again.
    pub(super) fn restart(&self) {
        let mut state = self.state.borrow_mut();
        (state.condition, state.counters, state.given) = Default::default();
    }

    /// Requests that no answer fits.
    pub(super) fn surprises(&self) -> Vec<String> {
        self.state.borrow().surprises.clone()
    }
}

impl Upstream for Scripted {
    fn call(&mut self, call: &Call, _kept: &mut Kept) -> Reply {
        let mut state = self.state.borrow_mut();
        if let Some(reply) = state.condition.reply() {
            // A filter that tries again and again would otherwise keep a world from ever being idle.
            return if call.request.is_none() { reply.background() } else { reply };
        }
        let fitting = |(index, answer): (usize, &Answer)| Some((index, answer.clone(), answer.fits(call)?));
        let Some((index, answer, captures)) = self.answers.iter().enumerate().find_map(fitting) else {
            let request = format!("{} {}", call.method(), call.path());
            let body = format!("no answer of the scenario fits {request}");
            state.surprises.push(request);
            return Response::new(404).body(body).into();
        };
        let given = state.given.entry(index).or_default();
        *given += 1;
        let turn = *given;
        let mut values = values_of(call);
        values.extend(captures);
        values.insert("count".to_owned(), turn.to_string());
        let counter = answer.counter.as_ref().map_or_else(|| values["path"].clone(), |name| name.fill(&values));
        let writes = !matches!(call.method(), "GET" | "HEAD" | "OPTIONS" | "TRACE");
        let bumped: Vec<String> = match &answer.bumps {
            Some(names) => names.iter().map(|name| name.fill(&values)).collect(),
            None => writes.then(|| counter.clone()).into_iter().collect(),
        };
        for name in bumped {
            *state.counters.entry(name).or_insert(1) += 1;
        }
        values.insert("version".to_owned(), state.counters.get(&counter).copied().unwrap_or(1).to_string());
        let said = answer.sequence.get(turn - 1).or(answer.sequence.last());
        said.map_or_else(|| Response::new(200).into(), |said| said.reply(call.method(), &values))
    }
}

/// What any request has to fill in.
fn values_of(call: &Call) -> BTreeMap<String, String> {
    let (path, query) = call.path().split_once('?').unwrap_or((call.path(), ""));
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    // Of what comes twice, the first counts.
    let mut add = |name: String, value: &str| {
        values.entry(name).or_insert_with(|| value.to_owned());
    };
    add("method".to_owned(), call.method());
    add("path".to_owned(), path);
    add("target".to_owned(), call.path());
    add("date".to_owned(), &httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + call.wall));
    for (name, value) in query.split('&').filter_map(|parameter| parameter.split_once('=')) {
        add(format!("query.{name}"), value);
    }
    for (name, value) in call.headers.iter() {
        add(format!("header.{}", String::from_utf8_lossy(name)), &String::from_utf8_lossy(value));
    }
    values
}
