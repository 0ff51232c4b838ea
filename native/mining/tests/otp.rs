//! Erlang/OTP's own modules, of whatever release is in PATH: what is mined from them against their instructions, and the
//! instructions against the disassembler of OTP; a module whose time-outs are known; and bytes that are no modules.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use fuzz_dist_mining::beam::{Module, Operand};
use fuzz_dist_mining::{Kind, Mined, Wait, mine};

/// The `ebin` folder of an application of the Erlang in PATH.
fn ebin(application: &str) -> PathBuf {
    let ask = format!("io:put_chars(code:lib_dir({application})), halt().");
    PathBuf::from(erl(&ask)).join("ebin")
}

fn erl(expression: &str) -> String {
    let output = Command::new("erl")
        .args(["-noinput", "-boot", "start_clean", "-eval", expression])
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn count(mined: &Mined, kind: Kind, what: &str, wait: Wait) -> usize {
    let fits = |site: &&fuzz_dist_mining::Site| {
        site.kind == kind && site.wait == wait && site.what.starts_with(what)
    };
    mined.sites.iter().filter(fits).count()
}

/// What the instructions of all modules of an application have, by [`calls_by_us`], and how many modules there are.
fn instructions(application: &str) -> (BTreeMap<String, usize>, usize) {
    let mut all: BTreeMap<String, usize> = BTreeMap::new();
    let entries = std::fs::read_dir(ebin(application)).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let mut modules = 0;
    for file in files.filter(|file| file.extension().is_some_and(|ending| ending == "beam")) {
        modules += 1;
        for (name, count) in calls_by_us(&Module::read(&std::fs::read(file).unwrap()).unwrap()) {
            *all.entry(name).or_default() += count;
        }
    }
    (all, modules)
}

/// No number of any release: each call and each wait of the instructions is a site of its kind, whatever the release
/// has of them.
#[test]
fn every_call_and_wait_of_an_application_is_mined() {
    for application in ["mnesia", "kernel", "stdlib"] {
        let mined = mine(&ebin(application)).unwrap();
        let (instructions, modules) = instructions(application);
        assert!(mined.problems.is_empty(), "{application}: {:?}", mined.problems);
        assert_eq!(mined.modules, modules, "{application}");
        let in_code = |name: &str| instructions.get(name).copied().unwrap_or_default();

        // Without a time these wait as long as their documentation says.
        for (function, kind, wait) in [
            ("gen_server:call/2", Kind::Call, Wait::Ms(5_000)),
            ("rpc:call/4", Kind::Rpc, Wait::Infinity),
        ] {
            let found = count(&mined, kind, function, wait);
            assert_eq!(found, in_code(function), "{application}: {function}");
        }
        // With a time that the code decides.
        for (function, kind) in [("gen_server:call/3", Kind::Call), ("timer:sleep/1", Kind::Sleep)]
        {
            let sites =
                mined.sites.iter().filter(|site| site.kind == kind && site.what == function);
            assert_eq!(sites.count(), in_code(function), "{application}: {function}");
        }
        // `after 0` asks and does not wait.
        let waits = instructions.iter().filter_map(|(name, count)| {
            let ms: u64 = name.strip_prefix("after ")?.parse().ok()?;
            (ms > 0).then_some((ms, *count))
        });
        let mut constants = 0;
        for (ms, in_code) in waits {
            constants += in_code;
            // More, where the constant reaches the instruction in a register.
            let found = count(&mined, Kind::ReceiveAfter, "receive", Wait::Ms(ms));
            assert!(found >= in_code, "{application}: {found} of {in_code} waits for {ms} ms");
        }
        assert!(
            constants > 0 && in_code("gen_server:call/3") > 0,
            "{application}: {instructions:?}"
        );
    }
}

#[test]
fn boundaries_come_by_how_often_they_are_found() {
    let mut mined = mine(&ebin("kernel")).unwrap();
    mined.add(mine(&ebin("stdlib")).unwrap());
    let boundaries = mined.boundaries();
    assert!(boundaries.len() > 3, "{boundaries:?}");
    assert!(boundaries.is_sorted_by(|one, next| one.count >= next.count), "{boundaries:?}");
    for boundary in &boundaries {
        let sites = mined.sites.iter().filter(|site| site.value_ms == Some(boundary.value_ms));
        assert_eq!(sites.count(), boundary.count, "{boundary:?}");
        assert_eq!(boundary.name, format!("mined-{}", boundary.value_ms));
    }
}

#[test]
fn the_restarts_of_a_supervisor_of_mnesia_are_as_its_source_has_them() {
    let mined = mine(&ebin("mnesia")).unwrap();
    // `timer:hours(24)` where seconds are meant.
    assert!(mined.sites.iter().any(|site| site.module == "mnesia_kernel_sup"
        && site.kind == Kind::Restarts
        && (site.intensity, site.value_ms) == (Some(0), Some(86_400_000_000))));
}

/// How often each function of another module is called, and how many waits there are, by our reader.
fn calls_by_us(module: &Module) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    for instruction in &module.code {
        let name = match (instruction.opcode, instruction.operands.as_slice()) {
            (7 | 8 | 78, [_, Operand::Number(import), ..]) => {
                let import = &module.imports[*import as usize];
                format!("{}:{}/{}", import.module, import.function, import.arity)
            }
            (26, [_, Operand::Int(ms)]) => format!("after {ms}"),
            (26, _) => "after variable".to_owned(),
            _ => continue,
        };
        *calls.entry(name).or_default() += 1;
    }
    calls
}

#[test]
fn the_disassembler_of_otp_finds_the_same_calls_and_waits() {
    let script = r#"
        Name = fun({extfunc, M, F, A}) -> io_lib:format("~ts:~ts/~w", [M, F, A]) end,
        Of = fun({call_ext, _, E}) -> [Name(E)]; ({call_ext_last, _, E, _}) -> [Name(E)];
                ({call_ext_only, _, E}) -> [Name(E)];
                ({wait_timeout, _, {integer, T}}) -> [io_lib:format("after ~w", [T])];
                ({wait_timeout, _, _}) -> ["after variable"];
                (_) -> [] end,
        [begin
             {beam_file, M, _, _, _, Functions} = beam_disasm:file(code:which(M)),
             [io:format("~ts ~ts~n", [M, One]) || {function, _, _, _, Is} <- Functions, I <- Is, One <- Of(I)]
         end || M <- [gen_server, global, net_kernel, mnesia_tm, mnesia_locker, mnesia_recover, file_server]],
        halt()."#;
    let mut theirs: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for line in erl(script).lines() {
        let (module, call) = line.split_once(' ').unwrap();
        *theirs.entry(module.to_owned()).or_default().entry(call.to_owned()).or_default() += 1;
    }
    assert_eq!(theirs.len(), 7);
    for (name, theirs) in theirs {
        let application = if name.starts_with("mnesia") { "mnesia" } else { "kernel" };
        let application = if name == "gen_server" { "stdlib" } else { application };
        let file = ebin(application).join(format!("{name}.beam"));
        let module = Module::read(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(module.name, name);
        let ours = calls_by_us(&module);
        let theirs: BTreeMap<String, usize> = theirs.into_iter().collect();
        assert_eq!(ours, theirs, "{name}");
    }
}

/// A module with known time-outs, compiled by the Erlang in PATH.
const SAMPLE: &str = r#"
-module(sample).
-behaviour(supervisor).
-export([init/1, wait/0, call/2, branch/1, loop/2, late/1, machine/3, kept/1]).
init([]) -> {ok, {#{strategy => one_for_one, intensity => 7, period => 13}, [child()]}};
init(I) -> {ok, {{one_for_all, I, 20}, []}}.
child() -> #{id => a, start => {a, b, []}, shutdown => 2500}.
wait() -> receive x -> ok after 1234 -> timeout end.
call(S, T) -> gen_server:call(S, a), gen_server:call(S, b, 777), gen_server:call(S, c, T).
branch(X) ->
    T = case X of a -> 100; b -> 200; _ -> 300 end,
    timer:sleep(T),
    erlang:send_after(456, self(), x).
loop(0, T) -> timer:sleep(T);
loop(N, _) -> loop(N - 1, 999).
late(P) -> erlang:start_timer(60 * 1000, P, tick).
machine(enter, _, D) -> {keep_state, D, [{state_timeout, 4321, go}, {{timeout, t}, 8765, go}]}.
kept(P) -> T = 3456, P ! a, R = rpc:call(P, a, b, []), {rpc:call(P, a, b, [R], T), T}.
"#;

#[test]
fn constants_are_followed_and_nothing_else_is_taken_for_one() {
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("sample.erl");
    std::fs::write(&source, SAMPLE).unwrap();
    let (source, folder) = (source.display(), scratch.path().display());
    erl(&format!(
        "{{ok, _}} = compile:file(\"{source}\", [{{outdir, \"{folder}\"}}, debug_info]), halt()."
    ));
    let mined = mine(&scratch.path().join("sample.beam")).unwrap();
    let mut found: Vec<String> = mined
        .sites
        .iter()
        .map(|site| {
            let intensity = site.intensity.map_or(String::new(), |n| format!(" {n} in"));
            format!("{} {}{intensity} {}", site.place(), site.kind.as_str(), site.wait)
        })
        .collect();
    found.sort();
    let wanted = [
        "sample:branch/1 sleep variable",
        "sample:branch/1 timer 456",
        "sample:call/2 call 5000",
        "sample:call/2 call 777",
        "sample:call/2 call variable",
        "sample:child/0 shutdown 2500",
        "sample:init/1 restarts 7 in 13000",
        "sample:init/1 restarts 20000",
        "sample:kept/1 rpc 3456",
        "sample:kept/1 rpc infinity",
        "sample:late/1 timer 60000",
        "sample:loop/2 sleep variable",
        "sample:machine/3 state-timeout 4321",
        "sample:machine/3 state-timeout 8765",
        "sample:wait/0 receive-after 1234",
    ];
    let mut wanted: Vec<String> = wanted.iter().map(|line| (*line).to_owned()).collect();
    wanted.sort();
    // The child may be inlined into the literal of init/1, which then has it as well.
    found.retain(|line| line != "sample:init/1 shutdown 2500");
    assert_eq!(found, wanted);
    let wait = mined.sites.iter().find(|site| site.function == "wait").unwrap();
    assert_eq!(wait.line, Some(8));
}

#[test]
fn bytes_that_are_no_module_are_refused_and_never_panic() {
    let whole = std::fs::read(ebin("mnesia").join("mnesia_tm.beam")).unwrap();
    for length in (0..whole.len()).step_by(whole.len() / 97) {
        assert!(Module::read(&whole[..length]).is_err(), "cut at {length}");
    }
    // Any byte turned into any other: an error or a module, within the time of the test.
    let mut state = 0x9e37_79b9_u64;
    for _ in 0..60 {
        let mut bytes = whole.clone();
        for _ in 0..3 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] = (state >> 20) as u8;
        }
        if let Ok(module) = Module::read(&bytes) {
            let file = tempfile::Builder::new().suffix(".beam").tempfile().unwrap();
            std::fs::write(file.path(), &bytes).unwrap();
            mine(file.path()).unwrap();
            assert!(!module.code.is_empty());
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    let error = mine(scratch.path()).unwrap_err().to_string();
    assert!(error.contains("no .beam, .app or .config file"), "{error}");
    let error = mine(&scratch.path().join("none")).unwrap_err().to_string();
    assert!(error.contains("no such file or folder"), "{error}");
    let text = scratch.path().join("x.beam");
    std::fs::write(&text, "text").unwrap();
    assert!(mine(&text).unwrap_err().to_string().contains("is no compiled module"));
}
