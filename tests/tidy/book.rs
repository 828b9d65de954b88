//! Checks of the pages: the index, the examples, and the code on the pages.

use super::{code_of, files, is_test, root};

fn page(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn index_lists_every_page() {
    let index = page("docs/README.md");
    let mut pages: Vec<_> = files("docs", ".md").into_iter().map(|(path, _)| path).collect();
    pages.retain(|path| path != "docs/README.md");
    assert!(pages.len() > 20, "{pages:?}");
    let mut links: Vec<_> = pages.iter().map(|path| path.replacen("docs/", "", 1)).collect();
    links.extend(["../QUICK_START.md".to_owned(), "../examples/README.md".to_owned()]);
    links.retain(|link| !index.contains(&format!("]({link})")));
    assert!(links.is_empty(), "docs/README.md does not link to {links:?}");
}

#[test]
fn index_of_examples_lists_every_example() {
    let (index, manifest) = (page("examples/README.md"), page("examples/Cargo.toml"));
    let names = manifest.split("[[example]]\nname = \"").skip(1).filter_map(|rest| rest.split('"').next());
    let commands: Vec<_> = names.map(|name| format!("cargo run --example {name}`")).collect();
    assert!(commands.len() > 9, "{commands:?}");
    let missing: Vec<_> = commands.iter().filter(|command| !index.contains(*command)).collect();
    assert!(missing.is_empty(), "examples/README.md lacks {missing:?}");
}

#[test]
fn code_on_every_page_is_compiled() {
    let library: String = ["duroxide/src", "duroxide-postgres/src"]
        .iter()
        .flat_map(|folder| files(folder, ".rs"))
        .map(|(_, text)| text)
        .collect();
    let mut pages = files("docs", ".md");
    pages.extend(["README.md", "QUICK_START.md"].map(|path| (path.to_owned(), page(path))));
    for (path, text) in pages {
        // A list of doctests names the path as a literal, with or without a prefix.
        let is_included = library.contains(&format!("{path}\""));
        assert!(
            is_included || !text.contains("```rust"),
            "the code on {path} is not compiled: see duroxide/src/book.rs"
        );
        assert!(!text.contains("```rust,ignore"), "{path} has code that is not compiled");
    }
}

/// The pages without a program that the tests run, each with the reason.
const WITHOUT_PROGRAM: &[(&str, &str)] = &[
    ("docs/README.md", "the index"),
    ("docs/errors.md", "a reference"),
    ("docs/performance.md", "figures; the programs are in benches/"),
    ("docs/reliability.md", "a list of tests"),
    ("docs/lost-answers.md", "a protocol; docs/provider-testing-guide.md has a program that loses answers"),
    ("docs/provider-implementation-guide.md", "the program is the example toy_provider"),
    ("docs/postgres.md", "the program needs a server, and is compiled"),
];

/// The number of lines within which a page has its picture.
const PICTURE_WITHIN: usize = 45;

/// Returns the blocks of a page: the line, the words behind the opening fence, and the content.
fn blocks(page: &str) -> Vec<(usize, &str, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, &str, String)> = None;
    for (number, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(words), None) => open = Some((number + 1, words, String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((.., content))) => content.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn page_has_a_picture_first_and_a_program() {
    let mut pages = files("docs", ".md");
    pages.push(("QUICK_START.md".to_owned(), page("QUICK_START.md")));
    let mut wrong = Vec::new();
    for (path, text) in pages {
        let blocks = blocks(&text);
        let is_picture = |(line, words, content): &(usize, &str, String)| {
            *line <= PICTURE_WITHIN && *words == "text" && content.contains(['─', '│', '►', '═', '|'])
        };
        let is_program = |(_, words, content): &(usize, &str, String)| {
            let is_run = words.starts_with("rust") && !words.contains("no_run") && !words.contains("compile_fail");
            is_run && content.contains("fn main()")
        };
        if path != "docs/README.md" && !blocks.iter().any(is_picture) {
            wrong.push(format!("{path}: no picture within {PICTURE_WITHIN} lines"));
        }
        let may_lack = WITHOUT_PROGRAM.iter().any(|(page, _)| *page == path);
        if blocks.iter().any(is_program) == may_lack {
            wrong.push(format!(
                "{path}: {}",
                if may_lack { "has a program: remove it from the list" } else { "no program that is run" }
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The names of the tools of tests, for which the rules of [`public_functions_follow_the_guidelines`] on documentation do
/// not hold.
const TOOLS: &[&str] = &["duroxide/src/testing/", "duroxide/src/provider/conformance/", "duroxide/src/__private.rs"];

/// A public function: its documentation and attributes, and its signature on one line.
struct Function {
    about: String,
    signature: String,
}

/// Returns the public functions of a file.
fn public_functions(code: &str) -> Vec<Function> {
    let mut functions = Vec::new();
    let mut about = String::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if line.starts_with("pub ") && line.contains("fn ") && !line.starts_with("pub use") {
            let mut signature = line.to_owned();
            while !signature.ends_with(['{', ';', '}']) {
                let Some(line) = lines.next() else { break };
                signature += line.trim();
            }
            functions.push(Function { about: std::mem::take(&mut about), signature });
        } else if line.starts_with("///") || line.starts_with("#[") {
            about += line;
            about.push('\n');
        } else {
            about.clear();
        }
    }
    functions
}

/// Returns the rules of docs/consistency-guidelines.md that a public function breaks.
fn broken_rules(function: &Function) -> impl Iterator<Item = &'static str> {
    let Function { about, signature } = function;
    let name = signature.split("fn ").nth(1).unwrap_or_default();
    let result = signature.rsplit_once("-> ").map_or("", |(_, result)| result);
    let rules = [
        (name.starts_with("get_"), "a getter has the name of its field"),
        (name.starts_with("is_") && !result.starts_with("bool"), "`is_..` returns a bool"),
        (
            about.starts_with("/// Whether") || about.starts_with("/// The same"),
            "the first line is a verb phrase or a noun",
        ),
        (
            result.starts_with("Result<") && !about.contains("# Errors"),
            "a function that can fail has a section `# Errors`",
        ),
        (
            signature.starts_with("pub async fn") && !about.contains("# Cancel safety"),
            "an async function has a section `# Cancel safety`",
        ),
    ];
    rules.into_iter().filter_map(|(is_broken, rule)| is_broken.then_some(rule))
}

#[test]
fn public_functions_follow_the_guidelines() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (path, text) in ["duroxide/src", "duroxide-postgres/src"].iter().flat_map(|folder| files(folder, ".rs")) {
        if is_test(&path) || TOOLS.iter().any(|tool| path.starts_with(tool)) {
            continue;
        }
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for function in public_functions(code) {
            count += 1;
            wrong.extend(broken_rules(&function).map(|rule| format!("{path}: {rule}: {}", function.signature)));
        }
    }
    assert!(count > 150, "only {count} functions");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The calls of orchestrations and clients, each with its twin that takes the name as a text.
const TWINS: &[(&str, &str, &str)] = &[
    ("duroxide/src/orchestration/context.rs", "event", "event_named"),
    ("duroxide/src/orchestration/context.rs", "try_event", "try_event_named"),
    ("duroxide/src/orchestration/context.rs", "drain", "drain_named"),
    ("duroxide/src/client/handle.rs", "raise", "raise_named"),
    ("duroxide/src/client/handle.rs", "result", "result_as"),
];

#[test]
fn typed_calls_have_a_twin_by_name() {
    for (path, typed, named) in TWINS {
        let code = code_of(&page(path));
        for name in [typed, named] {
            let method = code.contains(&format!("fn {name}<")) || code.contains(&format!("fn {name}("));
            assert!(method, "{path} has no `{name}`, of the twins `{typed}` and `{named}`");
        }
    }
}
