//! What reads bytes of Redis, for fuzzing.

use std::sync::LazyLock;
use std::time::Duration;

use bridge_api::{Era, Position, Ticket};
use bytes::Bytes;
use redis::{FromRedisValue, ToRedisArgs, parse_redis_value};

use super::entry::{self, Head};
use super::{RawReading, RedisStore, StoreTls};
use crate::StoreUrl;

/// An entry; what is read whole is written the same again.
pub fn redis_entry(bytes: &[u8]) {
    let value = Bytes::copy_from_slice(bytes);
    let _ = entry::head(&value);
    if let Ok((head, payload)) = entry::read(&value) {
        let again = entry::write(&head, payload.clone()).to_redis_args().concat();
        assert_eq!(entry::read(&again.into()), Ok((head, payload)));
    }
}

/// Sound ones.
#[must_use]
pub fn redis_entries() -> Vec<Vec<u8>> {
    let ticket = Ticket { at: Position { ms: 5, seq: 1, unique: 255 }, era: Era(16), seen_ms: None };
    let head = Head { ticket, since_ms: None, keep_ms: 9, tags: vec!["a".into()], key: "k".into(), packed: None };
    [&b""[..], b"body"].map(|payload| entry::write(&head, Bytes::from_static(payload)).to_redis_args().concat()).into()
}

/// What Redis answers to a poll.
pub fn redis_reading(bytes: &[u8]) {
    static STORE: LazyLock<RedisStore> = LazyLock::new(|| {
        let Ok(StoreUrl::Redis(address)) = StoreUrl::parse("redis://localhost") else { unreachable!() };
        RedisStore::new(&address, &StoreTls::default(), Duration::from_secs(1)).expect("an address")
    });
    if let Ok(raw) = parse_redis_value(bytes).and_then(|value| Ok(RawReading::from_redis_value(value)?)) {
        let _ = STORE.reading(raw);
    }
}

/// Sound ones.
#[must_use]
pub fn redis_readings() -> Vec<Vec<u8>> {
    let record = "*4\r\n+1-1\r\n+ff\r\n*1\r\n+a\r\n*2\r\n+key\r\n+a*\r\n";
    let text = format!("*6\r\n+joined\r\n+1-1\r\n+ff\r\n:1\r\n*1\r\n{record}:9\r\n");
    vec![text.into_bytes(), b"*6\r\n+first\r\n+0-0\r\n+0\r\n:0\r\n*0\r\n:9\r\n".to_vec()]
}
