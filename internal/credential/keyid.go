package credential

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
)

// NewKeyID returns a random access key id of an account of twelve digits: a prefix, AKIA or ASIA, and 16 characters that
// tell the account as AWS's do since 2019. Ten bytes in base 32: a set bit, the account in 40 bits, 39 random bits.
func NewKeyID(prefix, account string) string {
	var b [10]byte
	rand.Read(b[:])
	n, err := strconv.ParseUint(account, 10, 64)
	if err != nil || n >= 1<<40 {
		panic(fmt.Sprintf("credential: account %q", account))
	}
	head := binary.BigEndian.Uint64(b[:])
	head = head&(1<<23-1) | n<<23 | 1<<63
	binary.BigEndian.PutUint64(b[:], head)
	return prefix + base32.StdEncoding.EncodeToString(b[:])
}

// AccountOf reads the account in an access key id. It says nothing of whether there is such a key.
func AccountOf(accessKeyID string) (account string, ok bool) {
	if len(accessKeyID) != 20 {
		return "", false
	}
	b, err := base32.StdEncoding.DecodeString(accessKeyID[4:])
	if err != nil || b[0]&0x80 == 0 {
		return "", false
	}
	n := binary.BigEndian.Uint64(b) >> 23 & (1<<40 - 1)
	return fmt.Sprintf("%012d", n), n < 1e12
}

// NewSecret returns a random secret access key of 40 characters.
func NewSecret() string {
	b := make([]byte, 30)
	rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}
