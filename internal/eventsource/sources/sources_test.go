package sources

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/eventsource"
)

const (
	function = "arn:aws:lambda:eu-central-1:111122223333:function:f"
	role     = "arn:aws:iam::111122223333:role/r"
	queueARN = "arn:aws:sqs:eu-central-1:111122223333:q"
	streamID = "arn:aws:kinesis:eu-central-1:111122223333:stream/s"
)

type oneRole struct{}

func (oneRole) May(_ context.Context, f, action, resource string) (string, error) {
	want := map[string]string{
		"kinesis:DescribeStream": streamID, "kinesis:SubscribeToShard": streamID + "/consumer/c:1", "kinesis:GetRecords": streamID,
		"sqs:ReceiveMessage": queueARN, "sqs:DeleteMessage": queueARN, "sqs:GetQueueAttributes": queueARN,
	}
	if f != function || want[action] != resource && resource != streamID+"2" && resource != queueARN+".fifo" {
		return "", fmt.Errorf("%s may not %s %s", f, action, resource)
	}
	return role, nil
}

func open[T any](t *testing.T, mux *smithy.Mux, m *eventsource.Mapping) T {
	t.Helper()
	m.FunctionARN = function
	s, err := New(Deps{Caller: mux, Roles: oneRole{}}).Open(m)
	if err != nil {
		t.Fatal(err)
	}
	return s.(T)
}

func TestMessages(t *testing.T) {
	mux := smithy.NewMux()
	var visibility []int32
	left := 25
	sqsapi.ReceiveMessage.Handle(mux, func(ctx context.Context, in *sqsapi.ReceiveMessageInput) (*sqsapi.ReceiveMessageOutput, error) {
		if *in.QueueUrl != "https://sqs.eu-central-1.amazonaws.com/111122223333/q" || *in.WaitTimeSeconds != 0 || call.From(ctx).Principal.Type != call.Service {
			t.Errorf("asked %+v", in)
		}
		if in.VisibilityTimeout != nil {
			visibility = append(visibility, *in.VisibilityTimeout)
		}
		out := &sqsapi.ReceiveMessageOutput{}
		for range min(left, int(*in.MaxNumberOfMessages)) {
			id := strconv.Itoa(left)
			out.Messages = append(out.Messages, sqsapi.Message{
				MessageId: &id, ReceiptHandle: new("h" + id), Body: new(`{"a":"<é>"}`), MD5OfBody: new("md5"),
				Attributes: map[string]string{
					"SenderId": "AIDA", "ApproximateReceiveCount": "3", "SentTimestamp": "1545082649183", "ApproximateFirstReceiveTimestamp": "1545082649185",
					"MessageGroupId": "g", "SequenceNumber": "1", "MessageDeduplicationId": "d", "AWSTraceHeader": "Root=1", "DeadLetterQueueSourceArn": "arn",
				},
			})
			left--
		}
		return out, nil
	})
	q := open[eventsource.Queue](t, mux, &eventsource.Mapping{SourceARN: queueARN})
	got, err := q.Take(t.Context(), 23, 1500*time.Millisecond)
	if err != nil || len(got) != 23 || !slices.Equal(visibility, []int32{2}) {
		t.Fatal(len(got), visibility, err)
	}
	r := got[0]
	if r.ID != "25" || r.Trace != "Root=1" || r.Handle != "h25" || r.Receives != 3 || r.Key != "" || string(r.Data) != `{"a":"<é>"}` || r.Arrival.UnixMilli() != 1545082649183 {
		t.Errorf("record %+v", r)
	}
	want := `{"messageId":"25","receiptHandle":"h25","body":"{\"a\":\"<é>\"}","attributes":{"DeadLetterQueueSourceArn":"arn","ApproximateReceiveCount":"3","AWSTraceHeader":"Root=1",` +
		`"SentTimestamp":"1545082649183","SequenceNumber":"1","MessageGroupId":"g","SenderId":"AIDA","MessageDeduplicationId":"d","ApproximateFirstReceiveTimestamp":"1545082649185"},` +
		`"messageAttributes":{},"md5OfBody":"md5","eventSource":"aws:sqs","eventSourceARN":"` + queueARN + `","awsRegion":"eu-central-1"}`
	if string(r.JSON) != want {
		t.Errorf("record\n%s\nwant\n%s", r.JSON, want)
	}
	if got, err = q.Take(t.Context(), 100, 0); err != nil || len(got) != 2 {
		t.Error(len(got), err)
	}
	left = 1
	fifo := open[eventsource.Queue](t, mux, &eventsource.Mapping{SourceARN: queueARN + ".fifo"}).(*queue)
	fifo.url = q.(*queue).url // the handler above
	if got, err = fifo.Take(t.Context(), 10, 0); err != nil || len(got) != 1 || got[0].Key != "g" {
		t.Error(got, err)
	}
}

func TestMessageAttributes(t *testing.T) {
	message := &sqsapi.Message{
		MessageId: new("1"), ReceiptHandle: new("h"), Body: new("b"), MD5OfBody: new("m"),
		MessageAttributes: map[string]sqsapi.MessageAttributeValue{
			"Z": {DataType: new("Binary"), BinaryValue: []byte{1, 2}}, "A": {DataType: new("Number.int"), StringValue: new("1")},
		},
	}
	q := &queue{arn: queueARN, region: "r"}
	const begin, end = `{"messageId":"1","receiptHandle":"h","body":"b","attributes":{},"messageAttributes":{` +
		`"A":{"stringValue":"1","stringListValues":[],"binaryListValues":[],"dataType":"Number.int"},` +
		`"Z":{"binaryValue":"AQI=","stringListValues":[],"binaryListValues":[],"dataType":"Binary"}},`,
		`"md5OfBody":"m","eventSource":"aws:sqs","eventSourceARN":"` + queueARN + `","awsRegion":"r"}`
	for _, c := range []struct {
		md5      *string
		gathered bool
		want     string
	}{
		{nil, false, begin + end},
		{nil, true, begin + `"md5OfMessageAttributes":null,` + end},
		{new("x"), true, begin + `"md5OfMessageAttributes":"x",` + end},
	} {
		message.MD5OfMessageAttributes, q.gathered = c.md5, c.gathered
		if got := string(q.record(message).JSON); got != c.want {
			t.Errorf("record\n%s\nwant\n%s", got, c.want)
		}
	}
}

func TestDeleteAndHide(t *testing.T) {
	mux := smithy.NewMux()
	var deleted, hidden []string
	sqsapi.DeleteMessageBatch.Handle(mux, func(_ context.Context, in *sqsapi.DeleteMessageBatchInput) (*sqsapi.DeleteMessageBatchOutput, error) {
		out := &sqsapi.DeleteMessageBatchOutput{}
		for _, e := range in.Entries {
			switch *e.ReceiptHandle {
			case "3": // somebody else's by now
				out.Failed = append(out.Failed, sqsapi.BatchResultErrorEntry{Id: e.Id, SenderFault: new(true), Code: new("ReceiptHandleIsInvalid")})
			case "13":
				out.Failed = append(out.Failed, sqsapi.BatchResultErrorEntry{Id: e.Id, SenderFault: new(false), Code: new("InternalError")})
			}
			deleted = append(deleted, *e.ReceiptHandle)
		}
		return out, nil
	})
	sqsapi.ChangeMessageVisibilityBatch.Handle(mux, func(_ context.Context, in *sqsapi.ChangeMessageVisibilityBatchInput) (*sqsapi.ChangeMessageVisibilityBatchOutput, error) {
		for _, e := range in.Entries {
			hidden = append(hidden, fmt.Sprint(*e.ReceiptHandle, " ", *e.VisibilityTimeout))
		}
		return &sqsapi.ChangeMessageVisibilityBatchOutput{}, nil
	})
	var messages []eventsource.Record
	for i := range 15 {
		messages = append(messages, eventsource.Record{Handle: strconv.Itoa(i)})
	}
	q := open[eventsource.Queue](t, mux, &eventsource.Mapping{SourceARN: queueARN})
	if err := q.Delete(t.Context(), messages[:12]); err != nil || len(deleted) != 12 {
		t.Error(deleted, err)
	}
	if err := q.Delete(t.Context(), messages); err == nil || err.Error() != "InternalError: " {
		t.Error(err)
	}
	if err := q.Hide(t.Context(), messages[:2], 0); err != nil || !slices.Equal(hidden, []string{"0 0", "1 0"}) {
		t.Error(hidden, err)
	}
}

func TestQueueIsGone(t *testing.T) {
	mux := smithy.NewMux()
	sqsapi.GetQueueAttributes.Handle(mux, func(context.Context, *sqsapi.GetQueueAttributesInput) (*sqsapi.GetQueueAttributesOutput, error) {
		return nil, apierr.New("AWS.SimpleQueueService.NonExistentQueue", 400, "no")
	})
	q := open[eventsource.Queue](t, mux, &eventsource.Mapping{SourceARN: queueARN})
	if _, _, err := q.Describe(t.Context()); !errors.Is(err, eventsource.ErrGone) {
		t.Error(err)
	}
	mux = smithy.NewMux()
	sqsapi.GetQueueAttributes.Handle(mux, func(context.Context, *sqsapi.GetQueueAttributesInput) (*sqsapi.GetQueueAttributesOutput, error) {
		return &sqsapi.GetQueueAttributesOutput{Attributes: map[string]string{"VisibilityTimeout": "7"}}, nil
	})
	q = open[eventsource.Queue](t, mux, &eventsource.Mapping{SourceARN: queueARN + ".fifo"})
	if visibility, fifo, err := q.Describe(t.Context()); visibility != 7*time.Second || !fifo || err != nil {
		t.Error(visibility, fifo, err)
	}
}

// shards is a stream of two shards: the first is closed after its three records.
func shards(iterators *[]string, expire *bool) *smithy.Mux {
	mux := smithy.NewMux()
	kinesisapi.ListShards.Handle(mux, func(_ context.Context, in *kinesisapi.ListShardsInput) (*kinesisapi.ListShardsOutput, error) {
		if in.NextToken != nil {
			return &kinesisapi.ListShardsOutput{Shards: []kinesisapi.Shard{{ShardId: new("b"), ParentShardId: new("a"), AdjacentParentShardId: new("z")}}}, nil
		}
		if *in.StreamARN != streamID {
			return nil, kinesisapi.ErrResourceNotFoundException("no")
		}
		return &kinesisapi.ListShardsOutput{Shards: []kinesisapi.Shard{{ShardId: new("a")}}, NextToken: new("more")}, nil
	})
	kinesisapi.GetShardIterator.Handle(mux, func(_ context.Context, in *kinesisapi.GetShardIteratorInput) (*kinesisapi.GetShardIteratorOutput, error) {
		from := *in.ShardIteratorType
		token := "0"
		switch {
		case in.StartingSequenceNumber != nil && *in.StartingSequenceNumber > "3":
			return nil, kinesisapi.ErrInvalidArgumentException("no such number")
		case *in.ShardIteratorType == "AT_SEQUENCE_NUMBER":
			token = string((*in.StartingSequenceNumber)[0] - 1)
		case in.StartingSequenceNumber != nil:
			from += " " + *in.StartingSequenceNumber
			token = *in.StartingSequenceNumber
		case in.Timestamp != nil:
			from += " " + strconv.FormatInt(in.Timestamp.Unix(), 10)
			token = "3"
		}
		*iterators = append(*iterators, from)
		return &kinesisapi.GetShardIteratorOutput{ShardIterator: new(*in.ShardId + token)}, nil
	})
	kinesisapi.GetRecords.Handle(mux, func(_ context.Context, in *kinesisapi.GetRecordsInput) (*kinesisapi.GetRecordsOutput, error) {
		if *expire {
			*expire = false
			return nil, kinesisapi.ErrExpiredIteratorException("old")
		}
		shard, n := (*in.ShardIterator)[:1], int((*in.ShardIterator)[1]-'0')
		out := &kinesisapi.GetRecordsOutput{MillisBehindLatest: new(int64(0))}
		for n < 3 && len(out.Records) < int(*in.Limit) {
			n++
			out.Records = append(out.Records, kinesisapi.Record{
				SequenceNumber: new(strconv.Itoa(n)), PartitionKey: new("k"), Data: []byte("hello"), ApproximateArrivalTimestamp: new(time.UnixMilli(1545084650987)),
			})
		}
		if n < 3 {
			out.MillisBehindLatest = new(int64(5))
		}
		if n < 3 || shard != "a" {
			out.NextShardIterator = new(shard + strconv.Itoa(n))
		}
		return out, nil
	})
	return mux
}

func TestStream(t *testing.T) {
	var iterators []string
	var expire bool
	st := open[eventsource.Stream](t, shards(&iterators, &expire), &eventsource.Mapping{SourceARN: streamID})
	ctx := t.Context()
	all, err := st.Shards(ctx)
	if err != nil || len(all) != 2 || all[0].ID != "a" || len(all[0].Parents) != 0 || !slices.Equal(all[1].Parents, []string{"a", "z"}) {
		t.Fatalf("%+v %v", all, err)
	}
	read := func(shard string, from eventsource.Position, most int, ids string, more, end bool) eventsource.Position {
		t.Helper()
		page, err := st.Read(ctx, shard, from, most)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, r := range page.Records {
			got += r.ID
			from = eventsource.Position{After: r.ID}
		}
		if got != ids || page.More != more || page.End != end {
			t.Errorf("read %+v of %s", page, shard)
		}
		return from
	}
	at := read("a", eventsource.Position{}, 1, "1", true, false)
	at = read("a", at, 1, "2", true, false) // with the iterator of before
	expire = true
	at = read("a", at, 9, "3", false, true) // which may have grown too old
	read("a", at, 9, "", false, true)       // and is none any more at the end
	at = read("b", eventsource.Position{At: time.Unix(9, 0)}, 9, "", false, false)
	read("b", at, 9, "", false, false) // nothing was found: the same iterator
	if want := []string{"TRIM_HORIZON", "AFTER_SEQUENCE_NUMBER 2", "AFTER_SEQUENCE_NUMBER 3", "AT_TIMESTAMP 9"}; !slices.Equal(iterators, want) {
		t.Errorf("iterators %q, want %q", iterators, want)
	}
	page, err := st.Read(ctx, "b", eventsource.Position{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	r := page.Records[0]
	want := `{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":"k","sequenceNumber":"1","data":"aGVsbG8=","approximateArrivalTimestamp":1545084650.987},` +
		`"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"b:1","eventName":"aws:kinesis:record","invokeIdentityArn":"` + role +
		`","awsRegion":"eu-central-1","eventSourceARN":"` + streamID + `"}`
	if string(r.JSON) != want || string(r.Data) != "hello" || r.Key != "k" || r.Arrival.UnixMilli() != 1545084650987 {
		t.Errorf("record\n%s\nwant\n%s", r.JSON, want)
	}
	finder := st.(eventsource.Looker)
	for id, found := range map[string]int{"2": 1, "9": 0} {
		if page, err := finder.Find(ctx, "b", id); err != nil || len(page.Records) != found {
			t.Errorf("found %+v, %v", page, err)
		}
	}
	gone := open[eventsource.Stream](t, shards(&iterators, &expire), &eventsource.Mapping{SourceARN: streamID + "2"})
	if _, err := gone.Shards(ctx); !errors.Is(err, eventsource.ErrGone) {
		t.Error(err)
	}
}

// bell implements Arrivals.
type bell map[string]func(string)

func (b bell) OnArrival(resource string, f func(string)) func() {
	b[resource] = f
	return func() { delete(b, resource) }
}

func (bell) Peek(_ context.Context, queue string, most int) ([]sqsapi.Message, error) {
	if queue != queueARN || most != 7 {
		return nil, fmt.Errorf("peek at %d of %s", most, queue)
	}
	return []sqsapi.Message{{MessageId: new("1"), ReceiptHandle: new("h"), Body: new("b"), MD5OfBody: new("m")}}, nil
}

func TestPeek(t *testing.T) {
	s := New(Deps{Caller: smithy.NewMux(), Roles: oneRole{}, Queues: bell{}})
	q, err := s.Open(&eventsource.Mapping{SourceARN: queueARN, FunctionARN: function})
	if err != nil {
		t.Fatal(err)
	}
	got, err := q.(eventsource.Peeker).Peek(t.Context(), 7)
	if err != nil || len(got) != 1 || got[0].ID != "1" || string(got[0].Data) != "b" {
		t.Errorf("%+v %v", got, err)
	}
}

func TestArrivals(t *testing.T) {
	queues, streams := bell{}, bell{}
	s := New(Deps{Caller: smithy.NewMux(), Roles: oneRole{}, Queues: queues, Streams: streams})
	for _, c := range []struct {
		source, resource string
		bell             bell
	}{{queueARN, queueARN, queues}, {streamID, streamID, streams}} {
		got, err := s.Open(&eventsource.Mapping{SourceARN: c.source, FunctionARN: function})
		if err != nil {
			t.Fatal(err)
		}
		rung := ""
		stop := got.(eventsource.Waker).OnArrival(func(shard string) { rung = shard })
		c.bell[c.resource]("shard")
		if stop(); rung != "shard" || len(c.bell) > 0 {
			t.Error(c.source, rung, c.bell)
		}
	}
	if _, err := s.Open(&eventsource.Mapping{SourceARN: "arn:aws:sns:eu-central-1:111122223333:t"}); err == nil {
		t.Error("a topic was opened")
	}
}
