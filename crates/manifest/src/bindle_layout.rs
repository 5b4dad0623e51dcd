//! How a Spin application is laid out in a bundle: which parcel is what, and what the manifest parcel says.
//!
//! Promise: [`application`] accepts what real publishers (Spin v0.1 to v1.5) wrote and refuses
//! everything that could make a component see something other than what its author gave it;
//! [`publish`] writes that layout, and reading it back gives the same [`Application`](crate::Application).
//!
//! Both directions know a few fields that Spin's publishers never wrote, so that an application of
//! manifest version 2 fits in a bundle too. They appear only where the traditional manifest could not
//! say the same, and Spin refuses them as unknown rather than running something else:
//!
//! | field | says |
//! |---|---|
//! | `component.allowedOutboundHosts` | exact outbound hosts, instead of `allowedHttpHosts` |
//! | `component.sqliteDatabases`, `component.aiModels` | as Spin 1.x's |
//! | `variables.x.description` | what the variable is for |
//! | `[[route]]` | all routes, instead of one `component.trigger` for each component: `component` or `response = {status, headers, body}`; `route` or `private = true`; `executor` |
//!
//! Absent on purpose: fetching, signatures, and whether the bytes are what their digests say.

pub mod invoice;
mod write;

pub use invoice::Invoice;
pub use write::{ParcelPlan, Publication, publish};

/// The media type of the one parcel that describes the application.
pub const MANIFEST_MEDIA_TYPE: &str = "application/vnd.fermyon.spin+toml";
/// The media type of the parcels that are wasm.
pub const WASM_MEDIA_TYPE: &str = "application/wasm";

/// Why a bundle is not a Spin application, or an application cannot become a bundle.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The name cannot be part of a Bindle id.
    #[error("`{name}` cannot be the name of a bundle: use ASCII letters, digits, `.`, `-`, `_`, with `/` between parts")]
    Name {
        /// The application's name.
        name: String,
    },
    /// The version cannot be part of a Bindle id.
    #[error("`{version}` cannot be the version of a bundle: use a semantic version such as `1.2.3`")]
    Version {
        /// The application's version, with its build metadata.
        version: String,
        /// What is wrong with it.
        source: semver::Error,
    },
    /// The manifest parcel cannot be written.
    #[error("the manifest parcel cannot be written")]
    Write(#[source] toml::ser::Error),
}
