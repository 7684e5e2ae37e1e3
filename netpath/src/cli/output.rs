//! Printing a result as a table for people, or as JSON or YAML for programs.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;

use crate::error::Error;

/// The form of the output (`-o`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people, at most 100 columns.
    Table,
    /// One JSON document, a stable interface.
    Json,
    /// The same document as YAML.
    Yaml,
}

/// Prints `value` in the chosen format; the table is only made when it is asked for.
///
/// # Errors
/// [`Error::Output`] when standard output does not take it; a closed pipe is no error.
pub(super) fn print(format: Format, value: &impl Serialize, table: impl FnOnce() -> String) -> Result<(), Error> {
    let text = match format {
        Format::Table => table(),
        Format::Json => {
            let mut text =
                serde_json::to_string_pretty(value).map_err(|error| Error::Output(io::Error::other(error)))?;
            text.push('\n');
            text
        }
        Format::Yaml => {
            let value = serde_json::to_value(value).map_err(|error| Error::Output(io::Error::other(error)))?;
            to_yaml(&value)
        }
    };
    print_text(&text)
}

/// Writes `text` to standard output.
///
/// # Errors
/// As [`print()`].
pub(super) fn print_text(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}

/// YAML in block style. A JSON string, number or empty collection is YAML as it stands (YAML 1.2 §1.3).
pub(super) fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    write_yaml(&mut out, value, 0, true);
    out
}

fn write_yaml(out: &mut String, value: &Value, depth: usize, at_line_start: bool) {
    let mut first = at_line_start;
    let mut indent = |out: &mut String| {
        if !std::mem::take(&mut first) {
            let _ = write!(out, "{:width$}", "", width = depth * 2);
        }
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, field) in fields {
                indent(out);
                let _ = write!(out, "{}:", Value::from(name.as_str()));
                match is_block(field) {
                    true => {
                        out.push('\n');
                        let _ = write!(out, "{:width$}", "", width = (depth + 1) * 2);
                    }
                    false => out.push(' '),
                }
                write_yaml(out, field, depth + 1, true);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                indent(out);
                out.push_str("- ");
                write_yaml(out, item, depth + 1, true);
            }
        }
        scalar => {
            let _ = writeln!(out, "{scalar}");
        }
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_is_indented_blocks() {
        let yaml = to_yaml(&json!({"a": [1, {"b": true, "c": []}], "d": {"e": null}}));
        assert_eq!(yaml, "\"a\":\n  - 1\n  - \"b\": true\n    \"c\": []\n\"d\":\n  \"e\": null\n");
    }
}
