//! `https://`: whom a command believes, and what it shows of itself.

use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::failure::Failure;

/// Certificates for `https://` servers.
#[derive(Args, Clone, Debug, Default)]
#[group(id = "certificates")]
pub struct Certificates {
    /// PEM file of those who sign the server's certificate, instead of the system's
    #[arg(long, env = "ROUTECACHE_CA", value_name = "PATH")]
    ca: Option<PathBuf>,

    /// PEM file of the certificate to show, for servers that ask for one
    #[arg(long, env = "ROUTECACHE_CERT", value_name = "PATH", requires = "cert_key")]
    cert: Option<PathBuf>,

    /// PEM file of its private key
    #[arg(long, env = "ROUTECACHE_CERT_KEY", value_name = "PATH", requires = "cert")]
    cert_key: Option<PathBuf>,
}

/// A connection that nobody else can read.
pub type Secured = StreamOwned<ClientConnection, TcpStream>;

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// Which of them can't be used, and why.
    pub fn read(&self) -> Result<Arc<ClientConfig>, Failure> {
        let unusable = |path: &Path, why: String| Failure::Unusable(path.display().to_string(), why);
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.ca {
            for root in certificates(path)? {
                roots.add(root).map_err(|error| unusable(path, error.to_string()))?;
            }
        } else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let failed = |error: rustls::Error| Failure::Unusable("TLS".to_owned(), error.to_string());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(failed)?.with_root_certificates(roots);
        let (Some(cert), Some(key)) = (&self.cert, &self.cert_key) else {
            return Ok(Arc::new(config.with_no_client_auth()));
        };
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error.to_string()))?;
        let config = config.with_client_auth_cert(certificates(cert)?, private);
        config.map(Arc::new).map_err(|error| unusable(cert, error.to_string()))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let unusable = |why: String| Failure::Unusable(path.display().to_string(), why);
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found.map_err(|error| unusable(error.to_string()))? {
        found if found.is_empty() => Err(unusable("no certificate in PEM".to_owned())),
        found => Ok(found),
    }
}

/// Encrypts a connection to `host`, which the server's certificate must be for.
pub fn secure(config: &Arc<ClientConfig>, host: &str, stream: TcpStream) -> io::Result<Secured> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}
