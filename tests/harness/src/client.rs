//! A client that checks every answer it gets, whatever the test is about.

use std::{net::SocketAddr, time::Duration};

use http::{HeaderMap, Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Sends requests to a host, with or without credentials.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    authorization: Option<String>,
}

impl Client {
    /// A client without credentials.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            http: connections(),
            base: format!("http://{address}"),
            authorization: None,
        }
    }

    /// The same client with an access token or API key.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            authorization: Some(format!("Bearer {token}")),
            ..self.clone()
        }
    }

    /// The same client, sharing no connection with others.
    #[must_use]
    pub fn on_a_connection_of_its_own(&self) -> Self {
        Self {
            http: connections(),
            ..self.clone()
        }
    }

    /// The same client, asking where another one asks: the host may be at another address after a restart.
    #[must_use]
    pub fn at(&self, other: &Self) -> Self {
        Self {
            authorization: self.authorization.clone(),
            ..other.clone()
        }
    }

    /// A request to be filled in and given to [`Client::send`].
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }

    /// Sends a request and checks what every answer must have.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        match self.try_send(request).await {
            Ok(answer) => answer,
            Err(error) => panic!("no answer: {error:?}"),
        }
    }

    /// Like [`Client::send`], for tests in which the connection may break.
    pub async fn try_send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await?;
        let answer = Answer {
            status,
            headers,
            body,
        };
        answer.check();
        Ok(answer)
    }

    /// `GET`
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// `POST` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// `PUT` with a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    /// `DELETE`
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Uploads a bundle or a component through the admin API; `query` says the rest.
    pub async fn upload(&self, query: &str, bundle: bytes::Bytes) -> Answer {
        self.send(self.upload_request(query, bundle)).await
    }

    /// The request of [`Client::upload`].
    pub fn upload_request(&self, query: &str, bundle: bytes::Bytes) -> reqwest::RequestBuilder {
        let path = format!("/_gantry/api/v1/deployments?{query}");
        self.request(Method::POST, &path).body(bundle)
    }

    /// Makes the deployment before the live one live again, through the admin API.
    pub async fn roll_back(&self, plugin: &str) -> Answer {
        let path = format!("/_gantry/api/v1/plugins/{plugin}/rollback");
        self.post(&path, &serde_json::json!({})).await
    }

    /// Sets a secret of a plugin through the admin API.
    pub async fn set_secret(&self, plugin: &str, label: &str, value: &str) {
        let path = format!("/_gantry/api/v1/plugins/{plugin}/secrets/{label}");
        let request = self.request(Method::PUT, &path).body(value.to_owned());
        self.send(request).await.assert_status(200);
    }

    /// Sets the config of a plugin through the admin API.
    pub async fn set_config(&self, plugin: &str, values: &Value) -> Answer {
        self.put(&format!("/_gantry/api/v1/plugins/{plugin}/config"), values)
            .await
    }
}

/// Longer than any test takes: one whose answer never comes says so, and does not stand still.
const PATIENCE: Duration = Duration::from_secs(300);

fn connections() -> reqwest::Client {
    reqwest::Client::builder()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .expect("a client can be made")
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: bytes::Bytes,
}

impl Answer {
    /// What holds for every answer of a host: it has a request id, and an error is a problem that says what, and under
    /// which id it is logged.
    fn check(&self) {
        let id = self.header("x-request-id");
        let id = id.unwrap_or_else(|| panic!("an answer without x-request-id: {self:?}"));
        for leaked in ["server", "x-powered-by"] {
            assert!(
                self.header(leaked).is_none(),
                "`{leaked}` is nobody's business: {self:?}"
            );
        }
        if self.status.as_u16() < 400 {
            return;
        }
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "an error that is no problem: {self:?}"
        );
        let problem = self.json::<Value>();
        assert_eq!(problem["status"], self.status.as_u16(), "{problem}");
        assert_eq!(problem["request_id"], id, "{problem}");
        for field in ["type", "title", "code", "detail"] {
            let text = problem[field].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "a problem without `{field}`: {problem}");
        }
        let text = problem.to_string();
        for leaked in ["/root/", "/work/", "panicked at", "wasm backtrace", ".rs:"] {
            assert!(
                !text.contains(leaked),
                "a problem that tells too much: {text}"
            );
        }
        if self.status == StatusCode::UNAUTHORIZED {
            assert!(
                self.header("www-authenticate").is_some(),
                "a 401 says how to log in: {self:?}"
            );
        }
        if matches!(self.status.as_u16(), 429 | 503) {
            assert!(
                self.header("retry-after").is_some(),
                "a refusal says when to come back: {self:?}"
            );
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            assert!(
                self.header("allow").is_some(),
                "a 405 says what is allowed: {self:?}"
            );
        }
    }

    /// The first value of a header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("no JSON ({error}): {self:?}"),
        }
    }

    /// The code of the problem.
    pub fn code(&self) -> String {
        self.json::<Value>()["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Fails unless the status is this one.
    #[track_caller]
    pub fn assert_status(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self
    }

    /// Fails unless it is a problem with this status and code.
    #[track_caller]
    pub fn assert_problem(self, status: u16, code: &str) -> Self {
        assert_eq!(
            (self.status.as_u16(), self.code().as_str()),
            (status, code),
            "{}",
            self.text()
        );
        self
    }
}
