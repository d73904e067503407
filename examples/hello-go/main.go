// Command hello-go is a function for provided.al2023: built for Linux as an executable named bootstrap, zipped, it is deployed here as
// on AWS.
//
//	GOOS=linux CGO_ENABLED=0 go build -tags lambda.norpc -o bootstrap ./examples/hello-go
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Name string `json:"name"`
}

type answer struct {
	Message   string `json:"message"`
	Runtime   string `json:"runtime"`
	RequestID string `json:"requestId"`
}

func hello(ctx context.Context, e event) (answer, error) {
	if e.Name == "" {
		return answer{}, fmt.Errorf("the event has no name")
	}
	log.Printf("greeting %s", e.Name)
	a := answer{Message: "Hello, " + e.Name + "!", Runtime: "go"}
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		a.RequestID = lc.AwsRequestID
	}
	return a, nil
}

func main() {
	lambda.Start(hello)
}
