//! Turns unwanted clients away and stamps what passes.

use gantry_sdk::prelude::*;

#[gantry_sdk::request_filter]
fn check(request: Request) -> Result<Changes> {
    let blocked = config::require("blocked")?;
    let agent = request.header("user-agent").unwrap_or_default();
    let mut words = blocked.split(',').map(str::trim);
    if words.any(|word| !word.is_empty() && agent.contains(word)) {
        return Err(Error::forbidden(
            "guard.blocked",
            "this client is not welcome",
        ));
    }
    Ok(Changes::none().set_header("x-guard", "passed"))
}

#[gantry_sdk::response_filter]
fn stamp(_response: Response) -> Result<Changes> {
    Ok(Changes::none().set_header("x-guarded-by", "guard/0.1"))
}

#[cfg(test)]
mod tests {
    use gantry_sdk::testing::TestApp;

    use super::*;

    fn app() -> TestApp {
        TestApp::handler(|request: Request| request.header("x-guard").unwrap_or_default())
            .request_filter(check)
            .response_filter(stamp)
            .config("blocked", "badbot, scraper")
    }

    #[test]
    fn who_is_welcome_passes_with_a_stamp() {
        let answer = app()
            .request("GET", "/")
            .header("user-agent", "curl/8")
            .send();

        assert_eq!((answer.status(), answer.text()), (200, "passed"));
        assert_eq!(answer.header("x-guarded-by"), Some("guard/0.1"));
    }

    #[test]
    fn who_is_not_welcome_is_told_so() {
        let answer = app()
            .request("GET", "/")
            .header("user-agent", "a scraper of pages")
            .send();

        assert_eq!((answer.status(), &*answer.code()), (403, "guard.blocked"));
    }
}
