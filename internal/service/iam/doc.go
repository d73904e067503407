// Package iam is Identity and Access Management: roles with their trust policies, inline and attached policies, tags and
// permissions boundaries, and managed policies with their versions.
//
// Names are unique in an account without regard to case. A managed policy keeps at most five versions, of which one is the
// default; it cannot be deleted while it is attached. The AWS-managed policies that serverless applications attach are
// there in every account, with AWS's documents, and cannot be changed.
//
// Policies are checked against the grammar and stored as they came. What differs from AWS: users, groups, instance
// profiles, access keys and federation are not served; other AWS-managed policies than those in managed.json do not exist.
package iam
