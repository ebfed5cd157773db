//! The client for the Kubernetes API server: where no answer comes, its errors say which server was asked and why none came.

use std::{
    error::Error as StdError,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt as _, TryFutureExt as _, future::BoxFuture};
use http::{Request, Response};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, DynBody},
};
use tower::{BoxError, Layer, Service};

/// No answer came from the API server.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("failed to reach the API server at {address}: {cause}")]
pub struct Unreachable {
    /// Its URL.
    pub address: Arc<str>,
    /// What lies at the bottom, in the words of the operating system or the TLS library.
    pub cause: String,
}

/// A client whose errors name the API server.
///
/// # Errors
/// When `config` names files that cannot be read, or a proxy that cannot be used.
pub fn client(config: Config) -> Result<Client, Box<kube::Error>> {
    let layer = Naming::of(&config);
    Ok(ClientBuilder::try_from(config).map_err(Box::new)?.with_layer(&layer).build())
}

/// The [`Unreachable`] that `error` comes from.
#[must_use]
pub fn no_answer<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Unreachable> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// An error and what it comes from.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

/// Puts [`Unreachable`] in the place of errors of the connection.
#[derive(Clone)]
pub(super) struct Naming(Arc<str>);

impl Naming {
    pub(super) fn of(config: &Config) -> Self {
        Self(config.cluster_url.to_string().trim_end_matches('/').into())
    }
}

impl<S> Layer<S> for Naming {
    type Service = Named<S>;

    fn layer(&self, inner: S) -> Named<S> {
        Named { inner, address: Arc::clone(&self.0) }
    }
}

/// See [`Naming`].
#[derive(Clone)]
pub(super) struct Named<S> {
    inner: S,
    address: Arc<str>,
}

impl<S> Service<Request<Body>> for Named<S>
where
    S: Service<Request<Body>, Response = Response<Box<DynBody>>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let address = Arc::clone(&self.address);
        self.inner.call(request).map_err(|error| named(error, address)).boxed()
    }
}

/// An error of kube itself, such as one of a credential's plugin, is none of the connection.
fn named(error: BoxError, address: Arc<str>) -> BoxError {
    if error.is::<kube::Error>() {
        return error;
    }
    let cause = chain(error.as_ref()).last().map(ToString::to_string).unwrap_or_default();
    Unreachable { address, cause }.into()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::Api;

    use super::*;

    #[tokio::test]
    async fn an_error_of_the_connection_names_the_server_and_the_deepest_cause() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // nobody may listen on port 1 but root, and nobody does
        let client = client(Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let error = Api::<Pod>::namespaced(client, "keys").get("vault-0").await.unwrap_err();
        let found = no_answer(&error).unwrap().to_string();
        assert_eq!(
            found,
            "failed to reach the API server at http://127.0.0.1:1: Connection refused (os error 111)"
        );
    }

    #[test]
    fn an_error_that_is_none_of_the_connection_stays_what_it_is() {
        let error = kube::Error::LinesCodecMaxLineLengthExceeded;
        assert_eq!(no_answer(&error), None);
        let error = named(error.into(), "https://kubernetes".into());
        assert!(error.is::<kube::Error>(), "{error}");
    }
}
