//! The first line of requests that a guest builds. The library behind `wasi:http` bounds headers, and leaves methods and
//! authorities as long as they are: with one in each handle, a call would hold gigabytes of the host.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types as v02;
use wasmtime_wasi_http::p3::bindings::http::types as v03;

use crate::runtime::EngineKind;
use crate::runtime::state::PluginState;

type Set = wasmtime::Result<(Result<(), ()>,)>;

/// Puts functions that refuse what has more bytes than this in the place of those of the library.
pub(in crate::runtime) fn bound(
    kind: EngineKind,
    linker: &mut Linker<PluginState>,
    bytes_max: usize,
) -> wasmtime::Result<()> {
    type Guest<'a> = StoreContextMut<'a, PluginState>;
    linker.allow_shadowing(true);
    let mut types = linker.instance("wasi:http/types@0.2.12")?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        move |mut guest: Guest<'_>, (request, method): (Resource<_>, v02::Method)| -> Set {
            if matches!(&method, v02::Method::Other(name) if name.len() > bytes_max) {
                return Ok((Err(()),));
            }
            let mut http = guest.data_mut().http();
            v02::HostOutgoingRequest::set_method(&mut http, request, method).map(|set| (set,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        move |mut guest: Guest<'_>, (request, authority): (Resource<_>, Option<String>)| -> Set {
            if is_longer(authority.as_deref(), bytes_max) {
                return Ok((Err(()),));
            }
            let mut http = guest.data_mut().http();
            v02::HostOutgoingRequest::set_authority(&mut http, request, authority).map(|set| (set,))
        },
    )?;
    if kind == EngineKind::Concurrent {
        let mut types = linker.instance("wasi:http/types@0.3.0")?;
        types.func_wrap(
            "[method]request.set-method",
            move |mut guest: Guest<'_>, (request, method): (Resource<_>, v03::Method)| -> Set {
                if matches!(&method, v03::Method::Other(name) if name.len() > bytes_max) {
                    return Ok((Err(()),));
                }
                let mut http = guest.data_mut().http();
                v03::HostRequest::set_method(&mut http, request, method).map(|set| (set,))
            },
        )?;
        types.func_wrap(
            "[method]request.set-authority",
            move |mut guest: Guest<'_>,
                  (request, authority): (Resource<_>, Option<String>)|
                  -> Set {
                if is_longer(authority.as_deref(), bytes_max) {
                    return Ok((Err(()),));
                }
                let mut http = guest.data_mut().http();
                v03::HostRequest::set_authority(&mut http, request, authority).map(|set| (set,))
            },
        )?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

fn is_longer(text: Option<&str>, bytes_max: usize) -> bool {
    text.is_some_and(|text| text.len() > bytes_max)
}
