//! Tables for the patch of a Tenant.

use super::*;

fn wish() -> Wish {
    Wish {
        secret: "kes-client-vault".into(),
        endpoint: "https://vault.keys.svc.cluster.local:7373".into(),
        key_name: "minio-default-key".into(),
        mount: Mount::Auto,
    }
}

fn tenant(spec: Value) -> Value {
    json!({"metadata": {"name": "myminio", "resourceVersion": "7"}, "spec": spec})
}

fn write(tenant: &Value, wish: &Wish) -> (Map<String, Value>, Injected) {
    match change(tenant, None, wish, None).unwrap() {
        Change::Write(fields, injected) => (fields, injected),
        Change::None(_) => panic!("nothing to write"),
    }
}

/// The Tenant after a merge patch with `fields`.
fn merged(tenant: &Value, fields: &Map<String, Value>) -> Value {
    let mut tenant = tenant.clone();
    for (field, value) in fields {
        tenant["spec"][field] = value.clone();
    }
    tenant
}

#[test]
fn an_empty_tenant_gets_one_entry_and_five_variables() {
    let bare = tenant(json!({"env": [], "externalClientCertSecrets": [], "pools": [{"name": "pool-0"}]}));
    let (fields, injected) = write(&bare, &wish());
    insta::assert_yaml_snapshot!("empty_tenant", fields);
    assert_eq!(injected.mount, MountKind::ClientCertSecrets);
    assert_eq!(write(&tenant(json!({})), &wish()).0, fields, "absent lists are as good as empty ones");
}

#[test]
fn a_users_list_is_kept_and_ours_becomes_a_volume() {
    let with_list = tenant(json!({
        "externalClientCertSecrets": [{"name": "kafka", "type": "Opaque", "extra": 1}],
        "additionalVolumes": [{"name": "theirs", "emptyDir": {}}],
        "additionalVolumeMounts": [{"name": "theirs", "mountPath": "/x"}],
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, {"name": "A", "value": "2"},
                {"name": "MINIO_KMS_AUTO_ENCRYPTION", "value": "on"}],
    }));
    insta::assert_yaml_snapshot!("tenant_with_lists", write(&with_list, &wish()).0);
}

#[test]
fn a_wired_tenant_is_not_written_again() {
    for mount in [Mount::Auto, Mount::ClientCertSecrets, Mount::AdditionalVolumes] {
        let wish = Wish { mount, ..wish() };
        let bare = tenant(json!({"env": [{"name": "A", "value": "1"}]}));
        let (fields, injected) = write(&bare, &wish);
        let wired = merged(&bare, &fields);
        assert_eq!(change(&wired, None, &wish, None), Ok(Change::None(injected.clone())), "{mount:?}");
        assert_eq!(change(&wired, None, &wish, Some(&injected)), Ok(Change::None(injected)), "{mount:?}");
    }
}

#[test]
fn a_slot_that_moved_moves_the_paths_with_it() {
    let wish = Wish { mount: Mount::ClientCertSecrets, ..wish() };
    let bare = tenant(json!({"externalClientCertSecrets": [{"name": "kafka", "type": "Opaque"}]}));
    let (fields, injected) = write(&bare, &wish);
    assert_eq!(injected.path, "/tmp/certs/client-1");
    let mut moved = merged(&bare, &fields);
    moved["spec"]["externalClientCertSecrets"].as_array_mut().unwrap().remove(0);
    let Ok(Change::Write(fields, after)) = change(&moved, None, &wish, Some(&injected)) else { panic!() };
    assert_eq!(after.path, "/tmp/certs/client-0");
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["env"]);
    assert!(fields["env"].to_string().contains("/tmp/certs/CAs/client-ca-0.crt"));
}

#[test]
fn a_changed_wish_changes_only_what_was_injected() {
    let bare = tenant(json!({"env": [{"name": "A", "value": "1"}]}));
    let (fields, injected) = write(&bare, &wish());
    let wired = merged(&bare, &fields);
    let other = Wish { key_name: "second".into(), ..wish() };
    let Ok(Change::Write(fields, _)) = change(&wired, None, &other, Some(&injected)) else { panic!() };
    let env = fields["env"].as_array().unwrap();
    assert_eq!(env.len(), 6);
    assert_eq!(env[0], json!({"name": "A", "value": "1"}));
    assert_eq!(env[2]["value"], "second");
    // without a record it is a user's word against ours
    assert!(matches!(change(&wired, None, &other, None), Err(Rule::ForeignKms { .. })));
}

#[test]
fn whatever_says_otherwise_is_a_conflict() {
    let cases = [
        (json!({"kes": {"kesSecret": {"name": "x"}}}), "BuiltInKes"),
        (json!({"env": [{"name": "MINIO_KMS_SECRET_KEY", "value": "x"}]}), "ForeignKms"),
        (json!({"env": [{"name": "MINIO_KMS_KES_API_KEY", "value": ""}]}), "ForeignKms"),
        (json!({"env": [{"name": "MINIO_KMS_KES_ENDPOINT", "value": "https://other:7373"}]}), "ForeignKms"),
        (
            json!({"env": [{"name": "MINIO_KMS_KES_ENDPOINT", "valueFrom": {}, "value": "https://vault.keys.svc.cluster.local:7373"}]}),
            "ForeignKms",
        ),
        (
            json!({"env": [{"name": "MINIO_KMS_KES_KEY_NAME", "value": "minio-default-key"}, {"name": "MINIO_KMS_KES_KEY_NAME", "value": "minio-default-key"}]}),
            "DuplicateVariable",
        ),
        (
            json!({"externalClientCertSecrets": [{"name": "kes-client-vault", "type": "Opaque"}]}),
            "MountChanged",
        ),
        (
            json!({"externalClientCertSecrets": [{"name": "a"}], "additionalVolumes": [{"name": "v"}]}),
            "VolumesUnequal",
        ),
        (
            json!({"externalClientCertSecrets": [{"name": "a"}], "additionalVolumes": [{"name": "kes-client"}], "additionalVolumeMounts": [{"name": "kes-client"}]}),
            "MountChanged",
        ),
        (
            json!({"externalClientCertSecrets": [{"name": "a"}], "additionalVolumes": [{"name": "v"}], "additionalVolumeMounts": [{"name": "v", "mountPath": "/etc/kes-client"}]}),
            "MountChanged",
        ),
    ];
    for (spec, reason) in cases {
        let rule = change(&tenant(spec.clone()), None, &wish(), None).expect_err(&spec.to_string());
        assert_eq!(rule.reason(), reason, "{spec}");
    }
}

#[test]
fn the_configuration_secret_may_repeat_us_but_not_contradict_us() {
    let bare = tenant(json!({}));
    let fine = "export MINIO_ROOT_USER=\"minio\"\nexport MINIO_KMS_KES_KEY_NAME=\"minio-default-key\"\nexport MINIO_KMS_AUTO_ENCRYPTION=on\nMINIO_KMS_SECRET_KEY=ignored";
    assert!(change(&bare, Some(fine), &wish(), None).is_ok());
    for line in ["export MINIO_KMS_SECRET_KEY=x:y", "  export MINIO_KMS_KES_ENDPOINT=\"https://other:7373\""]
    {
        let rule = change(&bare, Some(line), &wish(), None).unwrap_err();
        assert_eq!(rule.reason(), "ForeignKms", "{line}");
    }
}
