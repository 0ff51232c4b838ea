//! `core.log`: every line that the run tells people, with its time, kept in the run's folder.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use fuzz_dist_core::clock::RunClock;
use fuzz_dist_core::sync::lock;

use crate::request::{Reporter, RunError, Status};

/// Writes lines to the file and passes everything on.
pub struct CoreLog {
    inner: Arc<dyn Reporter>,
    clock: RunClock,
    file: Mutex<File>,
}

impl CoreLog {
    /// Creates the file.
    pub fn create(
        path: &Path,
        clock: RunClock,
        inner: Arc<dyn Reporter>,
    ) -> Result<CoreLog, RunError> {
        let file = File::create(path)
            .map_err(|e| RunError::Internal(format!("cannot write {}: {e}", path.display())))?;
        Ok(CoreLog { inner, clock, file: Mutex::new(file) })
    }
}

impl Reporter for CoreLog {
    fn status(&self, status: &Status) {
        self.inner.status(status);
    }

    fn line(&self, text: &str) {
        let mut file = lock(&self.file);
        // The log is for people; the history is what counts, and a full disk is told there.
        drop(writeln!(file, "{:10.3} {text}", self.clock.now_ns() as f64 / 1e9));
        drop(file);
        self.inner.line(text);
    }
}
