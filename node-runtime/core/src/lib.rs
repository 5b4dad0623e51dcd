//! What a runtime decides, as pure functions.
