//! What guests' SQL may not do.
//!
//! Promise: a guest's statements reach its own database and nothing else on this machine, and cannot lift the limits that
//! the host sets. What other hosts of Spin leave to SQLite is the same here, so that schemas and migrations just run.

use rusqlite::{
    Connection,
    config::DbConfig,
    hooks::{AuthAction, AuthContext, Authorization},
    limits::Limit,
};

/// How long one statement may be, in bytes.
const STATEMENT: i32 = 16 << 20;
/// How large one value or row may be, in bytes: what SQLite does with one value cannot be interrupted.
const VALUE: usize = 16 << 20;
/// How long the pattern of `LIKE` and `GLOB` may be, in bytes, for the same reason.
const PATTERN: i32 = 1000;

/// Pragmas that a guest may read and set: they are about its own data and its own connection.
const OPEN: &[&str] = &[
    "analysis_limit",
    "application_id",
    "auto_vacuum",
    "automatic_index",
    "case_sensitive_like",
    "checkpoint_fullfsync",
    "collation_list",
    "compile_options",
    "data_version",
    "defer_foreign_keys",
    "foreign_key_check",
    "foreign_key_list",
    "foreign_keys",
    "freelist_count",
    "function_list",
    "fullfsync",
    "ignore_check_constraints",
    "incremental_vacuum",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "legacy_alter_table",
    "module_list",
    "optimize",
    "page_count",
    "pragma_list",
    "query_only",
    "quick_check",
    "recursive_triggers",
    "reverse_unordered_selects",
    "secure_delete",
    "shrink_memory",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
    "wal_checkpoint",
];

/// Pragmas that a guest may read; setting them has no effect, because the host has chosen. Programs set them at their
/// start, and would fail if that were an error.
const CHOSEN: &[&str] = &[
    "busy_timeout",
    "cache_size",
    "cache_spill",
    "encoding",
    "journal_mode",
    "journal_size_limit",
    "locking_mode",
    "max_page_count",
    "mmap_size",
    "page_size",
    "schema_version",
    "synchronous",
    "temp_store",
    "threads",
    "trusted_schema",
    "wal_autocheckpoint",
];

/// Functions that reach outside.
const FUNCTIONS: &[&str] = &["load_extension", "fts3_tokenizer"];

/// Sets limits and rules for the SQL of a guest, which may `attach` files or not.
pub(super) fn confine(connection: &Connection, result: usize, attach: bool) -> rusqlite::Result<()> {
    let value = i32::try_from(result.min(VALUE)).unwrap_or(i32::MAX);
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, value)?;
    connection.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, STATEMENT)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, PATTERN)?;
    connection.set_limit(Limit::SQLITE_LIMIT_WORKER_THREADS, 0)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.authorizer(Some(move |context: AuthContext<'_>| authorize(&context.action, attach)))
}

fn authorize(action: &AuthAction<'_>, attach: bool) -> Authorization {
    match *action {
        AuthAction::Pragma { pragma_name, pragma_value } => pragma(pragma_name, pragma_value),
        // `VACUUM` attaches a file without a name, which is in memory here.
        AuthAction::Attach { filename } if attach || filename.is_empty() => Authorization::Allow,
        AuthAction::Attach { .. } | AuthAction::Unknown { .. } => Authorization::Deny,
        AuthAction::Function { function_name }
            if FUNCTIONS.iter().any(|name| name.eq_ignore_ascii_case(function_name)) =>
        {
            Authorization::Deny
        }
        _ => Authorization::Allow,
    }
}

fn pragma(name: &str, value: Option<&str>) -> Authorization {
    let is = |other: &&str| other.eq_ignore_ascii_case(name);
    if OPEN.iter().any(is) {
        Authorization::Allow
    } else if CHOSEN.iter().any(is) {
        if value.is_none() { Authorization::Allow } else { Authorization::Ignore }
    } else {
        Authorization::Deny
    }
}
