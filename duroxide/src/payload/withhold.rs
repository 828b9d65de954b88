//! What may be told of an error of serde. Its messages quote the value, which may hold secrets, so only their fixed parts
//! are kept: those that stand in the source of serde or of the type.

use std::borrow::Cow;

/// Stands for a message that a type's own code wrote, and that may therefore quote anything.
const OWN: &str = "refused by the type's own code (its message may quote the value and is withheld)";

/// How the messages begin that serde's own implementations give on writing. None of them quotes a value.
const WRITTEN: [&str; 7] = [
    "already mutably borrowed",
    "lock poison error while serializing",
    "SystemTime must be later than UNIX_EPOCH",
    "path contains invalid UTF-8 characters",
    "can only flatten structs and maps (got ",
    "cannot serialize tagged newtype variant ",
    "the enum variant ",
];

/// What serde calls the things that it finds in JSON.
const FOUND: [&str; 12] = [
    "boolean",
    "integer",
    "floating point",
    "character",
    "string",
    "byte array",
    "null",
    "sequence",
    "map",
    "unit variant",
    "newtype variant",
    "number",
];

/// What may be told of a failure to serialise.
pub(super) fn written(error: &serde_json::Error) -> String {
    let message = error.to_string();
    if WRITTEN.iter().any(|start| message.starts_with(start)) { message } else { OWN.to_owned() }
}

/// What may be told of a failure to parse: what was expected and the place in the text.
pub(super) fn read(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = text.strip_suffix(&place).unwrap_or(&text);
    // Errors of syntax come from a fixed list.
    let told = if error.is_data() { data(message) } else { Cow::Borrowed(message) };
    if error.line() == 0 { told.into_owned() } else { format!("{told}{place}") }
}

/// The fixed parts of a message about data that do not fit a type.
fn data(message: &str) -> Cow<'_, str> {
    if let Some(rest) = after(message, &["invalid type: ", "invalid value: "]) {
        let found = FOUND.iter().find(|kind| rest.starts_with(*kind)).unwrap_or(&"something else");
        return with_expected(&format!("found: {found}"), rest);
    }
    if let Some(rest) = after(message, &["invalid length "]) {
        return with_expected("wrong length", rest);
    }
    for unknown in ["unknown variant", "unknown field"] {
        if let Some(rest) = after(message, &[unknown]) {
            return with_expected(unknown, rest);
        }
    }
    if names_only(message) { Cow::Borrowed(message) } else { Cow::Borrowed(OWN) }
}

fn after<'a>(message: &'a str, starts: &[&str]) -> Option<&'a str> {
    starts.iter().find_map(|start| message.strip_prefix(start))
}

/// Adds what was expected. It ends the message; so what follows the *last* comma of its kind is never the value, which
/// stands before it, may hold such a comma too, and is not always quoted.
fn with_expected(told: &str, rest: &str) -> Cow<'static, str> {
    let expects_nothing = rest.ends_with("`, there are no fields") || rest.ends_with("`, there are no variants");
    match rest.rsplit_once(", expected ") {
        Some((_, expected)) if !expects_nothing => format!("{told}, expected {expected}").into(),
        _ => told.to_owned().into(),
    }
}

/// Whether a message is of a kind that names only what stands in the source: a field or a type.
fn names_only(message: &str) -> bool {
    let field = ["missing field `", "duplicate field `"];
    let name = after(message, &field).and_then(|rest| rest.strip_suffix('`'));
    let name = name.or_else(|| after(message, &["data did not match any variant of untagged enum "]));
    name.is_some_and(|name| name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$')))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde::de::DeserializeOwned;

    use super::*;

    const SECRET: &str = "s3cr3t";

    fn told<T: DeserializeOwned>(json: &str) -> String {
        let error = serde_json::from_str::<T>(json).err().expect("does not fit");
        let told = read(&error);
        assert!(!told.contains(SECRET), "{told}");
        told
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Card {
        number: u32,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Empty {}

    #[derive(Debug, Deserialize)]
    enum Kind {
        Visa,
        Master,
    }

    #[derive(Debug, Deserialize)]
    enum Never {}

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "only its shape matters")]
    enum Either {
        Number(u32),
        Flag(bool),
    }

    #[derive(Debug, Deserialize)]
    #[serde(try_from = "String")]
    struct Picky;

    impl TryFrom<String> for Picky {
        type Error = String;
        fn try_from(text: String) -> Result<Self, String> {
            Err(format!("bad number {text}, expected {text}"))
        }
    }

    #[test]
    fn what_was_expected_is_told_and_where() {
        assert_eq!(told::<u32>(r#""s3cr3t""#), "found: string, expected u32 at line 1 column 8");
        assert_eq!(told::<Card>(r#"{"number":-5}"#), "found: integer, expected u32 at line 1 column 12");
        assert_eq!(told::<Card>(r#"{}"#), "missing field `number` at line 1 column 2");
        assert_eq!(told::<Card>(r#"{"number":1,"number":1}"#), "duplicate field `number` at line 1 column 20");
        assert_eq!(told::<(u8, u8)>("[1]"), "wrong length, expected a tuple of size 2 at line 1 column 3");
        assert_eq!(told::<Kind>(r#""s3cr3t""#), "unknown variant, expected `Visa` or `Master` at line 1 column 8");
        assert_eq!(told::<Either>(r#""s3cr3t""#), "data did not match any variant of untagged enum Either");
        assert_eq!(told::<String>("null"), "found: null, expected a string at line 1 column 4");
        assert_eq!(told::<String>(r#""s3cr3t"#), "EOF while parsing a string at line 1 column 7");
        assert_eq!(told::<bool>("1 2"), "found: integer, expected a boolean at line 1 column 1");
        assert_eq!(
            told::<BTreeMap<u8, u8>>(r#"{"s3cr3t":1}"#).split(" at ").next(),
            Some("invalid value: expected key to be a number in quotes")
        );
    }

    #[test]
    fn a_value_that_looks_like_a_message_is_not_told() {
        for value in [", expected s3cr3t", "`, expected s3cr3t", r#"\", expected s3cr3t at line 1 column 1"#, "s3cr3t"]
        {
            told::<u32>(&format!("\"{value}\""));
            told::<Kind>(&format!("\"{value}\""));
            told::<Never>(&format!("\"{value}\""));
            told::<Card>(&format!("{{\"{value}\":1}}"));
            told::<Empty>(&format!("{{\"{value}\":1}}"));
            told::<Either>(&format!("\"{value}\""));
            told::<Picky>(&format!("\"{value}\""));
        }
    }

    #[test]
    fn a_message_of_the_users_own_is_withheld() {
        assert_eq!(told::<Picky>(r#""s3cr3t""#), OWN);
        assert_eq!(told::<Vec<Picky>>(r#"["s3cr3t"]"#), format!("{OWN} at line 1 column 10"));
    }
}
