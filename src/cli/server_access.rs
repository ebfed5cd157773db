//! Who gets in besides clients that show a certificate of their own: `tls.auth`, `tls.ca`, `tls.proxy` and `api` of both
//! configuration files and `--auth`, made into what the server takes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde::Deserialize;

use super::{duration, failure::Failure};
use crate::{
    api::Identity,
    server::{Access, AccessError},
};

/// `tls.proxy`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Proxy {
    /// v0.22.3 writes `identity` in one file and `identities` in the other.
    #[serde(alias = "identity")]
    pub(super) identities: Option<Vec<String>>,
    pub(super) header: Header,
}

/// `tls.proxy.header`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    pub(super) cert: Option<String>,
}

/// One entry of `api`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Api {
    pub(super) skip_auth: bool,
    pub(super) timeout: Option<String>,
}

/// What a file says of it, with variables replaced.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// Whether chains of client certificates are verified.
    pub(super) verify: bool,
    /// File or directory with authorities beside those of the machine.
    pub(super) authorities: Option<PathBuf>,
    pub(super) proxies: Vec<Identity>,
    /// The header in which a proxy tells its client's certificate.
    pub(super) header: Option<String>,
    pub(super) routes: BTreeMap<String, Api>,
}

impl Wanted {
    /// Checks everything, and reads the authorities where chains are to be verified.
    pub(super) fn access(&self) -> Result<Access, Failure> {
        let mut access = self.check()?;
        if self.verify {
            let roots = roots(self.authorities.as_deref())?;
            access.verify_clients(roots).map_err(|error| {
                invalid(error, "Name the authority of your clients as 'tls.ca', or set 'tls.auth: off'.")
            })?;
        }
        Ok(access)
    }

    /// Checks what can be checked without reading a file.
    pub(super) fn check(&self) -> Result<Access, Failure> {
        let Self { verify: _, authorities: _, proxies, header, routes } = self;
        let mut access = routes_of(routes)?;
        if !proxies.is_empty() {
            let header = header.as_ref().filter(|header| !header.is_empty()).ok_or_else(|| {
                invalid(
                    "'tls.proxy.header.cert' is not set",
                    "Name the header in which the proxy passes on its client's certificate, for example 'X-Tls-Client-Cert'.",
                )
            })?;
            access
                .trust_proxies(proxies.clone(), header)
                .map_err(|error| invalid(error, "Correct 'tls.proxy.header.cert'."))?;
        }
        Ok(access)
    }
}

/// The `api` part. Routes that do not exist are passed over, as in KES.
fn routes_of(routes: &BTreeMap<String, Api>) -> Result<Access, Failure> {
    let mut access = Access::default();
    for (path, Api { skip_auth, timeout }) in routes {
        if *skip_auth {
            match access.open(path) {
                Ok(()) | Err(AccessError::NoRoute(_)) => {}
                Err(error) => {
                    return Err(invalid(
                        format!("'api.{path}.skip_auth: true': {error}"),
                        "Open '/v1/ready', '/v1/status', '/v1/metrics' and '/v1/api' only; everything else needs an identity.",
                    ));
                }
            }
        }
        let Some(timeout) = timeout.as_deref().filter(|timeout| !timeout.is_empty()) else { continue };
        let limit = duration::parse(timeout)
            .map_err(|error| invalid(format!("'api.{path}.timeout': {error}"), "Write for example '15s'."))?;
        if limit == Duration::ZERO {
            continue;
        }
        match access.limit(path, limit) {
            Ok(()) | Err(AccessError::NoRoute(_)) => {}
            Err(error) => return Err(invalid(format!("'api.{path}.timeout': {error}"), "Remove the line.")),
        }
    }
    Ok(access)
}

/// The machine's authorities and those at `path`.
fn roots(path: Option<&Path>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let Some(path) = path else { return Ok(roots) };
    let read =
        |path: &Path| Failure::read("the authorities of clients", path, &std::io::Error::other("no PEM"));
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path)
            .map_err(|error| Failure::read("the authorities of clients", path, &error))?;
        files = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    }
    let mut added = 0;
    for file in files {
        let text = std::fs::read(&file)
            .map_err(|error| Failure::read("the authorities of clients", &file, &error))?;
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.map_err(|_| read(&file))?;
            roots
                .add(certificate)
                .map_err(|error| invalid(format!("'{}': {error}", file.display()), "Correct 'tls.ca'."))?;
            added += 1;
        }
    }
    if added == 0 {
        return Err(invalid(
            format!("'{}' holds no certificate of an authority", path.display()),
            "Name a PEM file, or a directory with such files, as 'tls.ca'.",
        ));
    }
    Ok(roots)
}

fn invalid(why: impl std::fmt::Display, next: impl Into<String>) -> Failure {
    Failure::new(format!("invalid configuration: {why}"), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(wanted: Wanted) -> String {
        wanted.access().err().unwrap_or_else(|| panic!("it is accepted")).to_string()
    }

    fn route(path: &str, skip_auth: bool, timeout: &str) -> Wanted {
        let api = Api { skip_auth, timeout: Some(timeout.into()) };
        Wanted { routes: [(path.to_owned(), api)].into(), ..Wanted::default() }
    }

    #[test]
    fn what_tells_of_the_server_can_be_opened_and_nothing_else() {
        for path in ["/v1/ready", "/v1/status", "/v1/metrics", "/v1/api", "/version", "/v1/nothing"] {
            assert!(route(path, true, "").access().is_ok(), "{path}");
        }
        for path in ["/v1/key/create/", "/v1/key/generate/", "/v1/log/audit", "/v1/sys/seal"] {
            let failure = refused(route(path, true, ""));
            assert!(failure.contains("never open to everybody"), "{failure}");
        }
    }

    #[test]
    fn a_time_limit_is_a_duration_of_a_route_that_ends() {
        for timeout in ["15s", "0", "0s", "1m30s", ""] {
            assert!(route("/v1/key/create/", false, timeout).access().is_ok(), "{timeout}");
        }
        assert!(refused(route("/v1/status", false, "soon")).contains("'soon' is no duration"));
        assert!(refused(route("/v1/log/audit", false, "1s")).contains("has no time limit"));
    }

    #[test]
    fn a_proxy_needs_the_name_of_a_header() {
        let proxy = |header: Option<&str>| Wanted {
            proxies: vec![Identity::new("aa").unwrap()],
            header: header.map(str::to_owned),
            ..Wanted::default()
        };
        assert!(proxy(Some("X-Client-Cert")).access().is_ok());
        assert!(refused(proxy(None)).contains("'tls.proxy.header.cert' is not set"));
        assert!(refused(proxy(Some("a b"))).contains("'a b' is no name of an HTTP header"));
    }

    #[test]
    fn authorities_of_clients_are_a_file_or_a_directory_with_certificates() {
        let dir = tempfile::tempdir().unwrap();
        let verify =
            |path: &Path| Wanted { verify: true, authorities: Some(path.to_owned()), ..Wanted::default() };
        assert!(refused(verify(&dir.path().join("none"))).contains("failed to read"));
        assert!(refused(verify(dir.path())).contains("holds no certificate"));
        let file = dir.path().join("ca.crt");
        std::fs::write(&file, "nothing").unwrap();
        assert!(refused(verify(&file)).contains("holds no certificate"));
        let authority = crate::pki::Authority::new("authority", jiff::Timestamp::now()).unwrap();
        std::fs::write(&file, authority.certificate_pem()).unwrap();
        for path in [&file, dir.path()] {
            assert!(verify(path).access().is_ok_and(|access| access.verifies_clients()));
        }
    }
}
