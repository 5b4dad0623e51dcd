//! [`Variables`]: the values of the `variables` of a component's manifest, and the interfaces by which guests read them.
//!
//! | interface | of |
//! |---|---|
//! | `fermyon:spin/variables@2.0.0` | Spin's SDKs since 2.0 |
//! | `spin:variables/variables@3.0.0` | Spin's SDKs for WASI 0.3 |
//! | `fermyon:spin/config` | the first components |
//! | `wasi:config/store@0.2.0-draft-2024-09-27` | SDKs that are not Spin's |
//! | core import `spin-config` | modules of 2022 and 2023 |
//!
//! Promise: a guest reads its own component's variables only. A value that cannot change while the revision runs was filled
//! in when it was built, and reading it is a lookup; one that a Vault may have is asked for when the guest asks, within its
//! deadline ([`values`]). Values are never logged, not even those that are no secrets.

mod environment;
mod legacy_config;
mod spin_config;
mod spin_variables;
mod template;
mod values;
mod vault;
mod wasi_config;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Instant};

use manifest::template::check_name;
use wasmtime::{Linker, component::Linker as ComponentLinker};

use super::{Grants, RuntimeContext};
pub(crate) use template::{Template, TemplateError};
pub(crate) use values::{BUILD_WITHIN, Values, ValuesError};

/// The interfaces of this module that are a component's.
pub(super) const INTERFACES: [&str; 4] =
    [spin_variables::INTERFACE, spin_variables::ASYNC_INTERFACE, spin_config::INTERFACE, wasi_config::INTERFACE];

/// A component's variables, by name.
#[derive(Default)]
pub(crate) struct Variables(BTreeMap<String, Template>);

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Absent {
    /// No variable can have this name.
    #[error("`{0}` cannot be the name of a variable: {1}")]
    Name(String, &'static str),
    /// The component has no such variable.
    #[error("the component has no variable `{0}`: name it in the component's `variables`")]
    Undefined(String),
    /// Whoever has the value does not give it.
    #[error("the variable `{name}` has no value now: {problem}")]
    Provider {
        /// The application's variable.
        name: String,
        /// Why; never a value.
        problem: Arc<str>,
    },
}

impl Variables {
    /// The value of `name`, at `deadline` at the latest.
    async fn get(&self, name: &str, deadline: Instant) -> Result<Arc<str>, Absent> {
        match self.0.get(name) {
            Some(value) => value.fill_in(deadline).await,
            None => Err(match check_name(name) {
                Ok(()) => Absent::Undefined(name.to_owned()),
                Err(problem) => Absent::Name(name.chars().take(NAME_SHOWN).collect(), problem),
            }),
        }
    }

    /// All of them, by name.
    async fn all(&self, deadline: Instant) -> Result<Vec<(String, Arc<str>)>, Absent> {
        let mut all = Vec::with_capacity(self.0.len());
        for (name, value) in &self.0 {
            all.push((name.clone(), value.fill_in(deadline).await?));
        }
        Ok(all)
    }
}

/// A guest's question for variables, apart from its store: answering may take a while.
pub(super) struct Read {
    pub(super) grants: Arc<Grants>,
    pub(super) deadline: Instant,
}

impl Read {
    async fn get(&self, name: &str) -> Result<Arc<str>, Absent> {
        self.grants.variables.get(name, self.deadline).await
    }

    async fn all(&self) -> Result<Vec<(String, Arc<str>)>, Absent> {
        self.grants.variables.all(self.deadline).await
    }
}

/// How much of a wrong name an error repeats, in characters.
const NAME_SHOWN: usize = 100;

impl FromIterator<(String, Template)> for Variables {
    fn from_iter<I: IntoIterator<Item = (String, Template)>>(values: I) -> Self {
        Self(values.into_iter().collect())
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
        [("a", "one"), ("b_2", "")].map(|(name, value)| (name.to_owned(), Template::fixed(value))).into_iter().collect()
    }

    #[tokio::test]
    async fn a_variable_is_found_by_its_name_and_absence_is_explained() {
        let (variables, now) = (variables(), Instant::now());
        assert_eq!(variables.get("a", now).await.as_deref(), Ok("one"));
        assert_eq!(variables.get("b_2", now).await.as_deref(), Ok(""));
        assert_eq!(variables.get("c", now).await, Err(Absent::Undefined("c".to_owned())));
        assert!(matches!(variables.get("A-b", now).await, Err(Absent::Name(name, _)) if name == "A-b"));
        let long = variables.get(&"é".repeat(1000), now).await;
        assert!(matches!(long, Err(Absent::Name(name, _)) if name.chars().count() == 100));
    }

    #[test]
    fn values_are_not_shown() {
        assert_eq!(format!("{:?}", variables()), r#"{"a", "b_2"}"#);
    }
}
