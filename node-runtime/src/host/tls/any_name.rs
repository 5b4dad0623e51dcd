//! [`AnyName`]: what databases call `VERIFY_CA`.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::TlsError;

/// Believes a server that an authority has certified, under whatever name.
#[derive(Debug)]
pub(super) struct AnyName(Arc<WebPkiServerVerifier>);

impl AnyName {
    /// One that trusts `authorities`, of which there must be some.
    pub(super) fn of(authorities: Arc<RootCertStore>) -> Result<Self, TlsError> {
        let verifier = WebPkiServerVerifier::builder_with_provider(authorities, Arc::new(ring::default_provider()));
        let verifier = verifier.build().map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self(verifier))
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // Names are looked at last.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;

    #[test]
    fn a_server_of_another_name_is_believed_and_one_of_another_authority_is_not() {
        let authority = || {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        };
        let (trusted, other) = (authority(), authority());
        let mut authorities = RootCertStore::empty();
        authorities.add(trusted.der().clone()).unwrap();
        let any_name = AnyName::of(Arc::new(authorities)).unwrap();
        let believed = |issuer: &CertifiedIssuer<'_, KeyPair>| {
            let params = CertificateParams::new(["db.example".to_owned()]).unwrap();
            let certificate = params.signed_by(&KeyPair::generate().unwrap(), &**issuer).unwrap();
            let name = ServerName::try_from("127.0.0.1").unwrap();
            any_name.verify_server_cert(certificate.der(), &[], &name, &[], UnixTime::now()).is_ok()
        };
        assert!(believed(&trusted));
        assert!(!believed(&other));
    }
}
