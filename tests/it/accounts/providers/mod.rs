//! Logging in at a real provider, followed by a browser that has nothing but redirects, forms and cookies.

mod attacks;
mod linking;
mod outages;

use std::collections::BTreeMap;

use gantry::auth::Provider;
use gantry::config::Config;
use gantry_harness::OidcServer;
use http::Method;

use super::*;

/// Where people reach the host, in front of which somebody else would end TLS.
const ORIGIN: &str = "https://shop.example";
/// A text and its SHA-256 (RFC 7636, appendix B).
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// As whom somebody logs in at the provider: a subject, an address, and whether it is verified.
const ANN: &str = "ann:ann@example.com:yes";

/// A provider in the settings: a client that the server knows.
fn provider(server: &OidcServer, client: &str, more: &Value) -> Provider {
    let mut settings = json!({
        "name": client, "kind": "oidc", "issuer": server.issuer(), "client_id": client,
        "client_secret": format!("the-secret-of-{client}"),
    });
    if client == "open" {
        settings["client_secret"] = json!("");
    }
    for (name, value) in more.as_object().unwrap() {
        settings[name] = value.clone();
    }
    serde_json::from_value(settings).unwrap()
}

fn with_providers(config: &mut Config, providers: Vec<Provider>) {
    config.auth.public_url = ORIGIN.to_owned();
    config.auth.return_paths = vec!["/welcome".to_owned(), "/app/*".to_owned()];
    config.auth.return_apps = vec!["com.example.app:/login".to_owned()];
    config.auth.providers = providers;
}

/// A host whose people can log in at these clients of the server, and sign up there.
async fn host_with(server: &OidcServer, clients: &[&str]) -> TestHost {
    let more = json!({ "may_sign_up": true });
    let providers = clients.iter().map(|client| provider(server, client, &more));
    let providers = providers.collect();
    TestHost::build()
        .with(|config| with_providers(config, providers))
        .start()
        .await
}

/// Somebody with a browser.
#[derive(Clone)]
struct Person {
    client: Client,
    host: String,
    /// Of the host.
    cookies: BTreeMap<String, String>,
    /// Of the provider.
    there: BTreeMap<String, String>,
    http: reqwest::Client,
}

impl Person {
    fn new(host: &TestHost) -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        Self {
            client: Client::clone(host),
            host: host.app().address.to_string(),
            cookies: BTreeMap::new(),
            there: BTreeMap::new(),
            http: http.build().unwrap(),
        }
    }

    /// A request to the host with its cookies.
    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client
            .request(method, path)
            .header("cookie", together(&self.cookies))
    }

    /// The same as a page of the host sends it.
    fn page(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let csrf = self.cookies.get("__Host-gantry-csrf");
        self.request(method, path)
            .header("origin", format!("http://{}", self.host))
            .header("sec-fetch-site", "same-origin")
            .header("x-gantry-csrf", csrf.map_or("", String::as_str))
    }

    /// Sends a request to the host and keeps its cookies.
    async fn send(&mut self, request: reqwest::RequestBuilder) -> Answer {
        let answer = self.client.send(request).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            for wanted in ["__Host-gantry-", "; Path=/;", "; Secure;", "; SameSite="] {
                assert!(cookie.contains(wanted), "{cookie}");
            }
            keep(&mut self.cookies, cookie, "Max-Age=0");
        }
        answer
    }

    /// Opens an address of the host.
    async fn open(&mut self, path: &str) -> Answer {
        let request = self.request(Method::GET, path);
        self.send(request).await
    }

    /// Begins a login: the address at the provider.
    async fn begin(&mut self, client: &str, query: &str) -> String {
        let answer = self
            .open(&format!("/api/auth/oauth/{client}?{query}"))
            .await;
        let answer = answer.assert_status(303);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        answer.header("location").unwrap().to_owned()
    }

    /// Does what the provider asks for, and comes back: the path and query at the host.
    async fn log_in_there(&mut self, address: &str, who: &str) -> String {
        let base = reqwest::Url::parse(address).unwrap();
        let (mut url, mut form) = (base.clone(), None);
        for _ in 0..12 {
            let request = match form.take() {
                None => self.http.get(url.clone()),
                Some(body) => self
                    .http
                    .post(url.clone())
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(body),
            };
            let request = request.header("cookie", together(&self.there));
            let answer = request.send().await.unwrap();
            for cookie in answer.headers().get_all("set-cookie") {
                keep(&mut self.there, cookie.to_str().unwrap(), "1970");
            }
            if let Some(next) = answer.headers().get("location") {
                let next = next.to_str().unwrap();
                if let Some(back) = next.strip_prefix(ORIGIN) {
                    return back.to_owned();
                }
                url = base.join(next).unwrap();
                continue;
            }
            let page = answer.text().await.unwrap();
            let action = between(&page, "action=\"", "\"");
            let action = action.unwrap_or_else(|| panic!("no form: {page}"));
            form = Some(match (who, page.contains("name=\"login\"")) {
                ("", _) => {
                    url = base
                        .join(between(&page, "<a href=\"", "\"").unwrap())
                        .unwrap();
                    continue;
                }
                (_, true) => format!("prompt=login&password=x&login={}", encoded(who)),
                (_, false) => "prompt=consent".to_owned(),
            });
            url = base.join(action).unwrap();
        }
        panic!("the provider does not send anybody back");
    }

    /// Ends a login: where the browser is sent.
    async fn come_back(&mut self, callback: &str) -> String {
        let answer = self.open(callback).await.assert_status(303);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        answer.header("location").unwrap().to_owned()
    }

    /// The whole way: where the browser ends.
    async fn log_in(&mut self, client: &str, query: &str, who: &str) -> String {
        let address = self.begin(client, query).await;
        let callback = self.log_in_there(&address, who).await;
        self.come_back(&callback).await
    }

    /// The code that an app gets.
    async fn login_code(&mut self, client: &str, who: &str) -> String {
        let query = format!("code_challenge={CHALLENGE}");
        let end = self.log_in(client, &query, who).await;
        let code = end.strip_prefix("/welcome?login_code=");
        code.unwrap_or_else(|| panic!("no code: {end}")).to_owned()
    }

    /// The name of whom the host takes this browser for.
    async fn is(&mut self) -> Option<String> {
        let answer = self.open("/api/auth/me").await;
        let is_somebody = answer.status.as_u16() == 200;
        is_somebody.then(|| answer.json::<Value>()["name"].as_str().unwrap().to_owned())
    }
}

fn together(cookies: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = cookies
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("; ")
}

fn keep(cookies: &mut BTreeMap<String, String>, cookie: &str, end: &str) {
    let (pair, attributes) = cookie.split_once(';').unwrap_or((cookie, ""));
    let (name, value) = pair.split_once('=').unwrap();
    if value.is_empty() || attributes.contains(end) {
        cookies.remove(name);
    } else {
        cookies.insert(name.to_owned(), value.to_owned());
    }
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(begin)?;
    rest.split_once(end).map(|(found, _)| found)
}

fn encoded(text: &str) -> String {
    text.replace(':', "%3A")
        .replace('@', "%40")
        .replace('+', "%2B")
}

/// A parameter of an address, as it is written.
fn parameter<'a>(address: &'a str, name: &str) -> &'a str {
    let (_, query) = address.split_once('?').unwrap();
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(found, _)| *found == name)
        .map_or("", |(_, value)| value)
}

async fn fetch_tokens(client: &Client, body: &Value) -> Answer {
    client.post("/api/auth/oauth/token", body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_logs_in_at_a_provider_and_no_secret_is_in_an_address() {
    let Some(server) = OidcServer::start().await else {
        return;
    };
    let clients = ["shop", "post", "open", "lie-nothing"];
    let host = host_with(&server, &clients).await;
    let listed: Value = host.get("/api/auth/oauth").await.assert_status(200).json();
    assert_eq!(
        listed["items"][0],
        json!({ "name": "shop", "title": "shop" })
    );
    for client in clients {
        let mut ann = Person::new(&host);
        let address = ann.begin(client, "return_to=/app/cart").await;
        assert!(
            address.starts_with(&format!("{}/auth?", server.issuer())),
            "{address}"
        );
        let redirect =
            format!("https%3A%2F%2Fshop.example%2Fapi%2Fauth%2Foauth%2F{client}%2Fcallback");
        assert_eq!(parameter(&address, "redirect_uri"), redirect);
        assert_eq!(parameter(&address, "code_challenge_method"), "S256");
        assert_eq!(parameter(&address, "response_type"), "code");
        for random in ["state", "nonce", "code_challenge"] {
            assert_eq!(parameter(&address, random).len(), 43, "{random}");
        }
        let kept = ann.cookies["__Host-gantry-login"].clone();
        assert!(!kept.contains(parameter(&address, "state")));
        let callback = ann.log_in_there(&address, ANN).await;
        assert_eq!(ann.come_back(&callback).await, "/app/cart", "{client}");
        assert_eq!(ann.is().await.as_deref(), Some("ann@example.com"));
        let names: Vec<&str> = ann.cookies.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "__Host-gantry-access",
                "__Host-gantry-csrf",
                "__Host-gantry-refresh"
            ]
        );
        // The cookies are those of any login.
        let out = ann.page(Method::POST, "/api/auth/logout");
        ann.send(out).await.assert_status(204);
        assert_eq!(ann.is().await, None);
    }
    assert_eq!(host.app().auth.count_users(), 1);
    let settings = host.admin().get("/_gantry/api/v1/settings").await.text();
    assert!(settings.contains("lie-nothing") && !settings.contains("the-secret-of"));
    let log = host.access_log().await;
    assert!(
        log.contains("/callback") && !log.contains("state="),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_fetches_its_tokens_once_with_what_it_has_kept() {
    let Some(server) = OidcServer::start().await else {
        return;
    };
    let host = host_with(&server, &["shop"]).await;
    let mut ann = Person::new(&host);
    let query = format!("code_challenge={CHALLENGE}&return_to=com.example.app:/login");
    let end = ann.log_in("shop", &query, ANN).await;
    let code = end
        .strip_prefix("com.example.app:/login?login_code=")
        .unwrap();
    // The browser itself is nobody.
    assert!(ann.cookies.is_empty());
    assert_eq!(host.app().auth.count_users(), 0);
    let other = "x".repeat(43);
    for wrong in [
        json!({ "code": code }),
        json!({ "code": code, "code_verifier": "" }),
        json!({ "code": code, "code_verifier": other }),
        json!({ "code": code, "code_verifier": CHALLENGE }),
    ] {
        fetch_tokens(&host, &wrong)
            .await
            .assert_problem(422, "auth.code_wrong");
    }
    let right = json!({ "code": code, "code_verifier": VERIFIER });
    let tokens = fetch_tokens(&host, &right).await.assert_status(200);
    assert_eq!(tokens.header("cache-control"), Some("no-store"));
    let tokens: Value = tokens.json();
    assert_eq!(tokens["user"]["email"], "ann@example.com");
    let me: Value = with(&host, &tokens).get("/api/auth/me").await.json();
    assert_eq!(me["name"], "ann@example.com");
    refresh(&host, &tokens["refresh_token"])
        .await
        .assert_status(200);
    fetch_tokens(&host, &right)
        .await
        .assert_problem(422, "auth.code_wrong");
}

#[tokio::test(flavor = "multi_thread")]
async fn first_logins_of_one_person_in_two_browsers_make_one_account() {
    let Some(server) = OidcServer::start().await else {
        return;
    };
    let host = host_with(&server, &["shop"]).await;
    let mut people = vec![Person::new(&host); 4];
    let mut callbacks = Vec::new();
    for person in &mut people {
        let address = person.begin("shop", "").await;
        callbacks.push(person.log_in_there(&address, ANN).await);
    }
    let came = people.iter_mut().zip(&callbacks);
    let came = came.map(|(person, callback)| person.come_back(callback));
    for end in futures_util::future::join_all(came).await {
        assert_eq!(end, "/welcome");
    }
    assert_eq!(host.app().auth.count_users(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn facebook_says_who_somebody_is_and_not_whose_address_it_is() {
    let Some(server) = OidcServer::start().await else {
        return;
    };
    let issuer = server.issuer();
    let facebook = json!({
        "name": "facebook", "kind": "facebook", "client_id": "facebook", "may_sign_up": true,
        "client_secret": "the-secret-of-facebook", "authorization_url": format!("{issuer}/auth"),
        "token_url": format!("{issuer}/token"), "profile_url": format!("{issuer}/graph/me"),
    });
    let facebook = serde_json::from_value(facebook).unwrap();
    let host = TestHost::build()
        .with(|config| with_providers(config, vec![facebook]))
        .start()
        .await;
    let ann = host.user("ann@example.com", &[]).await;
    let mut browser = Person::new(&host);
    // Nobody can confirm the address without mail; that there is an account is not told.
    for who in [ANN, "bob:bob@example.com:yes"] {
        browser.there.clear();
        let end = browser.log_in("facebook", "", who).await;
        assert_eq!(end, "/welcome?login_error=auth.identity_unknown");
    }
    browser.there.clear();
    let code = browser.login_code("facebook", ANN).await;
    let link = json!({ "code": code, "code_verifier": VERIFIER });
    ann.post("/api/auth/identities", &link)
        .await
        .assert_status(201);
    assert_eq!(browser.log_in("facebook", "", ANN).await, "/welcome");
    assert_eq!(browser.is().await.as_deref(), Some("ann@example.com"));
    assert_eq!(host.app().auth.count_users(), 1);
}
