// Package conformance drives a server with the clients that people use: the AWS CLI, boto3 and Terraform. "make
// conformance" runs it. A client that is not installed is skipped by name; with CI=true in the environment that is a failure.
//
// The suites are written in the clients' own languages: boto3/*.py are unittest modules, testdata/cli/*.txt are shell
// sessions with the output that they must have, testdata/terraform is a configuration.
package conformance
