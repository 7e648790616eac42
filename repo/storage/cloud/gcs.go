package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	"cloud.google.com/go/auth/httptransport"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
	gcs "google.golang.org/api/storage/v1"

	"github.com/varve-dev/varve/repo/storage"
)

// gcsStore is a bucket of Google Cloud Storage, through its JSON API. The larger client library above
// it adds repeating, gRPC and metrics, which are not wanted here, and 20 MB to the program.
type gcsStore struct {
	objects *gcs.ObjectsService
	buckets *gcs.BucketsService
	address address
}

func newGCS(a address, t *http.Transport, given Credentials) (store, error) {
	client := newHTTPClient(t)
	if !a.anonymous {
		found, err := gcsCredentials(a, client, given)
		if err != nil {
			return nil, noCredentials(err, gcsSources)
		}
		client, err = httptransport.NewClient(&httptransport.Options{Credentials: found, BaseRoundTripper: t, DisableTelemetry: true})
		if err != nil {
			return nil, noCredentials(err, gcsSources)
		}
		client.CheckRedirect = stay
	}
	options := []option.ClientOption{option.WithHTTPClient(client)}
	if a.endpoint != nil {
		options = append(options, option.WithEndpoint(strings.TrimSuffix(a.endpoint.String(), "/")+"/storage/v1/"))
	}
	// The context is for looking credentials up, which is done.
	service, err := gcs.NewService(context.Background(), options...)
	if err != nil {
		return nil, fmt.Errorf("client of Google Cloud Storage: %w", err)
	}
	return &gcsStore{objects: service.Objects, buckets: service.Buckets, address: a}, nil
}

// gcsCredentials looks into the file of the URL, then at what was given, then where Google's own
// programs look.
func gcsCredentials(a address, client *http.Client, given Credentials) (*auth.Credentials, error) {
	options := &credentials.DetectOptions{Scopes: []string{gcs.DevstorageReadWriteScope}, Client: client}
	text := given.JSON
	if a.credentials != "" {
		var err error
		if text, err = os.ReadFile(a.credentials); err != nil {
			return nil, err
		}
	}
	if len(text) == 0 {
		return credentials.DetectDefault(options)
	}
	var file struct{ Type credentials.CredType }
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, errors.New("the credentials are not JSON") // without the words of what may be a secret
	}
	return credentials.NewCredentialsFromJSON(file.Type, text, options)
}

func (s *gcsStore) put(ctx context.Context, key string, data []byte) error {
	object := &gcs.Object{Name: key, ContentType: contentType, StorageClass: s.address.storageClass, Crc32c: crc32c(data)}
	// A chunk size of zero sends name, checksum and bytes in one request.
	_, err := s.objects.Insert(s.address.bucket, object).IfGenerationMatch(0).
		Media(bytes.NewReader(data), googleapi.ChunkSize(0), googleapi.ContentType(contentType)).
		WithRetry(nil, func(error) bool { return false }).Fields("generation").Context(ctx).Do()
	return s.inBucket(err)
}

// inBucket knows that what is not found by a request about no object that exists is the bucket.
func (s *gcsStore) inBucket(err error) error {
	if refused := new(googleapi.Error); errors.As(err, &refused) && refused.Code == http.StatusNotFound {
		return noGCSBucket(err)
	}
	return err
}

func (s *gcsStore) get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	call := s.objects.Get(s.address.bucket, key).Context(ctx)
	if r := rangeHeader(offset, length); r != "" {
		call.Header().Set("Range", r)
	}
	answer, err := call.Download()
	if err != nil {
		return nil, s.absent(ctx, err)
	}
	return readRange(answer.Body, answer.ContentLength, answer.Header.Get("Content-Range"), offset, length)
}

func (s *gcsStore) stat(ctx context.Context, key string) (storage.Info, error) {
	o, err := s.objects.Get(s.address.bucket, key).Fields("name", "size", "timeCreated").Context(ctx).Do()
	if err != nil {
		return storage.Info{}, s.absent(ctx, err)
	}
	return gcsInfo(o)
}

// absent tells an absent object from an absent bucket. The store says so in words; where it uses other
// ones, a list of one name says it.
func (s *gcsStore) absent(ctx context.Context, err error) error {
	refused := new(googleapi.Error)
	if !errors.As(err, &refused) || refused.Code != http.StatusNotFound {
		return err
	}
	switch _, said := gcsWords(refused); {
	case strings.Contains(said, "No such object"):
		return fmt.Errorf("%w: %w", storage.ErrNotFound, err)
	case strings.Contains(said, "bucket does not exist"):
		return noGCSBucket(err)
	}
	if _, list := s.objects.List(s.address.bucket).MaxResults(1).Context(ctx).Do(); list != nil {
		return s.inBucket(list)
	}
	return fmt.Errorf("%w: %w", storage.ErrNotFound, err)
}

func (s *gcsStore) list(ctx context.Context, prefix, from, resume string) (page, error) {
	call := s.objects.List(s.address.bucket).Prefix(prefix).Fields("kind", "nextPageToken", "items(name,size,timeCreated)").Context(ctx)
	if from != "" {
		call.StartOffset(from)
	}
	if resume != "" {
		call.PageToken(resume)
	}
	out, err := call.Do()
	if err != nil {
		return page{}, s.inBucket(err)
	}
	if out.Kind == "" {
		return page{}, noList()
	}
	p := page{objects: make([]storage.Info, 0, len(out.Items)), resume: out.NextPageToken}
	for _, o := range out.Items {
		info, err := gcsInfo(o)
		if err != nil {
			return page{}, err
		}
		p.objects = append(p.objects, info)
	}
	return p, nil
}

func gcsInfo(o *gcs.Object) (storage.Info, error) {
	created, err := time.Parse(time.RFC3339, o.TimeCreated)
	if err != nil {
		return storage.Info{}, &storage.Error{Class: storage.ErrUnsupported, Err: fmt.Errorf("the store says that %s was created at %q", o.Name, o.TimeCreated)}
	}
	return storage.Info{Name: o.Name, Size: int64(o.Size), ModTime: created}, nil
}

func (s *gcsStore) remove(ctx context.Context, key string) error {
	return s.absent(ctx, s.objects.Delete(s.address.bucket, key).Context(ctx).Do())
}
