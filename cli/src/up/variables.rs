//! The flags of variables: `--variable`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::Context as _;
use control::SecretString;
use manifest::Application;

/// One `--variable`.
#[derive(Debug, Clone)]
pub(super) enum VariableFlag {
    /// `name=value`.
    Value(String, SecretString),
    /// `name=@file`: the file's content is the value.
    FromFile(String, PathBuf),
    /// `@file`: a JSON object or a TOML table of names and values.
    File(PathBuf),
}

impl VariableFlag {
    /// The file that it names.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::Value(..) => None,
            Self::FromFile(_, file) | Self::File(file) => Some(file),
        }
    }
}

impl FromStr for VariableFlag {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected NAME=VALUE, NAME=@FILE, @FILE.json or @FILE.toml";
        if let Some(file) = text.strip_prefix('@') {
            return if file.is_empty() { Err(EXPECTED) } else { Ok(Self::File(file.into())) };
        }
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(match value.strip_prefix('@') {
                Some(file) => Self::FromFile(name.to_owned(), file.into()),
                None => Self::Value(name.to_owned(), SecretString::new(value)),
            }),
            _ => Err(EXPECTED),
        }
    }
}

/// The values that the flags give; of several for one variable, the last.
///
/// # Errors
/// When a file cannot be read or is no table of texts; values are not shown.
pub(super) fn values(flags: &[VariableFlag]) -> anyhow::Result<BTreeMap<String, SecretString>> {
    let mut values = BTreeMap::new();
    for flag in flags {
        match flag {
            VariableFlag::Value(name, value) => {
                values.insert(name.clone(), value.clone());
            }
            VariableFlag::FromFile(name, file) => {
                let read = std::fs::read_to_string(file);
                let value = read.with_context(|| format!("--variable {name}: cannot read {}", file.display()))?;
                values.insert(name.clone(), SecretString::new(value));
            }
            VariableFlag::File(file) => {
                let read = read_table(file).with_context(|| format!("--variable @{}", file.display()))?;
                values.extend(read.into_iter().map(|(name, value)| (name, SecretString::new(value))));
            }
        }
    }
    Ok(values)
}

fn read_table(file: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    // What the parsers say of wrong values could show them, so only the place is told.
    let text = std::fs::read_to_string(file).context("cannot read it")?;
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("json") => serde_json::from_str(&text).map_err(|error| {
            anyhow::anyhow!(
                "it is no JSON object of names and texts (line {}, column {})",
                error.line(),
                error.column()
            )
        }),
        Some("toml") => toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text.get(..span.start).unwrap_or_default().lines().count().max(1));
            anyhow::anyhow!("it is no TOML table of names and texts (line {line})")
        }),
        _ => anyhow::bail!("name a file that ends in .json or .toml"),
    }
}

/// The variables that are given are the application's.
///
/// # Errors
/// When one is not.
pub(super) fn check(application: &Application, given: &BTreeMap<String, SecretString>) -> anyhow::Result<()> {
    for name in given.keys() {
        let known: Vec<&str> = application.variables.keys().map(String::as_str).collect();
        anyhow::ensure!(
            application.variables.contains_key(name),
            "--variable {name}: the application has no such variable{}",
            if known.is_empty() { String::new() } else { format!(", it has: {}", known.join(", ")) }
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(flags: &[&str]) -> anyhow::Result<Vec<(String, String)>> {
        let flags: Vec<VariableFlag> = flags.iter().map(|flag| flag.parse().unwrap()).collect();
        let values = values(&flags)?;
        Ok(values.into_iter().map(|(name, value)| (name, value.expose().to_owned())).collect())
    }

    #[test]
    fn values_come_from_flags_and_files_and_the_last_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(at("secret"), "from a file\n").unwrap();
        std::fs::write(at("all.json"), r#"{"a": "json", "b": "json"}"#).unwrap();
        std::fs::write(at("all.toml"), "b = 'toml'\nc = 'toml'").unwrap();
        let flags = [
            format!("@{}", at("all.json")),
            format!("@{}", at("all.toml")),
            format!("c=@{}", at("secret")),
            "d=x=y".to_owned(),
            "a=".to_owned(),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let pairs = [("a", ""), ("b", "toml"), ("c", "from a file\n"), ("d", "x=y")];
        assert_eq!(given(&flags).unwrap(), pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_wrong_is_told_without_values() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("a.json", r#"{"password": 123}"#), ("b.toml", "x = 1\npassword = 123"), ("c.txt", "123")]
        {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", given(&[&format!("@{}", path.display())]).unwrap_err());
            assert!(error.contains(name) && !error.contains("123"), "{error}");
        }
        assert!(given(&["a=@/nowhere"]).unwrap_err().to_string().contains("--variable a"));
        for wrong in ["", "@", "=x", "novalue"] {
            assert!(wrong.parse::<VariableFlag>().is_err(), "{wrong}");
        }
    }
}
