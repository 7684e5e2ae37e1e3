//! A page is fetched over HTTP, and says who has served it to whom.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    guest::{PATIENCE, bind_when_free, raw::wait_readable},
    topology::NetNs,
};

/// Length of a page in bytes.
const PAGE: usize = 4 << 20;

/// A web server for one page.
pub(super) struct Server<'s> {
    /// Where it runs.
    pub(super) ns: &'s NetNs,
    /// Where it listens.
    pub(super) at: SocketAddr,
    /// What it says that it is.
    pub(super) name: String,
}

/// What a visitor has come to know.
#[derive(Debug)]
pub(super) struct Visit {
    /// Who has answered.
    pub(super) server: String,
    /// Whom the server has seen.
    pub(super) client: IpAddr,
}

impl Visit {
    /// As rows of the report have it.
    pub(super) fn text(&self) -> String {
        format!("{}, sees {}, 4 MiB", self.server, self.client)
    }
}

/// Fetches a page from `to`, which leads to the server, and compares all of its bytes.
pub(super) fn visit(from: &NetNs, to: SocketAddr, server: &Server<'_>) -> Result<Visit> {
    let listener = server
        .ns
        .run(|| bind_when_free(|| TcpListener::bind(server.at)))
        .with_context(|| format!("listening at {}", server.at))?;
    thread::scope(|scope| {
        let served = scope.spawn(|| serve(&listener, &server.name));
        let page = from.run(|| fetch(to)).with_context(|| format!("fetching a page from {to}"));
        let served = served.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let page = page?;
        served?;
        Ok(page)
    })
}

/// The next connection, with its deadlines set.
pub(super) fn accept(listener: &TcpListener) -> Result<TcpStream> {
    if !wait_readable(listener.as_fd(), Instant::now() + PATIENCE) {
        bail!("nobody connected");
    }
    patient(listener.accept()?.0)
}

/// A connection from this thread's namespace.
pub(super) fn connect(to: SocketAddr) -> Result<TcpStream> {
    patient(TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("connecting {to}"))?)
}

fn patient(stream: TcpStream) -> Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn serve(listener: &TcpListener, name: &str) -> Result<()> {
    let mut stream = accept(listener)?;
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).context("reading the request")?;
        request.push(byte[0]);
    }
    let client = stream.peer_addr()?.ip();
    let head = format!("HTTP/1.0 200 OK\r\nServer: {name}\r\nClient: {client}\r\nContent-Length: {PAGE}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(&page()).context("sending the page")
}

fn fetch(to: SocketAddr) -> Result<Visit> {
    let mut stream = connect(to)?;
    stream.write_all(format!("GET / HTTP/1.0\r\nHost: {to}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("reading the page")?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("an answer without a header")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    ensure!(
        answer[end + 4..] == page(),
        "{} bytes of a page arrived, which are not the {PAGE} sent",
        answer.len() - end - 4
    );
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    let client = field("Client:").context("an answer that names no client")?.parse()?;
    Ok(Visit { server: field("Server:").context("an answer that names no server")?, client })
}

fn page() -> Vec<u8> {
    (0..PAGE as u32).map(|place| place.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}
