package iam

import (
	"context"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// serviceRolePath begins the paths of service-linked roles, which only their services may change.
const serviceRolePath = "/aws-service-role/"

// serviceRolePolicies begins the ARNs of the AWS-managed policies that only service-linked roles have.
const serviceRolePolicies = "arn:aws:iam::aws:policy/aws-service-role/"

// serviceRoles are the names and policies that AWS gives to the service-linked roles of services which serverless applications meet. Others get a
// name made of the service's, and no policy.
var serviceRoles = map[string]struct{ name, policy string }{
	"apidestinations.events.amazonaws.com":           {"AmazonEventBridgeApiDestinations", "AmazonEventBridgeApiDestinationsServiceRolePolicy"},
	"autoscaling.amazonaws.com":                      {"AutoScaling", "AutoScalingServiceRolePolicy"},
	"contributorinsights.dynamodb.amazonaws.com":     {"DynamoDBCloudWatchContributorInsights", "DynamoDBCloudWatchContributorInsightsServiceRolePolicy"},
	"dynamodb.application-autoscaling.amazonaws.com": {"ApplicationAutoScaling_DynamoDBTable", "AWSApplicationAutoscalingDynamoDBTablePolicy"},
	"ecs.amazonaws.com":                              {"ECS", "AmazonECSServiceRolePolicy"},
	"elasticfilesystem.amazonaws.com":                {"AmazonElasticFileSystem", "AmazonElasticFileSystemServiceRolePolicy"},
	"elasticloadbalancing.amazonaws.com":             {"ElasticLoadBalancing", "AWSElasticLoadBalancingServiceRolePolicy"},
	"events.amazonaws.com":                           {"CloudWatchEvents", "CloudWatchEventsServiceRolePolicy"},
	"kafka.amazonaws.com":                            {"Kafka", "KafkaServiceRolePolicy"},
	"kinesisreplication.dynamodb.amazonaws.com":      {"DynamoDBKinesisDataStreamsReplication", "DynamoDBKinesisReplicationServiceRolePolicy"},
	"lambda.amazonaws.com":                           {"Lambda", "AWSLambdaServiceRolePolicy"},
	"lambda.application-autoscaling.amazonaws.com":   {"ApplicationAutoScaling_LambdaConcurrency", "AWSApplicationAutoscalingLambdaConcurrencyPolicy"},
	"mq.amazonaws.com":                               {"AmazonMQ", "AmazonMQServiceRolePolicy"},
	"ops.apigateway.amazonaws.com":                   {"APIGateway", "APIGatewayServiceRolePolicy"},
	"replication.dynamodb.amazonaws.com":             {"DynamoDBReplication", "DynamoDBReplicationServiceRolePolicy"},
	"replicator.lambda.amazonaws.com":                {"LambdaReplicator", "AWSLambdaReplicator"},
}

func serviceRoleName(service, suffix string) string {
	name := serviceRoles[service].name
	if name == "" {
		for label := range strings.SplitSeq(strings.TrimSuffix(service, ".amazonaws.com"), ".") {
			name += strings.ToUpper(label[:min(1, len(label))]) + label[min(1, len(label)):]
		}
	}
	name = "AWSServiceRoleFor" + name
	if suffix != "" {
		name += "_" + suffix
	}
	return name
}

// protected refuses changes of a service-linked role to all but services.
func (r *role) protected(ctx context.Context) error {
	if strings.HasPrefix(r.Path, serviceRolePath) && call.From(ctx).Principal.Type != call.Service {
		return iamapi.ErrUnmodifiableEntityException("Cannot perform the operation on the protected role '%s' - this role is only modifiable by AWS", r.Name)
	}
	return nil
}

func (s *Service) createServiceLinkedRole(ctx context.Context, in *iamapi.CreateServiceLinkedRoleInput) (*iamapi.CreateServiceLinkedRoleOutput, error) {
	service := *in.AWSServiceName
	if !strings.HasSuffix(service, ".amazonaws.com") || strings.ContainsAny(service, "/\\\"") {
		return nil, iamapi.ErrInvalidInputException("The service principal %s is not valid.", service)
	}
	r := &role{
		Name: serviceRoleName(service, deref(in.CustomSuffix)), ID: newID("AROA"), Path: serviceRolePath + service + "/", MaxSession: defaultMaxSession, Created: now(),
		Trust:       `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":["` + service + `"]},"Action":["sts:AssumeRole"]}]}`,
		Description: deref(in.Description),
	}
	if known := serviceRoles[service].policy; known != "" {
		r.Attached = []string{serviceRolePolicies + known}
	}
	err := s.db.Update(ctx, func(tx kv.Tx) error {
		key := roleKey(account(ctx), r.Name)
		if _, ok, err := tx.Get(key); err != nil {
			return err
		} else if ok {
			return iamapi.ErrInvalidInputException("Service role name %s has been taken in this account, please try a different suffix.", r.Name)
		}
		return kv.SetJSON(tx, key, r)
	})
	if err != nil {
		return nil, err
	}
	return &iamapi.CreateServiceLinkedRoleOutput{Role: r.out(account(ctx))}, nil
}

// deleteServiceLinkedRole deletes at once: no service here keeps resources behind such a role. The task is known by the role that it deletes.
func (s *Service) deleteServiceLinkedRole(ctx context.Context, in *iamapi.DeleteServiceLinkedRoleInput) (*iamapi.DeleteServiceLinkedRoleOutput, error) {
	var task string
	err := s.db.Update(ctx, func(tx kv.Tx) error {
		r, err := getRole(tx, account(ctx), *in.RoleName)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(r.Path, serviceRolePath) {
			return noSuchRole(*in.RoleName)
		}
		task = "task" + r.Path + r.Name + "/" + call.NewRequestID()
		tx.Delete(roleKey(account(ctx), r.Name))
		return kv.SetJSON(tx, deletionKey(account(ctx), task), now())
	})
	if err != nil {
		return nil, err
	}
	return &iamapi.DeleteServiceLinkedRoleOutput{DeletionTaskId: &task}, nil
}

func (s *Service) getServiceLinkedRoleDeletionStatus(ctx context.Context, in *iamapi.GetServiceLinkedRoleDeletionStatusInput) (*iamapi.GetServiceLinkedRoleDeletionStatusOutput, error) {
	err := s.db.View(ctx, func(r kv.Reader) error {
		_, ok, err := r.Get(deletionKey(account(ctx), *in.DeletionTaskId))
		if err == nil && !ok {
			err = iamapi.ErrNoSuchEntityException("The deletion task with id %s cannot be found.", *in.DeletionTaskId)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &iamapi.GetServiceLinkedRoleDeletionStatusOutput{Status: new(iamapi.DeletionTaskStatusTypeSucceeded)}, nil
}
