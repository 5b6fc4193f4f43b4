//! The doors: whether their addresses can be had, and whether a gateway answers there already.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use http::Method;

use super::{Finding, Verdict};
use crate::limits;
use crate::outbound::{Client, Egress, Request};
use crate::settings::Settings;

pub(super) async fn examine(settings: &Settings) -> Vec<Finding> {
    let running = alive(settings).await.verdict == Verdict::Good;
    let doors = [("hooks door", settings.hooks.address), ("control door", settings.control.address)];
    doors.into_iter().map(|(about, address)| door(about, address, running)).collect()
}

/// Whether a gateway answers `/readyz` on the control door.
pub(super) async fn alive(settings: &Settings) -> Finding {
    let about = "gateway";
    let address = reachable(settings.control.address);
    if settings.control.tls.is_some() {
        let found = format!("the control door on {address} speaks TLS, which this look does not");
        return Finding::new(about, Verdict::Skipped, found);
    }
    let mend = "start it with `clawhook serve`, and read its log";
    // Nobody but this machine is asked.
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST), address.ip()];
    let client = Client::new(Egress::new(loopback.into_iter().map(ipnet::IpNet::from).collect::<Vec<_>>()));
    let asked = match Request::new(Method::GET, &format!("http://{address}/readyz")) {
        Ok(mut request) => {
            request.timeout = limits::DOCTOR_CALL_MAX;
            client.send(request).await
        }
        Err(cause) => return Finding::bad(about, cause.to_string(), mend),
    };
    client.close().await;
    match asked {
        Ok(answer) if answer.status.is_success() => Finding::good(about, format!("ready on {address}")),
        Ok(answer) => Finding::bad(about, format!("{address} answers {}", answer.status), mend),
        Err(error) => Finding::bad(about, format!("nobody answers on {address}: {error}"), mend),
    }
}

fn door(about: &str, address: SocketAddr, running: bool) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::good(about, format!("{address} is free")),
        // A port below 1024 is refused before it is found taken.
        Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) && running => {
            Finding::good(about, format!("{address} is the running gateway's"))
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let mend = "stop the program that listens there (`ss -ltnp` names it), or choose another port";
            Finding::bad(about, format!("{address} is in use by another program"), mend)
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let mend = "give the service `AmbientCapabilities=CAP_NET_BIND_SERVICE`, or choose a port above 1023";
            Finding::bad(about, format!("{address} may not be taken by this user"), mend)
        }
        Err(error) => {
            Finding::bad(about, format!("cannot listen on {address}: {error}"), "correct `listen` in clawhook.yaml")
        }
    }
}

/// The address to call for one that listens everywhere.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
