{{- /* What the operator may do. config/rbac has the same rules, and tests/packaging.rs compares them. */}}

{{- /* Where KesClusters live: what src/operator/cluster calls, and nothing else. */}}
{{- define "kes-operator.clusterRules" -}}
# observe; and the finalizer that refuses a deletion while tenants depend on it
- apiGroups: [kes-operator.io]
  resources: [kesclusters]
  verbs: [get, list, watch, patch]
# report
- apiGroups: [kes-operator.io]
  resources: [kesclusters/status]
  verbs: [update]
# owned objects block their owner's deletion, which some API servers permit only to who may finalize the owner
- apiGroups: [kes-operator.io]
  resources: [kesclusters/finalizers]
  verbs: [update]
# build, apply: server-side apply is a patch, and a create where nothing is there
- apiGroups: [""]
  resources: [configmaps, services, serviceaccounts]
  verbs: [get, list, watch, create, patch]
# delete: volumes are expanded under a StatefulSet that is deleted as an orphan and made anew
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
# delete: what the spec no longer asks for, as a disruption budget of a single member
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors, prometheusrules]
  verbs: [get, list, watch, create, patch, delete]
# spec.tls.issuerRef
- apiGroups: [cert-manager.io]
  resources: [certificates]
  verbs: [get, list, watch, create, patch, delete]
# key material: created once and patched for owners; no update and no delete
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch]
# spec.deletionPolicy; volume expansion
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, patch]
# observe
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# report
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- /* Where MinIO Tenants live: what src/operator/tenant calls, and nothing else. */}}
{{- define "kes-operator.tenantRules" -}}
# one guarded merge patch
- apiGroups: [minio.min.io]
  resources: [tenants]
  verbs: [get, list, watch, patch]
# the tenant's client certificate, and a look at the tenant's own configuration; no delete: a certificate that is left
# behind is worth nothing once its identity is forgotten, and the right to delete Secrets is worth much
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
# whether the namespace allows KesClusters of another one, by its annotation kes-operator.io/allow-from
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
# whether the MinIO Operator has rolled the mount out
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [list]
# the restart of a tenant's pods, all together
- apiGroups: [""]
  resources: [pods]
  verbs: [list, delete]
{{- end }}

{{- /* One operator at a time: the lease lies in the operator's own namespace. */}}
{{- define "kes-operator.leaseRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, create, update]
{{- end }}

{{- /* Whether a volume can grow is said by its StorageClass, which has no namespace. */}}
{{- define "kes-operator.storageClassRules" -}}
- apiGroups: [storage.k8s.io]
  resources: [storageclasses]
  verbs: [get]
{{- end }}

{{- /* Which MinIO Operator there is stands on the definition of Tenants, which has no namespace. */}}
{{- define "kes-operator.tenantDefinitionRules" -}}
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  resourceNames: [tenants.minio.min.io]
  verbs: [get]
{{- end }}
