//! Which servers are believed to be who they say they are.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};

use super::{HttpError, provider};

/// Which certificates of servers to accept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Trust {
    /// Those of the system's certificate authorities.
    #[default]
    System,
    /// Those of exactly the authorities in this PEM text.
    Only(String),
    /// Any. Whoever is between here and the server can read and change everything, credentials included.
    Anything,
}

/// The TLS settings for `trust`: TLS 1.2 and 1.3, HTTP/2 where the server speaks it.
pub(super) fn config(trust: &Trust) -> Result<ClientConfig, HttpError> {
    let setup = |error: Error| HttpError::Setup(error.to_string());
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(setup)?;
    let config = match trust {
        Trust::System => builder.with_root_certificates(system_roots()).with_no_client_auth(),
        Trust::Only(pem) => builder.with_root_certificates(roots(pem)?).with_no_client_auth(),
        Trust::Anything => {
            let anything = Arc::new(AcceptAnything(provider()));
            builder.dangerous().with_custom_certificate_verifier(anything).with_no_client_auth()
        }
    };
    Ok(over_http(config))
}

/// The same, with HTTP/2 and HTTP/1.1 to choose from.
pub(super) fn over_http(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// The system's authorities; Mozilla's in an image without any.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::debug!(%error, "skipped some of the system's certificate authorities");
    }
    let (_added, _ignored) = roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

fn roots(pem: &str) -> Result<RootCertStore, HttpError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| HttpError::Setup(format!("the CA is no PEM: {error}")))?;
        roots.add(certificate).map_err(|error| HttpError::Setup(format!("the CA cannot be used: {error}")))?;
    }
    if roots.is_empty() {
        return Err(HttpError::Setup("the CA has no PEM block `CERTIFICATE`".to_owned()));
    }
    Ok(roots)
}

/// Accepts every certificate, but still only handshakes made with its key.
#[derive(Debug)]
struct AcceptAnything(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnything {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
