//! Checks the rules of this repository that the compiler does not know.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Returns all files in and below a folder whose names end so, each as its path from the root and its content.
fn files(under: &str, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(under)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(ending) {
                let relative = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
                found.push((relative, std::fs::read_to_string(&path).expect("a text")));
            }
        }
    }
    found.sort();
    found
}

/// The modules of the library that each module may use. `testing` may use all, and all may use `telemetry`.
const MAY_USE: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("clock", &[]),
    ("payload", &[]),
    ("policy", &["payload"]),
    ("error", &["id", "history"]),
    ("history", &["id", "clock", "payload", "policy"]),
    ("message", &["id", "clock", "payload", "history"]),
    ("telemetry", &[]),
    ("replay", &["id", "clock", "payload", "policy", "error", "history", "message", "orchestration"]),
    ("orchestration", &["id", "clock", "payload", "policy", "error", "history", "replay"]),
    ("activity", &["id", "clock", "payload", "policy", "error", "history", "replay"]),
    ("provider", &["id", "clock", "payload", "error", "history", "message"]),
    ("sqlite", &["id", "clock", "payload", "error", "history", "message", "provider"]),
    ("registry", &["id", "payload", "error", "history", "activity", "orchestration", "replay"]),
    (
        "client",
        &["id", "clock", "payload", "policy", "error", "history", "message", "provider", "orchestration", "runtime"],
    ),
    (
        "runtime",
        &[
            "id",
            "clock",
            "payload",
            "policy",
            "error",
            "history",
            "message",
            "provider",
            "registry",
            "orchestration",
            "activity",
            "replay",
            "client",
            "sqlite",
        ],
    ),
];

/// Returns the first name of a path; an empty text if the path begins with a sign.
fn first_name(path: &str) -> &str {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    &path[..end]
}

#[test]
fn module_dependencies_are_allowed() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (path, text) in files("duroxide/src", ".rs") {
        let module = path.trim_start_matches("duroxide/src/").split(['/', '.']).next().unwrap_or_default();
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else { continue };
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let is_test = path.contains("/tests/") || path.ends_with("tests.rs");
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//") && !is_test);
        for line in lines {
            assert!(!line.contains("crate::{"), "{path}: this test reads one `use crate::module` per line");
            for used in line.split("crate::").skip(1).map(first_name) {
                seen += 1;
                let known = MAY_USE.iter().any(|(name, _)| *name == used);
                if known && used != module && used != "telemetry" && !allowed.contains(&used) {
                    wrong.push(format!("{path}: `{module}` must not use `{used}`: {}", line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 100, "found only {seen} uses");
}

#[test]
fn replay_engine_is_pure() {
    for (path, text) in files("duroxide/src/replay", ".rs") {
        if path.contains("/tests/") {
            continue;
        }
        for word in ["tokio::", "SystemTime", "Instant::", "provider::", "SystemClock"] {
            assert!(!text.contains(word), "{path} names {word}");
        }
    }
}

#[test]
fn no_unfinished_code() {
    for folder in ["duroxide", "duroxide-macros", "examples", "tests", "ui-tests", "benches"] {
        for (path, text) in files(folder, ".rs") {
            if path == "tests/tidy.rs" {
                continue;
            }
            for word in ["todo!(", "unimplemented!(", "FIXME", "XXX"] {
                assert!(!text.contains(word), "{path} holds {word}");
            }
        }
    }
}

#[test]
fn tests_do_not_sleep() {
    for (path, text) in files("tests", ".rs") {
        if path == "tests/tidy.rs" {
            continue;
        }
        for word in ["thread::sleep", "thread::park_timeout", "time::interval", "use tokio::time::sleep"] {
            assert!(!text.contains(word), "{path} sleeps: {word}");
        }
        // A sleep of an hour is allowed: it models an activity that never ends, and no test waits for it.
        for line in text.lines().filter(|line| line.contains("time::sleep(")) {
            assert!(line.contains("3600"), "{path} sleeps: {line}");
        }
    }
}

#[test]
fn public_errors_are_types() {
    for (path, text) in files("duroxide/src", ".rs") {
        for signature in public_signatures(&text) {
            let text_error = signature.contains("Result<") && signature.contains(", String>");
            assert!(!text_error, "{path}: {signature}");
        }
    }
}

/// Returns the public signatures of a file, each from `pub fn` to its body, on one line. The methods of a public trait carry
/// no `pub`, so all of them count.
fn public_signatures(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let mut signatures: Vec<_> = ["pub fn ", "pub async fn ", "pub const fn "]
        .iter()
        .flat_map(|start| code.split(start).skip(1).map(|rest| rest.split(['{', ';']).next().unwrap_or_default()))
        .collect();
    for public_trait in code.split("pub trait ").skip(1) {
        let body = public_trait.split("}impl").next().unwrap_or_default();
        signatures.extend(body.split("fn ").skip(1).map(|rest| rest.split(['{', ';']).next().unwrap_or_default()));
    }
    signatures.into_iter().map(|signature| signature.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn links_between_pages_resolve() {
    let mut pages = files("docs", ".md");
    for page in ["README.md", "CHANGELOG.md"] {
        pages.push((page.to_owned(), std::fs::read_to_string(root().join(page)).expect("a text")));
    }
    let mut broken = Vec::new();
    for (path, text) in pages {
        let folder = root().join(&path).parent().expect("a folder").to_owned();
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap_or_default();
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            if file.contains("://") {
                continue;
            }
            let page = if file.is_empty() { root().join(&path) } else { folder.join(file) };
            let anchored = || std::fs::read_to_string(&page).is_ok_and(|text| anchors(&text).any(|a| a == anchor));
            if !page.exists() || !(anchor.is_empty() || anchored()) {
                broken.push(format!("{path}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Returns the anchors of a page: its headings, as GitHub spells them in links.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let heading = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    })
}

/// Returns the cells that name the tests of a promise: the last column of each table that heads it "held by" or "test".
fn test_cells(page: &str) -> Vec<String> {
    let mut in_table = false;
    let mut cells = Vec::new();
    for row in page.lines() {
        let last = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        in_table = row.starts_with('|') && (in_table || matches!(last, "held by" | "test"));
        if in_table && row.contains('`') {
            cells.push(last.to_owned());
        }
    }
    cells
}

/// Returns the errors of a cell: the files that do not exist, and the functions that the file named before them lacks.
fn misnamed(cell: &str) -> Vec<String> {
    let is_name = |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let (mut file, mut files, mut wrong) = (String::new(), 0, Vec::new());
    // Every second part of the cell is between backticks.
    for word in cell.split('`').skip(1).step_by(2) {
        if word.contains('/') || word.ends_with(".rs") {
            let places = ["tests", "duroxide/src", "."].map(|folder| root().join(folder).join(word));
            match places.iter().find_map(|path| std::fs::read_to_string(path).ok()) {
                Some(text) => (file, files) = (text, files + 1),
                None => wrong.push(format!("no file {word}")),
            }
        } else if is_name(word) && !file.contains(&format!("fn {word}(")) {
            wrong.push(format!("no function {word} in that file"));
        }
    }
    if files == 0 {
        wrong.push("no file is named".to_owned());
    }
    wrong
}

#[test]
fn promises_name_tests_that_exist() {
    let mut wrong = Vec::new();
    for page in ["docs/design-invariants.md", "docs/reliability.md"] {
        let cells = test_cells(&std::fs::read_to_string(root().join(page)).expect("a page"));
        assert!(cells.len() > 30, "{page} has only {} rows", cells.len());
        for cell in cells {
            wrong.extend(misnamed(&cell).into_iter().map(|wrong| format!("{page}: {wrong}: {cell}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
