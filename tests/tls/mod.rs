//! The server's side of TLS, with the certificate that a control plane's authority issued for its API server on this machine.

use std::sync::Arc;

use pilotage_harness::ControlPlane;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Whoever trusts the authority of that control plane trusts a server with this.
pub fn acceptor(plane: &ControlPlane) -> TlsAcceptor {
    let file = |name: &str| plane.dir().join("pki").join(name);
    let chain = CertificateDer::pem_file_iter(file("apiserver.crt")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(file("apiserver.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsAcceptor::from(Arc::new(versions.with_no_client_auth().with_single_cert(chain, key).unwrap()))
}
