//! What a host says for each physical network.

use serde_json::{Map, Value, json};

use super::{
    decode::{At, Field, Scalar},
    findings::Findings,
    node::{Kind, Node},
    values::Name,
};

/// A map from physical network to value.
#[derive(Debug, Clone)]
pub struct ByNetwork<T>(Vec<(At<Name>, At<T>)>);

impl<T> ByNetwork<T> {
    /// The value for `physical_network`.
    pub fn get(&self, physical_network: &str) -> Option<&At<T>> {
        self.0.iter().find(|(name, _)| name.as_str() == physical_network).map(|(_, value)| value)
    }

    /// Every row, in the document's order.
    pub fn iter(&self) -> impl Iterator<Item = (&At<Name>, &At<T>)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl<T: Scalar> Field for ByNetwork<T> {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        let Kind::Map(fields) = &node.kind else {
            let expected = "write a map from physical network to value: {guest: eth1}";
            findings.add(node.at, node.quote(), "not a map", expected);
            return None;
        };
        let mut rows = Vec::with_capacity(fields.len());
        for (key, node) in fields {
            let name = match Name::parse(&key.name) {
                Ok(value) => Some(At { value, at: key.at }),
                Err((problem, expected)) => {
                    findings.add(key.at, &key.name, problem, expected);
                    None
                }
            };
            rows.extend(name.zip(At::decode(node, findings)));
        }
        Some(Self(rows))
    }

    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }

    fn stand_in() -> Option<Self> {
        Self::absent()
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        json!({"type": "object", "additionalProperties": T::schema()})
    }
}

/// One value for all physical networks, or a map from physical network to value.
#[derive(Debug, Clone)]
pub struct PerNetwork<T> {
    for_all: Option<At<T>>,
    by_network: ByNetwork<T>,
}

impl<T> PerNetwork<T> {
    /// The value for `physical_network`.
    pub fn get(&self, physical_network: &str) -> Option<&At<T>> {
        self.by_network.get(physical_network).or(self.for_all.as_ref())
    }

    /// The physical networks that are named, with their values.
    pub fn named(&self) -> impl Iterator<Item = (&At<Name>, &At<T>)> {
        self.by_network.iter()
    }

    /// Every value that is written.
    pub fn values(&self) -> impl Iterator<Item = &At<T>> {
        self.for_all.iter().chain(self.by_network.iter().map(|(_, value)| value))
    }
}

impl<T: Scalar> Field for PerNetwork<T> {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        let nowhere = ByNetwork(Vec::new());
        match &node.kind {
            Kind::Map(_) => ByNetwork::decode(node, findings).map(|by_network| Self { for_all: None, by_network }),
            _ => At::decode(node, findings).map(|value| Self { for_all: Some(value), by_network: nowhere }),
        }
    }

    fn absent() -> Option<Self> {
        Some(Self { for_all: None, by_network: ByNetwork(Vec::new()) })
    }

    fn stand_in() -> Option<Self> {
        Self::absent()
    }

    fn schema(defs: &mut Map<String, Value>) -> Value {
        json!({"anyOf": [T::schema(), ByNetwork::<T>::schema(defs)]})
    }
}
