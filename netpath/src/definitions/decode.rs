//! From the document's tree to typed values, every error collected; and from the same types to the JSON Schema.
//!
//! A type says once what it accepts: [`Field`] reads it and describes it. The `object!` macro declares a struct whose
//! fields are the document's fields and whose docstrings are the schema's descriptions.
//!
//! A value that cannot be read is a finding and leaves a stand-in with [`Pos::NONE`] behind, so that the checks still
//! see the rest of its object. Stand-ins never get out: a document with findings makes no zone.

use std::ops::Deref;

use serde_json::{Map, Value, json};

use super::{
    findings::{Findings, Pos},
    node::{Key, Kind, Node},
};

/// What can stand as the value of a field.
pub(super) trait Field: Sized {
    /// Reads the value; `None` when it is not usable, which is then a finding.
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self>;

    /// The value of a field that is left out; `None` when it may not be.
    fn absent() -> Option<Self> {
        None
    }

    /// What stands in for a value that could not be read; `None` when its object cannot do without.
    fn stand_in() -> Option<Self>;

    /// The JSON Schema of the value; objects put theirs into `defs` and answer a reference.
    fn schema(defs: &mut Map<String, Value>) -> Value;
}

/// What is written as one word or number.
pub(super) trait Scalar: Sized {
    /// Stands in for a value that could not be read.
    const STAND_IN: Self;

    /// Whether checks quote it as it is written, which the value does not tell.
    const IS_QUOTED: bool = false;

    /// Reads the text. The error is (what is wrong, what would be right).
    fn parse(text: &str) -> Result<Self, (String, String)>;

    /// Why a text that can be read is refused all the same, unless its document has been in force.
    fn objection(_text: &str) -> Option<(String, String)> {
        None
    }

    /// The JSON Schema of the value.
    fn schema() -> Value;
}

/// A value and where it stands in the document; [`Pos::NONE`] when it is a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub at: Pos,
}

impl<T> At<T> {
    /// A value that the document does not hold.
    pub const fn default_of(value: T) -> Self {
        Self { value, at: Pos::NONE }
    }

    /// Whether the document holds it: neither a default nor a stand-in.
    pub fn is_written(&self) -> bool {
        self.at != Pos::NONE
    }
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Scalar> Field for At<T> {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        let Kind::Scalar { text, .. } = &node.kind else {
            findings.add(node.at, node.quote(), "a list or map where one value belongs", "write a single value");
            return None;
        };
        match T::parse(text) {
            Ok(value) => {
                if let Some((problem, expected)) = T::objection(text) {
                    findings.object(node.at, text, problem, expected);
                }
                if T::IS_QUOTED {
                    findings.remember(node.at, text);
                }
                Some(Self { value, at: node.at })
            }
            Err((problem, expected)) => {
                findings.add(node.at, text, problem, expected);
                None
            }
        }
    }

    fn stand_in() -> Option<Self> {
        Some(Self { value: T::STAND_IN, at: Pos::NONE })
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        T::schema()
    }
}

impl<T: Field> Field for Option<T> {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        T::decode(node, findings).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn stand_in() -> Option<Self> {
        Some(T::stand_in())
    }

    fn schema(defs: &mut Map<String, Value>) -> Value {
        T::schema(defs)
    }
}

impl<T: Field> Field for Vec<T> {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        let Kind::List(items) = &node.kind else {
            let expected = "write a list: `[a, b]`, or a line beginning with `- ` for each";
            findings.add(node.at, node.quote(), "not a list", expected);
            return None;
        };
        Some(items.iter().filter_map(|item| T::decode(item, findings)).collect())
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn stand_in() -> Option<Self> {
        Some(Self::new())
    }

    fn schema(defs: &mut Map<String, Value>) -> Value {
        json!({"type": "array", "items": T::schema(defs)})
    }
}

/// One value, or a list of them.
#[derive(Debug, Clone)]
pub struct Several<T>(Vec<At<T>>);

impl<T> Deref for Several<T> {
    type Target = [At<T>];

    fn deref(&self) -> &[At<T>] {
        &self.0
    }
}

impl<T: Scalar> Field for Several<T> {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::List(_) => Vec::decode(node, findings).map(Self),
            _ => At::decode(node, findings).map(|one| Self(vec![one])),
        }
    }

    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }

    fn stand_in() -> Option<Self> {
        Self::absent()
    }

    fn schema(defs: &mut Map<String, Value>) -> Value {
        json!({"anyOf": [T::schema(), Vec::<At<T>>::schema(defs)]})
    }
}

/// A list that is another thing when it is empty than when it is left out: a policy without rules is one.
#[derive(Debug, Clone)]
pub struct Policy<T>(Vec<T>);

impl<T> Deref for Policy<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Field> Field for Policy<T> {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        Vec::decode(node, findings).map(Self)
    }

    fn stand_in() -> Option<Self> {
        Vec::stand_in().map(Self)
    }

    fn schema(defs: &mut Map<String, Value>) -> Value {
        Vec::<T>::schema(defs)
    }
}

/// The fields of one map while it is read: each is taken by name, and what is left over is unknown.
pub(super) struct Fields<'n, 'a, 'k> {
    fields: &'n [(Key<'a>, std::rc::Rc<Node<'a>>)],
    what: &'static str,
    known: &'k [&'static str],
    at: Pos,
}

impl<'n, 'a, 'k> Fields<'n, 'a, 'k> {
    /// The fields of `node`, which has to be a map with `known` names only.
    pub(super) fn open(
        node: &'n Node<'a>,
        what: &'static str,
        known: &'k [&'static str],
        findings: &mut Findings,
    ) -> Option<Self> {
        let Kind::Map(fields) = &node.kind else {
            let expected = format_args!("write it as a map with the fields {}", known.join(", "));
            findings.add(node.at, node.quote(), format_args!("not the fields of {what}"), expected);
            return None;
        };
        for (key, _) in fields {
            if !known.contains(&&*key.name) && !findings.is_full() {
                let expected = match nearest(&key.name, known) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => format!("use one of {}", known.join(", ")),
                };
                findings.add(key.at, &key.name, format_args!("unknown field of {what}"), expected);
            }
        }
        Some(Self { fields, what, known, at: node.at })
    }

    /// The value of field `name`, or what stands in for it.
    pub(super) fn get<T: Field>(&self, name: &'static str, default: Option<T>, findings: &mut Findings) -> Option<T> {
        debug_assert!(self.known.contains(&name));
        match self.fields.iter().find(|(key, _)| key.name == name) {
            Some((_, node)) if !node.is_null() => T::decode(node, findings).or_else(T::stand_in),
            _ => default.or_else(T::absent).or_else(|| {
                let problem = format_args!("missing in {}", self.what);
                findings.add(self.at, name, problem, format_args!("add `{name}:`"));
                T::stand_in()
            }),
        }
    }
}

/// The candidate that `name` most likely meant: at most a third of its letters differ.
pub(super) fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let limit = name.chars().count() / 3 + 1;
    let known = candidates.iter().map(|candidate| (distance(name, candidate), *candidate));
    known.filter(|(distance, _)| *distance <= limit).min().map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, in characters; names longer than any real one are simply far away.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(from != *to)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

/// Declares a struct that is a map in the document. A field's type says whether it may be left out (`Option`, `Vec`),
/// `= value` gives it a default. `at` is where the map begins.
macro_rules! object {
    (
        #[what = $what:literal]
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $( $(#[doc = $field_doc:literal])* pub $field:ident : $ty:ty $(= $default:expr)?, )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone)]
        pub struct $name {
            /// Where it begins in the document.
            pub at: $crate::definitions::findings::Pos,
            $( $(#[doc = $field_doc])* pub $field: $ty, )*
        }

        impl $crate::definitions::decode::Field for $name {
            fn decode(
                node: &$crate::definitions::node::Node<'_>,
                findings: &mut $crate::definitions::findings::Findings,
            ) -> Option<Self> {
                const KNOWN: &[&str] = &[$(stringify!($field)),*];
                let fields = $crate::definitions::decode::Fields::open(node, $what, KNOWN, findings)?;
                $( let $field = fields.get(stringify!($field), object!(@default $($default)?), findings); )*
                Some(Self { at: node.at, $( $field: $field?, )* })
            }

            fn stand_in() -> Option<Self> {
                None
            }

            fn schema(defs: &mut serde_json::Map<String, serde_json::Value>) -> serde_json::Value {
                $crate::definitions::decode::object_schema(
                    defs, stringify!($name), concat!($($doc),*),
                    |defs| vec![$( {
                        let required = <$ty as $crate::definitions::decode::Field>::absent().is_none()
                            && !object!(@has $($default)?);
                        let schema = <$ty as $crate::definitions::decode::Field>::schema(defs);
                        (stringify!($field), concat!($($field_doc),*), required, schema)
                    } ),*],
                )
            }
        }
    };
    (@default) => { None };
    (@default $default:expr) => { Some($default) };
    (@has) => { false };
    (@has $default:expr) => { true };
}
pub(super) use object;

/// A field as the schema shows it: name, description, whether it must be given, schema.
type Property = (&'static str, &'static str, bool, Value);

/// Puts an object's schema into `defs`, once, and answers the reference to it.
pub(super) fn object_schema(
    defs: &mut Map<String, Value>,
    name: &'static str,
    description: &str,
    fields: impl FnOnce(&mut Map<String, Value>) -> Vec<Property>,
) -> Value {
    if !defs.contains_key(name) {
        defs.insert(name.into(), Value::Null);
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (field, description, is_required, mut schema) in fields(defs) {
            schema["description"] = description.trim().into();
            if is_required {
                required.push(field);
            }
            properties.insert(field.into(), schema);
        }
        let schema = json!({
            "type": "object",
            "description": description.trim(),
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        });
        defs.insert(name.into(), schema);
    }
    json!({"$ref": format!("#/$defs/{name}")})
}
