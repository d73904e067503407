package stress

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// TestFullDisk fills the disk while events are accepted. None is accepted from then on, and the server ends, since only a fresh start can
// tell what the disk holds. With room again, those that were accepted run, and further ones are accepted.
func TestFullDisk(t *testing.T) {
	needSandboxes(t)
	s := newInstance(t, "--async-retry-wait", "500ms")
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", s.data, "tmpfs", 0, "size=256m,mode=0700"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("a mount is needed: ", err)
		}
		t.Skip("a mount, mostly root, is needed: ", err)
	}
	t.Cleanup(func() { // before the directory is removed, and after the server's end
		if s.cmd != nil {
			s.kill()
		}
		if err := syscall.Unmount(s.data, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	f := provided
	f.files, f.timeout = map[string][]byte{"bootstrap": bootstrap}, 10
	s.start()
	s.create("worker", f)
	send := func(token string) error {
		_, err := s.lambda().Invoke(t.Context(), &lambda.InvokeInput{FunctionName: new("worker"), InvocationType: types.InvocationTypeEvent,
			Payload: fmt.Appendf(nil, `{"do":"note","token":%q,"filler":"%08192d"}`, token, 0)})
		return err
	}
	var mu sync.Mutex
	accepted := map[string]bool{}
	var wg sync.WaitGroup
	full := make(chan struct{})
	for client := range 4 {
		wg.Go(func() {
			for n, refused := 0, 0; refused < 5; n++ { // once refused, always refused
				token := fmt.Sprintf("event-%d-%d", client, n)
				switch err := send(token); {
				case err != nil:
					select {
					case <-full:
						refused++
					default:
						t.Error("refused while there was room:", err)
						return
					}
					if c := code(err); c != "" && c != "InternalFailure" && c != "ServiceUnavailable" {
						t.Errorf("a full disk is %q: %v", c, err)
					}
				case refused > 0:
					t.Errorf("%s was accepted after a refusal", token)
					fallthrough
				default:
					mu.Lock()
					accepted[token] = true
					mu.Unlock()
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	for enough := false; !enough; time.Sleep(5 * time.Millisecond) {
		mu.Lock()
		enough = len(accepted) >= 100 || t.Failed()
		mu.Unlock()
	}
	ballast := filepath.Join(s.data, "ballast")
	out, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	close(full)
	for chunk := bytes.Repeat([]byte{1}, 1<<20); len(chunk) > 0; { // to the last byte
		if _, err := out.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
	out.Close()
	wg.Wait()

	select {
	case err := <-s.ended:
		s.cmd = nil
		if err == nil {
			t.Error("the server ended as if nothing had happened")
		}
	case <-time.After(time.Minute):
		t.Error("the server did not end")
		s.kill()
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.await("worker")
	if err := send("afterwards"); err != nil {
		t.Error(err)
	}
	accepted["afterwards"] = true
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		var lost []string
		noted := s.tokens("worker", "noted ")
		for token := range accepted {
			if noted[token] == 0 {
				lost = append(lost, token)
			}
		}
		if len(lost) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("%d of %d accepted events did not run: %.5q", len(lost), len(accepted), lost)
			break
		}
	}
	t.Logf("%d events accepted before the disk was full", len(accepted)-1)
	s.stop()
}
