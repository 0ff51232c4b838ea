//! Drawings of evidence: each kind shows what it is for, whatever the values are, and none grows without
//! end. With `FUZZ_DIST_DRAWINGS` naming a folder, they are written there for people to look at.

#![allow(clippy::unwrap_used)]

use fuzz_dist_core::{Anomaly, CheckResult, Edge, History, Verdict, interop};
use fuzz_dist_report::{Drawing, drawings};

const HOSTILE: &str = "</text><script>alert(1)</script>&\\\"\\u001b[2J ]]>";

fn history(edn: &str) -> History {
    interop::load_bytes("h.edn", edn.as_bytes(), None).unwrap().history
}

fn drawn(history: &History, checker: &str, anomalies: Vec<Anomaly>) -> Vec<Drawing> {
    let result = CheckResult { anomalies, ..CheckResult::new(checker, Verdict::Invalid, "no") };
    let drawn = drawings(history, &result);
    assert_eq!(drawn, drawings(history, &result), "the same anomaly gives the same bytes");
    for drawing in &drawn {
        well_formed(&drawing.svg);
        if let Ok(folder) = std::env::var("FUZZ_DIST_DRAWINGS") {
            std::fs::create_dir_all(&folder).unwrap();
            let path = std::path::Path::new(&folder).join(&drawing.file_name);
            std::fs::write(path, &drawing.svg).unwrap();
        }
    }
    drawn
}

/// Every element is closed in order, and nothing in it runs or loads anything.
fn well_formed(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in svg.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap();
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap();
        assert!(
            ["svg", "title", "style", "rect", "text", "line", "path", "circle", "g"]
                .contains(&name),
            "<{tag}>"
        );
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) => assert_eq!(open.pop(), Some(name), "in {svg}"),
            (false, false) => open.push(name),
            (false, true) => {}
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(!svg.contains(['\u{1b}', '\0']));
}

/// The texts of a drawing, tooltips aside.
fn words(svg: &str) -> Vec<&str> {
    svg.split("<text ")
        .skip(1)
        .map(|text| {
            let text = text.split_once('>').unwrap().1;
            text.split_once("</text>").unwrap().0
        })
        .collect()
}

fn call(process: i64, f: &str, argument: &str, result: &str) -> String {
    format!(
        "{{:process {process} :type :invoke :f :{f} :value {argument}}}\n\
         {{:process {process} :type :ok :f :{f} :value {result}}}\n"
    )
}

#[test]
fn the_stuck_operation_is_marked_and_the_longest_order_a_path() {
    let text = "{:process 0 :type :invoke :f :write :value 1 :node \"n1\"}
                {:process 1 :type :invoke :f :read :value nil :node \"n2\"}
                {:process 1 :type :ok :f :read :value 1 :node \"n2\"}
                {:process 2 :type :invoke :f :read :value nil :node \"n3\"}
                {:process 2 :type :ok :f :read :value nil :node \"n3\"}
                {:process 0 :type :ok :f :write :value 1 :node \"n1\"}
                {:process 3 :type :invoke :f :write :value 7 :node \"n1\"}
                {:process 3 :type :info :f :write :value 7 :error :timeout :node \"n1\"}";
    let anomaly = Anomaly {
        name: "nonlinearizable".into(),
        text:
            "read nil (process 2) cannot have taken effect.\nThese 3 operations, taken alone, are \
               already not linearizable:\n  write 1   |-----|  process 0\nJust before it returned, \
               only this could be the case:\n  value 1; open but already in effect: write 1"
                .into(),
        ops: vec![3, 4, 0, 1, 2, 5, 6],
        longest_order: vec![0, 1],
        ..Anomaly::default()
    };
    let drawn = drawn(&history(text), "linearizable", vec![anomaly]);
    assert_eq!(drawn[0].file_name, "01-linearizable-nonlinearizable.svg");
    let svg = &drawn[0].svg;
    assert_eq!(svg.matches("class=\"stuck\" x").count(), 2, "legend and bar");
    assert_eq!(svg.matches("<circle").count(), 2);
    assert!(svg.contains("class=\"info open\""));
    let words = words(svg);
    for wanted in [
        "read → nil",
        "write 1 → ok",
        "n3 · process 2",
        "  value 1; open but already in effect: write 1",
    ] {
        assert!(words.contains(&wanted), "{wanted} is not among {words:?}");
    }
    assert!(!words.iter().any(|word| word.contains("|--")), "drawn twice");
}

/// The horizontal span of the bar with this label.
fn span(svg: &str, label: &str) -> (f64, f64) {
    let end = svg.find(&format!(">{label}</text>")).unwrap();
    let rect = &svg[svg[..end].rfind("<rect").unwrap()..end];
    let number = |name: &str| {
        let text = rect.split_once(&format!("{name}=\"")).unwrap().1;
        text.split('"').next().unwrap().parse::<f64>().unwrap()
    };
    (number(" x"), number(" x") + number("width"))
}

#[test]
fn every_point_of_the_path_lies_within_its_bar() {
    // Three writes at the same time, then three one after the other.
    let mut text = String::new();
    for half in ["invoke", "ok"] {
        for i in 0..3 {
            text += &format!("{{:process {i} :type :{half} :f :write :value {i}}}\n");
        }
    }
    for i in 3..6 {
        text += &call(i, "write", &i.to_string(), &i.to_string());
    }
    let anomaly = Anomaly {
        name: "nonlinearizable".into(),
        ops: (0..12).collect(),
        longest_order: vec![2, 0, 1, 6, 8, 10],
        ..Anomaly::default()
    };
    let drawn = drawn(&history(&text), "linearizable", vec![anomaly]);
    let svg = &drawn[0].svg;
    let at: Vec<f64> = svg
        .split("<circle class=\"point\" cx=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(at.len(), 6);
    assert!(at.is_sorted(), "{at:?}");
    for (x, label) in at.iter().zip([2, 0, 1, 3, 4, 5]) {
        let (from, to) = span(svg, &format!("write {label} → ok"));
        assert!((from..=to).contains(x), "{x} is not in {from} to {to} of write {label}");
    }
}

fn edge(from: u64, to: u64, kind: &str, why: &str) -> Edge {
    Edge { from, to, kind: kind.into(), why: why.into() }
}

#[test]
fn a_cycle_shows_transactions_and_reasons() {
    let txns = [
        "[[:r :x [1]] [:r :y []]]",
        "[[:append :y 1]]",
        "[[:r :x []] [:r :y [1]]]",
        "[[:append :x 1]]",
    ];
    let mut text = String::new();
    for half in ["invoke", "ok"] {
        for (i, txn) in txns.iter().enumerate() {
            text +=
                &format!("{{:process {i} :type :{half} :f :txn :value {txn} :node \"n{i}\"}}\n");
        }
    }
    let anomaly = Anomaly {
        name: "G-nonadjacent-item".into(),
        ops: vec![4, 5, 6, 7],
        edges: vec![
            edge(
                4,
                5,
                "rw",
                "T1 observed the initial (nil) state of :y, which T2 changed by appending 1",
            ),
            edge(5, 6, "wr", "T3 observed T2's append of 1 to :y"),
            edge(
                6,
                7,
                "rw",
                "T3 observed the initial (nil) state of :x, which T4 changed by appending 1",
            ),
            edge(7, 4, "wr", "T1 observed T4's append of 1 to :x"),
        ],
        ..Anomaly::default()
    };
    let drawn = drawn(&history(&text), "list-append", vec![anomaly]);
    let svg = &drawn[0].svg;
    let words = words(svg);
    for wanted in [
        "T1   process 0 on n0   records 0 to 4, ok",
        "append :y 1",
        "r :x []",
        "T3 observed T2&#39;s append of 1 to :y",
        "T4 → T1: T1 observed T4&#39;s append of 1 to :x",
    ] {
        assert!(words.contains(&wanted), "{wanted} is not among {words:?}");
    }
    assert_eq!(words.iter().filter(|word| **word == "rw").count(), 2);
    assert_eq!(svg.matches("stroke=\"#D55E00\"").count(), 2, "rw");
    assert_eq!(svg.matches("stroke=\"#009E73\"").count(), 2, "wr");
}

#[test]
fn an_element_has_its_life_line() {
    // Each value stands behind its key, as with --independent.
    let mut text = call(9, "read", "[2 nil]", "[2 []]") + &call(1, "read", "[1 nil]", "[1 []]");
    text += &call(0, "add", "[1 5]", "[1 5]");
    text += &call(1, "read", "[1 nil]", "[1 [4 5]]");
    text += &call(2, "read", "[1 nil]", "[1 [4]]");
    let anomaly = Anomaly {
        name: "lost".into(),
        key: Some("1 5".into()),
        text: "5 was known from record 5 on, and was missed for good".into(),
        ops: vec![4, 5, 6, 7, 8, 9],
        ..Anomaly::default()
    };
    let drawn = drawn(&history(&text), "set-full", vec![anomaly]);
    assert_eq!(drawn[0].file_name, "01-set-full-lost-1-5.svg");
    let svg = &drawn[0].svg;
    // One each in the legend; the read before the add missed nothing, and key 2 is another object.
    assert_eq!(svg.matches("class=\"saw\" x").count(), 2);
    assert_eq!(svg.matches("class=\"missed\" x").count(), 2);
    assert!(!svg.contains("process 9"));
}

#[test]
fn nothing_hostile_comes_alive_and_nothing_grows_without_end() {
    let mut text = String::new();
    for i in 0..3_000 {
        text += &call(
            i % 7,
            "txn",
            "nil",
            &format!("[[:append \"{HOSTILE}\" {i}] [:r :x \"{}\"]]", "y".repeat(300)),
        );
    }
    let history = history(&text);
    let ops: Vec<u64> = (0..6_000).collect();
    let name = format!("G0{HOSTILE}");
    let plain = Anomaly {
        name: name.clone(),
        key: Some(HOSTILE.into()),
        text: format!("{HOSTILE}\n").repeat(1_000),
        ops: ops.clone(),
        longest_order: ops.clone(),
        ..Anomaly::default()
    };
    let cycle = Anomaly {
        edges: (0..2_999)
            .map(|i| edge(2 * i + 1, 2 * i + 3, HOSTILE, &HOSTILE.repeat(90)))
            .collect(),
        text: "a cycle".into(),
        ..plain.clone()
    };
    let stuck = Anomaly { name: "nonlinearizable".into(), ..plain.clone() };
    let many = [plain, cycle, stuck].into_iter().cycle().take(60).collect();
    let drawn = drawn(&history, HOSTILE, many);
    // The same anomaly is told once.
    assert_eq!(drawn.len(), 3);
    for drawing in &drawn {
        assert!(drawing.svg.len() < 200_000, "{} bytes", drawing.svg.len());
        let safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        assert!(drawing.file_name.chars().all(safe), "{}", drawing.file_name);
        assert!(drawing.file_name.len() < 150);
    }
}

#[test]
fn what_names_nothing_in_the_history_has_no_drawing() {
    let history = history(&call(0, "read", "nil", "1"));
    let nothing = Anomaly { name: "odd".into(), ..Anomaly::default() };
    let elsewhere = Anomaly { ops: vec![70, u64::MAX], ..nothing.clone() };
    let edges = Anomaly { edges: vec![edge(70, 71, "ww", "")], ..nothing.clone() };
    assert_eq!(drawn(&history, "bank", vec![nothing, elsewhere, edges]), []);
    let valid = CheckResult::new("bank", Verdict::Valid, "yes");
    assert_eq!(drawings(&history, &valid), []);
}

#[test]
fn a_queue_shows_who_took_what_was_taken_twice_and_nobody_who_found_it_gone() {
    let text = call(0, "enqueue", "46", "46")
        + &call(1, "dequeue", "nil", "46")
        + &call(2, "dequeue", "nil", "46")
        + &call(3, "drain", "nil", "[]")
        + &call(4, "drain", "nil", "[]");
    let of = |name: &str| Anomaly {
        name: name.into(),
        key: Some("46".into()),
        text: "46 came out more often than it went in".into(),
        ops: vec![0, 5],
        ..Anomaly::default()
    };
    let count = |svg: &str, class: &str| svg.matches(&format!("class=\"{class}\" x")).count();
    let duplicated = &drawn(&history(&text), "total-queue", vec![of("duplicated")])[0].svg;
    // Each once in the legend.
    assert_eq!((count(duplicated, "saw"), count(duplicated, "missed")), (2, 2), "{duplicated}");
    assert!(words(duplicated).contains(&"took it, and should not"));
    let lost = call(0, "enqueue", "46", "46") + &call(3, "drain", "nil", "[]");
    let lost = &drawn(&history(&lost), "total-queue", vec![of("lost")])[0].svg;
    assert_eq!((count(lost, "saw"), count(lost, "missed")), (1, 2), "{lost}");
    assert!(words(lost).contains(&"came without it"));
}
