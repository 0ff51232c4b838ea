//! What a spec must mean, beyond its shape.
//!
//! Works on the resolved [`Spec`], wherever it came from: a file, flags of the command line, or code.
//! Whether a workload, its options, a checker or a module exists is for those who know them.

use std::collections::BTreeSet;

use crate::fault::{FaultKind, Lasts, Subject, Target};

use super::emit::has_null;
use super::error::{Problem, SpecError};
use super::keys::BOUNDARIES;
use super::{FaultSpec, MINED, MINED_PREFIX, NO_FAULTS, Options, Placement, Spec, suggest};

/// The most nodes that one machine is asked for.
pub const NODES_MAX: usize = 100;

/// The most logical processes of a test.
pub const CONCURRENCY_MAX: u32 = 100_000;

/// A year: longer than any test, short enough that nanoseconds fit into 64 bits.
const SECONDS_MAX: f64 = 366.0 * 86_400.0;

/// Why a cookie stands in no command.
const COOKIE_REFUSED: &str = "{cookie} would be on the command line, which every user of this \
    machine can read: leave out `-setcookie {cookie}`, since every node reads its cookie from \
    .erlang.cookie in its home folder; for another way to read it write {cookie_file}, the path of \
    that file, or put {cookie} into a variable of cluster.env";

/// Whether the placeholder of the cookie stands in a text.
fn names_cookie(text: &str) -> bool {
    text.match_indices("{cookie}").any(|(at, _)| !text[..at].ends_with(['$', '#']))
}

/// A problem of a key.
#[derive(Debug)]
pub(super) struct Wrong {
    pub key: String,
    pub message: String,
}

/// Refuses a spec that cannot be run; the error names every key that is at fault.
pub fn validate(spec: &Spec) -> Result<(), SpecError> {
    let problems: Vec<Problem> = problems(spec)
        .into_iter()
        .map(|Wrong { key, message }| Problem { place: None, key, message })
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(SpecError::Wrong { file: "spec".into(), problems })
    }
}

/// Everything that is wrong, in the order of the keys.
pub(super) fn problems(spec: &Spec) -> Vec<Wrong> {
    let mut check = Check::default();
    check.general(spec);
    let names = check.nodes(spec);
    check.roles(spec, &names);
    check.cluster(spec);
    check.carrier(spec, &names);
    check.client(spec);
    check.workload(spec);
    check.nemesis(spec, &names);
    check.checkers(spec);
    check.0
}

#[derive(Default)]
struct Check(Vec<Wrong>);

impl Check {
    fn wrong(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Wrong { key: key.into(), message: message.into() });
    }

    fn require(&mut self, holds: bool, key: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.wrong(key, message());
        }
    }

    fn seconds(&mut self, key: &str, seconds: f64, zero: bool) {
        let fits = if zero { seconds >= 0.0 } else { seconds > 0.0 };
        self.require(fits && seconds <= SECONDS_MAX, key, || {
            let range = if zero { "0 or more" } else { "more than 0" };
            format!("{seconds} s: must be {range}, and at most a year")
        });
    }

    fn general(&mut self, spec: &Spec) {
        self.require(is_name(&spec.name), "name", || {
            format!(
                "{:?} names a folder: 1 to 100 of letters, digits, `-` and `_`, no slash",
                spec.name
            )
        });
        self.seconds("time_limit_s", spec.time_limit_s, false);
        self.require(spec.op_timeout_ms > 0, "op_timeout_ms", || {
            "0 ms: every operation would time out; must be more than 0".into()
        });
        if let Some(rate) = spec.rate {
            self.require(rate > 0.0 && rate.is_finite(), "rate", || {
                format!(
                    "{rate} operations a second: must be more than 0; leave it out for no limit"
                )
            });
        }
        self.seconds("warm_up_s", spec.warm_up_s, true);
        self.seconds("recovery_s", spec.recovery_s, true);
        self.require(
            spec.nemesis.is_empty()
                || spec.warm_up_s < spec.time_limit_s
                || spec.time_limit_s <= 0.0,
            "warm_up_s",
            || {
                format!(
                    "{} s without faults leave no time for any: the main phase lasts {} s",
                    spec.warm_up_s, spec.time_limit_s
                )
            },
        );
        self.require(!spec.store.is_empty(), "store", || "is empty: name a folder".into());
    }

    fn nodes(&mut self, spec: &Spec) -> Vec<String> {
        let count = match &spec.nodes {
            super::Nodes::Count(count) => *count as usize,
            super::Nodes::Names(names) => names.len(),
        };
        if count == 0 || count > NODES_MAX {
            self.wrong("nodes", format!("{count} nodes: must be 1 to {NODES_MAX}"));
            return Vec::new();
        }
        let names = spec.nodes.names();
        let mut seen = BTreeSet::new();
        for (i, name) in names.iter().enumerate() {
            let key = format!("nodes[{i}]");
            self.require(is_short_name(name), &key, || {
                format!("node name {name:?}: must be 1 to 40 of `a-z`, `0-9` and `_`")
            });
            self.require(seen.insert(name.as_str()), &key, || {
                format!("node name {name:?} is given twice")
            });
            let client_vm = name
                .strip_prefix('c')
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
            self.require(spec.placement == Placement::Node || !client_vm, &key, || {
                format!("node name {name:?} is that of a client VM (placement = \"client\")")
            });
        }
        match spec.concurrency.count(count) {
            None => self.wrong(
                "concurrency",
                format!(
                    "{:?}: must be a number (10) or a multiple of the nodes (\"2n\")",
                    concurrency_text(spec)
                ),
            ),
            Some(0) => self.wrong("concurrency", "0 processes would do nothing; at least 1"),
            Some(n) if n > CONCURRENCY_MAX => self
                .wrong("concurrency", format!("{n} processes: must be at most {CONCURRENCY_MAX}")),
            Some(_) => {}
        }
        names
    }

    fn cluster(&mut self, spec: &Spec) {
        let cluster = &spec.cluster;
        self.command("cluster.command", &cluster.command, false);
        for (name, value) in &cluster.env {
            let is_public = name.starts_with("ERL_") && name.ends_with("FLAGS");
            self.require(
                !is_public || !names_cookie(value),
                &format!("cluster.env.{name}"),
                || COOKIE_REFUSED.into(),
            );
            let fits = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
            self.require(fits, &format!("cluster.env.{name}"), || {
                "is not the name and value of an environment variable".into()
            });
        }
        if let Some(cookie) = &cluster.cookie {
            let fits = !cookie.is_empty()
                && cookie.len() <= 255
                && cookie.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
            self.require(fits, "cluster.cookie", || {
                format!("{cookie:?}: must be 1 to 255 of letters, digits, `_`, `-`, `.`")
            });
        }
        self.require(
            (1..=1_000_000).contains(&cluster.net_ticktime_s),
            "cluster.net_ticktime_s",
            || format!("{} s: must be 1 to 1000000", cluster.net_ticktime_s),
        );
        self.require(
            (4..=1000).contains(&cluster.net_tickintensity),
            "cluster.net_tickintensity",
            || format!("{}: the kernel takes 4 to 1000", cluster.net_tickintensity),
        );
        self.require(cluster.ready_timeout_ms > 0, "cluster.ready_timeout_ms", || {
            "0 ms: no node could ever be ready in time".into()
        });
        let mut seen = BTreeSet::new();
        for (i, port) in cluster.ports.iter().enumerate() {
            let key = format!("cluster.ports[{i}].name");
            self.require(is_short_name(&port.name), &key, || {
                format!("port name {:?}: must be 1 to 40 of `a-z`, `0-9` and `_`", port.name)
            });
            self.require(seen.insert(port.name.as_str()), &key, || {
                format!("port name {:?} is given twice", port.name)
            });
        }
        self.require(
            cluster.network == super::Network::Loopback || !spec.nemesis.capture,
            "nemesis.capture",
            || {
                "nodes in namespaces (cluster.network) reach each other past the link plane, which writes the \
                 capture: leave one of them out, or run tcpdump on the bridge"
                    .into()
            },
        );
        self.paths("cluster.code_paths", &cluster.code_paths);
    }

    fn client(&mut self, spec: &Spec) {
        let client = &spec.client;
        let module = client.module.as_str();
        if module.is_empty() {
            self.wrong(
                "client.module",
                "is missing: the module whose open, invoke and close perform the operations",
            );
        } else {
            self.require(is_module(module), "client.module", || {
                format!("{module:?} is not a module name: `MyApp.RegisterTest` or an Erlang atom")
            });
        }
        self.options("client.options", &client.options);
        self.require(
            spec.placement == Placement::Node || (1..=100).contains(&client.count),
            "client.count",
            || format!("{} client VMs: must be 1 to 100", client.count),
        );
        self.command("client.command", &client.command, true);
        self.paths("client.code_paths", &client.code_paths);
    }

    fn workload(&mut self, spec: &Spec) {
        let workload = &spec.workload;
        self.require(
            !workload.name.is_empty() || workload.generator.is_some(),
            "workload.name",
            || "is missing: name a workload, or give a generator of your own".into(),
        );
        self.options("workload.options", &workload.options);
        for (key, value) in [
            ("workload.generator", &workload.generator),
            ("workload.final_generator", &workload.final_generator),
        ] {
            self.require(!value.as_ref().is_some_and(has_null), key, || NO_NULL.into());
        }
    }

    fn nemesis(&mut self, spec: &Spec, nodes: &[String]) {
        let nemesis = &spec.nemesis;
        self.seconds("nemesis.interval_s", nemesis.interval_s, true);
        self.seconds("nemesis.era_s", nemesis.era_s, false);
        for (name, edge_ms) in &nemesis.boundaries.own {
            let key = format!("nemesis.boundaries.{name}");
            self.require(*edge_ms > 0.0 && *edge_ms <= SECONDS_MAX * 1e3, &key, || {
                format!("{edge_ms} ms: must be more than 0, and at most a year")
            });
            self.require(!BOUNDARIES.contains(&name.as_str()), &key, || {
                "is a boundary of the BEAM, read from the live nodes; use another name".into()
            });
            self.require(!name.starts_with(MINED_PREFIX), &key, || {
                "is the name of a boundary that is mined; use another".into()
            });
        }
        let with_none = nemesis.packages().iter().any(|word| word == NO_FAULTS);
        self.require(!with_none, "nemesis.packages", || {
            format!("`{NO_FAULTS}` stands alone: it means no faults")
        });
        self.paths("nemesis.boundaries.mined", &nemesis.boundaries.mined_from);
        if nemesis.schedule.as_deref() == Some("") {
            self.wrong("nemesis.schedule", "is empty: name a file, or leave it out");
        }
        for (i, fault) in nemesis.faults.iter().enumerate() {
            self.fault(&format!("nemesis.faults[{i}]"), fault, spec, nodes);
        }
    }

    fn fault(&mut self, key: &str, fault: &FaultSpec, spec: &Spec, nodes: &[String]) {
        let kind = fault.kind.name();
        let links = fault.kind.info().subject == Subject::Links;
        for (parameter, problem) in fault.kind.objections() {
            self.wrong(format!("{key}.{parameter}"), problem);
        }
        self.require(!fault.targets.is_empty(), &format!("{key}.targets"), || {
            "is empty: name at least one target".into()
        });
        for (i, target) in fault.targets.iter().enumerate() {
            self.target(&format!("{key}.targets[{i}]"), target, kind, links, nodes);
        }
        if let Some(scope) = &fault.scope {
            self.scope(&format!("{key}.scope"), scope, kind, links, spec);
        }
        self.require(links || !fault.one_way, &format!("{key}.one_way"), || {
            format!("`{kind}` happens to nodes, which have no direction")
        });
        if let Some(port) = &fault.port {
            self.port(&format!("{key}.port"), port, fault, spec);
        }
        self.duration(key, fault, spec);
        self.timing(key, fault, nodes);
        self.require(fault.weight > 0, &format!("{key}.weight"), || {
            "0 would never be drawn: leave the fault out".into()
        });
    }

    /// Patterns and events.
    fn timing(&mut self, key: &str, fault: &FaultSpec, nodes: &[String]) {
        let kind = fault.kind.name();
        let instant = matches!(fault.kind.info().lasts, Lasts::Instant);
        self.require(fault.pattern.is_none() || !instant, &format!("{key}.pattern"), || {
            format!("`{kind}` is an instant, and patterns are made of what lasts")
        });
        let Some(after) = &fault.after else { return };
        self.require(fault.pattern.is_none(), &format!("{key}.pattern"), || {
            "a fault with `after` is one: leave one of them out".into()
        });
        if let Some((name, problem)) = after.objection(nodes) {
            self.wrong(format!("{key}.after.{name}"), problem);
        }
        let longest = SECONDS_MAX * 1e3;
        self.require(after.delay_ms as f64 <= longest, &format!("{key}.after.delay_ms"), || {
            "is longer than a year".into()
        });
    }

    fn roles(&mut self, spec: &Spec, nodes: &[String]) {
        for (role, members) in &spec.roles {
            let key = format!("roles.{role}");
            self.require(is_short_name(role), &key, || {
                format!("role {role:?}: must be 1 to 40 of `a-z`, `0-9` and `_`")
            });
            self.members(&key, members, nodes);
        }
    }

    fn carrier(&mut self, spec: &Spec, nodes: &[String]) {
        if let Some(members) = &spec.cluster.carrier {
            self.members("cluster.carrier", members, nodes);
        }
    }

    /// Names of nodes, of which there must be some.
    fn members(&mut self, key: &str, members: &[String], nodes: &[String]) {
        let known: Vec<&str> = nodes.iter().map(String::as_str).collect();
        self.require(!members.is_empty(), key, || "names no node".into());
        for (i, node) in members.iter().enumerate() {
            self.require(
                known.is_empty() || known.contains(&node.as_str()),
                &format!("{key}[{i}]"),
                || format!("unknown node `{node}`; {}", suggest::hint(node, &known)),
            );
        }
    }

    /// A role, or two of them.
    fn scope(&mut self, key: &str, scope: &str, kind: &str, links: bool, spec: &Spec) {
        let known: Vec<&str> = spec.roles.keys().map(String::as_str).collect();
        for role in scope.split('-') {
            let message = match known.as_slice() {
                [] => format!("unknown role `{role}`: [roles] defines none"),
                _ => format!("unknown role `{role}`; {}", suggest::hint(role, &known)),
            };
            self.require(known.contains(&role), key, || message);
        }
        let roles = scope.split('-').count();
        self.require(roles == 1 || (roles == 2 && links), key, || {
            if links {
                format!("{roles} roles: links are within one or between two")
            } else {
                format!("`{kind}` happens to nodes: name one role, not links between two")
            }
        });
    }

    fn target(&mut self, key: &str, target: &Target, kind: &str, links: bool, nodes: &[String]) {
        let known: Vec<&str> = nodes.iter().map(String::as_str).collect();
        let node = |check: &mut Check, key: String, name: &str| {
            // Without nodes there is a problem already, and every name would be unknown.
            check.require(known.is_empty() || known.contains(&name), &key, || {
                format!("unknown node `{name}`; {}", suggest::hint(name, &known))
            });
        };
        match target {
            Target::Named(names) => {
                self.require(!names.is_empty(), &format!("{key}.named"), || {
                    "is empty: name at least one node".into()
                });
                for (i, name) in names.iter().enumerate() {
                    node(self, format!("{key}.named[{i}]"), name);
                }
            }
            Target::Links(pairs) => {
                self.require(links, key, || format!("`{kind}` happens to nodes and not to links"));
                self.require(!pairs.is_empty(), &format!("{key}.links"), || {
                    "is empty: name at least one link".into()
                });
                for (i, (from, to)) in pairs.iter().enumerate() {
                    node(self, format!("{key}.links[{i}][0]"), from);
                    node(self, format!("{key}.links[{i}][1]"), to);
                    self.require(from != to, &format!("{key}.links[{i}]"), || {
                        format!("`{from}` has no link to itself")
                    });
                }
            }
            Target::One
            | Target::Minority
            | Target::Majority
            | Target::Halves
            | Target::Ring
            | Target::Bridge
            | Target::Primaries
            | Target::All => {}
        }
    }

    fn port(&mut self, key: &str, port: &str, fault: &FaultSpec, spec: &Spec) {
        let kind = fault.kind.name();
        if matches!(&fault.kind, FaultKind::Net(net) if net.tcp_port().0.is_some()) {
            self.wrong(key, "`port` and `tcp_port` say the same: leave one of them out");
        }
        let known: Vec<&str> = spec.cluster.ports.iter().map(|port| port.name.as_str()).collect();
        let ticks = matches!(&fault.kind, FaultKind::Link(link) if link.needs_distribution());
        if fault.kind.info().subject != Subject::Links {
            self.wrong(key, format!("`{kind}` happens to nodes, not to the traffic of a port"));
        } else if ticks {
            self.wrong(key, format!("`{kind}`: only the distribution has ticks and messages"));
        } else if !fault.kind.info().port {
            let plane = fault.kind.plane();
            self.wrong(key, format!("`{kind}` of the {plane} plane is about the distribution"));
        } else if known.is_empty() {
            self.wrong(key, format!("unknown port `{port}`: [[cluster.ports]] defines none"));
        } else if !known.contains(&port) {
            self.wrong(key, format!("unknown port `{port}`; {}", suggest::hint(port, &known)));
        }
    }

    fn duration(&mut self, key: &str, fault: &FaultSpec, spec: &Spec) {
        if let Some(boundary) = &fault.boundary {
            let mut known = BOUNDARIES.to_vec();
            let user = &spec.nemesis.boundaries;
            known.extend(user.own.keys().map(String::as_str));
            known.extend(user.mined.then_some(MINED));
            let mined = user.mined && boundary.starts_with(MINED_PREFIX);
            self.require(
                mined || known.contains(&boundary.as_str()),
                &format!("{key}.boundary"),
                || format!("unknown boundary `{boundary}`; {}", suggest::hint(boundary, &known)),
            );
        }
        let Some(duration_ms) = fault.duration_ms else { return };
        let key_ms = format!("{key}.duration_ms");
        self.require(duration_ms > 0, &key_ms, || "0 ms: the fault would not happen".into());
        self.require(duration_ms as f64 <= SECONDS_MAX * 1e3, &key_ms, || {
            "is longer than a year".into()
        });
        self.require(fault.boundary.is_none() && fault.zones.is_empty(), &key_ms, || {
            "a fixed duration is not drawn: leave out `boundary` and `zones`, or `duration_ms`"
                .into()
        });
    }

    fn checkers(&mut self, spec: &Spec) {
        let Some(checkers) = &spec.checkers else { return };
        for (i, checker) in checkers.iter().enumerate() {
            self.require(!checker.name.is_empty(), &format!("checkers[{i}].name"), || {
                "is empty: `fuzz_dist check --list` shows the names".into()
            });
            self.options(&format!("checkers[{i}].options"), &checker.options);
        }
    }

    fn command(&mut self, key: &str, command: &[String], may_be_empty: bool) {
        match command.first() {
            None => self.require(may_be_empty, key, || "is empty: name a program".into()),
            Some(program) => self.require(!program.is_empty(), &format!("{key}[0]"), || {
                "is empty: name a program".into()
            }),
        }
        for (i, argument) in command.iter().enumerate() {
            self.require(!argument.contains('\0'), &format!("{key}[{i}]"), || {
                "holds a zero byte, which no argument can".into()
            });
            self.require(!names_cookie(argument), &format!("{key}[{i}]"), || COOKIE_REFUSED.into());
        }
    }

    fn paths(&mut self, key: &str, paths: &[String]) {
        for (i, path) in paths.iter().enumerate() {
            self.require(!path.is_empty() && !path.contains('\0'), &format!("{key}[{i}]"), || {
                "is not a path".into()
            });
        }
    }

    fn options(&mut self, key: &str, options: &Options) {
        for (name, value) in options {
            self.require(!has_null(value), &format!("{key}.{name}"), || NO_NULL.into());
        }
    }
}

/// Why a null is refused.
const NO_NULL: &str = "holds a null, which a spec cannot: leave the key out";

fn concurrency_text(spec: &Spec) -> String {
    match &spec.concurrency {
        super::Concurrency::Count(count) => count.to_string(),
        super::Concurrency::PerNode(text) => text.clone(),
    }
}

fn is_name(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn is_short_name(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// `MyApp.Test`, `Elixir.MyApp.Test`, `my_module`; an atom has at most 255 characters.
fn is_module(name: &str) -> bool {
    name.chars().count() <= 248
        && name.split('.').all(|part| {
            part.starts_with(|c: char| c.is_alphabetic())
                && part.chars().all(|c| c.is_alphanumeric() || "_@".contains(c))
        })
}
