//! The words of problems.

/// `path.key`, with quotes where TOML needs them.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_bare = !key.is_empty() && key.chars().all(bare);
    let key = if is_bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The noun with its article.
pub(super) fn article(noun: &str) -> String {
    format!("{} {noun}", if noun.starts_with(['a', 'i']) { "an" } else { "a" })
}

/// The one of `known` that `name` may have been meant to be.
pub(crate) fn near<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.len() / 4) && *distance < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// `did you mean …` when one of `known` is near, all of them otherwise.
pub(crate) fn suggest(name: &str, known: &[&str]) -> String {
    match near(name, known) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None if known.is_empty() => "nothing is known here; remove it".to_owned(),
        None => format!("known here: {}", list(known)),
    }
}

/// `` `a`, `b` and `c` ``.
pub(crate) fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}
