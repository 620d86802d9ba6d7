//! OpenID Connect: where a provider's parts are, found by discovery and kept; and what its ID tokens are worth.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGenderClaim,
    CoreGrantType, CoreJsonWebKey, CoreJsonWebKeySet, CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm, CoreJwsSigningAlgorithm, CoreResponseMode, CoreResponseType,
    CoreSubjectIdentifierType,
};
use openidconnect::{
    AccessToken, AccessTokenHash, AdditionalClaims, AdditionalProviderMetadata,
    ClaimsVerificationError, ClientId, DiscoveryError, IdToken, IdTokenClaims, IdTokenVerifier,
    IssuerUrl, Nonce, ProviderMetadata, SignatureVerificationError,
};
use serde::{Deserialize, Serialize};

use crate::auth::Error;
use crate::auth::external::ExternalAlgorithm;
use crate::auth::providers::http::{Http, HttpError};
use crate::clock::Clock;

/// Pause after a provider could not be asked, and between looks for a key that it has not shown.
const PAUSE_S: u64 = 10;
const PAUSE_NS: u64 = PAUSE_S * 1_000_000_000;

/// What a provider says of itself beside the usual.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(super) struct MoreMetadata {
    /// Whether it names itself when it sends people back (RFC 9207).
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for MoreMetadata {}

/// What an ID token says beside the usual.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct MoreClaims {
    /// Of Google: the domain whose administrators manage this account.
    #[serde(default)]
    pub(super) hd: Option<String>,
}

impl AdditionalClaims for MoreClaims {}

pub(super) type Metadata = ProviderMetadata<
    MoreMetadata,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;
pub(super) type Token = IdToken<
    MoreClaims,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
pub(super) type Claims = IdTokenClaims<MoreClaims, CoreGenderClaim>;

/// What is known of a provider. Fetched when it is first needed, so that a host starts without its providers.
pub(super) struct Discovery {
    issuer: IssuerUrl,
    known: ArcSwapOption<Known>,
    fetching: tokio::sync::Mutex<Fetching>,
    refresh_ns: u64,
}

/// What a provider has shown, with its keys.
pub(super) struct Known {
    pub(super) metadata: Metadata,
    fetched_ns: u64,
}

/// Held by the one who asks; the others wait for what comes of it.
#[derive(Default)]
struct Fetching {
    failed_ns: Option<u64>,
    missed_ns: Option<u64>,
}

impl Discovery {
    pub(super) fn new(issuer: IssuerUrl, refresh_minutes: u32) -> Self {
        Self {
            issuer,
            known: ArcSwapOption::empty(),
            fetching: tokio::sync::Mutex::default(),
            refresh_ns: u64::from(refresh_minutes) * 60_000_000_000,
        }
    }

    /// What is known, asked for again when it is old. Stays good while the provider is away. `ProviderUnavailable`.
    pub(super) async fn known(&self, http: &Http, clock: &Clock) -> Result<Arc<Known>, Error> {
        let old = match self.known.load_full() {
            Some(known) if !self.is_old(&known, clock) => return Ok(known),
            old => old,
        };
        let mut fetching = match &old {
            None => self.fetching.lock().await,
            Some(old) => match self.fetching.try_lock() {
                Ok(fetching) => fetching,
                // Somebody else asks; what is known will do.
                Err(_) => return Ok(Arc::clone(old)),
            },
        };
        if let Some(known) = self.known.load_full()
            && !self.is_old(&known, clock)
        {
            return Ok(known);
        }
        let unavailable = Error::ProviderUnavailable {
            retry_after_s: PAUSE_S,
        };
        if is_recent(fetching.failed_ns, clock) {
            return old.ok_or(unavailable);
        }
        match self.fetch(http, clock).await {
            Some(known) => Ok(known),
            None => {
                fetching.failed_ns = Some(clock.monotonic_ns());
                old.ok_or(unavailable)
            }
        }
    }

    /// What is known after looking for a key that was not in what is known now. Nothing if somebody has looked a moment ago.
    pub(super) async fn look_again(
        &self,
        seen: &Arc<Known>,
        http: &Http,
        clock: &Clock,
    ) -> Option<Arc<Known>> {
        let mut fetching = self.fetching.lock().await;
        if let Some(known) = self.known.load_full()
            && !Arc::ptr_eq(&known, seen)
        {
            return Some(known);
        }
        if is_recent(fetching.missed_ns, clock) {
            return None;
        }
        fetching.missed_ns = Some(clock.monotonic_ns());
        self.fetch(http, clock).await
    }

    async fn fetch(&self, http: &Http, clock: &Clock) -> Option<Arc<Known>> {
        let metadata = match self.ask(http).await {
            Ok(metadata) => metadata,
            Err(error) => {
                tracing::warn!(
                    issuer = %self.issuer.as_str(), error.cause = %causes(&error),
                    "A provider cannot be asked how to log in there"
                );
                return None;
            }
        };
        let fetched_ns = clock.monotonic_ns();
        let known = Arc::new(Known {
            metadata,
            fetched_ns,
        });
        self.known.store(Some(Arc::clone(&known)));
        Some(known)
    }

    /// Boxed here, where the compiler still sees that threads may hand it on.
    fn ask<'a>(
        &'a self,
        http: &'a Http,
    ) -> BoxFuture<'a, Result<Metadata, DiscoveryError<HttpError>>> {
        Box::pin(Metadata::discover_async(self.issuer.clone(), http))
    }

    fn is_old(&self, known: &Known, clock: &Clock) -> bool {
        clock.monotonic_ns().saturating_sub(known.fetched_ns) >= self.refresh_ns
    }
}

fn is_recent(at_ns: Option<u64>, clock: &Clock) -> bool {
    at_ns.is_some_and(|at_ns| clock.monotonic_ns().saturating_sub(at_ns) < PAUSE_NS)
}

/// An error with its causes, without the bodies that some have.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// What an ID token must say.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a IssuerUrl,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    pub(super) algorithms: &'a [ExternalAlgorithm],
    pub(super) skew_ms: i64,
    pub(super) now_ms: i64,
}

/// What an ID token claims, if one of these keys has signed it in an allowed way, for this client and this login, and it is
/// its time. It belongs to the access token that came with it.
pub(super) fn verify<'a>(
    token: &'a Token,
    access_token: &AccessToken,
    keys: &CoreJsonWebKeySet,
    expected: &Expected<'_>,
) -> Result<&'a Claims, ClaimsVerificationError> {
    let Expected {
        now_ms, skew_ms, ..
    } = *expected;
    let earlier = DateTime::from_timestamp_millis(now_ms - skew_ms);
    let later = DateTime::from_timestamp_millis(now_ms + skew_ms);
    let (earlier, later) = (
        earlier.unwrap_or(DateTime::<Utc>::MAX_UTC),
        later.unwrap_or(DateTime::<Utc>::MIN_UTC),
    );
    // As for a public client, so that no token counts that was signed with a secret. Of several audiences, others than this
    // client could use the token here, so it is refused.
    let client_id = ClientId::new(expected.client_id.to_owned());
    let verifier =
        IdTokenVerifier::new_public_client(client_id, expected.issuer.clone(), keys.clone())
            .set_allowed_algs(expected.algorithms.iter().map(|one| as_core(*one)))
            .set_time_fn(move || earlier)
            .set_issue_time_verifier_fn(move |issued| match issued <= later {
                true => Ok(()),
                false => Err("it was made in the future".to_owned()),
            });
    let claims = token.claims(&verifier, &Nonce::new(expected.nonce.to_owned()))?;
    if let Some(party) = claims.authorized_party()
        && party.as_str() != expected.client_id
    {
        let problem = "it was made for another party".to_owned();
        return Err(ClaimsVerificationError::InvalidAudience(problem));
    }
    if let Some(wanted) = claims.access_token_hash() {
        let signature = ClaimsVerificationError::SignatureVerification;
        let algorithm = token.signing_alg().map_err(signature)?;
        let key = token.signing_key(&verifier).map_err(signature)?;
        let found = AccessTokenHash::from_token(access_token, algorithm, key);
        if found.ok().as_ref() != Some(wanted) {
            let problem = "it came with another access token".to_owned();
            return Err(ClaimsVerificationError::Other(problem));
        }
    }
    Ok(claims)
}

/// Whether the key may be one that the provider has shown since.
pub(super) fn lacks_key(error: &ClaimsVerificationError) -> bool {
    matches!(
        error,
        ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey)
    )
}

fn as_core(algorithm: ExternalAlgorithm) -> CoreJwsSigningAlgorithm {
    match algorithm {
        ExternalAlgorithm::Rs256 => CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
        ExternalAlgorithm::Es256 => CoreJwsSigningAlgorithm::EcdsaP256Sha256,
        ExternalAlgorithm::EdDsa => CoreJwsSigningAlgorithm::EdDsa,
    }
}
