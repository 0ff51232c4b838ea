//! Histories in every notation that Jepsen's tools write, and what is said about those that are wrong.

use std::sync::Arc;

use super::*;
use crate::number::{self, Decimal};
use crate::op::{OpType, Process};
use crate::sym::Sym;
use crate::value::Value;

fn read(text: &str) -> Loaded {
    load_bytes("h.edn", text.as_bytes(), None).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(bytes: &[u8]) -> String {
    load_bytes("h.edn", bytes, None).expect_err("this is no history").to_string()
}

fn edn(text: &str) -> Value {
    parse_edn_value(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn ints(numbers: impl IntoIterator<Item = i64>) -> Value {
    Value::list(numbers.into_iter().map(Value::Int).collect::<Vec<_>>())
}

#[test]
fn one_map_a_line() {
    let loaded = read(
        "{:index 0, :time 12, :type :invoke, :process 0, :f :write, :value [1 2]}\n\
         {:index 1, :time 15, :type :info, :process 0, :f :write, :value [1 2], :error [:timeout \"x\"], \
          :node \"n1\", :final? true}\n\
         {:index 2, :time 16, :type :info, :process :nemesis, :f :start, :value nil}\n",
    );
    assert_eq!((loaded.format, loaded.history.len()), (Format::Edn, 3));
    assert!(loaded.notices.is_empty(), "{:?}", loaded.notices);
    let ops = loaded.history.ops();
    assert_eq!((ops[0].time_ns, ops[0].op_type), (12, OpType::Invoke));
    assert_eq!(ops[0].value, ints([1, 2]));
    assert_eq!(loaded.history.pair(0), Some(1));
    assert_eq!(ops[1].error, Value::list(vec![Value::sym("timeout"), Value::str("x")]));
    assert_eq!(ops[1].node, Some(Sym::new("n1")));
    assert_eq!(ops[1].extra("final?"), Some(&Value::Bool(true)));
    assert_eq!(ops[2].process, Process::nemesis());
}

#[test]
fn vectors_lists_records_comments_and_discards() {
    let inner = "; a comment\n#jepsen.history.Op{:index 0 :type :invoke,,, :process 3 :f :read :value nil}\n\
                 #_{:type :nonsense} #_ #_ 1 2\n{:process 3 :type :ok :f :read :value #{3 1 2}};end";
    for text in [format!("[{inner}\n]"), format!("({inner}\n) ; done"), inner.to_owned()] {
        let loaded = read(&text);
        assert_eq!(loaded.history.len(), 2, "{text}");
        assert_eq!(loaded.history.ops()[1].value, Value::set([1, 2, 3].map(Value::Int)));
        assert_eq!(loaded.history.ops()[1].time_ns, -1, "a missing time is -1");
        assert_eq!(loaded.history.pair(1), Some(0));
    }
}

fn tagged(tag: &str, value: Value) -> Value {
    Value::Tagged(Arc::new((Sym::new(tag), value)))
}

#[test]
fn values_of_every_kind() {
    for (text, expected) in [
        ("nil", Value::Nil),
        ("[true false]", Value::list(vec![Value::Bool(true), Value::Bool(false)])),
        ("-12", Value::Int(-12)),
        ("+7", Value::Int(7)),
        ("123456789012345678901N", Value::BigInt(Arc::new("123456789012345678901".to_owned()))),
        ("2.5e-3", Value::Float(0.0025)),
        ("2/4", number::Ratio::value("1", "2").unwrap()),
        ("1.50M", Value::Decimal(Arc::new(Decimal::new(false, "15", -1).unwrap()))),
        ("0.1234567890123456789", {
            Value::Decimal(Arc::new(Decimal::new(false, "1234567890123456789", -19).unwrap()))
        }),
        ("##-Inf", Value::Float(f64::NEG_INFINITY)),
        (":a.b/c-d?", Value::sym("a.b/c-d?")),
        ("sym->bol", Value::sym("sym->bol")),
        ("-", Value::sym("-")),
        (r#""a\"\\\n\tA\u00e9\ud83d\ude00\101""#, Value::str("a\"\\\n\tAé😀A")),
        (r"[\a \newline \space \u0041 \( \é]", {
            Value::list(["a", "\n", " ", "A", "(", "é"].map(Value::str).to_vec())
        }),
        ("(1 [2 (3)])", {
            Value::list(vec![Value::Int(1), Value::list(vec![Value::Int(2), ints([3])])])
        }),
        ("{:a 1, nil [2], 3 {}}", {
            Value::map([
                (Value::sym("a"), Value::Int(1)),
                (Value::Nil, ints([2])),
                (Value::Int(3), Value::map([])),
            ])
        }),
        ("#{#{} #{1}}", Value::set([Value::set([]), Value::set([Value::Int(1)])])),
        ("#:ns{:a 1 :_/b 2 :c/d 3}", {
            let pair = |name: &str, n| (Value::sym(name), Value::Int(n));
            Value::map([pair("ns/a", 1), pair("b", 2), pair("c/d", 3)])
        }),
        ("^{:line 3} [1]", ints([1])),
        ("#inst \"2026-01-01\"", tagged("inst", Value::str("2026-01-01"))),
        ("#my.Tag [1 #_ 2]", tagged("my.Tag", ints([1]))),
        ("#atom \"a b\"", Value::sym("a b")),
        ("#bytes \"00fF\"", Value::Bytes(Arc::new(vec![0, 255]))),
        ("#etf \"83616b\"", Value::Int(107)),
    ] {
        assert_eq!(edn(text), expected, "{text}");
    }
    assert!(matches!(edn("##NaN"), Value::Float(x) if x.is_nan()));
}

#[test]
fn what_was_changed_is_told() {
    let loaded = read(
        "{:index 7 :type :invoke :process 0 :time 20000000 :client 3}\n\
         {:index 8 :type :ok :process 0 :time 1}",
    );
    let notices = loaded.notices.join("\n");
    assert!(notices.contains("numbered by position") && notices.contains(":index 7"), "{notices}");
    assert!(notices.contains("run back 1 times, first at record 1 in line 2"), "{notices}");
    assert!(notices.contains("do not use the fields :client"), "{notices}");
    assert!(notices.contains("2 records have no :f"), "{notices}");
}

#[test]
fn errors_name_file_line_and_column() {
    let invoke = "{:type :invoke, :process 0, :f :read, :value nil}\n";
    for (text, place, parts) in [
        (
            &*format!("{invoke}{{:type :invoke, :f :read, :client 3}}"),
            "2:1",
            &["no :process", "is it :client? then name"][..],
        ),
        ("{:type :ok :process 0 :value {:a 1 :a 2}}", "1:30", &["a map has the key :a twice"]),
        ("{:type :ok :process 0 :value #{1 1}}", "1:31", &["a set has the element 1 twice"]),
        ("[{:process 0 :f :read}]", "1:2", &["no :type", ":invoke :ok"]),
        (
            "{:type :invok :process 0 :f :read}",
            "1:2",
            &["unknown :type :invok", "did you mean :invoke?"],
        ),
        (&format!("{invoke}\n  {{:type :invoke, :f :read}}"), "3:3", &["no :process", "number"]),
        (&format!("{{:type :invoke, :f :read}}\n{invoke}"), "1:1", &["no :process"]),
        ("{:type :ok :process :w1 :f :r}", "1:1", &["ok of process :w1", "clients are integers"]),
        ("{:valid? true :count 3}", "1:1", &["not an operation", ":valid? :count"]),
        ("{:type :ok :process 1.5 :f :r}", "1:12", &[":process is an integer", "1.5"]),
        (
            "{:type :ok :process 0 :f :r :time 1.5}",
            "1:29",
            &[":time must be an integer of nanoseconds"],
        ),
        ("{:type :ok :type :ok}", "1:12", &[":type twice"]),
        ("{:type :ok :x 1 :x 2}", "1:17", &[":x twice"]),
        ("{:type :ok :process 1 process 2}", "1:23", &[":process twice"]),
        ("{\n \u{e9} 3 \"k\" 1}", "2:6", &["keywords such as :type", "\"k\""]),
        ("[:a]", "1:2", &["expected an operation", "found :a"]),
        (&format!("{invoke}{invoke}"), "2:1", &["record 1", "still open"]),
        (
            &format!("{invoke}{}", invoke.replace("0", "1").replace("invoke", "ok")),
            "2:1",
            &["no open invocation"],
        ),
        (&format!("{invoke}{}", ":type"), "2:1", &["expected an operation"]),
        (&format!("{invoke}]"), "2:1", &["found \"]\""]),
        (&format!("[{invoke})"), "2:1", &["found ), expected ]", "line 1"]),
        (&format!("[{invoke}] x"), "2:3", &["found \"x\"", "end of the file"]),
        ("{:type :ok :process 0 :value}", "1:23", &["key that has no value"]),
        ("{:type :ok :value {:a}}", "1:22", &["key that has no value"]),
        ("{:type : ok}", "1:8", &["keyword without a name"]),
        ("{:value 12x}", "1:9", &["12x is not a number"]),
        ("{:value \"\\q\"}", "1:10", &["unknown escape"]),
        ("{:value \\foo}", "1:9", &["\\foo is not a character"]),
        ("{:value #etf \"8399\"}", "1:9", &["#etf does not hold a term", "unknown tag"]),
        ("{:value #}}", "1:9", &["expected a tag"]),
    ] {
        let message = refused(text.as_bytes());
        assert!(message.starts_with(&format!("h.edn:{place}: ")), "{text}: {message}");
        for part in parts {
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}

#[test]
fn files_that_are_cut_off_say_so() {
    let line = "{:type :invoke, :process 0, :f :read, :value [\"a\" #{1 {:b (\\c)}}]}\n";
    for (prefix, suffix) in [("", ""), ("[", "]"), ("(", ")")] {
        let whole = format!("{prefix}{line}{}{suffix}", line.replace(":process 0", ":process 1"));
        assert_eq!(read(&whole).history.len(), 2);
        for cut in 1..whole.len() {
            match load_bytes("h.edn", &whole.as_bytes()[..cut], Some(Format::Edn)) {
                Err(LoadError::Truncated { opened, place, record_count, .. }) => {
                    assert!(opened.line <= place.line);
                    assert!(record_count <= 2);
                }
                // Cut inside a word, a wrong word remains; between lines, a shorter history.
                Err(LoadError::Syntax { .. } | LoadError::Shape { .. }) => {}
                Ok(loaded) => {
                    assert!(prefix.is_empty() && loaded.history.len() <= 2, "cut at {cut}");
                    let complete = whole[..cut].trim_end().ends_with('}');
                    assert!(complete, "cut at {cut}");
                }
                Err(other) => panic!("cut at {cut}: {other}"),
            }
        }
    }
    let message =
        refused(b"{:type :invoke :process 0 :f :r}\n{:type :ok :process 0 :f :r :value [1 2");
    assert!(
        message.contains("h.edn:2:40: the file ends inside a vector that begins at 2:36"),
        "{message}"
    );
    assert!(message.contains("1 complete records precede it"), "{message}");
}

#[test]
fn other_files_are_recognised() {
    for (bytes, expected) in [
        (&b""[..], "contains no operations"),
        (b" \n; nothing here\n", "contains no operations"),
        (b"[]", "contains no operations"),
        (b"BZh9", "packed with bzip2"),
        (b"\x1f\x8b\x08", "packed with gzip and cannot be unpacked"),
        (b"PK\x03\x04", "zip archive"),
        (b"JEPSEN\0\0", "history.edn that lies beside it"),
        (b"\xff\xfe{\0", "UTF-16"),
        (b"{\0\0\0", "NUL bytes"),
        (b"<html>", "HTML"),
        (b"put 1 2\n", "begins with \"put 1 2\"; a history is EDN of Jepsen"),
        (b"put 1 2\n", "(edn, json, jsonl, fdh, jepsen-log, plume, awdit, dbcop)"),
        (b"{:type :invoke\n :f \"\xe9\"}", "h.edn:2:6: not UTF-8 text (byte 0xe9)"),
        (b"\x89fdh\r\n", "the file has 6 bytes"),
    ] {
        let message = refused(bytes);
        assert!(message.contains(expected) && message.contains("h.edn"), "{message}");
    }
    let missing = load("/nonexistent/history.edn", None).unwrap_err().to_string();
    assert!(missing.contains("/nonexistent/history.edn"), "{missing}");
}

#[test]
fn nesting_is_bounded() {
    for open in ["[", "(", "{:a ", "#{", "#t ", "^", "^a ", "#^", "#_", "[#_(", "#:n{:a "] {
        let deep = format!("{{:type :ok :process 0 :value {}", open.repeat(1_000_000));
        let message = load_bytes("h.edn", deep.as_bytes(), None).unwrap_err().to_string();
        assert!(message.contains("deeper than"), "{open}: {message}");
    }
    let json = format!("{{\"type\":\"ok\",\"value\":{}", "[".repeat(1_000_000));
    assert!(refused(json.as_bytes()).contains("deeper than"));
}

#[test]
fn json_lines_and_arrays() {
    let lines = "{\"index\":0,\"type\":\"invoke\",\"process\":0,\"f\":\"txn\",\"value\":[[\":append\",\"x\",1]]}\n\
                 {\"index\":1,\"type\":\"ok\",\"process\":0,\"f\":\"txn\",\"value\":{\"0\":1,\"k\":null},\"op-index\":3}\n\
                 {\"type\":\"info\",\"process\":\"nemesis\",\"f\":\"start\",\"time\":5}\n";
    let array = format!("[{}]\n", lines.trim_end().replace("}\n{", "},\n{"));
    for text in [lines, &array] {
        let loaded = load_bytes("h", text.as_bytes(), None).unwrap();
        assert_eq!((loaded.format, loaded.history.len()), (Format::Json, 3));
        let ops = loaded.history.ops();
        let append = vec![Value::sym("append"), Value::str("x"), Value::Int(1)];
        assert_eq!(ops[0].value, Value::list(vec![Value::list(append)]));
        assert_eq!(
            ops[1].value,
            Value::map([(Value::Int(0), Value::Int(1)), (Value::sym("k"), Value::Nil)])
        );
        assert_eq!(ops[1].extra("op-index"), Some(&Value::Int(3)));
        assert_eq!((ops[2].process, ops[2].time_ns), (Process::nemesis(), 5));
    }
}

#[test]
fn errors_in_json_name_the_place() {
    for (text, expected) in [
        ("{\"type\":\"invoke\",\n\"f\" 1}", "h.edn:2:5: not JSON: expected `:`"),
        ("[{\"type\":\"ok\",\"f\":\"r\",\"process\":0,}]", "not JSON: trailing comma"),
        ("[{\"f\":\"r\",\"process\":0}]", "h.edn:1:2: the operation has no :type"),
        ("{\"f\":\"r\"}\n3", "no :type"),
        ("{\"type\":\"okay\"}", "did you mean :ok?"),
        (
            "{\"type\":\"ok\",\"process\":0,\"f\":\"r\"",
            "ends inside an operation that begins at 1:1",
        ),
        ("[{\"type\":\"invoke\",\"process\":0,\"f\":\"r\"},\n", "ends inside the array"),
        ("[{\"type\":\"invoke\",\"process\":0,\"f\":\"r\"} 3", "expected a comma"),
        (
            "[{\"type\":\"invoke\",\"process\":0,\"f\":\"r\"},\n {\"type\":\"ok\",\"process\":1,\"f\":\"r\"}]",
            "h.edn:2:2: record 1",
        ),
        ("{\"value\":{\"#edn\":\"[1\"}}", "the text ends inside a vector"),
    ] {
        let message = refused(text.as_bytes());
        assert!(message.contains(expected), "{text}: {message}");
    }
}

/// A history with values that are hard to write.
fn hard() -> History {
    let values = [
        Value::Nil,
        Value::sym("odd name (of) an \"atom\""),
        Value::sym(""),
        Value::sym("1"),
        Value::sym("trailing/"),
        Value::sym("Elixir.Foo.Bar"),
        Value::sym("n1@127.0.0.1"),
        Value::sym(":colon"),
        Value::str(":text"),
        Value::str("quotes \" \\ \n\r\t \u{1} \u{7f} é 😀"),
        Value::Bytes(Arc::new(vec![0, 200, 255])),
        Value::Etf(Arc::new(vec![131, 77, 0, 0, 0, 1, 3, 0xa0])),
        Value::BigInt(Arc::new("-123456789012345678901234567890".to_owned())),
        Value::Int(i64::MIN),
        Value::Float(0.1),
        Value::Float(-1e300),
        Value::Float(f64::INFINITY),
        Value::Float(f64::NAN),
        Value::set([Value::Int(1), Value::sym("a")]),
        Value::map([(Value::sym("0"), Value::Int(1))]),
        Value::map([(Value::Int(0), ints([1])), (Value::sym("k"), Value::Nil)]),
        Value::map([(Value::str("k"), Value::map([(Value::list(vec![]), Value::Bool(true))]))]),
        Value::map([(Value::sym("#edn"), Value::Int(1))]),
        ints(0..300),
    ];
    let mut ops = Vec::new();
    for (i, value) in values.into_iter().enumerate() {
        let mut op =
            Op::new(i as i64, Process::Client(i as i64), OpType::Invoke, Sym::new("w"), value);
        op.error = Value::list(vec![op.value.clone()]);
        op.extra = Some(Arc::new(vec![(Sym::new("odd key"), op.value.clone())]));
        op.node = Some(Sym::new("n1"));
        ops.push(op);
    }
    let nemesis = Process::Named(Sym::new("odd process"));
    ops.push(Op::new(-1, nemesis, OpType::Info, Sym::new("odd f"), Value::Nil));
    ops.push(Op::new(-1, Process::observer(), OpType::Info, Sym::new(draft::NO_F), Value::Nil));
    History::new(ops).unwrap()
}

#[test]
fn histories_survive_every_format() {
    let history = hard();
    let mut text = Vec::new();
    write_edn(&history, &mut text).unwrap();
    assert_eq!(load_bytes("h", &text, None).unwrap().history.ops(), history.ops());
    let mut text = Vec::new();
    write_jsonl(&history, &mut text).unwrap();
    for line in String::from_utf8(text.clone()).unwrap().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    assert_eq!(load_bytes("h", &text, None).unwrap().history.ops(), history.ops());
}

#[test]
fn edn_is_as_jepsen_prints_it() {
    let mut op = Op::new(12, Process::Client(0), OpType::Invoke, Sym::new("read"), Value::Nil);
    let mut out = Vec::new();
    write_edn_op(&op, &mut out);
    let expected = "{:index 0, :time 12, :type :invoke, :process 0, :f :read, :value nil}";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    op.process = Process::nemesis();
    op.value = Value::tuple(vec![Value::Int(1), Value::str("x")]);
    op.error = Value::sym("timeout");
    op.node = Some(Sym::new("n1"));
    op.extra = Some(Arc::new(vec![(Sym::new("final?"), Value::Bool(true))]));
    let mut out = Vec::new();
    write_edn_op(&op, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "{:index 0, :time 12, :type :invoke, :process :nemesis, :f :read, :value [1 \"x\"], \
         :error :timeout, :node \"n1\", :final? true}"
    );
    let mut out = Vec::new();
    write_jsonl_op(&op, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "{\"index\":0,\"time\":12,\"type\":\"invoke\",\"process\":\"nemesis\",\"f\":\"read\",\
         \"value\":[1,\"x\"],\"error\":\":timeout\",\"node\":\"n1\",\"final?\":true}"
    );
}

#[test]
fn our_own_files_load_by_content_and_from_their_folder() {
    use crate::history_file::{Header, Writer};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.fdh");
    let header = Header {
        run: "r".to_owned(),
        test: "t".to_owned(),
        seed: crate::seed::Seed(1),
        clock: crate::clock::RunClock { start_monotonic_ns: 0, start_wall_ns: 0 },
        spec: String::new(),
    };
    let mut writer = Writer::create(&path, &header).unwrap();
    let mut op = Op::new(3, Process::Client(0), OpType::Invoke, Sym::new("read"), Value::Nil);
    writer.append(&mut op).unwrap();
    drop(writer);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, [bytes, vec![1, 2, 3]].concat()).unwrap();
    for path in [path.as_path(), folder.path()] {
        let loaded = load(path, None).unwrap();
        assert_eq!((loaded.format, loaded.history.ops()), (Format::Fdh, &[op.clone()][..]));
        assert!(loaded.notices[0].contains("last 3 bytes"), "{:?}", loaded.notices);
    }
}

#[test]
fn a_pipe_is_read_as_a_file_is() {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"{:process 0, :type :invoke, :f :read}\n").unwrap();
    drop(writer);
    let loaded = load(format!("/proc/self/fd/{}", reader.as_raw_fd()), None).unwrap();
    assert_eq!((loaded.format, loaded.history.ops().len()), (Format::Edn, 1));
}

#[test]
fn a_device_without_end_is_refused_by_its_beginning() {
    let error = load("/dev/zero", None).unwrap_err().to_string();
    assert!(error.contains("/dev/zero") && error.contains("NUL bytes"), "{error}");
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Nil),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_map(Value::Float),
            crate::number::tests::number(),
            ".{0,12}".prop_map(|name| Value::sym(&name)),
            ".{0,12}".prop_map(Value::str),
            prop::collection::vec(any::<u8>(), 0..8)
                .prop_map(|bytes| Value::Bytes(Arc::new(bytes))),
        ];
        scalar.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::list),
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::set),
                ("[a-z][a-z/.]{0,5}", inner.clone()).prop_map(|(tag, value)| tagged(&tag, value)),
                prop::collection::vec((inner.clone(), inner), 0..6).prop_map(Value::map),
            ]
        })
    }

    /// Names that are the text of `nil` come back as `nil`, which is the same atom.
    fn plain(value: &Value) -> bool {
        !edn_of_value(value).contains("#atom \"nil\"")
    }

    proptest! {
        #[test]
        fn values_survive_edn(value in value().prop_filter("nil", plain)) {
            prop_assert_eq!(parse_edn_value(&edn_of_value(&value)), Ok(value));
        }

        #[test]
        fn values_survive_json(value in value().prop_filter("nil", plain)) {
            let op = Op::new(0, Process::Client(0), OpType::Invoke, Sym::new("f"), value);
            let history = History::new(vec![op]).unwrap();
            let mut text = Vec::new();
            write_jsonl(&history, &mut text).unwrap();
            let loaded = load_bytes("h", &text, None).unwrap();
            prop_assert_eq!(loaded.history.ops(), history.ops());
        }

        #[test]
        fn arbitrary_text_never_panics(text in "[\\[\\](){}#:\"\\\\;^_a-z0-9 ,./\n-]{0,60}") {
            let _ = parse_edn_value(&text);
            for format in [Format::Edn, Format::Json] {
                let _ = load_bytes("h", text.as_bytes(), Some(format));
            }
        }

        #[test]
        fn damaged_histories_never_panic(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            for write in [|history: &History, out: &mut Vec<u8>| write_edn(history, out),
                          |history: &History, out: &mut Vec<u8>| write_jsonl(history, out)] {
                let mut text = Vec::new();
                write(&hard(), &mut text).unwrap();
                for (place, byte) in &damage {
                    let place = place.index(text.len());
                    text[place] = *byte;
                }
                let _ = load_bytes("h", &text, None);
            }
        }
    }
}
