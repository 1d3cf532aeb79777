//! Purges from elsewhere: what a source tells is an order like any other, and what makes no sense is counted and logged.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::people::PurgeOrder;
use crate::published::is_report;
use crate::redis::{Event, Source};
use crate::{Error, Service};

/// How often an order is tried that the store can't take. What a stream holds is tried for ever.
const ATTEMPTS: usize = 25;

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

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
        if is_report(text) {
            self.metrics().event(source, "report"); // a bridge's own word: carrying it out would go round for ever
            return true;
        }
        let order: PurgeOrder = match serde_json::from_slice(text) {
            Ok(order) => order,
            Err(error) => {
                self.metrics().event(source, "malformed");
                tracing::warn!(source, %error, bytes = text.len(), "an event is no purge order");
                return true;
            }
        };
        match self.insist(&order, ATTEMPTS).await {
            Ok(()) => {
                self.metrics().event(source, "purged");
                return true;
            }
            Err(Error::Store(_)) => {}
            Err(error) => {
                self.metrics().event(source, "refused");
                tracing::warn!(source, %error, "an event's purge order is refused");
                return true;
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

    /// Carries an order out, again and again while the store fails.
    pub(crate) async fn insist(&self, order: &PurgeOrder, attempts: usize) -> Result<(), Error> {
        for _ in 1..attempts {
            match self.order(order).await {
                Err(Error::Store(_)) => tokio::time::sleep(PAUSE).await,
                outcome => return outcome.map(|_| ()),
            }
        }
        self.order(order).await.map(|_| ())
    }
}
