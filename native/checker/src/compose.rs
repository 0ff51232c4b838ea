//! Several checkers on one history: in parallel, none able to hide another.
//!
//! The verdict is the worst of the parts (`invalid` over `unknown` over `valid`). A checker that panics
//! is our own fault; it becomes `unknown` with the message, and the others' verdicts stand.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fuzz_dist_core::spec::CheckerSpec;
use fuzz_dist_core::sync::lock;
use fuzz_dist_core::{CheckResult, History, Verdict, text};

use crate::Checker;
use crate::budget::Budget;
use crate::needs::{Need, judged};

/// Name of the composed result.
const NAME: &str = "all";

/// Checks every property; `parts` of the result are theirs, in the order of the specs. The budget is
/// each checker's own in time, and common in memory.
pub fn check_all(history: &History, specs: &[CheckerSpec], budget: &Budget) -> CheckResult {
    let jobs: Vec<Job> = specs
        .iter()
        .map(|spec| match crate::build(spec) {
            Ok(checker) => Job::Check(checker, crate::info(&spec.name).map_or(&[], |i| i.needs)),
            Err(error) => Job::Done(Box::new(CheckResult::new(
                &spec.name,
                Verdict::Unknown,
                format!("not checked: {error}"),
            ))),
        })
        .collect();
    run(history, jobs, budget)
}

/// What [`check_all`] answers if there is nothing that could be checked, and why.
pub fn none_checked(specs: &[CheckerSpec], reason: &str) -> CheckResult {
    let unknown = |spec: &CheckerSpec| CheckResult::new(&spec.name, Verdict::Unknown, reason);
    combine(NAME, specs.iter().map(unknown).collect())
}

/// Something to check, with what a pass of it needs, or a result that stands already.
enum Job {
    Check(Box<dyn Checker>, &'static [Need]),
    Done(Box<CheckResult>),
}

fn run(history: &History, jobs: Vec<Job>, budget: &Budget) -> CheckResult {
    let started = budget.start();
    let threads = crate::threads().min(jobs.len()).max(1);
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<CheckResult>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(i) else { break };
                    let result = match job {
                        Job::Check(checker, needs) => {
                            judged(guarded(checker.as_ref(), history, budget), needs, history)
                        }
                        Job::Done(result) => result.as_ref().clone(),
                    };
                    *lock(&results[i]) = Some(result);
                }
            });
        }
    });
    let parts: Vec<CheckResult> = results
        .into_iter()
        .filter_map(|slot| slot.into_inner().unwrap_or_else(|e| e.into_inner()))
        .collect();
    let mut all = combine(NAME, parts);
    all.elapsed_ms = started.elapsed_ms();
    let decides = |job: &Job| matches!(job, Job::Check(checker, _) if !checker.only_reports());
    if all.verdict == Verdict::Valid && !jobs.iter().any(decides) {
        let names: Vec<&str> = all.parts.iter().map(|part| part.checker.as_str()).collect();
        all.verdict = Verdict::Unknown;
        all.reason = format!(
            "nothing was decided: {} only reports; add a checker that decides, such as linearizable or \
             set-full",
            names.join(", ")
        );
    }
    in_one_line(&mut all);
    all
}

/// Reasons quote values of systems under test: each is one line, bounded and harmless.
fn in_one_line(result: &mut CheckResult) {
    result.reason = text::reason(&result.reason);
    result.parts.iter_mut().for_each(in_one_line);
}

/// The result of one checker where there was one: its part, with the verdict of the whole.
pub fn sole(mut all: CheckResult) -> CheckResult {
    if all.parts.len() != 1 {
        return all;
    }
    let part = all.parts.remove(0);
    if part.verdict == all.verdict {
        return part;
    }
    let reason = format!("{}; {}", all.reason, part.reason);
    CheckResult { verdict: all.verdict, reason, ..part }
}

/// Runs one checker; a panic becomes `unknown`.
pub(crate) fn guarded(checker: &dyn Checker, history: &History, budget: &Budget) -> CheckResult {
    catch_unwind(AssertUnwindSafe(|| checker.check(history, budget))).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        CheckResult::new(
            checker.name(),
            Verdict::Unknown,
            format!("the checker itself failed, which is a defect of fuzz_dist: {message}"),
        )
    })
}

/// The worst verdict, with the reasons of the parts that have it.
pub(crate) fn combine(name: &str, parts: Vec<CheckResult>) -> CheckResult {
    let verdict = parts.iter().fold(Verdict::Valid, |all, part| all.and(part.verdict));
    let reasons: Vec<String> = parts
        .iter()
        .filter(|part| part.verdict == verdict)
        .map(|part| match verdict {
            Verdict::Valid => part.checker.clone(),
            _ => format!("{}: {}", part.checker, text::reason(&part.reason)),
        })
        .collect();
    let reason = match verdict {
        Verdict::Valid if parts.is_empty() => "nothing was to be checked".to_owned(),
        Verdict::Valid => format!("{} hold", reasons.join(", ")),
        _ => reasons.join("; "),
    };
    let verdict = if parts.is_empty() { Verdict::Unknown } else { verdict };
    let anomalies = parts.iter().flat_map(|part| part.anomalies.iter().cloned()).collect();
    CheckResult { anomalies, parts, ..CheckResult::new(name, verdict, reason) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Meter;

    struct Fixed(Verdict);

    impl Checker for Fixed {
        fn name(&self) -> &'static str {
            "fixed"
        }
        fn decide(&self, _: &History, _: &Meter) -> CheckResult {
            CheckResult::new("fixed", self.0, "as told")
        }
    }

    struct Panics;

    impl Checker for Panics {
        fn name(&self) -> &'static str {
            "panics"
        }
        fn decide(&self, _: &History, _: &Meter) -> CheckResult {
            panic!("index out of range")
        }
    }

    fn check(checkers: Vec<Box<dyn Checker>>) -> CheckResult {
        let jobs = checkers.into_iter().map(|checker| Job::Check(checker, &[])).collect();
        run(&History::default(), jobs, &Budget::UNLIMITED)
    }

    #[test]
    fn a_panic_is_unknown_and_hides_nothing() {
        let result = check(vec![Box::new(Fixed(Verdict::Valid)), Box::new(Panics)]);
        assert_eq!(result.verdict, Verdict::Unknown);
        assert!(result.reason.contains("index out of range"), "{}", result.reason);
        let result = check(vec![Box::new(Panics), Box::new(Fixed(Verdict::Invalid))]);
        assert_eq!(result.verdict, Verdict::Invalid);
        assert_eq!(result.parts[0].verdict, Verdict::Unknown);
    }

    #[test]
    fn nothing_to_check_is_no_pass() {
        assert_eq!(check(Vec::new()).verdict, Verdict::Unknown);
    }

    #[test]
    fn a_spec_that_cannot_be_built_is_unknown_and_named() {
        let spec = CheckerSpec { name: "linearisable".into(), ..CheckerSpec::default() };
        let result = check_all(&History::default(), &[spec], &Budget::UNLIMITED);
        assert_eq!(result.verdict, Verdict::Unknown);
        assert!(result.reason.contains("did you mean \"linearizable\""), "{}", result.reason);
    }
}
