//! `netpath metrics`: what Prometheus scrapes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{net::TcpListener, runtime};

use super::{Exit, Global, output};
use crate::{error::Error, metrics};

/// Print the metrics of what is applied, or answer Prometheus with them
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Answer `GET /metrics` at this address until it is stopped
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:9700", value_parser = address)]
    listen: Option<SocketAddr>,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, Error> {
    match args.listen {
        None => output::print_text(&metrics::collect(&global.root)?)?,
        Some(address) => listen(address, global)?,
    }
    Ok(Exit::Done)
}

/// An address and a port; `:9700` is every address of the host, `localhost:9700` this host alone.
fn address(text: &str) -> Result<SocketAddr, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or_default();
    let port = || port.parse().map_err(|_| format!("`{text}` has no port; write 127.0.0.1:9700"));
    match host {
        "" => Ok((Ipv4Addr::UNSPECIFIED, port()?).into()),
        "localhost" => Ok((Ipv4Addr::LOCALHOST, port()?).into()),
        _ => {
            text.parse().map_err(|_| format!("`{text}` is no address with a port; write 127.0.0.1:9700 or [::1]:9700"))
        }
    }
}

fn listen(address: SocketAddr, global: &Global) -> Result<(), Error> {
    let failed = |source| Error::Listen { address, source };
    let root: Arc<std::path::Path> = global.root.as_path().into();
    // The maps are read beside the one thread that answers.
    let runtime =
        runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().map_err(failed)?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        if !bound.ip().is_loopback() {
            tracing::warn!("the metrics can be read from other hosts, at {bound}");
        }
        output::print_text(&format!("http://{bound}/metrics\n"))?;
        metrics::serve(listener, move || metrics::collect(&root)).await.map_err(failed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_all_or_this_hosts() {
        for (text, wanted) in [
            ("127.0.0.1:9700", "127.0.0.1:9700"),
            (":9700", "0.0.0.0:9700"),
            ("localhost:1", "127.0.0.1:1"),
            ("[::1]:9700", "[::1]:9700"),
        ] {
            assert_eq!(address(text), Ok(wanted.parse().unwrap()), "{text}");
        }
        for wrong in ["", "9700", "127.0.0.1", "host:9700", ":x", ":99999"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
