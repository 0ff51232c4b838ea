//! The texts of Plume (and PolySI) and of AWDIT's tests.
//!
//! Plume: one event a line, `r(key,value,session,transaction)` or `w(…)`. Transaction -1 marks an event of an
//! aborted one; reads of such are of no account. Every key is 0 in the beginning.
//!
//! AWDIT: one event a line, `r key value` or `w key value`; `-` in a line of its own (one or more) parts
//! transactions, `=` sessions. Nothing is written in the beginning: a read of what nobody wrote is out of
//! thin air.

use std::collections::HashMap;

use super::Records;
use super::error::{LoadError, Place, Source};
use super::sessions::{Mop, Sessions, Txn};
use crate::value::Value;

/// Lines with the place of their first character that is no blank; empty ones are left out.
fn lines<'a>(source: &Source<'a>) -> impl Iterator<Item = (Place, usize, &'a str)> {
    let start = source.text.as_ptr() as usize;
    source.text.lines().enumerate().filter_map(move |(number, line)| {
        let text = line.trim();
        let indent = text.as_ptr() as usize - line.as_ptr() as usize;
        let place = Place { line: number + 1, column: indent + 1 };
        (!text.is_empty()).then_some((place, text.as_ptr() as usize - start, text))
    })
}

/// Reads the text of Plume.
pub(super) fn read_plume(source: &Source<'_>) -> Result<Records, LoadError> {
    let mut sessions = Sessions::default();
    // Session and position of each transaction.
    let mut txns: HashMap<i64, (i64, usize)> = HashMap::new();
    for (place, offset, line) in lines(source) {
        let event = plume_event(line).ok_or_else(|| {
            let expected = "r(key,value,session,transaction) or w(…), of integers";
            source.syntax(offset, format!("found {:?}, expected {expected}", shown(line)))
        })?;
        let PlumeEvent { mop, session, txn } = event;
        if txn == -1 {
            if mop.is_write {
                let aborted = Txn { mops: vec![mop], has_committed: false, place };
                sessions.of(session).push(aborted);
            }
            continue;
        }
        let of_session = sessions.of(session);
        let (its_session, position) = *txns.entry(txn).or_insert_with(|| {
            of_session.push(Txn { mops: Vec::new(), has_committed: true, place });
            (session, of_session.len() - 1)
        });
        if its_session != session {
            let message = format!(
                "transaction {txn} is of session {its_session} and now of session {session}: \
                 numbers of transactions are unique"
            );
            return Err(source.syntax(offset, message));
        }
        of_session[position].mops.push(mop);
    }
    sessions.initial_zero_is_nil();
    Ok(sessions.into_records(source.name))
}

struct PlumeEvent {
    mop: Mop,
    session: i64,
    txn: i64,
}

fn plume_event(line: &str) -> Option<PlumeEvent> {
    let (name, rest) = line.split_at_checked(1)?;
    let mut numbers = rest.strip_prefix('(')?.strip_suffix(')')?.split(',').map(str::trim);
    let mut number = || numbers.next()?.parse::<i64>().ok();
    let (key, value, session, txn) = (number()?, number()?, number()?, number()?);
    let is_write = is_write(name)?;
    let mop = Mop { is_write, key: Value::Int(key), value: Value::Int(value) };
    numbers.next().is_none().then_some(PlumeEvent { mop, session, txn })
}

fn is_write(name: &str) -> Option<bool> {
    match name {
        "w" => Some(true),
        "r" => Some(false),
        _ => None,
    }
}

/// Reads the text of AWDIT's tests.
pub(super) fn read_awdit(source: &Source<'_>) -> Result<Records, LoadError> {
    let mut sessions = Sessions::default();
    let (mut session, mut is_open) = (0, false);
    for (place, offset, line) in lines(source) {
        if line.bytes().all(|byte| byte == b'-') {
            is_open = false;
            continue;
        }
        if line.bytes().all(|byte| byte == b'=') {
            is_open = false;
            session += 1;
            continue;
        }
        let mop = awdit_event(line).ok_or_else(|| {
            let expected = "`r key value` or `w key value`, dashes between transactions or equals signs \
                            between sessions";
            source.syntax(offset, format!("found {:?}, expected {expected}", shown(line)))
        })?;
        let txns = sessions.of(session);
        if !is_open {
            txns.push(Txn { mops: Vec::new(), has_committed: true, place });
            is_open = true;
        }
        if let Some(txn) = txns.last_mut() {
            txn.mops.push(mop);
        }
    }
    Ok(sessions.into_records(source.name))
}

fn awdit_event(line: &str) -> Option<Mop> {
    let mut words = line.split_whitespace();
    let is_write = is_write(words.next()?)?;
    let mut number = || words.next()?.parse::<i64>().ok().map(Value::Int);
    let (key, value) = (number()?, number()?);
    words.next().is_none().then_some(Mop { is_write, key, value })
}

fn shown(line: &str) -> String {
    line.chars().take(40).collect()
}
