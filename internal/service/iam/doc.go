// Package iam is Identity and Access Management: users, groups and roles with their inline and attached policies, permissions
// boundaries and tags, access keys, instance profiles, managed policies with their versions, OpenID Connect providers, service-linked
// roles, and the simulation of policies. It tells package authorize what the policies of a user or role are, compiled and from memory, and finds
// the access keys that verify signatures.
//
// Names are unique in an account without regard to case. A managed policy keeps at most five versions, of which one is the
// default; it cannot be deleted while it is attached. The AWS-managed policies that serverless applications attach are
// there in every account, with AWS's documents, and cannot be changed.
//
// Policies are checked against the grammar and stored as they came. What differs from AWS: passwords, MFA devices, certificates, SAML
// providers and reports are not served; other AWS-managed policies than those in managed.json do not exist; when a key was used last is
// forgotten at a restart.
package iam
