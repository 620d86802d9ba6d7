//! Requests of the host to providers: bounded in time, size and number, to where the operator sends them and nowhere else.

use std::time::Duration;

use futures_util::future::BoxFuture;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::auth::providers::config::is_trusted_url;
use crate::auth::{Config, Error};

/// Most bytes of an answer. Key sets and metadata of large providers have some thousand.
const BYTES_MAX: usize = 128 << 10;
/// When there may be a place again.
const RETRY_AFTER_S: u64 = 2;

/// Why a provider was not understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0:?}")]
    Http(#[source] reqwest::Error),
    #[error("the address is not protected (`https`)")]
    Unprotected,
    #[error("the answer has more than {BYTES_MAX} bytes")]
    TooLarge,
    #[error("the answer cannot be read")]
    Answer(#[from] http::Error),
}

impl From<reqwest::Error> for HttpError {
    fn from(error: reqwest::Error) -> Self {
        // Addresses can have secrets in them.
        Self::Http(error.without_url())
    }
}

/// Asks one provider. Each has places of its own, so that a slow one does not hold up the others.
pub(super) struct Http {
    client: reqwest::Client,
    places: Semaphore,
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = BoxFuture<'c, Result<HttpResponse, HttpError>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}

impl Http {
    pub(super) fn new(config: &Config) -> Self {
        // No redirects: they would lead a code or a secret elsewhere. No proxies of the environment.
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_millis(config.provider_timeout_ms.into()))
            .build();
        Self {
            client: client.unwrap_or_default(),
            places: Semaphore::new(config.provider_calls_max),
        }
    }

    /// The right to ask, for one login. `Busy` if too many wait for this provider.
    pub(super) fn place(&self) -> Result<SemaphorePermit<'_>, Error> {
        let retry_after_s = RETRY_AFTER_S;
        self.places
            .try_acquire()
            .map_err(|_| Error::Busy { retry_after_s })
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if !is_trusted_url(&request.uri().to_string()) {
            return Err(HttpError::Unprotected);
        }
        let mut answer = self.client.execute(request.try_into()?).await?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > BYTES_MAX {
                return Err(HttpError::TooLarge);
            }
        }
        let mut response = http::Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            *headers = std::mem::take(answer.headers_mut());
        }
        Ok(response.body(body)?)
    }

    /// A JSON object of whoever shows this access token.
    pub(super) async fn get_json(
        &self,
        url: &str,
        access_token: &str,
    ) -> Result<serde_json::Value, HttpError> {
        let request = http::Request::get(url)
            .header(
                http::header::AUTHORIZATION,
                format!("Bearer {access_token}"),
            )
            .header(http::header::ACCEPT, "application/json")
            .body(Vec::new())?;
        let answer = self.send(request).await?;
        match answer.status().is_success() {
            // What is no JSON says nothing about anybody.
            true => Ok(serde_json::from_slice(answer.body()).unwrap_or_default()),
            false => Ok(serde_json::Value::Null),
        }
    }
}
