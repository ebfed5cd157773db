//! Whom a refusal of the key API stops.

use super::{
    super::{target::targets, validate::fixture},
    *,
};

fn refusal(fault: ApiError) -> Error {
    call("write policy p".into())(client::Error::Api(fault))
}

#[test]
fn what_is_made_for_one_tenant_is_refused_to_that_one_and_a_key_of_the_spec_is_everybodys() {
    let mut wanted = fixture::wanted();
    let mut other = wanted.tenants[0].clone();
    other.name = "other".into();
    // the same key for both; first-key is the spec's
    wanted.tenants.push(other);
    let target = &targets(&wanted, &Keyring::default(), &[], &[])[0];
    let pair = |name: &str| ("tenant-lite".to_owned(), name.to_owned());
    let policy = crate::operator::names::tenant_policy("tenant-lite", "other");
    assert_eq!(
        whose(target, |tenant| tenant.policy.as_ref() == Some(&policy)),
        Concerns::Tenants(vec![pair("other")])
    );
    assert_eq!(
        whose(target, |tenant| tenant.key.as_str() == "minio-default-key"),
        Concerns::Tenants(vec![pair("myminio"), pair("other")])
    );
    assert_eq!(whose(target, |tenant| tenant.key.as_str() == "first-key"), Concerns::Spec);
}

#[test]
fn a_refusal_is_collected_and_no_answer_ends_the_pass() {
    let mut contents = Contents::default();
    let tenant = ("team".to_owned(), "minio".to_owned());
    contents.refuse(refusal(ApiError::KEY_EXISTS), Concerns::Tenants(vec![tenant.clone()])).unwrap();
    contents.refuse(refusal(ApiError::KEY_EXISTS), Concerns::Leftover).unwrap();
    let found = refusals(&contents);
    assert_eq!(found.spec, None, "the cluster is as it shall be");
    assert_eq!(found.tenants.len(), 1);
    assert_eq!(found.tenants[0].0, tenant);
    assert!(found.tenants[0].1.contains("write policy p"), "{}", found.tenants[0].1);
    assert_eq!(found.notes.len(), 2, "both are told");
    contents.refuse(refusal(ApiError::KEY_EXISTS), Concerns::Spec).unwrap();
    assert!(refusals(&contents).spec.is_some());

    let absent = Error::Certificate { purpose: "system admin".into(), source: keyring::Error::Absent };
    assert!(contents.refuse(absent, Concerns::Spec).is_err());
}
