//! Faults inside nodes as the node agent reads them, and its answers: `fault` of `doc/protocol.md`.

use std::sync::Arc;
use std::time::Duration;

use fuzz_dist_core::Value;
use fuzz_dist_core::fault::{Selector, VmFault};

use crate::agents::message::tagged;
use crate::agents::{Link, RequestError};
use crate::recorder::strings;

/// What a node answered.
#[derive(Debug)]
pub enum Answer {
    /// With a map.
    Ok(Value),
    /// The process that is meant is on the node of this full name.
    Elsewhere(String),
    /// Not done, and why.
    Refused(String),
}

/// What a node says of a fault.
#[derive(Debug)]
pub struct Look {
    /// Its effect, in words and as data.
    pub seen: Option<(String, Value)>,
    /// Why there is none.
    pub why_not: String,
    /// What shows that it is healed.
    pub heal_seen: Option<String>,
}

impl Look {
    /// Reads the answer to `look`. A fault that the node does not know any more has ended with its lease.
    pub fn read(answer: &Value) -> Option<Look> {
        let text = |key: &str| answer.get(key).filter(|v| !v.is_nil()).and_then(Value::as_text);
        let seen = answer.get("seen").and_then(Value::items).and_then(|seen| match seen {
            [text, evidence] => Some((text.as_text()?.to_owned(), evidence.clone())),
            _ => None,
        });
        let forgotten = text("state")? == "unknown";
        Some(Look {
            seen,
            why_not: text("why_not").unwrap_or_default().to_owned(),
            heal_seen: text("heal_seen")
                .map(str::to_owned)
                .or_else(|| forgotten.then(|| "nothing is left of it".into())),
        })
    }
}

/// Sends a request and waits for its answer.
pub fn ask(link: &Link, what: Value, timeout: Duration) -> Result<Answer, RequestError> {
    let answer = link.request("fault", [what], timeout)?;
    Ok(match answer.first().and_then(Value::items) {
        Some([status, value]) if status.as_text() == Some("ok") => Answer::Ok(value.clone()),
        Some([_, reason]) => match reason.items() {
            Some([tag, node]) if tag.as_text() == Some("elsewhere") => {
                Answer::Elsewhere(node.as_text().unwrap_or_default().to_owned())
            }
            _ => {
                Answer::Refused(reason.as_text().map_or_else(|| reason.to_string(), str::to_owned))
            }
        },
        _ => Answer::Refused("an answer without ok or error".into()),
    })
}

/// Sends a request whose answer nobody waits for.
pub fn tell(link: &Link, what: Value) {
    link.send(tagged("fault", [Value::Int(0), what]));
}

/// The fault as `fuzz_dist_vm_faults` reads it.
///
/// # Errors
/// When a file that it needs cannot be read.
pub fn fault(kind: &VmFault, draw: u64, until_ns: u64, reconnects: bool) -> Result<Value, String> {
    use fuzz_dist_core::fault::PlaneFault;
    let mut fields =
        vec![("kind", Value::sym(kind.name())), ("until_ns", Value::Int(until_ns as i64))];
    if let Some(process) = kind.process() {
        fields.push(("process", selector(process)));
        fields.push(("draw", Value::Int(draw as i64)));
    }
    match kind {
        VmFault::ExitProcess { reason, .. } => fields.push(("reason", Value::sym(reason))),
        VmFault::Flood { messages_per_s, .. } => {
            fields.push(("messages_per_s", Value::Int(*messages_per_s as i64)));
        }
        VmFault::Garbage { megabytes } => {
            fields.push(("megabytes", Value::Int(*megabytes as i64)));
        }
        VmFault::SetCookie { cookie } => fields.push(("cookie", Value::str(cookie))),
        VmFault::Disconnect => fields.push(("reconnects", Value::Bool(reconnects))),
        VmFault::LoadModule { module, file } => {
            let beam = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
            fields.push(("module", Value::str(module)));
            fields.push(("beam", Value::Bytes(Arc::new(beam))));
        }
        _ => {}
    }
    Ok(Value::map(fields.into_iter().map(|(key, value)| (Value::sym(key), value))))
}

/// A selector as `fuzz_dist_selector` reads it.
pub fn selector(process: &Selector) -> Value {
    match process {
        Selector::Registered(name) => tagged("registered", [Value::str(name)]),
        Selector::Global(name) => tagged("global", [Value::str(name)]),
        Selector::Below(name) => tagged("below", [Value::str(name)]),
        Selector::Via(parts) => tagged("via", [strings(parts)]),
        Selector::Child(parts) => tagged("child", [strings(parts)]),
        Selector::Position(parts) => tagged("position", [strings(parts)]),
        Selector::Resolver(parts) => tagged("resolver", [strings(parts)]),
    }
}
