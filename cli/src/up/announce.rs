//! Telling where the application is, in the form that `spin up` has.

use std::io::{self, Write as _};

use clap::ValueEnum;
use manifest::{Application, RuntimeConfig, runtime_config::KeyValueStore, runtime_config::SqliteDatabase};
use node_runtime::application::{HttpApplication, RouteInfo};
use serde::Serialize;

/// How to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// Lines for people.
    #[default]
    Plain,
    /// One JSON object.
    Json,
}

#[derive(Serialize)]
struct Announcement<'a> {
    base_url: &'a str,
    routes: Vec<AnnouncedRoute<'a>>,
}

#[derive(Serialize)]
struct AnnouncedRoute<'a> {
    id: &'a str,
    route: String,
    wildcard: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
}

/// Tells the URL of `application` and its routes.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn announce(application: &HttpApplication, base_url: &str, format: Format) -> io::Result<()> {
    let text = match format {
        Format::Plain => format!("Serving {base_url}\n{}", routes(application, base_url)),
        Format::Json => {
            let routes = application.routes().map(|route| AnnouncedRoute {
                id: id(&route),
                route: if route.wildcard { format!("{}/...", stem(&route)) } else { route.path.to_owned() },
                wildcard: route.wildcard,
                description: description(application, &route),
            });
            let announcement = Announcement { base_url, routes: routes.collect() };
            format!("{}\n", serde_json::to_string_pretty(&announcement)?)
        }
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The lines of the routes.
pub(super) fn routes(application: &HttpApplication, base_url: &str) -> String {
    let mut text = "Available Routes:\n".to_owned();
    for route in application.routes() {
        let (path, wildcard) = if route.wildcard { (stem(&route), " (wildcard)") } else { (route.path, "") };
        text.push_str(&["  ", id(&route), ": ", base_url, path, wildcard, "\n"].concat());
        if let Some(description) = description(application, &route) {
            text.push_str(&["    ", description, "\n"].concat());
        }
    }
    text
}

fn id<'a>(route: &RouteInfo<'a>) -> &'a str {
    route.component.map_or("(static response)", |id| id.as_str())
}

/// The path of a wildcard route before its `/...`.
fn stem<'a>(route: &RouteInfo<'a>) -> &'a str {
    if route.path == "/" { "" } else { route.path }
}

fn description<'a>(application: &'a HttpApplication, route: &RouteInfo<'_>) -> Option<&'a str> {
    application.context().application().components.get(route.component?)?.description.as_deref()
}

/// Where the default stores are, for those that the application uses, as `spin up` tells it. Passwords in URLs are left out.
pub(super) fn storage(
    application: &Application,
    config: &RuntimeConfig,
    state_dir: Option<&std::path::Path>,
) -> Vec<String> {
    const DEFAULT: &str = "default";
    let uses = |labels: &[String]| labels.iter().any(|label| label == DEFAULT);
    let in_state = |name: &str| match state_dir {
        Some(dir) => format!("\"{}\"", dir.join(name).display()),
        None => "memory, until the end of this run".to_owned(),
    };
    let mut lines = Vec::new();
    if application.components.values().any(|component| uses(&component.key_value_stores)) {
        let place = match config.key_value_stores.get(DEFAULT) {
            Some(KeyValueStore::Spin { path: Some(path) }) => format!("\"{}\"", path.display()),
            Some(KeyValueStore::Redis { url, .. }) => format!("Redis at {}", without_secrets(url.expose())),
            Some(KeyValueStore::Spin { path: None }) | None => in_state("sqlite_key_value.db"),
        };
        lines.push(format!("Storing default key-value data to {place}."));
    }
    if application.components.values().any(|component| uses(&component.sqlite_databases)) {
        let place = match config.sqlite_databases.get(DEFAULT) {
            Some(SqliteDatabase::Spin { path: Some(path), .. }) => format!("\"{}\"", path.display()),
            Some(SqliteDatabase::Libsql { url, .. }) => format!("libSQL at {}", without_secrets(url)),
            Some(SqliteDatabase::Spin { path: None, .. }) | None => in_state("sqlite_db.db"),
        };
        lines.push(format!("Storing default SQLite data to {place}."));
    }
    lines
}

/// A URL's scheme, host and port.
fn without_secrets(url: &str) -> String {
    let Ok(url) = url::Url::parse(url) else { return "a server".to_owned() };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}
