//! The HTTP trigger: an app's port, and the way from a request to the revision that answers it.
//!
//! Promises:
//! - a request takes no lock and looks up no label: port -> [`Slot`] -> revision;
//! - replacing or removing a revision never disturbs a request in flight: each holds what it began with until its
//!   connection has the last byte of its response, and the revision is dropped after the last of them;
//! - whatever one app's clients do, other apps' ports are unaffected: connections are limited by port, and by what the
//!   process can have open.
//!
//! Absent on purpose: routing within an app and errors as responses (see `application`).

mod body;
mod farewell;
mod held;
mod port;
mod proxy;
mod slot;

pub use body::RequestBody;
pub use farewell::Farewell;
pub use held::Held;
pub use port::{Port, Trigger, TriggerSettings};
pub use proxy::ProxyProtocol;
pub use slot::{Ending, Serving, Slot, SlotBody};
