//! Calls of plugins that answer requests, whole or as streams.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::oneshot;
use wasmtime::component::{ComponentExportIndex, InstancePre};

use crate::bindings::gantry::types::types::Error as GuestError;
use crate::bindings::messages;
use crate::runtime::call::{Failure, Prepared, Question, Times, function};
use crate::runtime::kept::Ready;
use crate::runtime::limit::OwnPlace;
use crate::runtime::plugin::Entry;
use crate::runtime::state::PluginState;
use crate::runtime::stream::{Body, RequestBody};
use crate::runtime::wasi_http::{self, Pace};
use crate::runtime::{
    HttpCall, Invocation, InvokeError, LoadedPlugin, Runtime, Trigger, Usage, extism, response,
};

/// What came out of a call, and what it used.
pub struct Outcome {
    pub result: Result<http::Response<Body>, InvokeError>,
    /// Without what the rest will use.
    pub usage: Usage,
    /// What is still to be done where the body of the answer is a stream.
    pub rest: Option<Rest>,
}

/// The rest of a call whose answer has begun. It must be driven to its end in a task; it ends soon after the body was
/// sent or dropped.
pub struct Rest(Pin<Box<dyn Future<Output = Ended> + Send>>);

impl Rest {
    /// Drives it to its end.
    pub async fn run(self) -> Ended {
        self.0.await
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").finish_non_exhaustive()
    }
}

/// How a call ended whose answer was a stream.
#[derive(Debug)]
pub struct Ended {
    /// An error has cut the body off.
    pub result: Result<(), InvokeError>,
    pub usage: Usage,
    /// Bytes of the body that were handed to the connection.
    pub bytes: u64,
}

impl Runtime {
    /// Calls a plugin, in an instance that holds nothing of any other call.
    pub async fn invoke(&self, plugin: &Arc<LoadedPlugin>, invocation: Invocation) -> Outcome {
        let Invocation {
            context,
            trigger: Trigger::Http(call),
            account,
        } = invocation;
        let places = match self.take_places(plugin).await {
            Ok(places) => places,
            Err(error) => {
                return Outcome {
                    result: Err(error),
                    usage: Usage::default(),
                    rest: None,
                };
            }
        };
        let began = Instant::now();
        let limits = &plugin.spec.limits;
        let normal = context.deadline.min(began + limits.wall);
        let times = Times {
            began,
            deadline: call.stream.map_or(normal, |stream| began + stream),
            cpu: limits.cpu,
        };
        let prepared = self.prepare(plugin, context, times, account);
        match &plugin.entry {
            Entry::WasiHttp02 { .. } | Entry::WasiHttp03 { .. } => {
                let pace = Pace {
                    times,
                    head: call.stream.map(|_| normal.saturating_duration_since(began)),
                    client_idle: Duration::from_millis(self.config.client_idle_ms),
                };
                let places = (plugin.places.own(places.0), self.places.own(places.1));
                self.invoke_wasi(plugin, prepared, pace, places, call).await
            }
            Entry::Handler { .. }
            | Entry::Transform { .. }
            | Entry::Extism { .. }
            | Entry::Filter { .. } => {
                let called = self.call(plugin, prepared, places, call).await;
                Outcome {
                    result: called.result.map(|response| response.map(Body::Whole)),
                    usage: called.usage,
                    rest: None,
                }
            }
        }
    }

    /// A call of a standard guest, which may outlive this if the guest takes its time to write the body.
    async fn invoke_wasi(
        &self,
        plugin: &Arc<LoadedPlugin>,
        prepared: Prepared,
        pace: Pace,
        places: (OwnPlace, OwnPlace),
        call: HttpCall,
    ) -> Outcome {
        let (sender, mut began) = oneshot::channel();
        let (background, clock) = (Arc::clone(&self.background), prepared.clock.clone());
        let plugin = Arc::clone(plugin);
        let call = Box::pin(wasi_http::drive(
            plugin, prepared, pace, places, call, sender,
        ));
        let mut driving = Box::pin(async move { background.drive(call, &clock, || ()).await });
        let finished = tokio::select! {
            biased;
            finished = &mut driving => finished,
            Ok(response) = &mut began => {
                return Outcome {
                    result: Ok(response.map(Body::Stream)),
                    usage: Usage::default(),
                    rest: Some(Rest(Box::pin(async move { driving.await.ended }))),
                };
            }
        };
        match (finished.answer, began.try_recv()) {
            (Some(answer), _) => Outcome {
                result: answer.map(|response| response.map(Body::Whole)),
                usage: finished.ended.usage,
                rest: None,
            },
            (None, Ok(response)) => Outcome {
                result: Ok(response.map(Body::Stream)),
                usage: Usage::default(),
                rest: Some(Rest(Box::pin(std::future::ready(finished.ended)))),
            },
            (None, Err(_)) => Outcome {
                result: Err(InvokeError::Host(anyhow::anyhow!("an answer was lost"))),
                usage: finished.ended.usage,
                rest: None,
            },
        }
    }
}

impl Question for HttpCall {
    type Answer = http::Response<Bytes>;

    async fn ask(
        self,
        plugin: &LoadedPlugin,
        ready: &mut Ready,
    ) -> Result<http::Response<Bytes>, Failure> {
        let RequestBody::Whole(body) = &self.body else {
            let error = wasmtime::format_err!("only plugins of wasi:http take bodies that flow");
            return Err(Failure::Wasmtime(error));
        };
        let config = &plugin.config;
        match &plugin.entry {
            Entry::Handler { pre, handle } => {
                let response = run_handler(pre, handle, ready, &self, body).await?;
                response::check(response, config).map_err(Failure::InvalidResponse)
            }
            Entry::Transform { pre, transform } => {
                let output = run_transform(pre, transform, ready, &self, body).await?;
                response::of_document(output, config).map_err(Failure::InvalidResponse)
            }
            Entry::Extism { pre } => extism::run(pre, &mut ready.store, &self, body, config).await,
            Entry::WasiHttp02 { .. } | Entry::WasiHttp03 { .. } | Entry::Filter { .. } => {
                let error = wasmtime::format_err!("this plugin has no export that answers");
                Err(Failure::Wasmtime(error))
            }
        }
    }
}

async fn run_handler(
    pre: &InstancePre<PluginState>,
    handle: &ComponentExportIndex,
    ready: &mut Ready,
    call: &HttpCall,
    body: &Bytes,
) -> Result<messages::Response, Failure> {
    let request = messages::Request {
        method: call.method.as_str(),
        path: call.path(),
        query: call.uri.query().unwrap_or_default(),
        body,
    };
    let function = function(pre, handle, ready).await?;
    let store = &mut ready.store;
    let function = function
        .typed::<(messages::Request<'_>,), (Result<messages::Response, GuestError>,)>(&*store)?;
    let (result,) = function.call_async(store, (request,)).await?;
    result.map_err(Failure::Returned)
}

async fn run_transform(
    pre: &InstancePre<PluginState>,
    transform: &ComponentExportIndex,
    ready: &mut Ready,
    call: &HttpCall,
    body: &Bytes,
) -> Result<messages::Output, Failure> {
    let content_type = ready
        .store
        .data()
        .call
        .headers
        .get(http::header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let content_type = content_type
        .unwrap_or("application/octet-stream")
        .to_owned();
    let query = call.uri.query().unwrap_or_default();
    let params: serde_json::Map<_, _> = url::form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
        .collect();
    let params = serde_json::Value::Object(params).to_string();
    let input = messages::Input {
        body,
        content_type: &content_type,
    };
    let function = function(pre, transform, ready).await?;
    let store = &mut ready.store;
    let function = function
        .typed::<(messages::Input<'_>, &str), (Result<messages::Output, GuestError>,)>(&*store)?;
    let (result,) = function.call_async(store, (input, &params)).await?;
    result.map_err(Failure::Returned)
}
