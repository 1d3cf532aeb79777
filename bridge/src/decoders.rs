//! What reads bytes of Redis, for fuzzing; nobody else calls it.

pub use crate::redis::decoders::{redis_entries, redis_entry, redis_reading, redis_readings};
