//! Every format that is read: recognised, packed, turned into operations, and refused with its place.

#![allow(clippy::unwrap_used)]

use std::io::Write;

use fuzz_dist_core::clock::RunClock;
use fuzz_dist_core::history_file::{Header, Writer};
use fuzz_dist_core::interop::{Format, Loaded, load, load_bytes};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::{OpType, Process, Value};

fn read(text: &str) -> Loaded {
    load_bytes("h", text.as_bytes(), None).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Process, type, function and value of each record.
fn shown(loaded: &Loaded) -> Vec<String> {
    let ops = loaded.history.ops().iter();
    ops.map(|op| format!("{} {} {} {}", op.process, op.op_type.as_str(), op.f, op.value)).collect()
}

fn refused(text: &str, format: Option<Format>) -> String {
    match load_bytes("h", text.as_bytes(), format) {
        Ok(loaded) => panic!("{text}: {:?}", shown(&loaded)),
        Err(error) => error.to_string(),
    }
}

const EDN: &str = "{:type :invoke, :process 0, :f :write, :value 3}\n{:type :ok, :process 0, :f :write, :value 3}\n";
const LOG: &str = "INFO  jepsen.core - Run 1 begins\n\
                   INFO  jepsen.util - 0\t:invoke\t:cas\t[1 2]\n\
                   INFO  jepsen.util - 1   :invoke :read   nil\n\
                   2026-01-02 03:04:05,678{GMT}\tINFO\t[jepsen worker 0] jepsen.util: 0\t:info\t:cas\t:timed-out\n\
                   INFO  jepsen.util - 1\t:ok\t:read\t3\n\
                   INFO  jepsen.util - :nemesis\t:info\t:start\t\"Cut off {:n1 #{:n2}}\"\n";
const PLUME: &str = "w(1,5,7,0)\nr(2,0,7,0)\nw(1,6,7,1)\nr(1,5,8,2)\nw(2,9,8,-1)\nr(3,0,8,3)\nw(4,0,8,3)\nr(4,0,8,3)\n";
const AWDIT: &str = "w 0 0\nr 1 0\n-----\n\nr 0 0\n=====\nw 1 1\n";
const DBCOP: &str = "// two sessions\n[x:=1 y==?] [x==1]!\n---\n[x==0 y==0 y:=0]\n";
const DBCOP_JSON: &str = r#"[[{"events":[{"Write":{"variable":0,"version":1}},["r",1,null]],"committed":true}],
 [{"events":[{"Read":{"variable":0,"version":0}}],"committed":false}]]"#;

#[test]
fn logs_of_jepsen() {
    let loaded = read(LOG);
    assert_eq!(loaded.format, Format::JepsenLog);
    let nemesis = ":nemesis info start \"Cut off {:n1 #{:n2}}\"";
    assert_eq!(
        shown(&loaded),
        ["0 invoke cas [1 2]", "1 invoke read nil", "0 info cas [1 2]", "1 ok read 3", nemesis]
    );
    assert_eq!(loaded.history.ops()[2].error, Value::sym("timed-out"));
    assert!(loaded.notices.join("\n").contains("1 lines of the log are no records"));

    let history = read("0\t:invoke\t:read\tnil\n0  :fail :read nil :not-found\n");
    assert_eq!(shown(&history), ["0 invoke read nil", "0 fail read nil"]);
    assert_eq!(history.history.ops()[1].error, Value::sym("not-found"));

    // Messages of exceptions stand there as they are, with all their lines.
    let history = read(
        "0\t:invoke\t:read\tnil\n0\t:info\t:read\tnil\tread: timed (out\n  at x.y(z.java:1)\n1\t:invoke\t:read\t\n",
    );
    assert_eq!(shown(&history), ["0 invoke read nil", "0 info read nil", "1 invoke read nil"]);
    assert_eq!(history.history.ops()[1].error, Value::str("read: timed (out"));
    let long = format!(
        "{}{}\n{}",
        "2020-08-03 23:05:48,259{GMT}\tINFO\t[main] jepsen.core: Test:\n {:a \"",
        "x".repeat(9000),
        LOG
    );
    assert_eq!(read(&long).format, Format::JepsenLog);

    for (text, expected) in [
        ("0\t:invoke\t:read\tnil\nwhat\n", "h:2:1: expected a record"),
        ("0\t:invoke\t:read\t[1\n", "h:1:1: the value of the record is not EDN"),
        ("0\t:invoke\t:read\tnil\n0\t:ok\t:read\t[1", "h:2:15: the file ends inside a record"),
        ("0\t:invoke\t:read\tnil\n0\t:ok\t:read\t1\n0\t:ok\t:read\t1\n", "h:3:1: record 2"),
        ("0\t:invoke\t:read\t1 2 3\n", "the value of the record is not EDN"),
    ] {
        let message = refused(text, None);
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn transactions_of_sessions() {
    let loaded = read(PLUME);
    assert_eq!(loaded.format, Format::Plume);
    assert!(!loaded.history.has_real_time());
    assert!(loaded.notices.join("\n").contains("no times"), "{:?}", loaded.notices);
    assert_eq!(
        shown(&loaded),
        [
            "7 invoke txn [[:w 1 5] [:r 2 nil]]",
            "8 invoke txn [[:r 1 nil]]",
            "7 ok txn [[:w 1 5] [:r 2 nil]]",
            "8 ok txn [[:r 1 5]]",
            "7 invoke txn [[:w 1 6]]",
            "8 invoke txn [[:w 2 9]]",
            "7 ok txn [[:w 1 6]]",
            "8 fail txn [[:w 2 9]]",
            "8 invoke txn [[:r 3 nil] [:w 4 0] [:r 4 nil]]",
            // Nobody wrote 0 to 3: that is its initial state. Somebody did to 4.
            "8 ok txn [[:r 3 nil] [:w 4 0] [:r 4 0]]",
        ]
    );

    let loaded = read(AWDIT);
    assert_eq!((loaded.format, loaded.history.has_real_time()), (Format::Awdit, false));
    assert_eq!(
        shown(&loaded),
        [
            "0 invoke txn [[:w 0 0] [:r 1 nil]]",
            "1 invoke txn [[:w 1 1]]",
            // There is no initial state: a read of 0 that nobody wrote stays.
            "0 ok txn [[:w 0 0] [:r 1 0]]",
            "1 ok txn [[:w 1 1]]",
            "0 invoke txn [[:r 0 nil]]",
            "0 ok txn [[:r 0 0]]",
        ]
    );

    let loaded = read(DBCOP);
    assert_eq!((loaded.format, loaded.history.has_real_time()), (Format::Dbcop, false));
    assert_eq!(
        shown(&loaded),
        [
            "0 invoke txn [[:w :x 1] [:r :y nil]]",
            "1 invoke txn [[:r :x nil] [:r :y nil] [:w :y 0]]",
            "0 ok txn [[:w :x 1] [:r :y nil]]",
            "1 ok txn [[:r :x nil] [:r :y 0] [:w :y 0]]",
            "0 invoke txn [[:r :x nil]]",
            "0 fail txn [[:r :x 1]]",
        ]
    );
}

#[test]
fn json_of_dbcop_old_and_new() {
    let data = &DBCOP_JSON;
    let wrapped = format!("{{\"params\": {{\"id\": 0}}, \"info\": \"x\", \"data\": {data}}}");
    let old = r#"[[{"events":[{"write":true,"variable":0,"value":1,"success":true},
        {"write":false,"variable":1,"value":0,"success":true},
        {"write":true,"variable":9,"value":4,"success":false}],"success":true}],
        [{"events":[{"write":false,"variable":0,"value":0,"success":true}],"success":false}]]"#;
    for text in [data, wrapped.as_str(), old] {
        let loaded = read(text);
        assert_eq!(loaded.format, Format::Dbcop);
        assert_eq!(
            shown(&loaded)[2..],
            ["0 ok txn [[:w 0 1] [:r 1 nil]]", "1 fail txn [[:r 0 nil]]"],
            "{text}"
        );
    }
}

#[test]
fn errors_of_sessions_name_the_place() {
    for (text, format, expected) in [
        ("w(1,2,0,0)\n w(1,x,0,0)\n", None, "h:2:2: found \"w(1,x,0,0)\""),
        ("w(1,2,0,0)\nq(1,2,0,0)\n", None, "h:2:1: found \"q(1,2,0,0)\""),
        ("w(1,2,0,0,7)\n", None, "h:1:1: found"),
        (
            "w(1,2,0,5)\nw(1,3,1,5)\n",
            None,
            "h:2:1: transaction 5 is of session 0 and now of session 1",
        ),
        ("w 1 2\nw 1\n", None, "h:2:1: found \"w 1\""),
        ("w 1 2 3\n", Some(Format::Awdit), "h:1:1: found"),
        ("[x:=1]\n[x:2]\n", None, "h:2:3: found \":2]\", expected := or =="),
        ("[x:=1]\n[x==a]\n", None, "h:2:5: found \"a]\", expected a version"),
        ("[x:=1]\n[x==1", None, "h:2:6: the file ends inside a transaction that begins at 2:1"),
        ("[x:=1] y\n", None, "h:1:8: found \"y\", expected a transaction"),
        ("[x:=99999999999999999999]", None, "h:1:5: found"),
        ("[[{\"events\":[3],\"committed\":true}]]", None, "h:1:15: not a history of dbcop"),
        ("", Some(Format::Plume), "contains no operations"),
        ("-----\n", Some(Format::Awdit), "contains no operations"),
    ] {
        let message = refused(text, format);
        assert!(message.contains(expected), "{text}: {message}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn fdh() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.fdh");
    let header = Header {
        run: "r".to_owned(),
        test: "t".to_owned(),
        seed: Seed(1),
        clock: RunClock { start_monotonic_ns: 0, start_wall_ns: 0 },
        spec: String::new(),
    };
    let mut writer = Writer::create(&path, &header).unwrap();
    for mut op in read(EDN).history.into_ops() {
        writer.append(&mut op).unwrap();
    }
    writer.commit().unwrap();
    assert_eq!(load(&path, None).unwrap().format, Format::Fdh);
    std::fs::read(path).unwrap()
}

#[test]
fn every_format_may_be_packed_and_named() {
    let json = "{\"type\":\"invoke\",\"process\":0,\"f\":\"r\"}\n";
    let texts =
        [EDN, json, LOG, PLUME, AWDIT, DBCOP, DBCOP_JSON].map(|text| text.as_bytes().to_vec());
    for bytes in texts.into_iter().chain([fdh()]) {
        let plain = load_bytes("h", &bytes, None).unwrap();
        let (middle, end) = bytes.split_at(bytes.len() / 2);
        let skippable = b"\x50\x2a\x4d\x18\x02\0\0\0ab".to_vec();
        let frames = |parts: &[&[u8]]| {
            parts.iter().flat_map(|part| zstd::encode_all(*part, 1).unwrap()).collect::<Vec<u8>>()
        };
        for packed in [
            gzip(&bytes),
            [gzip(middle), gzip(end)].concat(),
            frames(&[&bytes]),
            frames(&[middle, end]),
            [skippable, frames(&[&bytes])].concat(),
        ] {
            for format in [None, Format::parse(plain.format.as_str())] {
                let loaded = load_bytes("h", &packed, format).unwrap();
                assert_eq!(loaded.history.ops(), plain.history.ops());
                assert_eq!((loaded.format, loaded.notices), (plain.format, plain.notices.clone()));
            }
        }
    }
    for name in Format::NAMES {
        assert!(Format::parse(name).is_some(), "{name}");
    }
    assert_eq!(Format::parse("csv"), None);
}

#[test]
fn what_is_packed_is_never_cut_off_silently() {
    let text = EDN;
    for (packed, method) in
        [(gzip(text.as_bytes()), "gzip"), (zstd::encode_all(text.as_bytes(), 1).unwrap(), "zstd")]
    {
        for cut in 5..packed.len() {
            let error = load_bytes("h.edn.x", &packed[..cut], None).unwrap_err().to_string();
            let expected =
                format!("h.edn.x is packed with {method} and cannot be unpacked to its end");
            assert!(error.contains(&expected), "cut at {cut}: {error}");
        }
        let twice = load_bytes("h", &gzip(&packed), None).unwrap_err().to_string();
        assert!(twice.contains("packed twice"), "{twice}");
    }
    // A bit that changed in what is packed is caught by the checksum.
    let mut wrong = gzip(text.as_bytes());
    let crc = wrong.len() - 6;
    wrong[crc] ^= 1;
    let error = load_bytes("h", &wrong, None).unwrap_err().to_string();
    assert!(error.contains("cannot be unpacked"), "{error}");
}

#[test]
fn completions_without_invocations() {
    let loaded =
        read("{:process 1 :type :ok :f :r :value 1}\n\n {:process 1 :type :fail :f :r :value 2}\n");
    assert_eq!(shown(&loaded), ["1 invoke r 1", "1 ok r 1", "1 invoke r 2", "1 fail r 2"]);
    assert!(loaded.notices.join("\n").contains("only completions"), "{:?}", loaded.notices);
    // One that is missing among others is a gap in the recording.
    let message = refused(&format!("{EDN} {{:type :ok :process 4 :f :read}}"), None);
    assert!(message.contains("h:3:2: record 2: process 4 completes :read"), "{message}");
}

#[test]
fn records_without_processes() {
    let loaded = read(
        "{:type :invoke :f :read :value nil}{:type :invoke :f :txn :value [[:r 1 nil] [:w 2 3]]}
         {:type :ok :f :txn :value [[:r 1 7] [:w 2 3]]}{:type :invoke :f :w :value 4}
         {:type :ok :f :read :value #{1}}{:type :info :f :w :value 4}{:type :invoke :f :w :value 5}",
    );
    let processes: Vec<Process> = loaded.history.ops().iter().map(|op| op.process).collect();
    assert_eq!(processes, [0, 1, 1, 1, 0, 1, 0].map(Process::Client));
    assert_eq!(loaded.history.pair(0), Some(4));
    assert!(loaded.notices.join("\n").contains("no record has a :process"));
    // Two that the completion fits: nobody knows which of them it is.
    let twice =
        "{:type :invoke :f :read}\n{:type :invoke :f :read}\n {:type :ok :f :read :value 1}";
    assert!(refused(twice, None).starts_with("h:3:2: the operation has no :process"));
}

#[test]
fn a_process_that_invokes_twice() {
    let txn = |op_type: &str, value: &str| {
        format!("{{:type :{op_type}, :process 3, :f :txn, :value {value}}}\n")
    };
    let text = [
        txn("invoke", "[[:append :x 1]]"),
        txn("invoke", "[[:r :x nil]]"),
        txn("ok", "[[:r :x [1]]]"),
        txn("ok", "[[:append :x 1]]"),
        txn("invoke", "[[:r :y nil]]"),
    ];
    let loaded = read(&text.concat());
    let processes: Vec<Process> = loaded.history.ops().iter().map(|op| op.process).collect();
    assert_eq!(processes, [3, 4, 4, 3, 3].map(Process::Client));
    assert_eq!((loaded.history.pair(0), loaded.history.pair(1)), (Some(3), Some(2)));
    assert!(loaded.notices.join("\n").contains("process 3 begins transactions while others"));
    // Not certain: both reads of x fit; and operations that are no transactions.
    for (text, place) in [
        (txn("invoke", "[[:r :x nil]]").repeat(2) + &txn("ok", "[[:r :x 1]]"), "h:2:1"),
        (EDN.lines().next().unwrap().repeat(2), "h:1:49"),
    ] {
        let message = refused(&text, None);
        assert!(message.starts_with(&format!("{place}: record 1")), "{message}");
        assert!(message.contains("still open"), "{message}");
    }
}

#[test]
fn processes_of_every_kind() {
    let loaded = read(
        "{:type :invoke :process -7 :f :r}{:type :invoke :process 9223372036854775807 :f :r}
         {:type :info :process \"nemesis\" :f :start}{:type :info :process :nemesis :f :stop}
         {:type :ok :process -7 :f :r}{:type :info :process 9223372036854775807 :f :r}",
    );
    assert_eq!((loaded.history.pair(0), loaded.history.pair(1)), (Some(4), Some(5)));
    assert_eq!(loaded.history.client_ops().count(), 4);
    // JSON without numbers.
    let json = read("{\"type\":\"invoke\",\"process\":\"12\",\"f\":\"r\"}\n");
    assert_eq!(json.history.ops()[0].process, Process::Client(12));
    assert_eq!(json.history.ops()[0].op_type, OpType::Invoke);
    for text in ["{:type :ok :process 9223372036854775808 :f :r}", "{:type :ok :process [1] :f :r}"]
    {
        let message = refused(text, None);
        assert!(message.starts_with("h:1:12: a :process is an integer"), "{message}");
    }
}
