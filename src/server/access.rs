//! Who gets in besides clients that show a certificate of their own, as KES's configuration has it: routes that are open
//! to everybody, proxies that speak for their clients, and chains of certificates that have to be trusted.
//!
//! It may be replaced while the server runs. Without any of it, which is the default, a client is its key and nothing else.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode;
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::UnixTime,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::route::{ROUTES, Route, find};
use crate::{
    api::{ApiError, Identity},
    authz, pki,
};

/// Where proxies tell whose request they forward.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The settings; [`Access::default`] has none.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// By index in the table of routes.
    routes: BTreeMap<usize, Settings>,
    proxies: Option<Proxies>,
    verifier: Option<Verifier>,
}

#[derive(Clone, Debug, Default)]
struct Settings {
    is_open: bool,
    timeout: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Proxies {
    identities: Vec<Identity>,
    header: HeaderName,
}

/// Decides which chains of client certificates are trusted.
#[derive(Clone)]
struct Verifier(Arc<dyn ClientCertVerifier>);

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

/// A setting that cannot be had.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The route does not exist.
    #[error("there is no route '{0}'")]
    NoRoute(String),
    /// The route must not be open to everybody.
    #[error("route '{0}' is never open to everybody")]
    NeverOpen(String),
    /// The route's answer has no end.
    #[error("route '{0}' has no time limit")]
    Endless(String),
    /// A header's name.
    #[error("'{0}' is no name of an HTTP header")]
    Header(String),
    /// The authorities' certificates.
    #[error("clients cannot be verified: {0}")]
    Authorities(String),
}

impl Access {
    /// Answers the route with `path`, as `GET /v1/api` tells it, to everybody, also without a certificate.
    ///
    /// # Errors
    /// When there is no such route, or it is not one of those that tell of the server and of nothing in it.
    pub fn open(&mut self, path: &str) -> Result<(), AccessError> {
        let index = index(path)?;
        let handler = ROUTES[index].handler;
        if !authz::may_be_open(handler.scope(), handler.action()) {
            return Err(AccessError::NeverOpen(path.into()));
        }
        self.routes.entry(index).or_default().is_open = true;
        Ok(())
    }

    /// Gives requests of the route with `path` another time than 15 seconds.
    ///
    /// # Errors
    /// When there is no such route, or its answer is without end.
    pub fn limit(&mut self, path: &str, timeout: Duration) -> Result<(), AccessError> {
        let index = index(path)?;
        if ROUTES[index].timeout.is_zero() {
            return Err(AccessError::Endless(path.into()));
        }
        self.routes.entry(index).or_default().timeout = Some(timeout);
        Ok(())
    }

    /// Takes the word of whoever has one of `identities` for who its client is: the certificate in `header`, as URL-encoded
    /// PEM. Such a proxy can be anybody, since certificates are no secrets.
    ///
    /// # Errors
    /// When there can be no such header.
    pub fn trust_proxies(&mut self, identities: Vec<Identity>, header: &str) -> Result<(), AccessError> {
        let header: HeaderName = header.parse().map_err(|_| AccessError::Header(header.into()))?;
        self.proxies = (!identities.is_empty()).then_some(Proxies { identities, header });
        Ok(())
    }

    /// Lets only clients in whose certificates one of `authorities` vouches for, at this time and for clients.
    ///
    /// # Errors
    /// When there are none.
    pub fn verify_clients(&mut self, authorities: RootCertStore) -> Result<(), AccessError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider)
            .build()
            .map_err(|error| AccessError::Authorities(error.to_string()))?;
        self.verifier = Some(Verifier(verifier));
        Ok(())
    }

    /// Whether chains are verified.
    #[must_use]
    pub fn verifies_clients(&self) -> bool {
        self.verifier.is_some()
    }

    /// Who decides about chains, if anybody does.
    pub(super) fn verifier(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        self.verifier.as_ref().map(|verifier| Arc::clone(&verifier.0))
    }

    /// Whether a client may come without a certificate, since there is something for it.
    pub(super) fn takes_anybody(&self) -> bool {
        self.routes.values().any(|settings| settings.is_open)
    }

    /// Whether the route with this index is open to everybody.
    pub(super) fn is_open(&self, index: usize) -> bool {
        self.routes.get(&index).is_some_and(|settings| settings.is_open)
    }

    /// How long the answer's beginning may take.
    pub(super) fn limit_of(&self, index: usize, route: &Route) -> Duration {
        self.timeout(index).unwrap_or_else(|| route.limit())
    }

    /// The time limit that was set for a route, if one was.
    pub(super) fn timeout(&self, index: usize) -> Option<Duration> {
        self.routes.get(&index).and_then(|settings| settings.timeout)
    }

    /// For whom `sender` speaks: nobody but itself, unless it is a proxy.
    pub(super) fn forwarded(&self, sender: &Identity, headers: &HeaderMap) -> Option<Forwarded> {
        let Proxies { identities, header } = self.proxies.as_ref()?;
        if !identities.contains(sender) {
            return None;
        }
        let identity = self.forwarded_identity(headers, header);
        Some(Forwarded { identity, ip: forwarded_ip(headers) })
    }

    fn forwarded_identity(&self, headers: &HeaderMap, header: &HeaderName) -> Result<Identity, ApiError> {
        let mut values = headers.get_all(header).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Err(ApiError::NO_CERTIFICATE),
            (Some(_), Some(_)) => return Err(ApiError::TOO_MANY_CERTIFICATES),
            (Some(value), None) => value,
        };
        // as in a query, where a plus sign is a blank
        let spaced: Vec<u8> = value.as_bytes().iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
        let pem: Vec<u8> = percent_decode(&spaced).collect();
        let certificate =
            pki::only_certificate_of_pem(&pem).map_err(|_| ApiError::INVALID_CLIENT_CERTIFICATE)?;
        if let Some(Verifier(verifier)) = &self.verifier {
            verifier
                .verify_client_cert(&certificate, &[], UnixTime::now())
                .map_err(|_| ApiError::NOT_ALLOWED)?;
        }
        pki::identity_of_der(&[certificate]).map_err(|_| ApiError::INVALID_CLIENT_CERTIFICATE)
    }
}

/// The client behind a proxy.
pub(super) struct Forwarded {
    /// Who it is, or what to answer instead.
    pub(super) identity: Result<Identity, ApiError>,
    /// Where it is, if the proxy says so.
    pub(super) ip: Option<IpAddr>,
}

/// The first address of the list, with or without a port.
fn forwarded_ip(headers: &HeaderMap) -> Option<IpAddr> {
    let list = headers.get(FORWARDED_FOR)?.to_str().ok()?;
    let first = list.split(',').next()?.trim();
    if let Ok(ip) = first.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    first.parse::<std::net::SocketAddr>().ok().map(|address| address.ip().to_canonical())
}

fn index(path: &str) -> Result<usize, AccessError> {
    let found = find(path).filter(|found| found.route.path == path);
    found.map(|found| found.index).ok_or_else(|| AccessError::NoRoute(path.into()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

    use super::*;

    const HEADER: &str = "X-Tls-Client-Cert";

    fn encoded(pem: &str) -> String {
        utf8_percent_encode(pem, NON_ALPHANUMERIC).to_string()
    }

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn client(name: &str) -> (String, Identity) {
        let pair = pki::self_signed_client(name, Duration::from_secs(3600)).unwrap();
        let identity = pki::identity_of_pem(pair.certificate.as_bytes()).unwrap();
        (pair.certificate, identity)
    }

    #[test]
    fn only_what_tells_of_the_server_and_nothing_in_it_can_be_open() {
        let mut access = Access::default();
        let can: Vec<_> =
            ROUTES.iter().map(|route| route.path).filter(|path| access.open(path).is_ok()).collect();
        assert_eq!(can, ["/version", "/v1/ready", "/v1/status", "/v1/metrics", "/v1/api"]);
        assert_eq!(access.open("/v1/key/create/"), Err(AccessError::NeverOpen("/v1/key/create/".into())));
        for path in ["/v1/status/", "/v1/key/create", "/v1/nothing", ""] {
            assert_eq!(access.open(path), Err(AccessError::NoRoute(path.into())));
        }
    }

    #[test]
    fn only_a_proxy_speaks_for_others_and_only_with_exactly_one_certificate() {
        let ((_, proxy), (pem, app)) = (client("proxy"), client("app"));
        let mut access = Access::default();
        let good = headers(&[(HEADER, &encoded(&pem))]);
        assert!(access.forwarded(&proxy, &good).is_none(), "nobody is a proxy unless configured");
        access.trust_proxies(vec![proxy.clone()], HEADER).unwrap();
        assert!(access.forwarded(&app, &good).is_none(), "others cannot forward");
        let of = |list: &[(&'static str, &str)]| access.forwarded(&proxy, &headers(list)).unwrap().identity;
        assert_eq!(of(&[(HEADER, &encoded(&pem))]), Ok(app.clone()));
        assert_eq!(of(&[(HEADER, &encoded(&pem).replace("%20", "+"))]), Ok(app));
        assert_eq!(of(&[]), Err(ApiError::NO_CERTIFICATE));
        assert_eq!(of(&[("X-Other", &encoded(&pem))]), Err(ApiError::NO_CERTIFICATE));
        let twice = [(HEADER, &*encoded(&pem)), (HEADER, &*encoded(&pem))];
        assert_eq!(of(&twice), Err(ApiError::TOO_MANY_CERTIFICATES));
        let key = pki::self_signed_client("key", Duration::from_secs(3600)).unwrap().key;
        for bad in ["", "x", "%zz", &encoded(&(pem.clone() + &pem)), &encoded(&key), &encoded(&pem[..200])] {
            assert_eq!(of(&[(HEADER, bad)]), Err(ApiError::INVALID_CLIENT_CERTIFICATE), "{bad}");
        }
    }

    #[test]
    fn a_proxy_cannot_forward_whom_no_authority_vouches_for_where_that_is_asked() {
        let (_, proxy) = client("proxy");
        let now = jiff::Timestamp::now();
        let authority = pki::Authority::new("authority", now).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(pki::only_certificate_of_pem(authority.certificate_pem().as_bytes()).unwrap()).unwrap();
        let mut access = Access::default();
        access.trust_proxies(vec![proxy.clone()], HEADER).unwrap();
        access.verify_clients(roots).unwrap();
        let (pem, _) = client("app");
        let forwarded = access.forwarded(&proxy, &headers(&[(HEADER, &encoded(&pem))])).unwrap();
        assert_eq!(forwarded.identity, Err(ApiError::NOT_ALLOWED));
    }

    #[test]
    fn the_first_address_that_a_proxy_names_is_the_clients() {
        for (value, ip) in [
            ("1.2.3.4", Some("1.2.3.4")),
            ("1.2.3.4:99, 5.6.7.8", Some("1.2.3.4")),
            ("[2001:db8::1]:99", Some("2001:db8::1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("::ffff:1.2.3.4", Some("1.2.3.4")),
            ("nobody", None),
            ("", None),
        ] {
            let mut map = HeaderMap::new();
            map.insert(FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
            assert_eq!(forwarded_ip(&map), ip.map(|ip| ip.parse().unwrap()), "{value}");
        }
    }

    #[test]
    fn a_route_has_the_time_limit_that_was_set() {
        let mut access = Access::default();
        access.limit("/v1/status", Duration::from_secs(3)).unwrap();
        let at = |path| (index(path).unwrap(), find(path).unwrap().route);
        let (status, ready) = (at("/v1/status"), at("/v1/ready"));
        assert_eq!(access.limit_of(status.0, status.1), Duration::from_secs(3));
        assert_eq!(access.limit_of(ready.0, ready.1), Duration::from_secs(15));
        let endless = access.limit("/v1/log/audit", Duration::from_secs(3));
        assert_eq!(endless, Err(AccessError::Endless("/v1/log/audit".into())));
    }
}
