//! Structs of all forms and enums; serde derives are added where they are missing.
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

fn name<E: Event>() -> &'static str {
    E::NAME
}

fn main() {
    assert_eq!([name::<Unit>(), name::<Tuple>(), name::<Verdict>()], ["Unit", "tuple-event", "Verdict"]);
    assert_eq!([name::<OwnDerives>(), name::<HalfDerived>()], ["OwnDerives", "HalfDerived"]);
    let json = |verdict| duroxide::Payload::encode(&verdict).expect("an enum of strings");
    assert_eq!(json(Verdict::Yes).as_bytes(), br#""yes""#);
    assert_eq!(json(Verdict::No { why: "x".into() }).as_bytes(), br#"{"no":{"why":"x"}}"#);
    let _ = (Tuple(1, String::new()).clone(), OwnDerives { inner: 1 }.inner, HalfDerived(1).0);
}
