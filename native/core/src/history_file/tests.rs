//! The promises of the format: everything comes back, damage is told, and little is written.

use std::fs;
use std::sync::Arc;

use super::*;
use crate::op::{Op, OpType, Process};
use crate::sym::Sym;
use crate::value::Value;

fn header() -> Header {
    Header {
        run: "20261120T115401.123Z".to_owned(),
        test: "register".to_owned(),
        seed: Seed(42),
        clock: RunClock { start_monotonic_ns: 7, start_wall_ns: 1_700_000_000_000_000_000 },
        spec: "name = \"register\"\n".to_owned(),
    }
}

fn keyed(key: i64, value: Value) -> Value {
    Value::tuple(vec![Value::Int(key), value])
}

/// Records of every shape: all flags, names new and known, times that go back.
fn varied() -> Vec<Op> {
    let mut ops = Vec::new();
    for i in 0..40i64 {
        let process = Process::Client(i % 4);
        let mut invoke =
            Op::new(i * 1_000, process, OpType::Invoke, Sym::new("write"), keyed(i, Value::Int(i)));
        invoke.node = Some(Sym::new("n1"));
        let mut done = invoke.clone();
        done.time_ns += 500 - (i % 3) * 700;
        done.op_type = [OpType::Ok, OpType::Fail, OpType::Info][(i % 3) as usize];
        if i % 3 != 0 {
            done.error = Value::tuple(vec![Value::sym("timeout"), Value::str("n\u{e9}")]);
        }
        if i % 5 == 0 {
            let value = Value::map([(Value::Int(1), Value::Float(0.5))]);
            let extra = vec![(Sym::new("final?"), Value::Bool(true)), (Sym::new("x/y"), value)];
            done.extra = Some(Arc::new(extra));
        }
        ops.extend([invoke, done]);
        let seen = Value::map([(Value::sym("peer"), Value::str("n2"))]);
        ops.push(Op::new(-1, Process::observer(), OpType::Info, Sym::new("nodedown"), seen));
    }
    for (i, op) in ops.iter_mut().enumerate() {
        op.index = i as u64;
    }
    ops
}

/// Writes the records in commits of `group`, and returns the file's bytes and, for every commit, where
/// it ends and how many records precede that place.
fn written(ops: &[Op], group: usize) -> (Vec<u8>, Vec<(usize, usize)>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.fdh");
    let mut writer = Writer::create(&path, &header()).unwrap();
    let mut ends = vec![(writer.committed_bytes() as usize, 0)];
    let mut count = 0;
    for batch in ops.chunks(group) {
        for op in batch {
            let mut op = op.clone();
            op.index = 999;
            writer.append(&mut op).unwrap();
            assert_eq!(op.index, count as u64);
            count += 1;
        }
        writer.commit().unwrap();
        ends.push((writer.committed_bytes() as usize, count));
    }
    drop(writer);
    (fs::read(&path).unwrap(), ends)
}

fn recovered(bytes: &[u8]) -> Result<Recovered, HistoryFileError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.fdh");
    fs::write(&path, bytes).unwrap();
    Reader::open(&path)
}

#[test]
fn everything_comes_back() {
    let ops = varied();
    let (bytes, _) = written(&ops, 7);
    let back = recovered(&bytes).unwrap();
    assert_eq!(back.header, header());
    assert_eq!(back.ops, ops);
    assert_eq!(back.torn, None);
}

#[test]
fn an_operation_takes_at_most_64_bytes() {
    let mut ops = Vec::new();
    for i in 0..10_000i64 {
        let mut op = Op::new(
            i * 7_000,
            Process::Client(i % 100),
            OpType::Invoke,
            Sym::new("write"),
            keyed(i % 1_000, Value::Int(i % 256)),
        );
        op.node = Some(Sym::new("n2"));
        let mut done = op.clone();
        done.op_type = OpType::Ok;
        done.time_ns += 3_000_000;
        ops.extend([op, done]);
    }
    // Even when each record is committed alone, which costs a frame of its own.
    for (group, bytes_max) in [(1, 64.0), (64, 48.0)] {
        let (bytes, ends) = written(&ops, group);
        let per_operation = (bytes.len() - ends[0].0) as f64 / 10_000.0;
        assert!(per_operation <= bytes_max, "{per_operation} bytes in groups of {group}");
    }
}

#[test]
fn a_file_cut_at_any_byte_keeps_what_was_committed_before() {
    let ops = varied();
    let (bytes, ends) = written(&ops, 5);
    for cut in 0..bytes.len() {
        let back = match recovered(&bytes[..cut]) {
            Ok(back) => back,
            Err(error) => {
                assert!(cut < ends[0].0, "cut at {cut}: {error}");
                continue;
            }
        };
        let (whole, kept) = *ends.iter().rev().find(|(end, _)| *end <= cut).unwrap();
        assert_eq!(back.ops, ops[..kept], "cut at {cut}");
        match back.torn {
            None => assert_eq!(cut, whole),
            Some(torn) => {
                assert_eq!((torn.offset, torn.bytes), (whole as u64, (cut - whole) as u64));
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_told_and_what_precedes_it_is_kept() {
    let ops = varied();
    let (bytes, ends) = written(&ops, 5);
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        match recovered(&damaged) {
            Err(_) => assert!(place < ends[0].0, "flip at {place}"),
            Ok(back) => {
                let (whole, kept) = *ends.iter().rev().find(|(end, _)| *end <= place).unwrap();
                let torn = back.torn.unwrap_or_else(|| panic!("flip at {place} not noticed"));
                assert_eq!((torn.offset, back.ops.len()), (whole as u64, kept), "flip at {place}");
                assert_eq!(back.ops, ops[..kept]);
            }
        }
    }
}

#[test]
fn a_zeroed_tail_is_a_torn_tail() {
    let ops = varied();
    let (mut bytes, ends) = written(&ops, 50);
    bytes.extend([0; 4096]);
    let back = recovered(&bytes).unwrap();
    assert_eq!(back.ops, ops);
    let torn = back.torn.unwrap();
    assert_eq!((torn.offset, torn.bytes), (ends.last().unwrap().0 as u64, 4096));
}

#[test]
fn other_files_are_named_for_what_they_are() {
    let (mut bytes, _) = written(&varied(), 5);
    bytes[7] = 9;
    assert!(matches!(recovered(&bytes), Err(HistoryFileError::OtherVersion { version: 9, .. })));
    let text = recovered(b"{:type :invoke}").unwrap_err().to_string();
    assert!(text.contains("not a history file") && text.contains("{:type"), "{text}");
    assert!(matches!(recovered(b""), Err(HistoryFileError::BadHeader { .. })));
}

#[test]
fn nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.fdh");
    drop(Writer::create(&path, &header()).unwrap());
    assert!(matches!(Writer::create(&path, &header()), Err(HistoryFileError::Exists { .. })));
}

#[test]
fn a_growing_file_can_be_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.fdh");
    let mut writer = Writer::create(&path, &header()).unwrap();
    let mut follower = Reader::follow(&path).unwrap();
    assert_eq!(follower.header(), &header());
    let ops = varied();
    let mut seen = Vec::new();
    for batch in ops.chunks(11) {
        assert_eq!(follower.poll(&mut seen).unwrap(), None);
        for op in batch {
            writer.append(&mut op.clone()).unwrap();
        }
        writer.commit().unwrap();
    }
    assert_eq!(follower.poll(&mut seen).unwrap(), None);
    assert_eq!(seen, ops);

    // Half a frame is not there yet; the rest completes it.
    let (bytes, ends) = written(&ops, 10);
    let torn = folder.path().join("torn.fdh");
    let end = ends[1].0;
    fs::write(&torn, &bytes[..end - 3]).unwrap();
    let mut follower = Reader::follow(&torn).unwrap();
    let mut seen = Vec::new();
    assert_eq!(follower.poll(&mut seen).unwrap(), None);
    assert!(seen.is_empty());
    fs::write(&torn, &bytes[..end]).unwrap();
    assert_eq!(follower.poll(&mut seen).unwrap(), None);
    assert_eq!(seen, ops[..10]);
}

#[test]
fn records_larger_than_a_frame_aims_at_survive() {
    let long = Value::str("x".repeat(600 << 10));
    let ops: Vec<Op> = (0..6)
        .map(|i| Op::new(i, Process::Client(i), OpType::Invoke, Sym::new("write"), long.clone()))
        .collect();
    let (bytes, _) = written(&ops, 6);
    let back = recovered(&bytes).unwrap();
    assert_eq!(back.torn, None);
    assert_eq!(back.ops.len(), 6);
    assert!(back.ops.iter().all(|op| op.value == long));
}
