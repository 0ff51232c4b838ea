//! What a run tests: the revision of the working directory's git repository and whether it is clean, and digests of
//! the code that the nodes run. It stands in the history, so that a run can be analysed again years later.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fuzz_dist_core::{History, Op, Value};
use fuzz_dist_report::{Code, Git, Tested};

use crate::agents::{Agents, Role};
use crate::cluster::find_ebin;
use crate::nemesis::planes::vm;
use crate::recorder::map;

/// The function of the record in the history.
pub(crate) const RECORD: &str = "tested";

/// The module that says which code a node runs.
const MODULE: &str = "fuzz_dist_code";

/// How long a node may take to read its code; a large system has thousands of modules.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Finds it out. What cannot be found is left out: a run does not fail for it.
pub(crate) fn find(folder: &Path, agents: &Agents, nodes: &[String]) -> Tested {
    let nodes = std::thread::scope(|scope| {
        let asked: Vec<_> =
            nodes.iter().map(|node| (node, scope.spawn(|| code_of(agents, node)))).collect();
        let answers = asked.into_iter().map(|(node, answer)| (node, answer.join().ok().flatten()));
        answers.filter_map(|(node, code)| Some((node.clone(), code?))).collect()
    });
    Tested { git: git(folder), nodes }
}

fn code_of(agents: &Agents, node: &str) -> Option<Code> {
    let link = agents.get(Role::Node, node)?;
    vm::load(&link, MODULE, &find_ebin().ok()?).ok()?;
    let call = [
        Value::sym(MODULE),
        Value::sym("digests"),
        Value::list(Vec::new()),
        Value::Int(READ_TIMEOUT.as_millis() as i64),
    ];
    let answer = link.ask("call", call, READ_TIMEOUT).ok()?;
    let one = |entry: &Value| match entry.items() {
        Some([name, _count, digest]) => {
            Some((name.as_text()?.to_owned(), digest.as_text()?.to_owned()))
        }
        _ => None,
    };
    let applications: BTreeMap<String, String> = answer.items()?.iter().filter_map(one).collect();
    Some(Code { digest: digest_of(&applications), applications })
}

/// The same on every machine and in every version: FNV-1a of names and digests, which are MD5.
fn digest_of(applications: &BTreeMap<String, String>) -> String {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    for (name, digest) in applications {
        hasher.write(format!("{name}={digest}\n").as_bytes());
    }
    format!("{:016x}", hasher.finish())
}

struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// The state of the repository that the folder is in; none without one, without commits, or without git.
fn git(folder: &Path) -> Option<Git> {
    let ask = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(folder).stdin(Stdio::null());
        // Nothing of the repository is written, not even its index.
        command.env("GIT_OPTIONAL_LOCKS", "0");
        let output = command.output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let revision = ask(&["rev-parse", "HEAD"])?.trim().to_owned();
    let changed = ask(&["status", "--porcelain"])?;
    Some(Git { revision, changed_files: changed.lines().count() as u64 })
}

/// As the value of a record.
pub(crate) fn to_value(tested: &Tested) -> Value {
    let text = |text: &String| Value::str(text.as_str());
    let git = tested.git.as_ref().map_or(Value::Nil, |git| {
        let changed = i64::try_from(git.changed_files).unwrap_or(i64::MAX);
        map([("revision", text(&git.revision)), ("changed-files", Value::Int(changed))])
    });
    let of_node = |(node, code): (&String, &Code)| {
        let applications = code.applications.iter().map(|(name, of)| (text(name), text(of)));
        let applications = ("applications", Value::map(applications));
        (text(node), map([("digest", text(&code.digest)), applications]))
    };
    map([("git", git), ("nodes", Value::map(tested.nodes.iter().map(of_node)))])
}

/// What a history says about it.
pub(crate) fn of(history: &History) -> Option<Tested> {
    let is_record = |op: &&Op| !op.is_client() && op.f.as_str() == RECORD;
    let value = &history.ops().iter().find(is_record)?.value;
    let text = |value: &Value, key: &str| Some(value.get(key)?.as_text()?.to_owned());
    let git = value.get("git").and_then(|git| {
        let changed = git.get("changed-files").and_then(Value::as_int).unwrap_or(0);
        let changed_files = u64::try_from(changed).unwrap_or(0);
        Some(Git { revision: text(git, "revision")?, changed_files })
    });
    let entries = |value: Option<&Value>| match value {
        Some(Value::Map(entries)) => entries.iter().cloned().collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    let mut nodes = BTreeMap::new();
    for (node, code) in entries(value.get("nodes")) {
        let applications = entries(code.get("applications"));
        let applications = applications
            .iter()
            .filter_map(|(name, of)| Some((name.as_text()?.to_owned(), of.as_text()?.to_owned())));
        let applications = applications.collect();
        let digest = text(&code, "digest").unwrap_or_default();
        nodes.extend(node.as_text().map(|node| (node.to_owned(), Code { digest, applications })));
    }
    Some(Tested { git, nodes })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use fuzz_dist_core::{OpType, Process, Sym};

    #[test]
    fn what_was_tested_comes_back_from_a_history() {
        let applications: BTreeMap<String, String> = [("kv".to_owned(), "0a".to_owned())].into();
        let code = Code { digest: digest_of(&applications), applications };
        let tested = Tested {
            git: Some(Git { revision: "abc".into(), changed_files: 3 }),
            nodes: [("n1".to_owned(), code)].into(),
        };
        for tested in [tested, Tested::default()] {
            let value = to_value(&tested);
            let op = Op::new(0, Process::observer(), OpType::Info, Sym::new(RECORD), value);
            assert_eq!(of(&History::new(vec![op]).unwrap()), Some(tested));
        }
        assert_eq!(of(&History::new(Vec::new()).unwrap()), None);
    }

    #[test]
    fn a_repository_is_clean_until_a_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(git(folder.path()), None);
        let git_does = |arguments: &[&str]| {
            let mut command = Command::new("git");
            command.args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(arguments);
            let done = command.current_dir(folder.path()).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        };
        git_does(&["init", "-q"]);
        assert_eq!(git(folder.path()), None, "no commit yet");
        std::fs::write(folder.path().join("a"), "1").unwrap();
        git_does(&["add", "a"]);
        git_does(&["commit", "-qm", "first"]);
        let clean = git(folder.path()).unwrap();
        assert_eq!((clean.revision.len(), clean.changed_files), (40, 0));
        std::fs::write(folder.path().join("a"), "2").unwrap();
        std::fs::write(folder.path().join("b"), "new").unwrap();
        assert_eq!(git(folder.path()).unwrap(), Git { changed_files: 2, ..clean });
    }

    #[test]
    fn a_digest_depends_on_every_name_and_every_code() {
        let of = |pairs: &[(&str, &str)]| {
            let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
            digest_of(&pairs.iter().map(owned).collect())
        };
        assert_eq!(of(&[("a", "1"), ("b", "2")]), of(&[("b", "2"), ("a", "1")]));
        assert_ne!(of(&[("a", "1")]), of(&[("a", "2")]));
        assert_ne!(of(&[("a", "1")]), of(&[("b", "1")]));
    }
}
