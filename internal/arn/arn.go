// Package arn parses and prints Amazon Resource Names.
package arn

import (
	"errors"
	"strings"
)

// ErrInvalid is returned for text that is not an ARN.
var ErrInvalid = errors.New("arn: not an ARN")

// Partition is the partition of every ARN that Mayfly makes.
const Partition = "aws"

// ARN is one Amazon Resource Name in its six parts. Region and Account are empty for global resources.
type ARN struct {
	Partition string
	Service   string
	Region    string
	Account   string
	Resource  string // everything after the fifth colon, colons and slashes included
}

// New makes an ARN in the partition "aws".
func New(service, region, account, resource string) ARN {
	return ARN{Partition, service, region, account, resource}
}

// Parse splits s. It checks the form arn:partition:service:region:account:resource, not that the parts exist.
func Parse(s string) (ARN, error) {
	p := strings.SplitN(s, ":", 6)
	if len(p) != 6 || p[0] != "arn" || p[1] == "" || p[2] == "" || p[5] == "" {
		return ARN{}, ErrInvalid
	}
	return ARN{p[1], p[2], p[3], p[4], p[5]}, nil
}

// Is reports whether s has the form of an ARN.
func Is(s string) bool { _, err := Parse(s); return err == nil }

// String prints a in the form that Parse reads.
func (a ARN) String() string {
	return "arn:" + a.Partition + ":" + a.Service + ":" + a.Region + ":" + a.Account + ":" + a.Resource
}
