//! The address of a server, parsed once.

use http::uri::{Authority, Scheme, Uri};
use rustls::pki_types::ServerName;

use super::Error;
use crate::api::API_PORT;

/// `https://host:port`.
pub(super) struct Endpoint {
    /// As shown to people.
    pub(super) text: String,
    pub(super) authority: Authority,
    /// Host without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) name: ServerName<'static>,
}

/// Parses one address or several, separated by commas; at least one.
pub(super) fn parse_list(text: &str) -> Result<Vec<Endpoint>, Error> {
    let list: Vec<_> = text.split(',').map(str::trim).filter(|one| !one.is_empty()).collect();
    if list.is_empty() {
        return Endpoint::parse(text).map(|one| vec![one]);
    }
    list.into_iter().map(Endpoint::parse).collect()
}

impl Endpoint {
    /// Parses; the port is optional, a path is not allowed.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |reason| Error::Endpoint { endpoint: text.into(), reason };
        let uri: Uri = text.parse().map_err(|_| invalid("not a URL"))?;
        if uri.scheme() != Some(&Scheme::HTTPS) {
            return Err(invalid("it must start with 'https://'"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(invalid("it must end after host and port"));
        }
        let authority = uri.authority().cloned().ok_or(invalid("it names no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone())
            .map_err(|_| invalid("its host is no DNS name and no address"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("it must not hold a user name"));
        }
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str() == authority.host() => API_PORT,
            None => return Err(invalid("its port is no number up to 65535")),
        };
        Ok(Self { text: text.trim_end_matches('/').into(), authority, host, port, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_endpoints_has_at_least_one_and_no_bad_one() {
        let hosts = |text| {
            let list = parse_list(text).unwrap();
            list.into_iter().map(|endpoint| endpoint.host).collect::<Vec<_>>()
        };
        assert_eq!(hosts("https://a"), ["a"]);
        assert_eq!(hosts("https://a:1, https://b:2,,"), ["a", "b"]);
        for bad in ["", ",", "https://a,b", "https://a,http://b"] {
            assert!(parse_list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_endpoint_is_https_with_a_host_and_nothing_after_it() {
        for (text, host, port) in [
            ("https://127.0.0.1:7373", "127.0.0.1", 7373),
            ("https://kes.default.svc/", "kes.default.svc", 7373),
            ("https://[::1]:1", "::1", 1),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!((endpoint.host.as_str(), endpoint.port), (host, port), "{text}");
        }
        for bad in [
            "",
            "kes",
            "http://kes",
            "https://",
            "https://kes/x",
            "https://kes?a=b",
            "https://a b",
            "https://kes:99999",
            "https://a@kes",
        ] {
            assert!(matches!(Endpoint::parse(bad), Err(Error::Endpoint { .. })), "{bad}");
        }
    }
}
