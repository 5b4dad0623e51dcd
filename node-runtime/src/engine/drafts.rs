//! Components that were built for a draft of WASI: in the months before 0.2.0 and 0.3.0, Spin's SDKs used release candidates.
//!
//! Most of a draft is what was released later, so the host has it under the released name. A linker finds any `0.2.x` for
//! any other, but a draft only for itself. Therefore a draft's version is written as a number before the component is
//! compiled: `0.2.0-rc-2023-10-18` becomes `0.2.202310180000000`. It is as long as before, so nothing else in the file
//! changes; it is found like any other 0.2 (or 0.3); and it still tells which draft it was. Where a draft differs from the release,
//! `host::drafts` defines what it had.
//!
//! Absent on purpose: drafts from before October 2023. No Spin release with components could run them.

use std::borrow::Cow;

use wasmparser::{Parser, Payload};

/// A draft that is supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Draft {
    /// `0.2.0-rc-2023-10-18`: Spin 2.0.
    October2023,
    /// `0.2.0-rc-2023-11-10`: Spin 2.1.
    November2023,
    /// `0.3.0-rc-2026-03-15`: Spin 4.0 before its release. It is 0.3.0 in all but its name.
    March2026,
}

/// Drafts with their versions as they are written, and as numbers of the same length.
const VERSIONS: [(Draft, &str, &str); 3] = [
    (Draft::October2023, "@0.2.0-rc-2023-10-18", "@0.2.202310180000000"),
    (Draft::November2023, "@0.2.0-rc-2023-11-10", "@0.2.202311100000000"),
    (Draft::March2026, "@0.3.0-rc-2026-03-15", "@0.3.202603150000000"),
];

impl Draft {
    /// The draft that an interface's name, as it is after [`number`], belongs to.
    pub(crate) fn of(name: &str) -> Option<Self> {
        VERSIONS.into_iter().find(|(_, _, numbered)| name.ends_with(numbered)).map(|(draft, ..)| draft)
    }

    /// An interface's name as its author wrote it.
    pub(crate) fn written(name: &str) -> Cow<'_, str> {
        match VERSIONS.into_iter().find_map(|(_, written, numbered)| Some((name.strip_suffix(numbered)?, written))) {
            Some((interface, version)) => Cow::Owned(format!("{interface}{version}")),
            None => Cow::Borrowed(name),
        }
    }
}

/// Writes the versions of drafts in the imports and exports of the component `wasm` as numbers. What is not valid is left
/// for the compiler to refuse.
pub(crate) fn number(wasm: &mut [u8]) {
    for (at, numbered) in places(wasm) {
        if let Some(place) = wasm.get_mut(at..at + numbered.len()) {
            place.copy_from_slice(numbered.as_bytes());
        }
    }
}

/// Where in `wasm` the version of a draft is written, and what is to be there.
fn places(wasm: &[u8]) -> Vec<(usize, &'static str)> {
    let mut places = Vec::new();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::ComponentImportSection(section)) if depth == 0 => {
                for (at, import) in section.into_iter_with_offsets().flatten() {
                    places.extend(place(wasm, at, import.name.name));
                }
            }
            Ok(Payload::ComponentExportSection(section)) if depth == 0 => {
                for (at, export) in section.into_iter_with_offsets().flatten() {
                    places.extend(place(wasm, at, export.name.name));
                }
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    places
}

/// How many bytes may be before a name in its item: what kind of name it is, and its length as LEB128.
const BEFORE_NAME: usize = 6;

/// The place of the version in the item at `at` whose name is `name`.
fn place(wasm: &[u8], at: usize, name: &str) -> Option<(usize, &'static str)> {
    let (interface, numbered) = VERSIONS
        .into_iter()
        .find_map(|(_, written, numbered)| Some((name.strip_suffix(written)?, numbered)))
        .filter(|(interface, _)| interface.starts_with("wasi:"))?;
    let item = wasm.get(at..)?;
    let start =
        (0..=BEFORE_NAME).find(|start| item.get(*start..).is_some_and(|rest| rest.starts_with(name.as_bytes())))?;
    Some((at + start + interface.len(), numbered))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_drafts_become_numbers_of_the_same_length_in_imports_and_exports() {
        let wat = |version: &str| {
            let wat = format!(
                r#"(component
                    (import "wasi:io/poll@{version}" (instance (export "f" (func))))
                    (import "other:io/poll@0.2.0-rc-2023-10-18" (instance))
                    (instance $i)
                    (export "wasi:http/incoming-handler@{version}" (instance $i))
                    (component (import "wasi:io/poll@0.2.0-rc-2023-10-18" (instance))))"#
            );
            wat::parse_str(wat).unwrap()
        };
        for (_, written, numbered) in VERSIONS {
            assert_eq!(written.len(), numbered.len());
            let mut wasm = wat(&written[1..]);
            number(&mut wasm);
            assert_eq!(wasm, wat(&numbered[1..]));
        }
    }

    #[test]
    fn releases_and_what_is_no_component_are_left_alone() {
        let released = r#"(component (import "wasi:io/poll@0.2.0" (instance)))"#;
        for original in
            [wat::parse_str(released).unwrap(), b"not wasm".to_vec(), Vec::new(), b"\0asm\x0d\0\x01\0\x0a\xff".to_vec()]
        {
            let mut wasm = original.clone();
            number(&mut wasm);
            assert_eq!(wasm, original);
        }
    }

    #[test]
    fn a_numbered_name_tells_its_draft_and_what_was_written() {
        let name = "wasi:http/types@0.2.202310180000000";
        assert_eq!(Draft::of(name), Some(Draft::October2023));
        assert_eq!(Draft::written(name), "wasi:http/types@0.2.0-rc-2023-10-18");
        assert_eq!(
            (Draft::of("wasi:http/types@0.2.1"), Draft::written("wasi:a/b@0.2.1")),
            (None, "wasi:a/b@0.2.1".into())
        );
    }
}
