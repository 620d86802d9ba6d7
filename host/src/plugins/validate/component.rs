//! Reads the component to its end and lists what it imports and exports. No code of it runs, and none is compiled.

use wasmparser::{
    Encoding, Parser, Payload, Validator, WasmFeatures,
    component_types::{ComponentEntityType, ComponentInstanceTypeId},
    types::TypesRef,
};

use super::module;
use crate::plugins::Mistake;

/// The top level of a component or of a core module.
#[derive(Debug, Default)]
pub struct Interfaces {
    /// Whether it is a core module, and its imports and exports are functions.
    pub is_module: bool,
    pub imports: Vec<Interface>,
    pub exports: Vec<Interface>,
}

/// Something imported or exported: mostly an interface, `gantry:kv/store@0.1.0`.
#[derive(Debug)]
pub struct Interface {
    pub name: String,
    /// Whether it has functions. One that has only types gives its importer nothing to call.
    pub has_functions: bool,
}

/// The standards that the engine runs. Threads share memory past every limit, and asynchronous functions belong to
/// WASI 0.3, which has an engine of its own.
const FEATURES: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::MEMORY64)
    .union(WasmFeatures::COMPONENT_MODEL);

/// What a component or a core module imports and exports. On failure, why this host cannot run it.
pub fn read(wasm: &[u8]) -> Result<Interfaces, Vec<Mistake>> {
    if Parser::is_core_wasm(wasm) {
        let features = FEATURES.difference(WasmFeatures::COMPONENT_MODEL);
        return module::read(wasm, features).map_err(|error| {
            let message = format!(
                "the module is not valid at byte {}: {}",
                error.offset(),
                error.message()
            );
            vec![Mistake::new(message).with_help("build it again; the file may be cut off")]
        });
    }
    if !Parser::is_component(wasm) {
        let mistake = Mistake::new("plugin.wasm is not WebAssembly");
        return Err(vec![
            mistake.with_help("build it with `cargo build --target wasm32-wasip2`"),
        ]);
    }
    let plain = match read_component(wasm, FEATURES) {
        Ok(interfaces) => return Ok(interfaces),
        Err(error) => error,
    };
    let is_async = ["async", "stream", "future"]
        .iter()
        .any(|word| plain.message().contains(word));
    let mistake = |error: &wasmparser::BinaryReaderError| {
        let (at, message) = (error.offset(), error.message());
        Mistake::new(format!(
            "the component is not valid at byte {at}: {message}"
        ))
    };
    let again = "build it again; the file may be cut off";
    if !is_async {
        return Err(vec![mistake(&plain).with_help(again)]);
    }
    match read_component(wasm, FEATURES.union(WasmFeatures::CM_ASYNC)) {
        Ok(interfaces) if interfaces.exports.iter().any(is_handler_03) => Ok(interfaces),
        Ok(_) => Err(vec![mistake(&plain).with_help(
            "asynchronous functions are for components that export `wasi:http/handler@0.3`",
        )]),
        Err(error) => Err(vec![mistake(&error).with_help(again)]),
    }
}

/// Whether this is the export of WASI 0.3 that answers requests.
fn is_handler_03(export: &Interface) -> bool {
    export.name.starts_with("wasi:http/handler@0.3.")
}

fn read_component(
    wasm: &[u8],
    features: WasmFeatures,
) -> Result<Interfaces, wasmparser::BinaryReaderError> {
    let mut validator = Validator::new_with_features(features);
    let types = validator.validate_all(wasm)?;
    let types = types.as_ref();
    let mut found = Interfaces::default();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::Version {
                encoding: Encoding::Component | Encoding::Module,
                ..
            } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    let name = import?.name.name;
                    let item = types.component_item_for_import(name);
                    let has_functions = item.is_none_or(|item| has_functions(types, &item.ty));
                    found.imports.push(Interface {
                        name: name.to_owned(),
                        has_functions,
                    });
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    let name = export?.name.name;
                    let item = types.component_item_for_export(name);
                    let has_functions = item.is_none_or(|item| has_functions(types, &item.ty));
                    found.exports.push(Interface {
                        name: name.to_owned(),
                        has_functions,
                    });
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn has_functions(types: TypesRef<'_>, entity: &ComponentEntityType) -> bool {
    match entity {
        ComponentEntityType::Instance(id) => instance_has_functions(types, *id),
        ComponentEntityType::Type { .. } => false,
        _ => true,
    }
}

fn instance_has_functions(types: TypesRef<'_>, id: ComponentInstanceTypeId) -> bool {
    types[id]
        .exports
        .values()
        .any(|item| has_functions(types, &item.ty))
}
