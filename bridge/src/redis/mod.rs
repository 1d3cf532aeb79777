//! The store in Redis. The log and the epochs of a namespace share one cluster slot and change in scripts only; entries
//! may be anywhere, and are judged by the log whenever they are read.
//!
//! | key | holds | lives |
//! |---|---|---|
//! | `routecache:{<namespace>}:log` | stream of purges: `unique`, `era`, any number of `tag` | a week from the last use |
//! | `routecache:{<namespace>}:epoch:<tag>` | id of the tag's last purge | a week from the last store or purge |
//! | `routecache:{<namespace>}:probe` | nothing; written by each poll | a week |
//! | `routecache:<namespace>:entry:<hash of key>` | an entry | its `keep_ms`, a week at most |
//!
//! Lookups write nothing, though they use epochs: an entry lives at most a week from its store, and so do its epochs.

mod connection;
mod entry;
mod script;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use bridge_api::{
    Continuity, Era, FeedRecord, FeedRequest, LookupReply, LookupRequest, Position, PurgeReply, PurgeRequest,
    StoreReply, StoreRequest, Ticket,
};
use bytes::Bytes;
use redis::{ErrorKind, Pipeline, RedisError, cmd};

use self::connection::Connection;
use self::entry::Head;
use crate::limits::{FEED_BYTES_MAX, FEED_RECORDS_MAX, KEEP_MS_MAX, LOG_RECORDS_MAX, PROOF_RECORDS_MAX};
use crate::random::Random;
use crate::{Answer, Reading, Store, StoreError};

/// Entries, epochs and logs in one Redis server.
pub struct RedisStore {
    connection: Connection,
    random: Random,
    log_records_max: usize,
}

impl fmt::Debug for RedisStore {
    /// Host and port; never the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("at", &self.connection.at()).finish_non_exhaustive()
    }
}

/// The log as one script saw it: its last record, and the epochs asked for.
struct Seen {
    ticket: Ticket,
    epochs: HashMap<String, Option<Id>>,
}

type Id = (u64, u64);

const NO_ARGUMENTS: &[&str] = &[];

/// What `lookup.lua` answers: id, unique, era, epochs; nothing if the log is behind.
type RawSeen = Option<(String, String, String, Vec<Option<String>>)>;

/// What `feed.lua` answers: continuity, cursor (id, unique), complete, records (id, unique, tags).
type RawReading = (String, String, String, bool, Vec<(String, String, Vec<String>)>);

impl RedisStore {
    /// A store that connects at its first call, and gives none of them longer than `within`. Made within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// What the client says of a URL that it can't use; the message doesn't repeat the URL.
    pub fn new(url: &str, within: Duration) -> Result<Self, RedisError> {
        let connection = Connection::new(url, within)?;
        Ok(Self { connection, random: Random::from_system(), log_records_max: LOG_RECORDS_MAX })
    }

    /// Keeps fewer records per log than [`LOG_RECORDS_MAX`].
    #[must_use]
    pub fn with_log_records_max(mut self, records: usize) -> Self {
        self.log_records_max = records.max(1);
        self
    }

    /// What every script in the log's slot is called with first: see `log.lua`.
    fn prelude(&self) -> Vec<String> {
        vec![format!("{:x}", self.random.next()), self.random.era().to_string(), self.log_records_max.to_string()]
    }

    fn look(&self, namespace: &str, tags: &[String], known: Option<Position>) -> redis::Cmd {
        let mut arguments = self.prelude();
        arguments.extend(id_and_unique(known));
        script::LOOKUP.call(&log_and_epochs(namespace, tags), arguments)
    }

    async fn get(&self, request: &LookupRequest) -> Result<(LookupReply, Bytes), StoreError> {
        let LookupRequest { namespace, key, tags, known } = request;
        let name = entry::name(namespace, key);
        let mut both = Pipeline::new();
        both.add_command(self.look(namespace, tags, *known));
        both.add_command(script::GET.call(std::slice::from_ref(&name), NO_ARGUMENTS));
        let (seen, (value, left_ms)): (RawSeen, (Option<Bytes>, i64)) = self.connection.ask(&both).await?;

        let behind = || Ok((LookupReply::Behind, Bytes::new()));
        let Some(Seen { ticket, mut epochs }) = self.seen(tags, seen)? else { return behind() };
        let miss = Ok((LookupReply::Miss { ticket }, Bytes::new()));
        let Some(value) = value else { return miss };
        let Some((head, payload)) = entry::read(&value) else {
            self.drop_entry(&name).await?;
            return miss;
        };
        let Ok(left_ms) = u64::try_from(left_ms) else { return miss };
        if head.key != *key || head.ticket.era != ticket.era {
            return miss;
        }

        let unseen: Vec<String> = head.tags.iter().filter(|tag| !epochs.contains_key(*tag)).cloned().collect();
        if !unseen.is_empty() {
            let mut again = Pipeline::new();
            again.add_command(self.look(namespace, &unseen, *known));
            let (later,) = self.connection.ask(&again).await?;
            let Some(later) = self.seen(&unseen, later)? else { return behind() };
            if later.ticket.era != ticket.era {
                return miss;
            }
            epochs.extend(later.epochs);
        }
        // All that were asked for: those of the entry, and those of the request that it may have been stored without.
        let stored_at = id(head.ticket.at);
        if !epochs.values().all(|epoch| epoch.is_some_and(|epoch| epoch <= stored_at)) {
            return miss;
        }
        let resident_ms = head.keep_ms.saturating_sub(left_ms);
        Ok((LookupReply::Hit { ticket, tags: head.tags, resident_ms }, payload))
    }

    /// Removes what doesn't decode. If something better has come meanwhile, that goes too: a miss.
    async fn drop_entry(&self, name: &str) -> Result<(), StoreError> {
        tracing::warn!(name, "an entry doesn't decode; removing it");
        let mut unlink = Pipeline::new();
        unlink.add_command(cmd("UNLINK")).arg(name);
        self.connection.ask::<(i64,)>(&unlink).await.map(|_| ())
    }

    async fn put(&self, request: &StoreRequest, payload: &[u8]) -> Result<StoreReply, StoreError> {
        let StoreRequest { namespace, key, tags, ticket, keep_ms } = request;
        let at = id_text(ticket.at);
        let mut arguments = self.prelude();
        arguments.extend(id_and_unique(Some(ticket.at)));
        arguments.extend([ticket.era.to_string(), PROOF_RECORDS_MAX.to_string()]);
        arguments.extend_from_slice(tags);
        let mut settle = Pipeline::new();
        settle.add_command(script::SETTLE.call(&log_and_epochs(namespace, tags), arguments));
        let (servable,): (bool,) = self.connection.ask(&settle).await?;
        if !servable {
            return Ok(StoreReply::Void);
        }
        let keep_ms = (*keep_ms).min(KEEP_MS_MAX);
        let head = Head { ticket: *ticket, keep_ms, tags: tags.clone(), key: key.clone() };
        let value = entry::write(&head, payload);
        let name = entry::name(namespace, key);
        let mut put = Pipeline::new();
        put.add_command(script::PUT.call(&[name], (value, keep_ms, at, ticket.era.to_string())));
        let (stored,): (bool,) = self.connection.ask(&put).await?;
        Ok(if stored { StoreReply::Stored } else { StoreReply::Newer })
    }

    async fn append(&self, request: &PurgeRequest) -> Result<PurgeReply, StoreError> {
        let unique = self.random.next();
        let mut arguments = self.prelude();
        arguments.push(format!("{unique:x}"));
        arguments.extend_from_slice(&request.tags);
        let mut purge = Pipeline::new();
        purge.add_command(script::PURGE.call(&log_and_epochs(&request.namespace, &request.tags), arguments));
        let ((id, era),): ((String, String),) = self.connection.ask(&purge).await?;
        let position = self.position(&id, &format!("{unique:x}"))?;
        Ok(PurgeReply { position, era: self.era(&era)? })
    }

    async fn read(&self, request: &FeedRequest) -> Result<Reading, StoreError> {
        let mut arguments = self.prelude();
        arguments.extend(id_and_unique(request.cursor));
        arguments.extend(id_and_unique(request.known));
        arguments.extend([FEED_RECORDS_MAX.to_string(), FEED_BYTES_MAX.to_string()]);
        let keys = [log_key(&request.namespace), format!("routecache:{{{}}}:probe", request.namespace)];
        let mut feed = Pipeline::new();
        feed.add_command(script::FEED.call(&keys, arguments));
        let ((continuity, id, unique, complete, records),): (RawReading,) = self.connection.ask(&feed).await?;
        let continuity = match &*continuity {
            "joined" => Continuity::Joined,
            "first" => Continuity::First,
            "trimmed" => Continuity::Trimmed,
            "lost" => Continuity::Lost,
            "new-era" => Continuity::NewEra,
            _ => return Err(self.nonsense("a continuity that the script doesn't give")),
        };
        let record = |(id, unique, tags): (String, String, Vec<String>)| {
            Ok(FeedRecord { position: self.position(&id, &unique)?, tags })
        };
        let records = records.into_iter().map(record).collect::<Result<_, StoreError>>()?;
        Ok(Reading { continuity, records, cursor: self.position(&id, &unique)?, complete })
    }

    fn seen(&self, tags: &[String], raw: RawSeen) -> Result<Option<Seen>, StoreError> {
        let Some((id, unique, era, epochs)) = raw else { return Ok(None) };
        let ticket = Ticket { at: self.position(&id, &unique)?, era: self.era(&era)? };
        if epochs.len() != tags.len() {
            return Err(self.nonsense("another number of epochs than was asked for"));
        }
        // An epoch that isn't an id is as good as none.
        let epochs = epochs.into_iter().map(|epoch| epoch.and_then(|text| parse_id(&text)));
        Ok(Some(Seen { ticket, epochs: tags.iter().cloned().zip(epochs).collect() }))
    }

    fn position(&self, id: &str, unique: &str) -> Result<Position, StoreError> {
        format!("{id}-{unique}").parse().map_err(|_| self.nonsense("a log record that isn't ours"))
    }

    fn era(&self, text: &str) -> Result<Era, StoreError> {
        text.parse().map_err(|_| self.nonsense("a log record without era"))
    }

    fn nonsense(&self, what: &'static str) -> StoreError {
        let source = (ErrorKind::UnexpectedReturnType, what).into();
        StoreError::Redis { at: self.connection.at().to_owned(), source }
    }
}

impl Store for RedisStore {
    fn lookup<'a>(&'a self, request: &'a LookupRequest) -> Answer<'a, (LookupReply, Bytes)> {
        Box::pin(self.get(request))
    }

    fn store<'a>(&'a self, request: &'a StoreRequest, payload: Bytes) -> Answer<'a, StoreReply> {
        Box::pin(async move {
            match self.put(request, &payload).await {
                Err(StoreError::Redis { source, .. }) if is_full(&source) => Ok(StoreReply::Full),
                outcome => outcome,
            }
        })
    }

    fn purge<'a>(&'a self, request: &'a PurgeRequest) -> Answer<'a, PurgeReply> {
        Box::pin(self.append(request))
    }

    fn read_log<'a>(&'a self, request: &'a FeedRequest) -> Answer<'a, Reading> {
        Box::pin(self.read(request))
    }

    fn tail<'a>(&'a self, namespace: &'a str) -> Answer<'a, Option<String>> {
        Box::pin(async move {
            let mut tail = Pipeline::new();
            tail.add_command(script::TAIL.call(&[log_key(namespace)], NO_ARGUMENTS));
            let (tail,) = self.connection.ask(&tail).await?;
            Ok(tail)
        })
    }

    fn shared(&self) -> bool {
        true
    }

    fn ready(&self) -> Answer<'_, ()> {
        Box::pin(self.connection.ping())
    }
}

/// The braces make the cluster slot depend on the namespace alone.
fn log_key(namespace: &str) -> String {
    format!("routecache:{{{namespace}}}:log")
}

fn log_and_epochs(namespace: &str, tags: &[String]) -> Vec<String> {
    let epochs = tags.iter().map(|tag| format!("routecache:{{{namespace}}}:epoch:{tag}"));
    std::iter::once(log_key(namespace)).chain(epochs).collect()
}

fn id(position: Position) -> Id {
    (position.ms, position.seq)
}

fn id_text(position: Position) -> String {
    format!("{}-{}", position.ms, position.seq)
}

fn parse_id(text: &str) -> Option<Id> {
    let (ms, seq) = text.split_once('-')?;
    Some((ms.parse().ok()?, seq.parse().ok()?))
}

fn id_and_unique(position: Option<Position>) -> [String; 2] {
    position.map_or_else(Default::default, |position| [id_text(position), format!("{:x}", position.unique)])
}

/// `maxmemory` is reached and nothing may be evicted.
fn is_full(error: &RedisError) -> bool {
    let out_of_memory = |code: Option<&str>| code == Some("OOM");
    out_of_memory(error.code())
        || error
            .clone()
            .into_server_errors()
            .is_some_and(|errors| errors.iter().any(|(_, e)| out_of_memory(Some(e.code()))))
}
