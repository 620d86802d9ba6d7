//! Access tokens that are none: each is held against every kind of door, in every place where a credential can stand.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use jsonwebtoken::{Algorithm, EncodingKey};

use super::*;

/// A person who may do everything, and what is known of the token.
struct Forge {
    host: TestHost,
    /// Of the host: nobody outside has it. Only so it is seen that a token is refused for the one thing that is wrong.
    key: SigningKey,
    header: Value,
    claims: Value,
    token: String,
    refresh_token: String,
}

impl Forge {
    async fn open() -> Self {
        let host = super::host().await;
        host.user("ann@example.com", &["admin"]).await;
        let tokens = log_in(&host, "ann@example.com").await;
        let text = |name: &str| tokens[name].as_str().unwrap().to_owned();
        let token = text("access_token");
        let seed = std::fs::read(host.data_dir().join("keys/access-token.key")).unwrap();
        let part = |at: usize| -> Value {
            let part = token.split('.').nth(at).unwrap();
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        Self {
            key: SigningKey::from_bytes(&seed.try_into().unwrap()),
            header: part(0),
            claims: part(1),
            refresh_token: text("refresh_token"),
            token,
            host,
        }
    }

    /// The token with other members in its header, signed by this key; null takes one away.
    fn with_header(&self, changes: &Value, key: &SigningKey) -> String {
        sign(&changed(&self.header, changes), &self.claims, key)
    }

    /// The token with other claims, signed by the host's own key.
    fn with_claims(&self, changes: &Value) -> String {
        sign(&self.header, &changed(&self.claims, changes), &self.key)
    }

    /// The token with another algorithm and this signature.
    fn with_signature(&self, header: &Value, signature: &str) -> String {
        let content = content(&changed(&self.header, header), &self.claims);
        format!("{content}.{signature}")
    }

    /// The token signed with a secret that everybody knows.
    fn with_secret(&self, algorithm: Algorithm, secret: &[u8]) -> String {
        let name = format!("{algorithm:?}");
        let content = content(
            &changed(&self.header, &json!({ "alg": name })),
            &self.claims,
        );
        let key = EncodingKey::from_secret(secret);
        let signature = jsonwebtoken::crypto::sign(content.as_bytes(), &key, algorithm).unwrap();
        format!("{content}.{signature}")
    }
}

fn changed(value: &Value, changes: &Value) -> Value {
    let mut value = value.as_object().unwrap().clone();
    for (name, change) in changes.as_object().unwrap() {
        match change {
            Value::Null => drop(value.remove(name)),
            change => drop(value.insert(name.clone(), change.clone())),
        }
    }
    Value::Object(value)
}

fn content(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

fn sign(header: &Value, claims: &Value, key: &SigningKey) -> String {
    let content = content(header, claims);
    let signature = key.sign(content.as_bytes()).to_bytes();
    format!("{content}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Where a token is asked for: routes of a plugin, accounts, the admin API, what is for operators.
const DOORS: [&str; 7] = [
    "/echo/closed",
    "/echo/optional",
    "/echo/permitted",
    "/api/auth/me",
    "/api/auth/sessions",
    "/_gantry/api/v1/users",
    "/metrics",
];

/// Fails if a door opens, whichever way the token is shown.
async fn opens_nothing(host: &TestHost, what: &str, token: &str) {
    for door in DOORS {
        for (name, value) in [
            ("authorization", format!("Bearer {token}")),
            ("x-api-key", token.to_owned()),
            ("cookie", format!("__Host-gantry-access={token}")),
        ] {
            let operators = door.starts_with("/_gantry") || door == "/metrics";
            let is_not_read = (name == "cookie" && operators)
                || (door == "/api/auth/sessions"
                    && (name == "x-api-key" || token.starts_with("gk_")));
            let request = host.request(http::Method::GET, door).header(name, value);
            let answer = host.send(request).await;
            let told = format!("{what}: {door} with {name}: {}", answer.text());
            assert_eq!(answer.status.as_u16(), 401, "{told}");
            let is_required = answer.code() == "auth.required";
            assert!(is_not_read || !is_required, "{told}");
        }
    }
    // Where nobody has to be somebody, such a token makes nobody somebody.
    let open: Value = host.with_token(token).get("/echo/open/x").await.json();
    assert_eq!(open["principal"], Value::Null, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_one_thing_wrong_opens_no_door() {
    let forge = Forge::open().await;
    let host = &forge.host;
    // What the table changes is what is wrong: without a change all doors open.
    let same = sign(&forge.header, &forge.claims, &forge.key);
    for (token, door) in [&same, &forge.token]
        .into_iter()
        .flat_map(|token| DOORS.map(|door| (token, door)))
    {
        host.with_token(token).get(door).await.assert_status(200);
    }
    let now_s = forge.claims["iat"].as_i64().unwrap();
    let claims = [
        ("expired", json!({ "exp": now_s - 60 })),
        ("expired long ago", json!({ "exp": -1 })),
        ("without an end", json!({ "exp": null })),
        ("with an end that is text", json!({ "exp": "tomorrow" })),
        ("with an end beyond time", json!({ "exp": 1e300 })),
        ("not yet valid", json!({ "nbf": now_s + 3600 })),
        ("for another audience", json!({ "aud": "bank" })),
        ("for no audience", json!({ "aud": null })),
        ("for several audiences", json!({ "aud": ["bank", "shop"] })),
        (
            "of another issuer",
            json!({ "iss": "https://evil.example" }),
        ),
        ("of no issuer", json!({ "iss": null })),
        ("of nobody", json!({ "sub": null })),
        ("of no id", json!({ "sub": "' OR '1'='1" })),
        (
            "of somebody who does not exist",
            json!({ "sub": "01980000-0000-7000-8000-000000000000" }),
        ),
        ("of an earlier generation", json!({ "generation": 0 })),
        ("of a session that is none", json!({ "sid": "x" })),
    ];
    for (what, changes) in claims {
        opens_nothing(host, what, &forge.with_claims(&changes)).await;
    }
    let headers = [
        ("an ID token", json!({ "typ": "JWT" })),
        ("an ID token that says so", json!({ "typ": "id+jwt" })),
        ("a refresh token in this form", json!({ "typ": "rt+jwt" })),
        ("a logout token", json!({ "typ": "logout+jwt" })),
        ("of no type", json!({ "typ": null })),
        ("of no key", json!({ "kid": null })),
        ("of an unknown key", json!({ "kid": "unknown" })),
        ("of a key on disk", json!({ "kid": "../../../../dev/null" })),
        (
            "of a key in the rows",
            json!({ "kid": "x' UNION SELECT 'a" }),
        ),
        ("of a key that is a list", json!({ "kid": ["a"] })),
        (
            "with an extension",
            json!({ "crit": ["b64"], "b64": false }),
        ),
        ("with an extension of ours", json!({ "crit": ["kid"] })),
        ("without an algorithm", json!({ "alg": null })),
        ("with another algorithm", json!({ "alg": "ES256" })),
        ("with an algorithm for secrets", json!({ "alg": "HS256" })),
        ("with an algorithm of RSA", json!({ "alg": "RS256" })),
        (
            "with an algorithm in small letters",
            json!({ "alg": "eddsa" }),
        ),
    ];
    for (what, changes) in headers {
        let token = forge.with_header(&changes, &forge.key);
        opens_nothing(host, what, &token).await;
    }
    // The host knows what somebody may do, whatever the token says.
    let ben = host.user("ben@example.com", &[]).await;
    let ben: Value = ben.get("/api/auth/me").await.json();
    let changes = json!({ "sub": ben["id"], "sid": null, "roles": ["admin"] });
    let ben = host.with_token(&forge.with_claims(&changes));
    for door in ["/echo/permitted", "/_gantry/api/v1/users", "/metrics"] {
        ben.get(door)
            .await
            .assert_problem(403, "auth.permission_missing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_host_has_not_signed_opens_no_door() {
    let forge = Forge::open().await;
    let host = &forge.host;
    let mine = SigningKey::from_bytes(&[7; 32]);
    let x = URL_SAFE_NO_PAD.encode(mine.verifying_key().to_bytes());
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "mine", "alg": "EdDSA" });
    // Where a host would come by that follows addresses in tokens.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    for (what, changes) in [
        ("by another key", json!({})),
        ("by a key that it brings along", json!({ "jwk": jwk })),
        (
            "by a key that it brings along, under its name",
            json!({ "jwk": jwk, "kid": "mine" }),
        ),
        ("by a key behind an address", json!({ "jku": url })),
        (
            "by a key behind an address, under its name",
            json!({ "jku": url, "kid": "mine" }),
        ),
        ("by a certificate behind an address", json!({ "x5u": url })),
        ("by a certificate", json!({ "x5c": [x], "x5t": x })),
        ("by a key whose name is an address", json!({ "kid": url })),
    ] {
        opens_nothing(host, what, &forge.with_header(&changes, &mine)).await;
    }
    let wait = std::time::Duration::from_millis(300);
    let came = tokio::time::timeout(wait, listener.accept()).await;
    assert!(came.is_err(), "the host has asked where the token says");

    // The public key is known to everybody: as a secret it must be worth nothing.
    let keys = host.get("/.well-known/jwks.json").await.text();
    let parsed: Value = serde_json::from_str(&keys).unwrap();
    let public = forge.key.verifying_key().to_bytes();
    let text = parsed["keys"][0]["x"].as_str().unwrap();
    assert_eq!(URL_SAFE_NO_PAD.decode(text).unwrap(), public);
    let mut der = vec![
        0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0,
    ];
    der.extend(public);
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(&der)
    );
    let jwk = parsed["keys"][0].to_string();
    for (what, secret) in [
        ("its bytes", &public[..]),
        ("its text", text.as_bytes()),
        ("DER", &der),
        ("PEM", pem.as_bytes()),
        ("JWK", jwk.as_bytes()),
        ("JWKS", keys.as_bytes()),
        ("nothing", b""),
        ("a zero", &[0]),
    ] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let what = format!("{algorithm:?} with the public key as {what}");
            opens_nothing(host, &what, &forge.with_secret(algorithm, secret)).await;
        }
    }

    let parts: Vec<&str> = forge.token.split('.').collect();
    let (good, signature) = (parts[..2].join("."), parts[2]);
    for name in ["none", "None", "NONE", "nOnE", ""] {
        for signature in ["", signature, "AA"] {
            let token = forge.with_signature(&json!({ "alg": name }), signature);
            opens_nothing(host, &format!("signed by `{name}`"), &token).await;
        }
    }
    // The neutral element and zero: a signature of everything, where the points are not checked.
    let mut neutral = [0; 64];
    neutral[0] = 1;
    let zeros = URL_SAFE_NO_PAD.encode([0; 64]);
    let last = if signature.ends_with('A') { 'B' } else { 'A' };
    let altered = format!("{}{last}", &signature[..signature.len() - 1]);
    let json = json!({ "payload": parts[1], "protected": parts[0], "signature": signature });
    for (what, token) in [
        ("without a signature", format!("{good}.")),
        ("without a third part", good.clone()),
        ("with four parts", format!("{}.x", forge.token)),
        ("with zeros", format!("{good}.{zeros}")),
        (
            "with zeros for ECDSA",
            forge.with_signature(&json!({ "alg": "ES256" }), &zeros),
        ),
        (
            "with a neutral point",
            format!("{good}.{}", URL_SAFE_NO_PAD.encode(neutral)),
        ),
        ("with an altered signature", format!("{good}.{altered}")),
        ("with filling", format!("{}==", forge.token)),
        ("with the signature of another token", {
            let other = forge.with_claims(&json!({ "jti": "x" }));
            format!("{good}.{}", other.split('.').nth(2).unwrap())
        }),
        ("as JSON", json.to_string()),
        ("encrypted", format!("{}.x.x.x.x", parts[0])),
        ("the refresh token", forge.refresh_token.clone()),
        ("a one-time code", format!("gc_{}", "A".repeat(43))),
        ("a key that is none", "gk_0123456789abcdef_00".to_owned()),
        ("a word", "undefined".to_owned()),
    ] {
        opens_nothing(host, what, &token).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_counts_only_where_it_belongs_and_only_alone() {
    let forge = Forge::open().await;
    let (host, token) = (&forge.host, forge.token.as_str());
    let key = std::fs::read_to_string(host.data_dir().join("admin.key")).unwrap();
    let key = key.trim();
    let bearer = format!("Bearer {token}");
    let of_key = format!("Bearer {key}");
    for door in ["/echo/closed", "/api/auth/me", "/_gantry/api/v1/users"] {
        let cases: &[&[(&str, &str)]] = &[
            &[],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer ")],
            &[("authorization", token)],
            &[("authorization", &format!("Basic {token}"))],
            &[("authorization", &format!("Token {token}"))],
            &[("authorization", &format!("Bearer {token} {token}"))],
            &[("authorization", &format!("Bearer {token}, Bearer {token}"))],
            // Which of two counts must not be a matter of taste.
            &[("authorization", &bearer), ("authorization", &bearer)],
            &[("authorization", "Bearer x"), ("authorization", &bearer)],
            &[("authorization", &bearer), ("authorization", "Bearer x")],
            &[("authorization", &bearer), ("x-api-key", key)],
            &[("authorization", &of_key), ("x-api-key", key)],
            &[("x-api-key", key), ("x-api-key", key)],
            &[("x-api-key", "gk_x"), ("x-api-key", key)],
            &[("proxy-authorization", &bearer)],
            &[("x-authorization", &bearer)],
            &[("x-access-token", token)],
            &[("x-auth-token", token)],
            &[("cookie", &format!("access_token={token}"))],
            &[(
                "cookie",
                &format!("__Host-gantry-refresh={}", forge.refresh_token),
            )],
            &[("cookie", &format!("__host-gantry-access={token}"))],
            &[("cookie", &format!("__Host-gantry-access={key}"))],
        ];
        for headers in cases {
            let mut request = host.request(http::Method::GET, door);
            for (name, value) in *headers {
                request = request.header(*name, *value);
            }
            let answer = host.send(request).await;
            assert_eq!(
                answer.status.as_u16(),
                401,
                "{door} {headers:?}: {}",
                answer.text()
            );
        }
        // An address is kept in logs and histories; nothing in it logs anybody in.
        for name in ["access_token", "token", "api_key", "key", "authorization"] {
            for value in [token, key] {
                let answer = host.get(&format!("{door}?{name}={value}")).await;
                assert!(
                    [400, 401].contains(&answer.status.as_u16()),
                    "{door} {name}"
                );
            }
        }
    }
}
