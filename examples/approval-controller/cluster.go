package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
)

// errOver means that there is nothing to decide any more.
var errOver = errors.New("over")

// Cluster is the API server of the host, called with the service principal's token. Two calls need no client library.
type Cluster struct {
	server    string
	tokenFile string
	client    *http.Client
}

// NewCluster finds the API server.
func NewCluster(server, caFile, tokenFile string) (*Cluster, error) {
	if server == "" {
		host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
		if host == "" {
			return nil, errors.New("-server is needed outside of a cluster")
		}
		server = "https://" + net.JoinHostPort(host, port)
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	return &Cluster{
		server:    strings.TrimSuffix(server, "/"),
		tokenFile: tokenFile,
		client:    &http.Client{Transport: transport, Timeout: answerWithin},
	}, nil
}

// token reads the token again each time, because the kubelet renews it.
func (c *Cluster) token() (string, error) {
	token, err := os.ReadFile(c.tokenFile)
	return strings.TrimSpace(string(token)), err
}

// Whoami is the user name in the token. The program uses it to recognize its own gates; the API server verifies the token.
func (c *Cluster) Whoami() (string, error) {
	token, err := c.token()
	if err != nil {
		return "", err
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", fmt.Errorf("%s holds no token of a ServiceAccount", c.tokenFile)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", err
	}
	var claims struct {
		Subject string `json:"sub"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return "", err
	}
	return claims.Subject, nil
}

type request struct {
	Metadata struct {
		UID string `json:"uid"`
	} `json:"metadata"`
	Status struct {
		EndTime  string `json:"endTime"`
		Approval *struct {
			By string `json:"by"`
		} `json:"approval"`
	} `json:"status"`
}

// Decide writes the decision into the request with that uid. It returns errOver if the request is gone, has ended or is decided.
func (c *Cluster) Decide(ctx context.Context, host, name, uid string, decision Decision) error {
	me, err := c.Whoami()
	if err != nil {
		return err
	}
	decision.By = me
	path := fmt.Sprintf("/apis/pilotage.dev/v1alpha1/namespaces/%s/deploymentrequests/%s", host, name)
	patch := map[string]any{
		// A newer request of the same name has another uid. It is not decided here.
		"metadata": map[string]string{"uid": uid},
		"status":   map[string]any{"approval": decision},
	}
	refused := c.call(ctx, http.MethodPatch, path+"/status", patch, nil)
	if refused == nil {
		return nil
	}
	var now request
	if err := c.call(ctx, http.MethodGet, path, nil, &now); err != nil {
		var status *statusError
		if errors.As(err, &status) && status.code == http.StatusNotFound {
			return fmt.Errorf("%w: the request is gone", errOver)
		}
		return errors.Join(refused, err)
	}
	switch {
	case now.Metadata.UID != uid:
		return fmt.Errorf("%w: another request has its name", errOver)
	case now.Status.Approval != nil:
		return fmt.Errorf("%w: decided by %s", errOver, now.Status.Approval.By)
	case now.Status.EndTime != "":
		return fmt.Errorf("%w: it ended at %s", errOver, now.Status.EndTime)
	}
	return refused
}

type statusError struct {
	code    int
	message string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("the API server says %d: %s", e.code, e.message)
}

func (c *Cluster) call(ctx context.Context, method, path string, body, into any) error {
	token, err := c.token()
	if err != nil {
		return err
	}
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	call, err := http.NewRequestWithContext(ctx, method, c.server+path, content)
	if err != nil {
		return err
	}
	call.Header.Set("Authorization", "Bearer "+token)
	call.Header.Set("Accept", "application/json")
	if method == http.MethodPatch {
		call.Header.Set("Content-Type", "application/merge-patch+json")
	}
	call.Header.Set("User-Agent", "approval-controller")
	answer, err := c.client.Do(call)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4<<20))
	if err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		var status struct {
			Message string `json:"message"`
		}
		_ = json.Unmarshal(text, &status)
		return &statusError{code: answer.StatusCode, message: status.Message}
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}
