//! Pages in a browser: logged in with cookies, which browsers send by themselves and others' pages try to use.

use gantry_harness::guests::guest;
use http::Method;

use super::*;

const MANIFEST: &str = r#"
schema = 1
[plugin]
name = "echo"
version = "1.0.0"
[component]
path = "plugin.wasm"
[[route]]
method = "GET"
path = "/required"
[[route]]
method = "POST"
path = "/required"
[[route]]
method = "POST"
path = "/public"
auth = "public"
"#;

/// What a browser keeps, and sends to the host.
#[derive(Clone)]
struct Browser {
    client: Client,
    host: String,
    cookies: Vec<(String, String)>,
}

impl Browser {
    async fn log_in(host: &TestHost) -> (Self, Value) {
        host.user("ann@example.com", &[]).await;
        let mut browser = Self {
            client: Client::clone(host),
            host: host.app().address.to_string(),
            cookies: Vec::new(),
        };
        let login = json!({ "email": "ann@example.com", "password": PASSWORD, "mode": "cookie" });
        let request = browser.page(Method::POST, "/api/auth/login").json(&login);
        let answer = browser.keep(request).await.assert_status(200);
        let body = answer.json();
        (browser, body)
    }

    /// A request as a page of this origin sends it.
    fn page(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let origin = format!("http://{}", self.host);
        self.plain(method, path)
            .header("origin", origin)
            .header("sec-fetch-site", "same-origin")
    }

    /// With the cookies and nothing else.
    fn plain(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, path);
        if self.cookies.is_empty() {
            return request;
        }
        let pairs: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        request.header("cookie", pairs.join("; "))
    }

    /// Sends a request and does with its cookies what browsers do.
    async fn keep(&mut self, request: reqwest::RequestBuilder) -> Answer {
        let answer = self.client.send(request).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            let (name, rest) = cookie.split_once('=').unwrap();
            let (value, attributes) = rest.split_once(';').unwrap();
            // What a browser asks of this prefix.
            assert!(name.starts_with("__Host-gantry-"), "{cookie}");
            for wanted in ["Path=/;", "Secure", "SameSite="] {
                assert!(attributes.contains(wanted), "{cookie}");
            }
            assert!(!attributes.contains("Domain"), "{cookie}");
            self.cookies.retain(|(kept, _)| kept != name);
            if !attributes.contains("Max-Age=0") {
                let is_secret = !name.ends_with("csrf");
                assert_eq!(attributes.contains("HttpOnly"), is_secret, "{cookie}");
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        answer
    }

    fn cookie(&self, name: &str) -> String {
        let found = self.cookies.iter().find(|(kept, _)| kept.ends_with(name));
        found.unwrap().1.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_logs_in_works_and_logs_out_and_its_scripts_never_see_a_token() {
    let host = TestHost::start().await;
    host.deploy(MANIFEST, guest("echo")).await;
    let (mut browser, body) = Browser::log_in(&host).await;
    assert_eq!(body["token_type"], "Cookie");
    assert!(body.get("access_token").is_none() && body.get("refresh_token").is_none());
    let csrf = body["csrf_token"].as_str().unwrap().to_owned();
    assert_eq!(browser.cookie("csrf"), csrf);

    let get = browser.page(Method::GET, "/echo/required");
    let seen: Value = browser.keep(get).await.assert_status(200).json();
    assert_eq!(seen["principal"]["name"], "ann@example.com");
    let post = browser.page(Method::POST, "/echo/required");
    let post = post.header("x-gantry-csrf", &csrf);
    let posted = browser.keep(post).await.assert_status(200).text();
    assert!(!posted.contains(&csrf), "a plugin sees the token");
    // Who follows a link from elsewhere is logged in.
    let link = browser.plain(Method::GET, "/api/auth/me");
    let link = link.header("sec-fetch-site", "cross-site");
    browser.keep(link).await.assert_status(200);

    let before = browser.cookie("refresh");
    let refresh = browser.page(Method::POST, "/api/auth/refresh");
    let refresh = refresh.header("x-gantry-csrf", &csrf);
    let body: Value = browser.keep(refresh).await.assert_status(200).json();
    assert_eq!(body["csrf_token"], csrf.as_str());
    assert_ne!(browser.cookie("refresh"), before);
    let get = browser.page(Method::GET, "/echo/required");
    browser.keep(get).await.assert_status(200);

    let old = browser.clone();
    let out = browser.page(Method::POST, "/api/auth/logout");
    let out = out.header("x-gantry-csrf", &csrf);
    browser.keep(out).await.assert_status(204);
    assert!(browser.cookies.is_empty());
    let get = old.page(Method::GET, "/echo/required");
    old.client
        .send(get)
        .await
        .assert_problem(401, "auth.token_revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_others_cannot_act_with_the_cookies() {
    let host = TestHost::start().await;
    host.deploy(MANIFEST, guest("echo")).await;
    let (browser, body) = Browser::log_in(&host).await;
    let csrf = body["csrf_token"].as_str().unwrap();
    let own = format!("http://{}", browser.host);
    let paths = [
        (Method::POST, "/echo/required"),
        (Method::POST, "/api/auth/refresh"),
        (Method::POST, "/api/auth/logout"),
        (Method::DELETE, "/api/auth/sessions"),
    ];
    for (method, path) in paths {
        let plain = || browser.plain(method.clone(), path);
        let with_token = || plain().header("x-gantry-csrf", csrf);
        let attempts = [
            ("nothing", plain()),
            ("no origin", with_token()),
            ("no token", plain().header("origin", &own)),
            (
                "an empty token",
                plain().header("origin", &own).header("x-gantry-csrf", ""),
            ),
            (
                "a wrong token",
                plain()
                    .header("origin", &own)
                    .header("x-gantry-csrf", "x".repeat(43)),
            ),
            (
                "another origin",
                with_token().header("origin", "https://evil.example"),
            ),
            ("an opaque origin", with_token().header("origin", "null")),
            (
                "another site",
                with_token().header("sec-fetch-site", "cross-site"),
            ),
            (
                "another host of this site",
                with_token().header("sec-fetch-site", "same-site"),
            ),
            (
                "another port",
                with_token()
                    .header("origin", "http://127.0.0.1:1")
                    .header("sec-fetch-site", "same-site"),
            ),
        ];
        for (what, request) in attempts {
            let answer = browser.client.send(request).await;
            assert_eq!(answer.code(), "auth.csrf_refused", "{path}: {what}");
            assert_eq!(answer.status.as_u16(), 403);
        }
    }
    // The token of another session is none of this one.
    let login = json!({ "email": "ann@example.com", "password": PASSWORD, "mode": "cookie" });
    let again = browser.page(Method::POST, "/api/auth/login").json(&login);
    let other: Value = browser.client.send(again).await.assert_status(200).json();
    let request = browser.page(Method::POST, "/echo/required");
    let request = request.header("x-gantry-csrf", other["csrf_token"].as_str().unwrap());
    browser
        .client
        .send(request)
        .await
        .assert_problem(403, "auth.csrf_refused");
    // Nor does a page of others log a browser in.
    let request = browser
        .client
        .request(Method::POST, "/api/auth/login")
        .json(&login);
    let request = request.header("origin", "https://evil.example");
    browser
        .client
        .send(request)
        .await
        .assert_problem(403, "auth.csrf_refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_open_nothing_of_operators_and_plugins_neither_see_nor_set_them() {
    let host = TestHost::start().await;
    host.deploy(MANIFEST, guest("echo")).await;
    let (browser, body) = Browser::log_in(&host).await;
    let auth = &host.app().auth;
    let user = auth.find_user_by_email("ann@example.com").await.unwrap();
    let roles = vec!["admin".parse().unwrap()];
    auth.set_user_roles(user.unwrap().id, roles).await.unwrap();
    for path in ["/_gantry/api/v1/users", "/metrics"] {
        let request = browser.page(Method::GET, path);
        let answer = browser.client.send(request).await;
        assert!([401, 403].contains(&answer.status.as_u16()), "{path}");
    }
    let get = browser.page(Method::GET, "/echo/required");
    let get = get.header("cookie", "theme=dark");
    let seen = browser.client.send(get).await.assert_status(200).text();
    assert!(seen.contains("theme=dark"), "{seen}");
    for hidden in [
        "__Host-gantry",
        &browser.cookie("access"),
        &browser.cookie("refresh"),
    ] {
        assert!(!seen.contains(hidden), "a plugin sees {hidden}");
    }
    // With a header, cookies do not count, whatever is in them.
    let csrf = body["csrf_token"].as_str().unwrap();
    let request = browser.page(Method::POST, "/echo/required");
    let request = request
        .header("x-gantry-csrf", csrf)
        .bearer_auth("nonsense");
    browser
        .client
        .send(request)
        .await
        .assert_problem(401, "auth.token_invalid");
    // An API key or refresh token in the cookie of an access token is none.
    for forged in [
        browser.cookie("refresh"),
        "gk_0123456789abcdef_00".to_owned(),
    ] {
        let request = browser.client.request(Method::GET, "/echo/required");
        let request = request.header("cookie", format!("__Host-gantry-access={forged}"));
        browser.client.send(request).await.assert_status(401);
    }
}
