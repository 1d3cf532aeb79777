//! Purges that have been carried out, told to others: applications that hold copies of their own, say.
//!
//! Each bridge tells of the purges that it wrote into the log, whoever asked for them. Purges don't wait for that: what
//! can't be told in time is counted and left out.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bridge_api::{Pattern, PurgeReply, PurgeRequest};
use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::Service;
use crate::metrics::Metrics;

/// Purges that wait to be told at one place; more are left out.
const WAITING_MAX: usize = 1024;

/// How often telling is tried, and the pause in between.
const ATTEMPTS: (usize, Duration) = (3, Duration::from_millis(200));

/// What is told of a purge.
#[derive(Serialize)]
struct Report<'p> {
    purged: Purged<'p>,
}

#[derive(Serialize)]
struct Purged<'p> {
    namespace: &'p str,
    tags: &'p [String],
    #[serde(skip_serializing_if = "<[Pattern]>::is_empty")]
    patterns: &'p [Pattern],
    #[serde(flatten)]
    reply: &'p PurgeReply,
}

/// Whether a message tells of a purge, rather than asking for one.
pub(crate) fn is_report(text: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Telling {
        #[serde(rename = "purged")]
        _purged: IgnoredAny,
    }
    serde_json::from_slice::<Telling>(text).is_ok()
}

/// Why a purge couldn't be told.
pub type Untold = Box<dyn std::error::Error + Send + Sync>;

/// Where purges are told.
pub trait Teller: Send + Sync + 'static {
    /// In a word, for the log and the figures.
    fn name(&self) -> &'static str;

    /// Tells of one purge. It may be told again after a failure.
    fn tell(&self, report: Bytes) -> impl Future<Output = Result<(), Untold>> + Send;
}

/// The places where purges are told.
#[derive(Clone, Default)]
pub(crate) struct Published(Arc<OnceLock<Vec<Queue>>>);

struct Queue {
    name: &'static str,
    waiting: mpsc::Sender<Item>,
}

enum Item {
    Report(Bytes),
    /// Answered when all before it has been told.
    Flush(oneshot::Sender<()>),
}

impl Published {
    /// Never waits.
    pub(crate) fn offer(&self, request: &PurgeRequest, patterns: &[Pattern], reply: &PurgeReply, metrics: &Metrics) {
        let Some(queues) = self.0.get().filter(|queues| !queues.is_empty()) else { return };
        let report = Report { purged: Purged { namespace: &request.namespace, tags: &request.tags, patterns, reply } };
        let Ok(text) = serde_json::to_vec(&report) else { return }; // names and numbers always can be written
        let text = Bytes::from(text);
        for queue in queues {
            if queue.waiting.try_send(Item::Report(text.clone())).is_err() {
                metrics.published(queue.name, "dropped");
            }
        }
    }

    async fn flush(&self) {
        for queue in self.0.get().into_iter().flatten() {
            let (done, told) = oneshot::channel();
            if queue.waiting.send(Item::Flush(done)).await.is_ok() {
                let _ = told.await; // an error: its task has ended
            }
        }
    }
}

/// Collects the places where purges are told, before the first call.
#[derive(Default)]
pub struct Tellers(Vec<Queue>);

impl Tellers {
    /// Tells purges there too.
    pub fn add(&mut self, service: &Service, teller: impl Teller) {
        let (waiting, items) = mpsc::channel(WAITING_MAX);
        self.0.push(Queue { name: teller.name(), waiting });
        tokio::spawn(tell_all(service.clone(), teller, items));
    }
}

async fn tell_all(service: Service, teller: impl Teller, mut items: mpsc::Receiver<Item>) {
    let name = teller.name();
    let mut failing = false;
    while let Some(item) = items.recv().await {
        let report = match item {
            Item::Report(report) => report,
            Item::Flush(done) => {
                let _ = done.send(());
                continue;
            }
        };
        match tell(&teller, &report).await {
            Ok(()) => {
                service.metrics().published(name, "told");
                if std::mem::take(&mut failing) {
                    service.report(name, None);
                    tracing::info!(to = name, "purges are told again");
                }
            }
            Err(error) => {
                service.metrics().published(name, "failed");
                let error: &dyn std::error::Error = &*error;
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(to = name, error, "purges can't be told; they are left out until they can");
                }
                service.report(name, Some("purges can't be told".to_owned()));
            }
        }
    }
}

async fn tell(teller: &impl Teller, report: &Bytes) -> Result<(), Untold> {
    for _ in 1..ATTEMPTS.0 {
        if teller.tell(report.clone()).await.is_ok() {
            return Ok(());
        }
        sleep(ATTEMPTS.1).await;
    }
    teller.tell(report.clone()).await
}

impl Service {
    /// Tells others of purges from now on. The first call counts.
    pub fn publish(&self, tellers: Tellers) {
        let _ = self.published().0.set(tellers.0);
    }

    /// Waits until the purges so far have been told; false if that took longer.
    pub async fn told_all(&self, within: Duration) -> bool {
        timeout(within, self.published().flush()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use bridge_api::{Era, Position};

    use super::*;
    use crate::MemStore;

    struct Stuck;

    impl Teller for Stuck {
        fn name(&self) -> &'static str {
            "stuck"
        }

        async fn tell(&self, _: Bytes) -> Result<(), Untold> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn purges_dont_wait_for_being_told_and_what_waits_is_bounded() {
        let service = Service::new(MemStore::new(1 << 20));
        let mut tellers = Tellers::default();
        tellers.add(&service, Stuck);
        service.publish(tellers);
        let request = PurgeRequest { namespace: "n".into(), tags: vec!["a".into()], ..PurgeRequest::default() };
        for _ in 0..WAITING_MAX + 10 {
            service.purge(&request).await.unwrap();
        }
        let dropped = r#"published_total{to="stuck",outcome="dropped"} "#;
        let text = service.metrics().text(service.figures(), true);
        let dropped = text.split(dropped).nth(1).and_then(|rest| rest.lines().next()).unwrap();
        assert!(["9", "10"].contains(&dropped), "{dropped}: one may be in the teller's hands");
        assert!(!service.told_all(Duration::from_millis(10)).await);
    }

    #[test]
    fn a_report_is_known_from_an_order() {
        let (position, era) = (Position { ms: 1, seq: 2, unique: 3 }, Era(4));
        let request = PurgeRequest { namespace: "n".into(), tags: vec!["a".into()], ..PurgeRequest::default() };
        let patterns = [Pattern::Tag("b*".into())];
        let purged = Purged {
            namespace: "n",
            tags: &request.tags,
            patterns: &patterns,
            reply: &PurgeReply { position, era, unheard: false },
        };
        let text = serde_json::to_string(&Report { purged }).unwrap();
        assert!(is_report(text.as_bytes()), "{text}");
        assert!(text.starts_with(r#"{"purged":{"namespace":"n","tags":["a"],"patterns":[{"tag":"b*"}],"position":""#));
        assert!(serde_json::from_str::<crate::people::PurgeOrder>(&text).is_err());
        for other in ["", "{}", "[]", r#"{"namespace":"n","tags":["purged"]}"#] {
            assert!(!is_report(other.as_bytes()), "{other}");
        }
    }
}
