//! [`HandlerKind`]: by which of the interfaces for handling HTTP a component is called.

use wasmtime::component::{Component, types::ComponentItem};

use crate::{
    engine::Draft,
    executor::link::{LinkError, names},
};

/// The interface that a component exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::executor) enum HandlerKind {
    /// `wasi:http/incoming-handler@0.2.x`.
    IncomingHandler,
    /// `wasi:http/handler@0.3.x`.
    Service,
    /// `fermyon:spin/inbound-http`.
    InboundHttp,
}

/// The interfaces by which some version of Spin calls a guest over HTTP, whatever their version.
const HANDLERS: [&str; 3] = ["wasi:http/incoming-handler", "wasi:http/handler", HandlerKind::INBOUND_HTTP];

const EXPECTED: &str = "expected a component that exports `wasi:http/incoming-handler@0.2` or `wasi:http/handler@0.3`";

impl HandlerKind {
    /// The interface of Spin's own.
    pub(in crate::executor) const INBOUND_HTTP: &str = "fermyon:spin/inbound-http";

    /// The kind of `component`, which must export exactly one handler, of a version that is supported.
    pub(in crate::executor) fn of(component: &Component) -> Result<Self, LinkError> {
        let exports: Vec<String> = component
            .component_type()
            .exports(component.engine())
            .filter(|(_, item)| {
                matches!(item.ty, ComponentItem::ComponentInstance(_) | ComponentItem::ComponentFunc(_))
            })
            .map(|(name, _)| name.to_owned())
            .collect();
        Self::of_exports(&exports)
    }

    /// The kind of a component with these exports.
    pub(in crate::executor) fn of_exports(exports: &[String]) -> Result<Self, LinkError> {
        let is_handler = |name: &&String| HANDLERS.iter().any(|handler| name.split('@').next() == Some(*handler));
        let handlers: Vec<&str> = exports.iter().filter(is_handler).map(String::as_str).collect();
        match handlers[..] {
            [one] => Self::of_name(one).ok_or_else(|| {
                LinkError::new(format!(
                    "it exports `{}`, which this runtime does not call: {EXPECTED}",
                    Draft::written(one)
                ))
            }),
            [] => Err(LinkError::new(format!(
                "it handles no HTTP: {EXPECTED}. It exports: {}",
                names(exports.iter().map(|name| Draft::written(name)))
            ))),
            _ => Err(LinkError::new(format!(
                "it exports more than one handler ({}): which is meant is not clear; {EXPECTED} and no other handler",
                names(handlers.into_iter().map(Draft::written))
            ))),
        }
    }

    /// Released versions of one minor version are compatible; of the drafts, those are left here that are not supported.
    fn of_name(handler: &str) -> Option<Self> {
        if handler == Self::INBOUND_HTTP {
            return Some(Self::InboundHttp);
        }
        let (interface, version) = handler.split_once('@')?;
        let released = |minor: &str| version.strip_prefix(minor).is_some_and(|patch| patch.parse::<u64>().is_ok());
        match interface {
            "wasi:http/incoming-handler" if released("0.2.") => Some(Self::IncomingHandler),
            "wasi:http/handler" if released("0.3.") => Some(Self::Service),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(exports: &[&str]) -> Result<HandlerKind, LinkError> {
        HandlerKind::of_exports(&exports.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn every_release_of_a_supported_minor_version_is_called() {
        assert_eq!(kind(&["wasi:http/incoming-handler@0.2.0"]), Ok(HandlerKind::IncomingHandler));
        assert_eq!(kind(&["wasi:http/incoming-handler@0.2.12", "x:y/z"]), Ok(HandlerKind::IncomingHandler));
        assert_eq!(kind(&["wasi:http/handler@0.3.7"]), Ok(HandlerKind::Service));
        assert_eq!(kind(&["wasi:http/incoming-handler@0.2.202310180000000"]), Ok(HandlerKind::IncomingHandler));
        assert_eq!(kind(&["wasi:http/handler@0.3.202603150000000"]), Ok(HandlerKind::Service));
        assert_eq!(kind(&["fermyon:spin/inbound-http"]), Ok(HandlerKind::InboundHttp));
        for unknown in ["wasi:http/incoming-handler@0.3.0", "wasi:http/handler@0.2.0", "wasi:http/handler"] {
            assert!(kind(&[unknown]).is_err(), "{unknown}");
        }
    }
}
