// Command approval-controller decides the approvals of Pilotage requests by a rule of its own. It receives the CloudEvents that a
// pipeline sends to its sinks, verifies that they come from Pilotage, and approves or rejects as the stage's service principal. It needs
// only that ServiceAccount's token.
//
// It keeps no state. It answers 2xx when it is done with an event, and 5xx when it needs the event again. Pilotage sends the event until
// it gets a 2xx, across restarts of either side.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Pilotage waits 10 seconds for an answer.
const answerWithin = 8 * time.Second

const maxEvent = 1 << 20

// Event is the part of a CloudEvent of Pilotage that this program reads.
type Event struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	Data struct {
		Host    string `json:"host"`
		Request struct {
			Name string `json:"name"`
			UID  string `json:"uid"`
		} `json:"request"`
		Pipeline string `json:"pipeline"`
		Stage    string `json:"stage"`
		Artifact struct {
			Solution string `json:"solution"`
			Version  string `json:"version"`
		} `json:"artifact"`
		RequestedBy string `json:"requestedBy"`
		Notes       string `json:"notes"`
		PlanHash    string `json:"planHash"`
		Approver    string `json:"approver"`
	} `json:"data"`
}

// Controller takes events and decides.
type Controller struct {
	keys    *Keys
	cluster *Cluster
	rule    *Rule
	self    string
}

func (c *Controller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		http.Error(w, "post CloudEvents here", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEvent))
	if err != nil {
		http.Error(w, "the event can't be read", http.StatusBadRequest)
		return
	}
	// Nothing in the body is trusted before this.
	if err := c.keys.Verify(r.Header, body, time.Now()); err != nil {
		log.Printf("an event was refused: %v", err)
		http.Error(w, "the signature is not valid", http.StatusUnauthorized)
		return
	}
	var event Event
	if err := json.Unmarshal(body, &event); err != nil {
		http.Error(w, "not a CloudEvent in JSON", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
	defer cancel()
	if err := c.handle(ctx, &event); err != nil {
		log.Printf("%s: %v; it has to come again", event.ID, err)
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// handle processes an event. An error means that the event has to be sent again.
func (c *Controller) handle(ctx context.Context, event *Event) error {
	data := &event.Data
	if event.Type != "dev.pilotage.OnApprovalStarted" || data.Approver != c.self {
		return nil
	}
	decision := c.rule.Decide(event)
	decision.Properties["event"] = event.ID
	// The hash of the plan that was seen. Pilotage refuses a decision about another plan.
	decision.PlanHash = data.PlanHash
	err := c.cluster.Decide(ctx, data.Host, data.Request.Name, data.Request.UID, decision)
	switch {
	case err == nil:
		log.Printf("%s: %s/%s: %s: %s", event.ID, data.Host, data.Request.Name, decision.Decision, decision.Comments)
		return nil
	case errors.Is(err, errOver):
		log.Printf("%s: %s/%s: nothing to decide any more: %v", event.ID, data.Host, data.Request.Name, err)
		return nil
	default:
		return err
	}
}

func run() error {
	listen := flag.String("listen", ":8080", "the address to listen on")
	server := flag.String("server", "", "the API server's url; left out, the one of the cluster that this runs in")
	ca := flag.String("ca-file", "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt", "the API server's certificate authority")
	token := flag.String("token-file", "/var/run/secrets/kubernetes.io/serviceaccount/token", "the service principal's token")
	key := flag.String("signing-key-file", "/var/run/secrets/sink/key", "the signing key of the pipeline's sink, whsec_…")
	versions := flag.String("versions", `.*`, "a regular expression that an approved version matches as a whole")
	flag.Parse()

	keys, err := ReadKeys(*key)
	if err != nil {
		return err
	}
	rule, err := NewRule(*versions)
	if err != nil {
		return err
	}
	cluster, err := NewCluster(*server, *ca, *token)
	if err != nil {
		return err
	}
	self, err := cluster.Whoami()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	httpServer := &http.Server{
		Handler:           &Controller{keys: keys, cluster: cluster, rule: rule, self: self},
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      20 * time.Second,
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.Background(), answerWithin)
		defer cancel()
		_ = httpServer.Shutdown(end)
	}()
	log.Printf("listening on %s, deciding as %s", listener.Addr(), self)
	if err := httpServer.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func main() {
	log.SetFlags(log.LstdFlags | log.LUTC)
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "approval-controller:", err)
		os.Exit(1)
	}
}
