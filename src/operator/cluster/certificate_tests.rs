//! Tables for what the servers present.

use std::time::Duration;

use super::{
    super::{keyring::Keyring, material, validate::fixture},
    *,
};
use crate::{
    pki::{Authority, ServerNames},
    world::System,
};

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> Timestamp {
    Timestamp::now()
}

fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * count)
}

/// Our authority and a certificate that it made `ago`.
fn ours(wanted: &Wanted, ago: SignedDuration) -> (Secret, Secret) {
    let mut ring = Keyring::default();
    let make = |purpose: Purpose, ring: &Keyring| {
        material::make(wanted, &purpose, ring, now().checked_sub(ago).unwrap(), &System).unwrap()
    };
    let authority = make(Purpose::Authority, &ring);
    ring.insert(Purpose::Authority, authority.clone());
    let certificate = make(Purpose::ServerCertificate, &ring);
    (authority, certificate)
}

/// A Secret of a user's, from an authority of his own.
fn theirs(authority: &Authority, names: &[String], validity: Duration) -> Secret {
    let names = ServerNames { dns: names.to_vec(), ip: Vec::new() };
    let pair = authority.issue_server(&names, now(), validity).unwrap();
    let data = BTreeMap::from([
        (CERTIFICATE.to_owned(), ByteString(pair.certificate.into_bytes())),
        (PRIVATE_KEY.to_owned(), ByteString(pair.key.as_bytes().to_vec())),
        (AUTHORITY.to_owned(), ByteString(authority.certificate_pem().as_bytes().to_vec())),
    ]);
    Secret { data: Some(data), ..Secret::default() }
}

fn with_source() -> Wanted {
    Wanted { tls: Tls::Secret { name: "mine".into() }, ..fixture::wanted() }
}

fn wired() -> Vec<String> {
    vec!["tenant-lite/myminio".into()]
}

fn summary(verdict: Result<Verdict, Rule>) -> String {
    match verdict {
        Err(rule) => format!("halt {}", rule.reason()),
        Ok(Verdict { step, problem }) => {
            let step = match step {
                Step::Copy(_) => "Copy".to_owned(),
                step => format!("{step:?}"),
            };
            problem.map_or(step.clone(), |rule| format!("{step} {}", rule.reason()))
        }
    }
}

#[test]
fn our_own_is_renewed_after_two_thirds_of_its_life() {
    let wanted = fixture::wanted();
    for (age, step) in [(0, "Keep"), (240, "Keep"), (246, "Renew"), (400, "Renew")] {
        let (authority, live) = ours(&wanted, days(age));
        let found = Found { authority: Some(&authority), live: Some(&live), source: None, wired: &wired() };
        assert_eq!(summary(decide(&wanted, &found, now())), step, "after {age} days");
    }
}

#[test]
fn our_own_is_made_where_it_is_missing_broken_or_somebody_elses() {
    let wanted = fixture::wanted();
    let (authority, live) = ours(&wanted, days(0));
    let (other, foreign) = ours(&wanted, days(0));
    let mut broken = live.clone();
    broken
        .data
        .as_mut()
        .unwrap()
        .insert(PRIVATE_KEY.into(), foreign.data.as_ref().unwrap()[PRIVATE_KEY].clone());
    let cases = [
        (None, Vec::new(), "Make"),
        (Some(&broken), wired(), "Make"),
        (Some(&foreign), Vec::new(), "Make"),
        // its authority is the only one that the tenants know
        (Some(&foreign), wired(), "Keep TrustWouldChange"),
    ];
    for (live, wired, expected) in cases {
        let found = Found { authority: Some(&authority), live, source: None, wired: &wired };
        assert_eq!(summary(decide(&wanted, &found, now())), expected);
    }
    let found = Found { authority: Some(&other), live: Some(&foreign), source: None, wired: &[] };
    let elsewhere = Wanted { domain: "other.domain".into(), ..wanted };
    assert_eq!(summary(decide(&elsewhere, &found, now())), "Renew", "the name that clients use is missing");
}

#[test]
fn one_of_somebody_elses_is_taken_over_only_if_clients_accept_it() {
    let wanted = with_source();
    let (authority, live) = ours(&wanted_own(), days(0));
    let root = Authority::new("theirs", now()).unwrap();
    let good = theirs(&root, &wanted.checked_names(), 90 * DAY);
    let nameless = theirs(&root, &["other.svc".into()], 90 * DAY);
    let expiring = theirs(&root, &wanted.checked_names(), 3 * DAY);
    let mut without = good.clone();
    without.data.as_mut().unwrap().remove(AUTHORITY);
    let cases = [
        (Some(&good), "Copy", "Copy"),
        (Some(&expiring), "Copy CertificateExpires", "Copy CertificateExpires"),
        (Some(&nameless), "halt ServerSecretUnusable", "Keep ServerSecretUnusable"),
        (Some(&without), "halt ServerSecretUnusable", "Keep ServerSecretUnusable"),
        (None, "halt ServerSecretUnusable", "Keep ServerSecretUnusable"),
    ];
    for (source, at_first, later) in cases {
        let mut found = Found { authority: Some(&authority), live: None, source, wired: &[] };
        assert_eq!(summary(decide(&wanted, &found, now())), at_first);
        found.live = Some(&live);
        assert_eq!(summary(decide(&wanted, &found, now())), later);
    }
}

fn wanted_own() -> Wanted {
    fixture::wanted()
}

#[test]
fn wired_tenants_are_never_cut_off_by_another_authority() {
    let wanted = with_source();
    let (authority, own) = ours(&wanted_own(), days(0));
    let (old, new) = (Authority::new("old", now()).unwrap(), Authority::new("new", now()).unwrap());
    let first = theirs(&old, &wanted.checked_names(), 90 * DAY);
    let mut found = Found { authority: Some(&authority), live: None, source: Some(&first), wired: &[] };
    let Ok(Verdict { step: Step::Copy(data), .. }) = decide(&wanted, &found, now()) else { panic!() };
    let live = Secret { data: Some(data), ..Secret::default() };
    found.live = Some(&live);
    let tenants = wired();
    found.wired = &tenants;
    assert_eq!(summary(decide(&wanted, &found, now())), "Keep");
    // renewed under the same authority: taken over
    let renewed = theirs(&old, &wanted.checked_names(), 90 * DAY);
    found.source = Some(&renewed);
    assert_eq!(summary(decide(&wanted, &found, now())), "Copy");
    // under another one: refused, until the tenants were told about it
    let exchanged = theirs(&new, &wanted.checked_names(), 90 * DAY);
    found.source = Some(&exchanged);
    assert_eq!(summary(decide(&wanted, &found, now())), "Keep TrustWouldChange");
    let both = ByteString([old.certificate_pem().as_bytes(), new.certificate_pem().as_bytes()].concat());
    let mut announced = first.clone();
    announced.data.as_mut().unwrap().insert(AUTHORITY.into(), both);
    found.source = Some(&announced);
    let Ok(Verdict { step: Step::Copy(data), .. }) = decide(&wanted, &found, now()) else { panic!() };
    let told = Secret { data: Some(data), ..Secret::default() };
    found.live = Some(&told);
    found.source = Some(&exchanged);
    assert_eq!(summary(decide(&wanted, &found, now())), "Copy");
    // back to our own, which stayed trusted all the time
    found.source = None;
    assert_eq!(summary(decide(&wanted_own(), &found, now())), "Make");
    // from our own to another one, with tenants that know only ours
    found = Found { authority: Some(&authority), live: Some(&own), source: Some(&first), wired: &tenants };
    assert_eq!(summary(decide(&wanted, &found, now())), "Keep TrustWouldChange");
}
