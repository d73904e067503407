package runtimes

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

var echo = map[Family]string{
	Python: "def handler(event, context):\n    return event\n",
	Node:   "exports.handler = async (event) => event;\n",
}

// eachClient runs a test with a client of each language and a handler that returns its event.
func eachClient(t *testing.T, run func(t *testing.T, l Launch, task string)) {
	f := testFinder(t)
	for _, family := range []Family{Python, Node} {
		for _, l := range testLaunches(t, f, family) {
			t.Run(string(family)+l.FoundVersion, func(t *testing.T) {
				t.Parallel()
				task := t.TempDir()
				if err := os.WriteFile(filepath.Join(task, trivial[family].file), []byte(echo[family]), 0o644); err != nil {
					t.Fatal(err)
				}
				run(t, onHost(l, task), task)
			})
		}
	}
}

func wantAnswers(t *testing.T, api *fakeAPI, exit string, events ...string) {
	t.Helper()
	want := ""
	for _, e := range events {
		want += "response\n" + e + "\n"
	}
	if got := api.transcript(exit); got != want {
		t.Errorf("the client did:\n%.2000s\nwant:\n%.2000s", got, want)
	}
}

// A Runtime API may close the connection after every answer, announced or not, or answer in chunks.
func TestConnections(t *testing.T) {
	for name, wrap := range map[string]func(http.Handler) http.Handler{
		"close announced": func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Connection", "close")
				h.ServeHTTP(w, r)
			})
		},
		"chunks": func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(flusher{w}, r) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachClient(t, func(t *testing.T, l Launch, task string) {
				events := []string{`[1]`, `"` + strings.Repeat("x", 100_000) + `"`, `[3]`}
				api := newFakeAPI(t, events, "", func(api *fakeAPI) { api.server.Config.Handler = wrap(api) })
				p := startClient(t, l, api, task, nil)
				_, exit := p.finish(t, api)
				wantAnswers(t, api, exit, events...)
			})
		})
	}
	t.Run("closed while idle", func(t *testing.T) {
		eachClient(t, func(t *testing.T, l Launch, task string) {
			events := []string{`[1]`, `[2]`, `[3]`}
			// The server drops each connection a moment after its answer; the handler runs meanwhile.
			api := newFakeAPI(t, events, "", func(api *fakeAPI) { api.server.Config.IdleTimeout = time.Millisecond })
			p := startClient(t, l, api, task, nil)
			_, exit := p.finish(t, api)
			wantAnswers(t, api, exit, events...)
		})
	})
}

// flusher answers in chunks of single writes.
type flusher struct{ http.ResponseWriter }

func (f flusher) Write(p []byte) (int, error) {
	f.Header().Del("Content-Length")
	for i := 0; i < len(p); i += 30_000 {
		if _, err := f.ResponseWriter.Write(p[i:min(i+30_000, len(p))]); err != nil {
			return i, err
		}
		f.ResponseWriter.(http.Flusher).Flush()
	}
	return len(p), nil
}

// The largest event there is, and as large an answer.
func TestLargePayload(t *testing.T) {
	eachClient(t, func(t *testing.T, l Launch, task string) {
		event := `"` + strings.Repeat("é", 3<<20-10) + `"`
		api := newFakeAPI(t, []string{event}, "")
		p := startClient(t, l, api, task, nil)
		_, exit := p.finish(t, api)
		wantAnswers(t, api, exit, event)
	})
}

// An answer that the Runtime API refuses (too large, too late) does not end the client; trouble of the API itself does.
func TestRefusedAnswer(t *testing.T) {
	for status, ends := range map[int]bool{413: false, 400: false, 403: false, 500: true} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			eachClient(t, func(t *testing.T, l Launch, task string) {
				api := newFakeAPI(t, []string{`1`, `2`}, "", func(api *fakeAPI) { api.refuse = map[string]int{"response": status} })
				p := startClient(t, l, api, task, nil)
				_, exit := p.finish(t, api)
				if ended := exit != ""; ended != ends {
					t.Errorf("ended: %q; its log:\n%s", exit, &p.log)
				}
			})
		})
	}
}

// A client is frozen between events, for as long as it may be.
func TestFrozen(t *testing.T) {
	eachClient(t, func(t *testing.T, l Launch, task string) {
		polled, thaw := make(chan struct{}), make(chan struct{})
		api := newFakeAPI(t, []string{`1`, `2`}, "", func(api *fakeAPI) {
			api.onNext = func(n int) {
				if n == 1 {
					close(polled)
					<-thaw
				}
			}
		})
		p := startClient(t, l, api, task, nil)
		<-polled
		if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		close(thaw) // the event is there before the process can see it
		if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		_, exit := p.finish(t, api)
		wantAnswers(t, api, exit, `1`, `2`)
	})
}

// Without a Runtime API there is nothing to do.
func TestNoRuntimeAPI(t *testing.T) {
	eachClient(t, func(t *testing.T, l Launch, task string) {
		api := newFakeAPI(t, nil, "")
		api.server.Close()
		p := startClient(t, l, api, task, nil)
		_, exit := p.finish(t, api)
		if exit != "exit status 1\n" {
			t.Errorf("ended with %q; its log:\n%s", exit, &p.log)
		}
	})
}

// A record that is longer than a frame goes on in the next, and no character is cut.
func TestLongRecord(t *testing.T) {
	code := map[Family]string{
		Python: "import logging\ndef handler(event, context):\n    logging.warning('a' + 'é' * 1_500_000)\n",
		Node:   "exports.handler = async () => console.warn('a' + 'é'.repeat(1500000));\n",
	}
	eachClient(t, func(t *testing.T, l Launch, task string) {
		if err := os.WriteFile(filepath.Join(task, trivial[l.Family].file), []byte(code[l.Family]), 0o644); err != nil {
			t.Fatal(err)
		}
		api := newFakeAPI(t, []string{`1`}, "")
		p := startClient(t, l, api, task, map[string]string{"_LAMBDA_TELEMETRY_LOG_FD": "1"})
		log, exit := p.finish(t, api)
		shown := showFrames(t, log)
		if n := strings.Count(shown, "</frame>"); n != 3 {
			t.Errorf("%d frames", n)
		}
		for part := range strings.SplitSeq(shown, "</frame>") {
			if !utf8.ValidString(part) {
				t.Error("a character is cut")
			}
		}
		whole := strings.ReplaceAll(strings.ReplaceAll(shown, "</frame>\n", ""), "<frame a55a0013>", "")
		if !strings.HasSuffix(whole, "\ta"+strings.Repeat("é", 1_500_000)+"\n") {
			t.Errorf("the record is %d bytes, %.200q", len(whole), whole)
		}
		wantAnswers(t, api, exit, "null")
	})
}
