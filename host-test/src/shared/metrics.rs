//! Metrics as Envoy keeps them: one value for a name, whichever VM defines it.

use std::collections::BTreeMap;

use crate::abi::Status;

/// What a metric holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Only grows.
    Counter(u64),
    /// Goes up and down.
    Gauge(u64),
    /// The values that were recorded, in order; the latest 32768 of them at least.
    Histogram(Vec<u64>),
}

/// Values that a histogram keeps: a server runs for long.
const SAMPLES_MAX: usize = 1 << 16;

/// The metrics of a gateway process, by name.
#[derive(Debug, Default)]
pub struct Metrics {
    values: BTreeMap<String, Metric>,
    /// What the numbers stand for that `define` handed out: its index.
    defined: Vec<String>,
}

impl Metrics {
    /// What a metric holds; `None` where none has that name.
    pub fn get(&self, name: &str) -> Option<&Metric> {
        self.values.get(name)
    }

    /// The count of a counter or the level of a gauge; 0 where none has that name.
    pub fn value(&self, name: &str) -> u64 {
        match self.get(name) {
            Some(Metric::Counter(value) | Metric::Gauge(value)) => *value,
            Some(Metric::Histogram(values)) => values.len() as u64,
            None => 0,
        }
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Metric)> {
        self.values.iter().map(|(name, metric)| (name.as_str(), metric))
    }

    /// Each call gives a new number, also for the same name, as in Envoy.
    pub(crate) fn define(&mut self, kind: u32, name: String) -> Result<u32, Status> {
        let fresh = match kind {
            0 => Metric::Counter(0),
            1 => Metric::Gauge(0),
            2 => Metric::Histogram(Vec::new()),
            _ => return Err(Status::BadArgument),
        };
        self.values.entry(name.clone()).or_insert(fresh);
        self.defined.push(name);
        // Counted from 1, so that a number left at 0 is noticed.
        u32::try_from(self.defined.len()).map_err(|_| Status::InternalFailure)
    }

    pub(crate) fn increment(&mut self, id: u32, offset: i64) -> Result<(), Status> {
        match self.of(id)? {
            Metric::Counter(value) if offset > 0 => *value = value.wrapping_add(offset.unsigned_abs()),
            Metric::Gauge(value) => *value = value.wrapping_add_signed(offset),
            Metric::Counter(_) | Metric::Histogram(_) => return Err(Status::BadArgument),
        }
        Ok(())
    }

    pub(crate) fn record(&mut self, id: u32, value: u64) -> Result<(), Status> {
        match self.of(id)? {
            Metric::Counter(sum) => *sum = sum.wrapping_add(value),
            Metric::Gauge(level) => *level = value,
            Metric::Histogram(values) => {
                if values.len() >= SAMPLES_MAX {
                    values.drain(..SAMPLES_MAX / 2);
                }
                values.push(value);
            }
        }
        Ok(())
    }

    pub(crate) fn read(&mut self, id: u32) -> Result<u64, Status> {
        match self.of(id)? {
            Metric::Counter(value) | Metric::Gauge(value) => Ok(*value),
            Metric::Histogram(_) => Err(Status::BadArgument),
        }
    }

    /// The metric behind a number. A name that was defined as another kind first keeps that kind.
    fn of(&mut self, id: u32) -> Result<&mut Metric, Status> {
        let index = usize::try_from(id).ok().and_then(|id| id.checked_sub(1)).ok_or(Status::NotFound)?;
        let name = self.defined.get(index).ok_or(Status::NotFound)?;
        self.values.get_mut(name).ok_or(Status::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::{Metric, Metrics, Status};

    #[test]
    fn two_definitions_of_a_name_are_one_metric() {
        let mut metrics = Metrics::default();
        let (a, b) = (metrics.define(0, "hits".into()).unwrap(), metrics.define(0, "hits".into()).unwrap());
        assert_ne!(a, b);
        metrics.increment(a, 2).unwrap();
        metrics.increment(b, 3).unwrap();
        assert_eq!(metrics.get("hits"), Some(&Metric::Counter(5)));
    }

    #[test]
    fn counters_only_grow_and_histograms_only_record() {
        let mut metrics = Metrics::default();
        let counter = metrics.define(0, "c".into()).unwrap();
        let gauge = metrics.define(1, "g".into()).unwrap();
        let histogram = metrics.define(2, "h".into()).unwrap();
        assert_eq!(metrics.increment(counter, 0), Err(Status::BadArgument));
        assert_eq!(metrics.increment(histogram, 1), Err(Status::BadArgument));
        assert_eq!(metrics.increment(99, 1), Err(Status::NotFound));
        metrics.record(gauge, 5).unwrap();
        metrics.increment(gauge, -2).unwrap();
        assert_eq!(metrics.read(gauge), Ok(3));
        metrics.record(histogram, 7).unwrap();
        assert_eq!((metrics.read(histogram), metrics.value("h")), (Err(Status::BadArgument), 1));
    }
}
