//! [`Variables`]: the values of the `variables` of a component's manifest, and the interfaces by which guests read them.
//!
//! | interface | of |
//! |---|---|
//! | `fermyon:spin/variables@2.0.0` | Spin's SDKs since 2.0 |
//! | `fermyon:spin/config` | the first components |
//! | `wasi:config/store@0.2.0-draft-2024-09-27` | SDKs that are not Spin's |
//! | core import `spin-config` | modules of 2022 and 2023 |
//!
//! Promise: a guest reads its own component's variables only, and reading one is a lookup: templates were filled in when
//! the revision was built. Values are never logged, not even those that are no secrets.
//!
//! Absent on purpose: providers. Values come with the revision, so a changed value is another revision.

mod legacy_config;
mod spin_config;
mod spin_variables;
mod wasi_config;

use std::{collections::BTreeMap, fmt, sync::Arc};

use manifest::template::check_name;
use wasmtime::{Linker, component::Linker as ComponentLinker};

use super::RuntimeContext;

/// The interfaces of this module that are a component's.
pub(super) const INTERFACES: [&str; 3] = [spin_variables::INTERFACE, spin_config::INTERFACE, wasi_config::INTERFACE];

/// A component's variables, by name.
#[derive(Default)]
pub(crate) struct Variables(BTreeMap<String, Arc<str>>);

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Absent {
    /// No variable can have this name.
    #[error("`{0}` cannot be the name of a variable: {1}")]
    Name(String, &'static str),
    /// The component has no such variable.
    #[error("the component has no variable `{0}`: name it in the component's `variables`")]
    Undefined(String),
}

impl Variables {
    /// The value of `name`.
    fn get(&self, name: &str) -> Result<Arc<str>, Absent> {
        match self.0.get(name) {
            Some(value) => Ok(Arc::clone(value)),
            None => Err(match check_name(name) {
                Ok(()) => Absent::Undefined(name.to_owned()),
                Err(problem) => Absent::Name(name.chars().take(NAME_SHOWN).collect(), problem),
            }),
        }
    }

    /// All of them, by name.
    fn all(&self) -> impl Iterator<Item = (&str, &Arc<str>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

/// How much of a wrong name an error repeats, in characters.
const NAME_SHOWN: usize = 100;

impl FromIterator<(String, String)> for Variables {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(values: I) -> Self {
        Self(values.into_iter().map(|(name, value)| (name, value.into())).collect())
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Defines the interfaces for components.
pub(super) fn link_components(linker: &mut ComponentLinker<RuntimeContext>) -> wasmtime::Result<()> {
    spin_variables::link(linker)?;
    spin_config::link(linker)?;
    wasi_config::link(linker)
}

/// Defines the import for core modules.
pub(super) fn link_modules(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    legacy_config::link(linker)
}

#[cfg(test)]
mod interface_tests;

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        [("a".to_owned(), "one".to_owned()), ("b_2".to_owned(), String::new())].into_iter().collect()
    }

    #[test]
    fn a_variable_is_found_by_its_name_and_absence_is_explained() {
        assert_eq!(variables().get("a").as_deref(), Ok("one"));
        assert_eq!(variables().get("b_2").as_deref(), Ok(""));
        assert_eq!(variables().get("c"), Err(Absent::Undefined("c".to_owned())));
        assert!(matches!(variables().get("A-b"), Err(Absent::Name(name, _)) if name == "A-b"));
        assert!(
            matches!(variables().get(&"é".repeat(1000)), Err(Absent::Name(name, _)) if name.chars().count() == 100)
        );
    }

    #[test]
    fn values_are_not_shown() {
        assert_eq!(format!("{:?}", variables()), r#"{"a", "b_2"}"#);
    }
}
