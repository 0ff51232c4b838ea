//! Patterns of file names: `*` within a name, `**` across folders, everything else as it is.
//!
//! It allocates nothing, since it runs inside calls that a node makes.

/// Whether a path below the data folder (without a slash in front) fits.
pub fn fits(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*', rest @ ..] => {
            // `**/` also stands for no folder at all.
            let without = rest.strip_prefix(b"/");
            if without.is_some_and(|rest| fits(rest, path)) {
                return true;
            }
            (0..=path.len()).any(|skip| {
                // A folder ends where a name begins: `**/x` is not about `yx`.
                without.is_none_or(|_| path.get(skip) == Some(&b'/')) && fits(rest, &path[skip..])
            })
        }
        [b'*', rest @ ..] => {
            let name = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
            (0..=name).any(|skip| fits(rest, &path[skip..]))
        }
        [byte, rest @ ..] => path.first() == Some(byte) && fits(rest, &path[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_in_a_name_and_double_stars_do_not() {
        for (pattern, path, wanted) in [
            ("**", "a/b/c", true),
            ("**", "a", true),
            ("*", "a", true),
            ("*", "a/b", false),
            ("**/*.DCD", "t.DCD", true),
            ("**/*.DCD", "Mnesia.n1@127.0.0.1/t.DCD", true),
            ("**/*.DCD", "t.DCDx", false),
            ("**/LATEST.LOG", "M/LATEST.LOG", true),
            ("**/LATEST.LOG", "M/NOT-LATEST.LOG", false),
            ("M/**", "M/a/b", true),
            ("M/**", "N/a", false),
            ("M/**/x", "M/x", true),
            ("M/**/x", "M/a/b/x", true),
            ("M/**/x", "M/ax", false),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("a", "", false),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), path.as_bytes()), wanted, "{pattern} {path}");
        }
    }
}
