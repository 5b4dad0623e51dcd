//! Labels, annotations and other well-known names, each once.

/// The API group of every kind of ours.
pub const GROUP: &str = "spindle.dev";

/// The version of [`GROUP`] that this build speaks.
pub const VERSION: &str = "v1alpha1";

/// The field manager of every server-side apply of ours.
pub const FIELD_MANAGER: &str = "spindle-operator";

/// Who writes events, as `reportingController` has it.
pub const REPORTING_CONTROLLER: &str = "spindle.dev/operator";

/// On everything made for an app: the app's name.
pub const APP_LABEL: &str = "spindle.dev/app";

/// On an app's Service: the keys of the annotations that the spec asked for, so that one which it no longer asks for is
/// noticed.
pub const ANNOTATION_KEYS_ANNOTATION: &str = "spindle.dev/service-annotations";

/// On an entry of an app's history: the version that the application's author gave it.
pub const VERSION_ANNOTATION: &str = "spindle.dev/version";

/// On an entry of an app's history: the revision that took requests.
pub const REVISION_ANNOTATION: &str = "spindle.dev/revision";

/// On the Secret of the control stream's authorities: replace those that were made before this time (RFC 3339).
pub const ROTATE_BEFORE_ANNOTATION: &str = "spindle.dev/rotate-before";

/// Kubernetes's own label for the tool that an object is managed by; always [`MANAGED_BY`].
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// The value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "spindle";

/// On an `EndpointSlice`: which Service it belongs to.
pub const SLICE_SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// On an `EndpointSlice`: who keeps it, so that other controllers leave it alone.
pub const SLICE_MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

/// The value of [`SLICE_MANAGED_BY_LABEL`].
pub const SLICE_MANAGED_BY: &str = "operator.spindle.dev";

/// The name of the one port of an app's Service and slices.
pub const PORT_NAME: &str = "http";

/// The port of an app's Service.
pub const SERVICE_PORT: u16 = 80;

/// The lowest port that an app is given on its runtimes.
pub const LOWEST_APP_PORT: u16 = 10_000;

/// The highest port that an app is given on its runtimes; runtimes keep ephemeral ports above it.
pub const HIGHEST_APP_PORT: u16 = 32_767;

/// The type of Secret that `credentialsSecret` names: keys `username` and `password`.
pub const CREDENTIALS_SECRET_TYPE: &str = "kubernetes.io/basic-auth";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_are_values_that_the_api_server_accepts() {
        for value in [MANAGED_BY, SLICE_MANAGED_BY] {
            let edge = |c: char| c.is_ascii_alphanumeric();
            assert!(value.len() <= 63 && value.starts_with(edge) && value.ends_with(edge), "{value}");
            assert!(value.chars().all(|c| edge(c) || matches!(c, '-' | '_' | '.')), "{value}");
        }
    }
}
