//! What a person should know of records before anything is decided about them: times that run back, and
//! fields in which others keep what checkers look for in `:process` and `:value`.

use std::collections::BTreeMap;

use super::Records;
use crate::op::Op;
use crate::sym::Sym;

/// Times of real recorders run back by less than this, when several threads record at once.
const BACK_NS_MIN: i64 = 10_000_000;
/// Fields that name the client in other tools.
const CLIENTS: &[&str] =
    &["client", "client-id", "client_id", "clientId", "thread", "worker", "session", "pid", "proc"];
/// Fields that name the object in other tools.
const OBJECTS: &[&str] = &["key", "object", "register", "account"];

/// Adds the notices.
pub(super) fn tell(name: &str, records: &mut Records) {
    times(name, records);
    fields(name, records);
}

fn times(name: &str, records: &mut Records) {
    let (mut latest_ns, mut back_count) = (i64::MIN, 0);
    let mut first = None;
    let clients = records.ops.iter().enumerate().filter(|(_, op)| op.is_client());
    for (position, op) in clients.filter(|(_, op)| op.time_ns >= 0) {
        if op.time_ns < latest_ns.saturating_sub(BACK_NS_MIN) {
            back_count += 1;
            first.get_or_insert(position);
            // Counted once, not for every record of what follows.
            latest_ns = op.time_ns;
        }
        latest_ns = latest_ns.max(op.time_ns);
    }
    let Some(first) = first else { return };
    let line = records.place(first).map_or(0, |place| place.line);
    records.notices.push(format!(
        "{name}: the times of records run back {back_count} times, first at record {first} in line {line}; \
         records are taken in the order of the file, so if these are logs of several clients, sort them \
         by time first"
    ));
}

fn fields(name: &str, records: &mut Records) {
    let mut counts: BTreeMap<Sym, usize> = BTreeMap::new();
    for op in records.ops.iter().filter(|op| op.extra.is_some()) {
        for (field, _) in op.extra.iter().flat_map(|extra| extra.iter()) {
            *counts.entry(*field).or_default() += 1;
        }
    }
    let is_named = |names: &[&str], field: &Sym| names.contains(&field.as_str());
    let fields: Vec<String> = counts
        .keys()
        .filter(|field| is_named(CLIENTS, field) || is_named(OBJECTS, field))
        .map(|field| format!(":{field}"))
        .collect();
    if !fields.is_empty() {
        records.notices.push(format!(
            "{name}: checkers do not use the fields {}: the client of a record is its :process, and the value \
             of an operation on one of several objects is [key value]",
            fields.join(", ")
        ));
    }
}

/// The field that may name the client of records that have no `:process`.
pub(super) fn client_field(op: &Op) -> Option<Sym> {
    let mut fields = op.extra.iter().flat_map(|extra| extra.iter()).map(|(field, _)| *field);
    fields.find(is_client_field)
}

/// Whether a field names the client in other tools.
pub(super) fn is_client_field(field: &Sym) -> bool {
    CLIENTS.contains(&field.as_str())
}
