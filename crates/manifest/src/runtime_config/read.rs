//! Reads the document, and what its tables have in common.

use std::path::PathBuf;

use url::Url;

use super::{Directory, Origin, RuntimeConfig, network, providers, stores};
use crate::{
    reader::{Field, Table, list, suggest},
    secret::Secret,
};

pub(super) fn config(root: &Table<'_>, origin: Origin<'_>) -> RuntimeConfig {
    let source = Source(origin);
    let config = RuntimeConfig {
        state_dir: source.directory(root, "state_dir"),
        log_dir: source.directory(root, "log_dir"),
        max_instance_memory: read_memory(root),
        key_value_stores: stores::read_key_value_stores(root, source),
        sqlite_databases: stores::read_sqlite_databases(root, source),
        variables_providers: providers::read_variables_providers(root, source),
        llm_compute: providers::read_llm_compute(root),
        outbound_http: network::read_http(root),
        outbound_networking: network::read_networking(root),
        outbound_redis_connections: network::read_max_connections(root, "outbound_redis"),
        outbound_pg_connections: network::read_max_connections(root, "outbound_pg"),
        outbound_mysql_connections: network::read_max_connections(root, "outbound_mysql"),
        outbound_mqtt_connections: network::read_max_connections(root, "outbound_mqtt"),
        client_tls: network::read_client_tls(root, source),
    };
    root.finish();
    config
}

/// Bytes; Spin takes an integer only.
fn read_memory(root: &Table<'_>) -> Option<u64> {
    let field = root.get("max_instance_memory")?;
    if field.if_string().is_some() {
        field.report("must be a number of bytes without quotes, such as `134217728` for 128 MiB");
        return None;
    }
    let bytes = u64::try_from(field.integer()?).ok().filter(|bytes| *bytes >= WASM_PAGE);
    if bytes.is_none() {
        field.report("must be a number of bytes, and at least 65536: memory has pages of that size");
    }
    bytes
}

/// The size of a page of linear memory, in bytes.
const WASM_PAGE: u64 = 65_536;

/// Whose file is being read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'d>(pub(super) Origin<'d>);

impl Source<'_> {
    /// Whether the file is one of a cluster, where it comes from a Secret.
    pub(super) const fn is_of_cluster(self) -> bool {
        !matches!(self.0, Origin::Local(_))
    }

    /// The path under `key`; a relative one starts at the file's directory.
    pub(super) fn path(self, table: &Table<'_>, key: &'static str) -> Option<PathBuf> {
        let field = table.get(key)?;
        let text = field.string()?;
        if text.is_empty() || text.contains('\0') {
            field.report("must be a path");
            return None;
        }
        match self.0 {
            Origin::Local(directory) => Some(directory.join(text)),
            Origin::App | Origin::Pool => {
                field.report(NO_PATHS);
                None
            }
        }
    }

    fn directory(self, root: &Table<'_>, key: &'static str) -> Directory {
        let Some(field) = root.get(key) else { return Directory::Default };
        match (field.string(), self.0) {
            (Some(text), Origin::Local(_)) if text.is_empty() => Directory::None,
            (Some(_), Origin::App | Origin::Pool) => {
                field.report(NO_PATHS);
                Directory::Default
            }
            _ => self.path(root, key).map_or(Directory::Default, Directory::At),
        }
    }
}

/// Why there are no paths on a cluster.
const NO_PATHS: &str = "names a path, and there are none on a cluster, where runtimes are shared by apps: remove it; \
     stores without a path are kept by the runtime, apart for each app";

/// What a table's `type` can be.
pub(super) struct Types<'t> {
    /// The ones that there are.
    pub(super) known: &'t [&'static str],
    /// Spin's others, and what to do instead.
    pub(super) absent: &'t [(&'static str, &'static str)],
}

impl Types<'_> {
    /// The table's type, one of the known.
    pub(super) fn read(&self, table: &Table<'_>) -> Option<&'static str> {
        let first = self.known.first().copied().unwrap_or_default();
        let field = table.required("type", &format!("`type = \"{first}\"`"))?;
        let text = field.string()?;
        if let Some(known) = self.known.iter().find(|known| **known == text) {
            return Some(known);
        }
        match self.absent.iter().find(|(name, _)| *name == text) {
            Some((_, instead)) => {
                field
                    .report(format!("`{text}` is not available in Spindle, which has {}: {instead}", list(self.known)));
            }
            None => field.report(format!("there is no such type: {}", suggest(&text, self.known))),
        }
        None
    }
}

/// The URL under `key`, which must be there, have one of `schemes` and hold no password: it is not kept secret. The text
/// is kept as it is, for whoever uses it has rules of its own.
pub(super) fn required_url(table: &Table<'_>, key: &'static str, schemes: &[&str]) -> String {
    let Some((field, url, text)) = read_url(table, key, schemes) else { return String::new() };
    if !url.username().is_empty() || url.password().is_some() {
        field.report("must not have a user or a password in it");
    }
    text
}

/// As [`required_url`], for URLs that may hold a password.
pub(super) fn required_secret_url(table: &Table<'_>, key: &'static str, schemes: &[&str]) -> Secret {
    Secret::new(read_url(table, key, schemes).map_or_else(String::new, |(_, _, text)| text))
}

fn read_url<'d>(table: &Table<'d>, key: &'static str, schemes: &[&str]) -> Option<(Field<'d>, Url, String)> {
    let scheme = schemes.first().copied().unwrap_or_default();
    let field = table.required(key, &format!("`{key} = \"{scheme}://…\"`"))?;
    let text = field.string()?;
    let problem = match Url::parse(&text) {
        Ok(url) if schemes.contains(&url.scheme()) && url.has_host() => return Some((field, url, text)),
        Ok(url) if schemes.contains(&url.scheme()) => "must name a host".to_owned(),
        Ok(_) => {
            let known: Vec<String> = schemes.iter().map(|scheme| format!("{scheme}://")).collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            format!("must begin with one of {}", list(&known))
        }
        // The parser's words, which never repeat the text.
        Err(error) => format!("is not a URL: {error}"),
    };
    field.report(problem);
    None
}

/// The secret under `key`, which must be there.
pub(super) fn required_secret(table: &Table<'_>, key: &'static str) -> Secret {
    Secret::new(required_text(table, key))
}

/// The text under `key`, which must be there and not be empty.
pub(super) fn required_text(table: &Table<'_>, key: &'static str) -> String {
    let Some(field) = table.required(key, &format!("`{key} = \"…\"`")) else { return String::new() };
    let text = field.string();
    if text.as_deref() == Some("") {
        field.report("must not be empty");
    }
    text.unwrap_or_default()
}

/// Reports a label that no manifest could name.
pub(super) fn check_label(field: &Field<'_>, label: &str) {
    if label.is_empty() || label.contains(|c: char| c.is_control() || c.is_whitespace()) {
        field.report("must be a name without spaces");
    }
}
