//! The yardstick: the least that a webhook receiver in the same framework can do. It reads the body, checks the same
//! HMAC with the same library, and answers 202. It keeps nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use aws_lc_rs::hmac;

use crate::Result;
use crate::load::{KEY, SIGNATURE_HEADER};
use crate::process::{Server, free_address};

/// The argument by which the bench starts itself as this server.
pub(crate) const ARGUMENT: &str = "--bare-handler";
/// As many as the gateway has on two cores.
const WORKERS: usize = 2;

/// Starts the bare handler as a process of its own.
pub(crate) fn start() -> Result<Server> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ARGUMENT).arg(address.port().to_string());
    Server::start("the bare handler", command, address, None)
}

/// Serves until it is killed.
pub(crate) fn serve(port: Option<&str>) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.ok_or("the bare handler wants a port")?.parse()?));
    let app = || {
        App::new()
            .app_data(web::Data::new(hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes())))
            .route("/hooks/bench", web::post().to(receive))
    };
    let served = actix_web::rt::System::new().block_on(HttpServer::new(app).workers(WORKERS).bind(address)?.run());
    Ok(served?)
}

async fn receive(request: HttpRequest, body: web::Bytes, key: web::Data<hmac::Key>) -> HttpResponse {
    let given = request.headers().get(SIGNATURE_HEADER).map(|value| data_encoding::HEXLOWER.decode(value.as_bytes()));
    match given {
        Some(Ok(given)) if hmac::verify(&key, &body, &given).is_ok() => {
            HttpResponse::Accepted().content_type("application/json").body(r#"{"status":"accepted"}"#)
        }
        _ => HttpResponse::Unauthorized().finish(),
    }
}
