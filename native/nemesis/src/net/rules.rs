//! The tables of rules: rendered, replaced in one transaction, and read back with their counters.
//!
//! Drops and classes of packets are rules of a chain of the `bridge` family, through which everything goes that passes
//! from one node to another. Resets are rules of the `netdev` family at the cable of whoever sends, since few kernels
//! have them for bridges. At the end of the chain stand rules that only count what passed, by which a heal is seen.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use fuzz_dist_core::clock::monotonic_ns;
use fuzz_dist_core::fault::{Direction, Link};
use serde_json::Value as Json;

use super::NetError;
use super::command::{run, run_with};

/// A TCP port, and which of its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The port.
    pub port: u16,
    /// To it, from it, or both.
    pub direction: Direction,
}

impl Ports {
    /// As nft matches them: one rule for each.
    fn matches(ports: Option<Ports>) -> Vec<String> {
        let Some(Ports { port, direction }) = ports else { return vec![String::new()] };
        let (to, from) = (format!("tcp dport {port} "), format!("tcp sport {port} "));
        match direction {
            Direction::Both => vec![to, from],
            Direction::ToPort => vec![to],
            Direction::FromPort => vec![from],
        }
    }

    /// For comments.
    fn name(ports: Option<Ports>) -> String {
        match ports {
            None => "all".into(),
            Some(Ports { port, direction: Direction::Both }) => port.to_string(),
            Some(Ports { port, direction: Direction::ToPort }) => format!("to{port}"),
            Some(Ports { port, direction: Direction::FromPort }) => format!("from{port}"),
        }
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody hears of it.
    Drop,
    /// Whoever sent it hears that there is no connection.
    Reset,
    /// It waits in a queue of the cable at its end: the minor number of the class.
    Class(u16),
}

/// An end of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its address.
    pub address: Ipv4Addr,
    /// The end of its cable at the bridge.
    pub cable: String,
}

/// Packets of one directed link to which one fault does something.
#[derive(Debug, Clone)]
pub struct Rule {
    pub fault: u32,
    pub link: Link,
    pub from: End,
    pub to: End,
    pub ports: Option<Ports>,
    pub verdict: Verdict,
    /// What it matched in tables before this one.
    pub packets_before: u64,
}

impl Rule {
    /// As it stands in the table, and again in what the kernel tells of it.
    fn comment(&self) -> String {
        format!("{} {} {}", self.fault, self.link.from, self.link.to)
    }

    /// What it has matched, with so many packets in the table in force.
    pub fn matched(&self, packets: u64) -> Matched {
        let queue = match self.verdict {
            Verdict::Class(minor) => Some((self.to.cable.clone(), minor)),
            Verdict::Drop | Verdict::Reset => None,
        };
        (self.link.clone(), self.packets_before + packets, queue)
    }

    fn addresses(&self) -> String {
        format!("ip saddr {} ip daddr {}", self.from.address, self.to.address)
    }
}

/// What is counted of a link although no fault does anything to it.
fn pass_comment(link: &Link, ports: Option<Ports>) -> String {
    format!("pass {} {} {}", link.from, link.to, Ports::name(ports))
}

/// A link, packets of it, and the queue that they went to.
pub type Matched = (Link, u64, Option<(String, u16)>);

/// Packets that rules of the tables in force have matched, by their comments.
pub type Counted = BTreeMap<String, u64>;

/// A link whose packets are counted, with the addresses of its ends, and what was counted in tables before.
#[derive(Debug, Clone)]
struct Watched {
    from: Ipv4Addr,
    to: Ipv4Addr,
    ports: Option<Ports>,
    packets_before: u64,
}

/// The rules of a run.
#[derive(Debug, Clone)]
pub struct Rules {
    table: String,
    rules: Vec<Rule>,
    watched: BTreeMap<String, Watched>,
    /// Whether there is a table at the cables too.
    resets: bool,
}

impl Rules {
    /// None yet.
    pub fn new(table: String) -> Rules {
        Rules { table, rules: Vec::new(), watched: BTreeMap::new(), resets: false }
    }

    /// Whether no fault does anything.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether this fault does anything.
    pub fn has(&self, fault: u32) -> bool {
        self.rules.iter().any(|rule| rule.fault == fault)
    }

    /// Whether a fault does anything to a link.
    pub fn touches(&self, link: &Link) -> bool {
        self.rules.iter().any(|rule| rule.link == *link)
    }

    /// Changes them, all at once; if that fails they are as before. What is changed has all counts up to now in
    /// [`Rule::packets_before`]. When, as [`Rules::put_in_force`].
    pub fn change(&mut self, change: impl FnOnce(&mut Vec<Rule>)) -> Result<u64, NetError> {
        let before = self.clone();
        // A new table counts from nothing.
        if !self.watched.is_empty() {
            let counted = self.read()?;
            for rule in &mut self.rules {
                rule.packets_before += packets_of(&counted, &rule.comment());
            }
            for (comment, watched) in &mut self.watched {
                watched.packets_before += packets_of(&counted, comment);
            }
        }
        change(&mut self.rules);
        for rule in &self.rules {
            let watched = Watched {
                from: rule.from.address,
                to: rule.to.address,
                ports: rule.ports,
                packets_before: 0,
            };
            self.watched.entry(pass_comment(&rule.link, rule.ports)).or_insert(watched);
        }
        let done = self.put_in_force();
        if done.is_err() {
            *self = before;
        }
        done
    }

    /// Replaces the tables. `CLOCK_MONOTONIC` at which the kernel was asked, some milliseconds before it does it:
    /// what nodes notice of it is never earlier.
    pub fn put_in_force(&mut self) -> Result<u64, NetError> {
        let had_resets = self.resets;
        self.resets = self.rules.iter().any(|rule| rule.verdict == Verdict::Reset);
        let mut text = self.render_bridge();
        if had_resets || self.resets {
            text.push_str(&self.render_cables());
        }
        let asked_ns = monotonic_ns();
        run_with("nft -f -", &text)?;
        Ok(asked_ns)
    }

    /// The table as `nft -f` reads it. Adding it first makes its deletion succeed whether it was there or not.
    fn render_bridge(&self) -> String {
        let table = &self.table;
        let mut text = format!("add table bridge {table}\ndelete table bridge {table}\n");
        let hook = "type filter hook forward priority 0; policy accept;";
        let _ = writeln!(text, "table bridge {table} {{\n  chain forward {{\n    {hook}");
        // Of several queues for a packet the last one counts, of drops any.
        let (classes, drops): (Vec<&Rule>, Vec<&Rule>) =
            self.rules.iter().partition(|rule| matches!(rule.verdict, Verdict::Class(_)));
        for rule in drops.into_iter().chain(classes) {
            let verdict = match rule.verdict {
                Verdict::Drop => "counter drop".to_owned(),
                Verdict::Class(minor) => format!("meta priority set 1:{minor:x} counter"),
                Verdict::Reset => continue,
            };
            let (addresses, comment) = (rule.addresses(), rule.comment());
            for port in Ports::matches(rule.ports) {
                let _ = writeln!(text, "    {addresses} {port}{verdict} comment \"{comment}\"");
            }
        }
        for (comment, Watched { from, to, ports, .. }) in &self.watched {
            for port in Ports::matches(*ports) {
                let matches = format!("ip saddr {from} ip daddr {to} {port}");
                let _ = writeln!(text, "    {matches}counter comment \"{comment}\"");
            }
        }
        text.push_str("  }\n}\n");
        text
    }

    /// The table of resets, with a chain for each cable that has some.
    fn render_cables(&self) -> String {
        let table = &self.table;
        let mut text = format!("add table netdev {table}\ndelete table netdev {table}\n");
        let mut chains: BTreeMap<&str, String> = BTreeMap::new();
        for rule in self.rules.iter().filter(|rule| rule.verdict == Verdict::Reset) {
            let chain = chains.entry(&rule.from.cable).or_default();
            let (addresses, comment) = (rule.addresses(), rule.comment());
            for port in Ports::matches(rule.ports) {
                let verdict = "meta l4proto tcp counter reject with tcp reset";
                let _ = writeln!(chain, "    {addresses} {port}{verdict} comment \"{comment}\"");
            }
        }
        if chains.is_empty() {
            return text;
        }
        let _ = writeln!(text, "table netdev {table} {{");
        for (cable, rules) in chains {
            let hook =
                format!("type filter hook ingress device \"{cable}\" priority 0; policy accept;");
            let _ = write!(text, "  chain {cable} {{\n    {hook}\n{rules}  }}\n");
        }
        text.push_str("}\n");
        text
    }

    /// How many packets a fault has matched on each of its links, and the queue of each: its cable and minor number.
    pub fn matched(&self, fault: u32, counted: &Counted) -> Vec<Matched> {
        let of_fault = self.rules.iter().filter(|rule| rule.fault == fault);
        of_fault.map(|rule| rule.matched(packets_of(counted, &rule.comment()))).collect()
    }

    /// How many packets have passed a link since a fault touched it for the first time.
    pub fn passed(&self, link: &Link, ports: Option<Ports>, counted: &Counted) -> u64 {
        let comment = pass_comment(link, ports);
        let before = self.watched.get(&comment).map_or(0, |watched| watched.packets_before);
        before + packets_of(counted, &comment)
    }

    /// What the tables in force have counted.
    pub fn read(&self) -> Result<Counted, NetError> {
        let mut counted = read_table("bridge", &self.table)?;
        if self.resets {
            for (comment, packets) in read_table("netdev", &self.table)? {
                *counted.entry(comment).or_default() += packets;
            }
        }
        Ok(counted)
    }
}

fn read_table(family: &str, table: &str) -> Result<Counted, NetError> {
    let command = format!("nft -j list table {family} {table}");
    let text = run(&command)?;
    parse(&text).map_err(|reason| NetError::Command { command, reason })
}

fn packets_of(counted: &Counted, comment: &str) -> u64 {
    counted.get(comment).copied().unwrap_or_default()
}

fn parse(text: &str) -> Result<Counted, String> {
    let json: Json = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let entries = json["nftables"].as_array().ok_or("its answer lists nothing")?;
    let mut counted = Counted::new();
    for rule in entries.iter().filter_map(|entry| entry.get("rule")) {
        let Some(comment) = rule["comment"].as_str() else { continue };
        let mut parts = rule["expr"].as_array().into_iter().flatten();
        let packets = parts.find_map(|part| part["counter"]["packets"].as_u64()).unwrap_or(0);
        *counted.entry(comment.to_owned()).or_default() += packets;
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(fault: u32, ports: Option<Ports>, verdict: Verdict) -> Rule {
        let link = Link { from: "n1".into(), to: "n2".into() };
        let end = |number| End {
            address: Ipv4Addr::new(10, 200, 0, number),
            cable: format!("fdv{number}"),
        };
        Rule { fault, link, from: end(1), to: end(2), ports, verdict, packets_before: 0 }
    }

    fn rules(rules: Vec<Rule>) -> Rules {
        Rules { rules, ..Rules::new("t".into()) }
    }

    fn at(port: u16, direction: Direction) -> Option<Ports> {
        Some(Ports { port, direction })
    }

    const LINK: &str = "ip saddr 10.200.0.1 ip daddr 10.200.0.2";

    #[test]
    fn a_table_is_replaced_as_a_whole() {
        let drop = Verdict::Drop;
        let text = rules(vec![
            rule(6, None, Verdict::Class(0x1f)),
            rule(7, None, drop),
            rule(8, at(5672, Direction::Both), drop),
            rule(9, at(5672, Direction::FromPort), drop),
        ])
        .render_bridge();
        assert!(text.starts_with("add table bridge t\ndelete table bridge t\ntable bridge t {"));
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|l| l.contains("saddr")).collect();
        assert_eq!(
            lines,
            [
                format!("{LINK} counter drop comment \"7 n1 n2\""),
                format!("{LINK} tcp dport 5672 counter drop comment \"8 n1 n2\""),
                format!("{LINK} tcp sport 5672 counter drop comment \"8 n1 n2\""),
                format!("{LINK} tcp sport 5672 counter drop comment \"9 n1 n2\""),
                format!("{LINK} meta priority set 1:1f counter comment \"6 n1 n2\""),
            ]
        );
    }

    #[test]
    fn resets_stand_at_the_cable_of_whoever_sends() {
        let text = rules(vec![rule(3, at(80, Direction::ToPort), Verdict::Reset)]).render_cables();
        assert!(text.starts_with("add table netdev t\ndelete table netdev t\ntable netdev t {"));
        assert!(
            text.contains("chain fdv1 {\n    type filter hook ingress device \"fdv1\" priority 0;")
        );
        let verdict = "meta l4proto tcp counter reject with tcp reset comment \"3 n1 n2\"";
        assert!(text.contains(&format!("{LINK} tcp dport 80 {verdict}")), "{text}");
        // Without any the table goes.
        assert_eq!(
            rules(Vec::new()).render_cables(),
            "add table netdev t\ndelete table netdev t\n"
        );
    }

    #[test]
    fn counters_are_read_by_comment() {
        let text = r#"{"nftables": [{"metainfo": {}}, {"rule": {"comment": "8 n1 n2",
            "expr": [{"match": {}}, {"counter": {"packets": 3, "bytes": 180}}, {"drop": null}]}},
            {"rule": {"comment": "8 n1 n2", "expr": [{"counter": {"packets": 2, "bytes": 0}}]}}]}"#;
        let counted = parse(text).unwrap();
        assert_eq!((packets_of(&counted, "8 n1 n2"), packets_of(&counted, "9 n1 n2")), (5, 0));
        assert!(parse("{}").is_err() && parse("").is_err());
        let rules = rules(vec![Rule { packets_before: 4, ..rule(8, None, Verdict::Drop) }]);
        let link = Link { from: "n1".into(), to: "n2".into() };
        assert_eq!(rules.matched(8, &counted), [(link.clone(), 9, None)]);
        assert_eq!(rules.passed(&link, None, &counted), 0);
    }
}
