//! A model that the BEAM holds: `FuzzDist.Model`.
//!
//! The search runs on a thread of ours and knows states only by number. For each state and operation that
//! it has not seen together it asks a process of the VM, which has the states themselves, and waits for the
//! answer; the search remembers it. When there is no answer (the model raised, its process ended, the time
//! is up, nobody wants the verdict any more) no verdict stands, whatever the search says then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use fuzz_dist_checker::linearizable::models::{Action, Misread, Model};
use fuzz_dist_checker::linearizable::{self, Linearizable};
use fuzz_dist_checker::{Budget, Checker};
use fuzz_dist_core::{CheckResult, History, Sym, Value, Verdict};

use crate::checking::Limits;
use crate::{Answer, decode};

/// How often somebody who waits for an answer looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(20);

/// What to ask of the process.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// The state after an operation.
    Step {
        /// Number of the state before.
        state: i64,
        /// `{f, argument, result}`, where the result is `{:ok, value}` or `:info`.
        operation: Value,
    },
    /// The text of a state.
    Show {
        /// Its number.
        state: i64,
    },
}

impl Question {
    /// As the process gets it.
    pub fn to_term(&self) -> Value {
        match self {
            Question::Step { state, operation } => {
                Value::tuple(vec![Value::sym("step"), Value::Int(*state), operation.clone()])
            }
            Question::Show { state } => Value::tuple(vec![Value::sym("show"), Value::Int(*state)]),
        }
    }
}

/// Sends questions to the process.
pub type Ask = Box<dyn Fn(&Question) -> Answer<()> + Send + Sync>;

/// Where the process leaves its answers.
#[derive(Debug)]
pub struct Answers(Mutex<Option<Sender<Vec<u8>>>>);

impl Answers {
    /// A place for answers, and where they are taken from.
    pub fn new() -> (Answers, Receiver<Vec<u8>>) {
        let (sender, receiver) = channel();
        (Answers(Mutex::new(Some(sender))), receiver)
    }

    /// Leaves one. Nobody may be waiting any more, which is no matter.
    pub fn leave(&self, answer: Vec<u8>) {
        if let Some(sender) = lock(&self.0).as_ref() {
            let _ = sender.send(answer);
        }
    }

    /// There will be no more.
    pub fn close(&self) {
        lock(&self.0).take();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq)]
enum Failure {
    /// A defect of the model or its process, in words.
    Model(String),
    /// The check must end, for a reason that the budget tells as well.
    Over(String),
}

struct BeamModel {
    ask: Ask,
    answers: Mutex<Receiver<Vec<u8>>>,
    deadline: Option<Instant>,
    /// Set by whoever no longer wants the verdict, and after a failure, so that the search ends soon.
    cancel: Arc<AtomicBool>,
    failure: Arc<Mutex<Option<Failure>>>,
}

impl BeamModel {
    /// The answer to a question; `None` after a failure.
    fn ask(&self, question: &Question) -> Option<Value> {
        // One question at a time: answers carry no number.
        let answers = lock(&self.answers);
        if lock(&self.failure).is_some() {
            return None;
        }
        match (self.ask)(question).map_err(Failure::Model).and_then(|()| self.wait(&answers)) {
            Ok(answer) => Some(answer),
            Err(failure) => {
                *lock(&self.failure) = Some(failure);
                self.cancel.store(true, Ordering::Relaxed);
                None
            }
        }
    }

    fn wait(&self, answers: &Receiver<Vec<u8>>) -> Result<Value, Failure> {
        loop {
            match answers.recv_timeout(LOOK) {
                Ok(answer) => {
                    let answer = decode(&answer).map_err(Failure::Model)?;
                    return match answer.key_and_value() {
                        Some((tag, value)) if *tag == Value::sym("ok") => Ok(value.clone()),
                        Some((_, Value::Str(text))) => Err(Failure::Model(text.to_string())),
                        _ => Err(Failure::Model(format!("the model answered {answer}"))),
                    };
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Model("the process of the model has ended".into()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Failure::Over("the check was cancelled".into()));
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Failure::Over("the time is up, while a step of the model ran".into()));
            }
        }
    }
}

impl Model for BeamModel {
    fn name(&self) -> &'static str {
        "user"
    }

    fn functions(&self) -> &'static str {
        "whatever its step knows"
    }

    fn initial(&self) -> Value {
        Value::Int(0)
    }

    fn action(
        &self,
        f: &str,
        argument: &Value,
        result: Option<&Value>,
    ) -> Result<Option<Action>, Misread> {
        let result = match result {
            Some(value) => Value::tuple(vec![Value::sym("ok"), value.clone()]),
            None => Value::sym("info"),
        };
        // Interned, so it lives as long as the VM.
        let f = Sym::try_new(f).map_err(|_| Misread::NoSuchFunction)?.as_str();
        Ok(Some(Action { f, value: Value::tuple(vec![argument.clone(), result]) }))
    }

    fn step(&self, state: &Value, action: &Action) -> Option<Value> {
        let [argument, result] = action.value.items()? else { return None };
        let operation = Value::tuple(vec![Value::sym(action.f), argument.clone(), result.clone()]);
        let answer = self.ask(&Question::Step { state: state.as_int()?, operation })?;
        (!answer.is_nil()).then_some(answer)
    }

    fn describe(&self, action: &Action) -> String {
        match action.value.items() {
            Some([argument, result]) => match (argument, result.key_and_value()) {
                (argument, Some((_, result))) if argument == result => {
                    format!("{} {argument}", action.f)
                }
                (Value::Nil, Some((_, result))) => format!("{} {result}", action.f),
                (argument, Some((_, result))) => format!("{} {argument} -> {result}", action.f),
                (argument, None) => format!("{} {argument}", action.f),
            },
            _ => action.f.to_owned(),
        }
    }

    fn show(&self, state: &Value) -> String {
        let shown = state.as_int().and_then(|state| self.ask(&Question::Show { state }));
        match shown {
            Some(Value::Str(text)) => text.to_string(),
            _ => state.to_string(),
        }
    }
}

/// Checks a history against the model of a process, which `ask` asks and whose answers arrive at `answers`.
pub fn check(
    history: &History,
    independent: bool,
    limits: Limits,
    cancel: Arc<AtomicBool>,
    ask: Ask,
    answers: Receiver<Vec<u8>>,
) -> Answer<CheckResult> {
    let time = limits.time_ms.map(Duration::from_millis);
    let failure = Arc::new(Mutex::new(None));
    let model = BeamModel {
        ask,
        answers: Mutex::new(answers),
        deadline: time.and_then(|time| Instant::now().checked_add(time)),
        cancel: cancel.clone(),
        failure: failure.clone(),
    };
    let budget = Budget {
        time,
        memory_bytes: limits.memory_mib.map(|mib| mib.saturating_mul(1 << 20)),
        cancel: Some(cancel),
    };
    let checker = Linearizable::of_model(Box::new(model)).independent(independent);
    let result = checker.check(history, &budget);
    let result = fuzz_dist_checker::judged(result, linearizable::INFO.needs, history);
    let failure = lock(&failure).take();
    match failure {
        None => Ok(result),
        Some(Failure::Model(text)) => Err(text),
        Some(Failure::Over(why)) if result.verdict == Verdict::Unknown => {
            Ok(CheckResult { reason: format!("undecided: {why}"), ..result })
        }
        Some(Failure::Over(why)) => {
            Ok(CheckResult::new(checker.name(), Verdict::Unknown, format!("undecided: {why}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz_dist_core::{etf, interop};

    fn encoded(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        etf::encode(value, &mut bytes);
        bytes
    }

    const HISTORY: &str = "{:process 0 :type :invoke :f :write :value 1}
                           {:process 0 :type :ok :f :write :value 1}
                           {:process 1 :type :invoke :f :read :value nil}
                           {:process 1 :type :ok :f :read :value 2}";

    /// A register whose states are the numbers of their values, asked as the process is.
    fn register(question: &Question) -> Option<Value> {
        let question = question.to_term();
        let [_, Value::Int(state), operation] = question.items().unwrap() else {
            return Some(Value::str("a state"));
        };
        let [f, argument, result] = operation.items().unwrap() else { panic!("{operation}") };
        match f.as_text() {
            Some("write") => Some(argument.clone()),
            _ => match result.key_and_value() {
                Some((_, seen)) => (seen.as_int() == Some(*state)).then(|| seen.clone()),
                None => Some(Value::Int(*state)),
            },
        }
    }

    fn run(respond: impl Fn(&Question, &Answers) + Send + Sync + 'static) -> Answer<CheckResult> {
        let history = interop::load_bytes("h", HISTORY.as_bytes(), None).unwrap().history;
        let (answers, receiver) = Answers::new();
        let ask: Ask = Box::new(move |question| {
            respond(question, &answers);
            Ok(())
        });
        let limits = Limits { time_ms: Some(200), memory_mib: None };
        check(&history, false, limits, Arc::new(AtomicBool::new(false)), ask, receiver)
    }

    #[test]
    fn answers_decide() {
        let result = run(|question, answers| {
            let answer = register(question).unwrap_or_default();
            answers.leave(encoded(&Value::tuple(vec![Value::sym("ok"), answer])));
        });
        let result = result.unwrap();
        assert_eq!(result.verdict, Verdict::Invalid);
        assert!(result.anomalies[0].text.contains("read 2"), "{}", result.anomalies[0].text);
        assert!(result.anomalies[0].text.contains("a state"), "{}", result.anomalies[0].text);
    }

    #[test]
    fn without_answers_there_is_no_verdict() {
        let error = run(|_, answers| {
            let text = Value::str("step/2 of M raised");
            answers.leave(encoded(&Value::tuple(vec![Value::sym("error"), text])));
        });
        assert_eq!(error.unwrap_err(), "step/2 of M raised");
        let error = run(|_, answers| answers.close());
        assert_eq!(error.unwrap_err(), "the process of the model has ended");
        let late = run(|_, _| {}).unwrap();
        assert_eq!(late.verdict, Verdict::Unknown);
        assert!(late.reason.contains("the time is up"), "{}", late.reason);
    }
}
