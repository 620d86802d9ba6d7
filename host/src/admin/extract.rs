//! What handlers take: the caller, and the parts of a request with our own errors.

use std::{marker::PhantomData, net::IpAddr, sync::Arc};

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use serde::de::DeserializeOwned;

use crate::admin::{ApiError, Shared};
use crate::auth::{Auth, PermissionSet, PlatformPermission, Principal};
use crate::http::ClientAddress;
use crate::ledger::acting_as;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Who is calling, and may do what the handler does. Everybody else is turned away before anything of the request is
/// read, and a handler without a `Caller` is one that everybody may call.
pub(super) struct Caller<P> {
    principal: Arc<Principal>,
    credentials: Credentials,
    permission: PhantomData<P>,
}

/// What a caller may do, as types for [`Caller`].
pub(super) mod may {
    use crate::auth::PlatformPermission;

    /// One permission.
    pub(in crate::admin) trait Permission {
        const PERMISSION: PlatformPermission;
    }

    macro_rules! permissions {
        ($($name:ident)*) => {$(
            pub(in crate::admin) struct $name;

            impl Permission for $name {
                const PERMISSION: PlatformPermission = PlatformPermission::$name;
            }
        )*};
    }
    permissions!(Read Deploy Grant Secrets Users Trust Audit);
}

impl<P> Caller<P> {
    /// Goes on only if the caller has this permission, too.
    pub(super) fn require(&self, permission: PlatformPermission) -> Result<(), ApiError> {
        Ok(self.principal.require_platform(permission)?)
    }

    /// How the caller proved who they are.
    pub(super) fn into_credentials(self) -> Credentials {
        self.credentials
    }

    /// Goes on only if the caller has all of this, too.
    pub(super) fn require_all_of(&self, given: &PermissionSet) -> Result<(), ApiError> {
        Ok(self.principal.require_all_of(given)?)
    }

    /// The name under which the caller stands in a history.
    pub(super) fn id(&self) -> &str {
        &self.principal.id
    }
}

impl<P: may::Permission> FromRequestParts<Shared> for Caller<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        let credentials = Credentials::of(parts);
        let principal = credentials.check(&shared.auth, P::PERMISSION)?;
        Ok(Self {
            principal,
            credentials,
            permission: PhantomData,
        })
    }
}

/// How a caller proved who they are. There is no other way in; cookies above all, which browsers send by themselves.
pub(super) struct Credentials {
    authorization: Option<HeaderValue>,
    api_key: Option<HeaderValue>,
    client: Option<IpAddr>,
}

impl Credentials {
    fn of(parts: &Parts) -> Self {
        let headers = &parts.headers;
        let client = parts.extensions.get::<ClientAddress>();
        Self {
            client: client.map(|client| client.0),
            authorization: only(headers, &header::AUTHORIZATION),
            api_key: only(headers, &API_KEY),
        }
    }

    /// Whose they are at this moment, if that is somebody with this permission.
    pub(super) fn check(
        &self,
        auth: &Auth,
        permission: PlatformPermission,
    ) -> Result<Arc<Principal>, ApiError> {
        // A value that is not text is no credential of ours; it must not count as none.
        fn text(value: Option<&HeaderValue>) -> Option<&str> {
            value.map(|value| value.to_str().unwrap_or("\u{fffd}"))
        }
        let principal = auth.authenticate(
            text(self.authorization.as_ref()),
            text(self.api_key.as_ref()),
            self.client,
        )?;
        let principal = principal.ok_or_else(ApiError::login_required)?;
        acting_as(principal.kind.as_str(), &principal.id);
        principal.require_platform(permission)?;
        Ok(principal)
    }
}

/// The value of a header. Of several, which counts must not be a matter of taste: then it is one that is no credential.
fn only(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    let is_only = values.next().is_none();
    Some(match is_only {
        true => value.clone(),
        false => HeaderValue::from_static("several"),
    })
}

/// A JSON body.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let axum::Json(body) = axum::Json::from_request(request, state).await?;
        Ok(Self(body))
    }
}

/// The parameters of the query.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Query(query) =
            axum::extract::Query::from_request_parts(parts, state).await?;
        Ok(Self(query))
    }
}

/// The parameters of the path. One that is no name of its kind cannot exist.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Path(path) =
            axum::extract::Path::from_request_parts(parts, state).await?;
        Ok(Self(path))
    }
}
