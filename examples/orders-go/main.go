// Command orders-go is a function that takes orders from a Kinesis stream. It refuses the batches in which one of them is bad.
package main

import (
	"fmt"
	"log"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func take(e events.KinesisEvent) error {
	for _, r := range e.Records {
		if string(r.Kinesis.Data) == "bad" {
			return fmt.Errorf("a batch of %d has a bad order", len(e.Records))
		}
	}
	for _, r := range e.Records {
		log.Printf("took %s", r.Kinesis.Data)
	}
	return nil
}

func main() {
	lambda.Start(take)
}
