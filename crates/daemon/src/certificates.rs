//! [`certificate_advice`]: what to do about a certificate that is not believed, where the library's word does not say.
//!
//! Absent on purpose: certificates that nobody trusts, of other names, or whose time is over. They are told as what they are.

use std::{error::Error, io};

/// webpki's name of the problem. Its type is not ours to name: `rustls` hands it over as any error.
const AUTHORITY_AS_SERVER: &str = "CaUsedAsEndEntity";

/// What to do about a certificate because of which `error`, or one of its causes, says that there is no TLS.
#[must_use]
pub fn certificate_advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return of_tls(tls);
        }
        // `source` of an I/O error leaves out what it is made of.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn of_tls(error: &rustls::Error) -> Option<&'static str> {
    let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(problem)) = error else { return None };
    (problem.0.to_string() == AUTHORITY_AS_SERVER).then_some(
        "the server shows the certificate of an authority (CA:TRUE, as `openssl req -x509` makes it), which is no server's: \
         give it one with CA:FALSE (`-addext basicConstraints=critical,CA:FALSE`), or one that the authority has signed",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
        crypto::ring,
    };
    use rustls_pki_types::{ServerName, UnixTime};

    use super::*;
    use crate::chain;

    /// What is said of a certificate that is trusted itself, as one of an authority or not.
    fn refused(is_ca: IsCa) -> Option<rustls::Error> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = is_ca;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let mut trusted = RootCertStore::empty();
        trusted.add(certificate.der().clone()).unwrap();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(trusted), Arc::new(ring::default_provider()))
                .build()
                .unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        verifier.verify_server_cert(certificate.der(), &[], &name, &[], UnixTime::now()).err()
    }

    #[derive(Debug, thiserror::Error)]
    #[error("no connection")]
    struct Outer(#[source] io::Error);

    #[test]
    fn an_authority_that_plays_the_server_is_explained_wherever_the_error_is_told() {
        let problem = refused(IsCa::Ca(BasicConstraints::Unconstrained)).unwrap();
        assert!(certificate_advice(&problem).is_some(), "{problem}");
        let told = chain(&Outer(io::Error::other(problem)));
        assert!(told.starts_with("no connection: ") && told.contains("CA:FALSE"), "{told}");
        assert_eq!(refused(IsCa::ExplicitNoCa), None, "which is what the advice says");
    }

    #[test]
    fn other_problems_speak_for_themselves() {
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        for error in [unknown, rustls::Error::DecryptError] {
            assert_eq!(certificate_advice(&Outer(io::Error::other(error))), None);
        }
        assert_eq!(certificate_advice(&io::Error::other("CaUsedAsEndEntity")), None);
    }
}
