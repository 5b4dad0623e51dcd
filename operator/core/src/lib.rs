//! What the operator decides, as pure functions.
