//! Core modules: read to the end like components, and held to what Extism gives its modules.

use wasmparser::{
    ExternalKind, FuncType, Parser, Payload, TypeRef, ValType, Validator, WasmFeatures,
};

use super::component::{Interface, Interfaces};
use crate::plugins::Mistake;
use crate::plugins::manifest::{Export, Manifest};

/// The module that every plugin of Extism imports.
const ENV: &str = "extism:host/env";
/// Host functions of one's own.
const USER: &str = "extism:host/user";
const WASI: &str = "wasi_snapshot_preview1";

/// Everything in `extism:host/env`.
const FUNCTIONS: &[&str] = &[
    "alloc",
    "config_get",
    "error_get",
    "error_set",
    "free",
    "get_log_level",
    "http_headers",
    "http_request",
    "http_status_code",
    "input_length",
    "input_load_u64",
    "input_load_u8",
    "input_offset",
    "length",
    "length_unsafe",
    "load_u64",
    "load_u8",
    "log_debug",
    "log_error",
    "log_info",
    "log_trace",
    "log_warn",
    "output_set",
    "store_u64",
    "store_u8",
    "var_get",
    "var_set",
];

/// Most imports that are told one by one.
const IMPORTS_TOLD_MAX: usize = 20;

/// What starts an instance, and is nothing that a route could name.
const STARTS: &[&str] = &["__wasm_call_ctors", "_initialize"];

/// What a module imports, and the exports that can be called: without parameters, with one number as result or none.
pub(super) fn read(
    wasm: &[u8],
    features: WasmFeatures,
) -> Result<Interfaces, wasmparser::BinaryReaderError> {
    Validator::new_with_features(features).validate_all(wasm)?;
    let mut found = Interfaces {
        is_module: true,
        ..Interfaces::default()
    };
    let mut types: Vec<Option<FuncType>> = Vec::new();
    // By index: the type of each function, imported ones first.
    let mut functions: Vec<u32> = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::TypeSection(section) => {
                for group in section {
                    let group = group?;
                    for kind in group.types() {
                        types.push(match &kind.composite_type.inner {
                            wasmparser::CompositeInnerType::Func(kind) => Some(kind.clone()),
                            _ => None,
                        });
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    let is_function = match import.ty {
                        TypeRef::Func(kind) => {
                            functions.push(kind);
                            true
                        }
                        _ => false,
                    };
                    found.imports.push(Interface {
                        name: format!("{}#{}", import.module, import.name),
                        has_functions: is_function,
                    });
                }
            }
            Payload::FunctionSection(section) => {
                for kind in section {
                    functions.push(kind?);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    let is_function = export.kind == ExternalKind::Func;
                    let kind = functions.get(export.index as usize);
                    let kind = kind.and_then(|kind| types.get(*kind as usize)?.as_ref());
                    if is_function
                        && !STARTS.contains(&export.name)
                        && kind.is_some_and(is_callable)
                    {
                        found.exports.push(Interface {
                            name: export.name.to_owned(),
                            has_functions: true,
                        });
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn is_callable(kind: &FuncType) -> bool {
    kind.params().is_empty() && matches!(kind.results(), [] | [ValType::I32])
}

/// Holds a module to what this host has for it, and its routes to what it exports.
pub(super) fn check(module: &Interfaces, manifest: Option<&Manifest>) -> Vec<Mistake> {
    let mistakes = module.imports.iter().filter_map(check_import);
    let mut mistakes: Vec<Mistake> = mistakes.take(IMPORTS_TOLD_MAX).collect();
    let Some(manifest) = manifest else {
        return mistakes;
    };
    if let Some(export) = &manifest.extism {
        let place = manifest.place("extism");
        mistakes.extend(check_export(module, export).map(|mistake| mistake.at(place)));
    }
    for (index, route) in manifest.routes.iter().enumerate() {
        let place = manifest.place(&format!("route:{index}"));
        let mistake = match (&route.export, &manifest.extism) {
            (Some(export), _) => check_export(module, export),
            (None, Some(_)) => None,
            (None, None) => {
                let message = format!("the route `{}` names no export of the module", route.path);
                let help = match module.exports.first() {
                    Some(export) => format!(
                        "add `handler = \"{name}\"` or `transform = \"{name}\"`, or `[extism]` with one of \
                         them for all routes",
                        name = export.name
                    ),
                    None => "the module exports nothing that could be called".to_owned(),
                };
                Some(Mistake::new(message).with_help(help))
            }
        };
        mistakes.extend(mistake.map(|mistake| mistake.at(place)));
    }
    mistakes
}

fn check_import(import: &Interface) -> Option<Mistake> {
    let (module, name) = import.name.split_once('#')?;
    let message =
        format!("the module imports `{name}` of `{module}`, which this host does not have");
    let help = match module {
        _ if !import.has_functions => "only functions can be imported",
        WASI => return None,
        ENV if FUNCTIONS.contains(&name) => return None,
        ENV => "build it again with a kit of Extism 1.x",
        USER => "functions of one's own host are not supported; use requests, settings and the log",
        "env" => "build it as one module, without imports that are left to the host",
        _ => "only Extism's own functions and `wasi_snapshot_preview1` can be imported",
    };
    Some(Mistake::new(message).with_help(help))
}

fn check_export(module: &Interfaces, export: &Export) -> Option<Mistake> {
    let mut names = module.exports.iter().map(|export| export.name.as_str());
    if names.any(|name| name == export.name) {
        return None;
    }
    let message = format!(
        "the module exports no function `{}` that could be called",
        export.name
    );
    let names: Vec<String> = module
        .exports
        .iter()
        .take(10)
        .map(|it| format!("`{}`", it.name))
        .collect();
    Some(Mistake::new(message).with_help(match names.is_empty() {
        true => "it exports no function without parameters".to_owned(),
        false => format!("it exports {}", names.join(", ")),
    }))
}

/// Keys of a manifest that mean nothing to a component.
pub(super) fn refuse_keys(manifest: &Manifest) -> Vec<Mistake> {
    let extism = manifest.extism.as_ref().map(|_| {
        let mistake = Mistake::new("`[extism]` is for core modules, and this is a component");
        mistake.at(manifest.place("extism"))
    });
    let routes = manifest.routes.iter().enumerate();
    let routes = routes.filter(|(_, route)| route.export.is_some());
    let routes = routes.map(|(index, _)| {
        let message = "`handler` and `transform` are for core modules, and this is a component";
        Mistake::new(message).at(manifest.place(&format!("route:{index}")))
    });
    extism.into_iter().chain(routes).collect()
}
