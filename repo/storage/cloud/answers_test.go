package cloud

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/varve-dev/varve/repo/storage"
)

// Keys that look like keys. No error may show them.
var someKeys = Credentials{
	AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "topsecret", SessionToken: "topsecret-token",
	AccountKey: "dG9wc2VjcmV0",
}

// front opens a bucket of a store that a handler plays.
func front(t *testing.T, scheme string, handler http.HandlerFunc) *Bucket {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	b, err := Open(t.Context(), scheme+"://bucket?endpoint="+url.QueryEscape(s.URL)+ownOption(scheme), Options{
		Credentials: func(context.Context) (Credentials, error) { return someKeys, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ownOption(scheme string) string {
	return map[string]string{schemeS3: "&region=eu-central-1", schemeGCS: "&anonymous=true", schemeAzure: "&account=account"}[scheme]
}

// An answer of a store, word for word.
type answer struct {
	why    string
	status int
	header map[string]string
	body   string
}

func (a answer) send(w http.ResponseWriter) {
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

func s3Answer(status int, code, message string) answer {
	return answer{
		why: code, status: status, header: map[string]string{"Content-Type": "application/xml", "X-Amz-Request-Id": "4442587FB7D0A2F9"},
		body: `<?xml version="1.0" encoding="UTF-8"?>` + "\n<Error><Code>" + code + "</Code><Message>" + message +
			"</Message><RequestId>4442587FB7D0A2F9</RequestId><HostId>c2FtcGxlIGhvc3QgaWQ=</HostId></Error>",
	}
}

func (a answer) with(name, value string) answer {
	header := map[string]string{name: value}
	maps.Copy(header, a.header)
	a.header = header
	return a
}

func gcsAnswer(status int, reason, message string) answer {
	return answer{
		why: reason, status: status, header: map[string]string{"Content-Type": "application/json; charset=UTF-8"},
		body: fmt.Sprintf(`{"error":{"code":%d,"message":%q,"errors":[{"message":%q,"domain":"global","reason":%q}]}}`, status, message, message, reason),
	}
}

func azureAnswer(status int, code, message string) answer {
	return answer{
		why: code, status: status, header: map[string]string{"Content-Type": "application/xml", "X-Ms-Error-Code": code, "X-Ms-Request-Id": "e3d2a1b0-001e-00c5"},
		body: "\ufeff" + `<?xml version="1.0" encoding="utf-8"?><Error><Code>` + code + "</Code><Message>" + message + "\nRequestId:e3d2a1b0-001e-00c5\nTime:2026-11-20T10:00:00.0000000Z</Message></Error>",
	}
}

const page404 = "<html><head><title>404 Not Found</title></head><body><center><h1>404 Not Found</h1></center><hr>nginx</body></html>"

// What each answer means, whatever was asked.
func TestAnswersAreSorted(t *testing.T) {
	slow := s3Answer(503, "SlowDown", "Please reduce your request rate.")
	for _, test := range []struct {
		scheme string
		answer
		want error
		says string // in the hint
	}{
		{schemeS3, slow, storage.ErrThrottled, ""},
		{schemeS3, s3Answer(500, "InternalError", "We encountered an internal error. Please try again."), storage.ErrTemporary, ""},
		{schemeS3, s3Answer(503, "ServiceUnavailable", "Service is unable to handle request."), storage.ErrTemporary, ""},
		{schemeS3, s3Answer(429, "TooManyRequests", "Please reduce your request rate."), storage.ErrThrottled, ""},
		{schemeS3, s3Answer(400, "RequestTimeout", "Your socket connection to the server was not read from or written to within the timeout period."), storage.ErrTemporary, ""},
		{schemeS3, s3Answer(400, "BadDigest", "The CRC32C you specified did not match the calculated checksum."), storage.ErrTemporary, "checksum"},
		{schemeS3, answer{"a proxy in between", 502, nil, "<html>Bad Gateway</html>"}, storage.ErrTemporary, ""},
		{schemeS3, answer{"an empty body", 503, nil, ""}, storage.ErrTemporary, ""},
		{schemeS3, s3Answer(400, "ExpiredToken", "The provided token has expired."), storage.ErrCredentials, "expired"},
		{schemeS3, s3Answer(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."), storage.ErrCredentials, "right key"},
		{schemeS3, s3Answer(403, "SignatureDoesNotMatch", "The request signature we calculated does not match."), storage.ErrCredentials, "right secret"},
		{schemeS3, s3Answer(403, "AccessDenied", "Access Denied"), storage.ErrForbidden, "s3:PutObject"},
		{schemeS3, s3Answer(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."), storage.ErrClock, "clock"},
		{schemeS3, s3Answer(404, "NoSuchBucket", "The specified bucket does not exist"), storage.ErrNoBucket, "name of the bucket"},
		{schemeS3, s3Answer(301, "PermanentRedirect", "The bucket must be addressed using the specified endpoint.").with("X-Amz-Bucket-Region", "eu-west-3"), storage.ErrRegion, "region=eu-west-3"},
		{schemeS3, s3Answer(400, "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-west-3'"), storage.ErrRegion, "region"},
		{schemeS3, s3Answer(501, "NotImplemented", "A header you provided implies functionality that is not implemented"), storage.ErrUnsupported, "conditional"},
		{schemeS3, s3Answer(400, "InvalidStorageClass", "The storage class you specified is not valid"), storage.ErrUnsupported, "storage_class"},

		{schemeGCS, gcsAnswer(503, "backendError", "We encountered an internal error. Please try again."), storage.ErrTemporary, ""},
		{schemeGCS, gcsAnswer(500, "internalError", "We encountered an internal error."), storage.ErrTemporary, ""},
		{schemeGCS, gcsAnswer(429, "rateLimitExceeded", "The object exceeded the rate limit for object mutation operations."), storage.ErrThrottled, ""},
		{schemeGCS, gcsAnswer(403, "userRateLimitExceeded", "User Rate Limit Exceeded."), storage.ErrThrottled, ""},
		{schemeGCS, gcsAnswer(408, "requestTimeout", "Request timeout."), storage.ErrTemporary, ""},
		{schemeGCS, gcsAnswer(401, "authError", "Invalid Credentials"), storage.ErrCredentials, "GOOGLE_APPLICATION_CREDENTIALS"},
		{schemeGCS, gcsAnswer(403, "forbidden", "sa@p.iam.gserviceaccount.com does not have storage.objects.create access to the Google Cloud Storage object."), storage.ErrForbidden, "storage.objects"},
		{schemeGCS, gcsAnswer(403, "retentionPolicyNotMet", "Object is subject to bucket's retention policy and cannot be deleted"), storage.ErrForbidden, "retention"},
		{schemeGCS, gcsAnswer(404, "notFound", "The specified bucket does not exist."), storage.ErrNoBucket, "name of the bucket"},

		{schemeAzure, azureAnswer(503, "ServerBusy", "The server is busy."), storage.ErrThrottled, ""},
		{schemeAzure, azureAnswer(500, "OperationTimedOut", "Operation could not be completed within the specified time."), storage.ErrTemporary, ""},
		{schemeAzure, azureAnswer(500, "InternalError", "Server encountered an internal error."), storage.ErrTemporary, ""},
		{schemeAzure, azureAnswer(403, "AuthenticationFailed", "Server failed to authenticate the request."), storage.ErrCredentials, "AZURE_STORAGE_KEY"},
		{schemeAzure, azureAnswer(401, "NoAuthenticationInformation", "Server failed to authenticate the request."), storage.ErrCredentials, "AZURE_STORAGE_KEY"},
		{schemeAzure, azureAnswer(403, "AuthorizationPermissionMismatch", "This request is not authorized to perform this operation using this permission."), storage.ErrForbidden, "Contributor"},
		{schemeAzure, azureAnswer(404, "ContainerNotFound", "The specified container does not exist."), storage.ErrNoBucket, "container"},
		{schemeAzure, azureAnswer(409, "ContainerBeingDeleted", "The specified container is being deleted."), storage.ErrNoBucket, "container"},
		{schemeAzure, azureAnswer(409, "BlobImmutableDueToPolicy", "This operation is not permitted as the blob is immutable due to a policy."), storage.ErrForbidden, "immutability"},
	} {
		b := front(t, test.scheme, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			test.send(w)
		})
		for what, err := range requests(t, b) {
			var sorted *storage.Error
			if !errors.Is(err, test.want) || !errors.As(err, &sorted) || !strings.Contains(sorted.Hint, test.says) {
				t.Errorf("%s: %s answers %d %s: %v, want %v with a hint of %q", test.scheme, what, test.status, test.why, err, test.want, test.says)
			}
			if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrExists) {
				t.Errorf("%s: %s answers %d %s: %v, which is a certain answer", test.scheme, what, test.status, test.why, err)
			}
			if err != nil && (strings.Contains(err.Error(), "topsecret") || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%s: the error shows a secret, or has lines: %q", test.scheme, err)
			}
		}
	}
}

func TestClockOfAzure(t *testing.T) {
	b := front(t, schemeAzure, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		azureAnswer(403, "AuthenticationFailed", "The Date header in the request is incorrect.").send(w)
	})
	for what, err := range requests(t, b) {
		// The answer to a Stat has no body to say so.
		if what != "Stat" && !errors.Is(err, storage.ErrClock) {
			t.Errorf("%s = %v, want ErrClock", what, err)
		}
	}
}

// requests are the errors of all that a bucket can be asked.
func requests(t *testing.T, b *Bucket) map[string]error {
	t.Helper()
	_, get := b.Get(t.Context(), "journal/0", 0, -1)
	_, part := b.Get(t.Context(), "journal/0", 7, 7)
	_, stat := b.Stat(t.Context(), "journal/0")
	var list error
	for _, err := range b.List(t.Context(), "", "") {
		list = err
	}
	return map[string]error{
		"Create": b.Create(t.Context(), "journal/0", []byte("x")), "Get": get, "Get of a range": part, "Stat": stat, "List": list,
		"Delete": b.Delete(t.Context(), "journal/0"),
	}
}

// The journal ends where the next entry is not found. Only the store itself may say so.
func TestOnlyTheStoreSaysThatNothingIsThere(t *testing.T) {
	for scheme, a := range map[string][]answer{
		schemeS3:    {{"a page", 404, nil, page404}, {"nothing", 404, nil, ""}, s3Answer(404, "XAdminUserNotFound", "No user"), s3Answer(403, "AccessDenied", "Access Denied")},
		schemeGCS:   {{"a page", 404, nil, page404}, {"nothing", 404, nil, ""}, gcsAnswer(403, "forbidden", "or it may not exist")},
		schemeAzure: {{"a page", 404, nil, page404}, {"nothing", 404, nil, ""}, azureAnswer(403, "AuthorizationFailure", "no")},
	} {
		for _, answer := range a {
			b := front(t, scheme, func(w http.ResponseWriter, _ *http.Request) { answer.send(w) })
			for what, err := range requests(t, b) {
				if err == nil || errors.Is(err, storage.ErrNotFound) {
					t.Errorf("%s: %s with the answer %d %s = %v", scheme, what, answer.status, answer.why, err)
				}
			}
		}
	}
}

func TestRetryAfterIsPassedOn(t *testing.T) {
	for scheme, a := range map[string]answer{
		schemeS3:    s3Answer(503, "SlowDown", "Please reduce your request rate."),
		schemeGCS:   gcsAnswer(429, "rateLimitExceeded", "slow down"),
		schemeAzure: azureAnswer(503, "ServerBusy", "The server is busy."),
	} {
		for text, want := range map[string]time.Duration{"17": 17 * time.Second, "": 0, "soon": 0, "-5": 0, "Sun, 06 Nov 1994 08:49:37 GMT": 0} {
			b := front(t, scheme, func(w http.ResponseWriter, _ *http.Request) { a.with("Retry-After", text).send(w) })
			_, err := b.Get(t.Context(), "a", 0, -1)
			var sorted *storage.Error
			if !errors.As(err, &sorted) || sorted.After != want {
				t.Errorf("%s: Retry-After: %s gives %v, want %v", scheme, text, err, want)
			}
		}
	}
}

// S3 answers 409 to racing conditional writes: nobody knows then who has won, or whether anybody has.
func TestConflictIsResolved(t *testing.T) {
	conflict := s3Answer(409, "ConditionalRequestConflict", "The conditional request cannot succeed due to a conflicting operation against this resource.")
	absent := s3Answer(404, "NoSuchKey", "The specified key does not exist.")
	for _, test := range []struct {
		why       string
		conflicts int64
		there     bool
		want      error
	}{
		{"somebody else has won", 1, true, storage.ErrExists},
		{"nobody has won, and the second try does", 1, false, nil},
		{"nobody wins ever", 1 << 40, false, storage.ErrTemporary},
	} {
		var puts atomic.Int64
		b := front(t, schemeS3, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodPut && r.Header.Get("If-None-Match") != "*":
				t.Error("a write without a condition")
			case r.Method == http.MethodPut && puts.Add(1) <= test.conflicts:
				conflict.send(w)
			case r.Method == http.MethodGet && test.there:
				w.Header().Set("Content-Range", "bytes 0-0/9")
				w.Header().Set("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
				answer{status: http.StatusPartialContent, body: "x"}.send(w)
			case r.Method == http.MethodGet:
				absent.send(w)
			}
		})
		if err := b.Create(t.Context(), "journal/1", []byte("x")); !errors.Is(err, test.want) {
			t.Errorf("%s: Create = %v, want %v", test.why, err, test.want)
		}
		if n := puts.Load(); n > conflicts+1 {
			t.Errorf("%s: %d writes", test.why, n)
		}
	}
}

// Every store is told to create only if absent, in one request, in its own way.
func TestCreationIsConditional(t *testing.T) {
	for scheme, check := range map[string]func(r *http.Request) bool{
		schemeS3: func(r *http.Request) bool {
			return r.Method == http.MethodPut && r.Header.Get("If-None-Match") == "*" && r.Header.Get("X-Amz-Checksum-Crc32c") != "" && r.Header.Get("Content-Encoding") == ""
		},
		schemeGCS: func(r *http.Request) bool {
			return r.Method == http.MethodPost && r.URL.Query().Get("ifGenerationMatch") == "0" && r.URL.Query().Get("uploadType") == "multipart"
		},
		schemeAzure: func(r *http.Request) bool {
			return r.Method == http.MethodPut && r.Header.Get("If-None-Match") == "*" && r.Header.Get("X-Ms-Blob-Type") == "BlockBlob" && r.Header.Get("X-Ms-Content-Crc64") != ""
		},
	} {
		asked := 0
		b := front(t, scheme, func(w http.ResponseWriter, r *http.Request) {
			asked++
			if !check(r) {
				t.Errorf("%s: %s %s %v", scheme, r.Method, r.URL, r.Header)
			}
			_, _ = io.Copy(io.Discard, r.Body)
			if scheme == schemeAzure {
				w.WriteHeader(http.StatusCreated)
			}
			_, _ = io.WriteString(w, "{}")
		})
		if err := b.Create(t.Context(), "packs/00", make([]byte, 20<<20)); err != nil || asked != 1 {
			t.Errorf("%s: Create = %v by %d requests", scheme, err, asked)
		}
	}
}

func TestAnswersThatBreakOff(t *testing.T) {
	for _, scheme := range []string{schemeS3, schemeGCS, schemeAzure} {
		b := front(t, scheme, func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nContent-Type: application/octet-stream\r\n\r\nhalf of it")
			c.(*net.TCPConn).SetLinger(0) // a reset
			c.Close()
		})
		data, err := b.Get(t.Context(), "a", 0, -1)
		if !errors.Is(err, storage.ErrTemporary) || data != nil {
			t.Errorf("%s: Get = %d bytes, %v; want ErrTemporary", scheme, len(data), err)
		}
	}
}

func TestRangeThatTheStoreIgnoresIsRefused(t *testing.T) {
	for _, scheme := range []string{schemeS3, schemeGCS, schemeAzure} {
		for _, wrong := range []struct {
			contentRange string
			bytes        int
		}{{"", 100}, {"", 5}, {"bytes 0-4/100", 5}, {"bytes 10-99/100", 90}} {
			b := front(t, scheme, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
				if wrong.contentRange != "" {
					w.Header().Set("Content-Range", wrong.contentRange)
				}
				_, _ = io.WriteString(w, strings.Repeat("x", wrong.bytes))
			})
			if _, err := b.Get(t.Context(), "a", 10, 5); !errors.Is(err, storage.ErrUnsupported) {
				t.Errorf("%s: Get answered by %d bytes of range %q = %v, want ErrUnsupported", scheme, wrong.bytes, wrong.contentRange, err)
			}
		}
	}
}

func TestListOutOfOrderIsRefused(t *testing.T) {
	b := front(t, schemeS3, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>`+
			`<Contents><Key>b</Key><Size>1</Size></Contents><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>`)
	})
	var last error
	for _, err := range b.List(t.Context(), "", "") {
		last = err
	}
	if !errors.Is(last, storage.ErrUnsupported) {
		t.Errorf("List = %v, want ErrUnsupported", last)
	}
}

// What is no list, or not to its end, is no empty list, though it comes with a 200.
func TestAnswerThatIsNoListIsNoEmptyList(t *testing.T) {
	const list = `<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>`
	for name, test := range map[string]struct{ scheme, body string }{
		"an error of S3":     {schemeS3, s3Answer(200, "InternalError", "We encountered an internal error.").body},
		"an error of Azure":  {schemeAzure, azureAnswer(200, "InternalError", "The server encountered an internal error.").body},
		"an error of Google": {schemeGCS, gcsAnswer(200, "backendError", "Backend Error").body},
		"half of a list":     {schemeS3, list[:len(list)/2]},
		"a page for S3":      {schemeS3, page404},
		"a page for Google":  {schemeGCS, page404},
		"nothing, to S3":     {schemeS3, ""},
		"nothing, to Azure":  {schemeAzure, ""},
		"nothing, to Google": {schemeGCS, ""},
	} {
		b := front(t, test.scheme, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, test.body) })
		last := error(nil)
		for _, err := range b.List(t.Context(), "", "") {
			last = err
		}
		if !errors.Is(last, storage.ErrTemporary) {
			t.Errorf("%s: List ends with %v, want ErrTemporary", name, last)
		}
	}
}

// A refusal that breaks off may have been any refusal, above all another 404 than that of an absent object.
func TestRefusalThatBreaksOffIsTemporary(t *testing.T) {
	whole := s3Answer(404, "NoSuchKey", "The specified key does not exist.")
	b := front(t, schemeS3, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.Header().Set("Content-Length", strconv.Itoa(len(whole.body)))
		w.WriteHeader(whole.status)
		_, _ = io.WriteString(w, whole.body[:len(whole.body)/2])
	})
	if _, err := b.Get(t.Context(), "a", 0, -1); !errors.Is(err, storage.ErrTemporary) || errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get = %v, want ErrTemporary", err)
	}
}

// A list begins where it is to begin, and not at the start of the bucket.
func TestListFromANameAsksFromThere(t *testing.T) {
	for scheme, parameter := range map[string]string{schemeS3: "start-after", schemeGCS: "startOffset"} {
		b := front(t, scheme, func(w http.ResponseWriter, r *http.Request) {
			if got := r.URL.Query().Get(parameter); got != "journal/7" {
				t.Errorf("%s: %s is %q", scheme, parameter, got)
			}
			_, _ = io.WriteString(w, map[string]string{schemeS3: "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>", schemeGCS: `{"kind":"storage#objects"}`}[scheme])
		})
		for _, err := range b.List(t.Context(), "journal/", "journal/7") {
			t.Errorf("%s: %v", scheme, err)
		}
	}
}

func TestNobodyListensIsTemporary(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := "http://" + l.Addr().String()
	l.Close()
	for _, scheme := range []string{schemeS3, schemeGCS, schemeAzure} {
		b, err := Open(t.Context(), scheme+"://bucket?endpoint="+url.QueryEscape(endpoint)+ownOption(scheme), Options{
			Credentials: func(context.Context) (Credentials, error) {
				return Credentials{AccessKeyID: "k", SecretAccessKey: "s", SAS: "sig=topsecret"}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		for what, err := range requests(t, b) {
			if !errors.Is(err, storage.ErrTemporary) || strings.Contains(err.Error(), "topsecret") {
				t.Errorf("%s: %s = %v, want ErrTemporary without the signature", scheme, what, err)
			}
		}
	}
}

func TestCertificates(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s3Answer(404, "NoSuchKey", "The specified key does not exist.").send(w)
	}))
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	place := "s3://bucket?region=r&endpoint=" + url.QueryEscape(s.URL)
	keys := Options{Credentials: func(context.Context) (Credentials, error) { return someKeys, nil }}
	for _, test := range []struct {
		options string
		want    error
	}{{"", storage.ErrUntrusted}, {"&ca=" + url.QueryEscape(ca), storage.ErrNotFound}} {
		b, err := Open(t.Context(), place+test.options, keys)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Get(t.Context(), "a", 0, -1); !errors.Is(err, test.want) {
			t.Errorf("with %q: Get = %v, want %v", test.options, err, test.want)
		}
	}
}

func TestProxy(t *testing.T) {
	var seen atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host == "store.invalid" {
			seen.Add(1)
		}
		s3Answer(404, "NoSuchKey", "The specified key does not exist.").send(w)
	}))
	defer proxy.Close()
	b, err := Open(t.Context(), "s3://bucket?region=r&endpoint=http%3A%2F%2Fstore.invalid&proxy="+url.QueryEscape(proxy.URL), Options{
		Credentials: func(context.Context) (Credentials, error) { return someKeys, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), "a", 0, -1); !errors.Is(err, storage.ErrNotFound) || seen.Load() != 1 {
		t.Errorf("Get = %v, and the proxy saw %d requests", err, seen.Load())
	}
}

// The store refuses the old credentials from some moment on. Requests of many goroutines go on with the
// new ones, and those are asked for once.
func TestExpiredCredentialsAreReplacedOnce(t *testing.T) {
	var given atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Authorization"), "KEY1/") {
			s3Answer(400, "ExpiredToken", "The provided token has expired.").send(w)
			return
		}
		s3Answer(404, "NoSuchKey", "The specified key does not exist.").send(w)
	}))
	defer s.Close()
	b, err := Open(t.Context(), "s3://bucket?region=r&endpoint="+url.QueryEscape(s.URL), Options{Credentials: func(context.Context) (Credentials, error) {
		return Credentials{AccessKeyID: "KEY" + strconv.FormatInt(given.Add(1), 10), SecretAccessKey: "s"}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	for range 20 {
		go func() { _, err := b.Get(t.Context(), "a", 0, -1); errs <- err }()
	}
	for range 20 {
		if err := <-errs; !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Get = %v", err)
		}
	}
	if n := given.Load(); n != 2 {
		t.Errorf("credentials were asked for %d times, want 2", n)
	}
}

func TestRetentionOfGCSIsALock(t *testing.T) {
	b := front(t, schemeGCS, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"versioning":{"enabled":true},"retentionPolicy":{"retentionPeriod":"604800","isLocked":true}}`)
	})
	if on, err := b.Versioning(t.Context()); !on || err != nil {
		t.Errorf("Versioning = %v, %v", on, err)
	}
	if on, retention, err := b.ObjectLock(t.Context()); !on || retention != 7*day || err != nil {
		t.Errorf("ObjectLock = %v, %v, %v; want a week", on, retention, err)
	}
}
