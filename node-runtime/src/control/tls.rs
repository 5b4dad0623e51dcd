//! [`Identity`]: who this runtime is to the operator, and who the operator must be.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use control::wire::OPERATOR_DNS_NAME;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    server::{VerifierBuilderError, WebPkiClientVerifier},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

/// The certificates in a directory, read again whenever a connection comes.
#[derive(Debug)]
pub(super) struct Identity {
    dir: PathBuf,
    current: Mutex<(Files, Arc<ServerConfig>)>,
}

/// What the files hold.
#[derive(Clone, PartialEq, Eq)]
struct Files {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Files")
    }
}

/// Why the files are no identity.
#[derive(Debug, thiserror::Error)]
pub(super) enum IdentityError {
    #[error("cannot read {}", .path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{file} holds no {what} in PEM form")]
    Pem {
        file: &'static str,
        what: &'static str,
        #[source]
        source: pem::Error,
    },
    #[error("{0} holds no certificate")]
    Empty(&'static str),
    #[error("tls.crt and tls.key cannot be used")]
    Unusable(#[from] rustls::Error),
    #[error("ca.crt cannot be used")]
    Authority(#[from] VerifierBuilderError),
}

/// Why a client is turned away.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    #[error("the client's certificate is not that of {OPERATOR_DNS_NAME}")]
    NotTheOperator,
}

impl Identity {
    /// Reads the files in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self, IdentityError> {
        let files = Files::read(dir)?;
        let config = files.config()?;
        Ok(Self { dir: dir.to_path_buf(), current: Mutex::new((files, config)) })
    }

    /// The configuration of what the files hold now; of what they held before if that is of no use.
    fn refreshed(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let renewed = Files::read(&self.dir)
            .and_then(|files| if files == current.0 { Ok(None) } else { Ok(Some((files.config()?, files))) });
        match renewed {
            Ok(None) => {}
            Ok(Some((config, files))) => {
                tracing::info!(dir = %self.dir.display(), "certificates changed: the new ones are used from now on");
                *current = (files, config);
            }
            Err(error) => {
                tracing::warn!(error = daemon::chain(&error), "certificates cannot be read: the earlier ones are used");
            }
        }
        Arc::clone(&current.1)
    }

    /// Shakes hands, and makes sure that it is the operator's.
    pub(super) async fn accept(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Refused> {
        let stream = TlsAcceptor::from(self.refreshed()).accept(stream).await.map_err(Refused::Handshake)?;
        let peer = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        if peer.is_some_and(is_the_operators) { Ok(stream) } else { Err(Refused::NotTheOperator) }
    }
}

/// Whether a certificate, already verified, has the operator's DNS name.
fn is_the_operators(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = parse_x509_certificate(certificate) else { return false };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|name| matches!(name, GeneralName::DNSName(OPERATOR_DNS_NAME)))
}

impl Files {
    fn read(dir: &Path) -> Result<Self, IdentityError> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read(&path).map_err(|source| IdentityError::File { path, source })
        };
        Ok(Self { ca: read("ca.crt")?, certificate: read("tls.crt")?, key: read("tls.key")? })
    }

    fn config(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in certificates("ca.crt", &self.ca)? {
            roots.add(certificate)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|source| IdentityError::Pem {
            file: "tls.key",
            what: "private key",
            source,
        })?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates("tls.crt", &self.certificate)?, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(file: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| IdentityError::Pem { file, what: "certificate", source })?;
    if certificates.is_empty() { Err(IdentityError::Empty(file)) } else { Ok(certificates) }
}
