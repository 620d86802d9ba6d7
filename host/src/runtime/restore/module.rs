//! What a core module holds that its code can change, and the code that writes it anew.

use std::collections::BTreeSet;

use wasm_encoder::{
    CodeSection, DataCountSection, DataSection, ExportKind, ExportSection, Function,
    FunctionSection, Ieee32, Ieee64, RawSection,
};
use wasmparser::{
    ConstExpr, DataKind, ExternalKind, FunctionBody, Operator, Parser, Payload, TypeRef, ValType,
};

const PAGE_BYTES: usize = 64 << 10;

/// Zeros between two pieces of data are kept in one piece with them up to here, in bytes: each piece is a call.
const GAP_BYTES_MIN: usize = 256;

/// The memory and the globals of a module, as they are before the first call.
#[derive(Debug)]
pub(super) struct State {
    /// The whole memory.
    image: Vec<u8>,
    /// Index and first value of each global that can change.
    globals: Vec<(u32, Constant)>,
}

#[derive(Debug, Clone, Copy)]
enum Constant {
    I32(i32),
    I64(i64),
    F32(u32),
    F64(u64),
    V128(i128),
}

/// What a call can change in the module. The outer `None`: something that cannot be put back.
#[expect(
    clippy::option_option,
    reason = "no state and state that cannot be restored are two answers"
)]
pub(super) fn state(module: &[u8], pages_max: u64) -> Option<Option<State>> {
    let mut memory_bytes = None;
    let mut globals = Vec::new();
    let mut global_index = 0_u32;
    let mut pieces = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload.ok()? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    match import.ok()?.ty {
                        TypeRef::Global(global) if global.mutable => return None,
                        TypeRef::Global(_) => global_index += 1,
                        TypeRef::Func(_) | TypeRef::Table(_) | TypeRef::Memory(_) => {}
                        _ => return None,
                    }
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    let memory = memory.ok()?;
                    let is_plain =
                        !memory.memory64 && !memory.shared && memory.page_size_log2.is_none();
                    if !is_plain || memory.initial > pages_max || memory_bytes.is_some() {
                        return None;
                    }
                    memory_bytes = Some(usize::try_from(memory.initial).ok()? * PAGE_BYTES);
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let global = global.ok()?;
                    if global.ty.mutable {
                        let value = constant(&global.init_expr, global.ty.content_type)?;
                        globals.push((global_index, value));
                    }
                    global_index += 1;
                }
            }
            Payload::DataSection(section) => {
                for piece in section {
                    let piece = piece.ok()?;
                    if let DataKind::Active {
                        memory_index: 0,
                        offset_expr,
                    } = piece.kind
                    {
                        let Some(Constant::I32(offset)) = constant(&offset_expr, ValType::I32)
                        else {
                            return None;
                        };
                        let offset = usize::try_from(offset.cast_unsigned()).ok()?;
                        pieces.push((offset, piece.data));
                    } else if matches!(piece.kind, DataKind::Active { .. }) {
                        return None;
                    }
                }
            }
            // It runs once for an instance and would have to run again.
            Payload::StartSection { .. } => return None,
            Payload::CodeSectionEntry(body) if !changes_only_memory_and_globals(&body)? => {
                return None;
            }
            _ => {}
        }
    }
    let Some(memory_bytes) = memory_bytes else {
        // Data for a memory of another module would have to be written again together with that.
        return (globals.is_empty() && pieces.is_empty()).then_some(None);
    };
    let mut image = vec![0; memory_bytes];
    for (offset, data) in pieces {
        image
            .get_mut(offset..offset.checked_add(data.len())?)?
            .copy_from_slice(data);
    }
    Some(Some(State { image, globals }))
}

/// Whether no instruction changes a table or drops a piece of data: those cannot be had back.
fn changes_only_memory_and_globals(body: &FunctionBody<'_>) -> Option<bool> {
    for operator in body.get_operators_reader().ok()? {
        let changes_more = matches!(
            operator.ok()?,
            Operator::TableSet { .. }
                | Operator::TableGrow { .. }
                | Operator::TableFill { .. }
                | Operator::TableCopy { .. }
                | Operator::TableInit { .. }
                | Operator::ElemDrop { .. }
                | Operator::DataDrop { .. }
        );
        if changes_more {
            return Some(false);
        }
    }
    Some(true)
}

/// The value of an expression that is one constant of this type.
fn constant(expression: &ConstExpr<'_>, of: ValType) -> Option<Constant> {
    let mut operators = expression.get_operators_reader();
    let value = match (of, operators.read().ok()?) {
        (ValType::I32, Operator::I32Const { value }) => Constant::I32(value),
        (ValType::I64, Operator::I64Const { value }) => Constant::I64(value),
        (ValType::F32, Operator::F32Const { value }) => Constant::F32(value.bits()),
        (ValType::F64, Operator::F64Const { value }) => Constant::F64(value.bits()),
        (ValType::V128, Operator::V128Const { value }) => Constant::V128(value.i128()),
        _ => return None,
    };
    matches!(operators.read().ok()?, Operator::End).then_some(value)
}

impl State {
    /// The module with functions that put it back, in the place of these exports. Each does what the export did, and then
    /// writes memory and globals anew.
    pub(super) fn add_reset(
        &self,
        module: &[u8],
        post_returns: &BTreeSet<String>,
    ) -> Option<Vec<u8>> {
        let outline = Outline::of(module, post_returns)?;
        let data = self.data();
        let mut made = wasm_encoder::Module::new();
        let mut code = CodeSection::new();
        let mut data_section = DataSection::new();
        let data_count = u32::try_from(data.len()).ok()?;
        for payload in Parser::new(0).parse_all(module) {
            let payload = payload.ok()?;
            match &payload {
                Payload::FunctionSection(section) => {
                    let mut functions = FunctionSection::new();
                    for kind in section.clone() {
                        functions.function(kind.ok()?);
                    }
                    for ending in &outline.endings {
                        functions.function(ending.type_index);
                    }
                    made.section(&functions);
                }
                Payload::ExportSection(section) => {
                    made.section(&outline.exports(section.clone())?);
                }
                Payload::DataCountSection { .. } => {}
                Payload::CodeSectionStart { .. } => {
                    made.section(&DataCountSection {
                        count: outline.data_count + data_count,
                    });
                }
                Payload::CodeSectionEntry(body) => {
                    code.raw(module.get(body.range())?);
                    if code.len() == outline.functions_defined {
                        for ending in &outline.endings {
                            code.function(&self.ending(ending, &data, outline.data_count)?);
                        }
                        made.section(&code);
                        if outline.data_count == 0 {
                            made.section(&with_data(&mut data_section, &data));
                        }
                    }
                }
                Payload::DataSection(section) => {
                    for piece in section.clone() {
                        data_section.raw(module.get(piece.ok()?.range)?);
                    }
                    if outline.data_count > 0 {
                        made.section(&with_data(&mut data_section, &data));
                    }
                }
                other => {
                    if let Some((id, range)) = other.as_section() {
                        let data = module.get(range)?;
                        made.section(&RawSection { id, data });
                    }
                }
            }
        }
        Some(made.finish())
    }

    /// The pieces of the image that are not zero: where each begins, and its bytes.
    fn data(&self) -> Vec<(usize, &[u8])> {
        let mut pieces: Vec<std::ops::Range<usize>> = Vec::new();
        for (at, byte) in self.image.iter().enumerate() {
            if *byte == 0 {
                continue;
            }
            match pieces.last_mut() {
                Some(piece) if at - piece.end < GAP_BYTES_MIN => piece.end = at + 1,
                _ => pieces.push(at..at + 1),
            }
        }
        pieces
            .into_iter()
            .map(|piece| (piece.start, &self.image[piece]))
            .collect()
    }

    fn ending(
        &self,
        ending: &Ending,
        data: &[(usize, &[u8])],
        data_index: u32,
    ) -> Option<Function> {
        let mut function = Function::new([]);
        let mut code = function.instructions();
        for parameter in 0..ending.parameters {
            code.local_get(parameter);
        }
        code.call(ending.function);
        let mut written = 0;
        let number = |bytes: usize| Some(u32::try_from(bytes).ok()?.cast_signed());
        for (index, (start, bytes)) in (data_index..).zip(data) {
            if *start > written {
                code.i32_const(number(written)?)
                    .i32_const(0)
                    .i32_const(number(start - written)?)
                    .memory_fill(0);
            }
            code.i32_const(number(*start)?)
                .i32_const(0)
                .i32_const(number(bytes.len())?)
                .memory_init(0, index);
            written = start + bytes.len();
        }
        if self.image.len() > written {
            code.i32_const(number(written)?)
                .i32_const(0)
                .i32_const(number(self.image.len() - written)?)
                .memory_fill(0);
        }
        for (index, value) in &self.globals {
            match *value {
                Constant::I32(value) => code.i32_const(value),
                Constant::I64(value) => code.i64_const(value),
                Constant::F32(bits) => code.f32_const(Ieee32::new(bits)),
                Constant::F64(bits) => code.f64_const(Ieee64::new(bits)),
                Constant::V128(value) => code.v128_const(value),
            };
            code.global_set(*index);
        }
        code.end();
        Some(function)
    }
}

fn with_data(section: &mut DataSection, pieces: &[(usize, &[u8])]) -> DataSection {
    for (_, bytes) in pieces {
        section.passive(bytes.iter().copied());
    }
    std::mem::take(section)
}

/// A function that the host calls last.
struct Ending {
    name: String,
    function: u32,
    type_index: u32,
    parameters: u32,
    /// The index of the function that takes its place.
    replaced_by: u32,
}

/// What has to be known of a module before it is written anew.
struct Outline {
    functions_defined: u32,
    data_count: u32,
    endings: Vec<Ending>,
}

impl Outline {
    fn of(module: &[u8], post_returns: &BTreeSet<String>) -> Option<Self> {
        let (mut parameters, mut imported, mut types) = (Vec::new(), 0_u32, Vec::new());
        let mut data_count = 0;
        let mut exports = Vec::new();
        for payload in Parser::new(0).parse_all(module) {
            match payload.ok()? {
                Payload::TypeSection(section) => {
                    for function in section.into_iter_err_on_gc_types() {
                        let function = function.ok()?;
                        let count = u32::try_from(function.params().len()).ok()?;
                        parameters.push(function.results().is_empty().then_some(count));
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        imported += u32::from(matches!(import.ok()?.ty, TypeRef::Func(_)));
                    }
                }
                Payload::FunctionSection(section) => {
                    types = section.into_iter().collect::<Result<_, _>>().ok()?;
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export.ok()?;
                        if export.kind == ExternalKind::Func && post_returns.contains(export.name) {
                            exports.push((export.name.to_owned(), export.index));
                        }
                    }
                }
                Payload::DataSection(section) => data_count = section.count(),
                _ => {}
            }
        }
        let functions_defined = u32::try_from(types.len()).ok()?;
        let mut endings = Vec::with_capacity(exports.len());
        for (replaced_by, (name, function)) in (imported + functions_defined..).zip(exports) {
            // A function that is imported is not of this module.
            let defined = usize::try_from(function.checked_sub(imported)?).ok()?;
            let type_index = *types.get(defined)?;
            let parameters = (*parameters.get(usize::try_from(type_index).ok()?)?)?;
            endings.push(Ending {
                name,
                function,
                type_index,
                parameters,
                replaced_by,
            });
        }
        (endings.len() == post_returns.len()).then_some(Self {
            functions_defined,
            data_count,
            endings,
        })
    }

    fn exports(&self, section: wasmparser::ExportSectionReader<'_>) -> Option<ExportSection> {
        let mut exports = ExportSection::new();
        for export in section {
            let export = export.ok()?;
            let kind = match export.kind {
                ExternalKind::Func => ExportKind::Func,
                ExternalKind::Table => ExportKind::Table,
                ExternalKind::Memory => ExportKind::Memory,
                ExternalKind::Global => ExportKind::Global,
                _ => return None,
            };
            let ending = self
                .endings
                .iter()
                .find(|ending| ending.name == export.name);
            let index = ending.map_or(export.index, |ending| ending.replaced_by);
            exports.export(export.name, kind, index);
        }
        Some(exports)
    }
}
