//! Components that no toolchain makes, as somebody with bad intentions would.

use bytes::Bytes;
use gantry_harness::guests::{self, guest};
use wit_bindgen_core::wit_parser::{Resolve, UnresolvedPackageGroup};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

/// A component that works, with a module of so many functions beside its own that only the compiler ever looks at.
pub(crate) fn slow_to_compile(functions: u32) -> Bytes {
    let mut code = Vec::new();
    // Eight locals of 64 bits.
    code.extend([1, 8, 0x7e]);
    for step in 0..60u8 {
        let (a, b, to) = (step % 8, (step + 3) % 8, (step + 5) % 8);
        // local.get a, local.get b, i64.mul, local.get to, i64.xor, local.set to
        code.extend([0x20, a, 0x20, b, 0x7e, 0x20, to, 0x85, 0x21, to]);
        // local.get to, i64.eqz, if, local.get a, local.set b, end
        code.extend([0x20, to, 0x50, 0x04, 0x40, 0x20, a, 0x21, b, 0x0b]);
    }
    code.push(0x0b);
    let body = [number(code.len()), code].concat();
    let functions = functions as usize;
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 0, 0]),
        section(3, &[number(functions), vec![0; functions]].concat()),
        section(10, &[number(functions), body.repeat(functions)].concat()),
    ];
    let component = [guest("hello-v1").to_vec(), section(1, &module.concat())];
    component.concat().into()
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], number(content.len()), content.to_vec()].concat()
}

/// LEB128, as WebAssembly writes its numbers.
fn number(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits");
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A component that exports `gantry:http/handler`, made of this core module (as text).
pub(crate) fn handler(module: &str) -> Bytes {
    let wit = guests::root().join("wit");
    let mut resolve = Resolve::default();
    let mut packages = Vec::new();
    for parent in [wit.join("deps"), wit.clone()] {
        for entry in std::fs::read_dir(parent).unwrap() {
            let path = entry.unwrap().path();
            let is_package = !path.ends_with("deps") && !path.ends_with("worlds");
            if path.is_dir() && is_package {
                packages.push(UnresolvedPackageGroup::parse_dir(&path).unwrap());
            }
        }
    }
    let worlds = UnresolvedPackageGroup::parse_dir(wit.join("worlds")).unwrap();
    let package = resolve.push_groups(worlds, packages).unwrap();
    let world = resolve.select_world(&[package], Some("module")).unwrap();
    let mut module = wat::parse_str(module).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    let mut encoder = ComponentEncoder::default();
    let encoder = encoder.module(&module).unwrap();
    encoder.validate(true).encode().unwrap().into()
}
