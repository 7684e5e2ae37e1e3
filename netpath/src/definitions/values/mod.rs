//! The words and numbers of the definitions, each with how it is read and how the schema describes it.

mod address;
mod choice;
mod number;
mod rate;

use std::{fmt, ops::Deref};

use serde_json::{Value, json};

pub use self::{
    choice::{
        Action, Direction, EgressDefault, Filtering, GatewayMode, Isolation, OnMiss, Pacing, Protocol, Replication,
        Traffic, UplinkMode,
    },
    number::{Ids, Int, Ports, Segment},
    rate::{Burst, Rate},
};
use super::decode::Scalar;

/// What is wrong with a value, and what would be right.
pub(super) type Problem = (String, String);

fn problem<T>(problem: impl Into<String>, expected: impl Into<String>) -> Result<T, Problem> {
    Err((problem.into(), expected.into()))
}

/// The name of an object: 1 to 48 letters, digits, dots, dashes or underscores.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// The longest name, in bytes; it has to fit a row of the NAMES map.
const NAME_MAX: usize = 48;

impl Scalar for Name {
    const STAND_IN: Self = Self(String::new());

    fn parse(text: &str) -> Result<Self, Problem> {
        let expected = || format!("use 1 to {NAME_MAX} letters, digits, dots, dashes or underscores");
        if text.is_empty() {
            return problem("an empty name", expected());
        }
        match text.chars().find(|c| !c.is_ascii_alphanumeric() && !"._-".contains(*c)) {
            Some(odd) => problem(format!("a name with {odd:?} in it"), expected()),
            None if text.len() > NAME_MAX => problem(format!("a name of {} characters", text.len()), expected()),
            None => Ok(Self(text.into())),
        }
    }

    fn schema() -> Value {
        // YAML takes a name of digits for a number.
        json!({"type": ["string", "number"], "pattern": format!("^[A-Za-z0-9._-]{{1,{NAME_MAX}}}$")})
    }
}

/// The name of a network device, as Linux accepts it (`dev_valid_name`, net/core/dev.c).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceName(String);

/// `IFNAMSIZ` without the terminator.
const DEVICE_MAX: usize = 15;

impl Scalar for DeviceName {
    const STAND_IN: Self = Self(String::new());

    fn parse(text: &str) -> Result<Self, Problem> {
        let expected = || format!("use a Linux device name: 1 to {DEVICE_MAX} characters without space, `/` or `:`");
        if text.is_empty() || text == "." || text == ".." {
            return problem("no name of a device", expected());
        }
        match text.chars().find(|c| !c.is_ascii_graphic() || "/:".contains(*c)) {
            Some(odd) => problem(format!("a device name with {odd:?} in it"), expected()),
            None if text.len() > DEVICE_MAX => {
                problem(format!("a device name of {} characters", text.len()), expected())
            }
            None => Ok(Self(text.into())),
        }
    }

    fn schema() -> Value {
        json!({"type": ["string", "number"], "pattern": format!("^[!-.0-9;-~]{{1,{DEVICE_MAX}}}$")})
    }
}

macro_rules! text_like {
    ($($name:ident),*) => {$(
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
text_like!(Name, DeviceName);

impl Scalar for bool {
    const STAND_IN: Self = false;

    fn parse(text: &str) -> Result<Self, Problem> {
        match text {
            "true" | "True" | "TRUE" => Ok(true),
            "false" | "False" | "FALSE" => Ok(false),
            _ => problem("neither true nor false", "write `true` or `false`"),
        }
    }

    fn schema() -> Value {
        json!({"type": "boolean"})
    }
}
