//! What the current spec wants: a revision, or why there is none yet.
//!
//! Promise: the same content and configuration give the same revision, here and in every other operator of
//! the installation; and what was resolved once for a generation of the spec stays so, because bundles
//! never change.

use std::collections::BTreeMap;

use control::{Check, CheckHeader, Limits, Problem, RevisionId, RevisionSpec, SecretString};
use manifest::{Application, Digest, runtime_config::VariablesProvider};
use operator_api::{Checks, ConditionType, HttpHeader, InvocationLimits, Reason};
use serde::Serialize;

use crate::{
    status::is_true,
    view::{Bundle, ConfigText, RevisionKey, RuntimeConfiguration, Variables, View},
};

/// What the current spec wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolution {
    /// Everything about the revision is known.
    Known {
        /// What runtimes are to be told.
        revision: Box<RevisionSpec>,
        /// The bundle's digest.
        digest: Digest,
    },
    /// This generation of the spec has been resolved before, and the source cannot be asked now.
    Remembered {
        /// What came out then.
        revision: RevisionId,
        /// Why the source cannot be asked; `None` while it has not been.
        problem: Option<Problem>,
    },
    /// It is being found out.
    Pending,
    /// It cannot be found out.
    Failed(Problem),
}

impl Resolution {
    /// The revision's name, if it is known.
    #[must_use]
    pub fn id(&self) -> Option<&RevisionId> {
        match self {
            Self::Known { revision, .. } => Some(&revision.id),
            Self::Remembered { revision, .. } => Some(revision),
            Self::Pending | Self::Failed(_) => None,
        }
    }

    /// What runtimes are to be told, if all of it is known.
    #[must_use]
    pub fn revision(&self) -> Option<&RevisionSpec> {
        match self {
            Self::Known { revision, .. } => Some(revision),
            Self::Remembered { .. } | Self::Pending | Self::Failed(_) => None,
        }
    }
}

/// What the current spec wants, from what is known about it.
#[must_use]
pub fn resolve(view: &View) -> Resolution {
    let limits = match &view.app.limits {
        Ok(limits) => limits,
        Err(problem) => return Resolution::Failed(problem.clone()),
    };
    let (application, digest, fetch) = match &view.bundle {
        Bundle::Resolved { application, digest, fetch } => (application, digest, fetch),
        Bundle::Pending => return remembered(view, None),
        Bundle::Failed(problem) if problem.retrying => return remembered(view, Some(problem)),
        Bundle::Failed(problem) => return Resolution::Failed(problem.clone()),
    };
    let variables = match &view.variables {
        Variables::Resolved(variables) => variables,
        Variables::Pending => return remembered(view, None),
        Variables::Failed(problem) => return Resolution::Failed(problem.clone()),
    };
    let config = match &view.runtime_config {
        RuntimeConfiguration::Resolved(config) => config.as_ref(),
        RuntimeConfiguration::Pending => return remembered(view, None),
        RuntimeConfiguration::Failed(problem) => return Resolution::Failed(problem.clone()),
    };
    let application = match chosen(application, &view.app.components) {
        Ok(application) => application,
        Err(problem) => return Resolution::Failed(problem),
    };
    if let Some(problem) = missing_variables(&application, variables, config).or_else(|| too_large(variables, config)) {
        return Resolution::Failed(problem);
    }
    let text = |config: &ConfigText| config.text.clone();
    let pool_config = view.pool_config.as_deref().map(text);
    let configuration = Configuration {
        uid: &view.app.uid,
        digest,
        variables,
        limits,
        runtime_config: config.map(|config| &config.text),
        pool_config: pool_config.as_ref(),
        components: &view.app.components,
        readiness: view.app.readiness.as_ref(),
    };
    let revision = RevisionSpec {
        id: revision_id(&view.key, &configuration),
        application,
        fetch: fetch.clone(),
        variables: variables.clone(),
        limits: limits.clone(),
        runtime_config: config.map(text),
        pool_config,
        readiness: view.app.readiness.clone(),
    };
    Resolution::Known { revision: Box::new(revision), digest: *digest }
}

/// What the status says this generation came out as, if it does.
fn remembered(view: &View, problem: Option<&Problem>) -> Resolution {
    let status = &view.status;
    let current = status.observed_generation == Some(view.app.generation) && is_true(status, ConditionType::Resolved);
    match (&status.latest_revision, problem) {
        (Some(revision), problem) if current => {
            Resolution::Remembered { revision: RevisionId(revision.clone()), problem: problem.cloned() }
        }
        (_, Some(problem)) => Resolution::Failed(problem.clone()),
        (_, None) => Resolution::Pending,
    }
}

/// The application with the components that are to run.
fn chosen(application: &Application, components: &[String]) -> Result<Application, Problem> {
    if components.is_empty() {
        return Ok(application.clone());
    }
    application.clone().select(components).map_err(|error| Problem {
        reason: Reason::UnknownComponent.as_str().to_owned(),
        message: format!("spec.components: {error}"),
        retrying: false,
    })
}

/// The variables that the application needs and nobody sets. What a Vault has is found out by the runtimes.
fn missing_variables(
    application: &Application,
    set: &BTreeMap<String, SecretString>,
    config: Option<&ConfigText>,
) -> Option<Problem> {
    let providers = config.map(|config| config.config.variables_providers.as_slice()).unwrap_or_default();
    let may_have = |name: &String| {
        providers.iter().any(|provider| match provider {
            VariablesProvider::Static { values } => values.contains_key(name),
            VariablesProvider::Env { .. } => false,
            VariablesProvider::Vault { .. } => true,
        })
    };
    let missing: Vec<String> = application
        .variables
        .iter()
        .filter(|(name, variable)| variable.default.is_none() && !set.contains_key(*name) && !may_have(name))
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    (!missing.is_empty()).then(|| Problem {
        reason: Reason::VariableRequired.as_str().to_owned(),
        message: format!(
            "The application needs a value for {}: set it in spec.variables, or in a variables provider of its runtime configuration.",
            missing.join(", ")
        ),
        retrying: false,
    })
}

/// How many bytes the values of an app's variables and its runtime configuration may have together: two revisions of them
/// fit into one message to a runtime, however they are written there.
pub const MAX_CONFIGURATION: usize = 2 * 1024 * 1024;

/// That there is more of it than a runtime can be told.
fn too_large(variables: &BTreeMap<String, SecretString>, config: Option<&ConfigText>) -> Option<Problem> {
    let texts = variables.values().chain(config.map(|config| &config.text));
    let bytes: usize = texts.map(|text| text.expose().len()).sum();
    (bytes > MAX_CONFIGURATION).then(|| Problem {
        reason: Reason::InvalidSpec.as_str().to_owned(),
        message: format!(
            "The values of spec.variables and what spec.runtimeConfig says have {bytes} bytes together, and at most {MAX_CONFIGURATION} can be given to runtimes: put what is large into files of the application, or into a store."
        ),
        retrying: false,
    })
}

/// One sentence about variables that are set and that the application does not declare: often a name is misspelt.
pub(crate) fn undeclared_variables(revision: &RevisionSpec) -> Option<String> {
    let declared = &revision.application.variables;
    let quoted = |name: &String| format!("`{name}`");
    let unknown: Vec<String> =
        revision.variables.keys().filter(|name| !declared.contains_key(*name)).map(quoted).collect();
    if unknown.is_empty() {
        return None;
    }
    let known = match declared.keys().map(quoted).collect::<Vec<_>>() {
        known if known.is_empty() => "none".to_owned(),
        known => known.join(", "),
    };
    let unknown = unknown.join(" and ");
    Some(format!(
        "spec.variables sets {unknown}, which the application does not declare (it declares {known}): nobody reads it."
    ))
}

/// What of an app's configuration makes it another revision. Where content is fetched from does not.
#[derive(Serialize)]
struct Configuration<'a> {
    uid: &'a str,
    digest: &'a Digest,
    variables: &'a BTreeMap<String, SecretString>,
    limits: &'a Limits,
    // What is not there is not written, so that apps without it keep their revisions when the operator is updated.
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_config: Option<&'a SecretString>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool_config: Option<&'a SecretString>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    components: &'a [String],
    // Whether a revision is fit depends on what it is asked, so another check makes another revision, which must pass it
    // before it takes over from the one that passed the old check.
    #[serde(skip_serializing_if = "Option::is_none")]
    readiness: Option<&'a Check>,
}

/// The name of the revision with this content and configuration.
fn revision_id(key: &RevisionKey, configuration: &Configuration<'_>) -> RevisionId {
    let mut keyed = key.0.to_vec();
    // Maps with string keys and plain values always serialise.
    keyed.extend(serde_json::to_vec(configuration).unwrap_or_default());
    RevisionId(format!("{}-{}", configuration.digest.short(), Digest::of(&keyed).short()))
}

/// The check that the spec asks for. The CRD's rules let no number get here that is not above zero.
#[must_use]
pub fn readiness(checks: Option<&Checks>) -> Option<Check> {
    let probe = checks?.readiness.as_ref()?;
    let request = probe.http_get.as_ref()?;
    let header = |HttpHeader { name, value }: &HttpHeader| CheckHeader { name: name.clone(), value: value.clone() };
    let milliseconds = |seconds: i32| u64::try_from(seconds).unwrap_or_default() * 1000;
    let count = |number: i32| u32::try_from(number).unwrap_or_default().max(1);
    Some(Check {
        path: request.path.clone(),
        headers: request.http_headers.iter().map(header).collect(),
        initial_delay_ms: milliseconds(probe.initial_delay_seconds),
        timeout_ms: milliseconds(probe.timeout_seconds),
        period_ms: milliseconds(probe.period_seconds),
        success_threshold: count(probe.success_threshold),
        failure_threshold: count(probe.failure_threshold),
    })
}

/// The limits that the spec asks for.
///
/// # Errors
/// When a quantity is none. The CRD's rules let only overflows get here.
pub fn limits(limits: Option<&InvocationLimits>) -> Result<Limits, Problem> {
    let Some(limits) = limits else { return Ok(Limits::default()) };
    let invalid = |field: &str, text: &str, example: &str| Problem {
        reason: Reason::InvalidSpec.as_str().to_owned(),
        message: format!("spec.invocationLimits.{field} is `{text}`, which cannot be used: write it as {example}."),
        retrying: false,
    };
    let read = |text: &Option<String>, field: &str, parse: fn(&str) -> Option<u64>, example: &str| {
        text.as_deref().map(|text| parse(text).ok_or_else(|| invalid(field, text, example))).transpose()
    };
    // The CRD's rules let no negative number get here.
    let count = |number| u32::try_from(number).unwrap_or_default();
    Ok(Limits {
        memory: read(&limits.memory, "memory", parse_bytes, "64Mi")?,
        timeout_ms: read(&limits.timeout, "timeout", parse_milliseconds, "30s")?,
        cpu_ms: read(&limits.cpu, "cpu", parse_milliseconds, "500ms")?,
        concurrency: limits.concurrency.map(count),
        queue: limits.queue.map(count),
        body: read(&limits.body, "body", parse_bytes, "10Mi")?,
        output: read(&limits.output, "output", parse_bytes, "64Ki")?,
        connections: limits.connections.map(count),
        disk: read(&limits.disk, "disk", parse_bytes, "1Gi")?,
    })
}

/// Digits and what follows them.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

/// A whole Kubernetes quantity in bytes, above zero.
fn parse_bytes(text: &str) -> Option<u64> {
    let (number, suffix) = split_number(text)?;
    let unit: u64 = match suffix {
        "" => 1,
        "k" => 1000,
        "M" => 1000 * 1000,
        "G" => 1000 * 1000 * 1000,
        "T" => 1000 * 1000 * 1000 * 1000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(unit).filter(|bytes| *bytes > 0)
}

/// A duration such as `1m30s` in milliseconds, above zero.
fn parse_milliseconds(text: &str) -> Option<u64> {
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, tail) = split_number(rest)?;
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(end)?;
        let unit = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 60 * 60 * 1000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = tail;
    }
    (total > 0).then_some(total)
}
