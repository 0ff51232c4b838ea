//! A BEAM under the library, asked through its standard input.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use fuzz_dist_shim_page::{
    FOLDER_VARIABLE, JOURNAL_FILE, Mapped, PAGE_FILE, SAVED_FOLDER, journal,
};

/// Reads an expression a line, answers with a line.
const LOOP: &str = r#"
Loop = fun Loop(Bindings) ->
    case io:get_line("") of
        eof -> halt();
        Line ->
            {ok, Tokens, _} = erl_scan:string(Line),
            {ok, Expressions} = erl_parse:parse_exprs(Tokens),
            {value, Value, Next} = erl_eval:exprs(Expressions, Bindings),
            io:format("~0p~n", [Value]),
            Loop(Next)
    end
end,
Loop([])."#;

/// The library that this build made.
pub fn library() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let folders = exe.ancestors().skip(1).take(2);
    let mut found =
        folders.map(|folder| folder.join("libfuzz_dist_shim.so")).filter(|f| f.is_file());
    found.next().expect("cargo builds it before its tests")
}

/// The folders of a node.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        for name in ["data", "shim"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        Place { folder }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data").canonicalize().unwrap()
    }

    pub fn shim(&self) -> PathBuf {
        self.folder.path().join("shim")
    }

    /// A new page, and with a journal from now on if one is wanted.
    pub fn page(&self, journal: bool) -> Mapped {
        let _ = std::fs::remove_file(self.shim().join(JOURNAL_FILE));
        let _ = std::fs::remove_dir_all(self.shim().join(SAVED_FOLDER));
        std::fs::create_dir(self.shim().join(SAVED_FOLDER)).unwrap();
        let page = Mapped::create(&self.shim().join(PAGE_FILE), &self.data()).unwrap();
        let state = if journal { journal::ON } else { journal::OFF };
        page.journal.store(state, std::sync::atomic::Ordering::Relaxed);
        page
    }

    pub fn beam(&self) -> Beam {
        Beam::start(&self.data(), Some(&self.shim()), &[])
    }
}

pub struct Beam {
    pub child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Beam {
    /// In this folder; with the library if there is a folder for it.
    pub fn start(data: &Path, shim: Option<&Path>, flags: &[&str]) -> Beam {
        let mut command = Command::new("erl");
        command.args(flags).args(["-noshell", "-eval", LOOP]).current_dir(data);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(shim) = shim {
            command.env("LD_PRELOAD", library()).env(FOLDER_VARIABLE, shim);
        }
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut beam = Beam { child, input, output: BufReader::new(output) };
        assert_eq!(beam.ask("up"), "up");
        beam
    }

    /// What an expression (without its full stop) gives.
    pub fn ask(&mut self, expression: &str) -> String {
        let line: String = expression.split('\n').map(str::trim).collect::<Vec<_>>().join(" ");
        writeln!(self.input, "{line}.").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        assert!(answer.ends_with('\n'), "the BEAM is gone after: {line}");
        answer.trim_end().to_owned()
    }

    pub fn number(&mut self, expression: &str) -> i64 {
        let answer = self.ask(expression);
        answer.parse().unwrap_or_else(|_| panic!("{expression}: {answer}"))
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        // `erl` becomes the BEAM: it is the same process.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Beam {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
