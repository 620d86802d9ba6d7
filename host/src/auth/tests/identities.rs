//! Whose account somebody gets who comes from a provider, and what others try with it.

use super::*;
use crate::auth::providers::Found;

const PROVIDERS: &str = "
public_url = 'https://shop.example'
[[providers]]
name = 'strict'
kind = 'oidc'
issuer = 'https://strict.example'
client_id = 'us'
[[providers]]
name = 'open'
kind = 'oidc'
issuer = 'https://open.example'
client_id = 'us'
may_sign_up = true
links_by_email = true
roles = ['customer']
[[providers]]
name = 'firm'
kind = 'oidc'
issuer = 'https://firm.example'
client_id = 'us'
may_sign_up = true
email_domains = ['firm.example']
";

async fn host() -> Host {
    let parsed: Config = toml::from_str(PROVIDERS).unwrap();
    let host = Host::start_with(|config| {
        config.public_url = parsed.public_url;
        config.providers = parsed.providers;
    })
    .await;
    let none: &[&str] = &[];
    host.auth.create_role(name("customer"), none).await.unwrap();
    host
}

fn found(provider: &str, subject: &str, email: &str, has_verified_email: bool) -> Found {
    Found {
        issuer: format!("https://{provider}.example"),
        subject: subject.to_owned(),
        email: (!email.is_empty()).then(|| email.to_owned()),
        has_verified_email,
    }
}

impl Host {
    /// The account that somebody gets, or the code of the refusal.
    async fn come(&self, provider: &str, found: &Found) -> Result<UserId, &'static str> {
        let live = self.auth.inner.providers.find(provider).unwrap();
        let account = self.auth.account_of(live, found).await;
        account
            .map(|account| account.user.id)
            .map_err(|error| error.code())
    }

    async fn confirm(&self, user: UserId) {
        let store = &self.auth.inner.store;
        let mut transaction = store.db.begin().await.unwrap();
        assert!(store.confirm_email(&mut transaction, user).await.unwrap());
        transaction.commit().await.unwrap();
    }
}

#[tokio::test]
async fn an_address_alone_opens_no_account_of_somebody_else() {
    let host = host().await;
    let ann = host.add_user("ann@example.org", &[]).await;
    // Nobody has confirmed yet that the address is that of the account: whoever made it may be somebody else.
    for (provider, is_verified, wanted) in [
        ("strict", true, "auth.identity_not_linked"),
        ("strict", false, "auth.identity_unknown"),
        ("open", true, "auth.identity_not_linked"),
        ("open", false, "auth.identity_unknown"),
    ] {
        let found = found(provider, "1", "ann@example.org", is_verified);
        assert_eq!(
            host.come(provider, &found).await,
            Err(wanted),
            "{provider} {is_verified}"
        );
    }
    host.confirm(ann.id).await;
    for (provider, is_verified, wanted) in [
        ("strict", true, Err("auth.identity_not_linked")),
        ("open", false, Err("auth.identity_unknown")),
        ("open", true, Ok(ann.id)),
    ] {
        let found = found(provider, "1", "ann@example.org", is_verified);
        assert_eq!(
            host.come(provider, &found).await,
            wanted,
            "{provider} {is_verified}"
        );
    }
    // Linked is linked, whatever becomes of the address there. Another subject with it is somebody else.
    let moved = found("open", "1", "ann@other.example", false);
    assert_eq!(host.come("open", &moved).await, Ok(ann.id));
    let same_subject = found("strict", "1", "", false);
    assert_eq!(
        host.come("strict", &same_subject).await,
        Err("auth.identity_unknown")
    );
    let linked = host.auth.list_identities(ann.id).await.unwrap();
    let linked: Vec<_> = linked
        .iter()
        .map(|one| (&*one.provider, one.email.as_deref()))
        .collect();
    assert_eq!(linked, [("open", Some("ann@other.example"))]);
}

#[tokio::test]
async fn people_sign_up_where_they_may_and_only_with_addresses_that_are_theirs() {
    let host = host().await;
    let bob = found("open", "7", "bob@example.org", true);
    let id = host.come("open", &bob).await.unwrap();
    assert_eq!(host.come("open", &bob).await, Ok(id));
    let user = host.auth.find_user(id).await.unwrap().unwrap();
    assert_eq!(
        (&*user.email, user.roles),
        ("bob@example.org", names(&["customer"]))
    );
    // There is no password that opens it.
    for password in ["", PASSWORD] {
        let login = host
            .auth
            .log_in("bob@example.org", password, "192.0.2.1")
            .await;
        assert_eq!(login.unwrap_err().code(), "auth.credentials_wrong");
    }
    for (provider, email, is_verified, wanted) in [
        ("strict", "cid@example.org", true, "auth.identity_unknown"),
        // There is no mail server to confirm it with.
        ("open", "cid@example.org", false, "auth.identity_unknown"),
        ("open", "", false, "auth.identity_unknown"),
        ("firm", "cid@example.org", true, "auth.email_not_allowed"),
        ("firm", "cid@firm.example", false, "auth.email_not_allowed"),
        (
            "firm",
            "cid@not-firm.example",
            true,
            "auth.email_not_allowed",
        ),
        ("firm", "", true, "auth.email_not_allowed"),
    ] {
        let found = found(provider, "9", email, is_verified);
        assert_eq!(
            host.come(provider, &found).await,
            Err(wanted),
            "{provider} {email}"
        );
    }
    let cid = found("firm", "9", "cid@firm.example", true);
    let cid = host.come("firm", &cid).await.unwrap();
    // Who has left the firm does not come in with the login that stayed.
    let gone = found("firm", "9", "cid@example.org", true);
    assert_eq!(
        host.come("firm", &gone).await,
        Err("auth.email_not_allowed")
    );
    host.auth.set_disabled(cid, true).await.unwrap();
    let cid = found("firm", "9", "cid@firm.example", true);
    assert_eq!(host.come("firm", &cid).await, Err("auth.account_disabled"));
    assert_eq!(host.auth.count_users(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn first_logins_at_once_make_one_account() {
    let host = host().await;
    let bob = found("open", "7", "bob@example.org", true);
    let came = (0..20).map(|_| host.come("open", &bob));
    let came = futures_util::future::join_all(came).await;
    let first = came[0].unwrap();
    assert!(came.iter().all(|one| *one == Ok(first)), "{came:?}");
    assert_eq!(host.auth.count_users(), 1);
    assert_eq!(host.auth.list_identities(first).await.unwrap().len(), 1);
    // Two subjects with one address: one account, and the other is told to link.
    let cids = ["8", "9"].map(|subject| found("firm", subject, "cid@firm.example", true));
    let came = futures_util::future::join_all(cids.iter().map(|cid| host.come("firm", cid))).await;
    assert_eq!(came.iter().filter(|one| one.is_ok()).count(), 1, "{came:?}");
    assert!(came.contains(&Err("auth.identity_not_linked")), "{came:?}");
    assert_eq!(host.auth.count_users(), 2);
}

#[tokio::test]
async fn the_last_way_to_log_in_stays_and_changes_take_a_fresh_login() {
    let host = host().await;
    let bob = found("open", "7", "bob@example.org", true);
    let id = host.come("open", &bob).await.unwrap();
    let one = host.auth.list_identities(id).await.unwrap()[0].id;
    let tokens = host
        .auth
        .begin_session(id, 1, &"192.0.2.1".into())
        .await
        .unwrap();
    let whose = (id, Some(tokens.session));
    let unlink = async |whose, one| {
        host.auth
            .unlink_identity(whose, one)
            .await
            .map_err(|error| error.code())
    };
    assert_eq!(unlink(whose, one).await, Err("auth.identity_last"));
    assert_eq!(unlink((id, None), one).await, Err("auth.login_not_fresh"));
    assert_eq!(
        unlink((UserId::new(), Some(tokens.session)), one).await,
        Err("auth.login_not_fresh")
    );
    host.auth.set_password(id, PASSWORD).await.unwrap();
    // A new password has ended the session.
    let tokens = host.token_of("bob@example.org").await;
    let tokens = host
        .auth
        .user_of(Some(&format!("Bearer {tokens}")))
        .unwrap()
        .unwrap();
    assert_eq!(
        unlink(tokens, crate::ids::IdentityId::new()).await,
        Err("auth.identity_not_found")
    );
    host.clock.advance_ms(10 * 60_000 + 1);
    assert_eq!(unlink(tokens, one).await, Err("auth.login_not_fresh"));
    let tokens = host.token_of("bob@example.org").await;
    let tokens = host
        .auth
        .user_of(Some(&format!("Bearer {tokens}")))
        .unwrap()
        .unwrap();
    assert_eq!(unlink(tokens, one).await, Ok(()));
    assert!(host.auth.list_identities(id).await.unwrap().is_empty());
    assert_eq!(
        host.come("strict", &found("strict", "7", "bob@example.org", true))
            .await,
        Err("auth.identity_not_linked")
    );
}

#[tokio::test]
async fn identities_go_with_their_account() {
    let host = host().await;
    let bob = found("open", "7", "bob@example.org", true);
    let first = host.come("open", &bob).await.unwrap();
    host.auth.delete_user(first).await.unwrap();
    assert!(host.auth.list_identities(first).await.unwrap().is_empty());
    let second = host.come("open", &bob).await.unwrap();
    assert_ne!(first, second);
}

#[tokio::test]
async fn nobody_gets_an_account_without_the_roles_that_settings_give_it() {
    let host = host().await;
    // Given by settings, so it stays.
    let kept = host.auth.delete_role(name("customer")).await.unwrap_err();
    assert_eq!(kept.code(), "auth.role_in_use");
    assert!(
        kept.to_string()
            .contains("`roles` of `open` in `auth.providers`"),
        "{kept}"
    );
    assert!(host.auth.missing_roles().is_empty());
    let gone = "DELETE FROM roles WHERE name = 'customer'";
    sqlx::query(gone).execute(host.db.writer()).await.unwrap();
    let everything = &mut crate::auth::Behind::everything();
    host.auth.catch_up(everything).await.unwrap();
    let [missing] = &host.auth.missing_roles()[..] else {
        panic!("one role is missing");
    };
    assert!(missing.contains("there is no role `customer`"), "{missing}");
    let bob = found("open", "7", "bob@example.org", true);
    assert_eq!(host.come("open", &bob).await, Err("auth.roles_missing"));
    let none: &[&str] = &[];
    host.auth.create_role(name("customer"), none).await.unwrap();
    assert!(host.come("open", &bob).await.is_ok());
}
