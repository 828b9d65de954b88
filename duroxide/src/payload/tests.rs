//! Accepted values are written as serde_json writes them, and round-trip. Values that would not are refused, with their
//! path.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use proptest::prelude::*;
use serde::ser::Serializer;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;

fn keeps<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let payload = Payload::encode(value).expect("is accepted");
    assert_eq!(payload.as_bytes(), serde_json::to_vec(value).unwrap());
    assert_eq!(&payload.decode::<T>().expect("is read"), value);
}

fn refused<T: Serialize + ?Sized>(value: &T) -> PayloadError {
    let error = Payload::encode(value).expect_err("is refused");
    let json = serde_json::to_string(&error).unwrap();
    assert_eq!(serde_json::from_str::<PayloadError>(&json).unwrap(), error);
    error
}

/// A value of every kind in serde's data model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Tree {
    Unit,
    Nothing(()),
    Bool(bool),
    Char(char),
    Text(String),
    Small(i8, u16, i32),
    Signed(i64),
    Unsigned(u64),
    VerySigned(i128),
    VeryUnsigned(u128),
    Single(f32),
    Double(f64),
    Bytes(bytes::Bytes),
    Newtype(Wrapper),
    Maybe(Option<Box<Tree>>),
    List(Vec<Tree>),
    ByName(BTreeMap<String, Tree>),
    ByNumber(BTreeMap<i64, Tree>),
    ByChar(BTreeMap<char, bool>),
    ByBool(HashMap<bool, u8>),
    ByVariant(BTreeMap<Key, Tree>),
    Flat(Flat),
    Internal(Internal),
    Adjacent(Adjacent),
    Untagged(Untagged),
    Struct { a: Box<Tree>, b: Option<String> },
    Unlike(Result<u8, String>, [u8; 3], (), ((u8,), Wrapper)),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Wrapper(Option<u64>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Key {
    One,
    Two,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: i64,
    #[serde(flatten)]
    inner: Option<Point>,
    #[serde(flatten)]
    rest: BTreeMap<String, u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Point {
    x: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    y: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Internal {
    Unit,
    New(Point),
    Named { at: Point, note: Option<String> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "of")]
enum Adjacent {
    Unit,
    New(Option<u8>),
    Pair(i64, String),
    Named { at: Point },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Flag(bool),
    Number(i64),
    Text(String),
    List(Vec<Untagged>),
    Nothing,
}

fn single() -> impl Strategy<Value = f32> {
    any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |f| f.is_finite())
}

fn double() -> impl Strategy<Value = f64> {
    any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |f| f.is_finite())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::collection::vec(any::<char>(), 0..6).prop_map(String::from_iter),
        Just(r#""quoted""#.to_owned()),
        Just("null".to_owned()),
        Just("42".to_owned()),
    ]
}

fn point() -> impl Strategy<Value = Point> {
    (double(), prop::option::of(double())).prop_map(|(x, y)| Point { x, y })
}

fn flat() -> impl Strategy<Value = Flat> {
    let rest = prop::collection::btree_map("[a-h]{1,4}", any::<u32>(), 0..3);
    (any::<i64>(), prop::option::of(point()), rest).prop_map(|(id, inner, rest)| Flat { id, inner, rest })
}

fn internal() -> impl Strategy<Value = Internal> {
    let named = (point(), prop::option::of(text())).prop_map(|(at, note)| Internal::Named { at, note });
    prop_oneof![Just(Internal::Unit), point().prop_map(Internal::New), named]
}

fn adjacent() -> impl Strategy<Value = Adjacent> {
    prop_oneof![
        Just(Adjacent::Unit),
        any::<Option<u8>>().prop_map(Adjacent::New),
        (any::<i64>(), text()).prop_map(|(n, t)| Adjacent::Pair(n, t)),
        point().prop_map(|at| Adjacent::Named { at }),
    ]
}

fn untagged() -> impl Strategy<Value = Untagged> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Untagged::Flag),
        any::<i64>().prop_map(Untagged::Number),
        text().prop_map(Untagged::Text),
        Just(Untagged::Nothing),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| prop::collection::vec(inner, 0..3).prop_map(Untagged::List))
}

fn number() -> impl Strategy<Value = Tree> {
    prop_oneof![
        any::<(i8, u16, i32)>().prop_map(|(a, b, c)| Tree::Small(a, b, c)),
        any::<i64>().prop_map(Tree::Signed),
        any::<u64>().prop_map(Tree::Unsigned),
        any::<i128>().prop_map(Tree::VerySigned),
        any::<u128>().prop_map(Tree::VeryUnsigned),
        single().prop_map(Tree::Single),
        double().prop_map(Tree::Double),
    ]
}

fn leaf() -> impl Strategy<Value = Tree> {
    let list = || prop::collection::vec(any::<u8>(), 0..4);
    prop_oneof![
        number(),
        Just(Tree::Unit),
        Just(Tree::Nothing(())),
        any::<bool>().prop_map(Tree::Bool),
        any::<char>().prop_map(Tree::Char),
        text().prop_map(Tree::Text),
        list().prop_map(|bytes| Tree::Bytes(bytes.into())),
        any::<Option<u64>>().prop_map(|n| Tree::Newtype(Wrapper(n))),
        prop::collection::btree_map(any::<char>(), any::<bool>(), 0..3).prop_map(Tree::ByChar),
        prop::collection::hash_map(any::<bool>(), any::<u8>(), 0..3).prop_map(Tree::ByBool),
        flat().prop_map(Tree::Flat),
        internal().prop_map(Tree::Internal),
        adjacent().prop_map(Tree::Adjacent),
        untagged().prop_map(Tree::Untagged),
        (any::<u8>(), any::<[u8; 3]>()).prop_map(|(a, b)| Tree::Unlike(Ok(a), b, (), ((a,), Wrapper(None)))),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        let some = || inner.clone();
        let key = prop_oneof![Just(Key::One), Just(Key::Two)];
        prop_oneof![
            prop::option::of(some().prop_map(Box::new)).prop_map(Tree::Maybe),
            prop::collection::vec(some(), 0..4).prop_map(Tree::List),
            prop::collection::btree_map(text(), some(), 0..3).prop_map(Tree::ByName),
            prop::collection::btree_map(any::<i64>(), some(), 0..3).prop_map(Tree::ByNumber),
            prop::collection::btree_map(key, some(), 0..3).prop_map(Tree::ByVariant),
            (some().prop_map(Box::new), prop::option::of(text())).prop_map(|(a, b)| Tree::Struct { a, b }),
        ]
    })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        double().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(text(), inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Returns the value without the null members of its objects.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, member)| !member.is_null());
            Value::Object(kept.map(|(key, member)| (key.clone(), without_nulls(member))).collect())
        }
        Value::Array(list) => list.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn accepted_values_round_trip(tree in tree()) {
        keeps(&tree);
    }

    #[test]
    fn json_values_round_trip(value in value()) {
        keeps(&value);
    }

    #[test]
    fn null_members_and_layout_do_not_matter(value in value()) {
        let pretty = Payload::from_json_bytes(serde_json::to_vec_pretty(&value).unwrap());
        let bare = Payload::encode(&without_nulls(&value)).unwrap();
        prop_assert!(pretty.json_eq(&bare));
        prop_assert!(bare.json_eq(&pretty));
    }

    #[test]
    fn one_changed_leaf_is_noticed(value in value(), other in any::<u64>()) {
        let wrap = |n: u64| Payload::encode(&json!({"a": [value, {"b": n}]})).unwrap();
        prop_assert!(!wrap(other).json_eq(&wrap(other.wrapping_add(1))));
        prop_assert!(wrap(other).json_eq(&wrap(other)));
    }

    #[test]
    fn non_finite_float_is_found_at_any_depth(before in prop::collection::vec(tree(), 0..3)) {
        let index = before.len();
        let mut list = before;
        list.push(Tree::Struct { a: Box::new(Tree::List(vec![Tree::Double(f64::NAN)])), b: None });
        let path = format!("List[{index}].Struct.a.List[0].Double");
        let error = refused(&Tree::List(list));
        prop_assert_eq!(error.path(), path);
    }
}

#[test]
fn extreme_values_round_trip() {
    keeps(&(i64::MIN, i64::MAX, u64::MAX, i128::MIN, i128::MAX, u128::MAX));
    keeps(&(f64::MIN, f64::MAX, f64::MIN_POSITIVE, f64::EPSILON, f32::MIN, f32::MAX, f32::MIN_POSITIVE));
    keeps(&(r#""quoted""#.to_owned(), Some("null".to_owned()), json!("42"), (), None::<u8>, String::new()));
    keeps(&Some(Some(1)));
    keeps(&None::<Option<u8>>);
    keeps(&Value::Null);
    keeps(&BTreeMap::from([(Some("key".to_owned()), 1)]));
    assert_eq!(Payload::encode(&-0.0_f64).unwrap().as_bytes(), b"-0.0");
}

#[test]
fn bytes_are_written_as_a_list() {
    struct Blob(&'static [u8]);
    impl Serialize for Blob {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_bytes(self.0)
        }
    }
    assert_eq!(Payload::encode(&Blob(&[1, 255])).unwrap().as_bytes(), b"[1,255]");
}

#[test]
fn raw_json_passes_unchanged() {
    let raw = RawValue::from_string(r#"{ "a" : 1e400 }"#.to_owned()).unwrap();
    assert_eq!(Payload::encode(&(1, &raw)).unwrap().as_bytes(), br#"[1,{ "a" : 1e400 }]"#);
    assert_eq!(Payload::encode(&Some(&raw)).unwrap().as_bytes(), raw.get().as_bytes());
    assert_eq!(Payload::encode(RawValue::NULL).unwrap(), Payload::NULL);
    assert_eq!(refused(&[Some(RawValue::NULL)]).path(), "[0]");
}

#[test]
fn non_finite_floats_are_refused() {
    for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(refused(&float).path(), "");
        assert_eq!(refused(&Some(float)).path(), "");
        #[expect(clippy::cast_possible_truncation, reason = "a non-finite float stays non-finite")]
        let single = float as f32;
        assert_eq!(refused(&[0.0, single]).path(), "[1]");
    }
    let flat = Flat { id: 1, inner: Some(Point { x: 1.0, y: Some(f64::NAN) }), rest: BTreeMap::new() };
    assert_eq!(refused(&("a", flat)).path(), "[1].y");
    assert_eq!(refused(&Internal::New(Point { x: f64::NAN, y: None })).path(), "x");
    assert_eq!(refused(&Adjacent::Named { at: Point { x: f64::NAN, y: None } }).path(), "of.at.x");
}

#[test]
fn some_of_a_null_value_is_refused() {
    #[derive(Serialize)]
    struct Unit;
    #[derive(Serialize)]
    struct New<T>(T);
    #[derive(Serialize)]
    struct Order {
        coupon: Option<Option<u8>>,
    }
    assert_eq!(refused(&Some(())).path(), "");
    assert_eq!(refused(&Some(None::<u8>)).path(), "");
    assert_eq!(refused(&Some(Some(None::<u8>))).path(), "");
    assert_eq!(refused(&Some(Unit)).path(), "");
    assert_eq!(refused(&(1, Some(New(New(Unit))))).path(), "[1]");
    assert_eq!(refused(&New(Some(New(None::<u8>)))).path(), "");
    assert_eq!(refused(&Some(Value::Null)).path(), "");
    assert_eq!(refused(&Some(Untagged::Nothing)).path(), "");
    assert_eq!(refused(&Some(Box::new(()))).path(), "");
    assert_eq!(refused(&vec![Order { coupon: None }, Order { coupon: Some(None) }]).path(), "[1].coupon");
    assert_eq!(refused(&Ok::<_, u8>(Some(()))).path(), "Ok");
    keeps(&Some(vec![()]));
    keeps(&Some(Ok::<(), u8>(())));
    keeps(&Some(Tree::Nothing(())));
    keeps(&Some(BTreeMap::from([(1, None::<u8>)])));
}

#[test]
fn non_text_keys_are_refused() {
    #[derive(Serialize)]
    struct Shop {
        prices: BTreeMap<(u8, u8), u32>,
    }
    assert_eq!(refused(&Shop { prices: BTreeMap::from([((1, 2), 3)]) }).path(), "prices{0}");
    assert_eq!(refused(&BTreeMap::from([(None::<u8>, 3)])).path(), "{0}");
    assert!(refused(&BTreeMap::from([((), 3)])).reason().contains("list of pairs"));
}

#[test]
fn encode_errors_never_contain_the_value() {
    struct Picky(&'static str);
    impl Serialize for Picky {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom(format!("bad card {}", self.0)))
        }
    }
    let by_name = BTreeMap::from([("s3cr3t".to_owned(), f64::NAN)]);
    let errors = [refused(&by_name), refused(&[Picky("s3cr3t")]), refused(&json!({}).as_object().map(|_| by_name))];
    for error in &errors {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
    assert_eq!(errors[0].path(), "{0}");
    assert_eq!(errors[1].path(), "[0]");
    let error = Payload::encode("s3cr3t").unwrap().decode::<u32>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "a payload cannot be read as u32: invalid type: string, expected u32 at line 1 column 8"
    );
}

#[test]
fn error_that_the_value_swallows_is_still_reported() {
    struct Swallows;
    impl Serialize for Swallows {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut list = to.serialize_seq(None)?;
            let _ = list.serialize_element(&f64::NAN);
            list.end()
        }
    }
    assert!(refused(&Swallows).reason().contains("NaN"));
}

#[test]
fn messages_of_serde_itself_are_kept() {
    let cell = std::cell::RefCell::new(1);
    let _guard = cell.borrow_mut();
    assert_eq!(refused(&[&cell]).reason(), "already mutably borrowed");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Rule {
    Always,
    Not(Box<Rule>),
    Pair(Box<Rule>, ()),
    Named { rule: Box<Rule> },
}

/// Wraps a value in as many levels as still leave it readable, and in one more.
fn check_depth<T: Serialize>(levels: usize, inner: &T, wrap: &dyn Fn(Value) -> Value) {
    let nested = |times| (0..times).fold(serde_json::to_value(inner).unwrap(), |value, _| wrap(value));
    let deepest = Payload::encode(&nested(levels)).expect("is accepted");
    deepest.decode::<Value>().expect("is read");
    assert!(refused(&nested(levels + 1)).reason().contains("127 levels"));
}

#[test]
fn values_are_nested_as_deeply_as_serde_json_reads() {
    check_depth(127, &1, &|value| json!([value]));
    check_depth(127, &1, &|value| json!({ "a": value }));
    check_depth(126, &json!([]), &|value| json!([value]));
    check_depth(63, &json!([1]), &|value| json!({ "a": [value] }));
}

#[test]
fn every_kind_of_nesting_counts() {
    type Wrap = fn(Rule) -> Rule;
    let nested = |times: usize, wrap: Wrap| (0..times).fold(Rule::Always, |rule, _| wrap(rule));
    let kinds: [(Wrap, usize); 3] = [
        (|rule| Rule::Not(Box::new(rule)), 127),
        (|rule| Rule::Pair(Box::new(rule), ()), 63),
        (|rule| Rule::Named { rule: Box::new(rule) }, 63),
    ];
    for (wrap, levels) in kinds {
        keeps(&nested(levels, wrap));
        for beyond in [levels + 1, 3000] {
            let error = refused(&nested(beyond, wrap));
            assert!(error.reason().contains("127 levels"), "{error}");
            assert!(error.path().contains("more)") && error.path().len() < 300, "{error}");
        }
    }
    #[derive(Serialize)]
    struct Blob(#[serde(serialize_with = "as_bytes")] u8);
    fn as_bytes<S: Serializer>(byte: &u8, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&[*byte])
    }
    let within = |levels: usize| (0..levels).fold(serde_json::to_value(Blob(1)).unwrap(), |value, _| json!([value]));
    Payload::encode(&within(126)).unwrap().decode::<Value>().unwrap();
    assert!(refused(&within(127)).reason().contains("127 levels"));
}

/// Returns the refusal of a value that its type cannot read as it was written.
fn unreadable<T: Serialize + Storable>(value: &T) -> PayloadError {
    Payload::encode(value).expect("can be written");
    Payload::encode_readable(value).expect_err("is refused")
}

#[test]
fn value_that_its_type_cannot_read_is_refused() {
    #[derive(Serialize, Deserialize)]
    struct Order {
        id: u32,
        #[serde(flatten)]
        part: Part,
    }
    #[derive(Default, Serialize, Deserialize)]
    struct Part {
        wide: Option<u128>,
        by_number: BTreeMap<u32, u8>,
        raw: Option<Box<RawValue>>,
    }
    let raw = Some(RawValue::from_string("[1]".to_owned()).unwrap());
    for (part, reason) in [
        (Part { wide: Some(1), ..Part::default() }, "u128 is not supported"),
        (Part { by_number: BTreeMap::from([(7, 1)]), ..Part::default() }, "expected u32"),
        (Part { raw, ..Part::default() }, "any valid JSON value"),
    ] {
        let orders = BTreeMap::from([("s3cr3t", (0, vec![Order { id: 1, part }]))]);
        let orders: BTreeMap<String, _> = orders.into_iter().map(|(key, order)| (key.to_owned(), order)).collect();
        let error = unreadable(&orders);
        assert!(error.reason().contains(reason), "{error}");
        assert!(error.path().ends_with("[1][0]") && !error.to_string().contains("s3cr3t"), "{error}");
    }
    let fine = (1_u128, BTreeMap::from([(1_u64, i128::MIN)]), RawValue::from_string("1".to_owned()).unwrap());
    Payload::encode_readable(&fine).unwrap();
}

#[test]
fn doubtful_values_are_noticed_without_reading_them_back() {
    let is_doubtful = |value: &dyn encoded::Value| Encoded::of(value).is_doubtful();
    assert!(!is_doubtful(&(1_u64, "a", vec![1.5], BTreeMap::from([("a", 1)]), BTreeMap::from([('a', 1)]))));
    assert!(is_doubtful(&[1_u128]) && is_doubtful(&[1_i128]));
    assert!(is_doubtful(&BTreeMap::from([(1, 'a')])) && is_doubtful(&BTreeMap::from([(Some(true), 'a')])));
    assert!(is_doubtful(&RawValue::NULL));
}

#[test]
fn value_that_reads_back_as_another_one_is_refused_in_tests() {
    #[derive(Serialize, Deserialize)]
    struct Forgetful {
        #[serde(skip_deserializing)]
        lost: u32,
    }
    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Either {
        One { a: Option<u8> },
        Other { b: Option<u8> },
    }
    let lost = unreadable(&(1, [Forgetful { lost: 17 }]));
    assert_eq!(lost.path(), "[1][0].lost");
    assert!(lost.reason().contains("the copy has another value"), "{lost}");
    let other = unreadable(&Either::Other { b: Some(17) });
    assert!(other.reason().contains("is missing"), "{other}");
    assert!(!format!("{lost}{other}").contains("17"));
    assert!(matches!(Either::One { a: None }, Either::One { .. }));
}

#[test]
fn order_of_a_set_may_change_on_reading() {
    for round in 0..20 {
        let sets: std::collections::HashSet<Vec<u32>> = (0..9).map(|n| vec![n, round]).collect();
        Payload::encode_readable(&(sets, HashMap::from([(round, 1), (round + 1, 2)]))).unwrap();
    }
}

proptest! {
    #[test]
    fn accepted_values_are_read_back(tree in tree()) {
        Payload::encode_readable(&tree).unwrap();
    }

    #[test]
    fn values_differ_exactly_if_a_difference_is_described(a in value(), b in value()) {
        let (a, b) = (Payload::encode(&a).unwrap(), Payload::encode(&b).unwrap());
        prop_assert_eq!(a.difference(&b).is_none_or(|text| text.is_empty()), a.json_eq(&b));
    }
}

#[test]
fn bytes_are_stored_as_base64() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Files {
        content: Bytes,
        #[serde(with = "crate::payload::base64")]
        list: Vec<u8>,
        #[serde(with = "crate::payload::base64")]
        shared: ::bytes::Bytes,
        maybe: Option<Bytes>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        files: Files,
    }
    let content: Vec<u8> = (0..=255).collect();
    let files =
        Files { content: content.clone().into(), list: content.clone(), shared: Vec::new().into(), maybe: None };
    let flat = Flat { files };
    keeps(&flat);
    Payload::encode_readable(&flat).unwrap();
    let large = Payload::encode(&Bytes::from(vec![0xFF; 3_000_000])).unwrap();
    assert_eq!(large.len(), 4_000_002);
    // The form of a `Vec<u8>`, as it was stored before.
    let numbers = Payload::encode(&content).unwrap();
    assert_eq!(numbers.decode::<Bytes>().unwrap(), Bytes::from(content));
    assert_eq!(format!("{:?}", Bytes::from(b"s3cr3t".as_slice())), "Bytes(6 bytes)");
    let error = Payload::encode("s3cr3t!").unwrap().decode::<Bytes>().unwrap_err();
    assert_eq!(error.reason(), "invalid value: string, expected bytes as base64 text at line 1 column 9");
}

mod several_inputs {
    use super::*;
    use crate::payload::inputs::InputReader;
    use crate::payload::read_error::ReadError;

    const KEYS: &[&str] = &["label", "prices", "note"];

    /// As the macros write it.
    #[derive(Debug, Clone, PartialEq)]
    struct Inputs(String, BTreeMap<String, f64>, Option<bool>);

    impl Input for Inputs {
        fn __write(&self) -> Encoded {
            Encoded::of_inputs(KEYS, &[self.0.__value(), self.1.__value(), self.2.__value()])
        }

        fn __read(payload: &Payload) -> Result<Self, ReadError> {
            let mut reader = InputReader::new(payload, KEYS)?;
            Ok(Self(reader.next_input()?, reader.next_input()?, reader.next_input()?))
        }
    }

    fn read(json: &'static str) -> Result<Inputs, PayloadError> {
        read_input(&Payload::from_json_bytes(json))
    }

    fn refusal(json: &'static str) -> String {
        read(json).expect_err("is refused").reason().to_owned()
    }

    #[test]
    fn are_an_object_in_any_order_with_optional_and_unknown_keys() {
        let inputs = Inputs("a".to_owned(), BTreeMap::from([("x".to_owned(), 1.5)]), None);
        let stored = encode_input(&inputs).unwrap();
        assert_eq!(stored.as_bytes(), br#"{"label":"a","prices":{"x":1.5},"note":null}"#);
        assert_eq!(read_input::<Inputs>(&stored).unwrap(), inputs);
        assert_eq!(read(r#" { "more": [1], "prices": {"x":1.5}, "\u006cabel": "a" } "#).unwrap(), inputs);
    }

    #[test]
    fn refusal_shows_the_path_and_hides_the_keys_of_maps() {
        let inputs = Inputs("a".to_owned(), BTreeMap::from([("secret".to_owned(), f64::NAN)]), None);
        assert_eq!(encode_input(&inputs).unwrap_err().path(), "prices{0}");
        let prices = |price| Inputs("a".to_owned(), BTreeMap::from([("secret".to_owned(), price)]), None);
        let (before, now) = (encode_input(&prices(1.0)).unwrap(), encode_input(&prices(2.0)).unwrap());
        let differs = now.difference(&before).unwrap();
        assert!(differs.contains("prices{0}") && !differs.contains("secret"), "{differs}");
    }

    #[test]
    fn error_shows_the_place_in_the_whole_text() {
        let number = "invalid type: integer, expected a map";
        assert_eq!(refusal(r#"{"label":"a","prices":5}"#), format!("{number} at line 1 column 23"));
        assert_eq!(refusal("{\"label\":\n \"a\", \"prices\": 5}"), format!("{number} at line 2 column 17"));
        assert_eq!(refusal(r#"{"label":"a"}"#), "missing field `prices`");
        assert_eq!(refusal(r#"{"label":"a","label":"b"}"#), "duplicate field `label` at line 1 column 20");
        let list = "invalid type: sequence, expected an object of inputs at line 1 column 0";
        assert_eq!(refusal(r#"["a",{},true]"#), list);
    }
}
