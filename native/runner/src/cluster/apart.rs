//! Why nodes do not connect to each other, as far as their output tells.
//!
//! A node that refuses another writes why (TLS alerts, wrong cookies, flags that the other lacks), and its
//! `net_kernel:connect_node/1` says only `false`. So the lines are looked for in the output of every node
//! that misses another, and what they mean is said once, with one of the lines.

use std::collections::BTreeMap;

use super::Cluster;
use super::diagnosis::Output;

/// Parts that a line must have, in this order, and what such a line means.
const CAUSES: &[(&[&str], &str)] = &[
    (
        &["TLS ", "ALERT"],
        "the TLS handshake between the nodes fails: their certificates, or the options of \
         -ssl_dist_optfile, do not suit their Erlang/OTP (newer ones verify peers by default and refuse \
         SHA-1)",
    ),
    (
        &["Connection attempt", "Invalid challenge reply"],
        "the nodes have different cookies: does the command set one of its own?",
    ),
    (
        &["Connection attempt", "disallowed node"],
        "net_kernel:allow/1 excludes nodes of the cluster",
    ),
    (
        &["Connection attempt", "cannot handle"],
        "the nodes run releases of Erlang/OTP that cannot be connected to each other",
    ),
    (
        &["Connection attempt", "different"],
        "a node has another name than the one it is reached under (see cluster.naming)",
    ),
    (
        &["global: ", "overlapping partitions"],
        "`global` disconnects nodes that do not all see each other (prevent_overlapping_partitions)",
    ),
];

/// Without such a line.
const OTHERWISE: &str = "their output does not say why; flags of their command such as -hidden, \
                         -proto_dist, -connect_all and -kernel dist_auto_connect, or an own cookie, keep \
                         nodes apart";

/// The last line of a text that has one of the causes in it, with its continuation, and the cause.
fn find(text: &str) -> Option<(&'static str, String)> {
    let mut found = None;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((_, cause)) = CAUSES.iter().find(|(parts, _)| has_in_order(line, parts)) else {
            continue;
        };
        let mut quoted = line.trim_end().to_owned();
        // As OTP formats an alert: the reason is on the next line.
        if let Some(reason) = lines.next_if(|next| next.trim_start().starts_with("- ")) {
            quoted = format!("{quoted} {}", reason.trim());
        }
        found = Some((*cause, quoted));
    }
    found
}

fn has_in_order(line: &str, parts: &[&str]) -> bool {
    let mut rest = line;
    parts.iter().all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// Who sees whom, in words.
fn in_words(seen: &BTreeMap<String, Vec<String>>, nodes: &[String]) -> String {
    let of_one = |node: &String| match seen.get(node).map(Vec::as_slice) {
        None => format!("{node} does not answer"),
        Some([]) => format!("{node} sees no other"),
        Some(others) => format!("{node} sees {}", others.join(" and ")),
    };
    nodes.iter().map(of_one).collect::<Vec<_>>().join(", ")
}

impl Cluster {
    /// Who sees whom, and why not all see all: for a message.
    pub fn explain_apart(&self, seen: &BTreeMap<String, Vec<String>>) -> String {
        let nodes = self.names();
        // By cause, so that what all write is said once.
        let mut causes: BTreeMap<&str, (String, String)> = BTreeMap::new();
        for place in &self.inner.nodes {
            if seen.get(&place.short).is_some_and(|others| others.len() + 1 >= nodes.len()) {
                continue;
            }
            let start = self.inner.vm(&place.short).map_or(0, |vm| vm.output_start);
            if let Some((cause, line)) = find(Output::read(&place.output(), start).text()) {
                causes.entry(cause).or_insert((place.output().display().to_string(), line));
            }
        }
        let mut text = in_words(seen, &nodes);
        if causes.is_empty() {
            text.push_str(&format!("\nLikely cause: {OTHERWISE}."));
        }
        for (cause, (file, line)) in causes {
            text.push_str(&format!("\nLikely cause: {cause}.\nIn {file}:\n  | {line}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_otp_and_elixir_write_is_recognised_with_its_reason() {
        let erlang = "x\n=NOTICE REPORT==== 1-Dec-2026::04:39:30.328931 ===\n\
             TLS server: In state hello at ssl_handshake.erl:1678 generated SERVER ALERT: Fatal - \
             Insufficient Security\n - no_suitable_signature_algorithm\nlast\n";
        let (cause, line) = find(erlang).unwrap();
        assert!(cause.contains("TLS handshake"), "{cause}");
        assert!(
            line.ends_with("Insufficient Security - no_suitable_signature_algorithm"),
            "{line}"
        );

        let elixir = "12:00:00.000 [notice] TLS :client: In state :wait_cert received SERVER ALERT: \
             Fatal - Unknown CA\n";
        assert!(find(elixir).unwrap().1.ends_with("Unknown CA"));

        let cookie =
            "** Connection attempt from node 'a@127.0.0.1' rejected. Invalid challenge reply. **";
        assert!(find(cookie).unwrap().0.contains("cookies"));
        assert_eq!(find("ALERT: TLS \n - no\nready"), None, "parts in another order");
    }

    #[test]
    fn who_sees_whom_is_said_in_words() {
        let names = ["n1", "n2", "n3", "n4"].map(str::to_owned);
        let seen = BTreeMap::from([
            ("n1".to_owned(), vec![]),
            ("n2".to_owned(), vec!["n3".to_owned()]),
            ("n3".to_owned(), vec!["n2".to_owned(), "n4".to_owned()]),
        ]);
        assert_eq!(
            in_words(&seen, &names),
            "n1 sees no other, n2 sees n3, n3 sees n2 and n4, n4 does not answer"
        );
    }
}
