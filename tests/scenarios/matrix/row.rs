//! A row of the table: what comes of an operation while something fails. It is run, and it is written into the page.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use proxy_wasm_host_test::{Answer, LogLevel, Metric, Request, World};

use super::super::stage::{get, ms, status};
use super::operation::{CROWD, Operation};
use super::stage::{ORIGIN, ROUTE_TIMEOUT, Stage};

/// See the module.
pub struct Row {
    pub operation: Operation,
    /// What clients get, by kind of answer; the order of questions where they follow each other.
    pub answers: &'static [Told],
    /// How often the origin is asked for those answers.
    pub origin: usize,
    /// Each of these is said as a warning or an error, and nothing else is.
    pub logged: &'static [&'static str],
    /// These are counted up, and no others are.
    pub counted: &'static [&'static str],
    pub heals: Heals,
}

/// So many answers of a kind.
pub struct Told {
    pub count: usize,
    pub gets: Gets,
    /// `Cache-Status`, without the cache's name and the ttl.
    pub says: &'static str,
    /// What it waits for, each at once after the other.
    pub waits: &'static [Wait],
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gets {
    /// What was stored before the failure.
    Stored,
    /// What the origin says now.
    Current,
    /// The origin's error, or the gateway's own in its place.
    Error,
    /// 503 with `Retry-After`.
    Refusal,
}

/// What holds an answer up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The origin's answer, or whatever comes in its place.
    Origin,
    /// The same to a fetch of the filter's own.
    Fetch,
    /// The bridge's answer, for at most `bridge.timeout`.
    Lookup,
    /// The bridge's answer, for at most `purge.timeout`.
    Purge,
    /// A bridge that answers as ever.
    Works,
    /// The same, or nothing at all.
    MayWork,
    /// At most one fetch, another one's.
    OneFetch,
    /// At most one fetch, its own, for as long as the route lets it take.
    Asked,
    /// At most two requests of others, one after the other, and its own.
    Retry,
    /// At most one request that takes too long, another one's, and its own.
    Tries,
    /// At most until it has had its turn among so many at a time.
    Turn(usize),
    /// At most `lock_wait`.
    Held,
}

/// What waking others takes, beside what they wait for: lookups, and turns of the gateways.
const TURNS: Duration = ms(20);

/// How all is as before.
pub struct Heals {
    pub words: &'static str,
    /// At most so long after the failure has ended.
    pub within: Duration,
}

impl Wait {
    /// Exactly how long, where what fails takes so long to answer; none if it never does.
    fn time(self, takes: Option<Duration>, stage: &Stage) -> Duration {
        let at_most = |timeout: Duration| takes.map_or(timeout, |takes| takes.min(timeout));
        match self {
            Self::Origin => stage.origin_takes(ROUTE_TIMEOUT),
            Self::Fetch => stage.fetch_takes(),
            Self::Lookup => at_most(ms(50)),
            Self::Purge => at_most(ms(250)),
            Self::Works | Self::MayWork => ms(1),
            Self::OneFetch => stage.fetch_takes() + TURNS,
            Self::Asked => stage.origin_takes(ROUTE_TIMEOUT) + TURNS,
            Self::Turn(at_once) => ORIGIN * u32::try_from(CROWD / at_once).expect("a few") + TURNS,
            Self::Held => ms(100) + TURNS,
            Self::Retry => stage.origin_takes(ROUTE_TIMEOUT) * 3 + TURNS,
            Self::Tries => stage.origin_takes(ROUTE_TIMEOUT) * 2 + TURNS,
        }
    }

    /// Whether it may be less.
    fn is_bound(self) -> bool {
        !matches!(self, Self::Origin | Self::Fetch | Self::Lookup | Self::Purge | Self::Works)
    }
}

impl Row {
    /// Runs it while this fails.
    pub fn run(&self, mut stage: Stage) {
        let case = format!("{:?}, {}", self.operation, stage.name());
        self.operation.prepare(&mut stage.world);
        stage.begin();
        let world = &mut stage.world;
        let (logs, counters, asked) = (world.logs().len(), counters(world), world.origin_requests().len());
        let answers = self.operation.act(world);
        let heard: Vec<Duration> = world.origin_requests()[asked..].iter().map(|call| call.at).collect();
        world.run_for(ms(450)); // a purge that nobody waits for has had its time
        self.judge(&stage, &answers, &case);
        assert_eq!(heard.len(), self.origin, "{case}: requests of the origin");
        let meanwhile = |at: Duration| heard.iter().filter(|other| **other <= at && at < **other + ORIGIN).count();
        let at_once = heard.iter().map(|at| meanwhile(*at)).max().unwrap_or_default();
        assert!(self.at_once().is_none_or(|most| at_once <= most), "{case}: {at_once} requests of the origin at once");
        let world = &mut stage.world;
        let said: Vec<String> = world.logs()[logs..]
            .iter()
            .filter(|log| log.level >= LogLevel::Warn)
            .map(|log| log.message.clone())
            .collect();
        assert!(said.iter().all(|line| self.logged.iter().any(|text| line.contains(text))), "{case}: {said:#?}");
        for text in self.logged {
            assert!(said.iter().any(|line| line.contains(text)), "{case}: {text} isn't logged: {said:#?}");
        }
        let counted: Vec<String> = self::counters(world)
            .into_iter()
            .filter(|(name, count)| counters.get(name) != Some(count))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(counted, self.counted, "{case}: what is counted");
        stage.end();
        stage.world.run_for(self.heals.within);
        self.is_healed(&mut stage, &case);
    }

    /// How many requests the origin has at once, at most, where that is bounded.
    fn at_once(&self) -> Option<usize> {
        match self.operation {
            Operation::Fills(most) => Some(most),
            Operation::CrowdProtected => Some(2),
            _ => None,
        }
    }

    fn judge(&self, stage: &Stage, answers: &[Answer], case: &str) {
        let takes = stage.takes();
        let mut left: Vec<usize> = self.answers.iter().map(|told| told.count).collect();
        for answer in answers {
            let fits = |told: &Told| {
                let gets = match told.gets {
                    Gets::Stored => (answer.status, answer.text().as_str()) == (200, "v1"),
                    Gets::Current => (answer.status, answer.text().as_str()) == (200, "v2"),
                    Gets::Error => answer.status >= 500 && answer.header("retry-after").is_none(),
                    Gets::Refusal => answer.status == 503 && answer.header("retry-after") == Some("1"),
                };
                let waits: Duration = told.waits.iter().map(|wait| wait.time(takes, stage)).sum();
                let bound = told.waits.iter().any(|wait| wait.is_bound());
                gets && says(answer) == told.says && (answer.took() == waits || bound && answer.took() <= waits)
            };
            let found = self.answers.iter().zip(&mut left).find(|(told, left)| **left > 0 && fits(told));
            let Some((_, left)) = found else { panic!("{case}: the table hasn't {}", summary(answers)) };
            *left -= 1;
        }
        assert!(left.iter().all(|left| *left == 0), "{case}: the table has more than {}", summary(answers));
    }

    /// The gateway answers as before, the group holds what it fills, and purges are acknowledged at once.
    fn is_healed(&self, stage: &mut Stage, case: &str) {
        let world = &mut stage.world;
        if self.answers.iter().any(|told| told.says.ends_with("purge-pending"))
            && self.operation != Operation::WriteAbsent
        {
            let elsewhere = world.fetch(Request::get("/users/1").gateway(1));
            assert_eq!(elsewhere.text(), "v2", "{case}, healed: the purge that was pending");
        }
        for worker in [0, 1] {
            let first = get(world, worker, "/users/1");
            let again = get(world, worker, "/users/1");
            assert!(status(&again).starts_with("hit"), "{case}, healed: {}, then {}", status(&first), status(&again));
        }
        assert_eq!(get(world, 0, "/users/77").status, 200, "{case}, healed");
        world.run_until_idle();
        let elsewhere = world.fetch(Request::get("/users/77").gateway(1));
        assert_eq!(status(&elsewhere), "hit; detail=group", "{case}, healed");
        let write = world.fetch(Request::put("/users/1").body("x"));
        assert_eq!(status(&write), "fwd=method; detail=purged", "{case}, healed");
        world.run_for(ms(1000)); // the window
        let elsewhere = world.fetch(Request::get("/users/1").gateway(1));
        assert_eq!(elsewhere.text(), "v2", "{case}, healed");
    }

    /// As a line of the page.
    pub fn line(&self) -> String {
        let (what, held) = self.operation.words();
        let (mut gets, mut added) = (String::new(), Vec::new());
        let mut before = None;
        for told in self.answers {
            let count = if told.count > 2 { format!("{} × ", told.count) } else { String::new() };
            let words = if before == Some(told.gets) { String::new() } else { format!("{}: ", told.gets.words()) };
            let _ = write!(gets, "{}{count}{words}`{}`", if gets.is_empty() { "" } else { ", " }, told.says);
            before = Some(told.gets);
            let words = told.waits.iter().find_map(|wait| wait.words()).unwrap_or("0");
            if !added.contains(&words) {
                added.push(words);
            }
        }
        let quoted = |texts: &[&str]| texts.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ");
        let mut line = String::new();
        let _ = write!(
            line,
            "| {what} | {held} | {gets} | {} | {}{} | {} | {} | {}{} |",
            added.join(", then "),
            self.origin,
            self.at_once().map_or_else(String::new, |most| format!(", {most} at a time")),
            quoted(self.logged),
            quoted(self.counted),
            self.heals.words,
            match self.heals.within {
                Duration::ZERO => String::new(),
                within => format!(" ({} s)", within.as_secs_f64()),
            },
        );
        line
    }
}

impl Gets {
    fn words(self) -> &'static str {
        match self {
            Self::Stored => "what is stored",
            Self::Current => "the origin's answer",
            Self::Error => "the origin's error",
            Self::Refusal => "`503`, `Retry-After: 1`",
        }
    }
}

impl Wait {
    /// What it adds, at most, to an answer that nothing holds up but the origin.
    fn words(self) -> Option<&'static str> {
        match self {
            Self::Lookup => Some("`bridge.timeout`"),
            Self::Purge => Some("`purge.timeout`"),
            Self::Turn(_) => Some("its turn, `lock_wait`"),
            Self::Held => Some("`lock_wait`"),
            Self::Retry => Some("two requests, and never more than `lock_wait`"),
            Self::Tries => Some("one request that takes too long, and never more than `lock_wait`"),
            Self::Origin | Self::Fetch | Self::OneFetch | Self::Asked | Self::Works | Self::MayWork => None,
        }
    }
}

/// Answers by kind, for messages.
fn summary(answers: &[Answer]) -> String {
    let mut kinds = BTreeMap::<String, usize>::new();
    for answer in answers {
        let kind = format!("{} {} `{}` after {:?}", answer.status, answer.text(), says(answer), answer.took());
        *kinds.entry(kind).or_default() += 1;
    }
    format!("{kinds:#?}")
}

/// The same whichever error it is.
fn says(answer: &Answer) -> String {
    let said = status(answer);
    let parts = said.split("; ").map(|part| if part.starts_with("fwd-status=5") { "fwd-status=5xx" } else { part });
    parts.collect::<Vec<_>>().join("; ")
}

fn counters(world: &World) -> BTreeMap<String, Metric> {
    world.metrics()
}
