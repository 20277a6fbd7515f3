//! The latency monitor: what took longer than `latency-monitor-threshold`, by kind of event.
//!
//! An event has at most one sample a second, the worst of that second, and the last 160 samples are kept.

use std::collections::{BTreeMap, VecDeque};

const SAMPLES_MAX: usize = 160;

/// What took `millis` at the second `unix_s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub unix_s: i64,
    pub millis: u64,
}

/// The samples of one event, oldest first.
#[derive(Debug, Default)]
pub struct Series {
    pub samples: VecDeque<Sample>,
    /// Milliseconds, since the event was first seen or reset.
    pub worst_ms: u64,
}

impl Series {
    fn add(&mut self, sample: Sample) {
        self.worst_ms = self.worst_ms.max(sample.millis);
        match self.samples.back_mut() {
            Some(last) if last.unix_s == sample.unix_s => last.millis = last.millis.max(sample.millis),
            _ => {
                if self.samples.len() == SAMPLES_MAX {
                    self.samples.pop_front();
                }
                self.samples.push_back(sample);
            }
        }
    }
}

#[derive(Debug, Default)]
pub struct LatencyMonitor {
    /// Milliseconds; 0 is off.
    threshold_ms: u64,
    series: BTreeMap<&'static str, Series>,
}

impl LatencyMonitor {
    pub fn set_threshold(&mut self, millis: u64) {
        self.threshold_ms = millis;
    }

    /// Events that take so long are noted, in microseconds; `u64::MAX` when the monitor is off.
    pub fn threshold_us(&self) -> u64 {
        match self.threshold_ms {
            0 => u64::MAX,
            millis => millis.saturating_mul(1000),
        }
    }

    /// Notes that `event` took `micros`, if that is long enough.
    #[inline]
    pub fn note(&mut self, event: &'static str, micros: u64, now_ms: i64) {
        if micros >= self.threshold_us() {
            let sample = Sample { unix_s: now_ms / 1000, millis: micros / 1000 };
            self.series.entry(event).or_default().add(sample);
        }
    }

    pub fn is_on(&self) -> bool {
        self.threshold_ms > 0
    }

    pub fn series(&self, event: &[u8]) -> Option<&Series> {
        self.all().find(|(name, _)| name.as_bytes() == event).map(|(_, series)| series)
    }

    /// All events that were noted, by name.
    pub fn all(&self) -> impl ExactSizeIterator<Item = (&'static str, &Series)> {
        self.series.iter().map(|(name, series)| (*name, series))
    }

    /// Forgets an event; false if it was never noted.
    pub fn reset(&mut self, event: &[u8]) -> bool {
        let found = self.series.keys().copied().find(|name| name.as_bytes() == event);
        found.is_some_and(|name| self.series.remove(name).is_some())
    }

    /// Forgets all events; how many there were.
    pub fn reset_all(&mut self) -> usize {
        std::mem::take(&mut self.series).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_each_second_is_kept_for_160_seconds() {
        let mut monitor = LatencyMonitor::default();
        monitor.note("command", 1 << 40, 0);
        assert_eq!(monitor.all().len(), 0, "it is off");
        monitor.set_threshold(10);
        for (millis, now_ms) in [(9, 1000), (12, 1000), (15, 1500), (11, 1999), (10, 2000)] {
            monitor.note("command", millis * 1000, now_ms);
        }
        let series = monitor.series(b"command").unwrap();
        assert_eq!(series.worst_ms, 15);
        assert_eq!(series.samples, [Sample { unix_s: 1, millis: 15 }, Sample { unix_s: 2, millis: 10 }]);
        (3..300).for_each(|second| monitor.note("command", 20_000, second * 1000));
        let series = monitor.series(b"command").unwrap();
        assert_eq!((series.samples.len(), series.samples[0].unix_s), (SAMPLES_MAX, 140));
        assert!(!monitor.reset(b"other") && monitor.reset(b"command") && monitor.reset_all() == 0);
    }
}
