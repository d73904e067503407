// Package sts is the Security Token Service. It serves GetCallerIdentity: who the credentials of a call belong to.
package sts
