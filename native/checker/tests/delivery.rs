//! `delivery` on histories with known answers: every anomaly by its name, and what must not be taken for
//! one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::check;
use fuzz_dist_core::{CheckResult, Verdict, interop};
use serde_json::{Value as Json, json};

/// `process type f value` in each line; `process f value` invokes and succeeds, with `value -> result`.
fn run(options: Json, lines: &[&str]) -> CheckResult {
    let mut text = String::new();
    let mut push = |process: &str, op_type: &str, f: &str, value: &str| {
        text += &format!("{{:process {process}, :type :{op_type}, :f :{f}, :value {value}}}\n");
    };
    for line in lines {
        let parts: Vec<&str> = line.splitn(3, ' ').collect();
        if ["invoke", "ok", "info", "fail"].contains(&parts[1]) {
            let (f, value) = parts[2].split_once(' ').unwrap();
            push(parts[0], parts[1], f, value);
        } else {
            let (value, result) = parts[2].split_once(" -> ").unwrap_or((parts[2], parts[2]));
            push(parts[0], "invoke", parts[1], value);
            push(parts[0], "ok", parts[1], result);
        }
    }
    let loaded = interop::load_bytes("test.edn", text.as_bytes(), None);
    check("delivery", options, &loaded.unwrap_or_else(|e| panic!("{e}\n{text}")).history)
}

fn names(result: &CheckResult) -> Vec<&str> {
    let mut names: Vec<&str> =
        result.anomalies.iter().map(|anomaly| anomaly.name.as_str()).collect();
    names.dedup();
    names
}

#[track_caller]
fn finds(options: Json, lines: &[&str], wanted: &[&str]) {
    let result = run(options, lines);
    assert_eq!(names(&result), wanted, "{}", result.reason);
    assert_eq!(result.verdict, Verdict::Invalid);
    assert!(
        result.anomalies.iter().all(|anomaly| !anomaly.text.is_empty() && !anomaly.ops.is_empty())
    );
}

#[track_caller]
fn is(verdict: Verdict, options: Json, lines: &[&str]) {
    let result = run(options, lines);
    assert_eq!(result.verdict, verdict, "{} {:?}", result.reason, names(&result));
}

const QUIET: &[&str] = &[
    "0 publish [1 :p 0]",
    "0 publish [2 :p 1]",
    "1 consume nil -> [1 :p 0 false]",
    "1 ack 1",
    "1 get nil -> [2 :p 1 false]",
    "1 ack 2",
    "1 disconnect nil",
    "2 drain nil -> []",
];

#[test]
fn a_queue_that_keeps_its_promises_is_valid() {
    for delivery in ["at-most-once", "at-least-once", "exactly-once"] {
        for ordering in ["none", "per-producer", "per-queue"] {
            let options =
                json!({"delivery": delivery, "ordering": ordering, "redelivered-flag": true});
            is(Verdict::Valid, options, QUIET);
        }
    }
}

#[test]
fn what_was_confirmed_and_never_comes_is_lost() {
    let gone = ["0 publish 1", "0 publish 2", "1 get nil -> 2", "1 ack 2", "2 drain nil -> []"];
    finds(json!({}), &gone, &["lost"]);
    is(Verdict::Valid, json!({"delivery": "at-most-once"}), &gone);
    // An empty look is enough where nobody consumes ahead.
    finds(
        json!({}),
        &["0 publish 1", "0 publish 2", "1 get nil -> 2", "1 ack 2", "1 get nil -> nil"],
        &["lost"],
    );
    let ahead = ["0 publish 1", "0 publish 2", "1 consume nil -> 2", "1 ack 2", "2 get nil -> nil"];
    is(Verdict::Unknown, json!({"ordering": "none"}), &ahead);
    // Not confirmed: it may not be there.
    let unconfirmed =
        ["0 invoke publish 1", "0 info publish 1", "3 publish 2", "2 drain nil -> [2]"];
    is(Verdict::Valid, json!({}), &unconfirmed);
    // Confirmed only when the queue was being drained.
    let late = ["3 publish 2", "0 invoke publish 1", "2 drain nil -> [2]", "0 ok publish 1"];
    is(Verdict::Unknown, json!({}), &late);
    // Nobody looked.
    is(Verdict::Unknown, json!({}), &["0 publish 1", "1 get nil -> 1", "1 ack 1", "0 publish 2"]);
}

#[test]
fn an_operation_that_does_not_know_may_have_got_it() {
    let lines = |f: &str| {
        vec![
            "0 publish 1".to_owned(),
            "0 publish 2".to_owned(),
            "1 get nil -> 2".to_owned(),
            "1 ack 2".to_owned(),
            format!("3 invoke {f} nil"),
            format!("3 info {f} nil"),
            "2 drain nil -> []".to_owned(),
        ]
    };
    let verdict = |options: Json, f: &str| {
        run(options, &lines(f).iter().map(String::as_str).collect::<Vec<_>>()).verdict
    };
    // Not settled, so it was in the queue again when that was drained.
    assert_eq!(verdict(json!({}), "get"), Verdict::Invalid);
    assert_eq!(verdict(json!({"auto-ack": true}), "get"), Verdict::Unknown);
    assert_eq!(verdict(json!({}), "drain"), Verdict::Unknown);
    // One can only have got one.
    let mut two = lines("get");
    two.insert(0, "0 publish 0".to_owned());
    let result =
        run(json!({"auto-ack": true}), &two.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((result.verdict, result.counts["lost"]), (Verdict::Invalid, 2));
}

#[test]
fn what_the_client_acknowledged_itself_is_done_with_and_may_come_again() {
    let got = ["0 publish 1", "1 get nil -> 1", "2 drain nil -> []"];
    is(Verdict::Unknown, json!({}), &got);
    is(Verdict::Valid, json!({"client-ack": true}), &got);
    let again = ["0 publish 1", "1 get nil -> 1", "1 get nil -> 1", "2 drain nil -> [1]"];
    is(Verdict::Valid, json!({"client-ack": true}), &again);
    // Who does not know what he got has acknowledged nothing: it was back before the drain.
    let lost = ["0 publish 1", "1 invoke get nil", "1 info get nil", "2 drain nil -> []"];
    let lost: Vec<&str> = ["0 publish 2", "3 get nil -> 2"].into_iter().chain(lost).collect();
    finds(json!({"client-ack": true}), &lost, &["lost"]);
}

#[test]
fn a_message_comes_no_more_once_it_is_settled() {
    let again = ["0 publish 1", "1 get nil -> 1", "1 ack 1", "2 drain nil -> [1]"];
    finds(json!({}), &again, &["redelivered-after-settle"]);
    finds(
        json!({}),
        &["0 publish 1", "1 get nil -> 1", "1 discard 1", "2 get nil -> 1", "2 ack 1"],
        &["redelivered-after-settle"],
    );
    finds(
        json!({"auto-ack": true}),
        &["0 publish 1", "1 get nil -> 1", "2 get nil -> 1"],
        &["redelivered-after-settle"],
    );
    for unheard in [
        &["1 invoke ack 1", "1 info ack 1"][..],
        &["1 invoke ack 1", "1 fail ack 1", "1 disconnect nil"],
        &["1 nack 1"],
        &["1 crash nil"],
    ] {
        for delivery in ["at-least-once", "exactly-once"] {
            let mut lines = vec!["0 publish 1", "1 get nil -> 1"];
            lines.extend(unheard);
            lines.push("2 drain nil -> [1]");
            is(Verdict::Valid, json!({"delivery": delivery}), &lines);
        }
    }
    // Delivered while the acknowledgement was under way.
    let meanwhile = [
        "0 publish 1",
        "1 get nil -> 1",
        "1 invoke ack 1",
        "2 invoke get nil",
        "1 ok ack 1",
        "2 ok get 1",
        "2 ack 1",
    ];
    is(Verdict::Valid, json!({}), &meanwhile);
    // Published twice, so it may come twice.
    let twice =
        ["0 publish 1", "0 publish 1", "1 get nil -> 1", "1 ack 1", "2 get nil -> 1", "2 ack 1"];
    is(Verdict::Valid, json!({}), &twice);
}

#[test]
fn twice_for_no_reason_is_duplicated() {
    let twice = ["0 publish 1", "1 get nil -> 1", "2 get nil -> 1", "1 ack 1"];
    finds(json!({"delivery": "exactly-once"}), &twice, &["duplicated"]);
    finds(json!({"delivery": "at-most-once"}), &twice, &["duplicated"]);
    is(Verdict::Valid, json!({"delivery": "at-least-once"}), &twice);
    // Given back once, so it may come once more, and not twice.
    let thrice = [
        "0 publish 1",
        "1 get nil -> 1",
        "1 nack 1",
        "2 get nil -> 1",
        "3 get nil -> 1",
        "3 ack 1",
    ];
    finds(json!({"delivery": "exactly-once"}), &thrice, &["duplicated"]);
    is(
        Verdict::Valid,
        json!({"delivery": "exactly-once"}),
        &["0 publish 1", "1 get nil -> 1", "1 nack 1", "2 get nil -> 1", "2 ack 1"],
    );
}

#[test]
fn a_redelivery_says_so() {
    let lines = [
        "0 publish [1 :p 0]",
        "1 get nil -> [1 :p 0 false]",
        "1 nack 1",
        "2 drain nil -> [[1 :p 0 false]]",
    ];
    finds(json!({"redelivered-flag": true}), &lines, &["redelivered-flag-wrong"]);
    is(Verdict::Valid, json!({}), &lines);
}

#[test]
fn each_consumer_gets_the_messages_of_a_producer_in_order() {
    let swapped = |first: &str, second: &str| {
        vec![
            first.to_owned(),
            second.to_owned(),
            "1 get nil -> 2".into(),
            "1 ack 2".into(),
            "1 get nil -> 1".into(),
            "1 ack 1".into(),
        ]
    };
    let run_them = |options: Json, lines: &[String]| {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let result = run(options, &lines);
        (result.verdict, names(&result).join(" "))
    };
    let reordered = (Verdict::Invalid, "reordered".to_owned());
    let valid = (Verdict::Valid, String::new());
    let one = swapped("0 publish 1", "0 publish 2");
    assert_eq!(run_them(json!({}), &one), reordered);
    assert_eq!(run_them(json!({"ordering": "none"}), &one), valid);
    let two = swapped("0 publish 1", "3 publish 2");
    assert_eq!(run_them(json!({}), &two), valid);
    assert_eq!(run_them(json!({"ordering": "per-queue"}), &two), reordered);
    // A producer with a name of its own, and a sequence.
    let named = swapped(
        "0 publish {:id 1, :producer :p, :sequence 0}",
        "3 publish {:id 2, :producer :p, :sequence 1}",
    );
    assert_eq!(run_them(json!({}), &named), reordered);
    // In one batch.
    let batch = ["0 publish [{:id 1} {:id 2}]", "1 get nil -> [{:id 2} {:id 1}]", "1 ack [1 2]"];
    finds(json!({}), &batch, &["reordered"]);
    // Other consumers get other messages, in their own time.
    let others =
        ["0 publish 1", "0 publish 2", "1 get nil -> 2", "1 ack 2", "3 get nil -> 1", "3 ack 1"];
    is(Verdict::Valid, json!({}), &others);
    // Not confirmed before the next one: it may come later.
    let late = [
        "0 invoke publish 1",
        "0 info publish 1",
        "0 publish 2",
        "1 get nil -> 2",
        "1 ack 2",
        "1 get nil -> 1",
        "1 ack 1",
    ];
    is(Verdict::Valid, json!({}), &late);
}

#[test]
fn what_was_given_back_may_come_late() {
    let given_back = |flag: &str, how: &[&str]| {
        let mut lines: Vec<String> =
            ["0 publish [1 :p 0]", "0 publish [2 :p 1]"].map(String::from).into();
        lines.extend(how.iter().map(|line| (*line).to_owned()));
        lines.extend([
            "1 get nil -> [2 :p 1 false]".to_owned(),
            "1 ack 2".into(),
            format!("1 get nil -> [1 :p 0 {flag}]"),
            "1 ack 1".into(),
        ]);
        lines
    };
    let verdict = |options: Json, lines: &[String]| {
        run(options, &lines.iter().map(String::as_str).collect::<Vec<_>>()).verdict
    };
    let seen = ["3 get nil -> [1 :p 0 false]", "3 nack 1"];
    let unseen = ["3 invoke get nil", "3 info get nil"];
    for how in [&seen[..], &unseen] {
        assert_eq!(verdict(json!({}), &given_back("true", how)), Verdict::Valid);
        assert_eq!(verdict(json!({}), &given_back("nil", how)), Verdict::Valid);
    }
    // The broker says that it was never delivered before.
    assert_eq!(verdict(json!({}), &given_back("false", &unseen)), Verdict::Invalid);
    assert_eq!(verdict(json!({}), &given_back("nil", &[])), Verdict::Invalid);
    let strict = json!({"redelivery-order": true});
    assert_eq!(verdict(strict, &given_back("true", &unseen)), Verdict::Invalid);
}

#[test]
fn a_history_without_any_settlement_is_unknown_and_names_the_option() {
    let got =
        ["0 publish 1", "0 publish 2", "1 get nil -> 1", "1 get nil -> 2", "2 drain nil -> []"];
    let result = run(json!({}), &got);
    assert_eq!(result.verdict, Verdict::Unknown);
    assert!(result.reason.contains("auto-ack=true"), "{}", result.reason);
    is(Verdict::Valid, json!({"auto-ack": true}), &got);
    // What does not rest on settlement is found all the same.
    finds(json!({}), &["0 publish 1", "1 get nil -> 3", "2 drain nil -> [1]"], &["phantom"]);
    let lost = ["0 publish 1", "0 publish 2", "1 get nil -> 1", "2 drain nil -> []"];
    finds(json!({}), &lost, &["lost"]);
    // With one settlement the others are missing.
    let one = [
        "0 publish 1",
        "0 publish 2",
        "1 get nil -> 1",
        "1 ack 1",
        "1 get nil -> 2",
        "2 drain nil -> []",
    ];
    finds(json!({}), &one, &["stuck"]);
}

#[test]
fn what_can_not_be_had_is_stuck() {
    // Its consumer is gone, and it does not come back.
    let unsettled = ["0 publish 1", "1 get nil -> 1", "1 crash nil", "2 drain nil -> []"];
    finds(json!({}), &unsettled, &["stuck"]);
    is(Verdict::Unknown, json!({}), &unsettled[..3]);
    is(Verdict::Unknown, json!({}), &unsettled[..2]);
    is(Verdict::Valid, json!({"auto-ack": true}), &unsettled[..2]);
    // Overtaken, and never delivered.
    let overtaken = ["0 publish 1", "0 publish 2", "1 consume nil -> 2", "1 ack 2"];
    finds(json!({}), &overtaken, &["stuck"]);
    is(Verdict::Unknown, json!({"ordering": "none"}), &overtaken);
    let settled =
        ["0 publish 1", "1 get nil -> 1", "1 invoke ack 1", "1 info ack 1", "2 drain nil -> []"];
    is(Verdict::Valid, json!({}), &settled);
}

#[test]
fn what_nobody_published_is_a_phantom() {
    finds(
        json!({}),
        &["0 publish 1", "1 get nil -> 2", "1 ack 2", "1 get nil -> 1", "1 ack 1"],
        &["phantom"],
    );
    let failed = ["0 invoke publish 1", "0 fail publish 1", "0 publish 2", "1 drain nil -> [1 2]"];
    finds(json!({}), &failed, &["phantom"]);
    finds(json!({}), &["1 get nil -> 1", "0 publish 1", "1 ack 1"], &["phantom"]);
    finds(json!({}), &["0 publish [1 :p 0]", "1 drain nil -> [[1 :q 0]]"], &["phantom"]);
}

#[test]
fn queues_are_apart() {
    let lines = [
        "0 publish {:id 1, :queue :a}",
        "0 publish {:id 2, :queue :b}",
        "1 get :b -> {:id 2, :queue :b}",
        "1 ack 2",
        "1 get :b -> nil",
    ];
    is(Verdict::Unknown, json!({}), &lines);
    let mut empty = lines.to_vec();
    empty.push("1 get :a -> nil");
    finds(json!({}), &empty, &["lost"]);
}

#[test]
fn nothing_published_or_delivered_is_unknown_and_other_functions_are_refused() {
    is(Verdict::Unknown, json!({}), &["1 get nil -> nil"]);
    is(Verdict::Unknown, json!({"delivery": "at-most-once"}), &["0 publish 1"]);
    let refused = run(json!({}), &["0 publish 1", "1 pull nil -> 1"]);
    assert_eq!(refused.verdict, Verdict::Unknown);
    assert!(
        refused.reason.contains("record 2") && refused.reason.contains(":pull"),
        "{}",
        refused.reason
    );
    let refused = run(json!({}), &["0 publish 1", "1 get nil -> [1 2]"]);
    assert!(refused.reason.contains("[1 2] is no message"), "{}", refused.reason);
}

fn pubsub() -> Json {
    json!({"mode": "pubsub"})
}

#[test]
fn each_subscriber_gets_each_message() {
    let lines = [
        "1 subscribe [:t]",
        "2 subscribe [:t]",
        "0 publish {:id 1, :topic :t}",
        "0 publish {:id 2, :topic :t}",
        "1 receive nil -> [1 2]",
        "2 drain nil -> [1 2]",
        "1 drain nil -> []",
    ];
    is(Verdict::Valid, pubsub(), &lines);
    let mut lost = lines.to_vec();
    lost[5] = "2 drain nil -> [2]";
    finds(pubsub(), &lost, &["lost"]);
    is(Verdict::Valid, json!({"mode": "pubsub", "delivery": "at-most-once"}), &lost);
    let mut twice = lines.to_vec();
    twice[6] = "1 drain nil -> [2]";
    finds(pubsub(), &twice, &["duplicated"]);
    is(Verdict::Valid, json!({"mode": "pubsub", "delivery": "at-least-once"}), &twice);
    let mut reordered = lines.to_vec();
    reordered[4] = "1 receive nil -> [2 1]";
    finds(pubsub(), &reordered, &["reordered"]);
    // A later message of the same producer came, so the first does not come any more.
    let mut gap = lines.to_vec();
    gap[4] = "1 receive nil -> [2]";
    gap.pop();
    finds(pubsub(), &gap, &["lost"]);
    gap[4] = "1 receive nil -> [1]";
    is(Verdict::Unknown, pubsub(), &gap);
    let mut phantom = lines.to_vec();
    phantom[4] = "1 receive nil -> [1 3 2]";
    finds(pubsub(), &phantom, &["phantom"]);
}

#[test]
fn a_subscriber_is_owed_nothing_before_and_after() {
    let with = |subscribe: &[&str], leave: &[&str]| {
        let mut lines = vec!["5 subscribe [:t]"];
        lines.extend(subscribe);
        lines.push("0 publish {:id 1, :topic :t}");
        lines.extend(leave);
        lines.extend(["1 drain nil -> []", "5 drain nil -> [1]"]);
        run(pubsub(), &lines).verdict
    };
    let ok = ["1 subscribe [:t]"];
    assert_eq!(with(&ok, &[]), Verdict::Invalid);
    assert_eq!(with(&["1 invoke subscribe [:t]", "1 info subscribe [:t]"], &[]), Verdict::Valid);
    assert_eq!(with(&["1 subscribe [:u]"], &[]), Verdict::Valid);
    assert_eq!(with(&[], &ok), Verdict::Valid);
    for leave in [
        &["1 unsubscribe [:t]"][..],
        &["1 disconnect nil"],
        &["1 invoke receive nil", "1 info receive nil"],
    ] {
        assert_eq!(with(&ok, leave), Verdict::Valid, "{leave:?}");
    }
    assert_eq!(with(&["1 subscribe [:t]", "1 unsubscribe [:t]"], &[]), Verdict::Valid);
}

#[test]
fn subscribers_agree_on_one_order() {
    let lines = |second: &'static str| {
        vec![
            "1 subscribe [:t]",
            "2 subscribe [:t]",
            "0 invoke publish {:id 1, :topic :t}",
            "3 invoke publish {:id 2, :topic :t}",
            "0 ok publish {:id 1, :topic :t}",
            "3 ok publish {:id 2, :topic :t}",
            "1 drain nil -> [1 2]",
            second,
        ]
    };
    let watch = || json!({"mode": "pubsub", "ordering": "per-topic"});
    is(Verdict::Valid, watch(), &lines("2 drain nil -> [1 2]"));
    finds(watch(), &lines("2 drain nil -> [2 1]"), &["divergent-order"]);
    is(Verdict::Valid, pubsub(), &lines("2 drain nil -> [2 1]"));
    // Each for itself agrees with the times of publication; both together do not.
    let sub = json!({"mode": "pubsub", "ordering": "per-topic", "delivery": "at-most-once"});
    finds(
        sub,
        &[
            "1 subscribe [:t]",
            "2 subscribe [:t]",
            "0 invoke publish {:id 1, :topic :t}",
            "3 publish {:id 2, :topic :t}",
            "4 publish {:id 3, :topic :t}",
            "0 ok publish {:id 1, :topic :t}",
            "1 drain nil -> [1 2]",
            "2 drain nil -> [3 1]",
        ],
        &["divergent-order"],
    );
}
