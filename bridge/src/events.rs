//! Purges from elsewhere: what a source tells is an order like any other, and what makes no sense is counted and logged.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::people::PurgeOrder;
use crate::redis::{Event, Source};
use crate::{Error, Service};

/// How long an order that the store couldn't take waits before the next attempt, and how often it is tried. What a stream
/// holds is tried for ever.
const AGAIN: (Duration, usize) = (Duration::from_millis(200), 25);

impl Service {
    /// Carries out what comes from a source, until it ends.
    pub async fn follow(&self, source: Source, mut events: mpsc::Receiver<Event>) {
        let name: &'static str = match source {
            Source::Channel(_) => "channel",
            Source::Stream(_) => "stream",
        };
        while let Some(event) = events.recv().await {
            match event {
                Event::Connected => self.report(name, None),
                Event::Lost(why) => {
                    if self.amiss().is_none() {
                        tracing::warn!(
                            source = name,
                            why,
                            "purges from there aren't heard until it is connected again"
                        );
                    }
                    self.report(name, Some(why));
                }
                Event::Order(text, done) => {
                    let _ = done.send(self.take(name, &text).await); // a channel doesn't want to know
                }
            }
        }
    }

    /// False if it should come again.
    async fn take(&self, source: &'static str, text: &[u8]) -> bool {
        let order: PurgeOrder = match serde_json::from_slice(text) {
            Ok(order) => order,
            Err(error) => {
                self.metrics().event(source, "malformed");
                tracing::warn!(source, %error, bytes = text.len(), "an event is no purge order");
                return true;
            }
        };
        for _ in 0..AGAIN.1 {
            match self.order(&order).await {
                Ok(_) => {
                    self.metrics().event(source, "purged");
                    return true;
                }
                Err(Error::Store(_)) => tokio::time::sleep(AGAIN.0).await,
                Err(error) => {
                    self.metrics().event(source, "refused");
                    tracing::warn!(source, %error, "an event's purge order is refused");
                    return true;
                }
            }
        }
        self.metrics().event(source, "lost");
        tracing::error!(
            source,
            namespace = order.namespace,
            "the store took none of many attempts to purge by an event"
        );
        false
    }
}
