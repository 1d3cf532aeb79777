//! The bridge that a serving gateway uses: one that runs elsewhere, or one in this process.

use std::str::FromStr;
use std::thread::JoinHandle;
use std::time::Duration;

use proxy_wasm_host_test::serve::UpstreamUrl;
use routecache_bridge::StoreUrl;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// How long the store may take for one call: the bridge's own default.
const STORE_WITHIN: Duration = Duration::from_millis(250);

/// Where a bridge is, or what one is made of.
#[derive(Clone, Debug)]
pub enum BridgeUrl {
    /// It runs.
    Running(UpstreamUrl),
    /// It is started here, on this store.
    Store(StoreUrl),
}

impl FromStr for BridgeUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("http://") || text.starts_with("h2c://") || text.starts_with("https://") {
            return text.parse().map(Self::Running).map_err(|error| format!("{error}"));
        }
        StoreUrl::parse(text).map(Self::Store).map_err(|error| format!("{error}, or `http://host:port` of a bridge"))
    }
}

impl Default for BridgeUrl {
    fn default() -> Self {
        Self::Store(StoreUrl::Mem { bytes: 256 << 20 })
    }
}

impl BridgeUrl {
    /// Where it is called, and what ends it when it is dropped, if it was started here.
    ///
    /// # Errors
    ///
    /// Words for people.
    pub fn open(self) -> Result<(UpstreamUrl, Option<Embedded>), String> {
        match self {
            Self::Running(url) => Ok((url, None)),
            Self::Store(url) => Embedded::start(&url).map(|(address, embedded)| (address, Some(embedded))),
        }
    }
}

/// A bridge in this process. Dropping it drains it.
pub struct Embedded {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    fn start(url: &StoreUrl) -> Result<(UpstreamUrl, Self), String> {
        let told = |error: &dyn std::error::Error| format!("the bridge can't be started: {error}");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| told(&error))?;
        // Loopback only: it has no authentication.
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).map_err(|error| told(&error))?;
        let address = listener.local_addr().map_err(|error| told(&error))?;
        let upstream = format!("http://{address}").parse().map_err(|error| told(&error))?;
        let bridge = runtime.block_on(async { url.open(STORE_WITHIN) }).map_err(|error| told(&error))?;
        let (stop, stopped) = oneshot::channel::<()>();
        let body = move || {
            // The sender is used, or dropped: either way it is time to end.
            let stopped = async move { _ = stopped.await };
            runtime.block_on(bridge.serve(listener, stopped));
        };
        let thread = std::thread::Builder::new().name("bridge".to_owned()).spawn(body).map_err(|error| told(&error))?;
        Ok((upstream, Self { stop: Some(stop), thread: Some(thread) }))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has ended, one way or another.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::BridgeUrl;

    #[test]
    fn a_bridge_is_an_address_or_a_store() {
        for text in ["http://127.0.0.1:8390", "h2c://bridge:1"] {
            assert!(matches!(text.parse(), Ok(BridgeUrl::Running(_))), "{text}");
        }
        for text in ["mem://", "mem://?bytes=64MiB", "redis://127.0.0.1:6379/2", "rediss://h"] {
            assert!(matches!(text.parse(), Ok(BridgeUrl::Store(_))), "{text}");
        }
        for text in ["", "memory", "https://bridge", "mem://?bytes=9"] {
            assert!(text.parse::<BridgeUrl>().is_err(), "{text}");
        }
    }
}
