module example.test/peer-sdk

go 1.26.0
