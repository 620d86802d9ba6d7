//! Greets whoever asks.

use gantry_sdk::prelude::*;

#[gantry_sdk::handler]
fn hello(Path(name): Path<String>) -> String {
    format!("Hello, {name}!")
}

#[cfg(test)]
mod tests {
    use gantry_sdk::testing::TestApp;

    use super::*;

    #[test]
    fn a_name_is_greeted() {
        let app = TestApp::handler(hello);

        let response = app.request("GET", "/hello/Ann").param("name", "Ann").send();

        assert_eq!(response.text(), "Hello, Ann!");
    }
}
