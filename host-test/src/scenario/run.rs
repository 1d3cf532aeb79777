//! Running a case on a world.

use std::collections::BTreeMap;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use super::answers::Scripted;
use super::case::Case;
use super::expect::shown_ending;
use super::matcher::{Text, shown_duration};
use super::mistake::Span;
use super::steps::{Becomes, RequestStep, Step, What, When};
use super::trouble::{Trouble, fewest};
use super::verdict::{Difference, Failure, Verdict};
use crate::{BuildError, Call, Ending, Injected, Log, LogLevel, Replay, RequestId, Thread, World, WorldBuilder};

impl Case {
    /// Runs it in a world of its own. The same seed gives the same run.
    ///
    /// Where faults are drawn and it fails, it is run again with fewer of them for as long as it does, and the verdict holds the rest.
    pub fn run(&self, seed: u64) -> Verdict {
        let (mut failures, mut injected) = self.attempt(seed, &self.trouble);
        if !failures.is_empty() && self.trouble.is_drawn() {
            injected = fewest(injected, |faults| {
                let (less, _) = self.attempt(seed, &Trouble::Listed(faults.to_vec()));
                let fails = !less.is_empty();
                if fails {
                    failures = less;
                }
                fails
            });
        }
        let replay = (!injected.is_empty()).then(|| Replay { seed, requests: Vec::new(), faults: injected });
        Verdict { case: self.name.clone(), seed, file: Rc::clone(&self.file), span: self.span, failures, replay }
    }

    /// What isn't as expected, and the faults that were injected.
    fn attempt(&self, seed: u64, trouble: &Trouble) -> (Vec<Failure>, Vec<Injected>) {
        let mut injected = Vec::new();
        let failures = catch_unwind(AssertUnwindSafe(|| self.failures(seed, trouble, &mut injected)));
        let failures = failures.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            let notes = vec![text.unwrap_or("it said nothing").to_owned()];
            vec![Failure { about: "the run broke down".to_owned(), notes, ..Failure::default() }]
        });
        (failures, injected)
    }

    fn failures(&self, seed: u64, trouble: &Trouble, injected: &mut Vec<Injected>) -> Vec<Failure> {
        let refusal = self.checks.iter().find_map(|check| Some((check, check.refusal()?)));
        let upstreams = self.upstreams();
        let world = match (self.builder(seed, trouble, &upstreams).build(), refusal) {
            (Ok(world), _) => world,
            (Err(error @ BuildError::Refused { .. }), Some((check, text))) => {
                let differences: Vec<_> = check.refusal_difference(text, &words(&error)).into_iter().collect();
                let about = "the filter refused its configuration in other words".to_owned();
                return some(Failure { about, differences, ..Failure::default() });
            }
            (Err(error), _) => {
                let about = "there is no gateway to send requests to".to_owned();
                return vec![Failure { about, notes: vec![words(&error)], ..Failure::default() }];
            }
        };
        let (sent, failures) = (Vec::new(), Vec::new());
        let mut run = Run {
            case: self,
            world,
            upstreams,
            start: self.settle,
            last_began: self.settle,
            sent,
            open: Vec::new(),
            failures,
        };
        run.world.run_for(self.settle);
        for step in &self.steps {
            if !run.begin(step) {
                break;
            }
            run.perform(step);
        }
        run.settle_down();
        *injected = run.world.injected_faults();
        run.judge();
        run.failures
    }

    /// The scripted upstreams by name; the origin has none.
    fn upstreams(&self) -> BTreeMap<Option<String>, Scripted> {
        let clusters = self.clusters.iter().map(|(name, answers)| (Some(name.clone()), Scripted::new(answers)));
        clusters.chain([(None, Scripted::new(&self.origin))]).collect()
    }

    fn builder(&self, seed: u64, trouble: &Trouble, upstreams: &BTreeMap<Option<String>, Scripted>) -> WorldBuilder {
        let mut builder = World::builder()
            .filter(self.subject.filter.clone())
            .configuration(&self.subject.configuration)
            .gateways(self.size.gateways)
            .workers(self.size.workers)
            .seed(seed)
            // They are part of the verdict.
            .tolerate_violations();
        if let Some(faults) = trouble.faults(seed) {
            builder = builder.faults(faults).quiet();
        }
        builder = (self.subject.surroundings)(builder);
        for setting in &self.settings {
            builder = setting(builder);
        }
        for (name, upstream) in upstreams {
            builder = match name {
                Some(name) => builder.cluster(name, upstream.clone()),
                None => builder.origin_upstream(upstream.clone()),
            };
        }
        builder
    }
}

/// A case under way.
struct Run<'case> {
    case: &'case Case,
    world: World,
    upstreams: BTreeMap<Option<String>, Scripted>,
    /// When the case's clock began, on the world's.
    start: Duration,
    /// When the latest step began.
    last_began: Duration,
    sent: Vec<Sent<'case>>,
    /// Those of them that haven't ended.
    open: Vec<RequestId>,
    failures: Vec<Failure>,
}

/// A request that was sent.
struct Sent<'case> {
    step: &'case Step,
    request: &'case RequestStep,
    /// Counted from 1 for each step.
    number: usize,
    worker: usize,
    id: RequestId,
}

/// Doing what the steps say.
impl<'case> Run<'case> {
    /// Lets time pass until a step begins. Whether it can.
    fn begin(&mut self, step: &Step) -> bool {
        let (at, past) = match step.when {
            When::After(delay) => {
                self.settle_down();
                (self.world.now() + delay, "")
            }
            When::Meanwhile(delay) => (self.last_began + delay, "use `after` to begin when that has ended"),
            When::At(time) => (self.start + time, "give it a later time, or use `meanwhile` before"),
        };
        let now = self.world.now();
        if at < now {
            let notes = vec![format!("the step before it ended at {} only: {past}", self.clock(now))];
            let about = format!("this step can't begin at {}", self.clock(at));
            self.failures.push(Failure { step: Some(step.span), about, notes, ..Failure::default() });
            return false;
        }
        if at > now {
            self.world.run_for(at - now);
        }
        self.last_began = at;
        true
    }

    /// Runs until every request has ended, and what they set off is done. A filter that always has something under way
    /// isn't waited for.
    fn settle_down(&mut self) {
        const REQUESTS_MAX: Duration = Duration::from_secs(3600);
        const REST_MAX: Duration = Duration::from_secs(10);
        let end = self.world.now() + REQUESTS_MAX;
        let open = &mut self.open;
        self.world.run_until(|world| {
            open.retain(|id| world.finished(*id).is_none());
            world.now() >= end || open.is_empty()
        });
        let end = self.world.now() + REST_MAX;
        self.world.run_until(|world| world.now() >= end);
    }

    fn perform(&mut self, step: &'case Step) {
        let world = &mut self.world;
        match &step.what {
            What::Request(request) => self.send(step, request),
            What::Wait(time) => world.run_for(*time),
            What::RestartWorker { gateway, worker } => world.restart_worker_of(*gateway, *worker),
            What::RestartGateway(gateway) => world.restart_gateway(*gateway),
            What::Reconfigure { gateway, configuration, refused } => {
                let outcome = match gateway {
                    Some(gateway) => world.reconfigure_gateway(*gateway, configuration),
                    None => world.reconfigure(configuration),
                };
                self.failures.extend(judge_reconfiguration(step.span, outcome, refused.as_ref()));
            }
            What::Crash { gateway, worker, callback, out_of_fuel: true } => {
                world.exhaust_fuel(*gateway, *worker, callback);
            }
            What::Crash { gateway, worker, callback, out_of_fuel: false } => {
                world.crash(*gateway, *worker, callback);
            }
            What::Stall(time) => world.stall_clock(*time),
            What::LogLevel(level) => world.set_log_level(*level),
            What::Refuse { function, status, times } => world.refuse(function, *status, *times),
            What::Clock { forwards: true, by } => world.set_wall(world.wall() + *by),
            What::Clock { forwards: false, by } => world.set_wall(world.wall().saturating_sub(*by)),
            What::ForgetSharedData(gateway) => world.forget_shared_data(*gateway, |_| true),
            What::Upstream { cluster, becomes } => {
                if let Some(upstream) = self.upstreams.get(cluster) {
                    match becomes {
                        Becomes::Now(condition) => upstream.fares(*condition),
                        Becomes::Restarted => upstream.restart(),
                    }
                }
            }
            What::Custom(action) => action(world),
        }
    }

    fn send(&mut self, step: &'case Step, request: &'case RequestStep) {
        for number in 1..=request.repeat * request.clients {
            if number > 1 && (number - 1) % request.clients == 0 {
                self.settle_down();
            }
            let sent = request.request(number, self.case.size.workers);
            let worker = sent.worker;
            let id = self.world.send(sent);
            if let Some(delay) = request.disconnect {
                self.world.after(delay, move |world| world.client_disconnects(id));
            }
            self.open.push(id);
            self.sent.push(Sent { step, request, number, worker, id });
        }
    }
}

/// Looking at what came of it.
impl Run<'_> {
    fn judge(&mut self) {
        let mut failures = Vec::new();
        let mut forwarded: BTreeMap<RequestId, Vec<&Call>> = BTreeMap::new();
        for call in self.world.origin_requests() {
            call.request.into_iter().for_each(|request| forwarded.entry(request).or_default().push(call));
        }
        for step in &self.case.steps {
            /// Of the same step; the hundredth says nothing new.
            const SHOWN: usize = 3;
            let of_step = self.sent.iter().filter(|sent| std::ptr::eq(sent.step, step));
            let mut failed: Vec<Failure> = of_step
                .filter_map(|sent| self.judge_request(sent, forwarded.get(&sent.id).map_or(&[], Vec::as_slice)))
                .collect();
            let more = failed.len().saturating_sub(SHOWN);
            failed.truncate(SHOWN);
            // The log of one of them explains the others.
            failed.iter_mut().skip(1).for_each(|failure| failure.log.clear());
            if let (Some(last), 1..) = (failed.last_mut(), more) {
                last.notes.push(format!("{more} more of this step failed"));
            }
            failures.append(&mut failed);
        }
        failures.extend(self.judge_end());
        self.failures.append(&mut failures);
    }

    fn judge_request(&self, sent: &Sent<'_>, forwarded: &[&Call]) -> Option<Failure> {
        let Sent { step, request, .. } = sent;
        let Some(answer) = self.world.finished(sent.id) else {
            // A client that never ends its request is there for what it does to others.
            let expects = !request.checks.is_empty() || !request.request.unfinished;
            let notes = vec!["no answer came".to_owned()];
            return expects.then(|| Failure {
                step: Some(step.span),
                about: self.about(sent),
                notes,
                ..Failure::default()
            });
        };
        let differences: Vec<Difference> =
            request.checks.iter().filter_map(|check| check.difference(answer, forwarded)).collect();
        let mut notes = Vec::new();
        let ending_matters = request.disconnect.is_none() && !request.checks.iter().any(|check| check.is_of_ending());
        if ending_matters && answer.ending != Ending::Complete {
            notes.push(format!("expected a complete answer, came {}", shown_ending(answer.ending)));
        }
        if differences.is_empty() && notes.is_empty() {
            return None;
        }
        let (from, to) = (self.clock(answer.started), self.clock(answer.ended));
        let about = format!("{}, from {from} to {to}", self.about(sent));
        let thread = Thread::Worker(answer.worker);
        let log = self.log(|log| {
            (answer.started..=answer.ended).contains(&log.at) && log.gateway == answer.gateway && log.thread == thread
        });
        Some(Failure { step: Some(step.span), about, differences, notes, log })
    }

    /// `first read: GET /users/7 on worker 1 of gateway 0`.
    fn about(&self, sent: &Sent<'_>) -> String {
        let Sent { step, request, number, .. } = sent;
        let name = step.name.as_ref().map_or_else(String::new, |name| format!("`{name}`: "));
        let times = request.repeat * request.clients;
        let which = if times > 1 { format!(", {number} of {times}") } else { String::new() };
        let (method, path) = (&request.method, request.path(*number));
        format!("{name}{method} {path} on worker {} of gateway {}{which}", sent.worker, request.gateway)
    }

    /// What is wrong at the end of the case: its own expectations, requests that no answer fits, and broken laws.
    fn judge_end(&mut self) -> Option<Failure> {
        let differences: Vec<_> = self.case.checks.iter().filter_map(|check| check.difference(&self.world)).collect();
        let mut notes = Vec::new();
        for (name, upstream) in &self.upstreams {
            let whose = name.as_ref().map_or_else(|| "the origin".to_owned(), |name| format!("cluster `{name}`"));
            for request in upstream.surprises() {
                notes.push(format!("{whose} has no answer that fits {request}"));
            }
        }
        self.world.shut_down();
        notes.extend(self.world.take_violations().iter().map(|violation| format!("a law was broken: {violation}")));
        if differences.is_empty() && notes.is_empty() {
            return None;
        }
        let least =
            if self.case.checks.iter().any(|check| check.is_of_log()) { LogLevel::Trace } else { LogLevel::Warn };
        let log = self.log(|log| log.level >= least);
        Some(Failure { step: None, about: "at the end".to_owned(), differences, notes, log })
    }

    /// The last of the lines that are meant.
    fn log(&self, mut means: impl FnMut(&Log) -> bool) -> Vec<String> {
        const LINES: usize = 20;
        let logs = self.world.logs();
        let meant: Vec<_> = logs.iter().filter(|log| means(log)).collect();
        let skipped = meant.len().saturating_sub(LINES);
        let dots = (skipped > 0).then(|| format!("… {skipped} lines before these"));
        let line = |log: &&Log| {
            let Log { at, gateway, thread, level, message, .. } = log;
            format!("{} gateway {gateway}, {thread}: {level:?}: {message}", self.clock(*at))
        };
        dots.into_iter().chain(meant[skipped..].iter().map(line)).collect()
    }

    /// A time of the world's clock on the case's.
    fn clock(&self, at: Duration) -> String {
        match at.checked_sub(self.start) {
            Some(time) => shown_duration(time),
            None => format!("-{}", shown_duration(self.start - at)),
        }
    }
}

fn judge_reconfiguration(
    span: Span,
    outcome: Result<(), BuildError>,
    refused: Option<&(Span, Text)>,
) -> Option<Failure> {
    let failure = |about: &str, differences, notes| {
        Some(Failure { step: Some(span), about: about.to_owned(), differences, notes, ..Failure::default() })
    };
    match (outcome, refused) {
        (Ok(()), None) => None,
        (Err(error), None) => failure("the new configuration isn't used", Vec::new(), vec![words(&error)]),
        (Ok(()), Some((span, text))) => {
            let (expected, came) = (text.to_string(), "the configuration was accepted".to_owned());
            let difference = Difference { span: *span, what: "refusal".to_owned(), expected, came };
            failure("the new configuration should be refused", vec![difference], Vec::new())
        }
        (Err(error), Some((span, text))) => {
            let said = words(&error);
            if text.holds(std::slice::from_ref(&said)) {
                return None;
            }
            let difference =
                Difference { span: *span, what: "refusal".to_owned(), expected: text.to_string(), came: said };
            failure("the new configuration is refused in other words", vec![difference], Vec::new())
        }
    }
}

/// The failure, if there is anything in it.
fn some(failure: Failure) -> Vec<Failure> {
    if failure.differences.is_empty() { Vec::new() } else { vec![failure] }
}

/// An error with its causes.
fn words(error: &BuildError) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words += &format!(": {error}");
        cause = error.source();
    }
    words.trim_end().to_owned()
}
