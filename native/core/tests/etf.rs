//! The codec of terms against the BEAM, against the `eetf` crate, and against hostile bytes.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use fuzz_dist_core::etf::{self, EtfError, Limits};
use fuzz_dist_core::{Sym, Value};
use proptest::prelude::*;

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    etf::encode(value, &mut out);
    out
}

fn decoded(bytes: &[u8]) -> Result<Value, EtfError> {
    etf::decode(bytes, &Limits::default())
}

/// A scalar that comes back as it is.
fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-300i64..300).prop_map(Value::Int),
        "-?[1-9][0-9]{20,60}".prop_map(|digits| Value::BigInt(Arc::new(digits))),
        (-1e300f64..1e300).prop_map(Value::Float),
        "[a-z_é]{0,300}".prop_map(|name| match name.as_str() {
            "nil" | "true" | "false" => Value::Nil,
            name => Value::Sym(Sym::new(name)),
        }),
        ".{0,40}".prop_map(Value::str),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|mut bytes| {
            bytes.push(0xff);
            Value::Bytes(Arc::new(bytes))
        }),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::list),
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::tuple),
            prop::collection::vec((inner.clone(), inner), 0..6).prop_map(Value::map),
        ]
    })
}

/// What `eetf` makes of a term, as a value.
fn of_eetf(term: &eetf::Term) -> Value {
    use eetf::Term;
    let all = |terms: &[Term]| terms.iter().map(of_eetf).collect::<Vec<_>>();
    match term {
        Term::Atom(atom) => match atom.name.as_str() {
            "nil" => Value::Nil,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            name => Value::Sym(Sym::new(name)),
        },
        Term::FixInteger(n) => Value::Int(i64::from(n.value)),
        Term::BigInteger(n) => match i64::try_from(&n.value) {
            Ok(n) => Value::Int(n),
            Err(_) => Value::BigInt(Arc::new(n.value.to_string())),
        },
        Term::Float(x) => Value::Float(x.value),
        Term::Binary(binary) => match std::str::from_utf8(&binary.bytes) {
            Ok(text) => Value::str(text),
            Err(_) => Value::Bytes(Arc::new(binary.bytes.clone())),
        },
        Term::ByteList(list) => {
            Value::list(list.bytes.iter().map(|&b| Value::Int(i64::from(b))).collect::<Vec<_>>())
        }
        Term::List(list) => Value::list(all(&list.elements)),
        Term::Tuple(tuple) => Value::tuple(all(&tuple.elements)),
        Term::Map(map) => Value::map(map.map.iter().map(|(k, v)| (of_eetf(k), of_eetf(v)))),
        other => panic!("no value of the strategy becomes {other}"),
    }
}

proptest! {
    #[test]
    fn values_come_back(value in value()) {
        let bytes = encoded(&value);
        prop_assert_eq!(&decoded(&bytes).unwrap(), &value);
        let mut two = bytes.clone();
        two.extend(&bytes);
        prop_assert_eq!(etf::decode_prefix(&two, &Limits::default()).unwrap(), (value, bytes.len()));
    }

    #[test]
    fn the_eetf_crate_reads_the_same(value in value()) {
        let term = eetf::Term::decode(encoded(&value).as_slice()).unwrap();
        prop_assert_eq!(of_eetf(&term), value);
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decoded(&bytes);
        bytes.insert(0, 131);
        if let Ok(value) = decoded(&bytes) {
            // What is taken for a term is one: it can be written and read again.
            prop_assert_eq!(decoded(&encoded(&value)).unwrap(), value);
        }
    }

    #[test]
    fn damaged_terms_never_panic(
        value in value(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encoded(&value);
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let _ = decoded(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _ = decoded(&bytes);
    }

    #[test]
    fn a_term_cut_off_is_an_error(value in value(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&value);
        prop_assert!(decoded(&bytes[..cut.index(bytes.len())]).is_err());
    }
}

/// Terms of every kind, as the BEAM writes them; some only make sense in the VM that made them.
const BEAM_TERMS: &str = "
    F = fun(X) -> {X, Y} end,
    P = open_port({spawn, \"cat\"}, []),
    [nil, true, undefined, '', 'with space', 'gr\\x{fc}n', list_to_atom([1080, 1084, 1103]),
     list_to_atom(lists:duplicate(255, $a)),
     0, 255, 256, -1, 2147483647, -2147483648, 2147483648, 9223372036854775807,
     -9223372036854775808, 9223372036854775808, -(1 bsl 200), 1 bsl 2100, 1 bsl 9000,
     1.5, -0.0, 1.0e300, <<>>, <<\"text\">>, <<\"gr\\x{fc}n\"/utf8>>, <<255, 254>>, <<5:3>>, <<1, 2, 1:1>>,
     [], [1, 2, 3], \"text\", [-1], [256], [a | b], [1, 2 | <<\"c\">>], [[], [[]], [[[a | b]]]],
     lists:duplicate(70000, 7), lists:seq(1, 300),
     {}, {a}, list_to_tuple(lists:seq(1, 300)), {{{1}}},
     #{}, #{a => 1, \"k\" => {}, 1 => x, 1.0 => y}, maps:from_list([{N, N} || N <- lists:seq(1, 100)]),
     self(), make_ref(), P, F, fun lists:map/2, fun() -> ok end,
     {ok, self(), [make_ref() | F], #{self() => <<3:2>>}},
     [{ops, [{N, N rem 10, read, {N, nil}} || N <- lists:seq(1, 200)]}]]
";

#[test]
fn every_term_of_the_beam_survives() {
    // Prints each term, then compares what comes back with it.
    let script = format!(
        "Y = 1, Terms = begin {BEAM_TERMS} end,
         [io:format(\"~s~n\", [binary:encode_hex(term_to_binary(T, [{{minor_version, V}}]))])
            || T <- Terms, V <- [1, 2]],
         io:format(\"end~n\"),
         [begin
            Line = string:trim(io:get_line(\"\")),
            Back = binary_to_term(binary:decode_hex(list_to_binary(Line))),
            io:format(\"~p~n\", [Back =:= T])
          end || T <- Terms, _ <- [1, 2]],
         halt(0, [{{flush, true}}])."
    );
    let mut erl = Command::new("erl")
        .args(["-noshell", "-eval", &script])
        .args(["-kernel", "standard_io_encoding", "latin1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("erl runs");
    let mut lines = BufReader::new(erl.stdout.take().unwrap()).lines().map(Result::unwrap);
    let hex: Vec<String> = lines.by_ref().take_while(|line| line != "end").collect();
    assert!(hex.len() > 100, "only {} terms", hex.len());
    let mut input = erl.stdin.take().unwrap();
    let values: Vec<Value> = hex.iter().map(|hex| decoded(&unhex(hex)).unwrap()).collect();
    let answers: Vec<String> = std::thread::scope(|scope| {
        let values = &values;
        scope.spawn(move || {
            for value in values {
                writeln!(input, "{}", to_hex(&encoded(value))).unwrap();
            }
        });
        lines.collect()
    });
    erl.wait().unwrap();
    assert_eq!(answers.len(), hex.len());
    for ((answer, hex), value) in answers.iter().zip(&hex).zip(&values) {
        assert_eq!(answer, "true", "{hex} was read as {value}");
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[test]
fn what_the_beam_alone_understands_is_kept_verbatim() {
    let bit_string = [131, 77, 0, 0, 0, 1, 3, 0xa0];
    assert_eq!(decoded(&bit_string).unwrap(), Value::Etf(Arc::new(bit_string.to_vec())));
    let nested = Value::tuple(vec![Value::sym("x"), Value::Etf(Arc::new(bit_string.to_vec()))]);
    assert_eq!(decoded(&encoded(&nested)).unwrap(), nested);
}

#[test]
fn a_set_is_written_as_a_sorted_list() {
    let set = Value::set([Value::Int(900), Value::Int(-4), Value::sym("a")]);
    let list = Value::list(vec![Value::Int(-4), Value::Int(900), Value::sym("a")]);
    assert_eq!(decoded(&encoded(&set)).unwrap(), list);
}

#[test]
fn nesting_is_refused_before_the_stack_ends() {
    let mut bytes = vec![131];
    for _ in 0..1_000_000 {
        bytes.extend([108, 0, 0, 0, 1]);
    }
    assert!(matches!(decoded(&bytes), Err(EtfError::TooDeep { depth_max: 128, .. })));
    // The same inside a term that is only passed over: a fun with free variables.
    let mut bytes = vec![131, 117];
    for _ in 0..1_000_000 {
        bytes.extend([0, 0, 0, 1, 117]);
    }
    assert!(matches!(decoded(&bytes), Err(EtfError::TooDeep { .. })));
    let deep = (0..127).fold(Value::Nil, |inner, _| Value::list(vec![inner]));
    assert_eq!(decoded(&encoded(&deep)).unwrap(), deep);
}

#[test]
fn a_length_is_believed_only_as_far_as_bytes_follow() {
    for tag in [105u8, 108, 109, 111, 116] {
        let bytes = [131, tag, 255, 255, 255, 255, 0];
        assert!(matches!(decoded(&bytes), Err(EtfError::Truncated { .. })), "tag {tag}");
    }
}

#[test]
fn compressed_terms_are_unpacked_within_the_limits() {
    let value = Value::list(vec![Value::sym("abc"); 5000]);
    let plain = encoded(&value);
    let pack = |size: u32, bytes: &[u8]| {
        let mut encoder = libflate::zlib::Encoder::new(Vec::new()).unwrap();
        encoder.write_all(bytes).unwrap();
        let packed = encoder.finish().into_result().unwrap();
        [vec![131, 80], size.to_be_bytes().to_vec(), packed].concat()
    };
    let size = plain.len() as u32 - 1;
    let packed = pack(size, &plain[1..]);
    assert!(packed.len() < plain.len() / 10);
    assert_eq!(decoded(&packed).unwrap(), value);
    // Announced too small, too large, and more than allowed; and cut off.
    for size in [size - 1, size + 1] {
        assert!(matches!(decoded(&pack(size, &plain[1..])), Err(EtfError::Malformed { .. })));
    }
    let limits = Limits { bytes_max: 1000, ..Limits::default() };
    let refused = etf::decode(&packed, &limits);
    assert!(matches!(refused, Err(EtfError::TooLarge { bytes_max: 1000, .. })));
    assert!(decoded(&packed[..packed.len() / 2]).is_err());
}

#[test]
fn errors_name_the_byte() {
    let text = |bytes: &[u8]| decoded(bytes).unwrap_err().to_string();
    assert_eq!(text(b"{:a 1}"), "a term begins with the byte 131, this begins with 123");
    assert_eq!(text(&[131, 104, 1, 200]), "unknown tag 200 at byte 3");
    assert_eq!(text(&[131, 106, 0, 0]), "2 bytes follow the term, which ends at byte 2");
    assert!(text(&[131, 119, 5, b'a']).contains("4 more bytes"));
}
