package sns

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/api/snsapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/durable"
	"github.com/mayflyhq/mayfly/internal/group"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/target"
)

// Targets delivers to queues and functions: a *target.Targets.
type Targets interface {
	Check(arn string) error
	Deliver(ctx context.Context, arn string, e *target.Event) (id string, err error)
}

// Deps is what the service needs.
type Deps struct {
	DB      kv.DB
	Targets Targets
	Checker authorize.Checker // says whether SNS may deliver to a resource, and who may unsubscribe; nil allows everything
	// URL is where this server is reached, without a slash at the end: messages carry links to it.
	URL func() string
	// Client posts to HTTP endpoints; nil is one that follows no redirects.
	Client *http.Client
	// Mail sends to mail boxes; nil refuses the protocols email and email-json.
	Mail Mail
	Log  *slog.Logger // nil discards
}

// Service serves SNS. Its methods may be called concurrently.
type Service struct {
	db      kv.DB
	targets Targets
	checker authorize.Checker
	url     func() string
	client  *http.Client
	mail    Mail
	log     *slog.Logger
	now     func() time.Time

	calls   *durable.Queue // deliveries to queues and functions
	posts   *durable.Queue // deliveries to HTTP endpoints and mail boxes, which take longer
	ordered *durable.Queue // deliveries of FIFO topics

	views    views
	policies authorize.Documents
	signer   signer
	rates    rates
	ended    chan string // ids of messages of which a delivery has ended
	missed   atomic.Bool // some of them found no room in ended
}

// Deliveries that run at once, of all subscriptions and of one. None waits for another subscription's: the numbers bound the memory that
// messages under way take.
const (
	calling, callingOne = 256, 64
	posting, postingOne = 512, 16
	ordering            = 128
)

// The first and the longest wait of a group whose delivery fails.
const orderedFirst, orderedLongest = time.Second, 20 * time.Second

// New returns a service on the store. It delivers nothing before Run.
func New(d Deps) (*Service, error) {
	if d.DB == nil {
		return nil, errors.New("sns: no store")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.URL == nil {
		d.URL = func() string { return "http://127.0.0.1:4566" }
	}
	if d.Client == nil {
		d.Client = newClient()
	}
	s := &Service{
		db: d.DB, targets: d.Targets, checker: d.Checker, url: d.URL, client: d.Client, mail: d.Mail, log: d.Log, now: time.Now,
		ended: make(chan string, 1024),
	}
	s.signer.db = d.DB
	s.missed.Store(true) // whatever a crash has left
	s.calls = durable.New(d.DB, "sns", s.work, durable.Options{Parallel: calling, PerLane: callingOne, Log: d.Log})
	s.posts = durable.New(d.DB, "sns.post", s.work, durable.Options{Parallel: posting, PerLane: postingOne, Log: d.Log})
	s.ordered = durable.New(d.DB, "sns.ordered", s.work, durable.Options{Parallel: ordering, PerLane: 1, First: orderedFirst, Longest: orderedLongest, Log: d.Log})
	return s, nil
}

// Register makes the service the handler of its operations in m.
func (s *Service) Register(m *smithy.Mux) {
	snsapi.CreateTopic.Handle(m, s.createTopic)
	snsapi.DeleteTopic.Handle(m, s.deleteTopic)
	snsapi.ListTopics.Handle(m, s.listTopics)
	snsapi.GetTopicAttributes.Handle(m, s.getTopicAttributes)
	snsapi.SetTopicAttributes.Handle(m, s.setTopicAttributes)
	snsapi.AddPermission.Handle(m, s.addPermission)
	snsapi.RemovePermission.Handle(m, s.removePermission)
	snsapi.GetDataProtectionPolicy.Handle(m, s.getDataProtectionPolicy)
	snsapi.PutDataProtectionPolicy.Handle(m, s.putDataProtectionPolicy)
	snsapi.TagResource.Handle(m, s.tagResource)
	snsapi.UntagResource.Handle(m, s.untagResource)
	snsapi.ListTagsForResource.Handle(m, s.listTagsForResource)

	snsapi.Subscribe.Handle(m, s.subscribe)
	snsapi.ConfirmSubscription.Handle(m, s.confirmSubscription)
	snsapi.Unsubscribe.Handle(m, s.unsubscribe)
	snsapi.ListSubscriptions.Handle(m, s.listSubscriptions)
	snsapi.ListSubscriptionsByTopic.Handle(m, s.listSubscriptionsByTopic)
	snsapi.GetSubscriptionAttributes.Handle(m, s.getSubscriptionAttributes)
	snsapi.SetSubscriptionAttributes.Handle(m, s.setSubscriptionAttributes)

	snsapi.Publish.Handle(m, s.publish)
	snsapi.PublishBatch.Handle(m, s.publishBatch)
}

// Run delivers, and removes what has had its time, until ctx ends. It returns an error if the store fails.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	g := group.New(ctx)
	run := func(f func(context.Context) error) {
		g.Go(func(ctx context.Context) {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	run(s.calls.Run)
	run(s.posts.Run)
	run(s.ordered.Run)
	run(s.removeDelivered)
	run(s.removeExpired)
	g.Wait()
	return context.Cause(ctx)
}
