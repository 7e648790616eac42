package cloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"cloud.google.com/go/auth"
	"google.golang.org/api/googleapi"

	"github.com/varve-dev/varve/repo/storage"
)

// What a user can do about it.
const (
	gcsSources     = "give GOOGLE_APPLICATION_CREDENTIALS or a file in the option credentials, say gcloud auth application-default login, or run where a service account is attached"
	gcsPermissions = "the account needs storage.objects.list, get and create on the bucket and, for prune, delete: the role Storage Object User has them all"
)

func noGCSBucket(err error) error {
	return &storage.Error{Class: storage.ErrNoBucket, Hint: "is the name of the bucket right? varve makes no buckets; gcloud storage buckets create does", Err: err}
}

// classify sorts the error of a request to Google Cloud Storage, by the pages "HTTP status and error
// codes for JSON".
func (s *gcsStore) classify(err error) error {
	if token, ok := errors.AsType[*auth.Error](err); ok {
		return s.classifyToken(token, err)
	}
	refused := new(googleapi.Error)
	if !errors.As(err, &refused) {
		return byConnection(err)
	}
	r := reply{status: refused.Code, header: refused.Header}
	var words string
	r.code, words = gcsWords(refused)
	r.err = said{text: fmt.Sprintf("Google answered %d %s %q", r.status, r.code, words), err: err}
	words = strings.ToLower(words)
	switch {
	case errors.Is(err, storage.ErrNoBucket):
		return err
	case r.status == http.StatusPreconditionFailed:
		return fmt.Errorf("%w: %w", storage.ErrExists, r.err)
	case r.status == http.StatusConflict:
		return fmt.Errorf("%w: %w", errConflict, r.err)
	case r.code == "rateLimitExceeded" || r.code == "userRateLimitExceeded":
		return r.class(storage.ErrThrottled, "")
	case r.code == "backendError":
		return r.class(storage.ErrTemporary, "")
	case r.status == http.StatusUnauthorized:
		return r.class(storage.ErrCredentials, gcsSources)
	case r.status == http.StatusForbidden && strings.Contains(words, "retention"):
		return r.class(storage.ErrForbidden, "a retention policy or a hold keeps the object")
	case r.status == http.StatusBadRequest && strings.Contains(words, "crc32c"):
		return r.class(storage.ErrTemporary, "the object arrived altered")
	case r.status == http.StatusBadRequest && strings.Contains(words, "storage class"):
		return r.class(storage.ErrUnsupported, "the option storage_class names a class that the store has")
	}
	return r.byStatus(gcsPermissions)
}

// gcsWords returns what an answer says: the reason, a word, and the message. The library does not read them
// out of the answer to a download.
func gcsWords(e *googleapi.Error) (reason, message string) {
	var body struct {
		Error struct {
			Message string
			Errors  []struct{ Reason string }
		}
	}
	if json.Unmarshal([]byte(e.Body), &body) == nil && len(body.Error.Errors) > 0 {
		return body.Error.Errors[0].Reason, body.Error.Message
	}
	if len(e.Errors) > 0 {
		return e.Errors[0].Reason, e.Message
	}
	text := e.Message + e.Body
	return "", text[:min(len(text), 200)]
}

// classifyToken sorts what those said who hand out access tokens.
func (s *gcsStore) classifyToken(token *auth.Error, err error) error {
	if token.Response == nil {
		return byConnection(err)
	}
	r := reply{status: token.Response.StatusCode, header: token.Response.Header, err: err}
	if token.Temporary() {
		return r.class(storage.ErrTemporary, "")
	}
	if strings.Contains(string(token.Body), "reasonable timeframe") {
		return r.class(storage.ErrClock, "set the clock of this machine")
	}
	return r.class(storage.ErrCredentials, gcsSources)
}
