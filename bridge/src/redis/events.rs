//! Purges that applications ask for in Redis itself: by a message on a channel, or an item of a stream.

use std::time::Duration;

use futures_util::StreamExt;
use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, RedisResult};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::target::{Role, Target, UnusableRedis};
use super::{Address, StoreTls};

/// Who reads the stream: each item reaches one bridge.
const GROUP: &str = "routecache";

/// How long a read of the stream waits for items, in milliseconds.
const BLOCK_MS: usize = 2_000;

/// Pause after the connection broke, doubled each time from the first up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Where applications put their purges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A channel: whoever isn't connected when a message is published misses it.
    Channel(String),
    /// A stream, whose items have a field `order`: each is kept until a bridge has purged it.
    Stream(String),
}

/// What came from a source.
#[derive(Debug)]
pub enum Event {
    /// A purge order as text. It is done with once the answer is dropped or sent; false leaves it in the stream.
    Order(Vec<u8>, tokio::sync::oneshot::Sender<bool>),
    /// The source can be heard.
    Connected,
    /// It can't, and why.
    Lost(String),
}

/// Follows a source until nobody listens any longer.
///
/// # Errors
///
/// [`UnusableRedis`], when the client refuses the address.
pub fn follow(
    address: &Address,
    tls: &StoreTls,
    within: Duration,
    source: Source,
) -> Result<mpsc::Receiver<Event>, UnusableRedis> {
    // A cluster's client has one limit for all answers, those that are waited for too.
    let target = Target::new(address, Role::Master, tls, within + Duration::from_millis(BLOCK_MS as u64))?;
    let (told, events) = mpsc::channel(64);
    tokio::spawn(async move {
        let mut pause = PAUSE.0;
        while !told.is_closed() {
            let (heard, lost) = hear(&target, &source, within, &told).await;
            if heard {
                pause = PAUSE.0;
            }
            let why = lost.err().map_or_else(|| "the connection has ended".to_owned(), |error| error.to_string());
            if told.send(Event::Lost(why)).await.is_err() {
                return;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    });
    Ok(events)
}

/// Hears until the connection breaks; says whether there was one.
async fn hear(
    target: &Target,
    source: &Source,
    within: Duration,
    told: &mpsc::Sender<Event>,
) -> (bool, RedisResult<()>) {
    let name = match (source, target) {
        (Source::Channel(name), _) => return hear_channel(target, name, told).await,
        (Source::Stream(name), Target::Cluster(cluster, _)) => {
            return match cluster.get_async_connection().await {
                Ok(connection) => (true, hear_stream(connection, name, told).await),
                Err(error) => (false, Err(error)),
            };
        }
        (Source::Stream(name), _) => name,
    };
    let connected =
        async { target.client().await?.get_multiplexed_async_connection_with_config(&patient(within)).await };
    match connected.await {
        Ok(connection) => (true, hear_stream(connection, name, told).await),
        Err(error) => (false, Err(error)),
    }
}

fn patient(within: Duration) -> redis::AsyncConnectionConfig {
    redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(within))
        .set_response_timeout(Some(within + Duration::from_millis(BLOCK_MS as u64)))
}

async fn hear_channel(target: &Target, name: &str, told: &mpsc::Sender<Event>) -> (bool, RedisResult<()>) {
    let subscribed = async {
        let mut channel = target.client().await?.get_async_pubsub().await?;
        channel.subscribe(name).await.map(|()| channel)
    };
    let channel = match subscribed.await {
        Ok(channel) => channel,
        Err(error) => return (false, Err(error)),
    };
    if told.send(Event::Connected).await.is_err() {
        return (true, Ok(()));
    }
    let mut messages = channel.into_on_message();
    while let Some(message) = messages.next().await {
        let (done, _) = tokio::sync::oneshot::channel();
        if told.send(Event::Order(message.get_payload_bytes().to_vec(), done)).await.is_err() {
            break;
        }
    }
    (true, Ok(()))
}

/// First what was taken and never acknowledged, by this consumer in an earlier life, then what comes.
async fn hear_stream(mut connection: impl AsyncCommands, name: &str, told: &mpsc::Sender<Event>) -> RedisResult<()> {
    let made: RedisResult<()> = connection.xgroup_create_mkstream(name, GROUP, "0").await;
    match made {
        Err(error) if error.code() != Some("BUSYGROUP") => return Err(error),
        _ => {}
    }
    if told.send(Event::Connected).await.is_err() {
        return Ok(());
    }
    let mut from = "0".to_owned();
    loop {
        let options = StreamReadOptions::default().group(GROUP, "bridge").count(64).block(BLOCK_MS);
        let read: Option<StreamReadReply> = connection.xread_options(&[name], &[&from], &options).await?;
        let items: Vec<_> = read.into_iter().flat_map(|read| read.keys).flat_map(|key| key.ids).collect();
        if items.is_empty() {
            ">".clone_into(&mut from); // nothing is left from earlier
        }
        for item in items {
            let (done, outcome) = tokio::sync::oneshot::channel();
            // Purges that bridges tell of in the same stream are no orders; that is for whoever takes them to see.
            let order = item.get::<Vec<u8>>("order").or_else(|| item.get("purged")).unwrap_or_default();
            if told.send(Event::Order(order, done)).await.is_err() {
                return Ok(());
            }
            if outcome.await.unwrap_or(false) {
                let _: u64 = connection.xack(name, GROUP, &[&item.id]).await?;
            } else {
                return Ok(()); // and again from the first that isn't acknowledged
            }
        }
    }
}
