//! What a component is made of, and whether a call can change anything of it that is not put back.

use std::collections::BTreeSet;

use wasm_encoder::RawSection;
use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentAlias, ComponentExternalKind,
    ComponentOuterAliasKind, ComponentType, ComponentTypeDeclaration, ComponentTypeRef,
    ExternalKind, Instance, InstanceTypeDeclaration, Parser, Payload, TypeBounds, Validator,
    WasmFeatures,
};

use crate::runtime::restore::module::{self, State};

/// What is understood here. Anything newer could hold state of a kind that nobody here has thought of: threads, objects
/// of the garbage collector, stacks, streams.
pub(super) const FEATURES: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::COMPONENT_MODEL)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::BULK_MEMORY_OPT)
    .union(WasmFeatures::CALL_INDIRECT_OVERLONG);

/// Whose resources a component may use: those for each of which the host has one entry in its table, made and removed
/// together with the guest's handle. So the host's table tells what the guest's table holds.
const OURS: &str = "gantry:";

/// The one module that holds state, and the functions that the host calls last.
#[derive(Debug)]
pub(super) struct Plan {
    module: u32,
    state: State,
    /// Names of exports of the module.
    post_returns: BTreeSet<String>,
}

impl Plan {
    /// The component with a module that puts itself back.
    pub(super) fn apply(&self, component: &[u8]) -> Option<Vec<u8>> {
        let mut made = Parser::is_component(component)
            .then(|| component.get(..HEADER_BYTES))
            .flatten()?
            .to_vec();
        let mut module = 0;
        for section in sections(component)? {
            let data = component.get(section.range.clone())?;
            if section.is_module && module == self.module {
                let data = self.state.add_reset(data, &self.post_returns)?;
                append(&mut made, section.id, &data);
            } else {
                append(&mut made, section.id, data);
            }
            module += u32::from(section.is_module);
        }
        Some(made)
    }
}

/// The magic number and the version.
const HEADER_BYTES: usize = 8;

struct Section {
    id: u8,
    range: std::ops::Range<usize>,
    is_module: bool,
}

/// The sections of the component itself, not those inside its modules and components.
fn sections(component: &[u8]) -> Option<Vec<Section>> {
    let mut sections = Vec::new();
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.ok()?;
        if depth == 0
            && let Some((id, range)) = payload.as_section()
        {
            let is_module = matches!(payload, Payload::ModuleSection { .. });
            sections.push(Section {
                id,
                range,
                is_module,
            });
        }
        depth = depth_after(depth, &payload);
    }
    Some(sections)
}

fn depth_after(depth: u32, payload: &Payload<'_>) -> u32 {
    match payload {
        Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth + 1,
        Payload::End(_) => depth.saturating_sub(1),
        _ => depth,
    }
}

fn append(made: &mut Vec<u8>, id: u8, data: &[u8]) {
    use wasm_encoder::Encode;
    made.push(id);
    RawSection { id, data }.encode(made);
}

/// Where a core function of the component comes from.
enum CoreFunction<'a> {
    /// An export of a core instance.
    Export {
        instance: u32,
        name: &'a str,
    },
    Lowered,
}

#[derive(Default)]
struct Survey<'a> {
    /// The state of each core module, where it has any.
    modules: Vec<Option<State>>,
    /// Which module each core instance is made of, if it is made of one.
    instances: Vec<Option<u32>>,
    functions: Vec<CoreFunction<'a>>,
    /// The core function that the host calls last, for each function that the component exports.
    post_returns: Vec<u32>,
    /// Of each type, whether it is an instance that brings resources.
    types: Vec<bool>,
}

/// How everything is put back that a call can change, if it can be.
pub(super) fn look_through(component: &[u8], pages_max: u64) -> Option<Plan> {
    let mut validator = Validator::new_with_features(FEATURES);
    validator.validate_all(component).ok()?;
    let mut survey = Survey::default();
    let mut depth = 0_u32;
    // Whether the parser is inside a module, which is looked through as a whole.
    let mut module_depth = None;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.ok()?;
        if module_depth.is_none() {
            if depth == 0 {
                survey.take(component, &payload, pages_max)?;
            } else if !is_only_types(&payload) {
                return None;
            }
            if matches!(payload, Payload::ModuleSection { .. }) {
                module_depth = Some(depth);
            }
        }
        depth = depth_after(depth, &payload);
        if module_depth == Some(depth) {
            module_depth = None;
        }
    }
    survey.plan()
}

impl<'a> Survey<'a> {
    fn take(&mut self, component: &'a [u8], payload: &Payload<'a>, pages_max: u64) -> Option<()> {
        match payload {
            Payload::ModuleSection {
                unchecked_range, ..
            } => {
                let module = component.get(unchecked_range.clone())?;
                self.modules.push(module::state(module, pages_max)?);
            }
            Payload::InstanceSection(instances) => {
                for instance in instances.clone() {
                    self.instances.push(match instance.ok()? {
                        Instance::Instantiate { module_index, .. } => Some(module_index),
                        Instance::FromExports(_) => None,
                    });
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases.clone() {
                    self.take_alias(&alias.ok()?)?;
                }
            }
            Payload::ComponentCanonicalSection(functions) => {
                for function in functions.clone() {
                    self.take_canonical(&function.ok()?)?;
                }
            }
            Payload::ComponentTypeSection(types) => {
                for one in types.clone() {
                    let one = one.ok()?;
                    let brings_resources = match &one {
                        ComponentType::Instance(declarations) => brings_resources(declarations)?,
                        other => {
                            has_no_handles(other).then_some(())?;
                            false
                        }
                    };
                    self.types.push(brings_resources);
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    let import = import.ok()?;
                    is_plain(import.ty).then_some(())?;
                    match import.ty {
                        ComponentTypeRef::Instance(index) => {
                            let brings = *self.types.get(usize::try_from(index).ok()?)?;
                            (!brings || import.name.name.starts_with(OURS)).then_some(())?;
                        }
                        ComponentTypeRef::Type(_) => self.types.push(false),
                        _ => {}
                    }
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports.clone() {
                    if export.ok()?.kind == ComponentExternalKind::Type {
                        self.types.push(false);
                    }
                }
            }
            Payload::Version { .. }
            | Payload::CoreTypeSection(_)
            | Payload::ComponentSection { .. }
            | Payload::ComponentInstanceSection(_)
            | Payload::CustomSection(_)
            | Payload::End(_) => {}
            _ => return None,
        }
        Some(())
    }

    fn take_alias(&mut self, alias: &ComponentAlias<'a>) -> Option<()> {
        match *alias {
            ComponentAlias::CoreInstanceExport {
                kind: ExternalKind::Func | ExternalKind::FuncExact,
                instance_index: instance,
                name,
            } => self.functions.push(CoreFunction::Export { instance, name }),
            ComponentAlias::CoreInstanceExport { .. } => {}
            // A module of somebody else would shift the numbers of our own, and nobody could look into it.
            ComponentAlias::InstanceExport {
                kind: ComponentExternalKind::Module,
                ..
            }
            | ComponentAlias::Outer {
                kind: ComponentOuterAliasKind::CoreModule,
                ..
            } => return None,
            ComponentAlias::InstanceExport {
                kind: ComponentExternalKind::Type,
                ..
            }
            | ComponentAlias::Outer {
                kind: ComponentOuterAliasKind::Type,
                ..
            } => self.types.push(false),
            ComponentAlias::InstanceExport { .. } | ComponentAlias::Outer { .. } => {}
        }
        Some(())
    }

    fn take_canonical(&mut self, function: &CanonicalFunction) -> Option<()> {
        match function {
            CanonicalFunction::Lift { options, .. } => {
                let last = options.iter().find_map(|option| match option {
                    CanonicalOption::PostReturn(function) => Some(*function),
                    _ => None,
                });
                // Without one nothing of ours would run after the call.
                self.post_returns.push(last?);
            }
            CanonicalFunction::Lower { .. } | CanonicalFunction::ResourceDrop { .. } => {
                self.functions.push(CoreFunction::Lowered);
            }
            // Resources of the component's own have handles that nobody else counts.
            _ => return None,
        }
        Some(())
    }

    fn plan(mut self) -> Option<Plan> {
        let mut with_state = (0_u32..)
            .zip(&self.modules)
            .filter(|(_, state)| state.is_some());
        let (module, _) = with_state.next()?;
        if with_state.next().is_some() {
            return None;
        }
        let mut instances = (0_u32..)
            .zip(&self.instances)
            .filter(|(_, of)| **of == Some(module));
        let (instance, _) = instances.next()?;
        if instances.next().is_some() || self.post_returns.is_empty() {
            return None;
        }
        let mut post_returns = BTreeSet::new();
        for function in &self.post_returns {
            match self.functions.get(usize::try_from(*function).ok()?)? {
                CoreFunction::Export { instance: of, name } if *of == instance => {
                    post_returns.insert((*name).to_owned());
                }
                _ => return None,
            }
        }
        let state = self
            .modules
            .get_mut(usize::try_from(module).ok()?)?
            .take()?;
        Some(Plan {
            module,
            state,
            post_returns,
        })
    }
}

/// Whether a part of an inner component neither runs nor holds anything: inner components give names to types.
fn is_only_types(payload: &Payload<'_>) -> bool {
    match payload {
        Payload::ComponentTypeSection(types) => types
            .clone()
            .into_iter()
            .all(|one| one.is_ok_and(|one| has_no_handles(&one))),
        Payload::ComponentImportSection(imports) => imports
            .clone()
            .into_iter()
            .all(|import| import.is_ok_and(|import| is_plain(import.ty))),
        Payload::Version { .. }
        | Payload::ComponentAliasSection(_)
        | Payload::ComponentExportSection(_)
        | Payload::CustomSection(_)
        | Payload::End(_) => true,
        _ => false,
    }
}

/// Whether neither a resource nor a core module comes in.
fn is_plain(reference: ComponentTypeRef) -> bool {
    match reference {
        ComponentTypeRef::Type(TypeBounds::Eq(_))
        | ComponentTypeRef::Func(_)
        | ComponentTypeRef::Instance(_) => true,
        ComponentTypeRef::Type(TypeBounds::SubResource)
        | ComponentTypeRef::Module(_)
        | ComponentTypeRef::Value(_)
        | ComponentTypeRef::Component(_) => false,
    }
}

/// Whether an instance brings resources, in the one way in which they are allowed: as exports of its own.
fn brings_resources(declarations: &[InstanceTypeDeclaration<'_>]) -> Option<bool> {
    let mut brings = false;
    for declaration in declarations {
        match declaration {
            InstanceTypeDeclaration::CoreType(_) | InstanceTypeDeclaration::Alias(_) => {}
            InstanceTypeDeclaration::Type(one) => has_no_handles(one).then_some(())?,
            InstanceTypeDeclaration::Export {
                ty: ComponentTypeRef::Type(TypeBounds::SubResource),
                ..
            } => brings = true,
            InstanceTypeDeclaration::Export { ty, .. } => is_plain(*ty).then_some(())?,
        }
    }
    Some(brings)
}

/// Whether a type neither is a resource nor brings one: without resources there are no handles.
fn has_no_handles(one: &ComponentType<'_>) -> bool {
    match one {
        ComponentType::Defined(_) | ComponentType::Func(_) => true,
        ComponentType::Resource { .. } => false,
        ComponentType::Instance(declarations) => {
            declarations.iter().all(|declaration| match declaration {
                InstanceTypeDeclaration::CoreType(_) | InstanceTypeDeclaration::Alias(_) => true,
                InstanceTypeDeclaration::Type(one) => has_no_handles(one),
                InstanceTypeDeclaration::Export { ty, .. } => is_plain(*ty),
            })
        }
        ComponentType::Component(declarations) => {
            declarations.iter().all(|declaration| match declaration {
                ComponentTypeDeclaration::CoreType(_) | ComponentTypeDeclaration::Alias(_) => true,
                ComponentTypeDeclaration::Type(one) => has_no_handles(one),
                ComponentTypeDeclaration::Export { ty, .. } => is_plain(*ty),
                ComponentTypeDeclaration::Import(import) => is_plain(import.ty),
            })
        }
    }
}
