//! Whom we trust: the machine's authorities, and those a connection adds. TLS 1.2 and 1.3 by one crypto provider.
//! There is no way to turn verification off.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;

use super::error::Cause;
use super::request::Tls;

/// The machine's authorities, read at the first call that needs them: a gateway that speaks plain HTTP never does.
#[derive(Default)]
pub(super) struct MachineRoots(OnceCell<Arc<RootCertStore>>);

impl MachineRoots {
    async fn get(&self) -> Arc<RootCertStore> {
        let load = || async {
            let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
            let mut roots = RootCertStore::empty();
            if let Ok(loaded) = loaded {
                for error in &loaded.errors {
                    tracing::warn!(%error, "cannot read some of the machine's trusted certificates");
                }
                roots.add_parsable_certificates(loaded.certs);
            }
            Arc::new(roots)
        };
        self.0.get_or_init(load).await.clone()
    }
}

/// The trust of one pool of connections, made when its first TLS connection is.
pub(super) struct Trust {
    machine: Arc<MachineRoots>,
    tls: Tls,
    config: OnceCell<Arc<ClientConfig>>,
}

impl Trust {
    pub(super) fn new(machine: Arc<MachineRoots>, tls: Tls) -> Self {
        Self { machine, tls, config: OnceCell::new() }
    }

    pub(super) async fn config(&self) -> Result<Arc<ClientConfig>, Cause> {
        self.config.get_or_try_init(|| self.build()).await.cloned()
    }

    async fn build(&self) -> Result<Arc<ClientConfig>, Cause> {
        let machine = self.machine.get().await;
        let roots = match &self.tls.ca_pem {
            Some(pem) => Arc::new(with_authorities(&machine, pem)?),
            None => machine,
        };
        if roots.is_empty() {
            return Err(Cause::Trust { why: "this machine has none".into() });
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| Cause::Trust { why: error.to_string() })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn with_authorities(machine: &RootCertStore, pem: &[u8]) -> Result<RootCertStore, Cause> {
    let unusable = |why: String| Cause::Trust { why };
    let mut roots = machine.clone();
    let mut added = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| unusable(format!("`tls.ca` is not PEM: {error}")))?;
        roots.add(certificate).map_err(|error| unusable(format!("`tls.ca` holds no authority: {error}")))?;
        added += 1;
    }
    if added == 0 {
        return Err(unusable("`tls.ca` holds no certificate".into()));
    }
    Ok(roots)
}
