//! What every long-running Spindle process needs.
