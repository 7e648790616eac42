package main

import (
	"fmt"
	"net/url"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScriptsInBuckets runs testdata/buckets/*.txtar against the servers that the command test/stores starts:
// make test-stores. What is special about a store is shown beside its driver; this is that the program works
// in one from end to end.
func TestScriptsInBuckets(t *testing.T) {
	for scheme, store := range map[string]struct{ variable, options string }{
		"s3": {"VARVE_TEST_S3", "region=us-east-1"},
		"gs": {"VARVE_TEST_GCS", "anonymous=true"},
	} {
		t.Run(scheme, func(t *testing.T) {
			endpoint := os.Getenv(store.variable)
			if endpoint == "" {
				t.Skip("make test-stores starts the servers")
			}
			p := scripts("buckets")
			p.Setup = func(e *testscript.Env) error {
				if err := prepare(e); err != nil {
					return err
				}
				place := func(bucket string) string {
					return fmt.Sprintf("%s://%s/%d?%s&endpoint=%s", scheme, bucket, os.Getpid(), store.options, url.QueryEscape(endpoint))
				}
				e.Setenv("VARVE_REPOSITORY", place("everyday"))
				e.Setenv("ABSENT", place("no-such-bucket"))
				e.Setenv("AWS_ACCESS_KEY_ID", "varve")
				e.Setenv("AWS_SECRET_ACCESS_KEY", "varve-secret")
				return nil
			}
			testscript.Run(t, p)
		})
	}
}
