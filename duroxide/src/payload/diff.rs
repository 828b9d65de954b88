//! Describes how two JSON texts differ: the places and the kinds of the differences, never the values.

use std::fmt;

use serde_json::value::RawValue;

use super::json_eq::{DEPTH, Decimal, elements, entries, same_values};
use super::keys::Keys;
use super::path::{PathStep, show};

/// The number of differences that are described.
const SHOWN: usize = 3;

/// The first differences of a value from a recorded one.
pub(super) struct Differences(Vec<Difference>);

impl Differences {
    /// Compares a value with the recorded one. `keys` belongs to the value.
    pub(super) fn of(recorded: &str, value: &str, keys: &Keys) -> Self {
        let start = value.as_ptr().addr();
        let mut walk = Walk { start, keys, path: Vec::new(), found: Vec::new() };
        walk.values(recorded, value, DEPTH);
        Self(walk.found)
    }

    /// Returns the path of the first difference, and its kind.
    pub(super) fn first(&self) -> Option<(String, String)> {
        self.0.first().map(|first| (show(first.path.iter()), first.kind.to_string()))
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Difference { path, kind }) in self.0.iter().take(SHOWN).enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            match path.as_slice() {
                [] => write!(f, "{separator}it {kind}")?,
                steps => write!(f, "{separator}`{}` {kind}", show(steps.iter()))?,
            }
        }
        f.write_str(if self.0.len() > SHOWN { "; and more" } else { "" })
    }
}

struct Difference {
    path: Vec<PathStep>,
    kind: Kind,
}

/// The kind of a difference; where there are two, the value comes before the recorded one.
enum Kind {
    Missing,
    New,
    Type(&'static str, &'static str),
    Length(usize, usize),
    Order,
    Value,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::New => f.write_str("is new"),
            Self::Type(value, recorded) => write!(f, "is {value} instead of {recorded}"),
            Self::Length(value, recorded) => write!(f, "has {value} elements instead of {recorded}"),
            Self::Order => f.write_str("has its elements in another order"),
            Self::Value => f.write_str("has another value"),
        }
    }
}

struct Walk<'a> {
    /// The address of the value's text.
    start: usize,
    keys: &'a Keys,
    path: Vec<PathStep>,
    found: Vec<Difference>,
}

impl Walk<'_> {
    fn values(&mut self, recorded: &str, value: &str, depth: usize) {
        if self.found.len() > SHOWN || recorded == value {
            return;
        }
        let Some(depth) = depth.checked_sub(1) else { return self.add(Kind::Value) };
        match (type_of(recorded), type_of(value)) {
            ("an object", "an object") => self.objects(recorded, value, depth),
            ("a list", "a list") => self.lists(recorded, value, depth),
            (before, now) if before != now => self.add(Kind::Type(now, before)),
            // Neither is a list or an object.
            _ if !same_values(recorded, value, 1) => self.add(Kind::Value),
            _ => {}
        }
    }

    fn add(&mut self, kind: Kind) {
        self.found.push(Difference { path: self.path.clone(), kind });
    }

    fn at(&mut self, step: PathStep, walk: impl FnOnce(&mut Self)) {
        self.path.push(step);
        walk(self);
        self.path.pop();
    }

    fn objects(&mut self, recorded: &str, value: &str, depth: usize) {
        let (Some(before), Some(now)) = (entries(recorded), entries(value)) else { return self.add(Kind::Value) };
        let object = value.as_ptr().addr() - self.start;
        let is_null = |member: Option<&&RawValue>| member.is_none_or(|member| member.get() == "null");
        // A type that was a map before may have become a struct: then its recorded keys are user data.
        let is_same_type = self.keys.are_names(object) && before.keys().any(|key| now.contains_key(key));
        for (index, (key, member)) in before.iter().enumerate() {
            if is_null(Some(member)) || !is_null(now.get(key)) {
                continue;
            }
            let is_name = is_same_type && is_identifier(key);
            let step = if is_name { PathStep::Field(key.clone()) } else { PathStep::Entry(index) };
            self.at(step, |walk| walk.add(Kind::Missing));
        }
        for (index, (key, member)) in now.iter().enumerate().filter(|(_, (_, member))| !is_null(Some(member))) {
            let recorded = before.get(key).filter(|recorded| !is_null(Some(recorded)));
            self.at(self.keys.step(object, key, index), |walk| match recorded {
                Some(recorded) => walk.values(recorded.get(), member.get(), depth),
                None => walk.add(Kind::New),
            });
        }
    }

    fn lists(&mut self, recorded: &str, value: &str, depth: usize) {
        let (Some(before), Some(now)) = (elements(recorded), elements(value)) else { return self.add(Kind::Value) };
        if before.len() != now.len() {
            return self.add(Kind::Length(now.len(), before.len()));
        }
        let found = self.found.len();
        for (index, (before, now)) in before.iter().zip(&now).enumerate() {
            self.at(PathStep::Index(index), |walk| walk.values(before.get(), now.get(), depth));
        }
        if self.found.len() > found && is_reordered(&before, &now) {
            self.found.truncate(found);
            self.add(Kind::Order);
        }
    }
}

fn is_identifier(key: &str) -> bool {
    key.len() <= 64 && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
}

fn type_of(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "text",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Returns true if both lists have the same elements, in another order.
fn is_reordered(before: &[&RawValue], now: &[&RawValue]) -> bool {
    if now.len() < 2 {
        return false;
    }
    let unordered = |list: &[&RawValue]| list.iter().map(|json| unordered(json.get())).collect::<Vec<_>>();
    let (mut before, mut now) = (unordered(before), unordered(now));
    if before == now {
        // The order differs within an element.
        return false;
    }
    before.sort_unstable();
    now.sort_unstable();
    before == now
}

/// Returns a text that is the same for values that differ only in the order of lists.
pub(super) fn unordered(json: &str) -> String {
    let mut text = String::new();
    append_unordered(&mut text, json, DEPTH);
    text
}

fn append_unordered(text: &mut String, json: &str, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else { return text.push_str(json) };
    let part = |json: &str| {
        let mut text = String::new();
        append_unordered(&mut text, json, depth);
        text
    };
    match type_of(json) {
        "an object" => {
            let members = entries(json).unwrap_or_default().into_iter().filter(|(_, member)| member.get() != "null");
            let members = members.map(|(key, member)| format!("{key:?}:{}", part(member.get())));
            text.push_str(&format!("{{{}}}", members.collect::<Vec<_>>().join(",")));
        }
        "a list" => {
            let mut parts: Vec<_> = elements(json).unwrap_or_default().iter().map(|json| part(json.get())).collect();
            parts.sort_unstable();
            text.push_str(&format!("[{}]", parts.join(",")));
        }
        "text" => text.push_str(&format!("{:?}", serde_json::from_str::<String>(json).unwrap_or_default())),
        "a number" => text.push_str(&Decimal::parse(json).map_or_else(|| json.to_owned(), |n| format!("{n:?}"))),
        _ => text.push_str(json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(recorded: &str, value: &str) -> String {
        Differences::of(recorded, value, &Keys::Names).to_string()
    }

    #[test]
    fn each_kind_of_difference_is_named_with_its_path() {
        assert_eq!(shown("1", "2"), "it has another value");
        assert_eq!(shown("1", r#""1""#), "it is text instead of a number");
        assert_eq!(shown("[1,[2]]", "[1,[2,3]]"), "`[1]` has 2 elements instead of 1");
        assert_eq!(
            shown(r#"{"a":{"b":[1,2,2]}}"#, r#"{"a":{"b":[2,1,2]}}"#),
            "`a.b` has its elements in another order"
        );
        assert_eq!(shown(r#"{"id":1,"old":1}"#, r#"{"id":1,"new":1}"#), "`old` is missing; `new` is new");
        assert_eq!(shown(r#"{"a":true,"b":null}"#, r#"{"a":null,"b":[]}"#), "`a` is missing; `b` is new");
        assert_eq!(
            shown("[true,null]", "[{},0]"),
            "`[0]` is an object instead of a boolean; `[1]` is a number instead of null"
        );
        assert_eq!(
            shown("[1,2,3,4,5]", "[2,3,4,5,6]"),
            "`[0]` has another value; `[1]` has another value; `[2]` has another value; and more"
        );
    }

    #[test]
    fn order_is_blamed_on_the_innermost_list() {
        assert_eq!(shown("[[1,2],[3]]", "[[2,1],[3]]"), "`[0]` has its elements in another order");
        assert_eq!(shown("[[1,2],[3]]", "[[3],[2,1]]"), "it has its elements in another order");
        assert_eq!(shown(r#"[{"a":1,"b":null},1.0]"#, r#"[1,{"a":1}]"#), "it has its elements in another order");
    }

    #[test]
    fn keys_of_maps_are_shown_by_position() {
        let (recorded, value) = (r#"{"map":{"s3cr3t":1,"t0p":2}}"#, r#"{"map":{"s3cr3t":3,"hush":2}}"#);
        let maps = Keys::of_maps(vec![7]);
        assert_eq!(
            Differences::of(recorded, value, &maps).to_string(),
            "`map{1}` is missing; `map{0}` is new; `map{1}` has another value"
        );
        assert_eq!(
            Differences::of(recorded, value, &Keys::Unknown).to_string(),
            "`{0}{1}` is missing; `{0}{0}` is new; `{0}{1}` has another value"
        );
        // The recorded keys of a type that was a map before.
        assert_eq!(shown(r#"{"s3cr3t":1}"#, r#"{"field":1}"#), "`{0}` is missing; `field` is new");
    }

    #[test]
    fn differences_of_deep_values_are_bounded() {
        let nested = |spaces: &str| format!("{}{spaces}{}", "[".repeat(20_000), "]".repeat(20_000));
        assert!(shown(&nested(""), &nested(" ")).ends_with("has another value"));
    }
}
