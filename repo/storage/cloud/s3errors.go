package cloud

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/varve-dev/varve/repo/storage"
)

// s3Permissions are what a repository needs.
const s3Permissions = "the policy must allow s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject and, for prune, s3:DeleteObject on its objects"

// classify sorts the error of a request to S3. The codes are those of the API reference, "Error
// Responses", and those that its relatives add.
func (s *s3Store) classify(err error) error {
	if err == nil {
		return nil
	}
	var answer *smithyhttp.ResponseError
	if !errors.As(err, &answer) || answer.HTTPStatusCode() == 0 {
		return byConnection(err)
	}
	r := reply{status: answer.HTTPStatusCode(), header: http.Header{}}
	text := fmt.Sprintf("S3 answered %d", r.status)
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		r.code = api.ErrorCode()
		text += fmt.Sprintf(" %s %q", r.code, api.ErrorMessage())
	}
	if answer.Response != nil {
		r.header = answer.Response.Header
		text += ", request " + r.header.Get("X-Amz-Request-Id")
	}
	r.err = said{text: text, err: err}
	if r.status < http.StatusMultipleChoices || broken(err) { // not what was asked for, or not to its end
		return r.class(storage.ErrTemporary, "")
	}
	switch r.code {
	case "PreconditionFailed":
		return fmt.Errorf("%w: %w", storage.ErrExists, r.err)
	case "ConditionalRequestConflict", "OperationAborted":
		return fmt.Errorf("%w: %w", errConflict, r.err)
	case "NoSuchKey":
		return fmt.Errorf("%w: %w", storage.ErrNotFound, r.err)
	case "InvalidRange":
		return fmt.Errorf("%w: %w", errPastEnd, r.err)
	case "NoSuchBucket":
		return r.class(storage.ErrNoBucket, "is the name of the bucket right? varve makes no buckets; the provider's console or command line does")
	case "ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired":
		return r.class(storage.ErrCredentials, "the credentials have expired; get new ones")
	case "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId", "UnrecognizedClientException", "MissingSecurityHeader", "XAdminUserNotFound":
		return r.class(storage.ErrCredentials, "is it the right key, the right secret, and are they of this store? "+s3Sources)
	case "RequestTimeTooSkewed", "AccessDeniedException.RequestTimeTooSkewed":
		return r.class(storage.ErrClock, "set the clock of this machine; the store takes a difference of up to 15 minutes")
	case "PermanentRedirect", "TemporaryRedirect", "Redirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "IncorrectEndpoint":
		return r.class(storage.ErrRegion, regionHint(r.header))
	case "SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled",
		"RequestLimitExceeded", "TooManyRequests", "BandwidthLimitExceeded", "Busy":
		return r.class(storage.ErrThrottled, "")
	case "ServiceUnavailable", "InternalError", "RequestTimeout":
		return r.class(storage.ErrTemporary, "")
	case "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody":
		return r.class(storage.ErrTemporary, "the object arrived altered; if it happens again, try the option checksum=md5 or checksum=none")
	case "NotImplemented":
		return r.class(storage.ErrUnsupported, "this store lacks something that a repository needs, conditional writes perhaps; a newer release of it may have them")
	case "InvalidStorageClass":
		return r.class(storage.ErrUnsupported, "the option storage_class names a class that this store has")
	}
	switch r.status {
	case http.StatusPreconditionFailed:
		return fmt.Errorf("%w: %w", storage.ErrExists, r.err)
	case http.StatusConflict:
		return fmt.Errorf("%w: %w", errConflict, r.err)
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return r.class(storage.ErrRegion, regionHint(r.header))
	}
	return r.byStatus(s3Permissions)
}

func regionHint(h http.Header) string {
	if region := h.Get("X-Amz-Bucket-Region"); region != "" {
		return "say region=" + region
	}
	return "say the region of the bucket by the option region"
}
