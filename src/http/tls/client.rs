//! Certificates of clients: asked for, never demanded, and handed on with each request of the connection.
//!
//! A route decides whether it believes one, so the handshake lets every chain in whose key the client holds. A chain that no
//! route knows is as good as none; ending the handshake over it would cut off senders that show their certificate to everyone.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::limits;

/// Says at each handshake whether the client is asked for a certificate.
pub type Asks = Arc<dyn Fn() -> bool + Send + Sync>;

/// Lets every client in that holds the key of its certificate, and every client without one.
pub(super) struct AnyClient {
    asks: Asks,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyClient {
    pub(super) fn new(asks: Asks, provider: &CryptoProvider) -> Self {
        Self { asks, algorithms: provider.signature_verification_algorithms }
    }
}

impl fmt::Debug for AnyClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyClient")
    }
}

impl ClientCertVerifier for AnyClient {
    fn offer_client_auth(&self) -> bool {
        (self.asks)()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Routes come and go with their authorities; without hints a client brings what it has.
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if intermediates.len() >= limits::CLIENT_CHAIN_MAX {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The certificates that a client brought, its own first; requests find it in the data of their connection.
#[derive(Debug)]
pub struct ClientChain(Vec<CertificateDer<'static>>);

impl ClientChain {
    pub(in crate::http) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// Notes what the client of a new connection brought.
    pub(in crate::http) fn keep(connection: &dyn Any, data: &mut Extensions) {
        let stream = connection.downcast_ref::<TlsStream<TcpStream>>();
        if let Some(chain) = stream.and_then(|stream| stream.get_ref().1.peer_certificates()) {
            data.insert(Self(chain.iter().map(|certificate| certificate.clone().into_owned()).collect()));
        }
    }
}
