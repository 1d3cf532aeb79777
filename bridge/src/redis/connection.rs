//! One connection that mends itself, and never keeps a caller longer than the command timeout.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError, RedisResult};
use redis::{ServerErrorKind, cmd};
use tokio::time::timeout;

use super::script::Script;
use crate::StoreError;

/// A connection on which only timeouts happen for as long as this is given up: its peer may be gone without a word,
/// and the operating system would notice after a quarter of an hour.
const SILENT: Duration = Duration::from_secs(1);

/// Wait between attempts to connect: doubled from the first up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

pub(super) struct Connection {
    client: Client,
    /// Host and port, for people.
    at: String,
    within: Duration,
    current: Mutex<Current>,
}

struct Current {
    manager: ConnectionManager,
    /// When it was made or last gave an answer.
    answered: Instant,
}

impl Connection {
    /// Connects at the first use.
    ///
    /// # Errors
    ///
    /// When the URL is none that the client understands.
    pub(super) fn new(url: &str, within: Duration) -> RedisResult<Self> {
        let info = url.into_connection_info()?;
        let at = match info.addr() {
            ConnectionAddr::Tcp(host, port) => format!("{host}:{port}"),
            other => other.to_string(),
        };
        let client = Client::open(info)?;
        let current = Mutex::new(Current { manager: lazy(&client, within)?, answered: Instant::now() });
        Ok(Self { client, at, within, current })
    }

    pub(super) fn at(&self) -> &str {
        &self.at
    }

    /// Sends commands as one pipeline and reads all answers. A server that doesn't know our scripts (restarted, failed
    /// over, flushed) refuses them before they do anything, so they are loaded and the pipeline is sent once more.
    pub(super) async fn ask<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, StoreError> {
        let mut manager = self.lock().manager.clone();
        let answer = async {
            match pipeline.query_async(&mut manager).await {
                Err(error) if lacks_script(&error) => {
                    let mut load = Pipeline::new();
                    for script in Script::all() {
                        load.add_command(script.load());
                    }
                    load.exec_async(&mut manager).await?;
                    pipeline.query_async(&mut manager).await
                }
                answer => answer,
            }
        };
        match timeout(self.within, answer).await {
            Ok(Err(source)) if !source.is_timeout() => Err(StoreError::Redis { at: self.at.clone(), source }),
            Ok(Ok(answer)) => {
                self.lock().answered = Instant::now();
                Ok(answer)
            }
            Ok(Err(_)) | Err(_) => {
                self.give_up_if_silent();
                Err(StoreError::Timeout { at: self.at.clone(), within: self.within })
            }
        }
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let mut ping = Pipeline::new();
        ping.add_command(cmd("PING"));
        self.ask::<(String,)>(&ping).await.map(|_| ())
    }

    fn give_up_if_silent(&self) {
        let mut current = self.lock();
        if current.answered.elapsed() < SILENT {
            return;
        }
        tracing::debug!(at = self.at, "the connection is silent; making a new one");
        // The URL was usable before, so it is still.
        if let Ok(manager) = lazy(&self.client, self.within) {
            *current = Current { manager, answered: Instant::now() };
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner) // two plain values, each whole
    }
}

fn lazy(client: &Client, within: Duration) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_min_delay(BACKOFF.0)
        .set_max_delay(BACKOFF.1)
        .set_connection_timeout(Some(within))
        .set_response_timeout(Some(within));
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

fn lacks_script(error: &RedisError) -> bool {
    let no_script = ServerErrorKind::NoScript;
    error.kind() == ErrorKind::Server(no_script)
        || error
            .clone()
            .into_server_errors()
            .is_some_and(|errors| errors.iter().any(|(_, e)| e.kind() == Some(no_script)))
}
