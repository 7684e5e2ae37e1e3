//! The server that Prometheus scrapes: `GET /metrics`, and nothing else.
//!
//! A request is at most [`REQUEST_MAX`] bytes and takes at most [`HEAD_TIME`], all of it at most [`TIME_MAX`];
//! [`CONNECTIONS_MAX`] are open at once: one more, and who has waited the longest without a request goes. The maps are read at most
//! once in [`FRESH`], however many ask.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::Mutex,
    task::{self, AbortHandle},
    time::{sleep, timeout},
};

use crate::error::Error;

/// The bytes of a request's head.
const REQUEST_MAX: usize = 8 << 10;
/// For the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(2);
/// For a whole request and its answer.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Connections at once.
const CONNECTIONS_MAX: usize = 16;
/// Between two looks whether one of all places is free.
const BUSY: Duration = Duration::from_millis(20);
/// An answer is given again for this long.
const FRESH: Duration = Duration::from_secs(1);

/// What answers are made of, and the last one.
struct Source<C> {
    collect: C,
    last: Mutex<Option<(Instant, Arc<str>)>>,
}

/// Answers requests for ever. `collect` reads the metrics; it may block, and is called by one request at a time.
///
/// # Errors
/// Never by itself: a connection that fails is closed, and what cannot be read is a 503 without a word about why, which
/// is logged.
pub async fn serve<C>(listener: TcpListener, collect: C) -> io::Result<()>
where
    C: Fn() -> Result<String, Error> + Send + Sync + 'static,
{
    let source = Arc::new(Source { collect, last: Mutex::new(None) });
    let mut open = Open::default();
    loop {
        if !open.make_room() {
            // All that there are have asked, and are answered; more wait in the kernel's queue.
            sleep(BUSY).await;
            continue;
        }
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No descriptor, no memory: it will not be better at once.
                tracing::warn!("a connection to the metrics was not accepted: {error}");
                sleep(FRESH).await;
                continue;
            }
        };
        let (source, has_asked) = (Arc::clone(&source), Arc::new(AtomicBool::new(false)));
        let noted = Arc::clone(&has_asked);
        let conversation = tokio::spawn(async move {
            // Whoever is too slow, or gone, gets no answer.
            let _ = timeout(TIME_MAX, converse(stream, source, &noted)).await;
        });
        open.0.push_back(Connection { task: conversation.abort_handle(), has_asked });
        // What it has sent by now is read before another one may take its place.
        task::yield_now().await;
    }
}

/// The connections that are open, the oldest first.
#[derive(Default)]
struct Open(VecDeque<Connection>);

struct Connection {
    task: AbortHandle,
    /// Its request is there.
    has_asked: Arc<AtomicBool>,
}

impl Open {
    /// Forgets those that are over; of too many it closes the oldest that has not asked. `false` where all have.
    fn make_room(&mut self) -> bool {
        self.0.retain(|connection| !connection.task.is_finished());
        if self.0.len() < CONNECTIONS_MAX {
            return true;
        }
        let idle = self.0.iter().position(|connection| !connection.has_asked.load(Ordering::Relaxed));
        let closed = idle.and_then(|idle| self.0.remove(idle));
        closed.inspect(|connection| connection.task.abort()).is_some()
    }
}

async fn converse<S, C>(mut stream: S, source: Arc<Source<C>>, has_asked: &AtomicBool) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: Fn() -> Result<String, Error> + Send + Sync + 'static,
{
    let request = timeout(HEAD_TIME, request(&mut stream)).await??;
    has_asked.store(true, Ordering::Relaxed);
    let answer = match request {
        None => Answer::status("431 Request Header Fields Too Large"),
        Some(head) => match route(&head) {
            Route::Metrics => match source.text().await {
                Some(text) => Answer { text, ..Answer::status("200 OK") },
                None => Answer::status("503 Service Unavailable"),
            },
            Route::Refused(status) => Answer::status(status),
        },
    };
    stream.write_all(answer.head().as_bytes()).await?;
    stream.write_all(answer.text.as_bytes()).await?;
    stream.shutdown().await
}

/// The head of a request; `None` when it is too long.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !is_whole(&head) {
        if head.len() >= REQUEST_MAX {
            return Ok(None);
        }
        match stream.read(&mut part).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => head.extend_from_slice(&part[..read]),
        }
    }
    Ok(Some(head))
}

/// Whether an empty line has come; lines may end without a carriage return (RFC 9112 §2.2).
fn is_whole(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n")
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    Metrics,
    /// With this status.
    Refused(&'static str),
}

/// Judges a request by its first line.
fn route(head: &[u8]) -> Route {
    let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version, rest) = (words.next(), words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some(b"HTTP/1.0" | b"HTTP/1.1"), None) = (method, target, version, rest) else {
        return Route::Refused("400 Bad Request");
    };
    match (method, target.split(|byte| *byte == b'?').next()) {
        (b"GET", Some(b"/metrics")) => Route::Metrics,
        (_, Some(b"/metrics")) => Route::Refused("405 Method Not Allowed"),
        _ => Route::Refused("404 Not Found"),
    }
}

impl<C> Source<C>
where
    C: Fn() -> Result<String, Error> + Send + Sync + 'static,
{
    /// The metrics, at most [`FRESH`] old.
    async fn text(self: &Arc<Self>) -> Option<Arc<str>> {
        let mut last = self.last.lock().await;
        if let Some((at, text)) = &*last
            && at.elapsed() < FRESH
        {
            return Some(Arc::clone(text));
        }
        let source = Arc::clone(self);
        let text = match task::spawn_blocking(move || (source.collect)()).await {
            Ok(Ok(text)) => Arc::<str>::from(text),
            Ok(Err(error)) => {
                tracing::warn!("the metrics cannot be read: {error}");
                return None;
            }
            Err(error) => {
                tracing::error!("the metrics cannot be read: {error}");
                return None;
            }
        };
        *last = Some((Instant::now(), Arc::clone(&text)));
        Some(text)
    }
}

/// An answer; the connection ends with it.
struct Answer {
    status: &'static str,
    text: Arc<str>,
}

impl Answer {
    fn status(status: &'static str) -> Self {
        Self { status, text: "".into() }
    }

    fn head(&self) -> String {
        let Self { status, text } = self;
        let allow = if status.starts_with("405") { "Allow: GET\r\n" } else { "" };
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
            text.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::{io::duplex, net::TcpStream, runtime};

    use super::*;

    fn source<C: Fn() -> Result<String, Error>>(collect: C) -> Arc<Source<C>> {
        Arc::new(Source { collect, last: Mutex::new(None) })
    }

    /// What is answered to these bytes, until the end.
    fn answered<C>(source: &Arc<Source<C>>, bytes: &[u8]) -> String
    where
        C: Fn() -> Result<String, Error> + Send + Sync + 'static,
    {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut ours, theirs) = duplex(1 << 20);
            ours.write_all(bytes).await.unwrap();
            converse(theirs, Arc::clone(source), &AtomicBool::new(false)).await.unwrap();
            let mut answer = String::new();
            ours.read_to_string(&mut answer).await.unwrap();
            answer
        })
    }

    const GET: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

    #[test]
    fn an_answer_is_what_was_collected_and_is_given_again_while_it_is_fresh() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let source = source(move || Ok(format!("netpath_applied {}\n", counted.fetch_add(1, Ordering::Relaxed))));
        let answer = answered(&source, GET);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("\r\nContent-Length: 18\r\n") && answer.ends_with("\r\n\r\nnetpath_applied 0\n"));
        assert_eq!(answered(&source, GET), answer);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        let past = Instant::now().checked_sub(FRESH).unwrap();
        source.last.try_lock().unwrap().as_mut().unwrap().0 = past;
        assert!(answered(&source, GET).ends_with("netpath_applied 1\n"));
    }

    #[test]
    fn what_cannot_be_read_is_no_answer_and_says_nothing_of_the_host() {
        let source = source(|| Err(Error::NotFound { what: "map", name: "secret".into(), next: String::new() }));
        let answer = answered(&source, GET);
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\n"), "{answer}");
        assert!(!answer.contains("secret"));
    }

    #[test]
    fn a_request_without_an_end_is_cut_off() {
        let source = source(|| unreachable!("nothing is asked for"));
        let endless = [b"GET /metrics HTTP/1.1\r\n".to_vec(), vec![b'x'; REQUEST_MAX]].concat();
        assert!(answered(&source, &endless).starts_with("HTTP/1.1 431 "));
        let allowed = answered(&source, b"PUT /metrics HTTP/1.1\r\n\r\n");
        assert!(allowed.starts_with("HTTP/1.1 405 ") && allowed.contains("\r\nAllow: GET\r\n"));
    }

    /// All at once on one thread, so that nobody's patience ends meanwhile.
    #[test]
    fn who_says_nothing_keeps_nobody_from_being_answered() {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = tokio::spawn(serve(listener, || Ok("netpath_applied 1\n".to_owned())));
            let mut silent = Vec::new();
            for _ in 0..3 * CONNECTIONS_MAX {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(b"GET /met").await.unwrap();
                silent.push(stream);
            }
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\n\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("\r\n\r\nnetpath_applied 1\n"), "{answer}");
            // The first of the others was closed for it.
            assert!(matches!(silent[0].read(&mut [0; 1]).await, Ok(0) | Err(_)));
            server.abort();
        });
    }

    #[test]
    fn only_a_get_of_metrics_is_answered() {
        let refused = |line: &str| match route(format!("{line}\r\nHost: x\r\n\r\n").as_bytes()) {
            Route::Refused(status) => &status[..3],
            Route::Metrics => "200",
        };
        for (line, status) in [
            ("GET /metrics HTTP/1.1", "200"),
            ("GET /metrics HTTP/1.0", "200"),
            ("GET /metrics?name[]=x HTTP/1.1", "200"),
            ("POST /metrics HTTP/1.1", "405"),
            ("HEAD /metrics HTTP/1.1", "405"),
            ("GET / HTTP/1.1", "404"),
            ("GET /metrics/ HTTP/1.1", "404"),
            ("GET /../metrics HTTP/1.1", "404"),
            ("GET http://other/metrics HTTP/1.1", "404"),
            ("DELETE /debug HTTP/1.1", "404"),
            ("GET /metrics", "400"),
            ("GET  /metrics HTTP/1.1", "400"),
            ("GET /metrics HTTP/2.0", "400"),
            ("", "400"),
        ] {
            assert_eq!(refused(line), status, "{line}");
        }
    }
}
