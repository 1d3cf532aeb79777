//! The service between the filter and the store: it moves bytes, keeps the group's log of purges, and says of every
//! entry whether a purge came after it. What is fresh, private or cacheable it doesn't know.
//!
//! Read from the outside in: [`Bridge`] serves HTTP, [`Service`] is the same as plain calls, [`Store`] is what holds the
//! data, either [`RedisStore`] or [`MemStore`]; [`mem::Memory`] is the latter without threads or clock, for simulations.
//! The words of the calls are those of the crate `bridge_api`; the protocol behind them is ARCHITECTURE.md's.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), routecache_bridge::Error> {
//! use bridge_api::{LookupReply, LookupRequest};
//! use routecache_bridge::{MemStore, Service};
//!
//! let service = Service::new(MemStore::new(64 << 20));
//! let asked = LookupRequest { namespace: "shop:v1".into(), key: "menu".into(), tags: vec![], ..LookupRequest::default() };
//! let (reply, _) = service.lookup(&asked).await?;
//! assert!(matches!(reply, LookupReply::Miss { .. }));
//! # Ok(()) }
//! ```

pub mod access;
pub mod clock;
#[doc(hidden)]
pub mod decoders;
mod error;
mod events;
pub mod hooks;
mod http;
mod leases;
pub mod limits;
pub mod mem;
mod metrics;
pub mod people;
mod published;
mod random;
mod redis;
mod server;
mod service;
pub mod settings;
mod sharing;
mod store;
mod tls;
mod url;
mod waiting;

pub use error::Error;
pub use mem::MemStore;
pub use published::{Teller, Tellers, Untold};
pub use redis::{
    Address as RedisAddress, Algorithm, Event, InRedis, Packing, Place as PublishPlace, RedisStore, Source, StoreTls,
    UnusableRedis, follow as follow_events,
};
pub use server::{Bridge, Limits, Listener, Role};
pub use service::Service;
pub use store::{Answer, Figures, KeyOf, LeaseLook, Reading, Store, StoreError};
pub use tls::{Tls, TlsFiles, UnusableTls};
pub use url::{Replicas, StoreUrl, UnusableUrl};
