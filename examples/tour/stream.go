package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// orders is the function that reads the stream.
var orders = example{"orders-go", "examples/orders-go", "provided.al2023", "bootstrap"}

// showStream puts five orders into a stream, one of them bad, and shows that only that one goes to the queue of failures.
func showStream(ctx context.Context, cfg aws.Config, mayfly string, args []string) error {
	fmt.Printf("\n== a stream with a poison record\n")
	streams, queues, functions := kinesis.NewFromConfig(cfg), sqs.NewFromConfig(cfg), lambda.NewFromConfig(cfg)
	if _, err := iam.NewFromConfig(cfg).PutRolePolicy(ctx, &iam.PutRolePolicyInput{
		RoleName: aws.String("tour"), PolicyName: aws.String("orders"), PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":[
			"kinesis:DescribeStream","kinesis:DescribeStreamSummary","kinesis:GetRecords","kinesis:GetShardIterator","kinesis:ListShards","kinesis:ListStreams",
			"kinesis:SubscribeToShard","sqs:SendMessage"],"Resource":"*"}}`),
	}); err != nil {
		return err
	}
	archive, err := pack(ctx, orders)
	if err != nil {
		return err
	}
	if err := create(ctx, functions, orders, archive); err != nil {
		return err
	}
	queue, err := queues.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("failed-orders")})
	if err != nil {
		return err
	}
	var exists *kinesistypes.ResourceInUseException
	if _, err := streams.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: aws.String("orders"), ShardCount: aws.Int32(1)}); err != nil && !errors.As(err, &exists) {
		return err
	}
	if err := kinesis.NewStreamExistsWaiter(streams, func(o *kinesis.StreamExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, 100*time.Millisecond
	}).
		Wait(ctx, &kinesis.DescribeStreamInput{StreamName: aws.String("orders")}, time.Minute); err != nil {
		return err
	}
	stream, err := streams.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: aws.String("orders")})
	if err != nil {
		return err
	}
	if err := mapStream(ctx, functions, *stream.StreamDescriptionSummary.StreamARN); err != nil {
		return err
	}
	var records []kinesistypes.PutRecordsRequestEntry
	for _, order := range []string{"tea", "milk", "bad", "bread", "salt"} {
		fmt.Println("put", order)
		records = append(records, kinesistypes.PutRecordsRequestEntry{Data: []byte(order), PartitionKey: aws.String("shop")})
	}
	if _, err := streams.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: aws.String("orders"), Records: records}); err != nil {
		return err
	}
	failed, err := queues.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: queue.QueueUrl, WaitTimeSeconds: 20})
	if err != nil {
		return err
	}
	for _, m := range failed.Messages {
		var record struct {
			RequestContext   struct{ Condition string }
			KinesisBatchInfo struct{ BatchSize int }
		}
		if err := json.Unmarshal([]byte(*m.Body), &record); err != nil {
			return err
		}
		fmt.Printf("given up: %d record, %s; it is in the queue failed-orders\n", record.KinesisBatchInfo.BatchSize, record.RequestContext.Condition)
		if _, err := queues.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: queue.QueueUrl, ReceiptHandle: m.ReceiptHandle}); err != nil {
			return err
		}
	}
	if err := printTaken(ctx, cloudwatchlogs.NewFromConfig(cfg), 4); err != nil {
		return err
	}
	for _, verb := range []string{"streams", "queues"} {
		c := exec.CommandContext(ctx, mayfly, append([]string{verb}, dataArgs(args)...)...)
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		if err := c.Run(); err != nil {
			return err
		}
	}
	return nil
}

// mapStream has the function read the stream from now on, unless a tour before did that.
func mapStream(ctx context.Context, client *lambda.Client, stream string) error {
	account := strings.Split(stream, ":")[4]
	made, err := client.CreateEventSourceMapping(ctx, &lambda.CreateEventSourceMappingInput{
		FunctionName: &orders.name, EventSourceArn: &stream, StartingPosition: types.EventSourcePositionTrimHorizon,
		BisectBatchOnFunctionError: aws.Bool(true), MaximumRetryAttempts: aws.Int32(1),
		DestinationConfig: &types.DestinationConfig{OnFailure: &types.OnFailure{
			Destination: aws.String("arn:aws:sqs:" + strings.Split(stream, ":")[3] + ":" + account + ":failed-orders"),
		}},
	})
	var exists *types.ResourceConflictException
	if errors.As(err, &exists) {
		return nil
	}
	for err == nil && aws.ToString(made.State) != "Enabled" {
		var m *lambda.GetEventSourceMappingOutput
		if m, err = client.GetEventSourceMapping(ctx, &lambda.GetEventSourceMappingInput{UUID: made.UUID}); err == nil {
			made.State = m.State
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// printTaken prints the orders that the function took, once there are at least n.
func printTaken(ctx context.Context, client *cloudwatchlogs.Client, n int) error {
	for {
		out, err := client.FilterLogEvents(ctx, &cloudwatchlogs.FilterLogEventsInput{
			LogGroupName: aws.String("/aws/lambda/" + orders.name), FilterPattern: aws.String("took"),
		})
		if err == nil && len(out.Events) >= n {
			for _, e := range out.Events[len(out.Events)-n:] {
				_, text, _ := strings.Cut(strings.TrimSpace(*e.Message), "took ")
				fmt.Println("took", text)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
