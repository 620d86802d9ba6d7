//! The WIT side of what the host knows about a call: `gantry:context`, `gantry:http/request-headers`, `wasi:config` and
//! `wasi:logging`. All of it comes from the invocation, which the guest cannot write.

use std::sync::Arc;

use wasmtime::component::{HasData, Resource, ResourceTable};

use crate::auth::Principal;
use crate::bindings::gantry::context::{identity, invocation};
use crate::bindings::gantry::http::request_headers;
use crate::bindings::gantry::types::types;
use crate::bindings::wasi::config::store as config;
use crate::bindings::wasi::logging::logging;
use crate::http::trace;
use crate::runtime::{CallContext, PluginSpec};
use crate::services::Timed;
use crate::services::log::{CallLog, Level};

/// The part of an instance's data that these interfaces see.
pub(super) struct View<'a> {
    pub(super) plugin: &'a PluginSpec,
    pub(super) call: &'a CallContext,
    pub(super) log: &'a CallLog,
    pub(super) table: &'a mut ResourceTable,
    #[expect(dead_code, reason = "times the call until it is dropped")]
    pub(super) timed: Option<Timed<'a>>,
}

pub(super) struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

impl invocation::Host for View<'_> {
    fn request_id(&mut self) -> String {
        self.call.request_id.to_string()
    }

    fn traceparent(&mut self) -> Option<String> {
        Some(trace::traceparent(
            &self.call.headers,
            self.call.request_id.as_span(),
        ))
    }

    fn trigger(&mut self) -> String {
        self.call.trigger.to_owned()
    }

    fn route(&mut self) -> Option<String> {
        self.call.route.as_deref().map(str::to_owned)
    }

    fn path_param(&mut self, name: String) -> Option<String> {
        let params = &self.call.path_params;
        params
            .iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value.clone())
    }

    fn path_params(&mut self) -> Vec<(String, String)> {
        self.call.path_params.clone()
    }

    fn client_address(&mut self) -> Option<String> {
        self.call.client_address.map(|address| address.to_string())
    }

    fn remaining_ms(&mut self) -> u64 {
        let left = self
            .call
            .deadline
            .saturating_duration_since(std::time::Instant::now());
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
    }

    fn attempt(&mut self) -> u32 {
        1
    }

    fn idempotency_key(&mut self) -> Option<String> {
        let key = self.call.headers.get("idempotency-key")?;
        key.to_str().ok().map(str::to_owned)
    }
}

impl request_headers::Host for View<'_> {
    fn get(&mut self, name: String) -> Option<String> {
        let value = self.call.headers.get(name.as_str())?;
        text_of(value).map(str::to_owned)
    }

    fn all(&mut self) -> Vec<(String, String)> {
        let headers = self.call.headers.iter();
        headers
            .filter_map(|(name, value)| {
                Some((name.as_str().to_owned(), text_of(value)?.to_owned()))
            })
            .collect()
    }
}

/// As the contract has it: text is UTF-8, not only what is ASCII.
fn text_of(value: &http::HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok()
}

/// What a guest's handle to a principal stands for.
struct Handle(Arc<Principal>);

impl View<'_> {
    fn push(
        &mut self,
        principal: Arc<Principal>,
    ) -> wasmtime::Result<Resource<identity::Principal>> {
        let handle = self.table.push(Handle(principal))?;
        Ok(Resource::new_own(handle.rep()))
    }

    fn principal(&self, handle: &Resource<identity::Principal>) -> wasmtime::Result<&Principal> {
        let handle: &Handle = self.table.get(&Resource::new_borrow(handle.rep()))?;
        Ok(&handle.0)
    }
}

impl identity::Host for View<'_> {
    fn current(&mut self) -> wasmtime::Result<Option<Resource<identity::Principal>>> {
        match self.call.principal.clone() {
            Some(principal) => self.push(principal).map(Some),
            None => Ok(None),
        }
    }

    fn require(
        &mut self,
        permission: String,
    ) -> wasmtime::Result<Result<Resource<identity::Principal>, types::Error>> {
        let denied = |code: &str, message: String| {
            types::Error::Denied(types::Detail {
                code: code.to_owned(),
                message,
                retry_after_ms: None,
            })
        };
        let Some(principal) = self.call.principal.clone() else {
            return Ok(Err(denied("auth.required", "log in first".to_owned())));
        };
        if principal.has(Some(&self.plugin.name), &permission) {
            self.push(principal).map(Ok)
        } else {
            let message = format!("the permission `{permission}` is needed");
            Ok(Err(denied("auth.permission_missing", message)))
        }
    }
}

impl identity::HostPrincipal for View<'_> {
    fn id(&mut self, this: Resource<identity::Principal>) -> wasmtime::Result<String> {
        Ok(self.principal(&this)?.id.clone())
    }

    fn kind(&mut self, this: Resource<identity::Principal>) -> wasmtime::Result<String> {
        Ok(self.principal(&this)?.kind.as_str().to_owned())
    }

    fn name(&mut self, this: Resource<identity::Principal>) -> wasmtime::Result<String> {
        Ok(self.principal(&this)?.name.clone())
    }

    fn roles(&mut self, this: Resource<identity::Principal>) -> wasmtime::Result<Vec<String>> {
        Ok(self
            .principal(&this)?
            .roles
            .iter()
            .map(ToString::to_string)
            .collect())
    }

    fn permissions(
        &mut self,
        this: Resource<identity::Principal>,
    ) -> wasmtime::Result<Vec<String>> {
        let permissions = self
            .principal(&this)?
            .permissions
            .of_plugin(&self.plugin.name);
        Ok(permissions.into_iter().map(str::to_owned).collect())
    }

    fn has_permission(
        &mut self,
        this: Resource<identity::Principal>,
        permission: String,
    ) -> wasmtime::Result<bool> {
        Ok(self
            .principal(&this)?
            .has(Some(&self.plugin.name), &permission))
    }

    fn drop(&mut self, this: Resource<identity::Principal>) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Handle>::new_own(this.rep()))?;
        Ok(())
    }
}

impl config::Host for View<'_> {
    fn get(&mut self, key: String) -> Result<Option<String>, config::Error> {
        let values = &self.plugin.config;
        Ok(values
            .iter()
            .find(|(other, _)| *other == key)
            .map(|(_, value)| value.clone()))
    }

    fn get_all(&mut self) -> Result<Vec<(String, String)>, config::Error> {
        Ok(self.plugin.config.clone())
    }
}

impl logging::Host for View<'_> {
    fn log(&mut self, level: logging::Level, context: String, message: String) {
        let level = match level {
            logging::Level::Trace => Level::Trace,
            logging::Level::Debug => Level::Debug,
            logging::Level::Info => Level::Info,
            logging::Level::Warn => Level::Warn,
            logging::Level::Error => Level::Error,
            logging::Level::Critical => Level::Critical,
        };
        self.log.write(level, &context, &message);
    }
}
