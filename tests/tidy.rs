//! Checks the rules of this repository that the compiler does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[path = "tidy/book.rs"]
mod book;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Returns the files below a folder whose names have this ending: for each its path from the root, and its content.
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

/// The modules of the library that each module may use. The list is minimal: each entry is in use. All may use `telemetry`.
const MAY_USE: &[(&str, &[&str])] = &[
    ("id", &["random"]),
    ("random", &[]),
    ("backoff", &["random"]),
    ("clock", &[]),
    ("hash", &[]),
    ("payload", &["id"]),
    ("policy", &["payload"]),
    ("error", &["id", "clock", "policy", "history"]),
    ("history", &["id", "clock", "hash", "payload", "policy"]),
    ("message", &["id", "clock", "payload", "history"]),
    ("telemetry", &["hash"]),
    ("replay", &["id", "clock", "hash", "payload", "policy", "error", "history", "message"]),
    ("orchestration", &["id", "clock", "payload", "policy", "error", "history", "replay"]),
    ("future", &["orchestration"]),
    ("activity", &["id", "backoff", "payload", "policy", "history", "message", "replay", "provider"]),
    ("provider", &["id", "clock", "hash", "payload", "error", "history", "message"]),
    ("sqlite", &["id", "clock", "hash", "payload", "error", "history", "message", "provider"]),
    ("registry", &["id", "payload", "policy", "error", "history", "activity", "orchestration", "replay", "provider"]),
    ("effect", &["id", "random", "clock", "payload", "policy", "history", "message", "replay", "provider"]),
    (
        "node",
        &[
            "id", "backoff", "clock", "hash", "payload", "policy", "error", "history", "message", "replay", "activity",
            "registry", "provider", "effect",
        ],
    ),
    (
        "client",
        &[
            "id",
            "random",
            "backoff",
            "clock",
            "payload",
            "policy",
            "error",
            "history",
            "message",
            "orchestration",
            "provider",
            "effect",
            "node",
        ],
    ),
    ("transfer", &["id", "error", "history", "registry", "replay", "provider", "client"]),
    ("runtime", &["id", "clock", "policy", "error", "activity", "registry", "provider", "sqlite", "node", "client"]),
];

/// The modules that may use all others.
const MAY_USE_ALL: &[&str] = &["testing", "lib", "prelude", "__private", "book"];

/// The modules that use only each other, and that the page of the architecture does not draw.
const LEAVES: &[&str] =
    &["id", "random", "backoff", "clock", "hash", "payload", "policy", "error", "history", "message", "telemetry"];

/// Names that are the only ones that a module may use of another one.
const ONLY: &[(&str, &str, &[&str])] =
    &[("client", "node", &["NodeHandle"]), ("client", "effect", &["Causes", "graft", "termination"])];

/// Returns the first name of a path; an empty text if the path begins with a sign.
fn first_name(path: &str) -> &str {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    &path[..end]
}

#[test]
fn module_dependencies_are_allowed() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, text) in files("duroxide/src", ".rs") {
        let module = path.trim_start_matches("duroxide/src/").split(['/', '.']).next().unwrap_or_default();
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            assert!(MAY_USE_ALL.contains(&module), "the list lacks `{module}`");
            continue;
        };
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let is_test = path.contains("/tests/") || path.ends_with("tests.rs");
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//") && !is_test);
        for line in lines {
            assert!(!line.contains("crate::{"), "{path}: this test reads one `use crate::module` per line");
            for (used, rest) in line.split("crate::").skip(1).map(|rest| (first_name(rest), rest)) {
                let only = ONLY.iter().find(|(user, of, _)| *user == module && *of == used);
                let name = rest[used.len()..].trim_start_matches("::");
                if only.is_some_and(|(_, _, only)| !only.contains(&first_name(name))) {
                    wrong.push(format!("{path}: `{module}` must not use this part of `{used}`: {}", line.trim()));
                }
                seen.insert((module.to_owned(), used.to_owned()));
                let known = MAY_USE.iter().any(|(name, _)| *name == used);
                if known && used != module && used != "telemetry" && !allowed.contains(&used) {
                    wrong.push(format!("{path}: `{module}` must not use `{used}`: {}", line.trim()));
                }
            }
        }
    }
    for (module, allowed) in MAY_USE {
        let unused = allowed.iter().filter(|used| !seen.contains(&((*module).to_owned(), (**used).to_owned())));
        wrong.extend(unused.map(|used| format!("`{module}` does not use `{used}`: remove it from the list")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns the arrows that the page of the architecture draws: for each module those that it uses.
fn drawn_arrows(page: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let arrow = |line| {
        let (user, used) = str::split_once(line, "──► ")?;
        (!user.contains('─')).then(|| (user.trim(), used.split(", ").collect()))
    };
    page.lines().filter_map(arrow).collect()
}

#[test]
fn page_draws_the_allowed_dependencies() {
    let page = std::fs::read_to_string(root().join("docs/architecture.md")).expect("a page");
    let drawable = |used: &[&'static str]| used.iter().copied().filter(|used| !LEAVES.contains(used)).collect();
    let mut expected: BTreeMap<_, BTreeSet<_>> = MAY_USE.iter().map(|(user, used)| (*user, drawable(used))).collect();
    expected.retain(|_, used| !used.is_empty());
    assert_eq!(drawn_arrows(&page), expected);
    let (_, section) = page.split_once("The leaf modules ").expect("the leaves");
    let (named, _) = section.split_once(" use only each other").expect("the leaves");
    let named: BTreeSet<_> = words(named).filter(|word| *word != "and").chain(["telemetry"]).collect();
    assert_eq!(named, LEAVES.iter().copied().collect());
    for (leaf, used) in MAY_USE.iter().filter(|(name, _)| LEAVES.contains(name)) {
        assert!(used.iter().all(|used| LEAVES.contains(used)), "`{leaf}` is not a leaf");
    }
}

/// The components of the node: they return the work that follows, and do not carry it out.
const COMPONENTS: &[&str] = &[
    "live/",
    "activities/",
    "lost/",
    "work/",
    "balance.rs",
    "clock_watch.rs",
    "endings.rs",
    "last_failures.rs",
    "membership.rs",
    "outbox.rs",
    "time.rs",
    "turn_queue.rs",
];

#[test]
fn components_of_the_node_know_no_provider() {
    let files = files("duroxide/src/node", ".rs");
    for name in COMPONENTS {
        let is_part = |(path, _): &(String, String)| path.starts_with(&format!("duroxide/src/node/{name}"));
        assert!(files.iter().any(is_part), "there is no component {name}");
    }
    for (path, text) in files {
        let component = path.trim_start_matches("duroxide/src/node/");
        if COMPONENTS.iter().any(|name| component.starts_with(name)) {
            for word in ["dyn Provider", "Shared", "impl Node", "&mut Node", "&Node", "super::Node,", "super::{Node"] {
                assert!(!text.contains(word), "{path} names {word}");
            }
        }
    }
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
    for folder in ["duroxide", "duroxide-macros", "duroxide-postgres", "examples", "tests", "ui-tests", "benches"] {
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
        // `chaos` brings troubles at random times.
        if path == "tests/tidy.rs" || path.starts_with("tests/chaos/") {
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

/// The most letters of a function's name. The names of tests are the long ones.
const MAX_NAME: usize = 60;

#[test]
fn names_of_functions_are_short() {
    for (path, text) in files("", ".rs") {
        let names = text.split("fn ").skip(1).map(first_name);
        let long: Vec<_> = names.filter(|name| name.len() > MAX_NAME).collect();
        assert!(long.is_empty(), "{path}: {long:?}");
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
    let mut broken = Vec::new();
    for (path, text) in files("", ".md") {
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
    for page in ["docs/design-invariants.md", "docs/reliability.md", "docs/persistence-failure-analysis.md"] {
        let cells = test_cells(&std::fs::read_to_string(root().join(page)).expect("a page"));
        assert!(cells.len() > 30, "{page} has only {} rows", cells.len());
        for cell in cells {
            wrong.extend(misnamed(&cell).into_iter().map(|wrong| format!("{page}: {wrong}: {cell}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns the code of a library file, without comments and unit tests.
fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).fold(String::new(), |all, line| all + line + "\n")
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("tests.rs")
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[test]
fn documented_error_codes_are_raised() {
    let table = std::fs::read_to_string(root().join("duroxide/src/error/code.rs")).expect("a text");
    // `"0001" Nondeterminism "nondeterminism" Application`
    let row =
        |line: &str| line.trim().strip_prefix('"')?.split_once("\" ").map(|(_, rest)| first_name(rest).to_owned());
    let starts_row = |line: &&str| line.starts_with("    \"") && line.as_bytes().get(5).is_some_and(u8::is_ascii_digit);
    let codes: Vec<_> = table.lines().filter(starts_row).filter_map(row).collect();
    assert!(codes.len() > 30, "{codes:?}");
    let library = files("duroxide/src", ".rs").into_iter();
    let library = library.filter(|(path, _)| path != "duroxide/src/error/code.rs" && !is_test(path));
    let code: String = library.map(|(_, text)| code_of(&text)).collect();
    let raised: BTreeSet<_> = code.split("ErrorCode::").skip(1).map(first_name).collect();
    for code in &codes {
        assert!(raised.contains(code.as_str()), "ErrorCode::{code}: raise it or remove it");
    }
}

/// Columns with a default value that no statement writes, or that none reads, with the reason.
const RESERVED: &[(&str, &str, &str)] = &[
    ("duroxide_instances", "format", "1 by default; checked by readers"),
    ("duroxide_instances", "priority", "priorities"),
    ("duroxide_instances", "key", "limits by key"),
    ("duroxide_activities", "format", "1 by default; checked by readers"),
    ("duroxide_activities", "priority", "priorities"),
    ("duroxide_activities", "key", "limits by key"),
    ("duroxide_payloads", "format", "1 by default; checked by readers"),
    ("instances", "format", "1 by default; a version that writes another one raises `reads_from` in `meta`"),
    ("dedup", "time", "the time of the insert by default"),
    ("duroxide_nodes", "format", "not read: a row lasts as long as its process; a new fact is a new column"),
];

/// Splits a text into words and single signs.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end =
            first_name(rest).len().max(if first.is_alphanumeric() || first == '_' { 1 } else { first.len_utf8() });
        tokens.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    tokens
}

/// Returns the statements of some SQL, without comments.
fn statements(sql: &str) -> Vec<String> {
    let sql: String = sql.lines().map(|line| line.split("--").next().unwrap_or_default().to_owned() + "\n").collect();
    sql.split(';').map(str::to_owned).collect()
}

/// Returns the names that a CREATE TABLE gives to the columns which the program writes.
fn created_columns(statement: &str) -> Vec<String> {
    let body = statement.split_once('(').map_or("", |(_, body)| body);
    // The database sets these columns.
    let is_generated = |line: &str| line.contains("INTEGER PRIMARY KEY") || line.contains("GENERATED ALWAYS");
    let names = body.lines().filter(|line| !is_generated(line)).map(|line| line.trim().trim_matches('"'));
    let names = names.map(first_name).filter(|name| !name.is_empty());
    names.filter(|name| !matches!(*name, "PRIMARY" | "CHECK" | "UNIQUE")).map(str::to_owned).collect()
}

/// Applies the changes of an ALTER TABLE to the columns of the table.
fn alter(columns: &mut Vec<String>, mut changes: &[&str]) {
    while let Some((change, rest)) = changes.split_first() {
        match (*change, rest) {
            ("ADD", ["COLUMN", column, ..]) => columns.push((*column).to_owned()),
            ("DROP", ["COLUMN", column, ..]) => columns.retain(|other| other != column),
            ("RENAME", ["COLUMN", column, "TO", new, ..]) => {
                columns.retain(|other| other != column);
                columns.push((*new).to_owned());
            }
            _ => {}
        }
        changes = rest;
    }
}

/// Returns the columns of each table after all migrations of a folder.
fn columns(schema: &str) -> BTreeMap<String, Vec<String>> {
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for statement in files(schema, ".sql").iter().flat_map(|(_, text)| statements(text)) {
        match tokens(&statement).as_slice() {
            ["CREATE", "TABLE", name, "(", ..] => drop(tables.insert((*name).to_owned(), created_columns(&statement))),
            ["DROP", "TABLE", name] => drop(tables.remove(*name)),
            ["ALTER", "TABLE", name, "RENAME", "TO", new] => {
                let columns = tables.remove(*name).expect("a table");
                tables.insert((*new).to_owned(), columns);
            }
            ["ALTER", "TABLE", name, changes @ ..] => alter(tables.entry((*name).to_owned()).or_default(), changes),
            _ => {}
        }
    }
    tables
}

/// Returns the string literals of some code. The scan is simple: it knows neither raw strings nor character literals.
fn literals(code: &str) -> Vec<String> {
    let mut literals = Vec::new();
    let mut chars = code.chars();
    while let Some(c) = chars.next() {
        if c != '"' {
            continue;
        }
        let mut literal = String::new();
        while let Some(c) = chars.next().filter(|c| *c != '"') {
            literal.push(if c == '\\' { chars.next().map_or(' ', |c| if c == '\n' { ' ' } else { c }) } else { c });
        }
        literals.push(literal);
    }
    literals
}

/// The columns that the statements write, with their tables, and all other words of the statements.
#[derive(Default)]
struct Statements {
    written: BTreeSet<(String, String)>,
    read: BTreeSet<String>,
}

/// The table of a statement's part that does not name one.
const ANY_TABLE: &str = "";

impl Statements {
    /// Returns those of a folder: the literals of its code, and its files of SQL outside of the schema.
    fn of(folder: &str) -> Self {
        let mut statements = Self::default();
        for (_, text) in files(folder, ".rs") {
            literals(&code_of(&text)).iter().for_each(|literal| statements.add(literal));
        }
        for (_, text) in files(folder, ".sql").iter().filter(|(path, _)| !path.contains("/schema/")) {
            self::statements(text).iter().for_each(|text| statements.add(&text.replace("SCHEMA.", "")));
        }
        statements
    }

    /// Adds the leading assignments, and returns the number of their tokens.
    fn add_assignments(&mut self, table: &str, tokens: &[&str]) -> usize {
        let (mut depth, mut at) = (0, 0);
        while at < tokens.len() && depth >= 0 && !(depth == 0 && matches!(tokens[at], "WHERE" | "RETURNING")) {
            let is_target = depth == 0 && tokens.get(at + 1) == Some(&"=");
            depth += i32::from(tokens[at] == "(") - i32::from(tokens[at] == ")");
            if is_target {
                self.written.insert((table.to_owned(), tokens[at].to_owned()));
            } else {
                self.read.insert(tokens[at].to_owned());
            }
            at += 1;
        }
        at
    }

    fn is_written(&self, table: &str, column: &str) -> bool {
        [table, ANY_TABLE].iter().any(|table| self.written.contains(&((*table).to_owned(), column.to_owned())))
    }

    fn add(&mut self, statement: &str) {
        let tokens = tokens(statement);
        let (mut table, mut at) = ("", 0);
        while at < tokens.len() {
            match tokens[at..] {
                ["INTO", name, "(", ..] => {
                    table = name;
                    at += 3;
                    while at < tokens.len() && tokens[at] != ")" {
                        self.written.insert((table.to_owned(), tokens[at].to_owned()));
                        at += 1;
                    }
                }
                ["UPDATE", name, ..] => {
                    table = if name == "SET" { table } else { name };
                    at += 1;
                }
                ["SET", ..] => at += self.add_assignments(table, &tokens[at..]),
                // A part of a statement that a macro assembles: assignments, without a condition.
                [_, "=", ..] if at == 0 && !tokens.contains(&"AND") => at += self.add_assignments(ANY_TABLE, &tokens),
                [word, ..] => {
                    self.read.insert(word.to_owned());
                    at += 1;
                }
                [] => return,
            }
        }
    }
}

#[test]
fn columns_of_the_schema_are_written_and_read() {
    let mut wrong = Vec::new();
    let mut reserved: Vec<_> = RESERVED.iter().map(|(table, column, _)| (*table, *column)).collect();
    for store in ["duroxide/src/sqlite", "duroxide-postgres/src"] {
        let statements = Statements::of(store);
        let tables = columns(&format!("{store}/schema"));
        assert!(tables.len() > 15, "{store}: {tables:?}");
        for (table, column) in tables.iter().flat_map(|(table, columns)| columns.iter().map(move |name| (table, name)))
        {
            let written = statements.is_written(table, column);
            let used = written && statements.read.contains(column);
            let before = reserved.len();
            reserved.retain(|reserved| *reserved != (table.as_str(), column.as_str()));
            if used == (reserved.len() < before) {
                wrong.push(format!("{store}: {table}.{column}: written {written}, used {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(reserved.is_empty(), "no such columns: {reserved:?}");
}

#[test]
fn columns_are_read_by_name() {
    let mut counted = Vec::new();
    for (path, text) in ["duroxide/src/sqlite", "duroxide-postgres/src"].iter().flat_map(|folder| files(folder, ".rs"))
    {
        if is_test(&path) {
            continue;
        }
        // The only column of a row may be read as the first one.
        let is_counted = |line: &&str| {
            let reads =
                |n: u8| [format!("get({n})?"), format!("get_ref({n})?"), format!(">({n})?"), format!("(row, {n})")];
            (1..9).flat_map(reads).any(|read| line.contains(&read))
        };
        let code = code_of(&text);
        counted.extend(code.lines().filter(is_counted).map(|line| format!("{path}: {}", line.trim())));
    }
    assert!(counted.is_empty(), "{}", counted.join("\n"));
}

/// Public names that are used by no test, no example and no other file of the library, with the reason.
const UNUSED: &[(&str, &str)] = &[
    ("InstanceList", "returned by Client::list"),
    ("JoinAll", "returned by join_all"),
    ("SqliteStats", "returned by SqliteProvider::stats"),
    ("TryJoinAll", "returned by try_join_all"),
    ("UnknownErrorCode", "the error of a parse"),
    ("execute_raw", "a method of the driver"),
];

/// Returns the names that a file makes public: items, and methods of public types.
fn public_names(code: &str) -> impl Iterator<Item = &str> {
    const KINDS: &[&str] = &["struct ", "enum ", "trait ", "type ", "const fn ", "const ", "async fn ", "fn "];
    code.lines().filter_map(|line| {
        let item = line.trim_start().strip_prefix("pub ")?;
        let name = KINDS.iter().find_map(|kind| item.strip_prefix(kind)).map(first_name)?;
        (!name.is_empty()).then_some(name)
    })
}

/// Returns the lines of a file's doc examples.
fn doc_examples(text: &str) -> String {
    let mut within = false;
    let mut examples = String::new();
    for line in text.lines() {
        let doc = line.trim_start().strip_prefix("///").or_else(|| line.trim_start().strip_prefix("//!"));
        let Some(doc) = doc else { continue };
        if doc.trim_start().starts_with("```") {
            within = !within;
        } else if within {
            examples += doc;
            examples.push('\n');
        }
    }
    examples
}

#[test]
fn public_items_are_used() {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut note = |path: &str, text: &str| {
        for word in words(text) {
            uses.entry(word.to_owned()).or_default().insert(path.to_owned());
        }
    };
    for folder in ["tests", "examples", "ui-tests/pass", "benches", "duroxide-macros/src"] {
        files(folder, ".rs")
            .iter()
            .filter(|(path, _)| path != "tests/tidy.rs")
            .for_each(|(path, text)| note(path, text));
    }
    files("docs", ".md").iter().for_each(|(path, text)| note(path, text));
    note("README.md", &std::fs::read_to_string(root().join("README.md")).expect("a text"));
    let library: Vec<_> =
        ["duroxide/src", "duroxide-postgres/src"].iter().flat_map(|folder| files(folder, ".rs")).collect();
    for (path, text) in &library {
        note(&format!("examples of {path}"), &doc_examples(text));
        // A re-export does not count as a use.
        let code = if is_test(path) { text.clone() } else { code_of(text) };
        let code: String = without_reexports(&code);
        note(path, &code);
        if let Some((_, tests)) = text.split_once("#[cfg(test)]\nmod tests {") {
            note(&format!("tests of {path}"), tests);
        }
    }
    let mut unused = Vec::new();
    for (path, text) in library.iter().filter(|(path, _)| !is_test(path)) {
        for name in public_names(&code_of(text)) {
            let used = uses.get(name).is_some_and(|by| by.iter().any(|by| by != path));
            let exempt = UNUSED.iter().any(|(exempt, _)| *exempt == name);
            if used == exempt {
                unused.push(format!("{path}: {name}"));
            }
        }
    }
    assert!(unused.is_empty(), "not used, or exempt and used:\n{}", unused.join("\n"));
}

/// The limit of the names at the crate root. A name belongs there if user code writes it; others have a module.
const MAX_ROOT_NAMES: usize = 45;

#[test]
fn crate_root_has_few_names() {
    let root = code_of(&std::fs::read_to_string(root().join("duroxide/src/lib.rs")).expect("a text"));
    let lists: Vec<_> = root.split("pub use ").skip(1).filter_map(|rest| rest.split(';').next()).collect();
    assert!(lists.iter().all(|list| !list.contains('*')), "a glob hides names: {lists:?}");
    let names = |list: &str| words(list.rsplit("::").next().unwrap_or_default()).count();
    let count: usize = lists.iter().map(|list| names(list)).sum();
    assert!((30..=MAX_ROOT_NAMES).contains(&count), "{count} names: {lists:?}");
}

/// The address of the pages, for links from the documentation of the library.
const PAGES: &str = "https://github.com/duroxide/duroxide/blob/main/";

#[test]
fn public_modules_link_to_a_page() {
    let library = files("duroxide/src", ".rs");
    let mut wrong = Vec::new();
    for (path, text) in &library {
        for link in text.split(PAGES).skip(1).filter_map(|rest| rest.split_whitespace().next()) {
            let (page, anchor) = link.split_once('#').unwrap_or((link, ""));
            let text = std::fs::read_to_string(root().join(page)).unwrap_or_default();
            if text.is_empty() || !(anchor.is_empty() || anchors(&text).any(|a| a == anchor)) {
                wrong.push(format!("{path}: {link}"));
            }
        }
        let folder = path.strip_suffix("mod.rs").or(path.strip_suffix("lib.rs")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(module) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) else { continue };
            let source = [format!("{folder}{module}.rs"), format!("{folder}{module}/mod.rs")];
            let source = library.iter().find(|(path, _)| source.contains(path));
            let header =
                |text: &String| text.lines().take_while(|line| line.starts_with("//!")).any(|l| l.contains(PAGES));
            let is_hidden = at > 0 && lines[at - 1] == "#[doc(hidden)]";
            if !is_hidden && !source.is_some_and(|(_, text)| header(text)) {
                wrong.push(format!("{path}: the documentation of `{module}` has no link to a page"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn without_reexports(code: &str) -> String {
    let mut kept = String::new();
    let mut within = false;
    for line in code.lines() {
        within |= line.trim_start().starts_with("pub use ") || line.trim_start().starts_with("pub(crate) use ");
        if !within {
            kept += line;
            kept.push('\n');
        }
        within &= !line.trim_end().ends_with(';');
    }
    kept
}

/// Returns the number before the word "lines".
fn stated_lines(text: &str) -> Option<usize> {
    let (before, _) = text.split_once(" lines ")?;
    before.rsplit(' ').next()?.replace(',', "").parse().ok()
}

#[test]
fn reading_list_is_as_long_as_it_says() {
    let page = std::fs::read_to_string(root().join("docs/architecture.md")).expect("a page");
    let (_, section) = page.split_once("## The source, in reading order").expect("the section");
    let mut lists: Vec<(usize, usize)> = Vec::new();
    for line in section.lines().take_while(|line| !line.starts_with('|')) {
        if let Some(stated) = stated_lines(line).filter(|_| line.starts_with("About")) {
            lists.push((stated, 0));
        }
        for link in line.split("](").skip(1).filter_map(|link| link.split(')').next()) {
            // A link to a folder points to one of its files, whose lines do not count.
            if !line.contains("/`](") {
                let text = std::fs::read_to_string(root().join("docs").join(link)).expect(link);
                lists.last_mut().expect("a list").1 += text.lines().count();
            }
        }
    }
    assert!(lists.len() == 2, "{lists:?}");
    for (stated, counted) in lists {
        assert!(stated.abs_diff(counted) * 10 < stated, "the page says about {stated} lines, but counts {counted}");
    }
}
