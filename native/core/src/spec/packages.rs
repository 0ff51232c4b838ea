//! `nemesis.packages`: which ready sets of faults, none of them, or that nobody has said.
//!
//! Written as a list of words, or as one string of them with commas between as `--nemesis` takes it; `none`, alone, is
//! the same as an empty list. Which words there are is for those to know who draw from them.

use serde::{Deserialize, Deserializer};

/// The word for no faults at all.
pub const NO_FAULTS: &str = "none";

/// As it is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Wire {
    Words(String),
    List(Vec<String>),
}

/// The words of `kill, partition:storage`; none of them for `none`.
pub fn words(text: &str) -> Vec<String> {
    without_none(text.split(',').map(|word| word.trim().to_owned()).collect())
}

/// Among others the word stays, for [`super::validate()`] to refuse.
fn without_none(words: Vec<String>) -> Vec<String> {
    if words == [NO_FAULTS] { Vec::new() } else { words }
}

/// A key that is there has said something.
pub(super) fn deserialize<'de, D>(deserializer: D) -> Result<Option<Vec<String>>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(Some(match Wire::deserialize(deserializer)? {
        Wire::Words(text) => words(&text),
        Wire::List(list) => without_none(list),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::{parse, to_toml};

    const SMALLEST: &str = "[client]\nmodule = \"M\"\n[workload]\nname = \"set\"\n";

    #[test]
    fn who_says_nothing_of_faults_is_told_from_who_wants_none() {
        let nemesis = |text: &str| parse(&format!("{SMALLEST}{text}"), "t").unwrap().nemesis;
        for silent in ["", "[nemesis]\n", "[nemesis]\ninterval_s = 2.0\n"] {
            let nemesis = nemesis(silent);
            assert!(!nemesis.is_chosen() && nemesis.is_empty(), "{silent:?}");
        }
        for none in ["packages = []", "packages = \"none\"", "packages = [\"none\"]", "faults = []"]
        {
            let nemesis = nemesis(&format!("[nemesis]\n{none}\n"));
            assert_eq!(nemesis.packages, Some(vec![]), "{none}");
            assert!(nemesis.is_chosen(), "{none}");
        }
        let listed = nemesis("[nemesis]\npackages = \"kill, partition:storage\"\n");
        assert_eq!(listed.packages(), ["kill", "partition:storage"]);
        let own = nemesis("[[nemesis.faults]]\nkind = \"kill\"\n");
        assert_eq!((own.packages.clone(), own.is_chosen()), (None, true));
        // Written and read again they stay what they are.
        for text in ["", "[nemesis]\npackages = []\n", "[[nemesis.faults]]\nkind = \"kill\"\n"] {
            let spec = parse(&format!("{SMALLEST}{text}"), "t").unwrap();
            assert_eq!(parse(&to_toml(&spec), "t").unwrap(), spec, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_choice_is_refused() {
        for (wrong, message) in [
            ("packages = 3", "t:6:12: nemesis.packages: must be a list of packages"),
            ("packages = [3]", "nemesis.packages[0]: must be a string"),
            ("packages = [\"none\", \"kill\"]", "nemesis.packages: `none` stands alone"),
            ("packages = \"kill,none\"", "nemesis.packages: `none` stands alone"),
        ] {
            let error = parse(&format!("{SMALLEST}[nemesis]\n{wrong}\n"), "t").unwrap_err();
            assert!(error.to_string().contains(message), "{wrong}: {error}");
        }
    }
}
