//! Certificates: the bridge's own, and whose clients' it accepts.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// Where certificates are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The bridge's certificate, and those between it and the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs the certificates that clients must show; none asks for none.
    pub client_ca: Option<PathBuf>,
}

/// Files that can't be used for TLS.
#[derive(Debug, thiserror::Error)]
pub enum UnusableTls {
    /// A file can't be read, or holds something else.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// They don't fit together.
    #[error("the certificate and its key can't be used")]
    Pair(#[source] rustls::Error),
}

/// TLS with certificates that can be read anew.
#[derive(Clone)]
pub struct Tls {
    files: Arc<TlsFiles>,
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`UnusableTls`].
    pub fn read(files: TlsFiles) -> Result<Self, UnusableTls> {
        let config = Arc::new(RwLock::new(Arc::new(config(&files)?)));
        Ok(Self { files: Arc::new(files), config })
    }

    /// Reads the files again, for connections from now on.
    ///
    /// # Errors
    ///
    /// [`UnusableTls`]; then what was read before goes on.
    pub fn reload(&self) -> Result<(), UnusableTls> {
        let fresh = Arc::new(config(&self.files)?);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Whether clients must show a certificate.
    #[must_use]
    pub fn is_mutual(&self) -> bool {
        self.files.client_ca.is_some()
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

fn config(files: &TlsFiles) -> Result<ServerConfig, UnusableTls> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(UnusableTls::Pair)?;
    let config = match &files.client_ca {
        None => config.with_no_client_auth(),
        Some(path) => {
            let failed = |error: &dyn std::error::Error| unusable(path, error);
            let mut roots = RootCertStore::empty();
            for root in certificates(path)? {
                roots.add(root).map_err(|error| failed(&error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            config.with_client_cert_verifier(verifier.map_err(|error| failed(&error))?)
        }
    };
    let pem = fs::read(&files.key).map_err(|error| unusable(&files.key, &error))?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| unusable(&files.key, &error))?;
    let mut config = config.with_single_cert(certificates(&files.certificate)?, key).map_err(UnusableTls::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, UnusableTls> {
    let pem = fs::read(path).map_err(|error| unusable(path, &error))?;
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|error| unusable(path, &error))?;
    if found.is_empty() {
        return Err(UnusableTls::File { path: path.display().to_string(), why: "no certificate in PEM".into() });
    }
    Ok(found)
}

fn unusable(path: &Path, error: &dyn std::error::Error) -> UnusableTls {
    UnusableTls::File { path: path.display().to_string(), why: error.to_string() }
}
