package sns

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"net/url"
	"time"

	"github.com/mayflyhq/mayfly/internal/call"
)

// Mail sends letters.
type Mail interface {
	// Send hands a letter over for delivery. It returns a *textproto.Error if the relay refuses.
	Send(ctx context.Context, l *Letter) error
}

// Letter is a letter to one address.
type Letter struct {
	Name    string // of the sender
	To      string
	Subject string
	Text    string
}

// mailTimeout is how long a relay has to take a letter.
const mailTimeout = 30 * time.Second

// Relay is Mail by SMTP. It uses TLS if the relay offers it.
type Relay struct {
	addr, host string
	tls        bool
	auth       smtp.Auth
	from       string
}

// NewRelay returns the relay at a URL: smtp://[user:password@]host[:port]?from=address, or smtps for TLS from the beginning. The ports are 587 and
// 465 unless given.
func NewRelay(text string) (*Relay, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" {
		return nil, errors.New("a mail relay is smtp://[user:password@]host[:port]?from=address")
	}
	r := &Relay{host: u.Hostname(), tls: u.Scheme == "smtps"}
	port := u.Port()
	switch {
	case port != "":
	case r.tls:
		port = "465"
	default:
		port = "587"
	}
	r.addr = net.JoinHostPort(r.host, port)
	a, err := mail.ParseAddress(u.Query().Get("from"))
	if err != nil {
		return nil, errors.New("a mail relay needs the address that letters come from: smtp://host?from=address")
	}
	r.from = a.Address
	if u.User != nil {
		password, _ := u.User.Password()
		r.auth = smtp.PlainAuth("", u.User.Username(), password, r.host)
	}
	return r, nil
}

// Send implements Mail.
func (r *Relay) Send(ctx context.Context, l *Letter) error {
	ctx, cancel := context.WithTimeout(ctx, mailTimeout)
	defer cancel()
	var conn net.Conn
	var err error
	if r.tls {
		conn, err = (&tls.Dialer{Config: &tls.Config{ServerName: r.host}}).DialContext(ctx, "tcp", r.addr)
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", r.addr)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c, err := smtp.NewClient(conn, r.host)
	if err != nil {
		return err
	}
	defer c.Close()
	if ok, _ := c.Extension("STARTTLS"); ok && !r.tls {
		if err := c.StartTLS(&tls.Config{ServerName: r.host}); err != nil {
			return err
		}
	}
	if r.auth != nil {
		if err := c.Auth(r.auth); err != nil {
			return err
		}
	}
	if err := errors.Join(c.Mail(r.from), c.Rcpt(l.To)); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(r.letter(l, time.Now())); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}

// letter is a letter as it goes over the wire.
func (r *Relay) letter(l *Letter, now time.Time) []byte {
	var b bytes.Buffer
	from := mail.Address{Name: l.Name, Address: r.from}
	to := mail.Address{Address: l.To}
	fmt.Fprintf(&b, "From: %s\r\nTo: %s\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\n", from.String(), to.String(),
		mime.QEncoding.Encode("utf-8", l.Subject), now.Format(time.RFC1123Z), call.NewRequestID(), r.host)
	b.WriteString("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	q := quotedprintable.NewWriter(&b)
	q.Write([]byte(l.Text))
	q.Close()
	return b.Bytes()
}

func (t *topic) sender() string {
	if name := t.Attributes[attrDisplayName]; name != "" {
		return name
	}
	return "AWS Notifications"
}

const mailFooter = "\n\n--\nIf you wish to stop receiving notifications from this topic, please click or visit the link below to unsubscribe:\n"

func (s *Service) mailMessage(ctx context.Context, t *topic, to *taker, m *message, shared bool) error {
	l := &Letter{Name: t.sender(), To: to.Endpoint, Subject: "AWS Notification Message", Text: m.form(to.Protocol)}
	if m.Subject != nil {
		l.Subject = *m.Subject
	}
	if to.Protocol == protocolEmailJSON {
		signed, err := s.sign(ctx, t, to, m, shared)
		if err != nil {
			return err
		}
		l.Text = string(s.envelope(t, to, m, signed))
	} else {
		l.Text += mailFooter + s.unsubscribeURL(to.name.arn()) + "\n"
	}
	return s.letter(ctx, l)
}

func (s *Service) mailConfirmation(ctx context.Context, c *confirmation) error {
	l := &Letter{Name: "AWS Notifications", To: c.Endpoint, Subject: "AWS Notification - Subscription Confirmation"}
	link := s.subscribeURL(c.Topic, c.Token)
	if c.Type == typeCancellation {
		l.Subject = "AWS Notification - Unsubscribe Confirmation"
		l.Text = "Your subscription to the topic below has been deactivated:\n" + c.Topic + "\n\nIf this was in error, visit the link below to subscribe again:\n" + link + "\n"
	} else {
		l.Text = "You have chosen to subscribe to the topic:\n" + c.Topic + "\n\nTo confirm this subscription, visit the link below. If this was in error no action is necessary.\n" + link + "\n"
	}
	return s.letter(ctx, l)
}

// letter sends a letter. What the relay refuses for good is not tried again.
func (s *Service) letter(ctx context.Context, l *Letter) error {
	if s.mail == nil { // there was one when somebody subscribed
		return &endpointError{reason: "no mail relay is configured"}
	}
	err := s.mail.Send(ctx, l)
	if e, ok := errors.AsType[*textproto.Error](err); ok {
		return &endpointError{err.Error(), e.Code >= 500}
	}
	if err != nil {
		return &endpointError{reason: err.Error()}
	}
	return nil
}
