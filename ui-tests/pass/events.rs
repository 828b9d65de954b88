//! Structs of all forms and enums; serde derives are added where they are missing.
#![deny(nonstandard_style)]
use duroxide::prelude::*;
use serde::{Deserialize, Serialize};

#[event]
struct Unit;

#[event(name = "tuple-event")]
#[derive(Debug, Clone)]
struct Tuple(u8, String);

#[event]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Yes,
    No { why: String },
}

#[event]
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct OwnDerives {
    inner: u8,
}

#[event]
#[derive(serde::Deserialize)]
struct HalfDerived(#[serde(default)] u8);

/// Each form of a variant, and types of all kinds, one of which contains the event itself.
#[event]
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
enum Reading {
    Unit,
    Empty {},
    One(f64),
    Pair(u8, Option<String>),
    Named {
        #[cfg(any())]
        absent: Missing,
        /// A field with a keyword as its name.
        r#type: String,
        note: Option<String>,
        earlier: Vec<Reading>,
    },
}

#[event]
#[derive(Debug, PartialEq)]
struct r#Ref(std::collections::BTreeMap<String, (u8, bool)>);

/// An attribute of serde that depends on a condition.
#[event]
struct Conditional {
    #[cfg_attr(all(), serde(rename = "n"))]
    number: u8,
}

/// A type with the name of a type parameter of serde's functions, within an event with another one.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct S(u8);

#[event]
#[derive(Debug, PartialEq)]
struct D {
    s: S,
}

/// Without its condition, no field is left.
#[event]
enum Absent {
    Left,
    #[cfg(any())]
    Right {
        absent: Missing,
    },
}

/// Its names break a lint that its author allows.
#[event]
#[allow(non_snake_case)]
struct Camel {
    approvedBy: String,
}

/// A lifetime of its own in a field, and a name that breaks a lint.
#[event]
#[allow(non_camel_case_types)]
enum camel {
    bound(std::marker::PhantomData<for<'a> fn(&'a u8)>),
}

/// `Self` is the event.
#[event]
struct Linked {
    next: Option<Box<Self>>,
}

fn name<E: Event>() -> &'static str {
    E::NAME
}

fn main() {
    assert_eq!([name::<Unit>(), name::<Tuple>(), name::<Verdict>()], ["Unit", "tuple-event", "Verdict"]);
    assert_eq!([name::<OwnDerives>(), name::<HalfDerived>()], ["OwnDerives", "HalfDerived"]);
    let json = |verdict| duroxide::Payload::encode(&verdict).expect("an enum of strings");
    assert_eq!(json(Verdict::Yes).as_bytes(), br#""yes""#);
    assert_eq!(json(Verdict::No { why: "x".into() }).as_bytes(), br#"{"no":{"why":"x"}}"#);
    let named = Reading::Named { r#type: "a".into(), note: None, earlier: vec![Reading::Unit, Reading::One(0.5)] };
    let readings = [
        (Reading::Unit, r#""Unit""#),
        (Reading::Empty {}, r#"{"Empty":{}}"#),
        (Reading::One(0.5), r#"{"One":0.5}"#),
        (Reading::Pair(1, None), r#"{"Pair":[1,null]}"#),
        (named, r#"{"Named":{"type":"a","note":null,"earlier":["Unit",{"One":0.5}]}}"#),
    ];
    for (reading, json) in readings {
        assert_eq!(serde_json::to_string(&reading).expect("written"), json);
        assert_eq!(serde_json::from_str::<Reading>(json).expect("read"), reading);
    }
    let without_option = serde_json::from_str(r#"{"Named":{"type":"a","earlier":[],"other":1}}"#);
    let expected = Reading::Named { r#type: "a".into(), note: None, earlier: Vec::new() };
    assert_eq!(without_option.ok(), Some(expected), "as serde's own derive: a missing option, an unknown field");
    for (json, error) in [
        (r#"{"Named":{"type":"a"}}"#, "missing field `earlier`"),
        (r#""Other""#, "unknown variant `Other`, expected one of `Unit`, `Empty`, `One`, `Pair`, `Named`"),
        (r#"{"Pair":[1]}"#, "invalid length 1, expected tuple variant Reading::Pair with 2 elements"),
    ] {
        let found = serde_json::from_str::<Reading>(json).expect_err(json).to_string();
        assert!(found.starts_with(error), "{found}");
    }
    assert_eq!(serde_json::to_string(&Ref([("a".into(), (1, true))].into())).expect("written"), r#"{"a":[1,true]}"#);
    assert_eq!(name::<Ref>(), "Ref");
    assert_eq!(serde_json::to_string(&Conditional { number: 1 }).expect("written"), r#"{"n":1}"#);
    let read: D = serde_json::from_str(r#"{"s":2}"#).expect("read");
    assert_eq!((serde_json::to_string(&read).expect("written"), read), (r#"{"s":2}"#.to_owned(), D { s: S(2) }));
    assert_eq!(serde_json::to_string(&Absent::Left).expect("written"), r#""Left""#);
    assert_eq!(Camel { approvedBy: "a".into() }.approvedBy, "a");
    assert_eq!(serde_json::to_string(&camel::bound(Default::default())).expect("written"), r#"{"bound":null}"#);
    let linked = Linked { next: Some(Box::new(Linked { next: None })) };
    let json = serde_json::to_string(&linked).expect("written");
    assert_eq!(json, r#"{"next":{"next":null}}"#);
    assert!(serde_json::from_str::<Linked>(&json).expect("read").next.is_some());
    let _ = (Tuple(1, String::new()).clone(), OwnDerives { inner: 1 }.inner, HalfDerived(1).0);
}
