//! What kind of failure a request to the API server met.

/// The HTTP status of `error`, if the API server answered at all.
#[must_use]
pub fn status(error: &kube::Error) -> Option<u16> {
    if let kube::Error::Api(status) = error { Some(status.code) } else { None }
}

/// Whether somebody else was faster: the object has changed or exists already.
#[must_use]
pub fn is_conflict(error: &kube::Error) -> bool {
    status(error) == Some(409)
}

/// Whether the namespace is being deleted: nothing can be made in it any more, and nothing needs to be.
#[must_use]
pub fn is_namespace_ending(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    status.code == 403 && causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// Whether there is no such object.
#[must_use]
pub fn is_not_found(error: &kube::Error) -> bool {
    status(error) == Some(404)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_goes_is_told_from_a_permission_that_lacks() {
        let error = |details: serde_json::Value| {
            let status =
                serde_json::json!({ "code": 403, "reason": "Forbidden", "message": "forbidden", "details": details });
            kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))
        };
        let going =
            serde_json::json!({ "causes": [{ "reason": "NamespaceTerminating", "field": "metadata.namespace" }] });
        assert!(is_namespace_ending(&error(going)));
        assert!(!is_namespace_ending(&error(serde_json::json!({ "kind": "services" }))));
    }
}
