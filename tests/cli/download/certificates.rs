//! Encrypted connections: only hosts whose certificates are right are trusted.
//!
//! `certificates` holds those of an authority that signed them for this test alone, and the key of the hub.

use super::hub::{Hub, LIST, Request, STORED, Stream, arrived, finish, redirect, reply, send, weights};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/download/certificates").join(name)
}

/// A hub that shows this certificate.
fn hub(certificate: &str, own: impl Fn(&Request, &mut dyn Stream) -> io::Result<bool> + Send + Sync + 'static) -> Hub {
    let chain = vec![CertificateDer::from_pem_file(file(certificate)).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file("key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(chain, key).unwrap());
    Hub::over("https", own, move |tcp| {
        let connection = ServerConnection::new(config.clone()).ok()?;
        Some(Box::new(StreamOwned::new(connection, tcp)))
    })
}

/// Downloads with trust in the authority of the test.
fn trusting(hub: &Hub, folder: &Path) -> (Option<i32>, String) {
    let mut command = hub.command(folder, &[]);
    command.env("SSL_CERT_FILE", file("authority.pem")).env("HF_TOKEN", "hf_secret");
    finish(command)
}

/// Weights on the hub itself, because the usual mock redirects to a host without encryption.
fn beside(request: &Request, stream: &mut dyn Stream) -> io::Result<bool> {
    match request.path.as_str() {
        path if path.ends_with(".ckpt") => redirect(stream, STORED)?,
        STORED => send(stream, request, &weights(), usize::MAX)?,
        _ => return Ok(false),
    }
    Ok(true)
}

#[test]
fn a_hub_with_a_certificate_of_a_named_authority_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = trusting(&hub("hub.pem", beside), folder.path());
    assert_eq!(code, Some(0), "{said}");
    arrived(folder.path());
}

#[test]
fn unknown_expired_and_foreign_certificates_are_refused_before_a_request() {
    let refused = |certificate: &str, trusted: bool, reason: &str| {
        let (hub, folder) = (hub(certificate, beside), tempfile::tempdir().unwrap());
        let (code, said) = if trusted { trusting(&hub, folder.path()) } else { hub.download(folder.path(), &[]) };
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("certificate") && said.contains(reason), "{said}");
        assert!(said.contains("SSL_CERT_FILE") && said.lines().count() == 1, "{said}");
        assert_eq!(hub.requests().len(), 0);
        assert!(!folder.path().join("ORG").exists());
    };
    refused("hub.pem", false, "UnknownIssuer");
    refused("expired.pem", true, "expired");
    refused("other.pem", true, "not valid for name");
}

#[test]
fn a_redirect_from_encryption_to_none_is_refused() {
    // The usual mock redirects to http://localhost.
    let (hub, folder) = (hub("hub.pem", |_, _| Ok(false)), tempfile::tempdir().unwrap());
    let (code, said) = trusting(&hub, folder.path());
    assert_eq!(code, Some(1));
    assert!(said.contains("redirects to http://localhost") && said.contains("not encrypted"), "{said}");
    assert!(hub.ranges().is_empty());
}

#[test]
fn a_hub_that_speaks_without_encryption_is_refused() {
    let hub = Hub::over(
        "https",
        |_, _| Ok(true),
        |mut tcp| {
            reply(&mut tcp, "200 OK", "", b"{}").unwrap();
            Some(Box::new(tcp))
        },
    );
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = hub.download(folder.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("osp: error: cannot download https://") && said.contains(LIST), "{said}");
    assert!(!said.contains("SSL_CERT_FILE"), "{said}");
}

#[test]
fn a_file_of_certificates_that_holds_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let damaged = fs::read_to_string(file("authority.pem")).unwrap().replace("MII", "!!!");
    for (name, text, code) in [
        ("empty.pem", "", 2),
        ("words.pem", "no certificate", 2),
        ("key.pem", &fs::read_to_string(file("key.pem")).unwrap(), 2),
        ("damaged.pem", &damaged, 2),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
        let mut command = Hub::well().command(folder.path(), &[]);
        command.env("SSL_CERT_FILE", name);
        let (found, said) = finish(command);
        assert_eq!(found, Some(code), "{said}");
        assert!(said.contains("SSL_CERT_FILE") && said.contains(name) && said.contains("PEM"), "{said}");
    }
    let mut command = Hub::well().command(folder.path(), &[]);
    command.env("SSL_CERT_FILE", "missing.pem");
    let (code, said) = finish(command);
    assert_eq!(code, Some(1));
    assert!(said.contains("cannot read missing.pem"), "{said}");
}
