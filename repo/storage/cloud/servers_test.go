package cloud

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/option"
	gcs "google.golang.org/api/storage/v1"

	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/storagetest"
)

// These tests need the servers that the command test/stores starts: make test-stores.

// A server answers like one of the stores.
type server struct {
	scheme   string
	endpoint string
	keys     Credentials
	options  string // of every URL
	make     func(t *testing.T, s server, bucket string)
	except   []storagetest.Exception
}

// What versitygw does otherwise than S3 in a bucket with versions. A repository uses no name twice.
var withVersions = []storagetest.Exception{
	{Test: "CreateAfterDelete", Reason: "refuses a name whose object was deleted, which S3 gives out again"},
	{Test: "FoldersAreNoObjects", Reason: "answers 500 to the deletion of a folder of its file system, and see CreateAfterDelete"},
}

// The account that every Azurite has, with the key that its documentation prints.
const (
	azuriteAccount = "devstoreaccount1"
	azuriteKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

func s3Server(t *testing.T, lock bool) server {
	s := server{
		scheme: "s3", endpoint: running(t, "VARVE_TEST_S3"), keys: Credentials{AccessKeyID: "varve", SecretAccessKey: "varve-secret"}, options: "region=us-east-1",
		make: func(t *testing.T, s server, bucket string) {
			client := s.open(t, s.endpoint, bucket).client.Load().store.(*s3Store).client
			_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucket), ObjectLockEnabledForBucket: aws.Bool(lock)})
			if err != nil {
				t.Fatal(err)
			}
			if !lock {
				return
			}
			_, err = client.PutObjectLockConfiguration(t.Context(), &s3.PutObjectLockConfigurationInput{
				Bucket: aws.String(bucket), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
				ObjectLockConfiguration: &types.ObjectLockConfiguration{
					ObjectLockEnabled: types.ObjectLockEnabledEnabled,
					Rule:              &types.ObjectLockRule{DefaultRetention: &types.DefaultRetention{Mode: types.ObjectLockRetentionModeCompliance, Days: aws.Int32(1)}},
				},
			})
			if err != nil {
				t.Fatal(err)
			}
		},
	}
	if lock {
		s.except = withVersions
	}
	return s
}

func gcsServer(t *testing.T) server {
	return server{
		scheme: "gs", endpoint: running(t, "VARVE_TEST_GCS"), options: "anonymous=true",
		make: func(t *testing.T, s server, bucket string) {
			service, err := gcs.NewService(t.Context(), option.WithEndpoint(s.endpoint+"/storage/v1/"), option.WithoutAuthentication())
			if err == nil {
				_, err = service.Buckets.Insert("test", &gcs.Bucket{Name: bucket}).Do()
			}
			if err != nil {
				t.Fatal(err)
			}
		},
	}
}

func azureServer(t *testing.T) server {
	return server{
		scheme: "azblob", endpoint: running(t, "VARVE_TEST_AZURE"), keys: Credentials{AccountKey: azuriteKey}, options: "account=" + azuriteAccount,
		make: func(t *testing.T, s server, bucket string) {
			if _, err := s.open(t, s.endpoint, bucket).client.Load().store.(*azureStore).client.Create(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// running returns the address of a server, or skips the test.
func running(t *testing.T, variable string) string {
	t.Helper()
	address := os.Getenv(variable)
	if address == "" {
		t.Skip("make test-stores starts the servers")
	}
	return address
}

func (s server) url(endpoint, place string) string {
	return fmt.Sprintf("%s://%s?endpoint=%s&%s", s.scheme, place, url.QueryEscape(endpoint), s.options)
}

func (s server) open(t *testing.T, endpoint, place string) *Bucket {
	t.Helper()
	b, err := Open(t.Context(), s.url(endpoint, place), Options{Credentials: func(context.Context) (Credentials, error) { return s.keys, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var made struct {
	sync.Mutex
	buckets int
}

// bucket makes a bucket on the server and returns its name.
func (s server) bucket(t *testing.T) string {
	t.Helper()
	made.Lock()
	made.buckets++
	name := fmt.Sprintf("b%d-%d", os.Getpid(), made.buckets)
	made.Unlock()
	s.make(t, s, name)
	return name
}

func each(t *testing.T, test func(t *testing.T, s server)) {
	t.Run("S3", func(t *testing.T) { test(t, s3Server(t, false)) })
	t.Run("S3WithObjectLock", func(t *testing.T) { test(t, s3Server(t, true)) })
	t.Run("GCS", func(t *testing.T) { test(t, gcsServer(t)) })
	t.Run("Azure", func(t *testing.T) { test(t, azureServer(t)) })
}

func TestStorage(t *testing.T) {
	each(t, func(t *testing.T, s server) {
		storagetest.Run(t, func(t *testing.T) storage.Bucket { return s.open(t, s.endpoint, s.bucket(t)) }, s.except...)
	})
}

func TestStorageWithPrefix(t *testing.T) {
	each(t, func(t *testing.T, s server) {
		bucket, n := s.bucket(t), 0
		storagetest.Run(t, func(t *testing.T) storage.Bucket {
			n++ // neighbours whose prefixes begin alike
			return s.open(t, s.endpoint, fmt.Sprintf("%s/Back ups/%s", bucket, strings.Repeat("x", n)))
		}, s.except...)
	})
}

func TestAbsentBucketIsNoAbsentObject(t *testing.T) {
	each(t, func(t *testing.T, s server) {
		b := s.open(t, s.endpoint, "no-such-bucket-here")
		_, get := b.Get(t.Context(), "journal/0", 0, -1)
		_, part := b.Get(t.Context(), "journal/0", 5, 5)
		_, stat := b.Stat(t.Context(), "journal/0")
		var list error
		for _, err := range b.List(t.Context(), "", "") {
			list = err
		}
		for what, err := range map[string]error{"Create": b.Create(t.Context(), "journal/0", []byte("x")), "Get": get, "Get of a range": part, "Stat": stat, "List": list} {
			if !errors.Is(err, storage.ErrNoBucket) || errors.Is(err, storage.ErrNotFound) {
				t.Errorf("%s = %v, want ErrNoBucket", what, err)
			}
		}
	})
}

// counter lets requests through to a server and counts them by method.
type counter struct {
	mu    sync.Mutex
	count map[string]int
}

func (c *counter) taken() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer clear(c.count)
	return maps.Clone(c.count)
}

// counted returns an address that counts and passes on to the server.
func (s server) counted(t *testing.T) (endpoint string, c *counter) {
	t.Helper()
	target, err := url.Parse(s.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	c = &counter{count: map[string]int{}}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host // the path and the host that was signed stay
	}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.count[r.Method]++
		c.mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL + target.Path, c
}

// A pack of the largest size is one request, as is everything else; a list takes one for each thousand
// names at least.
func TestRequestsAreOneEach(t *testing.T) {
	each(t, func(t *testing.T, s server) {
		endpoint, c := s.counted(t)
		b := s.open(t, endpoint, s.bucket(t)+"/prefix")
		c.taken()
		write := http.MethodPut
		if s.scheme == "gs" {
			write = http.MethodPost
		}
		sizes := []int{0, 1, 100 << 10, 5 << 20, 16 << 20, 36 << 20}
		for _, size := range sizes {
			name := fmt.Sprintf("packs/%08x", size)
			if err := b.Create(t.Context(), name, bytes.Repeat([]byte("v"), size)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[string]int{write: 1}, c.taken()); diff != "" {
				t.Errorf("requests to create %d bytes: -want +got\n%s", size, diff)
			}
			if data, err := b.Get(t.Context(), name, 0, -1); err != nil || len(data) != size {
				t.Errorf("Get = %d bytes, %v", len(data), err)
			}
			if diff := cmp.Diff(map[string]int{http.MethodGet: 1}, c.taken()); diff != "" {
				t.Errorf("requests to get %d bytes: -want +got\n%s", size, diff)
			}
		}
		if err := b.Create(t.Context(), "packs/doomed", nil); err != nil {
			t.Fatal(err)
		}
		c.taken()
		for what, request := range map[string]func() error{ // in any order
			"a taken name": func() error { return b.Create(t.Context(), "packs/00000001", nil) },
			"a range":      func() error { _, err := b.Get(t.Context(), "packs/02400000", 1<<20, 1<<20); return err },
			"past the end": func() error { _, err := b.Get(t.Context(), "packs/00000001", 100, 5); return err },
			"absent":       func() error { _, err := b.Get(t.Context(), "packs/absent", 0, -1); return err },
			"stat":         func() error { _, err := b.Stat(t.Context(), "packs/00000001"); return err },
			"list":         func() error { return listed(t.Context(), b, len(sizes)+1) },
			"delete":       func() error { return b.Delete(t.Context(), "packs/doomed") },
		} {
			if err := request(); err != nil && !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, storage.ErrExists) {
				t.Errorf("%s: %v", what, err)
			}
			n := 0
			for _, requests := range c.taken() {
				n += requests
			}
			// Google says in words that it is the object that is absent. This server does not, so that we ask again.
			if n != 1 && (s.scheme != "gs" || what != "absent") {
				t.Errorf("%s took %d requests, want 1", what, n)
			}
		}
	})
}

func listed(ctx context.Context, b storage.Bucket, most int) error {
	n := 0
	for _, err := range b.List(ctx, "", "") {
		if err != nil {
			return err
		}
		n++
	}
	if n < most-1 || n > most {
		return fmt.Errorf("listed %d names", n)
	}
	return nil
}

func TestRotatedCredentialsArePickedUp(t *testing.T) {
	right := "[default]\naws_access_key_id = varve\naws_secret_access_key = varve-secret\n"
	for why, wrong := range map[string]string{
		"unknown key":  "[default]\naws_access_key_id = AKIAOLD\naws_secret_access_key = old\n",
		"wrong secret": "[default]\naws_access_key_id = varve\naws_secret_access_key = old\n",
	} {
		s := s3Server(t, false)
		file := filepath.Join(t.TempDir(), "credentials")
		write := func(text string) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(wrong)
		b, err := Open(t.Context(), s.url(s.endpoint, s.bucket(t))+"&credentials="+url.QueryEscape(file), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Create(t.Context(), "a", nil); !errors.Is(err, storage.ErrCredentials) {
			t.Errorf("%s: Create = %v, want ErrCredentials", why, err)
		}
		write(right)
		if err := b.Create(t.Context(), "a", nil); err != nil {
			t.Errorf("%s: Create after the rotation = %v", why, err)
		}
	}
}

func TestAzureTakesKeysFromFile(t *testing.T) {
	s := azureServer(t)
	bucket, file := s.bucket(t), filepath.Join(t.TempDir(), "credentials")
	text := "DefaultEndpointsProtocol=http;AccountName=" + azuriteAccount + ";AccountKey=" + azuriteKey + ";EndpointSuffix=core.windows.net\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	place := fmt.Sprintf("azblob://%s?endpoint=%s&credentials=%s", bucket, url.QueryEscape(s.endpoint), url.QueryEscape(file))
	b, err := Open(t.Context(), place, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), "a", nil); err != nil {
		t.Error(err)
	}
}

func TestAccessTierOfAzure(t *testing.T) {
	s := azureServer(t)
	s.options += "&storage_class=Cool"
	b := s.open(t, s.endpoint, s.bucket(t))
	if err := b.Create(t.Context(), "a", []byte("x")); err != nil {
		t.Fatal(err)
	}
	properties, err := b.client.Load().store.(*azureStore).client.NewBlobClient("a").GetProperties(t.Context(), nil)
	if err != nil || properties.AccessTier == nil || *properties.AccessTier != "Cool" {
		t.Errorf("tier %v, %v; want Cool", properties.AccessTier, err)
	}
	s.options = strings.Replace(s.options, "Cool", "Lukewarm", 1)
	if err := s.open(t, s.endpoint, s.bucket(t)).Create(t.Context(), "a", nil); err == nil {
		t.Error("a tier that does not exist is taken")
	} else if refused := new(azcore.ResponseError); !errors.As(err, &refused) {
		t.Errorf("Create = %v, want what the store said", err)
	}
}

func TestBucketsTellWhatTheyKeep(t *testing.T) {
	for _, test := range []struct {
		why       string
		server    server
		lock      bool
		retention time.Duration
	}{
		{"S3", s3Server(t, false), false, 0},
		{"S3 with Object Lock", s3Server(t, true), true, 24 * time.Hour},
		{"GCS", gcsServer(t), false, 0},
	} {
		b := test.server.open(t, test.server.endpoint, test.server.bucket(t))
		if on, err := b.Versioning(t.Context()); on != test.lock || err != nil { // a lock brings versions along
			t.Errorf("%s: Versioning = %v, %v", test.why, on, err)
		}
		if on, retention, err := b.ObjectLock(t.Context()); on != test.lock || retention != test.retention || err != nil {
			t.Errorf("%s: ObjectLock = %v, %v, %v", test.why, on, retention, err)
		}
	}
	s := azureServer(t)
	if _, err := s.open(t, s.endpoint, s.bucket(t)).Versioning(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Azure: Versioning = %v, want that it does not tell", err)
	}
}
