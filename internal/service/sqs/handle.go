package sqs

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/queue"
)

// A receipt handle is the base64 of: its version, the id of the queue, how often that had been purged, the message's ID, how often that had
// been taken, and a checksum.
const (
	handleVersion = 1
	handleSize    = 1 + 8 + 4 + 8 + 8 + 4 + 4
)

// receiptHandle is the handle of a message that was taken from a queue.
func (q *queueState) receiptHandle(l queue.Lease) string {
	b := make([]byte, 1, handleSize)
	b[0] = handleVersion
	b, _ = hex.AppendDecode(b, []byte(q.ID))
	b = binary.BigEndian.AppendUint32(b, uint32(q.Purges))
	b = binary.BigEndian.AppendUint64(b, uint64(l.Due))
	b = binary.BigEndian.AppendUint64(b, l.Seq)
	b = binary.BigEndian.AppendUint32(b, uint32(l.Takes))
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return base64.StdEncoding.EncodeToString(b)
}

// lease reads a handle. gone is true for a message that went with a purge.
func (q *queueState) lease(handle *string) (l queue.Lease, gone bool, err error) {
	if handle == nil || *handle == "" {
		return l, false, missing("ReceiptHandle")
	}
	b, err := base64.StdEncoding.DecodeString(*handle)
	if err != nil || len(b) != handleSize || b[0] != handleVersion ||
		crc32.ChecksumIEEE(b[:handleSize-4]) != binary.BigEndian.Uint32(b[handleSize-4:]) || hex.EncodeToString(b[1:9]) != q.ID {
		return l, false, errNoHandle(*handle)
	}
	l.Due = int64(binary.BigEndian.Uint64(b[13:]))
	l.Seq = binary.BigEndian.Uint64(b[21:])
	l.Takes = int(binary.BigEndian.Uint32(b[29:]))
	return l, binary.BigEndian.Uint32(b[9:]) != uint32(q.Purges), nil
}

func errNoHandle(handle string) *apierr.Error {
	return sqsapi.ErrReceiptHandleIsInvalid("The input receipt handle \"%s\" is not a valid receipt handle.", handle)
}
