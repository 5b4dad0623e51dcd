//! What outlives requests: where stores are, what they hold at the start, and the runtime configuration.

use std::{
    borrow::Cow,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use manifest::{
    RuntimeConfig,
    runtime_config::{self, Directory, Origin},
};

use node_runtime::engine::ExecutionContext;

use super::application::Source;

/// The flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "State")]
pub(super) struct StateArgs {
    /// Where stores and logs are; '' for nowhere [default: .spin beside the manifest, nowhere for a bindle or a wasm file]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<OsString>,
    /// Stores, databases, providers of variables and limits: Spin's runtime-config.toml
    #[arg(long, env = "RUNTIME_CONFIG_FILE", value_name = "FILE")]
    runtime_config_file: Option<PathBuf>,
    /// Set a key of the default key-value store first; repeatable
    #[arg(long = "key-value", value_name = "KEY=VALUE", value_parser = super::guests::key_value)]
    key_values: Vec<(String, String)>,
    /// Execute a statement in the default SQLite database first, or those in @FILE, or in @FILE:DATABASE; repeatable
    #[arg(long, value_name = "STATEMENT|@FILE")]
    sqlite: Vec<String>,
}

impl StateArgs {
    /// The runtime configuration.
    ///
    /// # Errors
    /// When it cannot be read or is wrong.
    pub(super) fn runtime_config(&self) -> anyhow::Result<RuntimeConfig> {
        let Some(file) = &self.runtime_config_file else { return Ok(RuntimeConfig::default()) };
        let shown = file.display();
        let text =
            std::fs::read_to_string(file).with_context(|| format!("--runtime-config-file: cannot read {shown}"))?;
        let dir = file.parent().unwrap_or(Path::new(""));
        Ok(runtime_config::parse(&text, &shown.to_string(), Origin::Local(dir))?)
    }

    /// The state directory of an application from `source`, if there is one.
    pub(super) fn state_dir(&self, config: &RuntimeConfig, source: &Source) -> Option<PathBuf> {
        if let Some(dir) = &self.state_dir {
            return Some(PathBuf::from(dir)).filter(|dir| !dir.as_os_str().is_empty());
        }
        match &config.state_dir {
            Directory::At(dir) => Some(dir.clone()),
            Directory::None => None,
            Directory::Default => Some(source.dir()?.join(".spin")),
        }
    }

    /// The file of the runtime configuration, if a flag names one.
    pub(super) fn runtime_config_file(&self) -> Option<&Path> {
        self.runtime_config_file.as_deref()
    }

    /// Writes into the stores of `context` what the flags say.
    ///
    /// # Errors
    /// When a store does not work, or a statement fails.
    pub(super) async fn fill(&self, context: &ExecutionContext) -> anyhow::Result<()> {
        for (key, value) in &self.key_values {
            context.set_key_value(key, value.as_bytes()).await.context("--key-value")?;
        }
        for statement in &self.sqlite {
            let (database, sql) = sql_of(statement)?;
            context.execute_sqlite(database, &sql).await.with_context(|| format!("--sqlite {statement}"))?;
        }
        Ok(())
    }
}

/// The database that a `--sqlite` is for, and its SQL: a statement, `@file` or `@file:database`.
fn sql_of(flag: &str) -> anyhow::Result<(&str, Cow<'_, str>)> {
    const DEFAULT: &str = "default";
    let Some(source) = flag.strip_prefix('@') else { return Ok((DEFAULT, Cow::Borrowed(flag))) };
    let (file, database) = match source.rsplit_once(':') {
        Some(parts) if !Path::new(source).exists() => parts,
        _ => (source, DEFAULT),
    };
    anyhow::ensure!(
        !file.is_empty() && !database.is_empty(),
        "--sqlite {flag}: write a statement, @FILE, or @FILE:DATABASE for another database than the default one"
    );
    let sql = std::fs::read_to_string(file).with_context(|| format!("--sqlite {flag}: cannot read {file}"))?;
    Ok((database, Cow::Owned(sql)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_is_a_statement_or_in_a_file_for_some_database() {
        assert_eq!(sql_of("SELECT ':@'").unwrap(), ("default", Cow::Borrowed("SELECT ':@'")));
        let dir = tempfile::tempdir().unwrap();
        for name in ["plain.sql", "odd:name.sql"] {
            let file = dir.path().join(name).display().to_string();
            std::fs::write(&file, "SELECT 1").unwrap();
            assert_eq!(sql_of(&format!("@{file}")).unwrap(), ("default", "SELECT 1".into()));
            assert_eq!(sql_of(&format!("@{file}:other")).unwrap(), ("other", "SELECT 1".into()));
        }
        for wrong in ["@", "@:x", "@/nowhere"] {
            assert!(sql_of(wrong).unwrap_err().to_string().contains("--sqlite"), "{wrong}");
        }
        let empty = format!("@{}:", dir.path().join("plain.sql").display());
        assert!(sql_of(&empty).is_err());
    }
}
