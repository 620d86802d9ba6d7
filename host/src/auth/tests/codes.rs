//! One-time codes, when somebody has many of them made.

use super::*;
use crate::auth::codes::Purpose;

const LIFE_MS: i64 = 24 * 3_600_000;

impl Host {
    async fn make_code(&self, purpose: Purpose, subject: &str) -> String {
        let mut transaction = self.auth.inner.store.db.begin().await.unwrap();
        let (codes, now_ms) = (&self.auth.inner.codes, self.clock.now_ms());
        let tx = &mut transaction;
        let made = codes.make(tx, purpose, subject, "", LIFE_MS, now_ms).await;
        transaction.commit().await.unwrap();
        made.unwrap().unwrap()
    }

    async fn is_good(&self, purpose: Purpose, code: &str) -> bool {
        let mut transaction = self.auth.inner.store.db.begin().await.unwrap();
        let (codes, now_ms) = (&self.auth.inner.codes, self.clock.now_ms());
        let checked = codes.check(&mut transaction, purpose, code, now_ms).await;
        transaction.commit().await.unwrap();
        checked.unwrap().is_ok()
    }
}

#[tokio::test]
async fn strangers_who_have_codes_made_keep_nobody_else_from_having_one() {
    let host = Host::start_with(|config| config.codes_max = 3).await;
    let reset = host
        .make_code(Purpose::ResetPassword, "ann@example.org")
        .await;
    let login = host.make_code(Purpose::ProviderLogin, "login 1").await;
    for purpose in [Purpose::Register, Purpose::Notice] {
        let mut made = Vec::new();
        for at in 0..10 {
            host.clock.advance_ms(1);
            let subject = format!("{at}@stranger.example");
            made.push(host.make_code(purpose, &subject).await);
        }
        for (at, code) in made.iter().enumerate() {
            assert_eq!(
                host.is_good(purpose, code).await,
                at >= 7,
                "{purpose:?} {at}"
            );
        }
    }
    assert!(host.is_good(Purpose::ResetPassword, &reset).await);
    assert!(host.is_good(Purpose::ProviderLogin, &login).await);
    for purpose in [Purpose::ResetPassword, Purpose::ProviderLogin] {
        let code = host.make_code(purpose, "bob@example.org").await;
        assert!(host.is_good(purpose, &code).await, "{purpose:?}");
    }
}
