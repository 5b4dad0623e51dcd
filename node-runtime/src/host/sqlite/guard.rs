//! What guests' SQL may not do.
//!
//! Promise: a guest's statements reach its own database and nothing else on this machine, and cannot lift the limits that
//! the host sets. What other hosts of Spin leave to SQLite is the same here, so that schemas and migrations just run.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rusqlite::{
    Batch, Connection, Statement,
    config::DbConfig,
    fallible_iterator::FallibleIterator as _,
    hooks::{AuthAction, AuthContext, Authorization},
    limits::Limit,
};

use super::session::SessionError;

/// How long one statement may be, in bytes.
const STATEMENT: i32 = 1 << 20;
/// How large one value or row may be, in bytes: what SQLite does with one value cannot be interrupted.
const VALUE: usize = 16 << 20;
/// How long the pattern of `LIKE` and `GLOB` may be, in bytes, for the same reason.
const PATTERN: i32 = 1000;
/// How deep a statement may nest: SQLite compiles by recursion. This is what its parser had for twenty years.
const NESTING: i32 = 100;
/// How many tables, indexes, views and triggers there may be: they can be built upon each other, and are compiled by
/// recursion as well.
const OBJECTS: i64 = 1000;

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

/// Sets limits for the SQL of a guest.
pub(super) fn confine(connection: &Connection, result: usize) -> rusqlite::Result<()> {
    let value = i32::try_from(result.min(VALUE)).unwrap_or(i32::MAX);
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, value)?;
    connection.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, STATEMENT)?;
    connection.set_limit(Limit::SQLITE_LIMIT_PARSER_DEPTH, NESTING)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, PATTERN)?;
    connection.set_limit(Limit::SQLITE_LIMIT_WORKER_THREADS, 0)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    Ok(())
}

/// What is noted while a statement is prepared, and what is known while it runs.
#[derive(Debug, Default)]
struct Notes {
    creates: AtomicBool,
    runs: AtomicBool,
}

/// Prepares a guest's statement, which may `attach` files or not; none if there is nothing to do.
///
/// # Errors
/// When it may not be, or when it is more than one: then none is run.
pub(super) fn prepare<'c>(
    connection: &'c Connection,
    sql: &str,
    attach: bool,
) -> Result<Option<Statement<'c>>, SessionError> {
    let notes = Arc::new(Notes::default());
    let noted = Arc::clone(&notes);
    connection.authorizer(Some(move |context: AuthContext<'_>| authorize(&context.action, attach, &noted)))?;
    // One after the other, and two at most: SQLite's own wrapper recurses once for each statement that follows.
    let mut statements = Batch::new(connection, sql.trim_matches(|c: char| c == ';' || c.is_whitespace()));
    let Some(statement) = statements.next()? else { return Ok(None) };
    if !matches!(statements.next(), Ok(None)) {
        return Err(SessionError::Refused("there is more than one statement: execute one at a time"));
    }
    if notes.creates.load(Ordering::Relaxed) {
        let count = "SELECT (SELECT count(*) FROM sqlite_schema) + (SELECT count(*) FROM sqlite_temp_schema)";
        let count: i64 = connection.query_row(count, [], |row| row.get(0))?;
        if count >= OBJECTS {
            return Err(SessionError::Refused(
                "the schema has 1000 tables, indexes, views and triggers: that is the limit",
            ));
        }
    }
    notes.runs.store(true, Ordering::Relaxed);
    Ok(Some(statement))
}

/// Lifts what [`prepare`] and [`confine`] forbid, for SQL of whoever runs the application.
pub(super) fn release(connection: &Connection) -> rusqlite::Result<()> {
    connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
    connection.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, i32::MAX)?;
    Ok(())
}

fn authorize(action: &AuthAction<'_>, attach: bool, notes: &Notes) -> Authorization {
    match *action {
        AuthAction::Pragma { pragma_name, pragma_value } => return pragma(pragma_name, pragma_value),
        AuthAction::Attach { .. } if attach => {}
        // `VACUUM` attaches a file without a name when it runs, which is in memory here.
        AuthAction::Attach { filename: "" } if notes.runs.load(Ordering::Relaxed) => {}
        AuthAction::Attach { .. } | AuthAction::Unknown { .. } => return Authorization::Deny,
        AuthAction::Function { function_name }
            if FUNCTIONS.iter().any(|name| name.eq_ignore_ascii_case(function_name)) =>
        {
            return Authorization::Deny;
        }
        AuthAction::CreateTable { .. }
        | AuthAction::CreateTempTable { .. }
        | AuthAction::CreateVtable { .. }
        | AuthAction::CreateView { .. }
        | AuthAction::CreateTempView { .. }
        | AuthAction::CreateTrigger { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::CreateIndex { .. }
        | AuthAction::CreateTempIndex { .. } => notes.creates.store(true, Ordering::Relaxed),
        _ => {}
    }
    Authorization::Allow
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
