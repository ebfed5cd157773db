// A command line for the methods of the Go SDK kms-go/kes v0.3.1, which MinIO uses since 2024. See package sdk.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"sort"
	"time"

	"example.test/peer-sdk"
	"github.com/minio/kms-go/kes"
)

type (
	ctx    = context.Context
	client = *kes.Client
)

var verbs = sdk.Verbs[client]{
	"version": func(ctx ctx, c client, _ []string) (any, error) { return c.Version(ctx) },
	"ready":   func(ctx ctx, c client, _ []string) (any, error) { return c.IsReady(ctx) },
	"status": func(ctx ctx, c client, _ []string) (any, error) {
		s, err := c.Status(ctx)
		return sdk.Object{"version": s.Version, "os": s.OS, "arch": s.Arch, "up": s.UpTime < time.Hour,
			"cpus": s.CPUs > 0 && s.UsableCPUs > 0, "heap": s.HeapAlloc > 0, "stack": s.StackAlloc > 0,
			"keystore_reachable": s.KeyStoreReachable, "keystore_available": s.KeystoreAvailable}, err
	},
	"metrics": func(ctx ctx, c client, _ []string) (any, error) {
		m, err := c.Metrics(ctx)
		return sdk.Object{"ok": m.RequestOK > 0, "requests": m.RequestN() > 0, "buckets": len(m.LatencyHistogram),
			"cpus": m.CPUs > 0, "threads": m.Threads > 0, "heap": m.HeapAlloc > 0}, err
	},
	"apis": func(ctx ctx, c client, _ []string) (any, error) {
		apis, err := c.APIs(ctx)
		found := []string{}
		for _, api := range apis {
			found = append(found, fmt.Sprintf("%s %s %d %s", api.Method, api.Path, api.MaxBody, api.Timeout))
		}
		sort.Strings(found)
		return found, err
	},

	"create-key": func(ctx ctx, c client, a []string) (any, error) { return sdk.Done(c.CreateKey(ctx, a[0])) },
	"import-key": func(ctx ctx, c client, a []string) (any, error) {
		key, err := base64.StdEncoding.DecodeString(a[1])
		if err != nil {
			return nil, err
		}
		var cipher kes.KeyAlgorithm
		if err := cipher.UnmarshalText([]byte(a[2])); err != nil {
			return nil, err
		}
		return sdk.Done(c.ImportKey(ctx, a[0], &kes.ImportKeyRequest{Key: key, Cipher: cipher}))
	},
	"describe-key": func(ctx ctx, c client, a []string) (any, error) {
		k, err := c.DescribeKey(ctx, a[0])
		if err != nil {
			return nil, err
		}
		return sdk.Object{"name": k.Name, "algorithm": k.Algorithm.String(), "created_at": k.CreatedAt, "created_by": k.CreatedBy}, nil
	},
	"list-keys": func(ctx ctx, c client, a []string) (any, error) {
		list := kes.ListIter[string]{NextFunc: c.ListKeys}
		return sdk.All(ctx, list.SeekTo, list.Next, a[0])
	},
	"list-keys-page": func(ctx ctx, c client, a []string) (any, error) {
		names, next, err := c.ListKeys(ctx, a[0], -1)
		return sdk.Object{"names": names, "continue": next}, err
	},
	"delete-key": func(ctx ctx, c client, a []string) (any, error) { return sdk.Done(c.DeleteKey(ctx, a[0])) },
	"hmac": func(ctx ctx, c client, a []string) (any, error) {
		first, err := c.HMAC(ctx, a[0], []byte(a[1]))
		if err != nil {
			return nil, err
		}
		second, err := c.HMAC(ctx, a[0], []byte(a[1]))
		return sdk.Object{"bytes": len(first), "same again": bytes.Equal(first, second)}, err
	},
	"data-key": func(ctx ctx, c client, a []string) (any, error) {
		key, err := c.GenerateKey(ctx, a[0], []byte(a[1]))
		if err != nil {
			return nil, err
		}
		plain, err := c.Decrypt(ctx, a[0], key.Ciphertext, []byte(a[1]))
		_, wrong := c.Decrypt(ctx, a[0], key.Ciphertext, []byte(a[1]+"?"))
		return sdk.Object{"bytes": len(key.Plaintext), "opens": bytes.Equal(plain, key.Plaintext), "other context": program.Told(wrong)}, err
	},
	"round-trip": func(ctx ctx, c client, a []string) (any, error) {
		ciphertext, err := c.Encrypt(ctx, a[0], []byte(a[1]), []byte(a[2]))
		if err != nil {
			return nil, err
		}
		plain, err := c.Decrypt(ctx, a[0], ciphertext, []byte(a[2]))
		return string(plain), err
	},

	"describe-policy": func(ctx ctx, c client, a []string) (any, error) { return c.DescribePolicy(ctx, a[0]) },
	"get-policy":      func(ctx ctx, c client, a []string) (any, error) { return c.GetPolicy(ctx, a[0]) },
	"list-policies": func(ctx ctx, c client, a []string) (any, error) {
		list := kes.ListIter[string]{NextFunc: c.ListPolicies}
		return sdk.All(ctx, list.SeekTo, list.Next, a[0])
	},
	"describe-identity": func(ctx ctx, c client, a []string) (any, error) { return c.DescribeIdentity(ctx, kes.Identity(a[0])) },
	"describe-self": func(ctx ctx, c client, _ []string) (any, error) {
		info, policy, err := c.DescribeSelf(ctx)
		return sdk.Object{"identity": info, "policy": policy}, err
	},
	"list-identities": func(ctx ctx, c client, a []string) (any, error) {
		list := kes.ListIter[kes.Identity]{NextFunc: c.ListIdentities}
		return sdk.All(ctx, list.SeekTo, list.Next, a[0])
	},

	"audit-log": func(ctx ctx, c client, a []string) (any, error) {
		defer sdk.Repeat(ctx, func(ctx context.Context) { c.DescribeKey(ctx, a[0]) })()
		stream, err := c.AuditLog(ctx)
		if err != nil {
			return nil, err
		}
		defer stream.Close()
		for stream.Next() {
			if event := stream.Event(); event.APIPath == "/v1/key/describe/"+a[0] {
				return sdk.Object{"path": event.APIPath, "status": event.StatusCode, "identity": event.ClientIdentity, "ip": event.ClientIP,
					"time": event.Timestamp, "took": event.ResponseTime > 0 && event.ResponseTime < time.Minute}, nil
			}
		}
		return nil, io.ErrUnexpectedEOF
	},
}

var program sdk.Program[client]

func main() {
	program = sdk.Program[client]{
		Verbs:  verbs,
		Client: func(server, _ string, config *tls.Config) client { return kes.NewClientWithConfig(server, config) },
		Certificate: func(text string) (tls.Certificate, error) {
			key, err := kes.ParseAPIKey(text)
			if err != nil {
				return tls.Certificate{}, err
			}
			return kes.GenerateCertificate(key)
		},
		Typed: map[string]error{
			"ErrNotAllowed": kes.ErrNotAllowed, "ErrKeyNotFound": kes.ErrKeyNotFound, "ErrKeyExists": kes.ErrKeyExists,
			"ErrPolicyNotFound": kes.ErrPolicyNotFound, "ErrIdentityNotFound": kes.ErrIdentityNotFound, "ErrDecrypt": kes.ErrDecrypt,
			"ErrEnclaveNotFound": kes.ErrEnclaveNotFound,
		},
	}
	program.Main()
}
