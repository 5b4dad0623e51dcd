//! `[[variables_provider]]` and `[llm_compute]`.

use super::{
    LlmApi, LlmCompute, Origin, VariablesProvider,
    read::{Source, Types, required_secret, required_text, required_url},
};
use crate::{reader::Table, secret::Secret, template};

/// What Spin calls the prefix of its environment variables when nothing else is said.
pub const DEFAULT_PREFIX: &str = "SPIN_VARIABLE";

const PROVIDERS: Types<'_> = Types {
    known: &["static", "env", "vault"],
    absent: &[("azure_key_vault", "use `vault`, or give the values to the app itself")],
};

const LLM: Types<'_> = Types {
    known: &["remote_http"],
    absent: &[("spin", "it runs no models itself; name the `url` of a server that does")],
};

pub(super) fn read_variables_providers(root: &Table<'_>, source: Source<'_>) -> Vec<VariablesProvider> {
    let old = root.get("config_provider");
    let field = match (root.get("variables_provider"), old) {
        (Some(_), Some(old)) => {
            old.report("is the older name of `variables_provider`: use that one for all of them");
            return Vec::new();
        }
        (field, old) => field.or(old),
    };
    let Some(field) = field else { return Vec::new() };
    if source.0 == Origin::Pool {
        field.report(
            "would let every app read every value: give each app its own, in its `variables` or its `runtimeConfig`",
        );
    }
    let tables = field.list();
    tables.iter().filter_map(|field| read_provider(&field.table()?, source)).collect()
}

fn read_provider(table: &Table<'_>, source: Source<'_>) -> Option<VariablesProvider> {
    let types = Types { known: PROVIDERS.known, absent: PROVIDERS.absent };
    // OpenBao is Vault under another name, and speaks the same protocol.
    let open_bao = table.get("type").is_some_and(|field| field.if_string() == Some("open_bao"));
    let provider = match if open_bao { "vault" } else { types.read(table)? } {
        "static" => read_static(table),
        "env" => {
            if source.is_of_cluster() {
                table.report("would read the runtime's own environment: give the values in the app's `variables`, which can come from Secrets and ConfigMaps");
            }
            let dotenv_path = if source.is_of_cluster() {
                table.string("dotenv_path").map(Into::into)
            } else {
                source.path(table, "dotenv_path")
            };
            VariablesProvider::Env {
                prefix: table.string("prefix").unwrap_or_else(|| DEFAULT_PREFIX.to_owned()),
                dotenv_path,
            }
        }
        _ => VariablesProvider::Vault {
            url: required_url(table, "url", &["https", "http"]),
            token: required_secret(table, "token"),
            mount: required_text(table, "mount"),
            prefix: table.string("prefix").filter(|prefix| !prefix.is_empty()),
        },
    };
    table.finish();
    Some(provider)
}

fn read_static(table: &Table<'_>) -> VariablesProvider {
    let values = table.required("values", "`values = { name = \"value\" }`").and_then(|field| field.table());
    let mut read = std::collections::BTreeMap::new();
    for (name, field) in values.iter().flat_map(Table::entries) {
        if let Err(problem) = template::check_name(name) {
            field.report(format!("is not the name of a variable: {problem}"));
        }
        if let Some(value) = field.string() {
            read.insert(name.to_owned(), Secret::new(value));
        }
    }
    VariablesProvider::Static { values: read }
}

pub(super) fn read_llm_compute(root: &Table<'_>) -> Option<LlmCompute> {
    let table = root.table("llm_compute")?;
    LLM.read(&table)?;
    let compute = LlmCompute {
        url: required_url(&table, "url", &["https", "http"]),
        auth_token: required_secret(&table, "auth_token"),
        api: read_api(&table),
    };
    table.finish();
    Some(compute)
}

fn read_api(table: &Table<'_>) -> LlmApi {
    let Some(field) = table.get("api_type") else { return LlmApi::Spin };
    match field.string().as_deref() {
        Some("open_ai") => LlmApi::OpenAi,
        Some("default") | None => LlmApi::Spin,
        Some(other) => {
            field.report(format!("there is no such API: {}", crate::reader::suggest(other, &["default", "open_ai"])));
            LlmApi::Spin
        }
    }
}
