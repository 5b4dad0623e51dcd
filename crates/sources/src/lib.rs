//! Where applications come from: directories, Bindle servers and component registries.
//!
//! Promise: whatever a source says, bytes enter the [`Store`] only under the digest that they have, and an application
//! names all of its content that way.
//!
//! Absent on purpose: the meaning of manifests and invoices, which is `manifest`'s.

pub mod bindle;
pub mod compose;
pub mod http;
pub mod local;
pub mod registry;
pub mod store;

pub use store::{Blob, Freed, Store, StoreError};
