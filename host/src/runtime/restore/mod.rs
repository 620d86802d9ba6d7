//! Components that put themselves back: after a call their memory and globals are what they were before the first one, so
//! the instance can serve the next call as if it were new.
//!
//! The handles that it holds are the one other thing that a call can change. They are the host's own, and an instance is
//! only used again if the host's table of them is as it was.
//!
//! Before a component is compiled, it is looked through. If everything that a call can change is one small memory and
//! plain globals of one core module, code of ours is added to that module: it runs after the module's own post-return
//! functions, which the canonical ABI calls last, and writes all of it anew. Every other component is compiled as it is
//! and gets a new instance for each call.

mod component;
mod module;

use wasmtime::component::ResourceTable;

/// Whether handles that are given out next have the numbers that they have in a new instance: all were given back, and in
/// such an order that the free places are in order again. The table is of no use afterwards.
pub(super) fn is_as_new(handles: &mut ResourceTable) -> bool {
    if !handles.is_empty() {
        return false;
    }
    // Only free places are given out, the one that was freed last first.
    handles.set_max_capacity(0);
    let mut expected = 0;
    while let Ok(place) = handles.push(()) {
        if place.rep() != expected {
            return false;
        }
        expected += 1;
    }
    true
}

/// The component with what puts it back, or nothing if that cannot be done or cannot be proven. `pages_max` bounds its
/// memory, in pages of 64 KiB.
pub(super) fn add(component: &[u8], pages_max: u64) -> Option<Vec<u8>> {
    let plan = component::look_through(component, pages_max)?;
    let restored = plan.apply(component)?;
    // A mistake of ours must not become one of the guest's.
    let mut validator = wasmparser::Validator::new_with_features(component::FEATURES);
    validator.validate_all(&restored).ok()?;
    Some(restored)
}

#[cfg(test)]
mod tests;
