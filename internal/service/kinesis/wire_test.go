package kinesis_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/protocol"
)

// Whatever comes over the wire, in JSON or CBOR, is answered or refused with an error of AWS's.
func FuzzWire(f *testing.F) {
	w, end := start(f, false)
	f.Cleanup(end)
	w.create("s", 2)
	consumer := *w.consumer("c")
	r := protocol.NewRouter(kinesisapi.Service)
	call := func(op, contentType string, body []byte) error {
		c, err := r.Match(&protocol.Request{Method: "POST", Path: "/", Header: http.Header{"X-Amz-Target": {"Kinesis_20131202." + op}, "Content-Type": {contentType}}, Body: body}, "kinesis")
		if err != nil {
			f.Fatal(err)
		}
		in, out := c.Op.NewInput(), c.Op.NewOutput()
		if err := c.Decode(in); err != nil {
			return err
		}
		if err := w.Call(w.ctx, c.Op, in, out); err != nil {
			return err
		}
		if o, ok := out.(*kinesisapi.SubscribeToShardOutput); ok {
			for range o.EventStream {
				return nil
			}
			return nil
		}
		c.Encode(out, "id")
		return nil
	}
	number := *w.put("s", "k", "data").SequenceNumber
	iterator := *w.iterator(kinesisapi.GetShardIteratorInput{ShardId: sh(0), ShardIteratorType: new("LATEST")})
	index := map[string]uint8{}
	for i := range kinesisapi.Service.Ops {
		index[kinesisapi.Service.Ops[i].Name] = uint8(i)
	}
	for op, body := range map[string]string{
		"PutRecord":              `{"StreamName":"s","PartitionKey":"k","Data":"aGVsbG8=","ExplicitHashKey":"340282366920938463463374607431768211455"}`,
		"PutRecords":             `{"StreamARN":"` + streamARN + `","Records":[{"PartitionKey":"k","Data":""},{"PartitionKey":"l","Data":"AA==","ExplicitHashKey":"0"}]}`,
		"GetShardIterator":       `{"StreamName":"s","ShardId":"shardId-000000000001","ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":"` + number + `"}`,
		"GetRecords":             `{"ShardIterator":"` + iterator + `","Limit":1}`,
		"ListShards":             `{"StreamName":"s","ShardFilter":{"Type":"AT_TIMESTAMP","Timestamp":1e9},"MaxResults":1}`,
		"SplitShard":             `{"StreamName":"s","ShardToSplit":"shardId-000000000000","NewStartingHashKey":"1000"}`,
		"MergeShards":            `{"StreamName":"s","ShardToMerge":"0","AdjacentShardToMerge":"1"}`,
		"UpdateShardCount":       `{"StreamName":"s","TargetShardCount":3,"ScalingType":"UNIFORM_SCALING"}`,
		"SubscribeToShard":       `{"ConsumerARN":"` + consumer + `","ShardId":"shardId-000000000000","StartingPosition":{"Type":"TRIM_HORIZON"}}`,
		"RegisterStreamConsumer": `{"StreamARN":"` + streamARN + `","ConsumerName":"d","Tags":{"a":"b"}}`,
		"PutResourcePolicy":      `{"ResourceARN":"` + streamARN + `","Policy":"{}"}`,
		"TagResource":            `{"ResourceARN":"` + consumer + `","Tags":{"a":"b"}}`,
		"DescribeStream":         `{"StreamName":"s","Limit":1,"ExclusiveStartShardId":"shardId-000000000000"}`,
		"ListStreams":            `{"Limit":1,"NextToken":"x"}`,
		"CreateStream":           `{"StreamName":"t","StreamModeDetails":{"StreamMode":"ON_DEMAND"},"WarmThroughputMiBps":5}`,
	} {
		if index[op] == 0 && op != kinesisapi.Service.Ops[0].Name {
			f.Fatal(op)
		}
		f.Add(index[op], false, []byte(body))
	}
	f.Add(index["PutRecord"], true, []byte("\xbfjStreamNameasdDataEhello\x6cPartitionKeyak\xff"))
	f.Add(index["GetShardIterator"], true, []byte("\xbfjStreamNameasgShardIda0\x71ShardIteratorType\x6cAT_TIMESTAMPiTimestamp\xc1\x1b\x00\x00\x01\xa2\x0c\x23\xc3\xfa\xff"))
	f.Fuzz(func(t *testing.T, op uint8, cbor bool, body []byte) {
		name := kinesisapi.Service.Ops[int(op)%len(kinesisapi.Service.Ops)].Name
		contentType := "application/x-amz-json-1.1"
		if cbor {
			contentType = "application/x-amz-cbor-1.1"
		}
		if strings.Contains(string(body), "100") && name == "CreateStream" {
			t.Skip("a stream of many shards only takes time")
		}
		err := call(name, contentType, body)
		e, ok := errors.AsType[*apierr.Error](err)
		if err != nil && (!ok || e.HTTPStatus() >= 500 || e.Message == "" && e.Code != "SerializationException") {
			t.Errorf("%s %q: %v", name, body, err)
		}
	})
}
