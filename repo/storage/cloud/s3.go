package cloud

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/logging"

	"github.com/varve-dev/varve/repo/storage"
)

// What can be sent along with an object for the store to check it by. All of them are headers: a
// checksum in a trailer, which the SDK prefers, is refused by many a clone of S3.
const (
	checksumCRC32C = "crc32c"
	checksumMD5    = "md5"
	checksumNone   = "none"
)

var checksums = []string{checksumCRC32C, checksumMD5, checksumNone}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// s3Store is a bucket of S3 or of one of its relatives.
type s3Store struct {
	client  *s3.Client
	address address
}

func newS3(ctx context.Context, a address, t *http.Transport, given Credentials) (store, error) {
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(awsClient(t)),
		config.WithLogger(logging.Nop{}), // the library would write to standard error
		// Repeating is the business of package retry, which knows what may be repeated and for how long.
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	}
	if a.region != "" {
		options = append(options, config.WithRegion(a.region))
	}
	switch {
	case a.anonymous:
		options = append(options, config.WithCredentialsProvider(aws.AnonymousCredentials{}))
	case a.credentials != "": // the library's chain would let the environment win over it
		found, err := fileOnly(ctx, a)
		if err != nil {
			return nil, err
		}
		options = append(options, config.WithCredentialsProvider(fixed(found)))
	case given.AccessKeyID != "":
		options = append(options, config.WithCredentialsProvider(fixed(aws.Credentials{
			AccessKeyID: given.AccessKeyID, SecretAccessKey: given.SecretAccessKey, SessionToken: given.SessionToken,
		})))
	}
	if a.credentials == "" && a.profile != "" {
		options = append(options, config.WithSharedConfigProfile(a.profile))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, noCredentials(fmt.Errorf("load the AWS configuration: %w", err), s3Sources)
	}
	if c.Region == "" {
		c.Region = "us-east-1" // what stores without regions take for theirs; Amazon answers with the right one
	}
	if c.Credentials != nil && !a.anonymous {
		c.Credentials = explained{c.Credentials}
	}
	client := s3.NewFromConfig(c, func(o *s3.Options) {
		o.UsePathStyle = a.pathStyle
		if a.endpoint != nil {
			o.BaseEndpoint = aws.String(a.endpoint.String())
		}
	})
	return &s3Store{client: client, address: a}, nil
}

// awsClient returns a client like our transport, in the one form to which the library can add what
// AWS_CA_BUNDLE names.
func awsClient(ours *http.Transport) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.Proxy, t.DialContext, t.TLSClientConfig = ours.Proxy, ours.DialContext, ours.TLSClientConfig.Clone()
		t.TLSHandshakeTimeout, t.IdleConnTimeout = ours.TLSHandshakeTimeout, ours.IdleConnTimeout
		t.MaxIdleConns, t.MaxIdleConnsPerHost = ours.MaxIdleConns, ours.MaxIdleConnsPerHost
		t.DisableCompression, t.ForceAttemptHTTP2 = ours.DisableCompression, ours.ForceAttemptHTTP2
	})
}

// fileOnly takes credentials from the file of the URL and from nowhere else.
func fileOnly(ctx context.Context, a address) (aws.Credentials, error) {
	profile := a.profile
	if profile == "" {
		profile = "default"
	}
	shared, err := config.LoadSharedConfigProfile(ctx, profile, func(o *config.LoadSharedConfigOptions) {
		o.CredentialsFiles, o.ConfigFiles = []string{a.credentials}, []string{}
	})
	if err == nil && !shared.Credentials.HasKeys() {
		err = fmt.Errorf("profile %s has no keys", profile)
	}
	if err != nil {
		return aws.Credentials{}, noCredentials(fmt.Errorf("file %s: %w", a.credentials, err), "the file is like ~/.aws/credentials; option profile names a part of it")
	}
	return shared.Credentials, nil
}

// fixed hands out credentials as they are. When they no longer do, a new store is made.
func fixed(c aws.Credentials) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c, nil })
}

// explained tells that a request failed before it was sent because nobody gave credentials.
type explained struct{ aws.CredentialsProvider }

func (e explained) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := e.CredentialsProvider.Retrieve(ctx)
	if err != nil && ctx.Err() == nil {
		return c, noCredentials(err, s3Sources)
	}
	return c, err
}

func (s *s3Store) put(ctx context.Context, key string, data []byte) error {
	in := &s3.PutObjectInput{
		Bucket: aws.String(s.address.bucket), Key: aws.String(key), IfNoneMatch: aws.String("*"),
		Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))), ContentType: aws.String(contentType),
		StorageClass: types.StorageClass(s.address.storageClass),
	}
	switch s.address.checksum {
	case checksumCRC32C:
		in.ChecksumCRC32C = aws.String(crc32c(data))
	case checksumMD5:
		sum := md5.Sum(data)
		in.ContentMD5 = aws.String(base64.StdEncoding.EncodeToString(sum[:]))
	}
	_, err := s.client.PutObject(ctx, in, s.unsigned)
	return err
}

// unsigned leaves the hash of the body out of the signature where TLS and a checksum protect it: the
// fastest of those hashes costs more than all the sealing.
func (s *s3Store) unsigned(o *s3.Options) {
	if s.address.endpoint == nil || s.address.endpoint.Scheme == "https" {
		o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
	}
}

func crc32c(data []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, castagnoli)))
}

func (s *s3Store) get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	in := &s3.GetObjectInput{Bucket: aws.String(s.address.bucket), Key: aws.String(key)}
	if r := rangeHeader(offset, length); r != "" {
		in.Range = aws.String(r)
	}
	out, err := s.client.GetObject(ctx, in)
	if err != nil {
		return nil, err
	}
	return readRange(out.Body, aws.ToInt64(out.ContentLength), aws.ToString(out.ContentRange), offset, length)
}

// stat asks for the first byte: the answer to a HEAD has no body, so an absent bucket looks like an
// absent object, and expired credentials like missing permissions.
func (s *s3Store) stat(ctx context.Context, key string) (storage.Info, error) {
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(s.address.bucket), Key: aws.String(key), Range: aws.String("bytes=0-0")})
	if errors.Is(s.classify(err), errPastEnd) {
		head, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(s.address.bucket), Key: aws.String(key)})
		if errors.As(err, new(*types.NotFound)) { // deleted since a moment ago
			return storage.Info{}, fmt.Errorf("%w: %w", storage.ErrNotFound, err)
		}
		if err != nil {
			return storage.Info{}, err
		}
		return storage.Info{Size: aws.ToInt64(head.ContentLength), ModTime: aws.ToTime(head.LastModified)}, nil
	}
	if err != nil {
		return storage.Info{}, err
	}
	if err := out.Body.Close(); err != nil {
		return storage.Info{}, err
	}
	size, err := wholeSize(aws.ToInt64(out.ContentLength), aws.ToString(out.ContentRange))
	return storage.Info{Size: size, ModTime: aws.ToTime(out.LastModified)}, err
}

func (s *s3Store) list(ctx context.Context, prefix, from, resume string) (page, error) {
	in := &s3.ListObjectsV2Input{Bucket: aws.String(s.address.bucket), Prefix: aws.String(prefix)}
	switch {
	case resume != "":
		in.ContinuationToken = aws.String(resume)
	case from != "":
		in.StartAfter = aws.String(from)
	}
	out, err := s.client.ListObjectsV2(ctx, in)
	if err != nil {
		return page{}, err
	}
	if out.IsTruncated == nil {
		return page{}, noList()
	}
	p := page{objects: make([]storage.Info, 0, len(out.Contents))}
	for _, o := range out.Contents {
		p.objects = append(p.objects, storage.Info{Name: aws.ToString(o.Key), Size: aws.ToInt64(o.Size), ModTime: aws.ToTime(o.LastModified)})
	}
	if aws.ToBool(out.IsTruncated) {
		if p.resume = aws.ToString(out.NextContinuationToken); p.resume == "" {
			return page{}, &storage.Error{Class: storage.ErrUnsupported, Err: errors.New("a list that breaks off says not where to go on")}
		}
	}
	return p, nil
}

// remove needs no look before it: S3 calls the deletion of nothing a success.
func (s *s3Store) remove(ctx context.Context, key string) error {
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(s.address.bucket), Key: aws.String(key)})
	return err
}

// contentType is given so that no library guesses one from sealed bytes.
const contentType = "application/octet-stream"

// s3Sources tells where credentials are looked for.
const s3Sources = "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile in ~/.aws, a file in the option credentials, or run where a role is attached"

// retryAfter reads the header in which a store asks to be left alone: seconds, or a date.
func retryAfter(h http.Header) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if d, err := time.ParseDuration(text + "s"); err == nil {
		return max(0, d)
	}
	if t, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}
