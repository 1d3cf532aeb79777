//! What a case expects: of the answer to a request, and of the world at its end.

use std::time::Duration;

use super::cache_status::CacheStatus;
use super::case::LOG_LEVELS;
use super::matcher::{RANGE, Range, TEXT, Text, shown_duration};
use super::mistake::Span;
use super::steps::Size;
use super::verdict::Difference;
use super::walk::{At, every, shorten};
use crate::{Answer, Call, Ending, Log, LogLevel, Metric, World};

/// One expectation, and where it stands.
pub(super) struct Check<T> {
    span: Span,
    /// What is looked at, such as `header x-cache`.
    what: String,
    rule: T,
}

/// Of the answer to a request.
pub(super) type AnswerCheck = Check<AnswerRule>;

pub(super) enum AnswerRule {
    Status(Range<u16>),
    Header(String, Text),
    Trailer(String, Text),
    Body(Text),
    Json(serde_json::Value),
    CacheStatus(CacheStatus),
    Took(Range<Duration>),
    LocalReply(bool),
    Details(Text),
    Ending(Ending),
    /// How often the request reached the origin.
    Forwarded(Range<usize>),
    /// What of it reached the origin.
    ForwardedAs(CallRule),
}

/// Of a request that an upstream got.
pub(super) enum CallRule {
    Method(Text),
    Path(Text),
    Header(String, Text),
    Body(Text),
    Json(serde_json::Value),
}

/// Of the world when everything is done.
pub(super) type CaseCheck = Check<CaseRule>;

pub(super) enum CaseRule {
    /// Requests that an upstream got: the origin, or a cluster.
    Traffic {
        cluster: Option<String>,
        which: Which,
        count: Range<usize>,
    },
    /// The request that came there as the n-th.
    Call {
        cluster: Option<String>,
        index: usize,
        rule: CallRule,
    },
    Log {
        level: LogLevel,
        text: Text,
        count: Range<usize>,
    },
    Metric {
        gateway: usize,
        name: String,
        value: Range<u64>,
    },
    SharedData {
        gateway: usize,
        key: String,
        text: Text,
    },
    Refused(Text),
}

/// Which requests of an upstream are counted.
pub(super) enum Which {
    All,
    Target { method: Option<String>, path: String },
}

pub(super) const ANSWER: &[&str] = &[
    "status",
    "headers",
    "trailers",
    "body",
    "json",
    "cache_status",
    "tier",
    "took",
    "local_reply",
    "details",
    "ending",
    "forwarded",
];

/// Of a request that reached an upstream.
pub(super) const CALL: &[&str] = &["method", "path", "headers", "body", "json"];
/// At the end of a case.
pub(super) const END: &[&str] = &["origin", "callouts", "logs", "no_logs", "metrics", "shared_data", "refused"];
/// Of what an upstream got; besides these, the bounds of the total.
pub(super) const TRAFFIC: &[&str] = &["total", "paths", "calls"];
/// Of a line of log, besides its text.
pub(super) const LOG: &[&str] = &["level", "count"];
/// Of a metric, besides its bounds.
pub(super) const METRIC: &[&str] = &["gateway", "is"];

/// Of a shared value, besides a text's conditions.
pub(super) const SHARED: &[&str] = &["gateway"];

/// What is expected of an answer.
pub(super) fn read_answer_checks(at: At<'_>) -> Option<Vec<AnswerCheck>> {
    let mut checks = Vec::new();
    every(at.fields(&[ANSWER])?.iter(), |field| {
        let mut check = |what: String, rule| checks.push(Check { span: field.span(), what, rule });
        let name = field.name();
        let plain = name.replace('_', " ");
        match name {
            "status" => check(plain, AnswerRule::Status(Range::read(field, At::status)?)),
            "headers" | "trailers" => {
                return every(field.entries()?, |entry| {
                    let text = Text::read(entry)?;
                    let name = entry.name().to_owned();
                    let (what, rule) = match field.name() {
                        "headers" => (format!("header `{name}`"), AnswerRule::Header(name, text)),
                        _ => (format!("trailer `{name}`"), AnswerRule::Trailer(name, text)),
                    };
                    checks.push(Check { span: entry.span(), what, rule });
                    Some(())
                });
            }
            "body" => check(plain, AnswerRule::Body(Text::read(field)?)),
            "json" => check("body as JSON".to_owned(), AnswerRule::Json(field.json())),
            "cache_status" => check("cache-status".to_owned(), AnswerRule::CacheStatus(CacheStatus::read(field)?)),
            "tier" => check("cache-status".to_owned(), AnswerRule::CacheStatus(CacheStatus::read_tier(field)?)),
            "took" => check("time".to_owned(), AnswerRule::Took(Range::read(field, At::duration)?)),
            "local_reply" => check(plain, AnswerRule::LocalReply(field.yes_or_no()?)),
            "details" => check(plain, AnswerRule::Details(Text::read(field)?)),
            "ending" => {
                let words =
                    [("complete", Ending::Complete), ("reset", Ending::Reset), ("client-gone", Ending::ClientGone)];
                check(plain, AnswerRule::Ending(field.one_of(&words)?));
            }
            _ => read_forwarded(field, &mut checks)?,
        }
        Some(())
    })?;
    Some(checks)
}

/// `true`, `false`, or what of it reached the origin.
fn read_forwarded(at: At<'_>, checks: &mut Vec<AnswerCheck>) -> Option<()> {
    let count =
        |times| Check { span: at.span(), what: "times forwarded".to_owned(), rule: AnswerRule::Forwarded(times) };
    if !at.is_map() {
        let times = if at.yes_or_no()? { Range::at_least(1) } else { Range::exactly(0) };
        checks.push(count(times));
        return Some(());
    }
    checks.push(count(Range::at_least(1)));
    let as_forwarded =
        |(span, what, rule)| Check { span, what: format!("forwarded {what}"), rule: AnswerRule::ForwardedAs(rule) };
    checks.extend(read_call_rules(at)?.into_iter().map(as_forwarded));
    Some(())
}

/// What is expected of a request that an upstream got, with what it is about.
fn read_call_rules(at: At<'_>) -> Option<Vec<(Span, String, CallRule)>> {
    let mut rules = Vec::new();
    every(at.fields(&[CALL])?.iter(), |field| {
        let rule = match field.name() {
            "method" => CallRule::Method(Text::read(field)?),
            "path" => CallRule::Path(Text::read(field)?),
            "body" => CallRule::Body(Text::read(field)?),
            "json" => CallRule::Json(field.json()),
            _ => {
                return every(field.entries()?, |entry| {
                    let rule = CallRule::Header(entry.name().to_owned(), Text::read(entry)?);
                    rules.push((entry.span(), format!("header `{}`", entry.name()), rule));
                    Some(())
                });
            }
        };
        rules.push((field.span(), field.name().to_owned(), rule));
        Some(())
    })?;
    Some(rules)
}

/// What is expected at the end of a case.
pub(super) fn read_case_checks(at: At<'_>, size: Size) -> Option<Vec<CaseCheck>> {
    let mut checks = Vec::new();
    every(at.fields(&[END])?.iter(), |field| {
        let mut add = |check: Option<CaseCheck>| check.map(|check| checks.push(check));
        match field.name() {
            "origin" => read_traffic(field, None, &mut checks),
            "callouts" => every(field.entries()?, |cluster| read_traffic(cluster, Some(cluster.name()), &mut checks)),
            "logs" => every(field.one_or_many(), |item| add(read_log(item, Range::at_least(1)))),
            "no_logs" => every(field.one_or_many(), |item| add(read_log(item, Range::exactly(0)))),
            "metrics" => every(field.entries()?, |entry| add(read_metric(entry, size))),
            "shared_data" => every(field.entries()?, |entry| add(read_shared(entry, size))),
            _ => {
                let rule = CaseRule::Refused(Text::read(field)?);
                add(Some(Check { span: field.span(), what: "refusal".to_owned(), rule }))
            }
        }
    })?;
    Some(checks)
}

/// How many requests an upstream got: in all, per path, and what they were.
fn read_traffic(at: At<'_>, cluster: Option<&str>, checks: &mut Vec<CaseCheck>) -> Option<()> {
    let whose = cluster.map_or_else(|| "requests at the origin".to_owned(), |name| format!("callouts to `{name}`"));
    let cluster = cluster.map(str::to_owned);
    let mut check = |span, what, rule| checks.push(Check { span, what, rule });
    let all = |count| CaseRule::Traffic { cluster: cluster.clone(), which: Which::All, count };
    if !at.is_map() {
        check(at.span(), whose, all(Range::exactly(at.count()?)));
        return Some(());
    }
    every(at.fields(&[TRAFFIC, RANGE])?.iter(), |field| {
        match field.name() {
            "total" => check(field.span(), whose.clone(), all(Range::read(field, At::count)?)),
            "paths" => {
                every(field.entries()?, |entry| {
                    let (method, path) = match entry.name().split_once(' ') {
                        Some((method, path)) => (Some(method.to_owned()), path.to_owned()),
                        None => (None, entry.name().to_owned()),
                    };
                    let which = Which::Target { method, path };
                    let count = Range::read(entry, At::count)?;
                    let rule = CaseRule::Traffic { cluster: cluster.clone(), which, count };
                    check(entry.span(), format!("{whose} for `{}`", entry.name()), rule);
                    Some(())
                })?;
            }
            "calls" => {
                every(field.items()?.into_iter().enumerate(), |(index, item)| {
                    for (span, what, rule) in read_call_rules(item)? {
                        let rule = CaseRule::Call { cluster: cluster.clone(), index, rule };
                        check(span, format!("{whose}, number {}: {what}", index + 1), rule);
                    }
                    Some(())
                })?;
            }
            _ => {
                check(at.span(), whose.clone(), all(Range::read_bounds(at, TRAFFIC, At::count)?));
            }
        }
        Some(())
    })
}

/// A text that a line contains, or a map of conditions.
fn read_log(at: At<'_>, mut count: Range<usize>) -> Option<CaseCheck> {
    let mut level = LogLevel::Trace;
    let text = if at.is_map() {
        let text = Text::read_conditions(at, LOG)?;
        let fields = at.fields(&[TEXT, LOG])?;
        if let Some(field) = fields.get("level") {
            level = field.one_of(LOG_LEVELS)?;
        }
        if let Some(field) = fields.get("count") {
            count = Range::read(field, At::count)?;
        }
        text
    } else {
        Text::containing(at.text()?)
    };
    Some(Check { span: at.span(), what: "lines of log".to_owned(), rule: CaseRule::Log { level, text, count } })
}

/// An amount in gateway 0, or a map that names another one.
fn read_metric(at: At<'_>, size: Size) -> Option<CaseCheck> {
    let mut gateway = 0;
    let value = if at.is_map() {
        let fields = at.fields(&[METRIC, RANGE])?;
        gateway = size.gateway(fields.get("gateway"))?;
        match fields.get("is") {
            Some(is) => Range::exactly(is.number()?),
            None => Range::read_bounds(at, METRIC, At::number)?,
        }
    } else {
        Range::exactly(at.number()?)
    };
    let name = at.name().to_owned();
    Some(Check { span: at.span(), what: format!("metric `{name}`"), rule: CaseRule::Metric { gateway, name, value } })
}

/// A shared value's text in gateway 0, or a map of conditions that may name another one.
fn read_shared(at: At<'_>, size: Size) -> Option<CaseCheck> {
    let (gateway, text) = if at.is_map() {
        let fields = at.fields(&[SHARED, TEXT])?;
        (size.gateway(fields.get("gateway"))?, Text::read_conditions(at, SHARED)?)
    } else {
        (0, Text::read(at)?)
    };
    let key = at.name().to_owned();
    let what = format!("shared data `{key}`");
    Some(Check { span: at.span(), what, rule: CaseRule::SharedData { gateway, key, text } })
}

impl<T> Check<T> {
    fn differs(&self, expected: impl Into<String>, came: impl Into<String>) -> Difference {
        Difference { span: self.span, what: self.what.clone(), expected: expected.into(), came: came.into() }
    }

    /// Nothing if the text is as expected.
    fn text(&self, text: &Text, lines: &[String]) -> Option<Difference> {
        if text.holds(lines) {
            return None;
        }
        let came = if lines.is_empty() { "nothing".to_owned() } else { format!("`{}`", lines.join("`, `")) };
        Some(match (text.whole(), lines) {
            // Texts of several lines are shown line by line.
            (Some(whole), [one]) if whole.contains('\n') || one.contains('\n') => self.differs(whole, one.as_str()),
            _ => self.differs(text.to_string(), came),
        })
    }

    fn json(&self, expected: &serde_json::Value, body: &[u8]) -> Option<Difference> {
        let came = serde_json::from_slice::<serde_json::Value>(body);
        match came {
            Ok(came) if came == *expected => None,
            Ok(came) => Some(self.differs(format!("{expected:#}"), format!("{came:#}"))),
            Err(_) => Some(self.differs(format!("{expected:#}"), format!("no JSON: {}", of_body(body)))),
        }
    }

    fn count(&self, range: Range<usize>, came: usize) -> Option<Difference> {
        (!range.holds(came)).then(|| self.differs(range.shown(|count| count.to_string()), came.to_string()))
    }

    fn call(&self, rule: &CallRule, call: &Call) -> Option<Difference> {
        match rule {
            CallRule::Method(text) => self.text(text, &[call.method().to_owned()]),
            CallRule::Path(text) => self.text(text, &[call.path().to_owned()]),
            CallRule::Header(name, text) => self.text(text, &call.headers.all(name)),
            CallRule::Body(text) => self.text(text, &[call.text()]),
            CallRule::Json(expected) => self.json(expected, &call.body),
        }
    }
}

impl AnswerCheck {
    /// Whether this is about how the answer ended.
    pub(super) fn is_of_ending(&self) -> bool {
        matches!(self.rule, AnswerRule::Ending(_))
    }

    /// Nothing if the answer is as expected; `forwarded` is what the origin got of the request.
    pub(super) fn difference(&self, answer: &Answer, forwarded: &[&Call]) -> Option<Difference> {
        match &self.rule {
            AnswerRule::Status(range) => (!range.holds(answer.status)).then(|| {
                let body =
                    if answer.body.is_empty() { String::new() } else { format!(" with {}", of_body(&answer.body)) };
                self.differs(range.shown(|status| status.to_string()), format!("{}{body}", answer.status))
            }),
            AnswerRule::Header(name, text) => self.text(text, &answer.headers.all(name)),
            AnswerRule::Trailer(name, text) => self.text(text, &answer.trailers.all(name)),
            AnswerRule::Body(text) => self.text(text, &[answer.text()]),
            AnswerRule::Json(expected) => self.json(expected, &answer.body),
            AnswerRule::CacheStatus(expected) => {
                let lines = answer.headers.all("cache-status");
                let came =
                    if lines.is_empty() { "no such field".to_owned() } else { format!("`{}`", lines.join(", ")) };
                (!expected.holds(&lines)).then(|| self.differs(expected.to_string(), came))
            }
            AnswerRule::Took(range) => (!range.holds(answer.took()))
                .then(|| self.differs(range.shown(shown_duration), shown_duration(answer.took()))),
            AnswerRule::LocalReply(expected) => {
                let shown = |local| if local { "the gateway itself answers" } else { "the origin answers" };
                (answer.local_reply != *expected).then(|| self.differs(shown(*expected), shown(answer.local_reply)))
            }
            AnswerRule::Details(text) => self.text(text, std::slice::from_ref(&answer.details)),
            AnswerRule::Ending(expected) => {
                (answer.ending != *expected).then(|| self.differs(shown_ending(*expected), shown_ending(answer.ending)))
            }
            AnswerRule::Forwarded(range) => self.count(*range, forwarded.len()),
            AnswerRule::ForwardedAs(rule) => self.call(rule, forwarded.last()?),
        }
    }
}

/// How an answer ended, in words.
pub(super) fn shown_ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Complete => "a complete answer",
        Ending::Reset => "an answer that was broken off",
        Ending::ClientGone => "a client that went away",
    }
}

fn of_body(body: &[u8]) -> String {
    format!("`{}`", shorten(&String::from_utf8_lossy(body)))
}

impl CaseCheck {
    /// Whether this is about the log.
    pub(super) fn is_of_log(&self) -> bool {
        matches!(self.rule, CaseRule::Log { .. })
    }

    /// The text that a refusal is held against, if one is expected.
    pub(super) fn refusal(&self) -> Option<&Text> {
        match &self.rule {
            CaseRule::Refused(text) => Some(text),
            _ => None,
        }
    }

    /// Nothing if a refusal with these words is as expected.
    pub(super) fn refusal_difference(&self, text: &Text, said: &str) -> Option<Difference> {
        (!text.holds(&[said.to_owned()])).then(|| self.differs(text.to_string(), said))
    }

    /// Nothing if the world has become as expected.
    pub(super) fn difference(&self, world: &World) -> Option<Difference> {
        match &self.rule {
            CaseRule::Traffic { cluster, which, count } => {
                let calls = calls_of(world, cluster.as_deref());
                let meant = calls.iter().filter(|call| which.means(call)).count();
                self.count(*count, meant).map(|difference| {
                    let all = targets(&calls);
                    Difference { came: format!("{meant}{all}"), ..difference }
                })
            }
            CaseRule::Call { cluster, index, rule } => match calls_of(world, cluster.as_deref()).get(*index) {
                Some(call) => self.call(rule, call),
                None => Some(self.differs("such a request", "none")),
            },
            CaseRule::Log { level, text, count } => {
                let means = |log: &&Log| log.level >= *level && text.holds(std::slice::from_ref(&log.message));
                let came = world.logs().iter().filter(means).count();
                self.count(*count, came).map(|difference| {
                    let wanted = count.shown(|count| count.to_string());
                    let least = if *level == LogLevel::Trace { String::new() } else { format!(", {level:?} or worse") };
                    Difference { expected: format!("{wanted} {text}{least}"), ..difference }
                })
            }
            CaseRule::Metric { gateway, name, value } => {
                let came = match world.metrics_of(*gateway).get(name) {
                    Some(Metric::Counter(value) | Metric::Gauge(value)) => Some(*value),
                    Some(Metric::Histogram(values)) => Some(values.len() as u64),
                    None => None,
                };
                let shown = came.map_or_else(|| "no such metric".to_owned(), |came| came.to_string());
                (!value.holds(came.unwrap_or(0))).then(|| self.differs(value.shown(|value| value.to_string()), shown))
            }
            CaseRule::SharedData { gateway, key, text } => {
                let data = world.shared_data_of(*gateway);
                let value = data.value(key).map(|value| String::from_utf8_lossy(value).into_owned());
                self.text(text, value.as_slice())
            }
            CaseRule::Refused(text) => Some(self.differs(text.to_string(), "the configuration was accepted")),
        }
    }
}

impl Which {
    fn means(&self, call: &Call) -> bool {
        match self {
            Self::All => true,
            Self::Target { method, path } => {
                method.as_ref().is_none_or(|method| method == call.method()) && path == call.path()
            }
        }
    }
}

fn calls_of<'world>(world: &'world World, cluster: Option<&str>) -> Vec<&'world Call> {
    match cluster {
        None => world.origin_requests().iter().collect(),
        Some(name) => world.callouts().iter().filter(|call| call.cluster == name).collect(),
    }
}

/// What came, each target once: `: 2 × GET /a, PUT /b`.
fn targets(calls: &[&Call]) -> String {
    const MOST: usize = 8;
    let mut seen: Vec<(String, usize)> = Vec::new();
    for call in calls {
        let target = format!("{} {}", call.method(), call.path());
        match seen.iter_mut().find(|(there, _)| *there == target) {
            Some((_, count)) => *count += 1,
            None => seen.push((target, 1)),
        }
    }
    let rest = if seen.len() > MOST { format!(", and {} more", seen.len() - MOST) } else { String::new() };
    let shown =
        |(target, count): &(String, usize)| if *count == 1 { target.clone() } else { format!("{count} × {target}") };
    let list: Vec<_> = seen.iter().take(MOST).map(shown).collect();
    if list.is_empty() { String::new() } else { format!(" ({}{rest})", list.join(", ")) }
}
