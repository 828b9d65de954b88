//! Tests of expansions that need no compiler.

use proc_macro2::{TokenStream, TokenTree};
use quote::quote;

use crate::expand::{activity, event, orchestration};

/// Returns the first names of the paths that begin with `::`.
fn roots(tokens: TokenStream) -> Vec<String> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    let mut roots = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => roots.extend(self::roots(group.stream())),
            TokenTree::Ident(name) if at >= 2 && is_colon(at - 1) && is_colon(at - 2) => {
                let within = at >= 3
                    && match &tokens[at - 3] {
                        TokenTree::Ident(before) => before != "as" && before != "static",
                        TokenTree::Punct(punct) => punct.as_char() == '>',
                        _ => false,
                    };
                if !within {
                    roots.push(name.to_string());
                }
            }
            _ => {}
        }
    }
    roots.sort();
    roots.dedup();
    roots
}

fn function() -> TokenStream {
    quote! {
        /// Does it.
        pub async fn work(ctx: OrchestrationContext, a: u8, b: u8) -> Result<u8, String> { Ok(a + b) }
    }
}

#[test]
fn expansion_names_only_core_and_the_library() {
    let of_activity = quote!(
        pub async fn work(State(s): State<u8>, a: u8, b: u8) -> Result<u8, String> {
            Ok(a + b + s)
        }
    );
    let args = quote!(timeout = "1s", retry(max_attempts = 3, if = String::is_empty));
    assert_eq!(roots(activity(args, of_activity)), ["core", "duroxide"]);
    assert_eq!(roots(orchestration(quote!(version = "1.0.0"), function())), ["core", "duroxide"]);
    assert_eq!(
        roots(event(
            quote!(),
            quote!(
                struct Done {
                    at: u8,
                }
            )
        )),
        ["core", "duroxide"]
    );
}

#[test]
fn another_root_replaces_the_library_everywhere() {
    let expanded = [
        orchestration(quote!(crate = engine), function()),
        event(
            quote!(crate = engine),
            quote!(
                struct Done;
            ),
        ),
    ];
    for tokens in expanded {
        let text = tokens.to_string();
        assert!(text.contains("engine :: __private") && !text.contains("duroxide"), "{text}");
    }
}

#[test]
fn half_typed_body_is_emitted_unchanged() {
    let body = quote!({ let total = ctx. ; if total > { charge:: } });
    let item = quote!(async fn work(ctx: OrchestrationContext) -> Result<(), String> #body);
    let text = orchestration(quote!(), item).to_string();
    assert!(text.contains(&body.to_string()), "{text}");
    assert!(text.contains("fn call") && !text.contains("compile_error"), "{text}");
}

#[test]
fn wrong_function_still_has_its_methods() {
    let item = quote!(
        fn work(order: &str) -> u32 {
            5
        }
    );
    let text = orchestration(quote!(), item).to_string();
    assert_eq!(text.matches("compile_error").count(), 4, "{text}");
    for part in ["fn work (order : & str)", "enum work { }", "fn call", "fn start", "fn handle", "fn continue_as_new"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn item_that_is_no_function_is_emitted_unchanged() {
    let item = quote!(
        struct Work {
            a: u8,
        }
    );
    let text = activity(quote!(), item.clone()).to_string();
    assert!(text.starts_with(&item.to_string()) && text.matches("compile_error").count() == 1, "{text}");
}

#[test]
fn contract_has_no_function_and_an_entry_of_its_own() {
    let text = activity(
        quote!(),
        quote!(
            async fn ship(order: u8) -> Result<(), String>;
        ),
    )
    .to_string();
    assert!(text.contains("submit !") && text.contains("Contract :: activity"), "{text}");
    for part in ["async fn ship", "Descriptor", "ActivityFn"] {
        assert!(!text.contains(part), "{part}: {text}");
    }
}

#[test]
fn first_line_of_the_documentation_is_kept() {
    let text = orchestration(quote!(), function()).to_string();
    assert!(text.contains("doc : \"Does it.\""), "{text}");
}

#[test]
fn documentation_shows_the_function_with_its_limits() {
    let args = quote!(
        name = "do-it",
        timeout = "90s",
        retry(max_attempts = 3, initial_interval = "200ms", if = Failure::is_transient)
    );
    let item = quote!(
        /// Does it.
        pub async fn work(State(s): State<u8>, a: u8) -> Result<u8, String> {
            Ok(a + s)
        }
    );
    let text = activity(args, item).to_string();
    for part in [
        "# Activity",
        "`work::call(&ctx, a)` calls it from an orchestration",
        "its recorded name is `do-it`",
        "attempted up to 3 times, if `Failure::is_transient` accepts the error; the first pause is `200ms`",
        "an attempt is limited to `1m 30s`",
        "# [doc (hidden)] # [allow (non_camel_case_types",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = orchestration(quote!(version = "1.2.0"), function()).to_string();
    for part in ["`work::start(&client, id, a, b)`", "`work::call(&ctx, a, b)`", "version `1.2.0`"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
