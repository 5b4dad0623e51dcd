//! [`Era`]: when a core module with the Spin HTTP ABI was built, as far as that decides how it lays out results.
//!
//! The layout changed with Spin 0.4, of July 2022, and no module says which one it has. What the guest itself returns tells
//! its layout when it is there (see `abi`). What the host returns must be laid out before, by this rule:
//!
//! 1. an export `spin-sdk-version-...`, or an import that Spin had only later, marks a later module;
//! 2. an export `handler` instead of `handle-http-request` marks one of the first months of 2022;
//! 3. a module whose `producers` section names a Rust compiler older than 1.62 (of the end of June 2022) is an early one;
//! 4. everything else is taken for a later one: many of those carry no mark, and some compilers still make them.

use wasmtime::Module;

use crate::host::guest_memory::Layout;

/// SDKs of 0.8 and later leave an export with this prefix.
const SDK_MARK: &str = "spin-sdk-version-";
/// What no host had before the layout changed.
const LATER_IMPORTS: [&str; 5] = ["key-value", "llm", "outbound-mysql", "outbound-pg", "sqlite"];
/// What `outbound-redis` had at first.
const FIRST_REDIS: [&str; 3] = ["get", "publish", "set"];
/// The first Rust release that nobody had before Spin 0.4 was near.
const LATER_RUSTC: (u32, u32) = (1, 62);

/// When a module was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Era {
    /// Before Spin 0.4, by all that can be seen.
    First,
    /// With Spin 0.4 or later, certainly.
    Later,
    /// Nothing says so.
    Unmarked,
}

impl Era {
    /// That of `module`, whose `producers` section names this version of Rust's compiler.
    pub(super) fn of(module: &Module, rustc: Option<(u32, u32)>) -> Self {
        let exports = module.exports().map(|export| export.name());
        let imports = module.imports().map(|import| (import.module(), import.name()));
        Self::of_names(exports, imports, rustc)
    }

    fn of_names<'a>(
        mut exports: impl Iterator<Item = &'a str>,
        mut imports: impl Iterator<Item = (&'a str, &'a str)>,
        rustc: Option<(u32, u32)>,
    ) -> Self {
        let is_later = |(module, name): (&str, &str)| {
            LATER_IMPORTS.contains(&module) || module == "outbound-redis" && !FIRST_REDIS.contains(&name)
        };
        if exports.any(|name| name.starts_with(SDK_MARK)) || imports.any(is_later) {
            Self::Later
        } else if rustc.is_some_and(|version| version < LATER_RUSTC) {
            Self::First
        } else {
            Self::Unmarked
        }
    }

    /// The layout of what the guest returns, where that is certain before it has returned anything.
    pub(super) const fn results(self) -> Option<Layout> {
        match self {
            Self::Later => Some(Layout::Canonical),
            Self::First | Self::Unmarked => None,
        }
    }

    /// The layout of what the host returns to it.
    pub(super) const fn imports(self) -> Layout {
        match self {
            Self::First => Layout::Slots,
            Self::Later | Self::Unmarked => Layout::Canonical,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn era(exports: &[&str], imports: &[(&str, &str)], rustc: Option<(u32, u32)>) -> Era {
        Era::of_names(exports.iter().copied(), imports.iter().copied(), rustc)
    }

    #[test]
    fn marks_of_later_sdks_beat_an_old_compiler_and_without_any_mark_nothing_is_certain() {
        let redis = |name| [("outbound-redis", name)];
        assert_eq!(era(&["memory"], &redis("get"), Some((1, 61))), Era::First);
        assert_eq!(era(&["memory"], &redis("incr"), Some((1, 61))), Era::Later);
        assert_eq!(era(&["spin-sdk-version-0-8"], &[], Some((1, 60))), Era::Later);
        assert_eq!(era(&[], &[("key-value", "open")], None), Era::Later);
        assert_eq!(era(&[], &[("spin-config", "get-config")], Some((1, 62))), Era::Unmarked);
        assert_eq!(era(&[], &[], None), Era::Unmarked);
    }

    #[test]
    fn only_modules_of_the_first_era_get_slots_and_their_results_are_looked_at_all_the_same() {
        assert_eq!((Era::First.imports(), Era::First.results()), (Layout::Slots, None));
        assert_eq!((Era::Later.imports(), Era::Later.results()), (Layout::Canonical, Some(Layout::Canonical)));
        assert_eq!((Era::Unmarked.imports(), Era::Unmarked.results()), (Layout::Canonical, None));
    }
}
