//! What the operator may do, declared once.

