//! Purges told in Redis: on a channel, or in a stream of bounded length.

use std::time::Duration;

use bytes::Bytes;
use redis::{Pipeline, Value, cmd};

use super::connection::Connection;
use super::target::UnusableRedis;
use super::{Address, StoreTls};
use crate::published::{Teller, Untold};

/// A place in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A channel: whoever isn't connected misses it.
    Channel(String),
    /// A stream, whose items have a field `purged`.
    Stream {
        /// Its key.
        key: String,
        /// Items that it keeps, about.
        items_max: u64,
    },
}

/// Tells purges in Redis, over a connection of its own.
pub struct InRedis {
    connection: Connection,
    place: Place,
}

impl InRedis {
    /// Connects at the first use.
    ///
    /// # Errors
    ///
    /// [`UnusableRedis`], when the client refuses the address.
    pub fn new(address: &Address, tls: &StoreTls, within: Duration, place: Place) -> Result<Self, UnusableRedis> {
        Ok(Self { connection: Connection::new(address, tls, within)?, place })
    }
}

impl Teller for InRedis {
    fn name(&self) -> &'static str {
        match self.place {
            Place::Channel(_) => "publish-channel",
            Place::Stream { .. } => "publish-stream",
        }
    }

    async fn tell(&self, report: Bytes) -> Result<(), Untold> {
        let mut pipeline = Pipeline::new();
        match &self.place {
            Place::Channel(name) => pipeline.add_command(cmd("PUBLISH")).arg(name).arg(&*report),
            Place::Stream { key, items_max } => {
                let add = pipeline.add_command(cmd("XADD")).arg(key).arg("MAXLEN").arg("~").arg(*items_max);
                add.arg("*").arg("purged").arg(&*report)
            }
        };
        self.connection.ask::<(Value,)>(&pipeline).await?;
        Ok(())
    }
}
