//! The command line as a process: what goes where, and how it exits.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

fn netpath(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_netpath")).args(args).output().unwrap()
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/two-tenants.yaml")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A file of the process's own that goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("netpath-cli-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_valid_file_is_one_line_and_exit_code_0() {
    let output = netpath(&["validate", "-f", example().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stdout(&output)
            .ends_with("valid: zone zone1, 2 hosts, 2 physical networks, 3 networks, 7 NICs, 0 public ranges\n")
    );
    assert_eq!(stderr(&output), "");
}

#[test]
fn definitions_may_come_through_a_pipe_that_the_command_is_given() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netpath"));
    let command = command.args(["validate", "-f", "/dev/stdin"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // It opens the pipe beside the descriptor that it is given, finds it empty, and waits.
    let descriptors = PathBuf::from(format!("/proc/{}/fd", child.id()));
    let given = std::fs::read_link(descriptors.join("0")).unwrap();
    let has_opened = || {
        let opened = std::fs::read_dir(&descriptors).into_iter().flatten();
        let opened = opened.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        opened.filter(|target| *target == given).count() == 2
    };
    let begun = Instant::now();
    while !has_opened() && begun.elapsed() < Duration::from_secs(10) {
        std::thread::yield_now();
    }
    pipe.write_all(&std::fs::read(example()).unwrap()).unwrap();
    drop(pipe);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && stdout(&output).starts_with("/dev/stdin: valid: zone zone1"), "{output:?}");
}

#[test]
fn errors_go_to_standard_error_with_exit_code_1() {
    let file = Scratch::new("wrong.yaml", "zone: a\nnetworks:\n  - name: b\n    segment: 4096\n    gatway: x\n");
    let output = netpath(&["validate", "-f", file.path()]);
    assert_eq!((output.status.code(), &*stdout(&output)), (Some(1), ""));
    let path = file.path();
    let said = stderr(&output);
    assert!(
        said.starts_with(&format!("error: {path} has 2 errors\n{path}:3:5: `physical_network`: missing")),
        "{said}"
    );
    assert!(
        said.contains(&format!("{path}:5:5: `gatway`: unknown field of a network; did you mean `gateway`?")),
        "{said}"
    );
}

#[test]
fn an_error_that_nobody_can_be_told_is_exit_code_1() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_netpath"));
    let status = command.args(["validate", "-f", "/nowhere.yaml"]).stderr(full).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn findings_are_data_with_o_json() {
    let file = Scratch::new("data.yaml", "zone: a\nvxlan_port: 0\n");
    let output = netpath(&["-o", "json", "validate", "-f", file.path()]);
    assert_eq!((output.status.code(), &*stderr(&output)), (Some(1), ""));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["valid"], false);
    assert_eq!(
        report["findings"][0],
        serde_json::json!({
            "file": file.path(), "line": 2, "column": 13, "value": "0", "problem": "out of range",
            "expected": "use 1 to 65535",
        })
    );
}

#[test]
fn a_wrong_command_line_is_exit_code_3() {
    for args in [
        &["validate"][..],
        &["validate", "--file"],
        &["no-such-verb"],
        &["-o", "xml", "schema"],
        &["trace", "--from", "vnet0", "--pcap", "a.pcap", "--packet", "0"],
    ] {
        assert_eq!(netpath(args).status.code(), Some(3), "{args:?}");
    }
    assert_eq!(netpath(&["--help"]).status.code(), Some(0));
}

#[test]
fn the_schema_is_json_by_default() {
    let output = netpath(&["schema"]);
    assert_eq!(output.status.code(), Some(0));
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

#[test]
fn yaml_output_is_yaml_that_reads_back() {
    let output = netpath(&["schema", "-o", "yaml"]);
    let mut parser = saphyr_parser::Parser::new_from_str(std::str::from_utf8(&output.stdout).unwrap());
    while let Some(event) = parser.next_event() {
        event.unwrap();
    }
}
