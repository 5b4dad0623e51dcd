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

/// Whether there is no such object.
#[must_use]
pub fn is_not_found(error: &kube::Error) -> bool {
    status(error) == Some(404)
}
