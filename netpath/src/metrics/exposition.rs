//! The text format of Prometheus, version 0.0.4.

use std::{collections::HashMap, fmt::Write as _};

use super::{
    SAMPLES_MAX,
    family::{FAMILIES, Family, SAMPLES_OMITTED},
};

/// Samples by their family.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    texts: HashMap<&'static str, String>,
    samples: usize,
    omitted: usize,
}

impl Exposition {
    /// Adds a sample, with the values of its family's labels.
    pub(super) fn add(&mut self, family: &Family, labels: &[&str], value: f64) {
        self.samples += 1;
        let text = self.texts.entry(family.name).or_default();
        text.push_str(family.name);
        for (number, (name, value)) in family.labels.iter().zip(labels).enumerate() {
            let _ = write!(text, "{}{name}=\"{}\"", if number == 0 { '{' } else { ',' }, escaped(value));
        }
        let close = if family.labels.is_empty() { "" } else { "}" };
        let _ = writeln!(text, "{close} {value}");
    }

    /// Adds a sample of a NIC, while there is room.
    pub(super) fn add_bounded(&mut self, family: &Family, labels: &[&str], value: f64) {
        match self.samples < SAMPLES_MAX {
            true => self.add(family, labels, value),
            false => self.omitted += 1,
        }
    }

    /// The text: every family that has samples, each under its heading.
    pub(super) fn into_text(mut self) -> String {
        let omitted = self.omitted as f64;
        self.add(SAMPLES_OMITTED, &[], omitted);
        let mut text = String::new();
        for Family { name, kind, help, .. } in FAMILIES {
            if let Some(samples) = self.texts.get(name) {
                let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {}\n{samples}", kind.name());
            }
        }
        text
    }
}

/// A label's value: backslash, quote and newline are escaped.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::{super::family::*, *};

    #[test]
    fn samples_stand_under_the_heading_of_their_family() {
        let mut exposition = Exposition::default();
        exposition.add(DROPS, &["acme-web", "spoofed_mac"], 3.0);
        exposition.add(APPLIED, &[], 1.0);
        exposition.add(DROPS, &["", "a\"b\\c\nd"], 18_446_744_073_709_551_615_u64 as f64);
        assert_eq!(
            exposition.into_text(),
            "# HELP netpath_applied Definitions are applied under the pin root.\n\
             # TYPE netpath_applied gauge\n\
             netpath_applied 1\n\
             # HELP netpath_drops_total Refused packets; the network is empty where it was not known yet.\n\
             # TYPE netpath_drops_total counter\n\
             netpath_drops_total{network=\"acme-web\",reason=\"spoofed_mac\"} 3\n\
             netpath_drops_total{network=\"\",reason=\"a\\\"b\\\\c\\nd\"} 18446744073709552000\n\
             # HELP netpath_samples_omitted Samples of NICs that are left out because there are too many.\n\
             # TYPE netpath_samples_omitted gauge\n\
             netpath_samples_omitted 0\n"
        );
    }

    #[test]
    fn a_host_with_too_many_nics_has_no_more_samples_than_that() {
        let mut exposition = Exposition::default();
        for nic in 0..SAMPLES_MAX + 7 {
            exposition.add_bounded(PORT_RECEIVE_BYTES, &["n", "i", &nic.to_string()], 0.0);
        }
        let text = exposition.into_text();
        assert_eq!(text.matches("\nnetpath_port_receive_bytes_total{").count(), SAMPLES_MAX);
        assert!(text.ends_with("\nnetpath_samples_omitted 7\n"));
    }
}
