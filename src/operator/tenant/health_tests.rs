//! One MinIO pod is asked, with real sockets.

use super::*;
use crate::operator::tests::{
    self,
    minio::{Minio, Says},
};

#[tokio::test]
async fn a_pod_that_made_a_data_key_confirms_with_and_without_tls() {
    for tls in [true, false] {
        let minio = Minio::start(tls, Says::Ready).await;
        check(minio.ip, tls).await.unwrap();
    }
}

#[tokio::test]
async fn a_pod_that_cannot_make_a_data_key_does_not_confirm() {
    let minio = Minio::start(false, Says::Unable).await;
    let error = check(minio.ip, false).await.unwrap_err();
    assert!(matches!(error, Error::Unable { status: StatusCode::SERVICE_UNAVAILABLE, .. }), "{error}");
    assert!(error.to_string().contains("/minio/health/ready answered 503"), "{error}");
}

#[tokio::test]
async fn a_pod_that_serves_nothing_yet_does_not_confirm_although_it_answers_200() {
    let minio = Minio::start(true, Says::Offline).await;
    let error = check(minio.ip, true).await.unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "{error}");
}

#[tokio::test]
async fn silence_is_no_confirmation_and_each_kind_is_told_apart() {
    let error = check(tests::address(), false).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "nobody listens: {error}");
    let minio = Minio::start(false, Says::Nothing).await;
    let error = check(minio.ip, false).await.unwrap_err();
    assert!(matches!(error, Error::Http { .. }), "it hangs up: {error}");
    minio.says(Says::Ready);
    let error = check(minio.ip, true).await.unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "it speaks no TLS: {error}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_never_answers_holds_a_pass_up_for_some_seconds_only() {
    // the kernel takes connections that nobody accepts
    let listener = loop {
        if let Ok(listener) = tokio::net::TcpListener::bind((tests::address(), PORT)).await {
            break listener;
        }
    };
    let began = tokio::time::Instant::now();
    let error = check(listener.local_addr().unwrap().ip(), false).await.unwrap_err();
    assert!(matches!(error, Error::TooLong { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10), "in the time that the test makes pass");
}
