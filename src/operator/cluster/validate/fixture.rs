//! A spec for tests, small and with names that differ.

use super::*;

/// Names are chosen so that a swapped one is seen.
const MINIMAL: &str = r"
    apiVersion: kes-operator.io/v1alpha1
    kind: KesCluster
    metadata: {name: vault, namespace: keys, uid: 11111111-2222-3333-4444-555555555555, generation: 3}
    spec:
      enclaves:
        - name: default
          keys: [{name: first-key}]
          policies: [{name: reader, allow: [/v1/key/decrypt/*], deny: [/v1/key/decrypt/secret-*]}]
          identities: [{name: app-1, policy: reader, secretName: app-1-kes}]
      tenants:
        - {name: myminio, namespace: tenant-lite, keyName: minio-default-key}
";

pub(crate) fn cluster() -> KesCluster {
    serde_saphyr::from_str(MINIMAL).unwrap()
}

pub(crate) fn defaults() -> Defaults {
    Defaults { image: "localhost/kes:dev".into(), domain: "cluster.local".into() }
}

/// The fixture through the real step.
pub(crate) fn wanted() -> Wanted {
    validate(&cluster(), &defaults()).unwrap()
}
