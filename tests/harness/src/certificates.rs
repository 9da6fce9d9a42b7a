//! The control plane's certificate authority: its own certificate, the API
//! server's, and those of the users.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SigningKey,
};
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, Tag};

const NAME: &str = "pilotage-test-ca";

/// The authority, kept in a folder so that more users can be added later.
pub(crate) struct Authority {
    dir: PathBuf,
}

/// A certificate with its key, both PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    /// Makes a new authority with the API server's certificate and the key that
    /// signs `ServiceAccount` tokens.
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let key = KeyPair::generate()?;
        let certificate = authority_params()?.self_signed(&key)?;
        write(dir, "ca.crt", &certificate.pem())?;
        write(dir, "ca.key", &key.serialize_pem())?;
        let tokens = KeyPair::generate()?;
        write(dir, "service-accounts.key", &tokens.serialize_pem())?;
        write(dir, "service-accounts.pub", &tokens.public_key_pem())?;
        let authority = Self { dir: dir.to_owned() };
        let (certificate, key) = authority.serving()?;
        write(dir, "apiserver.crt", &certificate.pem())?;
        write(dir, "apiserver.key", &key.serialize_pem())?;
        Ok(authority)
    }

    pub(crate) fn open(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn pem(&self) -> Result<String> {
        let path = self.file("ca.crt");
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    fn key(&self) -> Result<KeyPair> {
        let path = self.file("ca.key");
        let pem = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(KeyPair::from_pem(&pem)?)
    }

    fn serving(&self) -> Result<(Certificate, KeyPair)> {
        let mut params = CertificateParams::new(["127.0.0.1", "localhost"].map(String::from))?;
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let issuer = Issuer::new(authority_params()?, self.key()?);
        Ok((params.signed_by(&key, &issuer)?, key))
    }

    /// Makes the client certificate of a user.
    pub(crate) fn client(&self, user: &str, groups: &[&str]) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let der = client_certificate(user, groups, &key, &self.key()?)?;
        Ok(Identity { certificate: pem("CERTIFICATE", &der), key: key.serialize_pem() })
    }
}

fn authority_params() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Encodes and signs a client certificate (RFC 5280). The groups of a user are organizations, and rcgen's names hold one value of each
/// kind.
fn client_certificate(user: &str, groups: &[&str], subject: &KeyPair, issuer: &KeyPair) -> Result<Vec<u8>> {
    let serial = ring::digest::digest(&ring::digest::SHA256, &subject.subject_public_key_info());
    let serial = &serial.as_ref()[..16];
    let body = yasna::construct_der(|w| {
        w.write_sequence(|w| {
            w.next().write_tagged(Tag::context(0), |w| w.write_u8(2)); // version 3
            w.next().write_bigint_bytes(serial, true);
            signature_algorithm(w.next());
            name(w.next(), NAME, &[]);
            // It is valid at any time: it does not outlive a test or a demo.
            w.next().write_sequence(|w| {
                utc_time(w.next(), "750101000000Z");
                generalized_time(w.next(), "40960101000000Z");
            });
            name(w.next(), user, groups);
            w.next().write_der(&subject.subject_public_key_info());
            w.next().write_tagged(Tag::context(3), |w| {
                w.write_sequence(|w| {
                    w.next().write_sequence(|w| {
                        w.next().write_oid(&oid(&[2, 5, 29, 37])); // extended key usage
                        w.next().write_bytes(&yasna::construct_der(|w| {
                            w.write_sequence(|w| w.next().write_oid(&oid(&[1, 3, 6, 1, 5, 5, 7, 3, 2]))); // client
                        }));
                    });
                });
            });
        });
    });
    let signature = issuer.sign(&body)?;
    Ok(yasna::construct_der(|w| {
        w.write_sequence(|w| {
            w.next().write_der(&body);
            signature_algorithm(w.next());
            w.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    }))
}

fn oid(components: &[u64]) -> ObjectIdentifier {
    ObjectIdentifier::from_slice(components)
}

/// ECDSA with SHA-256, which rcgen's default key uses.
fn signature_algorithm(writer: DERWriter<'_>) {
    writer.write_sequence(|w| w.next().write_oid(&oid(&[1, 2, 840, 10045, 4, 3, 2])));
}

fn name(writer: DERWriter<'_>, common_name: &str, organizations: &[&str]) {
    let organizations = organizations.iter().map(|value| (10, *value));
    writer.write_sequence(|w| {
        for (kind, value) in organizations.chain([(3, common_name)]) {
            w.next().write_set(|w| {
                w.next().write_sequence(|w| {
                    w.next().write_oid(&oid(&[2, 5, 4, kind]));
                    w.next().write_utf8_string(value);
                });
            });
        }
    });
}

fn utc_time(writer: DERWriter<'_>, value: &str) {
    writer.write_tagged_implicit(Tag { tag_class: yasna::TagClass::Universal, tag_number: 23 }, |w| {
        w.write_bytes(value.as_bytes());
    });
}

fn generalized_time(writer: DERWriter<'_>, value: &str) {
    writer.write_tagged_implicit(Tag { tag_class: yasna::TagClass::Universal, tag_number: 24 }, |w| {
        w.write_bytes(value.as_bytes());
    });
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut lines = STANDARD.encode(der);
    // Before the end of each line but the last.
    for at in (1..=(lines.len() - 1) / 64).rev() {
        lines.insert(at * 64, '\n');
    }
    format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
}

fn write(dir: &Path, name: &str, content: &str) -> Result<()> {
    let path = dir.join(name);
    std::fs::write(&path, content).with_context(|| path.display().to_string())
}
