package cloud

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc64"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/varve-dev/varve/repo/storage"
)

// azureStore is a container of Azure Blob Storage.
type azureStore struct {
	client  *container.Client
	address address
}

// azureCRC is the polynomial of the checksum that Azure Blob Storage takes.
var azureCRC = crc64.MakeTable(0x9a6c9329ac4bc9b5)

func newAzure(a address, t *http.Transport, given Credentials) (store, error) {
	if a.credentials != "" {
		text, err := os.ReadFile(a.credentials)
		if err != nil {
			return nil, noCredentials(err, azureSources)
		}
		if given, err = connectionString(string(text)); err != nil {
			return nil, noCredentials(fmt.Errorf("file %s: %w", a.credentials, err), azureSources)
		}
	}
	account := a.account
	if account == "" {
		account = given.Account
	}
	place := "https://" + account + ".blob.core.windows.net"
	if a.endpoint != nil {
		place = strings.TrimSuffix(a.endpoint.String(), "/")
	} else if account == "" {
		return nil, fmt.Errorf("%w: azblob:// needs the option account, or AZURE_STORAGE_ACCOUNT", ErrAddress)
	}
	place += "/" + url.PathEscape(a.bucket)
	common := azcore.ClientOptions{
		Transport: newHTTPClient(t),
		Retry:     policy.RetryOptions{MaxRetries: -1}, // repeating is the business of package retry
		Telemetry: policy.TelemetryOptions{Disabled: true},
	}
	client, err := azureClient(place, account, common, a, given)
	if err != nil {
		return nil, noCredentials(err, azureSources)
	}
	return &azureStore{client: client, address: a}, nil
}

func azureClient(place, account string, common azcore.ClientOptions, a address, given Credentials) (*container.Client, error) {
	options := &container.ClientOptions{ClientOptions: common}
	switch {
	case a.anonymous:
		return container.NewClientWithNoCredential(place, options)
	case given.SAS != "":
		return container.NewClientWithNoCredential(place+"?"+strings.TrimPrefix(given.SAS, "?"), options)
	case given.AccountKey != "":
		key, err := container.NewSharedKeyCredential(account, given.AccountKey)
		if err != nil {
			return nil, errors.New("the account key is not base64") // without the key
		}
		return container.NewClientWithSharedKeyCredential(place, key, options)
	}
	chain, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: common})
	if err != nil {
		return nil, err
	}
	return container.NewClient(place, chain, options)
}

// connectionString reads the form in which Azure's portal shows the keys of an account.
func connectionString(text string) (Credentials, error) {
	var c Credentials
	for part := range strings.SplitSeq(strings.TrimSpace(text), ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "AccountName":
			c.Account = value
		case "AccountKey":
			c.AccountKey = value
		case "SharedAccessSignature":
			c.SAS = value
		}
	}
	if c.AccountKey == "" && c.SAS == "" {
		return Credentials{}, errors.New("it is no connection string with AccountKey or SharedAccessSignature in it")
	}
	return c, nil
}

func (s *azureStore) put(ctx context.Context, key string, data []byte) error {
	kind, absent := contentType, azcore.ETagAny
	options := &blockblob.UploadOptions{
		HTTPHeaders:             &blob.HTTPHeaders{BlobContentType: &kind},
		AccessConditions:        &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: &absent}},
		TransactionalValidation: blob.TransferValidationTypeCRC64(crc64.Checksum(data, azureCRC)),
	}
	if s.address.storageClass != "" {
		tier := blob.AccessTier(s.address.storageClass)
		options.Tier = &tier
	}
	_, err := s.client.NewBlockBlobClient(key).Upload(ctx, streaming.NopCloser(bytes.NewReader(data)), options)
	return err
}

func (s *azureStore) get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	out, err := s.client.NewBlobClient(key).DownloadStream(ctx, &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: offset, Count: max(0, length)}})
	if err != nil {
		return nil, err
	}
	size, contentRange := int64(-1), ""
	if out.ContentLength != nil {
		size = *out.ContentLength
	}
	if out.ContentRange != nil {
		contentRange = *out.ContentRange
	}
	return readRange(out.Body, size, contentRange, offset, length)
}

func (s *azureStore) stat(ctx context.Context, key string) (storage.Info, error) {
	out, err := s.client.NewBlobClient(key).GetProperties(ctx, nil)
	if err != nil {
		return storage.Info{}, err
	}
	if out.ContentLength == nil || out.LastModified == nil {
		return storage.Info{}, incomplete(key)
	}
	return storage.Info{Size: *out.ContentLength, ModTime: *out.LastModified}, nil
}

// list always begins at the beginning of the prefix: accounts of the ordinary kind cannot begin
// elsewhere.
func (s *azureStore) list(ctx context.Context, prefix, _, resume string) (page, error) {
	options := &container.ListBlobsFlatOptions{Prefix: &prefix}
	if resume != "" {
		options.Marker = &resume
	}
	out, err := s.client.NewListBlobsFlatPager(options).NextPage(ctx)
	if err != nil {
		return page{}, err
	}
	var p page
	if out.NextMarker != nil {
		p.resume = *out.NextMarker
	}
	if out.Segment == nil {
		return page{}, noList()
	}
	for _, o := range out.Segment.BlobItems {
		if o.Name == nil || o.Properties == nil || o.Properties.ContentLength == nil || o.Properties.LastModified == nil {
			return page{}, incomplete(prefix)
		}
		p.objects = append(p.objects, storage.Info{Name: *o.Name, Size: *o.Properties.ContentLength, ModTime: *o.Properties.LastModified})
	}
	return p, nil
}

func incomplete(key string) error {
	return &storage.Error{Class: storage.ErrUnsupported, Err: fmt.Errorf("the store does not say size and time of %s", key)}
}

func (s *azureStore) remove(ctx context.Context, key string) error {
	_, err := s.client.NewBlobClient(key).Delete(ctx, nil)
	return err
}
