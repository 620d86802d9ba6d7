//! One provider: the address where a login begins, and who it is that comes back.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use hmac::{Hmac, KeyInit as _, Mac as _};
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreClientAuthMethod,
    CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey, CoreJsonWebKeySet,
    CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreRevocableToken,
    CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AccessToken, AuthType, AuthUrl, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken,
    EmptyExtraTokenFields, EndpointNotSet, EndpointSet, IdTokenFields, IssuerUrl, Nonce,
    OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError,
    Scope, StandardErrorResponse, StandardTokenResponse, TokenResponse as _, TokenUrl,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;
use url::Url;
use zeroize::Zeroizing;

use crate::auth::providers::attempt::Attempt;
use crate::auth::providers::config::{Provider, ProviderKind};
use crate::auth::providers::http::{Http, HttpError};
use crate::auth::providers::oidc::{self, Discovery, Expected, Known, MoreClaims, causes};
use crate::auth::users::normal_email;
use crate::auth::{Config, Error};
use crate::clock::Clock;

const GOOGLE: &str = "https://accounts.google.com";
const FACEBOOK_AUTHORIZATION: &str = "https://www.facebook.com/v23.0/dialog/oauth";
const FACEBOOK_TOKEN: &str = "https://graph.facebook.com/v23.0/oauth/access_token";
const FACEBOOK_PROFILE: &str = "https://graph.facebook.com/v23.0/me";
/// Longest subject that is taken, in bytes (OpenID Connect, section 2).
const SUBJECT_BYTES_MAX: usize = 255;
/// Longest code and error that is taken from an address.
const ANSWER_BYTES_MAX: usize = 4096;
/// When a provider that did not answer may do so again.
const RETRY_AFTER_S: u64 = 10;

type TokenAnswer = StandardTokenResponse<
    IdTokenFields<
        MoreClaims,
        EmptyExtraTokenFields,
        CoreGenderClaim,
        CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm,
    >,
    CoreTokenType,
>;
type OurClient = Client<
    MoreClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    TokenAnswer,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
    EndpointNotSet,
>;

type ExchangeError = RequestTokenError<HttpError, StandardErrorResponse<CoreErrorResponseType>>;

/// A provider as logins use it.
pub(in crate::auth) struct Live {
    pub(in crate::auth) settings: Provider,
    pub(super) http: Http,
    secret: Option<Zeroizing<String>>,
    issuer: IssuerUrl,
    /// None with Facebook.
    discovery: Option<Discovery>,
}

/// Somebody as a provider knows them.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::auth) struct Found {
    /// Who says so. A subject of one is nobody at another.
    pub(in crate::auth) issuer: String,
    /// Who it is there, for good.
    pub(in crate::auth) subject: String,
    /// In its normal form.
    pub(in crate::auth) email: Option<String>,
    /// Whether the provider's word that it is theirs is good.
    pub(in crate::auth) has_verified_email: bool,
}

/// What a provider has sent people back with.
#[derive(Clone, Copy)]
pub struct ProviderAnswer<'a> {
    pub state: &'a str,
    pub code: Option<&'a str>,
    pub error: Option<&'a str>,
    /// Who it says that it is (RFC 9207).
    pub issuer: Option<&'a str>,
}

impl Live {
    pub(super) fn new(settings: &Provider, config: &Config) -> Result<Self, Error> {
        let secret = settings.read_secret().map_err(Error::Config)?;
        let issuer = match settings.kind {
            ProviderKind::Oidc => settings.issuer.clone(),
            ProviderKind::Google => GOOGLE.to_owned(),
            // It has no name of that kind; the version of the Graph API must not make other people of its users.
            ProviderKind::Facebook => {
                let address = or(&settings.authorization_url, FACEBOOK_AUTHORIZATION);
                let address = Url::parse(address).map_err(unusable)?;
                address.origin().ascii_serialization()
            }
        };
        let issuer = IssuerUrl::new(issuer).map_err(unusable)?;
        let is_oidc = settings.kind != ProviderKind::Facebook;
        let discovery =
            is_oidc.then(|| Discovery::new(issuer.clone(), config.provider_refresh_minutes));
        Ok(Self {
            settings: settings.clone(),
            http: Http::new(config),
            secret,
            issuer,
            discovery,
        })
    }

    /// Where people go to log in.
    pub(super) async fn address(
        &self,
        attempt: &Attempt,
        redirect: RedirectUrl,
        chooses_account: bool,
        clock: &Clock,
    ) -> Result<String, Error> {
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier_of(attempt));
        let Some(discovery) = &self.discovery else {
            return self.facebook_address(attempt, &redirect, &challenge);
        };
        let known = discovery.known(&self.http, clock).await?;
        let client = self.client(Some(&*known), redirect)?;
        let (state, nonce) = (attempt.state.clone(), attempt.nonce.clone());
        let flow = CoreAuthenticationFlow::AuthorizationCode;
        let mut request = client
            .authorize_url(flow, || CsrfToken::new(state), || Nonce::new(nonce))
            .set_pkce_challenge(challenge);
        // `openid` is there already.
        let scopes = self.settings.scopes().into_iter();
        for scope in scopes.filter(|scope| scope != "openid") {
            request = request.add_scope(Scope::new(scope));
        }
        if chooses_account {
            request = request.add_prompt(CoreAuthPrompt::SelectAccount);
        }
        Ok(request.url().0.into())
    }

    fn facebook_address(
        &self,
        attempt: &Attempt,
        redirect: &RedirectUrl,
        challenge: &PkceCodeChallenge,
    ) -> Result<String, Error> {
        let settings = &self.settings;
        let address = or(&settings.authorization_url, FACEBOOK_AUTHORIZATION);
        let mut address = Url::parse(address).map_err(unusable)?;
        let scope = settings.scopes().join(" ");
        address.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", settings.client_id.as_str()),
            ("redirect_uri", redirect.as_str()),
            ("scope", scope.as_str()),
            ("state", attempt.state.as_str()),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ]);
        Ok(address.into())
    }

    /// Who has come back. `ProviderDenied`, `ProviderRefused`, `ProviderUnavailable`.
    pub(super) async fn found(
        &self,
        attempt: &Attempt,
        answer: ProviderAnswer<'_>,
        redirect: RedirectUrl,
        clock: &Clock,
    ) -> Result<Found, Error> {
        let known = match &self.discovery {
            Some(discovery) => Some(discovery.known(&self.http, clock).await?),
            None => None,
        };
        // Before anything else of it counts: the answer of another provider must not be taken for one of this.
        let must_say = known.as_ref().is_some_and(|known| {
            let more = known.metadata.additional_metadata();
            more.authorization_response_iss_parameter_supported
        });
        let is_its_own = match answer.issuer {
            Some(issuer) => issuer == self.issuer.as_str(),
            None => !must_say,
        };
        if !is_its_own {
            return Err(self.refused("the answer is of another provider"));
        }
        if let Some(error) = answer.error {
            return Err(self.denied(error));
        }
        let Some(code) = answer.code.filter(|code| code.len() <= ANSWER_BYTES_MAX) else {
            return Err(self.refused("the answer has no code"));
        };
        let client = self.client(known.as_deref(), redirect)?;
        let tokens = self.exchange(&client, code, attempt).await;
        let tokens = tokens.map_err(|error| self.not_exchanged(&error))?;
        match (&self.discovery, &known) {
            (Some(discovery), Some(known)) => {
                self.of_id_token(discovery, known, &tokens, attempt, clock)
                    .await
            }
            _ => self.of_facebook(tokens.access_token()).await,
        }
    }

    /// Boxed here, where the compiler still sees that threads may hand it on.
    fn exchange<'a>(
        &'a self,
        client: &'a OurClient,
        code: &str,
        attempt: &Attempt,
    ) -> BoxFuture<'a, Result<TokenAnswer, ExchangeError>> {
        let request = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(verifier_of(attempt));
        Box::pin(request.request_async(&self.http))
    }

    async fn of_id_token(
        &self,
        discovery: &Discovery,
        known: &Arc<Known>,
        tokens: &TokenAnswer,
        attempt: &Attempt,
        clock: &Clock,
    ) -> Result<Found, Error> {
        let Some(token) = tokens.id_token() else {
            return Err(self.refused("there is no ID token"));
        };
        let expected = Expected {
            issuer: &self.issuer,
            client_id: &self.settings.client_id,
            nonce: &attempt.nonce,
            algorithms: &self.settings.algorithms,
            skew_ms: i64::from(self.settings.skew_s) * 1000,
            now_ms: clock.now_ms(),
        };
        let keys_of = |known: &Known| known.metadata.jwks().clone();
        let access_token = tokens.access_token();
        let mut claims = oidc::verify(token, access_token, &keys_of(known), &expected);
        let is_new_key = claims.as_ref().is_err_and(oidc::lacks_key);
        if is_new_key && let Some(known) = discovery.look_again(known, &self.http, clock).await {
            claims = oidc::verify(token, access_token, &keys_of(&known), &expected);
        }
        let claims = claims.map_err(|error| self.refused(&causes(&error)))?;
        let subject = claims.subject().as_str();
        let mut said = Said {
            email: claims.email().map(|email| email.as_str().to_owned()),
            is_verified: claims.email_verified() == Some(true),
            domain: claims.additional_claims().hd.clone(),
        };
        // Some providers tell it only here.
        if said.email.is_none()
            && let Some(url) = known.metadata.userinfo_endpoint()
        {
            let profile = self
                .http
                .get_json(url.as_str(), access_token.secret())
                .await;
            let profile = profile.map_err(|error| self.unavailable(&error))?;
            if profile["sub"].as_str() == Some(subject) {
                said = Said::of(&profile);
            }
        }
        self.somebody(subject, &said)
    }

    async fn of_facebook(&self, token: &AccessToken) -> Result<Found, Error> {
        let profile = or(&self.settings.profile_url, FACEBOOK_PROFILE);
        let mut profile = Url::parse(profile).map_err(unusable)?;
        let secret = self.secret.as_ref().map_or("", |secret| secret.as_str());
        let mut proof = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
            .expect("HMAC takes a key of any length");
        proof.update(token.secret().as_bytes());
        let proof = hex::encode(proof.finalize().into_bytes());
        let query = [("fields", "id,email"), ("appsecret_proof", proof.as_str())];
        profile.query_pairs_mut().extend_pairs(query);
        let profile = self.http.get_json(profile.as_str(), token.secret()).await;
        let profile = profile.map_err(|error| self.unavailable(&error))?;
        let said = Said {
            is_verified: false,
            ..Said::of(&profile)
        };
        self.somebody(profile["id"].as_str().unwrap_or_default(), &said)
    }

    fn somebody(&self, subject: &str, said: &Said) -> Result<Found, Error> {
        let is_usable = |c: u8| c.is_ascii_graphic() || c == b' ';
        if !(1..=SUBJECT_BYTES_MAX).contains(&subject.len()) || !subject.bytes().all(is_usable) {
            return Err(self.refused("it does not say who it is"));
        }
        let email = said
            .email
            .as_deref()
            .and_then(|email| normal_email(email).ok());
        let has_verified_email = email.as_deref().is_some_and(|email| {
            let is_google = self.settings.kind == ProviderKind::Google;
            said.is_verified && (!is_google || is_of_google(email, said.domain.as_deref()))
        });
        Ok(Found {
            issuer: self.issuer.as_str().to_owned(),
            subject: subject.to_owned(),
            email,
            has_verified_email,
        })
    }

    fn client(&self, known: Option<&Known>, redirect: RedirectUrl) -> Result<OurClient, Error> {
        let settings = &self.settings;
        let (authorization, token) = match known {
            Some(Known { metadata, .. }) => {
                let token = metadata.token_endpoint().cloned();
                let token = token.ok_or_else(|| self.refused("it has no `token_endpoint`"))?;
                (metadata.authorization_endpoint().clone(), token)
            }
            None => {
                let authorization = or(&settings.authorization_url, FACEBOOK_AUTHORIZATION);
                let token = or(&settings.token_url, FACEBOOK_TOKEN);
                (
                    AuthUrl::new(authorization.to_owned()).map_err(unusable)?,
                    TokenUrl::new(token.to_owned()).map_err(unusable)?,
                )
            }
        };
        // Verifying is done apart, with keys that may be newer.
        let keys = CoreJsonWebKeySet::default();
        let client_id = ClientId::new(settings.client_id.clone());
        let client = Client::new(client_id, self.issuer.clone(), keys)
            .set_auth_uri(authorization)
            .set_token_uri(token)
            .set_redirect_uri(redirect)
            .set_auth_type(auth_type(known));
        Ok(match &self.secret {
            Some(secret) => client.set_client_secret(ClientSecret::new(secret.as_str().to_owned())),
            None => client,
        })
    }

    fn denied(&self, error: &str) -> Error {
        // What the address says is the browser's word: as much of it as a code can be.
        let is_code = |c: &char| c.is_ascii_lowercase() || *c == '_';
        let code: String = error.chars().filter(is_code).take(64).collect();
        tracing::info!(provider = %self.settings.name, code, "A provider has sent somebody back without a login");
        match code.as_str() {
            "access_denied" => Error::ProviderDenied,
            "temporarily_unavailable" | "server_error" => Error::ProviderUnavailable {
                retry_after_s: RETRY_AFTER_S,
            },
            _ => Error::ProviderRefused,
        }
    }

    fn not_exchanged(&self, error: &ExchangeError) -> Error {
        match error {
            RequestTokenError::Request(error) => self.unavailable(error),
            // The body may have tokens in it.
            RequestTokenError::Parse(error, _) => self.refused(&error.to_string()),
            RequestTokenError::ServerResponse(answer) => {
                let code: &str = answer.error().as_ref();
                self.refused(&format!("a code was not exchanged: {code}"))
            }
            error => self.refused(&error.to_string()),
        }
    }

    fn unavailable(&self, error: &HttpError) -> Error {
        let name = &self.settings.name;
        tracing::warn!(provider = %name, error.cause = %causes(error), "A provider does not answer");
        let retry_after_s = RETRY_AFTER_S;
        Error::ProviderUnavailable { retry_after_s }
    }

    fn refused(&self, problem: &str) -> Error {
        tracing::warn!(provider = %self.settings.name, problem, "The answer of a provider was refused");
        Error::ProviderRefused
    }
}

/// What a provider says of an address.
struct Said {
    email: Option<String>,
    is_verified: bool,
    domain: Option<String>,
}

impl Said {
    fn of(profile: &Value) -> Self {
        let text = |name: &str| profile[name].as_str().map(str::to_owned);
        let verified = &profile["email_verified"];
        Self {
            email: text("email"),
            is_verified: *verified == true || *verified == "true",
            domain: text("hd"),
        }
    }
}

/// Whether Google's word is good for an address: it hands it out itself, or manages it for a domain. Others were verified
/// once, and may be somebody else's by now.
fn is_of_google(email: &str, domain: Option<&str>) -> bool {
    let own = email.rsplit_once('@').map_or("", |(_, domain)| domain);
    own == "gmail.com" || domain.is_some_and(|domain| domain.eq_ignore_ascii_case(own))
}

fn verifier_of(attempt: &Attempt) -> PkceCodeVerifier {
    PkceCodeVerifier::new(attempt.verifier.clone())
}

/// How the client proves itself: in the header, unless the provider takes it only in the body.
fn auth_type(known: Option<&Known>) -> AuthType {
    let Some(known) = known else {
        return AuthType::RequestBody;
    };
    let methods = known.metadata.token_endpoint_auth_methods_supported();
    let takes = |method| methods.is_none_or(|methods| methods.contains(&method));
    match takes(CoreClientAuthMethod::ClientSecretBasic) {
        true => AuthType::BasicAuth,
        false => AuthType::RequestBody,
    }
}

fn or<'a>(set: &'a str, default: &'a str) -> &'a str {
    if set.is_empty() { default } else { set }
}

fn unusable(error: url::ParseError) -> Error {
    Error::Config(format!("an address of a provider cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_google_is_good_for_addresses_that_google_manages() {
        for (email, domain, wanted) in [
            ("ann@gmail.com", None, true),
            ("ann@shop.example", Some("shop.example"), true),
            ("ann@shop.example", None, false),
            ("ann@shop.example", Some("other.example"), false),
            ("ann@mail.gmail.com.example", None, false),
        ] {
            assert_eq!(is_of_google(email, domain), wanted, "{email} {domain:?}");
        }
    }
}
