//! `extism:host/env`, all of it except requests to other servers: memory, input and output, settings, variables, log.

use std::collections::HashMap;

use wasmtime::{Caller, Linker, Result};

use super::State;
use super::kernel::KernelError;
use crate::runtime::limit::MemoryLimiter;
use crate::runtime::state::PluginState;
use crate::services::Service;
use crate::services::log::Level;

/// The module that every plugin of Extism imports.
pub(super) const ENV: &str = "extism:host/env";

/// What a variable costs the host beside its bytes.
const VAR_BYTES: usize = 128;

/// Values that a module keeps under names. An instance lives for one call, and they with it. They count as its memory.
#[derive(Default)]
pub(super) struct Vars(HashMap<Box<[u8]>, Box<[u8]>>);

impl Vars {
    fn set(
        &mut self,
        key: Box<[u8]>,
        value: Box<[u8]>,
        memory: &mut MemoryLimiter,
    ) -> Result<(), KernelError> {
        self.remove(&key, memory);
        let cost = cost(&key, &value);
        if !memory.take(cost) {
            return Err(KernelError::OutOfMemory(cost as u64));
        }
        self.0.insert(key, value);
        Ok(())
    }

    fn remove(&mut self, key: &[u8], memory: &mut MemoryLimiter) {
        if let Some(value) = self.0.remove(key) {
            memory.give_back(cost(key, &value));
        }
    }
}

fn cost(key: &[u8], value: &[u8]) -> usize {
    VAR_BYTES + key.len() + value.len()
}

/// What the functions work on.
fn parts(state: &mut PluginState) -> (&mut State, &mut MemoryLimiter) {
    (state.extism.get_or_insert_default(), &mut state.memory)
}

type Guest<'a> = Caller<'a, PluginState>;

pub(in crate::runtime) fn link(linker: &mut Linker<PluginState>) -> Result<()> {
    link_memory(linker)?;
    link_input_and_output(linker)?;
    link_settings_and_variables(linker)?;
    link_log(linker)
}

fn link_memory(linker: &mut Linker<PluginState>) -> Result<()> {
    linker.func_wrap(
        ENV,
        "alloc",
        |mut guest: Guest<'_>, length: u64| -> Result<u64> {
            let (state, memory) = parts(guest.data_mut());
            Ok(state.kernel.alloc(length, memory)?)
        },
    )?;
    linker.func_wrap(ENV, "free", |mut guest: Guest<'_>, address: u64| {
        let (state, memory) = parts(guest.data_mut());
        state.kernel.free(address, memory);
    })?;
    for name in ["length", "length_unsafe"] {
        linker.func_wrap(ENV, name, |mut guest: Guest<'_>, address: u64| {
            parts(guest.data_mut()).0.kernel.length(address)
        })?;
    }
    linker.func_wrap(ENV, "load_u8", |mut guest: Guest<'_>, address: u64| {
        let loaded = parts(guest.data_mut()).0.kernel.load::<1>(address);
        loaded.map_or(0, |[byte]| u32::from(byte))
    })?;
    linker.func_wrap(ENV, "load_u64", |mut guest: Guest<'_>, address: u64| {
        let loaded = parts(guest.data_mut()).0.kernel.load(address);
        loaded.map_or(0, u64::from_le_bytes)
    })?;
    linker.func_wrap(
        ENV,
        "store_u8",
        |mut guest: Guest<'_>, address: u64, value: u32| {
            // A byte comes as 32 bits, of which only the lowest count.
            let [byte, ..] = value.to_le_bytes();
            parts(guest.data_mut()).0.kernel.store(address, [byte]);
        },
    )?;
    linker.func_wrap(
        ENV,
        "store_u64",
        |mut guest: Guest<'_>, address: u64, value: u64| {
            let kernel = &mut parts(guest.data_mut()).0.kernel;
            kernel.store(address, value.to_le_bytes());
        },
    )?;
    Ok(())
}

fn link_input_and_output(linker: &mut Linker<PluginState>) -> Result<()> {
    linker.func_wrap(ENV, "input_length", |mut guest: Guest<'_>| {
        parts(guest.data_mut()).0.kernel.input().len() as u64
    })?;
    linker.func_wrap(ENV, "input_offset", |mut guest: Guest<'_>| -> Result<u64> {
        let (state, memory) = parts(guest.data_mut());
        Ok(state.kernel.input_address(memory)?)
    })?;
    linker.func_wrap(ENV, "input_load_u8", |mut guest: Guest<'_>, offset: u64| {
        let loaded = parts(guest.data_mut()).0.kernel.load_input::<1>(offset);
        loaded.map_or(0, |[byte]| u32::from(byte))
    })?;
    linker.func_wrap(
        ENV,
        "input_load_u64",
        |mut guest: Guest<'_>, offset: u64| {
            let loaded = parts(guest.data_mut()).0.kernel.load_input(offset);
            loaded.map_or(0, u64::from_le_bytes)
        },
    )?;
    linker.func_wrap(
        ENV,
        "output_set",
        |mut guest: Guest<'_>, address: u64, length: u64| {
            let kernel = &mut parts(guest.data_mut()).0.kernel;
            kernel.set_output(address, length);
        },
    )?;
    linker.func_wrap(ENV, "error_set", |mut guest: Guest<'_>, address: u64| {
        parts(guest.data_mut()).0.kernel.set_error(address);
    })?;
    linker.func_wrap(ENV, "error_get", |mut guest: Guest<'_>| {
        parts(guest.data_mut()).0.kernel.error_address()
    })?;
    Ok(())
}

/// Handles that are passed to these functions are given away, as Extism has it.
fn link_settings_and_variables(linker: &mut Linker<PluginState>) -> Result<()> {
    linker.func_wrap(
        ENV,
        "config_get",
        |mut guest: Guest<'_>, key: u64| -> Result<u64> {
            let plugin = guest.data().plugin.clone();
            let allowance = guest.data().allowance.clone();
            let _timed = allowance.time(Service::Config);
            let (state, memory) = parts(guest.data_mut());
            let key = state.kernel.take(key, memory)?;
            let mut values = plugin.config.iter();
            match values.find(|(name, _)| name.as_bytes() == &*key) {
                Some((_, value)) => Ok(state.kernel.put(value.as_bytes(), memory)?),
                None => Ok(0),
            }
        },
    )?;
    linker.func_wrap(
        ENV,
        "var_get",
        |mut guest: Guest<'_>, key: u64| -> Result<u64> {
            let (state, memory) = parts(guest.data_mut());
            let key = state.kernel.take(key, memory)?;
            match state.vars.0.get(&key) {
                Some(value) => Ok(state.kernel.put(value, memory)?),
                None => Ok(0),
            }
        },
    )?;
    linker.func_wrap(
        ENV,
        "var_set",
        |mut guest: Guest<'_>, key: u64, value: u64| -> Result<()> {
            let (state, memory) = parts(guest.data_mut());
            let key = state.kernel.take(key, memory)?;
            if value == 0 {
                state.vars.remove(&key, memory);
                return Ok(());
            }
            let value = state.kernel.take(value, memory)?;
            Ok(state.vars.set(key, value, memory)?)
        },
    )?;
    Ok(())
}

fn link_log(linker: &mut Linker<PluginState>) -> Result<()> {
    for (name, level) in [
        ("log_trace", Level::Trace),
        ("log_debug", Level::Debug),
        ("log_info", Level::Info),
        ("log_warn", Level::Warn),
        ("log_error", Level::Error),
    ] {
        linker.func_wrap(
            ENV,
            name,
            move |mut guest: Guest<'_>, message: u64| -> Result<()> {
                let (state, memory) = parts(guest.data_mut());
                let message = state.kernel.take(message, memory)?;
                let message = String::from_utf8_lossy(&message);
                let _timed = guest.data().allowance.time(Service::Log);
                guest.data().log.write(level, "", &message);
                Ok(())
            },
        )?;
    }
    // 0 is the level `trace`: the log takes everything, up to its bound.
    linker.func_wrap(ENV, "get_log_level", || 0i32)?;
    Ok(())
}
