//! Options of a workload, read with checks; what is left over is unknown.

use std::cell::RefCell;

use fuzz_dist_core::spec::{Options, suggest};
use serde_json::Value as Json;

use super::WorkloadError;

/// Reads options by name and remembers the names it was asked for.
pub(super) struct Reader<'a> {
    workload: &'a str,
    options: &'a Options,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(workload: &'a str, options: &'a Options) -> Reader<'a> {
        Reader { workload, options, known: RefCell::new(Vec::new()) }
    }

    fn get(&self, name: &'static str) -> Option<&'a Json> {
        self.known.borrow_mut().push(name);
        self.options.get(name)
    }

    pub(super) fn bad<T>(
        &self,
        option: &str,
        problem: impl Into<String>,
    ) -> Result<T, WorkloadError> {
        Err(WorkloadError::BadOption { option: option.to_owned(), problem: problem.into() })
    }

    /// A whole number from `min` to `max`, both included.
    pub(super) fn whole(
        &self,
        name: &'static str,
        min: u64,
        max: u64,
    ) -> Result<Option<u64>, WorkloadError> {
        let Some(json) = self.get(name) else { return Ok(None) };
        match json.as_u64() {
            Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => {
                self.bad(name, format!("expected a whole number from {min} to {max}, found {json}"))
            }
        }
    }

    /// Seconds, more than 0.
    pub(super) fn seconds(&self, name: &'static str) -> Result<Option<f64>, WorkloadError> {
        let Some(json) = self.get(name) else { return Ok(None) };
        match json.as_f64() {
            Some(seconds) if seconds > 0.0 && seconds <= 31_536_000.0 => Ok(Some(seconds)),
            _ => self.bad(name, format!("expected seconds, more than 0, found {json}")),
        }
    }

    /// True or false.
    pub(super) fn flag(&self, name: &'static str) -> Result<Option<bool>, WorkloadError> {
        let Some(json) = self.get(name) else { return Ok(None) };
        match json.as_bool() {
            Some(flag) => Ok(Some(flag)),
            None => self.bad(name, format!("expected true or false, found {json}")),
        }
    }

    /// One of the given texts.
    pub(super) fn one_of(
        &self,
        name: &'static str,
        known: &[&'static str],
    ) -> Result<Option<&'static str>, WorkloadError> {
        let Some(json) = self.get(name) else { return Ok(None) };
        let text = json.as_str().unwrap_or_default();
        match known.iter().find(|known| **known == text) {
            Some(found) => Ok(Some(found)),
            None => {
                let hint = suggest::clause(text, known.iter().copied());
                self.bad(name, format!("{json} is not one of its values{hint}"))
            }
        }
    }

    /// Refuses options that nobody asked for.
    pub(super) fn finish(self) -> Result<(), WorkloadError> {
        let known = self.known.into_inner();
        match self.options.keys().find(|option| !known.contains(&option.as_str())) {
            None => Ok(()),
            Some(option) => Err(WorkloadError::UnknownOption {
                workload: if self.workload.is_empty() { "of your own" } else { self.workload }
                    .into(),
                option: option.clone(),
                hint: suggest::clause(option, known.iter().copied()),
            }),
        }
    }
}
