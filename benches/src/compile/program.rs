//! The measured programs: the same functions, once annotated and once as plain async functions.

use std::fmt::Write;

/// The number of modules. Each has [`ORCHESTRATIONS`] and [`ACTIVITIES`], on three types.
pub(super) const MODULES: usize = 10;
/// The number of orchestrations in a module.
pub(super) const ORCHESTRATIONS: usize = 5;
/// The number of activities in a module.
pub(super) const ACTIVITIES: usize = 10;

/// The kind of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Annotated functions.
    Durable,
    /// Plain functions with the same bodies, which call each other directly.
    Plain,
}

impl Kind {
    /// Returns the name of the package.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Plain => "plain",
        }
    }
}

/// Returns the manifest of the package; `library` is the folder of the library.
pub(super) fn manifest(kind: Kind, library: &str) -> String {
    let name = kind.name();
    format!(
        r#"[workspace]

[package]
name = "{name}"
version = "0.0.0"
edition = "2024"

[dependencies]
duroxide = {{ path = "{library}" }}
serde = {{ version = "1", features = ["derive"] }}
tokio = {{ version = "1", features = ["macros", "rt-multi-thread"] }}
"#
    )
}

/// Returns the root of the program.
pub(super) fn main(kind: Kind) -> String {
    let mut text = String::new();
    for module in 0..MODULES {
        let _ = writeln!(text, "mod m{module};");
    }
    text += "\n#[derive(Clone)]\npub struct Gateway {\n    pub fee: u64,\n}\n\n#[tokio::main]\n";
    match kind {
        Kind::Durable => {
            text += "async fn main() -> duroxide::Result<()> {
    let runtime = duroxide::Runtime::builder().in_memory().state(Gateway { fee: 1 }).start().await?;
    let order = m0::Order { id: 1, items: Vec::new(), cents: 5, note: None };
    let handle = m0::checkout_00::start(&runtime.client(), \"first\", order, true).await?;
    println!(\"{}\", handle.result().await?.label);
    runtime.shutdown().await?;
    Ok(())
}
";
        }
        Kind::Plain => {
            text += "async fn main() {\n    let mut sum = 0;\n";
            for module in 0..MODULES {
                let _ = writeln!(
                    text,
                    "    for one in m{module}::all() {{\n        sum += one.await.map_or(0, |receipt| receipt.cents);\n    }}"
                );
            }
            text += "    println!(\"{sum}\");\n}\n";
        }
    }
    text
}

/// Returns a module. Another `version` changes the body of one activity in each module.
pub(super) fn module(kind: Kind, module: usize, version: usize) -> String {
    let mut text = String::new();
    if kind == Kind::Durable {
        text += "use duroxide::prelude::*;\n";
    }
    text += TYPES;
    for index in 0..ACTIVITIES {
        text += &activity(kind, module, index, if index == 0 { version } else { module });
    }
    for index in 0..ORCHESTRATIONS {
        text += &orchestration(kind, module, index);
    }
    if kind == Kind::Plain {
        text += "\npub fn all() -> Vec<std::pin::Pin<Box<dyn Future<Output = Result<Receipt, Failure>> + Send>>> {
    let order = || Order { id: 1, items: Vec::new(), cents: 5, note: None };
    vec![\n";
        for index in 0..ORCHESTRATIONS {
            let _ = writeln!(text, "        Box::pin(checkout_{module}{index}(order(), true)),");
        }
        text += "    ]\n}\n";
    }
    text
}

const TYPES: &str = r#"
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Order {
    pub id: u64,
    pub items: Vec<String>,
    pub cents: u64,
    pub note: Option<String>,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Receipt {
    pub label: String,
    pub cents: u64,
    pub express: bool,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub enum Failure {
    Declined { reason: String },
    Unavailable,
    Call(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Failure {}
"#;

/// Returns an activity: of ten, four have one input, three have two, and three have three and a state.
fn activity(kind: Kind, module: usize, index: usize, constant: usize) -> String {
    let (attribute, state) = match kind {
        Kind::Durable => (
            if index.is_multiple_of(2) {
                "#[activity]\n"
            } else {
                "#[activity(timeout = \"30s\", retry(max_attempts = 3))]\n"
            },
            "State(gateway): State<crate::Gateway>",
        ),
        Kind::Plain => ("", "gateway: crate::Gateway"),
    };
    let signature_and_body = match index {
        0..4 => format!(
            "(order: Order) -> Result<Receipt, Failure> {{
    if order.items.len() > {constant} + 100 {{
        return Err(Failure::Unavailable);
    }}
    Ok(Receipt {{ label: format!(\"{{}}-{{}}\", order.id, {constant}), cents: order.cents, express: false }})
}}"
        ),
        4..7 => format!(
            "(order: Order, express: bool) -> Result<Receipt, Failure> {{
    tokio::task::yield_now().await;
    let label = order.note.unwrap_or_else(|| \"{constant}\".to_owned());
    Ok(Receipt {{ label, cents: order.cents, express }})
}}"
        ),
        _ => format!(
            "({state}, label: String, cents: u64, receipts: Vec<Receipt>) -> Result<Receipt, Failure> {{
    if cents == {constant} {{
        return Err(Failure::Declined {{ reason: label }});
    }}
    tokio::task::yield_now().await;
    let sum: u64 = receipts.iter().map(|receipt| receipt.cents).sum();
    Ok(Receipt {{ label, cents: sum + gateway.fee, express: false }})
}}"
        ),
    };
    format!("\n/// Does step {index}.\n{attribute}pub async fn step_{module}{index}{signature_and_body}\n")
}

/// Returns an orchestration that calls three activities, with one input, with two, and with three and a state.
fn orchestration(kind: Kind, module: usize, index: usize) -> String {
    let (one, two, three) = (index % 4, 4 + index % 3, 7 + index % 3);
    let (attribute, context, call, state, convert) = match kind {
        Kind::Durable => (
            "#[orchestration]\n",
            "ctx: OrchestrationContext, ",
            "::call(&ctx, ",
            "",
            ".map_err(|error| Failure::Call(error.to_string()))",
        ),
        Kind::Plain => ("", "", "(", "crate::Gateway { fee: 1 }, ", ""),
    };
    format!(
        "
/// Checks out.
{attribute}pub async fn checkout_{module}{index}({context}order: Order, express: bool) -> Result<Receipt, Failure> {{
    let first = step_{module}{one}{call}order.clone()).await{convert}?;
    let second = step_{module}{two}{call}order.clone(), express).await{convert}?;
    let receipts = vec![first, second];
    step_{module}{three}{call}{state}order.id.to_string(), order.cents, receipts).await{convert}
}}
"
    )
}

/// Returns a library with one activity, of three inputs and a state: the lines of its expansion are counted.
pub(super) const ONE_ACTIVITY: &str = "use duroxide::prelude::*;

/// Charges.
#[activity(timeout = \"30s\", retry(max_attempts = 3))]
pub async fn charge(State(gateway): State<u64>, label: String, cents: u64, express: bool) -> Result<String, String> {
    Ok(format!(\"{gateway} {label} {cents} {express}\"))
}
";
