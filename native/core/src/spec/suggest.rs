//! "Did you mean": the nearest of the names that would have been right.
//!
//! Near means within a third of the length (at least one edit, transpositions count once), or one
//! being the beginning of the other. Farther than that a suggestion misleads more than it helps.

/// The candidate that `given` most likely stands for, if any is near enough.
pub fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = normal(given);
    if wanted.is_empty() {
        return None;
    }
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let name = normal(candidate);
            let distance = strsim::damerau_levenshtein(&wanted, &name);
            let length = wanted.chars().count().max(name.chars().count());
            let prefix =
                wanted.len() >= 3 && (name.starts_with(&wanted) || wanted.starts_with(&name));
            let near = distance <= (length / 3).max(1) && distance < length;
            (near || prefix).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Case and the choice between `-` and `_` are the commonest slips: they count as nothing.
fn normal(name: &str) -> String {
    name.trim().to_lowercase().replace('-', "_")
}

/// "did you mean `x`?", or what there is to choose from.
pub fn hint(given: &str, candidates: &[&str]) -> String {
    match nearest(given, candidates.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("known: {}", candidates.join(", ")),
    }
}

/// As [`hint`], to follow a sentence: "; did you mean `x`?", "; known: x, y", or "; there are none".
pub fn clause<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if candidates.is_empty() {
        "; there are none".into()
    } else {
        format!("; {}", hint(given, &candidates))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_nothing_else() {
        let names = ["time_limit_s", "nodes", "nemesis", "half-open"];
        assert_eq!(nearest("node", names), Some("nodes"));
        assert_eq!(nearest("nemseis", names), Some("nemesis"));
        assert_eq!(nearest("time_limit", names), Some("time_limit_s"));
        assert_eq!(nearest("HALF_OPEN", names), Some("half-open"));
        assert_eq!(nearest("database", names), None);
        assert_eq!(nearest("", names), None);
        assert_eq!(nearest("x", ["y"]), None);
    }

    #[test]
    fn what_is_far_is_answered_with_what_there_is() {
        assert_eq!(clause("stager", ["stagger", "mix"]), "; did you mean `stagger`?");
        assert_eq!(clause("zzzzzz", ["stagger", "mix"]), "; known: stagger, mix");
        assert_eq!(clause("x", []), "; there are none");
    }
}
