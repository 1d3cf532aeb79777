//! What happens in a case, one step after the other: requests, and what befalls gateways and upstreams.

use std::time::Duration;

use super::answers::{Condition, read_chunks, read_lines};
use super::case::LOG_LEVELS;
use super::expect::{AnswerCheck, read_answer_checks};
use super::matcher::Text;
use super::mistake::Span;
use super::subject::{Extension, read_configuration};
use super::template::Template;
use super::walk::{At, Fields, every, parse_duration};
use crate::{LogLevel, Request, Status, World};

/// The fields that name a method and hold a path.
pub(super) const METHODS: &[(&str, &str)] = &[
    ("get", "GET"),
    ("head", "HEAD"),
    ("post", "POST"),
    ("put", "PUT"),
    ("patch", "PATCH"),
    ("delete", "DELETE"),
    ("options", "OPTIONS"),
];

/// One step.
pub(super) struct Step {
    pub(super) span: Span,
    pub(super) name: Option<String>,
    pub(super) when: When,
    pub(super) what: What,
}

/// When a step begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    /// This long after everything before it has ended.
    After(Duration),
    /// This long after the step before it began, whether or not that has ended.
    Meanwhile(Duration),
    /// At this time of the case.
    At(Duration),
}

/// What a step does.
pub(super) enum What {
    Request(Box<RequestStep>),
    Wait(Duration),
    RestartWorker {
        gateway: usize,
        worker: usize,
    },
    RestartGateway(usize),
    Reconfigure {
        gateway: Option<usize>,
        configuration: Vec<u8>,
        refused: Option<(Span, Text)>,
    },
    Crash {
        gateway: usize,
        worker: usize,
        callback: String,
        /// For want of fuel, rather than by a trap at once.
        out_of_fuel: bool,
    },
    Refuse {
        function: String,
        status: Status,
        times: u32,
    },
    /// Moves the wall clock, forwards or backwards.
    Clock {
        forwards: bool,
        by: Duration,
    },
    /// The monotonic clock stands still for modules.
    Stall(Duration),
    LogLevel(LogLevel),
    ForgetSharedData(usize),
    /// The origin if no cluster is named.
    Upstream {
        cluster: Option<String>,
        becomes: Becomes,
    },
    Custom(Action),
}

/// What an [`Extension`] does to a world.
pub type Action = Box<dyn Fn(&mut World)>;

/// What becomes of an upstream.
#[derive(Clone, Copy, Debug)]
pub(super) enum Becomes {
    Now(Condition),
    Restarted,
}

/// A request of one or more clients.
pub(super) struct RequestStep {
    pub(super) method: String,
    path: Template,
    pub(super) request: Request,
    pub(super) gateway: usize,
    pub(super) worker: usize,
    /// How often it is sent, each time after the one before has ended.
    pub(super) repeat: usize,
    /// How many clients send it at once, one worker after the other.
    pub(super) clients: usize,
    /// How long after its begin the client goes away.
    pub(super) disconnect: Option<Duration>,
    pub(super) checks: Vec<AnswerCheck>,
}

impl RequestStep {
    /// The request of the `number`th time, counted from 1.
    pub(super) fn request(&self, number: usize, workers: usize) -> Request {
        let worker = (self.worker + (number - 1) % self.clients) % workers;
        let mut request = self.request.clone().gateway(self.gateway).worker(worker);
        request.headers.set(":path", self.path(number));
        request
    }

    /// The path of the `number`th time.
    pub(super) fn path(&self, number: usize) -> String {
        self.path.fill(&[("n".to_owned(), number.to_string())].into())
    }
}

/// How many gateways and workers there are to be named.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) gateways: usize,
    pub(super) workers: usize,
}

impl Size {
    pub(super) fn gateway(self, at: Option<At<'_>>) -> Option<usize> {
        below(at, self.gateways, "gateway")
    }

    fn worker(self, at: Option<At<'_>>) -> Option<usize> {
        below(at, self.workers, "worker")
    }
}

/// The number of a gateway or worker; 0 if none is given.
fn below(at: Option<At<'_>>, count: usize, what: &str) -> Option<usize> {
    let Some(at) = at else { return Some(0) };
    let number = at.count()?;
    if number >= count {
        let s = if count == 1 { "" } else { "s" };
        at.wrong(
            format!("there is no {what} {number}: the case has {count} {what}{s}, counted from 0"),
            format!("give the case more with `{what}s: {}`, or another number here", number.saturating_add(1)),
        );
        return None;
    }
    Some(number)
}

pub(super) const TIMES: &[&str] = &["name", "at", "after", "meanwhile"];
pub(super) const REQUEST: &[&str] = &[
    "method",
    "path",
    "host",
    "headers",
    "body",
    "json",
    "chunks",
    "trailers",
    "unfinished",
    "gateway",
    "worker",
    "repeat",
    "clients",
    "disconnect",
    "expect",
];
/// What can happen besides requests.
pub(super) const EVENTS: &[&str] = &[
    "wait",
    "restart_worker",
    "restart_gateway",
    "reconfigure",
    "crash",
    "out_of_fuel",
    "refuse",
    "clock",
    "stall",
    "log_level",
    "forget_shared_data",
    "origin",
    "clusters",
];
const WORKER: &[&str] = &["gateway", "worker"];
const CRASH: &[&str] = &["callback"];
const REFUSAL: &[&str] = &["function", "status", "times"];
const CONFIGURATION: &[&str] = &["config", "config_file", "gateway", "refused"];
/// What the maps behind the events hold.
pub(super) const OF_EVENTS: &[&[&str]] = &[WORKER, CRASH, REFUSAL, CONFIGURATION];

/// What a step needs to know of its case.
pub(super) struct Surroundings<'a> {
    pub(super) extension: &'a dyn Extension,
    pub(super) case: &'a Fields<'a>,
    pub(super) size: Size,
    /// Clusters that the case scripts.
    pub(super) clusters: &'a [String],
}

impl Step {
    pub(super) fn read(at: At<'_>, around: &Surroundings<'_>) -> Option<Self> {
        let methods: Vec<&str> = METHODS.iter().map(|(field, _)| *field).collect();
        let fields = at.fields(&[&methods, REQUEST, EVENTS, TIMES, around.extension.step_fields()])?;
        // Each is read before any is missed, so that all mistakes are told.
        let when = read_when(&fields);
        let name = fields.get("name").map_or(Some(None), |name| Some(Some(name.text()?.to_owned())));
        let is_event =
            |field: &At<'_>| EVENTS.contains(&field.name()) || around.extension.step_fields().contains(&field.name());
        let events: Vec<At<'_>> = fields.iter().filter(is_event).collect();
        let what = match events.as_slice() {
            [] => What::Request(Box::new(read_request(at, &fields, around.size)?)),
            [event] => {
                let stray = |field: &At<'_>| !TIMES.contains(&field.name()) && field.name() != event.name();
                if let Some(stray) = fields.iter().find(stray) {
                    let mend = "a step does one thing; begin another with `- `";
                    stray.wrong_name(format!("`{}` doesn't go with `{}`", stray.name(), event.name()), mend);
                    return None;
                }
                read_event(*event, around)?
            }
            [_, second, ..] => {
                second.wrong_name("a step does one thing", "begin another step with `- `");
                return None;
            }
        };
        Some(Self { span: at.span(), name: name?, when: when?, what })
    }
}

fn read_when(fields: &Fields<'_>) -> Option<When> {
    let times: Vec<_> = ["at", "after", "meanwhile"].iter().filter_map(|name| fields.get(name)).collect();
    match times.as_slice() {
        [] => Some(When::After(Duration::ZERO)),
        [time] => {
            let duration = time.duration()?;
            Some(match time.name() {
                "at" => When::At(duration),
                "after" => When::After(duration),
                _ => When::Meanwhile(duration),
            })
        }
        [_, second, ..] => {
            second.wrong_name("a step begins at one time", "keep one of `at`, `after` and `meanwhile`");
            None
        }
    }
}

fn read_request(at: At<'_>, fields: &Fields<'_>, size: Size) -> Option<RequestStep> {
    let (method, path) = read_target(at, fields)?;
    let repeat = read_times(fields.get("repeat"))?;
    let clients = read_times(fields.get("clients"))?;
    // A path may have braces of its own.
    let numbered: &[String] = if repeat * clients > 1 { &["n".to_owned()] } else { &[] };
    let path = if numbered.is_empty() || !path.text()?.contains("{n}") {
        Template::literal(path.text()?)
    } else {
        Template::read(path, numbered)?
    };
    let own_text = |at: At<'_>| at.text().map(str::to_owned);
    let mut request = Request::new(&method, "/");
    let mut disconnect = None;
    let mut checks = Vec::new();
    let read = every(fields.iter(), |field| {
        let sent = request.clone();
        match field.name() {
            "host" => request = sent.host(field.text()?),
            "headers" => {
                let lines = read_lines(field, own_text)?.into_iter();
                request = lines.fold(sent, |request, (name, value)| request.header(name, value));
            }
            "trailers" => {
                let lines = read_lines(field, own_text)?.into_iter();
                request = lines.fold(sent, |request, (name, value)| request.trailer(name, value));
            }
            "body" => request = sent.body(field.text()?),
            "json" => request = sent.body(field.json().to_string()),
            "chunks" => {
                let chunks = read_chunks(field, own_text)?.into_iter();
                request = chunks.fold(sent, |request, (after, chunk)| request.chunk(after, chunk));
            }
            "unfinished" => request.unfinished = field.yes_or_no()?,
            "disconnect" => disconnect = Some(field.duration()?),
            "expect" => checks = read_answer_checks(field)?,
            _ => {}
        }
        Some(())
    });
    let (gateway, worker) = (size.gateway(fields.get("gateway")), size.worker(fields.get("worker")));
    let (Some(()), Some(gateway), Some(worker)) = (read, gateway, worker) else { return None };
    Some(RequestStep { method, path, request, gateway, worker, repeat, clients, disconnect, checks })
}

/// `get: /path`, or `method` and `path`.
fn read_target<'a>(at: At<'a>, fields: &Fields<'a>) -> Option<(String, At<'a>)> {
    let short: Vec<_> = METHODS.iter().filter_map(|(field, method)| Some((fields.get(field)?, *method))).collect();
    let (path, method) = match (short.as_slice(), fields.get("method"), fields.get("path")) {
        ([(path, method)], None, None) => (*path, (*method).to_owned()),
        ([], Some(method), Some(path)) => (path, method.text()?.to_owned()),
        ([], None, None) => {
            at.wrong(
                "this step does nothing",
                "write a request, such as `get: /path`, or an event, such as `wait: 1s`",
            );
            return None;
        }
        ([], Some(one), None) | ([], None, Some(one)) => {
            one.wrong_name("`method` and `path` go together", "write both, or `get: /path`");
            return None;
        }
        ([(one, _), ..], ..) => {
            one.wrong_name("a step is one request", "write one method and one path");
            return None;
        }
    };
    if !path.text()?.starts_with('/') {
        path.wrong("a path begins with `/`", "the host has a field of its own, `host`");
        return None;
    }
    Some((method, path))
}

/// A count of 1 or more; 1 if none is given.
fn read_times(at: Option<At<'_>>) -> Option<usize> {
    const MOST: usize = 100_000;
    let Some(at) = at else { return Some(1) };
    let times = at.count()?;
    if !(1..=MOST).contains(&times) {
        at.wrong(format!("`{}` is {times}", at.name()), format!("write a number from 1 to {MOST}"));
        return None;
    }
    Some(times)
}

fn read_event(event: At<'_>, around: &Surroundings<'_>) -> Option<What> {
    let size = around.size;
    Some(match event.name() {
        "wait" => What::Wait(event.duration()?),
        "restart_worker" => {
            let (gateway, worker) = read_worker(event, size)?;
            What::RestartWorker { gateway, worker }
        }
        "restart_gateway" => What::RestartGateway(size.gateway(Some(event))?),
        "forget_shared_data" => What::ForgetSharedData(size.gateway(Some(event))?),
        "reconfigure" => read_reconfigure(event, around)?,
        "stall" => What::Stall(event.duration()?),
        "log_level" => What::LogLevel(event.one_of(LOG_LEVELS)?),
        "crash" | "out_of_fuel" => {
            let fields = event.fields(&[WORKER, CRASH])?;
            let (gateway, worker) = (size.gateway(fields.get("gateway"))?, size.worker(fields.get("worker"))?);
            let Some(callback) = fields.get("callback") else {
                event.wrong("no callback is named", "write `callback: proxy_on_response_headers`, for example");
                return None;
            };
            let out_of_fuel = event.name() == "out_of_fuel";
            What::Crash { gateway, worker, callback: callback.text()?.to_owned(), out_of_fuel }
        }
        "refuse" => read_refusal(event)?,
        "clock" => {
            let text = event.text()?;
            let (forwards, by) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
                (Some(by), _) => (true, by),
                (_, Some(by)) => (false, by),
                _ => (true, ""),
            };
            let Some(by) = parse_duration(by) else {
                event.wrong("the clock moves by a duration with a sign", "write `+1h` or `-1h`, for example");
                return None;
            };
            What::Clock { forwards, by }
        }
        "origin" => What::Upstream { cluster: None, becomes: read_becomes(event)? },
        "clusters" => match event.entries()?.as_slice() {
            [cluster] if around.clusters.iter().any(|known| known == cluster.name()) => {
                What::Upstream { cluster: Some(cluster.name().to_owned()), becomes: read_becomes(*cluster)? }
            }
            [cluster] => {
                let mend = match around.clusters {
                    [] => "give it one, with answers, in a field `clusters` of the case".to_owned(),
                    known => format!("it has {}", known.join(", ")),
                };
                cluster.wrong_name(format!("the case has no cluster `{}`", cluster.name()), mend);
                return None;
            }
            _ => {
                event.wrong("a step is about one cluster", "write `clusters: { name: down }`");
                return None;
            }
        },
        _ => What::Custom(around.extension.step(event, around.case)?),
    })
}

fn read_becomes(at: At<'_>) -> Option<Becomes> {
    let mut words: Vec<_> =
        Condition::WORDS.iter().map(|(word, condition)| (*word, Becomes::Now(*condition))).collect();
    words.push(("restarts", Becomes::Restarted));
    at.one_of(&words)
}

/// The number of a worker of gateway 0, or a map with both.
fn read_worker(at: At<'_>, size: Size) -> Option<(usize, usize)> {
    if !at.is_map() {
        return Some((0, size.worker(Some(at))?));
    }
    let fields = at.fields(&[WORKER])?;
    Some((size.gateway(fields.get("gateway"))?, size.worker(fields.get("worker"))?))
}

fn read_reconfigure(at: At<'_>, around: &Surroundings<'_>) -> Option<What> {
    let fields = at.fields(&[CONFIGURATION, around.extension.configuration_fields()])?;
    let gateway = match fields.get("gateway") {
        Some(field) => Some(around.size.gateway(Some(field))?),
        None => None,
    };
    let refused = match fields.get("refused") {
        Some(field) => Some((field.span(), Text::read(field)?)),
        None => None,
    };
    let configuration = match read_configuration(&fields)? {
        Some(configuration) => configuration,
        None => around.extension.configuration(&fields, at, around.case)?,
    };
    Some(What::Reconfigure { gateway, configuration, refused })
}

fn read_refusal(at: At<'_>) -> Option<What> {
    const STATUSES: &[(&str, Status)] = &[
        ("not-found", Status::NotFound),
        ("bad-argument", Status::BadArgument),
        ("empty", Status::Empty),
        ("cas-mismatch", Status::CasMismatch),
        ("internal-failure", Status::InternalFailure),
        ("unimplemented", Status::Unimplemented),
    ];
    let fields = at.fields(&[REFUSAL])?;
    let (Some(function), Some(status)) = (fields.get("function"), fields.get("status")) else {
        let mend = "write `{ function: proxy_set_shared_data, status: cas-mismatch, times: 3 }`, for example";
        at.wrong("a refusal names a host function and a status", mend);
        return None;
    };
    let times = u32::try_from(read_times(fields.get("times"))?).ok()?;
    Some(What::Refuse { function: function.text()?.to_owned(), status: status.one_of(STATUSES)?, times })
}
