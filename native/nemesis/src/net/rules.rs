//! The table of rules: rendered, replaced in one transaction, and read back with its counters.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use fuzz_dist_core::fault::Link;
use serde_json::Value as Json;

use super::{NetError, run, run_with};

/// Packets of one directed link that one fault drops.
#[derive(Debug, Clone)]
pub struct Rule {
    pub fault: u32,
    pub link: Link,
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    /// Only those from or to this TCP port.
    pub port: Option<u16>,
    /// What it dropped in tables before this one.
    pub packets_before: u64,
}

impl Rule {
    /// As it stands in the table, and again in what the kernel tells of it.
    fn comment(&self) -> String {
        format!("{} {} {}", self.fault, self.link.from, self.link.to)
    }
}

/// The rules of a run.
#[derive(Debug)]
pub struct Rules {
    table: String,
    rules: Vec<Rule>,
}

impl Rules {
    /// None yet.
    pub fn new(table: String) -> Rules {
        Rules { table, rules: Vec::new() }
    }

    /// Changes them, all at once.
    pub fn change(&mut self, change: impl FnOnce(&mut Vec<Rule>)) -> Result<(), NetError> {
        let before = self.rules.clone();
        // A new table counts from nothing.
        self.carry_counters()?;
        change(&mut self.rules);
        let done = self.put_in_force();
        if done.is_err() {
            self.rules = before;
        }
        done
    }

    /// Replaces the table.
    pub fn put_in_force(&self) -> Result<(), NetError> {
        run_with("nft -f -", &self.render()).map(drop)
    }

    /// The table as `nft -f` reads it. Adding it first makes its deletion succeed whether it was there or not.
    fn render(&self) -> String {
        let table = &self.table;
        let mut text = format!("add table bridge {table}\ndelete table bridge {table}\n");
        let hook = "type filter hook forward priority 0; policy accept;";
        let _ = writeln!(text, "table bridge {table} {{\n  chain forward {{\n    {hook}");
        for rule in &self.rules {
            let (from, to, comment) = (rule.from, rule.to, rule.comment());
            let ports = match rule.port {
                None => vec![String::new()],
                // The port of whoever listens, at either end.
                Some(port) => vec![format!("tcp dport {port} "), format!("tcp sport {port} ")],
            };
            for port in ports {
                let matches = format!("ip saddr {from} ip daddr {to} {port}");
                let _ = writeln!(text, "    {matches}counter drop comment \"{comment}\"");
            }
        }
        text.push_str("  }\n}\n");
        text
    }

    fn carry_counters(&mut self) -> Result<(), NetError> {
        let counted = self.read()?;
        for rule in &mut self.rules {
            rule.packets_before += packets_of(&counted, &rule.comment());
        }
        Ok(())
    }

    /// What a fault has dropped.
    pub fn dropped(&self, fault: u32) -> Result<Vec<(Link, u64)>, NetError> {
        let counted = self.read()?;
        let of_fault = self.rules.iter().filter(|rule| rule.fault == fault);
        let packets = |rule: &Rule| rule.packets_before + packets_of(&counted, &rule.comment());
        Ok(of_fault.map(|rule| (rule.link.clone(), packets(rule))).collect())
    }

    /// Comments of the rules in force with the packets that each has matched.
    fn read(&self) -> Result<Vec<(String, u64)>, NetError> {
        let command = format!("nft -j list table bridge {}", self.table);
        let text = run(&command)?;
        parse(&text).map_err(|reason| NetError::Command { command, reason })
    }
}

fn packets_of(counted: &[(String, u64)], comment: &str) -> u64 {
    counted.iter().filter(|(found, _)| found == comment).map(|(_, packets)| packets).sum()
}

fn parse(text: &str) -> Result<Vec<(String, u64)>, String> {
    let json: Json = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let entries = json["nftables"].as_array().ok_or("its answer lists nothing")?;
    let rules = entries.iter().filter_map(|entry| entry.get("rule"));
    let counted = rules.filter_map(|rule| {
        let comment = rule["comment"].as_str()?.to_owned();
        let mut parts = rule["expr"].as_array()?.iter();
        let packets = parts.find_map(|part| part["counter"]["packets"].as_u64())?;
        Some((comment, packets))
    });
    Ok(counted.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(fault: u32, port: Option<u16>) -> Rule {
        let link = Link { from: "n1".into(), to: "n2".into() };
        let address = |number| Ipv4Addr::new(10, 200, 0, number);
        Rule { fault, link, from: address(1), to: address(2), port, packets_before: 0 }
    }

    #[test]
    fn a_table_is_replaced_as_a_whole() {
        let rules = Rules { table: "t".into(), rules: vec![rule(7, None), rule(8, Some(5672))] };
        let text = rules.render();
        assert!(text.starts_with("add table bridge t\ndelete table bridge t\ntable bridge t {"));
        let drop = "counter drop comment \"8 n1 n2\"";
        for line in [
            "ip saddr 10.200.0.1 ip daddr 10.200.0.2 counter drop comment \"7 n1 n2\"".to_owned(),
            format!("ip saddr 10.200.0.1 ip daddr 10.200.0.2 tcp dport 5672 {drop}"),
            format!("ip saddr 10.200.0.1 ip daddr 10.200.0.2 tcp sport 5672 {drop}"),
        ] {
            assert!(text.lines().any(|found| found.trim() == line), "{line} in {text}");
        }
    }

    #[test]
    fn counters_are_read_by_comment() {
        let text = r#"{"nftables": [{"metainfo": {}}, {"rule": {"comment": "8 n1 n2",
            "expr": [{"match": {}}, {"counter": {"packets": 3, "bytes": 180}}, {"drop": null}]}},
            {"rule": {"comment": "8 n1 n2", "expr": [{"counter": {"packets": 2, "bytes": 0}}]}}]}"#;
        let counted = parse(text).unwrap();
        assert_eq!((packets_of(&counted, "8 n1 n2"), packets_of(&counted, "9 n1 n2")), (5, 0));
        assert!(parse("{}").is_err() && parse("").is_err());
    }
}
