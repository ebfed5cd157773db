module example.test/peer-sdk-kms-go

go 1.26.0

require github.com/minio/kms-go/kes v0.3.1

require (
	aead.dev/mem v0.2.0 // indirect
	example.test/peer-sdk v0.0.0
	github.com/prometheus/client_model v0.6.0 // indirect
	github.com/prometheus/common v0.51.1 // indirect
	google.golang.org/protobuf v1.33.0 // indirect
)

replace example.test/peer-sdk => ../sdk
