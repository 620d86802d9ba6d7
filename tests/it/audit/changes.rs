//! Every change that the admin API offers, and its event.

use std::collections::BTreeSet;

use gantry_harness::{Answer, Client, TestHost};
use http::Method;
use serde_json::{Value, json};

use super::{API, PASSWORD, events, log_in, look, some_events, with};

/// What changes no rows: its event comes a moment later.
const NOTED: [&str; 1] = ["cache.purged"];
/// What asks with a body and changes nothing.
const READS: [&str; 1] = ["post /explain"];

/// Does every change that the admin API offers, and looks for its event.
struct Tour {
    admin: Client,
    /// What was done, as in the contract.
    done: BTreeSet<String>,
    planted: Vec<String>,
}

impl Tour {
    /// Sends a change; the event of it must be there when the answer is.
    async fn change(
        &mut self,
        operation: &str,
        path: &str,
        body: Option<Value>,
        action: &str,
    ) -> Answer {
        let (method, _) = operation.split_once(' ').unwrap();
        let method: Method = method.to_uppercase().parse().unwrap();
        let request = self.admin.request(method, &format!("{API}{path}"));
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = self.admin.send(request).await;
        self.check(operation, answer, action).await
    }

    async fn check(&mut self, operation: &str, answer: Answer, action: &str) -> Answer {
        assert!(answer.status.is_success(), "{operation}: {answer:?}");
        let id = answer.header("x-request-id").unwrap();
        let query = format!("request_id={id}");
        let found = match NOTED.contains(&action) {
            true => some_events(&self.admin, &query).await,
            false => events(&self.admin, &query).await,
        };
        let actions: Vec<_> = found
            .iter()
            .map(|event| event["action"].as_str().unwrap())
            .collect();
        assert!(actions.contains(&action), "{operation}: {actions:?}");
        for event in &found {
            assert_eq!(event["outcome"], "done", "{event}");
            assert_eq!(event["actor_kind"], "api-key", "{event}");
            assert!(
                event["actor"].as_str().unwrap().starts_with("gk_"),
                "{event}"
            );
            assert_eq!(event["address"], "127.0.0.1", "{event}");
        }
        self.done.insert(operation.to_owned());
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_through_the_admin_api_leaves_an_event_and_no_secret() {
    let host = TestHost::start().await;
    let mut tour = Tour {
        admin: host.admin(),
        done: BTreeSet::new(),
        planted: [
            "s3cret-of-a-plugin",
            "correct horse battery",
            "another horse battery",
            "hunter2-in-settings",
        ]
        .map(str::to_owned)
        .to_vec(),
    };
    plugins(&mut tour).await;
    programs(&mut tour).await;
    accounts(&mut tour, &host).await;

    let contract: Value = host.get(&format!("{API}/openapi.json")).await.json();
    for (path, methods) in contract["paths"].as_object().unwrap() {
        for method in methods
            .as_object()
            .unwrap()
            .keys()
            .filter(|method| *method != "get")
        {
            let operation = format!("{method} {path}");
            if READS.contains(&&*operation) {
                continue;
            }
            assert!(
                tour.done.contains(&operation),
                "`{operation}` is not part of this test: does it leave an event?"
            );
        }
    }
    let trail = tour
        .admin
        .get(&format!("{API}/audit/export"))
        .await
        .assert_status(200)
        .text();
    for secret in &tour.planted {
        assert!(
            !trail.contains(secret.as_str()),
            "the trail has `{secret}` in it"
        );
    }
    assert!(
        !trail.contains("$argon2") && !trail.contains("example.com"),
        "no hashes, no addresses of people"
    );
    let folder = host.data_dir().to_owned();
    let again = host.restart().await;
    assert_eq!(look(&folder, &again.db()).await.findings, []);
    again.stop().await;
}

async fn plugins(tour: &mut Tour) {
    let deploy = "post /deployments";
    let config = "[config.schema]\ntype = \"object\"\nadditionalProperties = true\n";
    for (query, version, guest, more, action) in [
        ("grant=all", "1.0.0", "hello-v1", "", "plugin.deployed"),
        ("canary=10", "2.0.0", "hello-v2", "", "plugin.deployed"),
    ] {
        let answer = tour.admin.upload(query, with(version, guest, more)).await;
        tour.check(deploy, answer, action).await;
    }
    let hello = "/plugins/hello";
    let weight = json!({ "weight_percent": 20, "reason": "more" });
    tour.change(
        "put /plugins/{name}/canary",
        &format!("{hello}/canary"),
        Some(weight),
        "canary.weight_set",
    )
    .await;
    tour.change(
        "post /plugins/{name}/promote",
        &format!("{hello}/promote"),
        Some(json!({})),
        "canary.promoted",
    )
    .await;
    let back = Some(json!({ "reason": "worse" }));
    tour.change(
        "post /plugins/{name}/rollback",
        &format!("{hello}/rollback"),
        back,
        "plugin.rolled_back",
    )
    .await;
    // An upgrade that asks for more, twice: refused and approved.
    let deployer = json!({ "name": "deployer", "permissions": ["platform.deploy", "platform.read", "platform.audit"] });
    tour.change("post /roles", "/roles", Some(deployer), "role.created")
        .await;
    let key = json!({ "name": "ci", "roles": ["deployer"] });
    let key = tour
        .change("post /api-keys", "/api-keys", Some(key), "api_key.created")
        .await;
    let key: Value = key.json();
    let token = key["token"].as_str().unwrap().to_owned();
    let ci = tour.admin.with_token(&token);
    tour.planted.push(token);
    let approval = format!("{hello}/approval");
    for is_approved in [false, true] {
        let asks = format!("[capabilities]\nkv = [\"data\"]\n{config}");
        let asked = ci
            .upload("", with("3.0.0", "hello-v2", &asks))
            .await
            .assert_status(202);
        tour.check(deploy, asked, "upgrade.asked").await;
        let waits: Value = tour.admin.get(&format!("{API}{approval}")).await.json();
        let agreed = json!({ "deployment": waits["deployment"] });
        match is_approved {
            true => {
                let operation = "post /plugins/{name}/approval";
                tour.change(operation, &approval, Some(agreed), "upgrade.approved")
                    .await
            }
            false => {
                let operation = "delete /plugins/{name}/approval";
                tour.change(operation, &approval, None, "upgrade.rejected")
                    .await
            }
        };
    }
    let grants = format!("{hello}/grants");
    let some = |grants: &[&str]| Some(json!({ "grants": grants }));
    tour.change(
        "put /plugins/{name}/grants",
        &grants,
        some(&["kv:data"]),
        "grants.set",
    )
    .await;
    let added = tour
        .change(
            "post /plugins/{name}/grants",
            &grants,
            some(&["kv:more"]),
            "grants.added",
        )
        .await;
    let id = added.header("x-request-id").unwrap();
    let event = events(&tour.admin, &format!("request_id={id}")).await;
    assert_eq!(
        event[0]["detail"]["before"],
        json!({ "grants": ["kv:data"] }),
        "only what is another"
    );
    assert_eq!(
        event[0]["detail"]["after"],
        json!({ "grants": ["kv:data", "kv:more"] })
    );
    let one = format!("{grants}/kv:more");
    tour.change(
        "delete /plugins/{name}/grants/{capability}",
        &one,
        None,
        "grant.removed",
    )
    .await;
    let values = json!({ "currency": "EUR", "smtp_password": "hunter2-in-settings" });
    tour.change(
        "put /plugins/{name}/config",
        &format!("{hello}/config"),
        Some(values),
        "plugin.configured",
    )
    .await;
    let purge = Some(json!({ "plugin": "hello" }));
    tour.change("post /cache/purge", "/cache/purge", purge, "cache.purged")
        .await;
    let secret = format!("{hello}/secrets/stripe");
    let put = tour.admin.request(Method::PUT, &format!("{API}{secret}"));
    let put = tour.admin.send(put.body("s3cret-of-a-plugin")).await;
    tour.check("put /plugins/{name}/secrets/{label}", put, "secret.set")
        .await;
    tour.change(
        "delete /plugins/{name}/secrets/{label}",
        &secret,
        None,
        "secret.deleted",
    )
    .await;
    tour.change("delete /plugins/{name}", hello, None, "plugin.deleted")
        .await;
    let id = key["id"].as_str().unwrap();
    tour.change(
        "delete /api-keys/{id}",
        &format!("/api-keys/{id}"),
        None,
        "api_key.revoked",
    )
    .await;
}

async fn programs(tour: &mut Tour) {
    let account = json!({ "name": "billing", "roles": [] });
    let made = tour
        .change(
            "post /service-accounts",
            "/service-accounts",
            Some(account),
            "service_account.created",
        )
        .await;
    let made: Value = made.json();
    let path = format!("/service-accounts/{}", made["id"].as_str().unwrap());
    let key =
        json!({ "name": "billing", "service_account": made["id"], "networks": ["127.0.0.0/8"] });
    let key = tour
        .change("post /api-keys", "/api-keys", Some(key), "api_key.created")
        .await;
    let key: Value = key.json();
    let rotate = format!("/api-keys/{}/rotate", key["id"].as_str().unwrap());
    let rotated = tour
        .change(
            "post /api-keys/{id}/rotate",
            &rotate,
            Some(json!({})),
            "api_key.rotated",
        )
        .await;
    let rotated: Value = rotated.json();
    for token in [&key["token"], &rotated["token"]] {
        tour.planted.push(token.as_str().unwrap().to_owned());
    }
    let roles = Some(json!({ "roles": ["admin"] }));
    tour.change(
        "put /service-accounts/{id}",
        &path,
        roles,
        "service_account.set",
    )
    .await;
    tour.change(
        "delete /service-accounts/{id}",
        &path,
        None,
        "service_account.deleted",
    )
    .await;
}

async fn accounts(tour: &mut Tour, host: &TestHost) {
    let key = json!({
        "public_key": "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", "owner": "Ann", "plugins": ["shop"],
    });
    let key: Value = tour
        .change(
            "post /trust/keys",
            "/trust/keys",
            Some(key),
            "trusted_key.added",
        )
        .await
        .json();
    let path = format!("/trust/keys/{}", key["id"].as_str().unwrap());
    let scope = Some(json!({ "plugins": ["*"] }));
    tour.change("put /trust/keys/{id}", &path, scope, "trusted_key.set")
        .await;
    tour.change(
        "post /trust/keys/{id}/revoke",
        &format!("{path}/revoke"),
        None,
        "trusted_key.revoked",
    )
    .await;
    tour.change(
        "delete /trust/keys/{id}",
        &path,
        None,
        "trusted_key.removed",
    )
    .await;

    let new = json!({ "email": "ann@example.com", "password": PASSWORD, "roles": [] });
    let ann: Value = tour
        .change("post /users", "/users", Some(new), "user.created")
        .await
        .json();
    let path = format!("/users/{}", ann["id"].as_str().unwrap());
    let roles = json!({ "roles": ["deployer"] });
    let set = tour
        .change(
            "put /users/{id}/roles",
            &format!("{path}/roles"),
            Some(roles),
            "user.roles_set",
        )
        .await;
    let id = set.header("x-request-id").unwrap();
    let event = &events(&tour.admin, &format!("request_id={id}")).await[0];
    assert_eq!(
        (&event["detail"]["before"], &event["detail"]["after"]),
        (&json!([]), &json!(["deployer"]))
    );
    for is_disabled in [true, false] {
        let action = ["user.enabled", "user.disabled"][usize::from(is_disabled)];
        let body = Some(json!({ "is_disabled": is_disabled }));
        tour.change(
            "put /users/{id}/disabled",
            &format!("{path}/disabled"),
            body,
            action,
        )
        .await;
    }
    let tokens = log_in(host, "ann@example.com", PASSWORD).await;
    let session = tokens["session"].as_str().unwrap();
    let one = format!("{path}/sessions/{session}");
    tour.change(
        "delete /users/{id}/sessions/{session}",
        &one,
        None,
        "session.ended",
    )
    .await;
    tour.change(
        "delete /users/{id}/sessions",
        &format!("{path}/sessions"),
        None,
        "session.all_ended",
    )
    .await;

    let tokens = log_in(host, "ann@example.com", PASSWORD).await;
    let client = host.with_token(tokens["access_token"].as_str().unwrap());
    let begun = client
        .post("/api/auth/totp", &json!({ "password": PASSWORD }))
        .await;
    let begun: Value = begun.assert_status(200).json();
    let secret = begun["secret"].as_str().unwrap();
    tour.planted.push(secret.to_owned());
    let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
    let totp = totp_rs::Builder::new().with_secret(secret).build().unwrap();
    let now_s = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let code = json!({ "code": totp.generate(now_s.as_secs()).to_string() });
    let confirmed = client
        .post("/api/auth/totp/confirm", &code)
        .await
        .assert_status(200);
    let codes: Value = confirmed.json();
    tour.planted
        .push(codes["recovery_codes"][0].as_str().unwrap().to_owned());
    tour.change(
        "delete /users/{id}/totp",
        &format!("{path}/totp"),
        None,
        "totp.removed",
    )
    .await;
    for name in ["access_token", "refresh_token"] {
        tour.planted.push(tokens[name].as_str().unwrap().to_owned());
    }
    let password = Some(json!({ "password": "another horse battery" }));
    tour.change(
        "put /users/{id}/password",
        &format!("{path}/password"),
        password,
        "user.password_changed",
    )
    .await;
    tour.change("delete /users/{id}", &path, None, "user.deleted")
        .await;

    let role = json!({ "permissions": ["platform.read"] });
    let operation = "put /roles/{name}/permissions";
    tour.change(
        operation,
        "/roles/deployer/permissions",
        Some(role),
        "role.permissions_set",
    )
    .await;
    tour.change(
        "delete /roles/{name}",
        "/roles/deployer",
        None,
        "role.deleted",
    )
    .await;
    let key = tour
        .change(
            "post /token-keys",
            "/token-keys",
            Some(json!({})),
            "token_key.created",
        )
        .await;
    let key: Value = key.json();
    let path = format!("/token-keys/{}", key["id"].as_str().unwrap());
    tour.change("delete /token-keys/{id}", &path, None, "token_key.revoked")
        .await;
}
