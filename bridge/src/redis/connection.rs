//! One connection that mends itself, and never keeps a caller longer than the command timeout.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::{FromRedisValue, Pipeline, RedisError, Value, cmd};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::address::Address;
use super::script::Script;
use super::target::{Link, Node, Role, StoreTls, Target, UnusableRedis};
use crate::StoreError;
use crate::store::Figures;

/// How long a connection on which nothing but timeouts happens is kept: its peer may be gone without a word, and the
/// operating system would notice after a quarter of an hour.
const SILENT: Duration = Duration::from_secs(1);

/// Pause after a connection broke or couldn't be made, doubled each time from the first up to the second. Calls fail at
/// once in the meantime.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

pub(super) struct Connection {
    target: Target,
    /// The address, for people.
    at: String,
    within: Duration,
    current: Mutex<Current>,
    /// Whether [`is_there`](Self::is_there) is connecting.
    connecting: AtomicBool,
    tally: Tally,
}

/// Counted since the start.
#[derive(Default)]
struct Tally {
    under_way: AtomicU64,
    round_trips: AtomicU64,
    reconnects: AtomicU64,
    timeouts: AtomicU64,
    errors: AtomicU64,
}

/// One round trip; counted as under way while it lives.
struct Trip<'a>(&'a Tally);

impl<'a> Trip<'a> {
    fn begin(tally: &'a Tally) -> Self {
        tally.under_way.fetch_add(1, Ordering::Relaxed);
        tally.round_trips.fetch_add(1, Ordering::Relaxed);
        Self(tally)
    }
}

impl Drop for Trip<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Current {
    /// Made at its first use, for all who wait; replaced as a whole when it fails, since it remembers some failures (a
    /// refused password, too many clients) for ever.
    link: Arc<OnceCell<Link>>,
    /// Counts the links: what befell an earlier one says nothing of this.
    number: u64,
    /// When it last gave an answer.
    answered: Option<Instant>,
    made: Instant,
    broken: Option<Broken>,
}

/// Why the last link was given up, until one gives an answer.
struct Broken {
    why: RedisError,
    pause: Duration,
}

impl Connection {
    /// To the master. Connects at the first use.
    ///
    /// # Errors
    ///
    /// When the client refuses the address, or a certificate can't be read.
    pub(super) fn new(address: &Address, tls: &StoreTls, within: Duration) -> Result<Self, UnusableRedis> {
        Self::to(Role::Master, address, tls, within)
    }

    /// The same, to whichever is meant.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub(super) fn to(role: Role, address: &Address, tls: &StoreTls, within: Duration) -> Result<Self, UnusableRedis> {
        let target = Target::new(address, role, tls, within)?;
        let current = Current { link: Arc::default(), number: 0, answered: None, made: Instant::now(), broken: None };
        let (connecting, tally) = (AtomicBool::new(false), Tally::default());
        Ok(Self { target, at: address.to_string(), within, current: Mutex::new(current), connecting, tally })
    }

    pub(super) fn at(&self) -> &str {
        &self.at
    }

    /// Sends commands as one pipeline and reads all answers. A server that doesn't know our scripts (restarted, failed
    /// over, flushed) refuses them before they do anything, so they are loaded and the pipeline is sent once more.
    pub(super) async fn ask<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, StoreError> {
        self.ask_at(&None, pipeline).await
    }

    /// The same of one node; of whichever has the keys, if none is named.
    pub(super) async fn ask_at<T: FromRedisValue>(&self, node: &Node, pipeline: &Pipeline) -> Result<T, StoreError> {
        let (link, number) = self.link()?;
        let _trip = Trip::begin(&self.tally);
        let answer = async {
            let mut link = link.get_or_try_init(|| self.target.connect(self.within)).await?.clone();
            let values = match link.send_to(node, pipeline).await {
                Err(error) if lacks_script(&error) => {
                    let mut load = Pipeline::new();
                    for script in Script::all() {
                        load.add_command(script.load());
                    }
                    link.send(&load).await?;
                    link.send_to(node, pipeline).await?
                }
                answer => answer?,
            };
            Ok::<T, RedisError>(T::from_redis_value(Value::Array(values))?)
        };
        match timeout(self.within, answer).await {
            Ok(Ok(answer)) => {
                let mut current = self.lock();
                if current.number == number {
                    current.answered = Some(Instant::now());
                    current.broken = None;
                }
                Ok(answer)
            }
            Ok(Err(source)) if !source.is_timeout() => {
                self.tally.errors.fetch_add(1, Ordering::Relaxed);
                self.failed(number, &source);
                Err(self.error(source))
            }
            Ok(Err(_)) | Err(_) => {
                self.tally.timeouts.fetch_add(1, Ordering::Relaxed);
                self.timed_out(number);
                Err(StoreError::Timeout { at: self.at.clone(), within: self.within })
            }
        }
    }

    /// Whether it is connected. If not, it connects behind the caller, and may take that long.
    pub(super) fn is_there(self: &Arc<Self>, patience: Duration) -> bool {
        let Ok((link, number)) = self.link() else { return false };
        if link.initialized() {
            return true;
        }
        if !self.connecting.swap(true, Ordering::Relaxed) {
            let own = Arc::clone(self);
            tokio::spawn(async move {
                match timeout(patience, link.get_or_try_init(|| own.target.connect(patience))).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => own.failed(number, &error),
                    Err(_) => own.timed_out(number),
                }
                own.connecting.store(false, Ordering::Relaxed);
            });
        }
        false
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.target.is_cluster()
    }

    /// Whether the commands of a pipeline run in their order, others' perhaps between them. A cluster's don't always.
    pub(super) fn keeps_order(&self) -> bool {
        !self.target.is_cluster()
    }

    /// Every master, for what no key leads to.
    pub(super) async fn masters(&self) -> Result<Vec<Node>, StoreError> {
        if !self.is_cluster() {
            return Ok(vec![None]);
        }
        let mut slots = Pipeline::new();
        slots.add_command(cmd("CLUSTER")).arg("SLOTS");
        let (ranges,): (Vec<Vec<Value>>,) = self.ask(&slots).await?;
        let master = |range: Vec<Value>| {
            let (host, port, ..) = <(String, u16, Value, Value)>::from_redis_value(range.into_iter().nth(2)?).ok()?;
            Some((host, port))
        };
        let mut masters: Vec<_> = ranges.into_iter().map(master).collect();
        masters.sort();
        masters.dedup();
        Ok(masters)
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let mut ping = Pipeline::new();
        ping.add_command(cmd("PING"));
        self.ask::<(String,)>(&ping).await.map(|_| ())
    }

    pub(super) fn figures(&self) -> Figures {
        let breaker_open = self.link().is_err();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            breaker_open,
            under_way: count(&self.tally.under_way),
            round_trips: count(&self.tally.round_trips),
            reconnects: count(&self.tally.reconnects),
            timeouts: count(&self.tally.timeouts),
            errors: count(&self.tally.errors),
            ..Figures::default()
        }
    }

    fn link(&self) -> Result<(Arc<OnceCell<Link>>, u64), StoreError> {
        let current = self.lock();
        match &current.broken {
            Some(broken) if current.made.elapsed() < broken.pause => Err(self.error(broken.why.clone())),
            _ => Ok((Arc::clone(&current.link), current.number)),
        }
    }

    /// An error that is just the reply to a command leaves the connection as it is, and so does one node of a cluster. A
    /// master that was deposed is left: elsewhere there may be another.
    fn failed(&self, number: u64, why: &RedisError) {
        let mut current = self.lock();
        if current.number != number {
            return;
        }
        let lost = (why.is_io_error() || why.is_unrecoverable_error()) && !self.target.is_cluster();
        if current.answered.is_none() || lost {
            let pause = current.broken.as_ref().map_or(PAUSE.0, |broken| (broken.pause * 2).min(PAUSE.1));
            self.replace(&mut current);
            current.broken = Some(Broken { why: why.clone(), pause });
        } else if is_deposed(why) && current.made.elapsed() >= PAUSE.1 {
            self.replace(&mut current);
        }
    }

    fn timed_out(&self, number: u64) {
        let mut current = self.lock();
        if current.number == number && current.answered.unwrap_or(current.made).elapsed() >= SILENT {
            self.replace(&mut current);
        }
    }

    fn replace(&self, current: &mut Current) {
        tracing::debug!(at = self.at, "giving the connection up for a new one");
        current.link = Arc::default();
        current.number += 1;
        self.tally.reconnects.fetch_add(1, Ordering::Relaxed);
        current.answered = None;
        current.made = Instant::now();
    }

    fn error(&self, source: RedisError) -> StoreError {
        StoreError::Redis { at: self.at.clone(), source }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner) // nothing in it can be half-way
    }
}

fn is_deposed(error: &RedisError) -> bool {
    refused_with("READONLY", error)
}

fn lacks_script(error: &RedisError) -> bool {
    refused_with("NOSCRIPT", error)
}

/// Whether the error has this code, or one within a pipeline has. Of what a script met, Redis before version 7 tells the code
/// somewhere in its text.
pub(super) fn refused_with(code: &str, error: &RedisError) -> bool {
    let has = |found: &str, text: Option<&str>| {
        found == code || text.is_some_and(|text| text.contains(&format!(": -{code} ")))
    };
    let one = error.code().is_some_and(|found| has(found, error.detail()));
    one || error
        .clone()
        .into_server_errors()
        .is_some_and(|errors| errors.iter().any(|(_, e)| has(e.code(), e.details())))
}
