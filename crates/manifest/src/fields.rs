//! The fields that all manifests share, under whatever name they have them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    application::{ComponentId, Executor, Variable, WagiExecutor},
    hosts,
    hosts::OutboundHost,
    reader::{Field, Table, list, suggest},
    template,
    template::Part,
};

/// The table of variables under `key`, added to `variables`.
pub(crate) fn read_variables(table: &Table<'_>, key: &'static str, variables: &mut BTreeMap<String, Variable>) {
    let Some(all) = table.table(key) else { return };
    for (name, field) in all.entries() {
        if let Err(problem) = template::check_name(name) {
            field.report(format!("is not the name of a variable: {problem}"));
        }
        let variable = read_variable(&field).unwrap_or_default();
        if variables.insert(name.to_owned(), variable).is_some() {
            field.report("is declared twice, in `config` and in `variables`: remove one of them");
        }
    }
}

fn read_variable(field: &Field<'_>) -> Option<Variable> {
    let table = field.table_such_as("`{ default = \"…\" }` or `{ required = true }`")?;
    let required = table.boolean("required").unwrap_or(false);
    let default = table.get("default");
    match (required, &default) {
        (true, Some(default)) => {
            default.report("a variable is either required or has a default: remove one of the two");
        }
        (false, None) => table.report("a variable needs `required = true` or `default = \"…\"`"),
        _ => {}
    }
    let variable = Variable {
        default: default.and_then(|default| default.string()),
        description: table.string("description"),
        secret: table.boolean("secret").unwrap_or(false),
    };
    table.finish();
    Some(variable)
}

/// A component's configuration under `key`: templates over the application's `variables`.
pub(crate) fn read_templates(
    table: &Table<'_>,
    key: &'static str,
    variables: &BTreeMap<String, Variable>,
) -> BTreeMap<String, String> {
    let mut templates = BTreeMap::new();
    for (name, field) in table.table(key).iter().flat_map(Table::entries) {
        if let Err(problem) = template::check_name(name) {
            field.report(format!("is not the name of a variable: {problem}"));
        }
        if let Some(text) = field.string() {
            check_template(&field, &text, variables);
            templates.insert(name.to_owned(), text);
        }
    }
    templates
}

/// Reports a template that is none, or that uses what the application does not declare.
fn check_template(field: &Field<'_>, text: &str, variables: &BTreeMap<String, Variable>) {
    let parts = match template::parse(text) {
        Ok(parts) => parts,
        Err(error) => return field.report(error.to_string()),
    };
    for part in parts {
        if let Part::Variable(name) = part
            && !variables.contains_key(name)
        {
            let known: Vec<&str> = variables.keys().map(String::as_str).collect();
            let hint = if known.is_empty() { String::new() } else { format!("; {}", suggest(name, &known)) };
            field.report(format!("uses the variable `{name}`, which is not declared: add it to `[variables]`{hint}"));
        }
    }
}

/// The environment of a component.
pub(crate) fn read_environment(table: &Table<'_>) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    for (name, field) in table.table("environment").iter().flat_map(Table::entries) {
        let Some(value) = field.string() else { continue };
        if name.is_empty() || name.contains(['=', '\0']) {
            field.report("is not the name of an environment variable: it must not be empty or have `=` in it");
        }
        if value.contains('\0') {
            field.report("must not have a NUL in it");
        }
        environment.insert(name.to_owned(), value);
    }
    environment
}

/// What a format's fields for outbound hosts mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// Both fields count, and saying nothing in `outbound` allows databases, as before there was that field.
    V1,
    /// Only one of them may be there.
    V2,
}

/// Where a component may connect to, from the two fields that may say it.
pub(crate) fn read_hosts(
    table: &Table<'_>,
    (outbound, http): (&'static str, &'static str),
    format: Hosts,
    variables: &BTreeMap<String, Variable>,
) -> Vec<String> {
    let (outbound_key, outbound) = (outbound, table.get(outbound));
    let entries = outbound.as_ref().map(Field::list).unwrap_or_default();
    let mut hosts: Vec<String> = entries.iter().filter_map(|entry| read_host(entry, variables)).collect();
    let http_field = table.get(http);
    let http_fields = http_field.as_ref().map(Field::list).unwrap_or_default();
    if format == Hosts::V2
        && !http_fields.is_empty()
        && !entries.is_empty()
        && let Some(field) = &http_field
    {
        field.report(format!(
            "is the old way to write `{outbound_key}`, which is there too: move its entries there, as `https://host`"
        ));
    }
    let http: Vec<String> = http_fields.iter().filter_map(Field::string).collect();
    match hosts::from_allowed_http_hosts(&http, format == Hosts::V1 && outbound.is_none()) {
        Ok(more) => hosts.extend(more),
        Err(_) => http_fields.iter().for_each(check_http_host),
    }
    hosts
}

/// Reports an entry of `allowed_http_hosts` that is none.
fn check_http_host(field: &Field<'_>) {
    let entry = field.if_string().map(str::to_owned);
    if let Err(error) = hosts::from_allowed_http_hosts(entry.as_slice(), false) {
        field.report(error.to_string());
    }
}

fn read_host(field: &Field<'_>, variables: &BTreeMap<String, Variable>) -> Option<String> {
    let text = field.string()?;
    if text.contains("{{") {
        check_template(field, &text, variables);
    } else if let Err(error) = text.parse::<OutboundHost>() {
        field.report(error.to_string());
    }
    Some(text)
}

/// The labels of stores, databases or models under `key`.
pub(crate) fn read_labels(table: &Table<'_>, key: &'static str) -> Vec<String> {
    let is_label = |label: &str| !label.is_empty() && !label.contains(|c: char| c.is_control() || c.is_whitespace());
    read_each(table, key, is_label, "must be a name without spaces")
}

/// Labels that are also names in files and variables: words with `-` or with `_` between them.
pub(crate) fn read_names(table: &Table<'_>, key: &'static str) -> Vec<String> {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric());
    let is_name = |label: &str| {
        let one_kind = !(label.contains('-') && label.contains('_'));
        label.starts_with(|c: char| c.is_ascii_alphabetic()) && one_kind && label.split(['-', '_']).all(word)
    };
    let problem = "must be words of ASCII letters and digits with `-` or `_` between them, such as `my-store`";
    read_each(table, key, is_name, problem)
}

/// The strings under `key`, each once, all of which must be `good`.
fn read_each(table: &Table<'_>, key: &'static str, good: impl Fn(&str) -> bool, problem: &str) -> Vec<String> {
    let (mut labels, mut seen) = (Vec::new(), BTreeSet::new());
    for field in table.list(key) {
        let Some(label) = field.string() else { continue };
        if !good(&label) {
            field.report(problem);
        } else if seen.insert(label.clone()) {
            labels.push(label);
        }
    }
    labels
}

/// A component's id.
pub(crate) fn read_id(field: &Field<'_>) -> Option<ComponentId> {
    let text = field.string()?;
    text.parse().map_err(|error| field.report(format!("{error}"))).ok()
}

/// The path pattern of a route, with its leading `/`.
pub(crate) fn read_pattern(field: &Field<'_>) -> Option<String> {
    let text = field.string()?;
    let mut pattern = if text.starts_with('/') { text } else { format!("/{text}") };
    // `/*` is another spelling of the trailing wildcard.
    if let Some(prefix) = pattern.strip_suffix("/*") {
        pattern = format!("{prefix}/...");
    }
    match check_pattern(&pattern) {
        Ok(()) => Some(pattern),
        Err(problem) => {
            field.report(problem);
            None
        }
    }
}

fn check_pattern(pattern: &str) -> Result<(), String> {
    if let Some(bad) = pattern.chars().find(|c| matches!(c, '?' | '#') || c.is_whitespace() || c.is_control()) {
        return Err(format!("{bad:?} cannot be in a route: routes match paths only"));
    }
    let mut segments = pattern.split('/').skip(1).peekable();
    let mut names = BTreeSet::new();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment.strip_prefix(':') {
            _ if matches!(segment, "..." | "*") && !last => {
                return Err(format!("`{segment}` must be the last part of a route"));
            }
            Some("") => return Err("`:` needs a name after it, such as `/:id`".to_owned()),
            Some(name) if !names.insert(name) => return Err(format!("`:{name}` is in this route twice")),
            _ => {}
        }
    }
    Ok(())
}

/// The base path of all routes.
pub(crate) fn read_base(table: &Table<'_>) -> String {
    let Some(field) = table.get("base") else { return "/".to_owned() };
    let Some(text) = field.string() else { return "/".to_owned() };
    if text.contains(|c: char| matches!(c, '?' | '#' | ':' | '*') || c.is_whitespace() || c.is_control()) {
        field.report("must be a plain path such as `/base`");
    }
    if text.starts_with('/') { text } else { format!("/{text}") }
}

/// How a component is called.
pub(crate) fn read_executor(table: &Table<'_>) -> Executor {
    let executor =
        table.get("executor").and_then(|field| field.table_such_as("`{ type = \"http\" }` or `{ type = \"wagi\" }`"));
    let Some(executor) = executor else { return Executor::Spin };
    let kind = executor.required("type", "`type = \"http\"` or `type = \"wagi\"`");
    let Some(name) = kind.as_ref().and_then(Field::string) else { return Executor::Spin };
    let read = match name.as_str() {
        "http" | "spin" => Executor::Spin,
        "wagi" => {
            let defaults = WagiExecutor::default();
            Executor::Wagi(WagiExecutor {
                entrypoint: executor.string("entrypoint").unwrap_or(defaults.entrypoint),
                argv: executor.string("argv").unwrap_or(defaults.argv),
            })
        }
        _ => {
            if let Some(kind) = kind {
                kind.report(format!("`{name}` is not an executor: known are {}", list(&["http", "spin", "wagi"])));
            }
            executor.ignore(&["entrypoint", "argv"]);
            Executor::Spin
        }
    };
    executor.finish();
    read
}

/// The status of a response.
pub(crate) fn read_status(field: &Field<'_>) -> Option<u16> {
    let status = field.integer()?;
    let status = u16::try_from(status).ok().filter(|status| (200..=599).contains(status));
    if status.is_none() {
        field.report("must be a status code from 200 to 599");
    }
    status
}

/// Reports a header of a response that cannot be one.
pub(crate) fn check_header(name: &str, value: &Field<'_>) {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let value_ok = |value: &str| !value.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f);
    if name.is_empty() || !name.bytes().all(token) || !value.if_string().is_none_or(value_ok) {
        value.report("is not an HTTP header");
    }
}

/// Why a trigger of another type than HTTP cannot be run.
pub(crate) fn unsupported_trigger(name: &str) -> String {
    format!("the trigger `{name}` is not supported by Spindle, which runs HTTP triggers only: remove it, or use `http`")
}
