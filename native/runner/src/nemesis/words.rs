//! What is said of faults and eras: to people, and as the value of a record.

use fuzz_dist_core::Value;
use fuzz_dist_core::fault::{Fault, Resolved};
use fuzz_dist_schedule::simulate::start_value;
use fuzz_dist_schedule::target;

/// The value of a `fault-start` record.
pub(super) fn describe(fault: &Fault, resolved: &Resolved) -> Value {
    start_value(&Fault { resolved: Some(resolved.clone()), ..fault.clone() })
}

/// For people: whose faults may happen from now on.
pub(super) fn era_line(packages: &[String]) -> String {
    if packages.is_empty() {
        return "era of rest: no faults".into();
    }
    format!("era of {}", packages.join(", "))
}

/// `hold n1` or `hold ring`, for the status line.
pub(super) fn short(fault: &Fault, resolved: &Resolved) -> String {
    let place = match resolved.nodes.as_slice() {
        nodes @ ([_] | [_, _]) => nodes.join(","),
        _ => target::name(&fault.target).to_owned(),
    };
    format!("{} {place}", fault.kind.name())
}

/// `hold halves: n1 | n2 n3, 5600 ms, certainly above net-tick`.
pub(super) fn summary(fault: &Fault, resolved: &Resolved) -> String {
    let mut text = format!("{} {}", fault.kind.name(), target::name(&fault.target));
    if fault.one_way {
        text.push_str(" one way");
    }
    if let Some(scope) = &fault.scope {
        text.push_str(&format!(" of {scope}"));
    }
    if !resolved.nodes.is_empty() {
        text.push_str(&format!(" ({})", resolved.nodes.join(" ")));
    }
    if let Some(port) = &fault.port {
        text.push_str(&format!(" port {port}"));
    }
    text.push_str(&format!(", {:.0} ms", fault.duration_ns as f64 / 1e6));
    if let Some(boundary) = &fault.boundary {
        text.push_str(&format!(", {} {}", boundary.zone.as_str(), boundary.name));
    }
    text
}
