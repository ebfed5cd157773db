module example.test/peer-sdk-kes

go 1.26.0

require (
	example.test/peer-sdk v0.0.0
	github.com/minio/kes v0.22.3
)

require (
	aead.dev/mem v0.2.0 // indirect
	github.com/golang/protobuf v1.5.2 // indirect
	github.com/matttproud/golang_protobuf_extensions v1.0.1 // indirect
	github.com/prometheus/client_model v0.3.0 // indirect
	github.com/prometheus/common v0.37.0 // indirect
	google.golang.org/protobuf v1.28.1 // indirect
)

replace example.test/peer-sdk => ../sdk
