//! `netpath metrics --listen` under way, and whoever scrapes it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Stdio},
};

use crate::{runner::Netpath, topology::NetNs};

/// A server, killed when this goes out of scope.
#[derive(Debug)]
pub struct Server {
    child: Child,
    ns: NetNs,
    /// Where it listens, in its namespace.
    pub address: SocketAddr,
}

impl Server {
    /// Starts one, and waits until it says where it listens.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(netpath: &Netpath, ns: &NetNs) -> Self {
        let mut command = netpath.command(["metrics", "--listen", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary can be started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output is piped")).read_line(&mut line).expect("it prints text");
        let address = line.trim().strip_prefix("http://").and_then(|rest| rest.strip_suffix("/metrics"));
        let address = address.unwrap_or_else(|| panic!("no address in {line}")).parse().expect("it is an address");
        Self { child, ns: ns.clone(), address }
    }

    /// The status and the body of its answer.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn ask(&self, request: &str) -> (String, String) {
        self.ns.run(|| {
            let mut stream = TcpStream::connect(self.address).expect("the server listens");
            let request = format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("the server reads");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("the server answers");
            let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
            (head.split(' ').nth(1).expect("a head has a status").to_owned(), body.to_owned())
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
