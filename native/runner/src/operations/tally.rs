//! Counts of completions for the status line: written by one thread, read by another.
//!
//! Completions are counted when they are on disk: [`Tally::completed`] notes, [`Tally::publish`] (after
//! the commit) makes the notes visible.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use fuzz_dist_core::OpType;
use fuzz_dist_core::sync::lock;
use hdrhistogram::Histogram;

/// Longest latency that is told apart, in microseconds.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Completions so far, and latencies since the last look.
#[derive(Debug)]
pub struct Tally {
    ok: AtomicU64,
    fail: AtomicU64,
    info: AtomicU64,
    pending: Mutex<Pending>,
    latencies: Mutex<Histogram<u64>>,
}

#[derive(Debug, Default)]
struct Pending {
    ok: u64,
    fail: u64,
    info: u64,
    latencies_us: Vec<u64>,
}

/// One look.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    /// Operations that took place.
    pub ok: u64,
    /// Operations that certainly did not.
    pub fail: u64,
    /// Operations that may have.
    pub info: u64,
    /// Median latency of ok operations since the last look.
    pub p50_ms: f64,
    /// 99th percentile of the same.
    pub p99_ms: f64,
}

impl Tally {
    /// Zero.
    pub fn new() -> Result<Tally, hdrhistogram::CreationError> {
        Ok(Tally {
            ok: AtomicU64::new(0),
            fail: AtomicU64::new(0),
            info: AtomicU64::new(0),
            pending: Mutex::default(),
            latencies: Mutex::new(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?),
        })
    }

    /// Notes a completion that is about to be committed.
    pub fn completed(&self, op_type: OpType, latency_ns: u64) {
        let mut pending = lock(&self.pending);
        match op_type {
            OpType::Ok => {
                pending.ok += 1;
                pending.latencies_us.push(latency_ns / 1000);
            }
            OpType::Fail => pending.fail += 1,
            OpType::Info => pending.info += 1,
            OpType::Invoke => {}
        }
    }

    /// Counts what has been committed since.
    pub fn publish(&self) {
        let mut pending = lock(&self.pending);
        self.ok.fetch_add(std::mem::take(&mut pending.ok), Ordering::Relaxed);
        self.fail.fetch_add(std::mem::take(&mut pending.fail), Ordering::Relaxed);
        self.info.fetch_add(std::mem::take(&mut pending.info), Ordering::Relaxed);
        if !pending.latencies_us.is_empty() {
            let mut latencies = lock(&self.latencies);
            for latency_us in pending.latencies_us.drain(..) {
                latencies.saturating_record(latency_us);
            }
        }
    }

    /// Looks, and begins the latencies anew.
    pub fn look(&self) -> Counts {
        let mut latencies = lock(&self.latencies);
        let quantile_ms = |q: f64| latencies.value_at_quantile(q) as f64 / 1000.0;
        let counts = Counts {
            ok: self.ok.load(Ordering::Relaxed),
            fail: self.fail.load(Ordering::Relaxed),
            info: self.info.load(Ordering::Relaxed),
            p50_ms: quantile_ms(0.5),
            p99_ms: quantile_ms(0.99),
        };
        latencies.reset();
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_only_what_was_published() {
        let tally = Tally::new().unwrap();
        tally.completed(OpType::Ok, 2_000_000);
        tally.completed(OpType::Info, 9_000_000);
        assert_eq!(tally.look().ok, 0);
        tally.publish();
        let counts = tally.look();
        assert_eq!((counts.ok, counts.fail, counts.info), (1, 0, 1));
        assert!((counts.p50_ms - 2.0).abs() < 0.01, "{counts:?}");
        assert_eq!(tally.look().p99_ms, 0.0, "a look begins the latencies anew");
    }
}
