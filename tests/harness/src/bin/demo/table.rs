//! The lines of the tour: what was asked, what came, and whether that is what should have come.

use std::time::Duration;

use routecache_harness::{READ_TIME, Response};

/// What a line should be.
pub(crate) struct Expected {
    /// The answer's status.
    pub(crate) status: u16,
    /// What `Cache-Status` should say.
    pub(crate) cache: Cache,
    /// The `version` in the answer's document: which state of the user it tells of.
    pub(crate) version: Option<u64>,
}

/// What `Cache-Status` should say, and with it whether the origin is asked.
pub(crate) enum Cache {
    /// A hit, from that tier.
    Hit(&'static str),
    /// A read that goes to the origin, for a reason of RFC 9211 (and of ours, in `detail`).
    Forwarded(&'static str, Option<&'static str>),
    /// A write, and what came of its purge.
    Write(Option<&'static str>),
}

/// What came.
pub(crate) struct Line<'a> {
    /// Gateway and worker, `A/0`.
    pub(crate) via: String,
    /// Method and path.
    pub(crate) request: String,
    /// The answer.
    pub(crate) answer: &'a Response,
    /// How many requests the origin has heard meanwhile.
    pub(crate) origin_heard: u64,
}

/// All lines so far.
#[derive(Default)]
pub(crate) struct Table {
    lines: usize,
    wrong: usize,
    hits: Vec<Duration>,
}

impl Table {
    /// A heading over the lines that follow.
    pub(crate) fn chapter(&self, text: &str) {
        println!("\n{text}");
        if self.lines == 0 {
            println!("    {:<4} {:<38} {:>6} {:>9}   Cache-Status", "via", "request", "status", "ms");
        }
    }

    /// Prints a line, with what is wrong with it.
    pub(crate) fn line(&mut self, line: &Line<'_>, expected: &Expected) {
        let Line { via, request, answer, .. } = line;
        let mistakes = mistakes(line, expected);
        let mark = if mistakes.is_empty() { '✓' } else { '✗' };
        let milliseconds = answer.elapsed.as_secs_f64() * 1000.0;
        let cache = answer.header("cache-status");
        println!("  {mark} {via:<4} {request:<38} {:>6} {milliseconds:>9.1}   {cache}", answer.status.as_u16());
        for mistake in &mistakes {
            println!("         ✗ {mistake}");
        }
        self.lines += 1;
        self.wrong += usize::from(!mistakes.is_empty());
        if matches!(expected.cache, Cache::Hit(_)) {
            self.hits.push(answer.elapsed);
        }
    }

    /// A line that isn't a request.
    pub(crate) fn fact(&mut self, text: &str, holds: bool) {
        println!("  {} {text}", if holds { '✓' } else { '✗' });
        self.lines += 1;
        self.wrong += usize::from(!holds);
    }

    /// Prints how it went; whether every line was as it should be.
    pub(crate) fn summary(&mut self) -> bool {
        self.hits.sort_unstable();
        let (count, wrong) = (self.lines, self.wrong);
        if wrong == 0 {
            println!("\n✓ all {count} lines are as they should be");
        } else {
            println!("\n✗ {wrong} of {count} lines are not as they should be");
        }
        if let Some(median) = self.hits.get(self.hits.len() / 2) {
            let (median, read) = (median.as_secs_f64() * 1000.0, READ_TIME.as_millis());
            println!(
                "  {} hits, half of them within {median:.1} ms; a read of the origin takes {read} ms",
                self.hits.len()
            );
        }
        wrong == 0 && count > 0
    }
}

/// Everything that is not as it should be.
fn mistakes(line: &Line<'_>, expected: &Expected) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut hold = |holds: bool, mistake: String| {
        if !holds {
            mistakes.push(mistake);
        }
    };
    let Line { answer, origin_heard, .. } = line;
    hold(answer.status == expected.status, format!("the status should be {}", expected.status));
    let cache = answer.cache_status();
    let (hit, fwd, detail, heard) = match expected.cache {
        Cache::Hit(tier) => (true, None, Some(tier), 0),
        Cache::Forwarded(reason, detail) => (false, Some(reason), detail, 1),
        Cache::Write(detail) => (false, Some("method"), detail, 1),
    };
    hold(cache.hit == hit, format!("it should {}be a hit", if hit { "" } else { "not " }));
    if let Some(fwd) = fwd {
        hold(cache.fwd.as_deref() == Some(fwd), format!("it should say fwd={fwd}"));
    }
    match detail {
        Some(detail) => hold(cache.detail.as_deref() == Some(detail), format!("it should say detail={detail}")),
        None => hold(cache.detail.is_none(), "it should say no detail".to_owned()),
    }
    if matches!(expected.cache, Cache::Forwarded("uri-miss", _)) {
        hold(cache.stored, "it should say stored".to_owned());
    }
    if hit {
        hold(cache.ttl.is_some_and(|ttl| ttl > 0), "it should say how long it stays fresh, ttl=…".to_owned());
    }
    hold(*origin_heard == heard, format!("the origin should have heard {heard} requests, and heard {origin_heard}"));
    if let Some(version) = expected.version {
        let shown = answer.json()["version"].clone();
        hold(shown == version, format!("it should show version {version} of the user, and shows {shown}"));
    }
    mistakes
}
