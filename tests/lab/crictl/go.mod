module lab/crictl

go 1.22.0

require (
	github.com/gogo/protobuf v1.3.2
	google.golang.org/grpc v1.58.3
	k8s.io/cri-api v0.30.0
)

require (
	github.com/golang/protobuf v1.5.4 // indirect
	golang.org/x/net v0.23.0 // indirect
	golang.org/x/sys v0.18.0 // indirect
	golang.org/x/text v0.14.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20230822172742-b8732ec3820d // indirect
	google.golang.org/protobuf v1.33.0 // indirect
)
