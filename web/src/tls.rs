//! TLS to the server, by libpq's settings: `sslmode`, `sslrootcert`, `sslcert` and `sslkey` in the connection
//! string, else in the environment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::pgenv::Env;
use crate::sslwords::Given;

/// Where a system keeps the certificates of authorities that it trusts.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// What of libpq's settings of TLS is not done here: whoever sets one must not get less in silence.
const NOT_DONE: [&str; 4] = [
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLMINPROTOCOLVERSION",
    "PGREQUIRESSL",
];

/// How the server is reached: whether by TLS, and what its certificate must be.
#[derive(Clone)]
pub struct Tls {
    pub mode: SslMode,
    pub connect: MakeRustlsConnect,
}

/// How much of the server's certificate is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Check {
    Nothing,
    Chain,
    ChainAndName,
}

// ---- what they mean -----------------------------------------------------------------------------

/// Reads certificates and keys; a socket in the file system needs no TLS, as with libpq.
pub fn tls(given: Given, over_socket: bool, env: Env) -> Result<Tls, String> {
    if let Some(name) = NOT_DONE.iter().find(|name| env(name).is_some()) {
        return Err(format!("{name} is not supported"));
    }
    let given = given.or(env);
    let home = env("HOME").map(|home| PathBuf::from(home).join(".postgresql"));
    let file = |name: &str| {
        home.as_ref()
            .map(|dir| dir.join(name))
            .filter(|path| path.exists())
    };
    let root = given.root.map(PathBuf::from).or_else(|| file("root.crt"));
    let (mode, check) = meaning(given.mode.as_deref(), root.as_deref())?;
    if over_socket || mode == SslMode::Disable {
        return Ok(Tls {
            mode: SslMode::Disable,
            connect: MakeRustlsConnect::new(client_config(Check::Nothing, None, None)?),
        });
    }
    let roots = match check {
        Check::Nothing => None,
        _ => Some(certificates(&roots_file(root.as_deref(), env)?)?),
    };
    let certificate = given
        .certificate
        .map(PathBuf::from)
        .or_else(|| file("postgresql.crt"));
    let key = given
        .key
        .map(PathBuf::from)
        .or_else(|| file("postgresql.key"));
    let own = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificates(&certificate)?, private_key(&key)?)),
        (Some(certificate), None) => {
            return Err(format!("{}: there is no key for it", certificate.display()));
        }
        (None, _) => None,
    };
    Ok(Tls {
        mode,
        connect: MakeRustlsConnect::new(client_config(check, roots, own)?),
    })
}

/// libpq: `require` looks at the certificate where there is one to hold it against; the system's
/// authorities sign for anybody, so the name must be looked at with them.
fn meaning(mode: Option<&str>, root: Option<&Path>) -> Result<(SslMode, Check), String> {
    if root == Some(Path::new("system")) {
        return match mode {
            None | Some("verify-full") => Ok((SslMode::Require, Check::ChainAndName)),
            Some(mode) => Err(format!(
                "sslmode {mode} is too weak with sslrootcert=system: use verify-full"
            )),
        };
    }
    match mode.unwrap_or("prefer") {
        "disable" => Ok((SslMode::Disable, Check::Nothing)),
        // libpq tries the two in another order.
        "allow" | "prefer" => Ok((SslMode::Prefer, Check::Nothing)),
        "require" if root.is_none() => Ok((SslMode::Require, Check::Nothing)),
        "require" | "verify-ca" => Ok((SslMode::Require, Check::Chain)),
        "verify-full" => Ok((SslMode::Require, Check::ChainAndName)),
        other => Err(format!("there is no sslmode {other}")),
    }
}

fn roots_file(root: Option<&Path>, env: Env) -> Result<PathBuf, String> {
    match root {
        Some(path) if path == Path::new("system") => env("SSL_CERT_FILE")
            .map(PathBuf::from)
            .or_else(|| {
                SYSTEM_ROOTS
                    .iter()
                    .map(PathBuf::from)
                    .find(|path| path.exists())
            })
            .ok_or_else(|| "this system has no file of authorities: set SSL_CERT_FILE".to_owned()),
        Some(path) => Ok(path.to_owned()),
        None => Err(
            "sslmode verifies, and there is no ~/.postgresql/root.crt: set sslrootcert".to_owned(),
        ),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| format!("{}: {e}", path.display()))?;
    if read.is_empty() {
        return Err(format!("{}: there is no certificate in it", path.display()));
    }
    Ok(read)
}

/// libpq's rule: a key that others can read is none. Of root's the group may read it.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    use std::os::unix::fs::MetadataExt;
    let told = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let file = std::fs::metadata(path).map_err(|e| told(&e))?;
    let open = if file.uid() == 0 { 0o037 } else { 0o077 };
    if file.mode() & open != 0 {
        return Err(told(&"it is open to others: chmod 600"));
    }
    PrivateKeyDer::from_pem_file(path).map_err(|e| told(&e))
}

type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client_config(
    check: Check,
    roots: Option<Vec<CertificateDer<'static>>>,
    own: Option<Own>,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(check, roots.unwrap_or_default(), provider.clone())?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match own {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|e| format!("the client's certificate: {e}")),
        None => Ok(builder.with_no_client_auth()),
    }
}

// ---- the server's certificate ---------------------------------------------------------------------

/// Looks at the server's certificate as `sslmode` says. A certificate that stands in `sslrootcert` itself is
/// good: many servers have one that nobody has signed but they themselves.
#[derive(Debug)]
struct Verifier {
    check: Check,
    trusted: Vec<CertificateDer<'static>>,
    chains: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(
        check: Check,
        trusted: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(trusted.iter().cloned());
        let chains = match check {
            Check::Nothing => None,
            _ if store.is_empty() => {
                return Err("sslrootcert has no certificate that can be read".to_owned());
            }
            _ => Some(
                WebPkiServerVerifier::builder_with_provider(store.into(), provider.clone())
                    .build()
                    .map_err(|e| e.to_string())?,
            ),
        };
        Ok(Verifier {
            check,
            trusted,
            chains,
            provider,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chains) = &self.chains else {
            return Ok(ServerCertVerified::assertion());
        };
        if self.trusted.contains(end) {
            if self.check == Check::ChainAndName {
                rustls::client::verify_server_name(&ParsedCertificate::try_from(end)?, name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match chains.verify_server_cert(end, between, name, ocsp, now) {
            // The chain was looked at before the name.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.check == Check::Chain => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        end: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, end, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        end: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, end, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_mean_what_libpq_says() {
        let root = Some(Path::new("/root.crt"));
        let of = |mode, root| meaning(Some(mode), root).unwrap();
        assert_eq!(of("require", None), (SslMode::Require, Check::Nothing));
        assert_eq!(of("require", root), (SslMode::Require, Check::Chain));
        assert_eq!(of("verify-ca", root), (SslMode::Require, Check::Chain));
        assert_eq!(
            of("verify-full", root),
            (SslMode::Require, Check::ChainAndName)
        );
        assert_eq!(of("allow", root), (SslMode::Prefer, Check::Nothing));
        assert_eq!(
            meaning(None, None).unwrap(),
            (SslMode::Prefer, Check::Nothing)
        );
        assert!(meaning(Some("verify"), None).is_err());
        let system = Some(Path::new("system"));
        assert_eq!(meaning(None, system).unwrap().1, Check::ChainAndName);
        assert!(meaning(Some("require"), system).is_err());
    }

    #[test]
    fn nothing_is_weakened_in_silence() {
        let none: Env = &|_| None;
        let with_crl: Env = &|name| (name == "PGSSLCRL").then(|| "x".to_owned());
        assert!(tls(Given::of("verify-full", "/no/such/file"), false, none).is_err());
        assert!(tls(Given::default(), false, with_crl).is_err());
        let mode = Given {
            mode: Some("verify-ca".to_owned()),
            ..Given::default()
        };
        assert!(
            tls(mode, false, none).is_err(),
            "there is nothing to verify against"
        );
        let over_socket = tls(Given::of("verify-full", "/no"), true, none).map(|t| t.mode);
        assert_eq!(over_socket, Ok(SslMode::Disable));
    }
}
