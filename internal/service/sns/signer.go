package sns

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// CertificatePath is where the certificate is served under the server's URL, followed by the name of its file.
const CertificatePath = "/_mayfly/sns/"

// signerRow is the key with which messages are signed and its certificate, as stored.
type signerRow struct {
	Key         []byte `json:"key"`         // PKCS #8
	Certificate []byte `json:"certificate"` // DER
}

// signer signs messages. The zero value with a store makes its key when it is first needed.
type signer struct {
	db kv.DB

	mu   sync.Mutex
	key  *rsa.PrivateKey
	pem  []byte
	file string        // of the certificate
	busy chan struct{} // closed when who looks for the key has ended; nil if nobody does

	known map[signatureKey]*signature
}

// maxSignatures bounds the signatures that are kept for further deliveries of the same message.
const maxSignatures = 4096

type signatureKey struct{ message, form, version string }

// signature is a signature as it goes into a message.
type signature struct {
	once               sync.Once
	err                error
	version, text, url string
}

func (t *topic) signatureVersion() string {
	if v := t.Attributes[attrSignature]; v != "" {
		return v
	}
	return "1"
}

// sign signs a message as a subscription gets it; nil for FIFO topics, whose messages AWS does not sign. The signature does not depend on the
// subscription, only on its protocol if the message has a text for that, so it is kept for the others if there are any.
func (s *Service) sign(ctx context.Context, t *topic, to *taker, m *message, shared bool) (*signature, error) {
	if m.Sequence != 0 {
		return nil, nil
	}
	text := m.form(to.Protocol)
	members := []string{"Message", text, "MessageId", m.ID}
	if m.Subject != nil {
		members = append(members, "Subject", *m.Subject)
	}
	members = append(members, "Timestamp", stamp(m.Time), "TopicArn", t.name.arn(), "Type", typeNotification)
	x := &signature{version: t.signatureVersion()}
	if shared {
		k := signatureKey{message: m.ID, version: x.version}
		if _, own := m.Forms[to.Protocol]; own {
			k.form = to.Protocol
		}
		x = s.signer.signature(k, x)
	}
	x.once.Do(func() { x.err = s.signer.sign(ctx, x, canonical(members...), s.url()) })
	if x.err != nil {
		s.signer.forget(x)
		return nil, x.err
	}
	return x, nil
}

func (s *Service) signConfirmation(ctx context.Context, c *confirmation) (*signature, error) {
	x := &signature{version: c.Version}
	return x, s.signer.sign(ctx, x, canonical("Message", c.text(), "MessageId", c.ID, "SubscribeURL", s.subscribeURL(c.Topic, c.Token),
		"Timestamp", stamp(c.Time), "Token", c.Token, "TopicArn", c.Topic, "Type", c.Type), s.url())
}

// signature finds a signature, or keeps x as that.
func (s *signer) signature(k signatureKey, x *signature) *signature {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.known[k]; old != nil {
		return old
	}
	if s.known == nil || len(s.known) >= maxSignatures {
		s.known = map[signatureKey]*signature{}
	}
	s.known[k] = x
	return x
}

func (s *signer) forget(x *signature) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.known {
		if v == x {
			delete(s.known, k)
		}
	}
}

func (s *signer) sign(ctx context.Context, x *signature, text, url string) error {
	key, file, err := s.ready(ctx)
	if err != nil {
		return err
	}
	var signed []byte
	if x.version == signatureSHA256 {
		sum := sha256.Sum256([]byte(text))
		signed, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	} else {
		sum := sha1.Sum([]byte(text)) // what version 1 is
		signed, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA1, sum[:])
	}
	x.text, x.url = base64.StdEncoding.EncodeToString(signed), url+CertificatePath+file
	return err
}

// ready returns the key and the name of the certificate's file. It makes both if there are none.
func (s *signer) ready(ctx context.Context) (*rsa.PrivateKey, string, error) {
	for {
		s.mu.Lock()
		key, file, busy := s.key, s.file, s.busy
		if key == nil && busy == nil {
			s.busy = make(chan struct{})
		}
		s.mu.Unlock()
		if key != nil {
			return key, file, nil
		}
		if busy == nil {
			return s.find(ctx)
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, "", ctx.Err()
		}
	}
}

// find reads the key, or makes it. One goroutine does at a time.
func (s *signer) find(ctx context.Context) (*rsa.PrivateKey, string, error) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(s.busy)
		s.busy = nil
	}()
	row, ok, err := s.stored(ctx)
	if err != nil {
		return nil, "", err
	}
	if !ok {
		if row, err = newSigner(time.Now()); err != nil {
			return nil, "", err
		}
		err = s.db.Update(ctx, func(tx kv.Tx) error {
			old, ok, err := kv.GetJSON[signerRow](tx, signerKey())
			if err != nil {
				return err
			}
			if ok {
				row = old // another delivery was first
				return nil
			}
			return kv.SetJSON(tx, signerKey(), row)
		})
		if err != nil {
			return nil, "", err
		}
	}
	parsed, err := x509.ParsePKCS8PrivateKey(row.Key)
	if err != nil {
		return nil, "", err
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, "", errors.New("sns: the key in the store is not RSA's")
	}
	sum := sha256.Sum256(row.Certificate)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key, s.file = key, "SimpleNotificationService-"+hex.EncodeToString(sum[:16])+".pem"
	s.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: row.Certificate})
	return s.key, s.file, nil
}

func (s *signer) stored(ctx context.Context) (row signerRow, ok bool, err error) {
	err = s.db.View(ctx, func(r kv.Reader) error {
		row, ok, err = kv.GetJSON[signerRow](r, signerKey())
		return err
	})
	return row, ok, err
}

// newSigner makes a key and a certificate that it signs itself.
func newSigner(now time.Time) (row signerRow, err error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return row, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return row, err
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "sns.amazonaws.com", Organization: []string{"Mayfly"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(30, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	if row.Certificate, err = x509.CreateCertificate(rand.Reader, c, c, key.Public(), key); err != nil {
		return row, err
	}
	row.Key, err = x509.MarshalPKCS8PrivateKey(key)
	return row, err
}

// Certificate returns the certificate in the file with a name, as PEM; nil if there is no such file.
func (s *Service) Certificate(ctx context.Context, file string) ([]byte, error) {
	if _, ok, err := s.signer.stored(ctx); err != nil || !ok {
		return nil, err // nothing was signed
	}
	_, name, err := s.signer.ready(ctx)
	if err != nil || name != file {
		return nil, err
	}
	s.signer.mu.Lock()
	defer s.signer.mu.Unlock()
	return s.signer.pem, nil
}
