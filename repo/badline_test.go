package repo

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/varve-dev/varve/repo/storage/dial"
)

// badLine stands between a client and an S3 server, and does to requests what bad days do.
type badLine struct {
	server string // host and port
	share  float64

	mu       sync.Mutex
	rng      *rand.Rand
	requests int
	done     map[string]int // by fault
}

// Each occurs before the server has heard of the request, or after it has done it.
var badDays = []string{
	"500 before", "503 before", "429 before", "200 with an error", "reset before",
	"500 after", "reset after", "reset in the body",
}

func (l *badLine) draw(r *http.Request) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	if l.rng.Float64() >= l.share {
		return ""
	}
	day := badDays[l.rng.IntN(len(badDays))]
	if day == "200 with an error" && !r.URL.Query().Has("list-type") {
		day = "503 before" // only for what has an answer in XML
	}
	l.done[day]++
	return day
}

// ServeHTTP implements [http.Handler].
func (l *badLine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	day := l.draw(r)
	when := day[strings.LastIndex(day, " ")+1:]
	if when == "before" || when == "error" {
		_, _ = io.Copy(io.Discard, r.Body) // a client that is cut off while it sends is another fault
		answerBadly(w, day)
		return
	}
	out := r.Clone(r.Context())
	out.RequestURI, out.URL.Scheme, out.URL.Host = "", "http", l.server
	answer, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		answerBadly(w, "reset")
		return
	}
	defer answer.Body.Close()
	if when == "after" {
		answerBadly(w, day)
		return
	}
	maps.Copy(w.Header(), answer.Header)
	w.WriteHeader(answer.StatusCode)
	if when == "body" {
		_, _ = io.CopyN(w, answer.Body, answer.ContentLength/2)
		_ = http.NewResponseController(w).Flush()
		answerBadly(w, "reset")
		return
	}
	_, _ = io.Copy(w, answer.Body)
}

// answerBadly answers with an error, or with a connection that breaks.
func answerBadly(w http.ResponseWriter, day string) {
	if strings.HasPrefix(day, "reset") {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
		return
	}
	status, code := 0, map[string]string{"500": "InternalError", "503": "SlowDown", "429": "TooManyRequests", "200": "InternalError"}[day[:3]]
	_, _ = fmt.Sscan(day, &status)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>a bad day</Message></Error>`, code)
}

// storeKeys are those of the S3 server of make test-stores.
func storeKeys(context.Context) (dial.Credentials, error) {
	return dial.Credentials{AccessKeyID: "varve", SecretAccessKey: "varve-secret"}, nil
}

// TestBackupOverABadLine needs the servers of make test-stores.
func TestBackupOverABadLine(t *testing.T) {
	server, found := strings.CutPrefix(os.Getenv("VARVE_TEST_S3"), "http://")
	if !found {
		t.Skip("there is no S3 server: make test-stores starts one")
	}
	line := &badLine{server: server, rng: rand.New(rand.NewPCG(1, 2)), done: map[string]int{}}
	proxy := httptest.NewServer(line)
	defer proxy.Close()
	open := func(prefix string, share float64) (*Repository, *dial.Line) {
		t.Helper()
		line.share, line.requests = share, 0
		url := "s3://varve-outage/" + prefix + "?region=us-east-1&path_style=true&endpoint=" + proxy.URL
		b, err := dial.Open(t.Context(), url, dial.Options{Credentials: storeKeys})
		if err != nil {
			t.Fatal(err)
		}
		l := dial.NewLine(b, dial.LineOptions{})
		if _, err := Init(t.Context(), l, InitOptions{Password: password, PasswordWork: 1}); err != nil {
			t.Fatal(err)
		}
		r, err := Open(t.Context(), l, OpenOptions{Password: password, Limits: small})
		if err != nil {
			t.Fatal(err)
		}
		return r, l
	}

	good, l := open("good", 0)
	backup(t, good, contentsOf(1)...)
	faultless := line.requests
	if err := l.Close(); err != nil {
		t.Error(err)
	}

	bad, l := open("bad", 0.3)
	_, refs := backup(t, bad, contentsOf(1)...)
	if line.requests > 3*faultless {
		t.Errorf("%d requests, without faults %d", line.requests, faultless)
	}
	for range 3 {
		mustBeClean(t, bad)
	}
	for i, ref := range refs {
		got, err := bad.Read(t.Context(), ref)
		if err != nil || !slices.Equal(got, contentsOf(1)[i]) {
			t.Fatalf("content %d: %v", i, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d requests without faults; in all: %v", faultless, line.done)
	for _, day := range badDays {
		if line.done[day] == 0 {
			t.Errorf("there was no %q", day)
		}
	}
}
