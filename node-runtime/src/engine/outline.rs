//! [`Outline`]: what wasm exports, read without compiling it.

use wasmparser::{ComponentExternalKind, ExternalKind, Parser, Payload};

/// The names of what a guest exports.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    /// Whether it is a component, and no core module.
    pub(crate) is_component: bool,
    exports: Vec<(String, bool)>,
}

impl Outline {
    /// That of `wasm`, unless it cannot be read.
    pub(crate) fn of(wasm: &[u8]) -> Option<Self> {
        let (mut exports, mut depth) = (Vec::new(), 0_usize);
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.ok()? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ExportSection(section) if depth == 0 => {
                    for export in section {
                        let export = export.ok()?;
                        exports.push((export.name.to_owned(), export.kind == ExternalKind::Func));
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let export = export.ok()?;
                        let called =
                            matches!(export.kind, ComponentExternalKind::Func | ComponentExternalKind::Instance);
                        exports.push((export.name.name.to_owned(), called));
                    }
                }
                _ => {}
            }
        }
        Some(Self { is_component: Parser::is_component(wasm), exports })
    }

    /// All names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.exports.iter().map(|(name, _)| name.as_str())
    }

    /// The names of functions, and of instances, which have functions.
    pub(crate) fn functions(&self) -> impl Iterator<Item = &str> {
        self.exports.iter().filter(|(_, called)| *called).map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions(wat: &str) -> Vec<String> {
        Outline::of(&wat::parse_str(wat).unwrap()).unwrap().functions().map(str::to_owned).collect()
    }

    #[test]
    fn the_exports_of_what_is_inside_a_component_are_not_its_own() {
        let wat = r#"(component
            (core module (func (export "inside")))
            (component (instance $i) (export "a:b/deeper" (instance $i)))
            (type $t u8) (instance $i)
            (export "t" (type $t)) (export "a:b/c@0.2.0" (instance $i)))"#;
        assert_eq!(functions(wat), ["a:b/c@0.2.0"]);
        let wat = r#"(module (memory (export "memory") 1) (func (export "f")))"#;
        assert_eq!(functions(wat), ["f"]);
        let outline = Outline::of(&wat::parse_str(wat).unwrap()).unwrap();
        assert_eq!((outline.is_component, outline.names().collect::<Vec<_>>()), (false, vec!["memory", "f"]));
        assert_eq!(Outline::of(b"not wasm"), None);
    }
}
