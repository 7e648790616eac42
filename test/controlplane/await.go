package controlplane

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// await returns when the API server answers path with 200.
func (cp *ControlPlane) await(ctx context.Context, client *http.Client, path string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if serves(ctx, client, cp.access.Server+path) {
			return nil
		}
		for _, c := range cp.children {
			if err := c.Running(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			last := cp.children[len(cp.children)-1]
			return fmt.Errorf("waiting for %s: %w; the last words of %s:\n%s",
				path, ctx.Err(), last.Program.Name(), last.Tail())
		case <-tick.C:
		}
	}
}

func serves(ctx context.Context, client *http.Client, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	answer, err := client.Do(request)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err == nil && answer.StatusCode == http.StatusOK
}
