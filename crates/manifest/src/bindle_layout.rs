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
mod read;
mod write;

use crate::{
    application::{ApplicationError, ComponentId},
    digest::Digest,
    problem::ManifestError,
};

pub use invoice::Invoice;
pub use read::{application, manifest_parcel};
pub use write::{ParcelPlan, Publication, publish};

/// The media type of the one parcel that describes the application.
pub const MANIFEST_MEDIA_TYPE: &str = "application/vnd.fermyon.spin+toml";
/// The media type of the parcels that are wasm.
pub const WASM_MEDIA_TYPE: &str = "application/wasm";

/// Why a bundle is not a Spin application, or an application cannot become a bundle.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The format of the invoice is not one that we know.
    #[error("the invoice is of Bindle version `{found}`, but only versions 1.x are known")]
    BindleVersion {
        /// Its `bindleVersion`.
        found: String,
    },
    /// The publisher has withdrawn the bundle.
    #[error("bundle {id} has been yanked: use another version")]
    Yanked {
        /// The bundle.
        id: String,
    },
    /// There is nothing of Spin in the bundle.
    #[error("bundle {id} is not a Spin application: it has no parcel of type {MANIFEST_MEDIA_TYPE}")]
    NoManifest {
        /// The bundle.
        id: String,
    },
    /// The bundle is for Wagi, the predecessor of Spin.
    #[error(
        "bundle {id} is in Wagi's own layout, which is not supported: publish it as a Spin application that uses the wagi executor"
    )]
    Wagi {
        /// The bundle.
        id: String,
    },
    /// It is not clear which application the bundle is.
    #[error("bundle {id} has {count} parcels of type {MANIFEST_MEDIA_TYPE}, but must have one")]
    Manifests {
        /// The bundle.
        id: String,
        /// How many there are.
        count: usize,
    },
    /// The text is not the manifest parcel of the invoice.
    #[error("the manifest of bundle {id} does not have the digest {expected} that its invoice names")]
    WrongManifest {
        /// The bundle.
        id: String,
        /// The digest of the manifest parcel.
        expected: Digest,
    },
    /// The manifest parcel is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The same content with two sizes.
    #[error("bundle {id} names two sizes for parcel {parcel}")]
    Sizes {
        /// The bundle.
        id: String,
        /// The parcel.
        parcel: Digest,
    },
    /// The wasm of a component is not in the bundle.
    #[error("component `{component}` has the source {parcel}, which is no parcel of its bundle")]
    NoSuchParcel {
        /// The component.
        component: ComponentId,
        /// The digest that it names.
        parcel: Digest,
    },
    /// The source of a component is some other content.
    #[error("component `{component}` has the source {parcel}, which is `{media_type}` and not {WASM_MEDIA_TYPE}")]
    NotWasm {
        /// The component.
        component: ComponentId,
        /// The digest that it names.
        parcel: Digest,
        /// What the parcel is.
        media_type: String,
    },
    /// The path of a file could lead out of the component's directory, or cannot exist.
    #[error("component `{component}` has a file {path:?} in its group `{group}`: {problem}")]
    File {
        /// The component.
        component: ComponentId,
        /// The group.
        group: String,
        /// The name of the parcel.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Together, the parts make no application.
    #[error(transparent)]
    Application(#[from] ApplicationError),
    /// The name cannot be part of a Bindle id.
    #[error(
        "`{name}` cannot be the name of a bundle: use ASCII letters, digits, `.`, `-`, `_`, with `/` between parts"
    )]
    Name {
        /// The application's name.
        name: String,
    },
    /// The version cannot be part of a Bindle id.
    #[error(
        "`version` is `{version}`, which cannot be the version of a bundle: use a semantic version such as `1.2.3`"
    )]
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

impl LayoutError {
    /// One word for conditions, events and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Yanked { .. } => "BundleYanked",
            Self::NoManifest { .. } | Self::Wagi { .. } => "NotASpinApplication",
            Self::Manifest(_) => "InvalidManifest",
            Self::WrongManifest { .. } => "DigestMismatch",
            Self::BindleVersion { .. }
            | Self::Manifests { .. }
            | Self::Sizes { .. }
            | Self::NoSuchParcel { .. }
            | Self::NotWasm { .. }
            | Self::File { .. }
            | Self::Application(_) => "InvalidBundle",
            Self::Name { .. } | Self::Version { .. } | Self::Write(_) => "NotPublishable",
        }
    }
}
