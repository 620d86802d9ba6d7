use std::collections::BTreeSet;

use proptest::prelude::*;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Extern, Instance, Module, Store, Val};

use super::{add, component, is_as_new, module};

/// A component as `wit-component` makes them, with this in its main module and this beside it.
fn made_of(main: &str, beside: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (core module $main
                (func (export "f") (param i32) (result i32) (i32.const 16))
                (func (export "post") (param i32))
                {main})
            (core instance $main (instantiate $main))
            (func $f (param "x" u32) (result string) (canon lift (core func $main "f")
                (memory (core memory $main "memory")) (post-return (core func $main "post"))))
            (export "f" (func $f))
            {beside})"#
    );
    wat::parse_str(text).unwrap()
}

const MEMORY: &str = r#"(memory (export "memory") 1)"#;

#[test]
fn a_component_with_one_memory_and_plain_globals_is_put_back() {
    for (main, beside) in [
        (MEMORY, ""),
        (
            r#"(memory (export "memory") 1) (global (mut i32) (i32.const 1)) (global (mut f64) (f64.const nan))
               (data (i32.const 16) "begin") (data "by itself")
               (table 2 funcref) (elem (i32.const 0) func 0)"#,
            "",
        ),
        // What has no state may be there, any number of times.
        (
            MEMORY,
            r#"(core module $shim (table (export "t") 1 funcref) (func (export "g") (result i32) (i32.const 1)))
               (core instance (instantiate $shim)) (core instance (instantiate $shim))"#,
        ),
        (
            MEMORY,
            r#"(import "gantry:kv/store@0.1.0" (instance $kv (export "r" (type (sub resource)))))
               (alias export $kv "r" (type $r)) (core func (canon resource.drop $r))"#,
        ),
        (
            MEMORY,
            r#"(component (type (record (field "a" u32))) (import "a" (type (eq 0))) (export "b" (type 0)))"#,
        ),
    ] {
        let component = made_of(main, beside);
        assert!(add(&component, 4).is_some(), "{main} {beside}");
    }
}

#[test]
fn a_component_with_state_of_any_other_kind_is_left_as_it_is() {
    let second = r#"(core module $b (memory 1)) (core instance (instantiate $b))"#;
    for (why, main, beside) in [
        ("a large memory", r#"(memory (export "memory") 5)"#, ""),
        (
            "a function runs at the start",
            r#"(memory (export "memory") 1) (func $s) (start $s)"#,
            "",
        ),
        (
            "a table is written",
            r#"(memory (export "memory") 1) (table 1 funcref) (func (table.set (i32.const 0) (ref.null func)))"#,
            "",
        ),
        (
            "a table grows",
            r#"(memory (export "memory") 1) (table 1 funcref)
               (func (drop (table.grow (ref.null func) (i32.const 1))))"#,
            "",
        ),
        (
            "a table is filled",
            r#"(memory (export "memory") 1) (table 1 funcref)
               (func (table.fill (i32.const 0) (ref.null func) (i32.const 1)))"#,
            "",
        ),
        (
            "a table is copied",
            r#"(memory (export "memory") 1) (table 2 funcref)
               (func (table.copy (i32.const 0) (i32.const 1) (i32.const 1)))"#,
            "",
        ),
        (
            "a table is written from a segment",
            r#"(memory (export "memory") 1) (table 2 funcref) (elem $e func 0)
               (func (table.init $e (i32.const 0) (i32.const 0) (i32.const 1)))"#,
            "",
        ),
        (
            "a segment of functions is dropped",
            r#"(memory (export "memory") 1) (elem $e func 0) (func (elem.drop $e))"#,
            "",
        ),
        (
            "a segment of data is dropped",
            r#"(memory (export "memory") 1) (data $d "x") (func (data.drop $d))"#,
            "",
        ),
        (
            "a global holds a reference",
            r#"(memory (export "memory") 1) (global (mut funcref) (ref.null func))"#,
            "",
        ),
        ("a second module has a memory", MEMORY, second),
        (
            "a second module has a global",
            MEMORY,
            r#"(core module $b (global (mut i32) (i32.const 0))) (core instance (instantiate $b))"#,
        ),
        (
            "a second module fills the memory at the start",
            MEMORY,
            r#"(core module $b (import "m" "memory" (memory 1)) (data (i32.const 0) "x"))
               (core instance (instantiate $b (with "m" (instance $main))))"#,
        ),
        (
            "the module is there twice",
            MEMORY,
            "(core instance (instantiate $main))",
        ),
        (
            "a function of the component has no end that is called",
            MEMORY,
            r#"(func $g (param "x" u32) (result u32) (canon lift (core func $main "f"))) (export "g" (func $g))"#,
        ),
        (
            "the end of a function is in another module",
            MEMORY,
            r#"(core module $b (func (export "post") (param i32))) (core instance $b (instantiate $b))
               (func $g (param "x" u32) (result string) (canon lift (core func $main "f")
                    (memory (core memory $main "memory")) (post-return (core func $b "post"))))
               (export "g" (func $g))"#,
        ),
        (
            "resources come in",
            MEMORY,
            r#"(import "r" (type (sub resource)))"#,
        ),
        (
            "resources of somebody else come in with an instance",
            MEMORY,
            r#"(import "wasi:io/streams@0.2.0" (instance (export "r" (type (sub resource)))))"#,
        ),
        (
            "it has a resource of its own",
            MEMORY,
            "(type (resource (rep i32)))",
        ),
        ("a module comes in", MEMORY, r#"(import "m" (core module))"#),
        (
            "an inner component runs something",
            MEMORY,
            r#"(component (core module $b (memory 1)) (core instance (instantiate $b)))"#,
        ),
    ] {
        let component = made_of(main, beside);
        assert!(add(&component, 4).is_none(), "{why}");
    }
    assert!(add(b"\0asm\x01\0\0\0", 4).is_none(), "no component");
    assert!(add(b"", 4).is_none(), "nothing");
}

#[test]
fn a_component_that_is_cut_off_is_left_as_it_is() {
    let component = made_of(MEMORY, "");
    for length in 0..component.len() {
        let part = &component[..length];
        // Cut off between two sections it may still be one.
        let mut validator = wasmparser::Validator::new_with_features(component::FEATURES);
        let is_whole = validator.validate_all(part).is_ok();
        assert!(is_whole || add(part, 4).is_none(), "{length}");
    }
}

/// Something that changes the state of a module.
#[derive(Debug, Clone)]
enum Change {
    Store { at: u32, value: u64 },
    Fill { at: u32, value: u8, length: u32 },
    Copy { to: u32, from: u32, length: u32 },
    Init { at: u32 },
    Global { index: usize, value: u32 },
}

impl Change {
    fn text(&self) -> String {
        match self {
            Self::Store { at, value } => {
                format!("(i64.store (i32.const {at}) (i64.const {value}))")
            }
            Self::Fill { at, value, length } => {
                format!("(memory.fill (i32.const {at}) (i32.const {value}) (i32.const {length}))")
            }
            Self::Copy { to, from, length } => {
                format!("(memory.copy (i32.const {to}) (i32.const {from}) (i32.const {length}))")
            }
            Self::Init { at } => {
                format!("(memory.init $p (i32.const {at}) (i32.const 0) (i32.const 5))")
            }
            Self::Global { index, value } => {
                let kind = GLOBALS[*index];
                let constant = match kind {
                    "v128" => format!("(v128.const i32x4 {value} 1 2 3)"),
                    kind => format!("({kind}.const {value})"),
                };
                format!("(global.set ${kind} {constant})")
            }
        }
    }
}

const GLOBALS: [&str; 5] = ["i32", "i64", "f32", "f64", "v128"];

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = || 0..65_000_u32;
    let change = prop_oneof![
        (at(), any::<u64>()).prop_map(|(at, value)| Change::Store { at, value }),
        (at(), any::<u8>(), 0..500_u32).prop_map(|(at, value, length)| Change::Fill {
            at,
            value,
            length
        }),
        (at(), at(), 0..500_u32).prop_map(|(to, from, length)| Change::Copy { to, from, length }),
        at().prop_map(|at| Change::Init { at }),
        (0..GLOBALS.len(), any::<u32>()).prop_map(|(index, value)| Change::Global { index, value }),
    ];
    prop::collection::vec(change, 0..40)
}

/// Pieces of data at any place, over each other too.
fn data() -> impl Strategy<Value = Vec<(u32, Vec<u8>)>> {
    prop::collection::vec(
        (0..65_000_u32, prop::collection::vec(any::<u8>(), 0..400)),
        0..6,
    )
}

/// Everything that a module holds.
fn holdings(store: &mut Store<()>, instance: Instance) -> (Vec<u8>, Vec<String>) {
    let exports: Vec<_> = instance
        .exports(&mut *store)
        .map(wasmtime::Export::into_extern)
        .collect();
    let (mut memory, mut globals) = (Vec::new(), Vec::new());
    for export in exports {
        match export {
            Extern::Memory(export) => memory.extend_from_slice(export.data(&*store)),
            // Floats as their bits: what is not a number equals nothing.
            Extern::Global(global) => globals.push(format!("{:?}", global.get(&mut *store))),
            _ => {}
        }
    }
    (memory, globals)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The guest's handles and the host's entries come and go together, and both give out first what was freed last.
    #[test]
    fn a_table_is_as_new_only_if_it_gives_out_what_a_new_one_gives_out(
        steps in prop::collection::vec((any::<bool>(), 0..8_usize), 0..12),
    ) {
        let (mut table, mut beside) = (ResourceTable::new(), ResourceTable::new());
        let mut open = Vec::new();
        for (opens, which) in steps {
            if opens {
                open.push((table.push(()).unwrap(), beside.push(()).unwrap()));
            } else if which < open.len() {
                let (entry, twin) = open.remove(which);
                table.delete(entry).unwrap();
                beside.delete(twin).unwrap();
            }
        }
        let is_empty = open.is_empty();
        if is_as_new(&mut table) {
            prop_assert!(is_empty);
            let next: Vec<_> = (0..20).map(|_| beside.push(()).unwrap().rep()).collect();
            prop_assert_eq!(next, (0..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn whatever_a_call_does_the_module_holds_afterwards_what_a_new_one_holds(
        data in data(),
        changes in changes(),
        last in changes(),
        calls in 1..3_usize,
    ) {
        let text = |changes: &[Change]| changes.iter().map(Change::text).collect::<String>();
        let escaped = |bytes: &[u8]| bytes.iter().map(|b| format!("\\{b:02x}")).collect::<String>();
        let data: String = data
            .iter()
            .map(|(at, bytes)| format!("(data (i32.const {at}) \"{}\")", escaped(bytes)))
            .collect();
        let source = format!(
            r#"(module
                (memory (export "memory") 1)
                (global $i32 (export "a") (mut i32) (i32.const 65536))
                (global $i64 (export "b") (mut i64) (i64.const -1))
                (global $f32 (export "c") (mut f32) (f32.const nan:0x200001))
                (global $f64 (export "d") (mut f64) (f64.const -0x1p-1074))
                (global $v128 (export "e") (mut v128) (v128.const i64x2 1 -2))
                (global (export "constant") i32 (i32.const 3))
                {data} (data $p "later")
                (func (export "f") {})
                (func (export "post") {}))"#,
            text(&changes), text(&last),
        );
        let as_is = wat::parse_str(source).unwrap();
        let state = module::state(&as_is, 1).expect("can be restored").expect("has state");
        let post_returns = BTreeSet::from(["post".to_owned()]);
        let restored = state.add_reset(&as_is, &post_returns).expect("is written");
        wasmparser::Validator::new_with_features(component::FEATURES)
            .validate_all(&restored)
            .unwrap();

        let engine = Engine::default();
        let mut store = Store::new(&engine, ());
        let new = Instance::new(&mut store, &Module::new(&engine, &as_is).unwrap(), &[]).unwrap();
        let expected = holdings(&mut store, new);
        let instance =
            Instance::new(&mut store, &Module::new(&engine, &restored).unwrap(), &[]).unwrap();
        prop_assert!(holdings(&mut store, instance) == expected, "before the first call");
        for _ in 0..calls {
            for name in ["f", "post"] {
                let function = instance.get_func(&mut store, name).unwrap();
                function.call(&mut store, &[], &mut [] as &mut [Val]).unwrap();
            }
            let left = holdings(&mut store, instance);
            prop_assert!(left.0 == expected.0, "the memory");
            prop_assert_eq!(&left.1, &expected.1);
        }
    }
}
