//! "Did you mean": the nearest of the names that would have been right.

/// ` (did you mean ...?)` when something near is known, otherwise the names there are.
pub(crate) fn hint<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let near = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(given, name), *name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 3);
    match near {
        Some((_, name)) => format!("; did you mean `{name}`?"),
        None if known.is_empty() => "; there are none".to_owned(),
        None => format!("; there are: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::hint;

    #[test]
    fn near_names_are_suggested_and_far_ones_listed() {
        assert_eq!(hint("stager", ["stagger", "mix"]), "; did you mean `stagger`?");
        assert_eq!(hint("zzzzzz", ["stagger", "mix"]), "; there are: stagger, mix");
    }
}
