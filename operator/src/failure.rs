//! What kind of failure a request to the API server met.

use kube::runtime::watcher;

/// What the API server said, in its words, or why it said nothing; for logs and conditions.
///
/// A refusal for want of rights names verb and resource, and says what would help.
#[must_use]
pub fn sentence(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else { return daemon::chain(error) };
    let said = if status.message.is_empty() { &status.reason } else { &status.message };
    let said = said.trim_end();
    if status.code == 403 && said.contains(" cannot ") {
        format!("{said}. The operator's ServiceAccount lacks this right, which the chart's ClusterRole gives")
    } else if said.is_empty() {
        format!("the API server answered {}", status.code)
    } else {
        format!("{said} ({})", status.code)
    }
}

/// Why a watch failed.
#[must_use]
pub fn of_watch(error: &watcher::Error) -> String {
    match error {
        // Every kind but ours is there always.
        watcher::Error::InitialListFailed(source) | watcher::Error::WatchStartFailed(source)
            if is_not_found(source) =>
        {
            format!(
                "{}. The API server does not know this kind of object: apply the CRD of SpinApps (`helm upgrade`, or crds/)",
                sentence(source)
            )
        }
        watcher::Error::InitialListFailed(source) => format!("cannot list: {}", sentence(source)),
        watcher::Error::WatchStartFailed(source) => format!("cannot watch: {}", sentence(source)),
        watcher::Error::WatchFailed(source) => sentence(source),
        watcher::Error::WatchError(status) => format!("{} ({})", status.message, status.code),
        watcher::Error::NoResourceVersion => daemon::chain(error),
    }
}

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
    use kube::core::Status;

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

    fn api(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, "Reason").with_code(code).boxed())
    }

    #[test]
    fn a_refusal_is_told_in_the_servers_words_and_one_for_want_of_rights_with_the_remedy() {
        let rights = "services \"cart\" is forbidden: User \"system:serviceaccount:spindle:operator\" cannot patch resource \"services\" in API group \"\" in the namespace \"shop\"";
        let said = sentence(&api(403, rights));
        assert!(said.starts_with(rights) && said.ends_with("which the chart's ClusterRole gives"), "{said}");
        assert_eq!(sentence(&api(403, "exceeded quota: small")), "exceeded quota: small (403)");
        assert_eq!(sentence(&api(500, "")), "Reason (500)");
    }
}
