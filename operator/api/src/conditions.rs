//! Condition types and reasons, each declared once.
//!
//! A runtime and a bundle source have reasons of their own; they pass through to conditions and events
//! unchanged. Those of this list are the operator's.

use std::fmt;

/// The condition types of a `SpinApp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The spec names content that exists, and every variable has a value.
    Resolved,
    /// The revision of the current spec is ready to take requests on every runtime that it is placed on.
    Loaded,
    /// The app's Service and EndpointSlices lead to at least one runtime that serves it.
    RoutesProgrammed,
    /// The revision of the current spec takes the app's requests on every runtime that it is placed on, and
    /// there is at least one.
    Ready,
    /// Some revision of the app takes its requests on at least one runtime.
    Available,
    /// Something is on its way: content is being fetched, compiled, switched or moved.
    Progressing,
    /// Something is not as asked for although the app may well be available.
    Degraded,
    /// The current spec is on its way. Written only while it is true, as tools that read `kstatus` expect.
    Reconciling,
    /// The current spec is not served, and will not be without a change. Written only while it is true.
    Stalled,
}

impl ConditionType {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 9] = [
        Self::Resolved,
        Self::Loaded,
        Self::RoutesProgrammed,
        Self::Ready,
        Self::Available,
        Self::Progressing,
        Self::Degraded,
        Self::Reconciling,
        Self::Stalled,
    ];

    /// The `type` of the condition.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolved => "Resolved",
            Self::Loaded => "Loaded",
            Self::RoutesProgrammed => "RoutesProgrammed",
            Self::Ready => "Ready",
            Self::Available => "Available",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }

    /// What it says when it is true, for the reference.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Resolved => "The spec names content that exists, and every variable has a value.",
            Self::Loaded => {
                "The revision of the current spec is ready to take requests on every runtime that it is placed on."
            }
            Self::RoutesProgrammed => {
                "The app's Service and EndpointSlices lead to at least one runtime that serves it."
            }
            Self::Ready => {
                "The revision of the current spec takes the app's requests on every runtime that it is placed on, and there is at least one."
            }
            Self::Available => "Some revision of the app takes its requests on at least one runtime.",
            Self::Progressing => "Something is on its way: content is being fetched, compiled, switched or moved.",
            Self::Degraded => "Something is not as asked for, although the app may well be available.",
            Self::Reconciling => {
                "The current spec is on its way. There only while it is true, for tools that read health as `kstatus` does."
            }
            Self::Stalled => {
                "The current spec is not served, and will not be without a change, or has got no further for `spec.rollout.progressDeadlineSeconds`. There only while it is true, for tools that read health as `kstatus` does."
            }
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Declares [`Reason`] with its words and meanings, so that none is written twice.
macro_rules! reasons {
    ($($variant:ident: $meaning:literal,)*) => {
        /// The operator's own condition and event reasons.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $meaning] $variant,)*
        }

        impl Reason {
            /// All of them, in the order of the reference.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The reason as conditions, events and metrics have it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)*
                }
            }

            /// What it means and what to do, for the reference.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)*
                }
            }
        }
    };
}

reasons! {
    Resolved: "The bundle's content is known and every variable has a value.",
    Resolving: "The bundle server is being asked, or a referenced Secret or ConfigMap is being read.",
    InvalidSpec: "A field of the spec cannot be used although the API server accepted it; the message names it.",
    VariableMissing: "A variable takes its value from a Secret or ConfigMap, or from a key in it, that does not exist. Create it, or set `optional: true`.",
    VariableRequired: "The application declares a variable without a default that nothing gives a value: set it in `spec.variables`, or in a variables provider of the runtime configuration.",
    VariableUndeclared: "An event only: `spec.variables` sets a variable that the application does not declare, so nobody reads it; often its name is misspelt. The Resolved condition, which is true all the same, says which.",
    RuntimeConfigMissing: "The runtime configuration is in a Secret or ConfigMap, or in a key of it, that does not exist. Create it.",
    InvalidRuntimeConfig: "The runtime configuration says something that cannot be honoured; the message names the place and what to write instead.",
    UnknownComponent: "`spec.components` names a component that the application does not have.",
    CredentialsMissing: "The Secret named by `spec.source.bindle.credentialsSecret` does not exist or lacks `username` or `password`.",
    InternalError: "The operator itself failed at something, which its log says more about. It tries again.",
    NotResolved: "Nothing can be said before the spec is resolved; see the Resolved condition.",
    Loaded: "The revision is ready on every runtime that it is placed on.",
    Loading: "Runtimes are fetching and compiling the revision.",
    Checking: "The revision is loaded; runtimes are making its readiness check.",
    CheckFailed: "The revision does not answer its readiness check (`spec.checks.readiness`) as it must; the message says what it answered. It is checked again, and takes requests when it passes.",
    LoadFailed: "A runtime could not load the revision and gave no reason of its own.",
    NoRuntimes: "No runtime is ready to take apps. Check the node-runtime pods.",
    TooFewRuntimes: "Fewer runtimes take apps than `spec.replicas` asks for; all of them are used. Add runtimes or lower the number.",
    ScaledToZero: "`spec.replicas` is 0, so no runtime serves the app.",
    PortsExhausted: "Every port for apps is taken (there are 22,768). Delete apps that are not needed.",
    ServiceConflict: "A Service of the app's name, or an EndpointSlice of such a name, exists that belongs to somebody else. It is left alone: rename the app, or delete that object.",
    WriteFailed: "The API server refused a write of the app's Service or EndpointSlices; the message has its words.",
    NoEndpoints: "No runtime serves the app yet, so its Service leads nowhere.",
    Programmed: "The Service leads to runtimes that serve the app.",
    Ready: "The revision of the current spec takes the app's requests.",
    Switching: "The new revision is ready everywhere; requests are being handed over to it.",
    Stopping: "The new revision is loaded, and the old one is being stopped everywhere before it is called (`spec.rollout.strategy: Recreate`). Runtimes that do not answer are waited for, until their pods are gone.",
    Serving: "A revision takes the app's requests.",
    NotServing: "No revision takes the app's requests.",
    Moving: "The app is being moved between runtimes; the old ones serve it until the new ones do.",
    Settled: "Nothing is on its way.",
    Stalled: "Nothing is on its way, although the current spec is not served; see the Ready condition.",
    ProgressDeadlineExceeded: "The current spec has got no further for `spec.rollout.progressDeadlineSeconds`. The operator goes on trying; the Ready condition says what it waits for.",
    OldRevisionServes: "The current spec is not served, and the revision before it goes on serving.",
    RuntimeTooOld: "A runtime is of a release that cannot read what the operator tells it of the app. It goes on with what it has of it: update the node-runtime pods.",
    RuntimeUnreachable: "A runtime that should serve the app does not answer the operator; it goes on serving what it was told last.",
    AsExpected: "Everything is as asked for.",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reasons of the client of Bindle servers, which the operator passes on as it gets them: why what `spec.source` names cannot
/// be had. Each with what it means and what to do, for the reference; the messages name server and bundle.
pub const REASONS_OF_SOURCES: &[(&str, &str)] = &[
    (
        "NotFound",
        "The server has no such bundle, or was never sent all of it. Compare `spec.source.bindle` with what was pushed. It is asked for again.",
    ),
    ("Yanked", "Whoever published the bundle has withdrawn it. Name another version."),
    (
        "Unauthorized",
        "The server wants another user. Name a Secret in `spec.source.bindle.credentialsSecret`, or correct the one that is named. It is asked for again.",
    ),
    (
        "Unreachable",
        "There is no connection to the server: name, port, network, or a certificate that is not trusted (`sources.ca` of the chart). It is asked for again.",
    ),
    ("Timeout", "The server takes connections and does not answer in time. It is asked for again."),
    ("Unavailable", "The server says that it has a problem, or too much to do. It is asked for again."),
    (
        "UnexpectedAnswer",
        "What answers is not a Bindle server. Often the URL lacks its path prefix, `/v1`. It is asked for again.",
    ),
    (
        "Corrupt",
        "The bytes that came are not those that the bundle promises, and were thrown away. They are fetched again; if that does not help, the server's copy is broken: publish another version.",
    ),
    ("TooLarge", "The bundle, or a part of it, is larger than what is accepted. Make it smaller."),
    (
        "Invalid",
        "The bundle is not a valid Spin application; the message says what is wrong and where. Publish a corrected version.",
    ),
    (
        "Unsupported",
        "The bundle is something else than a Spin application, such as one in Wagi's own layout. Publish it with `spindle bindle push`.",
    ),
    (
        "Unsigned",
        "The bundle has no signature by a key of the installation's keyring (`sources.keyring` of the chart). Sign it with such a key, or add the signer's.",
    ),
    ("BadSignature", "The bundle was changed after it was signed. Publish it again, as another version."),
    (
        "InvalidSource",
        "The server's URL or the bundle's id cannot be used; the message says why. Correct `spec.source.bindle`, or `operator.defaultBindleServer` of the chart.",
    ),
];

/// Reasons of runtimes, which the operator passes on as it gets them: why a revision cannot be loaded, or the app not be served,
/// on that runtime. Each with what it means and what to do, for the reference; the messages name the component. A runtime that
/// fetches a bundle's parts says [`REASONS_OF_SOURCES`] as well.
pub const REASONS_OF_RUNTIMES: &[(&str, &str)] = &[
    (
        "InvalidWasm",
        "A component's wasm is not valid, or does not compile. Build it again, and publish another version.",
    ),
    (
        "UnsupportedGuest",
        "A component's wasm is valid, but none that can be called: it exports no handler that Spindle knows, or one too many. The message says what it exports and what is expected.",
    ),
    (
        "MemoryLimit",
        "A component's memory begins with more than an instance may have. Raise `spec.invocationLimits.memory`.",
    ),
    (
        "InvalidStores",
        "A label in `key_value_stores` or `sqlite_databases` has nothing behind it. Add it to `spec.runtimeConfig`, or use `default`.",
    ),
    (
        "InvalidTemplate",
        "A value with `{{ variables }}` in the manifest cannot be filled in. Correct the manifest, and publish another version.",
    ),
    (
        "InvalidAllowedHosts",
        "An entry of `allowed_outbound_hosts` is none once its variables are filled in. Correct the variable, or the manifest.",
    ),
    (
        "InvalidVariablesProvider",
        "A variables provider of the runtime configuration can never be asked. Correct its settings.",
    ),
    (
        "VariablesProviderFailed",
        "A Vault does not give the value that is needed to know where a component may connect to. It is asked again.",
    ),
    ("InvalidCheck", "A header or the path of `spec.checks.readiness` cannot be sent. Correct it."),
    ("DiskFull", "The runtime's disk is full. Raise `runtime.dataVolume.sizeLimit` of the chart. It is tried again."),
    ("StoreFailed", "The runtime's disk cannot be read or written; its log says more. It is tried again."),
    ("Missing", "Something of the revision has vanished from the runtime's disk. It is fetched again."),
    ("Interrupted", "The work on the revision broke off; the runtime's log says why. It is tried again."),
    (
        "PortInUse",
        "Something else has the app's port on that runtime. Leave `runtime.localPortRange` of the chart as it is, so that outgoing connections do not take such ports. It is tried again.",
    ),
    (
        "PortForbidden",
        "The runtime may not listen at the app's port. Look for what restricts its pod. It is tried again.",
    ),
    (
        "PortUnavailable",
        "The runtime cannot listen at the app's port; the message has the system's words. It is tried again.",
    ),
];
