//! The certificates of the doors: whether they can be had, fit their key, lead anywhere, and how long they last.

use std::sync::Arc;

use super::Finding;
use crate::clock::Clock;
use crate::http::tls::{Certificate, Origin, PemFiles, Use};
use crate::limits;
use crate::secrets::Vault;
use crate::settings::{DoorTls, Settings, TlsFiles};

pub(super) async fn examine(settings: &Settings, vault: &Arc<Vault>, clock: &Arc<dyn Clock>) -> Vec<Finding> {
    let doors = [("hooks", &settings.hooks.tls), ("control", &settings.control.tls)];
    let mut findings = Vec::new();
    for (door, tls) in doors {
        if let Some(tls) = tls {
            findings.push(certificate(door, tls, vault, clock).await);
        }
    }
    findings
}

async fn certificate(door: &'static str, tls: &DoorTls, vault: &Arc<Vault>, clock: &Arc<dyn Clock>) -> Finding {
    let about = format!("certificate of the {door} door");
    let origin = match tls {
        DoorTls::Files(TlsFiles { cert, key }) => Origin::Files(PemFiles { cert: cert.clone(), key: key.clone() }),
        DoorTls::KeyVault(name) => Origin::Vault { name: name.clone(), vault: Arc::clone(vault) },
    };
    let certificate = match Certificate::load(origin, Use { door, clock: Arc::clone(clock) }).await {
        Ok(certificate) => certificate,
        Err(error) => {
            return Finding::bad(about, error.to_string(), format!("correct `listen.{door}.tls`, or what it names"));
        }
    };
    let Some(ends) = certificate.ends_at() else {
        return Finding::doubtful(about, "it does not say how long it lasts", "give one that X.509 readers understand");
    };
    let left = ends.since(clock.now());
    let days = left.as_secs() / (24 * 60 * 60);
    let chain = certificate.chain_length();
    let found = format!("its key fits, {chain} in the chain, ends at {ends}, in {days} days");
    if left.is_zero() {
        return Finding::bad(about, format!("it ended at {ends}"), "renew it: senders refuse this door");
    }
    if left < limits::TLS_WARN_BEFORE {
        return Finding::doubtful(about, found, "renew it");
    }
    if chain == 1 {
        let mend = "unless it is self-signed on purpose, give the whole chain (`fullchain.pem`): senders do not look for the rest";
        return Finding::doubtful(about, found, mend);
    }
    Finding::good(about, found)
}
