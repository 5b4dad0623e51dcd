//! Components that export interfaces of the host and deny every call.
//!
//! An adapter is made for the very types that a dependency imports, so that there is one for every version. What a
//! function answers follows from its result's type: an error where there can be one, nothing (an empty list, `none`, zero)
//! where there cannot; a function that would have to return something real traps.

use std::fmt::Write as _;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{
    Function, Handle, Int, InterfaceId, LiftLowerAbi, ManglingAndAbi, Resolve, ResourceIntrinsic, SizeAlign, Type,
    TypeDefKind, TypeId, TypeOwner, WasmImport, WorldItem, WorldKey,
    abi::{AbiVariant, WasmType},
};

/// The cases of error types that say best that something is not permitted, the best first.
const DENIALS: [&str; 9] = [
    "access-denied",
    "HTTP-request-denied",
    "destination-not-allowed",
    "invalid-address",
    "connection-failed",
    "model-not-supported",
    "other",
    "other-error",
    "undefined",
];
/// What errors say that can.
const MESSAGE: &str = "not permitted: this dependency does not inherit it from its component";
/// Where the answers begin in memory. Zero is left alone.
const ANSWERS: usize = 16;
const PAGE: usize = 65536;

/// A component that exports `interfaces` of `resolve` and denies what they offer.
///
/// # Errors
/// When the interfaces cannot be exported; the text says why.
pub(super) fn denying(mut resolve: Resolve, interfaces: &[String]) -> Result<Vec<u8>, String> {
    let mut text = "package spindle:isolation;\nworld denying {\n".to_owned();
    for interface in interfaces {
        text.push_str("  export ");
        text.push_str(interface);
        text.push_str(";\n");
    }
    text.push_str("}\n");
    let show = |error: &dyn std::fmt::Display| format!("{error:#}");
    let package = resolve.push_str("isolation.wit", &text).map_err(|error| show(&error))?;
    let world = resolve.packages.get(package).and_then(|package| package.worlds.get("denying")).copied();
    let world = world.ok_or("the world of the adapter was lost")?;
    let exports = resolve.worlds.get(world).map(|world| world.exports.clone()).unwrap_or_default();
    let mut module = Module::new(&resolve);
    for (key, item) in &exports {
        if let WorldItem::Interface { id, .. } = item {
            module.interface(key, *id)?;
        }
    }
    let mut wasm = wat::parse_str(module.text()).map_err(|error| show(&error))?;
    embed_component_metadata(&mut wasm, &resolve, world, StringEncoding::UTF8).map_err(|error| show(&error))?;
    let encoder = ComponentEncoder::default().validate(true).module(&wasm);
    encoder.and_then(|mut encoder| encoder.encode()).map_err(|error| show(&error))
}

/// The core module of an adapter, while it is written.
struct Module<'r> {
    resolve: &'r Resolve,
    sizes: SizeAlign,
    imports: String,
    functions: String,
    /// What functions answer, at [`ANSWERS`] in memory.
    answers: Vec<u8>,
    /// Where [`MESSAGE`] is, once it is needed.
    message: Option<usize>,
}

impl<'r> Module<'r> {
    fn new(resolve: &'r Resolve) -> Self {
        let mut sizes = SizeAlign::default();
        sizes.fill(resolve);
        let (imports, functions) = (String::new(), String::new());
        Self { resolve, sizes, imports, functions, answers: Vec::new(), message: None }
    }

    fn interface(&mut self, key: &WorldKey, id: InterfaceId) -> Result<(), String> {
        let Some(interface) = self.resolve.interfaces.get(id) else { return Ok(()) };
        let name = self.resolve.name_world_key(key);
        for function in interface.functions.values() {
            self.function(key, id, &name, function)?;
        }
        Ok(())
    }

    fn function(
        &mut self,
        key: &WorldKey,
        id: InterfaceId,
        interface: &str,
        function: &Function,
    ) -> Result<(), String> {
        let signature = self.resolve.wasm_signature(AbiVariant::GuestExport, function);
        let body = match &function.result {
            None => String::new(),
            Some(Type::Id(result)) if self.own_resource(*result, id).is_some() => {
                self.new_resource(key, *result, id)?
            }
            Some(result) => self.answer(result, signature.retptr, signature.results.first()),
        };
        let name = function.legacy_core_export_name(Some(interface));
        let line = write!(self.functions, "(func (export {}) ", quoted(&name))
            .and_then(|()| writes(&mut self.functions, "param", &signature.params))
            .and_then(|()| writes(&mut self.functions, "result", &signature.results))
            .and_then(|()| writeln!(self.functions, " (global.set $heap (i32.const HEAP)) {body})"));
        line.map_err(|error| error.to_string())
    }

    /// The resource of the interface `id` that a function with the result type `result` makes.
    fn own_resource(&self, result: TypeId, id: InterfaceId) -> Option<TypeId> {
        match self.resolve.types.get(result)?.kind {
            TypeDefKind::Handle(Handle::Own(resource)) => {
                let definition = self.resolve.types.get(resource)?;
                let own = definition.kind == TypeDefKind::Resource && definition.owner == TypeOwner::Interface(id);
                own.then_some(resource)
            }
            TypeDefKind::Type(Type::Id(alias)) => self.own_resource(alias, id),
            _ => None,
        }
    }

    /// The body of a constructor: an object that does nothing.
    fn new_resource(&mut self, key: &WorldKey, result: TypeId, id: InterfaceId) -> Result<String, String> {
        let Some(resource) = self.own_resource(result, id) else { return Ok("unreachable".to_owned()) };
        let (module, name) = self.resolve.wasm_import_name(
            ManglingAndAbi::Legacy(LiftLowerAbi::Sync),
            WasmImport::ResourceIntrinsic { interface: Some(key), resource, intrinsic: ResourceIntrinsic::ExportedNew },
        );
        let function = format!("$new{}", resource.index());
        let import =
            format!("(import {} {} (func {function} (param i32) (result i32)))\n", quoted(&module), quoted(&name));
        if !self.imports.contains(&import) {
            self.imports.push_str(&import);
        }
        Ok(format!("(call {function} (i32.const 0))"))
    }

    /// The body of a function that answers with a value of type `result`, or traps.
    fn answer(&mut self, result: &Type, indirect: bool, direct: Option<&WasmType>) -> String {
        let (size, align) = (self.sizes.size(result).size_wasm32(), self.sizes.align(result).align_wasm32());
        let before = self.answers.len();
        let at = self.reserve(size, align);
        if self.write(result, at).is_none() {
            self.answers.truncate(before);
            self.message = self.message.filter(|message| *message < before);
            return "unreachable".to_owned();
        }
        let address = ANSWERS + at;
        match (indirect, direct, size) {
            (true, ..) => format!("(i32.const {address})"),
            (false, Some(WasmType::I64 | WasmType::PointerOrI64), _) => format!("(i64.load (i32.const {address}))"),
            (false, Some(WasmType::F32), _) => format!("(f32.load (i32.const {address}))"),
            (false, Some(WasmType::F64), _) => format!("(f64.load (i32.const {address}))"),
            (false, Some(_), 1) => format!("(i32.load8_u (i32.const {address}))"),
            (false, Some(_), 2) => format!("(i32.load16_u (i32.const {address}))"),
            (false, Some(_), _) => format!("(i32.load (i32.const {address}))"),
            (false, None, _) => String::new(),
        }
    }

    /// A zeroed place for an answer.
    fn reserve(&mut self, size: usize, align: usize) -> usize {
        let at = self.answers.len().next_multiple_of(align.max(1));
        // A value that has no size still has a place.
        self.answers.resize(at + size.max(8), 0);
        at
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> Option<()> {
        self.answers.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
        Some(())
    }

    /// Writes the value of type `ty` that gives nothing; `None` if there is none. The place is zero already.
    fn write(&mut self, ty: &Type, at: usize) -> Option<()> {
        let Type::Id(id) = ty else {
            return match ty {
                Type::ErrorContext => None,
                _ => Some(()),
            };
        };
        let resolve = self.resolve;
        match &resolve.types.get(*id)?.kind {
            TypeDefKind::Type(alias) => self.write(alias, at),
            TypeDefKind::Record(record) => self.write_all(record.fields.iter().map(|field| &field.ty), at),
            TypeDefKind::Tuple(tuple) => self.write_all(tuple.types.iter(), at),
            TypeDefKind::FixedLengthList(..) => None,
            TypeDefKind::Option(_) | TypeDefKind::List(_) | TypeDefKind::Map(..) | TypeDefKind::Flags(_) => Some(()),
            TypeDefKind::Enum(all) => {
                let names: Vec<&str> = all.cases.iter().map(|case| case.name.as_str()).collect();
                let index = preferred(&names).into_iter().next()?;
                self.put(at, index.to_le_bytes().get(..tag_size(all.tag()))?)
            }
            TypeDefKind::Variant(variant) => {
                let names: Vec<&str> = variant.cases.iter().map(|case| case.name.as_str()).collect();
                let payloads: Vec<Option<&Type>> = variant.cases.iter().map(|case| case.ty.as_ref()).collect();
                let tag = variant.tag();
                let payload_at = at + self.sizes.payload_offset(tag, payloads.iter().copied()).size_wasm32();
                let order = preferred(&names);
                order.into_iter().find_map(|index| {
                    self.put(at, index.to_le_bytes().get(..tag_size(tag))?)?;
                    payloads.get(index).copied()?.map_or(Some(()), |payload| self.write_error(payload, payload_at))
                })
            }
            TypeDefKind::Result(result) => {
                self.put(at, &[1])?;
                let payloads = [result.ok.as_ref(), result.err.as_ref()];
                let payload_at = at + self.sizes.payload_offset(Int::U8, payloads).size_wasm32();
                result.err.as_ref().map_or(Some(()), |error| self.write_error(error, payload_at))
            }
            TypeDefKind::Handle(_)
            | TypeDefKind::Resource
            | TypeDefKind::Future(_)
            | TypeDefKind::Stream(_)
            | TypeDefKind::Unknown => None,
        }
    }

    fn write_all<'t>(&mut self, types: impl Iterator<Item = &'t Type> + Clone, at: usize) -> Option<()> {
        let offsets: Vec<usize> =
            self.sizes.field_offsets(types.clone()).into_iter().map(|(offset, _)| offset.size_wasm32()).collect();
        types.zip(offsets).try_for_each(|(ty, offset)| self.write(ty, at + offset))
    }

    /// As [`Module::write`], but text says why.
    fn write_error(&mut self, ty: &Type, at: usize) -> Option<()> {
        if *ty != Type::String {
            return self.write(ty, at);
        }
        let message = match self.message {
            Some(message) => message,
            None => {
                let message = self.reserve(MESSAGE.len(), 1);
                self.put(message, MESSAGE.as_bytes())?;
                *self.message.insert(message)
            }
        };
        self.put(at, &u32::try_from(ANSWERS + message).ok()?.to_le_bytes())?;
        self.put(at + 4, &u32::try_from(MESSAGE.len()).ok()?.to_le_bytes())
    }

    /// The whole module. What callers pass is kept until the function returns.
    fn text(&self) -> String {
        let heap = (ANSWERS + self.answers.len()).next_multiple_of(16);
        let pages = heap / PAGE + 1;
        let data: String = self.answers.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let functions = self.functions.replace("HEAP", &heap.to_string());
        format!(
            r#"(module
{imports}(memory (export "memory") {pages})
(global $heap (mut i32) (i32.const {heap}))
(data (i32.const {ANSWERS}) "{data}")
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i64) (local $end i64) (local $missing i64)
  (local.set $at (i64.and
    (i64.sub (i64.add (i64.extend_i32_u (global.get $heap)) (i64.extend_i32_u (local.get 2))) (i64.const 1))
    (i64.sub (i64.const 0) (i64.extend_i32_u (local.get 2)))))
  (local.set $end (i64.add (local.get $at) (i64.extend_i32_u (local.get 3))))
  (local.set $missing (i64.sub (local.get $end) (i64.shl (i64.extend_i32_u (memory.size)) (i64.const 16))))
  (if (i64.gt_u (local.get $end) (i64.const 0xffff0000)) (then unreachable))
  (if (i64.gt_s (local.get $missing) (i64.const 0))
    (then (if (i32.eq (i32.const -1)
        (memory.grow (i32.wrap_i64 (i64.shr_u (i64.add (local.get $missing) (i64.const 65535)) (i64.const 16)))))
      (then unreachable))))
  (global.set $heap (i32.wrap_i64 (local.get $end)))
  (i32.wrap_i64 (local.get $at)))
{functions})
"#,
            imports = self.imports
        )
    }
}

/// How many bytes say which case a value is.
const fn tag_size(tag: Int) -> usize {
    match tag {
        Int::U8 => 1,
        Int::U16 => 2,
        Int::U32 => 4,
        Int::U64 => 8,
    }
}

/// The indexes of cases, those first that say that something is denied.
fn preferred(names: &[&str]) -> Vec<usize> {
    let rank = |name: &str| DENIALS.iter().position(|denial| *denial == name).unwrap_or(DENIALS.len());
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|index| names.get(*index).map_or(usize::MAX, |name| rank(name)));
    order
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn writes(text: &mut String, what: &str, types: &[WasmType]) -> std::fmt::Result {
    for ty in types {
        let name = match ty {
            WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
            WasmType::I64 | WasmType::PointerOrI64 => "i64",
            WasmType::F32 => "f32",
            WasmType::F64 => "f64",
        };
        write!(text, "({what} {name}) ")?;
    }
    Ok(())
}
