package cloud

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"github.com/varve-dev/varve/repo/storage"
)

// What a user can do about it.
const (
	azureSources     = "give AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, a connection string in the file of the option credentials, say az login, or run where an identity is attached"
	azurePermissions = "the identity needs the role Storage Blob Data Contributor on the container; a shared access signature needs list, read, create, write and, for prune, delete"
)

// classify sorts the error of a request to Azure, by the page "Blob Storage error codes".
func (s *azureStore) classify(err error) error {
	if failed := new(azidentity.AuthenticationFailedError); errors.As(err, &failed) {
		if failed.RawResponse != nil && failed.RawResponse.StatusCode >= http.StatusInternalServerError {
			return &storage.Error{Class: storage.ErrTemporary, After: retryAfter(failed.RawResponse.Header), Err: err}
		}
		return noCredentials(firstLine(err), azureSources)
	}
	refused := new(azcore.ResponseError)
	if !errors.As(err, &refused) {
		if strings.Contains(err.Error(), "DefaultAzureCredential") { // which has a type of its own and does not export it
			return noCredentials(firstLine(err), azureSources)
		}
		return byConnection(err)
	}
	r := reply{status: refused.StatusCode, code: refused.ErrorCode, err: spoken(refused)}
	if refused.RawResponse != nil {
		r.header = refused.RawResponse.Header
	}
	switch bloberror.Code(r.code) {
	case bloberror.BlobAlreadyExists, bloberror.ConditionNotMet, bloberror.TargetConditionNotMet:
		return fmt.Errorf("%w: %w", storage.ErrExists, r.err)
	case bloberror.BlobNotFound, bloberror.ResourceNotFound:
		return fmt.Errorf("%w: %w", storage.ErrNotFound, r.err)
	case bloberror.ContainerNotFound, bloberror.ContainerBeingDeleted, bloberror.ContainerDisabled:
		return r.class(storage.ErrNoBucket, "is the name of the container right? varve makes no containers; az storage container create does")
	case bloberror.InvalidRange:
		return fmt.Errorf("%w: %w", errPastEnd, r.err)
	case bloberror.AuthenticationFailed:
		if strings.Contains(err.Error(), "Date header") {
			return r.class(storage.ErrClock, "set the clock of this machine; the store takes a difference of up to 15 minutes")
		}
		return r.class(storage.ErrCredentials, "is it the right key, has the signature expired, or is the clock of this machine wrong? "+azureSources)
	case bloberror.InvalidAuthenticationInfo, bloberror.NoAuthenticationInformation:
		return r.class(storage.ErrCredentials, azureSources)
	case bloberror.BlobImmutableDueToPolicy, "BlobImmutableDueToLegalHold":
		return r.class(storage.ErrForbidden, "an immutability policy or a legal hold keeps the object")
	case bloberror.ServerBusy, "IngressBandwidthExceeded", "EgressBandwidthExceeded":
		return r.class(storage.ErrThrottled, "")
	case bloberror.InternalError, bloberror.OperationTimedOut:
		return r.class(storage.ErrTemporary, "")
	case bloberror.CRC64Mismatch, bloberror.MD5Mismatch:
		return r.class(storage.ErrTemporary, "the object arrived altered")
	case bloberror.InvalidBlobTier:
		return r.class(storage.ErrUnsupported, "the option storage_class names an access tier that the account has")
	}
	if r.status == http.StatusConflict {
		return fmt.Errorf("%w: %w", errConflict, r.err)
	}
	return r.byStatus(azurePermissions)
}

// spoken is the answer in one line; the library's own text has ten.
func spoken(e *azcore.ResponseError) error {
	text := fmt.Sprintf("Azure answered %d %s", e.StatusCode, e.ErrorCode)
	if e.RawResponse != nil {
		text += ", request " + e.RawResponse.Header.Get("X-Ms-Request-Id")
	}
	return said{text: text, err: e}
}

func firstLine(err error) error {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return said{text: line, err: err}
}
