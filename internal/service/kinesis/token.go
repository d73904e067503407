package kinesis

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// Shard iterators and paging tokens are sealed with a key of the store, so that nobody makes one. In front of what is sealed stands, to be read by
// anybody and sealed to it, the ARN of the stream: authorize finds there what a call is about that names a stream by its iterator alone.
//
//	base64(ARN, 0, nonce, sealed(kind, time in ms, payload))

// tokenLife is how long iterators and tokens are valid.
const tokenLife = 5 * time.Minute

// Kinds of tokens.
const (
	iteratorToken  = 'i' // uid of the stream, index of the shard, position
	shardsToken    = 's' // uid of the stream, what ListShards goes on with
	streamsToken   = 'l' // name of the last stream
	consumersToken = 'c' // uid of the stream, name of the last consumer
)

var (
	errToken   = errors.New("kinesis: not a token")
	errExpired = errors.New("kinesis: the token is too old")
)

// newSealer returns what seals with the key of the store, which is made at first use.
func newSealer(db kv.DB) (cipher.AEAD, error) {
	var key []byte
	if err := db.Update(context.Background(), func(tx kv.Tx) error {
		b, ok, err := tx.Get(secretKey())
		if err != nil {
			return err
		}
		if !ok {
			b = make([]byte, 32)
			rand.Read(b)
			tx.Set(secretKey(), b)
		}
		key = b
		return nil
	}); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (s *Service) seal(kind byte, arn string, payload []byte) string {
	nonce := make([]byte, s.sealer.NonceSize(), s.sealer.NonceSize()+9+len(payload)+s.sealer.Overhead())
	rand.Read(nonce)
	plain := make([]byte, 0, 9+len(payload))
	plain = append(plain, kind)
	plain = binary.BigEndian.AppendUint64(plain, uint64(time.Now().UnixMilli()))
	plain = append(plain, payload...)
	b := append([]byte(arn), 0)
	b = append(b, s.sealer.Seal(nonce, nonce, plain, []byte(arn))...)
	return base64.StdEncoding.EncodeToString(b)
}

// unseal returns what seal was given. With errExpired the time when it was sealed is valid.
func (s *Service) unseal(kind byte, token string) (arn string, payload []byte, at time.Time, err error) {
	b, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		return "", nil, at, errToken
	}
	named, sealed, ok := bytes.Cut(b, []byte{0})
	if n := s.sealer.NonceSize(); ok && len(sealed) > n {
		plain, err := s.sealer.Open(nil, sealed[:n], sealed[n:], named)
		if err == nil && len(plain) >= 9 && plain[0] == kind {
			at = time.UnixMilli(int64(binary.BigEndian.Uint64(plain[1:])))
			if time.Since(at) > tokenLife {
				err = errExpired
			}
			return string(named), plain[9:], at, err
		}
	}
	return "", nil, at, errToken
}

// iterator is what a shard iterator holds.
type iterator struct {
	uid      int64
	shard    uint32
	position uint64
}

func (s *Service) sealIterator(arn string, it iterator) *string {
	b := binary.BigEndian.AppendUint64(nil, uint64(it.uid))
	b = binary.BigEndian.AppendUint32(b, it.shard)
	return new(s.seal(iteratorToken, arn, binary.BigEndian.AppendUint64(b, it.position)))
}

func (s *Service) unsealIterator(token string) (arn string, it iterator, at time.Time, err error) {
	arn, b, at, err := s.unseal(iteratorToken, token)
	if err != nil {
		return arn, it, at, err
	}
	if len(b) != 20 {
		return arn, it, at, errToken
	}
	return arn, iterator{int64(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint64(b[12:])}, at, nil
}
