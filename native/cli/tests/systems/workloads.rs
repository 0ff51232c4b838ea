//! The shipped workloads against systems whose behaviour under partitions is known.

use fuzz_dist_core::{OpType, Value};

use super::stage::{Run, Stage, int};

/// With a net tick of 2 s and intensity 4, silence is certainly unnoticed below 1 s and noticed above 2.5 s.
const SHORT_MS: u32 = 700;
const LONG_MS: u32 = 3500;

/// Three nodes, cut in halves again and again for so long.
fn run(folder: &str, module: &str, workload: &str, hold_ms: u32, more: &str) -> Run {
    let stage = Stage::set(&[&format!("{folder}/{folder}.ex")]);
    stage.spec(&format!(
        r#"
name = "{folder}"
nodes = 3
concurrency = "2n"
rate = 100.0
time_limit_s = 6
op_timeout_ms = 2000
warm_up_s = 0.5
recovery_s = 3.0
{more}

[cluster]
command = ["elixir", "--no-halt", "--erl", "-noinput", "-e", ":fuzz_dist_boot.start()"]
code_paths = ["code"]
net_ticktime_s = 2
ready_timeout_ms = 60000

[client]
module = "{module}"

[workload]
name = "{workload}"

[nemesis]
interval_s = 0.3

[[nemesis.faults]]
kind = "hold"
targets = ["halves"]
duration_ms = {hold_ms}
"#
    ));
    stage.run(None)
}

fn assert_noticed(run: &Run) {
    let reasons: Vec<&str> = run
        .sightings("nodedown")
        .iter()
        .map(|op| super::stage::text(&op.value, "reason"))
        .collect();
    assert!(reasons.contains(&"net_tick_timeout"), "{reasons:?}");
}

#[test]
fn a_gossiping_set_under_short_partitions() {
    let run = run("gossip_set", "GossipSet", "set", SHORT_MS, "");
    run.assert_verdict("valid");
    run.assert_faults_observed(2);
}

#[test]
fn a_gossiping_set_under_long_partitions() {
    let run = run("gossip_set", "GossipSet", "set", LONG_MS, "");
    run.assert_verdict("valid");
    run.assert_faults_observed(1);
    assert_noticed(&run);
    assert_eq!(run.checker("set-full")["verdict"], "valid");
}

/// While apart a node sends nothing to those it does not see, and what waits for a connection that breaks is gone:
/// those additions are never sent again, so that in the end nodes read different sums.
#[test]
fn a_naive_counter_under_long_partitions() {
    let run = run("naive_counter", "NaiveCounter", "pn_counter", LONG_MS, "");
    assert_noticed(&run);
    run.assert_faults_observed(1);
    run.assert_verdict("invalid");
    let anomalies = run.checker("pn-counter")["anomalies"].as_array().unwrap().clone();
    assert!(!anomalies.is_empty());
    // The finding is true: final reads of that key do differ between nodes, or lack what was acknowledged.
    let key = anomalies[0]["key"].as_str().unwrap();
    let (mut finals, mut sum, mut unsure) = (Vec::new(), 0, false);
    for (invoke, completion) in run.history.client_pairs() {
        let (of, value) = invoke.value.key_and_value().unwrap();
        if of.to_string() != key {
            continue;
        }
        let ok = completion.filter(|op| op.op_type == OpType::Ok);
        let sign = match invoke.f.as_str() {
            "increment" => 1,
            "decrement" => -1,
            _ if invoke.extra("final?") == Some(&Value::Bool(true)) => {
                finals.extend(ok.map(|op| op.value.key_and_value().unwrap().1.as_int().unwrap()));
                continue;
            }
            _ => continue,
        };
        unsure |= completion.is_none_or(|op| op.op_type == OpType::Info);
        sum += ok.map_or(0, |_| sign * value.as_int().unwrap());
    }
    let differ = finals.windows(2).any(|pair| pair[0] != pair[1]);
    let lacks = !unsure && finals.iter().any(|value| *value != sum);
    assert!(differ || lacks, "key {key}: {finals:?}, acknowledged {sum}: {anomalies:?}");
}

/// Nothing is lost on a link that only stalls, as long as no node gives up: the same counter is right.
#[test]
fn a_naive_counter_under_short_partitions() {
    let run = run("naive_counter", "NaiveCounter", "pn_counter", SHORT_MS, "");
    assert_eq!(run.sightings("nodedown").len(), 0);
    run.assert_faults_observed(2);
    // Its reads are those of one node, which knows its own additions at once and those of others later.
    run.assert_verdict("valid");
}

/// `global` lets each side register a name while they are apart, and kills one owner when they meet again. The
/// checker allows the first, demands the second, and tells how long there were two.
#[test]
fn a_global_registry_under_long_partitions() {
    let checkers = r#"checkers = [{ name = "registry", options = { grace-ms = 2500 } }]"#;
    let run = run("global_registry", "GlobalRegistry", "registry", LONG_MS, checkers);
    assert_noticed(&run);
    run.assert_faults_observed(1);
    let result = run.checker("registry");
    assert_eq!(result["verdict"], "valid", "{result:#}");
    run.assert_verdict("valid");
    // Two owners were acknowledged for some name while the halves were apart.
    let mut owners: std::collections::BTreeMap<String, Vec<&Value>> = Default::default();
    for (invoke, completion) in run.history.client_pairs() {
        if let Some(done) = completion.filter(|op| op.op_type == OpType::Ok)
            && invoke.f.as_str() == "register"
        {
            let (name, owner) = done.value.key_and_value().unwrap();
            owners.entry(name.to_string()).or_default().push(owner);
        }
    }
    let doubled = owners.values().filter(|owners| owners.len() > 1).count();
    assert!(doubled > 0, "{owners:?}");
    assert!(result["counts"]["double-ownership-ms-max"].as_u64().unwrap() > 0, "{result:#}");
    // And one of them did not survive the meeting: each name has one owner in the final look-ups.
    let final_ns = run.phase_ns("final");
    for (name, _) in owners.iter().filter(|(_, owners)| owners.len() > 1) {
        let mut last: Vec<String> = run
            .history
            .client_pairs()
            .filter_map(|(_, completion)| completion)
            .filter(|op| op.op_type == OpType::Ok && op.time_ns >= final_ns)
            .filter_map(|op| op.value.key_and_value())
            .filter(|(key, _)| key.to_string() == *name)
            .map(|(_, owner)| owner.to_string())
            .collect();
        last.dedup();
        assert_eq!(last.len(), 1, "{name}: {last:?}");
    }
    assert!(int(&run.records("nemesis", "fault-applied")[0].value, "late-us") < 1_000_000);
}
