//! [`ServerTls`]: TLS with a certificate that is in files, which are read again when they change.
//!
//! Promise: a new certificate is used for new connections within seconds, and connections that are open are untouched. A
//! new file that cannot be used changes nothing: the certificate before it stays, and the log says what is wrong, once.
//!
//! Files are looked at rather than watched: Kubernetes replaces a mounted Secret by swapping a symbolic link some
//! directories up, editors replace files, and network file systems tell nobody.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{ServerConfig, crypto::ring};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::tasks::Tasks;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often a state of the files must be found unusable before it is told: two files are never replaced at once.
const SETTLED: u32 = 2;

/// Where a server's certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, the server's own certificate first (PEM).
    pub certificate: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1, not encrypted (PEM). The first one counts.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is no PEM.
    #[error("{} is no PEM file", .path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// Where it ceases to be one.
        #[source]
        source: pem::Error,
    },
    /// There is no certificate in the file of certificates.
    #[error("there is no certificate in {}: expected a PEM block `CERTIFICATE`", .0.display())]
    NoCertificate(PathBuf),
    /// There is no key in the file of the key.
    #[error(
        "there is no private key in {}: expected a PEM block `PRIVATE KEY`, `RSA PRIVATE KEY` or `EC PRIVATE KEY`, which is not encrypted",
        .0.display()
    )]
    NoKey(PathBuf),
    /// They are not of each other, or of a kind that is not supported.
    #[error("the certificate in {} and the key in {} cannot be used together", .files.certificate.display(), .files.key.display())]
    Unusable {
        /// Which.
        files: TlsFiles,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

impl TlsError {
    /// One word for logs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "Unreadable",
            Self::Pem { .. } | Self::NoCertificate(_) | Self::NoKey(_) => "InvalidPem",
            Self::Unusable { .. } => "InvalidCertificate",
        }
    }
}

/// What the files have held.
#[derive(Default)]
struct Seen {
    /// What is in use.
    used: Option<Contents>,
    /// What was found since, cannot be used, and how often it was found.
    unusable: Option<(Result<Contents, String>, u32)>,
}

#[derive(Clone, PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// A server's side of TLS 1.2 and 1.3, which offers HTTP/2 and HTTP/1.1 (ALPN).
pub struct ServerTls {
    files: TlsFiles,
    current: ArcSwap<ServerConfig>,
    seen: Mutex<Seen>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let contents = Contents::read(&files)?;
        let current = ArcSwap::from(contents.config(&files)?);
        let seen = Seen { used: Some(contents), unusable: None };
        Ok(Self { files, current, seen: Mutex::new(seen) })
    }

    /// Uses what is in the files now; whether that is something new. What cannot be used is logged when it is found for
    /// the second time, and changes nothing.
    pub fn refresh(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let read = Contents::read(&self.files);
        if let Ok(contents) = &read
            && seen.used.as_ref() == Some(contents)
        {
            seen.unusable = None;
            return false;
        }
        let usable = read.as_ref().map(|contents| contents.config(&self.files));
        let error = match usable {
            Ok(Ok(config)) => {
                self.current.store(config);
                *seen = Seen { used: read.ok(), unusable: None };
                tracing::info!(certificate = %self.files.certificate.display(), "a new certificate is used");
                return true;
            }
            Ok(Err(error)) => crate::chain(&error),
            Err(error) => crate::chain(error),
        };
        self.note_unusable(&mut seen, read.map_err(|error| error.to_string()), &error);
        false
    }

    fn note_unusable(&self, seen: &mut Seen, found: Result<Contents, String>, error: &str) {
        let times = match &seen.unusable {
            Some((before, times)) if *before == found => times.saturating_add(1),
            _ => 1,
        };
        if times == SETTLED {
            tracing::error!(
                certificate = %self.files.certificate.display(), key = %self.files.key.display(), error,
                "the new certificate cannot be used: the one before it stays",
            );
        }
        seen.unusable = Some((found, times));
    }

    /// Looks at the files every two seconds, as a task of `tasks`, until it is told to stop.
    pub fn keep_current(self: &Arc<Self>, tasks: &Tasks) {
        let (tls, stop) = (Arc::clone(self), tasks.stop_token());
        tasks.spawn_brief("certificates", async move {
            while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
                let tls = Arc::clone(&tls);
                // A panic is in the log; the next look may go better.
                drop(tokio::task::spawn_blocking(move || tls.refresh()).await);
            }
        });
    }

    /// Shakes hands with a client.
    ///
    /// # Errors
    /// When the client speaks no TLS, or none that is acceptable.
    pub async fn accept<I>(&self, io: I) -> io::Result<TlsStream<I>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.current.load_full()).accept(io).await
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read =
            |path: &Path| fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_path_buf(), source });
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)? })
    }

    fn config(&self, files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(|source| TlsError::Pem { path: files.certificate.clone(), source })?;
        if certificates.is_empty() {
            return Err(TlsError::NoCertificate(files.certificate.clone()));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsError::NoKey(files.key.clone()),
            source => TlsError::Pem { path: files.key.clone(), source },
        })?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key));
        let mut config = config.map_err(|source| TlsError::Unusable { files: files.clone(), source })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// A certificate for `name`, and its key as PKCS#8.
    fn pair(name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn files(dir: &Path) -> TlsFiles {
        TlsFiles { certificate: dir.join("tls.crt"), key: dir.join("tls.key") }
    }

    fn write(files: &TlsFiles, (certificate, key): &(String, String)) {
        fs::create_dir_all(files.key.parent().unwrap()).unwrap();
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.key, key).unwrap();
    }

    fn used(tls: &ServerTls) -> Arc<ServerConfig> {
        tls.current.load_full()
    }

    #[test]
    fn a_new_certificate_is_used_and_a_broken_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        write(&files, &pair("one.example"));
        let tls = ServerTls::load(files.clone()).unwrap();
        assert!(!tls.refresh(), "nothing has changed");
        let first = used(&tls);
        for broken in [(pair("a").0, pair("b").1), ("no pem".to_owned(), pair("c").1), (pair("d").0, String::new())] {
            write(&files, &broken);
            assert!(!tls.refresh() && !tls.refresh(), "what cannot be used is not used");
            assert!(Arc::ptr_eq(&first, &used(&tls)));
        }
        fs::remove_file(&files.key).unwrap();
        assert!(!tls.refresh());
        write(&files, &pair("two.example"));
        assert!(tls.refresh());
        assert!(!Arc::ptr_eq(&first, &used(&tls)));
    }

    #[test]
    fn a_directory_that_is_swapped_as_kubernetes_does_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["v1", "v2"] {
            write(&files(&dir.path().join(version)), &pair(version));
        }
        let at = |name: &str| dir.path().join(name);
        symlink("v1", at("..data")).unwrap();
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), at(name)).unwrap();
        }
        let tls = ServerTls::load(files(dir.path())).unwrap();
        symlink("v2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(tls.refresh());
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_file_and_what_is_expected() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let refused = |certificate: &str, key: &str| {
            write(&files, &(certificate.to_owned(), key.to_owned()));
            let error = ServerTls::load(files.clone()).unwrap_err();
            (error.reason(), crate::chain(&error))
        };
        let (certificate, key) = pair("one.example");
        let (reason, message) = refused("", &key);
        assert!(reason == "InvalidPem" && message.contains("tls.crt: expected a PEM block `CERTIFICATE`"), "{message}");
        let (reason, message) = refused(&certificate, &certificate);
        assert!(reason == "InvalidPem" && message.contains("tls.key: expected a PEM block"), "{message}");
        let (reason, message) = refused(&certificate, &pair("other").1);
        assert!(reason == "InvalidCertificate" && message.contains("cannot be used together"), "{message}");
        fs::remove_file(&files.certificate).unwrap();
        assert_eq!(ServerTls::load(files.clone()).unwrap_err().reason(), "Unreadable");
    }

    #[test]
    fn keys_are_taken_in_every_usual_form() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        for (certificate, key) in [
            (include_str!("tls/testdata/ec.crt"), include_str!("tls/testdata/ec.sec1.key")),
            (include_str!("tls/testdata/rsa.crt"), include_str!("tls/testdata/rsa.pkcs1.key")),
            (include_str!("tls/testdata/rsa.crt"), include_str!("tls/testdata/rsa.pkcs8.key")),
        ] {
            write(&files, &(certificate.to_owned(), key.to_owned()));
            ServerTls::load(files.clone()).unwrap();
        }
    }
}
