package logs_test

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
	"github.com/mayflyhq/mayfly/internal/service/logs"
)

// benchService is a service on a store on disk, with its calls as in-process callers make them.
func benchService(b *testing.B, streams int) (*smithy.Mux, context.Context) {
	b.Helper()
	db, err := pebblekv.Open(pebblekv.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	svc, err := logs.New(logs.Deps{DB: db})
	if err != nil {
		b.Fatal(err)
	}
	mux := smithy.NewMux()
	svc.Register(mux)
	ctx := call.AsService(b.Context(), "lambda", account, region)
	if _, err := logsapi.CreateLogGroup.Call(ctx, mux, &logsapi.CreateLogGroupInput{LogGroupName: new("/aws/lambda/f")}); err != nil {
		b.Fatal(err)
	}
	for i := range streams {
		if _, err := logsapi.CreateLogStream.Call(ctx, mux, &logsapi.CreateLogStreamInput{LogGroupName: new("/aws/lambda/f"), LogStreamName: new(strconv.Itoa(i))}); err != nil {
			b.Fatal(err)
		}
	}
	return mux, ctx
}

func benchBatch(n int) []logsapi.InputLogEvent {
	at := time.Now().UnixMilli()
	events := make([]logsapi.InputLogEvent, n)
	for i := range events {
		events[i] = ev(at, fmt.Sprintf("2026-01-02T03:04:05.%03dZ\t8f507cfc-1111-4697-b07a-%012d\tINFO\tprocessed item %d in %d ms\n", i%1000, i*7919, i, i%97))
	}
	return events
}

// BenchmarkPutLogEvents ingests batches from 8 callers with a stream each, with the fsync of every answer.
func BenchmarkPutLogEvents(b *testing.B) {
	const callers = 8
	for _, n := range []int{5, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			mux, ctx := benchService(b, callers)
			events := benchBatch(n)
			var next atomic.Int64
			b.SetParallelism(callers / 2)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				in := &logsapi.PutLogEventsInput{
					LogGroupName: new("/aws/lambda/f"), LogStreamName: new(strconv.FormatInt(next.Add(1)%callers, 10)), LogEvents: events,
				}
				for pb.Next() {
					if _, err := logsapi.PutLogEvents.Call(ctx, mux, in); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkFilterLogEvents searches 100,000 events in 20 streams for one that is not there.
func BenchmarkFilterLogEvents(b *testing.B) {
	mux, ctx := benchService(b, 20)
	events := benchBatch(500)
	for i := range 200 {
		if _, err := logsapi.PutLogEvents.Call(ctx, mux, &logsapi.PutLogEventsInput{
			LogGroupName: new("/aws/lambda/f"), LogStreamName: new(strconv.Itoa(i % 20)), LogEvents: events,
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		in := &logsapi.FilterLogEventsInput{LogGroupName: new("/aws/lambda/f"), FilterPattern: new("ERROR")}
		for {
			out, err := logsapi.FilterLogEvents.Call(ctx, mux, in)
			if err != nil || len(out.Events) > 0 {
				b.Fatal(len(out.Events), err)
			}
			if in.NextToken = out.NextToken; in.NextToken == nil {
				break
			}
		}
	}
	b.ReportMetric(float64(b.N)*100_000/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkGetLogEvents reads the last 100 of 100,000 events of a stream.
func BenchmarkGetLogEvents(b *testing.B) {
	mux, ctx := benchService(b, 1)
	for range 200 {
		if _, err := logsapi.PutLogEvents.Call(ctx, mux, &logsapi.PutLogEventsInput{
			LogGroupName: new("/aws/lambda/f"), LogStreamName: new("0"), LogEvents: benchBatch(500),
		}); err != nil {
			b.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	b.ReportAllocs()
	for b.Loop() {
		out, err := logsapi.GetLogEvents.Call(ctx, mux, &logsapi.GetLogEventsInput{LogGroupName: new("/aws/lambda/f"), LogStreamName: new("0"), Limit: new(int32(100))})
		if err != nil || len(out.Events) != 100 {
			b.Fatal(len(out.Events), err)
		}
	}
}
