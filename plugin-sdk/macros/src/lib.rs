//! The attributes of `gantry-sdk`. They only need a function's name, so there is no parser to compile (no `syn`).
//! They are documented where authors meet them: in `gantry_sdk`.

use proc_macro::{TokenStream, TokenTree};

/// `#[gantry_sdk::main]` on `fn app() -> Router`.
#[proc_macro_attribute]
pub fn main(_options: TokenStream, item: TokenStream) -> TokenStream {
    export(
        item,
        HANDLER,
        "::gantry_sdk::__rt::serve(request, |r| NAME().handle(r))",
    )
}

/// `#[gantry_sdk::handler]` on a function that answers every request of the plugin.
#[proc_macro_attribute]
pub fn handler(_options: TokenStream, item: TokenStream) -> TokenStream {
    export(
        item,
        HANDLER,
        "::gantry_sdk::__rt::serve(request, |r| ::gantry_sdk::Handler::call(&NAME, r))",
    )
}

/// `#[gantry_sdk::transform]` on a function that turns one document into another.
#[proc_macro_attribute]
pub fn transform(_options: TokenStream, item: TokenStream) -> TokenStream {
    export(
        item,
        TRANSFORMATION,
        "::gantry_sdk::__rt::transform(input, &params, &NAME)",
    )
}

/// `#[gantry_sdk::test]` on `fn name(host: &mut RealHost)`; with a path in parentheses, for the plugin there.
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    let Some(name) = function_name(item.clone()) else {
        return source("::core::compile_error!(\"this attribute goes on a function\");");
    };
    let folder = if options.is_empty() {
        "\".\"".to_owned()
    } else {
        options.to_string()
    };
    // The function keeps its name inside of the test that cargo sees.
    source(&format!(
        "#[::core::prelude::v1::test]
         fn {name}() {{
             {item}
             let folder = ::core::concat!(::core::env!(\"CARGO_MANIFEST_DIR\"), \"/\", {folder});
             {name}(&mut ::gantry_sdk::testing::RealHost::start(folder));
         }}"
    ))
}

/// `#[gantry_sdk::health]` on a function that says whether this version may answer.
#[proc_macro_attribute]
pub fn health(_options: TokenStream, item: TokenStream) -> TokenStream {
    export(item, HEALTH, "::gantry_sdk::__rt::hook(NAME)")
}

/// `#[gantry_sdk::migrate]` on a function that brings the plugin's data to this version.
#[proc_macro_attribute]
pub fn migrate(_options: TokenStream, item: TokenStream) -> TokenStream {
    export(item, MIGRATE, "::gantry_sdk::__rt::hook(NAME)")
}

const HEALTH: &str = "
    impl ::gantry_sdk::__rt::HealthGuest for __Plugin {
        fn check() -> ::core::result::Result<(), ::gantry_sdk::__rt::WitError> {
            CALL
        }
    }
    ::gantry_sdk::__rt::export_checked!(__Plugin);";

const MIGRATE: &str = "
    impl ::gantry_sdk::__rt::MigrateGuest for __Plugin {
        fn migrate() -> ::core::result::Result<(), ::gantry_sdk::__rt::WitError> {
            CALL
        }
    }
    ::gantry_sdk::__rt::export_migrating!(__Plugin);";

/// `#[gantry_sdk::request_filter]` on a function that looks at requests to other plugins.
#[proc_macro_attribute]
pub fn request_filter(_options: TokenStream, item: TokenStream) -> TokenStream {
    export(
        item,
        REQUEST_FILTER,
        "::gantry_sdk::__rt::before(request, &NAME)",
    )
}

/// `#[gantry_sdk::response_filter]` on a function that looks at responses of other plugins.
#[proc_macro_attribute]
pub fn response_filter(_options: TokenStream, item: TokenStream) -> TokenStream {
    export(
        item,
        RESPONSE_FILTER,
        "::gantry_sdk::__rt::after(response, &NAME)",
    )
}

const REQUEST_FILTER: &str = "
    impl ::gantry_sdk::__rt::RequestFilterGuest for __Plugin {
        fn before(
            request: ::gantry_sdk::__rt::WitRequest,
        ) -> ::core::result::Result<::gantry_sdk::__rt::WitVerdict, ::gantry_sdk::__rt::WitError> {
            CALL
        }
    }
    ::gantry_sdk::__rt::export_filtering_requests!(__Plugin);";

const RESPONSE_FILTER: &str = "
    impl ::gantry_sdk::__rt::ResponseFilterGuest for __Plugin {
        fn after(
            response: ::gantry_sdk::__rt::WitResponse,
        ) -> ::core::result::Result<::gantry_sdk::__rt::WitVerdict, ::gantry_sdk::__rt::WitError> {
            CALL
        }
    }
    ::gantry_sdk::__rt::export_filtering_responses!(__Plugin);";

const HANDLER: &str = "
    impl ::gantry_sdk::__rt::HandlerGuest for __Plugin {
        fn handle(
            request: ::gantry_sdk::__rt::WitRequest,
        ) -> ::core::result::Result<::gantry_sdk::__rt::WitResponse, ::gantry_sdk::__rt::WitError> {
            CALL
        }
    }
    ::gantry_sdk::__rt::export_module!(__Plugin);";

const TRANSFORMATION: &str = "
    impl ::gantry_sdk::__rt::TransformGuest for __Plugin {
        fn transform(
            input: ::gantry_sdk::__rt::WitDocument,
            params: ::std::string::String,
        ) -> ::core::result::Result<::gantry_sdk::__rt::WitDocument, ::gantry_sdk::__rt::WitError> {
            CALL
        }
    }
    ::gantry_sdk::__rt::export_transformation!(__Plugin);";

/// Puts the export of a component behind the function. Natively the function stays a function, so that tests can
/// call it; naming it in a constant keeps the compiler from calling it unused.
fn export(item: TokenStream, implementation: &str, call: &str) -> TokenStream {
    let Some(name) = function_name(item.clone()) else {
        return source("::core::compile_error!(\"this attribute goes on a function\");");
    };
    let implementation = implementation.replace("CALL", &call.replace("NAME", &name));
    // The host hands arguments over by value, whether the function needs them so or not.
    let mut output =
        source("#[allow(clippy::needless_pass_by_value, reason = \"arguments come by value\")]");
    output.extend(item);
    output.extend(source(&format!(
        "#[cfg(target_family = \"wasm\")]
         const _: () = {{ struct __Plugin; {implementation} }};
         #[cfg(not(target_family = \"wasm\"))]
         const _: () = {{ let _ = &{name}; }};"
    )));
    output
}

fn function_name(item: TokenStream) -> Option<String> {
    let mut tokens = item.into_iter();
    tokens.find(|token| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn"))?;
    match tokens.next() {
        Some(TokenTree::Ident(name)) => Some(name.to_string()),
        _ => None,
    }
}

fn source(text: &str) -> TokenStream {
    text.parse()
        .expect("the glue of an attribute is valid Rust")
}
