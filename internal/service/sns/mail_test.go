package sns

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/textproto"
	"strings"
	"testing"
)

func TestNewRelay(t *testing.T) {
	for text, want := range map[string]string{
		"smtp://h?from=a@b.c": "h:587", "smtps://u:p@h?from=a@b.c": "h:465", "smtp://h:25?from=Name+<a@b.c>": "h:25",
		"": "", "http://h?from=a@b.c": "", "smtp://h": "", "smtp://?from=a@b.c": "", "smtp://h?from=nobody": "", "h:25": "",
	} {
		r, err := NewRelay(text)
		if (err != nil) != (want == "") || err == nil && (r.addr != want || r.from != "a@b.c") {
			t.Errorf("NewRelay(%q) = %+v, %v", text, r, err)
		}
	}
}

// relay is an SMTP server for one letter, which answers RCPT with what it is given.
func relay(t *testing.T, rcpt string) (addr string, letter <-chan string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	got := make(chan string, 1)
	go func() {
		defer close(got)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r := textproto.NewReader(bufio.NewReader(c))
		fmt.Fprint(c, "220 here\r\n")
		for {
			line, err := r.ReadLine()
			if err != nil {
				return
			}
			switch verb, _, _ := strings.Cut(strings.ToUpper(line), " "); verb {
			case "RCPT":
				fmt.Fprint(c, rcpt+"\r\n")
			case "DATA":
				fmt.Fprint(c, "354 go on\r\n")
				b, err := r.ReadDotBytes()
				if err != nil {
					return
				}
				fmt.Fprint(c, "250 taken\r\n")
				got <- string(b)
			case "QUIT":
				fmt.Fprint(c, "221 bye\r\n")
				return
			default:
				fmt.Fprint(c, "250 yes\r\n")
			}
		}
	}()
	return ln.Addr().String(), got
}

// A letter arrives as it was written, and nothing in it can become a header.
func TestRelay(t *testing.T) {
	addr, letter := relay(t, "250 yes")
	r, err := NewRelay("smtp://" + addr + "?from=mayfly@example.com")
	if err != nil {
		t.Fatal(err)
	}
	text := "Zeile mit ü\n.\n..dots\nend" + strings.Repeat("x", 200)
	if err := r.Send(t.Context(), &Letter{Name: "Desk\r\nBcc: x@y.z", To: "a@example.com", Subject: "s\r\nX: y", Text: text}); err != nil {
		t.Fatal(err)
	}
	m, err := mail.ReadMessage(strings.NewReader(<-letter))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if got := strings.ReplaceAll(string(b), "\r\n", "\n"); err != nil || strings.TrimSuffix(got, "\n") != text {
		t.Errorf("the text is %q, %v", b, err)
	}
	if m.Header.Get("Bcc") != "" || m.Header.Get("X") != "" || m.Header.Get("To") != "<a@example.com>" || !strings.HasSuffix(m.Header.Get("From"), "<mayfly@example.com>") {
		t.Errorf("headers %v", m.Header)
	}
}

// What a relay refuses for good is not tried again; what it cannot do now is.
func TestRelayRefuses(t *testing.T) {
	for answer, permanently := range map[string]bool{"550 nobody here": true, "451 later": false} {
		addr, _ := relay(t, answer)
		r, err := NewRelay("smtp://" + addr + "?from=mayfly@example.com")
		if err != nil {
			t.Fatal(err)
		}
		s := &Service{mail: r}
		err = s.letter(t.Context(), &Letter{To: "a@example.com"})
		if _, ok := errors.AsType[*endpointError](err); !ok || permanent(err) != permanently {
			t.Errorf("%s: %v", answer, err)
		}
	}
	s := &Service{mail: &Relay{addr: "127.0.0.1:1"}}
	if err := s.letter(t.Context(), &Letter{}); err == nil || permanent(err) {
		t.Errorf("nobody there: %v", err)
	}
}
