//! The functions of `FuzzDist.Native`.

use fuzz_dist_core::{etf, interop};
use rustler::{Binary, Env, LocalPid, OwnedBinary, OwnedEnv, ResourceArc};

use crate::resources::{Cancel, ModelAnswers, Running, Stored};
use crate::{Answer, checking, model, records, task, writing};

mod atoms {
    rustler::atoms! { fuzz_dist_model }
}

/// Reads a history from a file or a run's folder: `{:ok, {reference, record count, notices}}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn load_history(path: Binary) -> Answer<(ResourceArc<Stored>, usize, Vec<String>)> {
    let path = writing::path_of(&path);
    let loaded = task::run(|| interop::load(&path, None).map_err(|error| error.to_string()))?;
    let count = loaded.history.len();
    Ok((Stored::new(loaded.history), count, loaded.notices))
}

/// Makes a history of a list of maps, as a term: `{:ok, {reference, record count, notices}}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn new_history(records: Binary) -> Answer<(ResourceArc<Stored>, usize, Vec<String>)> {
    let bytes = records.as_slice();
    let history = task::run(|| records::from_terms(bytes))?;
    let count = history.len();
    Ok((Stored::new(history), count, Vec::new()))
}

/// At most how many different atoms the records of a history are, as terms.
#[rustler::nif(schedule = "DirtyCpu")]
fn atom_count_max(history: ResourceArc<Stored>) -> Answer<usize> {
    task::run(|| Ok(records::atom_count_max(history.get())))
}

/// `count` records from position `first`, as one term: a list of maps.
#[rustler::nif(schedule = "DirtyCpu")]
fn records<'a>(
    env: Env<'a>,
    history: ResourceArc<Stored>,
    first: usize,
    count: usize,
) -> Answer<Binary<'a>> {
    let bytes = task::run(|| Ok(records::to_terms(history.get(), first, count)))?;
    Ok(binary(env, &bytes))
}

/// Writes a history as EDN or JSON lines, as the extension of the path says.
#[rustler::nif(schedule = "DirtyIo")]
fn write_history(history: ResourceArc<Stored>, path: Binary) -> Answer<bool> {
    let path = writing::path_of(&path);
    task::run(|| writing::write(history.get(), &path).map_err(|error| error.to_string()))?;
    Ok(true)
}

/// Checks a history. `checkers` is a term, `[{name, %{option => value}}]`; the answer is one as well.
#[rustler::nif(schedule = "DirtyCpu")]
fn check<'a>(
    env: Env<'a>,
    history: ResourceArc<Stored>,
    checkers: Binary,
    time_ms: Option<u64>,
    memory_mib: Option<u64>,
) -> Answer<Binary<'a>> {
    let cancel = Cancel::of_caller(env).ok_or("the process that asked for the check has ended")?;
    let _running = Running::start();
    let checkers = checkers.as_slice();
    let limits = checking::Limits { time_ms, memory_mib };
    let bytes = task::run(|| checking::check(history.get(), checkers, limits, cancel.flag()))?;
    Ok(binary(env, &bytes))
}

/// Checks a history against the model of process `server`. It gets `{:fuzz_dist_model, answers, question}`, the
/// question a term as [`model::Question`] has it, and answers each by [`answer_of_model`].
#[rustler::nif(schedule = "DirtyCpu")]
fn check_model<'a>(
    env: Env<'a>,
    history: ResourceArc<Stored>,
    server: LocalPid,
    independent: bool,
    time_ms: Option<u64>,
    memory_mib: Option<u64>,
) -> Answer<Binary<'a>> {
    let cancel = Cancel::of_caller(env).ok_or("the process that asked for the check has ended")?;
    let (answers, receiver) =
        ModelAnswers::of(env, &server).ok_or("the process of the model has ended")?;
    let _running = Running::start();
    let ask = move |question: &model::Question| {
        let mut bytes = Vec::new();
        etf::encode(&question.to_term(), &mut bytes);
        let answers = answers.clone();
        OwnedEnv::new()
            .send_and_clear(&server, move |env| {
                (atoms::fuzz_dist_model(), answers, binary(env, &bytes))
            })
            .map_err(|_| "the process of the model has ended".to_owned())
    };
    let limits = checking::Limits { time_ms, memory_mib };
    let cancel = cancel.flag();
    let bytes = task::run(|| {
        model::check(history.get(), independent, limits, cancel, Box::new(ask), receiver)
            .map(|result| checking::encoded(&result))
    })?;
    Ok(binary(env, &bytes))
}

/// The answer of the process of a model: `{:ok, number | nil | text}` or `{:error, sentence}`, as a term.
#[rustler::nif]
fn answer_of_model(answers: ResourceArc<ModelAnswers>, answer: Binary) -> bool {
    answers.leave(answer.as_slice().to_vec());
    true
}

/// How many checks run in this VM.
#[rustler::nif]
fn checks_running() -> usize {
    Running::count()
}

fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Binary<'a> {
    OwnedBinary::from_slice(bytes).release(env)
}

rustler::init!("Elixir.FuzzDist.Native");
